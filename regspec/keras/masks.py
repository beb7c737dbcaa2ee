"""Masks in Keras's graphs: those that a spec's layers hand on by themselves, and those that must be named.

Keras 3 records how masks are computed, as operations, and with which mask a layer was called; at run time its layers
hand masks on besides. A port first names every mask that was recorded. Then the graph tells which of them the layers
would have anyway, because they are computed alike from the same tensors: these names, and what only they used, go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from regspec.code.expressions import Expression, replaced
from regspec.code.shapes import Symbol
from regspec.graph.blocks import Graph
from regspec.graph.nodes import Node
from regspec.keras.models import Model
from regspec.keras.references import names_in
from regspec.keras.values import UnportedError
from regspec.layers import KINDS

Fields = dict[str, Any]  # of an entry

BARE = (
    "MultiHeadAttention takes the masks off the tensors that it is called on, so that the layers after it see padding"
)
WITH_STATE = "a recurrent layer that is given its initial state is not given the mask of its sequence"
STATEFUL = frozenset(("SimpleRNN", "LSTM", "GRU", "RNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"))
UNMASKING = frozenset(("MultiHeadAttention",))  # layers that take the masks off the tensors that they are called on


def settle(model: Model, graph_of: Callable[[], Graph], *, unmasks: bool) -> set[str]:
    """Names the masks in a model's entries that must be named, and no other; why masks were taken off, if any were.

    Args:
        model: its entries, and those of the models in it, are changed.
        graph_of: the graph of the model as it is now.
        unmasks: whether masks are lost at run time as in Keras 3.
    """
    given = {id(each): each.outputs for each in _models(model)}
    for each in _models(model):
        entries, apart = _fields(each), list[str]()
        for name, masks in each.recorded.items():
            called = entries[name].get("layer")  # by a further call, or the layer in a wrapper
            if (called if isinstance(called, str) else name) in each.inner:  # a model inside has those of its inputs
                apart += [mask for mask in masks if mask is not None]
            else:
                entries[name]["mask"] = masks
        each.outputs = _with_outputs(each.outputs, apart)  # so that they are computed
    taken_off = set[str]()
    for _ in range(2):  # in the second round without the masks that the first took off
        taken_off |= _take_off(model, graph_of(), unmasks)
    graph = graph_of()
    for each in _models(model):
        each.outputs = given[id(each)]
    _drop(model, graph)
    return taken_off


def needs_settling(model: Model) -> bool:
    """Whether a model has masks at all."""
    return any(each.recorded or any(map(_gives_mask, each.entries)) for each in _models(model))


def _gives_mask(entry: Mapping[str, Fields]) -> bool:
    """Whether an entry makes a mask: an embedding that may, or a layer that is for masking."""
    ((kind, said),) = entry.items()
    return bool(said.get("mask_zero")) or (kind in KINDS and "mask_value" in KINDS[kind].model_fields)


def _models(model: Model) -> Iterator[Model]:
    yield model
    for inner in model.inner.values():
        yield from _models(inner)


def _fields(model: Model) -> dict[str, Fields]:
    """The fields of a model's entries, by name."""
    return {said["name"]: said for entry in model.entries for said in entry.values()}


def levels(model: Model, graph: Graph) -> Iterator[tuple[Model, Graph]]:
    """A model and those in it, each with its graph."""
    yield model, graph
    for node in graph.nodes:
        block = node.plan.block
        if isinstance(block, Graph) and node.declares:
            yield from levels(model.inner[node.name], block)


def _with_outputs(outputs: Any, more: list[str]) -> Any:
    if not more:
        return outputs
    if isinstance(outputs, dict):
        return {**outputs, **{f"mask_{index}": name for index, name in enumerate(more)}}
    return [*([outputs] if isinstance(outputs, str) else outputs), *more]


def _take_off(model: Model, graph: Graph, unmasks: bool) -> set[str]:
    """Has operations, and what Keras keeps a mask from, take none; the reasons of the latter."""
    reasons = set[str]()
    for each, level in levels(model, graph):
        bare: set[int] = set()
        entries = _fields(each)
        for node in level.nodes:
            if node.is_adapter:
                continue
            said = entries[node.name]
            count = len(said["inputs"])
            own = [x for x in node.inputs[:count] if x.mask is not None]
            if node.plan.mask is None and len(node.inputs) == count:  # it neither hands masks on nor reads them
                continue
            reason = None
            if any(id(x) in bare for x in own):
                reason = BARE
            elif unmasks and count > 1 and node.plan.kind in STATEFUL:
                reason = WITH_STATE
            if not own and said.get("mask") == []:
                del said["mask"]
            elif own and "mask" not in said and (node.name in each.operations or reason is not None):
                if reason == WITH_STATE and node.declares:
                    said["ignores_mask"] = True
                else:
                    said["mask"] = []
                reasons |= {reason} if reason is not None else set()
            if unmasks and node.plan.kind in UNMASKING:
                bare.update(id(x) for x in node.inputs)
    return reasons


def _drop(model: Model, graph: Graph) -> None:
    """Takes out the names of masks that the layers have anyway, and the operations that nothing uses then."""
    for each, level in levels(model, graph):
        made = {id(x): node for node in (*level.nodes, *level.masks.values()) for x in node.outputs}
        named = {node.name: node for node in level.nodes if not node.is_adapter}
        entries = _fields(each)
        for name, masks in each.recorded.items():
            own = [x.mask and _structure(x.mask, made) for x in named[name].inputs[: len(entries[name]["inputs"])]]
            wanted = [mask and _structure(named[mask.partition(".")[0]].outputs[0], made) for mask in masks]
            if wanted == own[: len(wanted)] and not any(own[len(wanted) :]):
                entries[name].pop("mask", None)
            elif "mask" not in entries[name]:
                raise UnportedError(f"the call of '{name}', a model, with a mask that its input does not have")
        used = {reference.partition(".")[0] for reference in names_in(each.outputs)}
        for entry in reversed([*each.entries]):
            ((_, said),) = entry.items()
            if said["name"] in each.operations and said["name"] not in used:
                each.entries.remove(entry)
                continue
            used.update(name.partition(".")[0] for name in (*said["inputs"], *(said.get("mask") or ())) if name)


def _structure(x: Symbol, made: Mapping[int, Node]) -> Any:
    """How a tensor is computed from those that modules give, as a value that can be compared."""
    node = made.get(id(x))
    if node is None or node.plan.modules:
        return id(x)
    own: dict[Expression, Expression] = {}
    own |= {known: _Made(_structure(given, made)) for known, given in zip(node.plan.inputs, node.inputs, strict=True)}
    return _comparable(replaced(node.plan.results[node.outputs.index(x)], own))


class _Made(Expression):
    """A tensor in an expression, known by how it is computed."""

    def __init__(self, structure: Any) -> None:
        self.structure = structure


def _comparable(value: Any) -> Any:
    if isinstance(value, _Made):
        return value.structure
    if isinstance(value, (list, tuple)):
        return tuple(map(_comparable, value))
    if isinstance(value, dict):
        return tuple((name, _comparable(each)) for name, each in value.items())
    if is_dataclass(value):
        return type(value).__name__, *(_comparable(getattr(value, part.name)) for part in fields(value))
    return value
