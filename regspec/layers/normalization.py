"""Normalizations: over the batch, over features, over groups of channels, to unit norm.

Two ways were weighed for the moving variance, which is Keras's by the batch's biased variance and torch's by the
unbiased one: a subclass of torch's module everywhere, which fx looks into and fusion does not take; or, as here,
torch's own module, and a field for Keras's, which `port` writes. In evaluation both are the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from regspec.code.axes import Order, identity
from regspec.code.expressions import OMIT, Call, Expression, Module, call, unless
from regspec.code.shapes import Shape, ShapeError, Symbol, text
from regspec.language.fields import Axes, Axis, Fraction, NotNegative
from regspec.language.initializers import ONES, ZEROS, Initializer
from regspec.layers.families import Elementwise
from regspec.layers.kinds import kind
from regspec.layers.layer import Layer, Weight
from regspec.layers.slots import AffineSlots
from regspec.layers.ties import Place, Tie, Ties, alike


class ChannelNormalization(AffineSlots):
    """A normalization of channels, which it wants at dimension 1."""

    example = "{gamma_regularizer: {l1: 1e-4}}"
    supports_masking = True
    axis_fields = ("axis",)
    channel_axis = "axis"

    axis: Axis | None = Field(None, description="The axis of the channels; wherever they lie when absent.")
    epsilon: NotNegative = Field(1e-3, description="Added to the variance.")

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        """The axis of the channels, which Keras must be told where it is not the last."""
        x = xs[0]
        axis = x.spec_axis(self._channels(x))
        is_said = self.axis is not None and x.is_plain
        return {"axis": self.axis if is_said else None if axis == x.rank - 1 else axis}

    def literal_order(self, x: Symbol) -> Order:
        return x.spec_order

    def order(self, x: Symbol) -> Order | None:
        axis = self._channels(x)
        if axis == 0:
            raise ShapeError("normalizes over axis 0, which is the batch")
        return (0, axis, *(other for other in range(1, x.rank) if other != axis))

    def _channels(self, x: Symbol) -> int:
        """The axis of the channels, as Keras counts them."""
        return x.order[x.dimension(-1 if self.axis is None else self.axis)]

    def ties(self, x: Symbol, *_: Symbol) -> Ties | None:
        own = (Place(weight.name, 0) for weight in self.weights(x))
        places = (Place(0, x.order[1]), Place(~0, x.order[1]), *own)
        tie = self.tied(Tie(x.size(1), places, factors=("gamma",) if self.scale else ()))
        return Ties((tie,), shift=self.shift)

    shift: ClassVar[str] = ""  # the weight that is subtracted from the channels

    def tied(self, tie: Tie) -> Tie:
        """The tie of the channels, for each of which it does the same by itself."""
        return tie

    def affine(self, x: Symbol) -> tuple[Weight, ...]:
        """Gamma and beta, or those of them that the layer has."""
        along = (x.order[1],)
        gamma = self.weight("gamma", "c", (x.size(1),), constructed=ONES, along=along)
        beta = self.weight("beta", "c", (x.size(1),), parameters=("bias",), constructed=ZEROS, along=along)
        return (gamma,) * self.scale + (beta,) * self.center


@kind
class BatchNormalization(ChannelNormalization):
    """Subtracts the batch's mean and divides by its deviation; in evaluation, by moving averages."""

    main = "axis"

    momentum: Fraction = Field(0.99, description="How much of a moving average is kept in each step, as in Keras.")
    moving_variance: Literal["unbiased", "biased"] = Field(
        "unbiased",
        description="Which variance of a batch moves the moving one: unbiased as in torch, whose own module it is "
        "then, or biased as in Keras, as port writes. With renorm it is biased.",
    )
    moving_mean_initializer: Initializer = ZEROS
    moving_variance_initializer: Initializer = ONES
    renorm: bool = Field(False, description="Whether training corrects the batch's statistics by moving ones.")
    renorm_clipping: dict[Literal["rmin", "rmax", "dmax"], NotNegative | None] | None = Field(
        None, description="Bounds of these corrections: of the factor, and of the shift in magnitude."
    )
    renorm_momentum: Fraction = Field(0.99, description="How much of the statistics of renorm is kept in each step.")

    own_fields = frozenset({"moving_variance"})
    shift = "moving_mean"

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        return {**super().keras_fields(*xs), "moving_variance": "unbiased"}

    @field_validator("renorm_clipping")
    @classmethod
    def _is_a_range(cls, value: dict[str, float | None] | None) -> dict[str, float | None] | None:
        low, high = (None, None) if value is None else (value.get("rmin"), value.get("rmax"))
        if low is not None and high is not None and low > high:
            raise PydanticCustomError("range", "must not have an rmin above its rmax")
        return value

    def checked(self, *xs: Symbol) -> None:
        super().checked(*xs)
        x = xs[0]
        if x.mask is not None and (self.renorm or x.mask.rank != x.rank - 1):
            raise ShapeError(f"has a mask of {text(x.mask.shape)}, which does not fit {x.described}")

    def counts_by_mask(self, *xs: Symbol) -> bool:
        return xs[0].mask is not None

    @property
    def reads_batch(self) -> bool:
        return self.trainable is not False  # statistics may move though no weight is trained

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        size, along = (x.size(1),), (x.order[1],)
        mean = self.weight(
            "moving_mean", "c", size, parameters=("running_mean",), constructed=ZEROS, trainable=False, along=along
        )
        variance = self.weight(
            "moving_variance", "c", size, parameters=("running_var",), constructed=ONES, trainable=False, along=along
        )
        if not self.renorm:
            return (*self.affine(x), mean, variance)
        starts = {"moving_stddev": None, "renorm_mean": self.moving_mean_initializer, "renorm_stddev": None}
        renorm = [
            self.weight(name, "c", size, parameters=(name,), constructed=ZEROS, trainable=False, initializer=start)
            for name, start in starts.items()
        ]
        return (*self.affine(x), mean, variance, *renorm)

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        if not 2 <= x.rank <= 5 and not self.renorm:
            raise ShapeError(f"takes 2-D to 5-D input, but is given {x.described}")
        constructor = self._constructor(x)
        if x.mask is None:
            return Module(constructor)(x)
        if x.order[1] == x.rank - 1:
            mask = x.mask.method("unsqueeze", 1)
        else:  # the mask has all of Keras's axes but the last
            mask = x.mask.method("unsqueeze", -1)
            mask = mask if x.order == identity(x.rank) else mask.method("permute", *x.order)
        return Module(constructor)(x, mask)

    def _constructor(self, x: Symbol) -> Call:
        """Torch's own module, or the runtime's where torch has none that does it."""
        name = f"BatchNorm{max(x.rank - 2, 1)}d"
        momentum = round(1 - self.momentum, 12)
        is_frozen = not self.reads_batch
        is_biased = self.moving_variance == "biased" and not self.renorm and not is_frozen
        has_mask = x.mask is not None or x.is_masked_elsewhere
        if self.scale == self.center and not (self.renorm or is_biased or is_frozen or has_mask):
            eps, momentum = unless(1e-5, self.epsilon), unless(0.1, momentum)
            return call(f"nn.{name}", x.size(1), eps=eps, momentum=momentum, affine=unless(True, self.scale))
        clipping = self.renorm_clipping or {}
        bounds = (clipping.get("rmin"), clipping.get("rmax"), clipping.get("dmax"))
        return call(
            "BatchRenorm" if self.renorm else name,
            x.size(1),
            eps=unless(1e-3, self.epsilon),
            momentum=unless(0.01, momentum),
            renorm_momentum=unless(0.01, round(1 - self.renorm_momentum, 12)) if self.renorm else OMIT,
            clipping=unless((None, None, None), bounds) if self.renorm else OMIT,
            scale=unless(True, self.scale),
            center=unless(True, self.center),
            biased=unless(False, is_biased),
            frozen=unless(False, is_frozen),
        )


