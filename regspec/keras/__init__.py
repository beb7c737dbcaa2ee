"""From Keras: a model in a file as a spec, with its arrays as torch's parameters; and the way back.

It may import ``modules`` and what that may import; Keras itself only to verify. In the order in which a file goes
through them (``porting`` leads it):

- ``configs``: the words of Keras's configs, and facts about its classes.
- ``formats``: the file, of which nothing is trusted.
- ``older``: configs and arrays of Keras 1 and 2 as Keras 3 would write them.
- ``operations``, ``reading``: what is computed between layers; the config as a `Model` of entries, and as text.
- ``arrays``: the arrays as torch's parameters, each used once.
- ``conversion``: what a user may want besides: normalizations folded, channels first, blocks.
- ``porting``: all of it, for a file or a model in memory; ``verification``: the port beside its original;
  ``training``: how the model was compiled.
- ``writing``: a spec with its weights as a file of Keras.
"""
