"""scikit-learn's GridSearchCV over a strength, by skorch: the best of some strengths in cross-validation.

A function makes the model from a strength, which skorch then calls ``module__strength``. `get_loss` adds the penalties
in training only, so that ``valid_loss`` in skorch's table is the data's. Run it from anywhere:
``python examples/integrations/grid_search.py``.
"""

from typing import Any

import numpy as np
import regspec
import torch
from regspec.runtime import Regularized
from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from torch import Tensor, nn

SPEC = """
regspec: 1
name: classifier
parameters: {{strength: {strength!r}}}
inputs: {{features: {{shape: [13]}}}}
layers:
  - Dense: {{name: hidden, units: 32, activation: relu, kernel_regularizer: {{l2: $strength}}}}
  - Dense: {{name: logits, units: 3, kernel_regularizer: {{l2: $strength}}}}
"""


def build(strength: float) -> Regularized:
    return regspec.build(regspec.loads(SPEC.format(strength=strength)))


class RegularizedClassifier(NeuralNetClassifier):
    def get_loss(self, y_pred: Tensor, y_true: Tensor, X: Any = None, training: bool = False) -> Tensor:  # noqa: N803  # as skorch names it
        loss = super().get_loss(y_pred, y_true, X=X, training=training)
        return loss + self.module_.regularization_loss() if training else loss


def classifier(**settings: Any) -> RegularizedClassifier:
    """A classifier of scikit-learn's kind."""
    return RegularizedClassifier(
        build,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        **{"module__strength": 1e-3, "lr": 0.01, "max_epochs": 30, "batch_size": 32, "verbose": 0, **settings},
    )


def main(epochs: int = 30) -> GridSearchCV:
    """The finished search."""
    torch.manual_seed(0)
    features, labels = load_wine(return_X_y=True)
    model = make_pipeline(StandardScaler(), classifier(max_epochs=epochs, train_split=None))
    strengths = {"regularizedclassifier__module__strength": [1e-4, 1e-3, 1e-2, 1e-1, 1.0]}
    search = GridSearchCV(model, strengths, cv=5)
    search.fit(features.astype(np.float32), labels)
    for strength, score in zip(*strengths.values(), search.cv_results_["mean_test_score"], strict=True):
        print(f"strength {strength:<7} accuracy {score:.3f}")
    print(f"the best: {search.best_params_}")
    return search


if __name__ == "__main__":
    main()
