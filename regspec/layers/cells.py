"""The cells of recurrent layers: one step, from its features and a state to the next state.

A cell is no layer: it stands in an RNN, alone or in a stack; LSTM is an RNN that is its own LSTMCell. Each cell becomes
a module that goes over the steps: with Keras's defaults torch's own, which is fast. Other activations, dropout inside
the recurrence, a GRU that resets before its product, and a kept state need a module of the runtime, which has the same
parameters. Keras has one bias where torch has two: torch's second stays zero and is not trained, except in a GRU that
resets after its product, where Keras has both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import Field, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from regspec.code.expressions import OMIT, Call, Omitted, call, unless
from regspec.code.shapes import ShapeError
from regspec.language import activations
from regspec.language.activations import Activation
from regspec.language.fields import REFERENCE, Count, Fraction, Frozen, Sequence, Size, snake_case
from regspec.layers.layer import Weight
from regspec.layers.nested import LayerForm
from regspec.layers.slots import BiasSlot, KernelSlot, RecurrentSlot
from regspec.layers.ties import mixes

SIGMOID = activations.ACTIVATIONS.parse("sigmoid")
TANH = activations.ACTIVATIONS.parse("tanh")
MAX_CELLS = 64  # each cell is a statement in the source; more would be unreadable


class Stepping(KernelSlot, RecurrentSlot, BiasSlot):
    """What takes one step of a recurrence."""

    width: ClassVar[str] = "units"  # the field with the number of features

    activation: Activation | None = Field(TANH, description="The activation function of the output.")
    dropout: Fraction = Field(0.0, description="The share of the inputs that is dropped, the same in each step.")
    recurrent_dropout: Fraction = Field(
        0.0, description="The share of the state that is dropped, the same in each step."
    )
    seed: Count | None = Field(None, description="Accepted for Keras's sake; torch draws from its own generator.")

    @model_validator(mode="after")
    def _has_functions_of_a_step(self) -> Self:
        """Activations are of the features of one step."""
        shape = (getattr(self, self.width),)
        for name in ("activation", "recurrent_activation"):
            value: Activation | None = getattr(self, name, None)
            if value is not None and not _keeps(value, shape):
                what = "takes no {name} but one that keeps the shape of a step, and works along its last axis"
                raise PydanticCustomError("step", what, {"name": name, "at": (name,)})
        return self

    def options(self, dimension: int = -1) -> dict[str, Any]:
        """What the runtime's module takes besides torch's arguments; the last axis lies at ``dimension``."""
        return {
            "activation": OMIT if self.activation == TANH else _module(self.activation, dimension),
            "dropout": unless(0.0, self.dropout),
            "recurrent_dropout": unless(0.0, self.recurrent_dropout),
        }


def _keeps(function: activations.ActivationFunction, shape: tuple[int, ...]) -> bool:
    """Whether its output for the features of a step has their shape."""
    try:
        return function.along in (None, -1) and function.output_shape(shape, 0) == shape
    except ShapeError:
        return False


class Gated(Stepping):
    """One step with gates."""

    recurrent_activation: Activation | None = Field(SIGMOID, description="The activation function of the gates.")

    def options(self, dimension: int = -1) -> dict[str, Any]:
        own = OMIT if self.recurrent_activation == SIGMOID else _module(self.recurrent_activation, dimension)
        return {**super().options(dimension), "recurrent_activation": own}


def _module(function: activations.ActivationFunction | None, dimension: int) -> Call:
    """The constructor of an activation's module, of the identity where there is none."""
    constructor = None if function is None else function.lower(dimension)
    return call("nn.Identity") if constructor is None else constructor


