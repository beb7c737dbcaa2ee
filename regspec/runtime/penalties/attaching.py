"""Penalties for a module that was not written with them: its class becomes one that has them, and back.

Two ways were weighed: a wrapper around the module, which changes its type and the keys of its state_dict; or, as here
and as `torch.nn.utils.parametrize` does, a class of its own for the instance, that derives from `Regularized` and from
the class that it had. So it stays what it was for ``isinstance``, for its state_dict, and for whoever holds it.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from regspec.runtime.penalties.regularized import Regularized
from regspec.runtime.penalties.terms import Listener


def attach(module: nn.Module) -> Regularized:
    """The module itself, with the methods of `Regularized` and no terms as yet.

    Raises:
        TypeError: where its instances can't change their class, as compiled TorchScript can't; where it is compiled
            already; or where it has attributes of the names that penalties need.
    """
    if isinstance(module, Regularized):
        return module
    own = {*vars(Regularized)} - {*vars(nn.Module), "_repr_html_"} | _STATE
    if clash := sorted(name for name in own if hasattr(module, name) and not name.startswith("__")):
        raise TypeError(f"{type(module).__name__} has a '{clash[0]}' of its own, which penalties need the name of")
    if hasattr(module, "_orig_mod"):
        raise TypeError(f"{type(module).__name__} is compiled already: give it penalties first, and compile it then")
    module.__class__ = _regularized(type(module))
    assert isinstance(module, Regularized)
    module._begin()
    return module


def detach(module: nn.Module) -> nn.Module:
    """The module itself, as it was before terms were attached: without them and their hooks, and of the class it had.

    Raises:
        TypeError: where none were attached, or it is bound to an optimizer.
    """
    if not isinstance(module, Regularized) or not module._attached:
        raise TypeError(f"{type(module).__name__} has no penalties that were attached")
    if module._is_bound:
        raise TypeError(f"{type(module).__name__} is bound to an optimizer: remove the binding first")
    attached = {module._terms.pop(name) for name in module._attached}
    module._attached = []
    for part in module.modules():
        for number, hook in list(part._forward_hooks.items()):
            if isinstance(hook, Listener) and hook in attached:
                del part._forward_hooks[number]
    if type(module) not in _classes.values():
        return module  # it had penalties of its own before
    for name in _STATE:
        delattr(module, name)
    restored: Any = module
    restored.__class__ = _own(type(module))
    return module


_STATE = {*vars(Regularized())} - {*vars(nn.Module())}  # the attributes of an instance
_classes: dict[Any, Any] = {}  # by the class that an instance had


def _regularized(cls: Any) -> Any:
    """The class that instances of ``cls`` get when penalties are attached to them."""
    if cls not in _classes:
        own = {"__module__": cls.__module__, "__reduce__": _reduce}
        _classes[cls] = type(f"Regularized{cls.__name__}", (Regularized, cls), own)
    return _classes[cls]


def _own(cls: type[nn.Module]) -> type[nn.Module]:
    """The class that an instance had before."""
    return cls.__bases__[-1]


def _reduce(self: Regularized) -> tuple[Any, ...]:
    """How an instance is pickled and copied: by its original class, because its present one can't be imported."""
    return _blank, (_own(type(self)),), self.__getstate__()


def _blank(cls: type[nn.Module]) -> Regularized:
    """An instance without its state."""
    made: type[Regularized] = _regularized(cls)
    return made.__new__(made)
