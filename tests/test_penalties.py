"""Penalties, in value and gradient, against closed forms, in every setting that people run models in."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import regspec

SPEC = """
regspec: 1
name: net
inputs: {x: {shape: [7]}}
layers:
  - Dense:
      name: hidden
      units: 5
      activation: relu
      kernel_regularizer: {l1: 0.1, l2: 0.2}
      activity_regularizer: {l1: 0.3}
  - Dense: {name: logits, units: 3, bias_regularizer: {l2: 0.4}, activity_regularizer: {l2: 0.5}}
"""


def make(dtype: torch.dtype = torch.float32) -> regspec.runtime.Regularized:
    model = regspec.build(regspec.loads(SPEC), seed=1, dtype=dtype)
    with torch.no_grad():
        model.logits.bias.normal_()
    return model


def closed_form(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The terms of `SPEC` written out, with the model's own parameters."""
    hidden = torch.relu(x @ model.hidden.weight.T + model.hidden.bias)
    logits = hidden @ model.logits.weight.T + model.logits.bias
    kernel = model.hidden.weight.double()
    return {
        "hidden.kernel": 0.1 * kernel.abs().sum() + 0.2 * (kernel**2).sum(),
        "logits.bias": 0.4 * (model.logits.bias.double() ** 2).sum(),
        "hidden.activity": 0.3 * hidden.double().abs().sum() / max(len(x), 1),
        "logits.activity": 0.5 * (logits.double() ** 2).sum() / max(len(x), 1),
    }


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


