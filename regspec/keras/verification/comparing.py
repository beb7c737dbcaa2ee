"""A port beside its original, on the same inputs: what is compared, and how far apart it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from regspec.keras.verification.faults import KerasError, PortError, UnverifiedError
from regspec.keras.verification.original import Original
from regspec.keras.verification.outcomes import Outcome, PortSide
from regspec.modules import inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCHES = (1, 2, 5)
LARGE = 50_000  # numbers in an example, from which on there are two of them, and nothing is repeated
SUM = "their sum"
SHAKES = 4  # how often the weights are perturbed, to measure what rounding does
MARGIN = 10.0  # the allowed multiple of the error of a perturbation; units that turn on or off make it jump
SENSITIVE = 2e-4  # such an allowance holds only if it is larger than this; else the model is not sensitive
MOST = 0.5  # the largest such allowance, however sensitive the model is
# Errors are relative to the size of a tensor, but to no less than this share of the largest of its sort.
LEAST = 1e-3
LEAST_GRADIENT = 1e-2  # of gradients: some are zero but for rounding: of a bias before a batch normalization


@dataclass(frozen=True)
class Check:
    """One thing that was compared: of what sort, in which mode, with which weights, and how far apart it is."""

    sort: str  # weights, outputs, penalties, gradients or statistics
    mode: str  # evaluation or training; of weights none
    weights: str  # file or random
    name: str
    error: float  # the size of the difference, relative to that of Keras's; infinite where there is none
    allowed: float  # the tolerance, or what rounding alone may make
    note: str = ""  # why there is no error

    @property
    def passed(self) -> bool:
        """Whether it is no further apart than is allowed."""
        return self.error <= self.allowed

    def __str__(self) -> str:
        where = f" in {self.mode}" if self.mode else ""
        what = f"{self.sort}{where}: {self.name}"
        return f"{what}: {self.note}" if self.note else f"{what} has a relative error of {self.error:.1e}"


Values = Mapping[str, Mapping[str, Tensor]]  # what is compared, by sort and name


@dataclass
class Comparison:
    """Runs both sides, and notes how far apart they are, and what could not be compared."""

    ported: PortSide
    original: Original
    tolerance: float
    checks: list[Check] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    is_calm: bool = False  # whether layers that are random in training are in evaluation mode
    rounding: dict[str, float] = field(default_factory=dict)  # errors that are no larger than what rounding makes

    @property
    def reasons(self) -> tuple[str, ...]:
        """What was not compared, or not closely, and why."""
        why = "moving the weights by a millionth changes them as much, so that rounding alone does"
        return (*self.left_out, *(f"{what} closer than {error:.1e}: {why}" for what, error in self.rounding.items()))

    def run(self, weights: Mapping[str, Tensor], *, is_hidden: bool) -> None:
        """Compares all that can be compared, with these weights of the port's, and those that Keras has read.

        Also with random ones, where there are none, or where these could hide that some are swapped (`is_hidden`).

        Raises:
            UnverifiedError: where Keras runs on no inputs.
        """
        form = self._form()
        if weights:
            self._compare("", "file", {"weights": weights}, {"weights": self.original.parameters()})
            self._with("file", weights, form)
        if not weights or is_hidden:
            self.original.randomize()
            self._with("random", self.original.parameters(), form)

    @property
    def _batches(self) -> Sequence[int]:
        """The sizes of batches to try: that which the model fixes, or several, or one where inputs are large."""
        if self.original.batch is not None:
            return (self.original.batch,)
        numbers = sum(math.prod(size or 1 for size in x.shape[1:]) for x in self.ported.graph.inputs)
        return BATCHES if numbers < LARGE else (2,)

    def _form(self) -> inputs.Form:
        """A form of inputs that Keras takes."""
        graph = self.ported.graph
        for form in inputs.forms_of(graph):
            xs = inputs.inputs_of(graph, self._batches[-1], form)
            try:
                self.original.run(xs)
            except KerasError as error:
                reason = str(error)
            else:
                return form
        raise UnverifiedError(f"{self.original.name} can't run the model: {reason}")

    def _with(self, weights: str, parameters: Mapping[str, Tensor], form: inputs.Form) -> None:
        """Compares both sides, which have these weights, on inputs of this form."""
        self.ported.set_weights(parameters)
        batches = self._batches
        for batch in batches:
            xs = inputs.inputs_of(self.ported.graph, batch, form, seed=batch)
            self._side_by_side("evaluation", weights, xs, with_gradients=batch == batches[-1])
        self._side_by_side("training", weights, xs, with_gradients=True)

    def _side_by_side(self, mode: str, weights: str, xs: Sequence[Tensor], *, with_gradients: bool) -> None:
        """Runs both in a mode, and compares the results; if they are random, again with random layers in evaluation."""
        training = mode == "training"
        before, values = self.ported.parameters(), self.original.values()
        try:
            wanted = self.original.run(xs, training=training, with_gradients=with_gradients)
        except KerasError as error:
            what = f"gradients in {mode}" if with_gradients else mode
            self._leave_out(f"{what}: {self.original.name} fails in it: {error}")
            if with_gradients:
                self.original.restore(values)
                self._side_by_side(mode, weights, xs, with_gradients=False)
            return
        try:
            got = self.ported.run(xs, training=training, with_gradients=with_gradients)
        except PortError as error:
            self._fail(mode, weights, f"the port fails: {error}")
            return
        is_last = self.is_calm or not training
        is_random = got.is_random or wanted.is_random
        if is_last and (is_random or training):  # numbers may be drawn and not used, or not by a layer
            is_random = got.is_random or not self._repeats(wanted, xs, training, values)
        if is_random:
            if is_last:
                self._leave_out(f"{mode}: layers draw random numbers in it, so that no two runs are alike")
                return
            self._leave_out("what layers such as dropout do in training, which is random: there they did nothing")
            self.is_calm = True
            self.ported.calm(xs)
            self.original.calm(xs)
            self.ported.set_weights(before)
            self.original.restore(values)
            self._side_by_side(mode, weights, xs, with_gradients=with_gradients)
        elif len(got.outputs) != len(wanted.outputs):
            self._fail(mode, weights, f"there are {len(got.outputs)}, and {len(wanted.outputs)} of Keras's")
        else:
            if with_gradients and not self.original.has_gradients:
                where = f"Keras is imported on its {self.original.backend} backend"
                self._leave_out(f"gradients: {where}; on torch or TensorFlow they can be compared")
            mine = self._values(got, before)
            theirs = self._originals(wanted, got, before, training=training)
            failed = self._compare(mode, weights, mine, theirs)
            if failed:
                self._allow_for_rounding(failed, mode, xs, mine, before)

    def _repeats(self, wanted: Outcome, xs: Sequence[Tensor], training: bool, values: Sequence[NDArray[Any]]) -> bool:
        """Whether a second run of Keras gives the same: some of its layers draw numbers that they do not use."""
        self.original.restore(values)
        again = self.original.run(xs, training=training)
        pairs = zip(again.outputs, wanted.outputs, strict=True)
        return all(torch.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True) for a, b in pairs)

    def _values(self, got: Outcome, before: Mapping[str, Tensor]) -> Values:
        """What came of a run of the port."""
        moved = _moved(self.ported.parameters(), before)
        return {
            "outputs": dict(zip(self.ported.output_names, got.outputs, strict=True)),
            "penalties": {**got.penalties, SUM: _sum(got.penalties)} if got.penalties else {},
            "gradients": got.gradients,
            "statistics": self.ported.as_keras_2(moved, before) if self.original.is_legacy else moved,
        }

    def _originals(self, wanted: Outcome, got: Outcome, before: Mapping[str, Tensor], *, training: bool) -> Values:
        """What came of a run of Keras's, by the names of the port's.

        Keras gives penalties no names: where there are as many, they go by the order of their sizes.
        """
        penalties = {SUM: _sum(wanted.penalties)} if wanted.penalties or got.penalties else {}
        if len(got.penalties) == len(wanted.penalties):
            order = sorted(got.penalties, key=lambda name: float(got.penalties[name]))
            penalties |= dict(zip(order, sorted(wanted.penalties.values(), key=float), strict=True))
        moved = _moved(self.ported.parameters(), before)
        now = self.original.parameters() if training or moved else {}
        names = {*_moved(now, before), *moved}
        return {
            "outputs": dict(zip(self.ported.output_names, wanted.outputs, strict=True)),
            "penalties": penalties,
            "gradients": wanted.gradients,
            "statistics": {name: now[name] for name in now if name in names},
        }

    def _compare(self, mode: str, weights: str, mine: Values, theirs: Values) -> dict[int, Check]:
        """Adds the checks of everything that is there on both sides; gives failures by numbers, by their index."""
        failed = {}
        for name, gradient in mine.get("gradients", {}).items():
            if theirs["gradients"] and name not in theirs["gradients"] and gradient.any():
                note = "Keras trains no such weight"
                self.checks.append(self._check("gradients", mode, weights, name, note=note))
        for sort, originals in theirs.items():
            floor = _floor(sort, originals)
            for name, wanted in originals.items():
                got = mine[sort].get(name)
                if got is None:
                    if name == SUM or sort == "statistics":
                        got = torch.zeros_like(wanted) if name == SUM else self.ported.parameters()[name]
                    else:  # torch does not train it
                        continue
                if sort == "gradients" and got.shape == wanted.shape and not (is_finite := wanted.isfinite()).all():
                    self._leave_out(f"{sort} in {mode}: of {name}, where Keras's are not finite numbers")
                    got, wanted = got.where(is_finite, 0.0), wanted.where(is_finite, 0.0)
                error, note = difference(got, wanted, floor, sort), ""
                if got.shape != wanted.shape:
                    note = f"its shape is {tuple(got.shape)}, and Keras's {tuple(wanted.shape)}"
                elif math.isinf(error):
                    note = "numbers that are not finite, or not zero, on one side only"
                check = self._check(sort, mode, weights, name, error, note)
                if not check.passed and not note:
                    failed[len(self.checks)] = check
                self.checks.append(check)
        return failed

    def _allow_for_rounding(
        self, failed: Mapping[int, Check], mode: str, xs: Sequence[Tensor], mine: Values, before: Mapping[str, Tensor]
    ) -> None:
        """Allows errors as large as the port's own, where its weights are moved by their last digits.

        A deep network with batch normalization can turn these into a tenth of a gradient.
        """
        after = self.ported.parameters()
        moves: dict[str, float] = {}
        for seed in range(SHAKES if len(self._batches) > 1 else 1):
            shaken = _shaken(before, seed)
            self.ported.set_weights(shaken)
            values = self._values(
                self.ported.run(xs, training=mode == "training", with_gradients=bool(mine["gradients"])), shaken
            )
            for sort in {each.sort for each in failed.values()}:
                floor = _floor(sort, mine[sort])
                pairs = [(values[sort].get(name, each), each) for name, each in mine[sort].items()]
                found = [difference(moved, each, floor, sort) for moved, each in pairs]
                moves[sort] = max([moves.get(sort, 0.0), *found])
        self.ported.set_weights(after)
        for index, check in failed.items():
            allowed = min(MARGIN * moves[check.sort], MOST)
            if allowed > max(self.tolerance, SENSITIVE) and check.error <= allowed:
                self.checks[index] = replace(check, allowed=allowed)
                what = f"{check.sort} in {mode}"
                self.rounding[what] = max(self.rounding.get(what, 0.0), check.error)

    def _fail(self, mode: str, weights: str, note: str) -> None:
        self.checks.append(self._check("outputs", mode, weights, "all", note=note))

    def _check(self, sort: str, mode: str, weights: str, name: str, error: float = math.inf, note: str = "") -> Check:
        return Check(sort=sort, mode=mode, weights=weights, name=name, error=error, allowed=self.tolerance, note=note)

    def _leave_out(self, what: str) -> None:
        if what not in self.left_out:
            self.left_out.append(what)


def _moved(now: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a run has changed."""
    return {name: each for name, each in now.items() if not torch.equal(each, before[name])}


