"""From Keras: a model in a file as a spec, with its arrays as torch's parameters.

It may import ``modules`` and what that may import; Keras itself only to verify. What passes through: a file, to a
spec with notes, and to arrays by the names of torch's parameters. In the order in which a file goes through them
(`porting` leads it):

- ``formats``: the file, of which nothing is trusted; ``dialect``: how its words are to be read.
- ``live``: a model in memory, which is saved by its own Keras and read as a file.
- ``older``: configs and arrays of Keras 1 and 2 as Keras 3 would write them.
- ``reading``, ``nodes``, ``layers``, ``values``, ``quirks``: the config as a `Model` of entries; ``operations``: what
  is computed between layers; ``distributed``: models inside TimeDistributed; ``libraries``: layers that are none of
  Keras's, by name; ``masks``: which must be named; ``text``: the spec. ``kinds`` looks up facts about
  kinds that only the port needs; ``notes`` collects what is told in the end.
- ``weights``, ``quantized``: the file's arrays as torch's parameters, each used exactly once; ``states``: as
  they are kept.
- ``conversion``: what a user may want besides: normalizations folded, channels first, blocks.
- ``verification``: the port beside its original; ``training``: what the model was compiled with; ``report``: all of it.
"""
