"""Activation functions, constraints and initializers of the user's own, which a spec names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic import ConfigDict

from regspec.code.axes import Pattern
from regspec.code.expressions import Call, Expression, call
from regspec.language.activations import ACTIVATIONS, ActivationFunction
from regspec.language.constraints import CONSTRAINTS, WeightConstraint
from regspec.language.initializers import INITIALIZERS, Drawn, WeightInitializer
from regspec.language.members import add_member, given_to, made_of, own_fields
from regspec.language.registration import importable


def register_activation(function: Callable[..., Any] | None = None, *, name: str | None = None) -> Any:
    """Makes a function of a tensor, of the same shape, an activation function that specs may name; a decorator.

    The parameters after the first become its fields, with their annotations and defaults. A `torch.nn.Module` may stand
    in its place: then those of its constructor do. It must be importable by its name, because the compiled source
    imports it.

    Raises:
        RegspecError: where it can't be imported by its name, or a name is taken.

    Example:
        >>> import torch, regspec
        >>> @regspec.register_activation
        ... def steep(x: torch.Tensor, slope: float = 2.0) -> torch.Tensor:
        ...     return x * torch.sigmoid(slope * x)

        ``activation: {steep: {slope: 3.0}}`` then names it.
    """
    if function is None:
        return partial(register_activation, name=name)
    own, target = function, importable(function)

    class Registered(ActivationFunction):
        model_config = ConfigDict(strict=False, arbitrary_types_allowed=True)

        @property
        def in_keras(self) -> ActivationFunction | None:
            return None

        def lower(self, dimension: int) -> Call:
            return made_of(target, own, given_to(self))

        def of(self, x: Expression, dimension: int, suffix: str = "") -> Expression:
            return super().of(x, dimension, suffix) if inspect.isclass(own) else call(target, x, **given_to(self))

    add_member(ACTIVATIONS, Registered, target, function, name, own_fields(function))
    return function


def register_constraint(function: Callable[..., Any] | None = None, *, name: str | None = None) -> Any:
    """Makes a projection of a weight a constraint that specs may name: it is applied after each step; a decorator.

    It gets the weight as it lies in torch, and gives what is put in its place. The parameters after the first become
    its fields; of a class, those of its constructor, and its instances are called. It must be importable by its name,
    because the compiled source imports it.

    Raises:
        RegspecError: where it can't be imported by its name, or a name is taken.

    Example:
        >>> import torch, regspec
        >>> @regspec.register_constraint
        ... def clipped(weight: torch.Tensor, most: float = 1.0) -> torch.Tensor:
        ...     return weight.clamp(-most, most)

        ``kernel_constraint: {clipped: {most: 0.5}}`` then names it.
    """
    if function is None:
        return partial(register_constraint, name=name)
    own, target = function, importable(function)

    class Registered(WeightConstraint):
        model_config = ConfigDict(strict=False, arbitrary_types_allowed=True)

        def lower(self, pattern: Pattern) -> Call:
            return made_of(target, own, given_to(self))

    add_member(CONSTRAINTS, Registered, target, function, name, own_fields(function))
    return function


def register_initializer(function: Callable[..., Any] | None = None, *, name: str | None = None) -> Any:
    """Makes a function of a weight an initializer that specs may name; a decorator.

    It gets the weight as it lies in torch, and fills it in place, as those of `torch.nn.init` do, or gives what is put
    in its place. No gradient is kept meanwhile. The parameters after the first become its fields; of a class, those of
    its constructor, and its instances are called. It must be importable by its name, because the compiled source
    imports it.

    Raises:
        RegspecError: where it can't be imported by its name, or a name is taken.

    Example:
        >>> import torch, regspec
        >>> @regspec.register_initializer
        ... def ramp(weight: torch.Tensor, step: float = 0.1) -> torch.Tensor:
        ...     return step * torch.arange(weight.numel()).reshape(weight.shape)

        ``kernel_initializer: {ramp: {step: 0.01}}`` then names it.
    """
    if function is None:
        return partial(register_initializer, name=name)
    own, target = function, importable(function)

    class Registered(WeightInitializer):
        model_config = ConfigDict(strict=False, arbitrary_types_allowed=True)

        def lower(self, drawn: Drawn) -> Call:
            if inspect.isclass(own):
                return call("fill_by_", call(target, **given_to(self)))
            return call("fill_by_", target, **given_to(self))

    add_member(INITIALIZERS, Registered, target, function, name, own_fields(function))
    return function
