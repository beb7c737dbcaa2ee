"""What happens at the steps of an optimizer that models are bound to.

The order in a step: the gradients of the loss, what the user does with them (scaling back, clipping), then the
gradient route's addition, the optimizer's step, the proximal steps, the constraints, the schedules.

Several models may be bound to one optimizer, and one model to several. Two ways were weighed: each binding has hooks of
its own, and they agree on who counts a step; or, as here, an optimizer has one `Steps`, which has the hooks, the count
and the further parameter groups, and goes through its bindings.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from regspec.modules.decays import STEPS, Decays
from regspec.modules.optimizers import (
    directions,
    is_nested,
    is_no_step,
    is_scaled,
    parameters_of,
    stands_still,
)
from regspec.modules.parts import Part, Route, removed_first, weights_of
from regspec.modules.proximal import ProximalSteps
from regspec.modules.routes import add_gradients, penalty_on_gradient
from regspec.runtime import Regularized
from regspec.runtime.kernels.sharded import shard
from regspec.runtime.penalties.listeners import Listener, listeners_of
from regspec.runtime.penalties.state import Penalized, penalized_in, project, terms_in
from regspec.runtime.penalties.terms import Seen, WeightTerm
from regspec.runtime.penalties.units import UnitTerm
from regspec.runtime.penalties.weights import tensor_at

CHANGES = 3  # so often the weights may change between forwards before a warning that no step is seen


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
                module._regspec.bindings.append(self)
            for part in self.parts:
                part.put(part.route)
            Steps.of(self.optimizer).add(self)
        except BaseException:  # an interrupt too: it is bound whole or not at all
            self.remove()
            raise

    def remove(self) -> None:
        """Puts its terms on the loss route again, and the optimizer's groups and hooks back as they were."""
        if self.optimizer is None:
            return
        optimizer, self.optimizer = self.optimizer, None
        for part in self.parts:
            part.put("loss")
        for root in self.roots:
            root._regspec.watched = 0  # what is put on the loss has to be read from now on
        for module in self.modules():
            if self in module._regspec.bindings:
                module._regspec.bindings.remove(self)
        Steps.of(optimizer).discard(self)

    def modules(self) -> Iterator[Penalized]:
        """The modules with terms of their own."""
        for root in self.roots:
            for _, module in penalized_in(root):
                yield module

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = {"roots": [], "parts": [], "optimizer": None, "is_watching": False, "_watched": None}
        return {**self.__dict__, **state}

    def tied(self) -> Iterator[WeightTerm | Listener]:
        """The terms whose weights are tied to one that has a term, maybe since they were bound; they count once."""
        for root in self.roots if any(part.route == "gradient" for part in self.parts) else ():
            seen = Seen(root)
            for term, owner in terms_in(root):
                try:
                    is_tied = isinstance(term, WeightTerm) and term.is_seen(owner, seen)
                    if isinstance(term, UnitTerm) and not is_tied and "gradient" in term.routes:
                        term.refuse_ties(owner, seen)
                except RuntimeError as error:
                    raise removed_first(error) from None
                if is_tied:
                    yield term

    # -- which of several bindings minds a term ------------------------------------------------------------------------

    def has_schedules(self) -> bool:
        """Whether a strength follows a schedule."""
        return any(term.scheduled for root in self.roots for term, _ in terms_in(root))

    def set_schedules(self, steps: int) -> None:
        """Sets the strengths that it minds to what they are after so many steps of the optimizer."""
        epochs = None if self.steps_per_epoch is None else steps // self.steps_per_epoch
        for root in self.roots:
            for term, owner in terms_in(root):
                if term.scheduled and (len(owner._regspec.bindings) < 2 or self._minds(_around(term, owner), owner)):
                    for part in term.scheduled:
                        part.set(steps, epochs)
                    term.refresh()

    def apply_constraints(self) -> None:
        """Projects the weights that it minds."""
        for module in self.modules():
            for constraint, paths in module._regspec.constraints.values():
                parameters = [tensor_at(module, tuple(path.split("."))) for path in paths]
                if len(module._regspec.bindings) < 2 or self._minds(parameters, module):
                    project(module, constraint, paths)

    def _minds(self, parameters: Collection[Any], owner: Penalized) -> bool:
        """Whether parameters are its optimizer's; of those that are no optimizer's, the first binding takes care."""
        of_whom = [
            each
            for each in owner._regspec.bindings
            if each.optimizer is not None and not parameters_of(each.optimizer).isdisjoint(parameters)
        ]
        return (of_whom or owner._regspec.bindings)[0] is self

    # -- steps that are not seen ---------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Warns where weights change from forward to forward, and no step is seen. Called by forwards in training."""
        if self.optimizer is None:
            return
        if self._watched is None:
            trained = [each for each in parameters_of(self.optimizer) if each.requires_grad]
            if trained:
                smallest = min(trained, key=Tensor.numel)
                self._watched = smallest, _own_shard(smallest).clone()
            return
        parameter, before = self._watched
        now = _own_shard(parameter)
        if now.shape == before.shape and not bool((now != before).any()):
            return
        self._changes += 1
        self._watched = parameter, now.clone()
        if self._changes == CHANGES:
            self.is_watching = False
            name = type(self.optimizer).__name__
            warnings.warn(
                f"weights of {name} change, but its step() was never called: routes, constraints and schedules act at "
                "its steps. Bind the model to the optimizer whose step() runs",
                UserWarning,
                stacklevel=3,
            )


