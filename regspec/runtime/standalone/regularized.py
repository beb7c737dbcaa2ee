"""A module with penalties as it stands in files that need torch alone: short, and by public names of torch.

``compile --standalone`` prints it, and nothing imports it. What stands below a comment ``# for weights``, activities,
penalties (which are either) or constraints is printed where the model has such. It gives what `penalties` gives, in
value and gradient; what it does not do, its docstring says.
"""

from __future__ import annotations

import threading
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from regspec.runtime.penalties.slices import Slices

_forward = threading.local()  # .heard: the penalties of outputs, while a model's forward runs in this thread


class Regularized(nn.Module):
    """A module with penalties: add its `regularization_loss()` to the loss.

    Schedules, decay and proximal steps and FSDP are left to regspec; for nn.DataParallel take DistributedDataParallel.
    """

    def __init__(self) -> None:
        super().__init__()
        # for weights
        self._weights: dict[str, tuple[Any, tuple[str, ...], bool]] = {}
        # for units
        self._units: dict[str, tuple[Any, tuple[Slices, ...], bool]] = {}
        # for activities
        self._heard: list[tuple[nn.Module, str, Tensor]] | None = None  # in the last forward
        # for constraints
        self._constraints: list[tuple[Any, tuple[str, ...]]] = []

    # for weights
    def add_weight_terms(self, regularizer: Any, weights: dict[str, Any], *, counts_frozen: bool = False) -> None:
        """Adds a term for each weight: its name -> the parameter's path, or the paths of several that are stacked."""
        for name, paths in weights.items():
            self._weights[name] = (regularizer, (paths,) if isinstance(paths, str) else paths, counts_frozen)

    # for units
    def add_unit_terms(self, regularizer: Any, units: dict[str, Any], *, counts_frozen: bool = False) -> None:
        """Adds a term for units: its name -> the slices of parameters that vanish together, one for each unit."""
        for name, slices in units.items():
            own = tuple(Slices(each) if isinstance(each, str) else each for each in slices)
            self._units[name] = (regularizer, own, counts_frozen)

    # for activities
    def add_activity_terms(self, regularizer: Any, outputs: dict[str, str], *, reduction: str = "mean") -> None:
        """Adds a term for each output, a mean over the batch or a sum: its name -> the module's path."""
        for name, path in outputs.items():
            for part in getattr(regularizer, "parts", (regularizer,)):
                is_divided = reduction == "mean" and not getattr(part, "averages_batch", False)
                self.get_submodule(path).register_forward_hook(partial(self._hear, name, part, is_divided))

    # for activities
    def _hear(self, name: str, part: Any, is_divided: bool, module: nn.Module, args: Any, output: Tensor) -> None:
        if torch.compiler.is_exporting() or isinstance(output, torch.fx.Proxy):
            return
        penalty = part(output) / (max(len(output), 1) if is_divided else 1)  # also where a checkpoint recomputes it
        if (heard := getattr(_forward, "heard", None)) is not None:
            heard.append((self, name, penalty))

    # for activities
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if getattr(_forward, "heard", None) is not None or torch.compiler.is_exporting():
            return super().__call__(*args, **kwargs)  # a block of the model whose forward runs
        self._heard = _forward.heard = []
        try:
            return super().__call__(*args, **kwargs)
        finally:
            _forward.heard = None

    # for activities
    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_heard": None}  # type: ignore[no-untyped-call]  # torch's method has no types

    def regularization_terms(self) -> dict[str, Tensor]:
        """The penalties by name, a scalar each."""
        terms: dict[str, Tensor] = {}
        # for penalties
        prefixes = {module: f"{path}." if path else "" for path, module in self.named_modules()}
        # for weights
        owners: dict[tuple[Tensor, ...], Any] = {}
        # for weights
        for module, prefix in prefixes.items():
            for name, (regularizer, paths, counts_frozen) in getattr(module, "_weights", {}).items():
                weights = [attrgetter(path)(module) for path in paths]
                is_frozen = any(isinstance(each, nn.Parameter) and not each.requires_grad for each in weights)
                is_tied = owners.setdefault(tuple(weights), (module, paths)) != (module, paths)  # and counts there
                if not is_tied and (counts_frozen or not is_frozen):
                    terms[prefix + name] = regularizer(weights[0] if len(weights) == 1 else torch.stack(weights))
        # for units
        seen: dict[Tensor, list[Slices]] = {}
        # for units
        for name, (regularizer, slices, counts_frozen) in self._units.items():
            rows = []
            for each in slices:
                x = attrgetter(each.parameter)(self)
                others = [other for other in seen.setdefault(x, []) if other.parameter != each.parameter]
                is_tied = bool(others) and each.is_in(others, x.shape)  # and counts there
                seen[x].append(each)
                if not is_tied and (counts_frozen or x.requires_grad):
                    rows.append(each.rows(x))
            if rows:
                terms[name] = regularizer(torch.cat(rows, 1))
        # for activities
        if self._heard is None:
            raise RuntimeError("outputs have penalties: call the model, model(x), before you read them")
        # for activities
        for module, name, penalty in self._heard:
            terms[prefixes[module] + name] = terms.get(prefixes[module] + name, 0) + penalty
        return terms

    def regularization_loss(self) -> Tensor:
        """The sum of the penalties, a scalar."""
        return sum(self.regularization_terms().values(), torch.zeros(()))

    # for constraints
    def add_constraints(self, constraint: Any, weights: dict[str, Any]) -> None:
        """Adds a constraint to each weight: its name -> the parameter's path, or the paths of several."""
        for paths in weights.values():
            self._constraints.append((constraint, (paths,) if isinstance(paths, str) else paths))

    # for constraints
    @torch.no_grad()
    def apply_constraints(self) -> None:
        """Projects the weights that have constraints and are not frozen; call it after each optimizer.step()."""
        for module in self.modules():
            for constraint, paths in getattr(module, "_constraints", ()):
                weights = [attrgetter(path)(module) for path in paths]
                if weights[0].requires_grad:
                    new = [constraint(weights[0])] if len(weights) == 1 else constraint(torch.stack(weights))
                    for weight, value in zip(weights, new, strict=True):
                        weight.copy_(value)
