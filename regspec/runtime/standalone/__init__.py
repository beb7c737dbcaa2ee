"""Penalties for files that stand alone: a short form of ``penalties``, which is printed and never imported."""
