"""Files that hold a model of Keras: what each says of the model, as an `Archive`. Nothing in a file is run or followed.

A file may lie about everything. So its config is bounded in size and depth, and its members are read by their fixed
names, and never unpacked to disk; for its arrays see `regspec.keras.arrays.files`.

- ``archive``: what is read of a file, whatever its form; ``configs``: the JSON in it.
- ``sight``: what is looked at of a file; ``recognition``: the table of what it may be; ``reading``: by that.
- ``folders``: the files in one, of which no link leads out.
- ``zipped``, ``hdf5``, ``texts`` with ``yamls``, ``tfjs`` with ``manifests``, ``saved_model``: a form each.
- ``envelopes``: whether what was read is a model, by ``schemas``.
"""
