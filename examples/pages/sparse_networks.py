"""The tables and the figure of sparse_networks.md: accuracy against exact zeros, on scikit-learn's handwritten digits.

Run it from anywhere: ``python examples/pages/sparse_networks.py``. It prints the tables' rows, and with
``--figure sparse_networks.png`` it draws. It trains in double precision: in single, what a machine rounds otherwise
grows over the steps to several percent of the zeros.
"""

import argparse
from dataclasses import dataclass
from functools import cache, partial
from statistics import mean

import regspec
import torch
from regspec.runtime import Regularized
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn import functional as F

SPEC = """
regspec: 1
name: classifier
inputs: {{pixels: {{shape: [64]}}}}
layers:
  - Dense: {{name: hidden1, units: 128, activation: relu}}
  - Dense: {{name: hidden2, units: 64, activation: relu}}
  - Dense: {{name: logits, units: 10}}
regularizers:
  - {{layers: {layers}, kernel: {regularizer}}}
"""
RATE, MOMENTUM, EPOCHS, SEEDS = 0.1, 0.9, 60, range(3)
STRENGTHS = (0.0, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
GROUP_STRENGTHS = (1e-5, 3e-5, 1e-4, 3e-4)
OPTIMIZERS = {
    "SGD, 0.1, momentum": lambda parameters: torch.optim.SGD(parameters, lr=RATE, momentum=MOMENTUM),
    "Adam, 0.01, cosine": partial(torch.optim.Adam, lr=0.01),
    "Adam, 0.001, cosine": partial(torch.optim.Adam, lr=0.001),
    "RMSprop, 0.01, cosine": partial(torch.optim.RMSprop, lr=0.01),
    "Adagrad, 0.1": partial(torch.optim.Adagrad, lr=0.1),
}


@dataclass(frozen=True)
class Result:
    """What a network came to."""

    accuracy: float  # on held-out digits
    magnitudes: Tensor  # of the numbers in all kernels
    units: tuple[int, ...]  # of the hidden layers: those with an input that is not zero

    @property
    def zeros(self) -> float:
        """The share of exact zeros in the kernels."""
        return (self.magnitudes == 0).double().mean().item()

    @property
    def small(self) -> float:
        """The share of numbers in the kernels of at most 1e-3."""
        return (self.magnitudes <= 1e-3).double().mean().item()


@cache
def digits() -> list[Tensor]:
    pixels, labels = load_digits(return_X_y=True)
    split = train_test_split(pixels / 16, labels, test_size=0.2, stratify=labels, random_state=0)
    return [torch.tensor(each, dtype=torch.float64 if each.ndim > 1 else torch.int64) for each in split]


def l1(strength: float, route: str, seed: int, optimizer: str = "SGD, 0.1, momentum") -> Result:
    """A network with L1 on all kernels."""
    text = SPEC.format(layers="'.*'", regularizer=f"{{l1: {strength!r}}}")
    return trained(regspec.build(regspec.loads(text), seed=seed, dtype=torch.float64), seed, optimizer, l1=route)


def group_lasso(strength: float, seed: int) -> Result:
    """A network with a group lasso on the hidden layers, a group for each unit's inputs; by proximal steps."""
    regularizer = f"{{group_lasso: {{strength: {strength!r}, axis: output}}}}"
    text = SPEC.format(layers="'hidden.'", regularizer=regularizer)
    return trained(regspec.build(regspec.loads(text), seed=seed, dtype=torch.float64), seed, group_lasso="proximal")


def trained(model: Regularized, seed: int, optimized: str = "SGD, 0.1, momentum", **routes: str) -> Result:
    pixels, held_out_pixels, labels, held_out_labels = digits()
    optimizer = OPTIMIZERS[optimized](model.parameters())
    regspec.bind(model, optimizer, **routes)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS) if "cosine" in optimized else None
    generator = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(pixels), generator=generator).split(64):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(pixels[rows]), labels[rows]) + model.regularization_loss()
            loss.backward()
            optimizer.step()
        if schedule is not None:
            schedule.step()
    with torch.no_grad():
        accuracy = (model(held_out_pixels).argmax(1) == held_out_labels).float().mean().item()
        kernels = [model.hidden1.weight, model.hidden2.weight, model.logits.weight]
        units = tuple(int(kernel.any(dim=1).sum()) for kernel in kernels[:2])
        return Result(accuracy, torch.cat([kernel.flatten() for kernel in kernels]).abs(), units)


