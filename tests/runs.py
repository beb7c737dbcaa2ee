"""Folders of runs for the tests of reports, written by a plain loop: ``python -m tests.runs FOLDER`` writes some."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from sklearn.datasets import load_diabetes, load_digits
from sklearn.metrics import confusion_matrix
from torch import Tensor, nn
from torch.nn import functional as F

import regspec
from regspec.graph.loading import graph_of
from regspec.runtime import Regularized

CNN = """\
# A small CNN for handwritten digits, whose weights and activities are drawn to zero.
regspec: 1
name: digits_small
parameters: {strength: 2e-3}
inputs:
  image: {shape: [1, 8, 8]}
layers:
  - Conv2D: {name: conv, filters: 12, kernel_size: 3, activation: relu, kernel_regularizer: {l1: $strength}}
  - MaxPooling2D: {name: pool, pool_size: 2}
  - Flatten: {name: flatten}
  - Dense:
      name: hidden
      units: 32
      activation: relu
      kernel_regularizer: {l1: $strength, l2: 1e-4}
      activity_regularizer: {l1: 1e-3}
  - Dense: {name: logits, units: 10, bias_regularizer: l2}
"""

REGRESSION = """\
regspec: 1
name: plain
inputs: {x: {shape: [10]}}
layers:
  - Dense: {name: hidden, units: 8, activation: relu}
  - Dense: {name: answer, units: 1}
