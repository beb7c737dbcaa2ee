"""Words of new data that training did not have, which `predict` and `evaluate` say."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import regspec
from regspec.graph.loading import graph_of
from regspec.training.data import load_data, scanned
from regspec.training.data.division import Fold
from regspec.training.options.columns import columns_said

from .commands import command

HEAD = "regspec: 1\ninputs: {x: {shape: [%d], dtype: int64}}\nlayers:\n  - Embedding: {input_dim: 9, output_dim: 2}\n"
EMBEDDED = HEAD + "  - Flatten\n  - Dense: {name: kind, units: 2}\n"
STRANGERS: dict[str, tuple[str, Any, str | None]] = {
    "one_hot": ("regspec: 1\ninputs: {x: {shape: [3]}}\nlayers: [{Dense: {name: kind, units: 2}}]\n",
                "one_hot", "none of them"),
    "codes": (EMBEDDED % 1, "codes", "unknown"),
    "a text": (EMBEDDED % 2, {"text": {"length": 2}}, "unknown"),
    "a text with room": (EMBEDDED % 2, {"text": {"length": 2, "vocabulary": 9}}, "unknown"),
    "a text whose rare words are unknown": (EMBEDDED % 2, {"text": {"length": 2, "vocabulary": 4}}, None),
}  # fmt: skip


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("case", STRANGERS)
def test_words_that_training_did_not_have_are_said(
    case: str, is_large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a line, by `predict` and `evaluate`; not where all words are known, nor of what the run held out."""
    spec, said, becomes = STRANGERS[case]
    monkeypatch.chdir(tmp_path)
    if is_large:
        monkeypatch.setattr(scanned, "LARGE", 1)
        monkeypatch.setattr(scanned, "CHUNK", 24)
    given = pl.DataFrame({"city": ["Ulm", "Bonn", "Kiel"] * 10, "kind": [0, 1] * 15})
    run = regspec.train(spec, given, columns={"city": said}, epochs=1, quiet=True, folder="run")
    new = pl.DataFrame({"city": ["Ulm", "Rome", "Bonn", "Oslo", "Kiel"], "kind": [0, 1, 0, 1, 0]})
    for name, frame in (("known", given), ("new", new)):
        frame.write_parquet(f"{name}.parquet")
        line = f"2 rows have words of 'city' that training did not have: they count as {becomes}"
        wanted = [line] if becomes and name == "new" else []
        for action in (run.predict, run.evaluate):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                action(f"{name}.parquet")
            assert [str(each.message) for each in caught] == wanted
            assert {each.filename for each in caught} <= {__file__}
        for word in ("predict", "evaluate"):
            done = command(word, "run", "--data", f"{name}.parquet", cwd=tmp_path)
            assert (done.code, done.stderr.splitlines()) == (0, wanted)


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("case", STRANGERS)
def test_words_of_what_is_held_out_are_said(
    case: str, is_large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `train`: of a set beside what is trained on, and of a part of it."""
    spec, said, becomes = STRANGERS[case]
    if is_large:
        monkeypatch.setattr(scanned, "LARGE", 1)
        monkeypatch.setattr(scanned, "CHUNK", 24)
    (tmp_path / "net.yaml").write_text(spec)
    (tmp_path / "t.yaml").write_text(json.dumps({"regspec": 1, "data": {"columns": {"city": said}}}))
    cities = ["Ulm", "Bonn", "Kiel"] * 10
    pl.DataFrame({"city": cities, "kind": [0, 1] * 15}).write_parquet(tmp_path / "known.parquet")
    new = pl.DataFrame({"city": ["Ulm", "Rome", "Bonn", "Oslo", "Kiel"], "kind": [0, 1, 0, 1, 0]})
    new.write_parquet(tmp_path / "new.parquet")
    line = f"held out: 2 rows have words of 'city' that training did not have: they count as {becomes}\n"
    for held_out, is_told in (["--validation", "new.parquet"], True), ([], False):
        how = ["--with", "t.yaml", "--data", "known.parquet", *held_out, "--epochs", "1"]
        done = command("train", "net.yaml", *how, cwd=tmp_path)
        assert (done.code, done.stderr) == (0, "")
        assert ("did not have" in done.stdout) == (line in done.stdout) == (is_told and becomes is not None)


def test_words_of_a_fold_alone() -> None:
    """A word of one row is new to the model that did not see this row, and to no other."""
    spec, said, _ = STRANGERS["codes"]
    given = pl.DataFrame({"city": ["Rome", *["Ulm", "Bonn", "Kiel"] * 8], "kind": [0] + [0, 1] * 12})
    told = [
        load_data(given, graph_of(spec), columns=columns_said([f"city={said}"]), fold=Fold(number, 4)).unknown_words
        for number in range(1, 5)
    ]
    line = "1 row has a word of 'city' that training did not have: it counts as unknown"
    assert sorted(told) == [(), (), (), (line,)]


HINTS: dict[str, tuple[list[str], str]] = {
    "an id": (["p-1", "p-2", "p-3", "p-4"], "--columns.c drop leaves it out: all its values differ"),
    "a name": (["Ada Lovelace", "Alan Turing", "Emmy Noether"], "--columns.c drop leaves it out"),
    "dates": (
        ["2024-01-31", "2024-02-29", "2024-01-31", ""],
        "--columns.c.date '[year, month]' makes numbers of dates",
    ),
    "times": (["2024-01-31 18:30", "2024-01-31T18:30:00+01:00"], "--columns.c.date"),
    "texts": (["how good it is", "not so good", "very good, and so on", "bad"], "--columns.c.text '{length: 100}'"),
    "words": (["Ulm", "New York", "Ulm", ""], "--columns.c one_hot or codes makes numbers of its words"),
    "numbers and a word": (["1", "2", "3", "many"], "--columns.c one_hot or codes"),
    "two words": (["Ulm", "Bonn"], "--columns.c one_hot or codes"),
}


@pytest.mark.parametrize("is_said", [False, True])
@pytest.mark.parametrize("case", HINTS)
def test_what_makes_numbers_of_words(case: str, is_said: bool) -> None:
    """It is told by the values; where something is said of the column, too."""
    values, hint = HINTS[case]
    given = pl.DataFrame({"c": [each or "NaN" for each in values] if not is_said else values, "y": range(len(values))})
    spec = "regspec: 1\ninputs: {x: {shape: [1]}}\nlayers: [{Dense: {name: y, units: 9}}]\n"
    said = {"columns": {"c": {"impute": 1}}} if is_said else {}
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.train(spec, given.filter(pl.col("c") != "NaN"), quiet=True, **said)
    first = next(each for each in values if not each.isdecimal())
    assert f"column 'c' has '{first}', which is no number" in str(caught.value)
    assert f"= {hint}" in str(caught.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "2,many,4",
            r"column 'b' has 'many', which is no number, in line 3\n   = the data to train on had numbers there",
        ),
        ("2,,4", r"column 'b' has no value in line 3\n   = the data to train on had a value in every row"),
        (
            "few,1,4",
            r"column 'a' has 'few', which is no number, in line 3\n   = the data to train on had numbers there",
        ),
    ],
)
def test_what_is_no_number_when_a_model_is_trained(row: str, message: str, tmp_path: Path) -> None:
    """No option of the training is named, which `predict` and `evaluate` lack."""
    spec = "regspec: 1\ninputs: {x: {shape: [2]}}\nlayers: [{Dense: {name: y, units: 2}}]\n"
    given = pl.DataFrame({"a": range(10), "b": range(10), "y": [0, 1] * 5})
    said: dict[str, Any] = {"columns": {"a": {"scale": "standard"}}}
    run = regspec.train(spec, given, epochs=1, quiet=True, folder=tmp_path / "run", **said)
    (tmp_path / "new.csv").write_text(f"a,b,y\n1,2,1\n{row[:-1]}1\n")
    for action in (run.predict, run.evaluate):
        with pytest.raises(regspec.RegspecError, match=message):
            action(tmp_path / "new.csv")


@pytest.mark.parametrize("is_new", [True, False])
def test_labels_of_a_table_keep_their_names(is_new: bool, tmp_path: Path) -> None:
    """In predictions and evaluations; where the data has the columns, too, after ``prediction_``."""
    spec = "regspec: 1\ninputs: {x: {shape: [2]}}\nlayers: [{Dense: {name: out, units: 3}}]\n"
    labels = {"sport": [0, 1] * 10, "news": [1, 1, 0, 0] * 5, "art": [1, 0, 0, 0] * 5}
    given = pl.DataFrame({"a": [0.1, 0.2, -0.5, 0.4] * 5, "b": [1.0, -1.0] * 10, **labels})
    run = regspec.train(spec, given, target="sport,news,art", epochs=1, quiet=True, folder=tmp_path / "run")
    said: Any = run.predict(given)
    assert said.classes == ("sport", "news", "art")
    figures = run.evaluate(given).outputs["out"].classes
    assert [(each.name, each.count) for each in figures] == [("sport", 10), ("news", 10), ("art", 5)]
    (given.drop(*labels) if is_new else given).write_csv(tmp_path / "new.csv")
    assert command("predict", "run", "--data", "new.csv", "-o", "out.parquet", cwd=tmp_path).code == 0
    frame = pl.read_parquet(tmp_path / "out.parquet")
    for number, name in enumerate(labels):
        answers = frame[name if is_new else f"prediction_{name}"]
        assert answers.dtype == pl.Boolean
        assert answers.to_list() == said.values[:, number].tolist()
        assert frame[f"probability_{name}"].to_list() == pytest.approx(said.probabilities[:, number].tolist())
