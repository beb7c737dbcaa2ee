"""A module that collects its own penalties.

Weight terms are computed when they are read. Outputs are noted by forward hooks, while the forward of the outermost
`Regularized` module runs, and belong to that module until its next forward: so a block that is shared by two models, or
called by itself, gives each its own values, and nothing has to be cleared by hand.

In training the outputs themselves are kept, and their penalties computed when they are read: then all L1 and L2
penalties are one node of the graph. In evaluation, or without gradients, a hook computes its penalty at once, and keeps
a scalar. What follows from keeping outputs:

- An operation in place may change an output before its penalty is read. So the first forward keeps copies, and learns
  from the tensors' versions which outputs are changed; those are copied from then on, and any other change is an error.
- Under checkpointing, an output that is kept stays in memory, though what is behind it does not.
- A forward that is recomputed in the backward pass notes nothing; its hooks compute what they did in the forward, so
  that the saved tensors correspond.
"""

from __future__ import annotations

import math
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointFunction

from regspec.runtime.fused import Strengths, can_fuse, fused_penalty, is_plain, plain_penalty, whole

Regularizer = Callable[[Tensor], Tensor]

WATCHED = 3  # forwards in training after which a backward warns if the penalties were not read


class Term:
    """A regularizer of something. On the loss are its L1 and L2 by their strengths, and the other parts of its sum."""

    def __init__(self, regularizer: Regularizer) -> None:
        self.regularizer = regularizer
        self.parts: tuple[Regularizer, ...] = getattr(regularizer, "parts", (regularizer,))
        known: list[Strengths] = [part.strengths for part in self.parts if hasattr(part, "strengths")]
        self.strengths = (sum(l1 for l1, _ in known), sum(l2 for _, l2 in known)) if known else None
        self.others = tuple(part for part in self.parts if not hasattr(part, "strengths"))

    def penalty(self, x: Tensor, parts: tuple[Regularizer, ...] | None = None) -> Tensor:
        """The penalty of a tensor, a scalar; or a part of it."""
        share = self.share(x)
        first, *others = [
            part(x) if share == 1.0 or getattr(part, "averages_batch", False) else part(x) * share
            for part in (self.parts if parts is None else parts)
        ]
        return whole(sum(others, first))

    def share(self, x: Tensor) -> float:
        """What a penalty is multiplied by, unless it is a mean over the batch by itself."""
        return 1.0


class WeightTerm(Term):
    """A regularizer of one parameter, or of several stacked, by their paths in the module."""

    def __init__(self, regularizer: Regularizer, parameters: tuple[str, ...]) -> None:
        super().__init__(regularizer)
        self.parameters = parameters

    def weight(self, module: nn.Module) -> Tensor | None:
        """The weight now; None where it is frozen: a parameter, and not what `functional_call` puts in its place."""
        parameters: list[Tensor] = [attrgetter(path)(module) for path in self.parameters]
        if isinstance(parameters[0], nn.Parameter) and not parameters[0].requires_grad:
            return None
        return parameters[0] if len(parameters) == 1 else torch.stack(parameters)


class Listener(Term):
    """A regularizer of a module's outputs: a forward hook."""

    def __init__(self, regularizer: Regularizer, reduction: str = "mean") -> None:
        super().__init__(regularizer)
        self.reduction = reduction
        self.is_changed: bool | None = None  # whether the outputs are changed in place later on, once that is known

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        for x in _tensors(output):
            self._hear(module, x)

    def _hear(self, module: nn.Module, x: Tensor) -> None:
        heard = _forward.heard
        if torch.compiler.is_compiling() or not (module.training and torch.is_grad_enabled() and x.requires_grad):
            if heard is not None and module.training and not torch.is_grad_enabled():
                _refuse_reentrant_checkpoints()
            penalty = self.penalty(x)
            if heard is not None:
                heard.append((self, penalty, None, 0))
        elif heard is not None:
            heard.append((self, x if self.is_changed is False else x.clone(), x, x._version))

    def share(self, x: Tensor) -> float:
        """One over the size of the batch, the first axis, unless the penalty is a sum."""
        return 1.0 if self.reduction == "sum" or x.ndim == 0 else 1.0 / max(x.shape[0], 1)


# What a listener heard: its penalty, with None; or an output (or a copy of it), the output, and its version then.
Heard = tuple[Listener, Tensor, Tensor | None, int]


class _Forward(threading.local):
    """The forward that runs in this thread: where listeners note what they hear."""

    heard: list[Heard] | None = None


