"""Shape arithmetic, and symbols: the tensors that flow between layers, before there are any numbers.

A shape holds the batch at index 0, as None; another None is a size that is known only at run time. Sizes follow Keras:
``padding: same`` gives ceil(n / stride), and puts the odd cell of padding at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from regspec.code import axes
from regspec.code.axes import Order
from regspec.code.expressions import Expression

Shape = tuple[int | None, ...]
States = tuple["States | None", ...]  # of a recurrent layer: None for each state, a tuple for a list of them
DataFormat = Literal["channels_first", "channels_last"]
Dtype = Literal["float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"]
Precision = Literal["float16", "bfloat16", "float32", "float64"]
S = TypeVar("S", bound="Symbol")


class ShapeError(ValueError):
    """A layer can't take a shape. Becomes a problem at the layer's line."""

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


class RankError(ShapeError):
    """A layer that takes so many axes, which are named, is given another number of them."""

    def __init__(self, names: tuple[str, ...], source: str, shape: Shape) -> None:
        super().__init__(f"takes {len(names)}-D input ({', '.join(names)}), but '{source}' gives {text(shape)}")
        self.names, self.source, self.shape = names, source, shape

    def with_channels_last(self) -> RankError:
        """The same fault, for who counts axes as Keras does."""
        names = sorted(self.names, key="channels".__eq__)
        return RankError(tuple(names), self.source, self.shape)


class ReadingError(ShapeError):
    """A tensor, of which nothing tells whether its channels are first or last, goes where that must be known."""

    def __init__(self, what: str, rank: int, *, in_steps: bool = False, is_format_said: bool = False) -> None:
        self.said, self.rank, self.in_steps = what, rank, in_steps
        space = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
        names = space.get(rank - 2 - in_steps)
        if names is None:
            super().__init__(f"{what}, and must know which axis has the channels", "set data_format in the spec")
            return
        steps = ("steps",) * in_steps
        others = ("steps", "features") if rank == 3 else (*steps, *names, "channels")
        first, last = ", ".join((*steps, "channels", *names)), ", ".join(others)
        hint = f"say axes: [{first}] or [{last}] at a Reshape or Permute before it"
        more = "" if is_format_said else ", or data_format in the spec"
        super().__init__(f"{what}, which may be ({first}) or ({last})", hint + more)

    def with_format_said(self) -> ReadingError:
        """The same fault, for a spec that says its data_format already."""
        return ReadingError(self.said, self.rank, in_steps=self.in_steps, is_format_said=True)


@dataclass(frozen=True, slots=True, eq=False)
class Symbol(Expression):
    """A tensor between layers before it has numbers: its shape in torch's order, its type, order of axes and mask."""

    is_atom = True

    shape: Shape
    source: str  # the layer or input that it comes from, for messages
    dtype: str = "float32"
    order: Order = ()  # of Keras's axes, as they lie in torch
    spec_order: Order = ()  # of Keras's axes, as a spec counts them
    is_open: bool = False  # whether nothing says if its channels are first or last, as a spec counts them
    mask: Symbol | None = None  # which steps count, (batch, steps) of true and false; None where all do
    attention_mask: Symbol | None = None  # which steps each step sees, (batch, steps, others)
    is_masked_elsewhere: bool = False  # whether what takes it takes a mask in another call, though not in this one

    def __post_init__(self) -> None:
        if not self.order:
            object.__setattr__(self, "order", axes.identity(len(self.shape)))
        if not self.spec_order:
            object.__setattr__(self, "spec_order", axes.identity(len(self.shape)))

    @property
    def rank(self) -> int:
        """The number of axes, the batch among them."""
        return len(self.shape)

    @property
    def is_floating(self) -> bool:
        """Whether it holds floating-point numbers."""
        return "float" in self.dtype

    @property
    def is_plain(self) -> bool:
        """Whether a spec counts its axes as Keras does."""
        return self.spec_order == axes.identity(self.rank)

    @property
    def is_read_in_order(self) -> bool:
        """Whether its numbers follow each other in torch as a spec counts its axes: only axes of one lie elsewhere."""
        here, counted = ([axis for axis in order if self.logical[axis] != 1] for order in (self.order, self.spec_order))
        return here == counted

    @property
    def logical(self) -> Shape:
        """The shape by Keras's axes, whatever their order in torch."""
        return axes.permute(self.shape, axes.inverse(self.order))

    def counted(self: S, spec_order: Order) -> S:
        """A tensor that a spec counts alike, but whose axes mean something else: Keras's axes in another order."""
        order = tuple(spec_order[self.spec_order.index(axis)] for axis in self.order)
        return replace(self, order=order, spec_order=spec_order, is_open=False)

    def given_by(self, source: str, mask: Symbol | None) -> Symbol:
        """The tensor like this one that another layer, or an input, gives, with this mask."""
        known = (self.shape, source, self.dtype, self.order, self.spec_order, self.is_open)
        return Symbol(*known, mask, self.attention_mask, self.is_masked_elsewhere)

    @property
    def spec_shape(self) -> Shape:
        """The shape as a spec counts its axes, and as who calls the model sees it."""
        return axes.permute(self.logical, self.spec_order)

    def size(self, dimension: int) -> int:
        """The size of a dimension in torch, which must be known."""
        size = self.shape[dimension]
        if size is None:
            axis = self.spec_axis(self.order[dimension])
            raise ShapeError(f"needs to know the size of axis {axis} of {self.described}")
        return size

    def dimension(self, axis: int) -> int:
        """The dimension in torch that holds Keras's axis, which may count from the end."""
        if not -self.rank <= axis < self.rank:
            raise ShapeError(f"has axis {axis}, which is out of range for {self.described}")
        return self.order.index(axis % self.rank)

    def permuted(self: S, order: Order) -> S:
        """A tensor like this one, in another order of axes."""
        return replace(self, shape=axes.permute(self.shape, axes.between(self.order, order)), order=order)

    def keras_axis(self, axis: int) -> int:
        """Keras's axis that a spec counts as this one, which may count from the end."""
        if not -self.rank <= axis < self.rank:
            raise ShapeError(f"has axis {axis}, which is out of range for {self.described}")
        return self.spec_order[axis % self.rank]

    def spec_axis(self, axis: int) -> int:
        """The number by which a spec counts Keras's axis."""
        return self.spec_order.index(axis % self.rank)

    @property
    def named(self) -> str:
        """``'flatten' (batch, 512)``, for messages about several tensors."""
        return f"'{self.source}' {text(self.spec_shape)}"

    @property
    def described(self) -> str:
        """``'flatten', which gives (batch, 512)``, for messages."""
        return f"'{self.source}', which gives {text(self.spec_shape)}"


def text(shape: Shape) -> str:
    """A shape for people: ``(batch, 1, 8, 8)``; an unknown size is ``?``."""
    return "(" + ", ".join(["batch", *("?" if size is None else str(size) for size in shape[1:])]) + ")"


def compact(sizes: tuple[int, ...]) -> int | tuple[int, ...]:
    """One number where all sizes are equal, as torch's constructors take them."""
    return sizes[0] if len(set(sizes)) == 1 else sizes


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """The cells before and after, in Keras's ``padding: same``."""
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def windowed(size: int | None, span: int, stride: int, is_padded: bool) -> int | None:
    """The size of an axis after a window of ``span`` cells moved along it; zero or less where it does not fit."""
    if size is None:
        return None
    return -(-(size if is_padded else size - span + 1) // stride)
