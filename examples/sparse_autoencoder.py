"""SparseAutoencoder, compiled by regspec."""

from regspec.runtime import L2, KLSparsity, Regularized
from torch import Tensor, nn


class SparseAutoencoder(Regularized):
    """pixels (batch, 64) -> reconstruction (batch, 64), code (batch, 100)"""

    def __init__(self) -> None:
        super().__init__()
        self.code_ = nn.Linear(64, 100)
        self.code_activation = nn.Sigmoid()
        self.reconstruction = nn.Linear(100, 64)
        self.reconstruction_activation = nn.Sigmoid()
        self.add_weight_terms(
            L2(1e-06), {"code.kernel": "code_.weight", "reconstruction.kernel": "reconstruction.weight"}
        )
        self.add_activity_terms(KLSparsity(0.002, target=0.05), {"code.activity": "code_activation"})
        for layer in (self.code_, self.reconstruction):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        code = self.code_activation(self.code_(pixels))
        reconstruction = self.reconstruction_activation(self.reconstruction(code))
        return {"reconstruction": reconstruction, "code": code}
