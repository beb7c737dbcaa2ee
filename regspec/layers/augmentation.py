"""Images changed at random in training: flipped, cropped, erased, blurred, mixed, or by several of these and others.

In evaluation they stay as they are.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, field_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from regspec.code.expressions import Expression, Module, call, unless
from regspec.code.shapes import DataFormat, Shape, ShapeError, Symbol
from regspec.language.fields import Count, Number, Positive, Sequence, Size, Sizes
from regspec.layers.dropout import Noise
from regspec.layers.families import Elementwise, Moved, Spatial
from regspec.layers.kinds import kind
from regspec.layers.layer import Layer
from regspec.layers.preprocessing import Sized


class Bounds:
    """The bounds of what is drawn, as an annotation of pydantic fields: two numbers, or one.

    One number f stands for (-f, f), but no lower than ``least``. Both lie within the limits where ``is_strict``; else
    the interval only has to meet them, as in Keras.
    """

    def __init__(self, low: float, high: float, *, least: float | None = None, is_strict: bool = False) -> None:
        self.low = low
        self.high = high
        self.least = low if least is None else least
        self.is_strict = is_strict

    def parse(self, value: Any) -> tuple[float, float]:
        """The bounds that a value of the document means. Raises a pydantic error."""
        is_pair = isinstance(value, (list, tuple)) and len(value) == 2
        numbers = value if is_pair else [value]
        fits = all(type(each) in (int, float) and abs(each) <= 1e9 for each in numbers)
        if fits and is_pair:
            lower, upper = sorted(float(each) for each in numbers)
            least = min(self.low, self.least)
            fits = least <= lower <= upper <= self.high if self.is_strict else lower <= self.high and upper >= least
        elif fits:
            fits = self.low <= value <= self.high
            lower, upper = max(0.0 - abs(value), float(self.least)), float(abs(value))
        if not fits:
            limits = {"low": self.low, "high": self.high}
            raise PydanticCustomError("bounds", "must be a number from {low} to {high}, or a list of two", limits)
        return lower, upper

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        pair = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
        return {"anyOf": [{"type": "number", "minimum": self.low, "maximum": self.high}, pair]}


def _rises(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] >= value[1]:
        raise PydanticCustomError("range", "must be the least and the greatest value")
    return value


Probability = Annotated[tuple[float, float], Bounds(0, 1)]
Signed = Annotated[tuple[float, float], Bounds(-1, 1)]
ValueRange = Annotated[tuple[Number, Number], Sequence, AfterValidator(_rises)]

CHANCE = "The bounds of each image's probability of being changed; one number f stands for [0, f]."


class Images(Spatial):
    """A layer on images whose module takes the fields of the layer."""

    spatial_rank = 2

    def checked(self, *xs: Symbol) -> None:
        if len(xs) > 1:
            what = f"takes images alone, but is given {len(xs)} inputs"
            raise ShapeError(what, "labels, masks and bounding boxes, which Keras changes too, have no place here")
        super().checked(*xs)

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return Module(call(type(self).__name__, **self.own_arguments()))(x)


class Augmentation(Noise, Images):
    """A random change of images in training."""

    supports_masking = False


class OfBatch(Layer):
    """A layer that draws, or counts, once for all images of a batch."""

    @property
    def reads_batch(self) -> bool:
        return True


class Valued(Spatial):
    """A layer on images whose values have a range."""

    value_range: ValueRange = Field(
        (0.0, 255.0), description="The least and the greatest value that the images may have."
    )


@kind
class RandomFlip(Augmentation):
    """Half of the images mirrored, in training."""

    mode: Literal["horizontal", "vertical", "horizontal_and_vertical"] = Field(
        "horizontal_and_vertical", description="The direction; with both, an image is mirrored in both or in neither."
    )


@kind
class RandomCrop(OfBatch, Augmentation, Sized):
    """A window at a random place, one for the batch, in training; in evaluation the middle, resized."""


@kind
class RandomErasing(Augmentation, Valued):
    """Images with a rectangle erased, in training."""

    factor: Probability = Field((0.0, 1.0), description=CHANCE)
    scale: Probability = Field(
        (0.02, 0.33), description="The bounds of the square of the rectangle's share of the width, and of the height."
    )
    fill_value: Number | Annotated[tuple[Number, ...], Sequence] | None = Field(
        None, description="What the rectangle is filled with: a number, or one for each channel; noise when absent."
    )

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        channels = x.shape[1]
        if isinstance(self.fill_value, tuple) and channels not in (None, len(self.fill_value)):
            raise ShapeError(
                f"has {len(self.fill_value)} numbers as fill_value, but {channels} channels in {x.described}"
            )
        return x.shape


@kind
class RandomGaussianBlur(OfBatch, Augmentation, Valued):
    """Images blurred, in training."""

    factor: Probability = Field((0.0, 1.0), description=CHANCE)
    kernel_size: Sizes = Field((3,), validate_default=True, description="The size of the kernel, an odd number.")
    sigma: Probability = Field((0.0, 1.0), description="The bounds of the kernel's deviation, which the batch shares.")

    @field_validator("kernel_size")
    @classmethod
    def _is_odd(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len({*value}) != 1 or value[0] % 2 == 0:
            raise PydanticCustomError("size", "must be one odd number, for a square kernel")
        return value

    def own_arguments(self) -> dict[str, Any]:
        return {**super().own_arguments(), "kernel_size": unless(3, self.kernel_size[0])}


@kind
class MixUp(OfBatch, Augmentation):
    """Each image mixed with another of the batch, in training. Labels are not mixed."""

    alpha: Positive = Field(0.2, description="The weight is drawn from Beta(alpha, alpha).")


@kind
class CutMix(OfBatch, Augmentation):
    """Images with a rectangle of another of the batch, in training. Labels are not mixed."""

    factor: Probability = Field(
        (0.0, 1.0), description="The bounds of alpha; the rectangle's share is drawn from Beta(alpha, alpha)."
    )


class Policy(OfBatch, Augmentation, Valued):
    """Several augmentations in a row, drawn from a list."""

    main = "value_range"

    interpolation: Literal["nearest", "bilinear"] = Field(
        "bilinear", description="How pixels are made of those around them."
    )


@kind
class RandAugment(Policy):
    """Images changed by several augmentations, which are drawn for the batch, in training."""

    num_ops: Count = Field(2, description="How many augmentations.")
    factor: Probability = Field((0.0, 0.5), description="The bounds of each one's strength.")


@kind
class AugMix(Policy):
    """Images mixed with versions of them, each changed by a chain of augmentations, in training."""

    num_chains: Size = Field(3, description="How many versions.")
    chain_depth: Size = Field(3, description="How many augmentations at most make a version.")
    factor: Probability = Field((0.0, 0.3), description="The bounds of each one's strength.")
    alpha: Positive = Field(
        1.0, description="The weights are drawn from a Dirichlet and a Beta distribution of this parameter."
    )
    all_ops: bool = Field(True, description="Whether to change brightness, contrast, colours and sharpness too.")


@kind
class MaxNumBoundingBoxes(Moved, Elementwise):
    """Images, unchanged: it bounds the number of bounding boxes, which a spec does not have."""

    example = "{max_number: 10}"

    max_number: Size = Field(description="Accepted for Keras's sake.")
    fill_value: int = Field(-1, description="Accepted for Keras's sake.")
    data_format: DataFormat | None = Field(None, description="Accepted for Keras's sake.")

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return Module(call("nn.Identity"))(x)
