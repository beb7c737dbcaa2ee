"""The regularizers of the language, for tests that run over all of them."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from regspec import runtime
from regspec.language.penalties import Dimensions
from regspec.language.regularizers import REGULARIZERS, Regularizer, RegularizerField
from regspec.text import document

NAMES = [name for name, each in REGULARIZERS.members.items() if not each.is_registered]
OF_WEIGHTS = [name for name in NAMES if REGULARIZERS.members[name].for_weights]


def of_strength(name: str, strength: float) -> dict[str, Any]:
    """A regularizer as a spec writes it, with the other arguments of its example."""
    cls = REGULARIZERS.members[name]
    example = document.parse(cls.example).data if cls.example else None
    arguments = example if isinstance(example, dict) else {}
    return {name: arguments if cls.main is None else {**arguments, cls.main: strength}}


def class_of(name: str) -> type:
    """The runtime's class that computes it."""
    regularizer: Regularizer = TypeAdapter(RegularizerField).validate_python(of_strength(name, 0.1))
    made: type = getattr(runtime, str(regularizer.lower(Dimensions(0, 1)).function))
    return made
