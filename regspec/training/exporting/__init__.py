"""A run's model in the forms that others load: what is said of it, examples to compare with, and each form.

``exported`` is the way in; a form is a function in ``forms`` and a row of its table.
"""
