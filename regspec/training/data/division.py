"""Which examples are trained on and which are held out: a fifth, or one of several folds. It is scikit-learn's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regspec.text.problems import Problem, RegspecError
from regspec.training.data.wanted import Array
from regspec.views.summary import plural

HELD_OUT = 0.2


@dataclass(frozen=True)
class Fold:
    """One of several parts, each of which is held out in a run of its own.

    Args:
        number: which, counted from 1.
        count: how many there are.
    """

    number: int
    count: int

    @classmethod
    def of(cls, count: int | None, number: int | None) -> Fold | None:
        """The fold that options say; None where they say none. Raises `RegspecError`."""
        if count is None:
            if number is not None:
                raise RegspecError(Problem(f"fold {number} is one of --folds, which are not given", "say --folds 5"))
            return None
        if number is None:
            what = f"{count} folds are {count} runs, and this is one"
            raise RegspecError(Problem(what, "regspec train does that; fold: 1, beside folds, is one of them"))
        if number > count:
            raise RegspecError(Problem(f"there is no fold {number} of {count}", f"--fold is 1 to {count}"))
        return cls(number, count)


def division(
    targets: Sequence[Tensor], source: str, seed: int, fold: Fold | None = None, groups: Array | None = None
) -> list[Tensor]:
    """The rows to train on and those held out; the same share of each class, where the only target is one.

    Args:
        targets: of all examples.
        source: of the data, for messages.
        seed: of what is drawn.
        fold: which part is held out, in place of a fifth.
        groups: what each example belongs to, of which all are on one side.

    Raises:
        RegspecError: where there are fewer examples or groups than parts.
    """
    from sklearn import model_selection  # which takes a while, and predictions don't need

    target = targets[0]
    is_by_class = len(targets) == 1 and target.ndim == 1 and not target.is_floating_point()
    counts = target.unique(return_counts=True)[1] if is_by_class else torch.ones(1)
    rows = np.arange(len(target))
    if fold is not None:
        _check_count(len(rows), "example", source, fold)
    if groups is not None:
        _check_count(len(np.unique(groups)), "group", source, fold)
    if fold is None and groups is None:
        # each class needs an example on both sides
        stratify = target.numpy() if counts.min() > 1 and len(counts) <= HELD_OUT * len(target) else None
        parts = model_selection.train_test_split(rows, test_size=HELD_OUT, random_state=seed, stratify=stratify)
        return [*map(torch.from_numpy, parts)]
    splitter: Any = model_selection.GroupShuffleSplit(1, test_size=HELD_OUT, random_state=seed)
    if fold is not None:
        is_stratified = is_by_class and counts.min() >= fold.count  # each class has an example in each fold
        if groups is None:
            kind = model_selection.StratifiedKFold if is_stratified else model_selection.KFold
        else:
            kind = model_selection.StratifiedGroupKFold if is_stratified else model_selection.GroupKFold
        splitter = kind(fold.count, shuffle=True, random_state=seed)
    divided = [*splitter.split(rows, target.numpy() if is_by_class else None, groups)]
    return [*map(torch.from_numpy, divided[0 if fold is None else fold.number - 1])]


def _check_count(count: int, what: str, source: str, fold: Fold | None) -> None:
    parts = 2 if fold is None else fold.count
    if count < parts:
        why = "too few to hold some out" if fold is None else f"too few for {parts} folds"
        raise RegspecError(Problem(f"'{source}' has {plural(count, what, f'{what}s')}, {why}"))
