"""ModelSpec: a validated, frozen description of a network. Never a torch object.

A spec is a body: entries in order, each a layer, a further call of one, or the use of a block, which has a body of
its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from regspec.code.expressions import Itself
from regspec.code.shapes import DataFormat, Precision
from regspec.language.regularizers import Reduction
from regspec.layers import Layer
from regspec.specs.formulas import Formula
from regspec.specs.rules import LayerRule
from regspec.specs.searches import Search
from regspec.specs.sections import FrozenPenalties, Input
from regspec.text.faults import Origin
from regspec.text.problems import Problem

Outputs = str | tuple[str, ...] | Mapping[str, str] | None  # None: the last entry's


@dataclass(frozen=True, slots=True)
class LayerUse:
    """A layer in place. Entries with equal layers share one `Layer`."""

    name: str
    layer: Layer
    inputs: tuple[str, ...] | None
    mask: tuple[str, ...] | None = None  # in place of the masks of its inputs


@dataclass(frozen=True, slots=True)
class LayerCall:
    """A further call of a layer or a block, with the same weights."""

    name: str
    layer: str
    inputs: tuple[str, ...] | None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    mask: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class BlockUse:
    """A block in place, or copies of it in a chain."""

    name: str
    block: str
    inputs: tuple[str, ...] | None
    copies: tuple[Copy, ...]
    is_repeated: bool  # whether it says how often, once included: its copies then have numbers

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each copy."""
        return names_of_copies(self.name, len(self.copies)) if self.is_repeated else (self.name,)


def names_of_copies(name: str, count: int) -> tuple[str, ...]:
    """The names of so many copies of a block that is called so."""
    return tuple(f"{name}_{index + 1}" for index in range(count))


@dataclass(frozen=True, slots=True)
class Copy:
    """A block with its parameters put in."""

    body: Body
    arguments: Mapping[str, Any] = field(default_factory=dict)  # the values of the block's parameters
    formulas: Mapping[Formula, Any] = field(default_factory=dict)  # what the spec computes from these, and its values


@dataclass(frozen=True, slots=True)
class Invalid:
    """An entry that could not be validated; it keeps its names, so that the rest can still be checked."""

    name: str
    names: tuple[str, ...] = ()  # of the copies of a block


Entry = LayerUse | LayerCall | BlockUse | Invalid


@dataclass(frozen=True, slots=True)
class Body:
    """Entries in order, on named inputs: a block's body, or the spec's own."""

    inputs: tuple[str, ...]
    entries: tuple[Entry, ...]
    outputs: Outputs = None
    declared: Mapping[str, Input] = field(default_factory=dict)  # the inputs' shapes, where the body fixes them
    rules: tuple[LayerRule, ...] = ()
    unused: frozenset[str] = frozenset()  # the inputs that say that nothing uses them
    origin: Origin | None = field(default=None, compare=False, repr=False)  # of the mapping with layers, outputs, …
    origins: tuple[Origin, ...] = field(default=(), compare=False, repr=False)  # of the entries


def size_of(body: Body) -> int:
    """The number of layers that a body unfolds to."""
    size = 0
    for entry in body.entries:
        copies = Counter(Itself(copy.body) for copy in entry.copies) if isinstance(entry, BlockUse) else {}
        size += sum(count * size_of(each.value) for each, count in copies.items()) if copies else 1
    return size


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A network and its regularizers, validated. Made by `regspec.load`.

    Example:
        >>> import regspec
        >>> spec = regspec.load("examples/mlp.yaml")
        >>> spec.name, list(spec.inputs)
        ('mlp', ['features'])
    """

    name: str
    body: Body
    data_format: DataFormat | None = None  # None where nothing is said, which counts as channels_first
    activity_reduction: Reduction = "mean"
    frozen_penalties: FrozenPenalties = "omitted"
    parameters: Mapping[str, Any] = field(default_factory=dict)  # their values in this spec
    given: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)  # those in place of defaults
    dtype: Precision = "float32"
    notes: tuple[Problem, ...] = field(default=(), compare=False, repr=False)  # what is read otherwise than written
    search: Mapping[str, Search] = field(default_factory=dict)  # what a search may choose, for each searched parameter
    derived: dict[str, Any] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )  # what later stages have computed from it

    def in_precision(self, dtype: Precision) -> ModelSpec:
        """The spec with another dtype; inputs that have the spec's own follow."""
        declared = {
            name: each.model_copy(update={"dtype": dtype}) if each.dtype == self.dtype else each
            for name, each in self.inputs.items()
        }
        return replace(self, body=replace(self.body, declared=declared), dtype=dtype)

    @property
    def inputs(self) -> Mapping[str, Input]:
        """The inputs by name."""
        return self.body.declared

    @property
    def layers(self) -> tuple[Entry, ...]:
        """The entries in order."""
        return self.body.entries
