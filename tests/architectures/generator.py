"""The generator of a DCGAN (Radford et al., 2016) for MNIST."""

from functools import partial

from torch import Tensor, nn

batch_norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Sequential(
            nn.Linear(100, 256 * 7 * 7, bias=False),
            nn.BatchNorm1d(256 * 7 * 7, eps=1e-3, momentum=0.01),
            nn.LeakyReLU(0.2),
            nn.Unflatten(1, (256, 7, 7)),
        )
        self.upsample = nn.Sequential(
            nn.ConvTranspose2d(256, 128, 5, padding=2, bias=False),
            batch_norm(128),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(128, 64, 5, stride=2, padding=1, bias=False),
            nn.ZeroPad2d((0, -1, 0, -1)),  # to twice the size, as padding "same" cuts
            batch_norm(64),
            nn.LeakyReLU(0.2),
            nn.ConvTranspose2d(64, 1, 5, stride=2, padding=1, bias=False),
            nn.ZeroPad2d((0, -1, 0, -1)),
            nn.Tanh(),
        )
        self.apply(init_weights)

    def forward(self, z: Tensor) -> Tensor:
        return self.upsample(self.project(z))


def init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.ConvTranspose2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
