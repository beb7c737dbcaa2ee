"""The recipes: what people write by hand and what regspec does give the same numbers. Times are not tested."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from .commands import run_script, started
from .test_examples import FOLDER, module_of

RECIPES = FOLDER / "recipes"
TESTED = {
    "one_layer",
    "activations",
    "weight_decay",
    "l1_by_gradient",
    "l1_penalty",
    "l1_regularization_method",
    "mixed_norm",
}
CLOSE = 1e-6


@pytest.fixture(autouse=True)
def _as_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes import what is beside them."""
    monkeypatch.syspath_prepend(RECIPES)


def recipe(name: str) -> ModuleType:
    return module_of(RECIPES / f"{name}.py")


def test_every_recipe_is_tested() -> None:
    assert {path.stem for path in RECIPES.glob("*.py")} == TESTED | {"any_module", "comparing"}


def test_a_recipe_runs_from_anywhere(tmp_path: Path) -> None:
    with started(run_script, {}, tmp_path, RECIPES / "mixed_norm.py") as process:
        result = process.ended()
    assert result.code == 0, result.output
    assert "largest relative difference" in result.stdout


@pytest.mark.parametrize(("factor", "expected"), [(1.0, 0.0), (1.5, 0.5), (float("nan"), float("nan"))])
def test_comparing_sees_gradients(factor: float, expected: float) -> None:
    def step(factor: float, model: nn.Module, x: Tensor) -> Tensor:
        model.zero_grad()
        loss = model(x).sum()
        (factor * loss).backward()
        return loss

    model = nn.Linear(3, 2)
    ways = (partial(step, 1.0), model), (partial(step, factor), copy.deepcopy(model))
    difference = recipe("comparing").compare("sum", *ways, torch.randn(5, 3), steps=2)
    assert difference == pytest.approx(expected, nan_ok=True)


def test_one_layer() -> None:
    assert max(recipe("one_layer").main()) < CLOSE


def test_activations() -> None:
    assert recipe("activations").main() < CLOSE


def test_weight_decay_is_l2_but_for_adamw() -> None:
    of_bind, of_loss = recipe("weight_decay").main()
    assert max(of_bind.values()) < CLOSE
    assert of_loss["SGD with momentum"] < CLOSE
    assert of_loss["Adam"] < CLOSE
    assert of_loss["AdamW"] > 0.1


def test_l1_by_gradient_and_the_hook_that_reaches_the_first_layer_only() -> None:
    difference, changed = recipe("l1_by_gradient").main()
    assert difference < CLOSE
    assert changed == {"None": ["0.weight", "0.bias"], "zero": ["0.weight", "0.bias"]}


def test_l1_penalty_of_legacy_torch() -> None:
    assert max(recipe("l1_penalty").main()) < CLOSE


def test_l1_regularization_method() -> None:
    difference, terms = recipe("l1_regularization_method").main()
    assert difference < CLOSE
    assert {"norm.gamma", "norm.beta", "hidden.bias"} <= set(terms)
    assert all(penalty > 0 for penalty in terms.values())


def test_mixed_norm() -> None:
    assert recipe("mixed_norm").main() < CLOSE