def _own_shard(parameter: nn.Parameter) -> Tensor:
    """The numbers that this process has, without a message to others."""
    return shard(parameter.detach())


def _around(term: Any, owner: Penalized) -> list[nn.Parameter]:
    """The parameters that say whose a term is: of a weight; of an output, those of the innermost module around it."""
    if isinstance(term, WeightTerm):
        return [*weights_of(owner, term)[0]]
    paths = [path for path, part in owner.named_modules() if term in listeners_of(part)]
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
        self.parts: dict[Route, list[Part]] = {}  # of weights, by route
        self.proximal = ProximalSteps(())
        self.carried: list[Part] = []  # of outputs
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
        self._arrange()
        self.set_schedules()

    def discard(self, binding: Binding) -> None:
        """A binding does not act any more, and leaves the others as they are."""
        if binding in self.bindings:
            self.bindings.remove(binding)
        self._arrange()
        if not any(each.has_schedules() for each in self.bindings):
            self.optimizer.param_groups[0].pop(STEPS, None)
        if not self.bindings:
            self._end()

    def _begin(self) -> None:
        optimizer: Any = self.optimizer
        disable: Any = torch.compiler.disable  # a compiled step would take state of the first weight for that of others
        self.hooks = [
            optimizer.register_step_pre_hook(disable(self.before)),
            optimizer.register_step_post_hook(disable(self.after)),
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

    def _arrange(self) -> None:
        """Sorts the parts of the bindings, and has the parameters that decay in groups of their own."""
        parts = [part for binding in self.bindings for part in binding.parts]
        of_weights = [part for part in parts if isinstance(part.term, WeightTerm)]
        self.parts = {route: [part for part in of_weights if part.route == route] for route in get_args(Route)}
        self.carried = [part for part in parts if isinstance(part.term, Listener)]
        self.proximal = ProximalSteps(self.parts["proximal"])
        self.decays.arrange(self.parts["decay"])

    # -- hooks ---------------------------------------------------------------------------------------------------------

    def before(self, optimizer: Optimizer, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Adds gradients; where there is a closure, after it."""
        if is_nested(optimizer):
            return None
        for binding in self.bindings:
            binding.is_watching = False
        if self.is_none:  # the last step failed
            self.decays.update()
        for part in (*self.parts["decay"], *self.parts["proximal"]):
            part.now()
        if self.carried and is_scaled(optimizer):
            raise RuntimeError(
                f"GradScaler divides by a scale that the gradient of '{self.carried[0].name}', on the gradient route, "
                "does not have: put it on the loss route, or train in bfloat16, which needs no scale"
            )
        closure = keywords.get("closure", arguments[1] if len(arguments) > 1 else None)
        tied = {term for each in self.bindings for term in each.tied()}
        added = [part for part in self.parts["gradient"] if part.term not in tied]
        self.is_none = closure is None and is_no_step(optimizer)
        if self.is_none:
            self.decays.update(is_off=True)  # moments would begin with it
            return None
        if not added:
            return None
        signs = directions(optimizer.param_groups)
        if closure is None:
            scale = getattr(optimizer, "grad_scale", None)
            now = [(part, part.now()) for part in added]
            add_gradients(now, torch.ones(()) if scale is None else scale, signs)
            return None

        def closed() -> Any:
            """The user's closure, which computes the gradients anew, and then the penalties'.

            The loss has the penalties too, because a line search, as LBFGS has one, compares it with its gradient.
            """
            loss = closure()
            now = [(part, part.now()) for part in added]
            with torch.no_grad():
                penalty = penalty_on_gradient(now, signs)
            add_gradients(now, torch.ones(()), signs)
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
        if self.parts["proximal"]:
            self.proximal.act(optimizer)
        constrained = [each for each in self.bindings if any(module._regspec.constraints for module in each.modules())]
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
