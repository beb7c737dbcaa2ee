"""Preprocessing inside the model: scaling, resizing, encoding."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from regspec.code import axes
from regspec.code.axes import Order
from regspec.code.expressions import Expression, Module, call, unless
from regspec.code.shapes import Shape, ShapeError, Symbol
from regspec.language.fields import Axes, Number, Sequence, Size
from regspec.layers.embedding import indices
from regspec.layers.families import Elementwise, Moved, Spatial, spec_axes
from regspec.layers.kinds import kind
from regspec.layers.layer import Layer, Weight


def _numbers(value: Any) -> Any:
    return tuple(_numbers(each) for each in value) if isinstance(value, (list, tuple)) else value


_NUMBER = {"type": "number"}
_NUMBERS = [_NUMBER, {"type": "array", "items": _NUMBER, "minItems": 1}]
Numbers = Annotated[Number | tuple[Number, ...], BeforeValidator(_numbers), WithJsonSchema({"anyOf": _NUMBERS})]

LOADED: Literal["loaded"] = "loaded"  # stands for numbers that come with the weights


def _statistic(value: Any) -> Any:
    if isinstance(value, str) and value != LOADED:
        expected = {"expected": "a number, one for each channel, or loaded", "received": value}
        raise PydanticCustomError("form", "must be {expected}", expected)
    return _numbers(value)


Statistic = Annotated[
    Number | tuple[Number, ...] | Literal["loaded"],
    BeforeValidator(_statistic),
    WithJsonSchema({"anyOf": [*_NUMBERS, {"const": LOADED}]}),
]


@kind
class Rescaling(Elementwise):
    """x * scale + offset."""

    example = "{scale: 2.0, offset: -1.0}"
    supports_masking = True
    said_in_keras = frozenset({"offset"})

    scale: Numbers = Field(description="The factor, or one for each channel.")
    offset: Numbers = Field(0.0, description="The summand, or one for each channel.")

    @property
    def reads_axes(self) -> bool:
        return self.is_per_channel

    def literal_order(self, x: Symbol) -> Order:
        return axes.identity(x.rank) if self.is_per_channel else x.spec_order

    @property
    def is_per_channel(self) -> bool:
        return isinstance(self.scale, tuple) or isinstance(self.offset, tuple)

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        channels = x.logical[-1]
        for name, numbers in (("scale", self.scale), ("offset", self.offset)):
            if isinstance(numbers, tuple) and len(numbers) not in (1, channels):
                raise ShapeError(f"has {len(numbers)} numbers as {name}, but {channels} channels in {x.described}")
        return x.shape

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        if self.is_per_channel:
            return Module(call("Rescaling", self.scale, self.offset, dim=x.dimension(-1)))(x)
        scaled = x if self.scale == 1 else x * self.scale
        return scaled + self.offset if self.offset else scaled


@kind
class Normalization(Layer):
    """(x - mean) / sqrt(variance), by given numbers or by ones that are loaded with the weights."""

    example = "{mean: 0.5, variance: 0.25}"
    supports_masking = True

    axis: Axes | None = Field(
        (-1,),
        description="The axes that have their own mean and variance; null for one of all, the features when absent.",
    )
    axis_fields = ("axis",)
    keras_numbers = MappingProxyType({"vars/2": 0})  # how many examples it was adapted to
    mean: Statistic | None = Field(
        None, description="The means; loaded, where they come with the weights. Must be said: nothing adapts them here."
    )
    variance: Statistic | None = Field(
        None, description="The variances; loaded, where they come with the weights. Must be said, as the means."
    )
    invert: bool = Field(False, description="Whether to go back: x * sqrt(variance) + mean.")

    @model_validator(mode="after")
    def _is_known(self) -> Normalization:
        """Without numbers it would be the identity, of which nobody hears."""
        hint = "give those of the data, or say 'mean: loaded, variance: loaded' where they come with the weights"
        if self.mean is None or self.variance is None:
            raise PydanticCustomError("pair", "needs both 'mean' and 'variance'", {"hint": hint})
        if (self.mean == LOADED) != (self.variance == LOADED):
            raise PydanticCustomError("pair", "needs numbers as both 'mean' and 'variance', or both loaded")
        return self

    @property
    def is_loaded(self) -> bool:
        """Whether its numbers come with the weights."""
        return self.mean == LOADED

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        numbers = dict.fromkeys(("mean", "variance")) if self.is_loaded else {}
        return {**numbers, **spec_axes(self, xs[0])}

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        size = math.prod(self._size(x))
        for name, numbers in (("mean", self.mean), ("variance", self.variance)):
            if isinstance(numbers, tuple) and len(numbers) not in (1, size):
                raise ShapeError(f"has {len(numbers)} numbers as {name}, but its axes have {size} in {x.described}")
        return x.shape

    def order(self, x: Symbol) -> Order | None:
        return None if len(self.axis or ()) < 2 else super().order(x)

    def literal_order(self, x: Symbol) -> Order:
        return x.spec_order

    def _kept(self, x: Symbol) -> tuple[int, ...]:
        return tuple(sorted({x.dimension(axis) for axis in self.axis or ()}))

    def _size(self, x: Symbol) -> tuple[int, ...]:
        return tuple(x.size(axis) for axis in self._kept(x))

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        if not self.is_loaded:
            return ()
        shape = self._size(x)
        names = " ".join("abcdefgh"[: len(shape)])
        along = tuple(x.order[dimension] for dimension in self._kept(x))
        return tuple(
            self.weight(
                slot,
                names,
                shape,
                parameters=(slot,),
                trainable=False,
                is_loaded=True,
                along=along,
            )
            for slot in ("mean", "variance")
        )

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        kept = self._kept(x)
        size, shape = self._size(x), tuple(x.size(axis) if axis in kept else 1 for axis in range(1, x.rank))
        if _is_one(self.mean) and _is_one(self.variance):  # one number fits inputs of any size
            size = shape = ()
        constructor = call(
            "Normalization",
            size,
            shape,
            mean=unless(LOADED, self.mean),
            variance=unless(LOADED, self.variance),
            invert=unless(False, self.invert),
        )
        return Module(constructor)(x)


def _is_one(numbers: float | tuple[float, ...] | str | None) -> bool:
    return isinstance(numbers, (int, float)) or (isinstance(numbers, tuple) and len(numbers) == 1)


class Sized(Spatial):
    """A layer that gives images a height and a width."""

    example = "{height: 32, width: 32}"

    height: Size = Field(description="The height of the output.")
    width: Size = Field(description="The width of the output.")

    spatial_rank = 2

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        return (*x.shape[:2], self.height, self.width)


@kind
class Resizing(Moved, Sized):
    """Images resized; whole numbers stay whole, rounded."""

    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"] = Field(
        "bilinear", description="How pixels are made of those around them."
    )
    antialias: bool = Field(False, description="Whether to average more pixels where the image shrinks.")
    crop_to_aspect_ratio: bool = Field(False, description="Whether to crop first, so that nothing is distorted.")
    pad_to_aspect_ratio: bool = Field(False, description="Whether to pad first, so that nothing is distorted.")
    fill_mode: Literal["constant"] = Field("constant", description="How padding is filled.")
    fill_value: Number = Field(0.0, description="The value of padding.")

    @model_validator(mode="after")
    def _crops_or_pads(self) -> Resizing:
        if self.crop_to_aspect_ratio and self.pad_to_aspect_ratio:
            raise PydanticCustomError("pair", "either crops or pads to the aspect ratio")
        return self

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        size = (self.height, self.width)
        is_plain = x.is_floating and not self.crop_to_aspect_ratio and not self.pad_to_aspect_ratio
        if is_plain and self.interpolation == "nearest":
            return Module(call("nn.Upsample", size, mode="nearest-exact"))(x)
        if is_plain and self.interpolation == "bilinear" and not self.antialias:
            return Module(call("nn.Upsample", size, mode="bilinear"))(x)
        constructor = call(
            "Resize",
            size,
            interpolation=unless("bilinear", self.interpolation),
            antialias=unless(False, self.antialias and self.interpolation != "nearest"),
            crop=unless(False, self.crop_to_aspect_ratio),
            pad=unless(False, self.pad_to_aspect_ratio),
            fill_value=unless(0.0, self.fill_value),
        )
        return Module(constructor)(x)


@kind
class CenterCrop(Sized):
    """The middle of images; where they are too small, they are enlarged first."""

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        high, wide = x.shape[2:]
        if high is None or wide is None:
            return Module(call("CenterCrop", self.height, self.width))(x)
        if high < self.height or wide < self.width:
            return Module(call("Resize", (self.height, self.width), crop=True))(x)
        top, left = (high - self.height) // 2, (wide - self.width) // 2
        return x[..., top : top + self.height, left : left + self.width]


class Encoding(Layer):
    """A layer that encodes whole numbers."""

    gives = "float32"

    @property
    def takes_integers(self) -> bool:
        return True

    def encoded(self, x: Symbol, value: Expression, mode: str, size: int, suffix: str, *weights: Symbol) -> Expression:
        """``value``, whole numbers in the shape of ``x``, after encoding."""
        if mode == "one_hot" and x.rank > 1 and x.shape[-1] == 1:
            value = value.method("squeeze", -1)
        return Module(call("CategoryEncoding", size, mode=unless("multi_hot", mode)), suffix)(value, *weights)

    def encoded_shape(self, x: Symbol, mode: str, size: int) -> Shape:
        """The shape of whole numbers after encoding."""
        if mode != "one_hot" and x.rank < 2:
            raise ShapeError(f"takes several numbers of each example with {mode}, but is given {x.described}")
        if mode == "one_hot":
            return (*(x.shape[:-1] if x.rank > 1 and x.shape[-1] == 1 else x.shape), size)
        return (x.shape[0], *x.shape[2:], size)


@kind
class CategoryEncoding(Encoding):
    """Whole numbers as vectors: one-hot, several-hot, or counts."""

    example = "{num_tokens: 10}"

    num_tokens: Size = Field(description="The size of the vectors: the largest number plus one.")
    output_mode: Literal["multi_hot", "one_hot", "count"] = Field(
        "multi_hot",
        description="multi_hot: which numbers occur; one_hot: each by itself; count: how often each occurs.",
    )

    arity = (1, 2)

    @property
    def index_limit(self) -> int | None:
        return self.num_tokens

    def output_shape(self, x: Symbol, *others: Symbol) -> Shape:
        if others and self.output_mode != "count":
            raise ShapeError("takes a second input, the weights of the counts, only with output_mode: count")
        return self.encoded_shape(x, self.output_mode, self.num_tokens)

    def lower(self, x: Symbol, *others: Symbol) -> Expression:
        return self.encoded(x, indices(x), self.output_mode, self.num_tokens, "", *others)


@kind
class Discretization(Encoding):
    """The number of the interval in which each value lies."""

    has_activity_in_keras = False

    example = "{bin_boundaries: [0.0, 0.5, 1.0]}"

    bin_boundaries: Annotated[tuple[Number, ...], Sequence] = Field(
        min_length=1, description="The boundaries, in rising order."
    )
    output_mode: Literal["int", "one_hot", "multi_hot", "count"] = Field(
        "int", description="Whether the numbers are given as they are, or encoded as CategoryEncoding does."
    )

    @model_validator(mode="after")
    def _rises(self) -> Discretization:
        if list(self.bin_boundaries) != sorted(self.bin_boundaries):
            raise PydanticCustomError("order", "needs 'bin_boundaries' in rising order")
        return self

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        if self.output_mode == "int":
            return x.shape
        return self.encoded_shape(x, self.output_mode, len(self.bin_boundaries) + 1)

    def output_dtype(self, x: Symbol, *_: Symbol) -> str | None:
        return "int64" if self.output_mode == "int" else None

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        numbers = Module(call("Discretization", self.bin_boundaries))(x)
        if self.output_mode == "int":
            return numbers
        return self.encoded(x, numbers, self.output_mode, len(self.bin_boundaries) + 1, "encoding")
