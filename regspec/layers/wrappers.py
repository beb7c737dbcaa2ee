"""Layers around others: a recurrent layer in both directions, and any layer at each step of a sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from regspec.code import axes
from regspec.code.axes import Order
from regspec.code.expressions import Each, Expression, Local, Module, Part, call, walk
from regspec.code.shapes import Shape, ShapeError, States, Symbol, text
from regspec.language.regularizers import Regularizer
from regspec.layers import nested
from regspec.layers.cells import Cell
from regspec.layers.dense import Dense
from regspec.layers.kinds import kind
from regspec.layers.layer import Layer, Weight
from regspec.layers.nested import Nested, OnInputs, Wrapper
from regspec.layers.recurrent import Chain, Recurrent, as_torch_takes
from regspec.layers.ties import Place, Tie, Ties, beside_steps


@kind
class Bidirectional(Wrapper):
    """A recurrent layer forwards and another backwards over the sequence, merged."""

    example = "{layer: {LSTM: {units: 32, kernel_regularizer: {l2: 1e-4}}}}"

    layer: Nested = Field(description="The recurrent layer, such as LSTM: {units: 32}.")
    merge_mode: Literal["concat", "sum", "mul", "ave"] | None = Field(
        "concat", description="How both outputs are merged; null gives two outputs."
    )
    backward_layer: Nested | None = Field(
        None, description="The layer that goes backwards; one like the first when absent."
    )

    arity = (1, None)

    def keras_group(self, name: str) -> str:
        side, _, own = name.partition(".")
        return f"{side}_layer/{(self._forward if side == 'forward' else self._backward).keras_group(own)}"

    @property
    def state_structure(self) -> States:
        return (*self._forward.state_structure, *self._backward.state_structure)

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        """Both layers with channels last: Keras's class concatenates the last axis of both outputs, whichever it is."""
        both = {"layer": self.layer, "backward_layer": self.backward_layer}
        plain = tuple(replace(x, spec_order=axes.identity(x.rank)) for x in xs)
        return {name: OnInputs(layer, plain) for name, layer in both.items() if layer is not None}

    @model_validator(mode="after")
    def _wraps_recurrent_layers(self) -> Bidirectional:
        for layer in (self.layer, self.backward_layer):
            if layer is not None and not isinstance(layer, Recurrent):
                raise PydanticCustomError(
                    "wrapped", "wraps a recurrent layer, not {kind}", {"kind": type(layer).__name__}
                )
        forward, backward = self._forward, self._backward
        if any(getattr(forward, field) != getattr(backward, field) for field in _SHARED):
            raise PydanticCustomError("wrapped", f"needs the same {', '.join(_SHARED)} in both directions")
        if forward.go_backwards == backward.go_backwards:
            raise PydanticCustomError("wrapped", "needs a backward_layer with go_backwards: true")
        if isinstance(forward, Chain) != isinstance(backward, Chain):
            raise PydanticCustomError("wrapped", "needs layers of the same rank in both directions")
        return self

    @property
    def _forward(self) -> Recurrent:
        assert isinstance(self.layer, Recurrent)
        return _zeroed(self.layer)

    @property
    def _backward(self) -> Recurrent:
        if self.backward_layer is not None:
            assert isinstance(self.backward_layer, Recurrent)
            return _zeroed(self.backward_layer)
        return self._forward.model_copy(update={"go_backwards": not self._forward.go_backwards})

    @property
    def stateful(self) -> bool:
        """Whether a forward begins with the last states of the one before."""
        return self._forward.stateful

    def counts_by_mask(self, *xs: Symbol) -> bool:
        return self.layer.counts_by_mask(*xs)

    def _native_cell(self, x: Symbol) -> Cell | None:
        """The cell, if one bidirectional module of torch can compute both directions; else None."""
        forward = self._forward
        is_plain = not (forward.go_backwards or forward.return_state or forward.stateful)
        if x.mask is not None or x.is_masked_elsewhere or self.backward_layer is not None or not is_plain:
            return None
        cell = forward.lone_cell if isinstance(forward, Chain) else None
        return cell if cell is not None and cell.is_native and forward.activity is None else None

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("Bidirectional", *dict.fromkeys((*self._forward.kinds, *self._backward.kinds)))

    @property
    def inner_activities(self) -> dict[str, Regularizer]:
        pairs = {"forward_activity": self._forward, "backward_activity": self._backward}
        return {suffix: layer.activity for suffix, layer in pairs.items() if layer.activity is not None}

    def inner_sizes(self, *xs: Symbol) -> dict[str, tuple[int | None, ...]]:
        pairs = {"forward_activity": self._forward, "backward_activity": self._backward}
        return {suffix: layer.sizes(xs[0]) for suffix, layer in pairs.items()}

    def order(self, x: Symbol) -> Order | None:
        return self._forward.order(x)

    def output_order(self, rank: int, x: Symbol, *_: Symbol) -> Order:
        return self._forward.output_order(rank, x)

    def input_spec_order(self, rank: int) -> Order | None:
        return self._forward.input_spec_order(rank)

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        return self._forward.output_spec_order(rank, *xs)

    def counted_by_keras(self, *xs: Symbol) -> Layer:
        both = {"layer": self.layer, "backward_layer": self.backward_layer}
        counted = {name: layer.counted_by_keras(*xs) for name, layer in both.items() if layer is not None}
        return self.model_copy(update=counted)

    def units_of(self, output: Symbol) -> int:
        return self._forward.units_of(output)

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        if (cell := self._native_cell(x)) is None:
            return (*self._forward.owned_weights(x, ("forward",)), *self._backward.owned_weights(x, ("backward",)))
        both = (("forward", ""), ("backward", "_reverse"))
        weights = [each for name, ending in both for each in cell.direction_weights(x.size(-1), (name,), ending)]
        return tuple(weights if self._forward.trainable else (replace(weight, frozen=True) for weight in weights))

    def absent(self, x: Symbol, *_: Symbol) -> tuple[str, ...]:
        if (cell := self._native_cell(x)) is None:
            return (*self._forward.owned_absent(("forward",)), *self._backward.owned_absent(("backward",)))
        return tuple(f"{name}{ending}" for name in cell.absent_parameters for ending in ("", "_reverse"))

    def checked(self, *xs: Symbol) -> None:
        super().checked(xs[0])
        forward, backward = self._forward.state_count, self._backward.state_count
        if len(xs) not in (1, 1 + forward + backward):
            raise ShapeError(
                f"takes a sequence, and {forward + backward} initial states or none, but {len(xs)} inputs are given"
            )
        self._forward.checked(xs[0], *xs[1 : 1 + forward])
        self._backward.checked(xs[0], *xs[1 + forward :])

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape | list[Shape]:
        forward, backward = self._forward.main_shape(x), self._backward.main_shape(x)
        states = (*self._forward.state_shapes(x), *self._backward.state_shapes(x)) if self._forward.return_state else ()
        if self.merge_mode is None:
            return [forward, backward, *states]
        last = self._last_dimension(x) if self.merge_mode == "concat" else None
        pairs = [*enumerate(zip(forward, backward, strict=True))]
        if any(one != other for dimension, (one, other) in pairs if dimension != last):
            raise ShapeError(f"can't merge outputs of {text(forward)} and {text(backward)}")
        merged = tuple(
            one if dimension != last or one is None or other is None else one + other
            for dimension, (one, other) in pairs
        )
        return [merged, *states] if states else merged

    def output_mask(self, x: Symbol, *_: Symbol) -> Expression | None:
        return self._forward.output_mask(x)

    @property
    def masked_outputs(self) -> int:
        return 2 if self.merge_mode is None else 1

    def _last_dimension(self, x: Symbol) -> int:
        """The dimension that holds Keras's last axis of an output, along which both are concatenated."""
        rank = len(self._forward.main_shape(x))
        return self._forward.output_order(rank, x).index(rank - 1)

    def ties(self, x: Symbol, *others: Symbol) -> Ties | None:
        pair = (self._forward, self._backward)
        is_one = self.backward_layer is None  # whose fields are of both
        is_side_by_side = self.merge_mode == "concat"
        if others or self.merge_mode is None or self._forward.return_state or not (is_one or is_side_by_side):
            return None
        last = 2 if self._forward.return_sequences else 1
        made, start = [], 0
        for name, layer in zip(("forward", "backward"), pair, strict=True):
            output = Place(~0, last, start if is_side_by_side else 0)
            within = ("layer" if name == "forward" or is_one else "backward_layer", "*")
            found = layer.owned_ties(x, output, (), (name,), within) if isinstance(layer, Chain) else None
            if found is None:
                return None
            start += layer.main_shape(x)[-1] or 0
            made.append(found.ties)
        features = replace(made[0][0], places=(*made[0][0].places, *made[1][0].places[1:]))
        if not is_side_by_side:  # units of both are added, or multiplied
            return Ties((features, *made[0][1:-1], *made[1][1:-1], _together(made[0][-1], made[1][-1])))
        rest = [replace(tie, alike=str(i)) if is_one else tie for ties in made for i, tie in enumerate(ties[1:])]
        return Ties((features, *rest))

    def lower(self, x: Symbol, *others: Symbol) -> Expression | list[Expression]:
        if (cell := self._native_cell(x)) is not None:
            return self._both_at_once(cell, x, others)
        count = self._forward.state_count
        forward, forward_states = self._forward.run(x, others[:count], ("forward",))
        backward, backward_states = self._backward.run(x, others[count:], ("backward",))
        forward, forward_states = self._listened("forward", self._forward, x, forward, forward_states)
        backward, backward_states = self._listened("backward", self._backward, x, backward, backward_states)
        if self._forward.return_sequences:
            backward = backward.method("flip", 1)
        states = (*forward_states, *backward_states)
        if self.merge_mode is None:
            return [forward, backward, *states]
        if self.merge_mode == "concat":
            last = self._last_dimension(x)
            is_last = last == len(self._forward.main_shape(x)) - 1
            merged: Expression = call("torch.cat", [forward, backward], dim=-1 if is_last else last)
        else:
            merged = _MERGES[self.merge_mode](forward, backward)
        return [merged, *states] if states else merged

    def _listened(
        self, name: str, layer: Recurrent, x: Symbol, output: Expression, states: tuple[Expression, ...]
    ) -> tuple[Expression, tuple[Expression, ...]]:
        """The raw output and states of a direction, through a module to listen on where they have a penalty."""
        if layer.activity is None:
            return output, states
        ranks = map(len, (layer.main_shape(x), *layer.state_shapes(x)))
        heard, *heard_states = (
            nested.listened(each, f"{name}_activity", layer.activity, layer.output_order(rank, x))
            for each, rank in zip((output, *states), ranks, strict=False)
        )
        return heard, tuple(heard_states)

    def _both_at_once(self, cell: Cell, x: Symbol, initial: Sequence[Symbol]) -> Expression | list[Expression]:
        """Both directions by one of torch's modules."""
        half = len(initial) // 2
        pairs = zip(initial[:half], initial[half:], strict=True)
        given = as_torch_takes([call("torch.stack", [forward, backward]) for forward, backward in pairs])
        whole = Module(cell.constructor(x.size(-1), is_bidirectional=True))(x, *given)
        if self._forward.return_sequences:  # (batch, steps, 2 * units)
            output = Part(whole, cell.structure, (0,))
            if self.merge_mode is None:
                return [output[..., : cell.units], output[..., cell.units :]]
            if self.merge_mode == "concat":
                return output
            return output.method("unflatten", -1, (2, cell.units)).method(_METHODS[self.merge_mode], dim=-2)
        last = Part(whole, cell.structure, cell.states[0])  # (2, batch, units)
        if self.merge_mode is None:
            return [last[0], last[1]]
        if self.merge_mode == "concat":
            return last.method("transpose", 0, 1).method("flatten", 1)
        return last.method(_METHODS[self.merge_mode], dim=0)


