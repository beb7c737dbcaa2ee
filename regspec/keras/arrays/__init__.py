"""The arrays of a file, as torch's parameters: each is used exactly once.

``sources``: where arrays lie, ``held`` at hand or in an ``hdf5`` file, of which ``headers`` and ``pieces`` look at
what HDF5 would make room for; ``files``: those of a model, each of which is
read when its shape is known; ``groups``: where a layer's arrays are; ``quantized``: the numbers that whole numbers
stand for; ``sizes``: what arrays tell of inputs; ``matching``: which weight each is, and ``own``: which parameter of a
module of the user's.
"""
