"""What happens at the steps of an optimizer that models are bound to.

The order in a step: the gradients of the loss, what the user does with them (scaling back, clipping), then the
gradient route's addition, the optimizer's step, the proximal steps, the constraints, the schedules.

Several models may be bound to one optimizer, and one model to several. Two ways were weighed: each binding has hooks of
its own, and they agree on who counts a step; or, as here, an optimizer has one `Steps`, which has the hooks, the count
and the further parameter groups, and goes through its bindings.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from regspec.modules.optimizers import (
    directions,
    is_nested,
    is_no_step,
    is_scaled,
    parameters_of,
    stands_still,
    step_size,
)
from regspec.runtime import Regularized
from regspec.runtime.kernels.fused import add_gradients
from regspec.runtime.kernels.sharded import fill, is_sharded, penalty_of, whole
from regspec.runtime.penalties.compiling import forget_compiled
from regspec.runtime.penalties.schedules import Scheduled
from regspec.runtime.penalties.terms import Listener, Seen, WeightTerm
from regspec.runtime.penalties.weights import owner_at, sources_at, tensor_at

Route = Literal["loss", "gradient", "decay", "proximal"]
STEPS = "regspec_steps"  # in the optimizer's first group, as learning-rate schedulers keep their initial_lr in groups
CHANGES = 3  # so often the weights may change between forwards before a warning that no step is seen


@dataclass(frozen=True)
class Part:
    """A part of a term, on a route other than the loss."""

    name: str
    kind: str  # l1, l2, group_lasso, other
    route: Route
    term: WeightTerm | Listener
    index: int  # in the term
    owner: Regularized
    parameters: tuple[nn.Parameter, ...]  # when it was bound; what the weight is computed from, if it is
    is_computed: bool
    direction: float = 1.0  # of an output's, whose gradient a climbing optimizer takes the other way

    @property
    def adds_parameters(self) -> bool:
        """Whether it is of the sum of several parameters."""
        return isinstance(self.term, WeightTerm) and self.term.adds_parameters

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
        if isinstance(self.term, Listener):
            self.term.direction = self.direction if self.term.carried else 1.0
            forget_compiled()

    def now(self) -> tuple[tuple[nn.Parameter, ...], bool]:
        """The parameters of the weight now, and whether it is computed from them.

        Raises:
            RuntimeError: where the weight is gone; or where it is another one, and the route is not the gradient's.
        """
        assert isinstance(self.term, WeightTerm)
        with _remove_first():
            parameters, is_computed = weights_of(self.owner, self.term)
        if not is_computed and _are_same(parameters, self.parameters):
            return self.parameters, False
        if self.route == "gradient" and not is_of_forward(self.owner, self.term):
            return parameters, is_computed
        what = "computed now, as by a parametrization" if is_computed else "another parameter"
        raise RuntimeError(f"the weight of '{self.name}', on the {self.route} route, has become {what}. {_AGAIN}")


_AGAIN = "Remove the binding, and bind the model again"


@contextmanager
def _remove_first() -> Iterator[None]:
    """Says of a weight that is gone what has to be done first, because a model that is bound keeps its penalties."""
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(f"{error}. Remove the binding before that") from None


def weights_of(owner: Regularized, term: WeightTerm) -> tuple[tuple[nn.Parameter, ...], bool]:
    """The parameters of a term's weight; where it is computed, those of the module that has it, and True.

    Raises:
        RuntimeError: where the weight is gone.
    """
    found = [sources_at(owner, way) for way in term.ways]
    parameters = [each for sources, _ in found for each in sources]
    is_computed = any(each for _, each in found)
    return tuple(dict.fromkeys(parameters) if is_computed else parameters), is_computed


def is_of_forward(owner: Regularized, term: WeightTerm) -> bool:
    """Whether a weight is computed in the forward, as pruning does: a backward frees its graph."""
    return any(way[-1] in vars(owner_at(owner, way)) for way in term.ways)


def _are_same(parameters: tuple[Any, ...], others: tuple[Any, ...]) -> bool:
    """Whether they are the same; FSDP puts a plain parameter in the place of a sharded one while a module computes."""
    pairs = [*zip(parameters, others, strict=True)] if len(parameters) == len(others) else [(None, 0)]
    return all(one is other or (is_sharded(other) and not is_sharded(one)) for one, other in pairs)


class Binding:
    """What `bind` did; `remove` takes it back. A copy of it is of nothing: a copied model is bound to no optimizer."""

    def __init__(
        self, roots: list[Regularized], optimizer: Optimizer, parts: list[Part], steps_per_epoch: int | None
    ) -> None:
        self.roots = roots
        self.parts = parts
        self.steps_per_epoch = steps_per_epoch
        self.optimizer: Optimizer | None = optimizer
        self._watched: tuple[nn.Parameter, Tensor] | None = None
        self._changes = 0
        self.is_watching = True  # whether no step was seen yet
        self.put()

    def put(self) -> None:
        """Puts the parts on their routes; nothing is changed where that fails."""
        assert self.optimizer is not None
        try:
            for module in self.modules():
                module._bindings.append(self)
            for part in self.parts:
                part.put(part.route)
            for root in self.roots:
                is_on_loss = any([*term.on_loss()] for _, term, _ in root._named_terms())
                root._is_read = root._is_read or not is_on_loss
            Steps.of(self.optimizer).add(self)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Puts its terms on the loss route again, and the optimizer's groups and hooks back as they were."""
        if self.optimizer is None:
            return
        optimizer, self.optimizer = self.optimizer, None
        for part in self.parts:
            part.put("loss")
        for module in self.modules():
            if self in module._bindings:
                module._bindings.remove(self)
        Steps.of(optimizer).discard(self)

    def modules(self) -> Iterator[Regularized]:
        """The modules with terms of their own."""
        for root in self.roots:
            for _, module in root._regularized():
                yield module

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = {"roots": [], "parts": [], "optimizer": None, "is_watching": False, "_watched": None}
        return {**self.__dict__, **state}

    def tied(self) -> Iterator[WeightTerm | Listener]:
        """The terms whose weights are tied to one that has a term, maybe since they were bound; they count once."""
        for root in self.roots if any(part.route == "gradient" for part in self.parts) else ():
            seen: Seen = {}
            for _, term, owner in root._named_terms():
                with _remove_first():
                    is_tied = isinstance(term, WeightTerm) and term.is_seen(owner, seen)
                if is_tied:
                    yield term

    # -- which of several bindings minds a term ------------------------------------------------------------------------

    def has_schedules(self) -> bool:
        """Whether a strength follows a schedule."""
        return any(term.scheduled for root in self.roots for _, term, _ in root._named_terms())

    def set_schedules(self, steps: int) -> None:
        """Sets the strengths that it minds to what they are after so many steps of the optimizer."""
        epochs = None if self.steps_per_epoch is None else steps // self.steps_per_epoch
        for root in self.roots:
            for _, term, owner in root._named_terms():
                if term.scheduled and (len(owner._bindings) < 2 or self._minds(_around(term, owner), owner)):
                    for part in term.scheduled:
                        part.set(steps, epochs)
                    term.refresh()

    def apply_constraints(self) -> None:
        """Projects the weights that it minds."""
        for module in self.modules():
            for constraint, paths in module._constraints.values():
                parameters = [tensor_at(module, tuple(path.split("."))) for path in paths]
                if len(module._bindings) < 2 or self._minds(parameters, module):
                    module._project(constraint, paths)

    def _minds(self, parameters: Collection[Any], owner: Regularized) -> bool:
        """Whether parameters are its optimizer's; of those that are no optimizer's, the first binding takes care."""
        of_whom = [
            each
            for each in owner._bindings
            if each.optimizer is not None and not parameters_of(each.optimizer).isdisjoint(parameters)
        ]
        return (of_whom or owner._bindings)[0] is self

    # -- steps that are not seen ---------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Warns where weights change from forward to forward, and no step is seen. Called by forwards in training."""
        if self.optimizer is None:
            return
        if self._watched is None:
            trained = [each for each in parameters_of(self.optimizer) if each.requires_grad]
            if trained:
                smallest = min(trained, key=Tensor.numel)
                self._watched = smallest, smallest.detach().clone()
            return
        parameter, before = self._watched
        if parameter.shape == before.shape and not bool((parameter.detach() != before).any()):
            return
        self._changes += 1
        self._watched = parameter, parameter.detach().clone()
        if self._changes == CHANGES:
            self.is_watching = False
            name = type(self.optimizer).__name__
            warnings.warn(
                f"weights of {name} change, but its step() was never called: routes, constraints and schedules act at "
                "its steps. Bind the model to the optimizer whose step() runs",
                UserWarning,
                stacklevel=4,
            )


