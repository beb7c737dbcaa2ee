"""Torch's private names: each that the package relies on is there, and each that it uses is in the table.

A torch that renames one is noticed here, and not where a name that is asked for by ``hasattr`` or as a text is silently
never found.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.optim import SGD, Adam

import regspec

ROOT = Path(regspec.__file__).parent
ROOMS = ("runtime", "modules", "training", "report")  # which run torch
OTHERS = {"_getframe", "_replace"}  # of sys, and of a named tuple


def hook_of(change: Callable[[nn.Module], Any]) -> Any:
    layer = nn.Linear(3, 2)
    change(layer)
    return next(iter(layer._forward_pre_hooks.values()))


def written_in(path: str) -> dict[str, None]:
    """The names in a file of torch, in code or as texts; what has them needs several processes."""
    tree = ast.parse((Path(torch.__file__).parent / path).read_text(encoding="utf-8"))
    names = [each.attr for each in ast.walk(tree) if isinstance(each, ast.Attribute)]
    return dict.fromkeys([*names, *(each.value for each in ast.walk(tree) if isinstance(each, ast.Constant))])


# what has the name
PRIVATE: dict[str, Callable[[], Any]] = {
    "_C": lambda: torch,
    "_nn": lambda: torch._C,
    "_functorch": lambda: torch._C,
    "_are_functorch_transforms_active": lambda: torch._C,
    "_current_graph_task_id": lambda: torch._C,
    "_get_tracing_state": lambda: torch._C,
    "_will_engine_execute_node": lambda: torch._C,
    "_execution_engine": lambda: torch.autograd.Variable,
    "_current_level": lambda: torch.autograd.forward_ad,
    "_len_torch_dispatch_stack": lambda: torch._C,
    "_is_zerotensor": lambda: torch.ones(1),
    "_foreach_add_": lambda: torch,
    "_foreach_maximum_": lambda: torch,
    "_foreach_minimum": lambda: torch,
    "_foreach_mul": lambda: torch,
    "_foreach_mul_": lambda: torch,
    "_foreach_neg_": lambda: torch,
    "_foreach_norm": lambda: torch,
    "_foreach_reciprocal_": lambda: torch,
    "_foreach_sign": lambda: torch,
    "_foreach_sqrt": lambda: torch,
    "_foreach_sub_": lambda: torch,
    "_version": lambda: torch.ones(1),
    "_sequence_nr": lambda: torch.ones(1, requires_grad=True).exp().grad_fn,
    "_set_sequence_nr": lambda: torch.ones(1, requires_grad=True).exp().grad_fn,
    "_is_view": lambda: torch.ones(1),
    "_base": lambda: torch.ones(1),
    "_backward_hooks": lambda: nn.Parameter(torch.ones(1)),
    "_post_accumulate_grad_hooks": lambda: nn.Parameter(torch.ones(1)),
    "_parameters": lambda: nn.Linear(3, 2),
    "_modules": lambda: nn.Linear(3, 2),
    "_compiled_call_impl": lambda: nn.Linear(3, 2),
    "_forward_hooks": lambda: nn.Linear(3, 2),
    "_forward_pre_hooks": lambda: nn.Linear(3, 2),
    "_replicate_for_data_parallel": lambda: nn.Linear(3, 2),
    "_ConvNd": lambda: nn.modules.conv,
    "_ConvTransposeNd": lambda: nn.modules.conv,
    "_NormBase": lambda: nn.modules.batchnorm,
    "_optimizer_step_pre_hooks": lambda: SGD([torch.ones(1)], lr=0.1),
    "_script": lambda: torch.jit,
    "_orig_mod": lambda: torch.compile(nn.Linear(3, 2)),
    "_tensor_name": lambda: hook_of(lambda layer: prune.identity(layer, "weight")),
    "_is_fsdp_managed_module": lambda: written_in("distributed/fsdp/_dynamo_utils.py"),
    "_fsdp_flattened": lambda: written_in("distributed/fsdp/_common_utils.py"),
}

# names without an underscore that torch does not document
UNDOCUMENTED: dict[str, Callable[[], Any]] = {
    "is_legacy_batchedtensor": lambda: torch._C._functorch,
    "get_interpreter_stack": lambda: torch._C._functorch,
    "Grad": lambda: torch._C._functorch.TransformType,
    "flatten_dense_tensors": lambda: torch._C._nn,
    "queue_callback": lambda: torch.autograd.Variable._execution_engine,
    "call_prepare_scriptable_func_impl": lambda: torch.jit._script,
    "hooked": lambda: type(SGD([torch.ones(1)], lr=0.1)).step,
    "cached_backends": lambda: __import__("torch._dynamo.eval_frame", fromlist=["_"]),
    "skip_nnmodule_hook_guards": lambda: __import__("torch._dynamo.config", fromlist=["_"]),
    "apply_mask": lambda: hook_of(lambda layer: prune.identity(layer, "weight")),
    "n_power_iterations": lambda: hook_of(nn.utils.spectral_norm),
    "compute_weight": lambda: hook_of(nn.utils.spectral_norm),
    # what GradScaler gives a fused optimizer
    "grad_scale": lambda: written_in("amp/grad_scaler.py"),
    "found_inf": lambda: written_in("amp/grad_scaler.py"),
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # of what is asked for
@pytest.mark.parametrize("name", [*PRIVATE, *UNDOCUMENTED])
def test_torch_has_it(name: str) -> None:
    holder = {**PRIVATE, **UNDOCUMENTED}[name]()
    assert name in holder if isinstance(holder, dict) else hasattr(holder, name)


def test_a_step_can_be_told_from_the_function_that_it_wraps() -> None:
    """Once there is an optimizer of a class, its step has the wrapper's code; and a scaler of any kind has one step."""
    optimizers = SGD([torch.ones(1)], lr=0.1), Adam([torch.ones(1)])
    first, second = (type(each).step for each in optimizers)
    assert first.__code__ is second.__code__
    assert first.__code__ is not first.__wrapped__.__code__
    assert torch.cuda.amp.GradScaler.step is torch.amp.GradScaler.step


def names_in(tree: ast.AST) -> Iterator[str]:
    """What is taken from something, or asked for by its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
            yield from (each.value for each in node.args if isinstance(each, ast.Constant))
        elif isinstance(node, ast.Compare) and isinstance(node.left, ast.Constant):
            yield node.left.value


def own_in(tree: ast.AST) -> Iterator[str]:
    """What is defined or set."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Attribute, ast.Name)) and isinstance(node.ctx, ast.Store):
            yield node.attr if isinstance(node, ast.Attribute) else node.id


def test_every_private_name_is_in_the_table() -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    used = {name for tree in trees for name in names_in(tree) if isinstance(name, str)}
    own = {name for tree in trees for name in own_in(tree)}
    private = {name for name in used - own if name.startswith("_") and not name.startswith(("__", "_regspec"))}
    assert private - OTHERS <= PRIVATE.keys()
    assert {**PRIVATE, **UNDOCUMENTED}.keys() - used == set()
