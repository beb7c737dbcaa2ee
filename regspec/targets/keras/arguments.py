"""The fields of a layer as the arguments of Keras's class: numbers, activations, initializers, regularizers, layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from regspec.code.shapes import ShapeError, Symbol
from regspec.language.activations import ActivationFunction
from regspec.language.constraints import WeightConstraint
from regspec.language.fields import Frozen, as_written, in_order, snake_case
from regspec.language.forms import Named
from regspec.language.initializers import WeightInitializer
from regspec.language.penalties import Penalty
from regspec.language.regularizers import L1, L1L2, L2, Orthogonal, Regularizer, Scheduled
from regspec.layers import Layer
from regspec.layers.cells import CELLS
from regspec.layers.kinds import BUILT_IN
from regspec.layers.nested import OnInputs
from regspec.targets.keras.network import Function, Object, Operation

MODULES: dict[type[Named], str] = {WeightInitializer: "initializers", WeightConstraint: "constraints"}
REGULARIZERS: dict[type[Penalty], str] = {L1: "L1", L2: "L2", L1L2: "L1L2", Orthogonal: "OrthogonalRegularizer"}
ADDED = ("L1", "L2", "L1L2")  # whose sums are L1L2


@dataclass
class Arguments:
    """Makes arguments, and notes the penalties that Keras has no counterpart of, which it leaves out."""

    for_file: bool = False  # which keeps no arguments of functions, but layers in their place
    lost: list[str] = field(default_factory=list)

    def layer(self, layer: Frozen, fields: Mapping[str, Any], xs: tuple[Symbol, ...] = ()) -> Object:
        """A layer; ``fields`` are added to the layer's own, and replace them.

        Raises:
            ShapeError: where a field has no counterpart in Keras's class.
        """
        if isinstance(layer, Layer):
            fields = self._heard(layer, fields)
        given = {**self._own(layer, xs), **fields}
        order = [name for name in in_order(type(layer)) if name in given and name != "dtype"]
        given = {name: given[name] for name in dict.fromkeys((*order, *given))}
        made = {name: self.value(value) for name, value in given.items()}
        given = {name: each for name, each in made.items() if each is not LOST}
        module = getattr(layer, "keras_module", Layer.keras_module)
        return Object(module, type(layer).__name__, given, _first_of(type(layer)))

    def _heard(self, layer: Layer, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """The fields without a penalty on the output that Keras's class does not apply."""
        kind = type(layer).__name__
        if layer.inner_activities and not layer.has_inner_activities_in_keras:
            self._lose(f"is around a layer with an activity_regularizer, which Keras's {kind} does not apply")
        if layer.has_activity_in_keras:
            return fields
        if fields.get("activity_regularizer", layer.activity_regularizer) is not None:
            self._lose(f"has an activity_regularizer, which Keras's {kind} does not apply to its output")
        return {name: value for name, value in fields.items() if name != "activity_regularizer"}

    def operation(self, layer: Layer, xs: tuple[Symbol, ...], activity: Regularizer | None) -> Operation:
        """An operation; ``activity`` is the penalty on its output. Raises `ShapeError` as `layer` does."""
        name = type(layer).__name__
        if activity is not None:
            what = f"has a penalty on its output, and Keras's {name} is an operation, which takes none"
            self._lose(f"{what}: 'Activation: linear' behind it can have it")
        if layer.precision is not None:
            raise ShapeError(f"has dtype: {layer.precision}, and Keras's {name} is an operation, which takes none")
        own = self._own(layer, xs)
        taken = {"activity_regularizer", "trainable", *layer.fields_of_call}
        given = {key: self.value(each) for key, each in own.items() if key not in taken}
        function = layer.keras_function or snake_case(name)
        return Operation(str(layer.operated_by), name, function, given, layer.keras_first)

    def _own(self, layer: Frozen, xs: tuple[Symbol, ...]) -> dict[str, Any]:
        """The fields of a layer that differ from Keras's defaults, by Keras's names."""
        kind = type(layer).__name__
        instead: dict[str, Any] = {}
        if isinstance(layer, Layer):
            is_private = self.for_file and layer.keras_module != Layer.keras_module  # no code should import it
            is_known = layer.is_in_keras or layer.operated_by is not None or is_private
            if not is_known or kind not in {*BUILT_IN, *CELLS}:
                raise ShapeError(f"is of kind {kind}, and Keras 3 has no such layer")
            instead = layer.keras_fields(*xs)
        is_frozen = getattr(layer, "trainable", True) is False
        found: dict[str, Any] = {}
        for name in in_order(type(layer)):
            declared = type(layer).model_fields[name]
            value = instead.get(name, getattr(layer, name))
            if value is None and self.for_file and name not in getattr(layer, "own_fields", ()):
                value = getattr(layer, "meant_in_keras", {}).get(name)
            is_unheard = name == "activity_regularizer" and not getattr(layer, "has_activity_in_keras", True)
            if is_unheard and name not in instead:
                continue
            if name in getattr(layer, "call_fields", ()) or (name == "trainable" and isinstance(value, tuple)):
                continue  # call fields are arguments of the call; training in part is refused before
            is_said = declared.is_required() or name in getattr(layer, "said_in_keras", ())
            if not is_said and _is_default(value, declared.default):
                continue
            if name in getattr(layer, "own_fields", ()):
                raise ShapeError(f"has {name}: {value}, which Keras's {kind} does not have")
            value = as_written(declared, value)
            found[declared.alias or name] = _frozen(value) if is_frozen else value
        return found

    def value(self, value: Any) -> Any:
        """A field's value; `LOST` for a penalty that Keras has no counterpart of. Raises `ShapeError` for others."""
        if isinstance(value, Regularizer):
            return self.regularizer(value)
        if isinstance(value, ActivationFunction):
            return self._activation(value)
        if isinstance(value, Named):
            return self._named(value)
        if isinstance(value, OnInputs):
            return self.layer(value.layer, {}, value.inputs)
        if isinstance(value, Frozen):
            return self.layer(value, {})
        if isinstance(value, tuple) and any(isinstance(each, Frozen) for each in value):
            return [*map(self.value, value)]
        return value

    def regularizer(self, value: Regularizer) -> Any:
        """A sum of penalties as one of Keras's regularizers; what is coupled is told of the network."""
        if (alone := value.alone) is None:
            return LOST
        value = alone
        if value.reduction == "sum":
            return self._lose(f"has the regularizer {value}, where Keras divides by the batch size")
        made = [_penalty(part) for part in value.parts]
        for part, each in zip(value.parts, made, strict=True):
            if each is None:
                self._lose(f"has the regularizer {part}, which Keras does not have")
        kept = [each for each in made if each is not None]
        if len(kept) < 2:
            return kept[0] if kept else LOST
        if any(each.name not in ADDED for each in kept):
            return self._lose(f"has the regularizer {value}, which Keras does not have as one")
        sums: dict[str, float] = {}
        for name, strength in (pair for part in value.parts for pair in _strengths(part)):
            sums[name] = sums.get(name, 0.0) + strength
        return Object("regularizers", "L1L2" if len(sums) > 1 else "".join(sums).upper(), sums)

    def _activation(self, function: ActivationFunction) -> Any:
        """A function by its name; with arguments, by those, or as a layer."""
        if function.in_keras is None:
            raise ShapeError(f"has the activation {function.name}, which Keras does not have")
        function = function.in_keras
        given = _given(function)
        if not given and function.keras_module == "activations":
            return function.name
        if own := function.own_fields & given.keys():
            raise ShapeError(f"has the activation {function}, whose {min(own)} Keras's does not have")
        if not given or not self.for_file:
            return Function("activations" if given else function.keras_module, function.name, given)
        if function.as_keras_layer is None:
            raise ShapeError(f"has the activation {function}, of which a file of Keras keeps the name alone")
        return Object("layers", function.as_keras_layer, {**given, "trainable": True})  # which marks it as a layer

    def kept_apart(self, function: ActivationFunction | None) -> Operation | None:
        """A function as an operation, where a file keeps it in no other form: it has arguments, and is no layer."""
        function = None if function is None else function.in_keras
        if function is None or not self.for_file or function.as_keras_layer is not None:
            return None
        given = _given(function)
        is_kept = not given or bool(function.own_fields & given.keys())
        return None if is_kept else Operation("nn", type(function).__name__, function.name, given)

    def _lose(self, what: str) -> Any:
        self.lost.append(what)
        return LOST

    def _named(self, thing: Named) -> Any:
        """An initializer or a constraint: by its name, or by its class where it has arguments."""
        module = next(module for cls, module in MODULES.items() if isinstance(thing, cls))
        if thing.is_registered:
            raise ShapeError(f"has the {module.removesuffix('s')} {thing.name}, which Keras does not have")
        if not _given(thing):
            return thing.name
        return Object(module, type(thing).__name__, {name: self.value(each) for name, each in _given(thing).items()})


