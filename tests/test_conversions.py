"""Random models, folded, converted and in blocks: all compute what the port computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest
import torch
from torch import Tensor

import regspec

from .ported import flat
from .random_models import checks, random_model

# Of Keras, when it makes, calls and saves a model.
pytestmark = [pytest.mark.filterwarnings(f"ignore::{name}") for name in ("UserWarning", "DeprecationWarning")]

WANTED: list[dict[str, Any]] = [
    {"data_format": "channels_first"},
    {"fold": True},
    {"blocks": True},
    {"data_format": "channels_first", "fold": True, "blocks": True},
]
SEEDS = (*range(12), 57, 83, 104, 147, 169, 183, 211)  # some of which once went wrong
MORE = [pytest.param(seed, marks=pytest.mark.everything) for seed in range(12, 56)]


@pytest.mark.parametrize("seed", [*SEEDS, *MORE])
def test_random_models(seed: int, tmp_path: Path) -> None:
    keras.backend.clear_session(free_memory=False)
    case = random_model(seed)
    case.model.save(tmp_path / "model.keras")
    plain = regspec.port(tmp_path / "model.keras")
    given = [*checks.in_order(case, case.inputs(2, 9))]
    original = plain.build()
    wanted = flat(original(*given))
    for options in WANTED:
        port = regspec.port(tmp_path / "model.keras", **options)
        built = port.build()
        orders = [port.input_orders.get(name) for name in port.spec.inputs]
        got = flat(built(*(moved(x, order) for x, order in zip(given, orders, strict=True))))
        for a, b, name in zip(got, wanted, names_of(port), strict=True):
            torch.testing.assert_close(a, moved(b, port.output_orders.get(name)), rtol=1e-3, atol=1e-4)
        if "fold" not in options:
            torch.testing.assert_close(regspec.regularization_loss(built), regspec.regularization_loss(original))


def moved(x: Tensor, order: tuple[int, ...] | None) -> Tensor:
    return x if order is None else x.permute(order)


def names_of(port: regspec.Port) -> list[str]:
    """The outputs in the order in which Keras flattens them."""
    outputs = port.spec.body.outputs
    if isinstance(outputs, str):
        return [outputs]
    return sorted(outputs) if isinstance(outputs, dict) else [*(outputs or ())]
