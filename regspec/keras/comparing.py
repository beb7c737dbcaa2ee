"""A port beside its original, on the same inputs: what is compared, and how far apart it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from regspec.keras import inputs
from regspec.keras.outcomes import Outcome, Ported
from regspec.keras.reference import Reference, UnverifiedError, said

BATCHES = (1, 2, 5)
SUM = "their sum"
# Errors are relative to the largest number of a tensor, but to no less than this share of the largest of its sort.
LEAST = 1e-3
LEAST_GRADIENT = 1e-2  # some are zero but for rounding: of a bias before a batch normalization


@dataclass(frozen=True)
class Check:
    """One thing that was compared: of what sort, in which mode, with which weights, and how far apart it is."""

    sort: str  # weights, outputs, penalties, gradients or statistics
    mode: str  # evaluation or training; of weights none
    weights: str  # file or random
    name: str
    error: float  # the largest difference, relative to the largest number

    def __str__(self) -> str:
        where = f" in {self.mode}" if self.mode else ""
        return f"{self.sort}{where}: {self.name}"


@dataclass
class Comparison:
    """Runs both sides, and notes how far apart they are, and what could not be compared."""

    ported: Ported
    original: Reference
    checks: list[Check] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def run(self, weights: Mapping[str, Tensor], *, is_hidden: bool) -> None:
        """Compares all that can be compared, with these weights of the port's, and those that Keras has read.

        Without any, or where what they are could hide (`is_hidden`) that some are swapped, also with random ones.

        Raises:
            UnverifiedError: where Keras runs on no inputs.
        """
        self.sizes = self._sizes()
        if weights:
            self._compare("weights", "", "file", weights, self.original.parameters(), LEAST)
            self._with("file", weights)
        if not weights or is_hidden:
            self.original.randomize()
            self._with("random", self.original.parameters())

    def _sizes(self) -> tuple[int, int]:
        """Sizes for the axes that have none, such that Keras takes them."""
        graph = self.ported.graph
        for sizes in inputs.SIZES if inputs.has_unknown_sizes(graph) else inputs.SIZES[:1]:
            try:
                self.original.run(inputs.inputs_of(graph, self.original.batch or BATCHES[-1], sizes))
            except Exception as error:  # whatever Keras raises
                reason = said(error)
            else:
                return sizes
        raise UnverifiedError(f"{self.original.name} can't run the model: {reason}")

    def _with(self, weights: str, parameters: Mapping[str, Tensor]) -> None:
        """Compares both sides, which have these weights."""
        self.ported.load(parameters)
        batches = BATCHES if self.original.batch is None else (self.original.batch,)
        for batch in batches:
            xs = inputs.inputs_of(self.ported.graph, batch, self.sizes, seed=batch)
            self._side_by_side("evaluation", weights, xs, with_gradients=batch == batches[-1])
        before = self.ported.parameters()
        if self._side_by_side("training", weights, xs, with_gradients=True):
            mine, theirs = self.ported.parameters(), self.original.parameters()
            moved = [
                name
                for name in theirs
                if not torch.equal(mine[name], before[name]) or not torch.equal(theirs[name], before[name])
            ]
            if moved:
                self._compare("statistics", "training", weights, {name: mine[name] for name in moved}, theirs, LEAST)

    def _side_by_side(self, mode: str, weights: str, xs: Sequence[Tensor], *, with_gradients: bool) -> bool:
        """Runs both in a mode, and compares what comes of it; whether it could be compared."""
        training = mode == "training"
        try:
            wanted = self.original.run(xs, training=training, with_gradients=with_gradients)
        except Exception as error:  # whatever Keras raises
            self._leave_out(f"{mode}: {self.original.name} fails in it: {said(error)}")
            return False
        try:
            got = self.ported.run(xs, training=training, with_gradients=with_gradients)
        except Exception as error:  # whatever torch raises, which is the finding
            self.checks.append(Check("outputs", mode, weights, f"the port fails: {said(error)}", math.inf))
            return False
        if got.is_random or wanted.is_random:
            self._leave_out(f"{mode}: layers such as dropout draw random numbers in it, so that no two runs are alike")
            return False
        self._compare_outputs(mode, weights, got, wanted)
        self._compare_penalties(mode, weights, got, wanted)
        if with_gradients and self.original.has_gradients:
            mine = {name: each for name, each in got.gradients.items() if name in wanted.gradients}
            self._compare("gradients", mode, weights, mine, wanted.gradients, LEAST_GRADIENT)
        elif with_gradients:
            what = f"gradients: Keras is imported on its {self.original.backend} backend"
            self._leave_out(f"{what}; on torch or TensorFlow they can be compared")
        return True

    def _compare_outputs(self, mode: str, weights: str, got: Outcome, wanted: Outcome) -> None:
        if len(got.outputs) != len(wanted.outputs):
            what = f"{len(got.outputs)} outputs, and {len(wanted.outputs)} of Keras's"
            self.checks.append(Check("outputs", mode, weights, what, math.inf))
            return
        names = self.ported.output_names
        self._compare(
            "outputs",
            mode,
            weights,
            dict(zip(names, got.outputs, strict=True)),
            dict(zip(names, wanted.outputs, strict=True)),
            LEAST,
        )

    def _compare_penalties(self, mode: str, weights: str, got: Outcome, wanted: Outcome) -> None:
        """By term where Keras has as many, in the order of their sizes, because it gives no names; and their sums."""
        mine = {**got.penalties, SUM: _sum(got.penalties)}
        theirs = {SUM: _sum(wanted.penalties)}
        if len(got.penalties) == len(wanted.penalties):
            order = sorted(got.penalties, key=lambda name: float(got.penalties[name]))
            theirs |= dict(zip(order, sorted(wanted.penalties.values(), key=float), strict=True))
        if got.penalties or wanted.penalties:
            self._compare("penalties", mode, weights, {name: mine[name] for name in theirs}, theirs, LEAST)

    def _compare(
        self,
        sort: str,
        mode: str,
        weights: str,
        mine: Mapping[str, Tensor],
        theirs: Mapping[str, Tensor],
        least: float,
    ) -> None:
        sizes = [float(each.double().abs().max()) for each in theirs.values() if each.numel()]
        floor = least * max((size for size in sizes if math.isfinite(size)), default=0.0)
        for name, got in mine.items():
            wanted = theirs[name]
            if sort == "gradients" and got.shape == wanted.shape and not (is_finite := wanted.isfinite()).all():
                self._leave_out(f"{sort} in {mode}: of {name}, where Keras's are not finite numbers")
                got, wanted = got.where(is_finite, 0.0), wanted.where(is_finite, 0.0)
            self.checks.append(Check(sort, mode, weights, name, difference(got, wanted, floor)))

    def _leave_out(self, what: str) -> None:
        if what not in self.left_out:
            self.left_out.append(what)


def difference(got: Tensor, wanted: Tensor, floor: float) -> float:
    """The largest difference of two tensors, relative to the largest number of the second, or to ``floor``.

    Numbers that are not finite must be the same ones in the same places.
    """
    if got.shape != wanted.shape:
        return math.inf
    a, b = got.double(), wanted.double()
    is_same = (a == b) | (a.isnan() & b.isnan())
    if is_same.all():
        return 0.0
    gap = torch.where(is_same, 0.0, (a - b).abs())
    largest = max(float(b[b.isfinite()].abs().max()) if b.isfinite().any() else 0.0, floor)
    error = float(gap.max()) / largest if largest else math.inf
    return math.inf if math.isnan(error) else error


def _sum(penalties: Mapping[str, Tensor]) -> Tensor:
    return sum((each.double() for each in penalties.values()), torch.zeros((), dtype=torch.float64))
