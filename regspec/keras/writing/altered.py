"""What was done to a module after it was built, put into its graph: what is trained, and how strong penalties are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from regspec.graph.network import BlockNode, Graph, Node
from regspec.graph.resolved import Resolved, Term, weights_of
from regspec.keras.arrays.matching import WeightPath, steps_in
from regspec.language.penalties import Penalty
from regspec.language.regularizers import L1, L1L2, L2, Regularizer, Scheduled
from regspec.layers import Layer
from regspec.layers.layer import Weight
from regspec.modules.building import made_of
from regspec.modules.measuring import strengths
from regspec.targets.torch.program import program_of
from regspec.text.problems import Problem, RegspecError

Strengths = dict[str, float]  # of the regularizers of a term, by their names


def as_it_is(module: nn.Module, graph: Graph) -> tuple[Graph, list[Problem]]:
    """A module's graph with what is trained now, and with the strengths that penalties have now.

    With what no spec could say so: it stays as it was in the graph.

    Raises:
        RegspecError: where the module has no longer the weights of its graph.
    """
    with torch.random.fork_rng(devices=()):
        first = made_of(graph)
    _check_weights(module, first)
    trained = {name: each.requires_grad for name, each in first.named_parameters()}
    now = {name: each.requires_grad for name, each in module.named_parameters(remove_duplicate=False)}
    changed = {name for name in trained if now[name] != trained[name]}
    penalties, by_spec = _by_terms(strengths(module)), _by_terms(strengths(first))
    if not changed and penalties == by_spec:
        return graph, []
    changes = _Changes(now, changed, penalties, by_spec)
    found = dict(changes.of(graph))
    return _with(graph, found), [*changes.problems()]


def _check_weights(module: nn.Module, first: nn.Module) -> None:
    """Raises `RegspecError` where a module has other weights than one that was just built."""
    wanted, state = first.state_dict(), module.state_dict()
    for name in {**wanted, **state}:  # those of the spec first
        if name not in wanted or name not in state or wanted[name].shape != state[name].shape:
            what = f"'{name}' of the {type(module).__name__} is another than its spec says"
            raise RegspecError(Problem(what, "undo what replaces or parametrizes its modules, or say it in the spec"))
        if state[name].is_meta:
            raise RegspecError(Problem(f"'{name}' of the {type(module).__name__} has no numbers, on the device meta"))


def _by_terms(found: Mapping[str, float]) -> dict[str, Strengths]:
    """Strengths by the terms that they are of."""
    terms: dict[str, Strengths] = {}
    for name, strength in found.items():
        term, _, kind = name.rpartition(".")
        terms.setdefault(term, {})[kind] = strength
    return terms


@dataclass(frozen=True)
class _Change:
    """What a layer is now: whether it is trained, and the penalties of its slots that are others."""

    trainable: bool | None = None  # None where it is as it was
    regularizers: Mapping[str, Regularizer] = field(default_factory=dict)  # by the names of the terms


@dataclass
class _Changes:
    """What is another in a module than in its graph; what becomes part of a change is taken out of it."""

    trained: Mapping[str, bool]  # the parameters, now
    changed: set[str]  # parameters
    penalties: dict[str, Strengths]  # by terms, now
    by_spec: dict[str, Strengths]

    def of(self, graph: Graph) -> Iterator[tuple[WeightPath, _Change]]:
        """The changes of layers, by the ways to them."""
        for step, within, prefix in steps_in(program_of(graph)):
            resolved = step.lowered.resolved
            if resolved is None or resolved.layer.is_opaque:
                continue
            parameters = {
                weight: [f"{prefix}{step.attributes[weight.module]}.{key}" for key in weight.parameters]
                for weight in step.lowered.weights
            }
            change = _Change(
                self._trainable(resolved, parameters),
                dict(self._penalties(resolved, f"{prefix}{step.name}", parameters)),
            )
            if change != _Change():
                yield (*within, step.name), change

    def _trainable(self, resolved: Resolved, parameters: Mapping[Weight, list[str]]) -> bool | None:
        """Whether a layer is trained as a whole; None where it is as it was, or is neither."""
        names = [name for own in parameters.values() for name in own]
        is_stateful = any(not weight.trainable and not weight.is_loaded for weight in parameters)  # by what it sees
        if self.changed.isdisjoint(names) or is_stateful:
            return None
        now = {weight.name: {self.trained[name] for name in own} for weight, own in parameters.items()}
        for trainable in (False, True):
            layer = resolved.layer.model_copy(update={"trainable": trainable})
            if now == {each.name: {each.trainable and not each.frozen} for each in weights_of(layer, resolved.inputs)}:
                self.changed.difference_update(names)
                return trainable
        return None

    def _penalties(
        self, resolved: Resolved, at: str, parameters: Mapping[Weight, list[str]]
    ) -> Iterator[tuple[str, Regularizer]]:
        """The regularizers of a layer's terms that are others now."""
        own = {each.slot: each.regularizer for term in resolved.terms if (each := term.alone) is not None}
        for slot, regularizer in own.items():
            given, wanted = (each.get(f"{at}.{slot}", {}) for each in (self.penalties, self.by_spec))
            if given.keys() == wanted.keys() and given != wanted:
                yield slot, _with_strengths(regularizer, [*given.values()])
                del self.penalties[f"{at}.{slot}"], self.by_spec[f"{at}.{slot}"]
        for weight, names in parameters.items():
            added = self.penalties.get(names[0], {}) if len(names) == 1 and weight.name not in own else {}
            if added and added.keys() <= PLAIN.keys():
                yield weight.name, Regularizer(tuple(PLAIN[kind](strength=each) for kind, each in added.items()))
                del self.penalties[names[0]]

    def problems(self) -> Iterator[Problem]:
        """What is left."""
        for name in self.trained:
            if name in self.changed:
                done, said = ("trained", "not") if self.trained[name] else ("frozen", "trained")
                yield Problem(f"'{name}' is {done}, and by the spec it is {said}", "say 'trainable' at its layer")
        for term in {**self.by_spec, **self.penalties}:
            by_spec, now = self.by_spec.get(term, {}), self.penalties.get(term, {})
            for kind in {**by_spec, **now}:
                if by_spec.get(kind) != now.get(kind):
                    told = " and ".join(
                        f"{found[kind]:g} {where}" if kind in found else f"absent {where}"
                        for found, where in ((now, "in the module"), (by_spec, "in its spec"))
                    )
                    yield Problem(f"the penalty {term}.{kind} is {told}", "say it in the spec")


