"""From Keras: a model in a file as a spec, with its arrays as torch's parameters; and the way back.

It may import ``modules`` and what that may import; Keras itself only to verify. In the order in which a file goes
through them (`porting` leads it):

- ``formats``: the file, of which nothing is trusted; ``live``: a model in memory; ``dialect``: how words are read.
- ``older``: configs and arrays of Keras 1 and 2 as Keras 3 would write them.
- ``reading``, ``nodes``, ``layers``, ``values``, ``quirks``: the config as a `Model` of entries; ``operations``: what
  is computed between layers; ``distributed``: models in TimeDistributed; ``libraries``: layers of others; ``bytecode``:
  what code names; ``masks``: which must be named; ``text``: the spec; ``kinds``: facts; ``notes``: what is told.
- ``groups``, ``weights``, ``quantized``, ``states``, ``sizes``: the arrays as torch's parameters, each used once.
- ``conversion``: what a user may want besides: normalizations folded, channels first, blocks.
- ``verification``: the port beside its original; ``training``: how the model was compiled; ``report``: all of it.
- ``writing``: a spec with its weights as a file of Keras.
"""
