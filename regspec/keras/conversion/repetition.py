"""Layers of a ported model that repeat, as blocks: so that a ResNet reads like one.

Keras keeps no blocks, only a flat list. Two signs tell of one: names that begin alike, as ``conv2_block1_1_conv`` and
``conv2_block1_1_bn`` do; and a place where the graph forks and joins again. What they mark becomes a use of a block
where it takes one tensor and gives one, where it occurs at least twice with the same kinds, wiring and fields but for
numbers, and where the spec gets shorter by it. The numbers that differ become the block's parameters.

Names may begin alike at several levels, of a stage, a block and a part of it. That level is taken first whose blocks
make the spec shortest: the largest block by itself would be a stage that occurs twice, the most frequent one three
layers.
"""

from __future__ import annotations

import keyword
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate, islice, pairwise
from typing import TYPE_CHECKING, Any

from regspec.keras.layers import weights_last
from regspec.keras.models import Entry, Model
from regspec.keras.references import names_in, referred, with_renamed
from regspec.keras.weights import WeightPath
from regspec.language.fields import RESERVED, snake_case
from regspec.layers.layer import Elementwise, find_kind

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEAST = 3  # entries of a block
MOST = 200
LEVELS = 8  # of names that begin alike
GAIN = 6  # lines by which the blocks of a level must make the spec shorter, their own counted
MAX_PARAMETERS = 6  # as of a compiled class
INPUT = "input"  # what a block calls its input
SIZES = ("kernel_size", "strides", "pool_size", "dilation_rate", "size")  # one number stands for all axes

Arrays = Mapping[WeightPath, "NDArray[np.generic]"]


def in_blocks(model: Model) -> tuple[Model, Callable[[Arrays], Arrays], list[str]]:
    """The model with what repeats in it, and in models inside, as blocks; what moves arrays to them; and notes."""
    every = [model, *_inside(model)]
    finder = _Finder({"call", *(each.name for each in every), *(kind for each in every for kind in _kinds(each))})
    made = finder.model(model, ())
    notes = [f"'{name}' is a block of layers that stood {count} times" for name, count in finder.found.items()]
    return made, partial(_moved, finder.ways), notes


def _moved(ways: Mapping[WeightPath, WeightPath], arrays: Arrays) -> Arrays:
    """Arrays by their new ways, of which these are those to layers."""
    return {(*ways.get(path[:-1], path[:-1]), path[-1]): array for path, array in arrays.items()}


def _inside(model: Model) -> Iterator[Model]:
    for inner in model.inner.values():
        yield inner
        yield from _inside(inner)


def _kinds(model: Model) -> Iterator[str]:
    for entry in model.entries:
        yield from entry


@dataclass(frozen=True)
class _Run:
    """Entries that follow each other, and might be the use of a block."""

    start: int
    end: int
    level: int  # of the names that begin alike, by the parts that they share; none for a fork and a join
    name: str  # of the use; empty where nothing tells
    stem: str  # of the block's name
    inner: tuple[str, ...]  # the entries' names in the block
    source: str  # the one tensor that it takes
    form: tuple[Any, ...]  # what it must share with others
    numbers: tuple[float, ...]  # and where it may differ

    @property
    def length(self) -> int:
        """The number of entries."""
        return self.end - self.start


