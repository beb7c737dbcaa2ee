"""A layer inside a layer: the type of a field that holds one, and its weights, shapes and expression there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar

from pydantic import GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from regspec.code import axes
from regspec.code.axes import Order
from regspec.code.expressions import Expression, Module, call, replaced
from regspec.code.shapes import Shape, ShapeError, Symbol
from regspec.language.fields import REFERENCE, Frozen
from regspec.language.forms import spread
from regspec.language.regularizers import Regularizer
from regspec.language.serialized import is_serialized, unserialized
from regspec.layers.kinds import KINDS, find_kind
from regspec.layers.layer import Layer, Weight
from regspec.text.problems import did_you_mean


class LayerForm:
    """``{Dense: {units: 3}}``, or the kind's name alone, as an annotation of pydantic fields."""

    sort: ClassVar[str] = "kind of layer"
    expected: ClassVar[str] = "a layer, {kind: fields}"
    definition: ClassVar[str] = "layer"  # in the JSON Schema
    known: ClassVar[Mapping[str, type[Frozen]]] = KINDS

    def find(self, name: str) -> type[Frozen] | None:
        """The class of a name."""
        return find_kind(name)

    def parse(self, value: Any) -> Frozen:
        """What a value says. Raises pydantic errors that tell where in it they are."""
        if isinstance(value, Frozen):
            return value
        if isinstance(value, str):
            value = {value: None}
        form = unserialized(value) if is_serialized(value) else None
        fields: Any
        if form is not None:
            name, fields, at, key = form.name, form.config, ("config",), "class_name"
        elif isinstance(value, dict) and len(value) == 1:
            ((name, fields),) = value.items()
            at, key = (name,), name
        else:
            raise PydanticCustomError("form", "must be {expected}", {"expected": self.expected})
        cls = self.find(name)
        if cls is None:
            context: dict[str, Any] = {
                "sort": self.sort,
                "name": name,
                "at": (key,),
                "hint": did_you_mean(name, self.known),
            }
            raise PydanticCustomError("unknown_name", "names no {sort}: '{name}'", context)
        if form is not None:
            fields = form.fields(cls.model_fields, without=("name",))
            if fields.get("dtype") == "float32":
                del fields["dtype"]  # which is that of the layer around it
        try:
            layer = cls.model_validate(spread(fields, cls.main))
        except ValidationError as error:
            errors = error.errors(include_url=False)
            context = {"name": name, "at": at, "errors": errors, "fields": [*cls.model_fields], "named": (key,)}
            raise PydanticCustomError("nested", "{name}", context) from None
        if isinstance(layer, Layer) and layer.precision is not None:
            context = {"at": (*at, "dtype")}
            what = "can't have a dtype of its own: it has that of the layer around it"
            raise PydanticCustomError("inner_dtype", what, context)
        if isinstance(getattr(layer, "trainable", True), tuple):
            what = "can't be trained in part: say true or false, or say it of a layer that stands by itself"
            raise PydanticCustomError("inner_trainable", what, {"at": (*at, "trainable")})
        return layer

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {REFERENCE: self.definition}


Nested = Annotated[Layer, LayerForm()]


@cache
def inner_form(cls: type[Frozen]) -> LayerForm | None:
    """The form of the layer or cell that a kind wraps, where its first field holds one."""
    field = cls.model_fields.get(cls.main or "")
    return next((each for each in field.metadata if isinstance(each, LayerForm)), None) if field else None


