"""Vae, compiled by regspec."""

from regspec.runtime import GaussianKL, Regularized, Sampling, Scheduled, WarmupSchedule
from torch import Tensor, nn


class Vae(Regularized):
    """pixels (batch, 64) -> logits (batch, 64), mean (batch, 6)"""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(64, 32)
        self.encoder_activation = nn.ReLU()
        self.mean = nn.Linear(32, 6)
        self.log_var = nn.Linear(32, 6)
        self.z = Sampling()
        self.decoder = nn.Linear(6, 32)
        self.decoder_activation = nn.ReLU()
        self.logits = nn.Linear(32, 64)
        self.add_activity_terms(Scheduled(GaussianKL(1.0), WarmupSchedule(over=2000)), {"z.kl": "z.kl"})
        for layer in (self.encoder, self.mean, self.log_var, self.decoder, self.logits):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        encoder = self.encoder_activation(self.encoder(pixels))
        mean = self.mean(encoder)
        x = self.z(mean, self.log_var(encoder))
        x = self.decoder_activation(self.decoder(x))
        logits = self.logits(x)
        return {"logits": logits, "mean": mean}
