"""regspec in other people's loops: the weights are those of a loop in plain torch, whose penalties are written out."""

from __future__ import annotations

import csv
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import regspec

from .test_examples import FOLDER, module_of

INTEGRATIONS = FOLDER / "integrations"
TESTED = {"accelerate_loop", "compiled_loop", "grid_search", "lightning_callback"}

Batch = tuple[Tensor, Tensor]
Penalty = Callable[[nn.Sequential, Tensor, int], Tensor]  # of the layers, the hidden layer's output, and the steps done


def integration(name: str) -> ModuleType:
    return module_of(INTEGRATIONS / f"{name}.py")


def batches(count: int, size: int, *, features: int = 64, classes: int = 10) -> DataLoader[tuple[Tensor, ...]]:
    """Made-up data in a fixed order."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.rand(count, features, generator=generator)
    labels = torch.randint(0, classes, (count,), generator=generator)
    return DataLoader(TensorDataset(inputs, labels), batch_size=size)


def layers_of(model: nn.Module) -> nn.Sequential:
    """Layers of torch with a model's weights."""
    hidden, logits = (nn.Linear(each.in_features, each.out_features) for each in (model.hidden, model.logits))
    layers = nn.Sequential(OrderedDict(hidden=hidden, relu=nn.ReLU(), logits=logits))
    layers.load_state_dict(model.state_dict())
    return layers


def loss_of(layers: nn.Sequential, batch: Batch, penalty: Penalty, step: int) -> Tensor:
    inputs, labels = batch
    output = layers[:2](inputs)
    return F.cross_entropy(layers.logits(output), labels) + penalty(layers, output, step)


@torch.no_grad()
def shrink(weight: Tensor, threshold: float) -> None:
    """The proximal step of L1: a soft threshold."""
    weight.copy_(torch.where(weight.abs() > threshold, weight - threshold * weight.sign(), torch.zeros(())))


def close(model: nn.Module, layers: nn.Sequential, before: Mapping[str, Tensor]) -> None:
    """The weights are the same, and none is where it was."""
    torch.testing.assert_close(model.state_dict(), layers.state_dict(), rtol=1e-4, atol=1e-6)
    for name, weight in layers.state_dict().items():
        assert (weight - before[name]).abs().max() > 1e-4, name


def copied(layers: nn.Sequential) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in layers.state_dict().items()}


def test_every_integration_is_tested() -> None:
    assert {path.stem for path in INTEGRATIONS.glob("*.py")} == TESTED


