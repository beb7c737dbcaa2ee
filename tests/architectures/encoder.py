"""A classifier of texts: a Transformer encoder (Vaswani et al., 2017) with learned positions."""

from torch import Tensor, nn


class EncoderLayer(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int = 512, dropout: float = 0.1) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.norm1 = nn.LayerNorm(width, eps=1e-3)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.norm2 = nn.LayerNorm(width, eps=1e-3)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        attended, _ = self.attention(x, x, x, need_weights=False)
        x = self.norm1(x + self.dropout(attended))
        return self.norm2(x + self.dropout(self.mlp(x)))


class Encoder(nn.Module):
    def __init__(self, width: int = 128, heads: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30000, width)
        self.positions = nn.Embedding(64, width)
        self.layers = nn.Sequential(*[EncoderLayer(width, heads) for _ in range(4)])
        self.head = nn.Linear(width, 2)
        self.apply(init_weights)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.layers(self.embedding(tokens) + self.positions.weight)
        return self.head(x.mean(dim=1))


def init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.uniform_(module.weight, -0.05, 0.05)
    elif isinstance(module, nn.MultiheadAttention):
        for weight in module.in_proj_weight.data.chunk(3):  # of queries, keys and values
            nn.init.xavier_uniform_(weight)
