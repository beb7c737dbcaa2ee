"""What happens at the end of an epoch: a line for people, a row of metrics, a checkpoint, and the best weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping
from rich.console import Console
from torch import Tensor

from regspec.modules.measuring import sparsity, strengths
from regspec.text.problems import Problem, RegspecError
from regspec.training.loop.averaging import Average
from regspec.training.measures.monitor import Monitor
from regspec.training.runs.folder import Folder

PLAIN: Any = {"highlight": False, "markup": False, "soft_wrap": True}  # paths hold brackets; lines are for grep
LABELS = {"data_loss": "loss", "penalty": "penalty", "held_out_loss": "held-out loss", "held_out_accuracy": "accuracy"}
LOSSES = {"data_loss": "data loss", "penalty": "penalty", "held_out_loss": "held-out loss"}
OnEpoch = Callable[[int, Mapping[str, float]], bool | None]


class DivergedError(RegspecError):
    """What ends a training whose loss is not finite."""


class Epochs(Callback):
    """After each epoch, a line for people, a row of metrics, and the weights, if they are the best so far.

    The weights in the folder are those of the best epoch, by default the first of the least held-out loss: written
    after the checkpoint that has the epoch's row, so that a run that was killed between the two finds them there: a
    checkpoint's own weights are those of its last epoch. Only the first epoch's, which replace none, come before it.

    What was done so far is part of the checkpoint, so that a resumed run goes on with its rows.

    Args:
        folder: the run's.
        facts: what the run's folder says of the run.
        console: where lines go.
        total: how many epochs there are to be.
        monitor: which figure tells what epoch is the best.
        on_epoch: called with each epoch's number and metrics; True ends the training.
    """

    def __init__(
        self,
        folder: Folder,
        facts: dict[str, Any],
        console: Console,
        total: int,
        monitor: Monitor,
        on_epoch: OnEpoch | None,
    ) -> None:
        self.folder = folder
        self.facts = facts
        self.console = console
        self.total = total
        self.monitor = monitor
        self.on_epoch = on_epoch
        self.rows: list[dict[str, float]] = []
        self.average: Average | None = None  # which is kept in place of the weights
        self.kept = 0  # the epoch whose weights are in the folder
        self.is_interrupted = False
        self.is_enough = False  # whether `on_epoch` has said so
        self._begun = 0.0
        self._rate = 0.0

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the best epoch, whose weights are kept."""
        return self.rows[self.best - 1] if self.rows else {}

    @property
    def best(self) -> int:
        """The first epoch that is the best by the monitor; 0 before there is one."""
        return self.monitor.best(self.rows)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = list(state_dict["rows"])
        try:
            self.kept = self.folder.weights().epoch
        except RegspecError:  # a run that was killed before it had some
            self.kept = 0

    def on_train_start(self, trainer: lightning.Trainer, training: Any) -> None:
        self.keep(trainer)  # where it was killed before it could

    def on_train_batch_start(self, trainer: lightning.Trainer, training: Any, batch: Any, batch_idx: int) -> None:
        self._rate = trainer.optimizers[0].param_groups[0]["lr"]
        if batch_idx:  # the first batch, because in a resumed run Lightning does not call `on_train_epoch_start`
            return
        self._begun = time.perf_counter()
        # each epoch draws from a seed of its own, so that a resumed run draws what an uninterrupted one does
        seed = training.options.seed * 1_000_003 + trainer.current_epoch
        torch.manual_seed(seed * 4099 + trainer.global_rank)
        training.forget()

    def on_train_epoch_end(self, trainer: lightning.Trainer, training: Any) -> None:
        if self.is_interrupted:  # in the midst of the epoch
            return
        metrics = training.means()
        losses = {label: metrics[name] for name, label in LOSSES.items() if name in metrics}
        if not math.isfinite(sum(losses.values())):
            what = f"the loss is not finite in epoch {trainer.current_epoch + 1}"
            told = ", ".join(f"{label} {value:g}" for label, value in losses.items())
            kept = "; earlier epochs are kept" if self.rows else ", or smaller numbers in the data"
            raise DivergedError(Problem(f"{what}: {told}", f"a smaller --lr may help{kept}"))
        row = {"epoch": trainer.current_epoch + 1, "seconds": round(time.perf_counter() - self._begun, 4)}
        row["learning_rate"] = self._rate  # of the last step
        row |= metrics | _of_weights(training.model)
        self.rows.append(row)
        training.log(self.monitor.column, row[self.monitor.column], logger=False)  # for early stopping
        if not self.kept:
            self.keep(trainer)
        if trainer.is_global_zero:
            self.folder.write_metrics(self.rows)
            self._write_facts()
            for logger in trainer.loggers:
                logger.log_metrics({key: value for key, value in row.items() if key != "epoch"}, step=len(self.rows))
                logger.save()
            self._print(row)
        if self.on_epoch is not None and self.on_epoch(len(self.rows), row):
            self.is_enough = trainer.should_stop = True

    def _print(self, row: Mapping[str, float]) -> None:
        line = "  ".join(f"{label} {value}" for label, value in figures_of(row).items())
        self.console.print(f"epoch {len(self.rows):>{len(str(self.total))}}/{self.total}  {line}", **PLAIN)

    def keep(self, trainer: lightning.Trainer) -> None:
        """Writes the weights, if the last epoch is the best one; all processes must ask."""
        if self.kept == self.best:
            return
        if self.best == len(self.rows):  # of an earlier one they are in the folder
            state = state_of(trainer, self.average)
            if trainer.is_global_zero:
                self.folder.write_weights(state, epoch=self.best, steps=trainer.global_step)
        self.kept = self.best
        if trainer.is_global_zero:
            self._write_facts()

    def _write_facts(self, *, is_finished: bool = False) -> None:
        seconds = round(sum(row["seconds"] for row in self.rows), 3)
        known = {"epochs": len(self.rows), "best_epoch": self.kept, "finished": is_finished, "seconds": seconds}
        self.folder.write_facts({**self.facts, **known})

    def finish(self, trainer: lightning.Trainer) -> None:
        """Says in the folder that the run has ended, and is whole."""
        self.keep(trainer)  # where nothing was left to train
        if trainer.is_global_zero:
            self._write_facts(is_finished=True)
        figure = f"{str(self.monitor).removeprefix('the ')} {shown(self.metrics[self.monitor.column])}"
        self.console.print(f"kept: epoch {self.best} of {len(self.rows)}, {figure}", **PLAIN)


