"""What `bind` has to know of an optimizer: whose steps can be seen, and what the options of its groups mean.

A wrapper steps another optimizer: Accelerate's and Lightning's, SAM, Lookahead. Two ways were weighed: a list of the
known ones with the names of their attributes; or, as here, to look among the attributes of any wrapper for an optimizer
of the same parameters. What is there can be seen through, whatever it is called; what is not is refused by its name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, AdamW, NAdam, Optimizer, RAdam, RMSprop

from regspec.text.problems import Problem, RegspecError

COUPLED = (SGD, Adam, NAdam, RAdam, Adagrad, RMSprop)  # whose weight_decay is added to the gradient, unless they say so
HAS_OWN_GROUPS = "keeps parameter groups of its own, which do not see those that the decay route adds"

Group = Mapping[str, Any]


def parameters_of(optimizer: Any) -> set[nn.Parameter]:
    """The parameters of an optimizer's groups."""
    return {parameter for group in optimizer.param_groups for parameter in group["params"]}


# -- wrappers ----------------------------------------------------------------------------------------------------------


def chain_of(optimizer: Any) -> list[Any]:
    """An optimizer, and those that it wraps; the steps of the last can be seen.

    Raises:
        RegspecError: where they can't, and for what is no optimizer.
    """
    name = type(optimizer).__name__
    if not (hasattr(optimizer, "step") and (hasattr(optimizer, "param_groups") or hasattr(optimizer, "zero_grad"))):
        raise RegspecError(Problem(f"{name} is no optimizer", "give bind() the optimizer that trains the model"))
    chain = [optimizer]
    while (inner := _wrapped_by(chain[-1])) is not None and all(inner is not each for each in chain):
        chain.append(inner)
    if not _has_hooks(chain[-1]):
        several = len([*_optimizers_in(chain[-1])]) > 1
        what = f"the steps of {name} can't be seen: it does not call Optimizer.__init__, which makes step hooks"
        if several:
            raise RegspecError(Problem(f"{what}, and it has several optimizers", "bind the model to each of them"))
        hint = "bind the model to the optimizer that it steps, or let its class call super().__init__(params, defaults)"
        raise RegspecError(Problem(f"{what}, and has no attribute that is an optimizer of the same parameters", hint))
    return chain


def _wrapped_by(optimizer: Any) -> Any:
    """The one optimizer among the attributes that has the same parameters, if there is one."""
    if _shares_out(optimizer):
        return None
    groups = getattr(optimizer, "param_groups", None)
    own = None if groups is None else parameters_of(optimizer)
    found = [each for each in _optimizers_in(optimizer) if own is None or parameters_of(each) == own]
    return found[0] if len(found) == 1 else None


def _optimizers_in(optimizer: Any) -> Iterator[Any]:
    """The optimizers among the attributes, each once."""
    seen = {id(optimizer)}
    for value in [*vars(optimizer).values()]:
        values = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else (value,)
        for each in values:
            is_optimizer = isinstance(each, Optimizer) or (
                not isinstance(each, (Tensor, type)) and hasattr(each, "param_groups") and hasattr(each, "step")
            )
            if is_optimizer and id(each) not in seen:
                seen.add(id(each))
                yield each


def _has_hooks(optimizer: Any) -> bool:
    """Whether hooks of its steps are called: `Optimizer.__init__` ran, and has wrapped the ``step`` of its class."""
    if not isinstance(optimizer, Optimizer) or "_optimizer_step_pre_hooks" not in vars(optimizer):
        return False
    return bool(getattr(type(optimizer).step, "hooked", False))


def _shares_out(optimizer: Any) -> bool:
    """Whether it is torch's ZeroRedundancyOptimizer.

    The optimizer in that has this rank's share of the parameters, and is given the options of the groups by their
    numbers; so what is bound is the outer one, which has hooks.
    """
    module = sys.modules.get("torch.distributed.optim.zero_redundancy_optimizer")
    return module is not None and isinstance(optimizer, module.ZeroRedundancyOptimizer)


def has_own_groups(chain: list[Any]) -> bool:
    """Whether a wrapper has another list of groups than the optimizer in it: it would not see groups that are added."""
    return any(getattr(each, "param_groups", chain[-1].param_groups) is not chain[-1].param_groups for each in chain)


def is_nested(optimizer: Optimizer) -> bool:
    """Whether this is a hook of a step inside another of the same optimizer.

    ``super().step()`` in a class of one's own runs the hooks again, because torch wraps the ``step`` of both classes.
    """
    hooked = [cls for cls in type(optimizer).__mro__ if getattr(vars(cls).get("step"), "hooked", False)]
    if len(hooked) < 2:
        return False
    running, frame = 0, sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        is_step = frame.f_code is type(optimizer).step.__code__  # every wrapper of a step has the same code
        running += is_step and _called_on(frame) is optimizer
    return running > 1


def _called_on(frame: FrameType) -> Any:
    """The first argument of what runs in a frame, by a name of its own or among ``*args``."""
    first = frame.f_locals[frame.f_code.co_varnames[0]]
    return first[0] if isinstance(first, tuple) and first else first


def is_scaled(optimizer: Optimizer) -> bool:
    """Whether GradScaler runs this step, and is not switched off: the gradients were multiplied by its scale."""
    if getattr(optimizer, "grad_scale", None) is not None:
        return True
    code, frame = torch.amp.GradScaler.step.__code__, sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code is code:
            return bool(_called_on(frame).is_enabled())
    return False


# -- the options of a group --------------------------------------------------------------------------------------------


def is_decoupled(optimizer: Optimizer, group: Group) -> bool:
    """Whether the weight decay of a group shrinks the weights by themselves, and is no gradient."""
    return bool(group.get("decoupled_weight_decay", isinstance(optimizer, AdamW)))


def is_coupled(optimizer: Optimizer) -> bool:
    """Whether it is known that the weight decay is the gradient of an L2, where it is not decoupled."""
    return isinstance(optimizer, COUPLED)


def directions(groups: Iterable[Group]) -> dict[nn.Parameter, float]:
    """What the gradient of a penalty is multiplied by, for each parameter: -1 where a group climbs along gradients."""
    return {each: -1.0 if group.get("maximize") else 1.0 for group in groups for each in group["params"]}


# -- steps that are none -----------------------------------------------------------------------------------------------


def stands_still(optimizer: Optimizer) -> bool:
    """Whether every learning rate is zero."""
    return all(_is_zero(group.get("lr", 1.0)) for group in optimizer.param_groups)


def _is_zero(lr: Any) -> bool:
    """One on a GPU would have to be waited for, and is taken for none."""
    return bool((not lr.is_cuda and lr.item() == 0) if isinstance(lr, Tensor) else lr == 0)


def is_no_step(optimizer: Optimizer) -> bool:
    """Whether a step is none: all learning rates and all gradients are zero.

    So `torch.distributed.checkpoint.state_dict` has an optimizer make its state, when one is saved or loaded. A
    learning rate of zero alone is a step: a warm-up begins with one.
    """
    if not stands_still(optimizer):
        return False
    gradients = (parameter.grad for group in optimizer.param_groups for parameter in group["params"])
    return not any(each is not None and bool(each.to_dense().any()) for each in gradients)
