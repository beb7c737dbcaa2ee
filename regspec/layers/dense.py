"""Dense and EinsumDense."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import Field, WithJsonSchema, field_validator, model_validator
from pydantic_core import PydanticCustomError

from regspec.code.axes import Order
from regspec.code.expressions import Expression, Module, call, unless
from regspec.code.shapes import Shape, ShapeError, Symbol
from regspec.language.constraints import Constraint
from regspec.language.fields import OneOrMore, Size
from regspec.language.initializers import ONES, ZEROS, Initializer
from regspec.language.regularizers import RegularizerField
from regspec.layers.families import Activated
from regspec.layers.following import order_of_product
from regspec.layers.kinds import kind
from regspec.layers.layer import Weight
from regspec.layers.slots import BiasSlot, KernelSlot
from regspec.layers.ties import FieldPath, Fold, Place, Tie, Ties, others

ROUNDS_INPUTS: Any = Field(
    False,
    description="Whether inputs are rounded to 255 steps between plus and minus the largest magnitude of the numbers "
    "that are summed, as Keras's int8 layers do; gradients pass as if they were not.",
)
ROUNDS_KERNEL: Any = Field(
    False,
    description="Whether, with rounds_inputs, the kernel is whole numbers over a kernel_scale too, and these are "
    "summed as they are, so that the output is to the last digit what Keras's int8 layers give.",
)


def _check_rounding(rounds_inputs: bool, rounds_kernel: bool) -> None:
    """Raises where the kernel alone is rounded."""
    if rounds_kernel and not rounds_inputs:
        raise PydanticCustomError("rounding", "has rounds_kernel, which needs rounds_inputs: true")


@kind
class Dense(KernelSlot, BiasSlot, Activated):
    """activation(x @ kernel + bias), over the last axis."""

    example = "{units: 64, activation: relu, kernel_regularizer: {l2: 1e-4}}"
    supports_masking = True
    own_fields = frozenset({"rounds_inputs", "rounds_kernel"})

    units: Size = Field(description="The size of the output's last axis.")
    rounds_inputs: bool = ROUNDS_INPUTS
    rounds_kernel: bool = ROUNDS_KERNEL

    @model_validator(mode="after")
    def _rounds_both(self) -> Dense:
        _check_rounding(self.rounds_inputs, self.rounds_kernel)
        return self

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        kernel = self.weight("kernel", "i o -> o i", (x.size(-1), self.units), along=(x.rank - 1, None))
        bias = self.weight("bias", "o", (self.units,), parameters=("bias",))
        scale = self.weight(
            "kernel_scale", "o", (self.units,), parameters=("scale",), constructed=ONES, trainable=False
        )
        return (kernel, *(bias,) * self.use_bias, *(scale,) * self.rounds_kernel)

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        return self.activated_shape((*x.shape[:-1], self.units), x)

    def ties(self, x: Symbol, *_: Symbol) -> Ties | None:
        if self.rounds_inputs:
            return None  # to steps of the largest of them
        last = x.rank - 1
        stays = self.mixes(last, x.rank)
        output = () if stays else (Place(~0, last),)
        inputs = Tie(x.size(-1), (Place(0, last), Place("kernel", 0)))
        units = Tie(self.units, (Place("kernel", 1), Place("bias", 0), *output), ("units",), stays=stays)
        rest = (tie for tie in others(x, last) if not self.mixes(tie.places[0].axis, x.rank))
        return Ties((inputs, units, *rest), (Fold("kernel", "bias", is_last=self.activation is None),))

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        if self.rounds_kernel:
            rounding = call("RoundedLinear", x.size(-1), self.units, bias=unless(True, self.use_bias))
            return self.activate(Module(rounding)(x), x)
        linear = Module(call("nn.Linear", x.size(-1), self.units, bias=unless(True, self.use_bias)))
        rounded = Module(call("Rounding"), "rounding")(x) if self.rounds_inputs else x
        return self.activate(linear(rounded), x)


_ITEM = {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}
OutputSizes = Annotated[
    tuple[Size | None, ...],
    OneOrMore,
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "array", "items": _ITEM}]}),
]


@kind
class EinsumDense(KernelSlot, Activated):
    """activation(einsum(equation, x, kernel) + bias)."""

    own_fields = frozenset({"rounds_inputs", "rounds_kernel"})
    is_counted_by_spec = True
    keeps_axes = False

    example = "{equation: 'abc,cd->abd', output_shape: [null, 64], bias_axes: d, kernel_regularizer: {l2: 1e-4}}"

    equation: str = Field(
        description="The product of input and kernel: 'ab,bc->ac', '...x,xy->...y' or 'ab...,bc->ac...'."
    )
    output_size: OutputSizes = Field(
        alias="output_shape",
        description="The output's sizes, without the batch and what '...' stands for; null for the input's.",
    )
    bias_axes: str | None = Field(
        None, description="The axes of the output that have a bias, by their letters; none when absent."
    )
    bias_initializer: Initializer = ZEROS
    bias_regularizer: RegularizerField | None = None
    bias_constraint: Constraint | None = None
    rounds_inputs: bool = ROUNDS_INPUTS
    rounds_kernel: bool = ROUNDS_KERNEL

    @model_validator(mode="after")
    def _rounds_both(self) -> EinsumDense:
        _check_rounding(self.rounds_inputs, self.rounds_kernel)
        return self

    @field_validator("equation")
    @classmethod
    def _is_product(cls, value: str) -> str:
        if (
            len(value) > 100
            or not (match := _EQUATION.fullmatch(value))
            or len({bool(each) for each in match.group(1, 5)}) > 1
            or any(len(set(letters)) < len(letters) for letters in match.group(2, 4, 6))
        ):
            raise PydanticCustomError("equation", "must be like 'ab,bc->ac', '...a,ab->...b' or 'ab...,bc->ac...'")
        return value

    def _shapes(self, x: Symbol) -> EinsumShapes:
        return einsum_shapes(self.equation, x, self.output_size, self.bias_axes)

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        shapes = self._shapes(x)
        given, made = (set(names) for names in einsum_axes(self.equation, x))
        # outputs are new in the output, and inputs are summed over; where none is, all that the output or input has
        outputs = {*shapes.kernel_axes} - given or {*shapes.kernel_axes} & made
        inputs = {*shapes.kernel_axes} - made or {*shapes.kernel_axes} & given - outputs
        ends = ["o" if each in outputs else "i" if each in inputs else "s" for each in shapes.kernel_axes]
        axes = " ".join(f"{end}{place}" for place, end in enumerate(ends))
        kernel = self.weight("kernel", axes, shapes.kernel, fans=shapes.fans)
        names = " ".join("abcdefgh"[: len(shapes.bias or ())])
        bias = (self.weight("bias", names, shapes.bias, parameters=("bias",)),) if shapes.bias is not None else ()
        scale = self.weight(
            "kernel_scale", axes, shapes.scale, parameters=("scale",), constructed=ONES, trainable=False
        )
        return (kernel, *bias, *(scale,) * self.rounds_kernel)

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        shape = self._shapes(x).output
        return self.activated_shape(shape, self.activated(x))

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        (x,) = xs
        inputs, outputs = einsum_axes(self.equation, x)
        return order_of_product(xs, [inputs], outputs)

    def activated(self, x: Symbol) -> Symbol:
        x = x.permuted(x.spec_order)
        shape = self._shapes(x).output
        order = self.output_order(len(shape), x)
        return replace(x, shape=shape, order=order, spec_order=order)

    def ties_to(self, outputs: Sequence[Symbol], x: Symbol, *_: Symbol) -> Ties | None:
        if self.rounds_inputs:
            return None
        shapes, (given, made) = self._shapes(x), einsum_axes(self.equation, x)
        letters = [name for name in made if not name.startswith(".")]
        first = min(map(letters.index, self.bias_axes or ()), default=0)
        order, rank = outputs[0].spec_order, outputs[0].rank
        stays = {name: self.mixes(order[place], rank) for place, name in enumerate(made)}
        ties = []
        for name in dict.fromkeys([*given[1:], *made[1:]]):
            is_twice = name in shapes.kernel_axes and name in given and name in made
            size = x.shape[given.index(name)] if name in given else shapes.output[made.index(name)]
            if is_twice or size is None:
                continue
            places = [Place(0, x.order[given.index(name)])] if name in given else []
            places += [Place("kernel", shapes.kernel_axes.index(name))] if name in shapes.kernel_axes else []
            places += [Place("bias", letters.index(name) - first)] if name in (self.bias_axes or "") else []
            places += [Place(~0, order[made.index(name)])] if name in made and not stays[name] else []
            counted = letters.index(name) - (made[0] == letters[0]) if name in letters else 0
            field: FieldPath = () if name in given else ("output_shape", counted)
            ties.append(Tie(size, tuple(places), field, stays=stays.get(name, "")))
        return Ties(tuple(ties))

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        shapes = self._shapes(x)
        if self.rounds_kernel:
            rounding = call(
                "RoundedEinsumDense",
                self.equation,
                shapes.kernel,
                shapes.scale,
                dim=shapes.reduced,
                bias_shape=unless(None, shapes.bias),
            )
            return self.activate(Module(rounding)(x), self.activated(x))
        einsum = Module(call("EinsumDense", self.equation, shapes.kernel, bias_shape=unless(None, shapes.bias)))
        rounded = Module(call("Rounding", dim=shapes.reduced), "rounding")(x) if self.rounds_inputs else x
        return self.activate(einsum(rounded), self.activated(x))


_EQUATION = re.compile(r"(\.\.\.)?([a-zA-Z]+)(\.\.\.)?,([a-zA-Z]+)->(\.\.\.)?([a-zA-Z]+)(\.\.\.)?")


def einsum_axes(equation: str, x: Symbol) -> tuple[list[str], list[str]]:
    """The names of the axes of an input and of the output; those that '...' stands for are numbered."""
    match = _EQUATION.fullmatch(equation)
    assert match is not None  # checked when the field was validated
    left, inputs, outputs = match.group(1, 2, 6)
    elided = [f"...{index}" for index in range(x.rank - len(inputs))]
    if left:
        return [*elided, *inputs], [*elided, *outputs]
    return [*inputs, *elided], [*outputs, *elided]


@dataclass(frozen=True, slots=True)
class EinsumShapes:
    """The shapes that follow from an equation and an input's shape."""

    kernel: tuple[int, ...]
    kernel_axes: str  # its letters
    bias: tuple[int, ...] | None
    output: Shape
    fans: tuple[int, int]
    reduced: tuple[int, ...]  # dimensions of the input that are summed over
    scale: tuple[int, ...]  # of the kernel, with one where it is summed over


