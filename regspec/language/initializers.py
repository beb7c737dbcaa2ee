"""Keras's 16 initializers, and the torch call that draws each.

Where torch's own function draws from the same distribution it is used: ``glorot_uniform`` is ``xavier_uniform_``. The
normal ones are truncated at two deviations in Keras and not in torch: they are the runtime's ``variance_scaling_``.
Where torch's layout hides Keras's fans, as of a depthwise kernel, the bound or deviation is worked out here and
printed as a number.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from regspec.code.axes import Pattern
from regspec.code.expressions import OMIT, Call, Value, call, unless
from regspec.code.shapes import ShapeError
from regspec.language.arithmetic import ExpressionError
from regspec.language.calls import is_call, parse_call
from regspec.language.fields import Count, Number, Positive, Sequence
from regspec.language.forms import Family, Named

# The deviation of a standard normal truncated to [-2, 2], by which Keras divides.
TRUNCATED_DEVIATION = 0.87962566103423978


@dataclass(frozen=True, slots=True)
class Drawn:
    """The weight to be filled: its shape in Keras, its layout in torch, and its fans where Keras fixes them."""

    shape: tuple[int, ...]
    pattern: Pattern
    fans: tuple[int, int] | None = None
    is_regrouped: bool = False  # whether torch has its groups of columns, an RNN's gates, in another order

    @property
    def is_matrix(self) -> bool:
        """Whether it is a matrix in torch too, where a weight of two axes may be two vectors."""
        return len(self.shape) == len(self.pattern.torch) == 2

    @property
    def keras_fans(self) -> tuple[int, int]:
        """Inputs and outputs of a unit, as Keras counts them."""
        if self.fans is not None:
            return self.fans
        if len(self.shape) < 2:
            size = math.prod(self.shape)
            return size, size
        field = math.prod(self.shape[:-2])
        return self.shape[-2] * field, self.shape[-1] * field

    @property
    def torch_fans(self) -> tuple[int, int] | None:
        """Inputs and outputs of a unit, as ``torch.nn.init`` counts them; it counts none for a vector."""
        shape = self.pattern.torch_shape(self.shape)
        if len(shape) < 2:
            return None
        field = math.prod(shape[2:])
        return shape[1] * field, shape[0] * field


class WeightInitializer(Named):
    """A distribution, or a value, that a weight is drawn from."""

    def check(self, drawn: Drawn) -> None:
        """Raises `ShapeError` where it can't fill such a weight."""
        self.lower(drawn)

    def lower(self, drawn: Drawn) -> Call:
        """The call that fills a parameter; the parameter comes before its arguments."""
        raise NotImplementedError


# Of torch.nn.init, without arguments; its normal ones are not truncated, as Keras's he_normal and glorot_normal are.
INITIALIZERS_OF_TORCH: dict[str, str | dict[str, Any]] = {
    "xavier_uniform": "glorot_uniform",
    "kaiming_uniform": "he_uniform",
    "xavier_normal": {"variance_scaling": {"mode": "fan_avg", "distribution": "untruncated_normal"}},
    "kaiming_normal": {"variance_scaling": {"scale": 2.0, "distribution": "untruncated_normal"}},
}
_EXPLAINED = dict.fromkeys(  # where Keras has none of the name's sort
    (name for name, own in INITIALIZERS_OF_TORCH.items() if not isinstance(own, str)),
    "it is read without arguments; else write "
    "'{variance_scaling: {scale: …, mode: …, distribution: untruncated_normal}}'",
)
# of torch.nn.init, of the papers' authors, and of what is left of a name without its distribution
_SYNONYMS = {
    **{name: own for name, own in INITIALIZERS_OF_TORCH.items() if isinstance(own, str)},
    "glorot": "glorot_uniform",
    "xavier": "glorot_uniform",
    "he": "he_normal",
    "kaiming": "he_normal",
    "msra": "he_normal",
    "lecun": "lecun_normal",
    "gaussian": "random_normal",
    "randn": "random_normal",
    "rand": "random_uniform",
    "trunc_normal": "truncated_normal",
    "eye": "identity",
    "dirac": "identity",
    "fill": "constant",
    "value": "constant",
}

INITIALIZERS: Family[WeightInitializer] = Family("initializer", synonyms=_SYNONYMS, explained=_EXPLAINED)


def initializer_of(written: str) -> str | dict[str, Any] | None:
    """The initializer that a name of torch means, or a call of it without arguments; None for another text."""
    if is_call(written):
        try:
            call = parse_call(written)
        except ExpressionError:
            return None
        if call.positional or call.named:
            return None
        written = re.sub(r"^((torch\.)?nn\.)?init\.", "", call.name.text)
    return INITIALIZERS_OF_TORCH.get(written.removesuffix("_"))


