"""How well a trained model does on examples, beside what a constant answer would do. The figures are scikit-learn's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from regspec.text.problems import Problem, RegspecError
from regspec.training.data.examples import Examples, InMemory, Parted
from regspec.training.data.targets import MANY
from regspec.training.measures.losses import Kind
from regspec.training.measures.metrics import OutputMetrics
from regspec.training.measures.objective import Objective, OutputLoss, Sum
from regspec.training.runs.confusing import pairs_of
from regspec.training.runs.predicting import batches_of, device_of, model_inputs

Array = NDArray[Any]


@dataclass(frozen=True)
class ClassFigures:
    """How well a class, or a label, is told: of what is said to be it, and of what is it, the share that is right.

    ``count`` is how many there are; ``precision`` is 0 where nothing is said to be it.
    """

    name: str
    precision: float
    recall: float
    count: int


@dataclass(frozen=True)
class OutputFigures:
    """How well an output does.

    Args:
        kind: what it has learned: ``classes``, ``labels`` or ``quantities``.
        loss_name: its loss.
        loss: the mean of it.
        metrics: ``accuracy``; or ``mae``, ``rmse`` and ``r2`` of quantities; and those that the training was to tell.
        baseline: the first ones of a constant answer: the most frequent class, label by label the more frequent
            answer, or the mean of each number.
        constant: that answer, where it is one: a class's name, or a number.
        classes: each class's, or each label's.
        confusion: How often a class (row) is said to be each class (column); None where there are no classes, or more
            than a hundred.
        is_scaled: whether the loss is of scaled quantities, as it was in the training; the metrics are of the target's.
    """

    kind: Kind
    loss_name: str
    loss: float
    metrics: Mapping[str, float]
    baseline: Mapping[str, float]
    constant: str | float | None = None
    classes: tuple[ClassFigures, ...] = ()
    confusion: tuple[tuple[int, ...], ...] | None = None
    is_scaled: bool = False

    @property
    def is_better(self) -> bool:
        """Whether it does better than the constant answer."""
        if self.kind == "quantities":
            return self.metrics["rmse"] < self.baseline["rmse"]
        return self.metrics["accuracy"] > self.baseline["accuracy"]


@dataclass(frozen=True)
class Evaluation:
    """How well a model does: on how many examples, the weighted sum of the losses, and the figures of each output.

    Example:
        >>> from regspec.training.runs.evaluating import Evaluation, OutputFigures
        >>> figures = OutputFigures("quantities", "mse", 0.5, {"rmse": 0.7}, {"rmse": 1.0})
        >>> Evaluation(20, 0.5, {"price": figures}).outputs["price"].is_better
        True
    """

    examples: int
    loss: float
    outputs: Mapping[str, OutputFigures]

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain data."""
        return asdict(self)


def no_better(model: nn.Module, objective: Objective, examples: Examples, size: int) -> Iterator[str]:
    """A line for each output that does no better on held-out examples than a constant answer, and what may help.

    Of examples that lie in memory, because of others a pass may take long.
    """
    if not isinstance(examples, InMemory) or len(examples) < 2:  # one example is a constant itself
        return
    found = evaluation(model, objective, examples, size, is_measured=False).outputs
    for loss in objective:
        name, figures = loss.target.name, found[loss.target.name]
        if figures.is_better or loss.target.loss.is_of_direction:
            continue
        if figures.kind != "quantities":
            constant = f"'{figures.constant}'" if figures.kind == "classes" else "each label's more frequent answer"
            right = f"which is right for {figures.baseline['accuracy']:.1%}"
            yield f"{name}: no better than always answering {constant}, {right}"
            continue
        constant = "the mean" if figures.constant is None else f"{figures.constant:.6g}"
        rmse = f"rmse {figures.metrics['rmse']:.4g}, and that has {figures.baseline['rmse']:.4g}"
        scale = f"; --outputs.{name}.scale standard scales a target that is far from 0"
        yield f"{name}: no better than always answering {constant}: {rmse}{scale * loss.target.may_be_scaled}"