def einsum_shapes(equation: str, x: Symbol, output_size: tuple[int | None, ...], bias_axes: str | None) -> EinsumShapes:
    """The shapes that Keras reads from an equation. Raises `ShapeError`."""
    match = _EQUATION.fullmatch(equation)
    assert match is not None  # checked when the field was validated
    left, inputs, right, kernel_axes, _, outputs, _ = match.groups()
    elided = x.rank - len(inputs)
    if elided < 0 or (elided and not (left or right)):
        raise ShapeError(f"has the equation '{equation}' for {len(inputs)} axes, but is given {x.described}")
    # the output's sizes are given without the batch, and without the axes that '...' stands for
    hidden = x.shape[1:elided] if left else x.shape[x.rank - elided :]
    given = list(output_size)
    output: Shape = (x.shape[0], *hidden, *given) if left else (x.shape[0], *given, *hidden)
    start = elided if left else 0
    sizes: dict[str, int | None] = dict(zip(inputs, x.shape[start:], strict=False))
    if len(output) != len(outputs) + elided:
        raise ShapeError(
            f"has the equation '{equation}', whose output has {len(outputs) - 1} sizes, but output_shape {len(given)}"
        )
    for letter, size in zip(outputs, output[start:], strict=False):
        known = sizes.get(letter)
        if letter not in inputs and letter not in kernel_axes:
            raise ShapeError(f"has the equation '{equation}', in which '{letter}' comes from nowhere")
        if known is not None and size is not None and known != size:
            raise ShapeError(f"has {size} for '{letter}' in output_shape, but is given {x.described}")
        sizes[letter] = known if size is None else size
    if unknown := [letter for letter in kernel_axes if sizes.get(letter) is None]:
        raise ShapeError(f"has the equation '{equation}', in which the size of '{unknown[0]}' is not known")
    kernel = tuple(sizes[letter] or 0 for letter in kernel_axes)
    fan_in = math.prod(size for letter, size in zip(kernel_axes, kernel, strict=True) if letter not in outputs)
    fan_out = math.prod(size for letter, size in zip(kernel_axes, kernel, strict=True) if letter in outputs)
    output = tuple(
        size
        if size is not None or index == 0 or not start <= index < start + len(outputs)
        else sizes[outputs[index - start]]
        for index, size in enumerate(output)
    )
    bias = None
    if bias_axes is not None:
        if not bias_axes or not set(bias_axes) <= set(outputs):
            raise ShapeError(f"has bias_axes '{bias_axes}', which are not axes of the output '{outputs}'")
        first = min(outputs.index(letter) for letter in bias_axes)
        wanted = [sizes[letter] if letter in bias_axes else 1 for letter in outputs[first:]]
        if None in wanted:
            raise ShapeError(f"has bias_axes '{bias_axes}', of which one has a size that is not known")
        bias = (*(size or 0 for size in wanted), *((1,) * elided if not left else ()))
    reduced = tuple(start + index for index, letter in enumerate(inputs) if letter not in outputs)
    return EinsumShapes(
        kernel=kernel,
        kernel_axes=kernel_axes,
        bias=bias,
        output=output,
        fans=(fan_in, fan_out),
        reduced=reduced,
        scale=tuple(size if letter in outputs else 1 for letter, size in zip(kernel_axes, kernel, strict=True)),
    )
