"""Where a weight is now: a parameter, or what is computed from some, as by a parametrization, a hook or a wrapper.

It is looked for each time, because it may have been tied, pruned, replaced or wrapped since.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

Way = tuple[str, ...]  # to a parameter: the names of modules, and its own


def weight_at(module: nn.Module, way: Way, counts_frozen: bool = False) -> Tensor | None:
    """The weight to which a way leads; None where it is frozen, or without a gradient where frozen ones count.

    What `functional_call` puts in the place of a parameter is not frozen.

    Raises:
        RuntimeError: where it is gone.
    """
    owner, name = owner_at(module, way), way[-1]
    parameter: Tensor | None = owner._parameters.get(name)  # `getattr` would take longer
    if parameter is None:
        parameter, is_trained = _computed(owner, name, way)
    else:
        is_trained = parameter.requires_grad or not isinstance(parameter, nn.Parameter)
    if is_trained:
        return parameter
    return parameter.detach() if counts_frozen else None


def tensor_at(module: nn.Module, way: Way) -> Tensor:
    """The weight to which a way leads, frozen or not. Raises `RuntimeError` where it is gone."""
    owner = owner_at(module, way)
    parameter: Tensor | None = owner._parameters.get(way[-1])
    return _computed(owner, way[-1], way)[0] if parameter is None else parameter


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
    return owner._parameters.get(name) is not None or isinstance(getattr(owner, name, None), Tensor)


def _computed(owner: nn.Module, name: str, way: Way) -> tuple[Tensor, bool]:
    """A weight that is no parameter of its own, and whether anything that it is computed from is trained."""
    parametrizations: Any = owner._modules.get("parametrizations")
    if parametrizations is not None and name in parametrizations:
        return getattr(owner, name), any(each.requires_grad for each in parametrizations[name].parameters())
    for hook in owner._forward_pre_hooks.values():  # as pruning, and the first weight_norm and spectral_norm
        if name in (getattr(hook, "_tensor_name", None), getattr(hook, "name", None)):
            sources = [owner._parameters.get(name + ending) for ending in ("_orig", "_g", "_v")]
            return _by_hook(hook, owner, name), any(each is not None and each.requires_grad for each in sources)
    with torch.enable_grad():  # a wrapper's property may compute it
        found = getattr(owner, name, None)
    if not isinstance(found, Tensor):
        where, kind = ".".join(way[:-1]), type(owner).__name__
        what = "has one that is no tensor, as quantized modules do" if callable(found) else f"has no '{name}'"
        raise _gone(way, f"'{where}' is a {kind} now, which {what}" if where else f"the {kind} {what}")
    if found.requires_grad or isinstance(found, nn.Parameter) or not torch.is_inference_mode_enabled():
        return found, found.requires_grad
    return found, any(each.requires_grad for each in owner.parameters())  # nothing has a gradient here


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
