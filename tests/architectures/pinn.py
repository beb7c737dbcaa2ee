"""A physics-informed network (Raissi et al., 2019) with sines, of one dimension and time."""

import torch
from torch import Tensor, nn


class Pinn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.ModuleList([nn.Linear(2, 64), nn.Linear(64, 64), nn.Linear(64, 64)])
        self.u = nn.Linear(64, 1)
        self.apply(init_weights)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        y = torch.cat([x, t], dim=1)
        for layer in self.hidden:
            y = layer(y).sin()
        return self.u(y)


def init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
