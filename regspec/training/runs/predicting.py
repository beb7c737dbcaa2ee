"""What a trained model says of examples: classes as the targets had them, with probabilities, or quantities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from regspec.text.problems import Problem, RegspecError
from regspec.training.data.examples import Examples
from regspec.training.data.streams import Streamed
from regspec.training.measures.losses import Kind
from regspec.training.measures.objective import Objective, OutputLoss, tensors_of

BYTES = 2**22  # of the inputs of a batch of small examples
MOST = 1024  # of these in a batch, on a CPU: its caches hold what wide layers give of so many

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What an output says of examples, in their order.

    Args:
        kind: What the output has learned: ``classes``, ``labels`` or ``quantities``.
        values: The most probable class as the targets had it, a word, an int64 or a boolean, (examples,), or that of
            each place, (examples, steps); whether each label holds, as booleans; or the quantities, float32:
            (examples, units), or (examples,) of one unit.
        probabilities: Of each class along the last axis, (examples, …, classes), float32; of each label; None for
            quantities, and for a loss whose scores are no probabilities.
        classes: The classes as the targets had them, in the order of ``probabilities``, or the names of
            labels that were columns of a table; None where there are none.

    Example:
        >>> import numpy as np
        >>> from regspec.training.runs.predicting import Prediction
        >>> said = Prediction("classes", np.array(["no"]), np.array([[0.9, 0.1]], np.float32), ("no", "yes"))
        >>> dict(zip(said.classes, said.probabilities[0].tolist()))
        {'no': 0.8999999761581421, 'yes': 0.10000000149011612}
    """

    kind: Kind
    values: Array
    probabilities: Array | None = None
    classes: tuple[str, ...] | tuple[int, ...] | tuple[bool, ...] | None = None

    def __len__(self) -> int:
        return len(self.values)


def batches_of(examples: Examples, size: int, device: torch.device) -> Iterator[tuple[Tensor, ...]]:
    """The examples in their order, in batches on a device: inputs, and then targets.

    Args:
        examples: which.
        size: how many were in a batch of the training. Small ones are taken more at a time.
        device: where.
    """
    if isinstance(examples, Streamed):
        for batch in examples:
            yield tuple(each.to(device) for each in batch)
        return
    count, first = len(examples), examples[range(1)]
    number = max(1, sum(each.numel() * each.element_size() for each in first))
    most = MOST if device.type == "cpu" else 8 * MOST
    size = max(size, min(most, BYTES // number))
    for start in range(0, count, size):
        yield tuple(each.to(device) for each in examples[range(start, min(count, start + size))])


def device_of(model: nn.Module) -> torch.device:
    """Where a model's weights are."""
    first = next(model.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def predictions(model: nn.Module, objective: Objective, examples: Examples, size: int) -> dict[str, Prediction]:
    """What the outputs that have learned say of examples, by the outputs' names.

    Args:
        model: the model, in evaluation mode.
        objective: what its outputs have learned.
        examples: of which.
        size: how many were in a batch of the training.
    """
    count = len(model_inputs(examples))
    found: dict[str, list[tuple[Array, Array | None]]] = {loss.target.name: [] for loss in objective}
    with torch.inference_mode():
        for batch in batches_of(examples, size, device_of(model)):
            outputs = tensors_of(model(*batch[:count]))
            for loss in objective:
                found[loss.target.name].append(_said(loss, outputs[loss.target.wanted.index].float()))
    return {loss.target.name: _joined(loss, found[loss.target.name]) for loss in objective}


def model_inputs(examples: Examples) -> tuple[Tensor, ...]:
    """The inputs of the first example. Raises `RegspecError` where there is none."""
    if not len(examples):
        raise RegspecError(Problem("there are no examples"))
    first = examples[range(1)]
    return first[: examples.input_count]


def _said(loss: OutputLoss, output: Tensor) -> tuple[Array, Array | None]:
    """The number of the class at each place, or the values, and the probabilities."""
    kind, meant = loss.target.kind, loss.meant(output)
    if kind == "quantities":
        return meant.cpu().numpy(), None
    guess = loss.guess(output)
    if kind == "labels":
        return guess.bool().cpu().numpy(), meant.cpu().numpy() if loss.has_probabilities else None
    return guess.cpu().numpy(), meant.movedim(1, -1).cpu().numpy()


def _joined(loss: OutputLoss, parts: list[tuple[Array, Array | None]]) -> Prediction:
    target = loss.target
    values = np.concatenate([each for each, _ in parts])
    known = [each for _, each in parts if each is not None]
    shares = np.concatenate(known) if known else None
    if target.kind == "classes":
        return Prediction(target.kind, target.answers[values], shares, tuple(target.answers.tolist()))
    if values.shape[1:] == (1,):
        values, shares = values[:, 0], None if shares is None else shares[:, 0]
    return Prediction(target.kind, values, shares, target.labels)
