"""Fourier transforms. A complex tensor is two: its real and its imaginary part."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from regspec.code.expressions import Expression, Held, Module, Part, call, unless
from regspec.code.shapes import Shape, ShapeError, Symbol
from regspec.language.fields import Size
from regspec.layers.kinds import operation
from regspec.layers.layer import KerasCall, Layer
from regspec.layers.operations.operands import made
from regspec.layers.operations.products import met


def _parts(value: Expression, *swapped: int) -> list[Expression]:
    """The real and the imaginary part of a complex tensor, of which two axes may be exchanged."""
    pairs: Expression = call("torch.view_as_real", value)
    whole = (pairs.method("transpose", *swapped) if swapped else pairs).method("unbind", -1)
    return [Part(whole, ("real", "imag"), (index,)) for index in range(2)]


def _spectrum(x: Symbol, length: int | None) -> Shape:
    """The shape of the spectrum of real numbers: the frequencies from 0 up, from which the others follow."""
    size = length or x.shape[-1]
    return (*x.shape[:-1], None if size is None else size // 2 + 1)


class Transform(Layer):
    """A transform along the last axes."""

    keras_operation = "math"

    least: ClassVar[int] = 2  # the fewest axes of an input, with the batch

    def check(self, *xs: Symbol) -> None:
        """Raises `ShapeError` where the batch would be transformed, or where the two parts differ."""
        if any(x.rank < self.least for x in xs) or any(
            x.rank != xs[0].rank or not all(map(met, x.shape, xs[0].shape)) for x in xs
        ):
            given = " and ".join(x.named for x in xs)
            raise ShapeError(f"takes {self.least} axes or more, and as real and imaginary part the same, not {given}")


@operation
class RFFT(Transform):
    """The Fourier transform of real numbers along the last axis: the real part, the imaginary as a second output."""

    fft_length: Size | None = Field(None, description="How many numbers are transformed; all when absent.")

    def output_shape(self, x: Symbol, *_: Symbol) -> list[Shape]:
        self.check(x)
        return [_spectrum(x, self.fft_length)] * 2

    def lower(self, x: Symbol, *_: Symbol) -> list[Expression]:
        return _parts(call("torch.fft.rfft", x, n=unless(None, self.fft_length)))


@operation
class IRFFT(Transform):
    """The real numbers of a spectrum along the last axis, whose real and imaginary part are the inputs."""

    example = "{inputs: [real, imaginary]}"

    fft_length: Size | None = Field(None, description="How many numbers there are; as many as are even when absent.")

    arity = (2, 2)

    def keras_call(self, *tensors: object) -> KerasCall:
        return ([*tensors],), {}

    def output_shape(self, x: Symbol, *others: Symbol) -> Shape:
        self.check(x, *others)
        size = x.shape[-1]
        return (*x.shape[:-1], self.fft_length or (None if size is None else 2 * (size - 1)))

    def lower(self, x: Symbol, *others: Symbol) -> Expression:
        return call("torch.fft.irfft", call("torch.complex", x, *others), n=unless(None, self.fft_length))


class Complex(Transform):
    """A transform of complex numbers to complex numbers, whose parts are the inputs and the outputs."""

    example = "{inputs: [real, imaginary]}"

    function: ClassVar[str]

    arity = (2, 2)

    def keras_call(self, *tensors: object) -> KerasCall:
        return ([*tensors],), {}

    def output_shape(self, x: Symbol, *others: Symbol) -> list[Shape]:
        self.check(x, *others)
        return [x.shape] * 2

    def lower(self, x: Symbol, *others: Symbol) -> list[Expression]:
        return _parts(call(self.function, call("torch.complex", x, *others)))


FFT = made(Complex, "FFT", "The Fourier transform along the last axis, of two inputs and in two outputs.",
           function="torch.fft.fft")  # fmt: skip
FFT2 = made(Complex, "FFT2", "The Fourier transform along the last two axes, of two inputs and in two outputs.",
            function="torch.fft.fft2", least=3, is_counted_by_spec=True)  # fmt: skip
IFFT2 = made(Complex, "IFFT2", "The inverse transform along the last two axes, of two inputs and in two outputs.",
             function="torch.fft.ifft2", least=3, is_counted_by_spec=True)  # fmt: skip


@operation
class STFT(Transform):
    """The Fourier transforms of windows of (batch, samples): the real parts, and the imaginary as a second output."""

    example = "{sequence_length: 6, sequence_stride: 3, fft_length: 8}"

    sequence_length: Size = Field(description="The length of a window.")
    sequence_stride: Size = Field(description="How far apart windows begin.")
    fft_length: Size = Field(description="How many numbers are transformed: the window and zeros.")
    window: Literal["hann", "hamming"] | None = Field("hann", description="What a window is multiplied by.")
    center: bool = Field(True, description="Whether a window lies around its sample, the ends mirrored.")

    takes = ("batch", "samples")

    def output_shape(self, x: Symbol, *_: Symbol) -> list[Shape]:
        if self.fft_length < self.sequence_length:
            raise ShapeError(f"transforms {self.fft_length} numbers of windows of {self.sequence_length}")
        size = x.shape[1]
        padding = self.fft_length // 2 * 2 if self.center else 0
        count = None if size is None else 1 + (size + padding - self.fft_length) // self.sequence_stride
        if count is not None and (count < 1 or (self.center and size is not None and size <= self.fft_length // 2)):
            raise ShapeError(f"takes windows of {self.fft_length}, which do not fit {x.described}")
        return [(x.shape[0], count, self.fft_length // 2 + 1)] * 2

    def lower(self, x: Symbol, *_: Symbol) -> list[Expression]:
        window = call("torch.ones" if self.window is None else f"torch.{self.window}_window", self.sequence_length)
        spectra = call(
            "torch.stft",
            x,
            self.fft_length,
            hop_length=self.sequence_stride,
            win_length=unless(self.fft_length, self.sequence_length),
            window=Held(Module(call("nn.Buffer", window, persistent=False), "window"), (), {}),
            center=unless(True, self.center),
            return_complex=True,
        )
        return _parts(spectra, 1, 2)
