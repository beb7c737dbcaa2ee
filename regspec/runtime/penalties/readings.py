"""How a penalty reads what a module gives: which tensor of it, and how many samples that holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

# Of a tensor in an output, what is read of it, and its samples: what stands in its place.
Carrier = Callable[[Tensor, Tensor, int], Tensor]


@dataclass(frozen=True)
class Reading:
    """Which tensor of a module's output has the penalty, and which axis of it is the batch."""

    path: tuple[int | str, ...] | None = None  # to the tensor, by indices and names; None for every one that is there,
    # and empty for every one as well, if all have as many samples: else a state may be among them
    batch: int = 0
    least: int = 1  # the axes of a tensor with a batch; one with fewer is a single sample
    unknown: tuple[str, ...] = ()  # which axes of a tensor with more than two nothing says
    subject: str = "an output"

    def read(self, output: Any) -> Iterable[tuple[Tensor, int]]:
        """Each tensor that has the penalty, and how many samples it holds."""
        for part in self.path or ():
            output = _part(output, part)
        if isinstance(output, Tensor) and not output.is_nested:  # no generator, of which torch.compile makes more
            return [(output, self._samples(output))]
        return self._several(output)

    def replaced(self, output: Any, function: Carrier) -> Any:
        """An output in which each tensor that has the penalty is what a function makes of it."""
        if isinstance(output, Tensor) and not self.path and not output.is_nested:
            return function(output, output, self._samples(output))
        for _ in self.read(output):  # where it is not known what has the penalty, this raises
            pass

        def each(x: Tensor | PackedSequence) -> Any:
            if not _is_number(x):
                return x
            ((read, samples),) = self._of(x)
            if isinstance(x, PackedSequence):
                return x._replace(data=function(x.data, read, samples))
            if x.is_nested and x.layout == torch.strided and samples:
                first, *others = x.unbind()  # an autograd function takes a row, but not the whole
                return torch.nested.as_nested_tensor([function(first, read, samples), *others])
            return function(x, read, samples)

        return _with_part(output, self.path or (), lambda part: _with_tensors(part, each))

    def _several(self, output: Any) -> Iterator[tuple[Tensor, int]]:
        found = [pair for each in whole_tensors(output) if _is_number(each) for pair in self._of(each)]
        if self.path is not None and len(sizes := {samples for _, samples in found}) > 1:
            held = " and ".join(map(str, sorted(sizes)))
            which = "say in its rule which is penalized, 'output: 0' or by a name, or 'output: all'"
            raise RuntimeError(
                f"{self.subject} is {len(found)} tensors, of {held} samples by their first axis: {which}"
            )
        yield from found

    def _of(self, x: Tensor | PackedSequence) -> Iterator[tuple[Tensor, int]]:
        if isinstance(x, PackedSequence):
            yield x.data, int(x.batch_sizes[0])
        elif x.is_nested:
            rows = [row.reshape(-1, row.shape[-1] if row.ndim > 1 else 1) for row in x.unbind()]
            yield torch.cat(rows), x.size(0)
        else:
            yield x, self._samples(x)

    def _samples(self, x: Tensor) -> int:
        if self.unknown and x.ndim > 2:
            what = {"batch_axis": "the batch", "channel_axis": "the channels"}
            missed, asked = " or ".join(what[each] for each in self.unknown), " and ".join(self.unknown)
            raise RuntimeError(
                f"{self.subject} has {x.ndim} axes, and which is {missed} is not known: say {asked} in its rule"
            )
        if x.ndim < self.least:
            return 1
        if not -x.ndim <= self.batch < x.ndim:
            raise RuntimeError(f"{self.subject} has {x.ndim} axes, but the rule says 'batch_axis: {self.batch}'")
        return x.shape[self.batch]


def _part(output: Any, part: int | str) -> Any:
    """A part of what a module gives, by its index or its name."""
    if isinstance(output, Tensor) and part == 0:
        return output  # what gives one tensor now may give several at other times
    named = {field.name: getattr(output, field.name) for field in fields(output)} if is_dataclass(output) else output
    try:
        if isinstance(part, int):
            return [*named.values()][part] if isinstance(named, Mapping) else named[part]
        return named[part] if isinstance(named, Mapping) else getattr(named, part)
    except (LookupError, AttributeError, TypeError):
        there = f"there are {', '.join(map(str, named))}" if isinstance(named, Mapping) else f"it is a {_kind(named)}"
        raise RuntimeError(f"a rule says 'output: {part}', but a module gives no such part: {there}") from None


def _kind(output: Any) -> str:
    name = type(output).__name__
    return f"{name} of {len(output)}" if isinstance(output, (tuple, list)) else name


def whole_tensors(output: Any) -> Iterator[Tensor | PackedSequence]:
    """The tensors in what a module gives: one, or those of a tuple, a list, a mapping or a dataclass.

    A packed sequence is one of them, and not the four that it is made of.
    """
    if isinstance(output, (Tensor, PackedSequence)):
        yield output
    elif isinstance(output, (tuple, list)):
        for each in output:
            yield from whole_tensors(each)
    elif isinstance(output, Mapping):
        for each in output.values():
            yield from whole_tensors(each)
    elif is_dataclass(output):
        for field in fields(output):
            yield from whole_tensors(getattr(output, field.name))


def _with_part(output: Any, path: Sequence[int | str], function: Callable[[Any], Any]) -> Any:
    """What a module gives, in which the part that a path leads to is what a function makes of it."""
    if not path:
        return function(output)
    part, *others = path
    if isinstance(output, Tensor) and part == 0:
        return _with_part(output, others, function)
    own = _part(output, part)
    new = _with_part(own, others, function)
    if isinstance(output, (tuple, list)):
        values = [*output]
        values[part if isinstance(part, int) else next(i for i, each in enumerate(values) if each is own)] = new
        return _remade(output, values)
    made: Any = copy(output)
    if isinstance(part, int):
        part = [field.name for field in fields(output)][part] if is_dataclass(output) else [*output][part]
    if isinstance(output, Mapping):
        made[part] = new
    else:
        object.__setattr__(made, part, new)
    return made


def _with_tensors(output: Any, function: Callable[[Tensor | PackedSequence], Any]) -> Any:
    """What a module gives, in which each of its tensors is what a function makes of it."""
    if isinstance(output, (Tensor, PackedSequence)):
        return function(output)
    if isinstance(output, (tuple, list)):
        return _remade(output, [_with_tensors(each, function) for each in output])
    if isinstance(output, Mapping):
        made: Any = copy(output)
        for key, value in output.items():
            made[key] = _with_tensors(value, function)
        return made
    if is_dataclass(output):
        made = copy(output)
        for field in fields(output):
            object.__setattr__(made, field.name, _with_tensors(getattr(output, field.name), function))
        return made
    return output


def _remade(output: Any, values: list[Any]) -> Any:
    """A tuple or a list of the same kind."""
    return output._make(values) if hasattr(output, "_make") else type(output)(values)


def tensors(output: Any) -> Iterator[Tensor]:
    """The tensors in what a module gives; of a packed sequence that of its steps."""
    for each in whole_tensors(output):
        yield each.data if isinstance(each, PackedSequence) else each


def _is_number(x: Tensor | PackedSequence) -> bool:
    own = x.data if isinstance(x, PackedSequence) else x
    return own.is_floating_point() or own.is_complex()
