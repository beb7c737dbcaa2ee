"""From source text to a live module."""

from __future__ import annotations

import hashlib
import linecache
import math
import pickle
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partialmethod
from types import ModuleType
from typing import Any, get_args

import torch
from torch import nn

from regspec.code.expressions import SELF, Call
from regspec.code.shapes import Precision
from regspec.graph.loading import AnySpec, graph_of
from regspec.graph.network import Graph, LayerNode
from regspec.runtime import Regularized
from regspec.runtime.penalties.attaching import LENT
from regspec.targets.torch.program import program_of
from regspec.targets.torch.writing import print_source, value_source
from regspec.text.problems import Problem, RegspecError

COMPILED = "regspec.compiled_"  # begins the names of the modules in which executed sources are
PRECISIONS: dict[torch.dtype | None, Precision] = {getattr(torch, each): each for each in get_args(Precision)}


def build(
    spec: AnySpec,
    *,
    parameters: Mapping[str, Any] | None = None,
    seed: int | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """The module that a spec, or the file of one, compiles to: an instance of the class that `regspec.source` prints.

    It has `regularization_loss()` and what else a training loop calls. Without penalties and constraints its class is a
    plain ``nn.Module``, to which these are given here: the loss is 0 then.

    Args:
        spec: a ModelSpec, or what `regspec.load` takes: a path, a text, a mapping.
        parameters: values for parameters of the spec, by name, in place of its defaults.
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
    with torch.random.fork_rng(devices=(), enabled=seed is not None):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        graph = graph_of(spec, PRECISIONS.get(dtype), parameters=parameters)
        with _allocated(graph):
            model = made_of(graph)
            if dtype in PRECISIONS:
                dtype = None
            return model if device is None and dtype is None else model.to(device=device, dtype=dtype)


def made_of(graph: Graph) -> nn.Module:
    """The module of a graph, with parameters drawn from torch's own state."""
    model: nn.Module = SOURCES.executed(print_source(program_of(graph))).main()
    model.__dict__[_BEHIND] = Behind(graph)
    return model


_BEHIND = "_regspec_graph"  # the attribute of a model that has what it was built of


class Behind:
    """The graph of a model that was built, which its copies share; it is pickled with them, and read when asked for."""

    def __init__(self, graph: Graph | None, pickled: bytes = b"") -> None:
        self._graph, self._pickled = graph, pickled

    @property
    def graph(self) -> Graph | None:
        """The graph; None where it could not be pickled."""
        if self._graph is None and self._pickled:
            self._graph = pickle.loads(self._pickled)
        return self._graph

    def __deepcopy__(self, memo: object) -> Behind:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if not self._pickled and self._graph is not None:
            with suppress(AttributeError, TypeError, pickle.PicklingError):  # a layer's class is in no module
                self._pickled = pickle.dumps(replace(self._graph))
        return Behind, (None, self._pickled)


def graph_behind(module: nn.Module) -> Graph | None:
    """The graph that a module was built of; None for one that was made otherwise."""
    behind = vars(module).get(_BEHIND)
    return behind.graph if isinstance(behind, Behind) else None


@contextmanager
def _allocated(graph: Graph) -> Iterator[None]:
    """Makes a `RegspecError` of what torch raises where there is not the memory for a graph's parameters."""
    try:
        yield
    except (MemoryError, OverflowError, RuntimeError) as error:
        if not is_for_memory(error):
            raise
        raise RegspecError(_too_large(graph)) from None


# what torch says on a CPU, on an accelerator (`torch.OutOfMemoryError`), and of sizes that no number counts
_NO_MEMORY = re.compile(r"allocat|out of memory|[Ss]torage size calculation overflowed|numel: integer multiplication")


def is_for_memory(error: Exception) -> bool:
    """Whether an error says that there is not enough memory."""
    return not isinstance(error, RuntimeError) or _NO_MEMORY.search(str(error)) is not None


def _too_large(graph: Graph) -> Problem:
    """What is wrong with a graph whose parameters do not fit into memory: its largest layer."""
    sizes = {node: _size(node) for node in graph.layers()}
    largest = max(sizes, key=lambda node: sizes[node])
    total = sum(sizes.values())
    of_all = "" if total == sizes[largest] else f", of {total:,} in all"
    what = f"'{largest.name}' has {sizes[largest]:,} parameters{of_all}: there is not the memory for them"
    hint = "smaller sizes, or a dtype with fewer bytes"
    return Problem(what, hint) if largest.origin is None else largest.origin.problem(what, hint, key=True)


def _size(node: LayerNode) -> int:
    """How many numbers the weights of a layer hold."""
    return 0 if node.is_again else sum(math.prod(weight.shape or ()) for weight in node.resolved.weights)


def value_of(constructor: Call, owner: nn.Module | None = None) -> Any:
    """The result of a constructor call, whose source is executed as a model's is, in a method of ``owner``."""
    names: dict[str, Any] = {SELF.name: owner}
    exec(value_source(constructor, "value"), names)
    return names["value"]


@dataclass(frozen=True, slots=True)
class Executed:
    """A source that was executed: its module, which `sys.modules` has too, and the classes that it defines."""

    module: ModuleType
    classes: tuple[type[Any], ...]
    references: tuple[int, ...]  # to each class, while it has no instance

    @property
    def main(self) -> type[Any]:
        """The model's own class, which is the last."""
        return self.classes[-1]

    @property
    def is_used(self) -> bool:
        """Whether any class has an instance or a subclass, each of which holds a reference to it."""
        return tuple(map(sys.getrefcount, self.classes)) != self.references


class Sources:
    """The sources that were executed, by their texts: equal ones give the same classes.

    The module of each is known to ``linecache`` and ``sys.modules``, so that tracebacks, debuggers, torch's compiler
    and `inspect.getsource` find it. Sources that nothing uses are forgotten, except the last few.
    """

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self.known: dict[str, Executed] = {}  # the last used is the last

    def executed(self, text: str) -> Executed:
        """The module that a source defines."""
        found = self.known.pop(text, None) or _executed(text)
        self.forget(keep=self.kept - 1)
        self.known[text] = found
        return found

    def forget(self, *, keep: int = 0) -> None:
        """Forgets sources that nothing uses, the oldest first, until ``keep`` are left."""
        if len(self.known) <= keep:
            return
        unused = [text for text, executed in self.known.items() if not executed.is_used]
        for text in unused[: len(self.known) - keep]:
            module = self.known.pop(text).module
            del sys.modules[module.__name__]
            linecache.cache.pop(str(module.__file__), None)  # anyone may have cleared it


SOURCES = Sources(kept=16)


def _executed(text: str) -> Executed:
    name = f"{COMPILED}{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    path = f"<{name}>"
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    module = ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module
    exec(compile(text, path, "exec"), module.__dict__)
    classes = tuple(each for each in vars(module).values() if isinstance(each, type) and each.__module__ == name)
    for cls in classes:
        cls.__reduce__ = partialmethod(_reduce, cls, text)  # type: ignore[method-assign, assignment]  # mypy wants a def
        if not issubclass(classes[-1], Regularized):  # nor is any block's; a part of a model with penalties has no loss
            for method, function in LENT.items():
                setattr(cls, method, function)
        del cls  # which would count as a reference
    return Executed(module, classes, tuple(map(sys.getrefcount, classes)))


def _reduce(self: nn.Module, compiled: type[Any], text: str) -> tuple[Any, ...]:
    """How an instance is pickled and copied: with the source of its class, which no file holds."""
    if type(self) is not compiled:  # a class that derives from it is in a file
        return _new, (type(self),), self.__getstate__()
    return _blank, (text, compiled.__name__), self.__getstate__()


def _blank(text: str, name: str) -> nn.Module:
    """An instance without its state, of the class of a source."""
    return _new(getattr(SOURCES.executed(text).module, name))


def _new(cls: type[nn.Module]) -> nn.Module:
    """An instance without its state."""
    return cls.__new__(cls)
