"""The words of Keras's configs, and the names of what they speak of: what every later stage takes.

``values``: regularizers, constraints, initializers, activation functions; ``defaults``: what goes without saying;
``models``: what a config becomes; ``references``: the names in it; ``dialect``, ``precision``: how its words are read;
``kinds``, ``libraries``, ``quirks``: facts about classes; ``bytecode``: what code in a file names; ``replacing``: the
user's own classes; ``notes``: what is told in the end.
"""
