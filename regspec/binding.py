"""Other routes for a penalty's gradient than the loss: an addition before the step, a weight decay, a proximal step.

A part of a term (its L1, its L2, its group lasso, …) is on one route. What is not on the loss route is left out of
`regularization_loss()`, and still reported by `regularization_terms()`.

The order in a step: the gradients of the loss, what the user does with them (scaling back, clipping), then the
gradient route's addition, the optimizer's step, the proximal steps, the constraints. So the gradient route is not
clipped; with the loss route it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, NAdam, Optimizer, RAdam, RMSprop

from regspec.errors import Problem, RegspecError, did_you_mean
from regspec.regularizing import outermost
from regspec.runtime import GroupLasso, Regularized
from regspec.runtime.penalties import WeightTerm

Route = Literal["loss", "gradient", "decay", "proximal"]
ROUTES = ("loss", "gradient", "decay", "proximal")
COUPLED = (SGD, Adam, NAdam, RAdam, Adagrad, RMSprop)  # whose weight_decay is added to the gradient


@dataclass(frozen=True)
class _Part:
    """A part of a weight's term, on a route other than the loss."""

    name: str
    kind: str  # l1, l2, group_lasso, other
    route: str
    term: WeightTerm
    regularizer: Callable[[Tensor], Tensor]
    strength: float  # of l1 and l2
    parameters: tuple[nn.Parameter, ...]


class Binding:
    """What `bind` did; `remove` takes it back."""

    def __init__(self, undo: list[Callable[[], None]]) -> None:
        self._undo = undo

    def remove(self) -> None:
        """Puts every term on the loss route again, and the optimizer's groups and hooks back as they were."""
        while self._undo:
            self._undo.pop()()


def bind(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    l1: Route = "loss",
    l2: Route = "loss",
    group_lasso: Route = "loss",
    terms: Mapping[str, Route] | None = None,
    decoupled: bool = False,
) -> Binding:
    """Moves terms of weights to other routes, and applies constraints after each step of the optimizer.

    Args:
        model: a module with penalties, or one that wraps such a module.
        optimizer: the one that trains it. Bind it before a learning-rate scheduler is made, because ``decay`` gives it
            further parameter groups.
        l1: the route of every L1: ``loss``, ``gradient`` (added to ``.grad`` before the step) or ``proximal`` (a soft
            threshold of ``lr * strength`` after it, by which weights become exactly zero; for SGD).
        l2: the route of every L2: ``loss``, ``gradient``, or ``decay``: the optimizer's own ``weight_decay``, twice the
            strength.
        group_lasso: the route of every group lasso: ``loss``, ``gradient`` or ``proximal``.
        terms: routes by the names of terms, which win over the others.
        decoupled: allows ``decay`` for AdamW, whose decay is no gradient of a penalty.

    Raises:
        RegspecError: with every route that is not possible; nothing is changed then.

    Example:
        >>> import regspec, torch
        >>> model = regspec.build("examples/mlp.yaml")
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> binding = regspec.bind(model, optimizer, l1="proximal", l2="decay")
    """
    routes = {"l1": l1, "l2": l2, "group_lasso": group_lasso}
    roots = [each for _, each in outermost(model)]
    named = {name: (term, owner) for root in roots for name, term, owner in root._named_terms()}
    problems = _misnamed(routes, terms or {}, named)
    parts = [] if problems else [*_routed(named, routes, terms or {})]
    problems.extend(problem for part in parts for problem in _refused(part, optimizer, decoupled))
    if any(root._is_bound for root in roots):
        problems.append(Problem("the model is bound already", "remove the binding that bind() gave first"))
    if problems:
        raise RegspecError(problems)
    return _bound(roots, optimizer, parts)


