"""Two modules of GoogLeNet (Szegedy et al., 2015)."""

import torch
from torch import Tensor, nn


class InceptionBlock(nn.Module):
    def __init__(self, channels: int, f1: int, f3r: int, f3: int, f5r: int, f5: int, fp: int) -> None:
        super().__init__()
        self.branch1 = nn.Sequential(nn.Conv2d(channels, f1, 1), nn.ReLU())
        self.branch3 = nn.Sequential(
            nn.Conv2d(channels, f3r, 1), nn.ReLU(), nn.Conv2d(f3r, f3, 3, padding=1), nn.ReLU()
        )
        self.branch5 = nn.Sequential(
            nn.Conv2d(channels, f5r, 1), nn.ReLU(), nn.Conv2d(f5r, f5, 5, padding=2), nn.ReLU()
        )
        self.pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), nn.Conv2d(channels, fp, 1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch3(x), self.branch5(x), self.pool(x)], dim=1)


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ZeroPad2d((2, 3, 2, 3)),
            nn.Conv2d(3, 64, 7, stride=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            InceptionBlock(64, f1=64, f3r=96, f3=128, f5r=16, f5=32, fp=32),
            InceptionBlock(256, f1=128, f3r=128, f3=192, f5r=32, f5=96, fp=64),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.4),
            nn.Linear(480, 1000),
        )
        self.apply(init_weights)

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


def init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
