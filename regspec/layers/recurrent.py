"""Recurrent layers over (batch, steps, features), and the wrappers Bidirectional and TimeDistributed.

Keras's defaults are torch's own recurrent modules, which are fast; other activations, dropout inside the recurrence
and a GRU that resets before its product are the runtime's, with the same parameters. Keras has one bias where torch
has two: the second stays zero and is not trained, but for a GRU that resets after its product, where Keras has both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from regspec.calls import OMIT, Call, Expression, Module, Part, Value, call, unless
from regspec.layers import nested
from regspec.layers.dense import Dense
from regspec.layers.layer import Layer, Weight, kind, refuse_signals
from regspec.layers.nested import Nested
from regspec.layers.slots import BiasSlot, KernelSlot, RecurrentSlot
from regspec.shapes import Shape, ShapeError, Tensor
from regspec.spec import activations
from regspec.spec.activations import Activation
from regspec.spec.fields import Count, Fraction, Size
from regspec.spec.regularizers import Regularizer

SIGMOID = activations.ACTIVATIONS.parse("sigmoid")
TANH = activations.ACTIVATIONS.parse("tanh")


class Recurrent(KernelSlot, RecurrentSlot, BiasSlot):
    """A layer that goes over a sequence step by step, with a state."""

    units: Size = Field(description="The size of the output and of the state.")
    activation: Activation | None = Field(TANH, description="The activation function of the output.")
    dropout: Fraction = Field(0.0, description="The share of the inputs that is dropped, the same in each step.")
    recurrent_dropout: Fraction = Field(
        0.0, description="The share of the state that is dropped, the same in each step."
    )
    return_sequences: bool = Field(False, description="Whether the output has every step, and not only the last.")
    return_state: bool = Field(False, description="Whether the last state is an output too.")
    go_backwards: bool = Field(
        False, description="Whether the sequence is read from its end; the output stays reversed."
    )
    seed: Count | None = Field(None, description="Accepted for Keras's sake; torch draws from its own generator.")

    @field_validator("activation", "recurrent_activation", check_fields=False)
    @classmethod
    def _is_of_a_step(cls, value: Activation | None) -> Activation | None:
        """An activation of the features of one step."""
        if value is not None and (value.along not in (None, -1) or value.output_shape((8,), 0) != (8,)):
            raise PydanticCustomError("step", "must keep the shape of a step, and work along its last axis")
        return value

    takes = ("batch", "steps", "features")
    gates: ClassVar[int]
    torch_name: ClassVar[str]
    chunks: ClassVar[tuple[int, ...] | None] = None  # Keras's gates in torch's order
    structure: ClassVar[tuple[Any, ...]] = ("sequence", "h")

    @property
    def is_native(self) -> bool:
        """Whether torch's own module computes it."""
        return self.activation == TANH and not self.dropout and not self.recurrent_dropout

    @property
    def states(self) -> list[tuple[int, ...]]:
        """Where the states lie in what the module returns."""
        return [(1,)] if self.structure[1] == "h" else [(1, 0), (1, 1)]

    def options(self) -> dict[str, Any]:
        """What the runtime's module takes besides torch's arguments."""
        return {
            "activation": OMIT if self.activation == TANH else _module(self.activation),
            "dropout": unless(0.0, self.dropout),
            "recurrent_dropout": unless(0.0, self.recurrent_dropout),
        }

    def constructor(self, x: Tensor, *, is_bidirectional: bool = False) -> Call:
        """The constructor of the module."""
        bias = unless(True, self.use_bias)
        if self.is_native:
            both = unless(False, is_bidirectional)
            return call(
                f"nn.{self.torch_name}", x.size(-1), self.units, bias=bias, batch_first=True, bidirectional=both
            )
        return call(type(self).__name__, x.size(-1), self.units, bias=bias, **self.options())

    def absent(self) -> tuple[str, ...]:
        return ("bias_hh_l0",) if self.use_bias else ()

    def checked(self, *xs: Tensor) -> None:
        super().checked(xs[0])
        refuse_signals(xs[0])
        if len(xs) not in (1, 1 + len(self.states)):
            raise ShapeError(
                f"takes a sequence, and {len(self.states)} initial state(s) or none, but {len(xs)} inputs are given"
            )
        for state in xs[1:]:
            if state.rank != 2 or state.shape[1] not in (self.units, None):
                raise ShapeError(f"takes initial states of (batch, {self.units}), but is given {state.described}")

    arity = (1, 3)

    def weights(self, x: Tensor, *_: Tensor) -> tuple[Weight, ...]:
        return self.direction_weights(x, "", "")

    def direction_weights(self, x: Tensor, name: str, ending: str, module: str = "") -> tuple[Weight, ...]:
        """The weights of one direction, whose parameters end so."""
        width = self.gates * self.units

        def weight(slot: str, pattern: str, shape: tuple[int, ...], *parameters: str, **more: Any) -> Weight:
            parameters = tuple(f"{parameter}_l0{ending}" for parameter in parameters)
            return self.weight(
                slot,
                pattern,
                shape,
                name=f"{name}{slot}",
                parameters=parameters,
                chunks=self.chunks,
                module=module,
                **more,
            )

        kernel = weight("kernel", "i o -> o i", (x.size(-1), width), "weight_ih")
        recurrent = weight("recurrent", "i o -> o i", (self.units, width), "weight_hh")
        return (kernel, recurrent, self.bias_weight(weight)) if self.use_bias else (kernel, recurrent)

    def bias_weight(self, weight: Any) -> Weight:
        """The bias."""
        bias: Weight = weight("bias", "o", (self.gates * self.units,), "bias_ih")
        return bias

    def main_shape(self, x: Tensor) -> Shape:
        """The shape of the output, the states apart."""
        return (*x.shape[:2], self.units) if self.return_sequences else (x.shape[0], self.units)

    def state_shapes(self, x: Tensor) -> tuple[Shape, ...]:
        """The shapes of the states that are outputs."""
        return ((x.shape[0], self.units),) * (len(self.states) if self.return_state else 0)

    def output_shape(self, x: Tensor, *_: Tensor) -> Shape | list[Shape]:
        states = self.state_shapes(x)
        return [self.main_shape(x), *states] if states else self.main_shape(x)

    def lower(self, x: Tensor, *others: Tensor) -> Expression | list[Expression]:
        output, states = self.run(Module(self.constructor(x)), x, others)
        return [output, *states] if states else output

    def run(
        self, module: Module, x: Expression, initial: Sequence[Expression]
    ) -> tuple[Expression, tuple[Expression, ...]]:
        """The output of a module that goes in one direction, and the last states if they are wanted."""
        sequence = x.method("flip", 1) if self.go_backwards else x
        whole = module(sequence, *self.given([state.method("unsqueeze", 0) for state in initial]))
        output: Expression = Part(whole, self.structure, (0,))
        if not self.return_sequences:
            output = output[:, -1]
        wanted = self.states if self.return_state else []
        return output, tuple(Part(whole, self.structure, path)[0] for path in wanted)

    def given(self, states: list[Expression]) -> list[Value]:
        """Initial states as the module takes them: none, one, or a tuple."""
        return [tuple(states)] if len(states) > 1 else [*states]


