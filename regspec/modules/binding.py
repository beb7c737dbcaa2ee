"""Other routes for a penalty's gradient than the loss: an addition before the step, a weight decay, a proximal step.

A part of a term (its L1, its L2, its group lasso, …) is on one route. What is not on the loss route is left out of
`regularization_loss()`, and still reported by `regularization_terms()`. The gradient route is not clipped; with the
loss route a gradient is. What happens at a step stands in `stepping`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import or_
from typing import Any

from torch import nn
from torch.optim import Optimizer

from regspec.modules.measuring import outermost
from regspec.modules.optimizers import (
    HAS_OWN_GROUPS,
    chain_of,
    directions,
    has_own_groups,
    is_coupled,
    is_decoupled,
    parameters_of,
)
from regspec.modules.parts import Part, Route, is_of_forward, weights_of
from regspec.modules.step_sizes import SIZES, has_step_sizes, why_unsized
from regspec.modules.stepping import Binding
from regspec.runtime import L1, L2, GroupLasso, GroupLassoOfBlocks, WithWeights
from regspec.runtime.penalties.listeners import Listener
from regspec.runtime.penalties.state import Penalized, named_terms, penalized_in
from regspec.runtime.penalties.terms import Seen
from regspec.runtime.penalties.tracing import without_schedule
from regspec.runtime.penalties.units import UnitTerm
from regspec.text.problems import Problem, RegspecError, did_you_mean

ROUTES = ("loss", "gradient", "decay", "proximal")
KINDS = {L1: "l1", L2: "l2", GroupLasso: "group_lasso", GroupLassoOfBlocks: "group_lasso"}
SHOWN = 8  # terms in a message


def bind(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    l1: Route = "loss",
    l2: Route = "loss",
    group_lasso: Route = "loss",
    activity: Route = "loss",
    terms: Mapping[str, Route] | None = None,
    decoupled: bool = False,
    steps_per_epoch: int | None = None,
) -> Binding:
    """Moves terms to other routes; after each step of the optimizer applies constraints, and sets schedules.

    How many steps were done is kept in the optimizer's first parameter group, and so is saved and loaded with its
    state: a run that is resumed goes on with the same strengths.

    Args:
        model: a module with penalties, or one that wraps such a module.
        optimizer: the one that trains it. Bind it before a learning-rate scheduler is made, because ``decay`` gives it
            further parameter groups.
        l1: the route of every L1: ``loss``, ``gradient`` (added to ``.grad`` before the step) or ``proximal`` (a soft
            threshold after it, of the strength times how far a step moves a weight whose gradient is 1, by which
            weights become exactly zero; for SGD, the family of Adam, RMSprop, Adagrad and Adadelta).
        l2: the route of every L2: ``loss``, ``gradient``, or ``decay``: the optimizer's own ``weight_decay``, twice the
            strength.
        group_lasso: the route of every group lasso: ``loss``, ``gradient`` or ``proximal``.
        activity: the route of every penalty of an output: ``loss``, or ``gradient``: the output's gradient takes that
            of the penalty with it in each backward pass that reaches it, whatever the loss is multiplied by.
        terms: routes by the names of terms, which win over the others.
        decoupled: allows ``decay`` for AdamW, whose decay is no gradient of a penalty.
        steps_per_epoch: how many steps the optimizer does in an epoch, for schedules that count epochs.

    Raises:
        RegspecError: with every route that is not possible; nothing is changed then.

    Example:
        >>> import regspec, torch
        >>> model = regspec.build("examples/mlp.yaml")
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> binding = regspec.bind(model, optimizer, l1="proximal", l2="decay")
    """
    routes: dict[str, Route] = {"l1": l1, "l2": l2, "group_lasso": group_lasso, "activity": activity}
    found = outermost(model)
    roots = [root for _, root in found]
    named = {
        f"{prefix}.{name}" if prefix and len(found) > 1 else name: (term, owner)
        for prefix, root in found
        for name, term, owner in named_terms(root)
    }
    chain = chain_of(optimizer)
    problems = _misnamed(routes, terms or {}, named)
    parts = [] if problems else [*_routed(roots, named, routes, terms or {})]
    parts, missing = _of_optimizer(parts, parameters_of(chain[-1]), terms or {})
    problems.extend(missing)
    problems.extend(problem for part in parts for problem in _refused(part, chain, decoupled))
    problems.extend(_crossing(parts))
    parts = _turned(parts, chain[-1], problems)
    scheduled = {name: part for name, (term, _) in named.items() for part in term.scheduled}
    if steps_per_epoch is None and (epochs := [name for name, part in scheduled.items() if part.needs_epochs]):
        what = f"the schedule of '{epochs[0]}' counts epochs, and an optimizer counts steps"
        problems.append(Problem(what, "bind(..., steps_per_epoch=len(loader))"))
    if any(_is_bound(root, chain[-1]) for root in roots):
        problems.append(Problem("the model is bound already", "remove the binding that bind() gave first"))
    if problems:
        raise RegspecError([*dict.fromkeys(problems)])
    return Binding(roots, chain[-1], parts, steps_per_epoch)


def _is_bound(root: Penalized, optimizer: Optimizer) -> bool:
    """Whether a module is bound to this optimizer, or to another that has some of the same parameters."""
    own = parameters_of(optimizer)
    bindings = {binding for _, module in penalized_in(root) for binding in module._regspec.bindings}
    return any(each.optimizer is optimizer or not own.isdisjoint(parameters_of(each.optimizer)) for each in bindings)


def unknown_route(what: str, route: object) -> Problem | None:
    """What is wrong with the route of something, where there is none of that name."""
    if route in ROUTES:
        return None
    hint = did_you_mean(str(route), ROUTES) or f"there are {', '.join(ROUTES)}"
    return Problem(f"no route is called '{route}', which is given for {what}", hint)


def _misnamed(
    routes: Mapping[str, str], terms: Mapping[str, str], named: Mapping[str, tuple[Any, Penalized]]
) -> list[Problem]:
    problems = []
    for what, route in (*routes.items(), *terms.items()):
        if problem := unknown_route(what, route):
            problems.append(problem)
    for name, route in terms.items():
        if name not in named:
            hint = did_you_mean(name, named) or (
                f"there are {', '.join([*named][:SHOWN])}" if named else "there is none"
            )
            problems.append(Problem(f"no term is called '{name}'", hint))
        elif isinstance(named[name][0], Listener) and route not in ("loss", "gradient"):
            problems.append(Problem(f"'{name}' is of an output, which has the loss and the gradient route only"))
    if routes["activity"] in ("decay", "proximal"):
        problems.append(Problem("penalties of outputs have the loss and the gradient route only"))
    return problems


def _routed(
    roots: Sequence[nn.Module],
    named: Mapping[str, tuple[Any, Penalized]],
    routes: Mapping[str, Route],
    terms: Mapping[str, Route],
) -> Iterator[Part]:
    """The parts of terms that leave the loss route."""
    seen = Seen(*roots)
    for name, (term, owner) in named.items():
        if isinstance(term, Listener):
            route = terms.get(name, routes["activity"])
            for index in range(len(term.parts)):
                if route != "loss" and term.routes[index] == "loss":  # or else another binding has moved it
                    yield Part(name, "activity", route, term, index, owner, (), False)
            continue
        if term.is_seen(owner, seen):  # tied to a weight that has a term
            continue
        is_tied = isinstance(term, UnitTerm) and not all(term.is_own(owner, seen))
        parameters, is_computed = weights_of(owner, term)
        for index, part in enumerate(term.parts):
            kind = KINDS.get(type(without_schedule(part)[0]), "other")
            route = terms.get(name, routes.get(kind, "loss"))
            if route != "loss":
                yield Part(name, kind, route, term, index, owner, parameters, is_computed, is_tied=is_tied)


def _of_optimizer(
    parts: list[Part], optimized: Collection[Any], terms: Mapping[str, Route]
) -> tuple[list[Part], list[Problem]]:
    """The parts whose weights an optimizer has, and what stands against the others.

    Those of other weights stay on the loss: a frozen one counts nothing, and of one that another optimizer trains, that
    one's binding takes care. But a weight that is named is meant, and so is at least one of a kind.
    """
    kept, problems = [], []
    left: dict[str, list[Part]] = {}  # of each kind, those whose weights the optimizer lacks
    for part in parts:
        has = [parameter in optimized for parameter in part.parameters]
        is_of_several = part.adds_parameters or part.is_of_units
        may_lack = [part.is_computed or (is_of_several and not each.requires_grad) for each in part.parameters]
        if all(has) or (any(has) and all(map(or_, has, may_lack))):
            kept.append(part)
        elif any(has):
            problems.append(Problem(f"the weight of '{part.name}' lies in several parameters, of which {_NOT_ALL}"))
        elif not any(parameter.requires_grad for parameter in part.parameters):
            continue
        elif part.name in terms:
            problems.append(Problem(f"the weight of '{part.name}' is {_NONE}"))
        else:
            left.setdefault(part.kind, []).append(part)
    kinds = {part.kind for part in kept if part.name not in terms}
    missing = [part for kind, each in left.items() if kind not in kinds for part in each]
    return kept, [*problems, *(Problem(f"the weight of '{part.name}' is {_NONE}") for part in missing)]


def _turned(parts: list[Part], optimizer: Optimizer, problems: list[Problem]) -> list[Part]:
    """The parts, those of outputs against the gradient where the optimizer climbs along it."""
    signs = {*directions(optimizer.param_groups).values()}
    outputs = [part for part in parts if isinstance(part.term, Listener)]
    if outputs and len(signs) > 1:
        what = f"'{outputs[0].name}' can't be on the gradient route: some of the optimizer's groups maximize"
        problems.append(Problem(f"{what}, and some do not", "take the loss route"))
    return [replace(part, direction=min(signs)) if isinstance(part.term, Listener) else part for part in parts]


_NONE = "none of the optimizer's parameters"
_NOT_ALL = "the optimizer does not have all"


def _refused(part: Part, chain: list[Any], decoupled: bool) -> Iterator[Problem]:
    """The problems that rule out a part's route."""
    optimizer = chain[-1]
    kind = type(optimizer).__name__
    if isinstance(part.term, Listener):
        return
    if part.is_computed and is_of_forward(part.owner, part.term):
        what = f"the weight of '{part.name}' is computed in the forward, as pruning does"
        yield Problem(f"{what}, and a step comes after that", "take the loss route")
    elif part.is_computed and part.route in ("decay", "proximal"):
        what = f"the weight of '{part.name}' is computed from others, as by a parametrization"
        yield Problem(f"{what}, which the {part.route} route does not reach", _TAKE)
    if part.is_tied:
        yield Problem(f"'{part.name}' shares a parameter with other units, and has the loss route only")
    if part.adds_parameters and part.route in ("decay", "proximal"):
        yield Problem(f"'{part.name}' is of the sum of two parameters, which has the loss and gradient routes only")
    elif isinstance(part.regularizer, WithWeights):
        yield Problem(f"'{part.name}' has a gradient for other weights, too, and the loss route only")
    elif part.route == "decay":
        groups = [group for group in optimizer.param_groups if not {*part.parameters}.isdisjoint(group["params"])]
        if part.kind != "l2":
            yield Problem(f"'{part.name}' can't be on the decay route: a weight decay is the gradient of an L2 alone")
        elif any(is_decoupled(optimizer, group) for group in groups):
            if not decoupled:
                hint = "decoupled=True says that this is meant; the loss and gradient routes are L2"
                yield Problem(f"the weight decay of {kind} is decoupled, and no gradient of an L2", hint)
        elif not is_coupled(optimizer):
            yield Problem(f"it is not known what the weight decay of {kind} is", _TAKE)
        if has_own_groups(chain):
            hint = "bind the model before the optimizer is wrapped"
            yield Problem(f"{type(chain[0]).__name__} {HAS_OWN_GROUPS}", hint)
    if part.route == "proximal":
        if part.kind not in ("l1", "group_lasso"):
            yield Problem(f"'{part.name}' can't be on the proximal route, which is for l1 and group_lasso")
        elif not has_step_sizes(optimizer):
            known = ", ".join(each.__name__ for each in SIZES)
            what = f"how far a step of {kind} moves each number of a weight is not known, as a proximal step needs it"
            if why := why_unsized(optimizer):
                what = f"{kind} {why}: it has no step size for each number, as a proximal step needs it"
            yield Problem(what, f"give these weights to {known} or what is derived from them; or take the loss route")
        if part.kind == "group_lasso" and len(part.parameters) > 1 and not part.is_of_units:
            yield Problem(f"'{part.name}' has groups over several parameters, which have no proximal step here")


