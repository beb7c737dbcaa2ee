"""Columns of a table as numbers, fitted on some rows: against scikit-learn's transformers, and by hand."""

from __future__ import annotations

import json
import re
from datetime import datetime, time, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from sklearn import preprocessing
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from torch.nn import functional as F

import regspec
from regspec.graph.loading import graph_of
from regspec.text import document
from regspec.text.problems import Problem, RegspecError
from regspec.training.data import load_data
from regspec.training.data.columns import Fitted, fitted
from regspec.training.options.columns import ColumnSection, columns_said

from .commands import command

NUMBERS = [3.5, None, -1.0, 8.0, 2.5, None, 30.0, 7.0]
WORDS = ["b", "a", None, "c", "a", "a ", "d", ""]
ROWS = np.array([0, 1, 2, 4, 5])  # to train on: 3.5, -, -1, 2.5, -; b, a, -, a, a
DATES = ["2024-01-31", "2023-12-01", None, "2020-02-29", "2024-06-15", "1970-01-02", "2024-01-31", "1969-12-31"]
OTHER = [[0.5], [None], [4.0]]


def where(is_faulty: pl.Series, what: str, hint: str | None) -> None:
    if len(rows := is_faulty.arg_true()):
        raise RegspecError(Problem(f"{what} in row {rows[0]}", hint))


def made(values: list[Any], said: Any, rows: np.ndarray = ROWS) -> tuple[Fitted, np.ndarray]:
    """A column that is fitted on some rows, and the numbers of all of it, which JSON keeps as they are."""
    column = pl.Series("c", values)
    fit = fitted("c", column, ColumnSection.model_validate(said), rows, where)
    again = Fitted.of_dict(json.loads(json.dumps(fit.as_dict())))
    assert again == fit
    numbers = again.numbers(column, where)
    assert np.array_equal(numbers, fit.numbers(column, where))
    return fit, numbers


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent", 0.5])
@pytest.mark.parametrize("scale", [None, "standard", "min_max", "robust"])
def test_numbers(strategy: Any, scale: str | None, as_text: bool) -> None:
    values = np.array([[np.nan if each is None else each] for each in NUMBERS])
    constant = (
        {"strategy": "constant", "fill_value": strategy} if isinstance(strategy, float) else {"strategy": strategy}
    )
    imputer = SimpleImputer(**constant).fit(values[ROWS])
    wanted = imputer.transform(values)
    scalers = {
        "standard": preprocessing.StandardScaler(), "min_max": preprocessing.MinMaxScaler(),
        "robust": preprocessing.RobustScaler(),
    }  # fmt: skip
    if scale is not None:
        wanted = scalers[scale].fit(wanted[ROWS]).transform(wanted)
    given = ["" if each is None else f" {each}" for each in NUMBERS] if as_text else NUMBERS
    said = {"impute": strategy, **({} if scale is None else {"scale": scale})}
    np.testing.assert_allclose(made(given, said)[1], wanted)


def test_a_constant_column_is_scaled_to_zero() -> None:
    for scale in ("standard", "min_max", "robust"):
        assert np.array_equal(made([2.0] * 8, {"scale": scale})[1], np.zeros((8, 1)))


def test_one_hot() -> None:
    """A column for each word of the training part; other words, later ones too, have none."""
    fit, numbers = made(WORDS, {"one_hot": True, "impute": "most_frequent"})
    assert fit.words == ("a", "b")
    encoder = preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit([["a"], ["b"]])
    clean = [[(each or "a").strip() or "a"] for each in WORDS]
    assert np.array_equal(numbers, encoder.transform(clean))


def test_codes() -> None:
    fit, numbers = made(WORDS, {"codes": True, "impute": "missing"})
    assert fit.words == ("a", "b", "missing")
    assert numbers.dtype == np.int64
    assert numbers.tolist() == [[2], [1], [3], [0], [1], [1], [0], [3]]


