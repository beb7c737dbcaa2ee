"""A layer inside a layer: the field that holds one, and how it is computed in its wrapper's place."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from regspec import axes
from regspec.calls import Expression, replaced
from regspec.errors import did_you_mean
from regspec.layers.layer import KINDS, Layer, Weight, find_kind
from regspec.shapes import Shape, ShapeError, Tensor
from regspec.spec.fields import REFERENCE


class _LayerForm:
    """``{Dense: {units: 3}}``, or the kind's name alone, as an annotation of pydantic fields."""

    def parse(self, value: Any) -> Layer:
        if isinstance(value, Layer):
            return value
        if isinstance(value, str):
            value = {value: None}
        if not isinstance(value, dict) or len(value) != 1:
            raise PydanticCustomError("form", "must be {expected}", {"expected": "a layer, {kind: fields}"})
        ((name, fields),) = value.items()
        cls = find_kind(name)
        if cls is None:
            context = {"sort": "kind of layer", "name": name, "at": (name,), "hint": did_you_mean(name, KINDS)}
            raise PydanticCustomError("unknown_name", "names no {sort}: '{name}'", context)
        try:
            layer = cls.model_validate({} if fields is None else fields)
        except ValidationError as error:
            errors = error.errors(include_url=False)
            context = {"name": name, "at": (name,), "errors": errors, "fields": [*cls.model_fields]}
            raise PydanticCustomError("nested", "{name}", context) from None
        if layer.dtype is not None:
            context = {"at": (name, "dtype")}
            what = "can't have a dtype of its own: it has that of the layer around it"
            raise PydanticCustomError("inner_dtype", what, context)
        return layer

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {REFERENCE: "layer"}


Nested = Annotated[Layer, _LayerForm()]


def wanted(layer: Layer, x: Tensor) -> Tensor:
    """A tensor like ``x`` in the order of axes that the layer wants."""
    layer.checked(x)
    order = layer.order(x)
    return x if order is None or order == x.order else x.permuted(order)


def output_shape(layer: Layer, x: Tensor) -> Shape:
    """The shape of the layer's one output on ``x``, by Keras's axes."""
    inner = wanted(layer, x)
    shape = layer.output_shape(inner)
    if isinstance(shape, list):
        raise ShapeError(f"wraps a {type(layer).__name__} with several outputs")
    return axes.permute(shape, axes.inverse(inner.order)) if len(shape) == inner.rank else shape


def lower(layer: Layer, x: Tensor, value: Expression) -> Expression:
    """The layer's one output on ``value``, which has the shape of ``x``; both by Keras's axes."""
    inner = wanted(layer, x)
    moved = value if inner is x else value.method("permute", *axes.between(x.order, inner.order))
    result: Expression = replaced(layer.lower(inner), {inner: moved})
    if inner is x or len(layer.output_shape(inner)) != inner.rank:
        return result
    return result.method("permute", *axes.between(inner.order, x.order))


def weights(layer: Layer, x: Tensor) -> tuple[Weight, ...]:
    """The layer's weights on ``x``."""
    return layer.weights(wanted(layer, x))
