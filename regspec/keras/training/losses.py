"""A loss of Keras as torch code: a function of outputs and targets; and metrics as expressions.

The traps are in the outputs: Keras's crossentropies take probabilities unless they are told otherwise, and torch's take
logits. The logarithms of probabilities are logits too, so the model's softmax may stay; and where the classes have an
axis of their own besides positions, torch wants it first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from regspec.keras.training.optimizers import Settings, code, defined, name_and_settings, number
from regspec.targets.torch.program import Program

CALL = "(outputs, targets)"
CLAMPED = "outputs.clamp(1e-07, 1 - 1e-07)"


@dataclass(frozen=True)
class Head:
    """What a model gives: the function that it ends in, if it is a softmax or a sigmoid, and the number of axes."""

    function: str | None
    rank: int

    @classmethod
    def of(cls, program: Program, index: int = 0) -> Head:
        """The head of one of a model's outputs."""
        function = {"nn.Softmax": "softmax", "nn.Sigmoid": "sigmoid"}.get(program.last_module(index) or "")
        return cls(function, program.outputs[index].rank)


@dataclass
class Loss:
    """A loss: the code that defines it, what its targets are, and what has no counterpart."""

    kind: str  # Keras's name of it, in small letters
    code: str = ""
    lines: list[str] = field(default_factory=list)  # before its value
    targets: str = ""
    remarks: list[str] = field(default_factory=list)


def loss_of(stored: Any, name: str, head: Head) -> Loss | None:
    """The loss, as a function of this name; None for none."""
    kind, settings = name_and_settings(stored)
    if kind is None:
        return None
    kind = SHORT.get(kind, kind)
    made = Loss(kind)
    signature = f"{name}(outputs: Tensor, targets: Tensor) -> Tensor"
    if kind not in LOSSES:
        made.remarks.append(f"the loss {code(kind)} has no counterpart here: write it yourself")
        made.code = defined(signature, [f"raise NotImplementedError({kind[:80]!r})"])
        return made
    value = LOSSES[kind](settings, head, made)
    reduction = settings.get("reduction", "mean")
    if reduction == "sum":
        made.remarks.append("Keras summed this loss over the batch; here it is the mean")
    elif reduction in (None, "none"):
        made.remarks.append("Keras did not reduce this loss; here it is the mean")
    if value.endswith(CALL) and not made.lines:
        made.code = f"{name} = {value.removesuffix(CALL)}"
    else:
        made.code = defined(signature, [*made.lines, f"return {value}"])
    return made


# -- classes -----------------------------------------------------------------------------------------------------------


def _logits(settings: Settings, head: Head, made: Loss) -> str:
    """The outputs as logits over the classes, which lie in axis 1."""
    is_logits = settings.get("from_logits") is True
    if is_logits and head.function == "softmax":
        made.remarks.append(
            "**the loss takes logits, but the model ends in a softmax**: so it was trained, and so it is here. "
            "It learns better without that softmax"
        )
    outputs = "outputs"
    if not is_logits:
        if head.function == "softmax":
            why = "the model ends in a softmax, and torch's cross-entropy wants logits: take the logarithm"
        else:
            why = "the loss takes probabilities, so torch's cross-entropy, which wants logits, takes their logarithm"
            if head.function is None:
                made.remarks.append(
                    "**the loss takes probabilities, but the model ends in no softmax**: Keras divides the outputs by "
                    "their sum. Was `from_logits=True` meant? Then take `outputs` as they are"
                )
        made.lines.append(f"# {why}")
        outputs = f"{CLAMPED}.log()"
    return f"{outputs}.movedim(-1, 1)" if head.rank > 2 else outputs


def _sparse(settings: Settings, head: Head, made: Loss) -> str:
    made.targets = f"the numbers of the classes, int64, (batch{', …' * (head.rank > 2)})"
    logits = _logits(settings, head, made)
    ignored = number(settings, "ignore_class", None)
    option = "" if ignored is None else f"ignore_index={ignored}"
    if logits == "outputs":
        return f"nn.CrossEntropyLoss({option})(outputs, targets)"
    return f"F.cross_entropy({logits}, targets{option and f', {option}'})"


def _categorical(settings: Settings, head: Head, made: Loss) -> str:
    made.targets = "probabilities of the classes, such as one-hot vectors, in the shape of the outputs"
    logits = _logits(settings, head, made)
    smoothing = number(settings, "label_smoothing", 0.0)
    option = f"label_smoothing={smoothing}" if smoothing else ""
    if logits == "outputs":
        return f"nn.CrossEntropyLoss({option})(outputs, targets)"
    targets = "targets.movedim(-1, 1)" if head.rank > 2 else "targets"
    return f"F.cross_entropy({logits}, {targets}{option and f', {option}'})"


def _binary(settings: Settings, head: Head, made: Loss) -> str:
    made.targets = "0 or 1, as floating-point numbers, in the shape of the outputs"
    is_logits = settings.get("from_logits") is True
    if is_logits and head.function == "sigmoid":
        made.remarks.append(
            "**the loss takes logits, but the model ends in a sigmoid**: so it was trained, and is here"
        )
    if not is_logits and head.function is None:
        made.remarks.append(
            "**the loss takes probabilities, but the model ends in no sigmoid**: Keras cuts the outputs to 0…1. "
            "Was `from_logits=True` meant? Then it is `nn.BCEWithLogitsLoss()`"
        )
    smoothing = number(settings, "label_smoothing", 0.0)
    if smoothing:
        made.lines.append(f"targets = targets * {1 - smoothing:.7g} + {smoothing / 2:.7g}  # label_smoothing")
    if is_logits:
        if not smoothing:
            return "nn.BCEWithLogitsLoss()(outputs, targets)"
        return "F.binary_cross_entropy_with_logits(outputs, targets)"
    if head.function == "sigmoid" and not smoothing:
        return "nn.BCELoss()(outputs, targets)"
    return f"F.binary_cross_entropy({CLAMPED}, targets)"


