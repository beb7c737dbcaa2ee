"""Data that are read when a batch takes them: datasets of torch, and those with columns, as Hugging Face's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics
from sklearn.utils.class_weight import compute_class_weight
from torch.utils.data import Dataset, Subset, TensorDataset

import regspec
from regspec.graph.loading import graph_of
from regspec.training.data import load_data
from regspec.training.data.datasets import COMPARED
from regspec.training.data.lazy import SAMPLE

from .test_using import KINDS, NET, PRICE, TWO, WORDS, Frame, X, trained, weights


class Items(Dataset[Any]):
    """A dataset of items that are made when they are asked for, and notes which were."""

    def __init__(self, item: Callable[[int], Any], count: int = len(X), **attributes: Any) -> None:
        self.item, self.count, self.asked = item, count, list[int]()
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> Any:
        self.asked.append(row)
        return self.item(row)


class Table:
    """Stands in for a dataset of Hugging Face's: a list of rows gives a mapping of columns, a name a column."""

    def __init__(self, **columns: Sequence[Any]) -> None:
        self.own = columns

    column_names = property(lambda self: [*self.own])

    def __len__(self) -> int:
        return len(next(iter(self.own.values())))

    def __getitem__(self, key: Any) -> Any:
        return self.own[key] if isinstance(key, str) else {k: [v[row] for row in key] for k, v in self.own.items()}

    def select_columns(self, names: list[str]) -> Table:
        return Table(**{name: self.own[name] for name in names})


def pair(row: int) -> Any:
    return X[row], int(KINDS[row])