def _crossing(parts: list[Part]) -> Iterator[Problem]:
    """The problems of group lassos whose groups cross: their proximal steps, one by one, are not that of the sum."""
    found: dict[nn.Parameter, dict[object, str]] = {}
    for part in parts:
        if part.route == "proximal" and part.kind == "group_lasso":
            for parameter, along in _groups_of(part):
                found.setdefault(parameter, {}).setdefault(along, part.name)
    for first, second, *_ in (tuple(names.values()) for names in found.values() if len(names) > 1):
        what = f"the groups of '{first}' and '{second}' cross" if first != second else f"groups of '{first}' cross"
        yield Problem(f"{what} in one weight, so that they have no proximal step together", "put one on the loss route")


def _groups_of(part: Part) -> Iterator[tuple[nn.Parameter, object]]:
    """The parameters of a group lasso, each with what its groups lie along."""
    if isinstance(part.term, UnitTerm):
        yield from zip(part.parameters, (each.dim for each in part.term.slices), strict=True)
        return
    regularizer = part.regularizer
    for parameter in part.parameters:
        dim = regularizer.dim % max(1, parameter.ndim)
        yield parameter, (regularizer.blocks, dim) if isinstance(regularizer, GroupLassoOfBlocks) else dim


_TAKE = "take the loss or the gradient route"