def _together(one: Tie, other: Tie) -> Tie:
    """The tie of units of two that are one."""
    return replace(one, places=(*one.places, *other.places), stays=one.stays or other.stays)


def _zeroed(layer: Recurrent) -> Recurrent:
    """The layer as Keras has it in Bidirectional: zero at masked steps, if it gives each step."""
    if layer.zero_output_for_mask == layer.return_sequences:
        return layer
    return layer.model_copy(update={"zero_output_for_mask": layer.return_sequences})


_MERGES: dict[str, Callable[[Expression, Expression], Expression]] = {
    "sum": lambda forward, backward: forward + backward,
    "mul": lambda forward, backward: forward * backward,
    "ave": lambda forward, backward: (forward + backward) / 2,
}
_SHARED = ("return_sequences", "return_state", "stateful")  # what both directions must have in common
_METHODS = {"sum": "sum", "mul": "prod", "ave": "mean"}


def _in_steps(order: Order) -> Order:
    """The order of axes of many steps, each of which has its own in this order."""
    return (0, 1, *(axis + 1 for axis in order[1:]))


@kind
class TimeDistributed(Wrapper):
    """A layer applied to each step of a sequence by itself.

    The layer's batch is the steps of all sequences, so its own activity penalty is divided by their number. A layer
    that reads its batch, such as a batch normalization, gets one step of all sequences after the other instead.
    """

    example = "{layer: {Dense: {units: 64, kernel_regularizer: {l2: 1e-4}}}}"

    layer: Nested = Field(description="The layer, such as Dense: {units: 32}.")
    steps_at_once: bool = Field(
        False,
        description="Whether a layer that reads its batch has all steps as one batch, as in Keras 2; else it has one "
        "step after the other, as in Keras 3.",
    )

    own_fields = frozenset({"steps_at_once"})
    has_inner_activities_in_keras = False
    supports_masking = True

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        return {"layer": OnInputs(self.layer, tuple(map(self._step, xs)))}

    @property
    def inner_activities(self) -> dict[str, Regularizer]:
        own = {} if self.layer.activity is None else {"layer_activity": self.layer.activity}
        return {**own, **self.layer.inner_activities}

    def inner_sizes(self, *xs: Symbol) -> dict[str, tuple[int | None, ...]]:
        step = self._step(xs[0])
        return {**nested.sizes(self.layer, step), **self.layer.inner_sizes(nested.wanted(self.layer, step))}

    @model_validator(mode="after")
    def _has_one_of_a_name(self) -> TimeDistributed:
        if self.layer.activity is not None and "layer_activity" in self.layer.inner_activities:
            what = "wraps a {kind} with an activity_regularizer of its own, and one inside it: they would have one name"
            raise PydanticCustomError("wrapped", what, {"kind": type(self.layer).__name__})
        return self

    def checked(self, *xs: Symbol) -> None:
        super().checked(*xs)
        if xs[0].rank < 3:
            raise ShapeError(f"takes input of (batch, steps, …), but is given {xs[0].described}")
        if isinstance(self.layer, (Recurrent, Bidirectional)) and self.layer.stateful:
            raise ShapeError("wraps a stateful layer, whose state would go from each step's sequence to the next")

    @property
    def _has_batches(self) -> bool:
        """Whether the layer reads the batch of each step, and not one of all steps."""
        return self.layer.reads_batch and not self.steps_at_once

    @property
    def _is_in_turn(self) -> bool:
        """Whether the layer has one step after the other, as it also must where a penalty in it is a mean over a batch.

        Keras adds those of all steps; but the layer's own penalty here is a mean over the steps too.
        """
        return self._has_batches or (bool(self.layer.inner_activities) and not self.steps_at_once)

    def counts_by_mask(self, *xs: Symbol) -> bool:
        return self.layer.counts_by_mask(self._step(xs[0]))

    def _step(self, x: Symbol) -> Symbol:
        """A tensor like all steps of ``x``, one after the other."""
        mask = None
        # each step is a sequence with a mask of its own; or the mask says which examples of its batch count
        if x.mask is not None and (x.mask.rank > 2 or self._has_batches):
            mask = Symbol((None, *x.mask.shape[2:]), x.mask.source, x.mask.dtype)
        shape, spec_order = (None, *x.logical[2:]), axes.without(x.spec_order, {1})
        return Symbol(shape, x.source, x.dtype, (), spec_order, x.is_open, mask=mask)

    def literal_order(self, x: Symbol) -> Order:
        return _in_steps(self.layer.literal_order(self._step(x)))

    def literal_output_order(self, output: Symbol, *xs: Symbol) -> Order:
        return _in_steps(self.layer.literal_output_order(self._step(output), *map(self._step, xs)))

    def input_spec_order(self, rank: int) -> Order | None:
        """Signals, images and volumes in steps; of other layers' inputs none can tell whether they are images."""
        inner = self.layer.input_spec_order(rank - 1)
        is_clear = rank < 4 or self.layer.has_fixed_rank
        return _in_steps(inner) if inner is not None and is_clear else None

    @property
    def takes_steps(self) -> bool:
        return self.layer.is_spatial and not self.layer.takes_steps  # of steps of steps there are no names

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        (x,) = xs
        inner = self.layer.output_spec_order(rank - 1, nested.wanted(self.layer, self._step(x)))
        is_kept = rank == x.rank and self.layer.keeps_axes and inner is not None
        return x.spec_order if is_kept else inner and _in_steps(inner)

    @property
    def reads_axes(self) -> bool:
        return True

    def counted_by_keras(self, *xs: Symbol) -> Layer:
        if xs[0].rank < 3:
            return self  # to be checked first
        return self.model_copy(update={"layer": self.layer.counted_by_keras(self._step(xs[0]))})

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        weights = nested.weights(self.layer, self._step(x))
        return tuple(replace(weight, along=tuple(axis and axis + 1 for axis in weight.along)) for weight in weights)

    def absent(self, x: Symbol, *_: Symbol) -> tuple[str, ...]:
        return self.layer.absent(self._step(x))

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        return (*x.shape[:2], *nested.output_shape(self.layer, self._step(x))[1:])

    def ties(self, x: Symbol, *_: Symbol) -> Ties | None:
        inner = nested.wanted(self.layer, self._step(x))
        found = self.layer.ties(inner)
        return None if found is None else beside_steps(found)

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        if isinstance(self.layer, Dense) and self.layer.is_along_last_axis and not self.inner_activities:
            return nested.lower(self.layer, x, x)  # Dense works along the last axis, whatever axes are before it
        if self._is_in_turn:
            result = call("torch.stack", self._step_by_step(x), dim=1)
            return result if self.layer.activity is None else self._listened(result.method("flatten", 0, 1), x)
        mask = None if x.mask is None else x.mask.method("flatten", 0, 1)
        return self._listened(nested.lower(self.layer, self._step(x), x.method("flatten", 0, 1), mask), x)

    def _step_by_step(self, x: Symbol) -> Expression:
        """A list of the outputs of all steps."""
        own, step, mask = self._step(x), Local("step"), Local("mask")
        result = nested.lower(self.layer, own, step, mask)
        if own.mask is None or x.mask is None or not any(each is mask for each in walk(result)):
            return Each(result, (step,), (x.method("unbind", 1),))
        return Each(result, (step, mask), (x.method("unbind", 1), x.mask.method("unbind", 1)))

    def _listened(self, result: Expression, x: Symbol) -> Expression:
        """The outputs (batch, steps, …) of those of all steps, through a module to listen on if they have a penalty."""
        if self.layer.activity is not None:
            result = nested.listened(result, "layer_activity", self.layer.activity)
        return result.method("unflatten", 0, (x.method("size", 0), x.method("size", 1)))
