"""Attention as Keras defines it, over (batch, steps, features)."""

from __future__ import annotations

import math
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regspec.runtime.modules.tokens import _rotated


def _seen(
    query: Tensor,
    key: Tensor,
    *,
    causal: bool = False,
    window: int | None = None,
    query_mask: Tensor | None = None,
    value_mask: Tensor | None = None,
    key_mask: Tensor | None = None,
    attention_mask: Tensor | None = None,
) -> Tensor | None:
    """Which steps of the key each step of the query sees, (batch or 1, steps, others); None where it sees all."""
    seen = []
    if causal or window is not None:
        apart = torch.arange(query.shape[1], device=query.device).unsqueeze(1)
        apart = (apart - torch.arange(key.shape[1], device=query.device)).unsqueeze(0)
        seen += [apart >= 0] if causal else []
        seen += [apart.abs() < window] if window is not None else []
    seen += [] if query_mask is None else [query_mask.unsqueeze(-1)]
    seen += [mask.unsqueeze(-2) for mask in (value_mask, key_mask) if mask is not None]
    seen += [] if attention_mask is None else [attention_mask.bool()]
    return reduce(torch.logical_and, seen) if seen else None


def _weights(scores: Tensor, seen: Tensor | None) -> Tensor:
    """How much each step attends to each other; a step that sees none attends to nothing."""
    if seen is None:
        return scores.softmax(-1)
    return scores.masked_fill(~seen, torch.finfo(scores.dtype).min).softmax(-1).masked_fill(~seen, 0)


def _lowered(scores: Tensor, seen: Tensor | None) -> Tensor:
    """How much each step attends to each other; as in Keras, a step that sees none attends to all alike."""
    if seen is None:
        return scores.softmax(-1)
    return torch.where(seen, scores, scores - (65504.0 if scores.dtype == torch.float16 else 1e9)).softmax(-1)


class Attention(nn.Module):
    """Dot-product attention of Luong et al. (2015), https://arxiv.org/abs/1508.04025, unscaled by default."""

    def __init__(self, *, scale: bool = False, concat: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(())) if scale else None
        self.concat_score_weight = nn.Parameter(torch.ones(())) if concat else None
        self.dropout = dropout

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        *,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        causal: bool = False,
        return_scores: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        key = value if key is None else key
        if self.concat_score_weight is None:
            scores = query @ key.transpose(-2, -1)
            scores = scores if self.scale is None else scores * self.scale
        else:
            both = query.unsqueeze(-2) + key.unsqueeze(-3)
            both = both if self.scale is None else self.scale * both
            scores = self.concat_score_weight * both.tanh().sum(-1)
        weights = _lowered(scores, _seen(query, key, causal=causal, value_mask=value_mask))
        weights = F.dropout(weights, self.dropout, self.training)
        output = weights @ value
        if query_mask is not None:
            output = output.masked_fill(~query_mask.unsqueeze(-1), 0)
        return (output, weights) if return_scores else output


