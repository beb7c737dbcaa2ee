"""A whole spec: its sections, parameters, blocks and rules, from a document to a frozen `ModelSpec`.

It may import ``layers`` and what that may import. What passes through: a `Document`, to a `ModelSpec` and every fault
of its fields.
"""
