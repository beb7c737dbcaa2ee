"""DenseNet121 of keras.applications, ported, against the same network as people write it in torch."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

import regspec

COUNTS = (6, 12, 24, 16)  # of layers in each block
GROWTH = 32


def normalized(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1.001e-5, momentum=0.01)


class Layer(nn.Module):
    """A layer of Huang et al. (2017), whose output is joined to what it takes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn0, self.relu0 = normalized(channels), nn.ReLU()
        self.conv1 = nn.Conv2d(channels, 4 * GROWTH, 1, bias=False)
        self.bn1, self.relu1 = normalized(4 * GROWTH), nn.ReLU()
        self.conv2 = nn.Conv2d(4 * GROWTH, GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.relu0(self.bn0(x)))
        return torch.cat([x, self.conv2(self.relu1(self.bn1(y)))], dim=1)


class ByHand(nn.Module):
    """The network that Keras calls DenseNet121, for images with channels first, with Keras's initial values."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), normalized(64), nn.ReLU()]
        layers += [nn.ZeroPad2d(1), nn.MaxPool2d(3, 2)]
        channels = 64
        for index, count in enumerate(COUNTS):
            layers += [Layer(channels + GROWTH * place) for place in range(count)]
            channels += GROWTH * count
            layers += [normalized(channels), nn.ReLU()]
            if index + 1 < len(COUNTS):
                layers += [nn.Conv2d(channels, channels // 2, 1, bias=False), nn.AvgPool2d(2)]
                channels //= 2
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.predictions = nn.Linear(channels, 1000)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(self.predictions.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.predictions(self.features(x)).softmax(dim=1)


def ported(folder: Path) -> Path:
    """The spec of the port, as a file; it is checked to be the network by hand, but for names."""
    import keras

    keras.applications.DenseNet121(weights=None).save(folder / "densenet.keras")
    regspec.port(folder / "densenet.keras").save(folder)
    hand, state = ByHand().eval(), regspec.build(folder / "spec.yaml").eval()
    hand.load_state_dict(dict(zip(hand.state_dict(), state.state_dict().values(), strict=True)))
    x = torch.randn(1, 64, 64, 3)
    with torch.inference_mode():
        torch.testing.assert_close(hand(x.permute(0, 3, 1, 2)), state(x), atol=1e-6, rtol=1e-3)
    return folder / "spec.yaml"
