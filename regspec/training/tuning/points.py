"""What the strengths of a path came to: their scores, what is zero, and which of them are the best and the simplest."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor, nn

from regspec.modules.measuring import outermost
from regspec.runtime.penalties.state import named_terms
from regspec.runtime.penalties.terms import WeightTerm
from regspec.runtime.penalties.weights import tensor_at
from regspec.targets.torch.program import Program
from regspec.training.data.examples import Examples, Parted
from regspec.training.loop.groups import weights_in
from regspec.training.measures.objective import Objective
from regspec.training.runs.predicting import batches_of, device_of

Counts = tuple[int, int]  # so many, of so many


@dataclass(frozen=True)
class Point:
    """What a strength came to.

    Args:
        strength: it.
        run: the folder of its run, in that of the path.
        score: on held-out data; None where the training diverged.
        error: the standard error of the score, over the examples, or over the folds; None where it is not known.
        metrics: all figures of the epoch that is kept.
        zeros: how many numbers of the weights that the path penalizes are exactly zero, and of how many.
        units: for each layer whose kernel the path penalizes, the units with a weight that is not zero, of how many.
        cold: the score of a training from the beginning, if there was one, and its standard error.
    """

    strength: float
    run: str
    score: float | None = None
    error: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    zeros: Counts = (0, 0)
    units: Mapping[str, Counts] = field(default_factory=dict)
    cold: tuple[float, float | None] | None = None

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Point:
        """The point of plain data, as `as_dict` gives it."""
        known = {name: tuple(data[name]) for name in ("zeros", "cold") if data.get(name) is not None}
        return cls(**{**data, **known, "units": {name: tuple(each) for name, each in data["units"].items()}})

    def as_dict(self) -> dict[str, Any]:
        """The point as plain data."""
        return asdict(self)

    @property
    def is_far(self) -> bool:
        """Whether a training from the beginning came to a score more than one standard error away."""
        return self.cold is not None and self.score is not None and abs(self.cold[0] - self.score) > (self.error or 0.0)


@dataclass(frozen=True)
class Points:
    """The strengths of a path, in its order."""

    points: tuple[Point, ...]
    metric: str

    @property
    def is_maximized(self) -> bool:
        """Whether a greater score is a better one."""
        return self.metric == "held_out_accuracy"

    @property
    def scored(self) -> list[Point]:
        """Those that have a score, from the strongest to the weakest."""
        return sorted((each for each in self.points if each.score is not None), key=lambda each: -each.strength)

    @property
    def best(self) -> Point | None:
        """That with the best score; of several the strongest."""
        return min(self.scored, key=lambda each: self._badness(each), default=None)

    @property
    def simplest(self) -> Point | None:
        """The strongest whose score is within one standard error of the best, that of the best score."""
        best = self.best
        if best is None:
            return None
        most = self._badness(best) + (best.error or 0.0)
        return next(each for each in self.scored if self._badness(each) <= most)

    def side(self, point: Point) -> str:
        """Whether the path was better at a point than a training from the beginning, or worse."""
        assert point.score is not None
        assert point.cold is not None
        return "better" if (point.score > point.cold[0]) == self.is_maximized else "worse"

    def _badness(self, point: Point) -> float:
        assert point.score is not None
        return -point.score if self.is_maximized else point.score

    def csv(self) -> str:
        """A row for each strength: its score with the error, the loss, zeros, units left, and each term's value."""
        text = io.StringIO()
        rows = [
            _row(each, "best" if each is self.best else "", "simplest" if each is self.simplest else "")
            for each in self.points
        ]
        writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def _row(point: Point, *marks: str) -> dict[str, Any]:
    zeros, numbers = point.zeros
    row = {
        "strength": point.strength,
        "run": point.run,
        "score": point.score,
        "error": point.error,
        "chosen": " ".join(filter(None, marks)),
        "held_out_loss": point.metrics.get("held_out_loss"),
        "zeros": zeros / numbers if numbers else None,
        "units": sum(each for each, _ in point.units.values()) if point.units else None,
        **{f"units/{layer}": left for layer, (left, _) in point.units.items()},
        **{name: value for name, value in point.metrics.items() if name.startswith("penalty/")},
    }
    if point.cold is not None:
        row["cold"] = point.cold[0]
    return row


