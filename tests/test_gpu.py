"""What is prepared for a GPU (`tests.gpu`) runs, on the CPU and with small sizes: its figures are none here."""

from __future__ import annotations

import pytest

from . import gpu


def test_figures() -> None:
    assert [each.name for each in gpu.figures("cpu", is_small=True) if not (each.ours > 0 and each.theirs > 0)] == []


@pytest.mark.parametrize("check", [*gpu.checks("cpu", is_small=True)], ids=lambda each: each.name)
def test_checks(check: gpu.Check) -> None:
    assert check.holds
