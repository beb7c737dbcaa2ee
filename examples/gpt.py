"""Gpt, compiled by regspec."""

from regspec.runtime import L2, MultiHeadAttention, Regularized, ReversibleEmbedding
from torch import Tensor, nn


class Decoder(Regularized):
    """input (batch, 64, 128) -> (batch, 64, 128)"""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(128, eps=1e-05)
        self.attention = MultiHeadAttention(128, 4, 32, dropout=0.1, rope_max_wavelength=10000.0)
        self.norm2 = nn.LayerNorm(128, eps=1e-05)
        self.expand = nn.Linear(128, 512)
        self.expand_activation = nn.GELU()
        self.contract = nn.Linear(512, 128)
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
        sum1 = self.attention(norm1, norm1, causal=True) + input
        expand = self.expand_activation(self.expand(self.norm2(sum1)))
        return self.dropout(self.contract(expand)) + sum1


class Gpt(Regularized):
    """tokens (batch, 64) -> (batch, 64, 256)"""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = ReversibleEmbedding(256, 128)
        self.decoder = nn.Sequential(*[Decoder() for _ in range(4)])
        self.norm = nn.LayerNorm(128, eps=1e-05)
        nn.init.uniform_(self.embedding.weight, -0.05, 0.05)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        x = self.norm(self.decoder(x))
        return self.embedding(x, reverse=True)