def test_words_may_be_numbers_and_categories() -> None:
    assert made([3, 1, 2, 1, 3, 1, 2, 2], "codes")[1].tolist() == [[3], [1], [2], [1], [3], [1], [2], [2]]
    column = pl.Series("c", ["u", "v", "u"], dtype=pl.Categorical)
    fit = fitted("c", column, ColumnSection(one_hot=True), np.arange(3), where)
    assert fit.numbers(column, where).tolist() == [[1, 0], [0, 1], [1, 0]]


TYPED = {
    "whole": [3, 1, 2, 3],
    "floats": [3.0, 1.0, 2.0, 3.0],
    "texts": ["3", "1", "2", "3"],
    "written": ["3.0", "1.0", "2", "3"],
}
TRUE = {
    "booleans": [True, False, True, True],
    "texts": ["true", "false", "true", "true"],
    "Python's": ["True", "False", "True", "True"],
}


@pytest.mark.parametrize(("fit_on", "given"), [*product(TYPED.values(), repeat=2), *product(TRUE.values(), repeat=2)])
def test_a_word_is_the_same_in_a_column_of_another_type(fit_on: list[Any], given: list[Any]) -> None:
    """As Parquet, a CSV and a frame with gaps, whose whole numbers are 1.0, have them."""
    fit = fitted("c", pl.Series("c", fit_on), ColumnSection(codes=True), np.arange(4), where)
    assert fit.numbers(pl.Series("c", given), where)[:, 0].tolist() == (
        [3, 1, 2, 3] if len(fit.words) == 3 else [2, 1, 2, 2]
    )


def test_words_that_look_like_numbers_are_kept() -> None:
    values = ["007", "7", "1.10", "1.1", "1e0", "+7", "0.0", "00.0"]
    assert len({*made(values, "codes", np.arange(8))[1][:, 0]}) == 8


@pytest.mark.parametrize(
    ("values", "gap"), [([2, None, 1], 1), (["2", "", "1"], 1), ([2.0, float("nan"), 1.0], "1"), ([2, None, 1], 1.0)]
)
def test_a_number_stands_for_the_gaps_of_words(values: list[Any], gap: Any) -> None:
    fit, numbers = made(values, {"codes": True, "impute": gap}, np.arange(3))
    assert fit.words == ("1", "2")
    assert numbers.tolist() == [[2], [1], [1]]


def test_a_truth_stands_for_the_gaps_of_words() -> None:
    assert made([True, None, False], {"codes": True, "impute": True}, np.arange(3))[1].tolist() == [[2], [2], [1]]


ZONED = pl.Series("c", [datetime(2024, 1, 31, 18, 30)]).dt.replace_time_zone("Europe/Berlin")


@pytest.mark.parametrize(
    ("values", "hours"),
    [
        (["2024-01-31", "2024-01-31 18:30"], [0, 18]),  # each is read for itself, whichever comes first
        (["2024-01-31 18:30", "2024-01-31"], [18, 0]),
        (["2024-01-31T18:30:00.25", "20240131T0630"], [18, 6]),
        (["2024-01-31T18:30:00+02:00", "2024-01-31T18:30Z", "2024-01-31 18:30"], [16, 18, 18]),
        (ZONED, [17]),
        (ZONED.cast(pl.Datetime("ns", "Europe/Berlin")), [17]),
    ],
)
def test_forms_and_zones_of_dates(values: Any, hours: list[int]) -> None:
    column = pl.Series("c", values)
    fit = fitted("c", column, ColumnSection(date=("hour",)), np.arange(len(column)), where)
    assert fit.numbers(column, where)[:, 0].tolist() == hours


@pytest.mark.parametrize("gap", ["most_frequent", "2024-01-31T17:30Z", "2024-01-31T18:30+01:00", "2024-01-31 17:30"])
@pytest.mark.parametrize("dates", [["2024-01-31T18:30+01:00", None], [*ZONED, None]])
def test_gaps_of_dates_with_zones(dates: list[Any], gap: str) -> None:
    said = {"date": "hour", "impute": gap}
    assert made(dates, said, np.arange(2))[1].tolist() == [[17], [17]]


