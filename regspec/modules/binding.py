"""Other routes for a penalty's gradient than the loss: an addition before the step, a weight decay, a proximal step.

A part of a term (its L1, its L2, its group lasso, …) is on one route. What is not on the loss route is left out of
`regularization_loss()`, and still reported by `regularization_terms()`.

The order in a step: the gradients of the loss, what the user does with them (scaling back, clipping), then the
gradient route's addition, the optimizer's step, the proximal steps, the constraints. So the gradient route is not
clipped; with the loss route it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, NAdam, Optimizer, RAdam, RMSprop

from regspec.modules.measuring import outermost
from regspec.runtime import L1, L2, GroupLasso, GroupLassoOfBlocks, Regularized
from regspec.runtime.kernels.fused import add_gradients
from regspec.runtime.kernels.sharded import fill, penalty_of, whole
from regspec.runtime.penalties.schedules import Scheduled
from regspec.runtime.penalties.terms import WeightTerm
from regspec.text.problems import Problem, RegspecError, did_you_mean

Route = Literal["loss", "gradient", "decay", "proximal"]
ROUTES = ("loss", "gradient", "decay", "proximal")
KINDS = {L1: "l1", L2: "l2", GroupLasso: "group_lasso", GroupLassoOfBlocks: "group_lasso"}
SHOWN = 8  # terms in a message
STEPS = "regspec_steps"  # in the optimizer's first group, as learning-rate schedulers keep their initial_lr in groups
COUPLED = (SGD, Adam, NAdam, RAdam, Adagrad, RMSprop)  # whose weight_decay is added to the gradient


@dataclass(frozen=True)
class _Part:
    """A part of a weight's term, on a route other than the loss."""

    name: str
    kind: str  # l1, l2, group_lasso, other
    route: Route
    term: WeightTerm
    index: int  # in the term
    parameters: tuple[nn.Parameter, ...]

    @property
    def scheduled(self) -> Scheduled | None:
        """The part, if its strength follows a schedule."""
        part = self.term.parts[self.index]
        return part if isinstance(part, Scheduled) else None

    @property
    def regularizer(self) -> Any:
        """The part without its schedule."""
        return self.term.parts[self.index] if self.scheduled is None else self.scheduled.regularizer

    @property
    def factor(self) -> float:
        """What the schedule multiplies the strength by now."""
        return 1.0 if self.scheduled is None else self.scheduled.factor

    @property
    def strength(self) -> float:
        """The strength of an L1, an L2 or a group lasso now."""
        strength: float = self.regularizer.strength
        return strength * self.factor

    def put(self, route: Route) -> None:
        """Puts it on a route."""
        self.term.routes[self.index] = route
        self.term.refresh()


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
    steps_per_epoch: int | None = None,
) -> Binding:
    """Moves terms of weights to other routes; after each step of the optimizer applies constraints, and sets schedules.

    How many steps were done is kept in the optimizer's first parameter group, and so is saved and loaded with its
    state: a run that is resumed goes on with the same strengths.

    Args:
        model: a module with penalties, or one that wraps such a module.
        optimizer: the one that trains it. Bind it before a learning-rate scheduler is made, because ``decay`` gives it
            further parameter groups.
        l1: the route of every L1: ``loss``, ``gradient`` (added to ``.grad`` before the step) or ``proximal`` (a soft
            threshold of ``lr * strength`` after it, with momentum by ``1 / (1 - momentum)`` more, by which weights
            become exactly zero; for SGD).
        l2: the route of every L2: ``loss``, ``gradient``, or ``decay``: the optimizer's own ``weight_decay``, twice the
            strength.
        group_lasso: the route of every group lasso: ``loss``, ``gradient`` or ``proximal``.
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
    routes: dict[str, Route] = {"l1": l1, "l2": l2, "group_lasso": group_lasso}
    roots = [each for _, each in outermost(model)]
    named = {name: (term, owner) for root in roots for name, term, owner in root._named_terms()}
    problems = _misnamed(routes, terms or {}, named)
    parts = [] if problems else [*_routed(named, routes, terms or {})]
    problems.extend(problem for part in parts for problem in _refused(part, optimizer, decoupled))
    scheduled = {name: part for name, (term, _) in named.items() for part in term.scheduled}
    if steps_per_epoch is None and (epochs := [name for name, part in scheduled.items() if part.needs_epochs]):
        what = f"the schedule of '{epochs[0]}' counts epochs, and an optimizer counts steps"
        problems.append(Problem(what, "bind(..., steps_per_epoch=len(loader))"))
    if any(root._is_bound for root in roots):
        problems.append(Problem("the model is bound already", "remove the binding that bind() gave first"))
    if problems:
        raise RegspecError([*dict.fromkeys(problems)])
    return _bound(roots, optimizer, parts, steps_per_epoch)


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
            hint = did_you_mean(name, named) or (
                f"there are {', '.join([*named][:SHOWN])}" if named else "there is none"
            )
            problems.append(Problem(f"no term is called '{name}'", hint))
        elif not isinstance(named[name][0], WeightTerm) and route != "loss":
            problems.append(Problem(f"'{name}' is of an output, which has the loss route only"))
    return problems


def _routed(
    named: Mapping[str, tuple[Any, Regularized]], routes: Mapping[str, Route], terms: Mapping[str, Route]
) -> Iterator[_Part]:
    """The parts of terms that leave the loss route."""
    known: dict[tuple[Tensor, ...], tuple[Regularized, tuple[str, ...]]] = {}
    for name, (term, owner) in named.items():
        if not isinstance(term, WeightTerm):
            continue
        parameters: tuple[Any, ...] = term.tensors(owner)
        if known.setdefault(parameters, (owner, term.parameters)) != (owner, term.parameters):
            continue  # tied to a weight that has a term
        for index, part in enumerate(term.parts):
            own = part.regularizer if isinstance(part, Scheduled) else part
            kind = KINDS.get(type(own), "other")
            route = terms.get(name, routes.get(kind, "loss"))
            if route != "loss":
                yield _Part(name, kind, route, term, index, parameters)


def _refused(part: _Part, optimizer: Optimizer, decoupled: bool) -> Iterator[Problem]:
    """The problems that rule out a part's route."""
    optimized = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    if any(parameter not in optimized for parameter in part.parameters):
        yield Problem(f"the weight of '{part.name}' is none of the optimizer's parameters")
    kind = type(optimizer).__name__
    if part.term.adds_parameters and part.route in ("decay", "proximal"):
        yield Problem(f"'{part.name}' is of the sum of two parameters, which has the loss and gradient routes only")
    elif part.route == "decay":
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


