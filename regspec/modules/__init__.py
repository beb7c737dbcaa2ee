"""What acts on live modules: it builds them, regularizes any module, binds optimizers, measures penalties.

It may import ``targets``, ``runtime`` and what these may import. What passes through: source text, to an ``nn.Module``;
rules and a module, to the same module with penalties.
"""
