"""What is minimized of a model's outputs: the sum of their losses, each times its weight."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from regspec.training.data import class_weights
from regspec.training.data.targets import Target


@dataclass(frozen=True)
class Sum:
    """A sum over places that count, and how many these are, of which it is to become the mean."""

    total: Tensor
    count: Tensor | int

    @property
    def mean(self) -> Tensor:
        """The mean over the places; 0 where none counts."""
        return self.total / self.count if isinstance(self.count, int) else self.total / self.count.clamp_min(1)


class OutputLoss(nn.Module):
    """The loss of one output, of examples (batch, …) and their targets.

    An example counts once, whatever the weight of its class: so the parts of a batch add up to the whole, as in Keras.

    Args:
        target: what the output learns.
        gives_probabilities: whether the output is a probability, and no score.
        weights: how much an example, or a place, of each class counts.
    """

    def __init__(self, target: Target, *, gives_probabilities: bool = False, weights: Tensor | None = None) -> None:
        super().__init__()
        self.target = target
        self.gives_probabilities = gives_probabilities
        self.weights: Tensor | None
        self.register_buffer("weights", weights, persistent=False)

    def as_dict(self) -> dict[str, Any]:
        """What a run's folder keeps of it."""
        weights = {} if self.weights is None else {"class_weights": self.weights.tolist()}
        return {**self.target.as_dict(), **weights}

    def of(self, output: Tensor, target: Tensor) -> Sum:
        """The sum of the loss over all places that count."""
        if self.target.kind != "classes":
            output = output.reshape(target.shape)
            if self.target.loss.name == "cross_entropy":  # of probabilities
                output, target = self.by_class(output), self.by_class(target)
            losses = self._losses(output, target)
            return Sum(losses.sum(), losses.numel())
        ignored = self.target.wanted.said.ignore_index
        counts = None if ignored is None else target != ignored
        classes = target if counts is None else target.where(counts, 0)
        losses = self._losses(self.by_class(output), classes)
        if self.weights is not None:
            losses = losses * self.weights[classes]
        if counts is None or losses.shape != counts.shape:
            return Sum(losses.sum(), losses.numel())
        return Sum((losses * counts).sum(), counts.sum())

    def _losses(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss at each place; one that gives a single number gives that of each example."""
        losses = self.target.loss(output, target, gives_probabilities=self.gives_probabilities)
        return losses if losses.ndim else losses.expand(len(target))

    def by_class(self, output: Tensor) -> Tensor:
        """An output with its classes along the second axis, as torch's losses want them."""
        return output.movedim(self.target.wanted.channels, 1)

    def guess(self, output: Tensor) -> Tensor:
        """The class at each place that is the most probable one, or label by label whether it holds."""
        middle = 0.5 if self.gives_probabilities else 0.0
        if self.target.kind == "labels":
            return (output > middle).long()
        output = self.by_class(output)
        return (output[:, 0] > middle).long() if output.shape[1] == 1 else output.argmax(1)

    def right(self, output: Tensor, target: Tensor) -> Sum:
        """How many places, or labels, are right."""
        is_right = self.guess(output).reshape(target.shape) == target
        ignored = self.target.wanted.said.ignore_index
        if self.target.kind != "classes" or ignored is None:
            return Sum(is_right.sum(), is_right.numel())
        counts = target != ignored
        return Sum((is_right & counts).sum(), counts.sum())


class Objective(nn.Module):
    """The losses of the outputs that learn.

    Args:
        losses: that of each.
    """

    def __init__(self, losses: Iterable[OutputLoss]) -> None:
        super().__init__()
        self.losses = nn.ModuleList(losses)

    def __iter__(self) -> Iterator[OutputLoss]:
        yield from self.losses  # type: ignore[misc]  # a ModuleList has modules of any class

    def sums(self, result: Any, targets: Sequence[Tensor]) -> list[Sum]:
        """The sums of each output's loss, of what the model gives."""
        return [loss.of(output, target) for loss, output, target in self.pairs(result, targets)]

    def pairs(self, result: Any, targets: Sequence[Tensor]) -> Iterator[tuple[OutputLoss, Tensor, Tensor]]:
        """Each loss with its output and its target."""
        outputs = tensors_of(result)
        for loss, target in zip(self, targets, strict=True):
            yield loss, outputs[loss.target.wanted.index], target

    def name_of(self, what: str, loss: OutputLoss) -> str:
        """The name of a figure of an output: with the output's name where several learn."""
        return what if len(self.losses) == 1 else f"{what}/{loss.target.name}"


def tensors_of(result: Any) -> Sequence[Tensor]:
    """The tensors that a compiled model gives, in the order of the spec's outputs."""
    if isinstance(result, Mapping):
        return [*result.values()]
    return result if isinstance(result, (tuple, list)) else [result]


def balanced(target: Target, examples: Tensor) -> Tensor:
    """The weights of the classes by which all count the same, of all examples' targets."""
    units = target.wanted.x.spec_shape[target.wanted.channels] or 0
    ignored = target.wanted.said.ignore_index
    kept = examples if ignored is None else examples[examples != ignored]
    return class_weights(kept, max(units, 2))  # one unit is for two classes