@pytest.mark.parametrize(
    ("values", "said", "what"),
    [
        ([20240131], {"date": "year"}, "is Int64, and no dates"),
        ([True], {"date": "year"}, "is Boolean, and no dates"),
        ([time(18)], {"date": "hour"}, "is Time, and no dates"),
        ([datetime(2024, 1, 31)], {"scale": "standard"}, "is Datetime.*, and no numbers"),
        ([timedelta(1)], {"impute": 0}, "is Duration.*, and no numbers"),
        ([datetime(2024, 1, 31)], "one_hot", "is Datetime.*, and no words"),
        ([[1]], "codes", "is List.*, and no words"),
        ([[1]], {"scale": "robust"}, "is List.*, and no numbers"),
        (["2024-01-31"], {"date": "year", "impute": "soon"}, "is dates, which 'soon' is none of"),
        (["2024-01-31"], {"date": "year", "impute": 5}, "is dates, which '5' is none of"),
        (["03/04/2024"], {"date": "month"}, "has a value that is no date, in row 0"),
        (["0001-01-01T00:00+02:00"], {"date": "year"}, "has a value that is no date, in row 0"),
    ],
)
def test_types_that_are_none_of_these(values: list[Any], said: Any, what: str) -> None:
    with pytest.raises(RegspecError, match=what):
        made(values, said, np.arange(1))


@pytest.mark.parametrize("as_dates", [False, True])
def test_dates(as_dates: bool) -> None:
    read = [None if each is None else datetime.fromisoformat(each) for each in DATES]
    parts = ["year", "month", "day", "weekday", "hour", "days"]
    said = {"date": parts, "impute": "most_frequent"}
    rows = np.array([0, 1, 2, 6])
    filled = [each or datetime(2024, 1, 31) for each in read]
    wanted = [
        [each.year, each.month, each.day, each.isoweekday(), each.hour, (each - datetime(1970, 1, 1)).days]
        for each in filled
    ]
    assert made(read if as_dates else DATES, said, rows)[1].tolist() == wanted


def test_times_and_scaled_dates() -> None:
    _, numbers = made(["2024-01-31 18:45", "2024-01-31 06:15"], {"date": ["hour", "minute"]}, np.arange(2))
    assert numbers.tolist() == [[18, 45], [6, 15]]
    _, numbers = made(["2024-01-01", "2024-01-03"], {"date": "days", "scale": "min_max"}, np.arange(2))
    assert numbers.tolist() == [[0], [1]]


@pytest.mark.parametrize(
    ("values", "said", "what", "hint"),
    [
        (NUMBERS, {}, "has no value in row 1", "--columns.c.impute fills gaps: median, most_frequent, or a value"),
        (
            WORDS,
            {"one_hot": True},
            "has no value in row 2",
            "--columns.c.impute fills gaps: most_frequent, or a value",
        ),
        (
            ["1", "x"],
            {"impute": "mean"},
            "has 'x', which is no number, in row 1",
            "--columns.c one_hot or codes makes numbers of its words",
        ),
        ([1.0, float("inf")], {"impute": "mean"}, "is infinite in row 1", None),
        (["2024-13-01", "2024-01-01"], {"date": "year"}, "has a value that is no date, in row 0", "dates are as"),
        ([None, None], {"impute": "mean"}, "column 'c' has no value to train on", "--columns.c drop leaves it out"),
        (
            ["a", "b"],
            {"one_hot": True, "impute": "mean"},
            "column 'c' has no mean, because it is no numbers",
            "impute: most",
        ),
        ([1.0, 2.0], {"impute": "zero"}, "column 'c' is numbers, which 'zero' is none of", "impute: mean, median"),
    ],
)
def test_what_is_no_number(values: list[Any], said: Any, what: str, hint: str | None) -> None:
    with pytest.raises(regspec.RegspecError) as caught:
        made(values, said, np.arange(min(2, len(values))))
    (problem,) = caught.value.problems
    assert problem.what == what
    assert (problem.hint or "").startswith(hint or "")


