"""A path: one strength from weak to strong, or back, where each training begins near the weights of the one before."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich import get_console
from rich.console import Console

from regspec.modules.building import build
from regspec.specs.model import ModelSpec
from regspec.targets.source import source
from regspec.targets.torch.program import program_of
from regspec.text import files
from regspec.text.problems import Problem, RegspecError
from regspec.training.loop import folding, run
from regspec.training.loop.epochs import PLAIN, DivergedError
from regspec.training.loop.task import Task
from regspec.training.measures.monitor import LAST
from regspec.training.options.file import Places
from regspec.training.options.options import Options
from regspec.training.runs.folder import Folder
from regspec.training.runs.folds import Folds, folder_of
from regspec.training.runs.trained import Run
from regspec.training.tuning.path_figure import draw
from regspec.training.tuning.pictures import png_and_svg
from regspec.training.tuning.plan import Along, Metric, check_one_process, metric_of
from regspec.training.tuning.points import Point, Points, over_folds, standard_error, zeros_and_units
from regspec.training.tuning.scores import LABELS
from regspec.training.tuning.strengths import Followed, followed
from regspec.training.tuning.warm import begin_near
from regspec.views.summary import plural

FILE = "path.json"
CHOSEN = ("best", "simplest")  # the folders of their runs


@dataclass(frozen=True)
class StrengthPath:
    """What a path came to: its folder, and its points, one for each strength in its order.

    Args:
        folder: where it lies, with the runs of all strengths, and ``best`` and ``simplest``.
        points: what each strength came to.
        best: that with the best score.
        simplest: the strongest within one standard error of the best.
    """

    folder: Path
    points: tuple[Point, ...]
    best: Point
    simplest: Point


@dataclass(frozen=True)
class _Path:
    """What a path goes along, and how."""

    what: Followed
    tasks: tuple[Task, ...]  # one, or one for each fold
    options: Options
    parameters: frozenset[str]  # their names in the model
    along: Along
    metric: Metric
    folder: Path
    console: Console

    def say(self, line: str) -> None:
        self.console.print(line, **PLAIN)

    @property
    def warm_epochs(self) -> int:
        epochs = self.options.epochs
        return min(self.along.warm_epochs or max(1, epochs // 8), epochs)

    def name(self, index: int) -> str:
        """The folder of a strength's run."""
        return f"{index + 1:0{len(str(self.along.steps))}}"

    def place(self, name: str, task: Task) -> Folder:
        """The folder of a run of this name: in it that of a fold, where there are several."""
        folder, fold = self.folder / name, task.options.fold
        return Folder(folder_of(folder, fold) if self.options.is_of_all_folds and fold is not None else folder)


def follow(
    spec: Path | ModelSpec,
    options: Options,
    along: Along,
    metric: Metric | None = None,
    folder: Path | None = None,
    *,
    parameters: Mapping[str, Any] | None = None,
    places: Places | None = None,
    console: Console | None = None,
    given: Any = None,
) -> StrengthPath:
    """Goes along a path of strengths, and writes its folder: by default one of its own under ``runs``.

    A folder that has a part of the same path goes on with it.

    Args:
        spec: the spec, or its file.
        options: how to train; the epochs are those of the first strength.
        along: the path.
        metric: what the score is.
        folder: where the path lies.
        parameters: values of the spec's parameters in place of its defaults.
        places: where options stand in a training file.
        console: where lines are printed.
        given: data in memory, in place of those that the options name.

    Raises:
        RegspecError: for a fault of the spec, the path or the data, a folder that can't be used, or where no strength
            has a score.
    """
    strengths = along.strengths()
    check_one_process(options, places)
    if options.monitor is None and options.patience is None:
        options = replace(options, monitor=LAST)  # so that what is kept is where the training at a strength has come to
    folds = range(1, (options.folds or 0) + 1) if options.is_of_all_folds else [options.fold]
    first, *others = (replace(options, fold=fold) for fold in folds)
    task = Task.of(spec, first, parameters, places, given)
    what = followed(task.spec, along.path or "")
    path = _Path(
        what=what,
        tasks=(task, *(Task.of(task.spec, each, None, places, given) for each in others)),
        options=options,
        parameters=frozenset(name for name, _ in build(task.spec, device="meta").named_parameters()),
        along=along,
        metric=metric_of(metric, task),
        folder=folder or Folder.free(Path("runs") / f"{task.spec.name}_path").path,
        console=console or get_console(),
    )
    points = _begun(path)
    found, total = LABELS[path.metric], len(strengths)
    terms = plural(len(path.what.terms), "term", "terms")
    path.say(
        f"{task.spec.name} on {options.data}: {path.what.name} from {strengths[0]:g} to {strengths[-1]:g}, {terms}"
    )
    epochs = f"{plural(options.epochs, 'epoch', 'epochs')}, and {path.warm_epochs} for each that follows"
    mean = f", the mean over {options.folds} folds" if options.is_of_all_folds else ""
    path.say(f"{total} strengths: {epochs}; the score is {found}{mean}")
    if points:
        path.say(f"{plural(len(points), 'strength', 'strengths')} done already, in {path.folder}")
    try:
        for index in range(len(points), total):
            points.append(_step(path, index, strengths[index], points))
            _keep(path, points)
            path.say(f"{index + 1:>{len(str(total))}}/{total}  {_told(points[-1], found)}")
        for index in along.checked():
            if points[index].cold is None:
                points[index] = _checked(path, points[index])
                _keep(path, points)
            path.say(f"check {_compared(points[index], Points(tuple(points), path.metric), found)}")
    except (KeyboardInterrupt, SystemExit):
        done = f"stopped after {len(points)} of {total} strengths"
        path.say(f"{done}; the same command with --output {path.folder} goes on")
        raise SystemExit(130) from None
    return _finished(path, Points(tuple(points), path.metric))


