"""A file that stands alone, run as a person's own is."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import regspec


def alone(spec: Any, name: str) -> Any:
    """A model of the class of that name in the file of a spec; it has the initial values that a built one has."""
    code = compile(regspec.source(spec, standalone=True), "alone.py", "exec", dont_inherit=True)
    module = sys.modules["alone"] = ModuleType("alone")  # dataclasses look their module up
    try:
        exec(code, vars(module))
    finally:
        del sys.modules["alone"]
    return getattr(module, name)()
