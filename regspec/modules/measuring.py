"""What the penalties in a module are now, wherever in it they are; their strengths; and how sparse the weights are."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from regspec.modules.building import COMPILED
from regspec.runtime import Regularized
from regspec.runtime.penalties.state import named_terms
from regspec.runtime.penalties.terms import Seen, WeightTerm, innermost
from regspec.runtime.penalties.tracing import without_schedule
from regspec.text.problems import Problem, RegspecError


def regularization_terms(module: nn.Module, *, detach: bool = False) -> dict[str, Tensor]:
    """The penalty of each term in a module, by name, scalar tensors, wherever in it the terms are.

    The module may wrap one with penalties, as `DistributedDataParallel` does. With ``detach`` they have no gradient.

    Raises:
        RegspecError: where there is none, unless the module was built of a spec, which then says so.

    Example:
        >>> import regspec, torch
        >>> wrapper = torch.nn.Sequential(regspec.build("examples/mlp.yaml", seed=0))
        >>> list(regspec.regularization_terms(wrapper))[:2]
        ['0.hidden1.kernel', '0.hidden2.kernel']
    """
    return {
        _joined(name, term): penalty
        for name, each in outermost(module)
        for term, penalty in each.regularization_terms(detach=detach).items()
    }


def regularization_loss(module: nn.Module) -> Tensor:
    """The sum of all penalties in a module, a scalar tensor, wherever the terms are, as in `regularization_terms`.

    It is 0 for a module that was built of a spec without penalties.

    Raises:
        RegspecError: where there is no term, unless the module was built of a spec.

    Example:
        >>> import regspec, torch
        >>> rules = [{"types": ["Linear"], "kernel_regularizer": {"l2": 0.5}}]
        >>> model = regspec.regularize(torch.nn.Linear(2, 1), rules)
        >>> _ = torch.nn.init.constant_(model.weight, 3.0)
        >>> regspec.regularization_loss(torch.nn.Sequential(model)).item()  # 0.5 * (3² + 3²)
        9.0
    """
    losses = [each.regularization_loss() for _, each in outermost(module)]
    return sum(losses[1:], losses[0]) if losses else torch.zeros(())


def outermost(module: nn.Module, prefix: str = "") -> list[tuple[str, Regularized]]:
    """The modules with penalties that are in no other such module, by name.

    Raises:
        RegspecError: where there is none, unless a part was built of a spec, which then says that there is none.
    """

    def found(part: nn.Module, name: str) -> Iterator[tuple[str, Regularized]]:
        if isinstance(part, Regularized):
            yield name, part
        else:
            for key, child in part.named_children():
                yield from found(child, _joined(name, key))

    modules = [*found(module, prefix)]
    if not modules and not any(type(part).__module__.startswith(COMPILED) for part in module.modules()):
        raise RegspecError(
            Problem(f"{type(module).__name__} has no penalties", "give it some with regspec.regularize(module, rules)")
        )
    return modules


def strengths(module: nn.Module) -> dict[str, float]:
    """The strength of each regularizer now, by the names of the term and of the regularizer.

    Of several of one name in a term, the further ones count on: ``hidden.kernel.l2``, ``hidden.kernel.l2_1``.
    Of one that has no strength of its own, such as a function that was registered, it is its schedule's factor.

    Raises:
        RegspecError: where there are no penalties.

    Example:
        >>> import regspec, torch
        >>> rules = [{"types": ["Linear"], "kernel_regularizer": {"l1": 1e-5, "l2": 1e-4}}]
        >>> regspec.strengths(regspec.regularize(torch.nn.Sequential(torch.nn.Linear(4, 3)), rules))
        {'0.weight.l1': 1e-05, '0.weight.l2': 0.0001}
    """
    found: dict[str, float] = {}
    for prefix, root in outermost(module):
        for name, term, _ in named_terms(root):
            for kind, part in zip(term.kinds, term.parts, strict=True):
                own, factor = innermost(part), without_schedule(part)[1]
                strength = own.keywords.get("strength") if isinstance(own, partial) else getattr(own, "strength", None)
                found[f"{_joined(prefix, name)}.{kind}"] = factor if strength is None else strength * factor
    return found


@torch.no_grad()
def sparsity(module: nn.Module, *, threshold: float = 0.0) -> dict[str, Tensor]:
    """The share of each penalized weight's numbers that are at most ``threshold`` in magnitude, scalars in 0...1.

    By default it is the share of exact zeros. Frozen weights are left out.

    Raises:
        RegspecError: where there are no penalties.

    Example:
        >>> import regspec, torch
        >>> rules = [{"types": ["Linear"], "kernel_regularizer": "l1"}]
        >>> model = regspec.regularize(torch.nn.Linear(2, 2), rules)
        >>> _ = model.weight.data.copy_(torch.tensor([[0.0, 1.0], [2.0, 0.0]]))
        >>> regspec.sparsity(model)
        {'weight': tensor(0.5000)}
    """
    found = {}
    for prefix, root in outermost(module):
        seen = Seen(root)
        for name, term, owner in named_terms(root):
            if isinstance(term, WeightTerm) and (weight := term.weight(owner, seen)) is not None:
                share = (weight.abs() <= threshold).float().mean()
                found[_joined(prefix, name)] = share.full_tensor() if hasattr(share, "full_tensor") else share
    return found


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