class Random(WeightInitializer):
    """An initializer that draws numbers; with a seed, the same ones each time."""

    seed: Count | None = None

    @property
    def generator(self) -> Value:
        """The generator of a seeded draw, or `OMIT`."""
        return OMIT if self.seed is None else call("torch.Generator").method("manual_seed", self.seed)


@INITIALIZERS.add
class Zeros(WeightInitializer):
    """All zeros."""

    aliases = ("zero",)

    def lower(self, drawn: Drawn) -> Call:
        return call("nn.init.zeros_")


@INITIALIZERS.add
class Ones(WeightInitializer):
    """All ones."""

    aliases = ("one",)

    def lower(self, drawn: Drawn) -> Call:
        return call("nn.init.ones_")


@INITIALIZERS.add
class Constant(WeightInitializer):
    """All of one value."""

    main = "value"
    said_in_keras = frozenset({"value"})
    example = "0.5"
    value: Number = 0.0

    def lower(self, drawn: Drawn) -> Call:
        return call("nn.init.constant_", self.value)


@INITIALIZERS.add
class Identity(WeightInitializer):
    """The identity matrix, times gain."""

    main = "gain"
    aliases = ("identity_initializer", "IdentityInitializer")
    gain: Number = 1.0

    def lower(self, drawn: Drawn) -> Call:
        if drawn.is_regrouped:
            raise ShapeError("has an identity initializer, which would fill one of its gates alone")
        if not drawn.is_matrix:
            raise ShapeError(f"has an identity initializer, which needs a matrix, and not {drawn.shape}")
        return call("nn.init.eye_") if self.gain == 1 else call("eye_", self.gain)


@INITIALIZERS.add
class Orthogonal(Random):
    """A random matrix with orthonormal rows or columns, times gain; higher ranks by their matrix form."""

    main = "gain"
    aliases = ("orthogonal_initializer", "OrthogonalInitializer")
    gain: Number = 1.0

    def lower(self, drawn: Drawn) -> Call:
        if len(drawn.shape) < 2 or len(drawn.pattern.torch) < 2:
            raise ShapeError(f"has an orthogonal initializer, which needs two or more axes, and not {drawn.shape}")
        gain = unless(1.0, self.gain)
        if len(drawn.shape) == 2 or drawn.pattern.torch[0] == (drawn.pattern.keras[-1],):
            return call("nn.init.orthogonal_", gain=gain, generator=self.generator)
        return call("orthogonal_", drawn.shape, drawn.pattern.permutation, gain=gain, generator=self.generator)


@INITIALIZERS.add
class RandomNormal(Random):
    """A normal distribution."""

    example = "{stddev: 0.02}"
    aliases = ("normal",)
    mean: Number = 0.0
    stddev: Positive = 0.05

    def lower(self, drawn: Drawn) -> Call:
        return call("nn.init.normal_", mean=unless(0.0, self.mean), std=self.stddev, generator=self.generator)


@INITIALIZERS.add
class RandomUniform(Random):
    """A uniform distribution."""

    example = "{minval: -0.1, maxval: 0.1}"
    aliases = ("uniform",)
    minval: Number = -0.05
    maxval: Number = Field(0.05, validate_default=True)

    @field_validator("maxval")
    @classmethod
    def _is_above(cls, value: float, fields: ValidationInfo) -> float:
        if value < fields.data.get("minval", value):
            raise PydanticCustomError("range", "must be at least minval, {least}", {"least": fields.data["minval"]})
        return value

    def lower(self, drawn: Drawn) -> Call:
        return call("nn.init.uniform_", self.minval, self.maxval, generator=self.generator)


@INITIALIZERS.add
class TruncatedNormal(Random):
    """A normal distribution cut off at two deviations."""

    example = "{stddev: 0.02}"
    mean: Number = 0.0
    stddev: Positive = 0.05

    def lower(self, drawn: Drawn) -> Call:
        return _truncated(self.mean, self.stddev, self.generator)


def _truncated(mean: float, deviation: float, generator: Value) -> Call:
    low, high = mean - 2 * deviation, mean + 2 * deviation
    return call("nn.init.trunc_normal_", mean=unless(0.0, mean), std=deviation, a=low, b=high, generator=generator)


class Scaled(Random):
    """A distribution whose variance is scale / fan."""

    distribution_: ClassVar[str]
    scale_: ClassVar[float]
    mode_: ClassVar[str]
    torch_function: ClassVar[Call | None] = None  # where torch draws the same, given the same fans

    def lower(self, drawn: Drawn) -> Call:
        if self.torch_function is not None and _fan(self.mode_, drawn.torch_fans) == _fan(self.mode_, drawn.keras_fans):
            same = self.torch_function
            return call(same.function, *same.arguments, **dict(same.keywords), generator=self.generator)
        return _scaled(self.scale_, self.mode_, self.distribution_, drawn, self.generator)


