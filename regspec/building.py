"""From source text to a live module."""

from __future__ import annotations

import hashlib
import linecache
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from regspec.compiler import graph_of
from regspec.runtime import Regularized
from regspec.spec.model import ModelSpec
from regspec.writing import print_source


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
        seed: draws the parameters from this seed, and leaves torch's own state as it was.
        device: where the parameters lie.
        dtype: the type of the parameters.

    Raises:
        RegspecError: with every problem of the spec.

    Example:
        >>> import regspec, torch
        >>> model = regspec.build("examples/mlp.yaml", seed=0)
        >>> loss = model(torch.randn(5, 13)).square().mean() + model.regularization_loss()
    """
    text = print_source(graph_of(spec))
    with torch.random.fork_rng(devices=(), enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        model: Regularized = _main_class(text)()
    return model if device is None and dtype is None else model.to(device=device, dtype=dtype)


def _main_class(text: str) -> type[Any]:
    """The last class that a source defines: the model's own."""
    classes = [each for each in vars(_executed(text)).values() if _is_defined_in(each, text)]
    cls: type[Any] = classes[-1]
    return cls


def _is_defined_in(value: Any, text: str) -> bool:
    return isinstance(value, type) and value.__module__ == _module_name(text)


def _module_name(text: str) -> str:
    return f"regspec.compiled_{hashlib.sha256(text.encode()).hexdigest()[:16]}"


@cache
def _executed(text: str) -> ModuleType:
    """The module that a source defines, once a process: equal sources give the same classes.

    It is known to ``linecache`` and ``sys.modules``, so that tracebacks, debuggers and `inspect.getsource` show it.
    """
    name = _module_name(text)
    path = f"<{name}>"
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    module = ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module
    exec(compile(text, path, "exec"), module.__dict__)
    for value in list(vars(module).values()):
        if _is_defined_in(value, text):
            value.__reduce__ = _reduce
    return module


def _reduce(self: nn.Module) -> tuple[Any, ...]:
    """How an instance is pickled and copied: with the source of its class, which no file holds."""
    module = sys.modules[type(self).__module__]
    text = "".join(linecache.getlines(str(module.__file__)))
    return _blank, (text, type(self).__name__), self.__getstate__()


def _blank(text: str, name: str) -> nn.Module:
    """An instance without its state."""
    cls: type[nn.Module] = getattr(_executed(text), name)
    return cls.__new__(cls)
