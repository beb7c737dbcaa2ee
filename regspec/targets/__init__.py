"""What a network becomes as source text.

``torch`` has the class of a module, ``keras`` a function of Keras 3, ``python`` what prints Python for both.

It may import ``graph`` and what that may import, and never torch itself. What passes through: a `Graph`, to the text of
a file.
"""
