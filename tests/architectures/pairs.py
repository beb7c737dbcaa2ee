"""Each architecture as it is built from its spec, and as it is written by hand, with the same numbers in both."""

from __future__ import annotations

import importlib
from typing import Any

import torch
import yaml
from torch import Tensor, nn

import regspec

from . import FOLDER

SAID = {"vit": {"class_token": "cls.bias", "positions": "pos.weight"}}  # by hand: built; the others are in one order
SINGLE = ("alexnet", "vgg11")  # in half the time
SHORTER = {"wavenet": {"audio": [1, 2100]}}  # the inputs of specs whose sizes cost time and show nothing
UNREAD = {"vit": ["cls.weight"]}  # which is multiplied with zeros
VECTORS = ("_u", "_v", "vector_u")  # of spectral normalization: see `_divide`


def spec_of(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    for key, shape in SHORTER.get(name, {}).items():
        spec["inputs"][key]["shape"] = shape
    return spec


def by_hand(name: str) -> nn.Module:
    """The class of the spec's name: DigitsCnn for digits_cnn."""
    class_name = "".join(word.capitalize() for word in spec_of(name)["name"].split("_"))
    module: nn.Module = getattr(importlib.import_module(f"{__package__}.{name}"), class_name)()
    return module


def pair(name: str) -> tuple[nn.Module, nn.Module, dict[str, str]]:
    """What is built, what is written by hand, and which numbers of the second are which of the first."""
    dtype = torch.float32 if name in SINGLE else torch.float64
    built = regspec.build(spec_of(name), dtype=dtype)
    with torch.device("meta"):  # its initial values are not needed
        hand = by_hand(name)
    hand = hand.to_empty(device="cpu").to(dtype)
    with torch.no_grad():
        for each in built.state_dict().values():
            if each.is_floating_point() and each.ndim < 2:
                each.add_(0.2 * torch.rand_like(each))  # little, so that nothing is saturated
        theirs, ours = parts(hand.state_dict()), parts(built.state_dict())
        names = names_of(name, theirs, ours)
        for mine, other in names.items():
            theirs[mine].copy_(ours[other].view_as(theirs[mine]))
        if name == "discriminator":
            _divide(hand.layers[5], built.spectral_normalization)
    return built, hand, names


def parts(numbers: dict[str, Tensor]) -> dict[str, Tensor]:
    """The numbers, with the three that an attention of torch's keeps in one tensor apart."""
    found: dict[str, Tensor] = {}
    for name, each in numbers.items():
        if "in_proj_" in name:
            found |= {f"{name}.{i}": piece for i, piece in enumerate(each.chunk(3))}
        else:
            found[name] = each
    return found


def names_of(name: str, theirs: dict[str, Tensor], ours: dict[str, Tensor]) -> dict[str, str]:
    """For each by hand the one that is built: the first of its shape that is left."""
    names = dict(SAID.get(name, {}))
    left = [each for each in ours if each not in (*names.values(), *UNREAD.get(name, [])) and not _is_vector(each)]
    for mine, numbers in theirs.items():
        if mine not in names and not _is_vector(mine):
            names[mine] = next(each for each in left if ours[each].shape == numbers.shape)
            left.remove(names[mine])
    assert not left
    return names


def _is_vector(name: str) -> bool:
    return name.rpartition(".")[2] in VECTORS


def _divide(hand: nn.Module, built: nn.Module) -> None:
    """Makes 1 the largest singular value of a kernel.

    Torch divides by it what is read of the kernel, always, and Keras the kernel itself, in training: so neither does.
    """
    kernel = built.layer.weight
    left, values, right = torch.linalg.svd(kernel.flatten(1), full_matrices=False)
    kernel /= values[0]
    hand.parametrizations.weight.original.copy_(kernel)
    hand.parametrizations.weight[0]._u.copy_(left[:, 0])
    hand.parametrizations.weight[0]._v.copy_(right[0])
    built.vector_u.copy_(left[None, :, 0])
