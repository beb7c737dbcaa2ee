"""The arrays of a file, as torch's parameters: each is used exactly once.

``files``: arrays that are read when their shape is known, after ``headers`` and ``pieces`` have looked at what HDF5
would make room for; ``groups``: where a layer's arrays are; ``quantized``: the numbers that whole numbers stand for;
``sizes``: what arrays tell of inputs; ``matching``: which weight each is, and ``own``: which parameter of a module of
the user's.
"""
