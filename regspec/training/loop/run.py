"""A training run: a model and data brought together, and the folder that holds what comes of it."""

from __future__ import annotations

import json
import shlex
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from rich import get_console
from rich.console import Console
from rich.table import Table
from torch import nn

from regspec.modules.building import is_for_memory
from regspec.modules.measuring import regularization_loss, regularization_terms
from regspec.specs.model import ModelSpec
from regspec.targets.source import source
from regspec.targets.torch.program import program_of
from regspec.text.problems import Problem, RegspecError
from regspec.training.data.arrays import DIVIDED
from regspec.training.loop import resuming
from regspec.training.loop.activities import activities
from regspec.training.loop.averaging import Average
from regspec.training.loop.batches import Steps, batches_in, loader_of
from regspec.training.loop.engine import faults, quiet, trainer_of
from regspec.training.loop.epochs import PLAIN, Epochs, OnEpoch, Patience, Resumable
from regspec.training.loop.module import Training
from regspec.training.loop.progress import Bar
from regspec.training.loop.rates import Rates, schedule_of
from regspec.training.loop.starting import begin_with
from regspec.training.loop.task import Task
from regspec.training.options.file import Places
from regspec.training.options.options import IN_MEMORY, Options
from regspec.training.runs.evaluating import no_better
from regspec.training.runs.folder import Folder
from regspec.training.runs.judging import judgement
from regspec.training.runs.restoring import load_kept
from regspec.training.runs.trained import Run

SHOWN = 512  # held-out examples on which activities are looked at


def train(
    spec: Path | ModelSpec,
    options: Options,
    folder: Path | None = None,
    *,
    console: Console | None = None,
    parameters: Mapping[str, Any] | None = None,
    places: Places | None = None,
    given: Any = None,
    on_epoch: OnEpoch | None = None,
) -> Run:
    """Trains the model of a spec, and writes a run's folder: by default one of its own under ``runs``.

    Interrupted, it leaves the folder with the weights and metrics so far.

    Args:
        spec: the spec, or its file.
        options: how to train.
        folder: where the run lies; it must be empty, or not be there.
        console: where lines are printed.
        parameters: values of the spec's parameters in place of its defaults.
        places: where options stand in a training file.
        given: data in memory, in place of those that the options name.
        on_epoch: called with each epoch's number and metrics; what it raises ends the training, and so does True,
            after which the run is whole.

    Raises:
        RegspecError: for a fault of the spec, data that does not fit it, a device that is not there, a loss that is not
            finite, or a folder that can't be written.
    """
    task = Task.of(spec, options, parameters, places, given)
    place = Folder.free(Path("runs") / task.spec.name) if folder is None else Folder(folder)
    if is_first():
        place.check()
    return trained(task, place, console, on_epoch)


def resume(
    folder: Path, changes: Mapping[str, Any], *, console: Console | None = None, on_epoch: OnEpoch | None = None
) -> Run:
    """Goes on with a run that was stopped, from the end of its last epoch; on a CPU as if it had not been stopped.

    Args:
        folder: the run's.
        changes: options that are others now, such as ``epochs``.
        console: where lines are printed.
        on_epoch: as for `train`.

    Raises:
        RegspecError: where the folder holds no run, the run is done, or its spec or data are not what they were.
    """
    place = Folder(folder)
    facts = place.facts()
    options = replace(Options.of(facts["options"]), **changes)
    resuming.check_is_left(place, facts, options, has_other_patience="patience" in changes)
    task = Task.of(place.spec, options)
    resuming.check_is_same(place, facts, task.facts(), source(task.spec))
    return trained(task, place, console, on_epoch)


def is_first() -> bool:
    """Whether this is the process that prints and writes."""
    return not getattr(rank_zero_only, "rank", 0)


def trained(task: Task, place: Folder, console: Console | None = None, on_epoch: OnEpoch | None = None) -> Run:
    """The run of a task in its folder; with its twin, if one is asked for. As `train`, of what is loaded already."""
    console = (console or get_console()) if is_first() else Console(quiet=True)  # on which Lightning draws its bar
    loaded = task.loaded
    examples = "example" if len(loaded.train) == 1 else "examples"
    counts = f"{len(loaded.train)} {'weighted ' * loaded.is_weighted}{examples}, {len(loaded.held_out)} held out"
    data = task.options.data
    divided = f", pixels divided by {DIVIDED[data]}" if data in DIVIDED else ""
    console.print(f"{task.spec.name} on {data}{divided}: {counts}, {task.goal}", **PLAIN)
    for line in loaded.unknown_words:
        console.print(f"held out: {line}", **PLAIN)
    epochs, device = _fit(task, place, console, on_epoch)
    model = _finished(task, place, device) if is_first() else None
    if task.options.baseline:
        console.print("the same without penalties:", **PLAIN)
        _fit(task, place.baseline, console, None, is_penalized=False)
        if is_first():
            _finished(task, place.baseline, device)
    is_kept = task.options.data == IN_MEMORY or task.options.fold is not None  # whose figures are told as one
    held_out = loaded.held_out if is_kept else None
    if model is None:
        return Run(place.path, task.model(), epochs.metrics, held_out)
    print_terms(model, console)
    again = load_kept(task.model(), place).to(
        device
    )  # because a model's penalties of outputs are of what it has seen last
    for line in no_better(again, task.objective(), loaded.held_out, task.options.batch_size):
        console.print(line, **PLAIN)
    console.print(f"run: {place.path}", **PLAIN)
    return Run(place.path, model, epochs.metrics, held_out)


