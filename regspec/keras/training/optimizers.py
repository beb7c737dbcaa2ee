"""An optimizer of Keras as torch code: its call, its learning rate, and what stands in the loop beside it.

Comments in the code tell where it differs from Keras. Of a config only numbers go into the code, and names that are
listed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regspec.language.fields import snake_case

MOST = 1e18  # no setting is as large
DECOUPLED = "Keras's weight_decay acts on the weights, and not through the gradient, as AdamW's"


@dataclass
class Recipe:
    """Torch code: before the loop, after the backward, after the step; and what has no counterpart."""

    imports: set[str] = field(default_factory=set)
    before: list[str] = field(default_factory=list)  # definitions and statements
    after_backward: list[str] = field(default_factory=list)
    after_step: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


Settings = Mapping[str, Any]


def optimizer_of(stored: Any) -> Recipe | None:
    """The recipe of an optimizer as Keras stores it: its name, or ``{class_name, config}``; None for none."""
    name, settings = name_and_settings(stored)
    if name is None:
        return None
    recipe = Recipe()
    if name == "loss_scale_optimizer":
        recipe.remarks.append("the loss was scaled for half precision: `torch.amp.GradScaler` does that")
        name, settings = name_and_settings(settings.get("inner_optimizer"))
    make = OPTIMIZERS.get((name or "").replace("_", ""))
    if make is None:
        recipe.remarks.append(f"torch.optim has no counterpart of the optimizer {code(name)}: {_listed(settings)}")
        return recipe
    call, comment = make(settings)
    rate = _rate(settings, recipe, "0.01" if "SGD" in call else "0.001")
    decay = _decay(settings, call, recipe)
    arguments = ", ".join(part for part in (f"lr={rate}", call.partition("(")[2], decay) if part)
    function = call.partition("(")[0]
    if decay and function == "Adam":
        function = "AdamW"
    recipe.before += [f"# {comment}"] * bool(comment)
    recipe.before.append(f"optimizer = torch.optim.{function}(model.parameters(), {arguments})")
    if any(each.startswith("def ") for each in recipe.before):
        recipe.before.append("scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate)")
        recipe.after_step.append("scheduler.step()  # after each step, and not each epoch")
    _clip(settings, recipe)
    _average(settings, recipe)
    return recipe


def name_and_settings(stored: Any) -> tuple[str | None, Settings]:
    """The name in small letters, and the settings, of a thing that Keras stores by its name or by both."""
    if isinstance(stored, str):
        return snake_case(stored)[:80], {}
    if isinstance(stored, dict) and isinstance(stored.get("class_name"), str):
        config = stored.get("config")
        if stored["class_name"] == "function":
            return (snake_case(config)[:80], {}) if isinstance(config, str) else ("function", {})
        name = snake_case(stored["class_name"].rpartition(">")[2])[:80]
        return name, config if isinstance(config, dict) else {}
    return None, {}


def number(settings: Settings, key: str, default: float | None) -> Any:
    """A setting that is a number, as Keras rounds it; ``default`` where it is none."""
    value = settings.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < MOST:
        return default
    return value if isinstance(value, int) else float(f"{value:.7g}")  # it was a float32


def defined(signature: str, lines: Sequence[str]) -> str:
    """A function of these lines."""
    return "\n".join([f"def {signature}:", *(f"    {line}" for line in lines)])


def code(text: Any) -> str:
    """A text of the file as a span of code in Markdown."""
    return f"`{' '.join(str(text).replace('`', ' ').split())[:80]}`"


def _listed(settings: Settings) -> str:
    plain = {key: each for key, each in settings.items() if isinstance(each, (int, float, bool)) and key != "name"}
    return code(
        ", ".join(f"{key}={number(settings, key, None) or each}" for key, each in plain.items()) or "no settings"
    )


# -- each optimizer ----------------------------------------------------------------------------------------------------


def _sgd(settings: Settings) -> tuple[str, str]:
    momentum, nesterov = number(settings, "momentum", 0.0), settings.get("nesterov") is True
    parts = [f"momentum={momentum}"] * bool(momentum) + ["nesterov=True"] * bool(nesterov and momentum)
    return f"SGD({', '.join(parts)}", ""


def _betas(settings: Settings) -> str:
    return f"betas=({number(settings, 'beta_1', 0.9)}, {number(settings, 'beta_2', 0.999)})"


def _adam(settings: Settings) -> tuple[str, str]:
    amsgrad = ", amsgrad=True" if settings.get("amsgrad") is True else ""
    return f"Adam({_betas(settings)}, eps={number(settings, 'epsilon', 1e-7)}{amsgrad}", ""


def _adamw(settings: Settings) -> tuple[str, str]:
    call, comment = _adam(settings)
    return call.replace("Adam(", "AdamW("), comment


def _adamax(settings: Settings) -> tuple[str, str]:
    return f"Adamax({_betas(settings)}, eps={number(settings, 'epsilon', 1e-7)}", ""


def _nadam(settings: Settings) -> tuple[str, str]:
    arguments = f"{_betas(settings)}, eps={number(settings, 'epsilon', 1e-7)}, momentum_decay=1.0"
    return f"NAdam({arguments}", "torch's own default of momentum_decay, 0.004, is not Keras's"


def _rmsprop(settings: Settings) -> tuple[str, str]:
    epsilon, momentum = number(settings, "epsilon", 1e-7), number(settings, "momentum", 0.0)
    parts = [f"alpha={number(settings, 'rho', 0.9)}", f"eps={float(f'{abs(epsilon) ** 0.5:.4g}')}"]
    parts += [f"momentum={momentum}"] * bool(momentum) + ["centered=True"] * (settings.get("centered") is True)
    return f"RMSprop({', '.join(parts)}", f"eps is the root of Keras's {epsilon}, which is added under the root"


def _adagrad(settings: Settings) -> tuple[str, str]:
    start = number(settings, "initial_accumulator_value", 0.1)
    return f"Adagrad(initial_accumulator_value={start}, eps={number(settings, 'epsilon', 1e-7)}", ""


def _adadelta(settings: Settings) -> tuple[str, str]:
    return f"Adadelta(rho={number(settings, 'rho', 0.95)}, eps={number(settings, 'epsilon', 1e-7)}", ""


OPTIMIZERS: dict[str, Callable[[Settings], tuple[str, str]]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "adamax": _adamax,
    "nadam": _nadam,
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
    "adadelta": _adadelta,
}


def _decay(settings: Settings, call: str, recipe: Recipe) -> str:
    """The argument for Keras's weight decay, or lines for it in the loop."""
    decay = number(settings, "weight_decay", None)
    if call.startswith("AdamW("):  # whose default is another in torch
        return f"weight_decay={number(settings, 'weight_decay', 0.004)}"
    if not decay:
        return ""
    if call.startswith("Adam("):
        return f"weight_decay={decay}"
    if call.startswith("NAdam("):
        return f"weight_decay={decay}, decoupled_weight_decay=True"
    if call == "SGD(":
        return f"weight_decay={decay}"
    recipe.after_backward += [
        f"with torch.no_grad():  # {DECOUPLED}",
        "    for parameter in model.parameters():",
        "        if parameter.requires_grad:",
        f'            parameter.mul_(1 - optimizer.param_groups[0]["lr"] * {decay})',
    ]
    return ""


