"""What the parameters of modules are: kernels, recurrent kernels, biases, scales; and where their axes lie.

torch's own modules are known by their classes. Of any other a parameter called ``weight`` is a kernel where it has two
axes or more; where these lie is known by the sizes that the module names, or a rule says it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

from torch import Tensor, nn

from regspec.code.shapes import ShapeError
from regspec.language.penalties import Dimensions


@dataclass(frozen=True)
class Weight:
    """What a parameter is. A scale has no outputs and no inputs."""

    slot: str | None  # kernel, recurrent, bias, scale; None where rules can name it only
    at: Dimensions | None = None  # None where it has no axes of outputs, or where it is not known which they are
    whole: str | None = None  # the name of the weight of which it is a summand, as that of a bias in two parts
    is_open: bool = False  # whether it has axes, but not known ones

    def with_axes(self, rank: int, outputs: int, inputs: int | None) -> Weight:
        """The same with the axes that a rule says. Raises `ShapeError` where they can't be."""
        if rank < 2 or self.slot == "scale":
            return self
        for field, axis in (("output_axis", outputs), ("input_axis", inputs)):
            if axis is not None and not -rank <= axis < rank:
                raise ShapeError(f"has {rank} axes, but the rule says '{field}: {axis}'")
        units, others = outputs % rank, None if inputs is None else inputs % rank
        if units == others:
            raise ShapeError(f"has {rank} axes, so that output_axis and input_axis of the rule are one")
        others = 1 - units if others is None and rank == 2 else others
        if self.at is not None and self.at.units == units and others in (None, self.at.inputs):
            return self  # in which kernels or blocks may lie one below the other
        return replace(self, at=Dimensions(units, others), is_open=False)


def weight_of(part: nn.Module, name: str, parameter: Tensor) -> Weight:
    """What a parameter of a module is, by its name there."""
    known = _known(part, name, Dimensions(0, 1) if parameter.ndim > 1 else None)
    if known is not None:
        return known
    at = _by_sizes(part, tuple(parameter.shape))
    is_open = parameter.ndim > 1 and at is None
    slot = "scale" if name == "weight" and parameter.ndim < 2 else {"weight": "kernel", "bias": "bias"}.get(name)
    return Weight(slot, at, is_open=is_open)


def _known(part: nn.Module, name: str, at: Dimensions | None) -> Weight | None:
    """What a parameter of torch's modules is, and None of others; ``at`` is where its axes lie if as in a Linear."""
    if isinstance(part, (nn.RNNBase, nn.modules.rnn.RNNCellBase)):
        return _recurrent(name, at)
    if isinstance(part, nn.MultiheadAttention) and re.fullmatch(r"in_proj_(weight|bias)|[qkv]_proj_weight", name):
        if name == "in_proj_weight":
            return Weight("kernel", Dimensions(0, 1, kernels=3))  # of the query, the key and the value
        return Weight("bias") if name == "in_proj_bias" else Weight("kernel", at)
    if name == "bias":
        return Weight("bias") if at is None else None
    if name != "weight":
        return None
    if isinstance(part, _SCALED):
        return Weight("scale")
    if isinstance(part, nn.modules.conv._ConvNd):
        found = _convolution(part)
        return None if found is None else Weight("kernel", found)
    if isinstance(part, (nn.Embedding, nn.EmbeddingBag)):
        return Weight("kernel", Dimensions(1, 0))
    if isinstance(part, nn.Bilinear):
        return Weight("kernel", Dimensions(0))  # of two inputs
    if isinstance(part, nn.Linear) and at is not None:
        is_other = getattr(part, "fan_in_fan_out", False)  # as loralib's, of which inputs come first
        return Weight("kernel", Dimensions(1, 0) if is_other else at)
    return None


_SCALED = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.PReLU)