def _scaled(scale: float, mode: str, distribution: str, drawn: Drawn, generator: Value) -> Call:
    if _fan(mode, drawn.torch_fans) == _fan(mode, drawn.keras_fans):
        return call(
            "variance_scaling_",
            scale=unless(1.0, scale),
            mode=unless("fan_in", mode),
            distribution=unless("truncated_normal", distribution),
            generator=generator,
        )
    variance = scale / max(1.0, _fan(mode, drawn.keras_fans) or 0.0)
    if distribution == "uniform":
        limit = math.sqrt(3 * variance)
        return call("nn.init.uniform_", -limit, limit, generator=generator)
    if distribution == "untruncated_normal":
        return call("nn.init.normal_", std=math.sqrt(variance), generator=generator)
    return _truncated(0.0, math.sqrt(variance) / TRUNCATED_DEVIATION, generator)


def _fan(mode: str, fans: tuple[int, int] | None) -> float | None:
    """The fan that a mode goes by, of the fans in and out; None where there are none."""
    if fans is None:
        return None
    inputs, outputs = fans
    return {"fan_in": inputs, "fan_out": outputs, "fan_avg": (inputs + outputs) / 2}[mode]


@INITIALIZERS.add
class VarianceScaling(Random):
    """A distribution whose variance is scale / fan."""

    example = "{scale: 2.0, mode: fan_out}"
    scale: Annotated[Positive, Field(le=1e30)] = 1.0
    mode: Literal["fan_in", "fan_out", "fan_avg"] = "fan_in"
    distribution: Literal["truncated_normal", "untruncated_normal", "uniform", "normal"] = "truncated_normal"

    def lower(self, drawn: Drawn) -> Call:
        distribution = "truncated_normal" if self.distribution == "normal" else self.distribution
        return _scaled(self.scale, self.mode, distribution, drawn, self.generator)


@INITIALIZERS.add
class GlorotUniform(Scaled):
    """Uniform in [-limit, limit], limit = sqrt(6 / (fan_in + fan_out)). Also called Xavier uniform."""

    scale_, mode_, distribution_ = 1.0, "fan_avg", "uniform"
    torch_function = call("nn.init.xavier_uniform_")


@INITIALIZERS.add
class GlorotNormal(Scaled):
    """Truncated normal of variance 2 / (fan_in + fan_out). Also called Xavier normal."""

    scale_, mode_, distribution_ = 1.0, "fan_avg", "truncated_normal"


@INITIALIZERS.add
class HeUniform(Scaled):
    """Uniform in [-limit, limit], limit = sqrt(6 / fan_in). Also called Kaiming uniform."""

    scale_, mode_, distribution_ = 2.0, "fan_in", "uniform"
    torch_function = call("nn.init.kaiming_uniform_", nonlinearity="relu")


@INITIALIZERS.add
class HeNormal(Scaled):
    """Truncated normal of variance 2 / fan_in. Also called Kaiming normal."""

    scale_, mode_, distribution_ = 2.0, "fan_in", "truncated_normal"


@INITIALIZERS.add
class LecunUniform(Scaled):
    """Uniform in [-limit, limit], limit = sqrt(3 / fan_in)."""

    scale_, mode_, distribution_ = 1.0, "fan_in", "uniform"
    torch_function = call("nn.init.kaiming_uniform_", nonlinearity="linear")


@INITIALIZERS.add
class LecunNormal(Scaled):
    """Truncated normal of variance 1 / fan_in."""

    scale_, mode_, distribution_ = 1.0, "fan_in", "truncated_normal"


# A window by its name, or its numbers.
Window = (
    Literal["hann", "hamming", "blackman", "bartlett", "cosine", "nuttall"] | Annotated[tuple[Number, ...], Sequence]
)


@INITIALIZERS.add
class STFT(WeightInitializer):
    """The real or imaginary part of a short-time Fourier transform's basis, for a kernel of shape (frame, 1, bins)."""

    name = "stft"
    aliases = ("stft_initializer", "STFTInitializer")
    side: Literal["real", "imag"] = "real"
    window: Window | None = "hann"
    scaling: Literal["density", "spectrum"] | None = "density"
    periodic: bool = False

    def lower(self, drawn: Drawn) -> Call:
        if len(drawn.shape) != 3 or drawn.shape[1] != 1:
            raise ShapeError(
                f"has an stft initializer, which needs a weight of the shape (frame, 1, bins), not {drawn.shape}"
            )
        return call(
            "stft_",
            side=unless("real", self.side),
            window=unless("hann", self.window),
            scaling=unless("density", self.scaling),
            periodic=unless(False, self.periodic),
        )


Initializer = Annotated[WeightInitializer, INITIALIZERS]

# by their defaults alone, for which no schema is built before a spec names them
ZEROS = Zeros.model_construct()
ONES = Ones.model_construct()
NORMAL = RandomNormal.model_construct()
UNIFORM = RandomUniform.model_construct()
GLOROT_UNIFORM = GlorotUniform.model_construct()
ORTHOGONAL = Orthogonal.model_construct()