class AdditiveAttention(nn.Module):
    """Additive attention, with a learned scale of ``size``; Bahdanau et al. (2015), https://arxiv.org/abs/1409.0473."""

    def __init__(self, size: int | None, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.scale = None if size is None else nn.Parameter(torch.empty(size))
        self.dropout = dropout
        if self.scale is not None:
            nn.init.uniform_(self.scale, -math.sqrt(3 / self.scale.numel()), math.sqrt(3 / self.scale.numel()))

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        *,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        causal: bool = False,
        return_scores: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        key = value if key is None else key
        both = (query.unsqueeze(-2) + key.unsqueeze(-3)).tanh()
        scores = (both if self.scale is None else self.scale * both).sum(-1)
        weights = _lowered(scores, _seen(query, key, causal=causal, value_mask=value_mask))
        weights = F.dropout(weights, self.dropout, self.training)
        output = weights @ value
        if query_mask is not None:
            output = output.masked_fill(~query_mask.unsqueeze(-1), 0)
        return (output, weights) if return_scores else output


class _Projection(nn.Linear):
    """A linear layer that in half precision rounds the product before it adds the bias, as Keras does."""

    def forward(self, input: Tensor) -> Tensor:
        if self.bias is None or self.weight.dtype not in (torch.float16, torch.bfloat16):
            return super().forward(input)
        return F.linear(input, self.weight) + self.bias


class _ProjectedAttention(nn.Module):
    """Attention between projections to heads."""

    dropout: float
    sliding_window: int | None
    rope_max_wavelength: float | None

    def _heads(
        self, query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, *, causal: bool, return_scores: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Attention of (…, heads, steps, size); the scores are computed only where they are wanted."""
        if self.rope_max_wavelength is not None:
            query, key = (_rotated(each, self.rope_max_wavelength) for each in (query, key))
        dropout = self.dropout if self.training else 0.0
        if not return_scores:
            if seen is not None and self.dropout == 0 and query.ndim == 4:
                # as in Keras, whose kernel has a step that sees none attend to all alike
                low = torch.finfo(query.dtype).min * 0.7
                seen = torch.zeros_like(seen, dtype=query.dtype).masked_fill(~seen, low)
            return F.scaled_dot_product_attention(query, key, value, seen, dropout, is_causal=causal), None
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
        weights = _weights(scores, seen)
        return F.dropout(weights, dropout) @ value, weights

    def _seen(self, query: Tensor, key: Tensor, masks: dict[str, Tensor], causal: bool) -> Tensor | None:
        """Which steps each step sees, (batch or 1, heads or 1, steps, others); None where all see all."""
        of_heads = {name: mask for name, mask in masks.items() if mask.ndim > 3}  # a mask for each head
        others = {name: mask for name, mask in masks.items() if name not in of_heads}
        seen = _seen(query, key, causal=causal, window=self.sliding_window, **others)
        known = [mask.bool() for mask in of_heads.values()] + ([] if seen is None else [seen.unsqueeze(1)])
        return reduce(torch.logical_and, known) if known else None


class MultiHeadAttention(_ProjectedAttention):
    """Multi-head attention of Vaswani et al. (2017), https://arxiv.org/abs/1706.03762, as Keras's layer of that name.

    ``query_size`` is the size of the query's last axis. Attention goes over ``attention_axes``; other axes are like
    the batch.
    """

    def __init__(
        self,
        query_size: int,
        num_heads: int,
        key_dim: int,
        *,
        value_dim: int | None = None,
        key_size: int | None = None,
        value_size: int | None = None,
        output_size: tuple[int, ...] | None = None,
        attention_axes: tuple[int, ...] = (1,),
        dropout: float = 0.0,
        bias: bool = True,
        gate: bool = False,
        sliding_window: int | None = None,
        rope_max_wavelength: float | None = None,
    ) -> None:
        super().__init__()
        value_dim = key_dim if value_dim is None else value_dim
        self.num_heads = num_heads
        self.output_size = (query_size,) if output_size is None else output_size
        self.attention_axes = attention_axes
        self.dropout = dropout
        self.sliding_window = sliding_window
        self.rope_max_wavelength = rope_max_wavelength
        self.query = _Projection(query_size, num_heads * key_dim, bias=bias)
        self.key = _Projection(query_size if key_size is None else key_size, num_heads * key_dim, bias=bias)
        self.value = _Projection(query_size if value_size is None else value_size, num_heads * value_dim, bias=bias)
        self.gate = _Projection(query_size, num_heads * value_dim, bias=bias) if gate else None
        self.gating = nn.Sigmoid() if gate else None
        self.output = _Projection(num_heads * value_dim, math.prod(self.output_size), bias=bias)

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        *,
        causal: bool = False,
        return_scores: bool = False,
        **masks: Tensor,
    ) -> Tensor | tuple[Tensor, Tensor]:
        key = value if key is None else key
        is_causal = causal and self.sliding_window is None and not return_scores and not masks
        seen = self._seen(query, key, masks, causal and not is_causal)
        queries, keys, values = (self._split(each) for each in (self.query(query), self.key(key), self.value(value)))
        attended, scores = self._heads(queries, keys, values, seen, causal=is_causal, return_scores=return_scores)
        attended = self._joined(attended, query)
        if self.gate is not None and self.gating is not None:
            attended = attended * self.gating(self.gate(query))
        output: Tensor = self.output(attended)
        if len(self.output_size) > 1:
            output = output.unflatten(-1, self.output_size)
        if scores is None:
            return output
        steps = [[each.shape[axis] for axis in self.attention_axes] for each in (query, key)]
        return output, scores.unflatten(-1, steps[1]).unflatten(len(scores.shape) - 2, steps[0])

    def _split(self, x: Tensor) -> Tensor:
        """(batch, …, features) as (batch, other axes, heads, steps, size)."""
        x = x.unflatten(-1, (self.num_heads, -1))
        rest = [axis for axis in range(1, x.ndim - 2) if axis not in self.attention_axes]
        x = x.permute(0, *rest, x.ndim - 2, *self.attention_axes, x.ndim - 1)
        return x.flatten(x.ndim - 1 - len(self.attention_axes), x.ndim - 2)

    def _joined(self, x: Tensor, query: Tensor) -> Tensor:
        """(batch, other axes, heads, steps, size) as (batch, …, features) again."""
        rest = [axis for axis in range(1, query.ndim - 1) if axis not in self.attention_axes]
        x = x.unflatten(-2, [query.shape[axis] for axis in self.attention_axes])
        x = x.movedim(1 + len(rest), -2)
        order = [0, *rest, *self.attention_axes]
        return x.permute(*(order.index(axis) for axis in range(query.ndim - 1)), x.ndim - 2, x.ndim - 1).flatten(-2)


class GroupQueryAttention(_ProjectedAttention):
    """Attention whose heads share keys and values; Ainslie et al. (2023), https://arxiv.org/abs/2305.13245."""

    def __init__(
        self,
        query_size: int,
        num_query_heads: int,
        num_key_value_heads: int,
        head_dim: int,
        *,
        key_size: int | None = None,
        value_size: int | None = None,
        dropout: float = 0.0,
        bias: bool = True,
        gate: bool = False,
        sliding_window: int | None = None,
        rope_max_wavelength: float | None = None,
    ) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.repeats = num_query_heads // num_key_value_heads
        self.dropout = dropout
        self.sliding_window = sliding_window
        self.rope_max_wavelength = rope_max_wavelength
        shared = num_key_value_heads * head_dim
        self.query = _Projection(query_size, num_query_heads * head_dim, bias=bias)
        self.key = _Projection(query_size if key_size is None else key_size, shared, bias=bias)
        self.value = _Projection(query_size if value_size is None else value_size, shared, bias=bias)
        self.gate = _Projection(query_size, num_query_heads * head_dim, bias=bias) if gate else None
        self.gating = nn.Sigmoid() if gate else None
        self.output = _Projection(num_query_heads * head_dim, query_size, bias=bias)

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        *,
        causal: bool = False,
        return_scores: bool = False,
        **masks: Tensor,
    ) -> Tensor | tuple[Tensor, Tensor]:
        key = value if key is None else key
        is_causal = causal and self.sliding_window is None and not return_scores and not masks
        seen = self._seen(query, key, masks, causal and not is_causal)
        queries, keys, values = (
            each.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for each in (self.query(query), self.key(key), self.value(value))
        )
        keys, values = (each.repeat_interleave(self.repeats, dim=1) for each in (keys, values))
        attended, scores = self._heads(queries, keys, values, seen, causal=is_causal, return_scores=return_scores)
        attended = attended.transpose(1, 2).flatten(2)
        if self.gate is not None and self.gating is not None:
            attended = attended * self.gating(self.gate(query))
        output: Tensor = self.output(attended)
        return output if scores is None else (output, scores)
