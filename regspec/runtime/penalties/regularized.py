"""A module that collects its own penalties.

Weight terms are computed when they are read. Outputs are noted by forward hooks, while the forward of the outermost
`Regularized` module runs, and belong to that module until its next forward: so a block that is shared by two models, or
called by itself, gives each its own values, and nothing has to be cleared by hand.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import Any
from weakref import WeakMethod

import torch
from torch import Tensor, nn

from regspec.runtime.kernels.fused import is_plain
from regspec.runtime.kernels.sharded import fill, is_sharded, joined, refuse_flat_parameters, shard, whole
from regspec.runtime.penalties.compiling import forget_compiled, guard_hooks
from regspec.runtime.penalties.notebook import module_html
from regspec.runtime.penalties.passes import is_for_parameters, is_in_backward, is_part_of_script, is_recorded
from regspec.runtime.penalties.readings import Reading, tensors
from regspec.runtime.penalties.terms import (
    CARRIED,
    Heard,
    Listener,
    Regularizer,
    Seen,
    WeightTerm,
    listening,
    settled,
    unchanged,
    without_listeners,
)
from regspec.runtime.penalties.totals import Total
from regspec.runtime.penalties.weights import tensor_at

WATCHED = 3  # forwards in training after which a backward warns if the penalties were not read


class Regularized(nn.Module):
    """A module with penalties on its weights and on its submodules' outputs.

    Example:
        >>> class Net(Regularized):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.hidden = nn.Linear(4, 3)
        ...         self.add_weight_terms(torch.linalg.vector_norm, {"hidden.kernel": "hidden.weight"})
        ...     def forward(self, x):
        ...         return self.hidden(x)
        >>> list(Net().regularization_terms())
        ['hidden.kernel']
    """

    _terms: dict[str, WeightTerm | Listener]
    _constraints: dict[str, tuple[Callable[[Tensor], Tensor], tuple[str, ...]]]
    _heard: list[Heard]  # in the last forward, or in several that are accumulated
    _accumulates: bool
    _is_read: bool  # whether anybody has ever asked for the penalties
    _watched: int  # how many forwards in training were watched
    _has_run: bool  # whether a forward has ended that was not compiled
    _attached: list[str]  # the terms that `regspec.regularize` gave it
    _bindings: list[Any]  # to optimizers, by `regspec.bind`

    def __init__(self) -> None:
        super().__init__()
        self._begin()

    def _begin(self) -> None:
        """No terms, no constraints, nothing heard."""
        self._terms = {}
        self._constraints = {}
        self._heard = []
        self._accumulates = False
        self._is_read = False
        self._watched = 0
        self._has_run = False
        self._attached = []
        self._bindings = []

    # -- what is regularized ------------------------------------------------------------------------------------------

    def add_weight_terms(
        self,
        regularizer: Regularizer,
        weights: Mapping[str, str | tuple[str, ...]],
        *,
        counts_frozen: bool = False,
        adds_parameters: bool = False,
    ) -> None:
        """Adds a term for each parameter: the term's name -> the parameter's path, or paths of several to stack.

        While a parameter is frozen its term has no value; with ``counts_frozen`` it has one, without a gradient. With
        ``adds_parameters`` the weight is the sum of several. A parameter that two terms have, by different paths, has
        the first one's penalty.

        Raises:
            ValueError: where there is a term of the name already.
        """
        for name, paths in weights.items():
            own = (paths,) if isinstance(paths, str) else paths
            self._add_term(name, WeightTerm(regularizer, own, counts_frozen, adds_parameters))

    def add_activity_terms(
        self,
        regularizer: Regularizer,
        outputs: Mapping[str, str],
        *,
        reduction: str = "mean",
        reading: Reading | None = None,
    ) -> None:
        """Adds a term for each module's output: term's name -> path of the module.

        With ``reduction="mean"`` the penalty is divided by the batch size, the output's first axis; with "sum" it is
        not. Of an output that is a tuple, a list or a mapping, every floating-point tensor counts. A ``reading`` says
        otherwise: which tensor counts, and which axis is the batch.

        Raises:
            ValueError: where there is a term of the name already.
            AttributeError: where a path leads to no module.
        """
        for name, path in outputs.items():
            module = self.get_submodule(path)
            listener = Listener(regularizer, reduction, reading)
            self._add_term(name, listener)
            module.register_forward_hook(listener)
        forget_compiled()

    def _add_term(self, name: str, term: WeightTerm | Listener) -> None:
        if name in self._terms:
            raise ValueError(f"there is a term '{name}' already")
        self._terms[name] = term

    def add_constraints(
        self, constraint: Callable[[Tensor], Tensor], weights: Mapping[str, str | tuple[str, ...]]
    ) -> None:
        """Adds a constraint to each parameter: its name -> the parameter's path, or paths of several to stack."""
        for name, paths in weights.items():
            self._constraints[name] = (constraint, (paths,) if isinstance(paths, str) else paths)

    @torch.no_grad()
    def apply_constraints(self) -> None:
        """Projects the weights that have constraints, except frozen ones; call it after each step of the optimizer."""
        for _, module in self._regularized():
            for constraint, paths in module._constraints.values():
                module._project(constraint, paths)

    @torch.no_grad()
    def _project(self, constraint: Callable[[Tensor], Tensor], paths: tuple[str, ...]) -> None:
        """Projects a weight, a parameter or several that are stacked, unless it is frozen."""
        parameters = [tensor_at(self, tuple(path.split("."))) for path in paths]
        if not parameters[0].requires_grad:
            return
        if len(parameters) == 1:
            fill(parameters[0], constraint(whole(parameters[0])))
        else:
            projected = constraint(torch.stack([whole(each) for each in parameters]))
            for parameter, value in zip(parameters, projected, strict=True):
                fill(parameter, value)

    # -- the penalties ------------------------------------------------------------------------------------------------

    def regularization_terms(self, *, detach: bool = False) -> dict[str, Tensor]:
        """The penalty of each term by name, a scalar tensor each; activity terms are those of the last forward.

        An activity term has no value before the first forward, a frozen weight none at all: they are left out. With
        ``detach`` they have no gradient, and cost no synchronisation with a GPU until they are read.
        """
        self._is_read = True
        refuse_flat_parameters(self)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not detach):
            measured: dict[Listener, Tensor] = {}
            listeners = {term for _, term, _ in self._named_terms() if isinstance(term, Listener)}
            for listener, x, output, version, share in self._heard_by(listeners):
                parts = listener.on_loss() if listener.carried else None  # those that are carried were heard alone
                penalty = x if output is None else listener.penalty(unchanged(x, output, version), parts, share)
                measured[listener] = measured[listener] + penalty if listener in measured else penalty
            penalties: dict[str, Tensor] = {}
            seen: Seen = {}
            pieces: dict[str, Tensor] = {}  # the weights of which a penalty is that of this rank's shard, until the end
            for name, term, module in self._named_terms():
                if isinstance(term, Listener):
                    penalty_now = measured.get(term)
                elif (weight := term.weight(module, seen)) is None:
                    penalty_now = None
                elif term.adds_up and is_sharded(weight):
                    penalty_now = term.penalty(shard(weight))
                    pieces[name] = weight
                else:
                    penalty_now = term.penalty(weight)
                if penalty_now is not None:
                    penalties[name] = penalty_now
            if pieces:
                values = joined([(penalties[name], weight) for name, weight in pieces.items()])
                penalties.update(zip(pieces, values, strict=True))
        return {name: penalty.detach() for name, penalty in penalties.items()} if detach else penalties

    def regularization_loss(self) -> Tensor:
        """The sum of all penalties, a scalar tensor to add to the loss. All L1 and L2 terms are one node of the graph.

        A sum that is not finite is named, term by term, in a warning.

        Raises:
            RuntimeError: in training, where strengths follow schedules that nothing sets; and where an output with a
                penalty was not computed in the model's own call.
        """
        # setting a module's attribute costs a microsecond; compiled code would guard on it if it read it, and recompile
        if torch.compiler.is_compiling() or not self._is_read:
            self._is_read = True
        refuse_flat_parameters(self)
        total = Total()
        listeners: set[Listener] = set()
        seen: Seen = {}
        for _, module in self._regularized():
            for term in module._terms.values():
                if isinstance(term, Listener):
                    if not term.carried or term.on_loss():
                        listeners.add(term)
                elif (weight := term.weight(module, seen)) is not None:
                    total.add(term, weight, 1.0)
                if term.scheduled and not term.scheduled[0].is_set and self.training and torch.is_grad_enabled():
                    raise RuntimeError(_UNSET)
        for listener, x, output, version, share in self._heard_by(listeners):
            if output is None:
                if version != CARRIED:
                    total.penalties.append(x)
            else:
                total.add(listener, unchanged(x, output, version), share)
        loss = total.sum()
        if loss is None:
            parameter = next(self.parameters(), None)
            return torch.zeros((), device=None if parameter is None else parameter.device)
        if total.can_fuse and is_plain(loss) and not loss.is_cuda and not math.isfinite(loss.item()):
            names = self._not_finite()
            warnings.warn(f"the regularization loss is {loss.item()}: {', '.join(names)}", RuntimeWarning, stacklevel=2)
        return loss

    def _heard_by(self, listeners: set[Listener]) -> list[Heard]:
        """What the model's own listeners heard: in the forward that runs, or else in the last one.

        Raises:
            RuntimeError: where a listener's module was called, but not by the model.
        """
        running = [each for each in listening.heard or () if each[0] in listeners]
        heard = running or [each for each in self._heard if each[0] in listeners]
        if missing := listeners.difference([each[0] for each in heard]):  # one may be heard several times
            named = [(name, term) for name, term, _ in self._named_terms() if isinstance(term, Listener)]
            self._ask_why([(name, term) for name, term in named if term in missing])
        return heard

    def _ask_why(self, silent: list[tuple[str, Listener]]) -> None:
        """Raises, or warns once, where listeners have no value for another reason than that no forward has run."""
        if missed := [name for name, listener in silent if listener.is_missed]:
            raise RuntimeError(f"the output of {', '.join(missed)} was computed outside of {_CALL}")
        if not self._has_run:
            return
        hooks = [hook for module in self.modules() for hook in module._forward_hooks.values()]
        heard = {hook for hook in hooks if isinstance(hook, Listener)}
        if lost := [name for name, listener in silent if listener not in heard]:
            raise RuntimeError(f"{', '.join(lost)}: the module that is listened to is no longer in the model")
        never = [name for name, listener in silent if not listener.is_called]
        for _, listener in silent:
            listener.is_called = True
        if never and not torch.compiler.is_compiling():
            what = f"{', '.join(never)}: nothing was heard, so there is no penalty"
            why = "the forward does not call the module (it may use its weight alone), or gets no numbers from it"
            warnings.warn(f"{what}: {why}", stacklevel=4)

    def _not_finite(self) -> list[str]:
        """The terms that are not finite; with shards, those whose output or own shard is not.

        Shards are not summed over ranks here: if the loss is not finite on this rank alone, no other would join in.
        """
        weights = [(term, term.weight(owner)) for _, term, owner in self._named_terms() if isinstance(term, WeightTerm)]
        known = [(term, x) for term, x in (*weights, *(each[:2] for each in self._heard)) if x is not None]
        if not any(is_sharded(x) for _, x in known):
            return [name for name, value in self.regularization_terms(detach=True).items() if not value.isfinite()]
        bad = {term for term, x in known if not shard(x.detach()).isfinite().all()}
        return [name for name, term, _ in self._named_terms() if term in bad] or [
            "by shards of other ranks, or by a sum"
        ]

    def set_schedules(self, step: int, epoch: int | None = None) -> None:
        """Sets the strengths that follow schedules to what they are after so many steps of the optimizer, and epochs.

        `regspec.bind` does so after each step; without it, call this before the first step and after each one.

        Raises:
            ValueError: where a schedule counts epochs, and none are given.
        """
        for _, term, _ in self._named_terms():
            for part in term.scheduled:
                part.set(step, epoch)
            term.refresh()

    def _named_terms(self) -> Iterator[tuple[str, WeightTerm | Listener, Regularized]]:
        """Every term by its full name, with the module that has it."""
        for prefix, module in self._regularized():
            for name, term in module._terms.items():
                yield f"{prefix}.{name}" if prefix else name, term, module

    def _regularized(self) -> Iterator[tuple[str, Regularized]]:
        """The modules that may have terms or constraints of their own, itself among them, by name; each once."""
        yield "", self
        yield from _inner(self, "", {self})

    # -- the forward --------------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if listening.heard is not None or torch.compiler.is_exporting() or is_in_backward() or is_recorded():
            return super().__call__(*args, **kwargs)
        heard: list[Heard] = []
        if torch.compiler.is_compiling():
            self._heard = [*self._heard] if self._accumulates else []  # reading it would be a guard
        else:
            guard_hooks(Regularized)
            if not self._accumulates:
                self._heard.clear()
        listening.heard, listening.has_gradients = heard, torch.is_grad_enabled()
        try:
            output = super().__call__(*args, **kwargs)
        finally:
            listening.heard = None
        if not torch.compiler.is_compiling():
            if heard:
                heard = settled(heard)
            if not self._is_read and self.training:
                self._watch(output)
            if self._bindings and self.training and torch.is_grad_enabled():
                for binding in self._bindings:
                    if binding.is_watching:
                        binding.watch()
            if not self._has_run:
                self._has_run = True
            if not self._accumulates:
                self._heard.clear()  # what another thread may have noted
        self._heard.extend(heard)
        return output

    def _watch(self, output: Any) -> None:
        """Warns, once, when a backward to parameters reaches an output and nobody has asked for the penalties.

        Only the first steps are watched: a loop that reads the loss does so in each step.
        """
        if self._watched == WATCHED:
            return
        self._watched += 1
        for x in tensors(output):
            if x.requires_grad:
                x.register_hook(partial(_called_if_alive, WeakMethod(self._warn_if_unread)))
                return

    def _warn_if_unread(self, gradient: Tensor) -> None:
        if not self._is_read and is_for_parameters(self) and (names := self._on_loss()):
            self._is_read = True
            shown = ", ".join(names[:5]) + ", …" * (len(names) > 5)
            what = f"a backward ran, but nobody has read the regularization loss of {shown}"
            warnings.warn(f"{what}: add model.regularization_loss() to the loss", UserWarning, stacklevel=2)

    def _on_loss(self) -> list[str]:
        """The terms that would train something if the loss were read: on the loss, of no frozen weight, and each once.

        No weight is computed for what is on another route: a spectral norm would take a step of its power iteration.
        """
        seen: Seen = {}
        return [
            name
            for name, term, module in self._named_terms()
            if (isinstance(term, Listener) or not term.is_seen(module, seen))
            and term.on_loss()
            and (isinstance(term, Listener) or term.is_trained(module))
        ]

    def _repr_html_(self) -> str:
        """Itself in a notebook: a line, and on demand its layers and its terms. Penalties are not computed for it."""
        return module_html(self, {name: term.parts for name, term, _ in self._named_terms()})

    # -- copies -------------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]  # torch's method has no types
        return {**state, **self._state_of_copies()}

    def _state_of_copies(self) -> dict[str, Any]:
        """What differs in a copy: it is bound to no optimizer, and has heard nothing.

        Penalties belong to a forward, and not to the module; and tensors with a graph can't be copied.
        """
        terms = {name: term.unbound() for name, term in self._terms.items()}
        return {"_terms": terms, "_heard": [], "_bindings": []}

    def _replicate_for_data_parallel(self) -> Any:
        """A replica, of which `nn.DataParallel` makes one for each device, and forgets them after the forward.

        Raises:
            RuntimeError: where outputs have penalties: each replica would have those of its part of the batch.
        """
        if outputs := [name for name, term, _ in self._named_terms() if isinstance(term, Listener)]:
            raise RuntimeError(
                f"{', '.join(outputs[:5])}: nn.DataParallel runs replicas, whose outputs are lost to the penalties: "
                "take DistributedDataParallel"
            )
        return super()._replicate_for_data_parallel()  # type: ignore[no-untyped-call]  # torch's method has no types

    def __prepare_scriptable__(self) -> nn.Module:
        """What `torch.jit.script` compiles: a twin that shares the parameters, and has no penalties.

        Raises:
            RuntimeError: where it is a part of what is compiled, in which torch would leave the twin for good.
        """
        if "_terms" not in self.__dict__:
            return self  # it is a part of such a twin
        if is_part_of_script():
            raise RuntimeError(
                f"torch.jit.script of a model with a {type(self).__name__} in it would take the penalties off that: "
                "script a copy.deepcopy of the model, after regspec.unregularize, or use torch.jit.trace"
            )
        shared: dict[int, Any] = {id(x): x for x in (*self.parameters(), *self.buffers())}
        twin = without_listeners(deepcopy(self, shared))
        for part in twin.modules():
            if isinstance(part, Regularized):
                for name in Regularized.__annotations__:
                    part.__dict__.pop(name, None)
        return twin


