"""From source text to a live module."""

from __future__ import annotations

import gc
import hashlib
import linecache
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partialmethod
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import torch
from torch import nn

from regspec.code.shapes import Precision
from regspec.graph.loading import graph_of
from regspec.runtime import Regularized
from regspec.specs.model import ModelSpec
from regspec.targets.torch.program import program_of
from regspec.targets.torch.writing import print_source

PRECISIONS: dict[torch.dtype | None, Precision] = {getattr(torch, each): each for each in get_args(Precision)}


def build(
    spec: ModelSpec | str | Path,
    *,
    seed: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Regularized:
    """The module that a spec, or the file of one, compiles to: an instance of the class that `regspec.source` prints.

    Args:
        spec: a ModelSpec, or the path of a YAML file.
        seed: draws the parameters from this seed, on the CPU, and leaves torch's own state as it was.
        device: where the parameters lie.
        dtype: the type in which it computes and keeps its parameters, instead of the spec's own.

    Raises:
        RegspecError: with every problem of the spec.

    Example:
        >>> import regspec, torch
        >>> model = regspec.build("examples/mlp.yaml", seed=0)
        >>> loss = model(torch.randn(5, 13)).square().mean() + model.regularization_loss()
    """
    with _without_collection(), torch.random.fork_rng(devices=(), enabled=seed is not None):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        model: Regularized = _main_class(print_source(program_of(graph_of(spec, PRECISIONS.get(dtype)))))()
    if dtype in PRECISIONS:
        dtype = None
    return model if device is None and dtype is None else model.to(device=device, dtype=dtype)


@contextmanager
def _without_collection() -> Iterator[None]:
    """No garbage collection: all that is made meanwhile is in use, and looking through it costs a sixth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _main_class(text: str) -> type[Any]:
    """The last class that a source defines: the model's own."""
    return _classes(_executed(text))[-1]


def _classes(module: ModuleType) -> list[type[Any]]:
    """The classes that a module defines, and does not import."""
    return [each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__]


@cache
def _executed(text: str) -> ModuleType:
    """The module that a source defines, once a process: equal sources give the same classes.

    It is known to ``linecache`` and ``sys.modules``, so that tracebacks, debuggers and `inspect.getsource` show it.
    """
    name = f"regspec.compiled_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    path = f"<{name}>"
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    module = ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module
    exec(compile(text, path, "exec"), module.__dict__)
    for cls in _classes(module):
        cls.__reduce__ = partialmethod(_reduce, cls, text)  # type: ignore[assignment]  # mypy wants a def
    return module


def _reduce(self: nn.Module, compiled: type[Any], text: str) -> tuple[Any, ...]:
    """How an instance is pickled and copied: with the source of its class, which no file holds."""
    if type(self) is not compiled:  # a class that derives from it is in a file
        return _new, (type(self),), self.__getstate__()
    return _blank, (text, compiled.__name__), self.__getstate__()


def _blank(text: str, name: str) -> nn.Module:
    """An instance without its state, of the class of a source."""
    return _new(getattr(_executed(text), name))


def _new(cls: type[nn.Module]) -> nn.Module:
    """An instance without its state."""
    return cls.__new__(cls)