class Cell(Stepping):
    """One step over features, with states of its units."""

    main = "units"
    example = "{units: 32, recurrent_regularizer: {l2: 1e-4}}"

    units: Size = Field(description="The size of the output and of the state.")

    gates: ClassVar[int]
    torch_name: ClassVar[str]
    own_name: ClassVar[str]  # of the runtime's module
    chunks: ClassVar[tuple[int, ...] | None] = None  # Keras's gates in torch's order
    structure: ClassVar[tuple[Any, ...]] = ("sequence", "h")  # of what its module returns

    @property
    def states(self) -> list[tuple[int, ...]]:
        """Where the states lie in what its module returns."""
        return [(1,)] if self.structure[1] == "h" else [(1, 0), (1, 1)]

    @property
    def why_stays(self) -> str:
        """Why its units stay: a function of all of them together; nothing where each has its own."""
        return mixes(self.activation, 1, 2) or mixes(getattr(self, "recurrent_activation", None), 1, 2)

    @property
    def is_native(self) -> bool:
        """Whether torch's own module computes it."""
        return self.activation == TANH and not self.dropout and not self.recurrent_dropout

    def constructor(
        self, features: int, *, is_masked: bool = False, is_bidirectional: bool = False, **options: Any
    ) -> Call:
        """The constructor of the module that goes over the steps; ``options`` are for the runtime's."""
        bias = unless(True, self.use_bias)
        if self.is_native and not is_masked and all(isinstance(value, Omitted) for value in options.values()):
            both = unless(False, is_bidirectional)
            return call(f"nn.{self.torch_name}", features, self.units, bias=bias, batch_first=True, bidirectional=both)
        return call(self.own_name, features, self.units, bias=bias, **self.options(), **options)

    @property
    def absent_parameters(self) -> tuple[str, ...]:
        """The parameters of its module that Keras does not have."""
        return ("bias_hh_l0",) if self.use_bias else ()

    def direction_weights(self, features: int, owner: Names = (), ending: str | None = None) -> tuple[Weight, ...]:
        """Its weights in the owner's module, or in torch's bidirectional one, whose parameters end in ``ending``."""
        width = self.gates * self.units

        def weight(slot: str, pattern: str, shape: tuple[int, ...], *parameters: str, **more: Any) -> Weight:
            parameters = tuple(f"{parameter}_l0{ending or ''}" for parameter in parameters)
            module = "" if ending is not None else "_".join(owner)
            named = {"name": ".".join((*owner, slot)), "module": module, "chunks": self.chunks}
            return self.weight(slot, pattern, shape, parameters=parameters, **named, **more)

        kernel = weight("kernel", "i o -> o i", (features, width), "weight_ih")
        recurrent = weight("recurrent", "i o -> o i", (self.units, width), "weight_hh")
        return (kernel, recurrent, self.bias_weight(weight)) if self.use_bias else (kernel, recurrent)

    def bias_weight(self, weight: Any) -> Weight:
        """The bias."""
        bias: Weight = weight("bias", "o", (self.gates * self.units,), "bias_ih")
        return bias


CELLS: dict[str, type[Frozen]] = {}

C = TypeVar("C", bound=type[Frozen])
Names = tuple[str, ...]  # the path to a cell, or to a layer inside another


def cell(cls: C) -> C:
    """Adds a class to what may stand in an RNN, under its name; a decorator."""
    CELLS[cls.__name__] = cls
    return cls


@cell
class SimpleRNNCell(Cell):
    """h = activation(x @ kernel + h @ recurrent + bias)."""

    gates = 1
    torch_name = "RNN"
    own_name = "SimpleRNN"

    @property
    def is_native(self) -> bool:
        return self.activation in (TANH, activations.Relu()) and not self.dropout and not self.recurrent_dropout

    def constructor(
        self, features: int, *, is_masked: bool = False, is_bidirectional: bool = False, **options: Any
    ) -> Call:
        made = super().constructor(features, is_masked=is_masked, is_bidirectional=is_bidirectional, **options)
        if made.function == self.own_name or self.activation == TANH:
            return made
        return call(made.function, *made.arguments, nonlinearity="relu", **dict(made.keywords))


class GatedCell(Gated, Cell):
    """A cell with gates."""

    @property
    def is_native(self) -> bool:
        return super().is_native and self.recurrent_activation == SIGMOID


@cell
class LSTMCell(GatedCell):
    """One step of the long short-term memory of Hochreiter and Schmidhuber (1997)."""

    unit_forget_bias: bool = Field(True, description="Whether the bias of the forget gate starts at one.")

    gates = 4
    torch_name = own_name = "LSTM"
    structure = ("sequence", ("h", "c"))

    def bias_weight(self, weight: Any) -> Weight:
        ones = (self.units, 2 * self.units) if self.unit_forget_bias else None
        bias: Weight = weight("bias", "o", (4 * self.units,), "bias_ih", ones=ones)
        return bias


