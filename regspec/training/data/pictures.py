"""Folders of images that a model learns to give again: each is its own target, and they need no classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from regspec.graph.network import Graph
from regspec.training.data.arrays import Arrays, checked
from regspec.training.data.images import Form, decoded, images_alone, in_folder, parts_of
from regspec.training.data.wanted import Array, Names, Wanted


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images as inputs and targets, decoded when a batch takes them."""

    files: tuple[Path, ...]
    form: Form
    name: str
    names: Names = None
    chunk: int = 0  # each batch is checked as it comes

    def __len__(self) -> int:
        return len(self.files)

    def part(self, rows: Sequence[int], graph: Graph, wanted: Sequence[Wanted]) -> Arrays:
        """These examples."""
        batch = decoded([self.files[row] for row in rows], self.form)
        array = (batch.float() if batch.is_floating_point() else batch).numpy()  # NumPy has no bfloat16
        return checked(array, {}, graph, self.name, wanted, rows)

    def place(self, row: int) -> str:
        return in_folder(self.files[row])

    def known(self, graph: Graph, wanted: Sequence[Wanted]) -> Mapping[str, Array] | None:
        """None, because they are not decoded before they are asked for."""
        return None


def of_folder(source: str, graph: Graph) -> list[Pictures]:
    """All images in a folder; or those in its parts to train on and to hold out, ``train`` and ``val``, say."""
    found = (images_alone(str(part), graph) for part in parts_of(Path(source)))
    return [Pictures(part.files, part.form, source) for part in found]
