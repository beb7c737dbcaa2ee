"""Images whose colours are changed: at random in training, or by their own histogram."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from regspec.code.expressions import Expression, Module, call, unless
from regspec.code.shapes import Shape, ShapeError, Symbol
from regspec.language.fields import Fraction, NotNegative, Size, Sizes
from regspec.layers.augmentation import (
    CHANCE,
    Augmentation,
    Bounds,
    Images,
    OfBatch,
    Probability,
    Signed,
    Valued,
)
from regspec.layers.families import LastInKeras, Moved
from regspec.layers.kinds import kind
from regspec.layers.layer import Layer


class Colored(Layer):
    """A layer on images of red, green and blue."""

    channels: ClassVar[tuple[int, ...]] = (3,)

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        if x.shape[1] is not None and x.shape[1] not in self.channels:
            wanted = " or ".join(str(count) for count in self.channels)
            raise ShapeError(f"takes images of {wanted} channels, but '{x.source}' gives {x.shape[1]}")
        return x.shape


@kind
class RandomBrightness(Augmentation, Valued):
    """Images made brighter or darker, in training."""

    example = "{factor: 0.2}"

    factor: Signed = Field(description="The bounds of the change, as a share of the value range; f stands for [-f, f].")


@kind
class RandomContrast(Augmentation, Valued):
    """Images with more or less contrast, in training."""

    example = "{factor: 0.2}"

    factor: Probability = Field(
        description="[f, g] for contrasts from 1 - f to 1 + g; one number g stands for [0, g], as in Keras."
    )


@kind
class RandomColorDegeneration(Colored, Augmentation, Valued):
    """Images mixed with their grey versions, in training."""

    example = "{factor: 0.2}"
    channels = (1, 3)
    factor: Signed = Field(description="The bounds of the share of grey; f stands for [-f, f], as in Keras.")


@kind
class RandomGrayscale(Colored, Augmentation):
    """Images made grey with a probability, in training."""

    channels = (1, 3)
    factor: Fraction = Field(0.5, description="The probability.")


@kind
class RandomSaturation(Colored, Augmentation, Valued):
    """Images with stronger or weaker colours, in training."""

    example = "{factor: 0.2}"

    factor: Signed = Field(
        description="The bounds of f: the saturation is multiplied by f / (1 - f); one number f stands for [-f, f]."
    )


@kind
class RandomHue(Colored, Augmentation, Valued):
    """Images with other hues, in training."""

    example = "{factor: 0.2}"

    factor: Probability = Field(
        description="The bounds of the turn, as shares of half the circle of colours; f stands for [0, f]."
    )


@kind
class RandomColorJitter(Colored, Augmentation, Valued):
    """Images with other brightness, contrast, saturation and hue, in this order, in training."""

    main = "value_range"

    brightness_factor: Signed | None = Field(None, description="As RandomBrightness has it; null leaves it.")
    contrast_factor: Probability | None = Field(None, description="As RandomContrast has it; null leaves it.")
    saturation_factor: Signed | None = Field(None, description="As RandomSaturation has it; null leaves it.")
    hue_factor: Probability | None = Field(None, description="As RandomHue has it; null leaves it.")

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        has_colors = self.saturation_factor is not None or self.hue_factor is not None
        return super().output_shape(x) if has_colors else x.shape

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        value: Expression = x
        value_range = unless((0.0, 255.0), self.value_range)
        for name in ("brightness", "contrast", "saturation", "hue"):
            factor = getattr(self, f"{name}_factor")
            if factor is not None:
                constructor = call(f"Random{name.capitalize()}", factor=factor, value_range=value_range)
                value = Module(constructor, name)(value)
        return Module(call("nn.Identity"))(x) if value is x else value


@kind
class RandomInvert(Augmentation, Valued):
    """Negatives of images, in training."""

    factor: Probability = Field((0.0, 1.0), description=CHANCE)


@kind
class RandomPosterization(Augmentation, Valued):
    """Images with fewer different values, in training."""

    example = "{factor: 4}"

    factor: Annotated[tuple[float, float], Bounds(1, 8, is_strict=True)] = Field(
        description="How many bits of eight remain: from the first number to one less than the second; f for [1, f]."
    )

    def own_arguments(self) -> dict[str, Any]:
        return {**super().own_arguments(), "factor": tuple(map(int, self.factor))}

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        """Whole numbers, which Keras's class draws between."""
        return {**super().keras_fields(*xs), "factor": tuple(map(int, self.factor))}


@kind
class RandomSharpness(Augmentation, Valued):
    """Images blurred or sharpened, in training."""

    example = "{factor: 0.2}"

    factor: Probability = Field(
        description="The bounds of the sharpness: 0 blurs, 0.5 leaves, 1 sharpens; f stands for [0, f]."
    )


@kind
class Solarization(Augmentation, Valued):
    """Images to which a number is added, and whose values above a threshold are made negative, in training."""

    addition_factor: Probability = Field(
        (0.0, 0.0), description="The bounds of the number, as shares of 255, the first as it is; f stands for [0, f]."
    )
    threshold_factor: Probability = Field(
        (0.0, 0.0), description="The bounds of the threshold, in the same way; f stands for [0, f]."
    )


@kind
class AutoContrast(LastInKeras, Images, Valued):  # Keras's class stretches the wrong axes of other images
    """Images whose channels are stretched to the whole range of values."""

    main = "value_range"


@kind
class Equalization(OfBatch, Images, Valued):
    """Images whose values are spread evenly, by one histogram for each channel of the batch, in training."""

    main = "value_range"

    bins: Size = Field(256, description="The number of bins of the histogram.")

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        raise ShapeError("can't stand in a functional model of Keras 3, where it gives its input's own symbol")


@kind
class ContrastLimitedAdaptiveHistogramEqualization(Moved, Images, Valued):
    """Images whose values are spread evenly, by histograms of tiles that are cut off."""

    main = "value_range"

    clip_limit: NotNegative = Field(
        4.0, description="Where a histogram is cut off, in multiples of its mean; 0 leaves it whole."
    )
    tile_grid_size: Sizes = Field((8, 8), description="The number of tiles along the height and along the width.")
    own_fields = frozenset({"as_on_torch"})

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        """Keras does there what its backend does."""
        return {**super().keras_fields(*xs), "as_on_torch": False}

    as_on_torch: bool = Field(
        False,
        description="Whether to do what Keras's torch backend does, unlike its others: the limit is cut to a whole "
        "number of pixels, and beyond the border lie its own pixels, and not the image mirrored.",
    )
