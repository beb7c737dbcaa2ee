"""Merges of several tensors. Tensors of a lower rank get axes of size one after the batch, as in Keras."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, ClassVar

from pydantic import Field

from regspec.code import axes, shapes
from regspec.code.axes import Order
from regspec.code.expressions import Binary, Expression, Value, call, unless
from regspec.code.shapes import Shape, ShapeError, Symbol
from regspec.language.fields import Axes, Axis
from regspec.layers.families import Elementwise, Moved, named_together, spread
from regspec.layers.following import order_of_product
from regspec.layers.kinds import kind
from regspec.layers.layer import Layer
from regspec.layers.operations.arithmetic import Pair, as_number
from regspec.layers.operations.operands import dtypes, promoted, value
from regspec.layers.ties import Place, Tie, Ties, alike


class Merge(Moved, Elementwise):
    """A function of the numbers at the same place in several tensors."""

    example = "{inputs: [a, b]}"
    arity: ClassVar[tuple[int, int | None]] = (2, 64)  # one operator for each tensor; more would be unreadable
    supports_masking = True
    merges_masks = True
    verb: ClassVar[str]

    def output_shape(self, x: Symbol, *others: Symbol) -> Shape:
        rank = max(each.rank for each in (x, *others))
        padded = [(each.shape[0], *(1,) * (rank - each.rank), *each.shape[1:]) for each in (x, *others)]
        merged: list[int | None] = []
        for sizes in zip(*padded, strict=True):
            wanted = {size for size in sizes if size != 1}
            known = wanted - {None}
            if len(known) > 1:
                raise ShapeError(f"can't {self.verb} {named_together(x, *others)}")
            merged.append(next(iter(known)) if known else None if wanted else 1)
        return tuple(merged)

    def output_mask(self, x: Symbol, *others: Symbol) -> Expression | None:
        """A step counts where it does in one of the inputs; all do where an input has no mask."""
        masks = [each.mask for each in (x, *others) if each.mask is not None]
        if len({mask.rank for mask in masks}) > 1:
            each = " and ".join(f"'{mask.source}' {shapes.text(mask.shape)}" for mask in masks)
            raise ShapeError(
                f"can't {self.verb} tensors with masks of several ranks, {each}", "name one 'mask' for all"
            )
        return _either(masks) if len(masks) == len(others) + 1 else None

    def lower(self, x: Symbol, *others: Symbol) -> Expression:
        rank = max(each.rank for each in (x, *others))
        return self.merge([_expanded(each, rank) for each in (x, *others)])

    def merge(self, values: Sequence[Expression]) -> Expression:
        """The merged expression of tensors of equal rank."""
        raise NotImplementedError


def _expanded(x: Symbol, rank: int) -> Expression:
    value: Expression = x
    for _ in range(rank - x.rank):
        value = value.method("unsqueeze", 1)
    return value


def _chained(operator: str, values: Sequence[Value]) -> Expression:
    first, second, *more = values
    return reduce(lambda left, right: Binary(operator, left, right), more, Binary(operator, first, second))


class Operator(Merge, Pair):
    """A merge of inputs, or of one input and numbers."""

    absorbs: ClassVar[bool] = False  # whether the result is zero where one of them is

    @property
    def operated_by(self) -> str | None:
        """Keras's layer takes no numbers, but its operation."""
        return "numpy" if self.numbers else None

    def checked(self, *xs: Symbol) -> None:
        if self.numbers:
            Pair.checked(self, *xs)
        else:
            Layer.checked(self, *xs)

    def order(self, x: Symbol) -> Order | None:
        return Pair.order(self, x)

    def output_shape(self, *xs: Symbol) -> Shape:
        return Pair.output_shape(self, *xs) if self.numbers else Merge.output_shape(self, *xs)

    def output_dtype(self, *xs: Symbol) -> str:
        return promoted(*dtypes(self.named(xs).values() if self.numbers else xs))

    def ties(self, *xs: Symbol) -> Ties | None:
        are_single = all(isinstance(each, (int, float)) for each in self.numbers.values())
        return Ties(alike(xs, absorbs=self.absorbs and all(x.mask is None for x in xs))) if are_single else None

    def lower(self, *xs: Symbol) -> Expression:
        dtype = self.output_dtype(*xs)
        if self.numbers:
            return self.merge(
                [as_number(each, value(name, each, like=xs[0]), dtype) for name, each in self.named(xs).items()]
            )
        rank = max(each.rank for each in xs)
        return self.merge([as_number(each, _expanded(each, rank), dtype) for each in xs])

    def merge(self, values: Sequence[Value]) -> Expression:
        """The merged expression of operands of equal rank."""
        raise NotImplementedError


@kind
class Add(Operator):
    """The sum of the inputs."""

    verb = "add"

    def merge(self, values: Sequence[Value]) -> Expression:
        return _chained("+", values)


