"""Siamese, compiled by regspec."""

from regspec.runtime import L1, L2, Regularized
from torch import Tensor, nn
from torch.nn import functional as F


class Tower(Regularized):
    """input (batch, 1, 28, 28) -> (batch, 64)"""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 5, stride=2)
        self.conv1_activation = nn.ReLU()
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2)
        self.conv2_activation = nn.ReLU()
        self.flatten = nn.Flatten()
        self.embedding = nn.Linear(800, 64)
        self.add_weight_terms(
            L2(0.0001),
            {"conv1.kernel": "conv1.weight", "conv2.kernel": "conv2.weight", "embedding.kernel": "embedding.weight"},
        )
        self.add_activity_terms(L1(1e-05), {"embedding.activity": "embedding"})
        for layer in (self.conv1, self.conv2, self.embedding):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, input: Tensor) -> Tensor:
        x = self.conv1_activation(self.conv1(input))
        x = self.flatten(self.conv2_activation(self.conv2(x)))
        return self.embedding(x)


class Siamese(Regularized):
    """left (batch, 1, 28, 28), right (batch, 1, 28, 28) -> (batch, 1)"""

    def __init__(self) -> None:
        super().__init__()
        self.tower = Tower()

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        tower = self.tower(left)
        tower_right = self.tower(right)
        return (F.normalize(tower, dim=1) * F.normalize(tower_right, dim=1)).sum(dim=1, keepdim=True)