def _bound(roots: list[Regularized], optimizer: Optimizer, parts: list[_Part], steps_per_epoch: int | None) -> Binding:
    has_schedules = any(term.scheduled for root in roots for _, term, _ in root._named_terms())
    undo: list[Callable[[], None]] = []
    for root in roots:
        root._is_bound = True
        undo.append(partial(setattr, root, "_is_bound", False))
    for part in parts:
        part.put(part.route)
        undo.append(partial(part.put, "loss"))
    for root in roots:
        root._is_read = root._is_read or not any([*term.on_loss()] for _, term, _ in root._named_terms())
    decays = _Decays(optimizer, [part for part in parts if part.route == "decay"])
    undo.append(decays.remove)
    added = [part for part in parts if part.route == "gradient"]
    proximal = [part for part in parts if part.route == "proximal"]

    def before(optimizer: Optimizer, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if not added:
            return None
        closure = keywords.get("closure", arguments[1] if len(arguments) > 1 else None)
        if closure is None:
            scale = getattr(optimizer, "grad_scale", None)
            _add_gradients(added, torch.ones(()) if scale is None else scale)
            return None

        def closed() -> Any:
            """The user's closure, which computes the gradients anew, and then the penalties'."""
            loss = closure()
            _add_gradients(added, torch.ones(()))
            return loss

        return (optimizer, closed), {key: value for key, value in keywords.items() if key != "closure"}

    def after(optimizer: Optimizer, *_: Any) -> None:
        skipped = getattr(optimizer, "found_inf", None)  # of a fused optimizer, whose step GradScaler may skip
        if skipped is not None and skipped.item():
            return
        groups = optimizer.param_groups if proximal else []
        sizes = {parameter: _step_size(group) for group in groups for parameter in group["params"]}
        for part in proximal:
            _shrink(part, sizes)
        for root in roots:
            root.apply_constraints()
        if has_schedules:
            group = optimizer.param_groups[0]
            group[STEPS] = group.get(STEPS, 0) + 1
            schedule()

    def schedule(*_: Any) -> None:
        """Sets the strengths by how many steps the optimizer has done, which it saves and loads with its state."""
        steps = optimizer.param_groups[0].setdefault(STEPS, 0)
        for root in roots:
            root.set_schedules(steps, None if steps_per_epoch is None else steps // steps_per_epoch)
        decays.update()

    undo.append(optimizer.register_step_pre_hook(before).remove)
    undo.append(optimizer.register_step_post_hook(after).remove)
    if has_schedules:
        undo.append(lambda: optimizer.param_groups[0].pop(STEPS))
        undo.append(optimizer.register_load_state_dict_post_hook(schedule).remove)
        schedule()
    return Binding(undo)


class _Decays:
    """Further parameter groups of an optimizer, whose weight decay is that of their parameters' penalties."""

    def __init__(self, optimizer: Optimizer, parts: list[_Part]) -> None:
        self.optimizer = optimizer
        self.before = [[*group["params"]] for group in optimizer.param_groups]
        self.made: list[tuple[float, list[_Part]]] = []  # per new group: its decay without penalties, the parts
        own: dict[nn.Parameter, list[_Part]] = {}
        for part in parts:
            for parameter in part.parameters:
                own.setdefault(parameter, []).append(part)
        for group in [*optimizer.param_groups]:
            made: dict[Any, dict[str, Any]] = {}
            for parameter in group["params"]:
                if decaying := own.get(parameter):
                    # those that decay alike, now and later, are in one group
                    key = tuple((part.strength, part.scheduled and part.scheduled.schedules) for part in decaying)
                    if key not in made:
                        made[key] = {**group, "params": []}
                        self.made.append((group["weight_decay"], decaying))
                    made[key]["params"].append(parameter)
            group["params"] = [parameter for parameter in group["params"] if parameter not in own]
            optimizer.param_groups.extend(made.values())
        self.update()

    def update(self) -> None:
        """Sets the decay of each group by its penalties' strengths now."""
        first = len(self.before)
        for group, (decay, parts) in zip(self.optimizer.param_groups[first:], self.made, strict=False):
            group["weight_decay"] = decay + 2 * sum(part.strength for part in parts)

    def remove(self) -> None:
        """Puts the parameters into their groups again."""
        first = len(self.before)
        del self.optimizer.param_groups[first : first + len(self.made)]
        for group, parameters in zip(self.optimizer.param_groups, self.before, strict=False):
            group["params"] = parameters


@torch.no_grad()
def _add_gradients(parts: list[_Part], scale: Tensor) -> None:
    """Adds the gradients of parts to the ``.grad`` of their parameters, times a scale that the optimizer takes out."""
    groups: dict[tuple[Any, ...], list[Tensor]] = {}
    for part in parts:
        parameters = [parameter for parameter in part.parameters if parameter.requires_grad]
        if part.kind in ("l1", "l2") and not part.term.adds_parameters:
            strengths = (part.strength, 0.0) if part.kind == "l1" else (0.0, 2 * part.strength)
            for parameter in parameters:
                groups.setdefault((*strengths, parameter.dtype, parameter.device), []).append(parameter)
        elif parameters:
            with torch.enable_grad():
                weight = part.term.joined(part.parameters if part.term.adds_parameters else parameters)
                gradients = torch.autograd.grad(penalty_of(part.regularizer, weight), parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                gradient = gradient * (part.factor * scale)
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
    add_gradients([(l1, l2, xs) for (l1, l2, *_), xs in groups.items()], scale)


def _step_size(group: Mapping[str, Any]) -> Any:
    """How far a constant gradient of 1 moves a weight in a step of SGD, once momentum has built up.

    With the plain learning rate as the threshold, momentum m would weaken the penalty to (1 - m) times its strength,
    because the steps along the loss's gradient are 1 / (1 - m) times as long.
    """
    momentum = group["momentum"]
    return group["lr"] * (1 - group["dampening"]) / (1 - momentum) if 0 < momentum < 1 else group["lr"]


@torch.no_grad()
def _shrink(part: _Part, sizes: Mapping[Tensor, Any]) -> None:
    """The proximal step: a soft threshold of each weight, or of each group's norm, by the size of its step.

    Parikh and Boyd (2014), Proximal algorithms, sections 6.5.2 and 6.5.4.
    """
    for parameter in part.parameters:
        if not parameter.requires_grad or parameter.grad is None:
            continue  # the optimizer left it alone
        threshold = sizes[parameter] * part.strength
        if part.kind == "l1":
            parameter.copy_(parameter.sign() * (parameter.abs() - threshold).clamp_min(0))
            continue
        fill(parameter, part.regularizer.shrunk(whole(parameter), threshold))
