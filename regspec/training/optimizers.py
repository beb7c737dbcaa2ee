"""The optimizer that is named in a text with its arguments: ``adam betas=(0.9,0.99) amsgrad=true``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch

from regspec.text import document
from regspec.text.problems import Problem, RegspecError, did_you_mean

# what the trainer can't do: steps that evaluate the loss again, weights as matrices only, sparse gradients only
UNFIT = ("Optimizer", "LBFGS", "Muon", "SparseAdam")
# arguments that are given otherwise, or are for CUDA graphs and for gradients through steps
UNFIT_ARGUMENTS = ("params", "lr", "capturable", "differentiable")
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    name.lower(): cls
    for name, cls in vars(torch.optim).items()
    if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer) and name not in UNFIT
}


_NEXT = re.compile(r"\s+(?=\w+\s*=)")  # between arguments: a value may have spaces, (0.9, 0.99)
_NONE = re.compile(r"\b(none|None)\b")  # which YAML writes null


def parts_of(text: str) -> list[str]:
    """The name in a text, and its arguments: ``adam``, ``betas=(0.9, 0.99)``."""
    name, *rest = text.split(maxsplit=1) or [""]
    return [name, *(_NEXT.split(rest[0]) if rest else [])]


def optimizer_of(text: str) -> tuple[Callable[..., torch.optim.Optimizer], dict[str, Any]]:
    """The optimizer's class, and its arguments. Raises `RegspecError`."""
    name, *settings = parts_of(text)
    cls = OPTIMIZERS.get(name.lower())
    if cls is None:
        hint = did_you_mean(name.lower(), OPTIMIZERS) or f"torch has {', '.join(sorted(OPTIMIZERS))}"
        raise RegspecError(Problem(f"'{name}' is no optimizer", hint))
    defaults = {
        each.name: each.default
        for each in inspect.signature(cls).parameters.values()
        if each.name not in UNFIT_ARGUMENTS
    }
    arguments: dict[str, Any] = {}
    for setting in settings:
        key, is_given, value = (part.strip() for part in setting.partition("="))
        if not is_given or key not in defaults:
            raise RegspecError(Problem(f"{name} does not take '{setting}'", _hint(key, defaults)))
        if key in arguments:
            raise RegspecError(Problem(f"{name} is given '{key}' twice"))
        arguments[key] = _plain(value)
        if not _is_like(arguments[key], defaults[key]):
            raise RegspecError(Problem(f"{name} does not take '{setting}'", f"{key} is {_described(defaults[key])}"))
    return cls, arguments


def _hint(key: str, known: Mapping[str, Any]) -> str:
    """What to write instead of an argument that is unknown, or is given no value."""
    if key in ("lr", "learning_rate"):
        return "the learning rate is --lr"
    if key in known:
        return f"write {key}=…, where {key} is {_described(known[key])}"
    return did_you_mean(key, known) or f"it takes {', '.join(known)}, each as name=value"


def _plain(text: str) -> Any:
    """A value as a spec writes it, ``1e-4``, or as Python does, ``(0.9, None)``; itself where it is neither."""
    written = f"[{text[1:-1]}]" if text.startswith("(") and text.endswith(")") else text
    try:
        value = document.parse(_NONE.sub("null", written)).data
    except RegspecError:
        return text
    return tuple(value) if isinstance(value, list) else value


def _is_like(value: Any, default: Any) -> bool:
    """Whether a value is of an argument's sort, by its default: torch takes ``nesterov=3``, and ``momentum=true``."""
    if isinstance(default, tuple):
        return (
            isinstance(value, tuple)
            and len(value) == len(default)
            and all(_is_number(each) or (each is None and None in default) for each in value)
        )
    if default is None or isinstance(default, bool):  # foreach and fused are chosen where they are None
        return isinstance(value, bool) or value is default
    return _is_number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _described(default: Any) -> str:
    """What an argument is, for people, by its default."""
    if isinstance(default, tuple):
        numbers = ",".join("none" if each is None else f"{each:g}" for each in default)
        return f"{len(default)} numbers in brackets, such as ({numbers})"
    if default is None:
        return "true, false or none"
    return "true or false" if isinstance(default, bool) else f"a number, such as {default:g}"
