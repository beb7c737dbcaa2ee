"""A loss of Keras, and metrics, in the words of a training file: what it says of an output.

The traps are in the outputs: Keras's crossentropies take probabilities unless they are told otherwise, and a training
file's by what the model ends in. Where the two differ, the file says it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from regspec.code.shapes import Symbol
from regspec.keras.training.settings import Settings, code, name_and_settings, number, whole
from regspec.targets.torch.program import Program

SOFT = {"nn.Softmax": "softmax", "nn.Sigmoid": "sigmoid"}  # what makes probabilities


@dataclass(frozen=True)
class Head:
    """An output: the function that it ends in, if it is a softmax or a sigmoid, its units, and whether it is masked."""

    function: str | None
    units: int | None
    is_masked: bool = False

    @classmethod
    def of(cls, program: Program, index: int, x: Symbol) -> Head:
        """The head of one of a model's outputs, which ``x`` is in its graph."""
        units = x.spec_shape[x.spec_order.index(x.rank - 1)]
        return cls(SOFT.get(program.last_module(index) or ""), units, x.mask is not None)


@dataclass
class Said:
    """What is said of an output, what it learns, and what has no counterpart."""

    kind: str = ""  # classes, labels or quantities; nothing where it is not known
    section: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def loss_of(stored: Any, head: Head) -> Said | None:
    """What is said of the output that a loss is of; None for none."""
    name, settings = name_and_settings(stored)
    if name is None:
        return None
    name = SHORT.get(name, name)
    said = Said()
    if name not in LOSSES:
        said.remarks.append(
            f"the loss {code(name)} has no counterpart: without one, it follows from the targets; one of your own is "
            "`loss: package.module:function`"
        )
        return said
    loss, said.kind = LOSSES[name]
    said.section["loss"] = loss
    if name in OF_PROBABILITIES:
        _reading(name, settings, head, said)
        if smoothing := number(settings, "label_smoothing", 0.0, most=1.0):
            said.section["label_smoothing"] = smoothing
    if (ignored := whole(settings, "ignore_class", least=-1000)) is not None:
        said.section["ignore_index"] = ignored
    if name == "huber":
        if "delta" not in settings:
            said.remarks.append(
                "the file does not say the delta of the Huber loss; 1.0 is its default, and may be wrong"
            )
        said.section["delta"] = number(settings, "delta", 1.0)
    if name == "kl_divergence":
        _divergence(head, said)
    if name != "binary_crossentropy" and settings.get("axis", -1) != -1:
        said.remarks.append(f"the loss was along the axis {code(settings['axis'])}; here it is along the units")
    if said.section["loss"] in ("hinge", "squared_hinge"):
        said.remarks.append("targets of the hinge loss are 0 or 1 here, and not -1 or 1")
    reduction = settings.get("reduction", "mean")
    if reduction == "sum":
        said.remarks.append(
            "the loss was summed over the batch, and here it is the mean: `weight` may be how many terms the sum had"
        )
    elif reduction in (None, "none"):
        said.remarks.append("the loss was not reduced; here it is the mean")
    if head.is_masked:
        said.remarks.append(
            "the output has a mask, by which Keras leaves steps out of the loss; here all count but those whose target "
            "is `ignore_index`"
        )
    return said


def _reading(name: str, settings: Settings, head: Head, said: Said) -> None:
    """Whether the loss takes scores or probabilities, where that is not what the model ends in."""
    takes_logits = settings.get("from_logits") is True
    if takes_logits != (head.function is not None):
        return
    said.section["from_logits"] = takes_logits
    if takes_logits:
        said.remarks.append(
            f"**the loss takes logits, but the model ends in a {head.function}**: so it was trained, and is here. It "
            f"learns better without that {head.function}, or without `from_logits: true`"
        )
    else:
        end = "sigmoid" if name == "binary_crossentropy" else "softmax"
        said.remarks.append(
            f"**the loss takes probabilities, but the model ends in no {end}**: so it was trained, and is here. Was "
            "logits meant? Then take `from_logits: false` away"
        )


def _divergence(head: Head, said: Said) -> None:
    what = "the divergence is here the cross-entropy, which differs by what the targets alone make"
    if head.function != "softmax":
        what += ", and has its gradient only behind a softmax"
    said.remarks.append(what)
    if head.function is None:
        said.section["from_logits"] = False


