"""Targets as tensors that a model's outputs fit: classes, labels, or quantities; and by which loss they are learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from regspec.code.shapes import Shape, text
from regspec.text.problems import Problem, RegspecError
from regspec.training.data.scaling import Scaling, scaling_of
from regspec.training.data.wanted import Array, Columns, Names, Wanted
from regspec.training.measures.losses import Kind, Loss, loss_named
from regspec.training.options.options import BUNDLED
from regspec.training.options.outputs import OutputSection

SHOWN = 5  # classes in a message
MANY = 100  # whole numbers up to here may well be classes
BY_KIND: dict[Kind, str] = {"classes": "cross_entropy", "labels": "binary_cross_entropy", "quantities": "mse"}
Sort = Literal["words", "numbers", "booleans"]  # what classes were before they had numbers
SCALABLE = ("mse", "l1", "huber", "smooth_l1", "log_cosh")  # losses of a difference, and one's own
COUNTED = "quantities are floating-point numbers: 3.0, and not 3; or a loss such as mse or poisson says so"


@dataclass(frozen=True)
class Target:
    """What an output learns: its kind, by which loss, the names of its classes, and how it is scaled for the loss."""

    wanted: Wanted
    kind: Kind
    loss: Loss
    classes: tuple[str, ...] | None = None
    sort: Sort = "words"
    labels: tuple[str, ...] | None = None  # the columns of a table that they were, where these are several
    scaling: Scaling | None = None  # a number for each unit, along the channels

    @property
    def answers(self) -> Array:
        """The classes as the targets had them, in the order of their numbers: words, int64 or booleans."""
        names = self.classes or ()
        if self.sort == "words":
            return np.array(names, str)
        return np.arange(len(names)) if self.sort == "numbers" else np.array([False, True])

    @property
    def name(self) -> str:
        """The output's."""
        return self.wanted.name

    def said(self) -> dict[str, Any]:
        """All that a training file says of the output, its loss too, where that was inferred."""
        return {"loss": self.loss.name, **self.wanted.said.model_dump(exclude_unset=True)}

    def as_dict(self) -> dict[str, Any]:
        """What a run's folder keeps of it."""
        classes = None if self.classes is None else [*self.classes]
        told = {"kind": self.kind, "loss": self.loss.name, "weight": self.wanted.said.weight, "classes": classes}
        sort = {} if classes is None else {"sort": self.sort}
        scaling = {} if self.scaling is None else {"scale": self.wanted.said.scale, "scaling": self.scaling.as_dict()}
        return {**told, **sort, **scaling}

    def named(self, columns: Columns | None) -> Target:
        """The same, with the names of its labels, where these were columns of a table."""
        names = () if columns is None else columns.targets.get(self.name, ())
        return replace(self, labels=tuple(names)) if self.kind == "labels" and len(names) > 1 else self

    @property
    def may_be_scaled(self) -> bool:
        """Whether it is learned as it is, and might be scaled."""
        return self.scaling is None and self.kind == "quantities" and is_scalable(self.loss)

    def scaled(self, goal: torch.Tensor) -> Target:
        """The same, scaled by targets that are trained on, where that is said: by all numbers of a unit together."""
        if self.wanted.said.scale is None:
            return self
        rows = goal[:, None] if goal.ndim == 1 else goal.movedim(self.wanted.channels, -1)
        return replace(
            self, scaling=scaling_of(rows.reshape(-1, rows.shape[-1]).double().numpy(), self.wanted.said.scale)
        )