LOST = object()  # stands for what is left out


def _penalty(part: Penalty | Scheduled) -> Object | None:
    """One penalty as one of Keras's regularizers, if it has it."""
    if isinstance(part, Scheduled) or type(part) not in REGULARIZERS:
        return None
    name = REGULARIZERS[type(part)]
    said = {**dict(_strengths(part)), **_given(part)} if isinstance(part, (L1, L2)) else _given(part)
    given = {key: value for key, value in said.items() if key != "strength"}
    return Object("regularizers", name, given, (*given,) if len(given) == 1 else ())


@cache
def _first_of(cls: type[Frozen]) -> tuple[str, ...]:
    """The first arguments of Keras's class that say what a layer is: those that it needs, or its main one.

    The number of an axis says nothing without its name.
    """
    needed = tuple(name for name in in_order(cls) if cls.model_fields[name].is_required())
    main = getattr(cls, "main", None)
    return needed or ((main,) if main and main not in getattr(cls, "axis_fields", ()) else ())


def _strengths(part: Penalty | Scheduled) -> Iterator[tuple[str, float]]:
    """The strengths of a penalty that is an L1, an L2 or both, by Keras's names."""
    if isinstance(part, L1L2):
        yield from (("l1", part.l1), ("l2", part.l2))
    elif isinstance(part, (L1, L2)):
        yield part.name, part.strength


def _frozen(value: Any) -> Any:
    """A field of a frozen layer: layers and cells in it are frozen too, because Keras reads ``trainable`` of each."""
    if isinstance(value, OnInputs):
        return replace(value, layer=_frozen(value.layer))
    if isinstance(value, tuple):
        return tuple(map(_frozen, value))
    is_layer = isinstance(value, (Layer, *CELLS.values()))
    return value.model_copy(update={"trainable": False}) if is_layer else value


def _is_default(value: Any, default: Any) -> bool:
    """Whether a value is a field's default; one size stands for as many as there are axes."""
    if isinstance(default, tuple) and len(default) == 1:
        return bool({*value} == {*default} if isinstance(value, tuple) else value == default[0])
    return bool(value == default) and type(value) is type(default)


def _given(thing: Named) -> dict[str, Any]:
    """The arguments of a named thing that are not as their defaults."""
    declared = type(thing).model_fields
    said = {name for name, each in declared.items() if each.is_required()} | thing.said_in_keras
    return {name: value for name, value in thing if name in said or value != declared[name].default}
