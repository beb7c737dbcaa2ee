"""A search for the values of a spec's parameters with which training ends best."""

from __future__ import annotations

import hashlib
import io
import math
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from optuna.trial import TrialState
from rich import get_console
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from regspec.graph.loading import load
from regspec.specs.rewriting import with_defaults
from regspec.specs.searches import Search
from regspec.targets.source import source
from regspec.text import files
from regspec.text.document import Document, read
from regspec.text.dumping import written
from regspec.text.problems import Problem, RegspecError
from regspec.training.loop import folding, run
from regspec.training.loop.batches import batches_in
from regspec.training.loop.checking import checked_outputs
from regspec.training.loop.epochs import PLAIN, DivergedError
from regspec.training.loop.task import Task
from regspec.training.options.file import Places
from regspec.training.options.options import Option, Options
from regspec.training.runs.folder import Folder, texts_of
from regspec.training.runs.trained import Run
from regspec.training.tuning.figure import draw
from regspec.training.tuning.options import REAL, SEARCHED, first_of, searches_said, with_values
from regspec.training.tuning.pictures import png_and_svg
from regspec.training.tuning.plan import Metric, Plan, check_one_process, metric_of
from regspec.training.tuning.scores import LABELS, Scores
from regspec.training.tuning.spaces import ends, grid, stored, suggested, told, told_of
from regspec.training.tuning.study import DIVERGED, Direction, Study, opened
from regspec.views.summary import plural

# what is kept of each trial's best epoch, and which it is; of a trial that was cut off, of its last; of folds the mean
METRICS = ("epoch", "data_loss", "penalty", "held_out_loss", "held_out_accuracy")
BEST = "best"  # the folder of the run of the best trial
Train = Callable[..., Run]


@dataclass(frozen=True)
class Tuned:
    """What a search found: its folder, the best values by their parameters' names, and their score."""

    folder: Path
    values: Mapping[str, Any]
    score: float


@dataclass(frozen=True)
class _Search:
    """What is searched, and how."""

    spec_file: Path
    document: Document
    task: Task
    plan: Plan
    metric: Metric
    folder: Path
    console: Console
    train: Train
    options: Mapping[str, Search]  # those that are searched

    @property
    def searches(self) -> Mapping[str, Search]:
        """What is searched: the spec's parameters, and then options."""
        return {**self.task.spec.search, **self.options}

    def say(self, line: str) -> None:
        self.console.print(line, **PLAIN)

    def values(self, tried: Mapping[str, Any]) -> dict[str, Any]:
        """The values in place of the spec's defaults: those that were given, and those that are tried."""
        return {**self.task.parameters, **{name: each for name, each in tried.items() if name not in self.options}}

    def options_with(self, tried: Mapping[str, Any]) -> Options:
        """The options, with those that are tried."""
        return with_values(self.task.options, {name: tried[name] for name in self.options})

    def scores(self, study: Study) -> Scores:
        """What the trials have come to so far."""
        loaded = self.task.loaded
        count = len(loaded.held_out) + (len(loaded.train) if self.task.options.is_of_all_folds else 0)
        return Scores.of(study.done(), self.searches, self.metric, count)


