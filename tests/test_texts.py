"""Texts as the numbers of their words, as Keras's TextVectorization has them: by Python's own counters."""

from __future__ import annotations

import json
import string
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import regspec
from regspec.graph.loading import graph_of
from regspec.training.data import load_data
from regspec.training.data import texts as module
from regspec.training.options.columns import columns_said

from .commands import command

TEXTS = [
    "A dog, a Dog; and a cat!",
    "The cat's   hat\tis (not) a dog-house.",
    "ÄRGER über 3.5 cats -- 3,5 dogs",
    "",
    "   ",
    "...",
    "und Ärger und und",
    None,
    "naïve naïve ß 猫 猫",
]
NET = """\
regspec: 1
name: net
inputs: {review: {shape: [%s], dtype: int64}}
layers:
  - Embedding: {input_dim: %d, output_dim: 4, mask_zero: true}
  - LSTM: {units: 6}
  - Dense: {name: mood, units: 2}
"""


def words(text: str | None) -> list[str]:
    """By Python, which strips the same punctuation as Keras does."""
    return (text or "").lower().translate(str.maketrans("", "", string.punctuation)).split()


def expected(known: Iterable[str], length: int, texts: list[str | None]) -> list[list[int]]:
    numbers = {word: place for place, word in enumerate(known, 2)}
    rows = [[numbers.get(word, 1) for word in words(text)][:length] for text in texts]
    return [[*row, *[0] * (length - len(row))] for row in rows]


def most_frequent(texts: list[str | None], tokens: int | None) -> list[str]:
    """Of words that are as frequent the last by the alphabet first: Keras sorts by both, and turns that around."""
    counts = Counter(word for text in texts for word in words(text))
    ranked = sorted(counts, key=lambda word: (counts[word], word.encode()), reverse=True)
    return ranked if tokens is None else ranked[: tokens - 2]


@pytest.mark.parametrize("tokens", [None, 3, 6, 100])
def test_vocabularies(tokens: int | None) -> None:
    found = module.vocabulary(pl.Series(TEXTS), tokens)
    assert [*found] == most_frequent(TEXTS, tokens)


@pytest.mark.parametrize("length", [1, 4, 9])
def test_numbers(length: int) -> None:
    known = module.vocabulary(pl.Series(TEXTS[:4]), 8)
    found = module.numbers(pl.Series(TEXTS), known, length)
    assert found.dtype == np.int64
    assert found.tolist() == expected(known, length, TEXTS)


def test_no_words() -> None:
    assert module.vocabulary(pl.Series(["", None, "!"], dtype=pl.String), None) == ()
    assert module.numbers(pl.Series(["", "a", None]), (), 2).tolist() == [[0, 0], [1, 0], [0, 0]]


GOOD, BAD = ["good", "great", "fine", "happy"], ["bad", "awful", "poor", "sad"]
DRAWN = np.random.default_rng(0)
MOOD = np.where(np.arange(120) % 2, "up", "down")
REVIEWS = [
    " ".join(DRAWN.choice([*(GOOD if mood == "up" else BAD), "the", "film,", "Was"], 6)).capitalize() + "."
    for mood in MOOD
]
COLUMNS = {"review": {"text": {"vocabulary": 12, "length": 7}}}


def frame(**more: Any) -> pl.DataFrame:
    return pl.DataFrame({"review": REVIEWS, "mood": MOOD, **more})


@pytest.mark.parametrize("width", ["7", "null"])
def test_what_a_model_gets(width: str) -> None:
    """The vocabulary is that of the examples that are trained on."""
    data = load_data(frame(), graph_of(NET % (width, 13)), columns=columns_said(["review.text={length: 7}"]))
    assert len({*REVIEWS}) == 120
    known = set()
    for examples in (data.train, data.held_out):
        x, _ = examples[range(len(examples))]
        known |= {tuple(row) for row in x.tolist()}
    assert data.columns is not None
    (fitted,) = data.columns.fitted
    rows = [int(data.train.name(row).removeprefix("row ")) - 1 for row in range(len(data.train))]
    assert [*fitted.words] == most_frequent([REVIEWS[row] for row in rows], None)
    assert {tuple(row) for row in expected(fitted.words, 7, [*REVIEWS])} == known
    numbers = data.train[range(len(data.train))][0]
    assert numbers.max() == len(fitted.words) + 1  # no word of the training part is unknown
    assert 1 not in numbers


