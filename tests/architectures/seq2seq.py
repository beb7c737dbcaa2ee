"""Translation by LSTMs with attention (Luong et al., 2015), of tokens that are padded with zeros at the end."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Seq2seq(nn.Module):
    def __init__(self, units: int = 128) -> None:
        super().__init__()
        self.source_embedding = nn.Embedding(8000, 64)
        self.encoder = nn.LSTM(64, units, batch_first=True)
        self.target_embedding = nn.Embedding(8000, 64)
        self.decoder = nn.LSTM(64, units, batch_first=True)
        self.hidden = nn.Linear(2 * units, units)
        self.logits = nn.Linear(units, 8000)
        self.apply(init_weights)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        mask = source != 0
        lengths = mask.sum(1).cpu()
        packed = pack_padded_sequence(self.source_embedding(source), lengths, batch_first=True, enforce_sorted=False)
        packed, state = self.encoder(packed)
        encoded, _ = pad_packed_sequence(packed, batch_first=True, total_length=source.shape[1])
        decoded, _ = self.decoder(self.target_embedding(target), state)
        scores = (decoded @ encoded.mT).masked_fill(~mask[:, None], -torch.inf)
        context = scores.softmax(dim=-1) @ encoded
        return self.logits(self.hidden(torch.cat([decoded, context], dim=-1)).tanh())


def init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.uniform_(module.weight, -0.05, 0.05)
    elif isinstance(module, nn.LSTM):
        nn.init.xavier_uniform_(module.weight_ih_l0)
        nn.init.orthogonal_(module.weight_hh_l0)
        nn.init.zeros_(module.bias_ih_l0)
        nn.init.zeros_(module.bias_hh_l0)
        nn.init.ones_(module.bias_ih_l0.data[module.hidden_size : 2 * module.hidden_size])  # the forget gate
