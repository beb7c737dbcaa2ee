"""From Keras: a model in a file as a spec, with its arrays as torch's parameters.

It may import ``modules`` and what that may import; Keras itself only to verify. What passes through: a file, to a
spec with notes, and to arrays by the names of torch's parameters. In the order in which a file goes through them
(`porting` leads it):

- ``formats``: the file, of which nothing is trusted; ``live``: a model in memory, which is saved and read as a file;
  ``dialect``: how its words are to be read. ``older``: configs and arrays of Keras 1 and 2 as Keras 3 has them.
- ``reading``, ``nodes``, ``layers``, ``values``, ``quirks``: the config as a `Model` of entries; ``operations``: what
  is computed between layers; ``distributed``: models inside TimeDistributed; ``libraries``: layers that are none of
  Keras's, by name; ``bytecode``: what code names; ``masks``: which must be named; ``text``: the spec. ``kinds`` looks
  up facts about kinds that only the port needs; ``notes`` collects what is told in the end.
- ``groups``, ``weights``, ``quantized``, ``states``: the file's arrays as torch's parameters, each used exactly once.
- ``conversion``: what a user may want besides: normalizations folded, channels first, blocks.
- ``verification``: the port beside its original; ``training``: what the model was compiled with; ``report``: all of it.
"""
