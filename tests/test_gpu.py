"""What is prepared for a GPU (`tests.gpu`) runs, on the CPU and with small sizes: its figures are none here."""

from __future__ import annotations

from . import gpu


def test_figures() -> None:
    assert [each.name for each in gpu.figures("cpu", is_small=True) if not (each.ours > 0 and each.theirs > 0)] == []


def test_checks() -> None:
    found = [*gpu.checks("cpu", is_small=True)]
    assert [each.name for each in found if each.error is None] == ["a step waits for the device", gpu.GRAPH]
    assert [each.name for each in found if not each.holds] == []