def check(model: nn.Module, run: Callable[[Tensor], Tensor], x: Tensor, rtol: float = 1e-5) -> None:
    """Values by name, their sum, and the gradients of data loss plus penalties."""
    output = run(x)
    terms = model.regularization_terms()
    wanted = closed_form(model, x)
    assert set(terms) == set(wanted)
    for name, value in terms.items():
        torch.testing.assert_close(value.double(), wanted[name], rtol=rtol, atol=1e-7)
    torch.testing.assert_close(model.regularization_loss().double(), sum(wanted.values()), rtol=rtol, atol=1e-7)
    got = gradients(model, output.square().sum() + model.regularization_loss())
    reference = copy.deepcopy(model)
    again = reference(x)
    expected = gradients(reference, again.square().sum() + sum(closed_form(reference, x).values()))
    assert set(got) == set(expected)
    for name, value in got.items():
        torch.testing.assert_close(value, expected[name], rtol=max(rtol, 1e-4), atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_training_and_evaluation(training: bool) -> None:
    model = make().train(training)
    check(model, model, torch.randn(4, 7))


def test_each_forward_starts_anew() -> None:
    model = make()
    for batch in (4, 2, 6):
        check(model, model, torch.randn(batch, 7))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients(mode: type) -> None:
    model, x = make(), torch.randn(4, 7)
    with mode():
        model(x)
        for name, value in model.regularization_terms().items():
            torch.testing.assert_close(value.double(), closed_form(model, x)[name], rtol=1e-5, atol=1e-7)
            assert not value.requires_grad
        assert not model.regularization_loss().requires_grad


def test_before_the_first_forward_activities_have_no_value() -> None:
    assert set(make().regularization_terms()) == {"hidden.kernel", "logits.bias"}


def test_an_empty_batch_has_no_activity() -> None:
    model = make()
    model(torch.randn(0, 7))
    assert model.regularization_terms()["hidden.activity"] == 0
    assert model.regularization_loss().isfinite()


def test_double_precision() -> None:
    model = make(torch.float64)
    check(model, model, torch.randn(4, 7, dtype=torch.float64), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_reduced_in_single(dtype: torch.dtype) -> None:
    spec = regspec.loads(
        """
        regspec: 1
        inputs: {x: {shape: [1024]}}
        layers: [{Dense: {name: wide, units: 1024, kernel_regularizer: {l1: 1, l2: 1}, activity_regularizer: {l2: 1}}}]
        """
    )
    model = regspec.build(spec, dtype=dtype)
    nn.init.normal_(model.wide.weight, std=3)
    output = model(torch.full((2, 1024), 8.0, dtype=dtype))
    terms = model.regularization_terms()
    weight = model.wide.weight.double()
    torch.testing.assert_close(terms["wide.kernel"].double(), weight.abs().sum() + (weight**2).sum(), rtol=1e-5, atol=0)
    torch.testing.assert_close(terms["wide.activity"].double(), (output.double() ** 2).sum() / 2, rtol=1e-5, atol=0)
    assert all(value.dtype is torch.float32 for value in terms.values())
    model.regularization_loss().backward()
    expected = weight.sign() + 2 * weight
    grad = torch.autograd.grad(terms_of_weight(model), model.wide.weight)[0]
    torch.testing.assert_close(grad.double(), expected, rtol=1e-2, atol=1e-2)


def terms_of_weight(model: nn.Module) -> Tensor:
    return model.regularization_terms()["wide.kernel"]


def test_autocast() -> None:
    model, x = make(), torch.randn(4, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(x)
        terms = model.regularization_terms()
    for name, value in closed_form(model, x).items():
        torch.testing.assert_close(terms[name].double(), value, rtol=2e-2, atol=1e-3)
        assert terms[name].dtype is torch.float32
    for name in ("hidden.kernel", "logits.bias"):
        torch.testing.assert_close(terms[name].double(), closed_form(model, x)[name], rtol=1e-5, atol=1e-7)


def test_deepcopy_after_a_forward() -> None:
    model = make()
    model(torch.randn(4, 7))
    copied = copy.deepcopy(model)
    assert type(copied) is type(model)
    assert set(copied.regularization_terms()) == {"hidden.kernel", "logits.bias"}
    with torch.no_grad():
        copied.hidden.weight.zero_()
    check(copied, copied, torch.randn(4, 7))
    check(model, model, torch.randn(4, 7))


def test_pickle_and_torch_save() -> None:
    model = make()
    model(torch.randn(4, 7))
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    for restored in (pickle.loads(pickle.dumps(model)), torch.load(buffer, weights_only=False)):
        check(restored, restored, torch.randn(4, 7))


def test_the_state_dict_holds_parameters_only() -> None:
    model = make()
    model(torch.randn(4, 7))
    assert list(model.state_dict()) == ["hidden.weight", "hidden.bias", "logits.weight", "logits.bias"]


def test_frozen_weights_have_no_term_until_they_thaw() -> None:
    model = make()
    model.hidden.requires_grad_(False)
    model(torch.randn(4, 7))
    assert set(model.regularization_terms()) == {"logits.bias", "hidden.activity", "logits.activity"}
    model.hidden.requires_grad_(True)
    check(model, model, torch.randn(4, 7))


class Checkpointed(nn.Module):
    """The hidden layer of `SPEC`'s model under checkpointing."""

    def __init__(self, module: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.module, self.activation = module, activation

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(lambda value: self.activation(self.module(value)), x, use_reentrant=False)


def test_checkpointing_of_a_part() -> None:
    model = make()
    linear, activation = model.hidden, model.hidden_activation
    part = Checkpointed(linear, activation)

    def run(x: Tensor) -> Tensor:
        original = type(model).forward
        type(model).forward = lambda self, x: self.logits(part(x))
        try:
            return model(x)
        finally:
            type(model).forward = original

    check(model, run, torch.randn(4, 7))


def test_checkpointing_of_the_whole() -> None:
    model = make()
    check(model, lambda x: checkpoint(model, x, use_reentrant=False), torch.randn(4, 7))
    assert set(model.regularization_terms()) == set(closed_form(model, torch.randn(4, 7)))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled(backend: str) -> None:
    torch._dynamo.reset()
    model = make()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    for batch in (4, 4, 6):
        check(model, compiled, torch.randn(batch, 7))
    assert set(compiled.regularization_terms()) == set(model.regularization_terms())


def test_a_compiled_step() -> None:
    torch._dynamo.reset()
    model, x = make(), torch.randn(4, 7)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def step(x: Tensor) -> Tensor:
        return model(x).square().sum() + model.regularization_loss()

    got = gradients(model, step(x))
    expected = gradients(model, model(x).square().sum() + sum(closed_form(model, x).values()))
    for name, value in got.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)


def test_compiled_in_place() -> None:
    torch._dynamo.reset()
    model = make()
    model.compile(fullgraph=True, backend="eager")
    check(model, model, torch.randn(4, 7))


def test_export_leaves_the_penalties_out() -> None:
    model, x = make().eval(), torch.randn(4, 7)
    exported = torch.export.export(model, (x,))
    torch.testing.assert_close(exported.module()(x), model(x))


def test_a_model_inside_another() -> None:
    """The values are those of the outer forward's call; the outer module sees them through the inner one."""
    inner = make()
    outer = nn.Sequential(inner, nn.Linear(3, 2))
    x = torch.randn(4, 7)
    outer(x)
    for name, value in inner.regularization_terms().items():
        torch.testing.assert_close(value.double(), closed_form(inner, x)[name], rtol=1e-5, atol=1e-7)


BLOCKS = """
regspec: 1
inputs: {x: {shape: [5]}}
blocks:
  dense: {layers: [{Dense: {name: linear, units: 5, kernel_regularizer: {l2: 0.1}, activity_regularizer: {l1: 0.2}}}]}
layers:
  - dense: {name: first}
  - call: {layer: first, name: again}
  - dense: {name: second}
"""


def test_blocks_and_calls() -> None:
    """A shared block has its activity counted once a call and its weights once."""
    model, x = regspec.build(regspec.loads(BLOCKS), seed=0), torch.randn(3, 5)
    model(x)
    once = model.first.linear(x)
    twice = model.first.linear(once)
    last = model.second.linear(twice)
    terms = model.regularization_terms()
    assert list(terms) == [
        "first.linear.kernel",
        "first.linear.activity",
        "second.linear.kernel",
        "second.linear.activity",
    ]
    torch.testing.assert_close(terms["first.linear.kernel"], 0.1 * model.first.linear.weight.square().sum())
    torch.testing.assert_close(terms["first.linear.activity"], 0.2 * (once.abs().sum() + twice.abs().sum()) / 3)
    torch.testing.assert_close(terms["second.linear.activity"], 0.2 * last.abs().sum() / 3)


def test_a_block_by_itself_and_shared_by_two_models() -> None:
    first, second = (regspec.build(regspec.loads(BLOCKS), seed=seed) for seed in (0, 1))
    second.second = first.second
    x = torch.randn(3, 5)
    first(x)
    before = {name: value.clone() for name, value in first.regularization_terms().items()}
    second(torch.randn(4, 5))
    first.second(torch.randn(2, 5))
    first.first.linear(x)
    after = first.regularization_terms()
    assert before.keys() == after.keys()
    for name, value in after.items():
        torch.testing.assert_close(value, before[name])
    assert set(first.second.regularization_terms()) == {"linear.kernel", "linear.activity"}


def test_a_forward_that_fails_leaves_the_last_values() -> None:
    model = make()
    model(torch.randn(4, 7))
    before = model.regularization_loss()
    with pytest.raises(RuntimeError):
        model(torch.randn(4, 8))
    assert model.regularization_loss() == before
    check(model, model, torch.randn(4, 7))


def test_a_model_without_terms_has_no_loss() -> None:
    spec = regspec.loads("{regspec: 1, inputs: {x: {shape: [3]}}, layers: [{Dense: {units: 2}}]}")
    loss = regspec.build(spec).regularization_loss()
    assert loss == 0
    assert loss.ndim == 0


def test_double_backward() -> None:
    model, x = make(torch.float64), torch.randn(4, 7, dtype=torch.float64)
    model(x)
    parameters = list(model.parameters())
    first = torch.autograd.grad(model.regularization_loss(), parameters, create_graph=True)
    second = torch.autograd.grad(sum(each.square().sum() for each in first), parameters)
    total = sum(closed_form(model, x).values())
    wanted = torch.autograd.grad(total, parameters, create_graph=True)
    again = torch.autograd.grad(sum(each.square().sum() for each in wanted), parameters)
    for a, b in zip(second, again, strict=True):
        torch.testing.assert_close(a, b)


def test_evaluation_keeps_scalars_only() -> None:
    model = make().eval()
    with torch.no_grad():
        model(torch.randn(4, 7))
    assert all(value.ndim == 0 for _, value in model._values)