@dataclass
class _Finder:
    """Finds blocks in a model and the models inside."""

    taken: set[str]  # names that no block can have
    ways: dict[WeightPath, WeightPath] = field(default_factory=dict)  # of layers that are in a block now
    found: dict[str, int] = field(default_factory=dict)  # uses by block

    def model(self, model: Model, within: WeightPath) -> Model:
        """The model with blocks."""
        inner = {name: self.model(each, (*within, name)) for name, each in model.inner.items()}
        levels: dict[int, dict[tuple[Any, ...], list[_Run]]] = defaultdict(lambda: defaultdict(list))
        for run in _Runs(model).all():
            levels[run.level][run.form].append(run)
        covered: set[int] = set()
        chosen: list[list[_Run]] = []
        while levels:
            groups = {level: [*_chosen([*forms.values()], covered)] for level, forms in levels.items()}
            best = max(groups, key=lambda level: sum(map(_gain, groups[level])))
            del levels[best]
            if sum(map(_gain, groups[best])) >= GAIN:
                chosen += groups[best]
                covered.update(index for runs in groups[best] for run in runs for index in range(run.start, run.end))
        return self._with(replace(model, inner=inner), sorted(chosen, key=lambda runs: runs[0].start), within)

    def _with(self, model: Model, chosen: list[list[_Run]], within: WeightPath) -> Model:
        """The model with these groups of runs as uses of blocks."""
        own = [fields["name"] for entry in model.entries for fields in entry.values()]
        inner, instead = dict(model.inner), dict[str, str]()
        names = {*own, *model.inputs}
        names -= {name for runs in chosen for run in runs for name in own[run.start : run.end]}
        uses: dict[int, tuple[int, Entry]] = {}
        for runs in chosen:
            block = _block(model, runs, _unique(runs[0].stem, self.taken))
            self.found[block.name] = len(runs)
            values = [*_columns(runs)]
            for index, run in enumerate(runs):
                name = _unique(run.name or f"{block.name}_{index + 1}", names)
                given = {key: column[index] for key, column in zip(block.parameters, values, strict=True)}
                given = {key: value for key, value in given.items() if value != block.parameters[key]}
                uses[run.start] = run.end, {block.name: {"name": name, "inputs": [run.source], **given}}
                inner[name], instead[own[run.end - 1]] = block, name
                ways = zip(own[run.start : run.end], run.inner, strict=True)
                self.ways |= {(*within, outside): (*within, name, inside) for outside, inside in ways}
        entries, index = list[Entry](), 0
        while index < len(model.entries):
            end, entry = uses.get(index, (index + 1, model.entries[index]))
            entries += [{kind: with_renamed(fields, instead)} for kind, fields in entry.items()]
            index = end
        return replace(model, entries=entries, inner=inner)


# -- candidates --------------------------------------------------------------------------------------------------------


