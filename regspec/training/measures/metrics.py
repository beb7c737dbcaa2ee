"""Metrics of an output by their names: torchmetrics' own, over all examples of an epoch and all processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric, classification, regression

from regspec.language.registration import found
from regspec.text.problems import Problem, RegspecError, did_you_mean
from regspec.training.data.targets import Target
from regspec.training.measures.losses import Kind
from regspec.training.measures.objective import OutputLoss

Maker = Callable[..., Metric]

# What a metric is made by: of two classes by one unit, of several classes, of labels. Averages are over classes.
_OF_CLASSES: Mapping[str, tuple[Maker | None, Maker | None, Maker | None]] = {
    "accuracy": (
        classification.BinaryAccuracy,
        partial(classification.MulticlassAccuracy, average="micro"),
        partial(classification.MultilabelAccuracy, average="micro"),
    ),
    "balanced_accuracy": (None, classification.MulticlassAccuracy, None),
    "precision": (
        classification.BinaryPrecision,
        classification.MulticlassPrecision,
        classification.MultilabelPrecision,
    ),
    "recall": (classification.BinaryRecall, classification.MulticlassRecall, classification.MultilabelRecall),
    "f1": (classification.BinaryF1Score, classification.MulticlassF1Score, classification.MultilabelF1Score),
    "auroc": (classification.BinaryAUROC, classification.MulticlassAUROC, classification.MultilabelAUROC),
    "average_precision": (
        classification.BinaryAveragePrecision,
        classification.MulticlassAveragePrecision,
        classification.MultilabelAveragePrecision,
    ),
    "iou": (
        classification.BinaryJaccardIndex,
        classification.MulticlassJaccardIndex,
        classification.MultilabelJaccardIndex,
    ),
    "matthews": (
        classification.BinaryMatthewsCorrCoef,
        classification.MulticlassMatthewsCorrCoef,
        classification.MultilabelMatthewsCorrCoef,
    ),
    "cohen_kappa": (classification.BinaryCohenKappa, classification.MulticlassCohenKappa, None),
    "calibration_error": (classification.BinaryCalibrationError, classification.MulticlassCalibrationError, None),
    "top_5": (None, partial(classification.MulticlassAccuracy, top_k=5, average="micro"), None),
    "exact_match": (None, None, classification.MultilabelExactMatch),
}
# Of several numbers for each example by all of their variance: a pixel that is always black has none of its own.
_OF_QUANTITIES: Mapping[str, Maker] = {
    "mse": regression.MeanSquaredError,
    "rmse": partial(regression.MeanSquaredError, squared=False),
    "mae": regression.MeanAbsoluteError,
    "mape": regression.MeanAbsolutePercentageError,
    "smape": regression.SymmetricMeanAbsolutePercentageError,
    "r2": partial(regression.R2Score, multioutput="variance_weighted"),
    "explained_variance": partial(regression.ExplainedVariance, multioutput="variance_weighted"),
}
_SYNONYMS = {
    **{name.replace("_", ""): name for name in (*_OF_CLASSES, *_OF_QUANTITIES)},
    **dict.fromkeys(("acc", "binaryaccuracy", "categoricalaccuracy", "sparsecategoricalaccuracy"), "accuracy"),
    **dict.fromkeys(("f1score", "fscore"), "f1"),
    **dict.fromkeys(("auc", "rocauc"), "auroc"),
    "aucpr": "average_precision",
    **dict.fromkeys(("jaccard", "jaccardindex", "meaniou"), "iou"),
    **dict.fromkeys(("mcc", "matthewscorrcoef"), "matthews"),
    "kappa": "cohen_kappa",
    "ece": "calibration_error",
    **dict.fromkeys(("top5", "top5accuracy", "topkcategoricalaccuracy"), "top_5"),
    "meansquarederror": "mse",
    "rootmeansquarederror": "rmse",
    **dict.fromkeys(("meanabsoluteerror", "l1"), "mae"),
    "meanabsolutepercentageerror": "mape",
    "r2score": "r2",
}


# What a run's metrics.csv tells anyhow, and before the names of terms: a metric of one's own has no such name.
FIGURES = ("epoch", "seconds", "learning_rate", "data_loss", "loss", "penalty", "strength", "zeros", "below")
HELD_OUT = "held_out_"  # before the name of a figure of what is held out


class Mean(MeanMetric):
    """A metric of one's own: a function of outputs and targets, whose values of batches are averaged over examples."""

    def __init__(self, function: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def update(self, output: Tensor, target: Tensor) -> None:  # type: ignore[override]  # which takes the value itself
        """Adds a batch."""
        super().update(self.function(output, target), weight=len(target))


class OutputMetrics(nn.Module):
    """The metrics of one output, of examples as its loss takes them.

    Args:
        loss: that of the output.

    Raises:
        RegspecError: where there is none of a name for what the output learns.
    """

    def __init__(self, loss: OutputLoss) -> None:
        super().__init__()
        self.loss = loss
        made = dict(_made(loss.target))
        self.names = (*made,)
        self.of_most_probable = {*_OF_CLASSES} if has_shares(loss.target) else set[str]()
        self.metrics = nn.ModuleList(made.values())  # a ModuleDict would take no "forward" for a name

    def update(self, output: Tensor, target: Tensor) -> None:
        """Adds a batch."""
        if not self.metrics:
            return
        output = output.detach().float()
        prepared = self._prepared(output, target)
        classes = self._most_probable(output, target) if self.of_most_probable.intersection(self.names) else prepared
        for name, metric in zip(self.names, self._each(), strict=True):
            metric.update(*(classes if name in self.of_most_probable else prepared))

    def computed(self) -> dict[str, float]:
        """The metrics of what was added, by their names, over all processes; what was added is forgotten.

        What a metric can't say of so few examples is no number, as r2 of one.
        """
        values = {}
        for name, each in zip(self.names, self._each(), strict=True):
            try:
                values[name] = float(each.compute().float().mean())
            except ValueError:
                values[name] = math.nan
        self.reset()
        return values

    def reset(self) -> None:
        """Forgets what was added."""
        for metric in self._each():
            metric.reset()

    def _each(self) -> Iterator[Any]:
        yield from self.metrics

    def _prepared(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """What torchmetrics takes: probabilities with the classes second, and whole numbers; or rows of quantities."""
        kind, meant = self.loss.target.kind, self.loss.meant(output)
        if kind == "classes":
            return (meant if self.loss.is_shared_out else meant[:, 1]), target
        if kind == "labels":
            return self.loss.by_class(meant), self.loss.by_class(target.reshape(meant.shape)).long()
        rows = (each.reshape(len(target), -1) for each in (meant, target))
        meant, target = (each.squeeze(1) for each in rows)
        return meant, target

    def _most_probable(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """As of classes, where the target has the probability of each: the class is the most probable one."""
        return self.loss.by_class(self.loss.meant(output)), self.loss.by_class(target.reshape(output.shape)).argmax(1)


def has_shares(target: Target) -> bool:
    """Whether the target has a probability for each class, or one-hot vectors: it has metrics of classes, too."""
    is_by_class = target.loss.is_by_class and target.loss.reads == "scores"
    return target.kind == "quantities" and is_by_class and _units(target) != 1


def metrics_of(target: Target) -> dict[str, bool | None]:
    """The metrics that are said of an output, and whether less of each is better: None where it is one's own."""
    known: dict[str, Any] = {**_known(target)}
    best_least = {name: not maker.func.higher_is_better for name, maker in known.items()}  # torchmetrics says it
    said = target.wanted.said.metrics
    return {_named(each): None if ":" in each else best_least.get(_named(each), False) for each in said}


def _named(said: str) -> str:
    """The name of a metric: torchmetrics' by ours, one's own by its function's."""
    return said.rpartition(":")[2] if ":" in said else _SYNONYMS.get(said.lower().replace("_", ""), said)


def _units(target: Target) -> int | None:
    return target.wanted.x.spec_shape[target.wanted.channels]


def _made(target: Target) -> Iterator[tuple[str, nn.Module]]:
    """The metrics that are said of an output, each with its name."""
    units, owners = _units(target), dict[str, str]()
    for each in target.wanted.said.metrics:
        name = _named(each)
        if ":" in each:
            if name in (*FIGURES, *_SYNONYMS.values()) or name.startswith(HELD_OUT) or owners.get(name, each) != each:
                what = f"'{each}' has the name of another figure, '{name}'"
                raise RegspecError(Problem(what, "a metric is called as its function is: give that another name"))
            owners[name] = each
            yield name, Mean(found(each))
            continue
        known = _known(target)
        if name not in known:
            hint = did_you_mean(name, known) or f"it may be {', '.join(known)}, or module:function"
            raise RegspecError(Problem(f"'{each}' is no metric of {target.kind}, which '{target.name}' learns", hint))
        try:
            metric = known[name]()
        except ValueError as error:
            what = f"'{each}' is no metric of the {units} {target.kind} of '{target.name}'"
            raise RegspecError(Problem(f"{what}: {' '.join(str(error).split())}")) from None
        yield name, metric


def _known(target: Target) -> dict[str, partial[Metric]]:
    """The metrics that an output may have, by their names."""
    of_classes = metrics_for("classes", _units(target)) if has_shares(target) else {}
    return {**metrics_for(target.kind, _units(target), target.wanted.said.ignore_index), **of_classes}


def metrics_for(kind: Kind, units: int | None, ignored: int | None = None) -> dict[str, partial[Metric]]:
    """The metrics of a kind of target, by their names: what makes each for an output of so many units."""
    if kind == "quantities":
        return {name: partial(maker) for name, maker in _OF_QUANTITIES.items()}
    column = 0 if units == 1 else 2 if kind == "labels" else 1
    counted: dict[str, Any] = {} if column == 0 else {"num_labels" if column == 2 else "num_classes": units}
    rows = ((name, row[column]) for name, row in _OF_CLASSES.items())
    return {name: partial(maker, **counted, ignore_index=ignored) for name, maker in rows if maker is not None}
