"""Where a weight is now: a parameter, or what is computed from some, as by a parametrization, a hook or a wrapper.

It is looked for each time, because it may have been tied, pruned, replaced or wrapped since.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

Way = tuple[str, ...]  # to a parameter: the names of modules, and its own


def weight_at(module: nn.Module, way: Way, counts_frozen: bool = False) -> Tensor | None:
    """The weight to which a way leads; None where it is frozen, or without a gradient where frozen ones count.

    What `functional_call` puts in the place of a parameter is not frozen.

    Raises:
        RuntimeError: where it is gone.
    """
    owner, name = owner_at(module, way), way[-1]
    weight: Tensor | None = owner._parameters.get(name)  # `getattr` would take longer
    is_trained = _is_trained(owner, name, weight)
    if is_trained is False and not counts_frozen:
        return None
    if weight is None:
        weight = _computed(owner, name, way)
        is_trained = _has_gradient(owner, weight) if is_trained is None else is_trained
    if is_trained:
        return weight
    return weight.detach() if counts_frozen else None


def parameter_at(module: nn.Module, way: Way) -> Tensor | None:
    """The parameter to which a way leads by modules of these names; None where the weight has to be looked for."""
    owner = module
    for name in way[:-1]:
        inner = owner._modules.get(name)
        if inner is None:
            return None
        owner = inner
    parameter: Tensor | None = owner._parameters.get(way[-1])
    return parameter


def is_trained_at(module: nn.Module, way: Way) -> bool:
    """Whether the weight to which a way leads is trained, or anything that it is computed from: it is not for that.

    A spectral norm would take a step of its power iteration. Raises `RuntimeError` where it is gone.
    """
    owner, name = owner_at(module, way), way[-1]
    is_trained = _is_trained(owner, name, owner._parameters.get(name))
    return _has_gradient(owner, _computed(owner, name, way)) if is_trained is None else is_trained


def tensor_at(module: nn.Module, way: Way) -> Tensor:
    """The weight to which a way leads, frozen or not. Raises `RuntimeError` where it is gone."""
    owner = owner_at(module, way)
    parameter: Tensor | None = owner._parameters.get(way[-1])
    return _computed(owner, way[-1], way) if parameter is None else parameter


def identity_at(module: nn.Module, way: Way) -> object:
    """What two ways have in common that lead to one weight: the parameter, or the module that computes it."""
    owner = owner_at(module, way)
    parameter = owner._parameters.get(way[-1])
    if parameter is None and "parametrizations" not in owner._modules:  # which would compute it
        found = getattr(owner, way[-1], None)
        parameter = found if isinstance(found, nn.Parameter) else None
    return (owner, way[-1]) if parameter is None else parameter


def sources_at(module: nn.Module, way: Way) -> tuple[tuple[nn.Parameter, ...], bool]:
    """The parameter to which a way leads, and False; where the weight is computed, all that it may be from, and True.

    Raises:
        RuntimeError: where it is gone.
    """
    found: Any = identity_at(module, way)
    if isinstance(found, Tensor):
        return (found,), False  # type: ignore[return-value]  # a parameter, outside of `functional_call`
    owner, name = found
    if name not in owner._modules.get("parametrizations", ()):  # which would compute it
        tensor_at(module, way)  # or raise
    return tuple(owner.parameters()), True


def computed_in(owner: nn.Module) -> list[str]:
    """The weights that a module computes from parameters: by parametrizations, or by hooks, as pruning does."""
    parametrized = owner.get_submodule("parametrizations")._modules if is_parametrized(owner) else {}
    return [*parametrized, *_hooks(owner)]


def owner_at(module: nn.Module, way: Way) -> nn.Module:
    """The module that has a weight. Raises `RuntimeError` where it is gone."""
    owner = module
    for name in way[:-1]:
        inner = owner._modules.get(name)
        if inner is None:
            return _found(module, way)
        owner = inner
    return owner if owner._parameters.get(way[-1]) is not None else _found(module, way)


def _found(module: nn.Module, way: Way) -> nn.Module:
    """The module that has a weight, where it is not just a parameter of modules by these names."""
    owner: Any = module
    for depth, name in enumerate(way[:-1]):
        found = owner._modules.get(name) if name in owner._modules else getattr(owner, name, None)
        if found is None and "module" in owner._modules:  # a wrapper, such as DistributedDataParallel
            found = getattr(owner._modules["module"], name, None)
        if not isinstance(found, nn.Module):
            raise _gone(way, f"there is no '{'.'.join(way[: depth + 1])}' any more")
        owner = found
    while "module" in owner._modules and not _has(owner, way[-1]):
        owner = owner._modules["module"]
    return owner  # type: ignore[no-any-return]  # torch has None among its modules too


def _has(owner: nn.Module, name: str) -> bool:
    if owner._parameters.get(name) is not None or _parametrization(owner, name) is not None:
        return True
    return isinstance(getattr(owner, name, None), Tensor)


def _is_trained(owner: nn.Module, name: str, parameter: Tensor | None) -> bool | None:
    """Whether a parameter is trained, or what a weight is computed from; None where only the weight itself can say."""
    if parameter is not None:
        return parameter.requires_grad or not isinstance(parameter, nn.Parameter)
    if (computing := _parametrization(owner, name)) is not None:
        return any(each.requires_grad for each in computing.parameters())
    if (found := _hooks(owner).get(name)) is not None:
        return any(each.requires_grad for each in found[1])
    return None


def _has_gradient(owner: nn.Module, weight: Tensor) -> bool:
    """Whether a weight is trained that is an attribute, or is computed by a property, as a wrapper's is."""
    if weight.requires_grad or isinstance(weight, nn.Parameter) or not torch.is_inference_mode_enabled():
        return weight.requires_grad
    return any(each.requires_grad for each in owner.parameters())  # nothing has a gradient here


