"""The copies of a repeated block, ``repeat: 3`` or ``repeat: {dilation: [1, 2, 4]}``: the arguments of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regspec.layers import find_kind
from regspec.specs.model import Body, LayerUse
from regspec.specs.sections import UseEntry
from regspec.text.dumping import written
from regspec.text.faults import Origin
from regspec.text.problems import Problem


def arguments_of_copies(
    use: UseEntry, arguments: Mapping[str, Any], origin: Origin, problems: list[Problem]
) -> list[dict[str, Any]]:
    """A block's arguments in each copy of it; in one for all where these are alike, and none after a fault."""
    if not isinstance(use.repeat, dict):
        return [{**arguments}]
    here, before = origin / "repeat", len(problems)
    counts = {name: len(values) for name, values in use.repeat.items()}
    if len({*counts.values()}) > 1:
        listed = ", ".join(f"{count} of '{name}'" for name, count in counts.items())
        problems.append(here.problem(f"each copy needs a value of each parameter, but there are {listed}", key=True))
    for name in counts.keys() & arguments.keys():
        problems.append((here / name).problem(f"'{name}' is said of each copy, and of all of them", key=True))
    if len(problems) > before:
        return []
    return [
        {**arguments, **dict(zip(use.repeat, each, strict=True))} for each in zip(*use.repeat.values(), strict=True)
    ]


def without_copies(name: str, use: UseEntry, body: Body) -> LayerUse | None:
    """What stands for a block that is repeated no time: what hands its input on; None for one of several tensors."""
    identity = find_kind("Identity")
    is_single = body.outputs is None or isinstance(body.outputs, str) or len(body.outputs) == 1
    if identity is None or len(body.inputs) != 1 or not is_single or isinstance(body.outputs, Mapping):
        return None
    return LayerUse(name, identity(), use.inputs)


def hint_at_copies(use: UseEntry, arguments: Mapping[str, Any]) -> str | None:
    """What to write where a repeated block has faults, and a list that may be meant for its copies."""
    if not isinstance(use.repeat, int):
        return None
    listed = [f"{name}: {written(each)}" for name, each in arguments.items() if isinstance(each, list)]
    return f"a value for each copy is written 'repeat: {{{', '.join(listed)}}}'" if listed else None
