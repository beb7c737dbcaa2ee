"""What is minimized of a model's outputs: the sum of their losses, each times its weight."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from regspec.text.problems import Problem, RegspecError
from regspec.training.data import class_weights
from regspec.training.data.targets import Target
from regspec.training.measures.losses import Loss

HALF = (torch.float16, torch.bfloat16)
FEW = 32  # classes, of which torch's softmax on a CPU takes six times as long along the last axis as along the first


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

    An example counts once, whatever it and its class weigh: so the parts of a batch add up to the whole, as in Keras.

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
        scaling = target.scaling
        self.center: Tensor | None
        self.spread: Tensor | None
        self.register_buffer("center", None if scaling is None else torch.tensor(scaling.center), persistent=False)
        self.register_buffer("spread", None if scaling is None else torch.tensor(scaling.spread), persistent=False)

    def as_dict(self) -> dict[str, Any]:
        """What a run's folder keeps of it."""
        weights = {} if self.weights is None else {"class_weights": self.weights.tolist()}
        return {**self.target.as_dict(), **weights}

    def of(self, output: Tensor, target: Tensor, weights: Tensor | None = None) -> Sum:
        """The sum of the loss over all places that count, each times its example's weight.

        Its mean is over the places, whatever they weigh: the parts of a batch, and of an epoch, add up to the whole.

        Raises:
            RegspecError: where places do not count, or count more, and a loss of one's own does not tell them apart.
        """
        losses, counts = self._places(output, target)
        if counts is None:
            return _sum(losses, target, weights, self.target.loss)
        return Sum((_weighed(losses, weights) * counts).sum(), counts.sum())

    def of_each(self, output: Tensor, target: Tensor) -> Tensor:
        """The mean loss of each example, over its places that count; NaN of a loss that does not tell them apart."""
        losses, counts = self._places(output, target)
        if losses.ndim == 0 or len(losses) != len(target):
            return torch.full((len(target),), torch.nan)
        losses = losses.reshape(len(target), -1)
        if counts is None:
            return losses.mean(1)
        counts = counts.reshape(len(target), -1)
        return (losses * counts).sum(1) / counts.sum(1).clamp_min(1)

    def _places(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor | None]:
        """The loss at each place, and which of them count; None where all do, or the loss knows by itself."""
        loss = self.target.loss
        if self.target.kind == "classes":
            return self._of_classes(output, target)
        if loss.is_by_class:
            output, target = self.by_class(output), self.by_class(target.reshape(output.shape))
        else:
            output, target = output.reshape(target.shape), self._scaled(target)
        return loss(output, target, gives_probabilities=self.gives_probabilities), None

    def _scaled(self, target: Tensor) -> Tensor:
        """Quantities as the loss takes them."""
        if self.center is None or self.spread is None:
            return target
        return (target - self._by_unit(self.center, target)) / self._by_unit(self.spread, target)

    def _by_unit(self, values: Tensor, tensor: Tensor) -> Tensor:
        """A number for each unit, beside a tensor that has these along its channels."""
        if tensor.ndim == 1:
            return values
        channels = self.target.wanted.channels
        return values.reshape([-1 if axis == channels else 1 for axis in range(tensor.ndim)])

    def _of_classes(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor | None]:
        loss, counts = self.target.loss, self.counts(target)
        classes = target if counts is None else target.where(counts, 0)
        losses = loss(self.by_class(output), classes, gives_probabilities=self.gives_probabilities, counts=counts)
        if loss.is_of_areas or (counts is None and self.weights is None):
            return losses, None
        if losses.shape != target.shape:
            why = "some places do not count" if self.weights is None else "classes have weights"
            each = "each place" if target.ndim > 1 else "each example"
            raise RegspecError(Problem(f"{loss.name} has to give a number for {each}, because {why}"))
        return losses if self.weights is None else losses * self.weights[classes], counts

    @property
    def is_shared_out(self) -> bool:
        """Whether the probabilities at a place add up to 1, so that it is a softmax that makes them of scores."""
        is_by_class = self.target.kind == "classes" or (
            self.target.kind == "quantities" and self.target.loss.is_by_class
        )
        return is_by_class and self.target.wanted.x.spec_shape[self.target.wanted.channels] != 1

    @property
    def has_probabilities(self) -> bool:
        """Whether what it says of classes or labels is as probable as `meant` has it: margins only have a sign."""
        return self.gives_probabilities or self.target.loss.reads != "margins"

    def meant(self, output: Tensor) -> Tensor:
        """What an output means, as the loss reads it.

        Of classes the probabilities, along the second axis, two of one unit; of labels those that they hold; or the
        quantities, in the units of the target. Labels and quantities lie as in the output.
        """
        reads = self.target.loss.reads
        if self.target.kind == "quantities" and reads != "scores":
            if self.center is not None and self.spread is not None:
                return output * self._by_unit(self.spread, output) + self._by_unit(self.center, output)
            return output.exp() if reads == "logarithms" else output
        shares = output
        if not self.gives_probabilities:
            shares = _softmax(output, self.target.wanted.channels) if self.is_shared_out else output.sigmoid()
        if self.target.kind != "classes":
            return shares
        shares = self.by_class(shares)
        return shares if self.is_shared_out else torch.cat([1 - shares, shares], 1)

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
        counts = self.counts(target)
        if counts is None:
            return Sum(is_right.sum(), is_right.numel())
        return Sum((is_right & counts).sum(), counts.sum())

    def counts(self, target: Tensor) -> Tensor | None:
        """Which places count; None where all do."""
        ignored = self.target.wanted.said.ignore_index
        return None if self.target.kind != "classes" or ignored is None else target != ignored

    def counted(self, target: Tensor) -> Tensor | int:
        """How many places of a target the mean of the loss is over, but for a factor that all batches have."""
        counts = self.counts(target)
        if self.target.loss.is_of_areas:
            return len(target)
        return target.numel() if counts is None else counts.sum()

    def kept(self, values: Tensor, target: Tensor) -> Tensor:
        """Those of values at places that count, (places,)."""
        counts = self.counts(target)
        return values.flatten() if counts is None else values[counts]


