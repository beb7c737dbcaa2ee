"""Penalties for a module that was not written with them: its class becomes one that has them, and back.

Two ways were weighed: a wrapper around the module, which changes its type and the keys of its state_dict; or, as here
and as `torch.nn.utils.parametrize` does, a class of its own for the instance, that derives from `Regularized` and from
the class that it had. So it stays what it was for ``isinstance``, for its state_dict, and for whoever holds it.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from regspec.runtime.penalties import Regularized
from regspec.runtime.terms import Listener


def attach(module: nn.Module) -> Regularized:
    """The module itself, with the methods of `Regularized` and no terms as yet.

    Raises:
        TypeError: where its instances can't change their class, as compiled TorchScript can't.
    """
    if isinstance(module, Regularized):
        return module
    module.__class__ = _regularized(type(module))
    assert isinstance(module, Regularized)
    module._begin()
    return module


def detach(module: nn.Module) -> nn.Module:
    """The module itself, as it was before `attach`: its class, its hooks and its attributes."""
    if not isinstance(module, Regularized) or type(module) is not _regularized(_own(type(module))):
        raise TypeError(f"{type(module).__name__} has no penalties that were attached")
    for part in module.modules():
        for number, hook in list(part._forward_hooks.items()):
            if isinstance(hook, Listener) and hook in module._terms.values():
                del part._forward_hooks[number]
    for name in Regularized._state:
        delattr(module, name)
    restored: Any = module
    restored.__class__ = _own(type(module))
    return module


_classes: dict[Any, Any] = {}  # by the class that an instance had


def _regularized(cls: Any) -> Any:
    """The class of this class's instances with penalties."""
    if cls not in _classes:
        own = {"__module__": cls.__module__, "__reduce__": _reduce}
        _classes[cls] = type(f"Regularized{cls.__name__}", (Regularized, cls), own)
    return _classes[cls]


def _own(cls: type[nn.Module]) -> type[nn.Module]:
    """The class that an instance had before."""
    return cls.__bases__[-1]


def _reduce(self: Regularized) -> tuple[Any, ...]:
    """How an instance is pickled and copied: by the class that it had, because no module holds the one that it has."""
    return _blank, (_own(type(self)),), self.__getstate__()


def _blank(cls: type[nn.Module]) -> Regularized:
    """An instance without its state."""
    made: type[Regularized] = _regularized(cls)
    return made.__new__(made)
