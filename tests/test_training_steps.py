"""What becomes of a step: clipped gradients, steps of several batches, learning rates, averages; by plain torch."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from keras.optimizers import schedules
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import swa_utils

import regspec
from regspec.graph.loading import graph_of
from regspec.training.data import load_data
from regspec.training.loop import rates
from regspec.training.loop.batches import Batches
from regspec.training.loop.epochs import OnEpoch
from regspec.training.loop.rates import named_schedule
from regspec.training.loop.run import Run, resume, train
from regspec.training.options.options import Options

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


def run_of(spec: Path, *, folder: Path | None = None, on_epoch: OnEpoch | None = None, **options: Any) -> Run:
    made = Options(**{"data": "wine", "epochs": 3, "batch_size": SIZE, "optimizer": "sgd", "lr": 0.3, **options})
    place = folder or spec.parent / f"run{len([*spec.parent.iterdir()])}"
    return train(spec, made, place, console=Console(file=io.StringIO()), on_epoch=on_epoch)


class StopError(Exception):
    pass


def stop(epoch: int, metrics: object) -> None:
    if epoch == 3:
        raise StopError


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


def each_norm(model: nn.Module) -> None:
    for parameter in model.parameters():
        assert parameter.grad is not None
        parameter.grad *= min(1.0, 0.1 / parameter.grad.norm().item())


@pytest.mark.parametrize(
    ("by", "clip"),
    [("each_norm", each_norm), ("value", lambda model: nn.utils.clip_grad_value_(model.parameters(), 0.1))],
)
def test_what_is_clipped(by: str, clip: Callable[[nn.Module], None], spec: Path) -> None:
    model = regspec.build(spec, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for epoch in batches(spec, 3):
        for x, y in epoch:
            optimizer.zero_grad()
            loss_of(model, x, y).backward()
            clip(model)
            optimizer.step()
    assert_same(run_of(spec, clip_gradients=0.1, clip_by=by), model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_by": "value"}, "clip_by is for clip_gradients, which is not given"),
        ({"clip_by": "value", "clip_gradients": 0.1, "strategy": "fsdp"}, "sharded are not clipped by value"),
    ],
)
def test_what_is_not_clipped(options: dict[str, Any], message: str, spec: Path) -> None:
    with pytest.raises(regspec.RegspecError, match=message):
        run_of(spec, **options)


def test_no_gradient_is_refused(spec: Path) -> None:
    with pytest.raises(regspec.RegspecError, match="clip_gradients must be greater than 0"):
        run_of(spec, clip_gradients=0.0)


# -- averages ----------------------------------------------------------------------------------------------------------

COUNTS = NET.replace("LayerNormalization", "BatchNormalization: {momentum: 0.5}")


@pytest.mark.parametrize("several", [1, 2])
def test_an_average_of_the_weights(several: int, spec: Path) -> None:
    """torch's AveragedModel, with the statistics of normalizations; its loss is the held-out one."""
    spec.write_text(COUNTS)
    model = regspec.build(spec, seed=0)
    average: Any = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.8), use_buffers=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for epoch in batches(spec, 3):
        for index, (x, y) in enumerate(epoch):
            size = sum(len(each[0]) for each in epoch[index // several * several :][:several])
            (loss_of(model, x, y) * len(x) / size).backward()
            if index % several == several - 1 or index == len(epoch) - 1:
                optimizer.step()
                optimizer.zero_grad()
                average.update_parameters(model)
    run = run_of(spec, ema=0.8, accumulate=several)
    kept = load_file(run.folder / "weights.safetensors")
    expected = {name: each for name, each in average.module.state_dict().items() if "num_batches" not in name}
    torch.testing.assert_close({name: kept[name] for name in expected}, expected)
    assert not torch.allclose(kept["hidden.weight"], model.hidden.weight)
    loaded = load_data("wine", graph_of(regspec.load(spec)))
    x, y = loaded.held_out[range(len(loaded.held_out))]
    assert run.metrics["held_out_loss"] == pytest.approx(F.cross_entropy(average.module.eval()(x), y).item())


def test_an_average_goes_on(spec: Path) -> None:
    """After a run that is stopped, and after one that has ended."""
    spec.write_text(COUNTS)
    options: dict[str, Any] = {"ema": 0.8, "optimizer": "adam", "schedule": "reduce_lr_on_plateau patience=0"}
    whole = run_of(spec, epochs=4, **options)
    with pytest.raises(StopError):
        run_of(spec, folder=spec.parent / "stopped", on_epoch=stop, epochs=4, **options)
    runs = [resume(spec.parent / "stopped", {}, console=Console(file=io.StringIO()))]
    runs.append(resume(run_of(spec, epochs=2, **options).folder, {"epochs": 4}, console=Console(file=io.StringIO())))
    for again in runs:
        states = [load_file(each.folder / "weights.safetensors") for each in (whole, again)]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
        assert {**whole.metrics, "seconds": 0} == {**again.metrics, "seconds": 0}


def test_what_is_no_average(spec: Path) -> None:
    with pytest.raises(regspec.RegspecError, match="ema must be less than 1"):
        run_of(spec, ema=1.0)


# -- the learning rate -------------------------------------------------------------------------------------------------

S = torch.optim.lr_scheduler
STEPS = 15  # of a run


def closed_form(warmup: int, end: float, form: Callable[[float], float]) -> Callable[[Any], Any]:
    """The learning rate's factor by step, as a scheduler of torch."""
    factors = [(step + 1) / warmup for step in range(warmup)]
    factors += [end + (1 - end) * form(step / (STEPS - warmup)) for step in range(STEPS - warmup)]
    return lambda optimizer: S.LambdaLR(optimizer, lambda step: factors[step] if step < STEPS else 0.0)


def of_keras(schedule: Any) -> Callable[[Any], Any]:
    """A schedule of Keras of a rate of 0.3, as a scheduler of torch."""
    return lambda optimizer: S.LambdaLR(optimizer, lambda step: float(schedule(step)) / 0.3)


# By text: torch's scheduler of the same, or Keras's, and what it is stepped by.
SCHEDULES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "cosine": (lambda optimizer: S.CosineAnnealingLR(optimizer, STEPS), "steps"),
    "cosine warmup=4 end=0.25": (closed_form(4, 0.25, lambda done: (1 + math.cos(math.pi * done)) / 2), "steps"),
    "linear_decay warmup=1": (closed_form(1, 0.0, lambda done: 1 - done), "steps"),
    "linear_decay end=0.1": (lambda optimizer: S.LinearLR(optimizer, 1.0, 0.1, STEPS), "steps"),
    "one_cycle pct_start=0.4": (
        lambda optimizer: S.OneCycleLR(optimizer, 0.3, total_steps=STEPS, pct_start=0.4), "steps"
    ),
    "OneCycleLR": (lambda optimizer: S.OneCycleLR(optimizer, 0.3, total_steps=STEPS), "steps"),
    "cyclic max_lr=0.9 step_size_up=3": (lambda optimizer: S.CyclicLR(optimizer, 0.3, 0.9, 3), "steps"),
    "step step_size=1 gamma=0.5": (lambda optimizer: S.StepLR(optimizer, 1, 0.5), "epochs"),
    "step step_size=4 by=steps": (lambda optimizer: S.StepLR(optimizer, 4), "steps"),
    "multi_step milestones=(1, 2)": (lambda optimizer: S.MultiStepLR(optimizer, [1, 2]), "epochs"),
    "multi_step milestones=[3,8] by=steps gamma=.5": (lambda optimizer: S.MultiStepLR(optimizer, [3, 8], 0.5), "steps"),
    "constant total_iters=2": (lambda optimizer: S.ConstantLR(optimizer, total_iters=2), "epochs"),
    "linear start_factor=0.1 total_iters=2": (lambda optimizer: S.LinearLR(optimizer, 0.1, 1.0, 2), "epochs"),
    "exponential gamma=0.7": (lambda optimizer: S.ExponentialLR(optimizer, 0.7), "epochs"),
    "polynomial total_iters=12 power=2 by=steps": (lambda optimizer: S.PolynomialLR(optimizer, 12, 2.0), "steps"),
    "cosine_annealing t_max=2": (lambda optimizer: S.CosineAnnealingLR(optimizer, 2), "epochs"),
    "CosineAnnealingLR T_max=2 eta_min=0.1": (lambda optimizer: S.CosineAnnealingLR(optimizer, 2, 0.1), "epochs"),
    "cosine_annealing_warm_restarts t_0=2 t_mult=2 by=steps": (
        lambda optimizer: S.CosineAnnealingWarmRestarts(optimizer, 2, 2), "steps"
    ),
    "reduce_lr_on_plateau patience=0 threshold=10 factor=0.5": (
        lambda optimizer: S.ReduceLROnPlateau(optimizer, patience=0, threshold=10, factor=0.5), "loss"
    ),
    "linear_decay steps=6 end=0.5": (lambda optimizer: S.LinearLR(optimizer, 1.0, 0.5, 6), "steps"),
    "cosine steps=7": (of_keras(schedules.CosineDecay(0.3, 7)), "steps"),
    "cosine steps=6 warmup=4 begin=0.25 end=0.1": (
        of_keras(schedules.CosineDecay(0.075, 6, alpha=0.1, warmup_target=0.3, warmup_steps=4)), "steps"
    ),
    "polynomial_decay steps=6 power=2 end=0.1": (of_keras(schedules.PolynomialDecay(0.3, 6, 0.03, power=2)), "steps"),
    "polynomial_decay steps=4 end=0.1 cycle=true": (
        of_keras(schedules.PolynomialDecay(0.3, 4, 0.03, cycle=True)), "steps"
    ),
    "inverse_time_decay rate=0.5 steps=4": (of_keras(schedules.InverseTimeDecay(0.3, 4, 0.5)), "steps"),
    "inverse_time_decay rate=0.5 steps=4 staircase=true": (
        of_keras(schedules.InverseTimeDecay(0.3, 4, 0.5, staircase=True)), "steps"
    ),
    "piecewise_constant boundaries=(3,8) factors=(1,0.5,0.6)": (
        of_keras(schedules.PiecewiseConstantDecay([3, 8], [0.3, 0.15, 0.18])), "steps"
    ),
    "cosine_restarts steps=2": (of_keras(schedules.CosineDecayRestarts(0.3, 2)), "steps"),
    "cosine_restarts steps=4 t_mul=1 m_mul=0.5 end=0.1": (
        of_keras(schedules.CosineDecayRestarts(0.3, 4, t_mul=1.0, m_mul=0.5, alpha=0.1)), "steps"
    ),
}  # fmt: skip


def test_every_schedule_is_in_the_table() -> None:
    assert {named_schedule(text).make for text in SCHEDULES} == {*rates.SCHEDULES.values()}
    own = {cls for cls in vars(S).values() if isinstance(cls, type) and issubclass(cls, S.LRScheduler)}
    take_others = {S.LRScheduler, S.LambdaLR, S.MultiplicativeLR, S.SequentialLR, S.ChainedScheduler}
    assert own - {*rates.SCHEDULES.values()} - {S._LRScheduler} == take_others


def learning_rates(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row["learning_rate"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("text", SCHEDULES)
def test_schedules(text: str, spec: Path) -> None:
    """By plain torch: the weights, and the learning rate of each epoch's last step."""
    model = regspec.build(spec, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    make, by = SCHEDULES[text]
    scheduler = make(optimizer)
    loaded = load_data("wine", graph_of(regspec.load(spec)))
    rate = []
    for epoch in batches(spec, 3):
        for x, y in epoch:
            optimizer.zero_grad()
            loss_of(model, x, y).backward()
            optimizer.step()
            rate.append(optimizer.param_groups[0]["lr"])
            if by == "steps":
                scheduler.step()
        if by == "loss":
            x, y = loaded.held_out[range(len(loaded.held_out))]
            scheduler.step(F.cross_entropy(model(x), y).item())
        elif by == "epochs":
            scheduler.step()
    assert len(rate) == STEPS
    assert len({round(each, 9) for each in rate}) > 1
    run = run_of(spec, schedule=text, optimizer="sgd momentum=0.9")
    assert learning_rates(run.folder) == pytest.approx(rate[4::5])
    assert_same(run, model)


@pytest.mark.parametrize("text", SCHEDULES)
def test_a_schedule_goes_on(text: str, spec: Path) -> None:
    """A run that ends after an epoch, and is resumed, is the uninterrupted one."""
    options = {"schedule": text, "epochs": 4, "accumulate": 2, "optimizer": "sgd momentum=0.9"}
    whole = run_of(spec, **options)
    with pytest.raises(StopError):
        run_of(spec, folder=spec.parent / "stopped", on_epoch=stop, **options)
    again = resume(spec.parent / "stopped", {}, console=Console(file=io.StringIO()))
    states = [load_file(each.folder / "weights.safetensors") for each in (whole, again)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert {**whole.metrics, "seconds": 0} == {**again.metrics, "seconds": 0}


@pytest.mark.parametrize("text", ["cosine", "one_cycle"])
def test_more_epochs_fit_the_schedule_anew(text: str, spec: Path) -> None:
    """From where it goes on, the learning rate is that of a run that was as long from the start."""
    options = {"schedule": text, "optimizer": "sgd momentum=0.9"}
    whole = run_of(spec, epochs=5, **options)
    short = run_of(spec, epochs=3, **options)
    resume(short.folder, {"epochs": 5}, console=Console(file=io.StringIO()))
    rate = [learning_rates(each.folder) for each in (whole, short)]
    assert len(rate[1]) == 5
    assert rate[0][3:] == pytest.approx(rate[1][3:])
    assert rate[0][:3] != pytest.approx(rate[1][:3])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cosin", "'cosin' is no schedule of the learning rate\n   = did you mean 'cosine'"),
        ("lambda", "'lambda' is no schedule of the learning rate\n   = there are constant, cosine, "),
        ("cosine_annealing", "cosine_annealing needs 't_max'\n   = cosine_annealing t_max=…"),
        ("cosine warmup=15", "is no schedule of the learning rate here: warmup is 15, but the run has 15 steps"),
        ("cosine warmup=long", "cosine does not take 'warmup=long'\n   = warmup is a number, such as 0"),
        ("cosine total=9", "cosine does not take 'total=9'\n   = it fits the run"),
        ("cosine by=epochs", "cosine does not take 'by=epochs'"),
        ("step step_size=3 by=batches", "does not take 'by=batches'\n   = by is steps or epochs"),
        ("multi_step milestones=3", "does not take 'milestones=3'\n   = milestones is numbers in brackets"),
        ("one_cycle max_lr=1", "does not take 'max_lr=1'"),
        ("reduce_lr_on_plateau mode=least", "does not take 'mode=least'\n   = mode is min or max"),
        ("cosine steps=0", "is no schedule of the learning rate here: steps is 0, and must be at least 1"),
        ("piecewise_constant boundaries=(3,8) factors=(1,2)", "here: there is one factor more than boundaries"),
        ("piecewise_constant boundaries=(8,3) factors=(1,2,3)", "here: there is one factor more than boundaries"),
        ("one_cycle cycle_momentum=true", "is no schedule of the learning rate here: .*momentum"),
    ],
)
def test_what_is_no_schedule(text: str, message: str, spec: Path) -> None:
    optimizer = "adagrad" if "cycle" in text else "sgd"
    with pytest.raises(regspec.RegspecError, match=message):
        run_of(spec, schedule=text, optimizer=optimizer)
    assert [path.name for path in spec.parent.iterdir()] == ["net.yaml"]