PLAIN: dict[str, type[L1] | type[L2]] = {"l1": L1, "l2": L2}  # the regularizers that a strength makes


def _with_strengths(regularizer: Regularizer, given: Iterable[float]) -> Regularizer:
    """A regularizer with these strengths of its penalties, in their order; what is scheduled stays as it was."""
    left = iter(given)
    parts: list[Penalty | Scheduled] = []
    for part in regularizer.parts:
        penalty = part.penalty if isinstance(part, Scheduled) else part
        names = ("l1", "l2") if isinstance(penalty, L1L2) else ("strength",)
        now = {name: next(left) for name in names}
        is_plain = not isinstance(part, Scheduled) and {*now} <= {*type(penalty).model_fields}
        parts.append(penalty.model_copy(update=now) if is_plain else part)
    return Regularizer(tuple(parts), regularizer.reduction)


def _with(graph: Graph, changes: Mapping[WeightPath, _Change], within: WeightPath = ()) -> Graph:
    """A graph with changes of its layers, and of those in its blocks."""
    made: dict[Node, Any] = {}
    for node in graph.nodes:
        first = made.get(node.first) if node.first is not None else None
        if isinstance(node, BlockNode):
            block = first.block if first is not None else _with(node.block, changes, (*within, node.name))
            made[node] = replace(node, block=block, first=first)
        else:
            change = changes.get((*within, (node.first or node).name), _Change())
            made[node] = replace(node, resolved=_changed(node.resolved, change), first=first)
    return replace(graph, nodes=tuple(made.values()))


def _changed(resolved: Resolved, change: _Change) -> Resolved:
    """A layer with its change."""
    layer, said, weights = resolved.layer, resolved.said, resolved.weights
    if change.trainable is not None:
        layer, said = _trained(layer, trainable=change.trainable), _trained(said, trainable=change.trainable)
        weights = weights_of(layer, resolved.inputs)
    own = {weight.name for weight in weights}
    terms = {
        term.slot: replace(term, regularizer=change.regularizers.get(term.slot, term.regularizer))
        for term in resolved.terms
    }
    for slot, regularizer in change.regularizers.items():
        if slot in own:
            terms.setdefault(slot, Term(slot, regularizer, slot))
    activity = change.regularizers.get("activity", resolved.activity)
    return replace(resolved, layer=layer, said=said, weights=weights, terms=tuple(terms.values()), activity=activity)


def _trained(layer: Layer, *, trainable: bool) -> Layer:
    return layer.model_copy(update={"trainable": trainable})
