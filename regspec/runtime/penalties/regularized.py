"""A module that collects its own penalties.

Weight terms are computed when they are read. Outputs are noted by forward hooks, while the forward of the outermost
`Regularized` module runs, and belong to that module until its next forward: so a block that is shared by two models, or
called by itself, gives each its own values, and nothing has to be cleared by hand.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from regspec.runtime.kernels.fused import is_plain
from regspec.runtime.kernels.sharded import is_sharded, joined, refuse_flat_parameters, shard
from regspec.runtime.penalties.compiling import forget_compiled, guard_hooks
from regspec.runtime.penalties.listeners import (
    CARRIED,
    PENALTY,
    Listener,
    Notes,
    listening,
    read,
    settled,
    without_listeners,
)
from regspec.runtime.penalties.missed import heard_by, watch
from regspec.runtime.penalties.notebook import module_html
from regspec.runtime.penalties.passes import is_no_forward, is_part_of_script
from regspec.runtime.penalties.readings import Reading
from regspec.runtime.penalties.slices import Slices
from regspec.runtime.penalties.state import (
    Constraint,
    Penalized,
    State,
    inner,
    named_terms,
    penalized_in,
    project,
    terms_in,
)
from regspec.runtime.penalties.terms import Regularizer, Seen, WeightTerm
from regspec.runtime.penalties.totals import Total, let_go
from regspec.runtime.penalties.units import UnitTerm, slices_of


class Regularized(Penalized):
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

    _listens_by_hooks = False  # also to modules of its own

    def __init__(self) -> None:
        super().__init__()
        self._regspec = State()

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
        first = WeightTerm(regularizer, (), counts_frozen, adds_parameters)
        owns = {name: (paths,) if isinstance(paths, str) else paths for name, paths in weights.items()}
        self._regspec.add({name: first.at(own) for name, own in owns.items()})

    def add_unit_terms(
        self,
        regularizer: Regularizer,
        units: Mapping[str, Iterable[str | Slices]],
        *,
        counts_frozen: bool = False,
    ) -> None:
        """Adds a term for units: the term's name -> the slices of parameters that vanish together, one for each unit.

        The path of a parameter stands for its slices along the first dimension. The regularizer is given a matrix with
        a row for each unit. Frozen parameters count nothing, and with ``counts_frozen`` have no gradient.

        Raises:
            ValueError: where there is a term of the name already.
        """
        terms = {name: UnitTerm(regularizer, slices_of(slices), counts_frozen) for name, slices in units.items()}
        self._regspec.add(terms)

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
            self._regspec.add({name: listener})
            listener.listen(module, by_hook=self._listens_by_hooks or not path or "." in path)
        forget_compiled()

    def add_constraints(self, constraint: Constraint, weights: Mapping[str, str | tuple[str, ...]]) -> None:
        """Adds a constraint to each parameter: its name -> the parameter's path, or paths of several to stack."""
        for name, paths in weights.items():
            self._regspec.constraints[name] = (constraint, (paths,) if isinstance(paths, str) else paths)

    @torch.no_grad()
    def apply_constraints(self) -> None:
        """Projects the weights that have constraints, except frozen ones; call it after each step of the optimizer."""
        for _, module in penalized_in(self):
            for constraint, paths in module._regspec.constraints.values():
                project(module, constraint, paths)

    # -- the penalties ------------------------------------------------------------------------------------------------

    def regularization_terms(self, *, detach: bool = False) -> dict[str, Tensor]:
        """The penalty of each term by name, a scalar tensor each; activity terms are those of the last forward.

        An activity term has no value before the first forward, a frozen weight none at all: they are left out. With
        ``detach`` they have no gradient, and cost no synchronisation with a GPU until they are read.
        """
        for _, part in penalized_in(self):
            part._regspec.is_read = True  # it may be called by itself, too
        refuse_flat_parameters(self)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not detach):
            measured: dict[Listener, Tensor] = {}
            listeners = {term for term, _ in terms_in(self) if isinstance(term, Listener)}
            heard = heard_by(self, listeners)
            now = [(each[0], each[1]) for each in heard if each[3] in (PENALTY, CARRIED)]
            for listener, x, share in read(heard):
                parts = listener.on_loss() if listener.carried else None  # those that are carried were heard alone
                now.append((listener, listener.penalty(x, parts, share)))
            for listener, penalty in now:
                measured[listener] = measured[listener] + penalty if listener in measured else penalty
            penalties: dict[str, Tensor] = {}
            seen = Seen(self)
            pieces: dict[str, Tensor] = {}  # the weights of which a penalty is that of this rank's shard, until the end
            for name, term, module in named_terms(self):
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
        """The sum of all penalties, a scalar tensor to add to the loss. All L1 and L2 terms are summed together.

        A sum that is not finite is named, term by term, in a warning.

        Raises:
            RuntimeError: in training, where strengths follow schedules that nothing sets; and where an output with a
                penalty was not computed in the model's own call.
        """
        refuse_flat_parameters(self)
        total = Total()
        listeners: set[Listener] = set()
        seen = Seen(self)
        for _, module in penalized_in(self):
            module._regspec.is_read = True  # it may be called by itself, too
            for term in module._regspec.terms.values():
                if isinstance(term, Listener):
                    if not term.carried or term.on_loss():
                        listeners.add(term)
                elif (weight := term.weight(module, seen)) is not None:
                    total.add(term, weight, 1.0)
                if term.scheduled and not term.scheduled[0].is_set and self.training and torch.is_grad_enabled():
                    raise RuntimeError(_UNSET)
        if total.can_fuse and torch.is_grad_enabled():
            self._regspec.heard = [let_go(each) if each[0] in listeners else each for each in self._regspec.heard]
        heard = heard_by(self, listeners)
        total.penalties += [penalty for _, penalty, _, kind, _ in heard if kind == PENALTY]
        for listener, x, share in read(heard):
            total.add(listener, x, share)
        loss = total.sum()
        if loss is None:
            parameter = next(self.parameters(), None)
            return torch.zeros((), device=None if parameter is None else parameter.device)
        if total.can_fuse and is_plain(loss) and not loss.is_cuda and not math.isfinite(loss.item()):
            names = _not_finite(self)
            warnings.warn(f"the regularization loss is {loss.item()}: {', '.join(names)}", RuntimeWarning, stacklevel=2)
        return loss

    def set_strength(self, name: str, strength: float) -> None:
        """Gives a regularizer another strength: ``hidden.kernel.l2``, as `regspec.strengths` names it.

        A schedule goes on multiplying it. The penalty of an output that the model gave before may have the former one.

        Raises:
            ValueError: where there is none of the name, it has no strength, it is the optimizer's weight decay, or the
                strength is negative.

        Example:
            >>> import regspec
            >>> model = regspec.build("examples/mlp.yaml")
            >>> model.set_strength("hidden1.kernel.l2", 0.01)
            >>> regspec.strengths(model)["hidden1.kernel.l2"]
            0.01
        """
        if not 0 <= strength < math.inf:
            raise ValueError(f"a strength is at least 0 and finite, but is {strength}")
        of_term, _, kind = name.rpartition(".")
        named = {each: term for each, term, _ in named_terms(self)}
        if of_term not in named or kind not in named[of_term].kinds:
            known = ", ".join(f"{each}.{part}" for each, term in named.items() for part in term.kinds)
            raise ValueError(f"there is no '{name}': the regularizers are {known or 'none'}")
        try:
            named[of_term].set_strength(kind, strength)
        except ValueError as error:
            raise ValueError(f"'{name}' can't have another strength: {error}") from None

    def set_schedules(self, step: int, epoch: int | None = None) -> None:
        """Sets the strengths that follow schedules to what they are after so many steps of the optimizer, and epochs.

        `regspec.bind` does so after each step; without it, call this before the first step and after each one.

        Raises:
            ValueError: where a schedule counts epochs, and none are given.
        """
        for term, _ in terms_in(self):
            for part in term.scheduled:
                part.set(step, epoch)
            term.refresh()

    # -- the forward --------------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        is_traced = torch.compiler.is_compiling()
        if listening.notes is not None or (torch.compiler.is_exporting() if is_traced else is_no_forward()):
            return super().__call__(*args, **kwargs)
        state = self._regspec
        if is_traced:
            state.heard = [*state.heard] if state.accumulates else []  # reading it would be a guard
            notes = Notes(self.training, 0, False)
        else:
            guard_hooks()
            if not state.accumulates:
                state.forget()
            notes = Notes(self.training, state.room, not torch.is_inference_mode_enabled())
        listening.notes = notes
        try:
            output = super().__call__(*args, **kwargs)
        finally:
            listening.notes = None
        heard = notes.heard
        if not is_traced:
            if heard:
                heard, state.room = settled(notes, (output, args, kwargs)), notes.room
            if not state.is_read and self.training:
                watch(self, output)
            if state.bindings and self.training and torch.is_grad_enabled():
                for binding in state.bindings:
                    if binding.is_watching:
                        binding.watch()
            state.has_run = True
            if not state.accumulates:
                state.heard.clear()  # what another thread may have noted
        state.heard.extend(heard)
        return output

    def _repr_html_(self) -> str:
        """Itself in a notebook: a line, and on demand its layers and its terms. Penalties are not computed for it."""
        return module_html(self, {name: term.parts for name, term, _ in named_terms(self)})

    # -- copies -------------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]  # torch's method has no types
        return {**state, "_regspec": self._regspec.of_copy()}

    def _replicate_for_data_parallel(self) -> Any:
        """A replica, of which `nn.DataParallel` makes one for each device, and forgets them after the forward.

        Raises:
            RuntimeError: where outputs have penalties: each replica would have those of its part of the batch.
        """
        if outputs := [name for name, term, _ in named_terms(self) if isinstance(term, Listener)]:
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
        if "_regspec" not in self.__dict__:
            return self  # it is a part of such a twin
        if is_part_of_script():
            raise RuntimeError(
                f"torch.jit.script of a model with a {type(self).__name__} in it would take the penalties off that: "
                "script a copy.deepcopy of the model, after regspec.unregularize, or use torch.jit.trace"
            )
        shared: dict[int, Any] = {id(x): x for x in (*self.parameters(), *self.buffers())}
        twin = without_listeners(deepcopy(self, shared))
        for part in twin.modules():
            part.__dict__.pop("_regspec", None)
        return twin


def _not_finite(model: Regularized) -> list[str]:
    """The terms that are not finite; with shards, those whose output or own shard is not.

    Shards are not summed over ranks here: if the loss is not finite on this rank alone, no other would join in.
    """
    named = [*named_terms(model)]
    weights = [(term, term.weight(owner)) for _, term, owner in named if isinstance(term, WeightTerm)]
    known = [(term, x) for term, x in (*weights, *(each[:2] for each in model._regspec.heard)) if x is not None]
    if not any(is_sharded(x) for _, x in known):
        return [name for name, value in model.regularization_terms(detach=True).items() if not value.isfinite()]
    bad = {term for term, x in known if not shard(x.detach()).isfinite().all()}
    return [name for name, term, _ in named if term in bad] or ["by shards of other ranks, or by a sum"]


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
    roots = [model] if isinstance(model, Penalized) else [each for _, each in inner(model, "", {model})]
    for root in roots:
        root._regspec.forget()
        root._regspec.accumulates = True
    try:
        yield
    finally:
        for root in roots:
            root._regspec.accumulates = False
