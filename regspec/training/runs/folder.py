"""A run's folder: what is in it, and how it is written and read again."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from regspec.report.runs import FOLDS as FOLDS
from regspec.report.runs import runs_in
from regspec.specs.model import ModelSpec
from regspec.specs.rewriting import with_defaults, with_name, with_values
from regspec.targets.source import source
from regspec.text import files
from regspec.text.document import Document, Location, parse, read
from regspec.text.problems import Problem, RegspecError

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Kept:
    """The weights that a run keeps, of which epoch they are, and after how many steps of the optimizer.

    The file of the weights says so itself, so that no kill can part them.
    """

    state: dict[str, Tensor]
    epoch: int
    steps: int


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
    def initial(self) -> Path:
        return self.path / "initial.safetensors"

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

    def write(self, name: str, content: str | bytes) -> None:
        """Writes a file of the folder."""
        files.write(self.path / name, content)

    def begin(self, spec: ModelSpec, values: Mapping[str, Any], facts: Mapping[str, Any], state: State) -> None:
        """Writes what is known before training, all or none: the spec and its source, the facts, the first weights.

        Args:
            spec: the spec, whose text is copied with the files of its blocks.
            values: what its parameters are now, in place of the defaults in the text.
            facts: what the run is.
            state: the weights.
        """
        document = document_of(spec)
        contents: dict[str, str | bytes] = {**texts_of(document, values)}
        written = parse(str(contents["spec.yaml"]), document.path)
        if "name" not in written.data:  # which is that of its file, and would be another one here
            contents["spec.yaml"] = with_name(written, spec.name)
        contents |= {"model.py": source(spec), "run.json": _json(facts), "initial.safetensors": as_safetensors(state)}
        files.write_folder(self.path, contents)

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """Writes what the run is, and how far it has come."""
        self.write("run.json", _json(facts))

    def facts(self) -> dict[str, Any]:
        """What the run is. Raises `RegspecError` where the folder holds no run."""
        try:
            facts = json.loads((self.path / "run.json").read_text())
        except OSError:
            if (self.path / FOLDS).is_file():
                what = "is a folder of folds, each of which is a run of its own"
                hint = f"one of them is {self.path / 'fold_1'}; regspec.load_folds loads all"
                raise RegspecError(Problem(what, hint, str(self.path))) from None
            hint = runs_in(self.path) or "regspec train makes one"
            raise RegspecError(Problem("is no run's folder: it has no run.json", hint, str(self.path))) from None
        except ValueError:
            facts = None
        if not isinstance(facts, dict) or not isinstance(facts.get("options"), dict):
            raise RegspecError(Problem("is damaged: it says nothing of a run", path=str(self.path / "run.json")))
        return facts

    def write_weights(self, state: State, *, epoch: int, steps: int) -> None:
        """Writes the weights after an epoch, and after so many steps in all, as safetensors."""
        # one text: of several, safetensors has the order by chance
        said = {"kept": json.dumps({"epoch": epoch, "steps": steps})}
        self.write("weights.safetensors", as_safetensors(state, said))

    def weights(self) -> Kept:
        """The weights that the run keeps. Raises `RegspecError` where there are none yet, or they can't be read."""
        path = self.path / "weights.safetensors"
        if not path.exists():
            hint = f"regspec train --resume {self.path} goes on, if it has stopped"
            raise RegspecError(Problem("is not there: no epoch of this run is done yet", hint, str(path)))
        try:
            with safe_open(path, "pt") as file:
                said = json.loads((file.metadata() or {})["kept"])
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
            return Kept(state, said["epoch"], said["steps"])
        except (OSError, SafetensorError) as error:
            raise RegspecError(Problem(f"can't be read: {error}", path=str(path))) from None
        except (KeyError, ValueError, TypeError):
            what = "does not say of which epoch it is: another version wrote it"
            raise RegspecError(Problem(what, "regspec train makes the run anew", str(path))) from None

    def write_metrics(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Writes the metrics, a row for each epoch."""
        columns = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self.write("metrics.csv", text.getvalue())


def _json(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, indent=1) + "\n"


def as_safetensors(state: State, said: dict[str, str] | None = None) -> bytes:
    """Tensors in the form of safetensors, which wants each to have memory of its own; with what is said of them."""
    own = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    return safetensors.torch.save(own, said)


def document_of(spec: ModelSpec) -> Document:
    """The text that a spec was made from. Raises `RegspecError` where there is none."""
    if spec.body.origin is None:
        raise RegspecError(Problem("the spec was not made from a text, which a run's folder would keep"))
    return spec.body.origin.document


def texts_of(spec: Document, values: Mapping[str, Any]) -> dict[str, str]:
    """The texts of a spec and of the files of its blocks, by the names that they have in a run's folder.

    Those that lie below the spec keep their names; others are put into ``blocks``, where they are found from then on.

    Args:
        spec: the spec's text.
        values: what its parameters are, in place of the defaults in the file.
    """
    first = Path(os.path.abspath(spec.path))
    names, texts = {first: "spec.yaml"}, dict[str, str]()
    waiting = [first]
    for path in waiting:  # which grows
        document, found = spec if path == first else read(path), dict[Location, str]()
        for block, each in (document.data.get("blocks") or {}).items():
            if "file" not in each:
                continue
            other = Path(os.path.normpath(path.parent / each["file"]))
            if other not in names:
                names[other] = _name(other, first.parent, {"best.yaml", *names.values()})
                waiting.append(other)
            place = os.path.relpath(names[other], Path(names[path]).parent)
            if place != os.path.normpath(each["file"]):
                found["blocks", block, "file"] = place
        text = with_values(document, found) if found else document.text
        texts[names[path]] = with_defaults(parse(text, str(path)), values) if values and path == first else text
    return texts


def _name(path: Path, folder: Path, taken: Collection[str]) -> str:
    """The name in a run's folder of a block's file, of a spec in ``folder``."""
    below = os.path.relpath(path, folder)
    wanted = Path("blocks", path.name) if below.startswith(os.pardir) else Path(below)
    name, number = wanted, 1
    while str(name) in taken:
        number += 1
        name = wanted.with_stem(f"{wanted.stem}_{number}")
    return str(name)