def over_folds(points: Sequence[Point]) -> Point:
    """One point for those of all folds: means, with the standard error over the folds; of one it is that.

    Zeros are counted over all folds; units are the mean, as a whole number.
    """
    first, *others = points
    if not others:
        return first
    scores = [each.score for each in points if each.score is not None]
    names = [name for name in first.metrics if all(name in each.metrics for each in points)]
    return replace(
        first,
        score=fmean(scores),
        error=stdev(scores) / math.sqrt(len(scores)),
        metrics={name: fmean(each.metrics[name] for each in points) for name in names},
        zeros=(sum(each.zeros[0] for each in points), sum(each.zeros[1] for each in points)),
        units={
            layer: (round(fmean(each.units[layer][0] for each in points)), of) for layer, (_, of) in first.units.items()
        },
    )


def standard_error(model: nn.Module, objective: Objective, examples: Examples, size: int, metric: str) -> float | None:
    """The standard error of a score over examples, std / sqrt(n); None of a loss that does not tell examples apart.

    Args:
        model: in evaluation mode.
        objective: what its outputs have learned.
        examples: of which the score is.
        size: how many were in a batch of the training.
        metric: what the score is.
    """
    found, device = [], device_of(model)
    objective = objective.to(device)
    with torch.inference_mode():
        for batch in batches_of(examples, size, device):
            parted = Parted.of(batch, examples.input_count, len(objective.losses))
            found.append(_of_each(model, objective, parted, metric).double().cpu())
    values = torch.cat(found)
    values = values[~values.isnan()] if metric == "held_out_accuracy" else values
    error = float(values.std(correction=0)) / math.sqrt(max(1, len(values)))
    return error if math.isfinite(error) else None


def _of_each(model: nn.Module, objective: Objective, parted: Parted, metric: str) -> Tensor:
    """The score of each example; NaN of one that does not count."""
    pairs = [*objective.pairs(model(*parted.inputs), parted.targets)]
    if metric == "held_out_accuracy":
        loss, output, target = pairs[0]
        counts = loss.counts(target)
        is_right = (loss.guess(output).reshape(target.shape) == target).double()
        return is_right if counts is None else is_right.where(counts, torch.nan)
    losses = [loss.of_each(output, target) * loss.target.wanted.said.weight for loss, output, target in pairs]
    whole = sum(losses[1:], losses[0])
    return whole if parted.weights is None else whole * parted.weights


def zeros_and_units(model: nn.Module, program: Program, terms: Sequence[str]) -> tuple[Counts, dict[str, Counts]]:
    """How many numbers of the weights of these terms are zero, and how many units of their kernels are left.

    A unit is left where a number of the kernel that leads to it is not zero; one of gates where any gate's is.

    Args:
        model: the model.
        program: what it was made of.
        terms: the names of regularizers: ``hidden.kernel.l1``.
    """
    penalized = {id(each): each for each in _penalized(model, {each.rpartition(".")[0] for each in terms})}
    zeros = sum(int((each == 0).sum()) for each in penalized.values())
    units: dict[str, Counts] = {}
    for placed in weights_in(program):
        weight = placed.weight
        dimension = None if weight is None else weight.dimensions.units
        if weight is None or weight.slot not in ("kernel", "pointwise", "depthwise") or dimension is None:
            continue
        tensors = [model.get_parameter(path) for path in placed.paths]
        if not any(id(each) in penalized for each in tensors) or len(tensors) > 1:
            continue
        rows = tensors[0].detach().movedim(dimension, 0)
        gates = len(weight.chunks or (0,))
        left = (rows != 0).reshape(gates, len(rows) // gates, -1).any(2).any(0)
        units[placed.layer] = int(left.sum()), len(left)  # of a separable convolution those of its last kernel
    return (zeros, sum(each.numel() for each in penalized.values())), units


def _penalized(model: nn.Module, names: set[str]) -> Iterator[Tensor]:
    """The parameters of the terms of these names."""
    for _, root in outermost(model):
        for name, term, owner in named_terms(root):
            if name in names and isinstance(term, WeightTerm):
                yield from (tensor_at(owner, way) for way in term.ways)