def _begun(path: _Path) -> list[Point]:
    """The points that the folder has already. Raises where it has something else."""
    facts = json.loads(json.dumps(_facts(path)))
    file = path.folder / FILE
    if not file.exists():
        if path.folder.exists() and any(path.folder.iterdir()):
            hint = "give a path a folder of its own"
            raise RegspecError(Problem("is a folder without a path, that is not empty", hint, str(path.folder)))
        path.folder.mkdir(parents=True, exist_ok=True)
        return []
    try:
        held = json.loads(file.read_text())
        theirs, points = held["facts"], [Point.of(each) for each in held["points"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise RegspecError(Problem("is damaged: it says nothing of a path", path=str(file))) from None
    if others := [name for name in facts if theirs.get(name) != facts[name]]:
        told = [
            "another spec" if name == "spec" else f"{name} {theirs.get(name)}, and not {facts[name]}" for name in others
        ]
        hint = "give the options that it was begun with, or another --output"
        raise RegspecError(Problem(f"holds a path with {'; '.join(told)}", hint, str(path.folder)))
    return points


def _facts(path: _Path) -> dict[str, Any]:
    """What must be the same for a path that goes on."""
    along = path.along
    text = source(path.what.spec(along.from_))
    return {
        "spec": hashlib.sha256(text.encode()).hexdigest(),
        "path": path.what.name,
        "terms": path.what.terms,
        "from": along.from_,
        "to": along.to,
        "steps": along.steps,
        "warm_epochs": path.warm_epochs,
        "metric": path.metric,
        **path.options.as_dict(),
    }


def _step(path: _Path, index: int, strength: float, points: list[Point]) -> Point:
    """Trains at a strength, from near where the one before has ended, and measures what came of it."""
    before = next((each.run for each in reversed(points) if each.score is not None), None)
    return _measured(path, Point(strength, path.name(index)), path.name(index), before)


def _measured(path: _Path, point: Point, name: str, before: str | None = None) -> Point:
    """The point with what a training in a folder of this name comes to; without a score where it diverged."""
    spec, found = path.what.spec(point.strength), list[Point]()
    with contextlib.suppress(DivergedError):
        shutil.rmtree(path.folder / name, ignore_errors=True)  # of a path that was stopped there
        runs = tuple(_trained(path, point.strength, task, name, before) for task in path.tasks)
        if path.options.is_of_all_folds:
            folding.keep(Folder(path.folder / name), path.options, Folds(path.folder / name, runs))
        for task, made in zip(path.tasks, runs, strict=True):
            own = task.with_spec(spec, task.options)
            error = standard_error(
                made.model, own.objective(), own.loaded.held_out, own.options.batch_size, path.metric
            )
            zeros, units = zeros_and_units(made.model, program_of(own.graph), path.what.terms)
            score, metrics = made.metrics[path.metric], dict(made.metrics)
            found.append(replace(point, score=score, error=error, metrics=metrics, zeros=zeros, units=units))
    return over_folds(found) if found else point


def _trained(path: _Path, strength: float, task: Task, name: str, before: str | None) -> Run:
    """The run of a strength, or of a fold of it. Once nothing is left it ends, because nothing comes back."""
    place, options, spec = path.place(name, task), task.options, path.what.spec(strength)
    if before is not None:
        options = replace(options, epochs=path.warm_epochs)
        begin_near(place, path.place(before, task), path.place(path.name(0), task), path.parameters)
    names = {f"zeros/{each.rpartition('.')[0]}" for each in path.what.terms}

    def is_over(epoch: int, metrics: Mapping[str, float]) -> bool:
        if not math.isfinite(metrics[path.metric]):
            raise DivergedError(Problem(f"the {LABELS[path.metric]} is not finite in epoch {epoch}"))
        known = [metrics[each] for each in names if each in metrics]
        return bool(known) and min(known) == 1 and epoch >= path.warm_epochs

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of a penalty that is not finite: the line says so
            made = run.trained(task.with_spec(spec, options), place, Console(file=io.StringIO()), is_over)
    except DivergedError:
        raise
    except RegspecError as error:
        what = f"with {path.what.name} {strength:g}: "
        raise RegspecError([replace(each, what=what + each.what) for each in error.problems]) from None
    place.checkpoint.unlink(missing_ok=True)  # three times as large as the weights, for a run that has ended
    return made


def _checked(path: _Path, point: Point) -> Point:
    """The point with the score of a training from the beginning."""
    cold = _measured(path, Point(point.strength, point.run), f"cold_{point.run}")
    return point if cold.score is None else replace(point, cold=(cold.score, cold.error))


def _told(point: Point, label: str) -> str:
    """A point for people."""
    start = f"strength {point.strength:<9.4g}"
    if point.score is None:
        return f"{start} diverged; a smaller --lr may help"
    zeros, numbers = point.zeros
    parts = [f"{start} {label} {point.score:.4f}{_error(point.error)}"]
    if numbers:
        parts.append(f"zeros {zeros / numbers:.1%}")
    if point.units:
        left, all_units = (sum(each) for each in zip(*point.units.values(), strict=True))
        parts.append(f"units {left} of {all_units}")
    return "  ".join(parts)


def _error(error: float | None) -> str:
    return "" if error is None else f" ± {error:.4f}"


def _compared(point: Point, points: Points, label: str) -> str:
    """What a training from the beginning says of a point."""
    start = f"strength {point.strength:<9.4g}"
    if point.cold is None:
        return f"{start} diverged from the beginning"
    if point.score is None:
        return f"{start} diverged on the path, {label} {point.cold[0]:.4f} from the beginning"
    differs = f"{points.side(point)} by more than one standard error" if point.is_far else "within one standard error"
    return f"{start} {label} {point.score:.4f} on the path, {point.cold[0]:.4f} from the beginning: {differs}"


def _keep(path: _Path, points: list[Point]) -> None:
    """Writes how far the path has come."""
    held = {"facts": _facts(path), "points": [each.as_dict() for each in points]}
    files.write(path.folder / FILE, json.dumps(held, indent=1) + "\n")


def _finished(path: _Path, points: Points) -> StrengthPath:
    """Says what is best and what is simplest, and writes both with the table and the picture."""
    files.write(path.folder / "path.csv", points.csv())
    best, simplest = points.best, points.simplest
    if best is None or simplest is None:
        hint = "a smaller --lr may help, or a weaker --from"
        raise RegspecError(Problem(f"none of {len(points.points)} strengths has a score", hint, str(path.folder)))
    figure = draw(points, path.what.name, path.tasks[0].spec.name)
    for name, content in zip(("path.png", "path.svg"), png_and_svg(figure), strict=True):
        files.write(path.folder / name, content)
    for name, point in zip(CHOSEN, (best, simplest), strict=True):
        shutil.rmtree(path.folder / name, ignore_errors=True)
        shutil.copytree(path.folder / point.run, path.folder / name)
    label = LABELS[path.metric]
    path.say(f"best:     {_told(best, label)}")
    why = "" if best.error is None else f", the strongest within one standard error ({best.error:.4f})"
    path.say(f"simplest: {_told(simplest, label)}{why}")
    if best.strength in (path.along.from_, path.along.to):
        path.say("the best is at an end of the path: a wider --from or --to may have a better one")
    if path.along.from_ > path.along.to and any(
        left < of for each in points.points for left, of in each.units.values()
    ):
        path.say("where units vanish, a path from weak to strong often has better scores")
    runs = f"best, simplest, {path.name(0)} … {path.name(path.along.steps - 1)}"
    path.say(f"{path.folder}: {runs}, path.csv, path.json, path.png, path.svg")
    return StrengthPath(path.folder, points.points, best, simplest)
