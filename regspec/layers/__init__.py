"""One class a kind, by family; ``operations`` are those that Keras has functions for, and no layers.

It may import ``language``, ``code`` and ``text``. What passes through: the fields of a layer and the tensors that it
takes, to shapes, weights and the expression that computes it. A family is imported when one of its kinds is named;
``index``, which is generated, says which kinds each has.
"""

from regspec.layers.kinds import KINDS, find_kind
from regspec.layers.layer import Layer

__all__ = ["KINDS", "Layer", "find_kind"]