def _module(function: activations.ActivationFunction | None) -> Call:
    """The constructor of an activation's module, of the identity where there is none."""
    constructor = None if function is None else function.lower(-1)
    return call("nn.Identity") if constructor is None else constructor


@kind
class SimpleRNN(Recurrent):
    """h = activation(x @ kernel + h @ recurrent + bias)."""

    gates = 1
    torch_name = "RNN"

    @property
    def is_native(self) -> bool:
        return self.activation in (TANH, activations.Relu()) and not self.dropout and not self.recurrent_dropout

    def constructor(self, x: Tensor, *, is_bidirectional: bool = False) -> Call:
        constructor = super().constructor(x, is_bidirectional=is_bidirectional)
        if not self.is_native or self.activation == TANH:
            return constructor
        return call(constructor.function, *constructor.arguments, nonlinearity="relu", **dict(constructor.keywords))


class Gated(Recurrent):
    """A recurrent layer with gates."""

    recurrent_activation: Activation | None = Field(SIGMOID, description="The activation function of the gates.")

    @property
    def is_native(self) -> bool:
        return super().is_native and self.recurrent_activation == SIGMOID

    def options(self) -> dict[str, Any]:
        is_default = self.recurrent_activation == SIGMOID
        return {**super().options(), "recurrent_activation": OMIT if is_default else _module(self.recurrent_activation)}


@kind
class LSTM(Gated):
    """The long short-term memory of Hochreiter and Schmidhuber (1997)."""

    unit_forget_bias: bool = Field(True, description="Whether the bias of the forget gate starts at one.")

    gates = 4
    torch_name = "LSTM"
    structure = ("sequence", ("h", "c"))

    def bias_weight(self, weight: Any) -> Weight:
        ones = (self.units, 2 * self.units) if self.unit_forget_bias else None
        bias: Weight = weight("bias", "o", (4 * self.units,), "bias_ih", ones=ones)
        return bias


