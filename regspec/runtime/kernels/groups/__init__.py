"""Proximal steps of group lassos. `places` says where groups lie, `roots` has the formula, `shrinking` chooses a way.

There are three. On a CPU numba takes one group after the other (`one_pass`, `by_numba`). By torch the groups that lie
in the same tensors are the rows of a matrix. Of tensors that are spread over processes each keeps its own numbers, and
sums of groups alone are exchanged (`shards`). One flat vector for all groups with sums by an index, as the shards have
it, was tried for the second: on a CPU each such sum takes 17 times as long as that of rows.

Measured on a busy machine, CPU time of one thread (`python -m tests.benchmarks penalties`): a step with the proximal
route of units over the step alone, on the 272,474 weights of ResNet-20 (65 parameters, 12 families of units). Adam 1.45
to 1.55, AdamW 1.4 to 1.5, foreach 1.6, RMSprop 1.6, SGD with momentum 1.8, fused Adam 2.2; before they were 7.2, 6.2,
8.0, 9.5, 4.5 and 19. By torch alone Adam is 3.8. Of the 1.5 ms that Adam's 3.1 get more, numba takes 0.37, two thirds
of which are roots and divisions. The rest is Python's, 15 us a parameter, where Adam's own loop takes 50. With eight
times as many filters, 17 M weights, Adam 1.26 to 1.40, fused Adam 1.9 to 2.1, SGD with momentum 1.75.
"""
