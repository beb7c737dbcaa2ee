"""What a network is: its layers in order, with names resolved, shapes, masks, and rules applied.

It may import ``specs`` and what that may import. What passes through: a `ModelSpec`, to a `Graph` and every fault of
its names and shapes.
"""
