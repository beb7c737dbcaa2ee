"""What a run keeps of its held-out examples: how far probabilities can be believed, what is taken for what, the worst.

Two ways were weighed: a report reads the data again and runs the model; or, as here, the run looks at them once when it
is done, so that a report needs nothing but its folder. The curve is scikit-learn's, the error torchmetrics'.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from regspec.training.data.examples import Data, Examples, InMemory, Parted
from regspec.training.data.images import Images
from regspec.training.data.streams import Streamed
from regspec.training.measures.objective import Objective, OutputLoss
from regspec.training.runs.confusing import Array, confusion_of, pairs_of
from regspec.training.runs.predicting import batches_of, device_of, model_inputs

MOST = 10_000  # examples that are looked at
PLACES = 2_000_000  # steps, pixels or labels whose probabilities are looked at
MOST_TARGETS = 20_000_000  # numbers of which a digest is made
BINS = 10
WORST = 12


def judgement(model: nn.Module, objective: Objective, data: Data, size: int) -> dict[str, Any]:
    """What is kept of held-out examples, as plain data: ``examples``, how many; ``data``, a digest; ``outputs``.

    Of each output ``calibration``, where it gives probabilities: ``said``, ``right`` and ``counts`` of each bin that is
    not empty, and their ``error``; ``confusion``, where it learned classes: the ``counts`` of its ``classes``, or the
    most frequent ``mistakes`` of many; and ``worst``, the examples with the largest losses by name, where these are
    known.

    Args:
        model: in evaluation mode.
        objective: what its outputs have learned.
        data: what it was trained on, and what is held out.
        size: how many were in a batch of the training.
    """
    examples = data.held_out
    count, device, done = len(model_inputs(examples)), device_of(model), 0
    objective = objective.to(device)
    believed: list[list[tuple[Tensor, Tensor]]] = [[] for _ in objective]
    losses: list[list[Tensor]] = [[] for _ in objective]
    pairs: list[list[tuple[Array, Array, Array]]] = [[] for _ in objective]
    counted: list[Tensor] = []
    with torch.inference_mode():
        for batch in batches_of(examples, size, device):
            parted = Parted.of(batch, count, len(losses))
            for place, (loss, output, target) in enumerate(objective.pairs(model(*parted.inputs), parted.targets)):
                if sum(len(each) for each, _ in believed[place]) < PLACES:
                    believed[place] += _believed(loss, output.float(), target)
                losses[place].append(loss.of_each(output.float(), target).cpu())
                if loss.target.kind == "classes":
                    guess = loss.guess(output).reshape(target.shape)
                    pairs[place].append(pairs_of(*(loss.kept(each, target).cpu() for each in (target, guess))))
            counted.append(torch.ones(len(batch[0])) if parted.weights is None else parted.weights.cpu())
            if (done := done + len(batch[0])) >= MOST:
                break
        outputs = {}
        for place, loss in enumerate(objective):
            outputs[loss.target.name] = {
                "kind": loss.target.kind,
                "calibration": _calibration(believed[place]) if believed[place] else None,
                "confusion": confusion_of(loss.target.classes or (), pairs[place]) if pairs[place] else None,
                "worst": [*_worst(model, objective, examples, place, torch.cat(losses[place]), torch.cat(counted))],
            }
    return {"examples": done, "data": digest(data), "outputs": outputs}


def digest(data: Data) -> str | None:
    """What tells data from others, however they are divided: of all targets in order; None where they are not at hand.

    Example:
        >>> from regspec.training.data.examples import Data, InMemory
        >>> parts = [InMemory((), (torch.tensor(each),)) for each in ([0, 2], [1])]
        >>> digest(Data(*parts, ())) == digest(Data(*reversed(parts), ())) != digest(Data(parts[0], parts[0], ()))
        True
    """
    parts = (data.train, data.held_out)
    if not all(isinstance(each, (InMemory, Images)) for each in parts):
        return None
    found = hashlib.sha256()
    for goals in zip(*(each.targets for each in parts), strict=True):
        if sum(each.numel() for each in goals) > MOST_TARGETS:
            return None
        found.update(torch.cat([each.flatten() for each in goals]).sort().values.numpy().tobytes())
    return found.hexdigest()[:16]


def _believed(loss: OutputLoss, output: Tensor, target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Probabilities that were given, and whether what they are of is so: of the class that is said, of each label."""
    if loss.target.kind == "quantities" or not loss.has_probabilities:
        return
    meant = loss.meant(output)
    if loss.target.kind == "labels":
        yield meant.flatten().cpu(), (target.reshape(meant.shape) > 0).flatten().cpu()
        return
    said, guess = meant.max(1)
    target = target.reshape(guess.shape)
    yield loss.kept(said, target).cpu(), loss.kept(guess == target, target).cpu()


