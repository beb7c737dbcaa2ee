"""How do I add L1 and the L2 norm, not squared, to the loss?

By hand: the sum over the parameters of ``l1 * p.abs().sum() + l2 * p.norm(2)``. People take it for elastic net, which
has the square of the norm; the gradient of this norm has the same length, l2, however small the weights are. With
regspec: ``norm`` is the norm, ``l2`` its square, and a list of regularizers is their sum.
A norm over the parameters joined, ``torch.cat([...]).norm(2)``, is not the sum of their norms, and no rule says it.
Run it from anywhere: ``python examples/recipes/mixed_norm.py``.
"""

import copy

import regspec
import torch
from comparing import compare
from regspec.runtime import Regularized
from torch import Tensor, nn
from torch.nn import functional as F

L1, L2 = 1e-4, 1e-2
RULES = [{"parameters": ".*", "regularizer": [{"l1": L1}, {"norm": L2}]}]


class Regression(nn.Module):
    """Sequences (batch, time, 19) -> one number each (batch,)."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(19, 37, batch_first=True)
        self.output = nn.Linear(37, 1)

    def forward(self, sequence: Tensor) -> Tensor:
        _, last = self.gru(sequence)
        return self.output(last[0]).squeeze(1)


def by_hand(model: Regression, sequences: Tensor, targets: Tensor) -> Tensor:
    model.zero_grad()
    penalty = torch.zeros(())
    for parameter in model.parameters():
        penalty = penalty + L1 * parameter.abs().sum() + L2 * parameter.norm(2)
    loss = F.mse_loss(model(sequences), targets) + penalty
    loss.backward()
    return penalty


def with_regspec(model: Regularized, sequences: Tensor, targets: Tensor) -> Tensor:
    model.zero_grad()
    penalty = model.regularization_loss()
    loss = F.mse_loss(model(sequences), targets) + penalty
    loss.backward()
    return penalty


def main() -> float:
    """The largest relative difference."""
    torch.manual_seed(0)
    data = torch.randn(33, 11, 19), torch.randn(33)
    model = Regression()
    regularized = regspec.regularize(copy.deepcopy(model), RULES)
    return compare("L1 and the norm, not squared", (by_hand, model), (with_regspec, regularized), *data)


if __name__ == "__main__":
    main()