_forward = _Forward()


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
    _is_bound: bool  # whether terms are on other routes than the loss
    _state: ClassVar = ("_terms", "_constraints", "_heard", "_accumulates", "_is_read", "_watched", "_is_bound")

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
        self._is_bound = False

    # -- what is regularized ------------------------------------------------------------------------------------------

    def add_weight_terms(self, regularizer: Regularizer, weights: Mapping[str, str | tuple[str, ...]]) -> None:
        """Adds a term for each parameter: the term's name -> the parameter's path, or paths of several to stack.

        Raises:
            ValueError: where there is a term of the name already.
        """
        for name, paths in weights.items():
            self._add_term(name, WeightTerm(regularizer, (paths,) if isinstance(paths, str) else paths))

    def add_activity_terms(
        self, regularizer: Regularizer, outputs: Mapping[str, str], *, reduction: str = "mean"
    ) -> None:
        """Adds a term for each module's output: term's name -> path of the module.

        With ``reduction="mean"`` the penalty is divided by the batch size, the output's first axis; with "sum" it is
        not. Of an output that is a tuple, a list or a mapping, every floating-point tensor counts.

        Raises:
            ValueError: where there is a term of the name already.
            AttributeError: where a path leads to no module.
        """
        for name, path in outputs.items():
            module = self.get_submodule(path)
            listener = Listener(regularizer, reduction)
            self._add_term(name, listener)
            module.register_forward_hook(listener)

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
        """Projects the weights that have constraints, but frozen ones; call it after each step of the optimizer."""
        for _, module in self._regularized():
            for constraint, paths in module._constraints.values():
                parameters: list[Tensor] = [attrgetter(path)(module) for path in paths]
                if not parameters[0].requires_grad:
                    continue
                if len(parameters) == 1:
                    parameters[0].copy_(constraint(parameters[0]))
                else:
                    projected = constraint(torch.stack(parameters))
                    for parameter, value in zip(parameters, projected, strict=True):
                        parameter.copy_(value)

    # -- the penalties ------------------------------------------------------------------------------------------------

    def regularization_terms(self, *, detach: bool = False) -> dict[str, Tensor]:
        """The penalty of each term by name, a scalar tensor each; activity terms are those of the last forward.

        An activity term has no value before the first forward, a frozen weight none at all: they are left out. With
        ``detach`` they have no gradient, and cost no synchronisation with a GPU until they are read.
        """
        self._is_read = True
        with torch.set_grad_enabled(torch.is_grad_enabled() and not detach):
            measured: dict[Listener, Tensor] = {}
            for listener, x, output, version in self._heard:
                penalty = x if output is None else listener.penalty(_unchanged(x, output, version))
                measured[listener] = measured[listener] + penalty if listener in measured else penalty
            penalties = {}
            for name, term, module in self._named_terms():
                if isinstance(term, Listener):
                    penalty_now = measured.get(term)
                else:
                    weight = term.weight(module)
                    penalty_now = None if weight is None else term.penalty(weight)
                if penalty_now is not None:
                    penalties[name] = penalty_now.detach() if detach else penalty_now
        return penalties

    def regularization_loss(self) -> Tensor:
        """The sum of all penalties, a scalar tensor to add to the loss. All L1 and L2 terms are one node of the graph.

        A sum that is not finite is named, term by term, in a warning.
        """
        self._is_read = True
        penalties: list[Tensor] = []
        groups: dict[tuple[Strengths, torch.dtype, torch.device], list[Tensor]] = {}
        can = can_fuse()

        def add(term: WeightTerm | Listener, x: Tensor, share: float) -> None:
            if term.strengths is not None:
                strengths = term.strengths[0] * share, term.strengths[1] * share
                if can and is_plain(x):
                    groups.setdefault((strengths, x.dtype, x.device), []).append(x)
                else:
                    penalties.append(plain_penalty(x, *strengths))
            if term.others:
                penalties.append(term.penalty(x, term.others))

        for _, term, module in self._named_terms():
            if isinstance(term, WeightTerm) and (weight := term.weight(module)) is not None:
                add(term, weight, 1.0)
        for listener, x, output, version in self._heard:
            if output is None:
                penalties.append(x)
            else:
                add(listener, _unchanged(x, output, version), listener.share(x))
        for device in {device for _, _, device in groups}:
            own = [(strengths, xs) for (strengths, _, where), xs in groups.items() if where == device]
            penalties.append(fused_penalty(own))
        if not penalties:
            parameter = next(self.parameters(), None)
            return torch.zeros((), device=None if parameter is None else parameter.device)
        loss = penalties[0] if len(penalties) == 1 else torch.stack(penalties).sum()
        if can and is_plain(loss) and not loss.is_cuda and not math.isfinite(loss.item()):
            names = [name for name, value in self.regularization_terms(detach=True).items() if not value.isfinite()]
            warnings.warn(f"the regularization loss is {loss.item()}: {', '.join(names)}", RuntimeWarning, stacklevel=2)
        return loss

    def _named_terms(self) -> Iterator[tuple[str, WeightTerm | Listener, Regularized]]:
        """Every term by its full name, with the module that has it."""
        for prefix, module in self._regularized():
            for name, term in module._terms.items():
                yield f"{prefix}.{name}" if prefix else name, term, module

    def _regularized(self) -> Iterator[tuple[str, Regularized]]:
        """The modules that may have terms or constraints of their own, itself among them, by name."""
        for prefix, module in self.named_modules():
            if isinstance(module, Regularized):
                yield prefix, module

    # -- the forward --------------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if _forward.heard is not None or torch.compiler.is_exporting() or _is_in_backward():
            return super().__call__(*args, **kwargs)
        heard: list[Heard] = []
        if not self._accumulates:
            self._heard.clear()
        _forward.heard = heard
        try:
            output = super().__call__(*args, **kwargs)
        finally:
            _forward.heard = None
        if not torch.compiler.is_compiling():
            if heard:
                heard = _settled(heard)
            if not self._is_read and self.training:
                self._watch(output)
        self._heard.extend(heard)  # in place, because setting an attribute of a module costs a microsecond
        return output

    def _watch(self, output: Any) -> None:
        """Warns, once, when a backward reaches an output and nobody has asked for the penalties.

        The first steps are watched: who reads the loss does so in each.
        """
        if self._watched == WATCHED:
            return
        self._watched += 1
        for x in _tensors(output):
            if x.requires_grad:
                x.register_hook(self._warn_if_unread)
                return

    def _warn_if_unread(self, gradient: Tensor) -> None:
        if not self._is_read:
            self._is_read = True
            names = [name for name, _, _ in self._named_terms()]
            if names:
                shown = ", ".join(names[:5]) + ", …" * (len(names) > 5)
                what = f"a backward ran, but nobody has read the regularization loss of {shown}"
                warnings.warn(f"{what}: add model.regularization_loss() to the loss", UserWarning, stacklevel=2)

    def __getstate__(self) -> dict[str, Any]:
        # penalties belong to a forward, not to the module; and tensors with a graph can't be copied
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]  # torch has no types here
        return {**state, "_heard": []}


