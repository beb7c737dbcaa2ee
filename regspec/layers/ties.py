"""Which axes of a layer's tensors and weights have the same units, so that a unit goes from all of them or from none.

A unit is an index along an axis: a channel, a feature, a head. A kind says of its inputs, outputs and weights which
axes have the same ones (`Layer.ties`), as data. Analyses on the graph need no more: which slices make a unit, which
take it, and what else has it, follows from these and from the patterns of the weights, whose axes of inputs and of
outputs are named so.

Two ways were weighed. A rule for each kind that says what a removal does to it, as pruning libraries have, is a
function for each kind, and one more for each question (what is zero, what is unused, what is coupled). As data, one
walk over the graph answers all of them, and a kind is a few lines. What a kind does not say is not known: an axis in no
tie keeps its units.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from regspec.code.shapes import Symbol
from regspec.language.activations import ActivationFunction

FieldPath = tuple[str | int, ...]  # to what a field says: ("units",), ("target_shape", 2), ("layer", "units")


@dataclass(frozen=True, slots=True)
class Place:
    """Where units lie along an axis: ``outer`` times one after the other, each as ``inner`` numbers in a row."""

    of: int | str  # an input by its number, an output by its number's complement, ~0, or a weight by its name
    axis: int  # Keras's
    start: int = 0
    outer: int = 1  # gates of a recurrent unit; places of an image that is flattened
    inner: int = 1

    @property
    def number(self) -> int:
        """Of the inputs or of the outputs, which one it is in."""
        assert isinstance(self.of, int)
        return self.of if self.of >= 0 else ~self.of

    @property
    def is_input(self) -> bool:
        return isinstance(self.of, int) and self.of >= 0

    @property
    def is_output(self) -> bool:
        return isinstance(self.of, int) and self.of < 0


@dataclass(frozen=True, slots=True)
class Tie:
    """Axes that have the same units."""

    size: int
    places: tuple[Place, ...]
    field: FieldPath = ()  # what says how many there are
    each: int = 1  # what that counts of each unit
    others: tuple[tuple[FieldPath, int], ...] = ()  # further fields that say how many, and what each counts of a unit
    follows: Place | None = None  # the axis of an input that has as many, where nothing says how many there are
    stays: str = ""  # why none of them may go
    factors: tuple[str, ...] = ()  # weights that multiply a unit, which is cut where all of its slice is zero
    apart: tuple[str, ...] = ()  # weights of the units that decide about others, and not what they are
    absorbs: bool = False  # whether a unit is zero where it is zero in one input
    is_alone: bool = False  # whether its units in an output hang on the inputs that have them alone
    keeps_zeros: bool = False  # whether what is zero in all inputs is zero in the output
    alike: str = ""  # ties of one word must be left as many units each
    parts: int = 1  # of so many parts that follow one another, each must be left as many units, or none


@dataclass(frozen=True, slots=True)
class Fold:
    """Where a constant input of a layer can be added to a bias, exactly."""

    kernel: str
    bias: str
    field: FieldPath | None = ("use_bias",)  # what says that there is a bias, which it may begin to do
    is_last: bool = False  # whether nothing follows the bias in the layer


@dataclass(frozen=True, slots=True)
class Ties:
    """The ties of a layer on its inputs."""

    ties: tuple[Tie, ...] = ()
    folds: tuple[Fold, ...] = ()
    grouped: Mapping[str, int] = field(default_factory=dict)  # kernels of groups, and how many groups they have
    groups: FieldPath = ()  # the field that says how many
    shift: str = ""  # a weight that is subtracted from the units, and so can take what is added to them before
    why_not: str = ""  # why a constant input can't be added to a bias


def alike(xs: Sequence[Symbol], stays: Mapping[int, str] | None = None, *, absorbs: bool = False) -> tuple[Tie, ...]:
    """The ties of what computes each number from those at the same place of its inputs, by the axes of its output.

    Inputs of a lower rank have axes of one after the batch; an axis of one that is spread keeps its one unit.
    """
    rank = max(x.rank for x in xs)
    ties = []
    for axis in range(1, rank):
        own = {i: axis - (rank - x.rank) for i, x in enumerate(xs) if axis - (rank - x.rank) > 0}
        sizes = {i: xs[i].logical[place] for i, place in own.items()}
        if None in sizes.values():
            continue
        size = max((each for each in sizes.values() if each is not None), default=1)
        places = tuple(Place(i, own[i]) for i, each in sizes.items() if each == size)
        ties.append(Tie(size, (*places, Place(~0, axis)), stays=(stays or {}).get(axis, ""), absorbs=absorbs))
    return tuple(ties)


def others(x: Symbol, axis: int, stays: str = "") -> tuple[Tie, ...]:
    """The ties of the axes of an input that go on as they are, beside one that the layer works along."""
    sizes = [(place, x.logical[place]) for place in range(1, x.rank) if place != axis]
    return tuple(
        Tie(size, (Place(0, place), Place(~0, place)), stays=stays) for place, size in sizes if size is not None
    )


def moved(x: Symbol, axes: Mapping[int, int]) -> Ties:
    """The ties of what only moves axes: for each of the input's, that of the output."""
    sizes = {axis: x.logical[axis] for axis in axes}
    pairs = [(axis, size) for axis, size in sizes.items() if axis and size is not None]
    return Ties(tuple(Tie(size, (Place(0, axis), Place(~0, axes[axis]))) for axis, size in pairs))