def test_what_is_said() -> None:
    texts = ["id=drop", "age={impute: median, scale: standard}", "city=one_hot", "born.date=[year, days]", "v1.2=codes"]
    found = columns_said([*texts, "born.scale=min_max", "a.b.impute=0"])
    assert {name: each.model_dump(exclude_none=True) for name, each in found.items()} == {
        "id": {"drop": True},
        "age": {"impute": "median", "scale": "standard"},
        "city": {"one_hot": True},
        "born": {"date": ("year", "days"), "scale": "min_max"},
        "v1.2": {"codes": True},
        "a.b": {"impute": 0.0},
    }


@pytest.mark.parametrize(
    "texts",
    [
        ["city=one_hot", "city.impute=most_frequent"],
        ["city.impute=most_frequent", "city=one_hot"],
        ["city.one_hot=true", "city.impute=most_frequent"],
        ["city={one_hot: true, impute: most_frequent}"],
    ],
)
def test_a_word_alone_is_a_key_that_is_true(texts: list[str]) -> None:
    assert columns_said(texts)["city"].plain == {"one_hot": True, "impute": "most_frequent"}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["city"], "'city' says nothing of a column\n   = write --columns.city one_hot"),
        (["city=onehot"], "the column 'city' has no field 'onehot'"),
        (["city=onehot"], "= did you mean 'one_hot'"),
        (["age={scale: std}"], "'scale' of the column 'age' must be 'standard', 'min_max' or 'robust'"),
        (["age="], "'age=' says nothing of a column"),
        (["age.impute="], "'age.impute=' says nothing of a column"),
        (["age.impute='"], "--columns.age.impute:1:2: error: not valid YAML"),
        (["age.impute=1", "age.impute=2"], "'impute' of the column 'age' is given twice"),
        (["age.impute=1", "age=drop"], "the column 'age' is drop and impute, which don't go together"),
        (["age=drop", "age.impute=2"], "the column 'age' is drop and impute, which don't go together"),
        (["age=drop", "age=codes"], "two things are said of the column 'age'"),
        (["age=drop", "age=drop"], "two things are said of the column 'age'\n   = say all at once, --columns.age"),
        (["age=codes", "age.codes=true"], "'codes' of the column 'age' is given twice"),
        (["age.scale=standard", "age={impute: 1}"], "two things are said of the column 'age'"),
        (["age=3", "age.impute=1"], "two things are said of the column 'age'"),
        (["age={one_hot: true, codes: true}"], "the column 'age' is one_hot and codes, which don't go together"),
        (["age={one_hot: true, scale: standard}"], "the column 'age' is one_hot and scale, which don't go together"),
        (["born={date: [yeer]}"], "must be 'year', 'month'"),
    ],
)
def test_what_is_said_wrongly(texts: list[str], message: str) -> None:
    with pytest.raises(regspec.RegspecError) as caught:
        columns_said(texts)
    assert message in str(caught.value), str(caught.value)


# -- in a training -----------------------------------------------------------------------------------------------------

NET = """\
regspec: 1
inputs: {x: {shape: [6]}}
layers:
  - Dense: {name: trunk, units: 6, activation: relu, kernel_regularizer: {l2: 1e-4}}
  - Dense: {name: price, units: 1}
"""
WORDY = """\
regspec: 1
inputs: {city: {shape: [1], dtype: int64}, age: {shape: [1]}}
layers:
  - Embedding: {name: words, input_dim: 4, output_dim: 2, inputs: city}
  - Flatten
  - Concatenate: {inputs: [flatten, age]}
  - Dense: {name: price, units: 1}
"""
SAID = ("id=drop", "age={impute: median, scale: standard}", "city={one_hot: true, impute: most_frequent}")
SAID += ("born={date: [year, days], scale: min_max}",)


