"""Files of Keras that are damaged at random, by the tens of thousands: each is ported, or refused in a sentence.

``python -m tests.hostile hdf5 keras --count 20000`` tries so many of each format. A file is made of its format's name,
the seed and its number alone, so that each fault is named by what makes it again.

- ``changes``: other bytes, other values, other messages; ``hdf5`` with ``checksums``: other arrays,
  attributes, bytes of HDF5.
- ``originals``: the good files; ``formats``: for each format what makes a damaged one of them.
- ``worker``: tries files in a process that may crash, hang or eat memory; ``__main__``: starts it, and counts.
"""
