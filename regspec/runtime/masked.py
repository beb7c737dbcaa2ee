"""torch's recurrent modules with masks: a step that does not count leaves the state as it is.

The steps that count are moved to the front and packed, so that torch's own kernels go over them alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class _Masked(nn.Module):
    """A recurrent module, ``batch_first``, that takes a mask (batch, steps) of true and false.

    At a step that does not count the output is the last one that did, and zero before the first; with
    ``zero_output_for_mask`` it is zero at each.
    """

    def __init__(self, *sizes: int, zero_output_for_mask: bool = False, **options: Any) -> None:
        super().__init__(*sizes, batch_first=True, **options)
        self.zero_output_for_mask = zero_output_for_mask

    def forward(
        self, input: Tensor, hx: Any = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | tuple[Tensor, ...]]:
        """The output (batch, steps, hidden) and the last state, as torch's module gives them."""
        if mask is None:
            result: tuple[Tensor, Any] = super().forward(input, hx)
            return result
        order = (~mask).byte().argsort(dim=1, stable=True)
        counted = input.gather(1, order.unsqueeze(-1).expand_as(input))
        lengths = mask.sum(1)
        packed = pack_padded_sequence(counted, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
        packed, last = super().forward(packed, hx)
        output, _ = pad_packed_sequence(packed, batch_first=True, total_length=input.shape[1])
        place = mask.cumsum(1) - 1  # of the last step that counted, among those that do
        output = output.gather(1, place.clamp(min=0).unsqueeze(-1).expand(-1, -1, output.shape[-1]))
        shown = mask if self.zero_output_for_mask else place >= 0
        output = output.masked_fill(~shown.unsqueeze(-1), 0)
        is_empty = (lengths == 0).unsqueeze(-1)  # whose state stays what it was
        if isinstance(last, tuple):
            before = (None,) * len(last) if hx is None else hx
            return output, tuple(_kept(is_empty, old, new) for old, new in zip(before, last, strict=True))
        return output, _kept(is_empty, hx, last)


def _kept(is_empty: Tensor, old: Tensor | None, new: Tensor) -> Tensor:
    return torch.where(is_empty, new.new_zeros(()) if old is None else old, new)


class MaskedRNN(_Masked, nn.RNN):  # type: ignore[misc]  # its forward takes a mask
    """``nn.RNN`` with a mask."""


class MaskedLSTM(_Masked, nn.LSTM):  # type: ignore[misc]  # its forward takes a mask
    """``nn.LSTM`` with a mask."""


class MaskedGRU(_Masked, nn.GRU):  # type: ignore[misc]  # its forward takes a mask
    """``nn.GRU`` with a mask."""
