"""A sparse autoencoder (Ng, 2011)."""

from torch import Tensor, nn


class Sae(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(784, 64)
        self.decoder = nn.Linear(64, 784)
        self.apply(init_weights)

    def forward(self, x: Tensor) -> Tensor:
        self.code = self.encoder(x).sigmoid()
        return self.decoder(self.code).sigmoid()

    def regularization_loss(self, target: float = 0.05) -> Tensor:
        """Penalty of the last batch's codes, whose mean should be ``target``, and of the encoder's weights."""
        rate = self.code.mean(dim=0)
        kl = target * (target / rate).log() + (1 - target) * ((1 - target) / (1 - rate)).log()
        return 1e-3 * kl.sum() + 1e-4 * self.encoder.weight.square().sum()


def init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