def tune(
    spec_file: Path,
    options: Options,
    plan: Plan,
    folder: Path | None = None,
    *,
    parameters: Mapping[str, Any] | None = None,
    places: Places | None = None,
    console: Console | None = None,
    train: Train = run.train,
) -> Tuned:
    """Searches the parameters of a spec, and writes the best spec; by default into a folder of its own under ``runs``.

    A folder that has a study of the same spec and options goes on with it; several processes may do so at once.

    Args:
        spec_file: the spec.
        options: how each trial trains.
        plan: how to search.
        folder: where the study lies.
        parameters: values of parameters that are not searched, in place of the spec's defaults.
        places: where options stand in a training file.
        console: where lines are printed.
        train: what trains, with the arguments of `regspec.training.loop.run.train`.

    Raises:
        RegspecError: for a fault of the spec or data, a folder that can't be used, or where no trial has a score.
    """
    begun = time.monotonic()
    check_one_process(options, places)
    searched, of_options = load(spec_file, parameters=parameters).search, searches_said(plan.search)
    if both := searched.keys() & (parameters or {}):
        raise RegspecError(f"'{min(both)}' is to be searched, and is given too")
    if both := searched.keys() & of_options:
        raise RegspecError(
            Problem(f"'{min(both)}' is a parameter that is searched, and an option", path=str(spec_file))
        )
    if not searched and not of_options:
        hint = "write one as strength: {default: 1e-4, search: {low: 1e-6, high: 1e-1, log: true}}"
        raise RegspecError(Problem("has no parameter to search", hint, str(spec_file)))
    # of folds the first stands for all, until these are trained
    first = replace(options, fold=1) if options.is_of_all_folds else options
    task = replace(Task.of(spec_file, first, parameters, places), options=options)
    place = folder or Folder.free(Path("runs") / f"{task.spec.name}_search").path
    metric = metric_of(plan.metric, task)
    search = _Search(
        spec_file=spec_file,
        document=read(spec_file),
        task=task,
        plan=plan,
        metric=metric,
        folder=place,
        console=console or get_console(),
        train=train,
        options=of_options,
    )
    _check(search)
    searches = search.searches
    defaults = {**{name: task.spec.parameters[name] for name in searched}, **first_of(of_options, options)}
    values = grid(searches, plan.trials) if plan.sampler == "grid" else [defaults]
    total = len(values) if plan.sampler == "grid" else plan.trials
    direction: Direction = "maximize" if metric == "held_out_accuracy" else "minimize"
    queue = [stored(searches, each) for each in values]
    with opened(place, _facts(search), direction=direction, queue=queue) as study:
        study.trials.pruner = plan.pruner_of((options.is_of_all_folds and options.folds) or options.epochs)
        try:
            _begin(search, study, total)
            with _bar(search, study, total) as tick:
                while plan.timeout is None or time.monotonic() - begun < plan.timeout:
                    trial = study.next(total)
                    if trial is None:
                        break
                    _run(search, study, trial, total)
                    tick()
        except (KeyboardInterrupt, SystemExit):
            _write(search, search.scores(study))
            done = f"stopped after {len(study.done())} of {total} trials"
            search.say(f"{done}; the same command with --output {place} goes on")
            raise SystemExit(130) from None
        return _finished(search, study, total)


def _check(search: _Search) -> None:
    """Raises where a value that may be tried makes the spec faulty."""
    searches, task = search.task.spec.search, search.task
    first = first_of(search.options, task.options)
    for name, tried in [("", None), *((name, end) for name, each in search.options.items() for end in ends(each))]:
        options = search.options_with({**first, name: tried} if name else first)
        try:  # so that faults are found before the first trial
            _check_options(options, task)
        except RegspecError as error:
            raise _because_of(f"{name} {written(tried)}, which may be tried", error) if name else error from None
    for name, each in searches.items():
        for value in ends(each):
            try:
                load(search.spec_file, parameters=search.values({name: value}))
            except RegspecError as error:
                raise _because_of(f"{name} {written(value)}, which may be tried", error) from None
    for place in (0, -1):  # so that the best can be written, whatever it is
        with_defaults(search.document, search.values({name: ends(each)[place] for name, each in searches.items()}))


def _check_options(options: Options, task: Task) -> None:
    """Raises where a training can't be as options say, whose values are perhaps not in the range that they need."""
    for name in SEARCHED:
        option, value = Option.all_of(Options)[name], getattr(options, name)
        is_number = isinstance(value, (int, float))
        if is_number and name not in REAL and not isinstance(value, int):
            raise RegspecError(Problem(f"{name} must be a whole number, and not {value}"))
        least, most = option.least or 0, math.inf if option.most is None else option.most
        if is_number and not least <= value <= most:
            may = f"at least {least:g}" if math.isinf(most) else f"{least:g} to {most:g}"
            raise RegspecError(Problem(f"{name} must be {may}, and not {value}"))
    checked_outputs(options, task.places, task.graph)
    task.with_options(options).check_steps(batches_in(task.loaded.train, options.batch_size))


