"""From source text to modules: what is executed is found by who looks for it, and forgotten when nothing uses it."""

from __future__ import annotations

import gc
import inspect
import linecache
import pickle
import sys

import pytest
import torch

import regspec
from regspec.modules.building import SOURCES

KEPT = SOURCES.kept


def spec_of(strength: float) -> regspec.ModelSpec:
    return regspec.loads(
        f"""
        regspec: 1
        name: net
        inputs: {{x: {{shape: [3]}}}}
        blocks:
          encoder: {{layers: [Dense: {{name: dense, units: 2, kernel_regularizer: {{l2: {strength}}}}}]}}
        layers:
          - encoder: {{name: encoder}}
          - Dense: {{name: logits, units: 2}}
        """
    )


def build(number: int) -> torch.nn.Module:
    return regspec.build(spec_of(0.1 * (number + 1)), seed=0)


def modules() -> set[str]:
    """The compiled sources that Python knows of."""
    return {name for name in sys.modules if name.startswith("regspec.compiled_")}


@pytest.fixture(autouse=True)
def _nothing_built() -> None:
    gc.collect()
    SOURCES.forget()


def test_sources_that_nothing_uses_are_forgotten() -> None:
    before = modules()
    for number in range(50):
        build(number)
    gc.collect()
    SOURCES.executed("x = 1")
    assert len(modules() - before) <= KEPT
    assert len([path for path in linecache.cache if path.startswith("<regspec.compiled_")]) <= KEPT + len(before)


@pytest.mark.parametrize("part", ["model", "its block"])
def test_what_is_used_stays(part: str) -> None:
    used = build(0) if part == "model" else build(0).encoder
    for number in range(1, KEPT + 10):
        build(number)
    name = type(used).__module__
    assert name in sys.modules
    assert "self.dense = nn.Linear(3, 2)" in inspect.getsource(sys.modules[name])
    assert "class" in inspect.getsource(type(used))
    copied = pickle.loads(pickle.dumps(used))
    assert type(copied) is type(used)
    x = torch.randn(4, 3)
    torch.testing.assert_close(copied(x), used(x), rtol=0, atol=0)


def test_what_was_forgotten_is_unpickled() -> None:
    stored = pickle.dumps(build(0))
    gc.collect()
    SOURCES.forget()
    assert type(pickle.loads(stored)).__name__ == "Net"


def test_equal_sources_are_one_class() -> None:
    assert type(build(0)) is type(build(0))
    assert type(build(0)) is not type(build(1))
