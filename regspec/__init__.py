"""regspec: networks and their regularizers as validated YAML, compiled to PyTorch that you can read.

The public names, and where each is defined, stand in ``__init__.pyi``. Each is imported when it is first used, because
what checks a spec needs no torch.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
