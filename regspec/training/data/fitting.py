"""Arrays as the tensors that a model's inputs take; what does not fit is a fault that names both sides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from regspec.code.expressions import CASTS, Method
from regspec.code.shapes import Symbol, text
from regspec.graph.network import Graph
from regspec.targets.torch.program import Program, block_of, program_of
from regspec.text.problems import Problem, Problems, RegspecError
from regspec.training.data.arrays import Arrays
from regspec.training.data.images import Files
from regspec.training.data.wanted import Array, Columns, Wanted
from regspec.views.summary import plural

SHOWN = 24  # columns in a message
# methods of a tensor that keep its numbers, and at most move them
MOVES = {"reshape", "permute", "unsqueeze", "squeeze", "flatten", "long", "int", *CASTS.values()}


@dataclass(frozen=True)
class Bounds:
    """The indices that an input may hold: below ``limit``, and none below 0, unless -1 may stand for no class."""

    limit: int
    is_from_0: bool


def fitted_inputs(
    arrays: Mapping[str, Array],
    graph: Graph,
    source: str,
    bounds: Sequence[Bounds | None] | None = None,
    rows: Sequence[int] | None = None,
) -> tuple[torch.Tensor, ...]:
    """The inputs as the model takes them, in its order.

    Args:
        arrays: by the inputs' names.
        graph: the model's.
        source: of the data, for messages.
        bounds: those of `index_bounds`, where they are known.
        rows: the numbers of the examples, where these are some of more.

    Raises:
        RegspecError: where they do not fit.
    """
    bounds = index_bounds(program_of(graph)) if bounds is None else bounds
    return tuple(
        _fitted(shaped(arrays[x.source], x, source), x, own, source, rows)
        for x, own in zip(graph.inputs, bounds, strict=True)
    )


def check_widths(part: Arrays, graph: Graph, source: str) -> None:
    """Raises `RegspecError` where columns give more or fewer numbers than an input takes: with what each of them gives.

    How many words a column has is known once it is fitted, so that nobody can count it before.
    """
    columns, problems = part.columns, Problems()
    for x in graph.inputs if columns is not None else ():
        array = part.inputs[x.source]
        try:
            shaped(array, x, source)
        except RegspecError as error:
            assert columns is not None
            widths = [(name, columns.widths.get(name, 1)) for name in columns.inputs.get(x.source, ())]
            shown = ", ".join(f"{name} {width}" for name, width in widths[:SHOWN])
            total, of = array.shape[1], plural(len(widths), "column", "columns")
            given = f"{total} numbers from {of}: {shown}{', …' * (len(widths) > SHOWN)}"
            fits = f"; shape: [{total}] takes them" if len(x.spec_shape) == 2 else ""
            problems.extend(replace(each, hint=f"{given}{fits}") for each in error.problems)
    if problems:
        raise RegspecError(problems)


def check_codes(columns: Columns | None, graph: Graph, source: str) -> None:
    """Raises `RegspecError` where an input takes fewer indices than a column of words has numbers."""
    fitted = {} if columns is None else {each.name: each for each in columns.fitted}
    if columns is None or not any(each.limit for each in fitted.values()):
        return
    for x, bounds in zip(graph.inputs, index_bounds(program_of(graph)), strict=True):
        for each in (fitted[name] for name in columns.inputs.get(x.source, ()) if name in fitted):
            if bounds is None or each.limit is None or each.limit <= bounds.limit:
                continue
            given = f"column '{each.name}' has the numbers 0 to {each.limit - 1}"
            less = f", or --columns.{each.name}.text '{{vocabulary: {bounds.limit}, …}}'" if each.said.text else ""
            what = f"{given}, but the spec takes indices below {bounds.limit} for '{x.source}'"
            raise RegspecError(Problem(what, f"input_dim: {each.limit}{less}", source))


def goal_in(part: Arrays | Files, wanted: Wanted, source: str) -> Array:
    """The target of an output in a part of the data. One that is an input may come in a row, as inputs may."""
    goal = part.targets[wanted.name]
    is_input = isinstance(part, Arrays) and any(goal is array for array in part.inputs.values())
    return shaped(goal, wanted.x, source) if is_input else goal


def shaped(array: Array, x: Symbol, source: str) -> Array:
    """An array in an input's shape; numbers in a row, and axes of size 1, fit in if the count is right."""
    given, wanted = array.shape[1:], x.spec_shape[1:]
    if len(given) == len(wanted) and all(b in (None, a) for a, b in zip(given, wanted, strict=True)):
        return array
    known, unknown = math.prod(size or 1 for size in wanted), wanted.count(None)
    total = math.prod(given)
    fits = total % known == 0 if unknown == 1 else total == known and not unknown
    # other shapes with that count, such as channels at the other end, would mix the numbers up
    is_alike = min(len(given), len(wanted)) <= 1 or [*_wide(given)] == [*_wide(wanted)]
    if total and fits and is_alike:
        return array.reshape(len(array), *(-1 if size is None else size for size in wanted))
    what = f"'{source}' gives {text((None, *given))} for '{x.source}', but the spec takes {text(x.spec_shape)}"
    is_turned = sorted(given) == sorted(size or 0 for size in wanted)
    where = "last" if x.is_plain else "first"
    hint = f"the axes are in another order: the spec counts the channels {where}" if is_turned else None
    raise RegspecError(Problem(what, hint))


