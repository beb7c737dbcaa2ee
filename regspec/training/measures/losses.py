"""Losses of an output, by the names of torch's functions; Keras's names, and those of torch's classes, are synonyms.

A loss gives a number for each place of each example: of an output (batch, classes, 8, 8), (batch, 8, 8). What becomes
of these, which of them count and how much, is the same for all losses, and stands in `objective`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from regspec.language.registration import found
from regspec.text.problems import Problem, RegspecError, did_you_mean

# What a target is: a class for each place; for each place and label whether it holds; or numbers, shaped as the output.
Kind = Literal["classes", "labels", "quantities"]
# What a loss takes an output for: what the target is; scores, of which a softmax or a sigmoid makes probabilities, or
# these themselves, where the output is one; logarithms; or margins, which are above 0 where a label holds.
Reading = Literal["values", "scores", "logarithms", "margins"]
Function = Callable[..., Tensor]  # of an output and a target

SMALLEST = 1e-7  # of a probability whose logarithm is taken, as in Keras


@dataclass(frozen=True)
class Loss:
    """A loss with its arguments. Where targets are classes, the output has these along its second axis."""

    name: str
    kinds: tuple[Kind, ...]  # of targets that it takes, the one first that it takes whole numbers for
    function: Function
    reads: Reading = "values"
    reads_values_by: tuple[str, Any] | None = None  # the argument by which it reads values after all
    is_by_class: bool = False  # whether labels and quantities, too, are to lie along the second axis
    is_of_areas: bool = False  # whether it has a number for each example and class, of all places at once
    is_of_direction: bool = False  # whether it is the same however large the output is
    least: float | None = None  # of the target's numbers
    most: float | None = None

    def __call__(
        self, output: Tensor, target: Tensor, *, gives_probabilities: bool = False, counts: Tensor | None = None
    ) -> Tensor:
        """The loss at each place of each example; ``counts`` tells a loss of areas which places are of these."""
        given: dict[str, Any] = {"gives_probabilities": gives_probabilities} if self.reads == "scores" else {}
        if self.is_of_areas:
            given["counts"] = counts
        return self.function(output, target, **given)

    def with_arguments(self, arguments: Mapping[str, Any]) -> Loss:
        """The loss with arguments of its function."""
        reads_values = self.reads_values_by is not None and self.reads_values_by in arguments.items()
        reads: Reading = "values" if reads_values else self.reads
        return replace(self, function=partial(self.function, **arguments), reads=reads)


# -- functions that torch lacks, or has in two forms -------------------------------------------------------------------


def cross_entropy(
    output: Tensor, target: Tensor, *, gives_probabilities: bool = False, label_smoothing: float = 0.0
) -> Tensor:
    """Minus the logarithm of the class's probability; targets may be probabilities of the classes, too."""
    if output.shape[1] == 1:  # one unit is for two classes
        wanted = target.reshape(output[:, 0].shape)
        return binary_cross_entropy(
            output[:, 0], wanted, gives_probabilities=gives_probabilities, label_smoothing=label_smoothing
        )
    scores = output.clamp_min(SMALLEST).log() if gives_probabilities else output
    return F.cross_entropy(scores, target, reduction="none", label_smoothing=label_smoothing)


def binary_cross_entropy(
    output: Tensor, target: Tensor, *, gives_probabilities: bool = False, label_smoothing: float = 0.0
) -> Tensor:
    """Minus the logarithm of the probability of what is so, for each place and label."""
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be 0 to 1, and not {label_smoothing}")
    wanted = target.to(output.dtype) * (1 - label_smoothing) + label_smoothing / 2
    if gives_probabilities:  # which are cut where they are none: they may come from any layer
        return F.binary_cross_entropy(output.clamp(0, 1), wanted, reduction="none")
    return F.binary_cross_entropy_with_logits(output, wanted, reduction="none")


