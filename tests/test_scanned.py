"""Parquet files that are read in parts: trained on as if they were in memory, whatever becomes of their columns."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import regspec
from regspec.graph.loading import graph_of
from regspec.training.data import load_data, mapped, scanned
from regspec.training.loop.run import resume

from .commands import command
from .test_using import KINDS, NET, PRICE, TWO, WORDS, X, trained, weights

DRAWN = np.random.default_rng(2)
CITY = DRAWN.choice(["Ulm", "Bonn", "Kiel"], 40)
SIZES = [None if row % 7 == 0 else float(row) for row in range(40)]
TALK = [f"{city} is {word}, said {row % 3}" for row, (city, word) in enumerate(zip(CITY, WORDS, strict=True))]
FRAME = pl.DataFrame(
    {
        "a": X[:, 0],
        "b": X[:, 1].astype(np.float64),
        "whole": DRAWN.integers(0, 9, 40),
        "yes": KINDS > 0,
        "city": CITY,
        "size": SIZES,
        "talk": TALK,
        "born": pl.date_range(pl.date(2001, 1, 1), pl.date(2001, 2, 9), eager=True),
        "w": DRAWN.uniform(0, 2, 40),
        "price": PRICE,
        "kind": WORDS,
    }
)
PLAIN = ["a", "b", "whole"]
CASES: dict[str, tuple[list[str], str, dict[str, Any]]] = {
    "numbers": ([*PLAIN, "kind"], NET, {}),
    "truths": (["a", "b", "yes", "kind"], NET, {}),
    "a quantity": ([*PLAIN, "price"], NET.replace("name: kind, units: 3", "name: price, units: 1"), {}),
    "two outputs": ([*PLAIN, "price", "kind"], TWO, {}),
    "fitted": (
        ["a", "city", "size", "born", "b", "w", "kind"], NET.replace("[3]", "[7]"),
        {"columns": {
            "city": "one_hot", "size": {"impute": "median", "scale": "robust"}, "born": {"date": ["day", "month"]},
            "b": "drop", "w": "weight",
        }},
    ),
    "codes": (
        ["city", "kind"],
        NET.replace("{x: {shape: [3]}}", "{x: {shape: [1], dtype: int64}}").replace(
            "layers:\n", "layers:\n  - Embedding: {input_dim: 4, output_dim: 2}\n  - Flatten\n"
        ),
        {"columns": {"city": "codes"}},
    ),
    "texts": (
        ["talk", "kind"],
        NET.replace("{x: {shape: [3]}}", "{x: {shape: [4], dtype: int64}}").replace(
            "layers:\n", "layers:\n  - Embedding: {input_dim: 12, output_dim: 2}\n  - Flatten\n"
        ),
        {"columns": {"talk": {"text": {"length": 4, "vocabulary": 12}}}},
    ),
    "groups": ([*PLAIN, "city", "kind"], NET, {"columns": {"city": "group"}}),
    "an autoencoder": (PLAIN, NET.replace("name: kind", "name: copy"), {"target": "x"}),
}  # fmt: skip


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes every file one that is read in parts, of a few rows."""

    def begin() -> None:
        monkeypatch.setattr(scanned, "LARGE", 0)
        monkeypatch.setattr(scanned, "CHUNK", 8 * 3 * 7)

    return begin


def said_of_held_out(run: regspec.Run) -> list[dict[str, Any]]:
    return [*json.loads((run.folder / "held_out.json").read_text())["outputs"].values()]


def written(folder: Path, columns: list[str], rows: slice = slice(None), name: str = "d") -> str:
    FRAME.select(columns)[rows].write_parquet(folder / f"{name}.parquet", row_group_size=16)
    return str(folder / f"{name}.parquet")


@pytest.mark.parametrize("case", CASES)
def test_a_file_in_parts_is_a_file(case: str, tmp_path: Path, in_parts: Any) -> None:
    columns, net, more = CASES[case]
    path = written(tmp_path, columns)
    expected = trained(tmp_path, net, path, "memory", **more)
    in_parts()
    run = trained(tmp_path, net, path, "parts", **more)
    torch.testing.assert_close(weights(run), weights(expected), rtol=0, atol=0)
    assert run.history["held_out_loss"] == expected.history["held_out_loss"]
    facts = [json.loads((each.folder / "run.json").read_text()) for each in (run, expected)]
    assert facts[0]["columns"] == facts[1]["columns"]
    assert facts[0]["is_weighted"] == facts[1]["is_weighted"]
    worst = [[each["worst"] for each in said_of_held_out(run)] for run in (run, expected)]
    assert worst[0] == worst[1]  # the same rows, by the same names
    assert run.evaluate().loss == pytest.approx(expected.evaluate().loss)
    assert run.evaluate(path).loss == pytest.approx(expected.evaluate(written(tmp_path, columns)).loss)
    said = [each.predict(path) for each in (run, expected)]
    for ours, theirs in zip(*([each] if not isinstance(each, dict) else each.values() for each in said), strict=True):
        assert ours.values.tolist() == theirs.values.tolist()


