"""Strengths and sparsity, and the Lightning callback that logs them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import regspec
from regspec.training.logging import PenaltyLogger

SPEC = """
regspec: 1
name: net
inputs: {x: {shape: [7]}}
layers:
  - Dense:
      name: hidden
      units: 5
      kernel_regularizer: [{l1: 0.1, l2: 0.2, schedule: {warmup: 4}}, {orthogonal: {factor: 0.3}}]
      activity_regularizer: {kl_sparsity: {strength: 0.4}}
  - Dense: {name: logits, units: 3, bias_regularizer: {group_lasso: 0.5}}
"""
STRENGTHS = {
    "hidden.kernel.l1": 0.1,
    "hidden.kernel.l2": 0.2,
    "hidden.kernel.orthogonal": 0.3,
    "hidden.activity.kl_sparsity": 0.4,
    "logits.bias.group_lasso": 0.5,
}


def make() -> nn.Module:
    return regspec.build(regspec.loads(SPEC), seed=1)


def test_strengths() -> None:
    model = make()
    model.set_schedules(4)
    assert regspec.strengths(model) == STRENGTHS
    model.set_schedules(1)
    assert regspec.strengths(model)["hidden.kernel.l2"] == pytest.approx(0.05)
    assert set(regspec.strengths(nn.Sequential(model))) == {f"0.{name}" for name in STRENGTHS}


def largest(weight: Tensor) -> Tensor:
    """The largest magnitude: a penalty without a strength."""
    return weight.abs().max()


@pytest.mark.usefixtures("_registry")
def test_a_function_without_a_strength_has_that_of_its_schedule() -> None:
    regspec.register_regularizer(largest)
    layers = [{"Dense": {"units": 3, "kernel_regularizer": {"largest": {}, "schedule": {"warmup": 4}}}}]
    model = regspec.build({"inputs": {"x": {"shape": [7]}}, "layers": layers})
    model.set_schedules(1)
    assert regspec.strengths(model) == {"dense.kernel.largest": 0.25}
    torch.testing.assert_close(model.regularization_loss(), 0.25 * model.dense.weight.abs().max())


def test_sparsity() -> None:
    model = make()
    with torch.no_grad():
        model.hidden.weight[:2] = 0
        model.hidden.weight[2] = 1e-4
        model.logits.bias.copy_(torch.tensor([0.0, 1e-4, 1.0]))
    assert {name: round(each.item(), 6) for name, each in regspec.sparsity(model).items()} == {
        "hidden.kernel": 0.4,
        "logits.bias": round(1 / 3, 6),
    }
    assert regspec.sparsity(model, threshold=1e-3)["hidden.kernel"] == pytest.approx(0.6)
    model.hidden.requires_grad_(False)
    assert set(regspec.sparsity(model)) == {"logits.bias"}


def test_nothing_to_measure() -> None:
    for measure in (regspec.strengths, regspec.sparsity):
        with pytest.raises(regspec.RegspecError, match="Linear has no penalties"):
            measure(nn.Linear(3, 2))


class Classifier(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.model = make()

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.model(x), y) + self.model.regularization_loss()

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.5)
        regspec.bind(self.model, optimizer, l1="proximal")
        return optimizer


@pytest.mark.filterwarnings("ignore::FutureWarning")  # Lightning's own
def test_the_logger_of_penalties(tmp_path: Path) -> None:
    """A record every two steps of the optimizer, each of which takes two batches."""
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(33, 7), torch.randint(0, 3, (33,)))
    classifier, logger = Classifier(), CSVLogger(tmp_path)
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=logger,
        callbacks=[PenaltyLogger(every=2)],
        log_every_n_steps=1,
        accumulate_grad_batches=2,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(classifier, DataLoader(data, batch_size=3))
    with Path(logger.experiment.metrics_file_path).open() as file:
        records = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert [record["step"] for record in records] == [2, 4, 6]
    for record in records:
        factor = min(record["step"] / 4, 1.0)
        assert record["strength/model.hidden.kernel.l1"] == pytest.approx(0.1 * factor)
        assert record["strength/model.logits.bias.group_lasso"] == 0.5
    last, zeros = records[-1], regspec.sparsity(classifier)["model.hidden.kernel"].item()
    assert last["zeros/model.hidden.kernel"] == pytest.approx(zeros)
    assert zeros > 0
    assert last["below/model.hidden.kernel"] >= zeros
    wanted = regspec.regularization_terms(classifier, detach=True)
    assert {name.removeprefix("penalty/") for name in last if name.startswith("penalty/")} == set(wanted)
    assert last["penalty/model.hidden.kernel"] == pytest.approx(wanted["model.hidden.kernel"].item())
