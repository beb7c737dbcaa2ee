"""What may be written at a layer: fields, short forms, activations, initializers, regularizers, constraints, schedules.

It knows no kind of layer, and may import ``code`` and ``text``. What passes through: a value of a document, to a frozen
class that says what it means.
"""
