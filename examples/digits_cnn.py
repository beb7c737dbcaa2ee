"""DigitsCnn, compiled by regspec."""

from regspec.runtime import L1, L1L2, L2, Regularized
from torch import Tensor, nn


class DigitsCnn(Regularized):
    """image (batch, 1, 8, 8) -> (batch, 10)"""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(32, eps=0.001)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(64, eps=0.001)
        self.relu2 = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(0.25)
        self.flatten = nn.Flatten()
        self.hidden = nn.Linear(1024, 64)
        self.hidden_activation = nn.ReLU()
        self.logits = nn.Linear(64, 10)
        self.add_weight_terms(L2(0.0001), {"conv1.kernel": "conv1.weight", "conv2.kernel": "conv2.weight"})
        self.add_weight_terms(L1L2(l1=1e-05, l2=0.0001), {"hidden.kernel": "hidden.weight"})
        self.add_activity_terms(L1(1e-06), {"hidden.activity": "hidden_activation"})
        self.add_weight_terms(L2(0.01), {"logits.bias": "logits.bias"})
        for layer in (self.conv1, self.conv2):
            nn.init.xavier_uniform_(layer.weight)
        for layer in (self.hidden, self.logits):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, image: Tensor) -> Tensor:
        x = self.relu1(self.norm1(self.conv1(image)))
        x = self.pool(self.relu2(self.norm2(self.conv2(x))))
        x = self.hidden_activation(self.hidden(self.flatten(self.dropout(x))))
        return self.logits(x)
