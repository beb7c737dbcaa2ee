"""Noise in training, nothing in evaluation; and layers that only pass their input on."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from regspec.code import axes
from regspec.code.axes import Order
from regspec.code.expressions import Expression, Module, call, unless
from regspec.code.shapes import Shape, ShapeError, Symbol
from regspec.language.fields import Count, Fraction, NotNegative, Size
from regspec.language.fields import Sequence as SequenceField
from regspec.language.regularizers import L1L2, Regularizer, RegularizerField
from regspec.layers.families import Elementwise, Moved, Sequential, Spatial, named_together
from regspec.layers.kinds import kind
from regspec.layers.layer import Layer
from regspec.layers.ties import Ties, alike

NoiseShape = Annotated[tuple[Size | None, ...], SequenceField]


class Noise(Layer):
    """A layer that is random in training."""

    supports_masking = True

    seed: Count | None = Field(None, description="Accepted for Keras's sake; torch draws from its own generator.")


class Rated(Noise):
    """A layer that drops a share of its input."""

    example = "{rate: 0.5}"

    rate: Fraction = Field(description="The share that is dropped.")


class Scaled(Rated):
    """A layer whose noise grows without bound as the share nears one."""

    rate: Annotated[Fraction, Field(lt=1)] = Field(description="The share that is dropped, below one.")


class Shaped(Rated):
    """A layer whose noise may be shared along axes."""

    noise_shape: NoiseShape | None = Field(
        None, description="The shape of the noise, with the batch; 1 where all share it, null for the input's size."
    )

    def noise(self, x: Symbol) -> tuple[int | None, ...] | None:
        """The shape of the noise, where it is not the input's."""
        if self.noise_shape is not None and len(self.noise_shape) != x.rank:
            raise ShapeError(f"has a noise_shape of {len(self.noise_shape)} axes, but is given {x.described}")
        return self.noise_shape and axes.permute(self.noise_shape, x.order)

    def ties(self, *xs: Symbol) -> Ties | None:
        says_sizes = any(size not in (None, 1) for size in self.noise_shape or ())
        return None if says_sizes else Ties(alike(xs))

    @property
    def reads_batch(self) -> bool:
        return self.noise_shape is not None and self.noise_shape[:1] != (None,)

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        self.noise(x)  # raises if its shape does not fit
        return x.shape

    def order(self, x: Symbol) -> Order | None:
        return None

    @property
    def reads_axes(self) -> bool:
        return False

    def literal_order(self, x: Symbol) -> Order:
        return x.spec_order

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        if self.noise_shape is None or xs[0].is_plain:
            return {}
        return {"noise_shape": axes.permute(self.noise_shape, xs[0].spec_order)}

    def counted_by_keras(self, *xs: Symbol) -> Layer:
        if self.noise_shape is None or len(self.noise_shape) != xs[0].rank or xs[0].is_plain:
            return self
        return self.model_copy(update={"noise_shape": axes.permute(self.noise_shape, axes.inverse(xs[0].spec_order))})


@kind
class Dropout(Shaped):
    """Zeros at random, and the rest enlarged to keep the mean."""

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        noise = self.noise(x)
        if noise is None:
            return Module(call("nn.Dropout", self.rate))(x)
        return Module(call("Dropout", self.rate, noise_shape=noise))(x)


@kind
class AlphaDropout(Shaped, Scaled):
    """Dropout that keeps mean and variance of self-normalizing networks."""

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        noise = self.noise(x)
        if noise is None:
            return Module(call("nn.AlphaDropout", self.rate))(x)
        return Module(call("AlphaDropout", self.rate, noise_shape=noise))(x)


class SpatialDropout(Rated, Spatial):
    """Whole channels dropped at random."""

    has_activity_in_keras = False

    def ties(self, x: Symbol, *_: Symbol) -> Ties | None:
        return self.each_channel(x)

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return Module(call(f"nn.Dropout{self.spatial_rank}d", self.rate))(x)


@kind
class SpatialDropout1D(Sequential, SpatialDropout):
    """Whole features of a sequence dropped at random."""


@kind
class SpatialDropout2D(SpatialDropout):
    """Whole channels of images dropped at random."""

    spatial_rank = 2


@kind
class SpatialDropout3D(SpatialDropout):
    """Whole channels of volumes dropped at random."""

    spatial_rank = 3


@kind
class GaussianDropout(Elementwise, Scaled):
    """The input times noise of mean one and deviation sqrt(rate / (1 - rate))."""

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return Module(call("GaussianDropout", self.rate))(x)


@kind
class GaussianNoise(Elementwise, Noise):
    """The input plus noise of mean zero."""

    example = "{stddev: 0.1}"

    stddev: NotNegative = Field(description="The deviation of the noise.")

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return Module(call("GaussianNoise", self.stddev))(x)


@kind
class Sampling(Elementwise, Noise):
    """A sample of Gaussians by their means and the logs of their variances, as in a VAE; in evaluation the means."""

    main = None
    example = "{inputs: [mean, log_var]}"
    arity: ClassVar[tuple[int, int | None]] = (2, 2)
    is_in_keras = False  # whose example of a VAE writes it, and samples in evaluation too

    kl_regularizer: RegularizerField | None = Field(
        None,
        description="A penalty on the means and logs of variances together, such as gaussian_kl, divided by the batch "
        "size.",
    )

    @property
    def reads_axes(self) -> bool:
        return self.kl_regularizer is not None and self.kl_regularizer.reads_units

    def order(self, x: Symbol) -> Order | None:
        reads_places = self.kl_regularizer is not None and self.kl_regularizer.reads_axes
        return axes.identity(x.rank) if reads_places else super().order(x)

    def output_shape(self, x: Symbol, *others: Symbol) -> Shape:
        if any(each.shape != x.shape for each in others):
            raise ShapeError(f"takes means and logs of variances of one shape, but {named_together(x, *others)} differ")
        return x.shape

    @property
    def inner_activities(self) -> dict[str, Regularizer]:
        return {} if self.kl_regularizer is None else {".kl": self.kl_regularizer}

    def inner_slot(self, suffix: str) -> str:
        return "kl"

    def inner_units(self, output: Symbol) -> int:
        return self.units_of(output)

    def lower(self, x: Symbol, *others: Symbol) -> Expression:
        return Module(call("Sampling", dim=unless(-1, self.units_of(x))))(x, *others)


@kind
class Identity(Moved, Elementwise):
    """The input, unchanged."""

    supports_masking = True

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return Module(call("nn.Identity"))(x)


@kind
class ActivityRegularization(Moved, Elementwise):
    """The input, unchanged, with a penalty on it."""

    has_activity_in_keras = False

    example = "{l1: 1e-5}"
    supports_masking = True

    l1: NotNegative = Field(0.0, description="The strength of the sum of absolute values.")
    l2: NotNegative = Field(0.0, description="The strength of the sum of squares.")

    @property
    def says_activity(self) -> bool:
        return True

    @property
    def activity(self) -> Regularizer:
        """The penalty that its fields give, and any that it has besides."""
        own, more = L1L2(l1=self.l1, l2=self.l2), self.activity_regularizer
        return Regularizer((own,)) if more is None else Regularizer((own, *more.parts), more.reduction)

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return Module(call("nn.Identity"))(x)
