"""Terms: a regularizer of a weight, or of several, as the parts of its sum. What hears outputs is in `listeners`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from functools import partial
from itertools import chain, count
from typing import Any

import torch
from torch import Tensor, nn

from regspec.runtime.kernels.sharded import penalty_of, whole
from regspec.runtime.penalties.regularizers import L1, L1L2, L2, Apart, Sum, WithWeights
from regspec.runtime.penalties.schedules import Scheduled
from regspec.runtime.penalties.tracing import Strengths, Traced, strength_now, traced, without_schedule
from regspec.runtime.penalties.weights import (
    identity_at,
    is_trained_at,
    parameter_at,
    tensor_at,
    weight_at,
)

Regularizer = Callable[[Tensor], Tensor]
_WRAPPERS = (Scheduled, Apart, WithWeights)
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # before which a name has another word


class Term:
    """A regularizer in its place, as the parts of its sum; each is on the loss, or where `regspec.bind` moved it."""

    def __init__(self, regularizer: Regularizer) -> None:
        self.parts = tuple(_summands(regularizer))
        self.routes = ["loss"] * len(self.parts)
        self.scheduled = tuple(part for part in self.parts if isinstance(part, Scheduled))
        own = [without_schedule(part)[0] for part in self.parts]
        self.adds_up = all(isinstance(part, (L1, L2)) for part in own)  # the penalty is the sum of those of all shards
        self.takes_weights = any(isinstance(part, WithWeights) for part in own)
        self.traced = self.parts  # until it has a place
        self.refresh()

    def place(self, strengths: Strengths, first: int) -> None:
        """Says which tensor has its strengths in compiled code, and the index of its first part's."""
        self.traced = tuple([traced(part, strengths, index) for index, part in enumerate(self.parts, first)])

    def refresh(self) -> None:
        """Computes what is on the loss: ``strengths``, of its L1 and L2 as they are now, and ``others``, the rest."""
        self.carried = tuple(
            part for part, route in zip(self.parts, self.routes, strict=True) if route == "gradient"
        )  # of an output: by the backward pass
        for part, in_code in zip(self.parts, self.traced, strict=True):
            if isinstance(in_code, Traced):
                in_code.strengths.set(in_code.index, strength_now(part))
        l1, l2, others = 0.0, 0.0, []
        for part in self.on_loss():
            own, factor = without_schedule(part)
            if isinstance(own, L1):
                l1 += own.strength * factor
            elif isinstance(own, L2):
                l2 += own.strength * factor
            else:
                others.append(part)
        self.strengths = (l1, l2)
        self.others = tuple(others)

    def set_strength(self, kind: str, strength: float) -> None:
        """Gives a part another strength, before its schedules. ``kind`` is its name in `kinds`.

        Raises:
            ValueError: where it has no strength of its own, or the optimizer has it as a weight decay.
        """
        index = self.kinds.index(kind)
        if self.routes[index] == "decay":
            raise ValueError("it is the optimizer's weight_decay: give that another one, or bind the model anew")
        self.parts = (*self.parts[:index], _with_strength(self.parts[index], strength), *self.parts[index + 1 :])
        self.scheduled = tuple(part for part in self.parts if isinstance(part, Scheduled))
        self.refresh()

    @property
    def kinds(self) -> list[str]:
        """The names of the parts' regularizers, ``group_lasso``; further ones of a name count on, ``group_lasso_1``."""
        made: list[str] = []
        for part in self.parts:
            name = _CAPITAL.sub("_", _name_of(innermost(part))).lower()
            numbered = (f"{name}_{number}" for number in count(1))
            made.append(next(each for each in chain((name,), numbered) if each not in made))
        return made

    def unbound(self) -> Any:
        """Itself, if all its parts are on the loss, or else a copy that has them there."""
        return self if set(self.routes) <= {"loss"} else copy(self)

    def __getstate__(self) -> dict[str, Any]:
        if set(self.routes) <= {"loss"}:
            return self.__dict__
        made = object.__new__(type(self))  # a copy is bound to no optimizer
        made.__dict__.update(self.__dict__, routes=["loss"] * len(self.parts))
        made.refresh()
        return made.__dict__

    def on_loss(self) -> Iterable[Regularizer]:
        """The parts that are on the loss."""
        return [part for part, route in zip(self.now(), self.routes, strict=True) if route == "loss"]

    def now(self) -> tuple[Regularizer, ...]:
        """The parts, as eager code computes them, or compiled code."""
        return self.traced if torch.compiler.is_compiling() else self.parts

    def penalty(self, x: Tensor, parts: Iterable[Regularizer] | None = None, share: float = 1.0) -> Tensor:
        """The penalty of a tensor, a scalar; or some parts of it.

        It is multiplied by ``share``, unless it is a mean over the batch by itself.
        """
        penalties = []
        for part in self.now() if parts is None else parts:
            penalty = penalty_of(part, x)
            penalties.append(penalty if share == 1.0 or getattr(part, "averages_batch", False) else penalty * share)
        return sum(penalties[1:], penalties[0])


def _summands(regularizer: Regularizer) -> Iterator[Regularizer]:
    """The regularizers that one is the sum of, each with the schedules of the whole."""
    if isinstance(regularizer, Scheduled):
        for part in _summands(regularizer.regularizer):
            yield Scheduled(part, *regularizer.schedules)
    elif isinstance(regularizer, (Sum, L1L2)):
        for part in regularizer.parts:
            yield from _summands(part)
    else:
        yield regularizer


