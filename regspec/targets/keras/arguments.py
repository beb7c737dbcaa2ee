"""The fields of a layer as the arguments of Keras's class: numbers, activations, initializers, regularizers, layers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from regspec.code.shapes import ShapeError, Symbol
from regspec.language.activations import ActivationFunction
from regspec.language.constraints import WeightConstraint
from regspec.language.fields import Frozen
from regspec.language.forms import Named
from regspec.language.initializers import WeightInitializer
from regspec.language.regularizers import L1, L1L2, L2, Orthogonal, Penalty, Regularizer, Scheduled
from regspec.layers import Layer
from regspec.layers.cells import CELLS
from regspec.layers.kinds import BUILT_IN
from regspec.layers.nested import OnInputs
from regspec.targets.python.layout import Brackets, Doc, beside, called
from regspec.targets.python.printing import literal

MODULES: dict[type[Named], str] = {WeightInitializer: "initializers", WeightConstraint: "constraints"}
REGULARIZERS: dict[type[Penalty], str] = {L1: "L1", L2: "L2", L1L2: "L1L2", Orthogonal: "OrthogonalRegularizer"}
_OF_SLOTS = ("_initializer", "_regularizer", "_constraint")


@dataclass
class Arguments:
    """Prints arguments, and notes what the file must import of Keras for them."""

    modules: set[str] = field(default_factory=set)  # of Keras: layers, regularizers, …
    needs_partial: bool = False

    def layer(self, layer: Frozen, fields: Mapping[str, Any], xs: tuple[Symbol, ...] = ()) -> Doc:
        """The constructor of a layer; ``fields`` are added to the layer's own, and replace them.

        Raises:
            ShapeError: where a field has no counterpart in Keras's class.
        """
        own = self._own(layer, xs)
        given = {**own, **fields}
        arguments = [beside(f"{name}=", self.value(value)) for name, value in given.items()]
        self.modules.add("layers")
        return called(f"layers.{type(layer).__name__}", arguments)

    def _own(self, layer: Frozen, xs: tuple[Symbol, ...]) -> dict[str, Any]:
        """The fields of a layer that differ from Keras's defaults, by Keras's names."""
        kind = type(layer).__name__
        instead: dict[str, Any] = {}
        if isinstance(layer, Layer):
            if not layer.is_in_keras or kind not in {*BUILT_IN, *CELLS}:
                raise ShapeError(f"is of kind {kind}, and Keras 3 has no such layer")
            instead = layer.keras_fields(*xs)
        is_frozen = getattr(layer, "trainable", True) is False
        found: dict[str, Any] = {}
        for name in _in_order(type(layer)):
            declared = type(layer).model_fields[name]
            value = instead.get(name, getattr(layer, name))
            if name in getattr(layer, "call_fields", ()) or (name == "trainable" and isinstance(value, tuple)):
                continue  # call fields are arguments of the call; training in part is refused before
            if not declared.is_required() and _is_default(value, declared.default):
                continue
            if name in getattr(layer, "own_fields", ()):
                raise ShapeError(f"has {name}: {value}, which Keras's {kind} does not have")
            found[declared.alias or name] = _frozen(value) if is_frozen else value
        return found

    def value(self, value: Any) -> Doc:
        """A field's value. Raises `ShapeError` for what Keras has no counterpart of."""
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
            return Brackets("[", tuple(map(self.value, value)), "]")
        return literal(value)

    def regularizer(self, value: Regularizer) -> Doc:
        """A sum of penalties as one of Keras's regularizers."""
        if value.reduction == "sum":
            raise ShapeError(f"has the regularizer {value}, where Keras divides by the batch size")
        made = [self._penalty(part) for part in value.parts]
        if len(made) == 1:
            return made[0]
        strengths = {type(part): part.strength for part in value.parts if isinstance(part, (L1, L2))}
        if len(made) == 2 and len(strengths) == 2:
            arguments = (beside("l1=", literal(strengths[L1])), beside("l2=", literal(strengths[L2])))
            return called("regularizers.L1L2", arguments)
        raise ShapeError(f"has the regularizer {value}, which Keras does not have as one")

    def _penalty(self, part: Penalty | Scheduled) -> Doc:
        """One penalty as one of Keras's regularizers."""
        if isinstance(part, Scheduled) or type(part) not in REGULARIZERS:
            raise ShapeError(f"has the regularizer {part}, which Keras does not have")
        return self._made("regularizers", REGULARIZERS[type(part)], part)

    def _activation(self, function: ActivationFunction) -> Doc:
        """A function by its name; with arguments, by those."""
        if function.in_keras is None:
            raise ShapeError(f"has the activation {function.name}, which Keras does not have")
        function = function.in_keras
        given = _given(function)
        if not given and function.keras_module == "activations":
            return literal(function.name)
        if own := function.own_fields & given.keys():
            raise ShapeError(f"has the activation {function}, whose {min(own)} Keras's does not have")
        self.modules.add(function.keras_module)
        if not given:
            return f"{function.keras_module}.{function.name}"
        self.needs_partial = True
        arguments = [beside(f"{name}=", literal(value)) for name, value in given.items()]
        return called("partial", [f"activations.{function.name}", *arguments])

    def _named(self, thing: Named) -> Doc:
        """An initializer or a constraint: by its name, or by its class where it has arguments."""
        if not _given(thing):
            return literal(thing.name)
        module = next(module for cls, module in MODULES.items() if isinstance(thing, cls))
        return self._made(module, type(thing).__name__, thing)

    def _made(self, module: str, name: str, thing: Named) -> Doc:
        self.modules.add(module)
        renamed = {"strength": name.lower()} if module == "regularizers" else {}
        given = {renamed.get(field, field): value for field, value in _given(thing).items()}
        return called(f"{module}.{name}", [beside(f"{field}=", self.value(value)) for field, value in given.items()])


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
    return {name: value for name, value in thing if declared[name].is_required() or value != declared[name].default}


def _in_order(cls: type[Frozen]) -> list[str]:
    """The fields of a class, as a person would write them: required ones first, those of slots last."""
    declared = cls.model_fields
    names = [name for each in cls.__mro__ for name in inspect.get_annotations(each) if name in declared]
    return sorted(dict.fromkeys(names), key=lambda name: (not declared[name].is_required(), name.endswith(_OF_SLOTS)))
