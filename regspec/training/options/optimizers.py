"""The optimizer that is named in a text with its arguments: ``adam betas=(0.9,0.99) amsgrad=true``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from regspec.text.problems import Problem, RegspecError, did_you_mean
from regspec.training.options.called import arguments_of, parameters_of, parts_of
from regspec.training.options.keras_optimizers import KERAS_OPTIMIZERS

# what the trainer can't do: steps that evaluate the loss again, weights as matrices only, sparse gradients only
UNFIT = ("Optimizer", "LBFGS", "Muon", "SparseAdam")
# arguments that are given otherwise, or are for CUDA graphs and for gradients through steps
UNFIT_ARGUMENTS = ("params", "lr", "capturable", "differentiable")
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    **{
        name.lower(): cls
        for name, cls in vars(torch.optim).items()
        if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer) and name not in UNFIT
    },
    **KERAS_OPTIMIZERS,
}
ELSEWHERE = dict.fromkeys(("lr", "learning_rate"), "the learning rate is lr, once: in a training file or as --lr")


def optimizer_of(text: str) -> tuple[Callable[..., torch.optim.Optimizer], dict[str, Any]]:
    """The optimizer's class, and its arguments. Raises `RegspecError`."""
    name, *settings = parts_of(text)
    cls = OPTIMIZERS.get(name.lower())
    if cls is None:
        hint = did_you_mean(name.lower(), OPTIMIZERS) or f"there are {', '.join(sorted(OPTIMIZERS))}"
        raise RegspecError(Problem(f"'{name}' is no optimizer", hint))
    return cls, arguments_of(name, settings, parameters_of(cls, UNFIT_ARGUMENTS), ELSEWHERE)


def takes_decay(cls: Callable[..., torch.optim.Optimizer]) -> bool:
    """Whether an optimizer has a weight decay."""
    return "weight_decay" in parameters_of(cls)
