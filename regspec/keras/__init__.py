"""From Keras: a model in a file as a spec, with its arrays as torch's parameters; and the way back.

It may import ``modules`` and what that may import; Keras itself only to verify. Its rooms, each of which imports only
those before it:

- ``configs``: the words of Keras's configs, and facts about its classes.
- ``operations``: what is computed between layers.
- ``arrays``: the arrays of a file as torch's parameters, each used once.
- ``formats``: the file, of which nothing is trusted.
- ``older``: configs and arrays of Keras 1 and 2 as Keras 3 would write them.
- ``reading``: the config as a `Model` of entries, and as text.
- ``conversion``: what a user may want besides: normalizations folded, channels first, blocks.
- ``training``: how the model was compiled.
- ``porting``: all of it, for a file or a model in memory.
- ``verification``: the port beside its original, for which ``porting`` asks when it is told to.
- ``writing``: a spec with its weights as a file of Keras.
"""