def _softmax(scores: Tensor, axis: int) -> Tensor:
    """The softmax along an axis, whose numbers lie in memory as its axes do, which torchmetrics takes for granted."""
    if scores.shape[axis] > FEW:
        return scores.softmax(axis)
    return scores.movedim(axis, 0).contiguous().softmax(0).movedim(0, axis).contiguous()


def _sum(losses: Tensor, target: Tensor, weights: Tensor | None, loss: Loss) -> Sum:
    """The sum of all; a single number is that of each example."""
    if weights is not None and (not losses.ndim or len(losses) != len(weights)):
        raise RegspecError(Problem(f"{loss.name} has to give a number for each example, because examples have weights"))
    losses = _weighed(losses if losses.ndim else losses.expand(len(target)), weights)
    return Sum(losses.sum(), losses.numel())


def _weighed(losses: Tensor, weights: Tensor | None) -> Tensor:
    """Losses of all places, times the weights of their examples."""
    return losses if weights is None else losses * weights.reshape(-1, *(1 for _ in losses.shape[1:]))


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

    def sums(self, result: Any, targets: Sequence[Tensor], weights: Tensor | None = None) -> list[Sum]:
        """The sums of each output's loss, of what the model gives, with the weights of the examples."""
        return [loss.of(output, target, weights) for loss, output, target in self.pairs(result, targets)]

    def pairs(self, result: Any, targets: Sequence[Tensor]) -> Iterator[tuple[OutputLoss, Tensor, Tensor]]:
        """Each loss with its output and its target; an output of half precision is float32."""
        outputs = tensors_of(result)
        for loss, target in zip(self, targets, strict=True):
            output = outputs[loss.target.wanted.index]
            yield loss, output.float() if output.dtype in HALF else output, target

    def counted(self, targets: Sequence[Tensor]) -> Tensor:
        """How many examples there are, and how many places count of each output, int64: (1 + outputs,)."""
        places = (int(loss.counted(target)) for loss, target in zip(self, targets, strict=True))
        return torch.tensor([len(targets[0]), *places])

    def name_of(self, what: str, loss: OutputLoss) -> str:
        """The name of a figure of an output: with the output's name where several learn."""
        return what if len(self.losses) == 1 else f"{what}/{loss.target.name}"


def tensors_of(result: Any) -> Sequence[Tensor]:
    """The tensors that a compiled model gives, in the order of the spec's outputs."""
    if isinstance(result, Mapping):
        return [*result.values()]
    return result if isinstance(result, (tuple, list)) else [result]


def check_read(target: Target, *, gives_probabilities: bool) -> None:
    """Raises `RegspecError` where a loss of classes takes the output for what it is not."""
    loss, units = target.loss, target.wanted.x.spec_shape[target.wanted.channels]
    if target.kind != "classes" or loss.reads != "logarithms":
        return
    if gives_probabilities:
        what = f"{loss.name} takes logarithms of probabilities, but '{target.name}' gives probabilities"
        raise RegspecError(Problem(what, "cross_entropy takes these"))
    if units == 1:
        what = f"{loss.name} takes a unit for each class, but '{target.name}' has one"
        raise RegspecError(Problem(what, "cross_entropy takes one unit for two classes"))


def balanced(target: Target, examples: Tensor) -> Tensor:
    """The weights of the classes by which all count the same, of all examples' targets."""
    units = target.wanted.x.spec_shape[target.wanted.channels] or 0
    ignored = target.wanted.said.ignore_index
    kept = examples if ignored is None else examples[examples != ignored]
    return class_weights(kept, max(units, 2))  # one unit is for two classes
