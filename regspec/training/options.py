"""How to train: the options of a run, as a value that a run's folder keeps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
import yaml

from regspec.text.problems import Problem, RegspecError, did_you_mean

# what the trainer can't do: steps that evaluate the loss again, weights as matrices only, sparse gradients only
UNFIT = ("Optimizer", "LBFGS", "Muon", "SparseAdam")
# and arguments that are for graphs of CUDA's or for gradients of steps
UNFIT_ARGUMENTS = ("params", "lr", "capturable", "differentiable")
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    name.lower(): cls
    for name, cls in vars(torch.optim).items()
    if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer) and name not in UNFIT
}


@dataclass(frozen=True)
class Options:
    """How to train.

    Args:
        data: a bundled set's name, a file, a folder of images, or ``package.module:function``.
        target: the target's column or array.
        epochs: how often to go over the data.
        batch_size: examples in a step of the optimizer, over all processes.
        optimizer: one of torch's, and its arguments: ``adam``, ``sgd momentum=0.9 nesterov=true``.
        learning_rate: the optimizer's.
        seed: of the weights, the split and order of the data, and what layers draw.
        routes: terms that go another way than the loss: ``l1=proximal``, ``hidden.kernel=decay``.
        class_weights: whether rare classes count more: ``balanced``, or None.
        patience: how many epochs without a better held-out loss end the training; None for no end.
        precision: Lightning's, such as ``bf16-mixed``.
        accelerator: ``auto``, ``cpu``, ``gpu``, …
        devices: how many, on each machine; ``auto`` for all.
        strategy: ``auto``, ``ddp`` or ``fsdp``.
        logger: ``csv``, or ``tensorboard`` besides.
        compiles: whether the model goes through `torch.compile`.
        baseline: whether a twin is trained too, without any penalty.
    """

    data: str = "digits"
    target: str | None = None
    epochs: int = 30
    batch_size: int = 64
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    seed: int = 0
    routes: tuple[str, ...] = ()
    class_weights: str | None = None
    patience: int | None = None
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int | str = 1
    strategy: str = "auto"
    logger: str = "csv"
    compiles: bool = False
    baseline: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The options as plain data."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Options:
        """The options of plain data; what an older version did not have is at its default."""
        known = {field.name for field in fields(cls)}
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        return cls(**{name: value for name, value in given.items() if name in known})

    def optimizer_class(self) -> tuple[Callable[..., torch.optim.Optimizer], dict[str, Any]]:
        """The optimizer's class, and its arguments. Raises `RegspecError`."""
        name, *settings = self.optimizer.split() or [""]
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

    def routes_of(self) -> dict[str, Any]:
        """The routes as `regspec.bind` takes them. Raises `RegspecError`."""
        routes: dict[str, Any] = {}
        for each in self.routes:
            what, is_given, route = each.rpartition("=")
            if not is_given or not what:
                raise RegspecError(Problem(f"'{each}' is no route", "write l1=proximal, or hidden.kernel=decay"))
            if what in routes or what in routes.get("terms", {}):
                raise RegspecError(Problem(f"there are two routes of '{what}'"))
            if what in ("l1", "l2", "group_lasso"):
                routes[what] = route
            else:
                routes.setdefault("terms", {})[what] = route
        return routes


def _plain(text: str) -> Any:
    """A value as YAML reads it, ``1e-4`` as a number."""
    try:
        return float(text) if "e" in text.lower() else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        return text
