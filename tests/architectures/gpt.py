"""GPT-2 (Radford et al., 2019), small."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Decoder(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int = 512) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-5)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm2 = nn.LayerNorm(width, eps=1e-5)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device)
        x = x + self.attention(y, y, y, need_weights=False, attn_mask=mask, is_causal=True)[0]
        return x + self.mlp(self.norm2(x))


class Gpt(nn.Module):
    def __init__(self, width: int = 128, heads: int = 4, vocab: int = 5000, length: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.positions = nn.Embedding(length, width)
        self.decoders = nn.Sequential(*[Decoder(width, heads) for _ in range(4)])
        self.norm = nn.LayerNorm(width, eps=1e-3)
        self.apply(init_weights)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.decoders(self.embedding(tokens) + self.positions(positions))
        return F.linear(self.norm(x), self.embedding.weight)


def init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.uniform_(module.weight, -0.05, 0.05)
    elif isinstance(module, nn.MultiheadAttention):
        for weight in module.in_proj_weight.data.chunk(3):  # of queries, keys and values
            nn.init.xavier_uniform_(weight)