def dice(
    output: Tensor,
    target: Tensor,
    *,
    gives_probabilities: bool = False,
    counts: Tensor | None = None,
    smooth: float = 1.0,
) -> Tensor:
    """1 - 2 * overlap / (size + size), for each example and class, with probabilities in place of areas.

    Milletari et al. (2016), V-Net; ``smooth`` is added above and below. Areas have only the places that count.
    """
    is_binary = target.is_floating_point() or output.shape[1] == 1  # one unit is for two classes
    if is_binary:
        shares = output if gives_probabilities else output.sigmoid()
        wanted = target.reshape(output.shape).to(output.dtype)
    else:
        shares = output if gives_probabilities else output.softmax(1)
        wanted = F.one_hot(target, output.shape[1]).movedim(-1, 1).to(output.dtype)
    if counts is not None:
        shares, wanted = shares * counts.unsqueeze(1), wanted * counts.unsqueeze(1)
    shares, wanted = (each.flatten(2) if each.ndim > 2 else each.unsqueeze(-1) for each in (shares, wanted))
    overlap = (shares * wanted).sum(-1)
    return 1 - (2 * overlap + smooth) / (shares.sum(-1) + wanted.sum(-1) + smooth)


def log_cosh(output: Tensor, target: Tensor) -> Tensor:
    """The logarithm of the error's hyperbolic cosine: a square error where that is small, and its size where large."""
    error = (output - target).abs()
    return error + F.softplus(-2 * error) - 0.6931471805599453


def poisson(output: Tensor, target: Tensor) -> Tensor:
    """Minus the logarithm of a count's probability where the output is the rate, without what the target alone adds."""
    return output - target * output.clamp_min(SMALLEST).log()


def cosine_similarity(output: Tensor, target: Tensor) -> Tensor:
    """1 - the cosine of the angle between output and target, along the axis of the units, as Keras has it."""
    return 1 - F.cosine_similarity(output, target, dim=1)


def hinge(output: Tensor, target: Tensor) -> Tensor:
    """max(0, 1 - output), or 1 + output where it is not so."""
    return F.relu(1 - output * (2 * target.to(output.dtype) - 1))


def squared_hinge(output: Tensor, target: Tensor) -> Tensor:
    """The square of `hinge`."""
    return hinge(output, target).square()


def percentage(output: Tensor, target: Tensor) -> Tensor:
    """The error in percent of the target."""
    return 100 * ((target - output) / target.abs().clamp_min(SMALLEST)).abs()


def squared_logarithms(output: Tensor, target: Tensor) -> Tensor:
    """The square of the difference of log(1 + x)."""
    return (output.clamp_min(0).log1p() - target.log1p()).square()


def _of_torch(function: Callable[..., Tensor]) -> Function:
    return partial(function, reduction="none")


# -- the names ---------------------------------------------------------------------------------------------------------

LOSSES: Mapping[str, Loss] = {
    each.name: each
    for each in (
        Loss("mse", ("quantities",), _of_torch(F.mse_loss)),
        Loss("l1", ("quantities",), _of_torch(F.l1_loss)),
        Loss("huber", ("quantities",), _of_torch(F.huber_loss)),
        Loss("smooth_l1", ("quantities",), _of_torch(F.smooth_l1_loss)),
        Loss("log_cosh", ("quantities",), log_cosh),
        Loss("mape", ("quantities",), percentage),
        Loss("msle", ("quantities",), squared_logarithms, least=0.0),
        Loss(
            "poisson_nll",
            ("quantities",),
            _of_torch(F.poisson_nll_loss),
            reads="logarithms",
            reads_values_by=("log_input", False),
            least=0.0,
        ),
        Loss("poisson", ("quantities",), poisson, least=0.0),
        Loss("cosine_similarity", ("quantities",), cosine_similarity, is_by_class=True, is_of_direction=True),
        Loss("cross_entropy", ("classes", "quantities"), cross_entropy, reads="scores", is_by_class=True, least=0.0),
        Loss("nll", ("classes",), _of_torch(F.nll_loss), reads="logarithms"),
        Loss(
            "binary_cross_entropy", ("labels", "quantities"), binary_cross_entropy, reads="scores", least=0.0, most=1.0
        ),
        Loss("dice", ("classes", "labels"), dice, reads="scores", is_by_class=True, is_of_areas=True),
        Loss("hinge", ("labels",), hinge, reads="margins"),
        Loss("squared_hinge", ("labels",), squared_hinge, reads="margins"),
    )
}