class Resumable(Checkpoint):
    """Writes, after each epoch, all that it takes to go on from there, to a file that is replaced at once.

    A `Checkpoint` is called after other callbacks, so that it holds what they have noted.
    """

    def __init__(self, folder: Folder, epochs: Epochs) -> None:
        self.folder = folder
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: lightning.Trainer, training: Any) -> None:
        if not self.epochs.is_interrupted:
            trainer.save_checkpoint(self.folder.checkpoint)
            self.epochs.keep(trainer)


def figures_of(row: Mapping[str, float]) -> dict[str, str]:
    """What an epoch's row says, by labels: the losses, the penalty where there are terms, and held-out figures."""
    has_terms = row.get("penalty", 0.0) > 0 or any(name.startswith("penalty/") for name in row)
    named = {name: label for name, label in LABELS.items() if name in row and (has_terms or name != "penalty")}
    others = [name for name in row if name.startswith("held_out_") and name not in LABELS and "loss" not in name]
    return {each: shown(row[name]) for name, each in (*named.items(), *((name, told(name)) for name in others))}


def told(column: str) -> str:
    """A held-out figure for people: ``kind accuracy`` for ``held_out_accuracy/kind``."""
    what, _, output = column.removeprefix("held_out_").partition("/")
    return f"{output} {what}".strip()


def shown(value: float) -> str:
    """A number for people: with four decimals, if these are enough and not too many digits come before them."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.3e}"


class Patience(EarlyStopping):
    """Ends a training after so many epochs that are no better by the monitor."""

    def __init__(self, epochs: int, monitor: Monitor) -> None:
        super().__init__(
            monitor.column,
            patience=epochs,
            check_on_train_epoch_end=True,
            mode="min" if monitor.is_least else "max",
            check_finite=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({**state_dict, "patience": self.patience})  # which may be another now

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        if self.wait_count >= self.patience:  # of a run that has ended, and has a twin that has not
            trainer.should_stop = True


def state_of(trainer: lightning.Trainer, average: Average | None = None) -> dict[str, Tensor]:
    """The weights that are evaluated, the average's if there is one; whole also where each process has a shard.

    All processes must ask.
    """
    state = trainer.strategy.lightning_module_state_dict()
    own = {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}
    if average is not None and not average.is_in_place:
        own |= {name: value for name, value in average.whole().items() if name in own}
    return own


def _of_weights(model: torch.nn.Module) -> dict[str, float]:
    """Strengths, and shares of weights that are zero or nearly so."""
    values: dict[str, Mapping[str, Any]] = {
        "strength": strengths(model),
        "zeros": sparsity(model),
        "below": sparsity(model, threshold=1e-3),
    }
    return {f"{what}/{name}": float(value) for what, own in values.items() for name, value in own.items()}
