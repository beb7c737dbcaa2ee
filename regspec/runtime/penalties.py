"""A module that collects its own penalties.

Weight terms are computed when they are read. Activity terms are computed by forward hooks, while the forward of the
outermost `Regularized` module runs, and kept by that module until its next forward: so a block that is shared by two
models, or called by itself, gives each its own values, and nothing has to be cleared by hand.

The hook computes a scalar at once, rather than keeping the output: an in-place operation after it can't change the
penalty, and in evaluation no activation stays alive. Under checkpointing a recomputed forward computes the same
scalars again, so that the saved tensors correspond, but nobody collects them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

Regularizer = Callable[[Tensor], Tensor]


class _Forward(threading.local):
    """The forward that runs in this thread: where listeners put what they measure."""

    values: list[tuple[Listener, Tensor]] | None = None


_forward = _Forward()


@dataclass(frozen=True)
class WeightTerm:
    """A regularizer of one parameter, or of several stacked, by their paths in the module."""

    regularizer: Regularizer
    parameters: tuple[str, ...]

    def penalty(self, module: nn.Module) -> Tensor | None:
        """The penalty now; None where the weight is frozen."""
        parameters: list[Tensor] = [attrgetter(path)(module) for path in self.parameters]
        if not parameters[0].requires_grad:
            return None
        return self.regularizer(parameters[0] if len(parameters) == 1 else torch.stack(parameters))


@dataclass(eq=False)
class Listener:
    """A regularizer of a module's output: a forward hook."""

    regularizer: Regularizer
    reduction: str = "mean"

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        parts = getattr(self.regularizer, "parts", (self.regularizer,))
        penalties = [self._penalty(part, output) for part in parts]
        if _forward.values is not None:
            _forward.values.extend((self, penalty) for penalty in penalties)

    def _penalty(self, regularizer: Regularizer, output: Tensor) -> Tensor:
        """The penalty of one regularizer, divided by the batch if it is not a mean over it by itself."""
        penalty = regularizer(output)
        if self.reduction == "sum" or output.ndim == 0 or getattr(regularizer, "averages_batch", False):
            return penalty
        return penalty / max(output.shape[0], 1)


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

    def __init__(self) -> None:
        super().__init__()
        self._terms: dict[str, WeightTerm | Listener] = {}
        self._constraints: dict[str, tuple[Callable[[Tensor], Tensor], tuple[str, ...]]] = {}
        self._values: list[tuple[Listener, Tensor]] = []

    def add_weight_terms(self, regularizer: Regularizer, weights: Mapping[str, str | tuple[str, ...]]) -> None:
        """Adds a term for each parameter: the term's name -> the parameter's path, or paths of several to stack."""
        for name, paths in weights.items():
            parameters = (paths,) if isinstance(paths, str) else paths
            self._add_term(name, WeightTerm(regularizer, parameters))

    def add_activity_terms(
        self, regularizer: Regularizer, outputs: Mapping[str, str], *, reduction: str = "mean"
    ) -> None:
        """Adds a term for each module's output: term's name -> path of the module.

        With ``reduction="mean"`` the penalty is divided by the batch size, the output's first axis.
        """
        for name, path in outputs.items():
            listener = Listener(regularizer, reduction)
            self._add_term(name, listener)
            self.get_submodule(path).register_forward_hook(listener)

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
        for module in self.modules():
            if isinstance(module, Regularized):
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

    def regularization_terms(self) -> dict[str, Tensor]:
        """The penalty of each term by name, a scalar tensor each; activity terms are those of the last forward.

        An activity term has no value before the first forward, a frozen weight none at all: they are left out.
        """
        measured: dict[Listener, Tensor] = {}
        for listener, value in self._values:
            measured[listener] = measured[listener] + value if listener in measured else value
        penalties = {}
        for prefix, module in self.named_modules():
            if isinstance(module, Regularized):
                for name, term in module._terms.items():
                    penalty = measured.get(term) if isinstance(term, Listener) else term.penalty(module)
                    if penalty is not None:
                        penalties[f"{prefix}.{name}" if prefix else name] = penalty
        return penalties

    def regularization_loss(self) -> Tensor:
        """The sum of all penalties, a scalar tensor to add to the loss."""
        penalties = list(self.regularization_terms().values())
        if not penalties:
            parameter = next(self.parameters(), None)
            return torch.zeros((), device=None if parameter is None else parameter.device)
        return torch.stack(penalties).sum()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if _forward.values is not None or torch.compiler.is_exporting():
            return super().__call__(*args, **kwargs)
        values: list[tuple[Listener, Tensor]] = []
        _forward.values = values
        try:
            output = super().__call__(*args, **kwargs)
        finally:
            _forward.values = None
        # only now: a checkpoint's recomputation ends early, by an exception, and must leave the values as they are;
        # and in place, because setting an attribute of a module costs a microsecond
        self._values[:] = values
        return output

    def __getstate__(self) -> dict[str, Any]:
        # penalties belong to a forward, not to the module; and tensors with a graph can't be copied
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]  # torch has no types here
        return {**state, "_values": []}
