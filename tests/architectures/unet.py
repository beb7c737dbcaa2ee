"""U-Net (Ronneberger et al., 2015), of three levels."""

import torch
from torch import Tensor, nn


class Double(nn.Sequential):
    def __init__(self, channels: int, filters: int) -> None:
        super().__init__(
            nn.Conv2d(channels, filters, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(filters, filters, 3, padding=1),
            nn.ReLU(),
        )


class Up(nn.Module):
    def __init__(self, filters: int) -> None:
        super().__init__()
        self.upconv = nn.ConvTranspose2d(2 * filters, filters, 2, stride=2)
        self.convs = Double(2 * filters, filters)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.convs(torch.cat([skip, self.upconv(x)], dim=1))


class Unet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1 = Double(1, 16)
        self.down2 = Double(16, 32)
        self.down3 = Double(32, 64)
        self.middle = Double(64, 128)
        self.up3 = Up(64)
        self.up2 = Up(32)
        self.up1 = Up(16)
        self.pool = nn.MaxPool2d(2)
        self.mask = nn.Conv2d(16, 1, 1)
        self.apply(init_weights)

    def forward(self, image: Tensor) -> Tensor:
        x1 = self.down1(image)
        x2 = self.down2(self.pool(x1))
        x3 = self.down3(self.pool(x2))
        x = self.middle(self.pool(x3))
        x = self.up3(x, x3)
        x = self.up2(x, x2)
        x = self.up1(x, x1)
        return self.mask(x).sigmoid()


def init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
