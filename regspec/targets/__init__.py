"""What a network becomes: ``torch`` has the class of a module as source text, ``python`` what prints Python.

It may import ``graph`` and what that may import, and never torch itself. What passes through: a `Graph`, to the text of
a file.
"""