def _calibration(parts: list[tuple[Tensor, Tensor]]) -> dict[str, Any] | None:
    """How often what is said with a probability is so: a curve over bins of probabilities, and the error."""
    from sklearn.calibration import calibration_curve
    from torchmetrics.functional.classification import binary_calibration_error

    said, right = (torch.cat(each) for each in zip(*parts, strict=True))
    if not len(said) or not said.isfinite().all():
        return None
    shares, means = calibration_curve(right.numpy(), said.clamp(0, 1).numpy(), n_bins=BINS)
    # as scikit-learn puts them into bins, of which it tells those that are not empty
    bins = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], said.numpy())
    counts: Array = np.bincount(bins, minlength=BINS)
    error = binary_calibration_error(said.clamp(0, 1), right.long(), n_bins=BINS, norm="l1")
    return {
        "said": means.tolist(),
        "right": shares.tolist(),
        "counts": counts[counts > 0].tolist(),
        "error": float(error),
    }


def _worst(
    model: nn.Module, objective: Objective, examples: Examples, place: int, losses: Tensor, weights: Tensor
) -> Iterator[dict[str, Any]]:
    """The examples with the largest losses, the worst first: their names, what they are, and what the model says.

    Those whose weight is 0 count for nothing, and are left out.
    """
    if isinstance(examples, Streamed) or not losses.isfinite().all():  # none of which can be asked for again
        return
    order = losses.argsort(descending=True, stable=True)
    rows = order[weights[order] > 0][:WORST].tolist()
    if not rows:
        return
    batch = [each.to(device_of(model)) for each in examples[rows]]
    parted = Parted.of(batch, examples.input_count, len(objective.losses))
    loss, output, target = [*objective.pairs(model(*parted.inputs), parted.targets)][place]
    for index, row in enumerate(rows):
        told = _told(loss, output[index : index + 1].float(), target[index : index + 1])
        yield {"name": examples.name(row), "loss": losses[row].item(), **told}


def _told(loss: OutputLoss, output: Tensor, target: Tensor) -> dict[str, Any]:
    """What an example is, and what the model says of it, for people; and how probable it has that."""
    kind, meant = loss.target.kind, loss.meant(output)
    if kind == "quantities":
        truth, said = (each.flatten().tolist() for each in (target, meant))
        if len(truth) == 1:
            return {"is": f"{truth[0]:.4g}", "said": f"{said[0]:.4g}", "probability": None}
        error = (meant.reshape(target.shape) - target).square().mean().sqrt().item()
        return {"is": f"{len(truth)} numbers", "said": f"off by {error:.4g}", "probability": None}
    guess = loss.guess(output).reshape(target.shape)
    if kind == "labels" and target.numel() == 1:
        return {"is": str(bool(target)).lower(), "said": str(bool(guess)).lower(), "probability": None}
    if kind == "labels" and target.ndim == 2 and target.numel() <= WORST:
        names = loss.target.labels or range(target.numel())
        held = [", ".join(str(names[each]) for each in row.nonzero().flatten()) for row in (target[0] > 0, guess[0])]
        return {"is": held[0] or "none", "said": held[1] or "none", "probability": None}
    if kind == "classes" and target.numel() == 1:
        names, probability = loss.target.classes or (), meant.max().item() if loss.has_probabilities else None
        return {"is": names[int(target)], "said": names[int(guess)], "probability": probability}
    right = loss.right(output, target)
    count, what = int(right.count), "places" if kind == "classes" else "labels"
    return {"is": f"{count} {what}", "said": f"{count - int(right.total)} wrong", "probability": None}
