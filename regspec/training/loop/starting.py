"""Weights that a training begins with: those of a run, of a port, or of any safetensors file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor, nn

from regspec.text.problems import Problem, Problems, RegspecError

FILE = "weights.safetensors"  # of a run's folder, and of a port's
SHOWN = 12  # names in a message


@dataclass(frozen=True)
class Start:
    """What was taken of a file: how many tensors, and which of the model's start anew."""

    source: str
    taken: int
    anew: tuple[str, ...]

    def __str__(self) -> str:
        told = f"weights of {self.source}: {self.taken} tensors"
        return f"{told}; {_listed(self.anew)} anew" if self.anew else told


def begin_with(model: nn.Module, source: str, skip: str | None = None) -> Start:
    """Gives a model the weights of a file or folder, all of them or none.

    Args:
        model: what gets them.
        source: a safetensors file, or a folder that has `FILE`.
        skip: a regular expression; tensors whose whole name it matches stay as they are in the model, and need not be
            in the file.

    Raises:
        RegspecError: where the file can't be read, or a tensor that is not skipped is in one of both only, or has
            another shape there: each by its name.
    """
    path = Path(source) / FILE if Path(source).is_dir() else Path(source)
    given, own = _read(path), model.state_dict()
    is_skipped = re.compile(skip or r"(?!)").fullmatch
    wanted = {name: each for name, each in own.items() if not is_skipped(name)}
    others = {name: each for name, each in given.items() if not is_skipped(name)}
    problems = Problems()
    if missing := [name for name in wanted if name not in others]:
        problems.append(Problem(f"has no {_listed(missing)}, which the model has", _hint(missing), str(path)))
    if unknown := [name for name in others if name not in wanted]:
        problems.append(Problem(f"has {_listed(unknown)}, which the model does not have", _hint(unknown), str(path)))
    if turned := [name for name in wanted if name in others and others[name].shape != wanted[name].shape]:
        told = [f"{name} {_shape(others[name])}, and not {_shape(wanted[name])}" for name in turned]
        problems.append(Problem(f"has tensors of other shapes: {_listed(told)}", _hint(turned), str(path)))
    if problems:
        raise RegspecError(problems)
    model.load_state_dict({**own, **others})
    return Start(source, len(others), tuple(name for name in own if name not in wanted))


def _read(path: Path) -> Mapping[str, Tensor]:
    if path.suffix in (".keras", ".h5", ".hdf5"):
        raise RegspecError(Problem("is a file of Keras", "regspec port makes a folder of it, for --weights", str(path)))
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt"):
        hint = "in Python: safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
        raise RegspecError(Problem("may run code when it is read: weights are safetensors", hint, str(path)))
    try:
        return safetensors.torch.load_file(path)
    except OSError as error:
        raise RegspecError(Problem(f"can't be read: {error.strerror or error}", path=str(path))) from None
    except (ValueError, safetensors.SafetensorError) as error:
        raise RegspecError(Problem(f"can't be read as safetensors: {error}", path=str(path))) from None


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"


def _listed(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def _hint(names: list[str]) -> str:
    """How to leave tensors out: by what their names begin with."""
    layers = dict.fromkeys(name.rpartition(".")[0] or name for name in names)
    pattern = "|".join(re.escape(layer).replace("\\_", "_") for layer in layers)
    shown = f"({pattern})" if len(layers) > 1 else pattern
    return rf"--weights-skip '{shown}\..*' leaves them as the model has them"
