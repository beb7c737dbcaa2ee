"""A study in a folder: Optuna's trials, which several processes share, and which outlive each of them.

Each process holds a lock on a file of its own for as long as it lives, and the system takes it back however that ends.
So a trial that runs, and whose process holds no lock, was left behind, and is done once more.
"""

from __future__ import annotations

import json
import os
import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from regspec.text.problems import Problem, RegspecError

Direction = Literal["maximize", "minimize"]
NAME = "regspec"
DIVERGED = "diverged"  # an attribute of trials that diverged; other failed trials were given back, to be run again
PATIENCE = 60.0  # seconds to wait for what another process does in milliseconds


@dataclass(frozen=True)
class Study:
    """Trials in a folder.

    Args:
        folder: where the study lies.
        process: the name of this process in it.
        trials: Optuna's study.
    """

    folder: Path
    process: str
    trials: optuna.Study

    def next(self, total: int) -> optuna.Trial | None:
        """A trial for this process, first of those that wait; None, where ``total`` have been run or are running."""
        with _locked(self.folder / ".lock", PATIENCE):
            for left in self._in(TrialState.RUNNING):
                if not self._lives(left.user_attrs.get("process")):
                    self.give_back(left.number)
            # all states in one reading: a trial that ends between two of them would be in neither
            begun = self._in(TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
            taken = {each.user_attrs["number"] for each in begun if not _is_given_back(each)}
            if len(taken) >= total:
                return None
            trial = self.trials.ask()
            trial.set_user_attr("process", self.process)
            trial.set_user_attr("number", min({*range(1, len(taken) + 2)} - taken))
            return trial

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While it lasts no other process begins a trial, or does so too."""
        with _locked(self.folder / ".lock", PATIENCE):
            yield

    def give_back(self, number: int) -> None:
        """Puts a trial that was not run to its end back, by Optuna's number of it, to be run again."""
        trial = next(each for each in self._in(TrialState.RUNNING) if each.number == number)
        self.trials.tell(number, state=TrialState.FAIL)
        self.trials.enqueue_trial({**trial.system_attrs.get("fixed_params", {}), **trial.params})

    def tidy(self) -> None:
        """Removes the files of processes that were killed."""
        for path in self.folder.glob(".process-*"):
            name = path.name.removeprefix(".process-")
            if not name.endswith("-journal"):
                self._lives(name)

    def done(self) -> list[FrozenTrial]:
        """The trials that have ended, by their numbers: with a score, pruned or diverged."""
        ended = self._in(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        own = [each for each in ended if not _is_given_back(each)]
        return sorted(own, key=lambda each: each.user_attrs["number"])

    def _in(self, *states: TrialState) -> Sequence[FrozenTrial]:
        return self.trials.get_trials(deepcopy=False, states=states)

    def _lives(self, process: str | None) -> bool:
        """Whether a process is still there: nobody else can take its lock."""
        if process in (None, self.process):
            return process is not None
        path = self.folder / f".process-{process}"
        try:
            if path.exists():
                with _locked(path, 0):
                    path.unlink()
                path.with_name(f"{path.name}-journal").unlink(missing_ok=True)  # which a kill leaves
        except sqlite3.OperationalError:
            return True
        return False


def _is_given_back(trial: FrozenTrial) -> bool:
    """Whether a trial was put back, to be run again."""
    return trial.state is TrialState.FAIL and DIVERGED not in trial.user_attrs


@contextmanager
def opened(
    folder: Path, facts: Mapping[str, Any], *, direction: Direction, queue: Sequence[Mapping[str, Any]]
) -> Iterator[Study]:
    """The study in a folder; where there is none, a new one with trials that wait.

    Args:
        folder: where it lies.
        facts: what is the same for all its trials, as plain data.
        direction: ``maximize`` or ``minimize``.
        queue: the parameters of the first trials.

    Raises:
        RegspecError: where the study that is there has other facts, or the folder can't be used.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    facts = json.loads(json.dumps(facts))
    process = uuid.uuid4().hex[:12]
    path, own = folder / "study.db", folder / f".process-{process}"
    _make_folder(folder)
    try:
        if not path.exists() and any(not each.name.startswith(".") for each in folder.iterdir()):
            hint = "give a study a folder of its own"
            raise RegspecError(Problem("is a folder without a study, that is not empty", hint, str(folder)))
        with _locked(own, PATIENCE):
            try:
                with _locked(folder / ".lock", PATIENCE):
                    if not path.exists():
                        _make(path, facts, direction, queue)
                with database(path) as storage:
                    study = Study(folder, process, _loaded(path, storage))
                    _compare(study.trials.user_attrs.get("facts", {}), facts, folder)
                    study.tidy()
                    yield study
            finally:
                own.unlink(missing_ok=True)
    except (sqlite3.Error, SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        reason = str(getattr(error, "orig", None) or error.__cause__ or error)
        raise RegspecError(Problem(f"can't be used: {' '.join(reason.split())}", path=str(path))) from None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RegspecError(Problem(f"can't be made: {error.strerror}", path=str(folder))) from None


def _make(path: Path, facts: Mapping[str, Any], direction: Direction, queue: Sequence[Mapping[str, Any]]) -> None:
    """Makes a study beside its place and puts it there, so that none is ever half there."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    try:
        with database(draft) as storage:
            study = optuna.create_study(study_name=NAME, storage=storage, direction=direction)
            study.set_user_attr("facts", dict(facts))
            for parameters in queue:
                study.enqueue_trial(dict(parameters))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _loaded(path: Path, storage: RDBStorage) -> optuna.Study:
    try:
        return optuna.load_study(study_name=NAME, storage=storage)
    except KeyError:
        raise RegspecError(Problem("holds no study of regspec's", "give another --output", str(path))) from None


@contextmanager
def database(path: Path) -> Iterator[RDBStorage]:
    """A study's database, whose connections are closed in the end."""
    storage = RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": PATIENCE}})
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _compare(theirs: Mapping[str, Any], ours: Mapping[str, Any], folder: Path) -> None:
    """Raises where a study is another than the one that is asked for."""
    differences = []
    for name in sorted(theirs.keys() & ours.keys()):
        if theirs[name] != ours[name]:
            is_long = name in ("spec", "search")
            told = f"{name.replace('_', ' ')} {theirs[name]}, and not {ours[name]}"
            differences.append(f"another {name}" if is_long else told)
    if differences:
        hint = "give the options that it was begun with, or another --output"
        raise RegspecError(Problem(f"holds a study with {'; '.join(differences)}", hint, str(folder)))


@contextmanager
def _locked(path: Path, patience: float) -> Iterator[None]:
    """Holds a file's lock. Raises sqlite3.OperationalError where another process does, for longer than ``patience``."""
    connection = sqlite3.connect(path, timeout=patience, isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        connection.close()