def table(count: int = 60) -> pl.DataFrame:
    drawn = np.random.default_rng(0)
    ages = [None if index % 9 == 4 else int(each) for index, each in enumerate(drawn.integers(18, 80, count))]
    cities = [None if index % 11 == 3 else "abc"[each] for index, each in enumerate(drawn.integers(0, 3, count))]
    born = [f"{1950 + int(each)}-0{1 + index % 9}-11" for index, each in enumerate(drawn.integers(0, 50, count))]
    price = drawn.standard_normal(count)
    return pl.DataFrame({"id": range(count), "age": ages, "city": cities, "born": born, "price": price})


def prepared(frame: pl.DataFrame, rows: np.ndarray) -> np.ndarray:
    """The numbers of `SAID`, by scikit-learn, fitted on some rows."""
    age = np.array([[np.nan if each is None else each] for each in frame["age"]], dtype=float)
    age = SimpleImputer(strategy="median").fit(age[rows]).transform(age)
    age = preprocessing.StandardScaler().fit(age[rows]).transform(age)
    words = frame["city"].to_list()
    most = max(sorted({words[row] for row in rows} - {None}), key=[words[row] for row in rows].count)
    city = np.array([[each or most] for each in words])
    city = preprocessing.OneHotEncoder(sparse_output=False).fit(city[rows]).transform(city)
    dates = [datetime.fromisoformat(each) for each in frame["born"]]
    born = np.array([[each.year, (each - datetime(1970, 1, 1)).days] for each in dates], dtype=float)
    born = preprocessing.MinMaxScaler().fit(born[rows]).transform(born)
    return np.concatenate([age, city, born], 1)


