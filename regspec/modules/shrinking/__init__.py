"""Units that are zero, or that nothing takes, go from a model: to a smaller spec, with its weights.

`live` tells which units of a live model are constant and which count, `choosing` which go, `slicing` what is left of
the weights, and `shrinking` leads them.
"""
