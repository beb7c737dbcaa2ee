"""The data of a source: read, fitted to a model's inputs and output, and divided."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from regspec.graph.network import Graph
from regspec.text.problems import Problem, RegspecError, did_you_mean
from regspec.training.data import arrays, images, tables
from regspec.training.data.examples import Data, InMemory
from regspec.training.data.fitting import check_outputs, fitted_inputs
from regspec.training.data.targets import fitted_targets
from regspec.views.summary import plural

HELD_OUT = 0.2


def load_data(source: str, graph: Graph, *, target: str | None = None, seed: int = 0) -> Data:
    """The data of a source, for a model's inputs; a fifth is held out unless the source says otherwise.

    Whole numbers, words and booleans as the target are classes, floating-point numbers are quantities.

    Args:
        source: What the data are:

            - a set that scikit-learn brings along: ``breast_cancer``, ``diabetes``, ``digits``, ``iris``, ``wine``;
            - an ``.npz`` file: the inputs by their names (or ``x`` where there is one), and ``y`` or ``target``;
            - a ``.csv`` or ``.parquet`` file: a column for each number, and the target, the last one unless said. A
              model with one input takes all other columns in their order; with several, an input of one number takes
              the column of its name, a wider one the columns ``name_0``, ``name_1``, … or ``name.0``, ``name.1``, …;
            - a folder with a folder of images for each class, or with ``train`` and ``val`` (or ``test``) that have
              them. Images get the input's channels (1: grey, 3: RGB, 4: RGBA) and its size, by bilinear
              interpolation; their numbers are 0 to 1 in an input of floating-point numbers, and 0 to 255 in one of
              whole numbers;
            - ``package.module:function``, which gives (inputs, target), or these and a held-out pair.
        graph: The model's graph.
        target: The target's array or column; of a table, several as ``a,b``.
        seed: Which examples are held out; of classes, the same share of each.

    Raises:
        RegspecError: where the source can't be read, or does not fit the model.
    """
    check_outputs(graph)
    parts, names = _read(source, graph, target)
    least = 2 if len(parts) == 1 else 1
    if (number := min(len(part.target) for part in parts)) < least:
        what = ", too few to hold some out" if len(parts) == 1 else " to train on or to hold out"
        raise RegspecError(Problem(f"'{source}' has {plural(number, 'example', 'examples')}{what}"))
    goals, classes = fitted_targets([part.target for part in parts], names, graph, source)
    examples: list[images.Images | InMemory] = [
        images.Images(part.files, goal, part.form)
        if isinstance(part, images.Files)
        else InMemory(fitted_inputs(part.inputs, graph, source), goal)
        for part, goal in zip(parts, goals, strict=True)
    ]
    if len(examples) == 1:
        examples = [examples[0].part(rows) for rows in _division(goals[0], seed)]
    train, held_out = examples
    return Data(train, held_out, classes)


def _read(source: str, graph: Graph, target: str | None) -> tuple[Sequence[arrays.Arrays | images.Files], arrays.Names]:
    """One part, or the part to train on and the one held out; and the classes' names where the source has them."""
    ending = "" if source in arrays.BUNDLED else Path(source).suffix.lower()
    if ending == ".npz":
        return [arrays.npz(source, graph, target)], None
    if ending in tables.ENDINGS:
        return [tables.read_table(source, graph, target)], None
    if target is not None:
        raise RegspecError(Problem(f"the target '{target}' would be one of a file's, but '{source}' has its own"))
    if source in arrays.BUNDLED:
        return arrays.bundled(source, graph)
    if Path(source).is_dir():
        return images.read_images(source, graph)
    if ":" in source:
        return arrays.called_for(source, graph), None
    files = "a .npz, .csv or .parquet file, a folder of images"
    hint = did_you_mean(source, arrays.BUNDLED) or f"it may be {', '.join(arrays.BUNDLED)}, {files}, or module:function"
    raise RegspecError(Problem(f"'{source}' is no data to train on", hint))


def _division(target: Tensor, seed: int) -> list[Tensor]:
    """The rows to train on and those held out; of classes, the same share of each."""
    from sklearn.model_selection import train_test_split

    counts = torch.ones(1) if target.is_floating_point() else target.unique(return_counts=True)[1]
    # each class needs an example on both sides
    stratify = target.numpy() if counts.min() > 1 and len(counts) <= HELD_OUT * len(target) else None
    rows = np.arange(len(target))
    return [*map(torch.from_numpy, train_test_split(rows, test_size=HELD_OUT, random_state=seed, stratify=stratify))]
