"""What a fault looks like: each file here is a spec, a marker, and the messages that it must give."""

from __future__ import annotations

from pathlib import Path

import pytest

import regspec

CASES = sorted((Path(__file__).parent / "faults").glob("*.txt"))
MARKER = "----\n"


@pytest.mark.parametrize("path", CASES, ids=[path.stem for path in CASES])
def test_fault(path: Path) -> None:
    text, _, expected = path.read_bytes().decode().rpartition(MARKER)
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.loads(text, "model.yaml")
    assert f"{caught.value}\n" == expected
