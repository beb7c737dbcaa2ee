"""Layers of a ported model that repeat, as blocks: so that a ResNet reads like one.

Keras keeps no blocks, only a flat list. Two signs tell of one: names that begin alike, as ``conv2_block1_1_conv`` and
``conv2_block1_1_bn`` do; and a place where the graph forks and joins again. What they mark becomes a use of a block
where it takes one tensor and gives one, where it occurs at least twice with the same kinds, wiring and fields, apart
from numbers, and where the spec gets shorter by it. The numbers that differ become the block's parameters.

Names may begin alike at several levels, of a stage, a block and a part of it. The level whose blocks make the spec
shortest is taken first: not that of the largest block, which may be a stage that occurs twice, nor that of the most
frequent one, which may be three layers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from regspec.keras.arrays.matching import Arrays, WeightPath
from regspec.keras.configs.models import Entry, Model
from regspec.keras.configs.references import with_renamed
from regspec.keras.conversion.runs import INPUT, Run, Runs, form_of, whole_fields, with_numbers
from regspec.keras.reading.layers import weights_last
from regspec.keras.reading.reader import identifier

GAIN = 6  # the lines that the blocks of a level must save at least, less their own
MAX_PARAMETERS = 6  # as of a compiled class


def in_blocks(model: Model) -> tuple[Model, Callable[[Arrays], Arrays], list[str]]:
    """The model with what repeats in it, and in models inside, as blocks; what moves arrays to them; and notes."""
    every = [model, *_inside(model)]
    finder = _Finder({"call", *(each.name for each in every), *(kind for each in every for kind in _kinds(each))})
    made = finder.model(model, ())
    notes = [f"'{name}' is a block of layers that stood {count} times" for name, count in finder.found.items()]
    return made, partial(_moved, finder.ways), notes


def _moved(ways: Mapping[WeightPath, WeightPath], arrays: Arrays) -> Arrays:
    """Arrays by the new paths of their weights; ``ways`` has the new paths of layers by the old ones."""
    return {(*ways.get(path[:-1], path[:-1]), path[-1]): array for path, array in arrays.items()}


def _inside(model: Model) -> Iterator[Model]:
    for inner in model.inner.values():
        yield inner
        yield from _inside(inner)


def _kinds(model: Model) -> Iterator[str]:
    for entry in model.entries:
        yield from entry


@dataclass
class _Finder:
    """Finds blocks in a model and the models inside."""

    taken: set[str]  # names that no block can have
    ways: dict[WeightPath, WeightPath] = field(default_factory=dict)  # of layers now in blocks, by their old paths
    found: dict[str, int] = field(default_factory=dict)  # uses by block

    def model(self, model: Model, within: WeightPath) -> Model:
        """The model with blocks."""
        inner = {name: self.model(each, (*within, name)) for name, each in model.inner.items()}
        levels: dict[int, dict[tuple[Any, ...], list[Run]]] = defaultdict(lambda: defaultdict(list))
        for run in Runs(model).all():
            levels[run.level][run.form].append(run)
        covered: set[int] = set()
        chosen: list[list[Run]] = []
        while levels:
            groups = {level: [*_chosen([*forms.values()], covered)] for level, forms in levels.items()}
            best = max(groups, key=lambda level: sum(map(_gain, groups[level])))
            del levels[best]
            if sum(map(_gain, groups[best])) >= GAIN:
                chosen += groups[best]
                covered.update(index for runs in groups[best] for run in runs for index in range(run.start, run.end))
        return self._with(replace(model, inner=inner), sorted(chosen, key=lambda runs: runs[0].start), within)

    def _with(self, model: Model, chosen: list[list[Run]], within: WeightPath) -> Model:
        """The model with these groups of runs as uses of blocks."""
        own = [fields["name"] for entry in model.entries for fields in entry.values()]
        inner, instead = dict(model.inner), dict[str, str]()
        names = {*own, *model.inputs}
        names -= {name for runs in chosen for run in runs for name in own[run.start : run.end]}
        uses: dict[int, tuple[int, Entry]] = {}
        for runs in chosen:
            block = _block(model, runs, identifier(runs[0].stem, self.taken))
            self.found[block.name] = len(runs)
            values = [*_columns(runs)]
            for index, run in enumerate(runs):
                name = identifier(run.name or f"{block.name}_{index + 1}", names)
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


# -- blocks ------------------------------------------------------------------------------------------------------------


def _gain(runs: Sequence[Run]) -> int:
    """The lines that a block saves: of entries, less its own and those of its uses."""
    return len(runs) * (runs[0].length - 1) - runs[0].length - 4


def _chosen(groups: list[list[Run]], covered: set[int]) -> Iterator[list[Run]]:
    """The groups of runs of one form that are worth a block, the best first; no run overlaps another."""
    covered = {*covered}
    for group in sorted(groups, key=_gain, reverse=True):
        free: list[Run] = []
        for run in sorted(group, key=lambda run: run.start):
            if (not free or run.start >= free[-1].end) and covered.isdisjoint(range(run.start, run.end)):
                free.append(run)
        if len(free) > 1 and _gain(free) > 0 and len(_columns(free)) <= MAX_PARAMETERS:
            covered.update(index for run in free for index in range(run.start, run.end))
            yield free


def _columns(runs: Sequence[Run]) -> dict[tuple[float, ...], list[int]]:
    """The numbers that differ between runs: by their values in each, the places where they stand."""
    columns: dict[tuple[float, ...], list[int]] = {}
    for place, column in enumerate(zip(*(run.numbers for run in runs), strict=True)):
        if len(set(column)) > 1:
            columns.setdefault(column, []).append(place)
    return columns


def _block(model: Model, runs: Sequence[Run], name: str) -> Model:
    """The block that runs are uses of: the first of them, with parameters where others differ."""
    first = runs[0]
    own = [(kind, fields) for entry in model.entries[first.start : first.end] for kind, fields in entry.items()]
    known = {fields["name"]: inner for (_, fields), inner in zip(own, first.inner, strict=True)}
    wholes = [whole_fields(kind, fields) for kind, fields in own]
    labels = [label for inner, whole in zip(first.inner, wholes, strict=True) for label in _labels(inner, whole)]
    parameters: dict[str, Any] = {}
    numbers: list[Any] = [*first.numbers]
    for column, places in _columns(runs).items():
        parameter = identifier(next(each for each in labels[places[0]] if each not in parameters), {*parameters})
        ((most, count),) = Counter(column).most_common(1)
        parameters[parameter] = most if 2 * count > len(column) else None
        for place in places:
            numbers[place] = f"${parameter}"
    remaining, entries = iter(numbers), list[Entry]()
    for (kind, fields), whole, inner in zip(own, wholes, first.inner, strict=True):
        filled = {key: value for key, value in with_numbers(whole, remaining).items() if "$" in str(value)}
        said = {key: value for key, value in fields.items() if key not in ("name", "inputs")} | filled
        said = weights_last(said)
        inputs = [known.get(each, INPUT) for each in fields["inputs"]]
        entries.append({kind: {"name": inner, "inputs": inputs, **said}})
    return Model(name, inputs={INPUT: {}}, entries=entries, outputs=first.inner[-1], parameters=parameters)


def _labels(inner: str, whole: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """The names that a parameter may have in place of each number: of the field, or of the layer and the field."""
    for name in sorted(whole):
        numbers: list[float] = []
        form_of(whole[name], numbers)
        labels = (name, f"{inner}_{name}", *(f"{inner}_{name}_{index}" for index in range(2, 2 + MAX_PARAMETERS)))
        yield from (labels for _ in numbers)
