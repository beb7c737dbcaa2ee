"""How a model was trained, as Keras compiles one: what `compiled` reads of a file, the other way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regspec.keras.training.losses import AVERAGED, LOSSES, OF_PROBABILITIES, OF_QUANTITIES
from regspec.keras.training.schedules import Schedule, schedule_in_keras

Config = dict[str, Any]


@dataclass(frozen=True)
class Learned:
    """What an output learned: its name, its loss and metrics by the words of a training file."""

    name: str
    loss: str
    kind: str  # classes, labels or quantities
    takes_probabilities: bool
    arguments: Mapping[str, Any] = field(default_factory=dict)  # of the loss
    weight: float = 1.0
    metrics: Sequence[str] = ()
    units: int | None = None
    ignored: int | None = None  # the class of places that do not count
    unsaid: Sequence[str] = ()  # what else its loss has, which no loss of Keras does

    @property
    def is_of_two(self) -> bool:
        """Whether one unit says which of two classes it is, which are labels for Keras."""
        return self.kind == "classes" and self.units == 1


@dataclass(frozen=True)
class Compiled:
    """How a model was trained, as Keras compiles one, and what of it Keras can't say."""

    config: Mapping[str, Any] = field(default_factory=dict)  # nothing where it can't be compiled alike
    unsaid: tuple[str, ...] = ()


def compiled_of(
    optimizer: str,
    arguments: Mapping[str, Any],
    options: Mapping[str, Any],
    outputs: Sequence[Learned],
    schedule: Schedule | None = None,
) -> Compiled:
    """What Keras compiles a model with; nothing where the optimizer or a loss has no counterpart there.

    Args:
        optimizer: its word in a training file.
        arguments: of it.
        options: of the training file, by their names.
        outputs: what each learned.
        schedule: of the learning rate.
    """
    unsaid = [*_unsaid(optimizer, arguments, outputs)]
    if unsaid:
        return Compiled({}, tuple(unsaid))
    name, own = OPTIMIZERS[optimizer](arguments)
    rate: Any = options["lr"]
    if schedule is not None:
        made = schedule_in_keras(schedule, rate)
        if made is None:
            unsaid.append(f"the schedule {schedule.name} of the learning rate, which Keras does not have so")
        rate = rate if made is None else _made("optimizers.schedules", *made)
    settings = {"learning_rate": rate, **own, **_beside(options)}
    unsaid += [f"{name}, of the training, which no optimizer of Keras has" for name in BESIDE if options.get(name)]
    is_one = len(outputs) == 1
    metrics: dict[str, list[str]] = {}
    for each in outputs:
        found = {word: _metric(word, each) for word in each.metrics}
        metrics[each.name] = [name for name in found.values() if name is not None]
        of = "" if is_one else f" of '{each.name}'"
        unsaid += [
            f"the metric {word}{of}, which Keras does not have so" for word, name in found.items() if name is None
        ]
    losses = {each.name: _loss(each) for each in outputs}
    weights = {each.name: each.weight for each in outputs}
    config = {
        "optimizer": _made("optimizers", name, settings),
        "loss": next(iter(losses.values())) if is_one else losses,
        "loss_weights": None if {*weights.values()} == {1.0} else [*weights.values()] if is_one else weights,
        "metrics": next(iter(metrics.values())) if is_one else metrics,
    }
    return Compiled(config, tuple(unsaid))


def _unsaid(optimizer: str, arguments: Mapping[str, Any], outputs: Sequence[Learned]) -> Iterator[str]:
    """Why a model can't be compiled as it was trained."""
    so = "so that the file does not say how it was trained"
    other = [name for name in (*ELSEWHERE, *(("weight_decay",) if optimizer in COUPLED else ())) if arguments.get(name)]
    if optimizer not in OPTIMIZERS or other:
        told = f"{optimizer} with {' and '.join(other)}" if other else optimizer
        yield f"the optimizer {told}, which Keras does not have, {so}"
    for each in outputs:
        of = "" if len(outputs) == 1 else f" of '{each.name}'"
        if each.unsaid:
            yield f"the loss {each.loss}{of} with {' and '.join(each.unsaid)}, which Keras does not have, {so}"
        elif _loss(each) is None:
            yield f"the loss {each.loss}{of}, which Keras does not have with these arguments, {so}"


def _made(module: str, name: str, config: Mapping[str, Any]) -> Config:
    return {"module": f"keras.{module}", "class_name": name, "config": {**config}, "registered_name": None}


