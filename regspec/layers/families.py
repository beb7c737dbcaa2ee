"""Families of layers: by number, with an activation function, along space or time."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from regspec.code import axes
from regspec.code.axes import Order
from regspec.code.expressions import Expression
from regspec.code.shapes import DataFormat, Shape, ShapeError, Symbol, text
from regspec.language.activations import Activation
from regspec.layers.layer import Layer
from regspec.layers.ties import Ties, alike, mixes, moved


def spread(mask: Symbol, x: Symbol) -> Expression:
    """A mask with an axis of size one where ``x`` has its features, so that it can be applied to ``x``."""
    if mask.rank != x.rank - 1:
        raise ShapeError(f"has a mask of {text(mask.shape)}, which does not fit {x.described}")
    steps = tuple(axis for axis in x.order if axis != x.rank - 1)
    lying: Expression = mask if steps == tuple(sorted(steps)) else mask.method("permute", *steps)
    feature = x.dimension(-1)
    return lying.method("unsqueeze", -1 if feature == x.rank - 1 else feature)


def named_together(*xs: Symbol) -> str:
    """Several tensors for a message; where they are counted in several ways, in Keras's one."""
    if len({x.spec_order for x in xs if x.rank == xs[0].rank}) == 1:
        return " and ".join(x.named for x in xs)
    return " and ".join(f"'{x.source}' {text(x.logical)}" for x in xs) + ", features or channels last"


class Moved(Layer):
    """A layer whose output has the type of its inputs."""

    @property
    def takes_integers(self) -> bool:
        return True

    def output_dtype(self, x: Symbol, *others: Symbol) -> str:
        return next((each.dtype for each in (x, *others) if each.is_floating), x.dtype)


class Elementwise(Layer):
    """A layer that computes each number of its output from the numbers at the same place: any order of axes will do."""

    def order(self, x: Symbol) -> Order | None:
        return None

    @property
    def reads_axes(self) -> bool:
        return bool(self.axis_fields) and super().reads_axes

    def literal_order(self, x: Symbol) -> Order:
        return x.spec_order

    def ties(self, *xs: Symbol) -> Ties | None:
        return Ties(alike(xs))

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        return spec_axes(self, xs[0])


def spec_axes(layer: Layer, x: Symbol) -> dict[str, Any]:
    """The fields that name axes, in the order in which a spec counts them, where that is not Keras's."""
    named = {name: getattr(layer, name) for name in layer.axis_fields} if not x.is_plain else {}
    return {
        name: tuple(map(x.spec_axis, value)) if isinstance(value, tuple) else x.spec_axis(value)
        for name, value in named.items()
        if value is not None
    }


class Activated(Layer):
    """A layer with an activation function after its own computation."""

    activation: Activation | None = Field(None, description="The activation function; none when absent.")

    def counted_by_keras(self, *xs: Symbol) -> Layer:
        counted = super().counted_by_keras(*xs)
        function = None if self.activation is None else self.activation.counted_by_keras(self.activated(xs[0]))
        return counted if function is self.activation else counted.model_copy(update={"activation": function})

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        fields = super().keras_fields(*xs)
        is_moved = self.literal_order(xs[0]) != axes.identity(xs[0].rank)
        if self.activation is None or self.activation.along is None or not is_moved:
            return fields
        axis = self.activated(xs[0]).spec_axis(self.activation.along)
        return {**fields, "activation": self.activation.model_copy(update={"axis": axis})}

    def activated(self, x: Symbol) -> Symbol:
        """A tensor with the axes, by their rank and order, that the activation is applied to."""
        return x

    def activate(self, x: Expression, like: Symbol) -> Expression:
        """``x`` after the activation; ``like`` is a tensor with the rank and order of its axes."""
        if self.activation is None:
            return x
        return self.activation.of(x, self._dimension(like), "activation")

    def activated_shape(self, shape: Shape, like: Symbol) -> Shape:
        """``shape`` after the activation."""
        return shape if self.activation is None else self.activation.output_shape(shape, self._dimension(like))

    def mixes(self, axis: int, rank: int) -> str:
        """Why the activation keeps the units of an axis of so many; nothing where it does not."""
        return mixes(self.activation, axis, rank)

    @property
    def is_along_last_axis(self) -> bool:
        """Whether the activation, if any, has no axis other than the last."""
        return self.activation is None or self.activation.along in (None, -1)

    def _dimension(self, like: Symbol) -> int:
        axis = None if self.activation is None else self.activation.along
        if axis is None:
            return -1
        dimension = like.dimension(axis)
        return -1 if dimension == like.rank - 1 else dimension


PER_AXIS = ("kernel_size", "strides", "dilation_rate", "pool_size", "size", "output_size", "output_padding")