def _called_if_alive(method: WeakMethod[Any], gradient: Tensor) -> None:
    """Calls a method by a weak reference, so that the graph does not keep its object alive."""
    if (found := method()) is not None:
        found(gradient)


def _inner(module: nn.Module, prefix: str, seen: set[nn.Module]) -> Iterator[tuple[str, Regularized]]:
    """The `Regularized` modules inside one; `named_modules` would take longer, because most modules hold no others."""
    for name, child in module._modules.items():
        if child is None or child in seen:
            continue
        if isinstance(child, Regularized):
            yield prefix + name, child
        elif not child._modules:
            continue
        seen.add(child)
        yield from _inner(child, f"{prefix}{name}.", seen)


_CALL = "the model's own call, so that its penalty is not known: call the model as model(...)"
_UNSET = (
    "strengths follow a schedule, but nothing sets them: bind the model to its optimizer, "
    "regspec.bind(model, optimizer), or call model.set_schedules(step) before the first step and after each one"
)


@contextmanager
def accumulate(model: nn.Module) -> Iterator[None]:
    """Keeps the activity penalties of several forwards, which are summed; outside, each forward begins anew.

    The model may wrap one with penalties.

    Example:
        >>> import regspec, torch
        >>> model = regspec.build("examples/mlp.yaml")
        >>> with accumulate(model):
        ...     distance = (model(torch.randn(5, 13)) - model(torch.randn(5, 13))).norm()
        >>> loss = distance + model.regularization_loss()
    """
    roots = [model] if isinstance(model, Regularized) else [each for _, each in _inner(model, "", {model})]
    for root in roots:
        root._heard.clear()
        root._accumulates = True
    try:
        yield
    finally:
        for root in roots:
            root._accumulates = False
