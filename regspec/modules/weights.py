"""What the parameters of modules are: kernels, recurrent kernels, biases, scales; and where their axes lie.

torch's own modules are known by their classes. Of any other a parameter called ``weight`` is a kernel, as that of a
Linear, where it has two axes or more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from regspec.language.regularizers import Dimensions


@dataclass(frozen=True)
class Weight:
    """What a parameter is. A scale has no outputs and no inputs."""

    slot: str | None  # kernel, recurrent, bias, scale; None where rules can name it only
    at: Dimensions | None = None  # None where it has no axes of outputs
    whole: str | None = None  # the name of the weight of which it is a summand, as that of a bias in two parts


def weight_of(part: nn.Module, name: str, parameter: Tensor) -> Weight:
    """What a parameter of a module is, by its name there."""
    at = Dimensions(0, 1) if parameter.ndim > 1 else None
    if isinstance(part, (nn.RNNBase, nn.modules.rnn.RNNCellBase)):
        return _recurrent(name, at)
    if isinstance(part, nn.MultiheadAttention) and re.fullmatch(r"in_proj_(weight|bias)|[qkv]_proj_weight", name):
        if name == "in_proj_weight":
            return Weight("kernel", Dimensions(0, 1, kernels=3))  # of the query, the key and the value
        return Weight("bias") if name == "in_proj_bias" else Weight("kernel", at)
    if name == "bias":
        return Weight("bias", at)
    if name != "weight":
        return Weight(None, at)
    if isinstance(part, _SCALED):
        return Weight("scale")
    if isinstance(part, nn.modules.conv._ConvNd):
        return Weight("kernel", _convolution(part))
    if isinstance(part, (nn.Embedding, nn.EmbeddingBag)):
        return Weight("kernel", Dimensions(1, 0))
    if isinstance(part, nn.Bilinear):
        return Weight("kernel", Dimensions(0))  # of two inputs
    return Weight("scale" if at is None else "kernel", at)


_SCALED = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.PReLU)


def _convolution(part: Any) -> Dimensions:
    """In groups, the second dimension counts the channels of a group."""
    is_transposed = isinstance(part, nn.modules.conv._ConvTransposeNd)
    return Dimensions(1, 0, part.groups) if is_transposed else Dimensions(0, 1, part.groups)


def _recurrent(name: str, at: Dimensions | None) -> Weight:
    """The two biases of torch's are added, so that one is as good as the other: the bias is their sum."""
    found = re.fullmatch(r"(weight|bias)_(ih|hh)(.*)", name)
    if found is None:
        return Weight(None, at)
    if found[1] == "bias":
        return Weight("bias", whole=f"bias{found[3]}")
    return Weight("kernel" if found[2] == "ih" else "recurrent", at)