class _Runs:
    """The entries of a model that might be the use of a block."""

    def __init__(self, model: Model) -> None:
        self.items = [*model.items()]
        self.names: list[str] = [fields["name"] for _, fields in self.items]
        self.places = {name: index for index, name in enumerate(self.names)}
        given = {each.partition(".")[0] for each in names_in(model.outputs)}
        self.fixed = {self.places[name] for name in given if name in self.places}  # no part of a block
        self.last = [*range(len(self.items))]  # the last entry that takes what each gives
        self.taken: dict[str, int] = {}  # and that takes an input of the model
        for index, (kind, fields) in enumerate(self.items):
            if find_kind(kind) is None or "mask" in fields:  # a model inside; a further call
                self.fixed |= {index, self.places[fields["layer"]] if kind == "call" else index}
            for each in referred(fields):
                name, dot, _ = each.partition(".")
                if name not in self.places:
                    self.taken[each] = index
                    continue
                self.last[self.places[name]] = index
                self.fixed |= {self.places[name]} if dot else set()

    def all(self) -> Iterator[_Run]:
        """Those that names or the graph mark, and that take one tensor and give one."""
        for start, end, prefix in (*self._alike(), *self._joined()):
            if LEAST <= end - start <= MOST and (run := self._run(start, end, prefix)) is not None:
                yield run

    def _alike(self) -> Iterator[tuple[int, int, str]]:
        """Where names begin alike: from the first to the last of them."""
        bounds: dict[str, list[int]] = {}
        for index, name in enumerate(self.names):
            if not self._is_made(index):
                for match in islice(re.finditer("_", name), LEVELS):
                    bounds.setdefault(name[: match.start()], []).append(index)
        for prefix, found in bounds.items():
            if 4 * len(found) >= 3 * (found[-1] + 1 - found[0]):  # but for some in between
                yield found[0], found[-1] + 1, prefix

    def _joined(self) -> Iterator[tuple[int, int, str]]:
        """Where the graph forks and joins again: between two places at which one tensor is all that is known."""
        count = len(self.items)
        changes = [0] * (count + 2)  # of the number of tensors that are still to be used, before each entry
        for index, last in enumerate(self.last):
            changes[index + 1] += 1
            changes[(count if index in self.fixed else last) + 1] -= 1
        for last in self.taken.values():
            changes[0] += 1
            changes[last + 1] -= 1
        cuts = [place for place, known in enumerate(accumulate(changes[:-1])) if known == 1]
        for start, end in pairwise(cuts):
            if end - start >= LEAST:
                yield start, end, self._shared(start, end)
                if end + 1 in cuts and self._is_activation(end):
                    yield start, end + 1, self._shared(start, end + 1)

    def _shared(self, start: int, end: int) -> str:
        """What the names between two places begin with, as far as the last ``_`` that they share."""
        first, last = min(self.names[start:end]), max(self.names[start:end])
        same = next((index for index, pair in enumerate(zip(first, last, strict=False)) if len({*pair}) > 1), 0)
        return first[:same].rpartition("_")[0]

    def _is_activation(self, index: int) -> bool:
        cls = find_kind(self.items[index][0])
        return (
            cls is not None
            and issubclass(cls, Elementwise)
            and self.items[index][1]["inputs"] == [self.names[index - 1]]
        )

    def _is_made(self, index: int) -> bool:
        """Whether Keras made a name, of the layer's class."""
        kind, fields = self.items[index]
        return re.fullmatch(rf"{snake_case(kind)}(_\d+)*", fields["name"]) is not None

    def _run(self, start: int, end: int, prefix: str) -> _Run | None:
        """The entries between two places as the use of a block; None where they can't be one."""
        inside = range(start, end)
        taken = [name for index in inside for name in self.items[index][1]["inputs"]]
        sources = {name for name in taken if self.places.get(name.partition(".")[0]) not in inside}
        is_closed = all(self.last[index] < end for index in inside[:-1]) and self.last[end - 1] >= end
        if len(sources) != 1 or not is_closed or not self.fixed.isdisjoint(inside):
            return None
        inner = self._inner(inside, prefix)
        known = dict(zip(self.names[start:end], inner, strict=True))
        form, numbers = list[Any](), list[float]()
        for index in inside:
            kind, fields = self.items[index]
            inputs = tuple(known.get(name, INPUT) for name in fields["inputs"])
            form.append((kind, known[fields["name"]], inputs, _form(_whole(kind, fields), numbers)))
        last = end - 1
        name = prefix or ("" if self._is_made(last) else self.names[last])
        level = prefix.count("_") + 1 if prefix else 0
        return _Run(
            start,
            end,
            level=level,
            name=name,
            stem=_stem(name),
            inner=inner,
            source=sources.pop(),
            form=tuple(form),
            numbers=tuple(numbers),
        )

    def _inner(self, inside: range, prefix: str) -> tuple[str, ...]:
        """What the entries are called in a block: what follows the prefix, or as Keras calls a layer of the kind."""
        taken, inner = {INPUT}, []
        for index in inside:
            name = self.names[index]
            rest = name.removeprefix(f"{prefix}_") if prefix else name
            if not prefix or rest == name:
                rest = snake_case(self.items[index][0])
            numbers, words = re.fullmatch(r"_*((?:\d+_*)*)(.*)", rest).groups()  # type: ignore[union-attr]  # any name
            label = "_".join(part for part in (words or "layer", *re.findall(r"\d+", numbers)))  # conv_1 of 1_conv
            inner.append(_unique(label, taken))
        return tuple(inner)


def _stem(name: str) -> str:
    """A block's name, of that of a use: ``conv_block`` of ``conv2_block1``."""
    parts = [re.sub(r"\d+[a-z]?$", "", part) for part in name.split("_")]
    stem = "_".join(part for part in parts if part)
    return stem[:1].lower() + stem[1:] or "block"


# -- fields with numbers -----------------------------------------------------------------------------------------------


