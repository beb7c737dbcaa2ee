"""Images whose pixels are moved at random in training: turned, zoomed, shifted, sheared, bent."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from regspec.language.fields import Fraction, Number
from regspec.layers.augmentation import CHANCE, Augmentation, Bounds, Probability, Signed, Valued
from regspec.layers.kinds import kind

Share = Annotated[tuple[float, float], Bounds(-1, 1, is_strict=True)]
Shear = Annotated[tuple[float, float], Bounds(0, 1, least=-1, is_strict=True)]


class Warp(Augmentation):
    """A change of where pixels lie."""

    fill_mode: Literal["reflect", "wrap", "constant", "nearest"] = Field(
        "reflect", description="What lies beyond the border: the image mirrored, or again, a value, or the last pixel."
    )
    interpolation: Literal["nearest", "bilinear"] = Field(
        "bilinear", description="How pixels are made of those around them."
    )
    fill_value: Number = Field(0.0, description="The value beyond the border, with fill_mode: constant.")


@kind
class RandomRotation(Warp):
    """Images turned about their middle, in training."""

    example = "{factor: 0.1}"

    factor: Signed = Field(
        description="The bounds of the angle, as shares of the circle, counter-clockwise; f stands for [-f, f]."
    )


@kind
class RandomZoom(Warp):
    """Images zoomed about their middle, in training."""

    example = "{height_factor: 0.2}"

    height_factor: Share = Field(
        description="The bounds of the zoom along the height: out where it is above zero; f stands for [-f, f]."
    )
    width_factor: Share | None = Field(None, description="The same along the width; the height's zoom when absent.")

    @field_validator("height_factor", "width_factor")
    @classmethod
    def _leaves_something(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] <= -1:
            raise PydanticCustomError("bounds", "must be above -1, where nothing of the image is left")
        return value


@kind
class RandomTranslation(Warp):
    """Images shifted, in training."""

    example = "{height_factor: 0.1, width_factor: 0.1}"

    height_factor: Share = Field(
        description="The bounds of the shift down, as shares of the height; f stands for [-f, f]."
    )
    width_factor: Share = Field(
        description="The bounds of the shift to the right, as shares of the width; f stands for [-f, f]."
    )


@kind
class RandomShear(Warp):
    """Images sheared, to one side or the other, in training."""

    example = "{x_factor: 0.1}"

    x_factor: Shear = Field(
        (0.0, 0.0), description="The bounds of a pixel's shift along the width for each row; f stands for [-f, f]."
    )
    y_factor: Shear = Field(
        (0.0, 0.0), description="The bounds of a pixel's shift along the height for each column; f stands for [-f, f]."
    )


@kind
class RandomPerspective(Augmentation):
    """Images seen from aside, in training."""

    factor: Probability = Field((0.0, 1.0), description=CHANCE)
    scale: Fraction = Field(1.0, description="Twice the greatest share by which a corner is moved.")
    interpolation: Literal["nearest", "bilinear"] = Field(
        "bilinear", description="How pixels are made of those around them."
    )
    fill_value: Number = Field(0.0, description="The value beyond the border.")


@kind
class RandomElasticTransform(Augmentation, Valued):
    """Images bent by a smooth random field, in training."""

    factor: Probability = Field((0.0, 1.0), description=CHANCE)
    scale: Probability = Field((0.0, 1.0), description="The bounds of the strength, which the batch shares.")
    interpolation: Literal["nearest", "bilinear"] = Field(
        "bilinear", description="How pixels are made of those around them."
    )
    fill_mode: Literal["reflect", "mirror", "wrap", "constant", "nearest"] = Field(
        "reflect", description="What lies beyond the border: the image mirrored, or again, a value, or the last pixel."
    )
    fill_value: Number = Field(0.0, description="The value beyond the border, with fill_mode: constant.")