# Names without underscores and the word "loss", so that torch's HuberLoss and Keras's MeanSquaredError are one each.
_KNOWN = {
    **{name.replace("_", ""): name for name in LOSSES},
    **dict.fromkeys(("meansquarederror", "squarederror", "l2"), "mse"),
    **dict.fromkeys(("meanabsoluteerror", "absoluteerror", "mae"), "l1"),
    "meansquaredlogarithmicerror": "msle",
    "meanabsolutepercentageerror": "mape",
    **dict.fromkeys(("sparsecategoricalcrossentropy", "categoricalcrossentropy"), "cross_entropy"),
    **dict.fromkeys(
        ("binarycrossentropy", "bce", "bcewithlogits", "binarycrossentropywithlogits"), "binary_cross_entropy"
    ),
}
_DIVERGENCE = "cross_entropy takes probabilities as targets, and has the gradient of the divergence"
_EXPLAINED = dict.fromkeys(("kldiv", "kldivergence", "kullbackleiblerdivergence"), _DIVERGENCE)


def loss_named(name: str, arguments: Mapping[str, Any], known: Iterable[str] = ()) -> Loss:
    """The loss of a name, with arguments of its function.

    Args:
        name: torch's, ``huber``, ``huber_loss`` or ``HuberLoss``; Keras's, ``mean_squared_error`` or
            ``MeanSquaredError``; or a function of one's own, ``package.module:function``, that is called with an output
            and its target, and gives a number, or one for each example.
        arguments: such as ``{"delta": 0.5}``.
        known: what may stand beside them, to tell a slip of the pen.

    Raises:
        RegspecError: where there is none of the name, or it does not take the arguments.
    """
    is_own = ":" in name
    if is_own:
        loss = Loss(name, ("classes", "labels", "quantities"), found(name))
    else:
        key = name.lower().replace("_", "").removesuffix("loss")
        if key not in _KNOWN:
            others = f"it may be {', '.join(LOSSES)}, or module:function"
            hint: str | None = _EXPLAINED.get(key) or did_you_mean(key, _KNOWN) or others
            raise RegspecError(Problem(f"'{name}' is no loss", hint))
        loss = LOSSES[_KNOWN[key]]
    if not arguments:
        return loss
    taken = _arguments_of(loss.function)
    if unknown := [each for each in arguments if each not in taken]:
        hint = did_you_mean(unknown[0], (*taken, *known)) or (f"it takes {', '.join(taken)}" if taken else None)
        raise RegspecError(Problem(f"{loss.name} does not take '{unknown[0]}'", hint))
    made = loss.with_arguments(arguments)
    if not is_own:
        try:
            made(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long) if "classes" in loss.kinds else torch.zeros(1, 2))
        except (TypeError, ValueError, RuntimeError) as error:
            told = ", ".join(f"{each}={value!r}" for each, value in arguments.items())
            raise RegspecError(Problem(f"{loss.name} does not take {told}: {' '.join(str(error).split())}")) from None
    return made


def _arguments_of(function: Function) -> list[str]:
    """The arguments of a loss's function beside output and target, without those that are given by regspec."""
    taken = {"reduction", "size_average", "reduce", "weight", "gives_probabilities", "counts", "ignore_index"}
    if isinstance(function, partial):
        function = function.func
    return [name for name in [*inspect.signature(function).parameters][2:] if name not in taken]
