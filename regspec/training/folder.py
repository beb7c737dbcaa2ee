"""A run's folder: what is in it, and how it is written and read again."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from regspec import files
from regspec.compiler import source
from regspec.document import read
from regspec.errors import Problem, RegspecError
from regspec.spec.model import ModelSpec
from regspec.spec.parameters import with_defaults


@dataclass(frozen=True)
class Folder:
    """Where a run lies. Each file is written at once, so that none is ever half there."""

    path: Path

    @classmethod
    def free(cls, path: Path) -> Folder:
        """``path``, or with the first number after it that no folder has yet."""
        number, free = 1, path
        while free.exists():
            number += 1
            free = path.with_name(f"{path.name}_{number}")
        return cls(free)

    @property
    def spec(self) -> Path:
        return self.path / "spec.yaml"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.ckpt"

    @property
    def baseline(self) -> Folder:
        """The folder of the twin that was trained without penalties."""
        return Folder(self.path / "baseline")

    def check(self) -> None:
        """Raises `RegspecError` where something is in the folder."""
        if self.path.is_dir() and any(self.path.iterdir()):
            hint = "give a run a folder of its own, or go on with the one in it by --resume"
            raise RegspecError(Problem("is a folder that is not empty", hint, str(self.path)))

    def make(self) -> None:
        """Makes the folder. Raises `RegspecError` where that can't be."""
        _make(self.path)

    def write(self, name: str, content: str | bytes) -> None:
        """A file of the folder."""
        files.write(self.path / name, content)

    def write_spec(self, spec_file: Path, spec: ModelSpec, values: Mapping[str, Any]) -> None:
        """The spec, with values in place of parameters' defaults; the files of its blocks, and its source."""
        _copy(spec_file, self.spec)
        if values:
            self.write("spec.yaml", with_defaults(read(spec_file), values))
        self.write("model.py", source(spec))

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """What the run is, and how far it has come."""
        self.write("run.json", json.dumps(facts, indent=1) + "\n")

    def facts(self) -> dict[str, Any]:
        """What the run is. Raises `RegspecError` where the folder holds no run."""
        try:
            facts = json.loads((self.path / "run.json").read_text())
        except OSError:
            raise RegspecError(
                Problem("is no run's folder: it has no run.json", "regspec train makes one", str(self.path))
            ) from None
        except ValueError:
            facts = None
        if not isinstance(facts, dict) or not isinstance(facts.get("options"), dict):
            raise RegspecError(Problem("is damaged: it says nothing of a run", path=str(self.path / "run.json")))
        return facts

    def write_weights(self, state: Mapping[str, Tensor], name: str = "weights") -> None:
        """The weights, as safetensors."""
        tensors = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
        self.write(f"{name}.safetensors", safetensors.torch.save(tensors))

    def write_metrics(self, rows: Sequence[Mapping[str, float]]) -> None:
        """A row of numbers an epoch."""
        columns = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self.write("metrics.csv", text.getvalue())


def _copy(spec_file: Path, copy: Path) -> None:
    """Copies a spec, and beside it the files of its blocks that lie below it."""
    files.write(copy, spec_file.read_bytes())
    blocks = read(spec_file).data.get("blocks") or {}
    for name in {block["file"] for block in blocks.values() if "file" in block}:
        if ".." not in Path(name).parts:
            _make((copy.parent / name).parent)
            _copy(spec_file.parent / name, copy.parent / name)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RegspecError(Problem(f"can't be made: {error.strerror}", path=str(folder))) from None
