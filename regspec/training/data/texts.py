"""Texts as numbers of their words, as Keras's `TextVectorization` has them: 0 is padding, 1 a word that is unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars

UNKNOWN = 1  # the number of a word that is not known
FIRST = 2  # the number of the most frequent word
_PUNCTUATION = r"""[!"#$%&()*+,\-./:;<=>?@\[\\\]^_`{|}~']"""  # Keras's


def words_of(texts: polars.Series) -> polars.Series:
    """The words of each text, in a list: in small letters, without punctuation, between blanks; none of a null."""
    plain = texts.str.to_lowercase().str.replace_all(_PUNCTUATION, "")
    return plain.str.extract_all(r"\S+").fill_null([])


def vocabulary(texts: polars.Series, tokens: int | None) -> tuple[str, ...]:
    """The most frequent words first; of two as frequent ones the last by the alphabet, as Keras has it.

    Args:
        texts: those to train on.
        tokens: how many numbers there may be, those of padding and of unknown words too; None for all words.
    """
    words = words_of(texts).explode().drop_nulls().rename("word")
    found = words.value_counts().sort(["count", "word"], descending=True)["word"].to_list()
    return tuple(found if tokens is None else found[: tokens - FIRST])


def numbers(texts: polars.Series, known: tuple[str, ...], length: int) -> NDArray[Any]:
    """The numbers of the first words of each text, (texts, length), int64, and 0 behind them."""
    import polars as pl

    words = words_of(texts).list.head(length)
    codes = {word: number for number, word in enumerate(known, FIRST)}
    made = np.zeros((len(texts), length), np.int64)
    counts = words.list.len().to_numpy()
    flat = words.explode().drop_nulls()  # of a text without words there is a null
    if len(flat):
        found = (
            flat.replace_strict(codes, default=UNKNOWN, return_dtype=pl.Int64)
            if codes
            else pl.Series([UNKNOWN] * len(flat))
        )
        made[np.arange(length) < counts[:, None]] = found.to_numpy()
    return made
