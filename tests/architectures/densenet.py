"""DenseNet-BC (Huang et al., 2017) with two dense blocks, for CIFAR-10."""

from functools import partial

import torch
from torch import Tensor, nn

batch_norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)


class DenseLayer(nn.Module):
    def __init__(self, channels: int, growth: int, bottleneck: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            batch_norm(channels),
            nn.ReLU(),
            nn.Conv2d(channels, bottleneck, 1, bias=False),
            batch_norm(bottleneck),
            nn.ReLU(),
            nn.Conv2d(bottleneck, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.layers(x)], dim=1)


class Densenet(nn.Module):
    def __init__(self, growth: int = 12, bottleneck: int = 48) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, padding=1, bias=False)
        self.block1 = nn.Sequential(*[DenseLayer(24 + i * growth, growth, bottleneck) for i in range(6)])
        channels = 24 + 6 * growth
        self.transition = nn.Sequential(batch_norm(channels), nn.ReLU(), nn.Conv2d(channels, 48, 1), nn.AvgPool2d(2))
        self.block2 = nn.Sequential(*[DenseLayer(48 + i * growth, growth, bottleneck) for i in range(6)])
        channels = 48 + 6 * growth
        self.head = nn.Sequential(
            batch_norm(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)
        )
        self.apply(init_weights)

    def forward(self, image: Tensor) -> Tensor:
        x = self.block1(self.stem(image))
        return self.head(self.block2(self.transition(x)))


def init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
