"""Two tasks on one trunk: a price, and one of three kinds."""

from torch import Tensor, nn


class Multitask(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(10, 64)
        self.price = nn.Linear(64, 1)
        self.kind = nn.Linear(64, 3)
        self.apply(init_weights)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.trunk(x).relu()
        return self.price(x), self.kind(x).softmax(dim=1)

    def regularization_loss(self) -> Tensor:
        return 1e-4 * self.trunk.weight.square().sum()


def init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
