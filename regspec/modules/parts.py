"""Parts of terms that are on another route than the loss, and the weights that they are of."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import nn

from regspec.runtime.kernels.sharded import is_sharded
from regspec.runtime.penalties.compiling import forget_compiled
from regspec.runtime.penalties.listeners import Listener
from regspec.runtime.penalties.schedules import Scheduled
from regspec.runtime.penalties.state import Penalized
from regspec.runtime.penalties.terms import WeightTerm
from regspec.runtime.penalties.tracing import without_schedule
from regspec.runtime.penalties.units import UnitTerm
from regspec.runtime.penalties.weights import owner_at, parameter_at, sources_at

Route = Literal["loss", "gradient", "decay", "proximal"]
Now = tuple[tuple[nn.Parameter, ...], bool]  # the parameters of a weight, and whether it is computed from them


@dataclass(frozen=True)
class Part:
    """A part of a term, on a route other than the loss."""

    name: str
    kind: str  # l1, l2, group_lasso, other
    route: Route
    term: WeightTerm | Listener
    index: int  # in the term
    owner: Penalized
    parameters: tuple[nn.Parameter, ...]  # when it was bound; what the weight is computed from, if it is
    is_computed: bool
    direction: float = 1.0  # of an output's, whose gradient a climbing optimizer takes the other way
    is_tied: bool = False  # of units: whether another term of units has some of the parameters, too

    @property
    def adds_parameters(self) -> bool:
        """Whether it is of the sum of several parameters."""
        return isinstance(self.term, WeightTerm) and self.term.adds_parameters

    @property
    def is_of_units(self) -> bool:
        """Whether it is of units, each with slices of several parameters."""
        return isinstance(self.term, UnitTerm)

    @property
    def scheduled(self) -> Scheduled | None:
        """The part, if its strength follows a schedule."""
        part = self.term.parts[self.index]
        return part if isinstance(part, Scheduled) else None

    @property
    def regularizer(self) -> Any:
        """The part without its schedule."""
        return without_schedule(self.term.parts[self.index])[0]

    @property
    def factor(self) -> float:
        """What the schedule multiplies the strength by now."""
        return without_schedule(self.term.parts[self.index])[1]

    @property
    def strength(self) -> float:
        """The strength of an L1, an L2 or a group lasso now."""
        regularizer, factor = without_schedule(self.term.parts[self.index])
        strength: float = regularizer.strength
        return strength * factor

    def put(self, route: Route) -> None:
        """Puts it on a route."""
        self.term.routes[self.index] = route
        self.term.refresh()
        if isinstance(self.term, Listener):
            self.term.direction = self.direction if self.term.carried else 1.0
            forget_compiled()

    def now(self) -> Now:
        """The parameters of the weight now, and whether it is computed from them.

        Raises:
            RuntimeError: where the weight is gone; or where it is another one, and the route is not the gradient's.
        """
        assert isinstance(self.term, WeightTerm)
        found = map(partial(parameter_at, self.owner), self.term.ways)
        if not self.is_computed and all(map(operator.is_, found, self.parameters)):
            return self.parameters, False  # nearly always, and the rest takes longer
        try:
            parameters, is_computed = weights_of(self.owner, self.term)
        except RuntimeError as error:
            raise removed_first(error) from None
        if not is_computed and _are_same(parameters, self.parameters):
            return self.parameters, False
        if self.route == "gradient" and not is_of_forward(self.owner, self.term):
            return parameters, is_computed
        what = "computed now, as by a parametrization" if is_computed else "another parameter"
        raise RuntimeError(f"the weight of '{self.name}', on the {self.route} route, has become {what}. {AGAIN}")


AGAIN = "Remove the binding, and bind the model again"
GONE = f"is none of the optimizer's parameters any more. {AGAIN}"


def removed_first(error: RuntimeError) -> RuntimeError:
    """The error of a weight that is gone, with what to do first, because a model that is bound keeps its penalties."""
    return RuntimeError(f"{error}. Remove the binding before that")


def weights_of(owner: Penalized, term: WeightTerm) -> Now:
    """The parameters of a term's weight; where it is computed, those of the module that has it, and True.

    Raises:
        RuntimeError: where the weight is gone.
    """
    found = [sources_at(owner, way) for way in term.ways]
    parameters = [each for sources, _ in found for each in sources]
    is_computed = any(each for _, each in found)
    return tuple(dict.fromkeys(parameters) if is_computed else parameters), is_computed


def is_of_forward(owner: Penalized, term: WeightTerm) -> bool:
    """Whether a weight is computed in the forward, as pruning does: a backward frees its graph."""
    return any(way[-1] in vars(owner_at(owner, way)) for way in term.ways)


def _are_same(parameters: tuple[Any, ...], others: tuple[Any, ...]) -> bool:
    """Whether they are the same; FSDP puts a plain parameter in the place of a sharded one while a module computes."""
    return len(parameters) == len(others) and all(
        one is other or (is_sharded(other) and not is_sharded(one))
        for one, other in zip(parameters, others, strict=True)
    )
