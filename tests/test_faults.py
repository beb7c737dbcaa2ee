"""What a fault looks like: each file here is a spec, a marker, and the messages that it must give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

import regspec

CASES = sorted((Path(__file__).parent / "faults").glob("*.txt"))
MARKER = "----\n"


@pytest.mark.parametrize("path", CASES, ids=[path.stem for path in CASES])
def test_fault(path: Path) -> None:
    text, _, expected = path.read_bytes().decode().rpartition(MARKER)
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.loads(text, "model.yaml")
    assert f"{caught.value}\n" == expected


FAULTY: dict[str, tuple[Any, list[str]]] = {  # a layer, or rules; and each message's end
    "one of one": ("Discretization: {bin_boundaries: [a]}", ["must be a number, but is 'a'"]),
    "none": ("Discretization: {bin_boundaries: []}", ["must have at least 1 items, but has 0"]),
    "one of two": ("Rot90: {axes: [a, 2]}", ["must be a whole number, but is 'a'"]),
    "both of two": ("Rot90: {axes: [a, b]}", [f"must be a whole number, but is '{name}'" for name in "ab"]),
    "one, and one too few": (
        "Rot90: {axes: [a]}",
        ["must have at least 2 items, but has 1", "must be a whole number, but is 'a'"],
    ),
    "one too few": ("Rot90: {axes: [1]}", ["must have at least 2 items, but has 1"]),
    "one too many": ("Rot90: {axes: [1, 2, 3]}", ["must have at most 2 items, but has 3"]),
    "a rule": ([{"types": ["Linear"], "kernel_regularizer": "l3"}], ["names no regularizer: 'l3'"]),
    "a rule with nothing": ([{}], ["needs a regularizer"]),
    "both rules": ([{}, {}], ["needs a regularizer"] * 2),
    "no rule": ([], ["must have at least 1 items, but has 0"]),
}


@pytest.mark.parametrize("name", FAULTY)
def test_what_is_faulty_is_not_said_to_be_missing(name: str) -> None:
    """A list is too short where it has too few items, and not where it has too few without fault."""
    written, ends = FAULTY[name]
    head = "regspec: 1\ninputs: {x: {shape: [3, 3, 2]}}\nlayers:\n  - "
    is_layer = isinstance(written, str)
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.loads(head + written) if is_layer else regspec.regularize(nn.Linear(3, 2), written)
    messages = sorted(each.what for each in caught.value.problems)
    assert len(messages) == len(ends)
    assert all(message.endswith(end) for message, end in zip(messages, ends, strict=True))
