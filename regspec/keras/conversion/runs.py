"""Runs of entries that might be uses of a block, by their names or by the graph; and the numbers in their fields."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, islice, pairwise
from typing import Any

from regspec.keras.configs.models import Model
from regspec.keras.configs.references import names_in, referred
from regspec.keras.reading.reader import identifier
from regspec.language.fields import layer_name, snake_case
from regspec.layers.families import Elementwise
from regspec.layers.kinds import find_kind

LEAST = 3  # entries of a block
MOST = 200
LEVELS = 8  # of names that begin alike
INPUT = "input"  # what a block calls its input
SIZES = ("kernel_size", "strides", "pool_size", "dilation_rate", "size")  # one number stands for all axes


@dataclass(frozen=True)
class Run:
    """Entries that follow each other, and might be the use of a block."""

    start: int
    end: int
    level: int  # how many parts at the beginning of their names are equal; 0 for a fork and a join
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


class Runs:
    """The entries of a model that might be the use of a block."""

    def __init__(self, model: Model) -> None:
        self.items = [*model.items()]
        self.names: list[str] = [fields["name"] for _, fields in self.items]
        self.places = {name: index for index, name in enumerate(self.names)}
        given = {each.partition(".")[0] for each in names_in(model.outputs)}
        self.fixed = {self.places[name] for name in given if name in self.places}  # no part of a block
        self.last = [*range(len(self.items))]  # the last entry that takes what each gives
        self.taken: dict[str, int] = {}  # the last entry that takes each input of the model
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

    def all(self) -> Iterator[Run]:
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
            if 4 * len(found) >= 3 * (found[-1] + 1 - found[0]):  # few in between have other names
                yield found[0], found[-1] + 1, prefix

    def _joined(self) -> Iterator[tuple[int, int, str]]:
        """Where the graph forks and joins again: between two places at which only one tensor is still needed."""
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
        """Whether a name is one that Keras makes from the layer's class."""
        kind, fields = self.items[index]
        return re.fullmatch(rf"{snake_case(kind)}(_\d+)*", fields["name"]) is not None

    def _run(self, start: int, end: int, prefix: str) -> Run | None:
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
            form.append((kind, known[fields["name"]], inputs, form_of(whole_fields(kind, fields), numbers)))
        last = end - 1
        name = prefix or ("" if self._is_made(last) else self.names[last])
        level = prefix.count("_") + 1 if prefix else 0
        return Run(
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
        """What the entries are called in a block: what follows the prefix, or a layer of the kind that says no name."""
        taken, inner = {INPUT}, []
        for index in inside:
            name = self.names[index]
            rest = name.removeprefix(f"{prefix}_") if prefix else name
            if not prefix or rest == name:
                rest = layer_name(self.items[index][0])
            words = rest.lstrip("_0123456789")
            numbers = re.findall(r"\d+", rest.removesuffix(words))
            inner.append(identifier("_".join((words or "layer", *numbers)), taken))  # conv_1 of 1_conv
        return tuple(inner)


def _stem(name: str) -> str:
    """A block's name, of that of a use: ``conv_block`` of ``conv2_block1``."""
    parts = [re.sub(r"\d+[a-z]?$", "", part) for part in name.split("_")]
    stem = "_".join(part for part in parts if part)
    return stem[:1].lower() + stem[1:] or "block"


# -- fields with numbers -----------------------------------------------------------------------------------------------


def whole_fields(kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
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


def form_of(value: Any, numbers: list[float]) -> Any:
    """A value without its numbers, which are added to those found before."""
    if _is_number(value):
        numbers.append(value)
        return None
    if isinstance(value, dict):
        return tuple((key, form_of(value[key], numbers)) for key in sorted(value))
    if isinstance(value, list):
        return ("list", *(form_of(each, numbers) for each in value))
    return ("is", value)


def with_numbers(value: Any, numbers: Iterator[Any]) -> Any:
    """A value with other numbers, in the order in which `form_of` finds them."""
    if _is_number(value):
        return next(numbers)
    if isinstance(value, dict):
        made = {key: with_numbers(value[key], numbers) for key in sorted(value)}
        return {key: made[key] for key in value}
    return [with_numbers(each, numbers) for each in value] if isinstance(value, list) else value
