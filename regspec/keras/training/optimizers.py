"""An optimizer of Keras in the words of a training file: torch's where its steps are the same, else ``keras_…``.

Which steps it takes is known by the version, too. Before their optimizers had a ``jit_compile``, in 2.11, tf.keras and
the Keras before it added the epsilon of Adagrad, and of RMSprop without momentum, to the root, as torch does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from regspec.keras.configs.dialect import Dialect
from regspec.keras.training.schedules import by_decay, schedule_of
from regspec.keras.training.settings import Settings, code, listed, name_and_settings, number, whole
from regspec.layers.layer import Weight


@dataclass
class Recipe:
    """Options of a training file, by their names, and what has no counterpart."""

    options: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Stored:
    """The settings of an optimizer, and what Keras it is of."""

    settings: Settings
    is_old: bool  # before 2.11
    is_standalone: bool  # and no part of TensorFlow
    is_scheduled: bool = False

    def number(self, key: str, default: float, most: float = 1e18) -> Any:
        return number(self.settings, key, default, most=most)

    @property
    def epsilon(self) -> float:
        return float(self.number("epsilon", 1e-7))

    @property
    def betas(self) -> list[float]:
        return [self.number("beta_1", 0.9, 1.0), self.number("beta_2", 0.999, 1.0)]

    @property
    def decay(self) -> dict[str, float]:
        """The weight decay, which older ones do not have."""
        decay = self.number("weight_decay", 0.0)
        return {"weight_decay": decay} if decay else {}


Said = tuple[str, dict[str, Any]]


def optimizer_of(
    stored: Any, dialect: Dialect, *, weights: Sequence[Weight] = (), has_constraints: bool = False
) -> Recipe | None:
    """What a training file says of an optimizer as Keras stores it; None for none.

    Args:
        stored: its name, or ``{class_name, config}``.
        dialect: of the file.
        weights: those of the model.
        has_constraints: whether weights have constraints.
    """
    name, settings = name_and_settings(stored)
    if name is None:
        return None
    recipe = Recipe()
    if name.startswith("loss_scale_optimizer"):
        recipe.remarks.append(
            "the loss was scaled for half precision; `precision: 16-mixed` does that, on a GPU, of a spec in float32"
        )
        name, settings = name_and_settings(settings.get("inner_optimizer", settings.get("optimizer")))
    key = (name or "").replace("_", "")
    make = OPTIMIZERS.get(key)
    _rate(settings, recipe, has_decay=key != "nadam")
    if make is None:
        what = f"the optimizer {code(name)} has no counterpart: {listed(settings)}"
        recipe.remarks.append(f"{what}. Without one, `regspec train` takes Adam")
    else:
        is_old = dialect.generation < 3 and "jit_compile" not in settings
        words, arguments = make(_Stored(settings, is_old, dialect.is_standalone, "schedule" in recipe.options))
        recipe.options = {"optimizer": {words: arguments} if arguments else words, **recipe.options}
    _clip(settings, recipe, weights, is_together=dialect.is_standalone)
    if key == "adafactor":
        recipe.remarks += _of_adafactor(settings, weights)
    _average(settings, recipe, dialect)
    if has_constraints and recipe.options.keys() & {"ema", "accumulate"}:
        recipe.remarks.append("constraints were applied after averages, and each batch; here after a step, and before")
    return recipe


# -- each optimizer ----------------------------------------------------------------------------------------------------


def _sgd(stored: _Stored) -> Said:
    momentum = stored.number("momentum", 0.0)
    nesterov = {"nesterov": True} if momentum and stored.settings.get("nesterov") is True else {}
    arguments = {**({"momentum": momentum} if momentum else {}), **nesterov, **stored.decay}
    # momentum keeps steps, of the rate that each had; and a decay is part of it where it is a gradient
    differs = momentum and (stored.is_scheduled or stored.decay)
    return ("keras_sgd" if differs else "sgd"), arguments


def _adam(stored: _Stored) -> Said:
    amsgrad = {"amsgrad": True} if stored.settings.get("amsgrad") is True else {}
    return "keras_adam", {"betas": stored.betas, "eps": stored.epsilon, **amsgrad, **stored.decay}


def _adamw(stored: _Stored) -> Said:
    return "keras_adam", {**_adam(stored)[1], "weight_decay": stored.number("weight_decay", 0.004)}


def _adamax(stored: _Stored) -> Said:
    return "keras_adamax", {"betas": stored.betas, "eps": stored.epsilon, **stored.decay}


def _nadam(stored: _Stored) -> Said:
    slowing = 1.0
    if stored.is_old:
        slowing = stored.number("schedule_decay", stored.number("decay", 0.004))
    decay = {**stored.decay, "decoupled_weight_decay": True} if stored.decay else {}
    return "nadam", {"betas": stored.betas, "eps": stored.epsilon, "momentum_decay": slowing, **decay}


def _rmsprop(stored: _Stored) -> Said:
    momentum = stored.number("momentum", 0.0)
    arguments = {
        "alpha": stored.number("rho", 0.9),
        "eps": stored.epsilon,
        **({"momentum": momentum} if momentum else {}),
        **({"centered": True} if stored.settings.get("centered") is True else {}),
        **stored.decay,
    }
    return ("rmsprop" if stored.is_old and not momentum else "keras_rmsprop"), arguments


def _adagrad(stored: _Stored) -> Said:
    start = stored.number("initial_accumulator_value", 0.0 if stored.is_standalone else 0.1)
    arguments = {"initial_accumulator_value": start, "eps": stored.epsilon, **stored.decay}
    return ("adagrad" if stored.is_old else "keras_adagrad"), arguments


def _adadelta(stored: _Stored) -> Said:
    return "keras_adadelta", {"rho": stored.number("rho", 0.95, 1.0), "eps": stored.epsilon, **stored.decay}


def _lion(stored: _Stored) -> Said:
    betas = [stored.number("beta_1", 0.9, 1.0), stored.number("beta_2", 0.99, 1.0)]
    return "keras_lion", {"betas": betas, **stored.decay}


def _adafactor(stored: _Stored) -> Said:
    # torch's first epsilon is squared, where Keras's is added to squares
    epsilons = [stored.number("epsilon_1", 1e-30) ** 0.5, stored.number("epsilon_2", 1e-3)]
    beta = number(stored.settings, "beta_2_decay", -0.8, least=-1e3, most=0.0)
    arguments = {"beta2_decay": beta, "eps": epsilons, "d": max(1.0, stored.number("clip_threshold", 1.0))}
    return "adafactor", {**arguments, "weight_decay": stored.number("weight_decay", 0.0)}


OPTIMIZERS: dict[str, Callable[[_Stored], Said]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "adamax": _adamax,
    "nadam": _nadam,
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
    "adadelta": _adadelta,
    "lion": _lion,
    "adafactor": _adafactor,
}


# -- what is beside it -------------------------------------------------------------------------------------------------


def _rate(settings: Settings, recipe: Recipe, *, has_decay: bool) -> None:
    stored = settings.get("learning_rate", settings.get("lr"))
    rate = number({"rate": stored}, "rate", None)
    decay = number(settings, "decay", 0.0) if has_decay else 0.0  # Nadam's is of its momentum
    scheduled = None
    if isinstance(stored, dict):
        scheduled = schedule_of(stored)
        if scheduled is None:
            name, own = name_and_settings(stored)
            recipe.remarks.append(f"the learning rate followed {code(name)}, which has no counterpart: {listed(own)}")
            rate = number(own, "initial_learning_rate", None)
    elif rate is not None and decay:
        scheduled = by_decay(rate, decay)
    if scheduled is not None:
        recipe.options["lr"], recipe.options["schedule"] = scheduled
    elif rate is not None:
        recipe.options["lr"] = rate
    else:
        recipe.remarks.append("the file does not say the learning rate as a number: `lr` is regspec's default")


def _clip(settings: Settings, recipe: Recipe, weights: Sequence[Weight], *, is_together: bool) -> None:
    """How gradients are clipped: Keras does the first of these that is set."""
    ways = [("clipnorm", "norm" if is_together else "each_norm"), ("global_clipnorm", "norm"), ("clipvalue", "value")]
    found = [(number(settings, key, 0.0), by, key) for key, by in ways]
    given = [each for each in found if each[0]]
    if not given:
        return
    most, by, key = given[0]
    recipe.options |= {"clip_gradients": most, **({"clip_by": by} if by != "norm" else {})}
    if by == "each_norm" and any(len(each.parameters) != 1 for each in weights):
        recipe.remarks.append(
            f"{code(key)} is of each weight in Keras; here of each parameter, of which some weights are several"
        )
    if len(given) > 1:
        others = " and ".join(code(each) for *_, each in given[1:])
        recipe.remarks.append(f"gradients were clipped in several ways; {others} is left out")


def _of_adafactor(settings: Settings, weights: Sequence[Weight]) -> Iterator[str]:
    """Where torch's Adafactor is not Keras's."""
    if any(len(each.shape or ()) > 2 or len(each.parameters) != 1 for each in weights):
        what = "of weights with more than two axes, or that are several parameters, others than Keras's"
        yield f"Adafactor keeps averages of rows and columns: {what}"
    if number(settings, "weight_decay", 0.0):
        yield "Adafactor's steps go by the size of a weight, here before it decays, and in Keras after that"


def _average(settings: Settings, recipe: Recipe, dialect: Dialect) -> None:
    """Averages, steps of several batches, and a factor of the loss."""
    if settings.get("use_ema") is True:
        recipe.options["ema"] = number(settings, "ema_momentum", 0.99, most=1.0)
        recipe.remarks.append("the moving average is of what normalizations keep, too; in Keras of weights alone")
        if dialect.generation < 3:
            recipe.remarks.append("the moving average began with the first weights; here with those after a step")
        if settings.get("ema_overwrite_frequency") is not None:
            frequency = code(f"ema_overwrite_frequency={settings['ema_overwrite_frequency']}")
            recipe.remarks.append(f"the weights became their average again and again, by {frequency}; here at the end")
    steps = whole(settings, "gradient_accumulation_steps", 2)
    if steps is not None:
        recipe.options["accumulate"] = steps
        recipe.remarks.append("a step of several batches takes what is left at the end of an epoch; Keras goes on")
        if "schedule" in recipe.options:
            recipe.remarks.append(f"the learning rate followed the batches; here it follows steps, of {steps} batches")
    if factor := number(settings, "loss_scale_factor", None):
        recipe.remarks.append(f"the loss was multiplied by {factor} for the backward, for half precision; here not")
