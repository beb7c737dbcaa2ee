"""What the gradient route does at a step of the optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regspec.modules.parts import GONE, Now, Part
from regspec.runtime.kernels.fused import add_gradients as add_fused
from regspec.runtime.kernels.fused import add_to_grad
from regspec.runtime.kernels.sharded import penalty_of
from regspec.runtime.penalties.terms import WeightTerm
from regspec.runtime.penalties.units import UnitTerm


def add_gradients(parts: list[tuple[Part, Now]], scale: Tensor, signs: Mapping[nn.Parameter, float]) -> None:
    """Adds the gradients of parts, of what their weights are now, to the ``.grad`` of their parameters.

    They are times a scale that the optimizer takes out, and against the gradient for one that climbs along it.
    """
    groups: dict[tuple[Any, ...], list[Tensor]] = {}
    for part, (parameters, is_computed) in parts:
        moving = [parameter for parameter in dict.fromkeys(parameters) if parameter.requires_grad]
        trained = [parameter for parameter in moving if parameter in signs]
        if moving and not trained:
            raise RuntimeError(f"the weight of '{part.name}' {GONE}")
        if part.kind in ("l1", "l2") and not is_computed and not part.adds_parameters:
            strengths = (part.strength, 0.0) if part.kind == "l1" else (0.0, 2 * part.strength)
            for parameter in trained:
                sign = signs[parameter]
                key = (sign * strengths[0], sign * strengths[1], parameter.dtype, parameter.device)
                groups.setdefault(key, []).append(parameter)
        elif trained:
            with torch.enable_grad():
                penalty = _own_penalty(part, parameters, is_computed)
                gradients = _gradients(penalty, trained)
            for parameter, gradient in zip(trained, gradients, strict=True):
                if gradient is not None:
                    add_to_grad(parameter, gradient * (part.factor * scale * signs[parameter]))
    with torch.no_grad():
        add_fused([(l1, l2, xs) for (l1, l2, *_), xs in groups.items()], scale)


def _gradients(penalty: Tensor | None, parameters: list[nn.Parameter]) -> list[Tensor | None]:
    if penalty is None or not penalty.requires_grad:
        return [None] * len(parameters)
    return [*torch.autograd.grad(penalty, parameters, allow_unused=True)]


def _own_penalty(part: Part, parameters: tuple[nn.Parameter, ...], is_computed: bool) -> Tensor | None:
    """The penalty of a part's weight as it is now, its schedule apart; None where it is frozen."""
    assert isinstance(part.term, WeightTerm)
    weight: Tensor | None
    if isinstance(part.term, UnitTerm):  # of which frozen parameters are no part, unless they count
        counted = [each if each.requires_grad or part.term.counts_frozen else None for each in parameters]
        weight = part.term.weight(part.owner) if is_computed else part.term.joined(counted)
    elif is_computed:
        weight = part.term.weight(part.owner)
    elif part.adds_parameters or all(parameter.requires_grad for parameter in parameters):
        weight = part.term.joined(parameters)
    else:
        weight = None
    return None if weight is None else penalty_of(part.regularizer, weight)


def penalty_on_gradient(parts: list[tuple[Part, Now]], signs: Mapping[nn.Parameter, float]) -> Tensor | None:
    """The sum of the penalties of parts, less those of parameters that climb; None where all weights are frozen."""
    penalties = []
    for part, (parameters, is_computed) in parts:
        trained = [parameter for parameter in parameters if parameter.requires_grad and parameter in signs]
        penalty = _own_penalty(part, parameters, is_computed) if trained else None
        if penalty is not None:
            penalties.append(part.factor * signs[trained[0]] * penalty)
    return torch.stack([each.to(penalties[0]) for each in penalties]).sum() if penalties else None
