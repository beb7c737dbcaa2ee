"""Arrays in memory: scikit-learn's bundled sets, NumPy files, and what others give, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from regspec.graph.network import Graph
from regspec.text.problems import Problem, RegspecError, did_you_mean
from regspec.training.data.wanted import Array, Columns, Names, Wanted

WEIGHTS = "sample_weight"  # the array that says how much each example counts
DIVIDED = {"digits": 16}  # bundled sets whose inputs are divided: the digits' pixels go from 0 to 16


Where = tuple[str, Sequence[int]]  # what the rows of a source are called, line or row, and their numbers there


@dataclass(frozen=True)
class Arrays:
    """The inputs by their names, finite numbers, and the targets by the outputs' names, numbers or words.

    ``weights`` say how much each example counts, float32 and none below 0; ``groups`` what it belongs to.
    """

    inputs: Mapping[str, Array]
    targets: Mapping[str, Array]
    columns: Columns | None = None  # of the table that they are from
    weights: Array | None = None
    groups: Array | None = None
    where: Where | None = None  # in the source


def place_of(row: int, where: Where | None = None) -> str:
    """What an example is called in its source: ``line 18``, or ``item 17`` where that has no other name for it."""
    unit, numbers = where or ("item", range(row + 1))
    return f"{unit} {numbers[row]}"


def bundled(name: str, graph: Graph, wanted: Sequence[Wanted]) -> tuple[list[Arrays], Names]:
    """A set that scikit-learn brings along, with the names of its classes if it has some."""
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    inputs = bunch.data / DIVIDED.get(name, 1)
    names = bunch.get("target_names")  # those of the digits are their numbers
    names = None if names is None or names.dtype.kind == "i" else tuple(map(str, names))
    return [checked(inputs, bunch.target, graph, name, wanted)], names


def npz(path: str, graph: Graph, wanted: Sequence[Wanted]) -> Arrays:
    """The arrays of a file: the inputs by their names (or x where there is one); targets by theirs, or y for one."""
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            stored, goals, missing = _keys(file.files, graph, wanted)
            found = {} if missing else {name: file[key] for name, key in stored.items()}
            targets = {} if missing else {name: file[key] for name, key in goals.items()}
            own = (*stored.values(), *goals.values())
            weights = file[WEIGHTS] if wanted and WEIGHTS in file.files and WEIGHTS not in own else None
    except OSError as error:
        raise RegspecError(Problem(f"can't be read: {error.strerror or error}", path=path)) from None
    except Exception as error:  # of a file that is no .npz, NumPy and zipfile raise many
        raise RegspecError(Problem(f"can't be read as .npz: {error or type(error).__name__}", path=path)) from None
    if missing:
        raise RegspecError(replace(missing, what=f"has {missing.what}", path=path))
    return checked(found, targets, graph, path, wanted, weights=weights)


def by_name(
    given: Mapping[str, Any], graph: Graph, source: str, wanted: Sequence[Wanted], rows: Sequence[int] | None = None
) -> Arrays:
    """The arrays of a mapping, by the names that they have in an ``.npz``."""
    keys = keys_of([*given], graph, source, wanted)
    inputs, targets = ({name: given[key] for name, key in own.items()} for own in keys)
    is_taken = not wanted or any(WEIGHTS in own.values() for own in keys)
    weights = None if is_taken else given.get(WEIGHTS)
    return checked(inputs, targets, graph, source, wanted, rows, weights=weights)


def keys_of(
    has: Sequence[str], graph: Graph, source: str, wanted: Sequence[Wanted]
) -> tuple[dict[str, str], dict[str, str]]:
    """Under which of the names there are the inputs and the targets are. Raises `RegspecError` where one is missing."""
    stored, goals, missing = _keys(has, graph, wanted)
    if missing:
        raise RegspecError(replace(missing, what=f"'{source}' has {missing.what}"))
    return stored, goals


def _keys(
    has: Sequence[str], graph: Graph, wanted: Sequence[Wanted]
) -> tuple[dict[str, str], dict[str, str], Problem | None]:
    """Under which of the names there are the inputs and the targets are; and what is wrong, where one is missing."""
    names = [x.source for x in graph.inputs]
    stored = {name: name for name in names}
    if len(names) == 1 and names[0] not in has and "x" in has:
        stored = {names[0]: "x"}
    goals = {each.name: each.said.target or each.name for each in wanted}
    if len(wanted) == 1 and wanted[0].said.target is None and ("y" in has or wanted[0].name not in has):
        goals = {wanted[0].name: "y"}
    goals = {name: key for name, key in goals.items() if key not in stored}  # others are inputs
    missing = next((key for key in (*stored.values(), *goals.values()) if key not in has), None)
    if missing is None:
        return stored, goals, None
    hint = did_you_mean(missing, has) or f"it has {', '.join(sorted(map(str, has))) or 'nothing'}"
    return stored, goals, Problem(f"no array '{missing}'", hint)


def checked(
    inputs: Any,
    targets: Any,
    graph: Graph,
    source: str,
    wanted: Sequence[Wanted],
    rows: Sequence[int] | None = None,
    *,
    weights: Any = None,
) -> Arrays:
    """Inputs and targets by name, in a list, or the only one: as finite numbers, one row for each example.

    ``rows`` are the numbers of the examples, where these are some of more; ``weights`` those that examples have.
    """
    names = [x.source for x in graph.inputs]
    if not isinstance(inputs, Mapping):
        given = inputs if len(names) > 1 and isinstance(inputs, (tuple, list)) else [inputs]
        if len(given) > len(names):
            what = f"'{source}' gives {len(given)} inputs, but the spec takes {len(names)}: {', '.join(names)}"
            raise RegspecError(Problem(what))
        inputs = dict(zip(names, given, strict=False))
    missing = [name for name in names if name not in inputs]
    if missing:
        gives = ", ".join(map(str, inputs))
        raise RegspecError(Problem(f"'{source}' gives no input '{missing[0]}'", f"it gives {gives}"))
    arrays = {name: _numbers(inputs[name], f"for '{name}'", source, rows) for name in names}
    goals = targets_of(targets, arrays, source, wanted, rows)
    check_counts({name: len(array) for name, array in arrays.items()}, goals, source)
    made = Arrays(arrays, goals)
    return made if weights is None else weighted(made, weights, source, rows)


def weighted(part: Arrays, weights: Any, source: str, rows: Sequence[int] | None = None) -> Arrays:
    """A part whose examples count as much as weights say; those in a file stay there, and are checked in batches.

    Raises:
        RegspecError: where they are not one number for each example, finite and none below 0.
    """
    array = _numbers(weights, f"of '{WEIGHTS}'", source, rows)
    array = array[:, 0] if array.shape[1:] == (1,) else array
    count = len(next(iter((part.inputs or part.targets).values())))
    if array.ndim > 1 or len(array) != count:
        what = f"'{WEIGHTS}' of '{source}' is {array.shape}, but there are {count} examples"
        raise RegspecError(Problem(what, "it has one number for each example"))
    if isinstance(array, np.memmap):
        return replace(part, weights=array)
    if (array < 0).any():
        row = int(np.argmax(array < 0))
        what = f"'{WEIGHTS}' of '{source}' is {array[row]} in example {row if rows is None else rows[row]}"
        raise RegspecError(Problem(f"{what}, counted from 0, but a weight is at least 0"))
    if rows is None and not array.any():
        raise RegspecError(Problem(f"'{WEIGHTS}' of '{source}' is 0 everywhere: nothing would be learned"))
    return replace(part, weights=array.astype(np.float32))


def check_counts(inputs: Mapping[str, int], targets: Mapping[str, Array], source: str) -> None:
    """Raises where there are not as many targets as examples, which are counted for each input."""
    told = {"the target" if len(targets) == 1 else f"the target '{name}'": len(goal) for name, goal in targets.items()}
    counts = {**inputs, **told}
    if len(set(counts.values())) > 1:
        each = ", ".join(f"{count} for {name}" for name, count in counts.items())
        raise RegspecError(Problem(f"'{source}' gives unequal numbers of examples: {each}"))


def targets_of(
    given: Any,
    inputs: Mapping[str, Array],
    source: str,
    wanted: Sequence[Wanted],
    rows: Sequence[int] | None = None,
) -> dict[str, Array]:
    """The targets by the outputs' names. One that is said to be an input is that, unless a target has its name."""
    by_name = given if isinstance(given, Mapping) else {}
    found: dict[str, Any] = {}
    taken: dict[str, Array] = {}
    for each in wanted:
        target = each.said.target or each.name
        if each.name in by_name or target in by_name:
            found[each.name] = by_name[each.name if each.name in by_name else target]
        elif each.said.target is not None and target in inputs:
            taken[each.name] = inputs[target]
    absent = [each for each in wanted if each.name not in found.keys() | taken.keys()]
    if absent and isinstance(given, Mapping):
        what = f"'{source}' gives no target '{absent[0].said.target or absent[0].name}'"
        some = "; where a loss is said of some outputs, the others do not learn" * (len(wanted) > 1)
        raise RegspecError(Problem(what, f"it gives {', '.join(map(str, given)) or 'none'}{some}"))
    if len(absent) == 1:
        found[absent[0].name] = given
    elif absent:
        if not isinstance(given, (tuple, list)) or len(given) != len(absent):
            names = ", ".join(each.name for each in absent)
            hint = f"for some outputs only, say which: --outputs.{absent[0].name}.loss"
            raise RegspecError(Problem(f"'{source}' does not give a target for each of {names}", hint))
        found |= {each.name: goal for each, goal in zip(absent, given, strict=True)}
    for name, goal in found.items():
        told = "of the target" if len(wanted) == 1 else f"of the target '{name}'"
        taken[name] = _numbers(goal, told, source, rows, takes_words=True)
    return {each.name: taken[each.name] for each in wanted}