def _misnamed(
    routes: Mapping[str, str], terms: Mapping[str, str], named: Mapping[str, tuple[Any, Regularized]]
) -> list[Problem]:
    problems = []
    for what, route in (*routes.items(), *terms.items()):
        if route not in ROUTES:
            hint = did_you_mean(str(route), ROUTES) or f"there are {', '.join(ROUTES)}"
            problems.append(Problem(f"no route is called '{route}', which is given for {what}", hint))
    for name, route in terms.items():
        if name not in named:
            problems.append(Problem(f"no term is called '{name}'", did_you_mean(name, named)))
        elif not isinstance(named[name][0], WeightTerm) and route != "loss":
            problems.append(Problem(f"'{name}' is of an output, which has the loss route only"))
    return problems


def _routed(
    named: Mapping[str, tuple[Any, Regularized]], routes: Mapping[str, str], terms: Mapping[str, str]
) -> Iterator[_Part]:
    """The parts of terms that leave the loss route."""
    for name, (term, owner) in named.items():
        if not isinstance(term, WeightTerm):
            continue
        parameters = tuple(attrgetter(path)(owner) for path in term.parameters)
        for kind, strength, regularizer in _parts(term):
            route = terms.get(name, routes.get(kind, "loss"))
            if route != "loss":
                yield _Part(name, kind, route, term, regularizer, strength, parameters)


def _parts(term: WeightTerm) -> Iterator[tuple[str, float, Callable[[Tensor], Tensor]]]:
    for kind, strength in zip(("l1", "l2"), term.strengths or (0.0, 0.0), strict=True):
        if strength:
            yield kind, strength, term.regularizer
    for regularizer in term.others:
        yield ("group_lasso" if isinstance(regularizer, GroupLasso) else "other"), 0.0, regularizer


def _refused(part: _Part, optimizer: Optimizer, decoupled: bool) -> Iterator[Problem]:
    """What stands against a part's route."""
    optimized = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if any(id(parameter) not in optimized for parameter in part.parameters):
        yield Problem(f"the weight of '{part.name}' is none of the optimizer's parameters")
    kind = type(optimizer).__name__
    if part.route == "decay":
        if part.kind != "l2":
            yield Problem(f"'{part.name}' can't be on the decay route: a weight decay is the gradient of an L2 alone")
        elif isinstance(optimizer, AdamW) or optimizer.defaults.get("decoupled_weight_decay"):
            if not decoupled:
                hint = "decoupled=True says that this is meant; the loss and gradient routes are L2"
                yield Problem(f"the weight decay of {kind} is decoupled, and no gradient of an L2", hint)
        elif not isinstance(optimizer, COUPLED):
            yield Problem(f"it is not known what the weight decay of {kind} is", "take the loss or the gradient route")
    if part.route == "proximal":
        if part.kind not in ("l1", "group_lasso"):
            yield Problem(f"'{part.name}' can't be on the proximal route, which is for l1 and group_lasso")
        elif not isinstance(optimizer, SGD):
            hint = "a proximal step needs the step size of each weight, which SGD alone has in common"
            yield Problem(f"the proximal route is for SGD, and not for {kind}", hint)
        if part.kind == "group_lasso" and len(part.parameters) > 1:
            yield Problem(f"'{part.name}' has groups over several parameters, which have no proximal step here")


# -- binding -----------------------------------------------------------------------------------------------------------


def _bound(roots: list[Regularized], optimizer: Optimizer, parts: list[_Part]) -> Binding:
    undo: list[Callable[[], None]] = []
    for root in roots:
        root._is_bound = True
        undo.append(partial(setattr, root, "_is_bound", False))
    for part in parts:
        strengths, others = part.term.strengths, part.term.others
        undo.append(partial(_put_back, part.term, strengths, others))
        _take_off(part)
    decays: dict[int, float] = {}
    for part in parts:
        if part.route == "decay":
            for parameter in part.parameters:
                decays[id(parameter)] = decays.get(id(parameter), 0.0) + 2 * part.strength
    for root in roots:
        on_loss = [term for _, term, _ in root._named_terms() if term.strengths is not None or term.others]
        root._is_read = root._is_read or not on_loss  # there is nothing to read
    undo.append(_split_groups(optimizer, decays))
    added = [part for part in parts if part.route == "gradient"]
    proximal = [part for part in parts if part.route == "proximal"]

    def before(optimizer: Optimizer, *_: Any) -> None:
        for part in added:
            _add_gradient(part, getattr(optimizer, "grad_scale", None))

    def after(optimizer: Optimizer, *_: Any) -> None:
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]} if proximal else {}
        for part in proximal:
            _shrink(part, rates)
        for root in roots:
            root.apply_constraints()

    undo.append(optimizer.register_step_pre_hook(before).remove)
    undo.append(optimizer.register_step_post_hook(after).remove)
    return Binding(undo)


