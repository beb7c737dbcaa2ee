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
from regspec.keras.models import Model
from regspec.keras.references import names_in
from regspec.keras.values import UnportedError
from regspec.layers import KINDS
from regspec.targets.torch.program import Program, block_of
from regspec.targets.torch.steps import Step

Fields = dict[str, Any]  # of an entry

BARE = (
    "MultiHeadAttention takes the masks off the tensors that it is called on, so that the layers after it see padding"
)
WITH_STATE = "a recurrent layer that is given its initial state is not given the mask of its sequence"
STATEFUL = frozenset(("SimpleRNN", "LSTM", "GRU", "RNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"))
UNMASKING = frozenset(("MultiHeadAttention",))  # layers that take the masks off the tensors that they are called on


def settle(model: Model, program_of: Callable[[], Program], *, unmasks: bool) -> set[str]:
    """Names the masks in a model's entries that must be named, and no other; why masks were taken off, if any were.

    Args:
        model: its entries, and those of the models in it, are changed.
        program_of: gives the program of the model as it is now.
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
        taken_off |= _take_off(model, program_of(), unmasks)
    program = program_of()
    for each in _models(model):
        each.outputs = given[id(each)]
    _drop(model, program)
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


def _levels(model: Model, program: Program) -> Iterator[tuple[Model, Program]]:
    """A model and those in it, each with its program."""
    yield model, program
    for step in program.steps:
        if step.declares and (block := block_of(step)) is not None:
            yield from _levels(model.inner[step.name], block)


def _with_outputs(outputs: Any, more: list[str]) -> Any:
    if not more:
        return outputs
    if isinstance(outputs, dict):
        return {**outputs, **{f"mask_{index}": name for index, name in enumerate(more)}}
    return [*([outputs] if isinstance(outputs, str) else outputs), *more]


def _take_off(model: Model, program: Program, unmasks: bool) -> set[str]:
    """Has operations, and what Keras keeps a mask from, take none; the reasons of the latter."""
    reasons = set[str]()
    for each, level in _levels(model, program):
        bare: set[Symbol] = set()
        entries = _fields(each)
        for step in (step for step in level.steps if step.node is not None):
            said = entries[step.name]
            count = len(said["inputs"])
            own = [x for x in step.inputs[:count] if x.mask is not None]
            if step.lowered.mask is None and len(step.inputs) == count:  # it neither hands masks on nor reads them
                continue
            reason = None
            if not bare.isdisjoint(own):
                reason = BARE
            elif unmasks and count > 1 and step.lowered.kind in STATEFUL:
                reason = WITH_STATE
            if not own and said.get("mask") == []:
                del said["mask"]
            elif own and "mask" not in said and (step.name in each.operations or reason is not None):
                if reason == WITH_STATE and step.declares:
                    said["ignores_mask"] = True
                else:
                    said["mask"] = []
                reasons |= {reason} if reason is not None else set()
            if unmasks and step.lowered.kind in UNMASKING:
                bare.update(step.inputs)
    return reasons


def _drop(model: Model, program: Program) -> None:
    """Takes out the names of masks that the layers have anyway, and the operations that nothing uses then."""
    for each, level in _levels(model, program):
        made = {x: step for step in (*level.steps, *level.masks.values()) for x in step.outputs}
        named = {step.name: step for step in level.steps if step.node is not None}
        symbols = {x.source: given for x, given in zip(level.graph.inputs, level.inputs, strict=False)}
        symbols |= {name: step.outputs[0] for name, step in named.items()}
        entries = _fields(each)
        for name, masks in each.recorded.items():
            own = [x.mask and _structure(x.mask, made) for x in named[name].inputs[: len(entries[name]["inputs"])]]
            wanted = [mask and _structure(symbols[mask.partition(".")[0]], made) for mask in masks]
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


def _structure(x: Symbol, made: Mapping[Symbol, Step]) -> Any:
    """How a tensor is computed from those that modules give, as a value that can be compared."""
    step = made.get(x)
    if step is None or step.lowered.modules:
        return x
    pairs = zip(step.lowered.inputs, step.inputs, strict=True)
    own: dict[Expression, Expression] = {known: _Made(_structure(given, made)) for known, given in pairs}
    return _comparable(replaced(step.lowered.results[step.outputs.index(x)], own))


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
