"""What was done to a module after it was built, which the spec that is written does not say."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from regspec.graph.network import Graph
from regspec.modules.building import made_of
from regspec.modules.measuring import strengths
from regspec.text.problems import Problem, RegspecError


def alterations(module: nn.Module, graph: Graph) -> Iterator[Problem]:
    """What training would miss: weights that were frozen or freed, and strengths and penalties that were given.

    Raises:
        RegspecError: where the module has no longer the spec's weights.
    """
    with torch.random.fork_rng(devices=()):
        first = made_of(graph)
    wanted, state = first.state_dict(), module.state_dict()
    for name in {**wanted, **state}:  # those of the spec first
        if name not in wanted or name not in state or wanted[name].shape != state[name].shape:
            what = f"'{name}' of the {type(module).__name__} is another than its spec says"
            raise RegspecError(Problem(what, "undo what replaces or parametrizes its modules, or say it in the spec"))
        if state[name].is_meta:
            raise RegspecError(Problem(f"'{name}' of the {type(module).__name__} has no numbers, on the device meta"))
    trained = {name: each.requires_grad for name, each in first.named_parameters()}
    for name, each in module.named_parameters():
        if each.requires_grad != trained[name]:
            done, said = ("trained", "not") if each.requires_grad else ("frozen", "trained")
            yield Problem(f"'{name}' is {done}, and by the spec it is {said}", "say 'trainable' at its layer")
    by_spec, now = strengths(first), strengths(module)
    for name in {**by_spec, **now}:
        if by_spec.get(name) != now.get(name):
            told = " and ".join(
                f"{found[name]:g} {where}" if name in found else f"absent {where}"
                for found, where in ((now, "in the module"), (by_spec, "in its spec"))
            )
            yield Problem(f"the penalty {name} is {told}", "say it in the spec")
