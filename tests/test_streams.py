"""Data that come in batches, one after the other: loaders, iterable datasets, functions that give iterators anew."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import regspec
from regspec.graph.loading import graph_of
from regspec.training.data import load_data
from regspec.training.loop import run as running
from regspec.training.loop.batches import Batches, batches_in, loader_of

from .test_datasets import Items, pair
from .test_using import KINDS, NET, WORDS, X, trained, weights

PLAIN = NET.replace("  - Dropout: 0.5\n", "")
HELD_OUT = (X[30:], KINDS[30:])


class Iterated(IterableDataset[Any]):
    """Items one after the other."""

    def __init__(self, count: int = 30) -> None:
        self.count = count

    def __iter__(self) -> Iterator[Any]:
        return map(pair, range(self.count))


def batches(count: int = 30, size: int = 8) -> Iterator[Any]:
    for start in range(0, count, size):
        yield X[start : min(count, start + size)], KINDS[start : min(count, start + size)]


def by_hand(epochs: int) -> dict[str, torch.Tensor]:
    """The weights after passes over these batches in their order."""
    model = regspec.build(PLAIN, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(epochs):
        for x, y in batches():
            optimizer.zero_grad()
            loss = F.cross_entropy(model(torch.tensor(x)), torch.tensor(y)) + model.regularization_loss()
            loss.backward()
            optimizer.step()
    return {name: value.detach() for name, value in model.state_dict().items()}


class Words(Items):
    """Held out, with words."""

    def __init__(self, words: np.ndarray) -> None:
        super().__init__(lambda row: (X[30 + row], str(words[row])), 10)


def held_out() -> Any:
    return DataLoader(TensorDataset(*map(torch.tensor, HELD_OUT)), batch_size=4)


FORMS: dict[str, Callable[[], Any]] = {
    "a loader": lambda: DataLoader(Items(pair, 30), batch_size=8),
    "a loader of items": lambda: DataLoader(Iterated(), batch_size=8),
    "batches of its own": lambda: DataLoader(
        Items(pair, 30), batch_sampler=[[*range(a, min(30, a + 8))] for a in range(0, 30, 8)]
    ),
    "items": Iterated,
    "a function": lambda: batches,
    "by name": lambda: lambda: ({"x": x, "kind": y} for x, y in batches()),
    "words": lambda: lambda: ((x, WORDS[place * 8 : place * 8 + len(x)]) for place, (x, _) in enumerate(batches())),
}
OPTIONS: dict[str, Any] = {"epochs": 3, "optimizer": "sgd"}


@pytest.mark.parametrize("form", FORMS)
def test_a_stream_trains_as_a_plain_loop_over_it(form: str, tmp_path: Path) -> None:
    run = trained(tmp_path, PLAIN, (FORMS[form](), held_out() if form != "words" else Words(WORDS[30:])), **OPTIONS)
    best = int(np.argmin(run.history["held_out_loss"])) + 1
    torch.testing.assert_close(weights(run), by_hand(best), rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        loss = F.cross_entropy(run.model(torch.tensor(HELD_OUT[0])), torch.tensor(HELD_OUT[1])).item()
    assert run.metrics["held_out_loss"] == pytest.approx(loss, rel=1e-5)
    assert run.evaluate(FORMS[form]()).examples == 30
    assert run.predict(FORMS[form]()).values.tolist() == run.predict(X[:30]).values.tolist()


class Module(lightning.LightningDataModule):
    """Which is ready only once it was prepared and set up, as one that downloads is."""

    def __init__(self, held_out: Any = lambda: held_out()) -> None:
        super().__init__()
        self.done = list[str]()
        self.held_out = held_out

    def prepare_data(self) -> None:
        self.done.append("prepared")

    def setup(self, stage: str) -> None:
        assert self.done == ["prepared"] or self.done[-1] != stage
        self.data = Items(pair, 30 if stage == "fit" else 40)
        self.done.append(stage)

    def train_dataloader(self) -> Any:
        return DataLoader(self.data, batch_size=8)

    def val_dataloader(self) -> Any:
        return self.held_out()

    def predict_dataloader(self) -> Any:
        return DataLoader(self.data, batch_size=8)


def test_a_data_module_of_lightning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From Python, with one loader in a list too, and by a function for --data."""
    module: Any = ModuleType("given_module")
    module.Module = Module
    monkeypatch.setitem(sys.modules, "given_module", module)
    given = {"arguments": Module(), "a list": Module(lambda: [held_out()]), "named": "given_module:Module"}
    for name, data in given.items():
        run = trained(tmp_path, PLAIN, data, name, **OPTIONS)
        best = int(np.argmin(run.history["held_out_loss"])) + 1
        torch.testing.assert_close(weights(run), by_hand(best), rtol=1e-5, atol=1e-6)
        assert run.evaluate(Module()).loss == pytest.approx(run.metrics["held_out_loss"], rel=1e-5)
        assert run.predict(Module()).values.tolist() == run.predict(X).values.tolist()