# Keras's losses: the word for it, and what it learns. A crossentropy's targets may be classes or probabilities of them.
LOSSES = {
    "sparse_categorical_crossentropy": ("cross_entropy", "classes"),
    "categorical_crossentropy": ("cross_entropy", "classes"),
    "binary_crossentropy": ("binary_cross_entropy", "labels"),
    "kl_divergence": ("cross_entropy", "classes"),
    "mean_squared_error": ("mse", "quantities"),
    "mean_absolute_error": ("l1", "quantities"),
    "mean_absolute_percentage_error": ("mape", "quantities"),
    "mean_squared_logarithmic_error": ("msle", "quantities"),
    "huber": ("huber", "quantities"),
    "log_cosh": ("log_cosh", "quantities"),
    "poisson": ("poisson", "quantities"),
    "cosine_similarity": ("cosine_similarity", "quantities"),
    "hinge": ("hinge", "labels"),
    "squared_hinge": ("squared_hinge", "labels"),
}
OF_PROBABILITIES = ("sparse_categorical_crossentropy", "categorical_crossentropy", "binary_crossentropy")
SHORT = {
    "mse": "mean_squared_error",
    "mae": "mean_absolute_error",
    "mape": "mean_absolute_percentage_error",
    "msle": "mean_squared_logarithmic_error",
    "bce": "binary_crossentropy",
    "kld": "kl_divergence",
    "kullback_leibler_divergence": "kl_divergence",
    "logcosh": "log_cosh",
    "huber_loss": "huber",
    "cosine_proximity": "cosine_similarity",
}


# -- metrics -----------------------------------------------------------------------------------------------------------


def metric_of(stored: Any, said: Said, head: Head) -> str | None:
    """The word for a metric; None where there is none for what the output learns, which is remarked."""
    name, settings = name_and_settings(stored)
    if name == "mean_metric_wrapper":  # of Keras 2, around a function
        name = name_and_settings(settings.get("fn"))[0]
    name = SHORT.get(name or "", name or "metric")
    name = "accuracy" if name == "acc" else name
    if LOSSES.get(name, ("", ""))[0] == said.section.get("loss", "loss"):
        return None  # the loss is told anyway
    if said.kind == "quantities":
        found = OF_QUANTITIES.get(name)
    else:
        found = OF_CLASSES.get(name) if said.kind else None
        found = _of_classes(found, settings, said, head)
    if found is None:
        learned = f" of {said.kind}" if said.kind else ""
        said.remarks.append(f"the metric {code(name)} has no counterpart{learned}: it is left out")
    elif found in AVERAGED and head.units != 1:
        said.remarks.append(f"the metric {code(name)} is here the mean over the classes")
    return found


def _of_classes(word: str | None, settings: Settings, said: Said, head: Head) -> str | None:
    """The word for a metric of classes or labels, if its settings have one."""
    if word == "top_5":
        return word if settings.get("k", 5) == 5 and said.kind == "classes" and (head.units or 0) > 5 else None
    if settings.get("threshold", 0.5) not in (0.5, None) or settings.get("thresholds") is not None:
        return None
    if word == "auroc" and settings.get("curve") == "PR":
        return "average_precision"
    return word


OF_CLASSES = {
    **dict.fromkeys(("accuracy", "binary_accuracy", "categorical_accuracy", "sparse_categorical_accuracy"), "accuracy"),
    **dict.fromkeys(("top_k_categorical_accuracy", "sparse_top_k_categorical_accuracy"), "top_5"),
    "precision": "precision",
    "recall": "recall",
    "auc": "auroc",
    "f1_score": "f1",
    **dict.fromkeys(("mean_io_u", "one_hot_mean_io_u"), "iou"),
}
AVERAGED = ("precision", "recall", "auroc", "average_precision")  # by Keras over all numbers at once
OF_QUANTITIES = {
    "mean_squared_error": "mse",
    "root_mean_squared_error": "rmse",
    "mean_absolute_error": "mae",
    "mean_absolute_percentage_error": "mape",
    "r2_score": "r2",
}
