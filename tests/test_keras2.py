"""Files of Keras 2, ported: outputs, penalties and gradients are what that Keras computed.

`keras2/make.py` has made the files, and what to expect of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import regspec

FOLDER = Path(__file__).parent / "keras2"
FILES = [
    path
    for path in sorted(FOLDER.glob("keras_*/*"))
    if path.suffix in (".h5", ".keras", ".json") and not path.name.endswith((".weights.h5", ".legacy.h5"))
]


def named(path: Path) -> str:
    return f"{path.parent.name}-{path.name}"


def flat(outputs: Any) -> list[Tensor]:
    return list(outputs.values() if isinstance(outputs, dict) else outputs if isinstance(outputs, tuple) else [outputs])


def inputs_of(port: regspec.Port, found: Any) -> list[Tensor]:
    """The arrays of a model's inputs: by their names, or as they stand where a Sequential has an input of its own."""
    arrays = {key.partition(":")[2]: torch.as_tensor(found[key]) for key in found if key.startswith("input:")}
    names = [*port.spec.inputs]
    return [arrays[name] for name in names] if set(names) == set(arrays) else [*arrays.values()]


def close(got: list[Tensor], wanted: list[Any]) -> None:
    assert [tuple(x.shape) for x in got] == [x.shape for x in wanted]
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a.detach(), torch.as_tensor(b), rtol=2e-4, atol=2e-4)


def agrees(port: regspec.Port, found: Any) -> None:
    model = port.build()
    inputs = inputs_of(port, found)
    wanted = [found[key] for key in found if key.startswith("output_")]
    outputs = flat(model(*inputs))
    close(outputs, wanted)
    penalty = model.regularization_loss()
    torch.testing.assert_close(penalty.detach(), torch.as_tensor(found["penalty"]), rtol=2e-4, atol=1e-6)
    (penalty + sum(x.square().mean() for x in outputs)).backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = sum(gradient.double().square().sum().item() for gradient in gradients) ** 0.5
    assert norm == pytest.approx(found["norm"].item(), rel=1e-3, abs=1e-6)
    in_training = [found[key] for key in found if key.startswith("training_") and key != "training_penalty"]
    if in_training:
        model.train()
        close(flat(model(*inputs)), in_training)
        wanted_penalty = torch.as_tensor(found["training_penalty"])
        torch.testing.assert_close(model.regularization_loss().detach(), wanted_penalty, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("path", FILES, ids=named)
def test_computes_what_its_keras_did(path: Path) -> None:
    weights = path.with_suffix(".weights.h5") if path.suffix == ".json" else None
    with np.load(path.with_suffix(".npz")) as found:
        agrees(regspec.port(path, weights=weights), found)


def test_a_config_with_weights_in_the_old_format() -> None:
    folder = FOLDER / "keras_2_21_0"
    with np.load(folder / "graph.npz") as found:
        agrees(regspec.port(folder / "graph.json", weights=folder / "graph.legacy.h5"), found)
