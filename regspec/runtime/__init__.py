"""What compiled models use and torch lacks: it imports torch alone, and nothing of regspec.

``penalties`` has the class of models with penalties, terms, totals, regularizers, schedules and constraints;
``kernels`` the sums over many tensors and over sharded ones; ``modules`` the layers and functions that torch lacks;
``standalone`` the short form of penalties that ``compile --standalone`` prints.
What compiled source imports stands in ``__init__.pyi``, which ``python -m tests.generate`` writes.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
