"""Regularizers of the user's own: functions of a tensor to a scalar, which a spec names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic import ConfigDict, create_model

from regspec.code.expressions import Call, Import, call
from regspec.language.registration import fields_of, importable
from regspec.language.regularizers import BESIDE, REGULARIZERS, Dimensions, Penalty
from regspec.text.problems import RegspecError


def register_regularizer(function: Callable[..., Any] | None = None, *, name: str | None = None) -> Any:
    """Makes a function of a tensor to a scalar a regularizer that specs may name; a decorator.

    The parameters after the first become the regularizer's fields, with their annotations and defaults. The function
    must be importable by its name, because the compiled source imports it. A package offers one without being
    imported first by an entry point of the group ``regspec.regularizers``.

    Raises:
        RegspecError: where the function can't be imported by its name, or a name is taken.

    Example:
        >>> import torch, regspec
        >>> @regspec.register_regularizer
        ... def log_cosh(weight: torch.Tensor, strength: float = 1e-3) -> torch.Tensor:
        ...     return strength * torch.log(torch.cosh(weight)).sum()

        ``kernel_regularizer: {log_cosh: {strength: 1e-4}}`` then names it.
    """
    if function is None:
        return partial(register_regularizer, name=name)
    target = importable(function)
    name = name or target.name
    known = REGULARIZERS.members.get(name)
    if name in BESIDE or (known is not None and not known.is_registered):
        raise RegspecError(f"'{name}' can't be registered: it has a meaning of its own in regspec")

    class Registered(Penalty):
        model_config = ConfigDict(strict=False, arbitrary_types_allowed=True)
        reads_axes = True
        is_registered = True

        def lower(self, at: Dimensions) -> Call:
            arguments = {field: getattr(self, field) for field in type(self).model_fields}
            if inspect.isclass(function):
                return call(target, **arguments)
            return call(Import("functools", "partial"), target, **arguments)

    skip = 0 if inspect.isclass(function) else 1
    fields: Any = fields_of(function, skip=skip)
    if reserved := [field for field in fields if hasattr(Penalty, field)]:
        raise RegspecError(f"'{name}' can't be registered: '{reserved[0]}' has a meaning of its own in a regularizer")
    cls = create_model(
        target.name, __base__=Registered, __doc__=inspect.getdoc(function), __module__=function.__module__, **fields
    )
    cls.name = name
    REGULARIZERS.add(cls)
    return function
