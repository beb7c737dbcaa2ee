"""Contrastive learning on scikit-learn's handwritten digits: two views of each image, InfoNCE, and a linear probe.

The views are drawn by the spec's own random layers, anew in each call in training. No label is seen before the probe,
which takes what is before the projection, by `regspec.features`. Run it from anywhere:
``python examples/contrastive.py``.
"""

import numpy as np
import regspec
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional as F

SPEC = """
regspec: 1
name: encoder
inputs: {image: {shape: [1, 8, 8]}}
regularizers: [{kinds: [Conv2D, Dense], kernel: {l2: 1e-5}}]
layers:
  - RandomRotation: {factor: 0.05, fill_mode: constant}
  - RandomTranslation: {height_factor: 0.15, width_factor: 0.15, fill_mode: constant}
  - RandomZoom: {height_factor: 0.15, fill_mode: constant}
  - GaussianNoise: 0.1
  - Conv2D: {filters: 32, kernel_size: 3, padding: same, activation: relu}
  - Conv2D: {filters: 64, kernel_size: 3, strides: 2, padding: same, activation: relu}
  - Flatten
  - Dense: {name: hidden, units: 128, activation: relu}
  - Dense: {name: projection, units: 64}
"""
LABELLED = 50  # images of which the probe sees the label


def main(epochs: int = 30) -> tuple[float, float, float]:
    """The probe's accuracy on held-out images: on pixels, on features before training, and on those after it."""
    torch.manual_seed(0)
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)[(order := torch.randperm(len(labels)))]
    y = labels[order]
    model = regspec.build(SPEC, seed=0)
    inside = regspec.features(model, ["hidden"])
    before = probe(features_of(inside, x), y)

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(1, epochs + 1):
        losses = []
        for batch in x[:1200][torch.randperm(1200)].split(200):
            loss = info_nce(model(batch), model(batch))
            optimizer.zero_grad()
            (loss + model.regularization_loss()).backward()
            optimizer.step()
            losses.append(loss.item())
        if epoch % 10 == 0:
            print(f"epoch {epoch:3}: loss {np.mean(losses):.3f}")

    pixels, after = probe(x.flatten(1).numpy(), y), probe(features_of(inside, x), y)
    print(f"right, of held-out images, with {LABELLED} labels: {pixels:.1%} on pixels")
    print(f"{before:.1%} on features before training, {after:.1%} after it")
    return pixels, before, after


def info_nce(one: Tensor, other: Tensor, temperature: float = 0.2) -> Tensor:
    """The cross-entropy of finding, among all views of a batch, the other one of the same image."""
    views = F.normalize(torch.cat((one, other)), dim=1)
    scores = views @ views.T / temperature
    scores = scores.masked_fill(torch.eye(len(views), dtype=torch.bool), -torch.inf)
    return F.cross_entropy(scores, torch.arange(len(views)).roll(len(one)))


@torch.no_grad()
def features_of(inside: nn.Module, x: Tensor) -> np.ndarray:
    features = inside.eval()(x)["hidden"].numpy()
    inside.train()
    return features


def probe(features: np.ndarray, y: np.ndarray) -> float:
    """The mean accuracy, on the images from 1200 on, of linear models that see so many labels of the others each."""
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    seen = [slice(first, first + LABELLED) for first in range(0, 20 * LABELLED, LABELLED)]
    return float(np.mean([linear.fit(features[rows], y[rows]).score(features[1200:], y[1200:]) for rows in seen]))


if __name__ == "__main__":
    main()
