"""Specs as estimators of scikit-learn, for its pipelines and searches.

``estimators`` has the classifier and the regressor. They may import all of `training`, and are imported by no other
room; they need ``regspec[train]``.
"""

from regspec.sklearn.estimators import Classifier, Regressor

__all__ = ["Classifier", "Regressor"]
