"""Datasets with a length: torch's, whose items are collated, and those whose columns have names, Hugging Face's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset, default_collate

from regspec.graph.network import Graph
from regspec.language.registration import code_of_the_user
from regspec.text.problems import Problem, RegspecError
from regspec.training.data.arrays import WEIGHTS, Arrays, by_name, checked, keys_of, place_of, targets_of
from regspec.training.data.wanted import Array, Names, Wanted

COMPARED = 16  # items whose targets are compared with those that a dataset has in a row


@dataclass(frozen=True)
class Items:
    """A torch `Dataset` with a length, of items that torch's ``default_collate`` makes a batch of.

    An item is (input, target), or all inputs and then all targets, or these by name; with a weight after them.
    """

    dataset: Any
    name: str
    chunk: int = 0  # each batch is checked as it comes

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def names(self) -> Names:
        """Those of the classes, as torchvision's datasets have them."""
        dataset = self.dataset
        while isinstance(dataset, Subset):
            dataset = dataset.dataset
        return _names(getattr(dataset, "classes", None))

    def part(self, rows: Sequence[int], graph: Graph, wanted: Sequence[Wanted]) -> Arrays:
        """These examples."""
        with code_of_the_user(f"'{self.name}' does not give its items"):
            several = getattr(self.dataset, "__getitems__", None)
            items = several([*rows]) if several is not None else [self.dataset[row] for row in rows]
        try:
            batch = default_collate(items)
        except (TypeError, RuntimeError) as error:
            what = f"the items of '{self.name}' can't be put together in a batch: {error}"
            raise RegspecError(Problem(what, "items are tensors, arrays or numbers, all of one shape")) from None
        return batch_of(batch, graph, self.name, wanted, rows)

    def place(self, row: int) -> str:
        return place_of(row)

    def known(self, graph: Graph, wanted: Sequence[Wanted]) -> Mapping[str, Array] | None:
        """The targets, where the dataset has them in a row, and some of its items, first and last, have the same."""
        found = _targets(self.dataset, len(graph.inputs))
        if found is None or len(wanted) != 1 or len(found) != len(self):
            return None
        goal, some = np.asarray(found), np.linspace(0, len(self) - 1, min(len(self), COMPARED)).astype(int).tolist()
        if not np.array_equal(goal[some], self.part(some, graph, wanted).targets[wanted[0].name]):
            return None  # what its items make of them is something else
        return targets_of(goal, {}, self.name, wanted)


@dataclass(frozen=True)
class Columned:
    """A dataset whose rows give a mapping of columns, as Hugging Face's do; that library need not be there."""

    dataset: Any
    name: str
    names: Names = None
    chunk: int = 0  # each batch is checked as it comes

    def __len__(self) -> int:
        return len(self.dataset)

    def part(self, rows: Sequence[int], graph: Graph, wanted: Sequence[Wanted]) -> Arrays:
        """These examples."""
        inputs, targets = keys_of(self.dataset.column_names, graph, self.name, wanted)
        with code_of_the_user(f"'{self.name}' does not give its rows"):
            weights = {WEIGHTS} & {*self.dataset.column_names} if wanted else set()
            columns = self._only({*inputs.values(), *targets.values(), *weights})[[*rows]]
        return by_name(columns, graph, self.name, wanted, rows)

    def place(self, row: int) -> str:
        return place_of(row)

    def _only(self, names: set[str]) -> Any:
        """The dataset with these columns, where it can leave others out: images are decoded when they are taken."""
        select = getattr(self.dataset, "select_columns", None)
        return self.dataset if select is None else select(sorted(names))

    def known(self, graph: Graph, wanted: Sequence[Wanted]) -> Mapping[str, Array] | None:
        """The targets, where each is a column of single numbers or words."""
        _, targets = keys_of(self.dataset.column_names, graph, self.name, wanted)
        if len(targets) != len(wanted) or any(goal.ndim > 1 for goal in self.part([0], graph, wanted).targets.values()):
            return None
        with code_of_the_user(f"'{self.name}' does not give its columns"):
            columns = {name: np.asarray([*self.dataset[key]]) for name, key in targets.items()}
        return targets_of(columns, {}, self.name, wanted)


def batch_of(batch: Any, graph: Graph, source: str, wanted: Sequence[Wanted], rows: Sequence[int]) -> Arrays:
    """The inputs and targets of a batch: a mapping, a pair, or all inputs and then all targets; weights may follow.

    Args:
        batch: as collated.
        graph: the model's.
        source: of the data, for messages.
        wanted: the outputs that get targets; others are not looked at.
        rows: the numbers of the examples.

    Raises:
        RegspecError: where something is missing, or is no finite numbers.
    """
    if isinstance(batch, Mapping):
        return by_name(batch, graph, source, wanted, rows)
    count = len(graph.inputs)
    if not isinstance(batch, (tuple, list)):
        return checked(batch, {}, graph, source, wanted, rows)
    weights = None
    if len(wanted) == len(graph.outputs) and len(batch) == _width(batch, graph, wanted) + 1:
        *batch, weights = batch  # where some outputs only learn, what follows may be another's target
    if len(batch) == 2 and (count == 1 or isinstance(batch[0], (tuple, list, Mapping))):
        inputs, targets = batch
    else:
        inputs, targets = batch[:count], batch[count:]
        inputs = inputs[0] if count == 1 and inputs else inputs
        targets = targets[0] if len(targets) == 1 else targets or {}
    return checked(inputs, targets if wanted else {}, graph, source, wanted, rows, weights=weights)


def _width(batch: Sequence[Any], graph: Graph, wanted: Sequence[Wanted]) -> int:
    """How many parts a batch has without weights: two of a pair, or one for each input and target."""
    if any(isinstance(each, (tuple, list, Mapping)) for each in batch[:2]):
        return 2
    inputs = {x.source for x in graph.inputs}
    return len(inputs) + max(1, sum(each.said.target not in inputs for each in wanted))


def dataset_in(data: Any, name: str) -> Items | Columned | None:
    """The dataset with a length that data are; None where they are none. Raises `RegspecError` for one without."""
    is_table = isinstance(data, Mapping) or hasattr(data, "columns")  # in memory, as a frame is
    if hasattr(data, "column_names") and hasattr(data, "__getitem__") and not is_table:
        return Columned(data, name)
    if not isinstance(data, Dataset) or isinstance(data, IterableDataset):
        return None
    if not hasattr(data, "__len__"):
        raise RegspecError(Problem(f"the dataset in '{name}' has no length", "give it a method __len__"))
    return Items(data, name)


def _targets(dataset: Any, inputs: int) -> Any:
    """All targets of a dataset in a row, whose items begin with so many inputs; None where it has none."""
    if isinstance(dataset, Subset):
        found = _targets(dataset.dataset, inputs)
        return None if found is None else np.asarray(found)[np.asarray(dataset.indices)]
    if isinstance(dataset, TensorDataset):  # behind whose targets there may be weights
        return dataset.tensors[inputs].numpy(force=True) if len(dataset.tensors) > inputs else None
    found = getattr(dataset, "targets", getattr(dataset, "labels", None))
    return found if hasattr(found, "__len__") and hasattr(found, "__getitem__") else None


def _names(given: Any) -> Names:
    """The names of classes, where there are such."""
    is_named = isinstance(given, (list, tuple)) and given and all(isinstance(each, str) for each in given)
    return tuple(given) if is_named else None