@kind
class GRU(Gated):
    """The gated recurrent unit of Cho et al. (2014)."""

    reset_after: bool = Field(True, description="Whether the reset gate is applied after the product with the state.")

    gates = 3
    torch_name = "GRU"
    chunks = (1, 0, 2)  # Keras: update, reset, new; torch: reset, update, new

    @property
    def is_native(self) -> bool:
        return super().is_native and self.reset_after

    def options(self) -> dict[str, Any]:
        return {**super().options(), "reset_after": unless(True, self.reset_after)}

    def absent(self) -> tuple[str, ...]:
        return () if self.reset_after else super().absent()

    def bias_weight(self, weight: Any) -> Weight:
        bias: Weight = super().bias_weight(weight)
        if self.reset_after:
            bias = weight("bias", "p o", (2, 3 * self.units), "bias_ih", "bias_hh")
        return bias


@kind
class Bidirectional(Layer):
    """A recurrent layer forwards and another backwards over the sequence, merged."""

    layer: Nested = Field(description="The recurrent layer, such as LSTM: {units: 32}.")
    merge_mode: Literal["concat", "sum", "mul", "ave"] | None = Field(
        "concat", description="How both outputs are merged; null gives two outputs."
    )
    backward_layer: Nested | None = Field(
        None, description="The layer that goes backwards; one like the first when absent."
    )

    takes = ("batch", "steps", "features")

    @model_validator(mode="after")
    def _wraps_recurrent_layers(self) -> Bidirectional:
        for layer in (self.layer, self.backward_layer):
            if layer is not None and not isinstance(layer, Recurrent):
                raise PydanticCustomError(
                    "wrapped", "wraps a recurrent layer, not {kind}", {"kind": type(layer).__name__}
                )
        forward, backward = self._forward, self._backward
        if (forward.return_sequences, forward.return_state) != (backward.return_sequences, backward.return_state):
            raise PydanticCustomError("wrapped", "needs the same return_sequences and return_state in both directions")
        if forward.go_backwards == backward.go_backwards:
            raise PydanticCustomError("wrapped", "needs a backward_layer with go_backwards: true")
        return self

    @property
    def _forward(self) -> Recurrent:
        assert isinstance(self.layer, Recurrent)
        return self.layer

    @property
    def _backward(self) -> Recurrent:
        if self.backward_layer is not None:
            assert isinstance(self.backward_layer, Recurrent)
            return self.backward_layer
        return self._forward.model_copy(update={"go_backwards": not self._forward.go_backwards})

    @property
    def _is_native(self) -> bool:
        """Whether one of torch's modules computes both directions."""
        forward = self._forward
        own = self.backward_layer is None and not forward.go_backwards
        return own and forward.is_native and not forward.return_state and forward.activity_regularizer is None

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("Bidirectional", type(self._forward).__name__, type(self._backward).__name__)

    @property
    def inner_activities(self) -> dict[str, Regularizer]:
        pairs = {"forward_activity": self._forward, "backward_activity": self._backward}
        return {suffix: layer.activity for suffix, layer in pairs.items() if layer.activity is not None}

    def weights(self, x: Tensor, *_: Tensor) -> tuple[Weight, ...]:
        if self._is_native:
            forward = self._forward.direction_weights(x, "forward.", "")
            backward = self._forward.direction_weights(x, "backward.", "_reverse")
        else:
            forward = self._forward.direction_weights(x, "forward.", "", "forward")
            backward = self._backward.direction_weights(x, "backward.", "", "backward")
        return (*forward, *backward)

    def absent(self) -> tuple[str, ...]:
        if self._is_native:
            return tuple(f"{path}{ending}" for path in self._forward.absent() for ending in ("", "_reverse"))
        forward = tuple(f"forward.{path}" for path in self._forward.absent())
        return (*forward, *(f"backward.{path}" for path in self._backward.absent()))

    def checked(self, *xs: Tensor) -> None:
        super().checked(xs[0])
        states = len(self._forward.states)
        if len(xs) not in (1, 1 + 2 * states):
            raise ShapeError(
                f"takes a sequence, and {2 * states} initial states or none, but {len(xs)} inputs are given"
            )
        self._forward.checked(xs[0], *xs[1 : 1 + states])
        self._backward.checked(xs[0], *xs[1 + states :])

    def output_shape(self, x: Tensor, *_: Tensor) -> Shape | list[Shape]:
        forward, backward = self._forward.main_shape(x), self._backward.main_shape(x)
        states = (*self._forward.state_shapes(x), *self._backward.state_shapes(x))
        if self.merge_mode is None:
            return [forward, backward, *states]
        if self.merge_mode != "concat" and forward != backward:
            raise ShapeError(f"can't merge outputs of {self._forward.units} and {self._backward.units} features")
        if self.merge_mode == "concat":
            forward = (*forward[:-1], self._forward.units + self._backward.units)
        return [forward, *states] if states else forward

    def lower(self, x: Tensor, *others: Tensor) -> Expression | list[Expression]:
        if self._is_native:
            return self._both_at_once(x, others)
        half = len(others) // 2
        forward, forward_states = self._forward.run(self._module(x, "forward"), x, others[:half])
        backward, backward_states = self._backward.run(self._module(x, "backward"), x, others[half:])
        forward, forward_states = self._listened("forward", self._forward, forward, forward_states)
        backward, backward_states = self._listened("backward", self._backward, backward, backward_states)
        if self._forward.return_sequences:
            backward = backward.method("flip", 1)
        states = (*forward_states, *backward_states)
        if self.merge_mode is None:
            return [forward, backward, *states]
        merged: Expression = _MERGES[self.merge_mode](forward, backward)
        return [merged, *states] if states else merged

    def _module(self, x: Tensor, suffix: str) -> Module:
        layer = self._forward if suffix == "forward" else self._backward
        return Module(layer.constructor(x), suffix)

    def _listened(
        self, name: str, layer: Recurrent, output: Expression, states: tuple[Expression, ...]
    ) -> tuple[Expression, tuple[Expression, ...]]:
        """The raw output and states of a direction, through a module to listen on where they have a penalty."""
        if layer.activity is None:
            return output, states
        listener = Module(call("nn.Identity"), f"{name}_activity")
        return listener(output), tuple(listener(state) for state in states)

    def _both_at_once(self, x: Tensor, initial: Sequence[Tensor]) -> Expression | list[Expression]:
        """Both directions by one of torch's modules."""
        layer = self._forward
        half = len(initial) // 2
        pairs = zip(initial[:half], initial[half:], strict=True)
        given = layer.given([call("torch.stack", [forward, backward]) for forward, backward in pairs])
        whole = Module(layer.constructor(x, is_bidirectional=True))(x, *given)
        if layer.return_sequences:  # (batch, steps, 2 * units)
            output = Part(whole, layer.structure, (0,))
            if self.merge_mode is None:
                return [output[..., : layer.units], output[..., layer.units :]]
            if self.merge_mode == "concat":
                return output
            return output.method("unflatten", -1, (2, layer.units)).method(_METHODS[self.merge_mode], dim=-2)
        last = Part(whole, layer.structure, layer.states[0])  # (2, batch, units)
        if self.merge_mode is None:
            return [last[0], last[1]]
        if self.merge_mode == "concat":
            return last.method("transpose", 0, 1).method("flatten", 1)
        return last.method(_METHODS[self.merge_mode], dim=0)


