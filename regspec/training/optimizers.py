"""The optimizer that is named in a text with its arguments: ``sgd momentum=0.9 nesterov=true``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import yaml

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


def optimizer_of(text: str) -> tuple[Callable[..., torch.optim.Optimizer], dict[str, Any]]:
    """The optimizer's class, and its arguments. Raises `RegspecError`."""
    name, *settings = text.split() or [""]
    cls = OPTIMIZERS.get(name.lower())
    if cls is None:
        hint = did_you_mean(name.lower(), OPTIMIZERS) or f"torch has {', '.join(sorted(OPTIMIZERS))}"
        raise RegspecError(Problem(f"'{name}' is no optimizer", hint))
    known = [each for each in inspect.signature(cls).parameters if each not in UNFIT_ARGUMENTS]
    arguments = {}
    for setting in settings:
        key, is_given, value = setting.partition("=")
        if not is_given or key not in known:
            hint = did_you_mean(key, known) or f"it takes {', '.join(known)}, each as name=value"
            raise RegspecError(Problem(f"{name} does not take '{setting}'", hint))
        arguments[key] = _plain(value)
        if isinstance(arguments[key], str):  # of which no optimizer takes any
            raise RegspecError(Problem(f"{name} does not take '{setting}'", "its value is no number"))
    return cls, arguments


def _plain(text: str) -> Any:
    """A value as YAML reads it, ``1e-4`` as a number."""
    try:
        return float(text) if "e" in text.lower() else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        return text
