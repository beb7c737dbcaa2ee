"""Regularizers of the user's own: functions of a tensor to a scalar, which a spec names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from regspec.code.expressions import SELF, Call, WeightPath, call
from regspec.language.members import add_member, made_of, own_fields
from regspec.language.penalties import Dimensions, Penalty
from regspec.language.registration import fields_of, importable
from regspec.language.regularizers import BESIDE, REGULARIZERS
from regspec.text.problems import RegspecError


def register_regularizer(function: Callable[..., Any] | None = None, *, name: str | None = None) -> Any:
    """Makes a function of a tensor to a scalar a regularizer that specs may name; a decorator.

    The parameters after the first become the regularizer's fields, with their annotations and defaults. One that is
    annotated as a `torch.Tensor` takes another weight, which the spec names: ``decoder.kernel``, or ``kernel`` of the
    layer itself; it comes as it lies in torch, with its gradient. Of a class such are parameters of its call. The
    function must be importable by its name, because the compiled source imports it. A package offers one without being
    imported first by an entry point of the group ``regspec.regularizers``.

    Raises:
        RegspecError: where the function can't be imported by its name, or a name is taken.

    Example:
        >>> import torch, regspec
        >>> @regspec.register_regularizer
        ... def log_cosh(weight: torch.Tensor, strength: float = 1e-3) -> torch.Tensor:
        ...     return strength * torch.log(torch.cosh(weight)).sum()

        ``kernel_regularizer: {log_cosh: {strength: 1e-4}}`` then names it.

        >>> @regspec.register_regularizer
        ... def weighted_l1(codes: torch.Tensor, decoder: torch.Tensor, strength: float = 1e-3) -> torch.Tensor:
        ...     return strength * (codes.abs() * decoder.norm(dim=0)).sum()

        ``activity_regularizer: {weighted_l1: {decoder: decoder.kernel}}`` weights codes by what they write.
    """
    if function is None:
        return partial(register_regularizer, name=name)
    wrapped, target = function, importable(function)
    name = name or target.name
    if name in BESIDE:
        raise RegspecError(f"'{name}' can't be registered: it has a meaning of its own in regspec")

    class Registered(Penalty):
        model_config = ConfigDict(strict=False, arbitrary_types_allowed=True)
        reads_axes = True

        @property
        def other_weights(self) -> tuple[str, ...]:
            return tuple(getattr(self, field) for field in read)

        def lower(self, at: Dimensions) -> Call:
            arguments = {field: getattr(self, field) for field in type(self).model_fields if field not in read}
            own = made_of(target, wrapped, arguments)
            paths: Any = {field: WeightPath(getattr(self, field)) for field in read}
            return call("WithWeights", own, SELF, **paths) if read else own

    read = _weights_read_by(function)
    own = own_fields(function)
    if inspect.isclass(function) and (clash := [field for field in read if field in own]):
        raise RegspecError(f"'{name}' can't be registered: its constructor and its call both take '{clash[0]}'")
    add_member(REGULARIZERS, Registered, target, function, name, {**own, **dict.fromkeys(read, (_WeightName, ...))})
    return function


_WeightName = Annotated[str, Field(description="The name of another weight: 'decoder.kernel'.")]


def _weights_read_by(function: Callable[..., Any]) -> list[str]:
    """The parameters after the first that are tensors; of a class, those of its call."""
    called, skip = (function.__call__, 2) if inspect.isclass(function) else (function, 1)
    fields = fields_of(called, skip=skip) if inspect.isroutine(called) else {}
    return [name for name, (kind, _) in fields.items() if _is_tensor(kind)]


def _is_tensor(kind: Any) -> bool:
    """Whether an annotation is torch's tensor, without importing torch."""
    return (getattr(kind, "__module__", ""), getattr(kind, "__name__", "")) == ("torch", "Tensor")
