"""Transformer, compiled by regspec."""

from regspec.runtime import L2, MultiHeadAttention, Regularized
from torch import Tensor, nn


class Encoder(Regularized):
    """input (batch, 128, 128) -> (batch, 128, 128)"""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(128, eps=1e-05)
        self.attention = MultiHeadAttention(128, 4, 32, dropout=0.1)
        self.norm2 = nn.LayerNorm(128, eps=1e-05)
        self.expand = nn.Linear(128, 256)
        self.expand_activation = nn.GELU()
        self.contract = nn.Linear(256, 128)
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
        self.add_activity_terms(L2(1e-06), {"attention.activity": "attention"})
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


class Transformer(Regularized):
    """tokens (batch, 128), positions (batch, 128) -> (batch, 4)"""

    def __init__(self) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(10000, 128)
        self.position_embedding = nn.Embedding(128, 128)
        self.layer = nn.Sequential(*[Encoder() for _ in range(2)])
        self.norm = nn.LayerNorm(128, eps=1e-05)
        self.logits = nn.Linear(128, 4)
        self.add_weight_terms(L2(1e-06), {"token_embedding.embeddings": "token_embedding.weight"})
        self.add_weight_terms(L2(1e-05), {"logits.kernel": "logits.weight"})
        for layer in (self.token_embedding, self.position_embedding):
            nn.init.uniform_(layer.weight, -0.05, 0.05)
        nn.init.xavier_uniform_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        x = self.token_embedding(tokens) + self.position_embedding(positions)
        x = self.norm(self.layer(x)).mean(dim=1)
        return self.logits(x)
