"""Random Keras models, each made from a seed, and the property that every one of them is ported to an equal module."""

from __future__ import annotations

from .cases import Case, random_model

__all__ = ["Case", "random_model"]