def _clip(settings: Settings, recipe: Recipe) -> None:
    """The line that clips gradients; Keras does the first of these that is set."""
    if each := number(settings, "clipnorm", None):
        recipe.after_backward[:0] = [
            "for parameter in model.parameters():  # each by itself, as Keras's clipnorm",
            f"    torch.nn.utils.clip_grad_norm_([parameter], {each})",
        ]
    elif together := number(settings, "global_clipnorm", None):
        recipe.after_backward.insert(0, f"torch.nn.utils.clip_grad_norm_(model.parameters(), {together})")
    elif value := number(settings, "clipvalue", None):
        recipe.after_backward.insert(0, f"torch.nn.utils.clip_grad_value_(model.parameters(), {value})")


def _average(settings: Settings, recipe: Recipe) -> None:
    if settings.get("use_ema") is True:
        momentum = number(settings, "ema_momentum", 0.99)
        recipe.imports.add("from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn")
        recipe.before.append(f"averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn({momentum}))")
        recipe.after_step.append("averaged.update_parameters(model)  # Keras's use_ema")
    if steps := number(settings, "gradient_accumulation_steps", None):
        recipe.remarks.append(f"gradients were averaged over {steps} batches before each step")
    if scale := number(settings, "loss_scale_factor", None):
        recipe.remarks.append(f"the loss was multiplied by {scale} for the backward: `torch.amp.GradScaler` does that")


# -- learning rates ----------------------------------------------------------------------------------------------------


