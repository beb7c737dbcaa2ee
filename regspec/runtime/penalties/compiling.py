"""What torch's compiler has to be told about hooks. It is not imported here, which would take a second."""

from __future__ import annotations

import sys
from typing import Any

import torch


def forget_compiled() -> None:
    """Drops all compiled code, so that it is compiled anew: compiled code does not see hooks that are added later."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None and dynamo.eval_frame.cached_backends:
        torch.compiler.reset()


def guard_hooks() -> None:
    """Makes torch.compile guard on hooks, which it skips by default: blocks of one class may have different hooks."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None and dynamo not in _guarding:
        dynamo.config.skip_nnmodule_hook_guards = False
        _guarding.append(dynamo)


_guarding: list[Any] = []  # torch's compiler, once it guards on hooks
