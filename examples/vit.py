"""Vit, compiled by regspec."""

from regspec.runtime import L2, ClassToken, MultiHeadAttention, PositionEmbedding, Regularized
from torch import Tensor, nn


class Encoder(Regularized):
    """input (batch, 17, 64) -> (batch, 17, 64)"""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(64, eps=1e-06)
        self.attention = MultiHeadAttention(64, 4, 16, dropout=0.1)
        self.norm2 = nn.LayerNorm(64, eps=1e-06)
        self.expand = nn.Linear(64, 128)
        self.expand_activation = nn.GELU()
        self.contract = nn.Linear(128, 64)
        self.dropout = nn.Dropout(0.1)
        self.add_weight_terms(
            L2(1e-05),
            {
                "attention.query.kernel": "attention.query.weight",
                "attention.key.kernel": "attention.key.weight",
                "attention.value.kernel": "attention.value.weight",
                "attention.attention_output.kernel": "attention.output.weight",
                "expand.kernel": "expand.weight",
                "contract.kernel": "contract.weight",
            },
        )
        for layer in (
            self.attention.query,
            self.attention.key,
            self.attention.value,
            self.attention.output,
            self.expand,
            self.contract,
        ):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, input: Tensor) -> Tensor:
        norm1 = self.norm1(input)
        sum1 = self.attention(norm1, norm1) + input
        expand = self.expand_activation(self.expand(self.norm2(sum1)))
        return self.dropout(self.contract(expand)) + sum1


class Vit(Regularized):
    """image (batch, 1, 8, 8) -> (batch, 10)"""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 64, 2, stride=2)
        self.token = ClassToken(64)
        self.positions = PositionEmbedding(17, 64)
        self.encoder = nn.Sequential(*[Encoder() for _ in range(4)])
        self.norm = nn.LayerNorm(64, eps=1e-06)
        self.logits = nn.Linear(64, 10)
        self.add_weight_terms(
            L2(1e-05),
            {
                "patches.kernel": "patches.weight",
                "positions.embeddings": "positions.weight",
                "logits.kernel": "logits.weight",
            },
        )
        for layer in (self.patches, self.logits):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image)
        x = self.token(x.reshape(x.size(0), 64, 16).permute(0, 2, 1))
        x = self.positions(x)
        x = self.norm(self.encoder(x))[:, 0]
        return self.logits(x)
