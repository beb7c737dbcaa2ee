"""regspec: networks and their regularizers as validated YAML, compiled to PyTorch that you can read.

This page is a table of contents. What needs torch is imported when it is first used, so that checking a spec does not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regspec.binding import bind
    from regspec.building import build
    from regspec.compiler import load, loads, source
    from regspec.errors import Problem, RegspecError
    from regspec.keras.porting import Port, port
    from regspec.layers.layer import Layer
    from regspec.layers.registration import register_layer
    from regspec.measuring import regularization_loss, regularization_terms, sparsity, strengths
    from regspec.regularizing import regularize, unregularize
    from regspec.runtime import accumulate, reset_states
    from regspec.spec.model import ModelSpec
    from regspec.spec.regularizers import register_regularizer

__version__ = "0.1.0"

_HOMES = {
    "bind": "regspec.binding",
    "build": "regspec.building",
    "load": "regspec.compiler",
    "loads": "regspec.compiler",
    "source": "regspec.compiler",
    "Problem": "regspec.errors",
    "RegspecError": "regspec.errors",
    "Port": "regspec.keras.porting",
    "port": "regspec.keras.porting",
    "Layer": "regspec.layers.layer",
    "register_layer": "regspec.layers.registration",
    "regularization_loss": "regspec.measuring",
    "regularization_terms": "regspec.measuring",
    "sparsity": "regspec.measuring",
    "strengths": "regspec.measuring",
    "regularize": "regspec.regularizing",
    "unregularize": "regspec.regularizing",
    "accumulate": "regspec.runtime",
    "reset_states": "regspec.runtime",
    "ModelSpec": "regspec.spec.model",
    "register_regularizer": "regspec.spec.regularizers",
}

__all__ = [
    "Layer",
    "ModelSpec",
    "Port",
    "Problem",
    "RegspecError",
    "accumulate",
    "bind",
    "build",
    "load",
    "loads",
    "port",
    "register_layer",
    "register_regularizer",
    "regularization_loss",
    "regularization_terms",
    "regularize",
    "reset_states",
    "source",
    "sparsity",
    "strengths",
    "unregularize",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'regspec' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
