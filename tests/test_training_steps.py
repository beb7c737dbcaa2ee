"""What becomes of a step: clipped gradients, steps of several batches, learning rates, averages; by plain torch."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

import regspec
from regspec.graph.loading import graph_of
from regspec.training.batches import Batches
from regspec.training.data import load_data
from regspec.training.options import Options
from regspec.training.run import Run, train

NET = """\
regspec: 1
name: net
inputs: {x: {shape: [13]}}
layers:
  - LayerNormalization
  - Dense: {name: hidden, units: 7, activation: tanh, kernel_regularizer: {l2: 1e-2}, activity_regularizer: {l1: 1e-2}}
  - Dense: {name: scores, units: 3}
"""
SIZE = 30  # of a batch: five in an epoch, of which the last has 22 of the 142 examples


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "net.yaml"
    path.write_text(NET)
    return path


def run_of(spec: Path, **options: Any) -> Run:
    made = Options(**{"data": "wine", "epochs": 3, "batch_size": SIZE, "optimizer": "sgd", "lr": 0.3, **options})
    return train(spec, made, spec.parent / f"run{len([*spec.parent.iterdir()])}", console=Console(file=io.StringIO()))


def batches(spec: Path, epochs: int) -> Iterator[list[tuple[Tensor, ...]]]:
    """The batches of each epoch of a run."""
    loaded = load_data("wine", graph_of(regspec.load(spec)))
    order = Batches(len(loaded.train), SIZE, seed=0)
    for epoch in range(epochs):
        order.set_epoch(epoch)
        yield [loaded.train[rows] for rows in order]


def loss_of(model: Any, x: Tensor, y: Tensor) -> Tensor:
    loss: Tensor = F.cross_entropy(model(x), y) + model.regularization_loss()
    return loss


def assert_same(run: Run, model: nn.Module) -> None:
    """The weights of the last epoch."""
    state = torch.load(run.folder / "checkpoint.ckpt", weights_only=False)["state_dict"]
    torch.testing.assert_close({name.removeprefix("model."): each for name, each in state.items()}, model.state_dict())


def test_gradients_are_clipped(spec: Path) -> None:
    """The norm over all of them, penalties' too; as torch clips."""
    model = regspec.build(spec, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    norms = []
    for epoch in batches(spec, 3):
        for x, y in epoch:
            optimizer.zero_grad()
            loss_of(model, x, y).backward()
            norms.append(nn.utils.clip_grad_norm_(model.parameters(), 0.5).item())
            optimizer.step()
    assert min(norms) < 0.5 < max(norms)
    assert_same(run_of(spec, clip_gradients=0.5), model)


def test_what_a_gradient_route_adds_is_not_clipped(spec: Path) -> None:
    model = regspec.build(spec, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for epoch in batches(spec, 3):
        for x, y in epoch:
            optimizer.zero_grad()
            result = model(x)
            terms = model.regularization_terms()
            (F.cross_entropy(result, y) + terms["hidden.activity"]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            model.hidden.weight.grad += 2e-2 * model.hidden.weight.detach()
            optimizer.step()
    assert_same(run_of(spec, clip_gradients=0.5, route=("l2=gradient",)), model)


@pytest.mark.parametrize("several", [2, 3, 5, 9])
def test_a_step_of_several_batches_is_that_of_one_that_holds_them(several: int, spec: Path) -> None:
    """Also where the last ones of an epoch are fewer, or a batch is smaller; activities are means over each batch."""
    model = regspec.build(spec, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    for epoch in batches(spec, 3):
        for first in range(0, len(epoch), several):
            x, y = map(torch.cat, zip(*epoch[first : first + several], strict=True))
            optimizer.zero_grad()
            loss_of(model, x, y).backward()
            optimizer.step()
    assert_same(run_of(spec, accumulate=several, optimizer="sgd momentum=0.9"), model)


def test_outputs_on_a_gradient_route_are_refused_there(spec: Path) -> None:
    with pytest.raises(regspec.RegspecError, match=r"no gradient route .* with steps of several batches"):
        run_of(spec, accumulate=2, route=("activity=gradient",))


def test_no_gradient_is_refused(spec: Path) -> None:
    with pytest.raises(regspec.RegspecError, match="clip_gradients must be greater than 0"):
        run_of(spec, clip_gradients=0.0)