@contextmanager
def accumulate(model: Regularized) -> Iterator[None]:
    """Keeps the activity penalties of several forwards, which are summed; outside, each forward begins anew.

    Example:
        >>> import regspec, torch
        >>> model = regspec.build("examples/mlp.yaml")
        >>> with accumulate(model):
        ...     distance = (model(torch.randn(5, 13)) - model(torch.randn(5, 13))).norm()
        >>> loss = distance + model.regularization_loss()
    """
    model._heard.clear()
    model._accumulates = True
    try:
        yield
    finally:
        model._accumulates = False


def _tensors(output: Any) -> Iterator[Tensor]:
    """The floating-point tensors in what a module gives: one, or those of a tuple, a list or a mapping."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, (tuple, list)):
        for each in output:
            yield from _tensors(each)
    elif isinstance(output, Mapping):
        for each in output.values():
            yield from _tensors(each)


def _settled(heard: list[Heard]) -> list[Heard]:
    """What was heard, without copies of outputs that nothing has changed; what changes outputs is learnt."""
    changed = {listener for listener, _, output, version in heard if output is not None and output._version != version}
    for listener in {listener for listener, _, output, _ in heard if output is not None}:
        if listener.is_changed is False and listener in changed:
            listener.is_changed = True
            raise RuntimeError(_CHANGED)
        listener.is_changed = bool(listener.is_changed) or listener in changed
    return [
        (listener, x if output is None or listener.is_changed else output, output, version)
        for listener, x, output, version in heard
    ]


def _unchanged(x: Tensor, output: Tensor, version: int) -> Tensor:
    """The output that was heard, if it is still what it was, or else its copy."""
    if x is output and output._version != version:
        raise RuntimeError(_CHANGED)
    return x


_CHANGED = (
    "an output with a penalty was changed in place before its penalty was read, as it was not in the first forward: "
    "use an operation that is not in place, or read the penalties before"
)


def _is_in_backward() -> bool:
    """Whether a backward pass runs, which recomputes what a checkpoint left out."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def _refuse_reentrant_checkpoints() -> None:
    """Raises where the forward runs in a checkpoint of the re-entrant kind, which loses the gradients of penalties."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        if frame.f_code is CheckpointFunction.forward.__code__:
            raise RuntimeError(
                "re-entrant checkpointing loses the gradient of activity penalties: "
                "call torch.utils.checkpoint.checkpoint(..., use_reentrant=False)"
            )
        frame = frame.f_back