def _because_of(values: str, error: RegspecError) -> RegspecError:
    """A fault that comes with some values."""
    return RegspecError([replace(each, what=f"with {values}: {each.what}") for each in error.problems])


def _facts(search: _Search) -> dict[str, Any]:
    """What must be the same for all trials of a study, by the names under which differences are told."""
    spec, plan = search.task.spec, search.plan
    first = {name: ends(each)[0] for name, each in spec.search.items()}  # so that another default is no difference
    text = source(load(search.spec_file, parameters=search.values(first)))
    how = {"sampler": plan.sampler, "pruner": plan.pruner, "metric": search.metric}
    return {
        "spec": hashlib.sha256(text.encode()).hexdigest(),
        "search": {name: str(each) for name, each in search.searches.items()},
        **search.task.options.as_dict(),
        **how,
        **({"trials": plan.trials} if plan.sampler == "grid" else {}),
    }


def _begin(search: _Search, study: Study, total: int) -> None:
    """Says what is searched, and what is known already."""
    task, scores = search.task, search.scores(study)
    where = "; ".join(told_of(name, each) for name, each in search.searches.items())
    search.say(f"{task.spec.name} on {task.options.data}: {where}")
    epochs, options = plural(task.options.epochs, "epoch", "epochs"), task.options
    mean = f", the mean over {options.folds} folds" if options.is_of_all_folds else ""
    trials = f"{plural(total, 'trial', 'trials')} of {epochs}, by {search.plan.sampler}"
    search.say(f"{trials}; the score is {scores.label}{mean}")
    if scores.trials:
        search.say(f"{len(scores.trials)} trials are done already, in {search.folder}")


@contextmanager
def _bar(search: _Search, study: Study, total: int) -> Iterator[Callable[[], None]]:
    """A progress bar of the trials, where there is a terminal; yields a function that updates it."""
    best_so_far = TextColumn("{task.description}")
    columns = (TextColumn("trials"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), best_so_far)
    with Progress(*columns, console=search.console, transient=True, disable=not search.console.is_terminal) as progress:
        bar = progress.add_task("", total=total)

        def tick() -> None:
            best = search.scores(study).best
            shown = "" if best is None else f"best {best.score:.4f}"
            progress.update(bar, completed=len(study.done()), description=shown)

        tick()
        yield tick


def _run(search: _Search, study: Study, trial: optuna.Trial, total: int) -> None:
    """Runs a trial, and says what came of it. What ends the search gives the trial back."""
    study.trials.sampler = search.plan.sampler_of(search.task.options.seed + trial.number)
    number, searches = trial.user_attrs["number"], search.searches
    place = search.folder / f".trial-{study.process}"  # beside the best one, so that paths in it hold there, too
    try:
        try:
            values = suggested(trial, searches)
            state, score, ended = _trained(search, trial, values, place)
        except BaseException:  # an interrupt too
            study.give_back(trial.number)
            raise
        study.trials.tell(trial, score, state)
        with study.alone():
            scores = search.scores(study)
            is_best = scores.best is not None and scores.best.number == number
            if is_best and place.exists():
                _keep(place, search.folder / BEST)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    mark = "  best so far" if is_best else ""
    search.say(f"trial {number:>{len(str(total))}}/{total}  {told(searches, values)}  {ended}{mark}")


def _keep(place: Path, best: Path) -> None:
    """Puts a run in the place of the best one so far."""
    old = best.with_name(f".{best.name}")
    shutil.rmtree(old, ignore_errors=True)
    if best.exists():
        best.rename(old)
    place.rename(best)
    shutil.rmtree(old, ignore_errors=True)


