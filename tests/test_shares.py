"""Steps of several batches are those of one batch that holds them, whatever counts in each; by plain torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import regspec
from regspec.training.loop.batches import Batches

NET = {
    "inputs": {"x": {"shape": [6], "dtype": "int64"}},
    "layers": [
        {"Embedding": {"name": "words", "input_dim": 9, "output_dim": 5, "embeddings_regularizer": {"l2": 1e-2}}},
        {"Dense": {"name": "tags", "units": 3, "activity_regularizer": {"l1": 1e-2}}},
        {"Flatten": {"inputs": "words"}},
        {"Dense": {"name": "price", "units": 2, "kernel_regularizer": {"l1": 1e-2}}},
    ],
    "outputs": ["tags", "price"],
}
SIZE, COUNT = 7, 40  # six batches an epoch, of which the last has five examples


def made() -> dict[str, Tensor]:
    """Sentences of very different lengths, with the tags of their words, a pair of numbers and a weight."""
    drawn = np.random.default_rng(3)
    x = drawn.integers(0, 9, (COUNT, 6))
    lengths = drawn.choice([0, 1, 6], COUNT)
    tags = np.where(np.arange(6) < lengths[:, None], x % 3, -1)
    price = np.stack([x.sum(1), x[:, 0]], 1) / 20
    weight = drawn.uniform(0, 4, COUNT)
    numbers = {"price": price.astype("float32"), "weight": weight.astype("float32")}
    return {name: torch.as_tensor(each) for name, each in {"x": x, "tags": tags, **numbers}.items()}


# -- what a batch's loss is, of outputs, targets and the weights of examples -------------------------------------------


def tags(output: Tensor, target: Tensor, weight: Tensor, of_classes: Tensor | None = None) -> Tensor:
    """The mean over the words that count, as torch has it where nothing weighs."""
    each = F.cross_entropy(output.mT, target, reduction="none", ignore_index=-1) * weight[:, None]
    if of_classes is not None:
        each = each * of_classes[target.clamp_min(0)]
    return each.sum() / (target >= 0).sum().clamp_min(1)


def balanced(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    known = made()["tags"]
    return tags(output, target, weight, (known >= 0).sum() / (3 * torch.bincount(known[known >= 0])))


def areas(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """1 - 2 * overlap / sizes of each example and class, with 1 added above and below."""
    counts = (target >= 0)[..., None]
    shares, wanted = output.softmax(-1) * counts, F.one_hot(target.clamp_min(0), 3) * counts
    each = 1 - (2 * (shares * wanted).sum(1) + 1) / (shares.sum(1) + wanted.sum(1) + 1)
    return (each * weight[:, None]).mean()


def huber(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    return (F.huber_loss(output, target, reduction="none") * weight[:, None]).mean()


def furthest(output: Tensor, target: Tensor) -> Tensor:
    """A loss of one's own, with a number for each example."""
    return (output - target).abs().amax(1)


@dataclass(frozen=True)
class Member:
    """What outputs are told, and what of each is expected."""

    outputs: Mapping[str, Mapping[str, Any]]
    expected: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]]
    weights: Mapping[str, float] = field(default_factory=dict)


MEMBERS = {
    "places": Member({"tags": {"ignore_index": -1, "loss": "cross_entropy"}}, {"tags": tags}),
    "classes that weigh": Member(
        {"tags": {"ignore_index": -1, "loss": "cross_entropy", "class_weights": "balanced"}}, {"tags": balanced}
    ),
    "areas": Member({"tags": {"ignore_index": -1, "loss": "dice"}}, {"tags": areas}),
    "quantities": Member({"price": {"loss": "huber"}}, {"price": huber}),
    "one's own": Member(
        {"price": {"loss": f"{__name__}:furthest"}},
        {"price": lambda output, target, weight: (furthest(output, target) * weight).mean()},
    ),
    "two outputs": Member(
        {"tags": {"ignore_index": -1}, "price": {"loss": "huber", "weight": 0.3}},
        {"tags": tags, "price": huber},
        {"price": 0.3},
    ),
}


def by_hand(member: Member, several: int, data: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The weights after two epochs whose steps are of one batch each, of all that several batches hold."""
    model = regspec.build(NET, seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    order = Batches(COUNT, SIZE, seed=0)
    for epoch in range(2):
        order.set_epoch(epoch)
        rows = [*order]
        for first in range(0, len(rows), several):
            taken = [*chain.from_iterable(rows[first : first + several])]
            step = {name: each[taken] for name, each in data.items()}
            outputs = dict(zip(NET["outputs"], model(step["x"]), strict=True))
            loss = model.regularization_loss()
            for name, expected in member.expected.items():
                loss = loss + expected(outputs[name], step[name], step["weight"]) * member.weights.get(name, 1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.state_dict()


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize(
    ("member", "several"), [*((each, 2 + place % 3) for place, each in enumerate(MEMBERS)), ("two outputs", 1)]
)
def test_a_step_of_several_batches(member: str, several: int, is_weighted: bool, tmp_path: Path) -> None:
    data, said = made(), MEMBERS[member]
    if not is_weighted:
        data["weight"] = torch.ones(COUNT)
    targets = {name: data[name] for name in said.expected}
    given = (data["x"], targets, data["weight"]) if is_weighted else (data["x"], targets)
    options: dict[str, Any] = {"optimizer": "sgd momentum=0.9", "lr": 0.2, "batch_size": SIZE, "epochs": 2}
    run = regspec.train(
        NET, (*given, *given), outputs=said.outputs, accumulate=several, folder=tmp_path / "run", quiet=True, **options
    )
    last = torch.load(run.folder / "checkpoint.ckpt", weights_only=False)["state_dict"]
    expected = by_hand(said, several, data)
    torch.testing.assert_close({name: last[f"model.{name}"] for name in expected}, dict(expected))