# what other modules call the sizes of their weights: of the outputs, and of the inputs
_EITHER_FIRST = (
    ("out_features", "in_features"),
    ("out_channels", "in_channels"),
    ("out_feats", "in_feats"),
    ("_out_feats", "_in_feats"),
    ("output_size", "input_size"),
    ("out_size", "in_size"),
    ("output_dim", "input_dim"),
    ("out_dim", "in_dim"),
    ("dim_out", "dim_in"),
)
_CONV1D = ("nf", "nx")  # of GPT; older ones name the outputs alone
# inputs first where both sizes are equal; one of them alone may be that of anything, as of a head on an embedding
_INPUTS_FIRST = (("embedding_dim", "num_embeddings"), _CONV1D)


def _by_sizes(part: Any, shape: tuple[int, ...]) -> Dimensions | None:
    """Where the axes of a weight lie by the sizes that its module names; None where these don't say it."""
    if len(shape) < 2:
        return None
    for names in (*_EITHER_FIRST, *_INPUTS_FIRST):
        outputs, inputs = (size if isinstance(size := getattr(part, name, None), int) else None for name in names)
        if outputs is None and inputs is None:
            continue
        is_one = outputs is None or inputs is None
        if names in _INPUTS_FIRST and is_one and not (names == _CONV1D and _is_conv1d(part)):
            continue
        if (found := _as_convolution(part, shape, outputs, inputs)) is not None:
            return found
        places = [
            Dimensions(o, i)
            for o, i in permutations(range(len(shape)), 2)
            if outputs in (None, shape[o]) and inputs in (None, shape[i])
        ]
        if names in _INPUTS_FIRST and len(shape) == 2 and len(places) == 2:
            return Dimensions(1, 0)
        return places[0] if len(places) == 1 else None
    return None


def _is_conv1d(part: nn.Module) -> bool:
    """Whether a module is GPT's linear map, which has the inputs first; one of that name elsewhere may be any other."""
    name = r"(transformers|pytorch_transformers|pytorch_pretrained_bert)\..*\bConv1D"
    return any(re.fullmatch(name, f"{cls.__module__}.{cls.__name__}") for cls in type(part).__mro__)


def _as_convolution(part: Any, shape: tuple[int, ...], outputs: int | None, inputs: int | None) -> Dimensions | None:
    """The axes of a kernel whose last ones are the module's ``kernel_size``, as those of torch's convolutions are."""
    size, groups = getattr(part, "kernel_size", None), getattr(part, "groups", 1)
    sizes = (size,) * (len(shape) - 2) if isinstance(size, int) else tuple(size) if isinstance(size, list) else size
    if outputs is None or inputs is None or not isinstance(groups, int) or len(shape) < 3 or shape[2:] != sizes:
        return None
    if getattr(part, "transposed", getattr(part, "output_padding", None) is not None):
        return Dimensions(1, 0, groups) if shape[:2] == (inputs, outputs // groups) else None
    return Dimensions(0, 1, groups) if shape[:2] == (outputs, inputs // groups) else None


def _convolution(part: nn.Module) -> Dimensions | None:
    """In groups, the second dimension counts the channels of a group; None where it is made in a way of its own."""
    groups = getattr(part, "groups", None)
    if not isinstance(groups, int):
        return None
    is_transposed = isinstance(part, nn.modules.conv._ConvTransposeNd)
    return Dimensions(1, 0, groups) if is_transposed else Dimensions(0, 1, groups)


def _recurrent(name: str, at: Dimensions | None) -> Weight | None:
    """The two biases of torch's are added, so that one is as good as the other: the bias is their sum."""
    found = re.fullmatch(r"(weight|bias)_(ih|hh)(.*)", name)
    if found is None:
        return Weight(None, at) if name.startswith("weight_hr") else None  # of a projection
    if found[1] == "bias":
        return Weight("bias", whole=f"bias{found[3]}")
    return Weight("kernel" if found[2] == "ih" else "recurrent", at)
