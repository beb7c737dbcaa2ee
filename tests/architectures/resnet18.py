"""ResNet-18 (He et al., 2016)."""

from functools import partial

from torch import Tensor, nn

batch_norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)


class BasicBlock(nn.Module):
    def __init__(self, channels: int, filters: int, stride: int = 1) -> None:
        super().__init__()
        self.pad = nn.ZeroPad2d(1 if stride == 1 else (0, 1, 0, 1))
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, bias=False)
        self.bn1 = batch_norm(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.bn2 = batch_norm(filters)
        self.relu = nn.ReLU()
        self.shortcut = nn.Identity()
        if stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, filters, 1, stride, bias=False), batch_norm(filters))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(self.pad(x))))
        y = self.bn2(self.conv2(y))
        return self.relu(y + self.shortcut(x))


class Resnet18(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
            batch_norm(64),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.stages = nn.Sequential(BasicBlock(64, 64), BasicBlock(64, 64))
        for filters in (128, 256, 512):
            self.stages.extend([BasicBlock(filters // 2, filters, stride=2), BasicBlock(filters, filters)])
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, 1000)
        self.apply(init_weights)

    def forward(self, image: Tensor) -> Tensor:
        x = self.pool(self.stages(self.stem(image)))
        return self.fc(x.flatten(1))


def init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
