"""Recurrent layers over (batch, steps, features): a cell, or a stack of cells, that goes over the steps.

A cell becomes a module that goes over all steps at once, torch's own where it can; so a stack of cells is a chain of
modules, each of which takes the outputs of the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import Field

from regspec.code import axes
from regspec.code.axes import Order
from regspec.code.expressions import Expression, Module, Part, Value, unless
from regspec.code.shapes import Shape, ShapeError, States, Symbol, text
from regspec.language.fields import Frozen
from regspec.layers.cells import (
    Cell,
    GRUCell,
    LSTMCell,
    Names,
    NestedCells,
    SimpleRNNCell,
    StackedRNNCells,
    stacked,
)
from regspec.layers.kinds import kind
from regspec.layers.layer import Layer, Weight
from regspec.layers.ties import FieldPath, Fold, Place, Tie, Ties


class Recurrent(Layer):
    """A layer that goes over a sequence step by step, with states.

    It may stand in another layer. Then its weights' names and its modules' suffixes begin with the ``owner``'s.
    """

    return_sequences: bool = Field(False, description="Whether the output has every step, and not only the last.")
    return_state: bool = Field(False, description="Whether the last state is an output too.")
    go_backwards: bool = Field(
        False, description="Whether the sequence is read from its end; the output stays reversed."
    )
    stateful: bool = Field(
        False, description="Whether a forward begins with the last states of the one before, until reset_states()."
    )

    zero_output_for_mask: bool = Field(
        False,
        description="Whether the output is zero at steps that are masked; else it is that of the step before.",
    )

    ignores_mask: bool = Field(
        False,
        description="Whether masked steps are gone over like the others, and the mask only handed on: what Keras 3 "
        "does where an initial state is given.",
    )

    arity = (1, None)
    own_fields = frozenset({"ignores_mask"})

    def mask_of(self, x: Symbol) -> Symbol | None:
        """The mask by which it skips steps of its input."""
        return None if self.ignores_mask else x.mask

    def counts_by_mask(self, *xs: Symbol) -> bool:
        return self.mask_of(xs[0]) is not None

    def takes_mask(self, x: Symbol) -> bool:
        """Whether its modules must be able to take a mask: in this call, or in another one."""
        return self.mask_of(x) is not None or (x.is_masked_elsewhere and not self.ignores_mask)

    @property
    def state_count(self) -> int:
        """How many states it has."""
        raise NotImplementedError

    def keras_group(self, name: str) -> str:
        *path, _ = name.split(".")  # to a cell of a stack
        return "/".join(["cell", *(f"cells/{each}" for each in path), "vars"])

    @property
    def state_structure(self) -> States:
        return (None,) * self.state_count

    def state_shapes(self, x: Symbol) -> tuple[Shape, ...]:
        """The shapes of its states, in the order of its cells."""
        raise NotImplementedError

    def step_shape(self, x: Symbol) -> Shape:
        """The shape of the output of one step."""
        raise NotImplementedError

    def owned_weights(self, x: Symbol, owner: Names = ()) -> tuple[Weight, ...]:
        """Its weights, in Keras's order."""
        raise NotImplementedError

    def owned_absent(self, owner: Names = ()) -> tuple[str, ...]:
        """Parameters of its modules that Keras does not have."""
        return ()

    def outputs(
        self, x: Symbol, sequence: Expression, initial: Sequence[Expression], owner: Names = ()
    ) -> tuple[Expression, tuple[Expression, ...]]:
        """The outputs of all steps of a sequence like ``x``, and the last states."""
        raise NotImplementedError

    def options_for(self, x: Symbol) -> dict[str, Any]:
        """Keyword arguments of the runtime's modules besides those of a cell."""
        is_zero = self.takes_mask(x) and self.zero_output_for_mask
        return {"stateful": unless(False, self.stateful), "zero_output_for_mask": unless(False, is_zero)}

    def mask_for(self, x: Symbol) -> dict[str, Value]:
        """The mask of a sequence, as it is read, for the modules that take it."""
        mask = self.mask_of(x)
        if mask is None:
            return {}
        return {"mask": mask.method("flip", 1) if self.go_backwards else mask}

    # -- what all recurrent layers share -------------------------------------------------------------------------------

    def checked(self, *xs: Symbol) -> None:
        super().checked(xs[0])
        mask = self.mask_of(xs[0])
        if mask is not None and mask.rank != 2:
            raise ShapeError(f"takes a mask of (batch, steps), but that of {xs[0].described} is {text(mask.shape)}")
        count = self.state_count
        if len(xs) not in (1, 1 + count):
            raise ShapeError(f"takes a sequence, and {count} initial state(s) or none, but {len(xs)} inputs are given")
        if count == len(xs) - 1:
            x, *states = (each.permuted(self.order(each) or each.order) for each in xs)
            for state, shape in zip(states, self.state_shapes(x), strict=True):
                pairs = zip(state.shape[1:], shape[1:], strict=False)
                if state.rank != len(shape) or any(None not in pair and pair[0] != pair[1] for pair in pairs):
                    order = self.output_order(len(shape), x)
                    counted = self.output_spec_order(len(shape), x) or order
                    wanted = replace(state, shape=shape, order=order, spec_order=counted)
                    raise ShapeError(
                        f"takes an initial state of {text(wanted.spec_shape)}, but is given {state.described}"
                    )

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        return self.owned_weights(x)

    def absent(self, x: Symbol, *_: Symbol) -> tuple[str, ...]:
        return self.owned_absent()

    def output_mask(self, x: Symbol, *_: Symbol) -> Expression | None:
        return x.mask if self.return_sequences else None

    def main_shape(self, x: Symbol) -> Shape:
        """The shape of the output without the states."""
        step = self.step_shape(x)
        return (*x.shape[:2], *step[1:]) if self.return_sequences else step

    def sizes(self, x: Symbol) -> tuple[int | None, ...]:
        """How many units its output has, and each of its states that it returns."""
        shapes = [self.main_shape(x), *(self.state_shapes(x) if self.return_state else ())]
        return tuple(shape[self.output_order(len(shape), x).index(len(shape) - 1)] for shape in shapes)

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape | list[Shape]:
        return [self.main_shape(x), *self.state_shapes(x)] if self.return_state else self.main_shape(x)

    def lower(self, x: Symbol, *others: Symbol) -> Expression | list[Expression]:
        output, states = self.run(x, others)
        return [output, *states] if self.return_state else output

    def run(
        self, x: Symbol, initial: Sequence[Expression], owner: Names = ()
    ) -> tuple[Expression, tuple[Expression, ...]]:
        """The output, and the last states if they are wanted."""
        sequence = x.method("flip", 1) if self.go_backwards else x
        output, states = self.outputs(x, sequence, initial, owner)
        return output if self.return_sequences else output[:, -1], states if self.return_state else ()


