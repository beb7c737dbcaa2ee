"""The discriminator of a DCGAN for MNIST, with spectral normalization (Miyato et al., 2018)."""

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class Discriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ZeroPad2d((1, 2, 1, 2)),
            nn.Conv2d(1, 64, 5, stride=2),
            nn.LeakyReLU(0.2),
            nn.Dropout(0.3),
            nn.ZeroPad2d((1, 2, 1, 2)),
            nn.Conv2d(64, 128, 5, stride=2),
            nn.LeakyReLU(0.2),
            nn.Dropout(0.3),
            nn.Flatten(),
            nn.Linear(128 * 7 * 7, 1),
        )
        self.apply(init_weights)
        spectral_norm(self.layers[5])

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


def init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
