"""ResNet50 of keras.applications, ported: to load it, and its forward, against Keras and against torch by hand.

And the port of a small file as a process, against importing torch, which it does without.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import regspec

from .checking import run_in
from .timing import Figure, compare

BATCH = 8
SMALL = Path(__file__).parents[2] / "examples" / "keras_mlp.keras"


def normalized(filters: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(filters, eps=1.001e-5, momentum=0.01)


class Bottleneck(nn.Module):
    """A block as in He et al. (2015), whose stride is that of its first convolution."""

    def __init__(self, channels: int, filters: int, stride: int, has_projection: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, filters, 1, stride), normalized(filters)
        self.conv2, self.bn2 = nn.Conv2d(filters, filters, 3, padding=1), normalized(filters)
        self.conv3, self.bn3 = nn.Conv2d(filters, 4 * filters, 1), normalized(4 * filters)
        self.relu = nn.ReLU()
        self.has_projection = has_projection
        if has_projection:
            self.conv0, self.bn0 = nn.Conv2d(channels, 4 * filters, 1, stride), normalized(4 * filters)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.bn0(self.conv0(x)) if self.has_projection else x
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(shortcut + self.bn3(self.conv3(x)))


class ByHand(nn.Module):
    """The network that Keras calls ResNet50, for images with channels first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 64, 7, 2, 3), normalized(64), nn.ReLU()
        self.pool = nn.Sequential(nn.ZeroPad2d(1), nn.MaxPool2d(3, 2))
        blocks: dict[str, nn.Module] = {}
        channels = 64
        for stage, (filters, count, stride) in enumerate(((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)), 2):
            for index in range(count):
                block = Bottleneck(channels, filters, stride if index == 0 else 1, index == 0)
                blocks[f"conv{stage}_block{index + 1}"] = block
                channels = 4 * filters
        self.blocks = nn.Sequential(OrderedDict(blocks))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.predictions = nn.Linear(channels, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.bn1(self.conv1(x))))
        return self.predictions(self.head(self.blocks(x))).softmax(dim=1)


def figures() -> Iterator[Figure]:
    import keras

    with tempfile.TemporaryDirectory() as folder:
        ported = run_in(folder, "-m", "regspec", "port", str(SMALL), "-o", os.path.join(folder, "ported"))
        yield compare("port, 3 layers / import torch", ported, run_in(folder, "-c", "import torch"), most=0.5, rounds=7)
    keras.utils.set_random_seed(0)
    model = keras.applications.ResNet50(weights=None)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "resnet50.keras")
        model.save(path)
        name = "ResNet50, port and build / Keras loads it"
        loads = partial(keras.saving.load_model, path, compile=False)
        yield compare(name, lambda: regspec.port(path).build(), loads, most=1, rounds=7)
        ported: Any = regspec.port(path).build()
    x = torch.randn(BATCH, 224, 224, 3)
    hand = with_weights_of(ported).to(memory_format=torch.channels_last).eval()
    images = x.permute(0, 3, 1, 2)  # which is torch's channels-last memory format
    with torch.inference_mode():
        torch.testing.assert_close(ported(x), hand(images))
        torch.testing.assert_close(ported(x), model(x, training=False))
        ours = partial(ported, x)
        name = f"ResNet50, forward of {BATCH} images"
        yield compare(f"{name} / Keras", ours, partial(model, x, training=False), most=0.95, rounds=9)
        yield compare(f"{name} / torch by hand", ours, partial(hand, images), most=1.05, rounds=9)


def with_weights_of(ported: nn.Module) -> nn.Module:
    """The network by hand, with the weights of a port: ``blocks.conv2_block1.bn0`` is its ``conv2_block1_0_bn``."""
    hand, state = ByHand(), {}
    for name, value in ported.state_dict().items():
        name = re.sub(r"(conv\d_block\d)_(\d)_(conv|bn)", r"blocks.\1.\3\2", name)
        state[re.sub(r"conv1_(conv|bn)\.", r"\g<1>1.", name)] = value
    hand.load_state_dict(state)
    return hand