class Chain(Recurrent):
    """A recurrent layer of cells."""

    takes = ("batch", "steps", "features")

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        return axes.identity(rank)  # a sequence, also of a signal

    @property
    def cells(self) -> tuple[tuple[Names, Cell], ...]:
        """The cells in the order in which they run, each with the names that lead to it."""
        raise NotImplementedError

    @property
    def lone_cell(self) -> Cell | None:
        """The only cell, if it stands in no stack."""
        path, first = self.cells[0]
        return None if path else first

    @property
    def state_count(self) -> int:
        return sum(len(cell.states) for _, cell in self.cells)

    def state_shapes(self, x: Symbol) -> tuple[Shape, ...]:
        return tuple((x.shape[0], cell.units) for _, cell in self.cells for _ in cell.states)

    def step_shape(self, x: Symbol) -> Shape:
        return (x.shape[0], self.cells[-1][1].units)

    def checked(self, *xs: Symbol) -> None:
        super().checked(*xs)
        if any(cell.bias_regularizer is not None and not cell.use_bias for _, cell in self.cells):
            raise ShapeError("has a bias_regularizer, but no bias")

    def owned_weights(self, x: Symbol, owner: Names = ()) -> tuple[Weight, ...]:
        weights: list[Weight] = []
        features = x.size(-1)
        for path, cell in self.cells:
            weights += cell.direction_weights(features, (*owner, *path))
            features = cell.units
        return tuple(weights if self.trainable else (replace(weight, frozen=True) for weight in weights))

    def ties(self, x: Symbol, *states: Symbol) -> Ties | None:
        place = 2 if self.return_sequences else 1
        returned = [Place(~(1 + i), 1) for i in range(self.state_count) if self.return_state]
        initial = [Place(1 + i, 1) for i in range(len(states))]
        return self.owned_ties(
            x, Place(~0, place), [*zip(*(each for each in (initial, returned) if each), strict=True)]
        )

    def owned_ties(
        self,
        x: Symbol,
        output: Place,
        states: Sequence[tuple[Place, ...]] = (),
        owner: Names = (),
        within: FieldPath = (),
    ) -> Ties | None:
        """Its ties, with the places of its output and of each of its states, in the layer of a path in the owner."""
        if self.stateful:
            return None  # the states that it keeps have units too
        ranks = {weight.name: len(weight.shape or ()) for weight in self.owned_weights(x, owner)}
        ties, folds, waiting = [], [], [*states]
        places, size = (Place(0, 2),), x.size(-1)
        made: Tie | None = None
        for index, (path, cell) in enumerate(self.cells):
            name = ".".join((*owner, *path, ""))
            taken = Place(f"{name}kernel", 0)
            ties.append(replace(made, places=(*made.places, taken)) if made else Tie(size, (*places, taken)))
            own, waiting = waiting[: len(cell.states)], waiting[len(cell.states) :]
            gated = [Place(f"{name}{slot}", 1, outer=cell.gates) for slot in ("kernel", "recurrent")]
            bias = Place(f"{name}bias", ranks.get(f"{name}bias", 1) - 1, outer=cell.gates)
            made = Tie(
                cell.units,
                (Place(f"{name}recurrent", 0), *gated, bias, *(place for each in own for place in each)),
                (*within, *self.cell_field(index, path)),
                stays=cell.why_stays,
            )
            folds.append(Fold(f"{name}kernel", f"{name}bias", (*within, "use_bias") if not path else None))
        assert made is not None  # of the last cell
        return Ties((*ties, replace(made, places=(*made.places, output))), tuple(folds[:1]))

    def cell_field(self, index: int, path: Names) -> FieldPath:
        """The field with the number of units of a cell; none where that is in a stack in a stack."""
        return ("units",)

    def owned_absent(self, owner: Names = ()) -> tuple[str, ...]:
        found = [("_".join((*owner, *path)), name) for path, cell in self.cells for name in cell.absent_parameters]
        return tuple(f"{suffix}.{name}" if suffix else name for suffix, name in found)

    def outputs(
        self, x: Symbol, sequence: Expression, initial: Sequence[Expression], owner: Names = ()
    ) -> tuple[Expression, tuple[Expression, ...]]:
        features, unused = x.size(-1), [state.method("unsqueeze", 0) for state in initial]
        states: list[Expression] = []
        for path, cell in self.cells:
            constructor = cell.constructor(features, is_masked=self.takes_mask(x), **self.options_for(x))
            module = Module(constructor, "_".join((*owner, *path)))
            given, unused = unused[: len(cell.states)], unused[len(cell.states) :]
            whole = module(sequence, *as_torch_takes(given), **self.mask_for(x))
            sequence = Part(whole, cell.structure, (0,))
            states += [Part(whole, cell.structure, place)[0] for place in cell.states]
            features = cell.units
        return sequence, tuple(states)