def test_a_rare_word_that_is_held_out_is_unknown() -> None:
    texts = [f"word{row} here" for row in range(40)]
    table = pl.DataFrame({"review": texts, "mood": MOOD[:40]})
    data = load_data(table, graph_of(NET % ("2", 40)), columns=columns_said(["review.text={length: 2}"]))
    assert data.held_out[range(8)][0].tolist() == [[1, 2]] * 8


def test_a_run(tmp_path: Path) -> None:
    """It learns, and keeps the vocabulary as plain data, which it applies to other texts."""
    (tmp_path / "net.yaml").write_text(NET % ("7", 12))
    frame().write_csv(tmp_path / "d.csv")
    said = ["--data", "d.csv", "--columns.review.text", "{vocabulary: 12, length: 7}", "--epochs", "15", "--lr", "0.03"]
    done = command("train", "net.yaml", *said, "-o", "run", cwd=tmp_path)
    assert done.code == 0, done.output
    (fitted,) = json.loads((tmp_path / "run" / "run.json").read_text())["columns"]["fitted"]
    assert len(fitted["words"]) == 10
    assert {*fitted["words"]} < {*GOOD, *BAD, "the", "film", "was"}
    assert "review:\n      text: {length: 7, vocabulary: 12}" in (tmp_path / "run" / "training.yaml").read_text()
    run = regspec.load_run(tmp_path / "run")
    assert run.metrics["held_out_accuracy"] > 0.95
    others = ["GREAT, great: happy", "an awful and sad film", "", "xyzzy"]
    known = torch.tensor(expected(fitted["words"], 7, [*others]))
    with torch.no_grad():
        wanted = run.model(known).softmax(-1)
    said_of = run.predict(pl.DataFrame({"id": [1, 2, 3, 4], "review": others}))
    np.testing.assert_allclose(said_of.probabilities, wanted, atol=1e-6)
    assert said_of.values[:2].tolist() == ["up", "down"]
    found = command("evaluate", "run", cwd=tmp_path)
    assert "24 examples held out of d.csv" in found.stdout
    exported = command("export", "run", "-o", "net.safetensors", cwd=tmp_path)
    assert "review: the numbers of its first 7 words" in exported.stdout


FAULTS: dict[str, tuple[pl.DataFrame, dict[str, Any], str, list[str]]] = {
    "too small": (
        frame(), {"review": {"text": {"length": 7}}}, NET % ("7", 9),
        ["column 'review' has the numbers 0 to 12, but the spec takes indices below 9 ", "input_dim: 13", "y: 9"],
    ),
    "another width": (frame(), COLUMNS, NET % ("5", 12), ["(batch, 7) for 'review'", "(batch, 5)"]),
    "too few codes": (
        frame(kind=["a", "b", "c"] * 40), {"review": "drop", "kind": "codes"},
        (NET % ("1", 3)).replace("review", "kind"), ["column 'kind' has the numbers 0 to 3", "below 3", "input_dim: 4"],
    ),
    "numbers": (
        pl.DataFrame({"review": range(120), "mood": MOOD}), COLUMNS, NET % ("7", 12),
        ["column 'review' is Int64, and no texts"],
    ),
    "with a scale": (
        frame(), {"review": {"text": {"length": 7}, "scale": "standard"}}, NET % ("7", 12), ["text and scale"],
    ),
    "filled": (frame(), {"review": {"text": {"length": 7}, "impute": "x"}}, NET % ("7", 12), ["text and impute"]),
    "no length": (frame(), {"review": {"text": {"vocabulary": 9}}}, NET % ("7", 12), ["needs 'length'"]),
    "no words": (
        frame(), {"review": {"text": {"length": 7, "vocabulary": 2}}}, NET % ("7", 12), ["must be at least 3"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong(fault: str, tmp_path: Path) -> None:
    data, columns, net, told = FAULTS[fault]
    with pytest.raises(regspec.RegspecError) as raised:
        regspec.train(net, data, columns=columns, target="mood", folder=tmp_path / "run", quiet=True, epochs=1)
    for each in told:
        assert each in str(raised.value)
