"""What is built from the spec of a well-known architecture computes what the same network, written by hand, does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import regspec

from .architectures import NAMES
from .architectures.pairs import by_hand, names_of, pair, parts, spec_of

PADDED = {"bilstm": "tokens", "seq2seq": "source"}  # with zeros at the end, as by hand they must be
ELSE_DERIVED = "parametrizations."  # a kernel by torch's spectral normalization, whose divisor is derived, too
SLOW = ("alexnet", "vgg11")  # for their many weights
CASES = [pytest.param(name, marks=pytest.mark.everything) if name in SLOW else name for name in NAMES]
RANDOM = ("encoder",)  # not compared in training: the dropout of an attention is drawn otherwise


@pytest.mark.parametrize("name", CASES)
def test_built_as_by_hand(name: str) -> None:
    """In outputs, penalties, and gradients by inputs and parameters."""
    built, hand, names = pair(name)
    inputs = inputs_of(name, next(built.parameters()).dtype)
    has_penalties = hasattr(hand, "regularization_loss")
    for is_training in (False,) if name in RANDOM else (False, True):
        ours, ours_derived = computed(built.train(is_training), inputs, has_penalties)
        theirs, theirs_derived = computed(hand.train(is_training), inputs, has_penalties)
        agree(ours, theirs)
        derived = [key for key in theirs_derived if names[key] in ours_derived and ELSE_DERIVED not in key]
        agree([ours_derived[names[key]] for key in derived], [theirs_derived[key] for key in derived])


@pytest.mark.parametrize("name", CASES)
def test_initial_values(name: str) -> None:
    """Vectors are the same, and numbers that are drawn have the same deviation, as near as a sample can show."""
    ours, theirs = parts(regspec.build(spec_of(name)).state_dict()), parts(by_hand(name).state_dict())
    for key, our in names_of(name, theirs, ours).items():
        drawn, wanted = ours[our], theirs[key].view_as(ours[our])
        if drawn.ndim < 2:
            assert torch.equal(drawn, wanted), key
        else:
            near = 0.01 + 3.2 / drawn.numel() ** 0.5  # of two samples of a uniform distribution: five deviations
            assert drawn.std().item() == pytest.approx(wanted.std().item(), rel=near), key


def inputs_of(name: str, dtype: torch.dtype) -> list[Tensor]:
    """A batch of two; tokens and categories have no zero but for padding."""
    inputs = []
    for key, declared in regspec.load(spec_of(name)).inputs.items():
        shape = [2, *(7 if size is None else size for size in declared.shape)]
        if declared.dtype == "float32":
            inputs.append(torch.randn(shape, dtype=dtype, requires_grad=True))
        else:
            inputs.append(torch.randint(1, 50, shape))
        if key == PADDED.get(name):
            inputs[-1][1, 4:] = 0
    return inputs


def computed(model: nn.Module, inputs: list[Tensor], has_penalties: bool) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Outputs, penalty and gradients by inputs, and gradients by parameters; what is random is drawn from one seed."""
    torch.manual_seed(1)
    outputs = model(*inputs)
    results = list(outputs) if isinstance(outputs, tuple) else [outputs]
    loss = sum((result * torch.randn_like(result)).sum() for result in results)
    if has_penalties:
        results.append(model.regularization_loss())
        loss = loss + results[-1]
    parameters = {name: each for name, each in model.named_parameters() if each.requires_grad}
    by_inputs = [each for each in inputs if each.requires_grad]
    gradients = torch.autograd.grad(loss, [*parameters.values(), *by_inputs], materialize_grads=True)
    by_parameters = parts(dict(zip(parameters, gradients[: len(parameters)], strict=True)))
    return [*results, *gradients[len(parameters) :]], by_parameters


def agree(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for our, their in zip(ours, theirs, strict=True):
        most = their.abs().max().item()
        torch.testing.assert_close(our, their.view_as(our), rtol=1e-5, atol=1e-5 * most + 1e-12)  # some have none