class Wrapper(Layer):
    """A layer around another, which is as that one in what the layer takes and gives, but for what it says itself."""

    layer: Nested

    def keras_group(self, name: str) -> str:
        return f"layer/{self.layer.keras_group(name)}"

    @property
    def kinds(self) -> tuple[str, ...]:
        return (type(self).__name__, *self.layer.kinds)

    @property
    def keeps_axes(self) -> bool:  # type: ignore[override]  # of a kind it is one answer, of a wrapper its layer's
        return self.layer.keeps_axes

    @property
    def gives(self) -> str | None:  # type: ignore[override]  # as keeps_axes
        return self.layer.gives

    @property
    def is_opaque(self) -> bool:  # type: ignore[override]  # as keeps_axes
        return self.layer.is_opaque

    @property
    def is_frozen_whole(self) -> bool:
        return super().is_frozen_whole or self.layer.is_frozen_whole

    @property
    def has_fixed_rank(self) -> bool:
        return self.layer.has_fixed_rank

    @property
    def is_spatial(self) -> bool:
        return self.layer.is_spatial

    @property
    def takes_steps(self) -> bool:
        return self.layer.takes_steps

    @property
    def gives_as_written(self) -> bool:
        return self.layer.gives_as_written

    @property
    def says_layout(self) -> bool:
        return self.layer.says_layout

    @property
    def takes_integers(self) -> bool:
        return self.layer.takes_integers

    @property
    def index_limit(self) -> int | None:
        return self.layer.index_limit

    @property
    def indexes_rows(self) -> bool:
        return self.layer.indexes_rows

    @property
    def reads_batch(self) -> bool:
        return self.layer.reads_batch

    def output_dtype(self, x: Symbol, *others: Symbol) -> str | list[str] | None:
        return self.layer.output_dtype(x, *others)


@dataclass(frozen=True, slots=True)
class OnInputs:
    """A layer inside another, and what it takes there."""

    layer: Layer
    inputs: tuple[Symbol, ...]


def wanted(layer: Layer, x: Symbol) -> Symbol:
    """A tensor like ``x`` in the order of axes that the layer wants."""
    layer.checked(x)
    order = layer.order(x)
    return x if order is None or order == x.order else x.permuted(order)


def output_shape(layer: Layer, x: Symbol) -> Shape:
    """The shape of the layer's one output on ``x``, by Keras's axes."""
    inner = wanted(layer, x)
    shape = _only_shape(layer, inner)
    return axes.permute(shape, axes.inverse(layer.output_order(len(shape), inner)))


def sizes(layer: Layer, x: Symbol) -> dict[str, tuple[int | None, ...]]:
    """How many units the layer's one output on ``x`` has, by what listens to it."""
    return {"layer_activity": output_shape(layer, x)[-1:]}


def lower(layer: Layer, x: Symbol, value: Expression, mask: Expression | None = None) -> Expression:
    """The layer's one output on ``value``, which has the shape of ``x``, and its mask; all by Keras's axes."""
    inner = wanted(layer, x)
    moved = value if inner is x else value.method("permute", *axes.between(x.order, inner.order))
    known: dict[Expression, Expression] = {inner: moved}
    if inner.mask is not None and mask is not None:
        known[inner.mask] = mask
    result: Expression = replaced(layer.lower(inner), known)
    rank = len(_only_shape(layer, inner))
    order = layer.output_order(rank, inner)
    return result if order == axes.identity(rank) else result.method("permute", *axes.inverse(order))


def listened(result: Expression, suffix: str, penalty: Regularizer, order: Order = ()) -> Expression:
    """An output inside a layer through a module to listen on; ``order`` has Keras's axes as they lie in it.

    A penalty that tells axes apart has them as Keras counts them.
    """
    listener = Module(call("nn.Identity"), suffix)
    if order == axes.identity(len(order)) or not (penalty.reads_axes or penalty.reads_units):
        return listener(result)
    return listener(result.method("permute", *axes.inverse(order))).method("permute", *order)


def _only_shape(layer: Layer, inner: Symbol) -> Shape:
    shape = layer.output_shape(inner)
    if isinstance(shape, list):
        raise ShapeError(f"wraps a {type(layer).__name__} with several outputs")
    return shape


def weights(layer: Layer, x: Symbol) -> tuple[Weight, ...]:
    """The layer's weights on ``x``."""
    return layer.weights(wanted(layer, x))
