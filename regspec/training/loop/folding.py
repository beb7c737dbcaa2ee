"""A run for each fold of the data, and a summary of what they held out."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich import get_console
from rich.console import Console

from regspec.graph.loading import load
from regspec.specs.model import ModelSpec
from regspec.text import files
from regspec.text.problems import Problem, RegspecError
from regspec.training.loop import run
from regspec.training.loop.epochs import LABELS, PLAIN, OnEpoch, shown, told
from regspec.training.options.file import Places
from regspec.training.options.options import Options
from regspec.training.runs.folder import FOLDS, Folder
from regspec.training.runs.folds import Folds, OutOfFold, folder_of, kept_in
from regspec.training.runs.trained import Run, load_run

OnFold = Callable[[Sequence[Run]], None]


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
    on_fold: OnFold | None = None,
) -> Folds:
    """Trains a run for each of ``options.folds``, as `run.train` does, in folders of one folder.

    ``on_epoch`` is called with the number and the metrics of each epoch of each fold, and ``on_fold`` with the runs so
    far after each of them; what these raise ends the training.

    Raises:
        RegspecError: as `run.train` does, and where the data can't be divided so.
    """
    made = load(spec, parameters=parameters)
    place = Folder.free(Path("runs") / made.name) if folder is None else Folder(folder)
    if run.is_first():
        place.check()

    def fold(number: int) -> Run:
        own = folder_of(place.path, number)
        own_options = replace(options, fold=number)
        return run.train(made, own_options, own, console=console, places=places, given=given, on_epoch=on_epoch)

    with _gone_if_not_begun(place):
        return _all(place, options, console, fold, on_fold)


def resume(folder: Path, changes: Mapping[str, Any], *, console: Console | None = None) -> Folds:
    """Goes on with folds that were stopped: what is done is left as it is, unless there are to be more epochs.

    Args:
        folder: that of all folds.
        changes: options that are others now, such as ``epochs``.
        console: where lines are printed.

    Raises:
        RegspecError: as `run.resume` does, and where all folds are done.
    """
    place, first = Folder(folder), Folder(folder_of(folder, 1))
    options = replace(kept_in(folder)[0], **changes)
    if not first.spec.exists():
        hint = "regspec train begins anew, in another folder"
        raise RegspecError(Problem("has no fold that was begun", hint, str(folder)))
    if all(_is_done(folder_of(folder, number), options) for number in range(1, (options.folds or 0) + 1)):
        raise RegspecError(Problem(f"has done its {options.folds} folds", "--epochs goes on with each", str(folder)))

    def fold(number: int) -> Run:
        own = folder_of(folder, number)
        if _is_done(own, options):
            return load_run(own)
        if Folder(own).spec.exists():
            return run.resume(own, changes, console=console)
        return run.train(first.spec, replace(options, fold=number), own, console=console)

    return _all(place, options, console, fold)


def _is_done(folder: Path, options: Options) -> bool:
    """Whether a fold has ended, and is not to have more epochs."""
    if not (folder / "run.json").exists():
        return False
    facts = Folder(folder).facts()
    before = Options.of(facts["options"])
    return bool(facts.get("finished")) and (before.epochs, before.patience) == (options.epochs, options.patience)


def _all(
    place: Folder,
    options: Options,
    console: Console | None,
    fold: Callable[[int], Run],
    on_fold: OnFold | None = None,
) -> Folds:
    console = (console or get_console()) if run.is_first() else Console(quiet=True)
    count, runs = options.folds or 0, list[Run]()
    keep(place, options, None)
    for number in range(1, count + 1):
        console.print(f"fold {number} of {count}", **PLAIN)
        try:
            runs.append(fold(number))
        except SystemExit:  # after Ctrl-C
            console.print(f"regspec train --resume {shlex.quote(str(place.path))} goes on with all folds", **PLAIN)
            raise
        keep(place, options, Folds(place.path, tuple(runs)))
        if on_fold is not None:
            on_fold(runs)
    made = Folds(place.path, tuple(runs))
    if not torch.distributed.is_initialized():  # in which each process would have to look at all of it
        keep(place, options, made, made.evaluate())
    for line in _lines(made):
        console.print(line, **PLAIN)
    return made


def keep(place: Folder, options: Options, made: Folds | None, found: OutOfFold | None = None) -> None:
    """Writes what a folder of folds keeps: the options, how many are done, their figures, and those of all as one."""
    if run.is_first():
        done, figures = (0, {}) if made is None else (len(made.runs), made.as_dict())
        kept: dict[str, Any] = {"options": options.as_dict(), "done": done, "figures": figures}
        kept |= {} if found is None else {"out_of_fold": found.as_dict()}
        files.write_folder(place.path, {FOLDS: json.dumps(kept, indent=1) + "\n"})


def _lines(made: Folds) -> Iterator[str]:
    """The figures for people: the mean, the standard deviation, and each fold's."""
    yield f"{len(made.runs)} folds: {made.folder}"
    for name, each in made.figures.items():
        label = LABELS.get(name) or told(name)
        yield f"{label} {shown(each.mean)} ± {shown(each.deviation)}  ({'  '.join(map(shown, each.folds))})"


@contextmanager
def _gone_if_not_begun(place: Folder) -> Iterator[None]:
    """Leaves nothing of a fault that comes before the first fold is begun."""
    try:
        yield
    except RegspecError:
        if run.is_first() and not Folder(folder_of(place.path, 1)).spec.exists():
            (place.path / FOLDS).unlink(missing_ok=True)
            if place.path.is_dir() and not any(place.path.iterdir()):
                place.path.rmdir()
        raise
