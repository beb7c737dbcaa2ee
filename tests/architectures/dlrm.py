"""DLRM (Naumov et al., 2019): a click's probability from dense features and categories."""

import torch
from torch import Tensor, nn


class Dlrm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bottom = nn.Sequential(nn.Linear(13, 64), nn.ReLU(), nn.Linear(64, 16), nn.ReLU())
        self.user = nn.Embedding(1000, 16)
        self.item = nn.Embedding(500, 16)
        self.city = nn.Embedding(50, 16)
        self.top = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 1), nn.Sigmoid())
        self.apply(init_weights)

    def forward(self, dense: Tensor, user: Tensor, item: Tensor, city: Tensor) -> Tensor:
        bottom = self.bottom(dense)
        features = torch.stack([bottom, self.user(user), self.item(item), self.city(city)], dim=1)
        interactions = features @ features.mT
        return self.top(torch.cat([bottom, interactions.flatten(1)], dim=1))

    def regularization_loss(self) -> Tensor:
        return 1e-6 * sum(table.weight.square().sum() for table in (self.user, self.item, self.city))


def init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.uniform_(module.weight, -0.05, 0.05)