def as_torch_takes(states: Sequence[Expression]) -> list[Value]:
    """Initial states as the argument of a module: none, one, or a tuple."""
    return [tuple(states)] if len(states) > 1 else [*states]


class OwnCell(Chain):
    """A recurrent layer that is its own cell."""

    @property
    def cells(self) -> tuple[tuple[Names, Cell], ...]:
        assert isinstance(self, Cell)
        return (((), self),)


@kind
class RNN(Chain):
    """A cell, or a stack of cells, that goes over the steps of a sequence."""

    example = "{cell: {LSTMCell: {units: 32, recurrent_regularizer: {l2: 1e-4}}}}"

    cell: NestedCells = Field(description="The cell, such as LSTMCell: {units: 32}; or a list of cells to stack.")

    @property
    def cells(self) -> tuple[tuple[Names, Cell], ...]:
        return stacked(self.cell)

    def cell_field(self, index: int, path: Names) -> FieldPath:
        stack = (index, "*") if path else ("*",)
        return ("cell", *stack, "units") if len(path) < 2 else ()

    @property
    def state_structure(self) -> States:
        """A list for each cell of a stack that has several."""
        return super().state_structure if isinstance(self.cell, Cell) else _in_stack(self.cell) or ()


def _in_stack(field: Frozen) -> States | None:
    """The states of a cell that stands in a stack, or of a stack; None for a single state."""
    if isinstance(field, Cell):
        return None if len(field.states) == 1 else (None,) * len(field.states)
    assert isinstance(field, StackedRNNCells)
    return tuple(map(_in_stack, field.cells))


@kind
class SimpleRNN(OwnCell, SimpleRNNCell):
    """h = activation(x @ kernel + h @ recurrent + bias)."""

    has_activity_in_keras = False


@kind
class LSTM(OwnCell, LSTMCell):
    """The long short-term memory of Hochreiter and Schmidhuber (1997)."""


@kind
class GRU(OwnCell, GRUCell):
    """The gated recurrent unit of Cho et al. (2014)."""