@kind
class GroupNormalization(ChannelNormalization):
    """Subtracts the mean of each group of channels and divides by its deviation."""

    example = "{groups: 2}"

    groups: int = Field(32, ge=-1, description="The number of groups; -1 for one to each channel.")

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        """As many groups as channels, as Keras writes what it makes of -1."""
        own = {"groups": xs[0].size(1)} if xs and self.groups == -1 else {}
        return {**super().keras_fields(*xs), **own}

    def tied(self, tie: Tie) -> Tie:
        if self.groups in (-1, tie.size):  # one to each channel
            return replace(tie, field=() if self.groups == -1 else ("groups",))
        return replace(tie, stays="each group of them is normalized together")

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        channels = x.size(1)
        groups = channels if self.groups == -1 else self.groups
        if groups == 0 or channels % groups:
            raise ShapeError(f"has {groups} groups, which do not divide the {channels} channels of {x.described}")
        return x.shape

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        return self.affine(x)

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        channels = x.size(1)
        groups = channels if self.groups == -1 else self.groups
        if self.scale != self.center:
            constructor = call("GroupNorm", groups, channels, eps=self.epsilon, scale=self.scale, center=self.center)
        else:
            constructor = call("nn.GroupNorm", groups, channels, eps=self.epsilon, affine=unless(True, self.scale))
        return Module(constructor)(x)