def as_before(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of outputs, without what a folder that an older version wrote does not say: their ``sort``."""
    return {
        name: {key: each[key] for key in each if key != "sort" or key in before.get(name, {})}
        for name, each in now.items()
    }


def fitted_target(
    goals: Sequence[Array], names: Names, wanted: Wanted, source: str, *, is_whole: bool = True
) -> tuple[list[torch.Tensor], Target]:
    """The targets of an output in each part of the data, int64 classes or float32 numbers; and what they are.

    Words and booleans are classes, in the order of their names; so are whole numbers, which count from 0, unless the
    loss takes quantities only. A class may be given for each example, or for each place of the output. Where there is
    one number for each class of each place, they are labels, several of which may hold: 0 or 1.

    Args:
        goals: the targets of each part.
        names: those of the classes, where the source has them.
        wanted: the output.
        source: of the data, for messages.
        is_whole: whether these are all targets, and no sample.

    Raises:
        RegspecError: where the output has no place for them, or the loss does not take them.
    """
    shapes = {goal.shape[1:] for goal in goals}
    if len(shapes) > 1 or len({goal.dtype.kind == "U" for goal in goals}) > 1:
        each = " and ".join(f"{goal.dtype} {text((None, *goal.shape[1:]))}" for goal in goals)
        raise RegspecError(Problem(f"the targets of '{source}' are of two kinds: {each}"))
    goal = np.concatenate(goals)
    loss = None if wanted.said.loss is None else loss_said(wanted.said)
    kind = _kind(goal, loss, wanted, source)
    classes = None
    if kind == "classes":
        target, classes = _classes(goal, names, wanted, source, is_whole)
    elif kind == "labels":
        target = torch.from_numpy(goal.astype(np.float32))
    else:
        target = quantities_of(goal, wanted, source)
    loss = loss or loss_said(wanted.said, BY_KIND[kind])
    check_range(target, loss, kind, wanted, source)
    _check_scale(loss, kind, wanted, source)
    made = Target(wanted, kind, loss, classes, _sort(goal, names))
    return [*torch.split(target, [len(each) for each in goals])], made


def _sort(goal: Array, names: Names) -> Sort:
    """What classes are: numbers that stand for names are words."""
    if goal.dtype.kind == "b":
        return "booleans"
    return "numbers" if goal.dtype.kind in "iu" and names is None else "words"


def is_scalable(loss: Loss) -> bool:
    """Whether a loss may be of quantities that are scaled."""
    return loss.name in SCALABLE or ":" in loss.name


def _check_scale(loss: Loss, kind: Kind, wanted: Wanted, source: str) -> None:
    """Raises where a target is to be scaled that is no quantity, or whose loss is none of a difference."""
    if wanted.said.scale is None:
        return
    if kind != "quantities":
        raise RegspecError(Problem(f"scale is for quantities, but '{source}' has {kind} for '{wanted.name}'", COUNTED))
    if not is_scalable(loss):
        what = f"{loss.name} reads the quantities of '{wanted.name}' as they are, and can't learn scaled ones"
        raise RegspecError(Problem(what, f"scale goes with {', '.join(SCALABLE)}, and a loss of your own"))


def loss_said(said: OutputSection, by_kind: str | None = None) -> Loss:
    """The loss of an output: that which is said, or else that of the kind. Raises `RegspecError`."""
    return loss_named(said.loss or by_kind or "", said.arguments, OutputSection.model_fields)


def fits(given: tuple[int, ...], shape: Shape) -> bool:
    """Whether sizes are those of a shape, in which None is any."""
    return len(given) == len(shape) and all(b in (None, a) for a, b in zip(given, shape, strict=True))


def _kind(goal: Array, loss: Loss | None, wanted: Wanted, source: str) -> Kind:
    """What a target is, by its numbers, its shape and the loss."""
    given, output = goal.shape[1:], wanted.x.spec_shape[1:]
    is_shaped = fits(given, output) or (given == () and fits((1,), output))
    kinds = loss.kinds if loss is not None else ("classes", "labels")
    if goal.dtype.kind == "f":
        if loss is not None and loss.kinds[0] == "labels" and is_shaped and is_binary(goal):
            return "labels"  # 0.0 and 1.0, as Keras is given them
        if loss is None or "quantities" in loss.kinds:
            return "quantities"
        hint = f"{' or '.join(loss.kinds)} are whole numbers{', or words' if 'classes' in loss.kinds else ''}"
        raise RegspecError(Problem(f"{loss.name} does not take the quantities of '{source}' for '{wanted.name}'", hint))
    if goal.dtype.kind == "U":
        kinds = tuple(each for each in kinds if each == "classes")
        if loss is not None and not kinds:
            what = f"{loss.name} takes numbers, but '{source}' has '{goal.flat[0]}' for '{wanted.name}'"
            raise RegspecError(Problem(what))
        return "classes"
    for kind in kinds:
        if kind == "classes" and (fits(given, wanted.places) or (given == (1,) and wanted.places == ())):
            return kind
        if kind == "labels" and is_shaped and (goal.dtype.kind == "b" or is_binary(goal)):
            return kind
        if kind == "quantities" and is_shaped:
            return kind
    if loss is None and not given:
        return "classes"  # which says what does not fit
    what = f"the model gives {text(wanted.x.spec_shape)}, but the target of '{source}' is {shape_of(goal)}"
    places = text((None, *wanted.places))
    takes = {
        "classes": f"a class for each place is {places}",
        "labels": "labels are 0 or 1, one for each unit",
        "quantities": "quantities have the output's shape",
    }
    hint = "; ".join(takes[kind] for kind in kinds)
    raise RegspecError(Problem(what, hint if loss is not None else f"{hint}; {COUNTED}"))


def is_binary(goal: Array) -> bool:
    """Whether all numbers are 0 or 1."""
    return bool(((goal == 0) | (goal == 1)).all())


def shape_of(goal: Array) -> str:
    """The shape of a target as messages write it."""
    return text((None, *goal.shape[1:]))


def quantities_of(goal: Array, wanted: Wanted, source: str) -> torch.Tensor:
    """Quantities that the model's output has a place for."""
    output, expected = wanted.x.spec_shape, goal.shape[1:] or (1,)
    if not fits(expected, output[1:]):
        what = f"the model gives {text(output)}, but the target of '{source}' is {shape_of(goal)}: quantities"
        raise RegspecError(Problem(what, "classes are whole numbers, words or booleans"))
    largest = np.finfo(np.float32).max
    if (faulty := np.abs(goal) > largest).any():
        what = f"the target of '{source}' holds {goal[faulty][0]}, but quantities are float32, at most {largest:.3g}"
        raise RegspecError(Problem(what))
    return torch.from_numpy(goal.astype(np.float32))


def _classes(
    goal: Array, names: Names, wanted: Wanted, source: str, is_whole: bool
) -> tuple[torch.Tensor, tuple[str, ...]]:
    """The numbers of the classes, for which the model's output has a place, and their names."""
    if goal.ndim == 2 and goal.shape[1] == 1 and not wanted.places:
        goal = goal[:, 0]  # a column of classes
    if goal.dtype.kind == "U":
        found, goal = np.unique(goal, return_inverse=True)
        names = tuple(map(str, found))
    elif goal.dtype.kind == "b":
        names = ("false", "true")
    target = torch.from_numpy(goal.astype(np.int64))
    ignored = wanted.said.ignore_index
    output = wanted.x.spec_shape
    seen = [each for each in target.unique().tolist() if each != ignored]
    if not seen:
        raise RegspecError(Problem(f"the target of '{source}' is {ignored} everywhere, which stands for no class"))
    shown = names if names is not None else tuple(map(str, seen))
    what = f"'{source}' has the classes {', '.join(shown[:SHOWN])}{', …' * (len(shown) > SHOWN)}"
    if seen[0] < 0:
        hint = "quantities are floating-point numbers: -1.0, and not -1"
        if wanted.places:
            hint = f"places that do not count are said by --outputs.{wanted.name}.ignore_index {seen[0]}"
        raise RegspecError(Problem(f"{what}, but they are counted from 0", hint))
    if not fits(tuple(target.shape[1:]), wanted.places):
        needs = f"the output is {text((None, *target.shape[1:], None)).replace('?', 'classes')}"
        raise RegspecError(Problem(f"the model gives {text(output)}, but {what}", needs))
    if len(seen) == 1 and is_whole:
        only = names[seen[0]] if names is not None else seen[0]
        raise RegspecError(Problem(f"'{source}' has one class only, {only}: there is nothing to tell apart"))
    units, count = output[wanted.channels], len(names) if names is not None else seen[-1] + 1
    has_more = names is None and source not in BUNDLED  # whose last classes may not occur in these data
    has_units = (
        units is None or units == count or (units == 1 and count == 2) or (has_more and units > count > is_whole)
    )
    if not has_units:
        if names is None and count > MANY:
            hint = f"if they are quantities, --outputs.{wanted.name}.loss mse says so; or write them as floating-point "
            hint += f"numbers: {seen[-1]}.0"
        else:
            hint = f"the last layer needs {count} units" if seen[0] == 0 or names else "classes are counted from 0"
        raise RegspecError(Problem(f"the model gives {text(output)}, but {what}", hint))
    return target, names or tuple(map(str, range(max(units or 0, count))))


def check_range(target: torch.Tensor, loss: Loss, kind: Kind, wanted: Wanted, source: str) -> None:
    """Raises where quantities are none that the loss has a value for."""
    if kind != "quantities" or not target.numel():
        return
    low, high = target.min().item(), target.max().item()
    if (loss.least is not None and low < loss.least) or (loss.most is not None and high > loss.most):
        may = f"at least {loss.least:g}" if loss.most is None else f"{loss.least:g} to {loss.most:g}"
        found = low if loss.least is not None and low < loss.least else high
        what = f"the target of '{source}' for '{wanted.name}' holds {found:g}, but {loss.name} takes {may}"
        raise RegspecError(Problem(what))
