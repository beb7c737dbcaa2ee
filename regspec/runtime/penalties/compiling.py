"""What torch's compiler has to be told about hooks. It is not imported here, which would take a second."""

from __future__ import annotations

import sys
from typing import Any

import torch


def forget_compiled() -> None:
    """Has everything compiled anew, if anything is: code that is compiled does not see hooks that are added."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None and dynamo.eval_frame.cached_backends:
        torch.compiler.reset()


def guard_hooks() -> None:
    """Has torch.compile look at hooks, which it does not by itself: blocks of one class may have other ones."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None and dynamo not in _guarding:
        dynamo.config.skip_nnmodule_hook_guards = False
        _guarding.append(dynamo)


_guarding: list[Any] = []  # torch's compiler, once it is told
