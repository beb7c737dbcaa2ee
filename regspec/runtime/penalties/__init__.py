"""Penalties: terms on weights and outputs, their sum, and what holds after a step. It may import ``kernels``."""
