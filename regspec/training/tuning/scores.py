"""What the trials of a search came to."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

from regspec.specs.searches import Range
from regspec.text.dumping import written
from regspec.training.tuning.spaces import Searches, restored

LABELS = {"held_out_accuracy": "held-out accuracy", "held_out_loss": "held-out loss"}


@dataclass(frozen=True)
class Trial:
    """A training with some values: its number, how it ended, and its score, if it came to one.

    ``state`` is ``complete``, ``pruned`` (ended early, with the score so far) or ``diverged``.
    """

    number: int
    state: str
    values: Mapping[str, Any]
    score: float | None
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Scores:
    """The trials of a search.

    Args:
        trials: by their numbers.
        searches: where the parameters may lie.
        metric: what the score is.
        held_out: the number of examples that scores are of.
    """

    trials: tuple[Trial, ...]
    searches: Searches
    metric: str
    held_out: int

    @classmethod
    def of(cls, trials: Iterable[FrozenTrial], searches: Searches, metric: str, held_out: int) -> Scores:
        """The scores of Optuna's trials."""
        found = []
        for trial in trials:
            state = "diverged" if trial.state.name == "FAIL" else trial.state.name.lower()
            attributes = trial.user_attrs
            values = restored(searches, trial.params)
            found.append(Trial(attributes["number"], state, values, trial.value, attributes.get("metrics", {})))
        return cls(tuple(found), searches, metric, held_out)

    @property
    def is_maximized(self) -> bool:
        """Whether a greater score is a better one."""
        return self.metric == "held_out_accuracy"

    @property
    def label(self) -> str:
        """What the score is, for people."""
        return LABELS[self.metric]

    @property
    def best(self) -> Trial | None:
        """The trial with the best score; of several the one with the least held-out loss; None, if none has a score."""
        scored = [each for each in self.trials if each.state == "complete" and each.score is not None]
        return min(scored, key=self._rank) if scored else None

    def _rank(self, trial: Trial) -> tuple[float, float, int]:
        score = trial.score or 0.0
        loss = trial.metrics.get("held_out_loss", math.inf)
        return (-score if self.is_maximized else score, loss, trial.number)

    @property
    def error(self) -> float | None:
        """The standard error of the best score, for a share of so many examples; None for losses."""
        if self.best is None or self.best.score is None or not self.is_maximized:
            return None
        return math.sqrt(self.best.score * (1 - self.best.score) / self.held_out)

    def as_good(self) -> dict[str, str]:
        """The values, for people, of trials within one standard error of the best, where there are several."""
        if self.best is None or self.best.score is None or self.error is None:
            return {}
        least = self.best.score - self.error
        good = [each for each in self.trials if each.state == "complete" and (each.score or 0.0) >= least]
        told = {}
        for name, search in self.searches.items():
            seen = {written(each.values[name]): each.values[name] for each in good}
            if len(seen) < 2:
                continue
            if isinstance(search, Range):
                told[name] = f"from {written(min(seen.values()))} to {written(max(seen.values()))}"
            else:
                told[name] = ", ".join(written(each) for each in search.choices if written(each) in seen)
        return told

    def csv(self) -> str:
        """A row for each trial: its number, how it ended, its values, and its metrics."""
        metrics = list(dict.fromkeys(name for trial in self.trials for name in trial.metrics))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["trial", "state", *self.searches, "score", *metrics])
        for trial in self.trials:
            values = [written(trial.values[name]) for name in self.searches]
            score = "" if trial.score is None else trial.score
            writer.writerow([trial.number, trial.state, *values, score, *(trial.metrics.get(x, "") for x in metrics)])
        return text.getvalue()
