"""What a tensor without a word on its axes is read as, where a layer for images takes it."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

import regspec

CONVOLUTION = "Conv2D: {name: layer, filters: 2, kernel_size: 3}"
POOL = "AveragePooling2D: {name: layer, pool_size: 2}"
VOLUME = "Conv3D: {name: layer, filters: 2, kernel_size: 3}"
IMAGE, STEPS = "may be (channels, height, width)", "may be (steps, channels, length)"


def spec(shape: tuple[int, ...], layer: str) -> str:
    return (
        f"regspec: 1\ninputs: {{z: {{shape: [{math.prod(shape)}]}}}}\n"
        f"layers:\n  - Reshape: {{target_shape: {[*shape]}}}\n  - {layer}\n"
    )


@pytest.mark.parametrize("shape", [(256, 7, 7), (3, 8, 8), (5, 32, 32)])
def test_a_square_behind_its_channels_reads_itself(shape: tuple[int, ...]) -> None:
    z = torch.randn(3, math.prod(shape))
    model = regspec.build(spec(shape, CONVOLUTION), seed=0)
    wanted = F.conv2d(z.view(3, *shape), model.layer.weight, model.layer.bias)
    torch.testing.assert_close(model(z), wanted)
    torch.testing.assert_close(regspec.build(spec(shape, POOL))(z), F.avg_pool2d(z.view(3, *shape), 2))


def test_a_cube_too() -> None:
    z = torch.randn(2, 3 * 6**3)
    model = regspec.build(spec((3, 6, 6, 6), VOLUME), seed=0)
    torch.testing.assert_close(model(z), F.conv3d(z.view(2, 3, 6, 6, 6), model.layer.weight, model.layer.bias))


@pytest.mark.parametrize(
    ("shape", "layer", "message"),
    [
        ((7, 7, 256), CONVOLUTION, IMAGE),  # which Keras's users write
        ((64, 8, 6), CONVOLUTION, IMAGE),
        ((8, 8, 8), CONVOLUTION, IMAGE),
        ((8, 8, 3), POOL, IMAGE),
        ((3, 2, 2), CONVOLUTION, IMAGE),  # sides of a few cells may be channels
        ((256, 7, 7), "Dense: {units: 2}", IMAGE),  # scores of heads, perhaps: these layers are for no image
        ((8, 16, 16), "Softmax", IMAGE),
        ((256, 7, 7), "ConvLSTM1D: {filters: 2, kernel_size: 3}", STEPS),
        ((256, 7, 7), "TimeDistributed: {layer: {Conv1D: {filters: 2, kernel_size: 3}}}", STEPS),
        ((6, 6, 6, 3), VOLUME, "may be (channels, depth, height, width)"),
    ],
)
def test_any_other_is_a_fault(shape: tuple[int, ...], layer: str, message: str) -> None:
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.loads(spec(shape, layer))
    assert message in caught.value.problems[0].what