def _shaken(parameters: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Weights moved by about a millionth of what they are."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: each * (1 + 1e-6 * torch.randn(each.shape, generator=generator)) if each.is_floating_point() else each
        for name, each in parameters.items()
    }


def _floor(sort: str, values: Mapping[str, Tensor]) -> float:
    """The least size that an error of a sort is relative to."""
    sizes = [size(each.double(), sort) for each in values.values() if each.numel()]
    largest = max((each for each in sizes if math.isfinite(each)), default=0.0)
    return largest * (LEAST_GRADIENT if sort == "gradients" else LEAST)


def size(x: Tensor, sort: str) -> float:
    """How large a tensor is: its largest number; of gradients the norm, because a unit that turns on changes few."""
    return float(torch.linalg.vector_norm(x) if sort == "gradients" else x.abs().max())


def difference(got: Tensor, wanted: Tensor, floor: float, sort: str = "outputs") -> float:
    """The size of the difference of two tensors, relative to the size of the second, or to ``floor``.

    Numbers that are not finite must be the same ones in the same places.
    """
    if got.shape != wanted.shape:
        return math.inf
    a, b = got.double(), wanted.double()
    is_same = (a == b) | (a.isnan() & b.isnan())
    if is_same.all():
        return 0.0
    gap = size(torch.where(is_same, 0.0, a - b), sort)
    largest = max(size(b.where(b.isfinite(), 0.0), sort), floor)
    error = gap / largest if largest else math.inf
    return math.inf if math.isnan(error) else error


def _sum(penalties: Mapping[str, Tensor]) -> Tensor:
    return sum((each.double() for each in penalties.values()), torch.zeros((), dtype=torch.float64))