def _computed(owner: nn.Module, name: str, way: Way) -> Tensor:
    """A weight that is no parameter of its own."""
    if _parametrization(owner, name) is not None:
        computed: Tensor = getattr(owner, name)
        return computed
    if (found := _hooks(owner).get(name)) is not None:
        return _by_hook(found[0], owner, name)
    with torch.enable_grad():  # a wrapper's property may compute it
        other = getattr(owner, name, None)
    if not isinstance(other, Tensor):
        where, kind = ".".join(way[:-1]), type(owner).__name__
        what = "has one that is no tensor, as quantized modules do" if callable(other) else f"has no '{name}'"
        raise _gone(way, f"'{where}' is a {kind} now, which {what}" if where else f"the {kind} {what}")
    return other


def _parametrization(owner: nn.Module, name: str) -> nn.Module | None:
    """What computes a weight that is parametrized."""
    parametrizations = owner._modules.get("parametrizations")
    return None if parametrizations is None else parametrizations._modules.get(name)


def _hooks(owner: nn.Module) -> dict[str, tuple[Any, list[nn.Parameter]]]:
    """The hooks that compute weights, by the weight's name, and the parameters that they compute it from.

    Pruning has such, and the first weight_norm and spectral_norm.
    """
    found: dict[str, tuple[Any, list[nn.Parameter]]] = {}
    for hook in owner._forward_pre_hooks.values():
        name = getattr(hook, "_tensor_name", None) or getattr(hook, "name", None)
        if isinstance(name, str) and owner._parameters.get(name) is None:
            sources = [owner._parameters.get(name + ending) for ending in ("_orig", "_g", "_v")]
            if any(each is not None for each in sources):
                found.setdefault(name, (hook, [each for each in sources if each is not None]))
    return found


def _by_hook(hook: Any, owner: nn.Module, name: str) -> Tensor:
    """A weight as it will be in the next forward; what lies there is that of the last one."""
    if hasattr(hook, "apply_mask"):
        pruned: Tensor = hook.apply_mask(owner)
        return pruned
    if hasattr(hook, "n_power_iterations"):
        normal: Tensor = hook.compute_weight(owner, do_power_iteration=False)
        return normal
    found: Tensor = hook.compute_weight(owner) if hasattr(hook, "compute_weight") else getattr(owner, name)
    return found


def _gone(way: Way, why: str) -> RuntimeError:
    remedy = "regspec.unregularize(model), and regularize it again by rules for what is there now"
    return RuntimeError(f"the weight '{'.'.join(way)}' of a penalty is gone: {why}; {remedy}")
