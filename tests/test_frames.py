"""Frames, alone and in pairs with their targets: polars's, and those of another library."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import regspec
from regspec.graph.loading import graph_of
from regspec.text.problems import RegspecError
from regspec.training.data import load_data
from regspec.training.data.known import load_inputs
from regspec.training.options.columns import ColumnSection

SUM = """\
regspec: 1
inputs: {x: {shape: [2]}}
layers: [{Dense: {name: price, units: 1}}]
"""


@pytest.mark.parametrize("said", [{}, {"a": {"scale": "standard"}}])
def test_a_held_out_frame_has_its_columns_by_their_names(said: Any) -> None:
    """Its order is another one, and it has more; what is scaled is so by the frame that is trained on."""
    drawn = np.random.default_rng(0).standard_normal((12, 3))
    frame = pl.DataFrame({"a": drawn[:, 0], "b": 10 + drawn[:, 1]})
    other = pl.DataFrame({"more": ["u"] * 4, "b": [1.0, 2.0, 3.0, 4.0], "a": [5.0, 6.0, 7.0, 8.0]})
    columns = {name: ColumnSection.model_validate(each) for name, each in said.items()}
    data = (frame, drawn[:, 2], other, np.zeros(4))
    loaded = load_data(data, graph_of(regspec.loads(SUM)), columns=columns)
    wanted = np.array([[5.0, 1.0], [6.0, 2.0], [7.0, 3.0], [8.0, 4.0]])
    if said:
        wanted[:, 0] = (wanted[:, 0] - drawn[:, 0].mean()) / drawn[:, 0].std()
    np.testing.assert_allclose(loaded.held_out[range(4)][0], wanted, rtol=1e-6)


@pytest.mark.parametrize("said", [{}, {"a": ColumnSection(scale="standard")}])
@pytest.mark.parametrize(("rows", "targets"), [(12, 9), (9, 12)])
def test_a_frame_with_other_than_its_targets(rows: int, targets: int, said: Any) -> None:
    data = (pl.DataFrame({"a": [*range(rows)], "b": [*range(rows)]}), np.zeros(targets))
    message = f"unequal numbers of examples: {rows} for the frame, {targets} for the target"
    with pytest.raises(RegspecError, match=message):
        load_data(data, graph_of(regspec.loads(SUM)), columns=said)


class Series(np.ndarray[Any, Any]):
    """Stands in for a column of pandas, whose gaps are NaN in words too."""

    def isna(self) -> list[bool]:
        return [each is None or each != each for each in self.tolist()]


class Frame:
    """Stands in for a frame of pandas."""

    __dataframe__ = None

    def __init__(self, names: list[str], values: list[list[Any]]) -> None:
        self.columns, self.values = names, values

    def __getitem__(self, name: str) -> Series:
        return np.array(self.values[self.columns.index(name)], object).view(Series)


@pytest.mark.filterwarnings("ignore:.* that training did not have")  # where the row with "v" is held out
def test_gaps_of_another_librarys_frame() -> None:
    """The words of pandas have NaN for gaps, and its whole numbers and dates with gaps are objects."""
    days = [datetime(2024, 1, day) for day in (1, 2, 3)]
    values = [["u", float("nan"), "v"], [1, None, 3], [*days[:2], float("nan")], [0.0, 1.0, 2.0]]
    said = {"a": {"codes": True, "impute": "u"}, "b": {"impute": 7}, "c": {"date": "day", "impute": "2024-01-09"}}
    columns = {name: ColumnSection.model_validate(each) for name, each in said.items()}
    net = graph_of(regspec.loads(SUM.replace("[2]", "[3]")))
    frame = Frame(["a", "b", "c", "price"], values)
    loaded = load_data(frame, net, columns=columns)
    other = load_inputs(frame, net, loaded.columns)[range(3)][0]
    known = loaded.columns.fitted[0].words if loaded.columns else ()
    assert other.tolist() == [[1, 1, 1], [1, 7, 2], [2 if "v" in known else 0, 3, 9]]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (Frame(["a", "a", "y"], [[1]] * 3), "data: error: has two columns 'a'"),
        (Frame(["a", "b", "y"], [[1, 2], ["u", 3], [0, 1]]), "data: error: column 'b' can't be read"),
    ],
)
def test_frames_that_are_wrong(frame: Frame, message: str) -> None:
    with pytest.raises(RegspecError, match=message):
        load_data(frame, graph_of(regspec.loads(SUM)))


@pytest.mark.parametrize("source", ["iris", (np.ones((9, 2)), np.ones(9)), {"x": np.ones((9, 2)), "y": np.ones(9)}])
def test_something_said_of_columns_of_what_is_no_table(source: Any) -> None:
    with pytest.raises(RegspecError, match=r"something is said of the column 'a', but '(iris|data)' is no table"):
        load_data(source, graph_of(regspec.loads(SUM)), columns={"a": ColumnSection(drop=True)})


@pytest.mark.parametrize("source", [np.ones((3, 2)), {"x": np.ones((3, 2))}, "iris"])
def test_a_model_of_prepared_columns_takes_no_arrays(source: Any) -> None:
    """Their numbers would not be scaled."""
    net, frame = graph_of(regspec.loads(SUM)), pl.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0], "price": [5.0, 6.0]})
    loaded = load_data(frame, net, columns={"a": ColumnSection(scale="standard")})
    with pytest.raises(RegspecError, match=r"trained on columns that are prepared, a, but '(iris|data)' is no table"):
        load_inputs(source, net, loaded.columns)
    plain = load_data(frame, net)
    assert plain.columns
    assert load_inputs(np.ones((3, 2)), net, plain.columns)[range(3)][0].tolist() == [[1, 1]] * 3


def test_an_array_is_not_held_out_from_prepared_columns(tmp_path: Path) -> None:
    net, frame = graph_of(regspec.loads(SUM)), pl.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    columns = {"a": ColumnSection(scale="standard")}
    with pytest.raises(RegspecError, match="is no table"):
        load_data((frame, np.ones(2), np.ones((2, 2)), np.ones(2)), net, columns=columns)
    np.savez(tmp_path / "d.npz", x=np.ones((2, 2)), y=np.ones(2))
    with pytest.raises(RegspecError, match="is no table"):
        load_data((frame, np.ones(2)), net, columns=columns, validation=str(tmp_path / "d.npz"))
