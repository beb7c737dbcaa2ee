"""A path: one strength from strong to weak, or back, where each training begins with the weights of the one before."""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
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
from regspec.training.loop import run
from regspec.training.loop.epochs import PLAIN, DivergedError
from regspec.training.loop.task import Task
from regspec.training.measures.monitor import LAST
from regspec.training.options.file import Places
from regspec.training.options.options import Options
from regspec.training.runs.folder import Folder
from regspec.training.runs.trained import Run
from regspec.training.tuning.path_figure import draw
from regspec.training.tuning.pictures import png_and_svg
from regspec.training.tuning.plan import Along, Metric, check_one_process, metric_of
from regspec.training.tuning.points import Point, Points, standard_error, zeros_and_units
from regspec.training.tuning.scores import LABELS
from regspec.training.tuning.strengths import Followed, followed
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
    task: Task
    along: Along
    metric: Metric
    folder: Path
    console: Console

    def say(self, line: str) -> None:
        self.console.print(line, **PLAIN)

    @property
    def warm_epochs(self) -> int:
        epochs = self.task.options.epochs
        return min(self.along.warm_epochs or max(1, epochs // 8), epochs)

    def name(self, index: int) -> str:
        """The folder of a strength's run."""
        return f"{index + 1:0{len(str(self.along.steps))}}"


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
    if options.is_of_all_folds:
        what = "a path is of one division of the data, and not of all folds"
        raise RegspecError(Problem(what, "leave --folds out"))
    check_one_process(options, places)
    if options.monitor is None and options.patience is None:
        options = replace(options, monitor=LAST)  # so that what is kept is where the training at a strength has come to
    task = Task.of(spec, options, parameters, places, given)
    path = _Path(
        what=followed(task.spec, along.path or ""),
        task=task,
        along=along,
        metric=metric_of(metric, task),
        folder=folder or Folder.free(Path("runs") / f"{task.spec.name}_path").path,
        console=console or get_console(),
    )
    points = _begun(path)
    found, total = LABELS[path.metric], len(strengths)
    terms = plural(len(path.what.terms), "term", "terms")
    path.say(
        f"{task.spec.name} on {task.options.data}: {path.what.name} from {strengths[0]:g} to {strengths[-1]:g}, {terms}"
    )
    epochs = f"{plural(task.options.epochs, 'epoch', 'epochs')}, and {path.warm_epochs} for each that follows"
    path.say(f"{total} strengths: {epochs}; the score is {found}")
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
            path.say(f"check {_compared(points[index], found)}")
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
        **path.task.options.as_dict(),
    }


def _step(path: _Path, index: int, strength: float, points: list[Point]) -> Point:
    """Trains at a strength, from where the one before has ended, and measures what came of it."""
    name, options = path.name(index), path.task.options
    last = next((each for each in reversed(points) if each.score is not None), None)
    spec = path.what.spec(strength)
    if last is not None:
        anew = [*_emptied(spec, path.folder / last.run, options.seed)] if strength < last.strength else []
        skip = "|".join(map(re.escape, anew)) or None
        epochs = options.epochs if anew else path.warm_epochs
        options = replace(options, weights=str(path.folder / last.run), weights_skip=skip, epochs=epochs)
    is_anew = last is not None and options.weights_skip is not None
    point = Point(strength, name, is_anew=is_anew)
    made = _trained(path, spec, options, name, strength)
    return point if made is None else _measured(path, point, made)


def _emptied(spec: ModelSpec, folder: Path, seed: int) -> Iterator[str]:
    """The tensors of a run of which nothing is left: no gradient would bring anything back where several are so."""
    kept = Folder(folder).weights().state
    for name, each in build(spec, seed=seed).state_dict().items():
        if each.is_floating_point() and each.any() and not kept[name].any():
            yield name


def _trained(path: _Path, spec: ModelSpec, options: Options, name: str, strength: float) -> Run | None:
    """The run of a strength; None where it diverged. Once nothing is left it ends, because nothing comes back."""
    place = Folder(path.folder / name)
    shutil.rmtree(place.path, ignore_errors=True)  # of a path that was stopped there
    names = {f"zeros/{each.rpartition('.')[0]}" for each in path.what.terms}

    def is_over(epoch: int, metrics: Mapping[str, float]) -> bool:
        if not math.isfinite(metrics[path.metric]):
            raise DivergedError(Problem(f"the {LABELS[path.metric]} is not finite in epoch {epoch}"))
        known = [metrics[each] for each in names if each in metrics]
        return bool(known) and min(known) == 1 and epoch >= path.warm_epochs

    task = path.task.with_spec(spec, options)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of a penalty that is not finite: the line says so
            made = run.trained(task, place, Console(file=io.StringIO()), is_over)
    except DivergedError:
        return None
    except RegspecError as error:
        what = f"with {path.what.name} {strength:g}: "
        raise RegspecError([replace(each, what=what + each.what) for each in error.problems]) from None
    place.checkpoint.unlink(missing_ok=True)  # three times as large as the weights, for a run that has ended
    return made


def _measured(path: _Path, point: Point, made: Run) -> Point:
    """The point of a run."""
    task, model = path.task, made.model
    size, held_out = task.options.batch_size, task.loaded.held_out
    error = standard_error(model, task.objective(), held_out, size, path.metric)
    zeros, units = zeros_and_units(model, program_of(task.graph), path.what.terms)
    score = made.metrics[path.metric]
    return replace(point, score=score, error=error, metrics=dict(made.metrics), zeros=zeros, units=units)


def _checked(path: _Path, point: Point) -> Point:
    """The point with the score of a training from the beginning."""
    made = _trained(path, path.what.spec(point.strength), path.task.options, f"cold_{point.run}", point.strength)
    if made is None:
        return point
    cold = _measured(path, point, made)
    assert cold.score is not None
    return replace(point, cold=(cold.score, cold.error))


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
    return "  ".join([*parts, *(["anew, because nothing was left"] if point.is_anew else [])])


def _error(error: float | None) -> str:
    return "" if error is None else f" ± {error:.4f}"


def _compared(point: Point, label: str) -> str:
    """What a training from the beginning says of a point."""
    start = f"strength {point.strength:<9.4g}"
    if point.cold is None:
        return f"{start} diverged from the beginning"
    if point.score is None:
        return f"{start} diverged on the path, {label} {point.cold[0]:.4f} from the beginning"
    differs = "more than one standard error apart" if point.is_far else "within one standard error"
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
    figure = draw(points, path.what.name, path.task.spec.name)
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
        path.say("units that are zero seldom come back: a path from weak to strong may have better scores")
    runs = f"best, simplest, {path.name(0)} … {path.name(path.along.steps - 1)}"
    path.say(f"{path.folder}: {runs}, path.csv, path.json, path.png, path.svg")
    return StrengthPath(path.folder, points.points, best, simplest)
