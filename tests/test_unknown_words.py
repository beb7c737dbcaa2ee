"""Words of new data that training did not have, which `predict` and `evaluate` say."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import regspec
from regspec.training.data import scanned

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
        for word in ("predict", "evaluate"):
            done = command(word, "run", "--data", f"{name}.parquet", cwd=tmp_path)
            assert (done.code, done.stderr.splitlines()) == (0, wanted)
