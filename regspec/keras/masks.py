"""Masks in Keras's graphs: those that a spec's layers hand on by themselves, and those that must be named.

Keras 3 records how masks are computed, as operations, and with which mask a layer was called; at run time its layers
hand masks on besides. Both are followed here by what the masks are made of, so that an entry names a mask only where
a spec's layers would not have the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regspec.layers.layer import find_kind

Entry = dict[str, dict[str, Any]]  # {kind: fields}, of a spec
Made = tuple[Any, ...] | None  # what a mask is made of; None for no mask

UNMASKING = "MultiHeadAttention"  # at run time, Keras 3 takes the masks off the tensors that it is called on


def settled(
    entries: Sequence[Entry],
    recorded: Mapping[str, Sequence[str | None]],
    operations: frozenset[str],
    outputs: frozenset[str],
    *,
    unmasks: bool,
) -> tuple[list[Entry], bool]:
    """The entries with the masks named that must be, without the operations that only computed others.

    Args:
        entries: in order; those with a recorded mask do not name it yet.
        recorded: the masks with which Keras called entries, by name.
        operations: the names of entries that are operations, whose results have no mask.
        outputs: the names of what the model gives.
        unmasks: whether masks are taken off as Keras 3 does; the second result tells whether that mattered.
    """
    flow = _Flow(recorded, operations, unmasks)
    named = [flow.named(entry) for entry in entries]
    used = set(outputs)
    kept = []
    for entry in reversed(named):
        ((_, fields),) = entry.items()
        if fields["name"] in used or fields["name"] not in flow.computed:
            used.update(name.partition(".")[0] for name in (*fields["inputs"], *fields.get("mask", ())) if name)
            kept.append(entry)
    return kept[::-1], flow.has_unmasked


@dataclass
class _Flow:
    """What the masks of tensors are made of, by the names of the entries, one after the other."""

    recorded: Mapping[str, Sequence[str | None]]
    operations: frozenset[str]
    unmasks: bool
    kinds: dict[str, str] = field(default_factory=dict)  # of layers, by name, for further calls
    made: dict[str, Made] = field(default_factory=dict)  # by a spec's own flow
    computed: dict[str, Made] = field(default_factory=dict)  # of entries that compute masks
    bare: set[str] = field(default_factory=set)  # tensors that lost their mask at run time
    has_unmasked: bool = False

    def named(self, entry: Entry) -> Entry:
        """The entry with the masks that it must name."""
        ((kind, fields),) = entry.items()
        name, inputs = fields["name"], fields["inputs"]
        self.kinds[name] = kind = self.kinds[fields["layer"]] if kind == "call" else kind
        own = [self._of(each) for each in inputs]
        masks = self._masks(kind, name, inputs, own)
        if masks is not None:
            ((key, fields),) = entry.items()
            entry = {key: {**fields, "mask": masks}}
            own = [("named", *masks)] if any(masks) else [None] * len(inputs)
        if made := self._computed(kind, fields):
            self.computed[name] = made
        self.made[name] = _handed_on(kind, fields, own)
        if kind == UNMASKING and self.unmasks:
            self.bare.update(inputs)
        return entry

    def _masks(self, kind: str, name: str, inputs: Sequence[str], own: Sequence[Made]) -> list[str | None] | None:
        """The masks that an entry must name; None where its inputs' own are right."""
        cls = find_kind(kind)
        if name in self.recorded:
            recorded = self.recorded[name]
            wanted = [None if each is None else self.computed.get(each, ("named", each)) for each in recorded]
            is_same = wanted == [*own[: len(wanted)]] and not any(own[len(wanted) :])
            return None if is_same or cls is None else [*recorded]
        is_bare = [each in self.bare for each in inputs]
        if not any(own) or cls is None or not (name in self.operations or any(is_bare)):
            return None
        if name not in self.operations:
            self.has_unmasked = True
        return []

    def _of(self, name: str) -> Made:
        return self.made.get(name.removesuffix(".0"))

    def _computed(self, kind: str, fields: Mapping[str, Any]) -> Made:
        """What an operation computes, if it computes a mask."""
        inputs = fields["inputs"]
        if kind == "NotEqual" and len(inputs) == 1 and isinstance(fields.get("x2"), (int, float)):
            return ("unlike", inputs[0], float(fields["x2"]))
        known = [self.computed.get(each) for each in inputs]
        if None in known:
            return None
        if kind == "Any" and fields.get("axis") in (-1, [-1]) and not fields.get("keepdims"):
            return ("any", known[0])
        if kind == "LogicalOr" and len(known) == 2:
            return _either(known)
        return None


def _either(masks: Sequence[Made]) -> Made:
    """What is made of several masks, of which one suffices."""
    parts: set[Made] = set()
    for mask in masks:
        parts |= mask[1] if mask is not None and mask[0] == "either" else {mask}
    return next(iter(parts)) if len(parts) == 1 else ("either", frozenset(parts))


def _handed_on(kind: str, fields: Mapping[str, Any], own: Sequence[Made]) -> Made:
    """What the mask of an entry's first output is made of."""
    cls = find_kind(kind)
    if cls is None:
        return None
    if fields.get("mask_zero"):
        return ("unlike", fields["inputs"][0], 0.0)
    if kind == "Masking":
        return ("any", ("unlike", fields["inputs"][0], float(fields.get("mask_value", 0.0))))
    if "return_sequences" in cls.model_fields:
        return own[0] if fields.get("return_sequences") else None
    if not cls.supports_masking or not any(own):
        return None
    if "Attention" in kind or len(own) == 1:
        return own[0]
    if kind == "Concatenate":
        return ("concatenated", fields["name"])
    return None if None in own else _either(own)