def _trained(
    search: _Search, trial: optuna.Trial, values: Mapping[str, Any], place: Path
) -> tuple[TrialState, float | None, str]:
    """How a training with some values, in a folder, ended: the trial's state, its score, and both for people."""
    last: dict[str, float] = {}
    options, metric, label = search.options_with(values), search.metric, LABELS[search.metric]
    is_folded = options.is_of_all_folds

    def on_epoch(epoch: int, metrics: Mapping[str, float]) -> None:
        if not is_folded:
            last.update({name: metrics[name] for name in METRICS if name in metrics})
        if not math.isfinite(metrics[metric]):
            raise DivergedError(Problem(f"the {label} is not finite in epoch {epoch}"))
        if not is_folded:
            prune("epochs", epoch, options.epochs, metrics[metric])

    def on_fold(runs: Sequence[Run]) -> None:
        last.update(
            {name: fmean(each.metrics[name] for each in runs) for name in METRICS[1:] if name in runs[0].metrics}
        )
        prune("folds", len(runs), options.folds or 0, last[metric])

    def prune(what: str, done: int, total: int, score: float) -> None:
        if search.plan.pruner == "none" or done == total:  # after which nothing is saved
            return
        trial.report(score, done)
        if trial.should_prune():
            raise optuna.TrialPruned(f"after {plural(done, what[:-1], what)}, at {score:.4f}")

    known: Any = {"console": Console(file=io.StringIO()), "parameters": search.values(values), "on_epoch": on_epoch}
    try:
        shutil.rmtree(place, ignore_errors=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of a penalty that is not finite: the trial says so
            if is_folded:
                folds = folding.train(search.spec_file, options, place, on_fold=on_fold, **known)
                ended = f" ± {folds.figures[metric].deviation:.4f}"
            else:
                made, ended = search.train(search.spec_file, options, place, **known), ""
                last.update({name: made.metrics[name] for name in METRICS if name in made.metrics})
    except optuna.TrialPruned as pruned:
        return TrialState.PRUNED, None, f"pruned {pruned}"
    except DivergedError as error:
        trial.set_user_attr(DIVERGED, True)
        return TrialState.FAIL, None, f"failed: {error.problems[0].what}"
    except RegspecError as error:
        raise _because_of(told(search.searches, values), error) from None
    finally:
        trial.set_user_attr("metrics", last)
    return TrialState.COMPLETE, last[metric], f"{label} {last[metric]:.4f}{ended}"


def _finished(search: _Search, study: Study, total: int) -> Tuned:
    """Says what is best, and writes it. Raises where no trial has a score."""
    scores = search.scores(study)
    best, searches = scores.best, search.searches
    if best is None or best.score is None:
        _write(search, scores)
        what, hint = f"none of {len(scores.trials)} trials has a score", "a smaller --lr may help, or other bounds"
        if not scores.trials:
            what, hint = "no trial has been done", "a longer --timeout lets one begin"
        raise RegspecError(Problem(what, hint, path=str(search.folder)))
    if len(scores.trials) < total:
        done = f"{len(scores.trials)} of {total} trials are done"
        search.say(f"{done}; the same command with --output {search.folder} goes on")
    search.say(f"best: {told(searches, best.values)}  {scores.label} {best.score:.4f}  (trial {best.number})")
    for name, values in scores.as_good().items():
        search.say(f"within one standard error ({scores.error:.4f}, of {scores.held_out} examples): {name} {values}")
    _write(search, scores)
    search.say(f"{search.folder}: best, best.yaml, trials.csv, scores.png, scores.svg")
    return Tuned(search.folder, best.values, best.score)


def _write(search: _Search, scores: Scores) -> None:
    """Writes the trials, their picture and the best spec, as far as there are any."""
    contents: dict[str, str | bytes] = {}
    if scores.trials:
        contents["trials.csv"] = scores.csv()
    if scores.best is not None:
        figure = draw(scores, search.task.spec, first_of(search.options, search.task.options))
        contents["scores.png"], contents["scores.svg"] = png_and_svg(figure)
        contents["best.yaml"] = texts_of(search.document, search.values(scores.best.values))["spec.yaml"]
    if contents:  # with the files of blocks, which the best spec uses
        contents |= texts_of(search.document, {})
    for name, content in contents.items():
        (search.folder / name).parent.mkdir(parents=True, exist_ok=True)
        files.write(search.folder / name, content)