def _numbers(
    value: Any, what: str, source: str, rows: Sequence[int] | None = None, *, takes_words: bool = False
) -> Array:
    """A value as an array of finite numbers, or words where these may be; whole numbers are int64."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.float() if value.dtype == torch.bfloat16 else value  # which NumPy lacks
    is_mapped = isinstance(value, np.memmap)  # which is neither copied nor looked through here
    try:
        array = value if is_mapped else np.asarray(value)
    except (TypeError, ValueError) as error:
        raise RegspecError(Problem(f"the numbers {what} of '{source}' are no array: {error}")) from None
    if takes_words and array.dtype.kind == "O" and all(isinstance(each, str) for each in array.flat):
        array = array.astype(str)  # as pandas has words
    if array.dtype.kind not in ("biufU" if takes_words else "biuf"):
        raise RegspecError(Problem(f"the numbers {what} of '{source}' are no numbers, but {_kind(array)}"))
    if array.ndim == 0:
        raise RegspecError(Problem(f"the numbers {what} of '{source}' are one number, and not one for each example"))
    if is_mapped:
        return array
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise RegspecError(
            Problem(f"the numbers {what} of '{source}' go up to {array.max()}, which int64 does not hold")
        )
    if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
        row = int(np.argmin(finite.reshape(len(array), -1).all(1)))
        where = f"the first in example {row if rows is None else rows[row]}, counted from 0"
        raise RegspecError(Problem(f"the numbers {what} of '{source}' are not finite everywhere: {where}"))
    return array.astype(np.int64, copy=False) if array.dtype.kind in "iu" else array


def _kind(array: Array) -> str:
    """What an array holds that is no numbers."""
    first = array.flat[0] if array.size else None
    return f"{array.dtype}" if first is None else f"{array.dtype} such as '{first}'"
