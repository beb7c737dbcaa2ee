"""The tables of "Five ways to a smaller network" in sparse_networks.md, of two networks on scikit-learn's digits.

Run it from anywhere: ``python examples/pages/five_ways.py``. It prints a row when it is measured. The row of
Torch-Pruning is measured where that is installed (``pip install torch-pruning``); regspec does not need it.

Each way is trained five times, each with initial weights, batches and held-out digits of its own. The settings in
``WAYS`` are of those that were tried on a sixth seed, and lost little accuracy there.
"""

import argparse
import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import regspec
import torch
from safetensors.torch import save
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

SEEDS, BATCH, RUNS = range(5), 32, 15
MLP = """
regspec: 1
name: mlp
inputs: {image: {shape: [1, 8, 8]}}
layers:
  - Flatten
  - Dense: {name: hidden1, units: 128, activation: relu}
  - Dense: {name: hidden2, units: 64, activation: relu}
  - Dense: {name: logits, units: 10}
"""


@dataclass(frozen=True)
class Network:
    """A network, and how long it is trained: as often in each way, with what comes after a pruning."""

    text: str
    epochs: int
    tuned: int  # of these, after units were taken out
    rate: float = 0.1


def resnet() -> str:
    """ResNet-20 of the CIFAR kind (He et al., 2016), half as wide, for grey images of 8 x 8, without penalties."""
    text = (Path(__file__).parents[1] / "resnet.yaml").read_text(encoding="utf-8").partition("regularizers:")[0]
    for width in (16, 32, 64):
        text = text.replace(f"filters: {width}", f"filters: {width // 2}")
    return text.replace("[3, 32, 32]", "[1, 8, 8]")


@cache
def digits(seed: int) -> list[Tensor]:
    images, classes = load_digits(return_X_y=True)
    images = images.reshape(-1, 1, 8, 8) / 16
    split = train_test_split(images, classes, test_size=0.2, stratify=classes, random_state=seed)
    return [torch.tensor(each, dtype=torch.float32 if each.ndim > 1 else torch.int64) for each in split]


def trained(model: Any, epochs: int, rate: float, seed: int, **routes: str) -> Any:
    """The model after some epochs of SGD, whose rate falls to zero."""
    images, _, classes, _ = digits(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    if routes:
        regspec.bind(model, optimizer, **routes)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(images), generator=generator).split(64):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images[rows]), classes[rows])
            if hasattr(model, "regularization_loss"):
                loss = loss + model.regularization_loss()
            loss.backward()
            optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, seed: int) -> float:
    _, images, _, classes = digits(seed)
    return 100 * (model(images).argmax(1) == classes).float().mean().item()


# -- the ways: from a network and a seed to a trained model, and the one without units that it can do without ----------

Made = tuple[nn.Module, nn.Module]


def penalized(network: Network, seed: int, *, rules: str = "", **routes: str) -> Made:
    """Trained with penalties, and shrunk to what gives the same."""
    model = regspec.build(regspec.loads(network.text + rules), seed=seed)
    trained(model, network.epochs, network.rate, seed, **routes)
    return model, regspec.shrink(model).build()


def begun(network: Network, seed: int) -> Any:
    """Trained without penalties, for the epochs before units are taken out."""
    model = regspec.build(regspec.loads(network.text), seed=seed)
    return trained(model, network.epochs - network.tuned, network.rate, seed)


def kept(network: Network, seed: int, *, keep: float) -> Made:
    """Trained, shrunk to a share of each layer's units, and trained on."""
    smaller = regspec.shrink(begun(network, seed), keep=keep).build()
    trained(smaller, network.tuned, network.rate / 2, seed)
    return smaller, smaller


def torch_pruned(network: Network, seed: int, *, ratio: float) -> Made:
    """Trained, pruned by Torch-Pruning by the magnitudes of coupled weights, and trained on."""
    import torch_pruning

    smaller = begun(network, seed)
    torch_pruning.pruner.BasePruner(
        smaller,
        digits(seed)[0][:2],
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio,
        ignored_layers=[smaller.logits],
    ).step()
    trained(smaller, network.tuned, network.rate / 2, seed)
    return smaller, smaller


