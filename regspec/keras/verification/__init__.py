"""A port beside its original in Keras.

``original``: a model in Keras, which ``loading`` loads, with the config by ``rewording`` and the arrays by ``giving``;
``outcomes``: what either side computes, and ``faults``: what it raises; ``comparing``: how far apart they are;
``verifying`` leads, and ``apart`` runs it in a process of its own. ``backends``: layers that Keras's torch backend
computes wrongly.
"""