FORMS: dict[str, Callable[[], Any]] = {
    "tensors": lambda: TensorDataset(torch.tensor(X), torch.tensor(KINDS)),
    "targets in a row": lambda: Items(pair, targets=KINDS.tolist()),
    "labels in a row": lambda: Items(pair, labels=torch.tensor(KINDS)),
    "named items": lambda: Items(lambda row: {"x": X[row], "kind": pair(row)[1]}, targets=KINDS),
    "x and y": lambda: Items(lambda row: {"x": X[row], "y": pair(row)[1]}, targets=KINDS),
    "words": lambda: Items(lambda row: (X[row], str(WORDS[row])), targets=WORDS),
    "a subset": lambda: Subset(Items(pair, targets=KINDS), range(len(X))),
    "columns": lambda: Table(x=X.tolist(), kind=KINDS.tolist(), id=[*map(str, KINDS)]),
    "columns of words": lambda: Table(x=X.tolist(), kind=WORDS.tolist()),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_dataset_trains_as_arrays_do(form: str, tmp_path: Path) -> None:
    """The same examples are held out, of each class the same share, and the same batches are taken."""
    target = WORDS if "words" in form else KINDS
    expected = trained(tmp_path, data=(X, target), name="arrays")
    run = trained(tmp_path, data=FORMS[form]())
    torch.testing.assert_close(weights(run), weights(expected), rtol=0, atol=0)
    said = run.predict(FORMS[form]()).values
    assert said.tolist() == expected.predict(X).values.tolist()
    found = run.evaluate(FORMS[form]()).outputs["kind"].metrics["accuracy"]
    assert found == pytest.approx(metrics.accuracy_score(target.astype(said.dtype), said))


def test_a_frame_that_has_column_names_is_a_frame(tmp_path: Path) -> None:
    """As Arrow's tables are."""
    frame: Any = Frame(x=X[:, 0], b=X[:, 1], c=X[:, 2], kind=WORDS)
    frame.column_names = ["x", "b", "c", "kind"]
    expected = trained(tmp_path, data=(X, WORDS), name="arrays")
    torch.testing.assert_close(weights(trained(tmp_path, data=frame)), weights(expected), rtol=0, atol=0)


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    net = TWO.replace("{x: {shape: [3]}}", "{x: {shape: [3]}, more: {shape: [2]}}")
    net = net.replace("hidden, units", "hidden, inputs: x, units")
    net = net.replace("- Dropout: 0.5", "- Concatenate: {inputs: [hidden, more]}")
    more = X[:, :2] * 2
    expected = trained(tmp_path, net, ([X, more], [KINDS, PRICE]), "arrays")
    for name, item in {
        "flat": lambda row: (X[row], more[row], KINDS[row], PRICE[row]),
        "nested": lambda row: ((X[row], more[row]), (KINDS[row], PRICE[row])),
        "mixed": lambda row: ({"x": X[row], "more": more[row]}, {"price": PRICE[row], "kind": KINDS[row]}),
        "named": lambda row: {"x": X[row], "more": more[row], "price": PRICE[row], "kind": KINDS[row]},
    }.items():
        run = trained(tmp_path, net, Items(item), name)
        torch.testing.assert_close(weights(run), weights(expected), rtol=0, atol=0)
        assert set(run.predict(Items(item))) == {"kind", "price"}


def test_an_autoencoder_of_a_dataset(tmp_path: Path) -> None:
    net = NET.replace("name: kind", "name: copy")
    expected = trained(tmp_path, net, (X, X), "arrays")
    for name, item in {"alone": lambda row: X[row], "labelled": pair}.items():
        run = trained(tmp_path, net, Items(item), name, target="x")
        torch.testing.assert_close(weights(run), weights(expected), rtol=0, atol=0)


def test_held_out_by_another(tmp_path: Path) -> None:
    data = (Items(pair, 30), Items(lambda row: pair(row + 30), 10))
    run = trained(tmp_path, data=data)
    expected = trained(tmp_path, data=(X[:30], KINDS[:30], X[30:], KINDS[30:]), name="arrays")
    torch.testing.assert_close(weights(run), weights(expected), rtol=0, atol=0)
    assert run.history["held_out_loss"] == expected.history["held_out_loss"]


def test_balanced_classes_go_through_the_items_once(tmp_path: Path) -> None:
    run = trained(tmp_path, data=(Items(pair), Items(pair, 9)), class_weights="balanced")
    expected = trained(tmp_path, data=(X, KINDS, X[:9], KINDS[:9]), name="arrays", class_weights="balanced")
    torch.testing.assert_close(weights(run), weights(expected), rtol=0, atol=0)
    data = load_data((Items(pair), Items(pair)), graph_of(NET))
    known = compute_class_weight("balanced", classes=np.arange(3), y=KINDS)
    assert regspec.training.data.class_weights(data.train.targets[0]).tolist() == pytest.approx(known.tolist())


def test_a_sample_says_what_targets_are() -> None:
    """Of many items some are looked at, from the whole of those to train on; of a row of targets a few."""
    items = Items(lambda row: (X[row % 40], row * 3 // 5000), 5000)
    data = load_data((items, items), graph_of(NET))
    assert data.targets[0].classes == ("0", "1", "2")
    assert len(set(items.asked)) == SAMPLE
    assert (min(items.asked), max(items.asked)) == (0, 4999)
    known = Items(items.item, 5000, targets=[row * 3 // 5000 for row in range(5000)])
    load_data(known, graph_of(NET))
    assert len(set(known.asked)) == COMPARED
    assert (min(known.asked), max(known.asked)) == (0, 4999)


def test_evaluating_goes_over_the_items_once(tmp_path: Path) -> None:
    run, items = trained(tmp_path), Items(lambda row: (X[row], str(WORDS[row])))
    run.evaluate(items)
    assert sorted(items.asked) == [0, 0, 0, *range(1, 40)]  # the first for the size of a batch, and for its inputs


def test_the_names_of_classes(tmp_path: Path) -> None:
    run = trained(tmp_path, data=Items(pair, classes=["a", "b", "c"], targets=KINDS))
    assert set(run.predict(X).classes) == {"a", "b", "c"}


OTHERS = {"all": (KINDS + 1) % 3, "all but the ends": np.r_[KINDS[:1], (KINDS[1:-1] + 1) % 3, KINDS[-1:]]}


@pytest.mark.parametrize("other", OTHERS)
def test_targets_in_a_row_that_are_not_those_of_the_items(other: str) -> None:
    """As with a transform of them: the items count."""
    data = load_data(Items(pair, targets=OTHERS[other].tolist()), graph_of(NET))
    rows = data.train.rows.tolist()
    assert data.train.targets[0].tolist() == KINDS[rows].tolist()
    assert data.train[range(len(rows))][1].tolist() == KINDS[rows].tolist()


def test_weights_of_tensors_are_no_targets() -> None:
    """Though they may look like classes."""
    tensors = torch.tensor(X), torch.tensor(KINDS), torch.tensor(OTHERS["all but the ends"])
    for data in (TensorDataset(*tensors), Subset(TensorDataset(*tensors), range(len(X)))):
        loaded = load_data(data, graph_of(NET))
        assert loaded.train.targets[0].tolist() == KINDS[loaded.train.rows.tolist()].tolist()
        assert loaded.is_weighted


def test_a_function_gives_datasets_and_its_run_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("given_datasets")
    module.both = lambda: (Items(pair, 30), Items(pair, 10))
    module.one = lambda: Items(pair)
    monkeypatch.setitem(sys.modules, "given_datasets", module)
    from regspec.training.loop import run as running

    whole = trained(tmp_path, data="given_datasets:both", epochs=4)
    trained(tmp_path, data="given_datasets:both", name="part", epochs=2)
    resumed = running.resume(tmp_path / "part", {"epochs": 4})
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=0)
    assert regspec.load_run(whole.folder).evaluate().examples == 10
    held_out = trained(tmp_path, data="given_datasets:one", name="validation", validation="given_datasets:one")
    assert held_out.evaluate().examples == 40


INDEXED = """\
regspec: 1
inputs: {x: {shape: [3]}}
layers:
  - Embedding: {input_dim: 5, output_dim: 2}
  - Flatten
  - Dense: 3
"""


def bad(row: int) -> Callable[[int], Any]:
    """Items of which one is faulty, that no sample sees."""
    return lambda each: (X[each % 40] * (np.nan if each == row else 1), each % 3)


FAULTS: list[tuple[Any, list[str]]] = [
    (
        lambda: Items(lambda row: (X[row], 7 if row == 33 else row % 3)),
        ["model gives (batch, 3)", "the classes 0, 1, 2, 7"],
    ),
    (
        lambda: (Items(lambda row: (X[row % 40], 7 if row == 1502 else row % 3), 3000), Items(pair)),
        ["the class '7' for 'kind' in example 1502, counted from 0", "0, 1, 2"],
    ),
    (lambda: (Items(bad(1502), 3000), Items(pair)), ["for 'x'", "not finite", "example 1502, counted from 0"]),
    (
        lambda: (Items(lambda row: (X[row % 40], 0.5 if row == 1502 else row % 3), 3000), Items(pair)),
        ["quantities for 'kind'", "has learned classes"],
    ),
    (
        lambda: (Items(lambda row: (X[row % 40][: 2 if row == 1502 else 3], 0), 3000), Items(pair)),
        ["can't be put together in a batch", "all of one shape"],
    ),
    (lambda: Items(lambda row: (X[row][:2], 1)), ["(batch, 2) for 'x'", "the spec takes (batch, 3)"]),
    (lambda: Items(lambda row: X[row]), ["no target 'kind'"]),
    (lambda: Items(lambda row: {"a": X[row], "kind": 1}), ["no array 'x'", "a, kind"]),
    (lambda: Items(lambda row: (object(), 1)), ["can't be put together in a batch"]),
    (
        lambda: Items(lambda row: (X[row], {}["gone"])),
        ["does not give its items", "KeyError: 'gone'", "test_datasets.py"],
    ),
    (lambda: Items(pair, 1), ["1 example, too few to hold some out"]),
    (lambda: (Items(pair), X), ["a ndarray beside datasets", "one that is held out"]),
    (lambda: (Items(pair), Items(pair), Items(pair)), ["'data' has 3 datasets"]),
    (lambda: Table(x=X.tolist(), id=KINDS.tolist()), ["no array 'y'", "it has id, x"]),
]


@pytest.mark.parametrize(("data", "told"), FAULTS)
def test_faults(data: Callable[[], Any], told: list[str], tmp_path: Path) -> None:
    with pytest.raises(regspec.RegspecError) as caught:
        trained(tmp_path, data=data(), batch_size=64)
    for each in told:
        assert each in str(caught.value)


def test_an_index_that_is_out_of_range(tmp_path: Path) -> None:
    items = Items(lambda row: (np.array([0, 1, 5 if row == 1502 else 2]), row % 3), 3000)
    with pytest.raises(regspec.RegspecError, match=r"gives 5 for 'x' in example 1502, .* indices below 5"):
        trained(tmp_path, INDEXED, (items, items))