def l1(strength: float, route: str) -> Callable[[Network, int], Made]:
    rules = f"regularizers:\n  - {{layers: '.*', kernel: {{l1: {strength!r}}}}}\n"
    return partial(penalized, rules=rules, l1=route)


def coupled(strength: float) -> Callable[[Network, int], Made]:
    """A group for all that makes a unit, in all layers."""
    rules = f"regularizers:\n  - {{units: {{group_lasso: {strength!r}}}}}\n"
    return partial(penalized, rules=rules, group_lasso="proximal")


NETWORKS = {"mlp": Network(MLP, 60, 20), "resnet": Network(resnet(), 80, 30)}
WAYS: dict[str, dict[str, Callable[[Network, int], Made]]] = {
    "mlp": {
        "no penalty": penalized,
        "L1 in the loss": l1(3e-4, "loss"),
        "L1, proximal": l1(4e-4, "proximal"),
        "coupled group lasso, proximal": coupled(3e-4),
        "shrink --keep, trained on": partial(kept, keep=0.35),
        "Torch-Pruning, trained on": partial(torch_pruned, ratio=0.65),
    },
    "resnet": {
        "no penalty": penalized,
        "L1 in the loss": l1(1e-4, "loss"),
        "L1, proximal": l1(1e-4, "proximal"),
        "coupled group lasso, proximal": coupled(6e-4),
        "shrink --keep, trained on": partial(kept, keep=0.4),
        "Torch-Pruning, trained on": partial(torch_pruned, ratio=0.55),
    },
}


# -- what came of it ---------------------------------------------------------------------------------------------------


def zeros(model: nn.Module) -> float:
    """The share of exact zeros among a model's parameters, in percent."""
    counts = [(int((each == 0).sum()), each.numel()) for each in model.parameters()]
    return 100 * sum(zero for zero, _ in counts) / sum(number for _, number in counts)


def units(model: nn.Module) -> int:
    """How many outputs the dense layers and convolutions have, but for the last."""
    layers = [each for each in model.modules() if isinstance(each, (nn.Linear, nn.Conv2d))]
    return sum(each.weight.shape[0] for each in layers[:-1])


def multiply_adds(model: nn.Module) -> int:
    """Of one image."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.zeros(1, 1, 8, 8))
    return counter.get_total_flops() // 2


def latencies(models: list[nn.Module]) -> list[float]:
    """The least milliseconds of a batch's forward on one core, timed in turn, so that a busy machine is so to all."""
    images, best = torch.rand(BATCH, 1, 8, 8), [float("inf")] * len(models)
    with torch.inference_mode():
        for number in range(1 + RUNS):
            for place, model in enumerate(models):
                begun = time.thread_time()
                model(images)
                if number:
                    best[place] = min(best[place], 1000 * (time.thread_time() - begun))
    return best


def rows(name: str, seeds: range = SEEDS) -> Iterator[str]:
    """A line for each way when its models are trained, and at the end the table's rows, with the time of each."""
    network, found = NETWORKS[name], dict[str, tuple[list[float], list[Made]]]()
    for way, make in WAYS[name].items():
        if "Torch-Pruning" in way and importlib.util.find_spec("torch_pruning") is None:
            continue
        made = [make(network, seed) for seed in seeds]
        found[way] = [accuracy(model, seed) for (model, _), seed in zip(made, seeds, strict=True)], made
        yield f"{way}: {' '.join(f'{each:.1f}' for each in found[way][0])}"
    times = iter(latencies([smaller for _, made in found.values() for _, smaller in made]))
    for way, (accuracies, made) in found.items():
        cells = [
            f"{mean(accuracies):.1f} ± {stdev(accuracies):.1f}",
            f"{mean(zeros(model) for model, _ in made):.0f}",
            f"{mean(units(smaller) for _, smaller in made):.0f}",
            f"{mean(multiply_adds(smaller) for _, smaller in made):,.0f}",
            f"{mean(len(save(smaller.state_dict())) for _, smaller in made) / 1000:,.0f}",
            f"{mean(next(times) for _ in made):.2f}",
        ]
        yield f"| {way} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*", default=[*NETWORKS], metavar="NETWORK")
    torch.set_num_threads(1)
    for name in parser.parse_args().networks:
        for line in rows(name):
            print(line, flush=True)


if __name__ == "__main__":
    main()