def innermost(regularizer: Any) -> Any:
    """A regularizer without what it is wrapped in."""
    while isinstance(regularizer, _WRAPPERS):
        regularizer = regularizer.regularizer
    return regularizer


def _name_of(regularizer: Any) -> str:
    """The name of a regularizer's class, or of the function that it is."""
    function = regularizer.func if isinstance(regularizer, partial) else regularizer
    return str(getattr(function, "__name__", type(function).__name__))


def _with_strength(regularizer: Any, strength: float) -> Any:
    """A regularizer like another one, with this strength."""
    if isinstance(regularizer, _WRAPPERS):
        made = copy(regularizer)
        object.__setattr__(made, "regularizer", _with_strength(regularizer.regularizer, strength))
        return made
    if isinstance(regularizer, partial) and "strength" in regularizer.keywords:
        return partial(regularizer.func, *regularizer.args, **{**regularizer.keywords, "strength": strength})
    if not hasattr(regularizer, "strength"):
        raise ValueError("it has no strength of its own")
    made = copy(regularizer)
    object.__setattr__(made, "strength", strength)
    return made


class WeightTerm(Term):
    """A regularizer of one parameter, or of several, stacked or added, by their paths in the module."""

    def __init__(
        self,
        regularizer: Regularizer,
        parameters: tuple[str, ...],
        counts_frozen: bool = False,
        adds_parameters: bool = False,
    ) -> None:
        super().__init__(regularizer)
        self.parameters = parameters
        self.counts_frozen = counts_frozen
        self.adds_parameters = adds_parameters
        self.ways = tuple(tuple(path.split(".")) for path in parameters)

    def at(self, parameters: tuple[str, ...]) -> WeightTerm:
        """A term like this one, which has no place yet, for other parameters."""
        made = object.__new__(type(self))
        ways = tuple(tuple(path.split(".")) for path in parameters)
        made.__dict__.update(self.__dict__, routes=[*self.routes], parameters=parameters, ways=ways)
        return made

    def weight(self, module: nn.Module, seen: Seen | None = None) -> Tensor | None:
        """The weight now; None where it is frozen, and where another term has it that was ``seen``.

        A tensor that `functional_call` puts in the parameter's place is never frozen.
        """
        if len(self.ways) == 1:  # nearly always to a parameter that no other term has
            parameter = parameter_at(module, self.ways[0])
            is_trained = parameter is not None and parameter.requires_grad
            if is_trained and (seen is None or seen.first.setdefault(parameter, (self, module))[0] is self):
                return parameter
        if seen is not None and self.is_seen(module, seen):
            return None
        if len(self.ways) == 1:
            return weight_at(module, self.ways[0], self.counts_frozen)
        found = [weight_at(module, way, self.counts_frozen) for way in self.ways]
        if self.adds_parameters and any(each is not None for each in found):
            pairs = zip(found, self.ways, strict=True)
            found = [tensor_at(module, way).detach() if each is None else each for each, way in pairs]
        parameters = [each for each in found if each is not None]
        return self.joined(parameters) if len(parameters) == len(self.ways) else None

    def joined(self, parameters: Sequence[Tensor]) -> Tensor:
        """The weight that parameters make up."""
        if len(parameters) == 1:
            return parameters[0]
        wholes = [whole(each) for each in parameters]
        return sum(wholes[1:], wholes[0]) if self.adds_parameters else torch.stack(wholes)

    def is_trained(self, module: nn.Module) -> bool:
        """Whether its penalty has a gradient: the weight is not frozen, or not all of it is, where that counts too.

        Raises:
            RuntimeError: where the weight is gone.
        """
        found = [is_trained_at(module, way) for way in self.ways]
        return any(found) if self.adds_parameters or self.counts_frozen else all(found)

    def is_seen(self, module: nn.Module, seen: Seen) -> bool:
        """Whether another term has the weight by another path: they were tied. By one path it may have several."""
        first, *others = [identity_at(module, way) for way in self.ways]
        term, owner = seen.first.setdefault((first, *others) if others else first, (self, module))
        if term is self:
            return False
        if owner is module:
            return term.parameters != self.parameters
        return seen.paths(term, owner) != seen.paths(self, module)


class Seen:
    """Of each weight in these modules, the first term that has it, and the module that has the term."""

    def __init__(self, *roots: nn.Module) -> None:
        self.roots = roots
        self.first: dict[object, tuple[WeightTerm, nn.Module]] = {}
        self.slices: dict[object, dict[Any, Any]] = {}  # of each weight, those of units, in their order
        self._names: dict[nn.Module, tuple[int, str]] = {}  # once they are asked for, which is rare

    def paths(self, term: WeightTerm, owner: nn.Module) -> set[tuple[int, str]]:
        """The paths of a term's parameters, each with the number of its root."""
        if not self._names:
            for index, root in enumerate(self.roots):
                for name, part in root.named_modules():
                    self._names.setdefault(part, (index, f"{name}." if name else ""))
        index, prefix = self._names[owner]
        return {(index, prefix + path) for path in term.parameters}