class Bare(lightning.LightningDataModule):
    def train_dataloader(self) -> Any:
        return held_out()


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (Bare, ["'data' has no val_dataloader", "must be implemented"]),
        (lambda: Module(lambda: [held_out(), held_out()]), ["val_dataloader of 'data' gives 2 loaders"]),
        (lambda: Module(lambda: None), ["val_dataloader of 'data' gives none"]),
        (lambda: Module(lambda: 1 / 0), ["has no val_dataloader: division by zero", "test_streams.py"]),
    ],
)
def test_a_data_module_that_gives_no_two_loaders(data: Any, told: list[str], tmp_path: Path) -> None:
    with pytest.raises(regspec.RegspecError) as raised:
        trained(tmp_path, data=data())
    for each in told:
        assert each in str(raised.value)


def shuffled() -> Any:
    return DataLoader(Items(pair, 30), batch_size=8, shuffle=True)


def test_a_function_gives_streams_and_its_run_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of a loader that is shuffled follows from the seed and the epoch."""
    module: Any = ModuleType("given_streams")
    module.both = lambda: (shuffled(), Items(pair, 10))
    module.generator = batches
    monkeypatch.setitem(sys.modules, "given_streams", module)
    whole = trained(tmp_path, data="given_streams:both", epochs=4)
    trained(tmp_path, data="given_streams:both", name="part", epochs=2)
    resumed = running.resume(tmp_path / "part", {"epochs": 4})
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=0)
    assert regspec.load_run(whole.folder).evaluate().examples == 10
    np.savez(tmp_path / "held_out.npz", x=HELD_OUT[0], y=HELD_OUT[1])
    more = {"validation": str(tmp_path / "held_out.npz"), **OPTIONS}
    run = trained(tmp_path, PLAIN, "given_streams:generator", "generator", **more)
    best = int(np.argmin(run.history["held_out_loss"])) + 1
    torch.testing.assert_close(weights(run), by_hand(best), rtol=1e-5, atol=1e-6)


def test_each_pass_has_an_order_of_its_own() -> None:
    order = batches_in(load_data((shuffled(), held_out()), graph_of(NET)).train, 8, seed=3)

    def taken(epoch: int) -> list[Any]:
        order.set_epoch(epoch)
        return [row.tolist() for batch in loader_of(None, order) for row in batch[0]]

    first, second = taken(0), taken(1)
    assert first != second
    assert sorted(first) == sorted(second) == sorted(X[:30].tolist())
    assert taken(0) == first


def test_what_is_counted_in_batches(tmp_path: Path) -> None:
    """Schedules and steps of several batches are those of arrays in the same order, in batches of 16, 16 and 8."""
    more: dict[str, Any] = {"accumulate": 2, "schedule": {"cosine": {"warmup": 2}}, "batch_size": 16}
    epochs = [[*at_epoch(Batches(40, 16, seed=0), epoch)] for epoch in range(2)]
    passes = iter([epochs[0], epochs[0], *epochs])  # to see what targets are, to count, and to train
    run = trained(tmp_path, PLAIN, (lambda: ((X[rows], KINDS[rows]) for rows in next(passes)), held_out()), **more)
    expected = trained(tmp_path, PLAIN, (X, KINDS, *HELD_OUT), "arrays", **more)
    torch.testing.assert_close(weights(run), weights(expected), rtol=1e-6, atol=1e-7)
    assert run.history["learning_rate"] == expected.history["learning_rate"]


def at_epoch(order: Any, epoch: int) -> Any:
    order.set_epoch(epoch)
    return order


def once() -> Any:
    """A function that gives one iterator only."""
    made = batches()
    return lambda: made


FAULTS: list[tuple[Callable[[], Any], dict[str, Any], list[str]]] = [
    (lambda: shuffled(), {}, ["none can be held out", "give what is held out after it"]),
    (lambda: (batches(), held_out()), {}, ["is a generator, of which there is one pass only", "give the function"]),
    (lambda: (once(), held_out()), {}, ["gives no batch", "an iterator anew for each"]),
    (lambda: (shuffled(), held_out()), {"class_weights": "balanced"}, ["class_weights need all targets"]),
    (lambda: (Items(pair, 30), held_out()), {}, ["has a length, but what is held out has none"]),
    (lambda: (shuffled(), HELD_OUT), {}, ["'data' has a tuple beside datasets or loaders", "one that is held out"]),
    (lambda: (shuffled(), held_out(), held_out()), {}, ["has 3 datasets or loaders"]),
    (lambda: (lambda: [(X[:8] * np.nan, KINDS[:8])], held_out()), {}, ["for 'x'", "not finite", "example 0"]),
    (lambda: (lambda: [(X[:8, :2], KINDS[:8])], held_out()), {}, ["(batch, 2) for 'x'", "(batch, 3)"]),
    (lambda: (lambda: [X[:8]], held_out()), {}, ["no target 'kind'"]),
    (lambda: (lambda: 1 / 0, held_out()), {}, ["does not give its batches", "division by zero", "test_streams.py"]),
    (
        lambda: (lambda: [(X.repeat(30, 0), KINDS.repeat(30)), (X[:2], np.array([0, 3]))], held_out()),
        {},
        ["the class '3' for 'kind' in example 1201, counted from 0"],
    ),
]


@pytest.mark.parametrize(("data", "more", "told"), FAULTS)
def test_faults(data: Callable[[], Any], more: dict[str, Any], told: list[str], tmp_path: Path) -> None:
    with pytest.raises(regspec.RegspecError) as caught:
        trained(tmp_path, data=data(), **more)
    for each in told:
        assert each in str(caught.value)
