"""WaveNet (van den Oord et al., 2016), of four layers."""

from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    def __init__(self, dilation: int, filters: int = 32) -> None:
        super().__init__()
        self.dilation = dilation
        self.filter = nn.Conv1d(filters, filters, 2, dilation=dilation)
        self.gate = nn.Conv1d(filters, filters, 2, dilation=dilation)
        self.skip = nn.Conv1d(filters, filters, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = F.pad(x, (self.dilation, 0))
        skip = self.skip(self.filter(y).tanh() * self.gate(y).sigmoid())
        return x + skip, skip


class Wavenet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.ZeroPad1d((1, 0)), nn.Conv1d(1, 32, 2))
        self.residuals = nn.ModuleList([Residual(dilation) for dilation in (1, 2, 4, 8)])
        self.head = nn.Sequential(nn.ReLU(), nn.Conv1d(32, 32, 1), nn.ReLU(), nn.Conv1d(32, 256, 1))
        self.apply(init_weights)

    def forward(self, audio: Tensor) -> Tensor:
        x = self.stem(audio)
        skips = []
        for residual in self.residuals:
            x, skip = residual(x)
            skips.append(skip)
        return self.head(sum(skips))


def init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv1d):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