def _loss(learned: Learned) -> Config | None:
    """Keras's loss of an output, if it has one."""
    name = next((name for name, (word, _) in LOSSES.items() if word == learned.loss), None)
    if learned.is_of_two:
        name = "binary_crossentropy" if learned.loss == "cross_entropy" else None
    settings = {key: value for key, value in learned.arguments.items() if value or key != "label_smoothing"}
    if name is None or settings.keys() - {ARGUMENTS.get(name)}:
        return None
    if learned.ignored is not None:
        if name != "sparse_categorical_crossentropy":
            return None
        settings["ignore_class"] = learned.ignored
    if name in OF_PROBABILITIES:
        settings["from_logits"] = not learned.takes_probabilities
    return _made("losses", "".join(word.title() for word in name.split("_")), settings)


def _metric(word: str, learned: Learned) -> str | None:
    """Keras's metric of a word, if it has one."""
    name = METRICS.get("labels" if learned.is_of_two else learned.kind, {}).get(word)
    if name in OF_SHARES and not learned.takes_probabilities:
        return None
    return None if learned.kind == "labels" and word in AVERAGED and learned.units != 1 else name


ARGUMENTS = {"huber": "delta", "binary_crossentropy": "label_smoothing"}  # of losses
# By what an output learns: classes are numbers for Keras, of which only its sparse metrics read which class it is.
METRICS: dict[str, dict[str, str]] = {
    "classes": {"accuracy": "accuracy", "top_5": "sparse_top_k_categorical_accuracy"},
    "labels": {"accuracy": "binary_accuracy", "precision": "precision", "recall": "recall", "auroc": "auc"},
    "quantities": {word: name for name, word in OF_QUANTITIES.items()},
}
OF_SHARES = {*METRICS["labels"].values()}  # which compare with 0.5, as if logits were probabilities


# -- optimizers --------------------------------------------------------------------------------------------------------

Said = tuple[str, Config]


def _renamed(name: str, given: Mapping[str, Any], names: Mapping[str, str], **defaults: Any) -> Said:
    """An optimizer with arguments by Keras's names for them."""
    settings = {names.get(key, key): value for key, value in {**defaults, **given}.items() if key not in ALIKE}
    if (betas := settings.pop("betas", None)) is not None:
        settings["beta_1"], settings["beta_2"] = betas
    return name, {key: value for key, value in settings.items() if value is not None and value is not False}


COUPLED = ("sgd", "adam", "rmsprop")  # whose weight decay is part of the gradient, as no optimizer of Keras has it
ELSEWHERE = ("dampening", "maximize", "decoupled_weight_decay")  # which only torch has
ALIKE = ("foreach", "fused")  # by which torch computes the same
EPSILON = {"eps": "epsilon"}
RMSPROP = {"alpha": "rho", **EPSILON}
# By the words of a training file; torch's own with its defaults, where these are others than Keras's. Adam's epsilon is
# outside of the correction in torch, and RMSprop's of the root, which shows where gradients are as small as it is.
OPTIMIZERS: dict[str, Callable[[Mapping[str, Any]], Said]] = {
    "sgd": lambda given: _renamed("SGD", given, {}),
    "adam": lambda given: _renamed("Adam", given, EPSILON, eps=1e-8),
    "adamw": lambda given: _renamed("AdamW", given, EPSILON, eps=1e-8, weight_decay=0.01),
    "rmsprop": lambda given: _renamed("RMSprop", given, RMSPROP, alpha=0.99, eps=1e-8),
    "keras_sgd": lambda given: _renamed("SGD", given, {}),
    "keras_adam": lambda given: _renamed("Adam", given, EPSILON),
    "keras_adamax": lambda given: _renamed("Adamax", given, EPSILON),
    "keras_rmsprop": lambda given: _renamed("RMSprop", given, RMSPROP),
    "keras_adagrad": lambda given: _renamed("Adagrad", given, EPSILON),
    "keras_adadelta": lambda given: _renamed("Adadelta", given, EPSILON),
    "keras_lion": lambda given: _renamed("Lion", given, {}),
}


BESIDE = ("rules", "route")  # options that make some weights learn otherwise


def _beside(options: Mapping[str, Any]) -> Config:
    """What is beside the optimizer: clipped gradients, several batches in a step, averages."""
    found: Config = {}
    if options.get("clip_gradients"):
        key = {"norm": "global_clipnorm", "each_norm": "clipnorm", "value": "clipvalue"}[options["clip_by"]]
        found[key] = options["clip_gradients"]
    if options.get("accumulate", 1) > 1:
        found["gradient_accumulation_steps"] = options["accumulate"]
    if options.get("ema") is not None:
        found |= {"use_ema": True, "ema_momentum": options["ema"]}
    return found
