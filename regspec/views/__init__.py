"""What is shown of a spec or of the language: the reference of kinds and names.

It may import the language, layers, spec and graph, and never torch.
"""
