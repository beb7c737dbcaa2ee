"""The first stages of MobileNetV2 (Sandler et al., 2018)."""

from functools import partial

from torch import Tensor, nn

batch_norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)


class InvertedResidual(nn.Module):
    def __init__(self, channels: int, hidden: int, filters: int, stride: int = 1) -> None:
        super().__init__()
        self.is_residual = stride == 1 and channels == filters
        self.layers = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            batch_norm(hidden),
            nn.ReLU6(),
            nn.ZeroPad2d(1 if stride == 1 else (0, 1, 0, 1)),
            nn.Conv2d(hidden, hidden, 3, stride, groups=hidden, bias=False),
            batch_norm(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, filters, 1, bias=False),
            batch_norm(filters),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.is_residual else self.layers(x)


class Mobilenetv2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ZeroPad2d((0, 1, 0, 1)),
            nn.Conv2d(3, 32, 3, stride=2, bias=False),
            batch_norm(32),
            nn.ReLU6(),
            InvertedResidual(32, 32, 16),
            InvertedResidual(16, 96, 24, stride=2),
            InvertedResidual(24, 144, 24),
            InvertedResidual(24, 144, 32, stride=2),
            InvertedResidual(32, 192, 32),
            InvertedResidual(32, 192, 32),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(32, 1000),
        )
        self.apply(init_weights)

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


def init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
