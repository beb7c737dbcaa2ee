"""What torch does with the code that runs: a backward pass, a recording, or a checkpoint."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import CheckpointFunction


def is_in_backward() -> bool:
    """Whether a backward pass runs, which computes again what a checkpoint left out."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def is_for_parameters(module: nn.Module) -> bool:
    """Whether the backward that runs is the one that trains: not a derivative by inputs, or one that is differentiated.

    Such an inner gradient belongs to a loss that is not there yet, as in a physics-informed net.
    """
    if torch.is_grad_enabled():  # by create_graph=True
        return False
    edges = [torch.autograd.graph.get_gradient_edge(each) for each in module.parameters() if each.requires_grad]
    try:
        return any(torch._C._will_engine_execute_node(edge.node) for edge in edges)
    except RuntimeError:  # where torch.autograd.grad is asked for the gradient of a parameter itself
        return True


def is_differentiated() -> bool:
    """Whether the gradients of this backward pass are differentiated again; `torch.func.grad` alone does not do so."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return False
    functorch = torch._C._functorch
    stack = functorch.get_interpreter_stack() or []
    return sum(each.key() == functorch.TransformType.Grad for each in stack) != 1


def is_recorded(output: Any = None) -> bool:
    """Whether what runs is written down by `torch.jit.trace` or `torch.fx`: what they make has no penalties."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._get_tracing_state() is not None or isinstance(output, torch.fx.Proxy)


def is_no_forward() -> bool:
    """Whether what runs, uncompiled, is a backward pass, or written down by `torch.jit.trace`."""
    return torch._C._current_graph_task_id() != -1 or torch._C._get_tracing_state() is not None


def is_part_of_script() -> bool:
    """Whether `torch.jit.script` prepares a module that is in another."""
    prepare, depth = torch.jit._script.call_prepare_scriptable_func_impl.__code__, 0
    frame = sys._getframe(1).f_back
    while frame is not None:
        depth += frame.f_code is prepare
        frame = frame.f_back
    return depth > 1


def is_in_reentrant_checkpoint() -> bool:
    """Whether the forward runs in a checkpoint of the re-entrant kind, which loses the gradients of penalties."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        if frame.f_code is CheckpointFunction.forward.__code__:
            return True
        frame = frame.f_back
    return False
