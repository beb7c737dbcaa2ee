"""Arrays in `.npy` files that may be larger than memory: trained on as if in memory, without a copy of the whole."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import regspec
from regspec.graph.loading import graph_of
from regspec.training.data import load_data, mapped
from regspec.training.data.lazy import SAMPLE
from regspec.training.loop import run as running

from .test_using import KINDS, NET, PRICE, TWO, WORDS, X, trained, weights


def written(folder: Path, **arrays: np.ndarray) -> Path:
    """A folder of arrays."""
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def memmap(folder: Path, array: np.ndarray, name: str = "x") -> Any:
    return np.load(written(folder, **{name: array}) / f"{name}.npy", mmap_mode="r")


FORMS: dict[str, Callable[[Path], Any]] = {
    "a folder": lambda folder: str(written(folder, x=X, kind=KINDS)),
    "x and y": lambda folder: written(folder, x=X, y=KINDS.astype(np.uint8)),
    "words": lambda folder: str(written(folder, x=X, kind=WORDS)),
    "paths by name": lambda folder: {"x": str(written(folder, x=X) / "x.npy"), "y": KINDS},
    "a pair": lambda folder: (memmap(folder, X), KINDS),
    "by name": lambda folder: {"x": memmap(folder, X), "kind": memmap(folder, KINDS, "kind")},
    "a part of one": lambda folder: (memmap(folder, np.concatenate([X, X]))[40:], KINDS),
    "numbers of another type": lambda folder: (memmap(folder, X.astype(np.float64)), KINDS.tolist()),
    "in another order": lambda folder: (memmap(folder, np.asfortranarray(X)), KINDS),
    "changes in memory": lambda folder: (copied(folder), KINDS),
}


def copied(folder: Path) -> Any:
    """A memmap that was changed in memory, which the file does not know."""
    array = np.load(written(folder, x=X * 0) / "x.npy", mmap_mode="c")
    array[:] = X
    return array


@pytest.mark.parametrize("form", FORMS)
def test_a_file_trains_as_an_array_in_memory_does(form: str, tmp_path: Path) -> None:
    data = FORMS[form](tmp_path / "data")
    target = WORDS if form == "words" else KINDS
    expected = trained(tmp_path, data=(X, target), name="arrays", class_weights="balanced")
    run = trained(tmp_path, data=data, class_weights="balanced")
    torch.testing.assert_close(weights(run), weights(expected), rtol=0, atol=0)
    assert run.evaluate(data).outputs["kind"].metrics == expected.evaluate((X, target)).outputs["kind"].metrics
    said = run.predict(memmap(tmp_path / "new", X))
    assert said.values.tolist() == expected.predict(X).values.tolist()


def test_several_outputs_and_a_held_out_part(tmp_path: Path) -> None:
    train = written(tmp_path / "train", x=X[:30], kind=KINDS[:30], price=PRICE[:30])
    held_out = written(tmp_path / "held_out", x=X[30:], kind=KINDS[30:], price=PRICE[30:])
    run = trained(tmp_path, TWO, train, validation=str(held_out))
    expected = trained(tmp_path, TWO, (X[:30], [KINDS[:30], PRICE[:30]], X[30:], [KINDS[30:], PRICE[30:]]), "arrays")
    torch.testing.assert_close(weights(run), weights(expected), rtol=0, atol=0)
    assert run.history["held_out_loss"] == expected.history["held_out_loss"]


def test_targets_of_many_numbers_and_inputs_as_targets(tmp_path: Path) -> None:
    """These are not read whole: a sample of them says what they are."""
    net = NET.replace("name: kind", "name: copy")
    y = X + 1
    for name, data, more in [
        ("targets", {"x": memmap(tmp_path / "data", X), "y": memmap(tmp_path / "data", y, "y")}, {}),
        ("inputs", {"x": memmap(tmp_path / "data", X)}, {"target": "x"}),
    ]:
        run = trained(tmp_path, net, data, name, **more)
        expected = trained(tmp_path, net, (X, y if name == "targets" else X), f"{name} in memory")
        torch.testing.assert_close(weights(run), weights(expected), rtol=0, atol=0)


def test_a_run_on_files_is_resumed(tmp_path: Path) -> None:
    data = str(written(tmp_path / "data", x=X, kind=KINDS))
    whole = trained(tmp_path, data=data, epochs=4)
    trained(tmp_path, data=data, name="part", epochs=2)
    resumed = running.resume(tmp_path / "part", {"epochs": 4})
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=0)
    assert regspec.load_run(whole.folder).evaluate().examples == 8


def test_a_function_gives_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("given_files")
    module.pair = lambda: (memmap(tmp_path / "data", X), KINDS)
    monkeypatch.setitem(sys.modules, "given_files", module)
    run, expected = trained(tmp_path, data="given_files:pair"), trained(tmp_path, data=(X, KINDS), name="arrays")
    torch.testing.assert_close(weights(run), weights(expected), rtol=0, atol=0)


def test_no_copy_of_the_whole_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "CHUNK", 2**18)
    x = np.random.default_rng(0).standard_normal((4000, 300))
    y = np.arange(4000) % 3
    array, graph = memmap(tmp_path / "data", x), graph_of(NET.replace("[3]", "[300]"))

    def peak(data: Any) -> int:
        tracemalloc.start()
        try:
            made = load_data(data, graph)
            assert len(made.train[range(64)][0]) == 64
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak((array[:100], y[:100]))  # what is imported and compiled
    assert peak((array, y)) < x.nbytes / 4
    assert peak((x, y)) > x.nbytes / 4  # in memory there is a copy, as float32: what is measured is seen


def test_pages_are_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file that is read; of one that was changed in memory, never."""
    let_go: list[Any] = []
    monkeypatch.setattr(mapped.mmap, "mmap", Noting)
    monkeypatch.setattr(Noting, "let_go", let_go)
    load_data((memmap(tmp_path / "data", X), KINDS), graph_of(NET))
    assert let_go
    let_go.clear()
    load_data((copied(tmp_path / "data"), KINDS), graph_of(NET))
    assert not let_go


