"""SavedModels of Keras 2: a folder with a graph of objects, which say what they are, and a bundle of their arrays.

TensorFlow is not needed, and what the folder holds to be run, functions and assets, is passed over. All of it may lie,
so each number is checked before it is used, and what is read is bounded in time and memory.

- ``protobuf``: messages of fields; ``checksums``; ``table``: rows by key; ``bundle``: arrays by key.
- ``objects``: the graphs of objects, and the way of a config through them; ``signatures``: what a graph alone says.
- ``reading`` makes an `Archive` of a folder, with its arrays as the model's ``.weights.h5`` file would have them.
"""
