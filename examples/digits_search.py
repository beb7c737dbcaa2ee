"""DigitsSearch, compiled by regspec."""

from regspec.runtime import L2, Regularized
from torch import Tensor, nn


class DigitsSearch(Regularized):
    """image (batch, 64) -> (batch, 10)"""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(64, 256)
        self.hidden_activation = nn.ReLU()
        self.logits = nn.Linear(256, 10)
        self.add_weight_terms(L2(0.0001), {"hidden.kernel": "hidden.weight", "logits.kernel": "logits.weight"})
        for layer in (self.hidden, self.logits):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, image: Tensor) -> Tensor:
        x = self.hidden_activation(self.hidden(image))
        return self.logits(x)
