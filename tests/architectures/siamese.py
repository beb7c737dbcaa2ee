"""A siamese network (Koch et al., 2015): whether two images show the same."""

from torch import Tensor, nn


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 13 * 13, 32)
        )
        self.same = nn.Linear(32, 1)
        self.apply(init_weights)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        distance = (self.tower(left) - self.tower(right)).abs()
        return self.same(distance).sigmoid()


def init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
