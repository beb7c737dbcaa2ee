"""A config in the form of Keras 3 as a model's entries, and as the text of a spec.

``reading`` leads: ``nodes`` are the calls, ``layers`` one layer, ``masks`` what must be named, ``modes`` what is called
in training, ``distributed`` models in TimeDistributed, ``ranks`` a check, ``settings`` what holds for the whole model.
"""