"""


def digits() -> tuple[Tensor, Tensor]:
    data = load_digits()
    return torch.tensor(data.data / 16).float().reshape(-1, 1, 8, 8), torch.tensor(data.target)


def diabetes() -> tuple[Tensor, Tensor]:
    data = load_diabetes()
    goal = torch.tensor(data.target).float()
    return torch.tensor(data.data).float() * 20, ((goal - goal.mean()) / goal.std())[:, None]


def write_run(
    folder: Path, spec: str = CNN, data: str = "digits", *, epochs: int = 8, seed: int = 0, baseline: bool = False
) -> Path:
    """Trains a spec's text by a plain loop, and writes what `regspec train` writes; with the twin if it is wanted."""
    folder.mkdir(parents=True)
    (folder / "spec.yaml").write_text(spec)
    (folder / "model.py").write_text(regspec.source(folder / "spec.yaml"))
    model = regspec.build(folder / "spec.yaml", seed=seed)
    x, goal = digits() if data == "digits" else diabetes()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    held_out, train = order[: len(x) // 5], order[len(x) // 5 :]
    save_file(_state(model), folder / "initial.safetensors")
    rows = _trained(model, (x[train], goal[train]), (x[held_out], goal[held_out]), epochs, seed)
    kept = json.dumps({"epoch": epochs, "steps": epochs * -(-len(train) // 64)})
    save_file(_state(model), folder / "weights.safetensors", {"kept": kept})
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "activities.json").write_text(json.dumps(_activities(model, x[held_out])))
    is_classes = data == "digits"
    (folder / "held_out.json").write_text(json.dumps(_held_out(model, x[held_out], goal[held_out], is_classes)))
    classes = [str(each) for each in range(10)] if is_classes else None
    learned = {"kind": "classes" if is_classes else "quantities", "loss": "cross_entropy" if is_classes else "mse"}
    options = {"data": data, "target": None, "epochs": epochs, "batch_size": 64, "optimizer": "sgd", "seed": seed}
    about = {
        "regspec": regspec.__version__,
        "torch": torch.__version__,
        "spec": regspec.load(folder / "spec.yaml").name,
        "options": {**options, "learning_rate": 0.05},
        "task": "classes" if is_classes else "quantities",
        "classes": classes,
        "outputs": {graph_of(spec).outputs[0].source: {**learned, "weight": 1.0, "classes": classes}},
        "examples": len(train),
        "held_out": len(held_out),
        "epochs": epochs,
        "finished": True,
        "seconds": 2.5,
    }
    (folder / "run.json").write_text(json.dumps(about))
    if baseline:
        bare = re.sub(r",? *\w+_regularizer: (\{[^}]*\}|\w+)|parameters: .*\n", "", spec)
        write_run(folder / "baseline", bare, data, epochs=epochs, seed=seed)
    return folder


@torch.no_grad()
def _held_out(model: Regularized, x: Tensor, goal: Tensor, is_classes: bool) -> dict[str, Any]:
    """What is kept of held-out examples; of classes, how sure the model is in the lower and the upper half."""
    output, calibration, confusion, told = model(x), None, None, []
    if is_classes:
        said, guess = output.softmax(1).max(1)
        halves = said < said.median(), said >= said.median()
        right = (guess == goal).float()
        points = [(said[half].mean().item(), right[half].mean().item(), int(half.sum())) for half in halves]
        error = sum(abs(a - b) * count for a, b, count in points) / len(x)
        names = ("said", "right", "counts")
        calibration = {**dict(zip(names, map(list, zip(*points, strict=True)), strict=True)), "error": error}
        counts = confusion_matrix(goal, guess, labels=range(10)).tolist()
        confusion = {"classes": [*map(str, range(10))], "counts": counts, "mistakes": []}
        losses = F.cross_entropy(output, goal, reduction="none")
        for row in losses.argsort(descending=True)[:3].tolist():
            told.append({"name": f"item {row}", "loss": losses[row].item(), "is": str(goal[row].item()),
                         "said": str(guess[row].item()), "probability": said[row].item()})  # fmt: skip
    name = "logits" if is_classes else "answer"
    kept = {"calibration": calibration, "confusion": confusion, "worst": told}
    return {"examples": len(x), "data": None, "outputs": {name: kept}}


def _trained(
    model: Regularized, train: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor], epochs: int, seed: int
) -> list[dict[str, Any]]:
    """The rows of metrics of a training, an epoch each."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    regspec.bind(model, optimizer, **({"l1": "proximal"} if regspec.strengths(model) else {}))
    (x, goal), rows = train, []
    is_classes = not goal.is_floating_point()
    loss_of = F.cross_entropy if is_classes else F.mse_loss
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(1, epochs + 1):
        model.train()
        losses = []
        for batch in torch.randperm(len(x), generator=generator).split(64):
            optimizer.zero_grad()
            loss = loss_of(model(x[batch]), goal[batch])
            (loss + regspec.regularization_loss(model)).backward()
            terms = regspec.regularization_terms(model, detach=True)
            optimizer.step()
            losses.append(loss.item())
        model.eval()
        with torch.no_grad():
            output = model(held_out[0])
        penalties = {name: value.item() for name, value in terms.items()}
        row: dict[str, Any] = {
            "epoch": epoch,
            "seconds": 0.3,
            "learning_rate": 0.05,
            "data_loss": sum(losses) / len(losses),
            "penalty": sum(penalties.values()),
            "held_out_loss": loss_of(output, held_out[1]).item(),
        }
        if is_classes:
            row["held_out_accuracy"] = (output.argmax(1) == held_out[1]).float().mean().item()
        row |= {f"penalty/{name}": value for name, value in penalties.items()}
        if penalties:
            row |= {f"strength/{name}": value for name, value in regspec.strengths(model).items()}
            row |= {f"zeros/{name}": value.item() for name, value in regspec.sparsity(model).items()}
            row |= {f"below/{name}": value.item() for name, value in regspec.sparsity(model, threshold=1e-3).items()}
        rows.append(row)
    return rows


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone().contiguous() for name, value in model.state_dict().items()}


@torch.no_grad()
def _activities(model: nn.Module, x: Tensor) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for name, module in model.named_children():

        def note(module: nn.Module, args: Any, output: Tensor, name: str = name) -> None:
            counts, edges = torch.histogram(output.flatten(), 40)
            found[name.removesuffix("_activation")] = {
                "edges": edges.tolist(),
                "counts": [int(each) for each in counts],
                "zeros": (output == 0).float().mean().item(),
            }

        module.register_forward_hook(note)
    model(x)
    return found


if __name__ == "__main__":
    place = Path(sys.argv[1])
    write_run(place / "digits_small", baseline=True)
    write_run(place / "stronger", CNN.replace("strength: 2e-3", "strength: 6e-3"))
    write_run(place / "plain", REGRESSION, "diabetes", epochs=5)