def _finished(task: Task, place: Folder, device: torch.device) -> nn.Module:
    """The model with the weights and strengths of its best epoch; what it does on held-out data is written.

    Thousands of examples are looked at on the device of the training.
    """
    model = load_kept(task.model(), place)
    examples = task.loaded.held_out[range(min(SHOWN, len(task.loaded.held_out)))]
    inputs = examples[: len(task.graph.inputs)]
    place.write("activities.json", json.dumps(activities(model, program_of(task.graph), inputs)))
    judged = judgement(model.to(device), task.objective(), task.loaded, task.options.batch_size)
    place.write("held_out.json", json.dumps(judged))
    return model.cpu()


def _fit(
    task: Task, place: Folder, console: Console, on_epoch: OnEpoch | None, *, is_penalized: bool = True
) -> tuple[Epochs, torch.device]:
    """Trains, and writes the folder; from the checkpoint that it has, if there is one.

    Gives the device, too, that has room for the whole model.
    """
    quiet()
    options, loaded = task.options, task.loaded
    epochs = Epochs(place, task.facts(), console, options.epochs, task.monitor, on_epoch)
    callbacks: list[Any] = [epochs, Resumable(place, epochs)]
    if options.schedule is not None:
        callbacks.append(Rates(schedule_of(options.schedule), epochs))
    if options.patience is not None:
        callbacks.append(Patience(options.patience, task.monitor))
    if options.ema is not None:
        epochs.average = Average(options.ema)
        callbacks.append(epochs.average)  # after those that keep what they see of the average
    if console.is_terminal:
        callbacks.append(Bar(epochs))
    inputs = loaded.train.input_count
    trainer = trainer_of(options, place, callbacks, inputs=inputs, shows_progress=console.is_terminal)
    shares: Any = {"rank": trainer.global_rank, "processes": trainer.world_size}
    with task.places.at("data"):
        batches = batches_in(loaded.train, options.batch_size, seed=options.seed, **shares)
        held_out = batches_in(loaded.held_out, options.batch_size, **shares)
    objective = task.objective()
    task.check_steps(batches)  # before anything is written
    model = _begun(task, place, place if is_penalized else Folder(place.path.parent), console)
    training = Training(
        model,
        objective,
        options,
        batches,
        inputs=inputs,
        groups=task.groups,
        is_penalized=is_penalized,
    )
    if is_first() and not place.spec.exists():
        place.begin(task.spec, task.parameters, task.facts(), model.state_dict())
    if is_first() and is_penalized:  # a twin is no training of its own
        place.write("training.yaml", task.training(place))
    lightning.seed_everything(options.seed, verbose=False)
    if options.compile:
        model.compile()
    checkpoint = str(place.checkpoint) if place.checkpoint.exists() else None
    steps = Steps(loader_of(loaded.train, batches), options.accumulate, training.counted)
    try:
        with _stopped_by_interrupts(trainer, epochs), faults():
            trainer.fit(training, steps, loader_of(loaded.held_out, held_out), ckpt_path=checkpoint)
        if epochs.is_interrupted:
            raise SystemExit
    except SystemExit:  # after Ctrl-C; of a second one it is Lightning's
        done = f"stopped after {len(epochs.rows)} of {options.epochs} epochs"
        folder = place.path if is_penalized else place.path.parent  # a twin goes on with its run
        console.print(f"{done}; regspec train --resume {shlex.quote(str(folder))} goes on", **PLAIN)
        raise SystemExit(130) from None  # as a shell has it for an interrupt
    except IndexError as error:  # an index that an embedding does not have
        raise RegspecError(Problem(f"'{options.data}' does not fit the model: {error}")) from None
    except (MemoryError, RuntimeError) as error:
        if not is_for_memory(error):
            raise
        hint = "a smaller --batch-size, smaller layers, or an optimizer that keeps less, such as sgd"
        raise RegspecError(Problem("there is not the memory for a step of the training", hint)) from None
    if len(epochs.rows) < options.epochs:
        why = "no more was wanted" if epochs.is_enough else f"{task.monitor} was not better for {options.patience}"
        console.print(f"ended after {len(epochs.rows)} of {options.epochs} epochs: {why}", **PLAIN)
    epochs.finish(trainer)
    return epochs, torch.device("cpu") if options.strategy == "fsdp" else trainer.strategy.root_device


def _begun(task: Task, place: Folder, whole: Folder, console: Console) -> nn.Module:
    """The model with the weights that a training begins with; a twin begins as the ``whole`` run does."""
    model, options = task.model(), task.options
    begun = [each for each in (place.initial, whole.initial) if each.exists()]
    if begun:  # a resumed run needs no other's weights
        begin_with(model, str(begun[0]))
    elif options.weights is not None:
        with task.places.at("weights"):
            console.print(str(begin_with(model, options.weights, options.weights_skip)), **PLAIN)
    if options.rules:
        console.print(task.groups.told(model), **PLAIN)
    return model


@contextmanager
def _stopped_by_interrupts(trainer: lightning.Trainer, epochs: Epochs) -> Iterator[None]:
    """Ctrl-C ends the training after a batch, and is noted; a second one acts as usual.

    Not by an exception, which Python drops where it is raised in a finalizer.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def stop(number: int, frame: Any) -> None:
        epochs.is_interrupted = trainer.should_stop = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def print_terms(model: nn.Module, console: Console) -> None:
    """Prints every term's penalty, and their sum, if there are terms."""
    terms = regularization_terms(model)
    if not terms:
        return
    table = Table(title="penalties", title_justify="left")
    table.add_column("term")
    table.add_column("penalty", justify="right")
    for name, penalty in terms.items():
        table.add_row(name, f"{penalty.item():.6g}")
    table.add_section()
    table.add_row("sum", f"{regularization_loss(model).item():.6g}")
    console.print(table)
