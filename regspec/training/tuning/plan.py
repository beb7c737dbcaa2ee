"""How to search: how many trials, which values, and which score. Each option is said here, for the command too."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from regspec.text.problems import Problem, RegspecError
from regspec.training.options.file import Places
from regspec.training.options.options import Option, Options

if TYPE_CHECKING:  # what it makes needs optuna, and its options none
    import optuna

    from regspec.training.loop.task import Task

SEARCH, PATH = "The search", "A path"  # the headings of their options
Metric = Literal["held_out_accuracy", "held_out_loss"]


def metric_of(said: Metric | None, task: Task) -> Metric:
    """What the score is. Raises where there are no classes to be right about."""
    if said not in (None, *get_args(Metric)):
        raise RegspecError(Problem(f"the metric is {said!r}", f"it may be {' or '.join(get_args(Metric))}"))
    if said == "held_out_accuracy" and not task.loaded.is_classification:
        what = f"the target of '{task.options.data}' is a quantity, and has no accuracy"
        raise RegspecError(Problem(what, "--metric held_out_loss"))
    return said or ("held_out_accuracy" if task.loaded.is_classification else "held_out_loss")


def check_one_process(options: Options, places: Places | None) -> None:
    """Raises where each training would be of several processes, of which each would be the whole command again."""
    if options.devices != "1":
        what = f"a search or a path trains on one device at a time, and not on {options.devices}"
        with (places or Places()).at("devices"):
            raise RegspecError(Problem(what, "leave devices out"))


@dataclass(frozen=True)
class Along:
    """A path of strengths: what it changes, from where to where, and how long each strength is trained."""

    path: Annotated[
        str | None,
        Option(
            "Go along one strength, from --from to --to, each training beginning near where the one before ended: a "
            "term's, hidden.kernel.l1; that of all kernels, kernel.l1; or a parameter's, strength.",
            metavar="STRENGTH",
            panel=PATH,
        ),
    ] = None
    from_: Annotated[float, Option("The first strength.", panel=PATH)] = 1e-5
    to: Annotated[float, Option("The last one; between them each is the same factor from the next.", panel=PATH)] = 1.0
    steps: Annotated[int, Option("How many strengths.", panel=PATH)] = 30
    warm_epochs: Annotated[
        int | None,
        Option("The epochs of a strength after the first; an eighth of --epochs when absent.", least=1, panel=PATH),
    ] = None
    check: Annotated[
        int,
        Option(
            "Train so many of the strengths after the first from the beginning, too, and say where the path is better "
            "or worse.",
            panel=PATH,
        ),
    ] = 0

    def strengths(self) -> list[float]:
        """The strengths in their order, evenly by factors.

        Raises:
            RegspecError: where there is no such path.

        Example:
            >>> Along("kernel.l1", from_=1, to=1e-4, steps=3).strengths()
            [1.0, 0.01, 0.0001]
        """
        problems = [
            Problem(f"--{name} must be greater than 0 and finite, but is {value:g}", "strengths lie apart by factors")
            for name, value in (("from", self.from_), ("to", self.to))
            if not 0 < value < math.inf
        ]
        if self.from_ == self.to:
            problems.append(Problem(f"--from and --to are both {self.to:g}", "a path leads from one to another"))
        if self.steps < 2:
            problems.append(Problem(f"--steps must be at least 2, but is {self.steps}"))
        if not 0 <= self.check < max(1, self.steps):
            what = f"--check must be 0 to {self.steps - 1}, but is {self.check}"
            problems.append(Problem(what, "of all --steps the first is trained from the beginning anyway"))
        if self.warm_epochs is not None and self.warm_epochs < 1:
            problems.append(Problem(f"--warm-epochs must be at least 1, but is {self.warm_epochs}"))
        if problems:
            raise RegspecError(problems)
        ratio = math.log(self.to / self.from_)
        inner = [self.from_ * math.exp(ratio * each / (self.steps - 1)) for each in range(1, self.steps - 1)]
        found = [float(self.from_), *(float(f"{each:.4g}") for each in inner), float(self.to)]
        if len({*found}) < len(found):
            what = f"{self.steps} strengths from {self.from_} to {self.to} are not all different in four digits"
            raise RegspecError(Problem(what, "fewer --steps, or a longer path"))
        return found

    def checked(self) -> list[int]:
        """The places of the strengths that are trained from the beginning, too: evenly up to the last.

        The first is none of them: on the path it has been trained so.

        Example:
            >>> Along("kernel.l1", steps=30, check=5).checked()
            [6, 12, 17, 23, 29]
        """
        return [round(each * (self.steps - 1) / self.check) for each in range(1, self.check + 1)]


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
