"""Spectrograms of signals: by convolution with kernels that can be trained, and on the mel scale."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regspec.runtime.modules.initializers import stft_


class STFTSpectrogram(nn.Module):
    """The short-time Fourier transform of signals (batch, channels, time), of each channel by itself.

    Gives (batch, channels, frequencies, time). ``mode`` is what of it: ``real``, ``imag``, both one after the other
    (``stft``), the ``angle``, the ``magnitude``, its logarithm (``log``), or the power (``psd``).
    """

    real_kernel: Tensor | None
    imag_kernel: Tensor | None

    def __init__(
        self,
        frame_length: int,
        stride: int,
        *,
        fft_length: int,
        mode: str = "log",
        window: str | tuple[float, ...] | None = "hann",
        periodic: bool = False,
        scaling: str | None = "density",
        padding: str = "valid",
    ) -> None:
        super().__init__()
        self.stride = stride
        self.mode = mode
        self.padding = padding
        for side, other in (("real", "imag"), ("imag", "real")):
            kernel = None
            if mode != other:
                kernel = nn.Parameter(torch.empty(fft_length // 2 + 1, 1, frame_length))
                stft_(kernel, side=side, window=window, scaling=scaling, periodic=periodic)
            self.register_parameter(f"{side}_kernel", kernel)

    def forward(self, x: Tensor) -> Tensor:
        kernel = torch.cat([each for each in (self.real_kernel, self.imag_kernel) if each is not None])
        if self.padding == "same":
            time = x.shape[-1]
            cells = max((-(-time // self.stride) - 1) * self.stride + kernel.shape[-1] - time, 0)
            x = F.pad(x, (cells // 2, cells - cells // 2))
        parts: Tensor = F.conv1d(x.flatten(0, 1).unsqueeze(1), kernel, stride=self.stride).unflatten(0, x.shape[:2])
        if self.mode in ("real", "imag", "stft"):
            return parts
        real, imag = parts.chunk(2, 2)
        if self.mode == "angle":
            return torch.atan2(imag, real)
        power = real.square() + imag.square()
        if self.mode == "psd":
            return power + F.pad(power[:, :, 1:-1], (0, 0, 1, 1))  # all but the first and the last count twice
        magnitude = power.clamp_min(1e-7).sqrt()
        return magnitude.clamp_min(1e-7).log() if self.mode == "log" else magnitude

    def extra_repr(self) -> str:
        return f"stride={self.stride}, mode={self.mode!r}, padding={self.padding!r}"


class MelSpectrogram(nn.Module):
    """The power of signals (batch, time) in bands on the mel scale: (batch, bands, frames), in decibels by default."""

    window: Tensor
    bands: Tensor

    def __init__(
        self,
        fft_length: int = 2048,
        sequence_stride: int = 512,
        *,
        sequence_length: int | None = None,
        window: str | tuple[float, ...] | None = "hann",
        sampling_rate: int = 16000,
        num_mel_bins: int = 128,
        min_freq: float = 20.0,
        max_freq: float | None = None,
        power_to_db: bool = True,
        top_db: float = 80.0,
        mag_exp: float = 2.0,
        min_power: float = 1e-10,
        ref_power: float = 1.0,
    ) -> None:
        super().__init__()
        self.fft_length = fft_length
        self.sequence_stride = sequence_stride
        self.power_to_db = power_to_db
        self.top_db = top_db
        self.mag_exp = mag_exp
        self.min_power = min_power
        self.ref_power = ref_power
        length = sequence_length or fft_length
        if isinstance(window, str):
            weights: Tensor = getattr(torch, f"{window}_window")(length)
        else:
            weights = torch.ones(length) if window is None else torch.tensor(window)
        self.register_buffer("window", weights, persistent=False)
        bands = _mel_bands(num_mel_bins, fft_length // 2 + 1, sampling_rate, min_freq, max_freq or sampling_rate // 2)
        self.register_buffer("bands", bands, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)  # powers are beyond the range of half precision
        window = self.window.to(dtype)
        with torch.autocast(x.device.type, enabled=False):
            spectrum = torch.stft(
                x.to(dtype), self.fft_length, self.sequence_stride, len(window), window, return_complex=True
            )
            power = self.bands.to(dtype) @ spectrum.abs().pow(self.mag_exp)
        if self.power_to_db:
            power = 10 * power.clamp_min(self.min_power).log10()
            power = power - 10 * math.log10(max(abs(self.ref_power), self.min_power))
            power = torch.maximum(power, power.amax() - self.top_db)
        return power.to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.fft_length}, {self.sequence_stride}, bands={len(self.bands)}, power_to_db={self.power_to_db}"


def _mel_bands(bands: int, frequencies: int, rate: int, low: float, high: float) -> Tensor:
    """The weight of each frequency in each band (bands, frequencies): triangles that overlap by half, on mel's scale.

    Mel is 1127 ln(1 + f / 700), as O'Shaughnessy (1987) has it; the frequency 0 is in no band.
    """

    def mel(hertz: Tensor) -> Tensor:
        return 1127 * (1 + hertz / 700).log()

    places = mel(torch.linspace(0, rate / 2, frequencies, dtype=torch.float64))
    first, last = mel(torch.tensor([low, high], dtype=torch.float64)).tolist()
    edges = torch.linspace(first, last, bands + 2, dtype=torch.float64).unsqueeze(1)
    rising = (places - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - places) / (edges[2:] - edges[1:-1])
    weights = torch.minimum(rising, falling).clamp_min(0)
    weights[:, 0] = 0
    return weights.float()
