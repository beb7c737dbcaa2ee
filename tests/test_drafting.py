"""A first training file of a table: what it says of each column, and that it trains as it is."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import regspec
from regspec.text.document import parse
from regspec.training.data.drafting import draft
from regspec.views.summary import plural

from .commands import command

COUNT = 60
ROWS = range(COUNT)
# A column, what is said of it, and words of why.
COLUMNS: dict[str, tuple[list[Any], Any, str]] = {
    "row": ([*range(100, 160)], "drop", "each one more than another"),
    "user_id": ([7 * each % 61 for each in ROWS], "drop", "that all differ, as those of an id"),
    "size": ([7 * each % 61 for each in ROWS], {"scale": "standard"}, "numbers from 0 to 60"),
    "age": ([None if each % 9 == 4 else each / 2 for each in ROWS], {"impute": "median", "scale": "standard"},
            "numbers from 0 to 29.5; 7 of 60 are missing"),
    "flag": ([each % 2 for each in ROWS], {}, "0 or 1"),
    "open": ([each % 3 == 0 for each in ROWS], {}, "0 or 1"),
    "flaw": ([None if each == 3 else each % 2 for each in ROWS], {"impute": "most_frequent"}, "0 or 1; 1 of 60 are"),
    "city": (["Bern", "Oslo", " Rome "] * 20, "one_hot", "3 words, Bern, Oslo, Rome"),
    "kind": (["a", "b", None] * 20, {"one_hot": True, "impute": "most_frequent"}, "2 words, a, b; 20 of 60 are"),
    "code": ([f"00{each % 4}" for each in ROWS], "one_hot", "4 words, 000"),
    "name": ([f"n{each}" for each in ROWS], "drop", "words that all differ"),
    "street": ([f"s{each % 55}" for each in ROWS], "drop", "55 words, many for one_hot"),
    "review": ([f"it was {each} times good" for each in ROWS], "drop", "texts of some 5 words"),
    "born": ([f"20{each % 20:02}-03-04" for each in ROWS],
             {"date": ["year", "month", "weekday"], "scale": "standard"}, "dates"),
    "seen": ([None if each == 5 else datetime(2024, 1, 1 + each % 20, each % 7) for each in ROWS],
             {"date": ["year", "month", "weekday", "hour"], "impute": "most_frequent", "scale": "standard"},
             "dates; 1 of 60 are missing"),
    "day": ([date(2024, 1, 1 + each % 20) for each in ROWS],
            {"date": ["year", "month", "weekday"], "scale": "standard"}, "dates"),
    "none": ([None] * COUNT, "drop", "it is empty"),
    "same": ([3] * COUNT, "drop", "it is 3 everywhere"),
    "mixed": (["?" if each == 8 else str(each) for each in ROWS], "drop", "numbers, but for '?' in 1 row"),
    "a: #b": ([each % 5 + 0.5 for each in ROWS], {"scale": "standard"}, "numbers from 0.5 to 4.5"),
    "list": ([[each] for each in ROWS], "drop", "of which no numbers are made"),
    "price": ([each % 7 + 0.25 for each in ROWS], "target", "the last column: quantities from 0.25 to 6.25"),
}  # fmt: skip
WIDTHS = {"size": 1, "age": 1, "flag": 1, "open": 1, "flaw": 1, "city": 3, "kind": 2, "code": 4, "born": 3, "seen": 4,
          "day": 3, "a: #b": 1}  # fmt: skip


def written(folder: Path) -> str:
    frame = pl.DataFrame({name: values for name, (values, _, _) in COLUMNS.items()}, strict=False)
    frame.write_parquet(folder / "t.parquet")
    return str(folder / "t.parquet")


def test_what_is_said_of_each_column(tmp_path: Path) -> None:
    path = written(tmp_path)
    text = draft(path)
    said = parse(text).data["data"]
    assert said["train"] == path
    assert said["columns"] == {name: said for name, (_, said, _) in COLUMNS.items()}
    lines = dict(zip(COLUMNS, text.splitlines()[-len(COLUMNS) :], strict=True))
    for name, (_, _, why) in COLUMNS.items():
        assert why in lines[name].rpartition("  # ")[2], lines[name]
    given = ", ".join(f"{name} {width}" for name, width in WIDTHS.items())
    assert f"# 60 rows. An example has 25 numbers: {given}.\n" in text
    assert "inputs: {x: {shape: [25]}}, and a last layer of 1 unit." in text


def test_it_trains_as_it_is(tmp_path: Path) -> None:
    """With the size that it says; of words, too, and from another folder."""
    written(tmp_path)
    pl.read_parquet(tmp_path / "t.parquet").drop("list").write_csv(tmp_path / "t.csv")
    (tmp_path / "conf").mkdir()
    for name, said, units in (("t.parquet", [], 1), ("t.csv", ["--target", "city"], 3)):
        done = command("train", "--draft", "--data", name, *said, "-o", "conf/t.yaml", "--force", cwd=tmp_path)
        assert done.code == 0, done.output
        text = (tmp_path / "conf/t.yaml").read_text()
        size = 25 if units == 1 else 25 - 3 + 1 + 1  # without the city, with the price; booleans of a text are words
        assert f"shape: [{size}]}}}}, and a last layer of {units} unit" in text, text
        (tmp_path / "net.yaml").write_text(
            f"regspec: 1\ninputs: {{x: {{shape: [{size}]}}}}\nlayers: [{{Dense: {{name: out, units: {units}}}}}]\n"
        )
        more = ["--with", "conf/t.yaml", "--epochs", "1", "-o", f"run_{units}"]
        done = command("train", "net.yaml", *more, cwd=tmp_path)
        assert done.code == 0, done.output
    assert "# 3 classes, Bern, Oslo, Rome" in text
    done = command("train", "--draft", "--data", "t.csv", "-o", "conf/t.yaml", cwd=tmp_path)
    assert (done.code, "is there already" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("--data digits", 1, "'digits' is no table"),
        ("--data nowhere.csv", 1, "nowhere.csv: error: can't be read"),
        ("--data t.csv --target colour", 1, "t.csv: error: has no column 'colour'"),
        ("--data t.csv --target b", 1, "t.csv: error: column 'b' has no value in line 3"),
        ("--data t.csv --target c --epochs 3", 2, "--epochs"),
        ("net.yaml --data t.csv", 2, "no spec"),
        ("--data one.csv", 1, "one.csv: error: has no column beside the target"),
        ("--data same.csv", 1, "same.csv: error: has no column that is an input\n   = a: it is 1 everywhere"),
    ],
)
def test_what_is_wrong(arguments: str, code: int, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,c\n1,2.5,x\n2,,y\n5,3.5,x\n")
    (tmp_path / "one.csv").write_text("b\n2.5\n3.5\n4.5\n")
    (tmp_path / "same.csv").write_text("a,b\n1,2.5\n1,3.5\n1,4.5\n")
    done = command("train", "--draft", *arguments.split(), cwd=tmp_path)
    assert (done.code, message in done.stderr) == (code, True), done.output
    assert "Traceback" not in done.output
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("goals", "units"), [([0, 99], 100), ([0, 100], 1), ([-1, 5], 1), ([250_000, 310_000], 1)])
def test_whole_numbers_that_are_no_classes(goals: list[int], units: int, tmp_path: Path) -> None:
    """Those below 0 or too many: with one unit, and the loss that it tells, it trains."""
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"{each}.5,{goals[each % 2]}\n" for each in range(30)))
    (tmp_path / "t.yaml").write_text(draft(str(tmp_path / "t.csv")))
    text = (tmp_path / "t.yaml").read_text()
    assert f"and a last layer of {plural(units, 'unit', 'units')}." in text
    told = f"whole numbers from {goals[0]} to {goals[1]}; that they are quantities is said by --outputs.OUTPUT.loss mse"
    assert (told in text) == (units == 1)
    spec = f"regspec: 1\ninputs: {{x: {{shape: [1]}}}}\nlayers: [{{Dense: {{name: out, units: {units}}}}}]\n"
    (tmp_path / "net.yaml").write_text(spec)
    said = ["--outputs.out.loss", "mse"] if units == 1 else []
    done = command("train", "net.yaml", "--with", "t.yaml", *said, "--epochs", "1", "-o", "run", cwd=tmp_path)
    assert done.code == 0, done.output
    assert ("quantities by mse" if units == 1 else "classes by cross_entropy") in done.stdout


def test_whole_numbers_as_a_target(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"{each}.5,{each % 3}\n" for each in range(30)))
    text = draft(str(tmp_path / "t.csv"))
    assert "b: target  # the last column: 3 classes, 0, 1, 2, which are whole numbers: quantities are as 3.0" in text
    with pytest.raises(regspec.RegspecError, match="did you mean 'b'"):
        draft(str(tmp_path / "t.csv"), "B")