class Spatial(Layer):
    """A layer that works along space or time, one axis of channels apart; written for channels first."""

    data_format: DataFormat | None = Field(
        None, description="Where the channels lie; the model's data_format when absent."
    )

    spatial_rank: ClassVar[int]
    one_for_all: ClassVar[tuple[str, ...]] = PER_AXIS
    meant_in_keras = MappingProxyType({"data_format": "channels_last"})  # Keras's default is a setting of its user's
    open_rank = 3
    takes_signals: ClassVar[bool] = False  # whether an input that goes first into it is (channels, length)

    @field_validator(*PER_AXIS, check_fields=False)
    @classmethod
    def _per_axis(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        """One size for each spatial axis."""
        if value is None or len(value) == cls.spatial_rank:
            return value
        if len(value) == 1:
            return value * cls.spatial_rank
        wanted = {"wanted": cls.spatial_rank, "given": len(value)}
        raise PydanticCustomError("sizes", "must be one size or {wanted}, but has {given}", wanted)

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        """Keras must be told channels_first; equal sizes are given as one."""
        sizes = {name: getattr(self, name, None) for name in PER_AXIS}
        found = {name: value[0] for name, value in sizes.items() if value and len({*value}) == 1}
        is_first = self.data_format == "channels_first" or (bool(xs) and self.has_channels_first(xs[0]))
        return {**found, "data_format": "channels_first" if is_first else None}

    def has_channels_first(self, x: Symbol) -> bool:
        """Whether Keras's class can take a tensor like ``x``, whose channels are first, as it is."""
        return x.spec_order == self.spatial_order(x.rank) != axes.identity(x.rank)

    @property
    def is_spatial(self) -> bool:
        return True

    @property
    def says_layout(self) -> bool:
        return self.data_format is not None

    def spatial_order(self, rank: int) -> Order:
        """The order of axes that Keras calls channels_first."""
        return axes.channels_first(rank)

    def literal_order(self, x: Symbol) -> Order:
        return x.spec_order if self.has_channels_first(x) else axes.identity(x.rank)

    def literal_orders(self, *xs: Symbol) -> list[Order]:
        """Those of states as that of the sequence."""
        is_first = self.literal_order(xs[0]) != axes.identity(xs[0].rank)
        return [self.spatial_order(x.rank) if is_first else axes.identity(x.rank) for x in xs]

    def literal_output_order(self, output: Symbol, *xs: Symbol) -> Order:
        return self.literal_orders(xs[0], output)[1]

    def units_of(self, output: Symbol) -> int:
        return 1

    def each_channel(self, x: Symbol) -> Ties:
        """The ties of a layer that does the same to each channel by itself."""
        return moved(x, {x.order[1]: x.order[1]})

    def order(self, x: Symbol) -> Order | None:
        """Channels first; a layer that has them first in Keras too is given what it wants."""
        return axes.identity(x.rank) if self.data_format == "channels_first" else axes.channels_first(x.rank)

    def input_spec_order(self, rank: int) -> Order | None:
        if self.data_format is None:
            return axes.channels_first(rank) if self.takes_signals and rank == 3 else super().input_spec_order(rank)
        return axes.channels_first(rank) if self.data_format == "channels_first" else axes.identity(rank)

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        """The channels stay where those of the input are counted; of an image or volume that is new they are first."""
        if rank > 3 and rank != xs[0].rank and self.data_format != "channels_first":
            return axes.channels_first(rank)
        return super().output_spec_order(rank, *xs)

    def counted_by_keras(self, *xs: Symbol) -> Layer:
        """The layer without a data_format, which must be that of its input. Raises `ShapeError`."""
        if self.data_format is None or xs[0].is_open or xs[0].rank != len(self.takes or ()):
            return super().counted_by_keras(*xs)  # to be checked first
        is_first = xs[0].spec_order == axes.channels_first(xs[0].rank)
        if is_first != (self.data_format == "channels_first"):
            where = "first" if is_first else "last"
            raise ShapeError(
                f"has data_format: {self.data_format}, but {xs[0].described}, has its channels {where}",
                "a layer knows where the channels of its input are: leave data_format out",
            )
        return self.model_copy(update={"data_format": None})

    @classmethod
    def __pydantic_init_subclass__(cls, **keywords: Any) -> None:
        super().__pydantic_init_subclass__(**keywords)
        rank = getattr(cls, "spatial_rank", None)
        if rank is not None:
            cls.takes = (
                "batch",
                "channels",
                *{1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}[rank],
            )


class LastInKeras(Spatial):
    """A layer whose class in Keras is right for channels that are last, so that the axes are moved for it."""

    def has_channels_first(self, x: Symbol) -> bool:
        return False

    def literal_order(self, x: Symbol) -> Order:
        """With the channels last, also where the layer itself says that they are first."""
        plain = axes.identity(x.rank)
        return axes.inverse(self.spatial_order(x.rank)) if self.data_format == "channels_first" else plain

    def literal_orders(self, *xs: Symbol) -> list[Order]:
        return [self.literal_order(x) for x in xs]

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        return {**super().keras_fields(*xs), "data_format": None}


class Sequential(LastInKeras):
    """A layer along steps, which has no data_format in Keras."""

    spatial_rank = 1
    own_fields = frozenset({"data_format"})