_MERGES: dict[str, Callable[[Expression, Expression], Expression]] = {
    "concat": lambda forward, backward: call("torch.cat", [forward, backward], dim=-1),
    "sum": lambda forward, backward: forward + backward,
    "mul": lambda forward, backward: forward * backward,
    "ave": lambda forward, backward: (forward + backward) / 2,
}
_METHODS = {"sum": "sum", "mul": "prod", "ave": "mean"}


@kind
class TimeDistributed(Layer):
    """A layer applied to each step of a sequence by itself.

    The layer has the steps of all sequences as its batch: by their number its own activity penalty is divided.
    """

    layer: Nested = Field(description="The layer, such as Dense: {units: 32}.")

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("TimeDistributed", type(self.layer).__name__)

    @property
    def inner_activities(self) -> dict[str, Regularizer]:
        return {} if self.layer.activity is None else {"layer_activity": self.layer.activity}

    def checked(self, *xs: Tensor) -> None:
        super().checked(*xs)
        if xs[0].rank < 3:
            raise ShapeError(f"takes input of (batch, steps, …), but is given {xs[0].described}")

    def _step(self, x: Tensor) -> Tensor:
        """A tensor like all steps of ``x``, one after the other."""
        return Tensor((None, *x.shape[2:]), x.source, x.dtype, (), x.data_format)

    def weights(self, x: Tensor, *_: Tensor) -> tuple[Weight, ...]:
        return nested.weights(self.layer, self._step(x))

    def absent(self) -> tuple[str, ...]:
        return self.layer.absent()

    def output_shape(self, x: Tensor, *_: Tensor) -> Shape:
        return (*x.shape[:2], *nested.output_shape(self.layer, self._step(x))[1:])

    @property
    def takes_integers(self) -> bool:
        return self.layer.takes_integers

    def output_dtype(self, x: Tensor, *_: Tensor) -> str | list[str]:
        return self.layer.output_dtype(x)

    def lower(self, x: Tensor, *_: Tensor) -> Expression:
        if isinstance(self.layer, Dense) and self.layer.is_along_last_axis and not self.inner_activities:
            return nested.lower(self.layer, x, x)  # which works along the last axis, whatever stands before
        steps = (-1, x.shape[1]) if x.shape[1] is not None else (x.method("size", 0), x.method("size", 1))
        result = nested.lower(self.layer, self._step(x), x.method("flatten", 0, 1))
        if self.inner_activities:
            result = Module(call("nn.Identity"), "layer_activity")(result)
        return result.method("unflatten", 0, steps)
