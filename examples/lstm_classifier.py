"""LstmClassifier, compiled by regspec."""

from regspec.runtime import L1L2, L2, MaxNorm, Orthogonal, Regularized
from torch import Tensor, nn


class LstmClassifier(Regularized):
    """tokens (batch, 200) -> (batch, 2)"""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20000, 64)
        self.spatial_dropout1d = nn.Dropout1d(0.2)
        self.lstm = nn.LSTM(64, 64, batch_first=True, bidirectional=True)
        self.hidden = nn.Linear(128, 32)
        self.hidden_activation = nn.ReLU()
        self.dropout = nn.Dropout(0.5)
        self.logits = nn.Linear(32, 2)
        self.lstm.bias_hh_l0.requires_grad_(False)
        self.lstm.bias_hh_l0_reverse.requires_grad_(False)
        self.add_weight_terms(L2(1e-06), {"embedding.embeddings": "embedding.weight"})
        self.add_weight_terms(
            L2(1e-05),
            {
                "lstm.forward.kernel": "lstm.weight_ih_l0",
                "lstm.forward.bias": "lstm.bias_ih_l0",
                "lstm.backward.kernel": "lstm.weight_ih_l0_reverse",
                "lstm.backward.bias": "lstm.bias_ih_l0_reverse",
            },
        )
        self.add_weight_terms(
            Orthogonal(0.001, dim=0),
            {"lstm.forward.recurrent": "lstm.weight_hh_l0", "lstm.backward.recurrent": "lstm.weight_hh_l0_reverse"},
        )
        self.add_weight_terms(L1L2(l1=1e-05, l2=0.0001), {"logits.kernel": "logits.weight"})
        self.add_constraints(MaxNorm(3.0, dim=1), {"hidden.kernel": "hidden.weight"})
        nn.init.uniform_(self.embedding.weight, -0.05, 0.05)
        nn.init.zeros_(self.lstm.bias_hh_l0)
        nn.init.zeros_(self.lstm.bias_hh_l0_reverse)
        nn.init.xavier_uniform_(self.lstm.weight_ih_l0)
        nn.init.orthogonal_(self.lstm.weight_hh_l0)
        nn.init.zeros_(self.lstm.bias_ih_l0)
        nn.init.ones_(self.lstm.bias_ih_l0[64:128])
        nn.init.xavier_uniform_(self.lstm.weight_ih_l0_reverse)
        nn.init.orthogonal_(self.lstm.weight_hh_l0_reverse)
        nn.init.zeros_(self.lstm.bias_ih_l0_reverse)
        nn.init.ones_(self.lstm.bias_ih_l0_reverse[64:128])
        for layer in (self.hidden, self.logits):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.spatial_dropout1d(self.embedding(tokens).permute(0, 2, 1)).permute(0, 2, 1)
        x = self.lstm(x)[1][0].transpose(0, 1).flatten(1)
        x = self.dropout(self.hidden_activation(self.hidden(x)))
        return self.logits(x)
