"""Mlp, compiled by regspec."""

from regspec.runtime import L1, L1L2, L2, Regularized
from torch import Tensor, nn


class Mlp(Regularized):
    """features (batch, 13) -> (batch, 3)"""

    def __init__(self) -> None:
        super().__init__()
        self.scaled = nn.BatchNorm1d(13, eps=0.001, momentum=0.01)
        self.hidden1 = nn.Linear(13, 32)
        self.hidden1_activation = nn.ReLU()
        self.dropout = nn.Dropout(0.2)
        self.hidden2 = nn.Linear(32, 32)
        self.hidden2_activation = nn.ReLU()
        self.logits = nn.Linear(32, 3)
        self.add_weight_terms(
            L1L2(l1=1e-05, l2=0.001),
            {"hidden1.kernel": "hidden1.weight", "hidden2.kernel": "hidden2.weight", "logits.kernel": "logits.weight"},
        )
        self.add_activity_terms(L1(0.0001), {"hidden1.activity": "hidden1_activation"})
        self.add_weight_terms(L2(0.01), {"logits.bias": "logits.bias"})
        for layer in (self.hidden1, self.hidden2, self.logits):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        x = self.dropout(self.hidden1_activation(self.hidden1(self.scaled(features))))
        x = self.hidden2_activation(self.hidden2(x))
        return self.logits(x)