def _around(term: Any, owner: Regularized) -> list[nn.Parameter]:
    """The parameters that say whose a term is: of a weight; of an output, those of the innermost module around it."""
    if isinstance(term, WeightTerm):
        return [*weights_of(owner, term)[0]]
    paths = [path for path, part in owner.named_modules() if term in part._forward_hooks.values()]
    path = paths[0] if paths else ""
    while path and not any(True for _ in owner.get_submodule(path).parameters()):
        path = path.rpartition(".")[0]
    return [*owner.get_submodule(path).parameters()]


# -- the steps of an optimizer -----------------------------------------------------------------------------------------


class Steps:
    """What bindings do at each step of one optimizer: the hooks, the count and the decays, of which each is once."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.bindings: list[Binding] = []
        self.decays = Decays(optimizer)
        self.hooks: list[Any] = []
        self.is_none = False  # whether the step that runs moves nothing

    @classmethod
    def of(cls, optimizer: Optimizer) -> Steps:
        """Those of an optimizer, which keeps them as long as it is bound."""
        steps: Steps | None = vars(optimizer).get("_regspec")
        return cls(optimizer) if steps is None else steps

    def add(self, binding: Binding) -> None:
        """From the next step on a binding acts."""
        if not self.bindings:
            self._begin()
        self.bindings.append(binding)
        self.decays.arrange(self._parts("decay"))
        self.set_schedules()

    def discard(self, binding: Binding) -> None:
        """A binding does not act any more, and leaves the others as they are."""
        if binding in self.bindings:
            self.bindings.remove(binding)
        self.decays.arrange(self._parts("decay"))
        if not any(each.has_schedules() for each in self.bindings):
            self.optimizer.param_groups[0].pop(STEPS, None)
        if not self.bindings:
            self._end()

    def _begin(self) -> None:
        optimizer: Any = self.optimizer
        self.hooks = [
            optimizer.register_step_pre_hook(self.before),
            optimizer.register_step_post_hook(self.after),
            optimizer.register_load_state_dict_post_hook(self.loaded),
        ]
        optimizer._regspec = self
        # Of an instance: pickle and copy ask it, and not its class. Torch's own leaves out hooks, and so the copy of an
        # optimizer is bound to nothing; its groups have to be as if it never was, for the copied model has its
        # penalties on the loss.
        optimizer.__getstate__ = self._state

    def _end(self) -> None:
        for hook in self.hooks:
            hook.remove()
        self.hooks = []
        for name in ("_regspec", "__getstate__"):
            vars(self.optimizer).pop(name, None)

    def _state(self) -> dict[str, Any]:
        """The state of a copy."""
        state: dict[str, Any] = type(self.optimizer).__getstate__(self.optimizer)
        kept = {name: each for name, each in state.items() if name not in ("_regspec", "__getstate__")}
        return {**kept, "param_groups": self.decays.originals()}

    def _parts(self, route: Route) -> list[Part]:
        return [
            part
            for binding in self.bindings
            for part in binding.parts
            if part.route == route and isinstance(part.term, WeightTerm)
        ]

    # -- hooks ---------------------------------------------------------------------------------------------------------

    def before(self, optimizer: Optimizer, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Adds gradients; where there is a closure, after it."""
        if is_nested(optimizer):
            return None
        for binding in self.bindings:
            binding.is_watching = False
        if self.is_none:  # the last step failed
            self.decays.update()
        for part in (*self._parts("decay"), *self._parts("proximal")):
            part.now()
        carried = [part.name for each in self.bindings for part in each.parts if isinstance(part.term, Listener)]
        if carried and is_scaled(optimizer):
            raise RuntimeError(
                f"GradScaler divides by a scale that the gradient of '{carried[0]}', on the gradient route, does not "
                "have: put it on the loss route, or train in bfloat16, which needs no scale"
            )
        closure = keywords.get("closure", arguments[1] if len(arguments) > 1 else None)
        tied = {term for each in self.bindings for term in each.tied()}
        added = [part for part in self._parts("gradient") if part.term not in tied]
        self.is_none = closure is None and is_no_step(optimizer)
        if self.is_none:
            self.decays.update(is_off=True)  # moments would begin with it
            return None
        if not added:
            return None
        signs = directions(optimizer.param_groups)
        if closure is None:
            scale = getattr(optimizer, "grad_scale", None)
            _add_gradients(added, torch.ones(()) if scale is None else scale, signs)
            return None

        def closed() -> Any:
            """The user's closure, which computes the gradients anew, and then the penalties'.

            The loss has the penalties too, because a line search, as LBFGS has one, compares it with its gradient.
            """
            loss = closure()
            with torch.no_grad():
                penalty = _penalty(added, signs)
            _add_gradients(added, torch.ones(()), signs)
            if penalty is None or loss is None:
                return loss
            return loss + (penalty.to(loss) if isinstance(loss, Tensor) else penalty.item())

        return (optimizer, closed), {key: value for key, value in keywords.items() if key != "closure"}

    def after(self, optimizer: Optimizer, *_: Any) -> None:
        """Shrinks, projects and counts."""
        if is_nested(optimizer):
            return
        if self.is_none:
            self.is_none = False
            self.decays.update()
            return
        skipped = getattr(optimizer, "found_inf", None)  # of a fused optimizer, whose step GradScaler may skip
        if skipped is not None and skipped.item():
            return
        proximal = self._parts("proximal")
        groups = optimizer.param_groups if proximal else []
        sizes = {parameter: step_size(group) for group in groups for parameter in group["params"]}
        for part in proximal:
            _shrink(part, sizes)
        constrained = [each for each in self.bindings if any(module._constraints for module in each.modules())]
        if constrained and not stands_still(optimizer):
            for binding in constrained:
                binding.apply_constraints()
        if any(binding.has_schedules() for binding in self.bindings):
            group = optimizer.param_groups[0]
            group[STEPS] = group.get(STEPS, 0) + 1
            self.set_schedules()

    def loaded(self, *_: Any) -> None:
        """A state that is loaded brings its count; its decays are of the strengths that there were."""
        self.decays.update()
        self.set_schedules()

    def set_schedules(self) -> None:
        """Sets the strengths by how many steps the optimizer has done, which it saves and loads with its state."""
        scheduled = [each for each in self.bindings if each.has_schedules()]
        if scheduled:
            steps = self.optimizer.param_groups[0].setdefault(STEPS, 0)
            for binding in scheduled:
                binding.set_schedules(steps)
            self.decays.update()


