"""Keras's four weight constraints: projections that are applied to a weight after each step of the optimizer."""

from __future__ import annotations

from typing import Annotated

from regspec.code.axes import Pattern
from regspec.code.expressions import Call, call, unless
from regspec.code.shapes import ShapeError
from regspec.language.fields import Axes, Fraction, NotNegative
from regspec.language.forms import Family, Named


class WeightConstraint(Named):
    """A projection of a weight."""

    def check(self, pattern: Pattern) -> None:
        """Raises `ShapeError` where it can't hold for a weight that lies in torch as ``pattern`` says."""
        self.lower(pattern)

    def lower(self, pattern: Pattern) -> Call:
        """The constructor of the runtime's constraint, for a weight that lies in torch as ``pattern`` says."""
        raise NotImplementedError


_SYNONYMS = {
    "nonneg": "non_neg",
    "nonnegative": "non_neg",
    "positive": "non_neg",
    "unitnorm": "unit_norm",
    "normalize": "unit_norm",
    "clip": "max_norm",
    "clip_norm": "max_norm",
    "norm": "max_norm",
    "min_norm": "min_max_norm",
}

CONSTRAINTS: Family[WeightConstraint] = Family("constraint", synonyms=_SYNONYMS)


def _dimensions(axes: tuple[int, ...], pattern: Pattern) -> int | tuple[int, ...]:
    """Where Keras's axes lie in torch."""
    rank = len(pattern.keras)
    if not all(-rank <= axis < rank for axis in axes):
        raise ShapeError(f"has a constraint whose axis is out of range for a weight of {rank} axes")
    names = {pattern.keras[axis] for axis in axes}
    groups = [index for index, group in enumerate(pattern.torch) if names & set(group)]
    if any(not set(pattern.torch[index]) <= names for index in groups):
        raise ShapeError(
            f"can't have a constraint over the axes {list(axes)}: torch stores them folded with others into one"
        )
    return groups[0] if len(groups) == 1 else tuple(groups)


@CONSTRAINTS.add
class MaxNorm(WeightConstraint):
    """Norms along the axes of at most max_value."""

    main = "max_value"
    max_value: NotNegative = 2.0
    axis: Axes = (0,)

    def lower(self, pattern: Pattern) -> Call:
        return call("MaxNorm", self.max_value, dim=_dimensions(self.axis, pattern))


@CONSTRAINTS.add
class MinMaxNorm(WeightConstraint):
    """Norms along the axes drawn into [min_value, max_value], by rate at each step."""

    example = "{min_value: 0.5, max_value: 1.0}"
    min_value: NotNegative = 0.0
    max_value: NotNegative = 1.0
    rate: Fraction = 1.0
    axis: Axes = (0,)

    def lower(self, pattern: Pattern) -> Call:
        dim = _dimensions(self.axis, pattern)
        return call("MinMaxNorm", self.min_value, self.max_value, rate=unless(1.0, self.rate), dim=dim)


@CONSTRAINTS.add
class NonNeg(WeightConstraint):
    """No weight below zero."""

    def lower(self, pattern: Pattern) -> Call:
        return call("NonNeg")


@CONSTRAINTS.add
class UnitNorm(WeightConstraint):
    """Norms along the axes of one."""

    example = "{axis: 0}"
    axis: Axes = (0,)

    def lower(self, pattern: Pattern) -> Call:
        return call("UnitNorm", dim=_dimensions(self.axis, pattern))


Constraint = Annotated[WeightConstraint, CONSTRAINTS]