def _whole(kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a layer, with the numbers that it has by default; one number for all axes where one will do."""
    cls = find_kind(kind)
    known = {} if cls is None else {each.alias or name: each.default for name, each in cls.model_fields.items()}
    whole = {name: [*value] if isinstance(value, tuple) else value for name, value in known.items()}
    whole = {name: value for name, value in whole.items() if _is_number(value) or (name in SIZES and value)}
    whole |= {name: value for name, value in fields.items() if name not in ("name", "inputs")}
    for name in SIZES:
        if isinstance(whole.get(name), list) and len(set(whole[name])) == 1:
            whole[name] = whole[name][0]
    return whole


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _form(value: Any, numbers: list[float]) -> Any:
    """A value without its numbers, which are added to those found before."""
    if _is_number(value):
        numbers.append(value)
        return None
    if isinstance(value, dict):
        return tuple((key, _form(value[key], numbers)) for key in sorted(value))
    if isinstance(value, list):
        return ("list", *(_form(each, numbers) for each in value))
    return ("is", value)


def _filled(value: Any, numbers: Iterator[Any]) -> Any:
    """A value with other numbers, in the order in which `_form` finds them."""
    if _is_number(value):
        return next(numbers)
    if isinstance(value, dict):
        made = {key: _filled(value[key], numbers) for key in sorted(value)}
        return {key: made[key] for key in value}
    return [_filled(each, numbers) for each in value] if isinstance(value, list) else value


# -- blocks ------------------------------------------------------------------------------------------------------------


def _gain(runs: Sequence[_Run]) -> int:
    """The lines that a block saves: of entries, less its own and those of its uses."""
    return len(runs) * (runs[0].length - 1) - runs[0].length - 4


def _chosen(groups: list[list[_Run]], covered: set[int]) -> Iterator[list[_Run]]:
    """The groups of runs of one form that are worth a block, the best first; no two runs overlap, nor what is taken."""
    covered = {*covered}
    for group in sorted(groups, key=_gain, reverse=True):
        free: list[_Run] = []
        for run in sorted(group, key=lambda run: run.start):
            if (not free or run.start >= free[-1].end) and covered.isdisjoint(range(run.start, run.end)):
                free.append(run)
        if len(free) > 1 and _gain(free) > 0 and len(_columns(free)) <= MAX_PARAMETERS:
            covered.update(index for run in free for index in range(run.start, run.end))
            yield free


def _columns(runs: Sequence[_Run]) -> dict[tuple[float, ...], list[int]]:
    """The numbers that differ between runs: by their values in each, the places where they stand."""
    columns: dict[tuple[float, ...], list[int]] = {}
    for place, column in enumerate(zip(*(run.numbers for run in runs), strict=True)):
        if len(set(column)) > 1:
            columns.setdefault(column, []).append(place)
    return columns


def _block(model: Model, runs: Sequence[_Run], name: str) -> Model:
    """The block that runs are uses of: the first of them, with parameters where others differ."""
    first = runs[0]
    own = [(kind, fields) for entry in model.entries[first.start : first.end] for kind, fields in entry.items()]
    known = {fields["name"]: inner for (_, fields), inner in zip(own, first.inner, strict=True)}
    wholes = [_whole(kind, fields) for kind, fields in own]
    labels = [label for inner, whole in zip(first.inner, wholes, strict=True) for label in _labels(inner, whole)]
    parameters: dict[str, Any] = {}
    numbers: list[Any] = [*first.numbers]
    for column, places in _columns(runs).items():
        parameter = _unique(next(each for each in labels[places[0]] if each not in parameters), {*parameters})
        ((most, count),) = Counter(column).most_common(1)
        parameters[parameter] = most if 2 * count > len(column) else None
        for place in places:
            numbers[place] = f"${parameter}"
    remaining, entries = iter(numbers), list[Entry]()
    for (kind, fields), whole, inner in zip(own, wholes, first.inner, strict=True):
        filled = {key: value for key, value in _filled(whole, remaining).items() if "$" in str(value)}
        said = {key: value for key, value in fields.items() if key not in ("name", "inputs")} | filled
        said = weights_last(said)
        inputs = [known.get(each, INPUT) for each in fields["inputs"]]
        entries.append({kind: {"name": inner, "inputs": inputs, **said}})
    return Model(name, inputs={INPUT: {}}, entries=entries, outputs=first.inner[-1], parameters=parameters)


def _labels(inner: str, whole: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """What a parameter may be called in whose place a number stands: by the field, or by the layer and the field."""
    for name in sorted(whole):
        numbers: list[float] = []
        _form(whole[name], numbers)
        labels = (name, f"{inner}_{name}", *(f"{inner}_{name}_{index}" for index in range(2, 2 + MAX_PARAMETERS)))
        yield from (labels for _ in numbers)


def _unique(name: str, taken: set[str]) -> str:
    unique, number = name, 1
    while unique in taken or unique in RESERVED or keyword.iskeyword(unique):
        number += 1
        unique = f"{name}_{number}"
    taken.add(unique)
    return unique