@kind
class Subtract(Operator):
    """The first input less the second."""

    verb = "subtract"
    arity = (2, 2)

    def output_dtype(self, *xs: Symbol) -> str:
        return promoted(super().output_dtype(*xs), 0)

    def merge(self, values: Sequence[Value]) -> Expression:
        return _chained("-", values)


@kind
class Multiply(Operator):
    """The product of the inputs, number by number."""

    verb = "multiply"
    absorbs = True

    def merge(self, values: Sequence[Value]) -> Expression:
        return _chained("*", values)

    def lower(self, *xs: Symbol) -> Expression:
        masks = [spread(x.mask, x) for x in xs if x.mask is not None]
        if not masks or self.numbers:
            return super().lower(*xs)
        # where an input is masked, it does not count
        rank = max(x.rank for x in xs)
        values = [_expanded(x, rank) for x in xs]
        pairs = zip(values, xs, strict=True)
        product = self.merge(
            [v if x.mask is None else call("torch.where", spread(x.mask, x), v, 1.0) for v, x in pairs]
        )
        return call("torch.where", _either(masks), product, 0.0) if len(masks) == len(xs) else product


class Extreme(Operator):
    """The largest or the smallest of the inputs, number by number."""

    function: ClassVar[str]
    bound: ClassVar[str]  # the argument of Tensor.clamp

    def merge(self, values: Sequence[Value]) -> Expression:
        tensors = [each for each in values if isinstance(each, Expression)]
        if len(tensors) < len(values):
            (number,) = (each for each in values if not isinstance(each, Expression))
            return tensors[0].method("clamp", **{self.bound: number})
        return reduce(lambda left, right: call(self.function, left, right), tensors)

    def lower(self, *xs: Symbol) -> Expression:
        if all(x.mask is None for x in xs) or self.numbers:
            return super().lower(*xs)
        return self._masked(*xs)

    def _masked(self, x: Symbol, *others: Symbol) -> Expression:
        """The extreme of the inputs that are unmasked at a step; where none is, the first input."""
        rank = max(each.rank for each in (x, *others))
        result, so_far = _expanded(x, rank), None if x.mask is None else spread(x.mask, x)
        for other in others:
            value = _expanded(other, rank)
            own = None if other.mask is None else spread(other.mask, other)
            if own is not None:
                value = call("torch.where", own, value, result)
            if so_far is not None:
                result = call("torch.where", so_far, result, value)
            so_far = None if own is None or so_far is None else _either([so_far, own])
            result = call(self.function, result, value)
        return result


@kind
class Maximum(Extreme):
    """The largest of the inputs, number by number."""

    verb = "take the maximum of"
    function = "torch.maximum"
    bound = "min"


@kind
class Minimum(Extreme):
    """The smallest of the inputs, number by number."""

    verb = "take the minimum of"
    function = "torch.minimum"
    bound = "max"


@kind
class Average(Merge):
    """The mean of the inputs, number by number."""

    @property
    def takes_integers(self) -> bool:
        return False

    verb = "average"

    def merge(self, values: Sequence[Expression]) -> Expression:
        return _chained("+", values) / len(values)


@kind
class Concatenate(Moved, Elementwise):
    """The inputs one after the other along an axis."""

    example = "{inputs: [a, b]}"

    axis: Axis | None = Field(
        None,
        description="The axis along which they follow each other: that of the features or channels when absent.",
    )
    axis_fields = ("axis",)
    channel_axis = "axis"

    arity = (1, None)
    supports_masking = True
    merges_masks = True

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        """The axis that Keras must be told, where it is not the last."""
        x = xs[0]
        axis = x.spec_axis(x.order[self.dimension(x)])
        is_said = self.axis is not None and x.is_plain
        return {"axis": self.axis if is_said else None if axis == x.rank - 1 else axis}

    def output_mask(self, x: Symbol, *others: Symbol) -> Expression | None:
        """A step counts where it does in one of the inputs; those without a mask count with all their steps."""
        masks = [_of_steps(each, each.mask) for each in (x, *others) if each.mask is not None]
        axis = x.order[self.dimension(x)]
        if masks and axis != x.rank - 1:  # masks are concatenated like their tensors
            masks_of_all: list[Value] = [
                _all_steps(each) if each.mask is None else _of_steps(each, each.mask) for each in (x, *others)
            ]
            return call("torch.cat", masks_of_all, dim=axis)
        return _either(masks) if len(masks) == len(others) + 1 else None

    def dimension(self, x: Symbol) -> int:
        if self.axis is not None:
            return x.dimension(self.axis)
        return x.dimension(-1)

    def output_shape(self, x: Symbol, *others: Symbol) -> Shape:
        dimension = self.dimension(x)
        if dimension == 0:
            raise ShapeError("concatenates along axis 0, which is the batch")
        listed = " and ".join(shapes.text(each.spec_shape) for each in (x, *others))
        merged: list[int | None] = []
        if any(each.rank != x.rank for each in others):
            raise ShapeError(f"can't concatenate {listed}")
        for index, sizes in enumerate(zip(*(each.shape for each in (x, *others)), strict=True)):
            known = {size for size in sizes if size is not None}
            if index == dimension:
                merged.append(None if None in sizes else sum(size or 0 for size in sizes))
                continue
            if len(known) > 1:
                axis = x.spec_axis(x.order[dimension])
                raise ShapeError(f"can't concatenate {listed} along axis {axis}")
            merged.append(next(iter(known), None))
        return tuple(merged)

    def ties(self, *xs: Symbol) -> Ties | None:
        x, axis = xs[0], xs[0].order[self.dimension(xs[0])]
        if any(each.logical[axis] is None for each in xs):
            return None
        rest = [tie for tie in alike(xs) if tie.places[0].axis != axis]
        sizes = [each.size(each.dimension(axis)) for each in xs]
        starts = [sum(sizes[:index]) for index in range(len(xs))]
        ties = [Tie(n, (Place(i, axis), Place(~0, axis, starts[i])), is_alone=True) for i, n in enumerate(sizes)]
        return Ties((*ties, *rest)) if x.rank > 1 else None

    def lower(self, x: Symbol, *others: Symbol) -> Expression:
        dimension = self.dimension(x)
        dim = -1 if dimension == x.rank - 1 and x.rank > 2 else dimension
        return call("torch.cat", [x, *others], dim=unless(0, dim))