# -- torch.compile -----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")  # torch's own, when it is imported
def test_a_compiled_loop() -> None:
    """Steps while the strength rises, and a last batch that is smaller; compiled once for all of them."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    example = integration("compiled_loop")
    model = regspec.build(regspec.loads(example.SPEC), seed=0)
    layers = layers_of(model)
    before = copied(layers)
    data = batches(52, 12)
    example.train(model, data, epochs=5, rate=0.3, backend="aot_eager")

    def penalty(layers: nn.Sequential, output: Tensor, step: int) -> Tensor:
        l2 = 1e-3 * min(step / 20, 1)
        weights = l2 * layers.hidden.weight.square().sum() + 1e-4 * layers.logits.weight.abs().sum()
        return weights + 1e-4 * output.abs().sum() / len(output)

    optimizer = torch.optim.SGD(layers.parameters(), lr=0.3, momentum=0.9)
    for step, batch in enumerate([*data] * 5):
        optimizer.zero_grad()
        loss_of(layers, batch, penalty, step).backward()
        optimizer.step()
    close(model, layers, before)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


# -- Lightning ---------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # of Lightning and what it imports
def test_lightning(tmp_path: Path) -> None:
    example = integration("lightning_callback")
    model = regspec.build(regspec.loads(example.SPEC), seed=0)
    layers = layers_of(model)
    before = copied(layers)
    data = batches(50, 10)
    example.train(model, data, epochs=4, folder=tmp_path)

    def penalty(layers: nn.Sequential, output: Tensor, step: int) -> Tensor:
        return 1e-4 * output.abs().sum() / len(output)

    others = [layers.hidden.weight, layers.hidden.bias, layers.logits.bias]
    decayed = {"params": [layers.logits.weight], "weight_decay": 2e-3}
    optimizer = torch.optim.SGD([{"params": others}, decayed], lr=0.05, momentum=0.9)
    for batch in [*data] * 4:
        optimizer.zero_grad()
        loss_of(layers, batch, penalty, 0).backward()
        optimizer.step()
        shrink(layers.hidden.weight, 0.05 * 5e-3 / (1 - 0.9))  # as much longer as the steps are by momentum
    close(model, layers, before)

    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [10, 20]
    zeros = (layers.hidden.weight == 0).float().mean().item()
    assert zeros > 0
    assert float(rows[-1]["zeros/model.hidden.kernel"]) == pytest.approx(zeros)
    assert float(rows[-1]["penalty/model.hidden.kernel"]) == pytest.approx(
        5e-3 * layers.hidden.weight.abs().sum().item(), rel=1e-4
    )
    assert float(rows[-1]["strength/model.logits.kernel.l2"]) == 1e-3


@pytest.mark.filterwarnings("ignore")  # of Lightning and what it imports
def test_lightning_learns(capsys: pytest.CaptureFixture[str]) -> None:
    accuracy, zeros = integration("lightning_callback").main(epochs=8)
    assert accuracy > 0.9
    assert zeros > 0.1
    assert "zeros/model.hidden.kernel" in capsys.readouterr().out


# -- Accelerate --------------------------------------------------------------------------------------------------------


def test_accelerate_with_accumulated_gradients() -> None:
    """Two batches a step: their penalties are averaged, and so are those of the data."""
    from accelerate import Accelerator

    example = integration("accelerate_loop")
    model = regspec.build(regspec.loads(example.SPEC), seed=0)
    layers = layers_of(model)
    before = copied(layers)
    data = batches(48, 6)
    example.train(model, data, Accelerator(cpu=True, gradient_accumulation_steps=2), epochs=3)

    def penalty(layers: nn.Sequential, output: Tensor, step: int) -> Tensor:
        return 1e-3 * layers.hidden.weight.square().sum() + 1e-4 * output.abs().sum() / len(output)

    optimizer = torch.optim.SGD(layers.parameters(), lr=0.1, momentum=0.9)
    for first, second in zip([*data][::2] * 3, [*data][1::2] * 3, strict=True):
        optimizer.zero_grad()
        losses = [loss_of(layers, batch, penalty, 0) for batch in (first, second)]
        ((losses[0] + losses[1]) / 2).backward()
        optimizer.step()
        shrink(layers.logits.weight, 0.1 * 1e-3 / (1 - 0.9))
    close(model, layers, before)


# -- skorch and scikit-learn -------------------------------------------------------------------------------------------


def test_skorch() -> None:
    """The weights; and the penalties are no part of the held-out loss."""
    from skorch.dataset import Dataset
    from skorch.helper import predefined_split

    example = integration("grid_search")
    data = batches(40, 40, features=13, classes=3)
    ((inputs, labels),) = data
    held_out = Dataset(inputs.numpy(), labels.numpy())
    net = example.classifier(max_epochs=5, batch_size=40, module__strength=0.03, train_split=predefined_split(held_out))
    net.initialize()
    layers = layers_of(net.module_)
    before = copied(layers)
    net.partial_fit(inputs.numpy(), labels.numpy())

    def penalty(layers: nn.Sequential, output: Tensor, step: int) -> Tensor:
        return 0.03 * (layers.hidden.weight.square().sum() + layers.logits.weight.square().sum())

    optimizer = torch.optim.Adam(layers.parameters(), lr=0.01)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = loss_of(layers, (inputs, labels), penalty, 0)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    close(net.module_, layers, before)
    np.testing.assert_allclose(net.history[:, "train_loss"], losses, rtol=1e-5)
    assert net.history[-1, "valid_loss"] == pytest.approx(F.cross_entropy(layers(inputs), labels).item(), rel=1e-5)


def test_grid_search() -> None:
    """What is chosen is what the best model has; a strength of 1 leaves nothing of the weights."""
    search = integration("grid_search").main(epochs=15)
    (best,) = search.best_params_.values()
    strengths = regspec.strengths(search.best_estimator_[-1].module_)
    assert strengths == {"hidden.kernel.l2": best, "logits.kernel.l2": best}
    assert search.best_score_ > 0.9
    assert search.cv_results_["mean_test_score"][-1] < 0.6
