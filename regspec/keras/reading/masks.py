"""Masks in Keras's graphs: those that a spec's layers hand on by themselves, and those that must be named.

Keras 3 records how masks are computed, as operations, and with which mask a layer was called; at run time its layers
hand masks on besides. A port first names every mask that was recorded. Then the graph shows which masks the layers
would have anyway, because they are computed in the same way from the same tensors: these names are removed, and so are
operations that only they used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from regspec.code.expressions import Expression, replaced
from regspec.code.shapes import Symbol
from regspec.graph.network import LayerNode
from regspec.keras.configs.kinds import nearest
from regspec.keras.configs.models import Entry, Fields, Model
from regspec.keras.configs.references import names_in
from regspec.keras.configs.values import UnportedError
from regspec.layers.attention_heads import MultiHeadAttention
from regspec.layers.kinds import KINDS
from regspec.layers.layer import Layer
from regspec.layers.masking import Masking
from regspec.layers.recurrent import Recurrent
from regspec.targets.torch.program import Program, block_of
from regspec.targets.torch.steps import Step

BARE = (
    "MultiHeadAttention takes the masks off the tensors that it is called on, so that the layers after it see padding"
)
WITH_STATE = "a recurrent layer that is given its initial state is not given the mask of its sequence"

# What layers do with masks, by kinds and families (see `configs.kinds`): make one, in any Keras; in Keras 3,
# remove the masks of the tensors on which they are called, or lose the mask where they are given an initial state.
MAKES_MASK: Mapping[type[Layer], bool] = {Layer: False, Masking: True}
TAKES_MASKS_OFF: Mapping[type[Layer], bool] = {Layer: False, MultiHeadAttention: True}
LOSES_MASK: Mapping[type[Layer], bool] = {Layer: False, Recurrent: True}


def settled(model: Model, program_of: Callable[[Model], Program], *, unmasks: bool) -> tuple[Model, set[str]]:
    """A model whose entries name the masks that they must, and no others; why masks were taken off, if any were.

    Args:
        model: as its config gives it.
        program_of: gives the program of a model.
        unmasks: whether masks are lost at run time as in Keras 3.
    """
    named = _with_recorded_masks(model)
    reasons = set[str]()
    for _ in range(2):  # in the second round without the masks that the first took off
        named, more = _with_masks_off(named, program_of(named), unmasks)
        reasons |= more
    return _without_needless(named, program_of(named), model), reasons


def needs_settling(model: Model) -> bool:
    """Whether a model has masks at all."""
    has_masks = bool(model.recorded_masks) or any(_makes_mask(kind, said) for kind, said in model.items())
    return has_masks or any(map(needs_settling, model.inner.values()))


def _makes_mask(kind: str, said: Fields) -> bool:
    """Whether an entry makes a mask: an embedding with mask_zero, or a layer for masking."""
    return bool(said.get("mask_zero")) or (kind in KINDS and nearest(MAKES_MASK, KINDS[kind]))


def _changed(model: Model, by: Mapping[str, Fields]) -> list[Entry]:
    """A model's entries, with other fields by their names."""
    return [{kind: by.get(said["name"], said)} for kind, said in model.items()]


def _with_recorded_masks(model: Model) -> Model:
    """A model whose entries name their recorded masks; those of models inside become outputs, so as to be computed."""
    known, changed, apart = {said["name"]: said for _, said in model.items()}, dict[str, Fields](), list[str]()
    for name, masks in model.recorded_masks.items():
        called = known[name].get("layer")  # by a further call, or the layer in a wrapper
        if (called if isinstance(called, str) else name) in model.inner:  # a model inside has those of its inputs
            apart += [mask for mask in masks if mask is not None]
        else:
            changed[name] = {**known[name], "mask": masks}
    inner = {name: _with_recorded_masks(each) for name, each in model.inner.items()}
    return replace(model, entries=_changed(model, changed), outputs=_with_outputs(model.outputs, apart), inner=inner)


def _with_outputs(outputs: Any, more: list[str]) -> Any:
    if not more:
        return outputs
    if isinstance(outputs, dict):
        return {**outputs, **{f"mask_{index}": name for index, name in enumerate(more)}}
    return [*([outputs] if isinstance(outputs, str) else outputs), *more]


def _inner_programs(program: Program) -> Iterator[tuple[str, Program]]:
    """The programs of the models inside, by their names."""
    for step in program.steps:
        if step.declares and (block := block_of(step)) is not None:
            yield step.name, block