@cell
class GRUCell(GatedCell):
    """One step of the gated recurrent unit of Cho et al. (2014)."""

    reset_after: bool = Field(True, description="Whether the reset gate is applied after the product with the state.")

    gates = 3
    torch_name = own_name = "GRU"
    chunks = (1, 0, 2)  # Keras: update, reset, new; torch: reset, update, new

    @property
    def is_native(self) -> bool:
        return super().is_native and self.reset_after

    def options(self, dimension: int = -1) -> dict[str, Any]:
        return {**super().options(dimension), "reset_after": unless(True, self.reset_after)}

    @property
    def absent_parameters(self) -> tuple[str, ...]:
        return () if self.reset_after else super().absent_parameters

    def bias_weight(self, weight: Any) -> Weight:
        bias: Weight = super().bias_weight(weight)
        if self.reset_after:
            bias = weight("bias", "p o", (2, 3 * self.units), "bias_ih", "bias_hh")
        return bias


# -- cells in a field --------------------------------------------------------------------------------------------------


class CellForm(LayerForm):
    """``{LSTMCell: {units: 3}}``, or a list of such, as an annotation of pydantic fields."""

    sort = "cell"
    expected = "a cell, {class: fields}"
    definition = "cell"
    known = CELLS

    def find(self, name: str) -> type[Frozen] | None:
        return CELLS.get(name)

    def parse(self, value: Any) -> Frozen:
        parsed = super().parse(value)
        if isinstance(parsed, Cell) and parsed.activity_regularizer is not None:
            hint = "give it to the RNN, for the outputs of the whole"
            context = {"at": (*value, "activity_regularizer") if isinstance(value, dict) else (), "hint": hint}
            what = "has an activity_regularizer, which Keras applies to the output and the states of each step"
            raise PydanticCustomError("cell", what, context)
        return parsed


class CellsForm(CellForm):
    """A cell, or a list of cells that are stacked."""

    def parse(self, value: Any) -> Frozen:
        if not isinstance(value, (list, tuple)):
            return super().parse(value)
        try:
            return StackedRNNCells.model_validate({"cells": value})
        except ValidationError as error:
            errors = [{**each, "loc": each["loc"][1:]} for each in error.errors(include_url=False)]
            raise PydanticCustomError("nested", "cell", {"name": "cell", "errors": errors, "fields": []}) from None

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        one = {REFERENCE: self.definition}
        return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": MAX_CELLS}]}


@cell
class StackedRNNCells(Frozen):
    """Cells of which each takes the output of the one before."""

    main = "cells"

    example: ClassVar[str] = "{cells: [{LSTMCell: {units: 32}}, {LSTMCell: {units: 16}}]}"

    cells: Annotated[tuple[Annotated[Frozen, CellForm()], ...], Sequence, Field(min_length=1, max_length=MAX_CELLS)] = (
        Field(description="The cells, the first of which takes the sequence.")
    )
    trainable: bool = Field(True, description="False freezes the weights of all its cells.")

    @model_validator(mode="after")
    def _is_no_tower(self) -> StackedRNNCells:
        if len(stacked(self)) > MAX_CELLS:
            raise PydanticCustomError("stack", "has more than {most} cells", {"most": MAX_CELLS})
        return self


NestedCells = Annotated[Frozen, CellsForm()]


def stacked(field: Frozen) -> tuple[tuple[Names, Cell], ...]:
    """The cells of a field in the order in which they run, each with the names that lead to it: none for one alone."""
    return tuple(_stacked(field, (), True))


def _stacked(field: Frozen, path: Names, is_trainable: bool) -> Iterator[tuple[Names, Cell]]:
    if isinstance(field, Cell):
        frozen = field.model_copy(update={"trainable": False})
        yield path, field if is_trainable else frozen
        return
    assert isinstance(field, StackedRNNCells)
    counts = Counter[str]()
    for each in field.cells:
        name = snake_case(type(each).__name__)
        numbered = f"{name}_{counts[name]}" if counts[name] else name
        counts[name] += 1
        yield from _stacked(each, (*path, numbered), is_trainable and field.trainable)