# -- the decay route ---------------------------------------------------------------------------------------------------


class Decays:
    """Further parameter groups of an optimizer, whose weight decay is that of their parameters' penalties.

    Groups are known by their parameters, because an optimizer makes them anew when it loads a state.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.orders: list[list[nn.Parameter]] = []  # the parameters of each group, as they were before any was added
        self.parts: dict[nn.Parameter, list[Part]] = {}  # of those that are in further groups

    def _groups(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The groups that the user made, and those that were added here."""
        own: list[dict[str, Any]] = []
        added: list[dict[str, Any]] = []
        for group in self.optimizer.param_groups:
            (added if group["params"] and group["params"][0] in self.parts else own).append(group)
        return own, added

    def arrange(self, parts: Iterable[Part]) -> None:
        """Has the parameters of these parts in further groups, and all others where the user has put them."""
        own, added = self._groups()
        if not self.parts:
            self.orders = []
        self.orders += [[*group["params"]] for group in own[len(self.orders) :]]
        held = {parameter: group for group in added for parameter in group["params"]}
        decaying: dict[nn.Parameter, list[Part]] = {}
        for part in parts:
            for parameter in part.parameters:
                decaying.setdefault(parameter, []).append(part)
        made: list[dict[str, Any]] = []
        for group, order in zip(own, self.orders, strict=True):
            alike: dict[Any, dict[str, Any]] = {}
            for parameter in order:
                if own_parts := decaying.get(parameter):
                    # those that decay alike, now and later, are in one group
                    key = tuple((part.strength, part.scheduled and part.scheduled.schedules) for part in own_parts)
                    before = held.get(parameter, group)
                    if (key, id(before)) not in alike:
                        options = {name: value for name, value in before.items() if name != STEPS}
                        alike[key, id(before)] = {**options, "params": []}
                    alike[key, id(before)]["params"].append(parameter)
            group["params"] = [parameter for parameter in order if parameter not in decaying]
            made += alike.values()
        self.parts = decaying
        self.optimizer.param_groups[:] = [*own, *made]
        self.update()

    def update(self, *, is_off: bool = False) -> None:
        """Sets the decay of each further group by its penalties' strengths now, or to what it is without them."""
        if not self.parts:
            return
        own, added = self._groups()
        origins = {parameter: group for group, order in zip(own, self.orders, strict=False) for parameter in order}
        for group in added:
            first = group["params"][0]
            penalties = 0.0 if is_off else 2 * sum(part.strength for part in self.parts[first])
            group["weight_decay"] = origins[first]["weight_decay"] + penalties

    def originals(self) -> list[dict[str, Any]]:
        """The groups as they would be without further ones."""
        own, _ = self._groups()
        orders = self.orders if self.parts else []
        return [
            {**group, "params": orders[index] if index < len(orders) else group["params"]}
            for index, group in enumerate(own)
        ]


