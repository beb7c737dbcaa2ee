"""Penalties for a module that was not written with them: its class becomes one that has them, and back.

Two ways were weighed: a wrapper around the module, which changes its type and the keys of its state_dict; or, as here
and as `torch.nn.utils.parametrize` does, a class of its own for the instance, that derives from `Regularized` and from
the class that it had. So it stays what it was for ``isinstance``, for its state_dict, and for whoever holds it.

What a class does with itself is done by the class that it was: ``type(module)(...)``, as a slice of a Sequential calls
it, makes a module without penalties; a copy or a pickle is made as that class says, and gets the penalties then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, fx, nn

from regspec.runtime.penalties.listeners import without_listeners
from regspec.runtime.penalties.regularized import Regularized
from regspec.runtime.penalties.state import State

# -- until then --------------------------------------------------------------------------------------------------------


def _loss(self: nn.Module) -> Tensor:
    """The regularization loss of a model without penalties: 0."""
    return torch.zeros(())


def _terms(self: nn.Module, *, detach: bool = False) -> dict[str, Tensor]:
    """The penalties of a model without them: none."""
    return {}


def _constraints(self: nn.Module) -> None:
    """Projects no weight."""


def _schedules(self: nn.Module, step: int, epoch: int | None = None) -> None:
    """Sets no strength."""


# What a training loop calls of any model, for a class without penalties.
LENT: dict[str, Callable[..., Any]] = {
    "regularization_loss": _loss,
    "regularization_terms": _terms,
    "apply_constraints": _constraints,
    "set_schedules": _schedules,
}


def _is_lent(module: nn.Module, name: str) -> bool:
    """Whether a module's attribute of a name is lent, so that penalties may have the name."""
    return name in LENT and getattr(type(module), name, None) is LENT[name]


# -- attaching ---------------------------------------------------------------------------------------------------------


def attach(module: nn.Module) -> Regularized:
    """The module itself, with the methods of `Regularized` and no terms as yet.

    Raises:
        TypeError: where its instances can't change their class, as compiled TorchScript can't; where it is compiled
            already; or where it has attributes of the names that penalties need.
    """
    if isinstance(module, Regularized):
        return module
    own = {*vars(Regularized)} - {*vars(nn.Module), "_repr_html_"} | {"_regspec"}
    own = {name for name in own if not name.startswith("__")}
    if clash := sorted(name for name in own if hasattr(module, name) and not _is_lent(module, name)):
        raise TypeError(f"{type(module).__name__} has a '{clash[0]}' of its own, which penalties need the name of")
    if hasattr(module, "_orig_mod"):
        raise TypeError(f"{type(module).__name__} is compiled already: give it penalties first, and compile it then")
    module.__class__ = _regularized(type(module))
    assert isinstance(module, Regularized)
    module.__dict__["_regspec"] = State()  # not through a `__setattr__` of its own
    return module


def detach(module: nn.Module) -> nn.Module:
    """The module itself, as it was before terms were attached: without them and their hooks, and of the class it had.

    Raises:
        TypeError: where none were attached, or it is bound to an optimizer.
    """
    if not isinstance(module, Regularized) or not module._regspec.attached:
        raise TypeError(f"{type(module).__name__} has no penalties that were attached")
    if module._regspec.bindings:
        raise TypeError(f"{type(module).__name__} is bound to an optimizer: remove the binding first")
    state = module._regspec
    attached = {state.terms.pop(name) for name in state.attached}
    state.attached = []
    without_listeners(module, attached)
    if type(module) not in _owns:
        return module  # it had penalties of its own before
    return _plain(module)


_classes: dict[Any, Any] = {}  # by the class that an instance had
_owns: dict[Any, Any] = {}  # the other way


def _regularized(cls: Any) -> Any:
    """The class that instances of ``cls`` get when penalties are attached to them."""
    if cls not in _classes:
        kind = type(f"Regularized{type(cls).__name__}", (_Constructing, type(cls)), {})
        own: dict[str, Any] = {"__module__": cls.__module__, "__reduce_ex__": _reduce_ex, "__setstate__": _set_state}
        own["__prepare_scriptable__"] = _prepare_scriptable
        own["_listens_by_hooks"] = True
        for name, method in {"__deepcopy__": _deepcopy, "__copy__": _copy}.items():
            if hasattr(cls, name):
                own[name] = method
        if issubclass(cls, fx.GraphModule):  # which writes its forward into its class
            own.update({name: _by_its_own(name) for name in ("recompile", "real_recompile") if hasattr(cls, name)})
        _classes[cls] = kind(f"Regularized{cls.__name__}", (Regularized, cls), own)
        _owns[_classes[cls]] = cls
    return _classes[cls]


class _Constructing(type):
    """The class of a class whose instances got penalties: to call it makes one of the class that it was."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return _own(cls)(*args, **kwargs)


def _own(cls: type) -> Any:
    """The class that an instance had before; FSDP derives from the one that it has."""
    return next(_owns[each] for each in cls.__mro__ if each in _owns)


def _plain(module: nn.Module) -> nn.Module:
    """The module itself, of the class that it had, without what it has for its penalties."""
    module.__dict__.pop("_regspec", None)
    restored: Any = module
    restored.__class__ = _own(type(module))
    return module


@contextmanager
def _as_it_was(module: Any) -> Iterator[Any]:
    """The module, for a while of the class that it had, without what it has for its penalties."""
    attached, state = type(module), module._regspec
    try:
        yield _plain(module)
    finally:
        module.__class__ = attached
        module.__dict__["_regspec"] = state


def _by_its_own(name: str) -> Any:
    """A method that does what it does as that of the class that the module had."""

    def method(self: Regularized, *args: Any, **kwargs: Any) -> Any:
        with _as_it_was(self) as plain:
            return getattr(plain, name)(*args, **kwargs)

    return method


# -- copies ------------------------------------------------------------------------------------------------------------


def _reduce_ex(self: Regularized, protocol: Any) -> Any:
    """How an instance is pickled and copied: as one of the class that it had, which then gets the other."""
    kept = self._regspec.of_copy()
    with _as_it_was(self) as plain:
        function, arguments, *rest = plain.__reduce_ex__(protocol)
    state, *others = rest or [None]
    return _remade, (function, arguments), (state, kept), *others


def _remade(function: Any, arguments: tuple[Any, ...]) -> Any:
    """An instance without its state."""
    made = function(*arguments)
    made.__class__ = _regularized(type(made))
    return made


def _set_state(self: Regularized, state: tuple[Any, State]) -> None:
    own, kept = state
    if own is not None:
        _own(type(self)).__setstate__(self, own)
    self.__dict__["_regspec"] = kept


def _deepcopy(self: Regularized, memo: dict[int, Any]) -> Any:
    """A copy as the class says that it had, with the same penalties."""
    kept = self._regspec.of_copy()
    with _as_it_was(self) as plain:
        copied = plain.__deepcopy__(memo)
    copied.__class__ = _regularized(type(copied))
    copied.__dict__["_regspec"] = deepcopy(kept, memo)
    return copied


def _copy(self: Regularized) -> Any:
    kept = self._regspec.of_copy()
    with _as_it_was(self) as plain:
        copied = plain.__copy__()
    copied.__class__ = _regularized(type(copied))
    copied.__dict__["_regspec"] = kept
    return copied


def _prepare_scriptable(self: Regularized) -> nn.Module:
    """What `torch.jit.script` compiles: the module as it was, with the same parameters."""
    return _plain(Regularized.__prepare_scriptable__(self))
