"""Layers, initializers and functions that torch has no counterpart of. It may import ``penalties``."""