def _rate(settings: Settings, recipe: Recipe, default: str) -> str:
    """The learning rate, or 1.0 where a function gives it, whose lines are added to the recipe."""
    stored = settings.get("learning_rate", settings.get("lr"))
    decay = number(settings, "decay", 0.0)  # of Keras 2
    if isinstance(stored, dict):
        name, own = name_and_settings(stored)
        if name not in SCHEDULES:
            recipe.remarks.append(f"the learning rate followed {code(name)}: {_listed(own)}")
            return default
        lines = SCHEDULES[name](own, recipe)
    elif decay:
        lines = [f"return {number({'lr': stored}, 'lr', 0.01)} / (1 + {decay} * step)"]
    else:
        return repr(number({"lr": stored}, "lr", float(default)))
    recipe.before.append(defined("learning_rate(step: int) -> float", lines))
    return "1.0"


def _steps(settings: Settings) -> str:
    """How many spans of steps have passed, maybe in whole numbers."""
    return f"step {'//' if settings.get('staircase') is True else '/'} {number(settings, 'decay_steps', 1)}"


def _exponential(settings: Settings, _: Recipe) -> list[str]:
    start, rate = number(settings, "initial_learning_rate", 0.01), number(settings, "decay_rate", 1.0)
    return [f"return {start} * {rate} ** ({_steps(settings)})"]


def _inverse_time(settings: Settings, _: Recipe) -> list[str]:
    start, rate = number(settings, "initial_learning_rate", 0.01), number(settings, "decay_rate", 0.0)
    return [f"return {start} / (1 + {rate} * ({_steps(settings)}))"]


def _piecewise(settings: Settings, recipe: Recipe) -> list[str]:
    recipe.imports.add("import bisect")
    boundaries, values = (_numbers(settings.get(key)) for key in ("boundaries", "values"))
    return [f"return {values}[bisect.bisect_left({boundaries}, step)]"]


def _numbers(stored: Any) -> list[Any]:
    return [number({"x": each}, "x", 0) for each in stored] if isinstance(stored, list) else []


def _polynomial(settings: Settings, recipe: Recipe) -> list[str]:
    start, end = number(settings, "initial_learning_rate", 0.01), number(settings, "end_learning_rate", 1e-4)
    length, power = number(settings, "decay_steps", 1), number(settings, "power", 1.0)
    passed = f"min(step, {length}) / {length}"
    if settings.get("cycle") is True:
        recipe.imports.add("import math")
        passed = f"step / ({length} * max(1, math.ceil(step / {length})))"
    return [f"passed = {passed}", f"return ({start} - {end}) * (1 - passed) ** {power} + {end}"]


def _cosine(settings: Settings, recipe: Recipe) -> list[str]:
    recipe.imports.add("import math")
    start, alpha = number(settings, "initial_learning_rate", 0.01), number(settings, "alpha", 0.0)
    length, peak = number(settings, "decay_steps", 1), number(settings, "warmup_target", None)
    lines, step = [], "step"
    if peak is not None:
        warm = number(settings, "warmup_steps", 0)
        lines = [f"if step < {warm}:", f"    return {start} + ({peak} - {start}) * step / {warm}"] * bool(warm)
        start, step = peak, f"step - {warm}"
    cosine = "(1 + math.cos(math.pi * passed)) / 2"
    return [
        *lines,
        f"passed = min({step}, {length}) / {length}",
        f"return {start} * ({1 - alpha} * {cosine} + {alpha})" if alpha else f"return {start} * {cosine}",
    ]


def _restarts(settings: Settings, recipe: Recipe) -> list[str]:
    recipe.imports.add("import math")
    start, alpha = number(settings, "initial_learning_rate", 0.01), number(settings, "alpha", 0.0)
    length, longer = number(settings, "first_decay_steps", 1), number(settings, "t_mul", 2.0)
    return [
        f"length, height = {length}, 1.0",
        "while step >= length:",
        f"    step, length, height = step - length, length * {longer}, height * {number(settings, 'm_mul', 1.0)}",
        "cosine = height * (1 + math.cos(math.pi * step / length)) / 2",
        f"return {start} * ({1 - alpha} * cosine + {alpha})",
    ]


SCHEDULES: dict[str | None, Callable[[Settings, Recipe], list[str]]] = {
    "exponential_decay": _exponential,
    "inverse_time_decay": _inverse_time,
    "piecewise_constant_decay": _piecewise,
    "polynomial_decay": _polynomial,
    "cosine_decay": _cosine,
    "cosine_decay_restarts": _restarts,
}
