"""How to search: how many trials, which values, and which score. Each option is said here, for the command too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from regspec.training.options.options import Option

if TYPE_CHECKING:  # what it makes needs optuna, and its options none
    import optuna

SEARCH = "The search"  # the heading of its options
Metric = Literal["held_out_accuracy", "held_out_loss"]


@dataclass(frozen=True)
class Plan:
    """How to search."""

    trials: Annotated[int, Option("How many trainings in all; a grid has about as many.", least=1, panel=SEARCH)] = 30
    sampler: Annotated[
        Literal["grid", "random", "tpe"],
        Option("grid and random look everywhere; tpe near what was good.", panel=SEARCH),
    ] = "tpe"
    pruner: Annotated[
        Literal["none", "median"],
        Option("median: end a trial early that is worse than half of the others were.", panel=SEARCH),
    ] = "none"
    metric: Annotated[
        Metric | None, Option("The score; accuracy for classes and loss for quantities when absent.", panel=SEARCH)
    ] = None
    search: Annotated[
        tuple[str, ...],
        Option(
            "An option that is searched, too, beside the spec's parameters: lr={low: 1e-4, high: 1e-1, log: true}, "
            "'optimizer={choices: [adam, sgd momentum=0.9]}', 'batch_size={choices: [32, 64]}'. Repeatable.",
            metavar="OPTION={…}",
            panel=SEARCH,
        ),
    ] = ()
    timeout: Annotated[float | None, Option("The seconds after which no trial begins.", least=0, panel=SEARCH)] = None

    def sampler_of(self, seed: int) -> optuna.samplers.BaseSampler:
        """What chooses the values of a trial; those of a grid are chosen already."""
        import optuna

        if self.sampler == "tpe":
            return optuna.samplers.TPESampler(seed=seed)
        return optuna.samplers.RandomSampler(seed=seed)

    def pruner_of(self, epochs: int) -> optuna.pruners.BasePruner:
        """What ends trials early: after the first five trials, and after a quarter of the epochs."""
        import optuna

        if self.pruner == "none":
            return optuna.pruners.NopPruner()
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=epochs // 4)
