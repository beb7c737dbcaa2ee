"""The estimators: what scikit-learn asks of one, in pipelines and searches, and what they have learned."""

from __future__ import annotations

import contextlib
import pickle
from typing import Any
from unittest import SkipTest

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

import regspec
from regspec.sklearn import Classifier, Regressor

CLASSES = """\
regspec: 1
parameters: {features: 1, classes: 2, strength: 1e-4, width: 16}
inputs: {x: {shape: [$features]}}
layers:
  - Dense: {name: hidden, units: $width, activation: relu, kernel_regularizer: {l2: $strength}}
  - Dense: {name: scores, units: $classes}
"""
QUANTITIES = CLASSES.replace("classes: 2", "targets: 1").replace("$classes", "$targets")
ESTIMATORS = [
    Classifier(CLASSES, epochs=15, lr=0.1, batch_size=32),
    Regressor(QUANTITIES, epochs=15, lr=0.1, batch_size=32),
]


OTHERWISE = "check_sample_weight_equivalence_on_dense_data"  # to 1e-7, which float32 can't: `test_weights` has it
OF_BOTH = {check.func.__name__ for _, check in estimator_checks_generator(ESTIMATORS[0])}  # their code is one
CHECKS = [
    pytest.param(
        estimator,
        check,
        id=f"{type(estimator).__name__}-{check.func.__name__}",
        marks=[pytest.mark.everything] * (each is not ESTIMATORS[0] and check.func.__name__ in OF_BOTH),
    )
    for each in ESTIMATORS
    for estimator, check in estimator_checks_generator(each)
    if check.func.__name__ != OTHERWISE
]


@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_what_scikit_learn_asks(estimator: Any, check: Any) -> None:
    with contextlib.suppress(SkipTest):  # by which a check says that it is for others: for sparse rows, for array_api
        check(estimator)


def test_in_a_search() -> None:
    """A pipeline is searched over a parameter of the spec; the best is as it was fitted, and can be pickled."""
    x, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    pipeline = make_pipeline(StandardScaler(), Classifier(CLASSES, epochs=15, lr=0.05))
    grid = {"classifier__parameters": [{"strength": 10.0}, {"strength": 1e-4}], "classifier__lr": [0.05]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(x, names)
    assert search.best_params_["classifier__parameters"] == {"strength": 1e-4}
    assert search.score(x, names) > 0.9
    best = search.best_estimator_[-1]
    assert best.spec_.parameters == {"features": 4, "classes": 3, "strength": 1e-4, "width": 16}
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    assert np.array_equal(again.predict(x), search.predict(x))
    scores = best.model_(torch.tensor(search.best_estimator_[0].transform(x)).float())
    np.testing.assert_allclose(
        best.predict_proba(search.best_estimator_[0].transform(x)), scores.softmax(1).detach(), atol=1e-6
    )


def test_several_quantities() -> None:
    """The spec has a unit for each; the penalty is a part of what is learned."""
    x, y = load_diabetes(return_X_y=True, scaled=True)
    both = np.stack([y, -y], 1) / 100
    strong, weak = (
        Regressor(QUANTITIES, parameters={"strength": each}, epochs=20, lr=0.02).fit(x, both) for each in (1.0, 0.0)
    )
    assert weak.predict(x).shape == (442, 2)
    assert weak.score(x, both) > 0.3
    assert strong.model_.hidden.weight.norm() < 0.1 * weak.model_.hidden.weight.norm()


def test_a_share_is_held_out() -> None:
    """The epoch that is kept is the one of the least loss there; patience ends the training."""
    x, y = load_iris(return_X_y=True)
    fitted = Classifier(
        CLASSES, epochs=40, lr=0.3, validation_fraction=0.3, patience=3, random_state=np.random.RandomState(1)
    )
    losses = fitted.fit(x, y).history_["held_out_loss"]
    assert len(losses) < 40
    assert len(losses) - 1 - int(np.argmin(losses)) >= 3


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (Classifier(CLASSES, optimizer="adma"), "'adma' is no optimizer"),
        (Classifier(CLASSES, options={"epoch": 3}), "epoch"),
        (Classifier(CLASSES.replace("$classes", "2")), "the last layer needs 3 units"),
        (Classifier(CLASSES, parameters={"strenght": 1.0}), "strenght"),
    ],
)
def test_what_is_wrong(estimator: Any, message: str) -> None:
    with pytest.raises(regspec.RegspecError, match=message):
        estimator.fit(*load_iris(return_X_y=True))