def rearranged(x: Symbol, outputs: Sequence[Symbol], dimensions: Sequence[int | None]) -> Ties:
    """The ties of what moves axes, for each dimension of an output that of the input, or None for a new one.

    Each output lies as a spec counts it, and has these dimensions.
    """
    ties = []
    for place, dimension in enumerate(dimensions):
        if dimension and (size := x.shape[dimension]) is not None:
            given = (Place(~number, output.spec_order[place]) for number, output in enumerate(outputs))
            ties.append(Tie(size, (Place(0, x.order[dimension]), *given)))
    return Ties(tuple(ties))


def beside_steps(ties: Ties) -> Ties:
    """The ties of a layer that is applied to each step, and is another's ``layer``."""

    def stepped(tie: Tie) -> Tie:
        return replace(tie, places=tuple(map(behind, tie.places)), follows=tie.follows and behind(tie.follows))

    def behind(place: Place) -> Place:
        return place if isinstance(place.of, str) else replace(place, axis=place.axis + 1)

    inner = wrapped(ties)
    return replace(inner, ties=tuple(map(stepped, inner.ties)))


def wrapped(ties: Ties) -> Ties:
    """The ties of a layer whose fields are inside another's ``layer``."""

    def inside(path: FieldPath) -> FieldPath:
        return ("layer", "*", *path) if path else ()

    own = tuple(
        replace(tie, field=inside(tie.field), others=tuple((inside(path), each) for path, each in tie.others))
        for tie in ties.ties
    )
    folds = tuple(replace(fold, field=fold.field and inside(fold.field)) for fold in ties.folds)
    return replace(ties, ties=own, folds=folds, groups=inside(ties.groups))


def mixes(function: ActivationFunction | None, axis: int, rank: int) -> str:
    """Why an activation function keeps the units of an axis; nothing where it takes each number by itself."""
    if function is None or (function.along is None and not function.is_registered):
        return ""
    if function.along is None or function.along % rank == axis:
        return f"{function.name} is of all of them together"
    return ""


def said(layer: Any, path: FieldPath) -> Any:
    """What a layer says in a field, as plain data."""
    value = layer
    for step in path:
        if step == "*":
            continue
        if isinstance(step, int):
            value = getattr(value, "cells", value)[step]
        else:
            names = {each.alias or name: name for name, each in type(value).model_fields.items()}
            value = getattr(value, names[step])
    return [*value] if isinstance(value, tuple) else value


def weights_in(ties: Ties) -> Iterator[str]:
    """The names of the weights that have units."""
    yield from dict.fromkeys(place.of for tie in ties.ties for place in tie.places if isinstance(place.of, str))
