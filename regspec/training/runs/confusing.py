"""Which class is taken for which: the pairs that occur, and how often, however many places and classes there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]
FEW = 20  # classes of which a matrix is shown
MISTAKES = 12  # the most frequent ones, which are told of more classes


def pairs_of(truth: Tensor, said: Tensor) -> tuple[Array, Array, Array]:
    """Each pair of classes that occurs, and how often: there may be millions of places, and few pairs.

    Example:
        >>> truth, said, counts = pairs_of(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 1, 0, 1]))
        >>> [*zip(truth.tolist(), said.tolist(), counts.tolist())]
        [(0, 0, 1), (1, 0, 1), (1, 1, 2)]
    """
    size = int(max(truth.max(), said.max())) + 1 if len(truth) else 1
    pairs, counts = torch.unique(truth * size + said, return_counts=True)
    return (pairs // size).numpy(), (pairs % size).numpy(), counts.numpy()


def confusion_of(names: Sequence[str], parts: Sequence[tuple[Array, Array, Array]]) -> dict[str, Any] | None:
    """What a run keeps of them, as plain data: the matrix of few classes, or of more the most frequent mistakes.

    Args:
        names: those of the classes, by their numbers.
        parts: the pairs of each batch, as `pairs_of` gives them.
    """
    from sklearn.metrics import confusion_matrix

    truth, said, counts = (np.concatenate(each) for each in zip(*parts, strict=True))
    if not len(truth):
        return None
    if len(names) <= FEW:
        matrix = confusion_matrix(truth, said, labels=np.arange(len(names)), sample_weight=counts)
        return {"classes": [*names], "counts": matrix.astype(int).tolist(), "mistakes": []}
    of = np.bincount(truth, counts)
    pairs, where = np.unique(np.stack([truth, said], 1), axis=0, return_inverse=True)
    totals = np.bincount(where.reshape(-1), counts)
    wrong = np.flatnonzero(pairs[:, 0] != pairs[:, 1])
    order = wrong[np.argsort(-totals[wrong], kind="stable")][:MISTAKES]
    mistakes = [[names[a], names[b], int(totals[place]), int(of[a])] for place in order for a, b in [pairs[place]]]
    return {"classes": [], "counts": [], "mistakes": mistakes}
