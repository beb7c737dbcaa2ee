"""A training run, and the folder that holds what it made: spec, source, weights, metrics."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import safetensors.torch
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.loggers import CSVLogger
from rich import get_console
from rich.console import Console
from rich.table import Table
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

from regspec import files
from regspec.building import build
from regspec.compiler import graph_of, load, source
from regspec.document import read
from regspec.errors import Problem, RegspecError
from regspec.runtime import Regularized
from regspec.training import data
from regspec.training.module import Training, gives_probabilities

PLAIN: Any = {"highlight": False, "markup": False, "soft_wrap": True}  # paths hold brackets; lines are for grep


@dataclass(frozen=True)
class Options:
    """How to train."""

    data: str = "digits"
    target: str | None = None
    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 1e-3
    seed: int = 0


@dataclass(frozen=True)
class Run:
    """What a run made: its folder, the trained model, and the metrics of its last epoch."""

    folder: Path
    model: Regularized
    metrics: Mapping[str, float]


def train(spec_file: Path, options: Options, folder: Path | None = None, console: Console | None = None) -> Run:
    """Trains the model of a spec's file, and writes a run's folder: by default one of its own under ``runs``.

    Interrupted, it leaves the folder with the weights and metrics so far.

    Raises:
        RegspecError: for a fault of the spec, data that does not fit it, or a folder that can't be written.
    """
    console = console or get_console()  # the one on which Lightning draws its bar
    spec = load(spec_file)
    graph = graph_of(spec)
    loaded = data.load(options.data, graph, target=options.target, seed=options.seed)
    model = build(spec, seed=options.seed)
    if folder is not None and folder.is_dir() and any(folder.iterdir()):
        raise RegspecError(Problem("is a folder that is not empty", "give a run a folder of its own", str(folder)))
    folder = _made(folder or _free(Path("runs") / spec.name))
    _copy(spec_file, folder / "spec.yaml")
    files.write(folder / "model.py", source(spec))
    _quiet()
    lightning.seed_everything(options.seed, verbose=False)
    training = Training(
        model,
        learning_rate=options.learning_rate,
        is_classification=loaded.is_classification,
        gives_probabilities=gives_probabilities(graph),
    )
    epochs = _Epochs(folder, console, options.epochs)
    trainer = lightning.Trainer(
        max_epochs=options.epochs,
        accelerator="auto",
        devices=1,
        logger=CSVLogger(folder, name="", version=""),
        callbacks=[epochs, *([RichProgressBar(leave=False)] if console.is_terminal else [])],
        enable_progress_bar=console.is_terminal,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    counts = f"{len(loaded.train)} examples, {len(loaded.held_out)} held out"
    console.print(f"{spec.name} on {options.data}: {counts}, {training.task}", **PLAIN)
    try:
        with _stopped_by_interrupts(trainer) as interrupts:
            trainer.fit(
                training,
                _loader(loaded.train, options.batch_size, is_shuffled=True),
                _loader(loaded.held_out, options.batch_size, is_shuffled=False),
            )
        if interrupts:
            raise SystemExit
    except SystemExit:  # after Ctrl-C; of a second one it is Lightning's
        done = f"stopped after {epochs.done} of {options.epochs} epochs"
        console.print(f"{done}; {folder} has what was trained so far", **PLAIN)
        raise SystemExit(130) from None  # as a shell has it for an interrupt
    except IndexError as error:  # an index that an embedding does not have
        raise RegspecError(Problem(f"'{options.data}' does not fit the model: {error}")) from None
    print_terms(model, console)
    console.print(f"run: {folder}", **PLAIN)
    return Run(folder, model.cpu(), epochs.metrics)


@contextmanager
def _stopped_by_interrupts(trainer: lightning.Trainer) -> Iterator[list[int]]:
    """Ctrl-C ends the training after a batch, and is noted; a second one acts as usual.

    Not by an exception, which Python drops where it is raised in a finalizer.
    """
    interrupts: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = signal.getsignal(signal.SIGINT)

    def stop(number: int, frame: Any) -> None:
        interrupts.append(number)
        trainer.should_stop = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, stop)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)


def print_terms(model: Regularized, console: Console) -> None:
    """Prints every term's penalty, and their sum."""
    table = Table(title="penalties", title_justify="left")
    table.add_column("term")
    table.add_column("penalty", justify="right")
    for name, penalty in model.regularization_terms().items():
        table.add_row(name, f"{penalty.item():.6g}")
    table.add_section()
    table.add_row("sum", f"{model.regularization_loss().item():.6g}")
    console.print(table)


def _loader(examples: data.Examples, size: int, *, is_shuffled: bool) -> Any:
    """Batches of examples, each taken at once."""
    rows = range(len(examples))
    order: Any = RandomSampler(rows) if is_shuffled else SequentialSampler(rows)
    # a last batch of one example has no variance for a batch normalization
    drops = is_shuffled and len(examples) % size == 1
    dataset: Any = examples
    return DataLoader(dataset, sampler=BatchSampler(order, size, drops), batch_size=None)


def _free(path: Path) -> Path:
    """``path``, or with the first number after it that no folder has yet."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}_{number}")
    return free


def _copy(spec_file: Path, copy: Path) -> None:
    """Copies a spec, and beside it the files of its blocks that lie below it."""
    files.write(copy, spec_file.read_bytes())
    blocks = read(spec_file).data.get("blocks") or {}
    for name in {block["file"] for block in blocks.values() if "file" in block}:
        if ".." not in Path(name).parts:
            _made((copy.parent / name).parent)
            _copy(spec_file.parent / name, copy.parent / name)


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RegspecError(Problem(f"can't be made: {error.strerror}", path=str(folder))) from None
    return folder


def _quiet() -> None:
    """Lightning's remarks on machines and loaders are not for who trains a small model."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")


LABELS = {"data_loss": "loss", "penalty": "penalty", "held_out_loss": "held-out loss", "held_out_accuracy": "accuracy"}


class _Epochs(Callback):
    """After each epoch, a line for people, a row of metrics, and the weights."""

    def __init__(self, folder: Path, console: Console, total: int) -> None:
        self.folder = folder
        self.console = console
        self.total = total
        self.done = 0
        self.metrics: dict[str, float] = {}

    def on_train_epoch_end(self, trainer: lightning.Trainer, training: Any) -> None:
        if trainer.should_stop:  # in the midst of the epoch
            self._save(training.model)
            return
        self.done += 1
        self.metrics = {
            name: trainer.callback_metrics[name].item() for name in LABELS if name in trainer.callback_metrics
        }
        if trainer.logger is not None:
            trainer.logger.log_metrics({"epoch": self.done, **self.metrics}, step=self.done)
            trainer.logger.save()
        self._save(training.model)
        shown = "  ".join(f"{LABELS[name]} {value:.4f}" for name, value in self.metrics.items())
        self.console.print(f"epoch {self.done:>{len(str(self.total))}}/{self.total}  {shown}", **PLAIN)

    def on_exception(self, trainer: lightning.Trainer, training: Any, exception: BaseException) -> None:
        self._save(training.model)

    def _save(self, model: Regularized) -> None:
        state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        files.write(self.folder / "weights.safetensors", safetensors.torch.save(state))
