"""What the gradient and the proximal route do at a step of the optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from regspec.modules.parts import AGAIN, Now, Part
from regspec.modules.step_sizes import Group, step_size
from regspec.runtime import NonNeg
from regspec.runtime.kernels.fused import add_gradients as add_fused
from regspec.runtime.kernels.fused import add_to_grad
from regspec.runtime.kernels.sharded import fill, is_sharded, penalty_of, whole
from regspec.runtime.kernels.thresholds import soften
from regspec.runtime.penalties.slices import Slices
from regspec.runtime.penalties.state import penalized_in
from regspec.runtime.penalties.terms import WeightTerm
from regspec.runtime.penalties.units import UnitTerm
from regspec.runtime.penalties.weights import tensor_at

_GONE = f"is none of the optimizer's parameters any more. {AGAIN}"

# -- the gradient route ------------------------------------------------------------------------------------------------


def add_gradients(parts: list[tuple[Part, Now]], scale: Tensor, signs: Mapping[nn.Parameter, float]) -> None:
    """Adds the gradients of parts, of what their weights are now, to the ``.grad`` of their parameters.

    They are times a scale that the optimizer takes out, and against the gradient for one that climbs along it.
    """
    groups: dict[tuple[Any, ...], list[Tensor]] = {}
    for part, (parameters, is_computed) in parts:
        moving = [parameter for parameter in dict.fromkeys(parameters) if parameter.requires_grad]
        trained = [parameter for parameter in moving if parameter in signs]
        if moving and not trained:
            raise RuntimeError(f"the weight of '{part.name}' {_GONE}")
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


# -- the proximal route ------------------------------------------------------------------------------------------------


@torch.no_grad()
def shrink(parts: list[Part], optimizer: Optimizer, groups: Mapping[nn.Parameter, Group]) -> None:
    """The proximal steps of weights, by the size of the optimizer's step: first those of L1, number by number.

    In this order the two of a weight with a group lasso, too, are that of the sum (Yu (2013), On decomposing the
    proximal map, theorem 4), in sizes of steps that differ as well. Units, which hold slices of weights, come last.
    """
    strengths: dict[nn.Parameter, float] = {}
    of_groups = []
    units = [(part, part.term) for part in parts if isinstance(part.term, UnitTerm)]
    for part in parts:
        for parameter in () if part.is_of_units else part.parameters:
            if not parameter.requires_grad or parameter.grad is None:
                continue  # the optimizer left it alone
            if parameter not in groups:
                raise RuntimeError(f"the weight of '{part.name}' {_GONE}")
            if part.kind == "l1":
                strengths[parameter] = strengths.get(parameter, 0.0) + part.strength
            else:
                of_groups.append((part, parameter))
    sizes = {each: step_size(optimizer, groups[each], each) for each in strengths}
    soften([(each, sizes[each], strength) for each, strength in strengths.items()])
    for part, parameter in of_groups:
        size = step_size(optimizer, groups[parameter], parameter)
        weight = whole(parameter)
        if _is_nonnegative(part):  # of both at once; what is shrunk first keeps a norm of numbers that go
            weight = weight.clamp_min(0)
        fill(parameter, part.regularizer.shrunk(weight, whole(size.threshold(part.strength))))
    for part, term in units:
        _shrink_units(part, term, optimizer, groups)


def _is_nonnegative(part: Part) -> bool:
    """Whether a constraint keeps the weight from being negative."""
    assert isinstance(part.term, WeightTerm)
    constraints = part.owner._regspec.constraints.values()
    return any(isinstance(each, NonNeg) and {*paths} == {*part.term.parameters} for each, paths in constraints)


@torch.no_grad()
def _shrink_units(part: Part, term: UnitTerm, optimizer: Optimizer, groups: Mapping[nn.Parameter, Group]) -> None:
    """The proximal step of units, over all parameters in which they lie; one that did not move keeps its numbers."""
    pairs = zip(term.slices, part.parameters, strict=True)
    own = [(each, x) for each, x in pairs if x.requires_grad or term.counts_frozen]
    sizes = [_threshold(part, x, optimizer, groups) for _, x in own]
    if not any(isinstance(size, Tensor) or size for size in sizes):
        return
    nonnegative = _nonnegative(part)
    is_one = not any(isinstance(size, Tensor) or size != sizes[0] for size in sizes)
    if is_one and not any(x in nonnegative or is_sharded(x) for _, x in own):
        _scale_units(part, own, sizes[0])
        return
    device = own[0][1].device
    rows = [each.rows(whole(x).clamp_min(0) if x in nonnegative else whole(x)).to(device) for each, x in own]
    spread = [torch.as_tensor(size).to(device).expand(x.shape) for size, (_, x) in zip(sizes, own, strict=True)]
    thresholds = [each.rows(size) for size, (each, _) in zip(spread, own, strict=True)]
    shrunk = part.regularizer.shrunk(torch.cat(rows, 1), sizes[0] if is_one else torch.cat(thresholds, 1))
    for (each, x), made in zip(own, shrunk.split([row.shape[1] for row in rows], 1), strict=True):
        weight = whole(x).clone()
        each.put(made.to(weight), weight)
        fill(x, weight)


def _scale_units(part: Part, own: list[tuple[Slices, nn.Parameter]], threshold: float) -> None:
    """The proximal step where all numbers have one size of a step: a factor for each unit, and no copies."""
    rows = [each.rows(x) for each, x in own]
    wide = [row if row.dtype is torch.float64 else row.float() for row in rows]
    norms = [torch.linalg.vector_norm(row, dim=1).to(wide[0].device) for row in wide]
    factors = part.regularizer.kept(torch.stack(norms).norm(dim=0), threshold, sum(row.shape[1] for row in rows))
    for each, x in own:
        each.multiply(x, factors)


def _threshold(part: Part, parameter: nn.Parameter, optimizer: Optimizer, groups: Mapping[nn.Parameter, Group]) -> Any:
    """How far a proximal step moves the numbers of a parameter: one number, or one for each of them."""
    if not parameter.requires_grad or parameter.grad is None:
        return 0.0  # the optimizer left it alone
    if parameter not in groups:
        raise RuntimeError(f"the weight of '{part.name}' {_GONE}")
    return whole(step_size(optimizer, groups[parameter], parameter).threshold(part.strength))


def _nonnegative(part: Part) -> set[Any]:
    """The parameters of units that a constraint keeps from being negative."""
    found: set[Any] = set()
    for _, module in penalized_in(part.owner):
        for constraint, paths in module._regspec.constraints.values():
            if isinstance(constraint, NonNeg):
                found.update(tensor_at(module, tuple(path.split("."))) for path in paths)
    return found
