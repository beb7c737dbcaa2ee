"""From a file, or a model in memory, to a port.

``porting`` leads through all stages; ``live`` saves a model in memory, ``ported`` is what becomes of one, ``states``
its weights as a file, and ``report`` tells of it.
"""

TOLERANCE = 2e-4  # the largest relative error of a port that passes, where nobody says another