def _with_masks_off(model: Model, program: Program, unmasks: bool) -> tuple[Model, set[str]]:
    """A model in which operations, and layers that Keras gives no mask, take none; and the reasons for the latter."""
    known, changed, reasons = {said["name"]: said for _, said in model.items()}, dict[str, Fields](), set[str]()
    bare: set[Symbol] = set()
    for step in (step for step in program.steps if step.node is not None):
        said, kind = known[step.name], type(step.node.resolved.layer) if isinstance(step.node, LayerNode) else Layer
        count = len(said["inputs"])
        own = [x for x in step.inputs[:count] if x.mask is not None]
        if step.lowered.mask is None and len(step.inputs) == count:  # it neither hands masks on nor reads them
            continue
        reason = None
        if not bare.isdisjoint(own):
            reason = BARE
        elif unmasks and count > 1 and nearest(LOSES_MASK, kind):
            reason = WITH_STATE
        if not own and said.get("mask") == []:
            changed[step.name] = {key: value for key, value in said.items() if key != "mask"}
        elif own and "mask" not in said and (step.name in model.operations or reason is not None):
            is_ignored = reason == WITH_STATE and step.declares
            changed[step.name] = {**said, **({"ignores_mask": True} if is_ignored else {"mask": []})}
            reasons |= {reason} if reason is not None else set()
        if unmasks and nearest(TAKES_MASKS_OFF, kind):
            bare.update(step.inputs)
    inner = dict(model.inner)
    for name, block in _inner_programs(program):
        inner[name], more = _with_masks_off(inner[name], block, unmasks)
        reasons |= more
    return replace(model, entries=_changed(model, changed), inner=inner), reasons


def _without_needless(model: Model, program: Program, given: Model) -> Model:
    """A model without the names of masks that layers have anyway, and without the operations that nothing uses then.

    Its outputs are those of ``given``, without the masks that were computed for models inside.
    """
    made = {x: step for step in (*program.steps, *program.masks.values()) for x in step.outputs}
    steps = {step.name: step for step in program.steps if step.node is not None}
    symbols = {x.source: taken for x, taken in zip(program.graph.inputs, program.inputs, strict=False)}
    symbols |= {name: step.outputs[0] for name, step in steps.items()}
    known = {said["name"]: said for _, said in model.items()}
    changed = dict[str, Fields]()
    for name, masks in model.recorded_masks.items():
        said = known[name]
        own = [x.mask and _structure(x.mask, made) for x in steps[name].inputs[: len(said["inputs"])]]
        wanted = [mask and _structure(symbols[mask.partition(".")[0]], made) for mask in masks]
        if wanted == own[: len(wanted)] and not any(own[len(wanted) :]):
            changed[name] = {key: value for key, value in said.items() if key != "mask"}
        elif "mask" not in said:
            raise UnportedError(f"the call of '{name}', a model, with a mask that its input does not have")
    kept = list[Entry]()
    used = {reference.partition(".")[0] for reference in names_in(given.outputs)}
    for entry in reversed(_changed(model, changed)):
        ((_, said),) = entry.items()
        if said["name"] not in model.operations or said["name"] in used:
            kept.append(entry)
            used.update(name.partition(".")[0] for name in (*said["inputs"], *(said.get("mask") or ())) if name)
    inner = dict(model.inner)
    for name, block in _inner_programs(program):
        inner[name] = _without_needless(inner[name], block, given.inner[name])
    return replace(model, entries=kept[::-1], outputs=given.outputs, inner=inner)


def _structure(x: Symbol, made: Mapping[Symbol, Step]) -> Any:
    """How a tensor is computed from those that modules give, as a value that can be compared."""
    step = made.get(x)
    if step is None or step.lowered.modules:
        return x
    pairs = zip(step.lowered.inputs, step.inputs, strict=True)
    own: dict[Expression, Expression] = {known: _Known(_structure(given, made)) for known, given in pairs}
    return _comparable(replaced(step.lowered.results[step.outputs.index(x)], own))


class _Known(Expression):
    """Takes the place of a tensor in an expression: the structure of how it is computed."""

    def __init__(self, structure: Any) -> None:
        self.structure = structure


def _comparable(value: Any) -> Any:
    if isinstance(value, _Known):
        return value.structure
    if isinstance(value, (list, tuple)):
        return tuple(map(_comparable, value))
    if isinstance(value, dict):
        return tuple((name, _comparable(each)) for name, each in value.items())
    if is_dataclass(value):
        return type(value).__name__, *(_comparable(getattr(value, part.name)) for part in fields(value))
    return value
