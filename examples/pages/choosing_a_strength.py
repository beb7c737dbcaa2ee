"""The data of choosing_a_strength.md: scikit-learn's digits with noise on every pixel, 300 of them to train on.

With so few images and so many weights a network learns the noise by heart, unless something keeps it from that:
``regspec tune examples/digits_search.yaml --data examples.pages.choosing_a_strength:noisy`` searches what does.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits


def noisy(trained: int = 300, noise: float = 0.4) -> tuple[np.ndarray, ...]:
    """Images and classes to train on, and images and classes held out."""
    images, classes = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    images = images / 16 + noise * rng.standard_normal(images.shape)
    order = rng.permutation(len(images))
    train, held_out = order[:trained], order[trained:]
    return images[train], classes[train], images[held_out], classes[held_out]
