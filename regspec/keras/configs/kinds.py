"""Which kind ports a Keras class, and the lookup of facts about kinds that only the port needs.

Such a fact, for example what Keras does with a mask, is no member of the layer's class. It stands in a table beside the
stage that needs it, by the class of a kind or of a family of kinds. A kind without a row has that of the nearest class
that it inherits from, so a new kind needs none.

Two ways were weighed. `functools.singledispatch` looks up in the same way; but half of the questions are about a class
that a file names, before there is a layer, and with a decorated function for each answer nobody sees at a glance which
kinds have one. So a table is a mapping, and the lookup a line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from regspec.layers.kinds import BUILT_IN, KINDS
from regspec.layers.layer import Layer

Answer = TypeVar("Answer")

CLASSES = {"GroupedQueryAttention": "GroupQueryAttention"}  # that Keras exports under another name


def kind_of(class_name: str) -> type[Layer] | None:
    """The kind that ports a layer's class, if there is one."""
    name = CLASSES.get(class_name, class_name)
    cls = KINDS.get(name)
    if cls is None or cls.is_in_keras or cls.is_in_files:
        return cls
    # of a kind of this package alone, or an operation, no Keras has a layer: one of that name is the user's own
    return None if name in BUILT_IN else cls


def nearest(answers: Mapping[type[Layer], Answer], cls: type[Layer]) -> Answer:
    """The answer for a kind: its own, or that of the first class that it inherits from and that has one."""
    return next(answers[each] for each in cls.__mro__ if each in answers)