def evaluation(
    model: nn.Module, objective: Objective, examples: Examples, size: int, *, is_measured: bool = True
) -> Evaluation:
    """How well a model does on examples.

    Args:
        model: the model, in evaluation mode.
        objective: what its outputs have learned.
        examples: with their targets.
        size: how many were in a batch of the training.
        is_measured: whether the metrics that the training was to tell are told, too. Of these, torchmetrics' wait for
            all processes.
    """
    pools = [_Pool(loss, is_measured) for loss in objective]
    _look(model, objective, examples, size, [pools])
    return _told(pools, len(examples))


def pooled(parts: Iterable[tuple[nn.Module, Objective, Examples]], size: int) -> tuple[Evaluation, list[Evaluation]]:
    """How well models do, each on examples of its own, taken together; and how well each does.

    Args:
        parts: the models with what their outputs have learned, which is the same, and the examples.
        size: how many were in a batch of the training.
    """
    whole: list[_Pool] = []
    found: list[Evaluation] = []
    for model, objective, examples in parts:
        whole = whole or [_Pool(loss) for loss in objective]
        own = [_Pool(loss) for loss in objective]
        _look(model, objective, examples, size, [own, whole])
        found.append(_told(own, len(examples)))
    return _told(whole, sum(each.examples for each in found)), found


def _look(
    model: nn.Module, objective: Objective, examples: Examples, size: int, pools: Sequence[Sequence[_Pool]]
) -> None:
    """Adds what a model says of examples to pools, of which each list has one for each output."""
    count, device = len(model_inputs(examples)), device_of(model)  # which there must be
    objective = objective.to(device)
    with torch.inference_mode():
        for batch in batches_of(examples, size, device):
            parted = Parted.of(batch, count, len(objective.losses))
            pairs = objective.pairs(model(*parted.inputs), parted.targets)
            for place, (loss, output, target) in enumerate(pairs):
                for each in pools:
                    each[place].add(loss, output, target, parted.weights)


def losses_on(model: nn.Module, objective: Objective, examples: Examples, size: int) -> Iterator[Tensor]:
    """The loss of each batch of examples, from which gradients go back."""
    count, device = len(model_inputs(examples)), device_of(model)
    objective = objective.to(device)
    for batch in batches_of(examples, size, device):
        parted = Parted.of(batch, count, len(objective.losses))
        pairs = objective.pairs(model(*parted.inputs), parted.targets)
        sums = [
            loss.of(output.float(), target, parted.weights).total * loss.target.wanted.said.weight
            for loss, output, target in pairs
        ]
        yield torch.stack(sums).sum()


class _Pool:
    """What an output says of examples beside the truth, batch by batch."""

    def __init__(self, loss: OutputLoss, is_measured: bool = True) -> None:
        self.loss = loss
        self.metrics = OutputMetrics(loss) if is_measured else None
        self.sums: list[Sum] = []
        self.said: list[Tensor] = []
        self.truth: list[Tensor] = []

    def add(self, loss: OutputLoss, output: Tensor, target: Tensor, weights: Tensor | None) -> None:
        """Adds a batch, of a model whose output has learned the same by this loss."""
        self.sums.append(loss.of(output.float(), target, weights))
        answer = loss.meant(output.float()) if loss.target.kind == "quantities" else loss.guess(output)
        if self.metrics is not None:
            self.metrics.loss = loss  # which knows how its targets are scaled
            self.metrics.to(output.device).update(output, target)
        self.said.append(answer.reshape(target.shape).cpu())
        self.truth.append(target.cpu())

    def figures(self) -> OutputFigures:
        """The figures of all that was added."""
        mean = sum(each.total.item() for each in self.sums) / max(1, sum(int(each.count) for each in self.sums))
        known = _figures(self.loss, mean, torch.cat(self.said), torch.cat(self.truth))
        computed = {} if self.metrics is None else self.metrics.computed()
        measured = {name: value for name, value in computed.items() if not math.isnan(value)}
        return replace(known, metrics={**known.metrics, **measured})


