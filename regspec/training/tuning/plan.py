"""How to search: how many trials, which values, and which score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import optuna

Metric = Literal["held_out_accuracy", "held_out_loss"]
Sampler = Literal["grid", "random", "tpe"]
Pruner = Literal["none", "median"]


@dataclass(frozen=True)
class Plan:
    """How to search.

    Args:
        trials: how many trainings, in all processes and on all days; for a grid about as many.
        sampler: ``grid``, ``random``, or ``tpe``, which looks near what was good.
        pruner: ``median`` ends a trial early that is worse than half of the others were; ``none`` ends none.
        metric: the score; the accuracy of classes and the loss of quantities where it is None.
        timeout: the seconds after which no trial begins; None for no end.
    """

    trials: int = 30
    sampler: Sampler = "tpe"
    pruner: Pruner = "none"
    metric: Metric | None = None
    timeout: float | None = None

    def sampler_of(self, seed: int) -> optuna.samplers.BaseSampler:
        """What chooses the values of a trial; those of a grid are chosen already."""
        if self.sampler == "tpe":
            return optuna.samplers.TPESampler(seed=seed)
        return optuna.samplers.RandomSampler(seed=seed)

    def pruner_of(self, epochs: int) -> optuna.pruners.BasePruner:
        """What ends trials early: after the first five trials, and after a quarter of the epochs."""
        if self.pruner == "none":
            return optuna.pruners.NopPruner()
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=epochs // 4)