def _either(masks: Sequence[Expression]) -> Expression:
    """The mask of the steps that count in at least one of several masks."""
    return reduce(lambda left, right: Binary("|", left, right), dict.fromkeys(masks))


def _of_steps(x: Symbol, mask: Symbol) -> Expression:
    """Which steps of a tensor count: of a mask with as many axes as the tensor, those where any place does."""
    return mask.method("any", dim=-1) if mask.rank == x.rank else mask


def _all_steps(x: Symbol) -> Expression:
    """The mask of a tensor whose steps all count."""
    return call("torch.ones_like", x.method("select", x.dimension(-1), 0)).method("bool")


@kind
class Dot(Layer):
    """The dot product of two tensors along an axis of each."""

    example = "{axes: 1, normalize: true, inputs: [a, b]}"

    axes: Axes = Field(description="The axis along which both are multiplied and summed, or one for each.")
    normalize: bool = Field(False, description="Whether both are divided by their norms first: the cosine.")

    arity = (2, 2)

    is_counted_by_spec = True
    keeps_axes = False

    def _axes(self, x: Symbol, y: Symbol) -> tuple[int, int]:
        pair = self.axes * 2 if len(self.axes) == 1 else self.axes
        if len(pair) != 2:
            raise ShapeError(f"takes one axis, or one for each input, but {len(pair)} are given")
        first, second = x.dimension(x.keras_axis(pair[0])), y.dimension(y.keras_axis(pair[1]))
        if 0 in (first, second):
            raise ShapeError("multiplies along axis 0, which is the batch")
        return first, second

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        return {"axes": self.axes[0] if len(self.axes) == 1 else self.axes}

    def output_shape(self, x: Symbol, *others: Symbol) -> Shape:
        (y,) = others
        first, second = self._axes(x, y)
        if None not in (x.shape[first], y.shape[second]) and x.shape[first] != y.shape[second]:
            raise ShapeError(
                f"can't multiply {shapes.text(x.spec_shape)} and {shapes.text(y.spec_shape)} along axes "
                f"{first} and {second}"
            )
        left = [size for axis, size in enumerate(x.shape) if axis != first]
        right = [size for axis, size in enumerate(y.shape) if axis not in (0, second)]
        return (*left, *right) if len(left) + len(right) > 1 else (*left, 1)

    def lower(self, x: Symbol, *others: Symbol) -> Expression:
        (y,) = others
        first, second = self._axes(x, y)
        left: Expression = call("F.normalize", x, dim=first) if self.normalize else x
        right: Expression = call("F.normalize", y, dim=second) if self.normalize else y
        if x.rank == y.rank == 2:
            return (left * right).method("sum", dim=1, keepdim=True)
        ours, theirs, kept = map("".join, self._terms(x, y))
        return call("torch.einsum", f"{ours},{theirs}->{kept}", left, right)

    def _terms(self, x: Symbol, y: Symbol) -> tuple[list[str], list[str], list[str]]:
        """A letter for each axis of both inputs and of the output."""
        first, second = self._axes(x, y)
        ours, theirs = [*_LETTERS[: x.rank]], [*_LETTERS[x.rank : x.rank + y.rank]]
        theirs[0], theirs[second] = ours[0], ours[first]
        kept = [name for axis, name in enumerate(ours) if axis != first]
        kept += [name for axis, name in enumerate(theirs) if axis not in (0, second)]
        return ours, theirs, kept

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        *terms, output = self._terms(*xs)
        return axes.identity(rank) if rank < 3 else order_of_product(xs, terms, output)


_LETTERS = "abcdefghijklmnop"