def _told(pools: Sequence[_Pool], count: int) -> Evaluation:
    figures = {each.loss.target.name: each.figures() for each in pools}
    whole = sum(figures[each.loss.target.name].loss * each.loss.target.wanted.said.weight for each in pools)
    return Evaluation(count, whole, figures)


def _figures(loss: OutputLoss, mean: float, said: Tensor, target: Tensor) -> OutputFigures:
    kind = loss.target.kind
    if kind == "classes":
        figures = _of_classes(said, target, loss)
    elif kind == "labels":
        figures = _of_labels(said, target, loss)
    else:
        figures = _of_quantities(said, target)
    return OutputFigures(kind, loss.target.loss.name, mean, **figures, is_scaled=loss.target.scaling is not None)


def _of_classes(said: Tensor, target: Tensor, loss: OutputLoss) -> dict[str, Any]:
    from sklearn import metrics

    names, kept = loss.target.classes or (), loss.kept(target, target)
    if not len(kept):
        ignored = loss.target.wanted.said.ignore_index
        what = f"the target of '{loss.target.name}' is {ignored} everywhere, which stands for no class"
        raise RegspecError(Problem(what))
    truth, answers, weights = pairs_of(kept, loss.kept(said, target))
    numbers = np.arange(len(names))
    known: Any = {"labels": numbers, "sample_weight": weights}
    confusion = metrics.confusion_matrix(truth, answers, **known) if len(names) <= MANY else None
    found = metrics.precision_recall_fscore_support(truth, answers, **known, zero_division=0.0)
    precision, recall, _, support = found
    most = int(support.argmax())
    return {
        "metrics": {"accuracy": float(metrics.accuracy_score(truth, answers, sample_weight=weights))},
        "baseline": {"accuracy": float(support[most] / weights.sum())},
        "constant": names[most],
        "classes": tuple(_class(names[each], precision[each], recall[each], support[each]) for each in numbers),
        "confusion": None if confusion is None else tuple(tuple(map(int, row)) for row in confusion),
    }


def _class(name: str, precision: float, recall: float, count: float) -> ClassFigures:
    return ClassFigures(name, float(precision), float(recall), int(count))


def _of_labels(said: Tensor, target: Tensor, loss: OutputLoss) -> dict[str, Any]:
    from sklearn import metrics

    truth, answers = (_by_label(each, loss).numpy() > 0 for each in (target, said))
    holds, names = truth.mean(0), loss.target.labels or [*map(str, range(truth.shape[1]))]
    found = [
        metrics.precision_recall_fscore_support(a, b, average="binary", zero_division=0.0)
        for a, b in zip(truth.T, answers.T, strict=True)
    ]
    return {
        "metrics": {"accuracy": float((truth == answers).mean())},
        "baseline": {"accuracy": float(np.maximum(holds, 1 - holds).mean())},
        "classes": tuple(
            _class(names[number], each[0], each[1], truth[:, number].sum()) for number, each in enumerate(found)
        ),
    }


def _by_label(values: Tensor, loss: OutputLoss) -> Tensor:
    """One row for each place, a column for each label."""
    if values.ndim == 1:
        return values[:, None]
    last = values.movedim(loss.target.wanted.channels, -1)
    return last.reshape(-1, last.shape[-1])


def _of_quantities(said: Tensor, target: Tensor) -> dict[str, Any]:
    from sklearn import metrics

    truth, answers = (each.reshape(len(target), -1).double().numpy() for each in (target, said))
    means = np.broadcast_to(truth.mean(0), truth.shape)

    def figures(guess: Array) -> dict[str, float]:
        errors = {
            "mae": float(metrics.mean_absolute_error(truth, guess)),
            "rmse": float(np.sqrt(metrics.mean_squared_error(truth, guess))),
        }
        if len(truth) > 1:  # of one example there is no variance
            errors["r2"] = float(metrics.r2_score(truth, guess, multioutput="variance_weighted"))
        return errors

    return {
        "metrics": figures(answers),
        "baseline": figures(means),
        "constant": float(truth.mean()) if truth.shape[1] == 1 else None,
    }