def _wide(shape: tuple[int | None, ...]) -> list[int | None]:
    return [size for size in shape if size != 1]


def _fitted(array: Array, x: Symbol, bounds: Bounds | None, source: str, rows: Sequence[int] | None) -> torch.Tensor:
    """An array of numbers that an input can hold, in its type."""
    dtype: torch.dtype = getattr(torch, x.dtype)
    taken = f"the spec takes {x.dtype}"
    if bounds is not None:
        taken = f"the spec takes {'indices' if bounds.is_from_0 else 'classes'} below {bounds.limit}"
    if array.dtype.kind == "f" and (bounds is not None or not x.is_floating):
        _refuse(array % 1 != 0, array, x, source, taken, rows, f"'{x.source}' takes whole numbers")
    if dtype == torch.bool:
        low, high = 0.0, 1.0
    else:
        info = torch.finfo(dtype) if x.is_floating else torch.iinfo(dtype)
        low, high = info.min, info.max
    if bounds is not None:
        low, high = 0 if bounds.is_from_0 else low, min(high, bounds.limit - 1)
    if bounds is not None or x.dtype == "bfloat16" or not np.can_cast(array.dtype, x.dtype):
        _refuse((array < low) | (array > high), array, x, source, taken, rows)
    # NumPy has no bfloat16; the copy keeps the tensor apart from the user's array
    return torch.from_numpy(array.astype(_held(x))).to(dtype)


def _held(x: Symbol) -> str:
    """NumPy's type for an input's numbers."""
    return "float32" if x.dtype == "bfloat16" else x.dtype


def _refuse(
    faulty: Array,
    array: Array,
    x: Symbol,
    source: str,
    taken: str,
    rows: Sequence[int] | None,
    hint: str | None = None,
) -> None:
    """Raises with the first of the faulty numbers."""
    if faulty.any():
        place = int(np.argmax(faulty))
        row = place // max(1, math.prod(array.shape[1:]))
        row = row if rows is None else rows[row]
        given = f"'{source}' gives {array.flat[place]} for '{x.source}' in example {row}, counted from 0"
        raise RegspecError(Problem(f"{given}, but {taken}", hint))


def index_bounds(program: Program) -> list[Bounds | None]:
    """Which indices each input of a model may hold; None where it indexes nothing.

    Only where the numbers reach the table as they are: what a layer computes of them is not known before it runs.
    """
    found: dict[Symbol, Bounds] = {}

    def note(x: Symbol, bounds: Bounds | None) -> None:
        if bounds is not None:
            other = found.get(x, bounds)
            found[x] = Bounds(min(bounds.limit, other.limit), bounds.is_from_0 or other.is_from_0)

    for step in reversed(program.steps):
        if (block := block_of(step)) is not None:
            for x, bounds in zip(step.inputs, index_bounds(block), strict=True):
                note(x, bounds)
        elif (resolved := step.lowered.resolved) is not None and resolved.layer.index_limit is not None:
            note(step.inputs[0], Bounds(resolved.layer.index_limit, resolved.layer.indexes_rows))
        elif step.outputs and all(isinstance(each, Method) and each.name in MOVES for each in step.lowered.results):
            note(step.inputs[0], found.get(step.outputs[0]))
    return [found.get(x) for x in program.inputs[: len(program.graph.inputs)]]