class Noting(mapped.mmap.mmap):
    """A map that notes when pages are let go of."""

    let_go: ClassVar[list[Any]] = []

    def madvise(self, option: int, *place: Any) -> None:
        self.let_go.append(option)
        super().madvise(option, *place)


LARGE = np.zeros((3000, 3))


def with_one(value: float, row: int = 1502) -> np.ndarray:
    array = LARGE.copy()
    array[row, 1] = value
    return array


FAULTS: list[tuple[Callable[[Path], Any], list[str]]] = [
    (
        lambda folder: str(written(folder, x=X, kind=KINDS) / "x.npy"),
        ["x.npy' is one array", "--data takes the folder"],
    ),
    (lambda folder: str(written(folder, x=X)), ["no array 'y'", "it has x"]),
    (lambda folder: str(written(folder, a=X, b=X, y=KINDS)), ["no array 'x'", "it has a, b, y"]),
    (lambda folder: str(written(folder, x=X, y=KINDS[:30])), ["unequal numbers of examples", "40 for x, 30"]),
    (lambda folder: str(written(folder, x=X[:, :2], y=KINDS)), ["(batch, 2) for 'x'", "(batch, 3)"]),
    (lambda folder: str(written(folder, x=WORDS, y=KINDS)), ["for 'x'", "are no numbers, but <U6"]),
    (
        lambda folder: str(written(folder, x=with_one(np.nan).astype(np.float32), y=np.arange(3000) % 3)),
        ["for 'x'", "not finite", "example 1502, counted from 0"],
    ),
    (
        lambda folder: str(written(folder, x=with_one(1e300), y=np.arange(3000) % 3)),
        ["gives 1e+300 for 'x' in example 1502", "the spec takes float32"],
    ),
    (lambda folder: str(written(folder, x=X, y=KINDS + 1)), ["the classes 1, 2, 3", "classes are counted from 0"]),
    (lambda folder: {"x": written(folder) / "gone.npy", "y": KINDS}, ["gone.npy", "No such file"]),
]


@pytest.mark.parametrize(("data", "told"), FAULTS)
def test_faults(data: Callable[[Path], Any], told: list[str], tmp_path: Path) -> None:
    with pytest.raises(regspec.RegspecError) as caught:
        trained(tmp_path, data=data(tmp_path / "data"))
    for each in told:
        assert each in str(caught.value)
    assert not (tmp_path / "run").exists()  # before anything is written


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "does not begin as one"),
        (b"no array", "does not begin as one"),
        (b"\x93NUMPY\x01\x00", "can't be read as .npy"),
    ],
)
def test_files_that_are_broken(content: bytes, told: str, tmp_path: Path) -> None:
    data = written(tmp_path / "data", y=KINDS)
    (data / "x.npy").write_bytes(content)
    with pytest.raises(regspec.RegspecError, match=told) as caught:
        trained(tmp_path, data=data)
    assert "x.npy" in str(caught.value)


def test_a_class_of_a_pixel_that_no_sample_has(tmp_path: Path) -> None:
    net = "regspec: 1\ninputs: {x: {shape: [1, 2, 2]}}\nlayers:\n  - Conv2D: {filters: 3, kernel_size: 1}\n"
    y = np.random.default_rng(0).integers(0, 3, (3 * SAMPLE, 2, 2))
    y[1502, 1, 0] = 3
    data = {"x": memmap(tmp_path / "data", np.zeros((len(y), 1, 2, 2))), "y": memmap(tmp_path / "data", y, "y")}
    with pytest.raises(regspec.RegspecError, match=r"the class '3' for '\w+' in example 1502"):
        trained(tmp_path, net, data)
