"""Spectrograms of signals."""

from __future__ import annotations

import math
from operator import attrgetter
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from regspec.code import axes
from regspec.code.axes import Order
from regspec.code.expressions import Expression, Module, call, unless
from regspec.code.shapes import Shape, ShapeError, Symbol, windowed
from regspec.language.fields import NotNegative, Number, Positive, Sequence, Size
from regspec.language.initializers import STFT, Window
from regspec.layers.families import Spatial
from regspec.layers.kinds import kind
from regspec.layers.layer import Layer, Weight

_NUMBERS = {"type": "array", "items": {"type": "number"}, "minItems": 1}
Weights = Annotated[tuple[Number, ...], Sequence, WithJsonSchema(_NUMBERS)]

SIDES: dict[Literal["real", "imag"], str] = {"real": "imag", "imag": "real"}  # a part, and the mode without it


@kind
class STFTSpectrogram(Spatial):
    """The short-time Fourier transform of signals, by convolution with kernels that are trained unless frozen."""

    example = "{frame_length: 8, frame_step: 4}"

    mode: Literal["log", "magnitude", "psd", "real", "imag", "angle", "stft"] = Field(
        "log",
        description="What of the transform: the logarithm of its magnitude, the magnitude, the power, the real part, "
        "the imaginary part, the angle, or both parts one after the other.",
    )
    frame_length: Size = Field(256, description="The samples in a frame.")
    frame_step: Size | None = Field(None, description="The samples from a frame to the next; half a frame when absent.")
    fft_length: Size | None = Field(
        None, description="Twice the number of frequencies; the power of two from the frame's length on when absent."
    )
    window: Window | None = Field(
        "hann", description="What a frame is multiplied by: a window by its name, or its numbers; null for nothing."
    )
    periodic: bool = Field(False, description="Whether the window is one period of a function, and not symmetric.")
    scaling: Literal["density", "spectrum"] | None = Field(
        "density", description="Whether to divide by the window's norm, by its sum, or by nothing."
    )
    padding: Literal["valid", "same"] = Field("valid", description="same adds zeros before and after.")
    expand_dims: bool = Field(False, description="Whether frequencies have an axis of their own beside the channels.")

    spatial_rank = 1
    takes_signals = True

    @model_validator(mode="after")
    def _fits(self) -> STFTSpectrogram:
        if self.frame_step is not None and self.frame_step > self.frame_length:
            raise PydanticCustomError("frames", "needs a 'frame_step' of no more than 'frame_length'")
        if self.fft_length is not None and self.fft_length < self.frame_length:
            raise PydanticCustomError("frames", "needs a 'fft_length' of no less than 'frame_length'")
        if isinstance(self.window, tuple) and len(self.window) != self.frame_length:
            raise PydanticCustomError("frames", "needs a 'window' of as many numbers as 'frame_length'")
        return self

    @property
    def _step(self) -> int:
        return self.frame_step or max(self.frame_length // 2, 1)

    @property
    def _fft_length(self) -> int:
        return self.fft_length or 2 ** math.ceil(math.log2(self.frame_length))

    @property
    def _frequencies(self) -> int:
        return self._fft_length // 2 + 1

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        return tuple(self._kernel(side) for side, other in SIDES.items() if self.mode != other)

    def _kernel(self, side: Literal["real", "imag"]) -> Weight:
        filled = STFT(side=side, window=self.window, scaling=self.scaling, periodic=self.periodic)
        name, shape = f"{side}_kernel", (self.frame_length, 1, self._frequencies)
        filling = {"initializer": filled, "constructed": filled}
        return self.weight("kernel", "t i o -> o i t", shape, name=name, parameters=(name,), **filling)

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        time = windowed(x.shape[2], self.frame_length, self._step, self.padding == "same")
        if time is not None and time < 1:
            raise ShapeError(f"has frames of {self.frame_length} samples, which do not fit into {x.described}")
        channels, frequencies = x.shape[1], self._frequencies * (2 if self.mode == "stft" else 1)
        if not self.expand_dims:
            return (x.shape[0], None if channels is None else channels * frequencies, time)
        return (x.shape[0], channels, time, frequencies)

    def output_order(self, rank: int, x: Symbol, *_: Symbol) -> Order:
        if rank == x.rank or self.data_format == "channels_first":
            return super().output_order(rank, x)
        return axes.channels_first(rank)

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        constructor = call(
            "STFTSpectrogram",
            self.frame_length,
            self._step,
            fft_length=self._fft_length,
            mode=unless("log", self.mode),
            window=unless("hann", self.window),
            periodic=unless(False, self.periodic),
            scaling=unless("density", self.scaling),
            padding=unless("valid", self.padding),
        )
        spectrum = Module(constructor)(x)
        if not self.expand_dims:
            return spectrum.method("flatten", 1, 2)
        return spectrum.method("transpose", 2, 3)


@kind
class MelSpectrogram(Layer):
    """The power of signals in bands on the mel scale, in decibels unless that is turned off."""

    example = "{fft_length: 64, sequence_stride: 16, num_mel_bins: 20, sampling_rate: 8000}"

    fft_length: Size = Field(2048, description="The length of the Fourier transform.")
    sequence_stride: Size = Field(512, description="The samples from a frame to the next.")
    sequence_length: Size | None = Field(None, description="The samples in a frame; fft_length when absent.")
    window: Literal["hann", "hamming"] | Weights | None = Field(
        "hann", description="What a frame is multiplied by: a window by its name, or its numbers; null for nothing."
    )
    sampling_rate: Size = Field(16000, description="The samples in a second.")
    num_mel_bins: Size = Field(128, description="The number of bands.")
    min_freq: NotNegative = Field(20.0, description="The lowest frequency, in hertz.")
    max_freq: Positive | None = Field(
        None, description="The highest frequency, in hertz; half the sampling_rate when absent."
    )
    power_to_db: bool = Field(True, description="Whether to give decibels.")
    top_db: Number = Field(80.0, description="How far below the batch's loudest a value in decibels may be.")
    mag_exp: Positive = Field(2.0, description="The exponent of the magnitude: 2 for the power.")
    min_power: Positive = Field(1e-10, description="The least power, in decibels.")
    ref_power: Number = Field(1.0, description="The power of 0 decibels.")

    unsaid = MappingProxyType(
        {"sequence_length": attrgetter("fft_length"), "max_freq": lambda layer: layer.sampling_rate // 2}
    )

    @model_validator(mode="after")
    def _fits(self) -> MelSpectrogram:
        length = self.sequence_length or self.fft_length
        if length > self.fft_length:
            raise PydanticCustomError("frames", "needs a 'sequence_length' of no more than 'fft_length'")
        if isinstance(self.window, tuple) and len(self.window) != length:
            raise PydanticCustomError("frames", "needs a 'window' of as many numbers as a frame has samples")
        if self.max_freq is not None and self.max_freq <= self.min_freq:
            raise PydanticCustomError("frames", "needs a 'max_freq' above 'min_freq'")
        return self

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        if x.rank > 2:
            raise ShapeError(f"takes 2-D input (batch, samples), but is given {x.described}")
        if x.rank == 1:  # one signal without a batch
            return (None, None)
        samples, beyond = x.shape[1], self.fft_length // 2  # the signal is mirrored at its ends
        if samples is None:
            return (x.shape[0], self.num_mel_bins, None)
        if samples <= beyond:
            raise ShapeError(f"needs more than {beyond} samples, but is given {x.described}")
        frames = (samples + 2 * beyond - self.fft_length) // self.sequence_stride + 1
        return (x.shape[0], self.num_mel_bins, frames)

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return Module(call("MelSpectrogram", **self.own_arguments()))(x)
