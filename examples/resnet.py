"""Resnet, compiled by regspec."""

from regspec.runtime import L1, L2, Regularized, variance_scaling_
from torch import Tensor, nn
from torch.nn import functional as F


class Basic(Regularized):
    """input (batch, filters, height, width) -> (batch, filters, height, width)"""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(filters, eps=0.001, momentum=0.01)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(filters, eps=0.001, momentum=0.01)
        self.relu2 = nn.ReLU()
        self.add_weight_terms(L2(0.0001), {"conv1.kernel": "conv1.weight", "conv2.kernel": "conv2.weight"})
        self.add_weight_terms(L1(1e-05), {"norm1.gamma": "norm1.weight", "norm2.gamma": "norm2.weight"})
        for layer in (self.conv1, self.conv2):
            variance_scaling_(layer.weight, scale=2.0)

    def forward(self, input: Tensor) -> Tensor:
        relu1 = self.relu1(self.norm1(self.conv1(input)))
        return self.relu2(self.norm2(self.conv2(relu1)) + input)


class Down(Regularized):
    """input (batch, in_channels, height, width) -> (batch, filters, height, width)"""

    def __init__(self, in_channels: int, filters: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, filters, 3, stride=2, bias=False)
        self.norm1 = nn.BatchNorm2d(filters, eps=0.001, momentum=0.01)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(filters, eps=0.001, momentum=0.01)
        self.shortcut = nn.Conv2d(in_channels, filters, 1, stride=2, bias=False)
        self.shortcut_norm = nn.BatchNorm2d(filters, eps=0.001, momentum=0.01)
        self.relu2 = nn.ReLU()
        self.add_weight_terms(
            L2(0.0001),
            {"conv1.kernel": "conv1.weight", "conv2.kernel": "conv2.weight", "shortcut.kernel": "shortcut.weight"},
        )
        self.add_weight_terms(
            L1(1e-05), {f"{layer}.gamma": f"{layer}.weight" for layer in ("norm1", "norm2", "shortcut_norm")}
        )
        for layer in (self.conv1, self.conv2, self.shortcut):
            variance_scaling_(layer.weight, scale=2.0)

    def forward(self, input: Tensor) -> Tensor:
        x = self.relu1(self.norm1(self.conv1(F.pad(input, (0, 1, 0, 1)))))
        norm2 = self.norm2(self.conv2(x))
        return self.relu2(norm2 + self.shortcut_norm(self.shortcut(input)))


class Resnet(Regularized):
    """image (batch, 3, 32, 32) -> (batch, 10)"""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(16, eps=0.001, momentum=0.01)
        self.stem_relu = nn.ReLU()
        self.stage1 = nn.Sequential(*[Basic(filters=16) for _ in range(3)])
        self.stage2_down = Down(in_channels=16, filters=32)
        self.stage2 = nn.Sequential(*[Basic(filters=32) for _ in range(2)])
        self.stage3_down = Down(in_channels=32, filters=64)
        self.stage3 = nn.Sequential(*[Basic(filters=64) for _ in range(2)])
        self.logits = nn.Linear(64, 10)
        self.add_weight_terms(L2(0.0001), {"stem.kernel": "stem.weight", "logits.kernel": "logits.weight"})
        variance_scaling_(self.stem.weight, scale=2.0)
        nn.init.xavier_uniform_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem_relu(self.stem_norm(self.stem(image)))
        x = self.stage1(x)
        x = self.stage2_down(x)
        x = self.stage2(x)
        x = self.stage3_down(x)
        x = self.stage3(x).mean(dim=(2, 3))
        return self.logits(x)