def _take_off(part: _Part) -> None:
    """Takes a part off the loss route."""
    term = part.term
    if part.kind in ("l1", "l2"):
        l1, l2 = term.strengths or (0.0, 0.0)
        left = (0.0, l2) if part.kind == "l1" else (l1, 0.0)
        term.strengths = left if any(left) else None
    else:
        term.others = tuple(each for each in term.others if each is not part.regularizer)


def _put_back(term: WeightTerm, strengths: tuple[float, float] | None, others: tuple[Any, ...]) -> None:
    term.strengths, term.others = strengths, others


def _split_groups(optimizer: Optimizer, decays: Mapping[int, float]) -> Callable[[], None]:
    """Gives parameters groups with their decay; what it gives takes that back."""
    before = [(group, list(group["params"])) for group in optimizer.param_groups]
    made: dict[tuple[int, float], dict[str, Any]] = {}
    for index, (group, parameters) in enumerate(before):
        group["params"] = [parameter for parameter in parameters if id(parameter) not in decays]
        for parameter in parameters:
            if decay := decays.get(id(parameter)):
                key = (index, decay)
                if key not in made:
                    made[key] = {**group, "params": [], "weight_decay": group["weight_decay"] + decay}
                    optimizer.param_groups.append(made[key])
                made[key]["params"].append(parameter)
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]

    def restore() -> None:
        for group, parameters in before:
            group["params"] = parameters
        optimizer.param_groups[:] = [group for group, _ in before]

    return restore


@torch.no_grad()
def _add_gradient(part: _Part, scale: Tensor | None) -> None:
    """Adds a part's gradient to that of its parameters; times the scale of an optimizer that takes it out itself."""
    parameters = [parameter for parameter in part.parameters if parameter.requires_grad]
    if not parameters:
        return
    if part.kind in ("l1", "l2"):
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            is_l1 = part.kind == "l1"
            gradient: Tensor = parameter.sign() if is_l1 else parameter
            gradient = gradient if scale is None else gradient * scale
            parameter.grad.add_(gradient, alpha=part.strength if is_l1 else 2 * part.strength)
        return
    with torch.enable_grad():
        weight = parameters[0] if len(parameters) == 1 else torch.stack([*parameters])
        gradients = torch.autograd.grad(part.regularizer(weight), parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        gradient = gradient if scale is None else gradient * scale
        parameter.grad = gradient.clone() if parameter.grad is None else parameter.grad.add_(gradient)


@torch.no_grad()
def _shrink(part: _Part, rates: Mapping[int, Any]) -> None:
    """The proximal step: a soft threshold of each weight, or of each group's norm.

    Parikh and Boyd (2014), Proximal algorithms, sections 6.5.2 and 6.5.4.
    """
    for parameter in part.parameters:
        if not parameter.requires_grad or parameter.grad is None:
            continue  # the optimizer left it alone
        rate = rates[id(parameter)]
        if part.kind == "l1":
            threshold = rate * part.strength
            parameter.copy_(parameter.sign() * (parameter.abs() - threshold).clamp_min(0))
            continue
        assert isinstance(part.regularizer, GroupLasso)
        dim = part.regularizer.dim % parameter.ndim
        rest = tuple(axis for axis in range(parameter.ndim) if axis != dim)
        norms = torch.linalg.vector_norm(parameter, dim=rest, keepdim=True)
        size = parameter.numel() // parameter.shape[dim]
        threshold = rate * part.regularizer.strength * math.sqrt(size)
        parameter.mul_((1 - threshold / norms.clamp_min(torch.finfo(norms.dtype).tiny)).clamp_min(0))
