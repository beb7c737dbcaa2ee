"""A small network with penalties on a kernel, a bias and two outputs; and what they are, written out.

It is compiled from a spec, or has its penalties by rules: `either` tests both. What is expected is computed in double
precision from the network's own parameters, by plain torch.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import regspec
from regspec.runtime import Regularized

Run = Callable[[Tensor], Tensor]
Make = Callable[[], Regularized]

SPEC = """
regspec: 1
name: net
inputs: {x: {shape: [7]}}
layers:
  - Dense:
      name: hidden
      units: 5
      activation: tanh
      kernel_regularizer: {l1: 0.1, l2: 0.2}
      activity_regularizer: {l1: 0.3}
  - Dense: {name: logits, units: 3, bias_regularizer: {l2: 0.4}, activity_regularizer: {l2: 0.5}}
"""

KERNEL = {"parameters": r"hidden\.weight", "regularizer": {"l1": 0.1, "l2": 0.2}}
HIDDEN = {"modules": "hidden_activation", "activity_regularizer": {"l1": 0.3}}
BIAS = {"parameters": r"logits\.bias", "regularizer": {"l2": 0.4}}
LOGITS = {"modules": "logits", "activity_regularizer": {"l2": 0.5}}
RULES = (KERNEL, HIDDEN, BIAS, LOGITS)


class Net(nn.Module):
    """x (batch, 7) -> logits (batch, 3)"""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(7, 5)
        self.hidden_activation = nn.Tanh()
        self.logits = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.hidden_activation(self.hidden(x)))


class Checkpointed(Net):
    """The hidden layer is computed again in the backward pass."""

    use_reentrant = False

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(checkpoint(self.first, x, use_reentrant=self.use_reentrant))

    def first(self, x: Tensor) -> Tensor:
        return self.hidden_activation(self.hidden(x))


class InPlace(nn.Module):
    """An output that is changed once it was heard; the gradient of its penalty needs it as it was."""

    def __init__(self, is_checkpointed: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(7, 5)
        self.scale = nn.Identity()
        self.is_checkpointed = is_checkpointed

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.changed, x, use_reentrant=False) if self.is_checkpointed else self.changed(x)

    def changed(self, x: Tensor) -> Tensor:
        return self.scale(self.linear(x) * 2).relu_()


def ruled(module: nn.Module, *rules: dict[str, Any]) -> Regularized:
    """The module with penalties by rules."""
    return regspec.regularize(module, {"regspec": 1, "rules": list(rules)})


def by_rules() -> Regularized:
    return ruled(Net(), *RULES)


def by_spec() -> Regularized:
    model = regspec.build(regspec.loads(SPEC), seed=1)
    nn.init.normal_(model.logits.bias)
    return model


either = pytest.mark.parametrize("make", [by_rules, by_spec])
in_either_mode = pytest.mark.parametrize("is_training", [True, False])


# -- what is expected --------------------------------------------------------------------------------------------------


def written_out(model: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The output and the penalties, of the model's own parameters; a kernel that is frozen has none."""
    weight, bias, out, shift = (each.double() for each in model.parameters())
    hidden = torch.tanh(x.double() @ weight.T + bias)
    logits = hidden @ out.T + shift
    batch = max(len(x), 1)
    penalties = {
        "hidden.kernel": 0.1 * weight.abs().sum() + 0.2 * weight.square().sum(),
        "hidden.activity": 0.3 * hidden.abs().sum() / batch,
        "logits.bias": 0.4 * shift.square().sum(),
        "logits.activity": 0.5 * logits.square().sum() / batch,
    }
    frozen = [] if model.hidden.weight.requires_grad else ["hidden.kernel"]
    return logits, {name: penalty for name, penalty in penalties.items() if name not in frozen}


def loss_of(model: Regularized, x: Tensor) -> Tensor:
    """A data loss and the penalties, as the model has them."""
    return model(x).square().sum() + model.regularization_loss()


def wanted_loss(model: nn.Module, x: Tensor) -> Tensor:
    """The same, written out."""
    output, penalties = written_out(model, x)
    return output.square().sum() + sum(penalties.values())


def wanted_gradients(model: nn.Module, *xs: Tensor) -> list[Tensor]:
    """Of the mean of the losses of some batches, by each parameter."""
    loss = sum(wanted_loss(model, x) for x in xs) / len(xs)
    return list(torch.autograd.grad(loss, list(model.parameters())))


def weight_gradients(model: nn.Module) -> list[Tensor]:
    """Of the penalties of weights alone, by each parameter."""
    penalties = written_out(model, torch.zeros(1, 7))[1]
    loss = penalties["hidden.kernel"] + penalties["logits.bias"]
    return list(torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True))


def stepped(model: nn.Module, gradients: list[Tensor], rate: float = 0.1) -> list[Tensor]:
    """The parameters after a step of plain gradient descent."""
    return [each.detach() - rate * gradient for each, gradient in zip(model.parameters(), gradients, strict=True)]


# -- comparing ---------------------------------------------------------------------------------------------------------


def terms(model: nn.Module) -> dict[str, Tensor]:
    """The penalties by a spec's names; rules name them by parameters and modules."""
    found = regspec.regularization_terms(model)
    return {name.replace("weight", "kernel").replace("_activation", ""): penalty for name, penalty in found.items()}


def agree(got: Any, wanted: Any, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance, check_dtype=False)


def check(model: Regularized, run: Run | None = None, x: Tensor | None = None, tolerance: float = 1e-5) -> None:
    """The output, each penalty and their sum; and the gradients of a loss with them, by parameters and the input.

    They are asked for; and, of a second forward, what a backward pass leaves in each ``.grad``.
    """
    x = torch.randn(4, 7) if x is None else x
    x = x.to(model.hidden.weight.dtype).requires_grad_()
    run = model if run is None else run  # a module may not say whether it is true
    output = run(x)
    wanted_output, wanted = written_out(model, x)
    agree(output, wanted_output, tolerance)
    agree(terms(model), wanted, tolerance)
    penalty, wanted_penalty = model.regularization_loss(), sum(wanted.values())
    agree(penalty, wanted_penalty, tolerance)
    leaves = [x, *(each for each in model.parameters() if each.requires_grad)]
    gradients = torch.autograd.grad(wanted_output.square().sum() + wanted_penalty, leaves)
    agree(torch.autograd.grad(output.double().square().sum() + penalty, leaves), gradients, 10 * tolerance)
    for each in leaves:
        each.grad = None
    (run(x).double().square().sum() + model.regularization_loss()).backward()
    agree(tuple(each.grad for each in leaves), gradients, 10 * tolerance)


def check_gradients(loss: Tensor, wanted: Tensor, model: nn.Module) -> None:
    """A loss and its gradients, by the parameters that are not frozen."""
    agree(loss, wanted)
    parameters = [each for each in model.parameters() if each.requires_grad]
    agree(torch.autograd.grad(loss, parameters), torch.autograd.grad(wanted, parameters), 1e-4)


def fault(reason: str, raises: type[Exception] = AssertionError) -> pytest.MarkDecorator:
    """The mark of a test that shows a fault of the library."""
    return pytest.mark.xfail(strict=True, reason=reason, raises=raises)


def count_tensors() -> int:
    """How many there are that Python knows of."""
    gc.collect()
    return sum(issubclass(type(each), Tensor) for each in gc.get_objects())


def in_threads(*functions: Callable[[], object]) -> None:
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
