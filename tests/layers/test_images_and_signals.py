"""What the rows of images and signals do not say: sizes that are not known, axes, faults."""

from __future__ import annotations

import json
from typing import Any

import keras
import pytest
import torch

import regspec


def built(kind: str, fields: dict[str, Any], shape: list[int | None], data_format: str = "channels_last") -> Any:
    document = {
        "regspec": 1,
        "data_format": data_format,
        "inputs": {"x": {"shape": shape}},
        "layers": [{kind: {**fields, "name": "layer"}}],
    }
    return regspec.build(regspec.loads(json.dumps(document)), seed=0)


@pytest.mark.parametrize(
    ("kind", "fields", "known", "unknown"),
    [
        ("CenterCrop", {"height": 4, "width": 5}, [7, 8, 3], [None, 8, 3]),
        ("CenterCrop", {"height": 4, "width": 5}, [3, 8, 3], [None, None, 3]),
        ("Resizing", {"height": 4, "width": 5, "crop_to_aspect_ratio": True}, [3, 8, 3], [None, None, 3]),
        ("AutoContrast", {}, [7, 8, 3], [None, None, None]),
        ("ContrastLimitedAdaptiveHistogramEqualization", {"value_range": [-2, 2]}, [9, 17, 3], [None, None, 3]),
        ("STFTSpectrogram", {"frame_length": 6, "padding": "same"}, [23, 2], [None, None]),
        ("STFTSpectrogram", {"frame_length": 6, "expand_dims": True}, [23, 2], [None, 2]),
        ("MelSpectrogram", {"fft_length": 16, "sequence_stride": 5, "num_mel_bins": 3}, [50], [None]),
        ("LayerScale", {"init_values": 0.3, "projection_dim": 3}, [7, 3], [7, None]),
    ],
)
def test_sizes_that_are_not_known(
    kind: str, fields: dict[str, Any], known: list[int | None], unknown: list[int | None]
) -> None:
    x = torch.randn(3, *known)
    wanted = built(kind, fields, known).eval()(x)
    torch.testing.assert_close(built(kind, fields, unknown).eval()(x), wanted)


def test_one_signal_without_a_batch() -> None:
    fields = {"fft_length": 16, "sequence_stride": 5, "num_mel_bins": 3}
    x = torch.randn(50)
    wanted = keras.layers.MelSpectrogram(**fields)(x)
    torch.testing.assert_close(built("MelSpectrogram", fields, [])(x), wanted, rtol=1e-4, atol=1e-3)


def test_mel_spectrograms_are_exact_under_autocast() -> None:
    """Powers of loud signals are beyond float16."""
    model = built("MelSpectrogram", {"fft_length": 512, "power_to_db": False, "num_mel_bins": 9}, [2000])
    x = 1000 * torch.randn(2, 2000)
    with torch.autocast("cpu", torch.bfloat16):
        got = model(x)
    torch.testing.assert_close(got, model(x))
    assert float(got.max()) > torch.finfo(torch.float16).max


def test_layer_scale_along_the_channels_of_images() -> None:
    model = built("LayerScale", {"init_values": 0.3, "projection_dim": 3, "axis": 1}, [3, 4, 5], "channels_first")
    with torch.no_grad():
        model.layer.weight.normal_()
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(model(x), x * model.layer.weight.view(3, 1, 1))


def test_kernels_can_be_frozen_and_regularized_by_rules() -> None:
    spec = regspec.loads(
        """
        regspec: 1
        data_format: channels_last
        inputs: {x: {shape: [23, 1]}}
        regularizers:
          - {kinds: [STFTSpectrogram], kernel: {l2: 0.1}}
        layers:
          - STFTSpectrogram: {name: spectrum, frame_length: 6}
          - STFTSpectrogram: {name: frozen, frame_length: 4, trainable: false, inputs: x}
        outputs: [spectrum, frozen]
        """
    )
    model = regspec.build(spec)
    assert [name for name, each in model.named_parameters() if not each.requires_grad] == [
        "frozen.real_kernel",
        "frozen.imag_kernel",
    ]
    model(torch.randn(2, 23, 1))
    kernels = (model.spectrum.real_kernel, model.spectrum.imag_kernel)
    torch.testing.assert_close(regspec.regularization_loss(model), 0.1 * sum(each.square().sum() for each in kernels))
    assert [*regspec.regularization_terms(model)] == ["spectrum.real_kernel", "spectrum.imag_kernel"]


FAULTS = [
    ("STFTSpectrogram", {"frame_length": 8, "frame_step": 9}, [30, 1], "needs a 'frame_step' of no more"),
    ("STFTSpectrogram", {"frame_length": 8, "fft_length": 7}, [30, 1], "needs a 'fft_length' of no less"),
    ("STFTSpectrogram", {"frame_length": 8, "window": [1.0, 2.0]}, [30, 1], "needs a 'window' of as many numbers"),
    ("STFTSpectrogram", {"frame_length": 31}, [30, 1], "has frames of 31 samples, which do not fit into"),
    ("STFTSpectrogram", {}, [30], r"takes 3-D input \(batch, length, channels\)"),
    ("MelSpectrogram", {"sequence_length": 4096}, [9000], "needs a 'sequence_length' of no more"),
    ("MelSpectrogram", {"max_freq": 10.0}, [9000], "needs a 'max_freq' above 'min_freq'"),
    ("MelSpectrogram", {}, [900], "needs more than 1024 samples"),
    ("MelSpectrogram", {}, [9000, 2], r"takes 2-D input \(batch, samples\)"),
    ("LayerScale", {"init_values": 0.3, "projection_dim": 3}, [7, 4], "has 3 factors, but axis -1 of 'x'"),
    ("StochasticDepth", {"drop_path_rate": 1.0}, [7, 4], "drop_path_rate"),
]


@pytest.mark.parametrize(("kind", "fields", "shape", "message"), FAULTS)
def test_faults(kind: str, fields: dict[str, Any], shape: list[int | None], message: str) -> None:
    with pytest.raises(regspec.RegspecError, match=message):
        built(kind, fields, shape)