@pytest.mark.parametrize("form", ["csv", "parquet", "a frame", "a pair of frames"])
def test_a_training(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is fitted on the part that is trained on is applied to what is held out, and by `predict` to other rows."""
    monkeypatch.chdir(tmp_path)
    frame = table()
    frame.write_csv("given.csv")
    frame.write_parquet("given.parquet")
    data: Any = {"a frame": frame, "a pair of frames": (frame.drop("price"), frame["price"])}.get(form, f"given.{form}")
    columns = dict(each.split("=", 1) for each in SAID)
    columns = {name: document.parse(value).data for name, value in columns.items()}
    run = regspec.train(NET, data, columns=columns, epochs=2, quiet=True)
    _, rows, _ = torch_rows(60)
    wanted = prepared(frame, rows)
    other = frame.drop("id", "price").reverse().with_columns(more=pl.lit("x"))
    expected = run.model(torch.tensor(wanted).float())[:, 0].detach().flip(0)
    np.testing.assert_allclose(run.predict(other).values, expected, rtol=1e-5, atol=1e-6)
    again = regspec.load_run(run.folder).predict(other).values
    assert np.array_equal(again, run.predict(other).values)
    strange = other.with_columns(city=pl.lit("never seen"))
    wanted[:, 1:4] = 0
    expected = run.model(torch.tensor(wanted).float())[:, 0].detach().flip(0)
    with pytest.warns(UserWarning, match="60 rows have words of 'city' that training did not have"):
        said = run.predict(strange).values
    np.testing.assert_allclose(said, expected, rtol=1e-5, atol=1e-6)


def torch_rows(count: int) -> tuple[int, np.ndarray, np.ndarray]:
    """Which of so many examples are trained on, and which are held out, as scikit-learn draws them."""
    trained, held_out = train_test_split(np.arange(count), test_size=0.2, random_state=0)
    return count, trained, held_out


def test_words_for_an_embedding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several inputs each takes the column of its name; words that training did not have are 0."""
    monkeypatch.chdir(tmp_path)
    columns = {"id": "drop", "born": "drop", "city": {"codes": True, "impute": "a"}, "age": {"impute": 40}}
    run = regspec.train(WORDY, table(), columns=columns, epochs=1, quiet=True)
    model: Any = run.model
    given = pl.DataFrame({"age": [None, 30.0], "city": ["zz", "b"]})
    expected = model(torch.tensor([[0], [2]]), torch.tensor([[40.0], [30.0]]))[:, 0].detach()
    with pytest.warns(UserWarning, match="1 row has a word of 'city' that training did not have: it counts as unknown"):
        said = run.predict(given).values
    np.testing.assert_allclose(said, expected, rtol=1e-6)


def test_a_held_out_table_and_a_training_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file says what the command line says; the other table is made numbers of by what was fitted on the first."""
    monkeypatch.chdir(tmp_path)
    frame = table()
    frame[:40].write_csv("given.csv")
    frame[40:].write_csv("other.csv")
    Path("net.yaml").write_text(NET)
    said = ", ".join(each.replace("=", ": ", 1) for each in SAID)
    data = f"{{train: given.csv, validation: other.csv, columns: {{{said}}}}}"
    Path("training.yaml").write_text(f"{{regspec: 1, training: {{epochs: 2}}, data: {data}}}")
    options = [part for each in SAID for part in (f"--columns.{each.partition('=')[0]}", each.partition("=")[2])]
    by_line = ["--data", "given.csv", "--validation", "other.csv", "--epochs", "2", *options]
    lines = [
        ["train", "net.yaml", "--with", "training.yaml", "-o", "file"],
        ["train", "net.yaml", *by_line, "-o", "line"],
    ]
    for words in lines:
        assert command(*words, cwd=tmp_path).code == 0
    states = [load_file(f"{name}/weights.safetensors") for name in ("file", "line")]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    run = regspec.load_run("file")
    wanted = prepared(frame, np.arange(40))[40:]
    mean = F.mse_loss(
        run.model(torch.tensor(wanted).float())[:, 0], torch.tensor(frame["price"][40:].to_numpy()).float()
    )
    assert run.metrics["held_out_loss"] == pytest.approx(mean.item(), rel=1e-4)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, r"column 'age' has no value in row 5, .*\n   = --columns.age.impute fills gaps"),
        ({}, r"column 'born' has '.*', which is no number, .*\n   = --columns.born.date '\[year, month\]'"),
        ({"age": {"impute": "x"}}, "data: error: column 'age' is numbers, which 'x' is none of"),
        ({"ag": "drop"}, "has no column 'ag'\n   = did you mean 'age'"),
        (
            {"price": {"scale": "standard"}},
            "column 'price' is a target, which is taken as it is\n   = --outputs.price.scale standard scales",
        ),
        ({"id": "drop", "age": "drop", "city": "drop", "born": "drop"}, "has no column beside the target"),
    ],
)
def test_what_is_wrong_with_a_table(said: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.train(
            NET, table(), columns=said, quiet=True, target="born" if "city" in said and "price" in said else None
        )
    assert re.search(message, str(caught.value)), str(caught.value)


@pytest.mark.parametrize("form", ["in memory", "in a file"])
@pytest.mark.parametrize("shape", ["[4]", "[9]", "[2, 3]"])
def test_an_input_of_another_size(shape: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault says how many numbers each column gives, which nobody can count before, and what takes them."""
    days = pl.Series("day", ["2024-01-31", "2023-05-01"] * 10)
    words = pl.Series("city", ["a", "b", "c", "d", "e"] * 4)
    frame = pl.DataFrame({"age": [1.5, 2.5] * 10, "day": days, "city": words, "price": [0.5, 1.5] * 10})
    frame.write_parquet(tmp_path / "t.parquet")
    if form == "in a file":
        monkeypatch.setattr("regspec.training.data.scanned.Scanned.is_large", True)
    graph = graph_of(f"regspec: 1\ninputs: {{x: {{shape: {shape}}}}}\nlayers: [Flatten, Dense: 1]")
    said = columns_said(["day.date=[year, month]", "city=one_hot"])
    takes = rf"gives \(batch, 8\) for 'x', but the spec takes \(batch, {shape[1:-1]}\)"
    with pytest.raises(RegspecError, match=takes) as caught:
        load_data(str(tmp_path / "t.parquet"), graph, columns=said)
    takes = "" if "," in shape else "; shape: [8] takes them"
    assert caught.value.problems[0].hint == f"8 numbers from 3 columns: age 1, day 2, city 5{takes}"