def by_route(strength: float, route: str) -> tuple[float, ...]:
    """The accuracy, the exact zeros and the small weights of networks with L1 on a route."""
    results = [l1(strength, route, seed) for seed in SEEDS]
    return tuple(mean(getattr(each, what) for each in results) for what in ("accuracy", "zeros", "small"))


def by_optimizer(name: str, strength: float = 3e-4) -> tuple[float, float]:
    """The accuracy and the exact zeros of networks with L1 by proximal steps."""
    results = [l1(strength, "proximal", seed, name) for seed in SEEDS]
    return mean(each.accuracy for each in results), mean(each.zeros for each in results)


def group_row(strength: float) -> tuple[float, ...]:
    """The strength, the accuracy, the exact zeros, and how many units are left in each hidden layer."""
    results = [group_lasso(strength, seed) for seed in SEEDS]
    numbers = (mean(getattr(each, what) for each in results) for what in ("accuracy", "zeros"))
    return (strength, *numbers, *(mean(each.units[layer] for each in results) for layer in (0, 1)))


def draw(rows: list[tuple[float, ...]], path: str, strength: float = 3e-4) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained")
    blue, orange = "#0072b2", "#d55e00"
    left.plot([100 * row[5] for row in rows], [100 * row[4] for row in rows], "o-", color=blue, label="proximal")
    left.plot(
        [100 * row[2] for row in rows],
        [100 * row[1] for row in rows],
        "s",
        color=orange,
        label="in the loss, at the same strengths",
    )
    for row in rows[1:]:
        left.annotate(f"{row[0]:g}", (100 * row[5], 100 * row[4]), (-3, -15), textcoords="offset points", ha="right")
    left.set(xlabel="exact zeros in the kernels, %", ylabel="accuracy on held-out digits, %", xlim=(-4, 104))
    left.set_ylim(91, 99)
    left.set_title("Accuracy against exact zeros, by strength", fontsize=10)
    left.legend(loc="lower center", frameon=False)
    smallest, bins = 1e-7, [10 ** (-7 + each / 4) for each in range(30)]
    for route, color, name in (("loss", orange, "in the loss"), ("proximal", blue, "proximal")):
        result = l1(strength, route, 0)
        weights = torch.full_like(result.magnitudes, 100 / len(result.magnitudes)).tolist()
        shown = result.magnitudes.clamp_min(smallest).tolist()
        right.hist(shown, bins, weights=weights, color=color, alpha=0.6, label=f"{name}: {result.zeros:.0%} exactly 0")
    right.set(xscale="log", xlabel="magnitude of a weight", ylabel="share of weights, %")
    ticks = [smallest, 1e-5, 1e-3, 1e-1]
    right.set_xticks(ticks, ["0", *(f"{each:g}" for each in ticks[1:])])
    right.set_title(f"All kernels at strength {strength:g}", fontsize=10)
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--figure")
    path = parser.parse_args().figure
    torch.set_num_threads(1)
    rows = []
    for strength in STRENGTHS:
        rows.append((strength, *by_route(strength, "loss"), *by_route(strength, "proximal")))
        print(f"| {strength:g} | " + " | ".join(f"{100 * each:.1f}" for each in rows[-1][1:]) + " |", flush=True)
    for name in OPTIMIZERS:
        print(f"| {name} | " + " | ".join(f"{100 * each:.1f}" for each in by_optimizer(name)) + " |", flush=True)
    for strength in GROUP_STRENGTHS:
        _, accuracy, zeros, *units = group_row(strength)
        counts = " | ".join(f"{each:.0f}" for each in units)
        print(f"| {strength:g} | {100 * accuracy:.1f} | {100 * zeros:.1f} | {counts} |", flush=True)
    if path is not None:
        draw(rows, path)


if __name__ == "__main__":
    main()
