"""One class a kind, by family; ``operations`` are those that Keras has functions for, and no layers.

It may import ``language``, ``code`` and ``text``. What passes through: the fields of a layer and the tensors that it
takes, to shapes, weights and the expression that computes it. Importing the package fills the table of kinds.
"""

from importlib import import_module
from pkgutil import walk_packages

from regspec.layers.kinds import KINDS, find_kind
from regspec.layers.layer import Layer

for _module in walk_packages(__path__, f"{__name__}."):
    import_module(_module.name)

__all__ = ["KINDS", "Layer", "find_kind"]
