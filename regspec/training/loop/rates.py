"""Learning rates over a run: torch's schedulers by their names, and those of `schedules`.

They are stepped here and not by Lightning, which does not keep what ReduceLROnPlateau has seen in the epoch that a
checkpoint is of: a resumed run would be another.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from regspec.text.problems import Problem, RegspecError, did_you_mean
from regspec.training.loop.epochs import Epochs
from regspec.training.loop.module import steps_of
from regspec.training.loop.schedules import OF_FACTORS, OF_RUN
from regspec.training.options.called import NEEDED, arguments_of, parameters_of, parts_of

# those that take functions or other schedulers
UNFIT = ("LRScheduler", "_LRScheduler", "LambdaLR", "MultiplicativeLR", "SequentialLR")
# arguments that are given otherwise: the learning rate, and what the run knows
UNFIT_ARGUMENTS = (
    "optimizer",
    "last_epoch",
    "total",
    "total_steps",
    "epochs",
    "steps_per_epoch",
    "scale_fn",
    "base_lr",
)
OF_STEPS = (*OF_FACTORS, "one_cycle", "cyclic")  # others count epochs, unless they are told
OF_LENGTH = ("total_steps", "_schedule_phases")  # in the state of a scheduler
BY = Parameter("by", Parameter.KEYWORD_ONLY, default="epochs", annotation="'steps' or 'epochs'")


def _name_of(cls: str) -> str:
    """``cosine_annealing`` for CosineAnnealingLR."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.replace("LR", "Lr").removesuffix("Lr")).lower()


SCHEDULES: dict[str, Callable[..., LRScheduler]] = {
    **OF_FACTORS,
    **{
        _name_of(name): cls
        for name, cls in vars(lr_scheduler).items()
        if isinstance(cls, type) and issubclass(cls, LRScheduler) and name not in UNFIT and name != "ChainedScheduler"
    },
}
ELSEWHERE = {
    **dict.fromkeys(("lr", "learning_rate", "base_lr"), "the learning rate is --lr"),
    **dict.fromkeys(("epochs", "total", "total_steps"), "it fits the run: --epochs says how long that is"),
}


def _plain(name: str) -> str:
    """A name without what torch's names of classes and ours differ in."""
    return name.lower().replace("_", "").removesuffix("lr")


@dataclass(frozen=True)
class Schedule:
    """A scheduler that is to be made, for an optimizer and a number of steps."""

    text: str
    name: str
    make: Callable[..., LRScheduler]
    arguments: dict[str, Any]
    is_of_steps: bool

    def of(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        """The scheduler for an optimizer, and a run of so many steps. Raises `RegspecError`."""
        given = dict(self.arguments)
        rates = [group["lr"] for group in optimizer.param_groups]
        if self.make is lr_scheduler.OneCycleLR:
            given |= {"max_lr": rates, "total_steps": steps}
        if self.make is lr_scheduler.CyclicLR:
            given |= {"base_lr": rates}
            if "max_lr" in given and (own := optimizer.defaults["lr"]):
                given |= {"max_lr": [given["max_lr"] * rate / own for rate in rates]}
        if self.make in OF_RUN.values():
            given |= {"total": steps}
        try:
            return self.make(optimizer, **given)
        except (TypeError, ValueError, KeyError) as error:
            raise RegspecError(Problem(f"'{self.text}' is no schedule of the learning rate here: {error}")) from None


def schedule_of(text: str) -> Schedule:
    """The schedule that a text names, with its arguments. Raises `RegspecError`."""
    schedule = named_schedule(text)
    for each in parameters_of(schedule.make, _unfit(schedule.make)).values():
        if each.default is NEEDED and each.name not in schedule.arguments:
            name = parts_of(text)[0]
            raise RegspecError(Problem(f"{name} needs '{each.name.lower()}'", f"{name} {each.name.lower()}=…"))
    return schedule


def named_schedule(text: str) -> Schedule:
    """As `schedule_of`, but that arguments may be missing."""
    name, *settings = parts_of(text)
    key = next((each for each in SCHEDULES if _plain(each) == _plain(name)), "")
    make = SCHEDULES.get(key)
    if make is None:
        hint = did_you_mean(name, SCHEDULES) or f"there are {', '.join(sorted(SCHEDULES))}"
        raise RegspecError(Problem(f"'{name}' is no schedule of the learning rate", hint))
    known = parameters_of(make, _unfit(make))
    has_choice = key not in OF_STEPS and make is not ReduceLROnPlateau
    arguments = arguments_of(name, settings, {**known, "by": BY} if has_choice else known, ELSEWHERE)
    is_of_steps = arguments.pop("by", "steps" if key in OF_STEPS else "epochs") == "steps"
    return Schedule(text, key, make, arguments, is_of_steps)


def _unfit(make: Callable[..., LRScheduler]) -> tuple[str, ...]:
    return (*UNFIT_ARGUMENTS, "max_lr") if make is lr_scheduler.OneCycleLR else UNFIT_ARGUMENTS


class Rates(Callback):
    """Steps a scheduler after each step of the optimizer, or after each epoch.

    Args:
        schedule: the schedule.
        epochs: what notes the held-out loss, which a plateau is of.
    """

    def __init__(self, schedule: Schedule, epochs: Epochs) -> None:
        self.schedule = schedule
        self.epochs = epochs
        self.scheduler: Any = None
        self.stored: dict[str, Any] | None = None  # of the checkpoint, until the scheduler is made
        self._done = 0

    def on_fit_start(self, trainer: lightning.Trainer, training: Any) -> None:
        steps = training.options.epochs * steps_of(training.batches, training.options.accumulate)
        # before the optimizer's state is read, as torch wants it
        self.scheduler = self.schedule.of(trainer.optimizers[0], steps)

    def on_train_start(self, trainer: lightning.Trainer, training: Any) -> None:
        if self.stored is not None:
            # a resumed run may have another number of steps
            kept = {name: value for name, value in self.stored.items() if name not in OF_LENGTH}
            self.scheduler.load_state_dict(kept)
        self._done = trainer.global_step

    def on_train_batch_end(self, trainer: lightning.Trainer, training: Any, *batch: Any) -> None:
        if self.schedule.is_of_steps and trainer.global_step > self._done:
            self._done = trainer.global_step
            self.scheduler.step()

    def on_train_epoch_end(self, trainer: lightning.Trainer, training: Any) -> None:
        if self.schedule.is_of_steps or self.epochs.is_interrupted:
            return
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(self.epochs.rows[-1]["held_out_loss"])
        else:
            self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return dict(self.scheduler.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.stored = state_dict
