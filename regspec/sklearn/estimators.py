"""A classifier and a regressor whose network is a spec."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from regspec.graph.loading import graph_of, load
from regspec.modules.building import build
from regspec.training.calling import train as trained
from regspec.training.data.known import load_inputs
from regspec.training.runs.folder import Folder
from regspec.training.runs.predicting import Prediction, predictions
from regspec.training.runs.restoring import objective_of

Array = NDArray[Any]
E = TypeVar("E", bound="_Estimator")


class _Estimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What both have in common: the arguments, and the training."""

    def __init__(
        self,
        spec: Any,
        *,
        parameters: Mapping[str, Any] | None = None,
        epochs: int = 30,
        batch_size: int = 64,
        optimizer: Any = "adam",
        lr: float = 1e-3,
        validation_fraction: float = 0.0,
        patience: int | None = None,
        random_state: Any = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.spec = spec
        self.parameters = parameters
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.lr = lr
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state
        self.options = options

    def _fit(self: E, x: Array, y: Array, weights: Array | None, sizes: Mapping[str, int]) -> E:
        """Trains on arrays, and keeps the spec, the model, and the metrics of all epochs."""
        known = load(self.spec).parameters
        parameters = {**{name: size for name, size in sizes.items() if name in known}, **(self.parameters or {})}
        rows = [x, y, *([] if weights is None else [weights / (weights.mean() or 1)])]
        train = held_out = rows
        if self.validation_fraction:
            from sklearn.model_selection import train_test_split

            is_by_class = y.dtype.kind == "i" and np.unique(y, return_counts=True)[1].min() > 1
            parts = train_test_split(
                *rows,
                test_size=self.validation_fraction,
                random_state=self.random_state,
                stratify=y if is_by_class else None,
            )
            train, held_out = parts[::2], parts[1::2]
        seed = self.random_state
        if not isinstance(seed, (int, np.integer)):
            seed = check_random_state(seed).randint(2**31)
        options = {"epochs": self.epochs, "batch_size": self.batch_size, "optimizer": self.optimizer, "lr": self.lr}
        options |= {"seed": int(seed), "patience": self.patience, **(self.options or {})}
        options = {name: value for name, value in options.items() if value is not None}
        with tempfile.TemporaryDirectory() as folder:
            run = trained(
                self.spec, (*train, *held_out), folder=f"{folder}/run", parameters=parameters, quiet=True, **options
            )
            self.spec_, self.model_, self.history_ = run.spec, run.model, run.history
            self._objective = objective_of(Folder(run.folder).facts(), graph_of(run.spec))
        self._precise = build(self.spec_, dtype=torch.float64).eval()  # whose answers are the same in any batch
        self._precise.load_state_dict(self.model_.state_dict())
        return self

    def _predicted(self, rows: Any) -> Prediction:
        check_is_fitted(self)
        x = validate_data(self, rows, dtype=np.float64, reset=False)
        examples = load_inputs(x, graph_of(self.spec_, "float64"))
        (said,) = predictions(self._precise, self._objective, examples, self.batch_size).values()
        return said


def _weights(given: Any, x: Array) -> Array | None:
    """How much each row counts. Raises `ValueError`, as scikit-learn's own do."""
    if given is None:
        return None
    weights: Array = _check_sample_weight(given, x, ensure_non_negative=True)
    return weights


class Classifier(ClassifierMixin, _Estimator):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier of scikit-learn whose network is a spec.

    Args:
        spec: The path of a spec, its text, its content as a mapping, or a ModelSpec, of one input and one output.
            Where it has parameters called ``features``, ``classes`` or ``targets``, they are set to how many the data
            have, so that one spec serves many tables.
        parameters: Values of its other parameters in place of their defaults.
        epochs: How often to go over the data.
        batch_size: Examples in a step.
        optimizer: One of torch's, with its arguments: ``"sgd momentum=0.9"``.
        lr: The learning rate.
        validation_fraction: The share of the examples that is held out to choose the epoch whose weights are kept;
            with 0 the epoch of the least loss in training is.
        patience: Ends the training after so many epochs that are no better.
        random_state: Of weights, split and order, and what layers draw.
        options: Other options of ``regspec train``, by their names in a training file.

    After `fit` it has ``classes_``, ``model_`` (the module), ``spec_`` and ``history_``.

    Example:
        >>> from regspec.sklearn import Classifier
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.model_selection import cross_val_score
        >>> spec = {
        ...     "parameters": {"features": 1, "classes": 2, "strength": 1e-3},
        ...     "inputs": {"x": {"shape": ["$features"]}},
        ...     "layers": [{"Dense": {"units": "$classes", "kernel_regularizer": {"l2": "$strength"}}}],
        ... }
        >>> x, y = load_iris(return_X_y=True)
        >>> scores = cross_val_score(Classifier(spec, epochs=60, lr=0.05), x, y)
        >>> bool(scores.mean() > 0.9)
        True
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Classifier:  # noqa: N803  # as scikit-learn calls it
        """Trains the network on rows of numbers and their classes, and gives itself.

        ``sample_weight``, (rows,), says how much each row counts, relative to their mean: that the loss outweighs the
        penalties no more where all weigh more.
        """
        x, y = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        weights = _weights(sample_weight, x)
        counted = np.unique(numbers if weights is None else numbers[weights > 0])
        if len(counted) < 2:
            raise ValueError(f"Classifier can't train when only one class is present: {self.classes_[counted[:1]]}")
        return self._fit(x, numbers, weights, {"features": x.shape[1], "classes": len(self.classes_)})

    def predict_proba(self, X: Any) -> Array:  # noqa: N803  # as scikit-learn calls it
        """The probabilities of the classes, (rows, classes), in the order of ``classes_``."""
        shares = self._predicted(X).probabilities
        assert shares is not None
        return shares.astype(np.float64)

    def predict(self, X: Any) -> Array:  # noqa: N803  # as scikit-learn calls it
        """The most probable class of each row."""
        shares = self.predict_proba(X)
        found: Array = self.classes_[shares.argmax(1)]
        return found


class Regressor(RegressorMixin, _Estimator):  # type: ignore[misc]  # scikit-learn has no types
    """A regressor of scikit-learn whose network is a spec. It takes what `Classifier` takes.

    After `fit` it has ``model_`` (the module), ``spec_`` and ``history_``.

    Example:
        >>> from regspec.sklearn import Regressor
        >>> from sklearn.datasets import load_diabetes
        >>> spec = {"inputs": {"x": {"shape": [10]}}, "layers": [{"Dense": {"units": 1}}]}
        >>> x, y = load_diabetes(return_X_y=True)
        >>> Regressor(spec, epochs=2).fit(x, y).predict(x[:3]).shape
        (3,)
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Regressor:  # noqa: N803  # as scikit-learn calls it
        """Trains the network on rows of numbers and their quantities, (rows,) or (rows, targets), and gives itself.

        ``sample_weight`` is as for `Classifier`.
        """
        x, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        targets = y.astype(np.float32)
        sizes = {"features": x.shape[1], "targets": 1 if y.ndim == 1 else y.shape[1]}
        return self._fit(x, targets, _weights(sample_weight, x), sizes)

    def predict(self, X: Any) -> Array:  # noqa: N803  # as scikit-learn calls it
        """The quantities of each row, (rows,), or (rows, targets)."""
        values = self._predicted(X).values
        return values.astype(np.float64)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