# -- the gradient route ------------------------------------------------------------------------------------------------


def _add_gradients(parts: list[Part], scale: Tensor, signs: Mapping[nn.Parameter, float]) -> None:
    """Adds the gradients of parts to the ``.grad`` of their parameters.

    They are times a scale that the optimizer takes out, and against the gradient for one that climbs along it.
    """
    groups: dict[tuple[Any, ...], list[Tensor]] = {}
    for part in parts:
        parameters, is_computed = part.now()
        moving = [parameter for parameter in parameters if parameter.requires_grad]
        trained = [parameter for parameter in moving if parameter in signs]
        if moving and not trained:
            raise RuntimeError(f"the weight of '{part.name}' is none of the optimizer's parameters any more. {_AGAIN}")
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
                    gradient = gradient * (part.factor * scale * signs[parameter])
                    parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
    with torch.no_grad():
        add_gradients([(l1, l2, xs) for (l1, l2, *_), xs in groups.items()], scale)


def _gradients(penalty: Tensor | None, parameters: list[nn.Parameter]) -> list[Tensor | None]:
    if penalty is None or not penalty.requires_grad:
        return [None] * len(parameters)
    return [*torch.autograd.grad(penalty, parameters, allow_unused=True)]


def _own_penalty(part: Part, parameters: tuple[nn.Parameter, ...], is_computed: bool) -> Tensor | None:
    """The penalty of a part's weight as it is now, its schedule apart; None where it is frozen."""
    assert isinstance(part.term, WeightTerm)
    weight: Tensor | None
    if is_computed:
        weight = part.term.weight(part.owner)
    elif part.adds_parameters or all(parameter.requires_grad for parameter in parameters):
        weight = part.term.joined(parameters)
    else:
        weight = None
    return None if weight is None else penalty_of(part.regularizer, weight)


def _penalty(parts: list[Part], signs: Mapping[nn.Parameter, float]) -> Tensor | None:
    """The sum of the penalties of parts, less those of parameters that climb; None where all weights are frozen."""
    penalties = []
    for part in parts:
        parameters, is_computed = part.now()
        trained = [parameter for parameter in parameters if parameter.requires_grad and parameter in signs]
        penalty = _own_penalty(part, parameters, is_computed) if trained else None
        if penalty is not None:
            penalties.append(part.factor * signs[trained[0]] * penalty)
    return torch.stack([each.to(penalties[0]) for each in penalties]).sum() if penalties else None


# -- the proximal route ------------------------------------------------------------------------------------------------


@torch.no_grad()
def _shrink(part: Part, sizes: Mapping[Tensor, Any]) -> None:
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
