"""Unet, compiled by regspec."""

import torch
from regspec.runtime import L2, Regularized
from torch import Tensor, nn


class Convolutions(Regularized):
    """input (batch, in_channels, height, width) -> (batch, filters, height, width)"""

    def __init__(self, in_channels: int, filters: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, filters, 3, padding=1)
        self.conv1_activation = nn.ReLU()
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1)
        self.conv2_activation = nn.ReLU()
        self.add_weight_terms(L2(1e-05), {"conv1.kernel": "conv1.weight", "conv2.kernel": "conv2.weight"})
        for layer in (self.conv1, self.conv2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, input: Tensor) -> Tensor:
        x = self.conv1_activation(self.conv1(input))
        return self.conv2_activation(self.conv2(x))


class Unet(Regularized):
    """image (batch, 3, 64, 64) -> (batch, 3, 64, 64)"""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = Convolutions(in_channels=3, filters=16)
        self.pool1 = nn.MaxPool2d(2)
        self.down2 = Convolutions(in_channels=16, filters=32)
        self.pool2 = nn.MaxPool2d(2)
        self.bottom = Convolutions(in_channels=32, filters=64)
        self.up2 = nn.ConvTranspose2d(64, 32, 2, stride=2)
        self.merge2 = Convolutions(in_channels=64, filters=32)
        self.up1 = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.merge1 = Convolutions(in_channels=32, filters=16)
        self.logits = nn.Conv2d(16, 3, 1)
        self.add_weight_terms(
            L2(1e-05), {"up2.kernel": "up2.weight", "up1.kernel": "up1.weight", "logits.kernel": "logits.weight"}
        )
        for layer in (self.up2, self.up1, self.logits):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, image: Tensor) -> Tensor:
        down1 = self.down1(image)
        down2 = self.down2(self.pool1(down1))
        bottom = self.bottom(self.pool2(down2))
        merge2 = self.merge2(torch.cat([down2, self.up2(bottom)], dim=1))
        x = self.merge1(torch.cat([down1, self.up1(merge2)], dim=1))
        return self.logits(x)