class FeatureNormalization(Layer):
    """A normalization over one axis or several, which it wants last."""

    main = "axis"

    axis: Axes = Field((-1,), description="The axis or axes that are normalized together; the features when absent.")

    axis_fields = ("axis",)

    def literal_order(self, x: Symbol) -> Order:
        """The axes that are normalized last, unless the last one is among them and all follow each other as in Keras.

        On torch Keras's class normalizes the last axes, whichever neighbours it is told.
        """
        places = [x.spec_axis(axis) for axis in self.normalized(x)]
        return x.spec_order if places == sorted(places) and places[-1] == x.rank - 1 else self.order(x)

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        x = xs[0]
        order = self.literal_order(x)
        if x.is_plain and order == x.spec_order:
            return {"axis": self.axis}
        places = tuple(sorted(map(order.index, self.normalized(x))))
        return {"axis": (-1,) if places == (x.rank - 1,) else places}

    def normalized(self, x: Symbol) -> tuple[int, ...]:
        """The axes that are normalized together, in order."""
        chosen = tuple(sorted({x.order[x.dimension(axis)] for axis in self.axis}))
        if 0 in chosen:
            raise ShapeError("normalizes over axis 0, which is the batch")
        return chosen

    def order(self, x: Symbol) -> Order:
        chosen = self.normalized(x)
        return (*(axis for axis in range(x.rank) if axis not in chosen), *chosen)

    def feature_shape(self, x: Symbol) -> tuple[int, ...]:
        """The sizes of the axes that are normalized together."""
        return tuple(x.size(dimension) for dimension in range(x.rank - len(self.normalized(x)), x.rank))

    def ties(self, x: Symbol, *_: Symbol) -> Ties | None:
        chosen = self.normalized(x)
        ties = alike((x,), dict.fromkeys(chosen, "they are normalized together"))
        along = {axis: place for place, axis in enumerate(chosen)}
        own = [weight.name for weight in self.weights(x)]
        return Ties(
            tuple(
                replace(tie, places=(*tie.places, *(Place(name, along[axis]) for name in own if axis in along)))
                for tie in ties
                for axis in (tie.places[0].axis,)
            )
        )

    def affine_weight(self, slot: str, x: Symbol, parameter: str, constructed: Initializer) -> Weight:
        """A weight with one number for each feature."""
        names = " ".join("abcdefgh"[: len(self.normalized(x))])
        along = self.normalized(x)
        return self.weight(
            slot, names, self.feature_shape(x), parameters=(parameter,), constructed=constructed, along=along
        )


def _shape(sizes: tuple[int, ...]) -> int | tuple[int, ...]:
    return sizes[0] if len(sizes) == 1 else sizes


@kind
class LayerNormalization(AffineSlots, FeatureNormalization):
    """Subtracts each example's mean over its features and divides by its deviation."""

    supports_masking = True

    epsilon: NotNegative = Field(1e-3, description="Added to the variance.")
    rms_scaling: bool = Field(
        False, description="Whether the mean is not subtracted, and no beta added: Keras's older RMS scaling."
    )

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        gamma = self.affine_weight("gamma", x, "weight", ONES)
        if self.rms_scaling:
            return (gamma,)
        beta = self.affine_weight("beta", x, "bias", ZEROS)
        return (gamma,) * self.scale + (beta,) * self.center

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        shape = _shape(self.feature_shape(x))
        if self.rms_scaling:
            return Module(call("LayerNorm", shape, eps=self.epsilon, rms_scaling=True))(x)
        if self.center and not self.scale:
            return Module(call("LayerNorm", shape, eps=self.epsilon, scale=False))(x)
        affine = unless(True, self.scale)
        bias = unless(True, self.center) if self.scale else OMIT
        return Module(call("nn.LayerNorm", shape, eps=self.epsilon, elementwise_affine=affine, bias=bias))(x)


@kind
class RMSNormalization(FeatureNormalization):
    """Divides by the root of the mean square over the features, and multiplies by a learned scale."""

    epsilon: NotNegative = Field(1e-6, description="Added to the mean square.")

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        return (self.affine_weight("scale", x, "weight", ONES),)

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return Module(call("nn.RMSNorm", _shape(self.feature_shape(x)), eps=self.epsilon))(x)


@kind
class UnitNormalization(Elementwise):
    """Divides by the Euclidean norm along an axis or several."""

    supports_masking = True

    axis: Axes = Field((-1,), description="The axis or axes along which the norm is taken; the features when absent.")

    axis_fields = ("axis",)

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        for axis in self.axis:
            x.dimension(axis)  # raises if there is none
        return x.shape

    def ties(self, *xs: Symbol) -> Ties | None:
        chosen = (axis % xs[0].rank for axis in self.axis)
        return Ties(alike(xs, dict.fromkeys(chosen, "they are normalized together")))

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        dimensions = tuple(dict.fromkeys(x.dimension(axis) for axis in self.axis))
        return call("F.normalize", x, dim=unless(1, _shape(dimensions)))