def test_from_the_command_line(tmp_path: Path, in_parts: Any) -> None:
    """Held out by another file, resumed, in folds; what is predicted stands beside the columns."""
    columns, net, _ = CASES["numbers"]
    written(tmp_path, columns, slice(30))
    written(tmp_path, columns, slice(30, 40), "other")
    (tmp_path / "net.yaml").write_text(net)
    said = ["train", "net.yaml", "--data", "d.parquet", "--validation", "other.parquet", "--epochs", "2"]
    said += ["--columns.a.scale", "standard"]
    assert command(*said, "-o", "memory", cwd=tmp_path).code == 0
    in_parts()
    assert command(*said, "-o", "parts", cwd=tmp_path).code == 0
    runs = [regspec.load_run(tmp_path / name) for name in ("memory", "parts")]
    torch.testing.assert_close(weights(runs[1]), weights(runs[0]), rtol=0, atol=0)
    done = command("predict", "parts", "--data", "other.parquet", "-o", "said.parquet", cwd=tmp_path)
    assert done.code == 0, done.output
    frame = pl.read_parquet(tmp_path / "said.parquet")
    assert frame.columns[:5] == [*columns, "prediction"]
    assert frame["prediction"].to_list() == runs[0].predict(str(tmp_path / "other.parquet")).values.tolist()
    assert command("train", "--resume", "parts", "--epochs", "3", cwd=tmp_path).code == 0
    folds = ["train", "net.yaml", "--data", "d.parquet", "--folds", "2", "--epochs", "1", "-o", "folds"]
    assert command(*folds, cwd=tmp_path).code == 0


def test_a_run_goes_on_in_parts(tmp_path: Path, in_parts: Any) -> None:
    path = written(tmp_path, [*PLAIN, "kind"])
    whole = trained(tmp_path, NET, path, "whole", epochs=3)
    in_parts()
    trained(tmp_path, NET, path, "part", epochs=1)
    torch.testing.assert_close(weights(resume(tmp_path / "part", {"epochs": 3})), weights(whole), rtol=0, atol=0)


FAULTS = {
    "a gap": ({"b": [*X[:33, 1], None, *X[34:, 1]]}, ["column 'b' has no value in row 34", "--columns.b.impute"]),
    "an infinite number": ({"b": [*X[:20, 1], np.inf, *X[21:, 1]]}, ["column 'b' is infinite in row 21"]),
    "a word": ({"b": CITY}, ["column 'b' has '", "which is no number, in row 1"]),
    "a date": ({"b": FRAME["born"]}, ["column 'b' is Date, and no numbers"]),
    "too many": ({"d": X[:, 0]}, ["(batch, 4)", "(batch, 3)"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong(fault: str, tmp_path: Path, in_parts: Any) -> None:
    more, told = FAULTS[fault]
    in_parts()
    given = FRAME.select(*PLAIN, "kind").with_columns(**{name: pl.Series(each) for name, each in more.items()})
    given.select(pl.exclude("kind"), "kind").write_parquet(tmp_path / "d.parquet")
    with pytest.raises(regspec.RegspecError) as raised:
        trained(tmp_path, NET, tmp_path / "d.parquet")
    for each in told:
        assert each in str(raised.value)
    assert "d.parquet" in str(raised.value)


def test_a_disk_that_is_full(tmp_path: Path, in_parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, [*PLAIN, "kind"])
    in_parts()
    monkeypatch.setattr(scanned.tempfile, "TemporaryFile", lambda: open("/dev/full", "wb", buffering=0))  # noqa: SIM115
    with pytest.raises(regspec.RegspecError, match=r"can't be written to .*: No space left on device\n.*TMPDIR"):
        trained(tmp_path, NET, path)


def test_the_numbers_are_not_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for a column and a part; of 64 columns of 20,000 numbers each."""
    frame = pl.DataFrame({f"c{place}": DRAWN.standard_normal(20_000) for place in range(64)})
    frame.with_columns(y=pl.Series(DRAWN.integers(0, 2, 20_000))).write_parquet(tmp_path / "d.parquet")
    graph = graph_of(NET.replace("[3]", "[64]").replace("units: 3", "units: 2"))
    peaks = []
    for large in (2**40, 0):
        monkeypatch.setattr(scanned, "LARGE", large)
        for each in (scanned, mapped):
            monkeypatch.setattr(each, "CHUNK", 2**17)
        tracemalloc.start()
        load_data(str(tmp_path / "d.parquet"), graph)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    size = 20_000 * 64 * 8
    assert peaks[0] > size
    assert peaks[1] < size / 4