# -- quantities --------------------------------------------------------------------------------------------------------


def _stock(function: str) -> Callable[[Settings, Head, Loss], str]:
    return lambda settings, head, made: f"nn.{function}()(outputs, targets)"


def _huber(settings: Settings, head: Head, made: Loss) -> str:
    if "delta" not in settings:
        made.remarks.append("Keras 3 does not save the delta of its Huber loss; 1.0 is its default, and may be wrong")
    return f"nn.HuberLoss(delta={number(settings, 'delta', 1.0)})(outputs, targets)"


def _written(*lines: str) -> Callable[[Settings, Head, Loss], str]:
    """A loss that torch lacks: its lines of code, of which the last is its value."""

    def make(settings: Settings, head: Head, made: Loss) -> str:
        made.lines += lines[:-1]
        return lines[-1]

    return make


def _cosine(settings: Settings, head: Head, made: Loss) -> str:
    return f"-F.cosine_similarity(outputs, targets, dim={number(settings, 'axis', -1)}).mean()"


LOSSES: dict[str, Callable[[Settings, Head, Loss], str]] = {
    "sparse_categorical_crossentropy": _sparse,
    "categorical_crossentropy": _categorical,
    "binary_crossentropy": _binary,
    "mean_squared_error": _stock("MSELoss"),
    "mean_absolute_error": _stock("L1Loss"),
    "huber": _huber,
    "log_cosh": _written(
        "error = outputs - targets", "(error + F.softplus(-2 * error)).mean() - 0.6931472  # of log 2"
    ),
    "mean_absolute_percentage_error": _written(
        "100 * ((targets - outputs) / targets.abs().clamp_min(1e-07)).abs().mean()"
    ),
    "mean_squared_logarithmic_error": _written(
        "F.mse_loss(outputs.clamp_min(1e-07).log1p(), targets.clamp_min(1e-07).log1p())"
    ),
    "kl_divergence": _written(
        "p, q = targets.clamp(1e-07, 1), outputs.clamp(1e-07, 1)", "(p * (p / q).log()).sum(-1).mean()"
    ),
    "poisson": _written("(outputs - targets * (outputs + 1e-07).log()).mean()"),
    "hinge": _written("# targets are 0 or 1", "F.relu(1 - (2 * targets - 1) * outputs).mean()"),
    "squared_hinge": _written("# targets are 0 or 1", "F.relu(1 - (2 * targets - 1) * outputs).square().mean()"),
    "categorical_hinge": _written(
        "right, wrong = (targets * outputs).sum(-1), ((1 - targets) * outputs).amax(-1)",
        "F.relu(wrong - right + 1).mean()",
    ),
    "cosine_similarity": _cosine,
}
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

SPARSE = "(outputs.argmax(-1) == targets).float().mean()"
CATEGORICAL = "(outputs.argmax(-1) == targets.argmax(-1)).float().mean()"


def metric_of(stored: Any, loss: str | None) -> tuple[str, str]:
    """A metric's name, and its torch code in Markdown; ``loss`` is the name of the loss of the same output."""
    kind, settings = name_and_settings(stored)
    if kind == "mean_metric_wrapper":  # of Keras 2, around a function
        kind = name_and_settings(settings.get("fn"))[0]
    kind = SHORT.get(kind or "", kind or "metric")
    if kind in ("accuracy", "acc", "crossentropy", "ce"):  # which Keras chooses by the loss
        ending = "accuracy" if kind.startswith("acc") else "crossentropy"
        sorts = [sort for sort in ("sparse_categorical", "categorical", "binary") if (loss or "").startswith(sort)]
        kind = f"{sorts[0]}_{ending}" if sorts else kind
    threshold = number(settings, "threshold", 0.5)
    k = number(settings, "k", 5)
    known = {
        "sparse_categorical_accuracy": SPARSE,
        "categorical_accuracy": CATEGORICAL,
        "binary_accuracy": f"((outputs > {threshold}) == targets.bool()).float().mean()",
        "accuracy": "(outputs == targets).float().mean()",
        "sparse_top_k_categorical_accuracy": f"(outputs.topk({k}).indices == targets[:, None]).any(1).float().mean()",
        "top_k_categorical_accuracy": (
            f"(outputs.topk({k}).indices == targets.argmax(-1)[:, None]).any(1).float().mean()"
        ),
        "mean_squared_error": "F.mse_loss(outputs, targets)",
        "mean_absolute_error": "F.l1_loss(outputs, targets)",
        "root_mean_squared_error": "F.mse_loss(outputs, targets).sqrt()",
        "cosine_similarity": "F.cosine_similarity(outputs, targets, dim=-1).mean()",
        "auc": "torchmetrics.AUROC(task=…)",
        "precision": "torchmetrics.classification.BinaryPrecision()",
        "recall": "torchmetrics.classification.BinaryRecall()",
        "f1_score": "torchmetrics.F1Score(task=…)",
        "mean_io_u": "torchmetrics.JaccardIndex(task=…)",
        "io_u": "torchmetrics.JaccardIndex(task=…)",
        "r2_score": "torchmetrics.R2Score()",
    }
    if kind in known:
        return kind, f"`{known[kind]}`"
    if kind in LOSSES:
        return kind, "the loss of that name"
    return kind, "no counterpart here"
