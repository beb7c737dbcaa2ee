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
from regspec import runtime

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


def make(dtype: torch.dtype = torch.float32) -> runtime.Regularized:
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


def test_a_forward_that_fails_leaves_no_values() -> None:
    model = make()
    model(torch.randn(4, 7))
    with pytest.raises(RuntimeError):
        model(torch.randn(4, 8))
    assert set(model.regularization_terms()) == {"hidden.kernel", "logits.bias"}
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
    assert all(value.ndim == 0 for _, value, *_ in model._heard)


# -- outputs that are kept ---------------------------------------------------------------------------------------------


class InPlace(runtime.Regularized):
    """A layer whose output is changed in place after it was heard; its gradient needs the output as it was."""

    def __init__(self, *, is_in_place: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(7, 5)
        self.scale = nn.Identity()
        self.is_in_place = is_in_place
        self.add_activity_terms(runtime.L1L2(0.3, 0.2), {"scale.activity": "scale"})

    def forward(self, x: Tensor) -> Tensor:
        x = self.scale(self.linear(x) * 2)
        return x.relu_() if self.is_in_place else x


def in_place_penalty(model: nn.Module, x: Tensor) -> Tensor:
    heard = model.linear(x) * 2
    return (0.3 * heard.abs().sum() + 0.2 * heard.square().sum()) / len(x)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("is_in_place", [True, False])
def test_an_operation_in_place_after_an_output(is_in_place: bool, training: bool) -> None:
    """In the first forward and in those after it, in training and in evaluation."""
    model, x = InPlace(is_in_place=is_in_place).train(training), torch.randn(4, 7)
    for _ in range(3):
        model(x)
        wanted = in_place_penalty(model, x)
        torch.testing.assert_close(model.regularization_loss(), wanted)
        got, expected = gradients(model, model.regularization_loss()), gradients(model, wanted)
        torch.testing.assert_close(got, expected)


def test_an_operation_that_becomes_in_place_is_refused_once() -> None:
    model, x = InPlace(is_in_place=False), torch.randn(4, 7)
    model(x)
    model.is_in_place = True
    with pytest.raises(RuntimeError, match="changed in place before its penalty was read"):
        model(x)
    model(x)
    torch.testing.assert_close(model.regularization_loss(), in_place_penalty(model, x))


def test_a_change_after_the_forward_is_refused() -> None:
    model = InPlace(is_in_place=False)
    model(torch.randn(4, 7)).relu_()
    with pytest.raises(RuntimeError, match="changed in place before its penalty was read"):
        model.regularization_loss()


def test_reentrant_checkpoints_are_refused() -> None:
    model, x = make(), torch.randn(4, 7, requires_grad=True)
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        checkpoint(model, x, use_reentrant=True)
    with torch.no_grad():
        model(x)


def test_several_forwards_are_accumulated() -> None:
    model, xs = make(), [torch.randn(4, 7), torch.randn(3, 7)]
    with regspec.accumulate(model):
        for x in xs:
            model(x)
    wanted = [closed_form(model, x) for x in xs]
    got = model.regularization_terms()
    for name in got:
        total = wanted[0][name] + wanted[1][name] if name.endswith("activity") else wanted[0][name]
        torch.testing.assert_close(got[name].double(), total, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(model.regularization_loss(), sum(got.values()))
    check(model, model, xs[0])


class Several(runtime.Regularized):
    """A module whose part gives a tuple or a mapping."""

    def __init__(self, *, is_mapping: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(7, 5)
        self.part = Pair(is_mapping=is_mapping)
        self.add_activity_terms(runtime.L2(0.5), {"part": "part"})

    def forward(self, x: Tensor) -> Tensor:
        made = self.part(self.linear(x))
        return made["a"] if isinstance(made, dict) else made[0]


class Pair(nn.Module):
    def __init__(self, *, is_mapping: bool) -> None:
        super().__init__()
        self.is_mapping = is_mapping

    def forward(self, x: Tensor) -> object:
        made = {"a": x, "b": [2 * x, x.argmax(1)]}
        return made if self.is_mapping else tuple(made.values())


@pytest.mark.parametrize("is_mapping", [True, False])
def test_outputs_of_several_tensors(is_mapping: bool) -> None:
    """Every floating-point tensor counts."""
    model, x = Several(is_mapping=is_mapping), torch.randn(4, 7)
    model(x)
    wanted = 0.5 * 5 * model.linear(x).square().sum() / 4
    torch.testing.assert_close(model.regularization_loss(), wanted)
    torch.testing.assert_close(gradients(model, model.regularization_loss()), gradients(model, wanted))


# -- nothing silent ----------------------------------------------------------------------------------------------------


def test_a_loss_that_nobody_reads_warns_once() -> None:
    model, x = make(), torch.randn(4, 7)
    with pytest.warns(
        UserWarning, match=r"nobody has read the regularization loss of hidden\.kernel, hidden\.activity"
    ):
        model(x).sum().backward()
    model(x).sum().backward()
    read = make()
    (read(x).sum() + read.regularization_loss()).backward()
    read(x).sum().backward()


def test_a_loss_that_is_not_finite_names_its_terms() -> None:
    model = make()
    with torch.no_grad():
        model.hidden.weight[0, 0] = float("inf")
    model.eval()(torch.zeros(2, 7))
    with pytest.warns(RuntimeWarning, match=r"the regularization loss is .*: hidden\.kernel"):
        model.regularization_loss()


def test_terms_can_be_detached() -> None:
    model, x = make(), torch.randn(4, 7)
    model(x)
    detached = model.regularization_terms(detach=True)
    assert not any(value.requires_grad for value in detached.values())
    torch.testing.assert_close(detached, {name: value.detach() for name, value in model.regularization_terms().items()})


# -- functional calls and transforms -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:a backward ran")
def test_functional_calls() -> None:
    """The parameters that are given are those that are penalized."""
    model, x = make(), torch.randn(4, 7)
    given = {name: torch.randn_like(each) for name, each in model.named_parameters()}

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(
            Loss(model), {f"model.{name}": each for name, each in parameters.items()}, (x,)
        )

    value, gradient = torch.func.vjp(loss, given)
    other = make()
    other.load_state_dict(given)
    wanted = other(x).square().sum() + sum(closed_form(other, x).values())
    torch.testing.assert_close(value.double(), wanted.double(), rtol=1e-5, atol=1e-6)
    expected = gradients(other, wanted)
    torch.testing.assert_close(gradient(torch.ones_like(value))[0], expected, rtol=1e-4, atol=1e-5)


def test_vmap_over_parameters() -> None:
    """An ensemble's losses at once."""
    models, x = [make() for _ in range(3)], torch.randn(4, 7)
    for model in models:
        model.hidden.weight.data.normal_()
    parameters, _ = torch.func.stack_module_state(models)

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(Loss(models[0]), {f"model.{k}": v for k, v in parameters.items()}, (x,))

    got = torch.func.vmap(loss)(parameters)
    wanted = [model(x).square().sum() + sum(closed_form(model, x).values()) for model in models]
    torch.testing.assert_close(got.double(), torch.stack(wanted).double(), rtol=1e-5, atol=1e-6)


class Loss(nn.Module):
    """The data loss and the penalties of a model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).square().sum() + self.model.regularization_loss()


def test_memory_stays_flat() -> None:
    """Nothing of a forward outlives the next."""
    import gc
    import weakref

    model = make()
    outputs = []
    for _ in range(5):
        model(torch.randn(4, 7))
        outputs.append(weakref.ref(model._heard[0][1]))
    gc.collect()
    assert [each() is None for each in outputs] == [True] * 4 + [False]


def test_tied_weights_count_once_a_term() -> None:
    """Two names for one parameter: a term is of a name, so a tied weight that has a term under one name has it once."""
    model = make()
    other = nn.Linear(7, 5, bias=False)
    other.weight = model.hidden.weight
    model.add_module("tied", other)
    check(model, model, torch.randn(4, 7))


@pytest.mark.parametrize("foreach", [True, False])
def test_fused_penalties(foreach: bool) -> None:
    """By either way that they are computed, in sizes small and large, of several types."""
    from regspec.runtime.kernels import fused

    shapes = [(3, 5), (300, 700), (7,), (2, 3, 4, 5), ()]
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        xs = [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
        for l1, l2 in ((0.3, 0.0), (0.0, 0.2), (0.3, 0.2)):
            wanted = sum(l1 * x.double().abs().sum() + l2 * x.double().square().sum() for x in xs)
            expected = torch.autograd.grad(wanted, xs)
            if foreach:
                value = fused._value_by_foreach(l1, l2, [x.detach() for x in xs])
                got = fused._gradients(l1, 2 * l2, [x.detach() for x in xs], torch.ones(()))
            else:
                value = fused.fused_penalty([((l1, l2), xs[:2]), ((l1, l2), xs[2:])])
                got = torch.autograd.grad(value, xs)
            rtol = 1e-5 if dtype is torch.bfloat16 else 1e-6  # its squares have few digits, and are rounded alike
            torch.testing.assert_close(value.double(), wanted, rtol=rtol, atol=0)
            for a, b in zip(got, expected, strict=True):
                rtol = 2e-2 if dtype is torch.bfloat16 else 1e-5
                torch.testing.assert_close(a.to(dtype), b, rtol=rtol, atol=1e-6)


def test_large_weights_are_summed_exactly() -> None:
    """A sum in float32 of so many numbers loses digits, unless it is taken in pieces."""
    from regspec.runtime.kernels import fused

    x = torch.randn(1111, 4501) * 0.05
    for l1, l2 in ((1.0, 0.0), (0.0, 1.0)):
        wanted = l1 * x.double().abs().sum() + l2 * x.double().square().sum()
        torch.testing.assert_close(fused.fused_penalty([((l1, l2), [x])]).double(), wanted, rtol=1e-6, atol=0)
        torch.testing.assert_close(fused._value_by_foreach(l1, l2, [x]), wanted, rtol=1e-12, atol=0)
    torch.testing.assert_close(runtime.Norm(0.5)(x).double(), 0.5 * x.double().square().sum().sqrt(), rtol=1e-6, atol=0)


# -- how gradients reach the parameters -------------------------------------------------------------------------------


@pytest.mark.parametrize("watch", ["register_hook", "register_post_accumulate_grad_hook", "register_multi_grad_hook"])
def test_hooks_of_parameters_see_the_whole_gradient(watch: str) -> None:
    model, x = make(), torch.randn(4, 7)
    parameters, seen = [*model.parameters()], []
    if watch == "register_hook":
        for each in parameters:
            each.register_hook(lambda gradient: seen.append(gradient.clone()))
    elif watch == "register_post_accumulate_grad_hook":
        for each in parameters:
            each.register_post_accumulate_grad_hook(lambda parameter: seen.append(parameter.grad.clone()))
    else:
        torch.autograd.graph.register_multi_grad_hook(parameters, lambda gradients: seen.extend(gradients))
    loss = model(x).square().sum() + model.regularization_loss()
    loss.backward()
    assert sorted(each.norm().item() for each in seen) == sorted(each.grad.norm().item() for each in parameters)
    reference = copy.deepcopy(model)
    wanted = reference(x).square().sum() + sum(closed_form(reference, x).values())
    expected = torch.autograd.grad(wanted, [*reference.parameters()])
    torch.testing.assert_close([each.grad for each in parameters], [*expected], rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:a backward ran")
@pytest.mark.parametrize("way", ["grad", "some of grad", "inputs", "retained", "accumulated", "sparse"])
def test_ways_to_ask_for_gradients(way: str) -> None:
    """Of penalties by regspec, against those of the closed form."""
    gradients = []
    for is_ours in (True, False):
        torch.manual_seed(0)
        model, x = make(), torch.randn(4, 7)
        loss = model(x).square().sum()
        loss = loss + (model.regularization_loss() if is_ours else sum(closed_form(model, x).values()).float())
        if way == "grad":
            gradients.append(torch.autograd.grad(loss, [*model.parameters()]))
            continue
        if way == "some of grad":
            gradients.append(torch.autograd.grad(loss, [model.logits.bias, model.hidden.weight]))
            continue
        if way == "sparse":
            model.hidden.weight.grad = torch.eye(5, 7).to_sparse()
        if way == "retained":
            loss.backward(retain_graph=True)
        if way == "accumulated":
            (model(x).sum() + model.regularization_loss()).backward()
        loss.backward(inputs=[model.hidden.weight] if way == "inputs" else None)
        gradients.append([each.grad for each in model.parameters() if each.grad is not None])
    torch.testing.assert_close([*gradients[0]], [*gradients[1]], rtol=1e-4, atol=1e-5)


def lasso(groups: Tensor) -> Tensor:
    """The sum over rows of the root of their size times their norm."""
    return groups.shape[1] ** 0.5 * groups.norm(dim=1).sum()


# By kind: its fields and its slot, the shape of its input, the parameter, and how torch has it: as outputs and inputs.
GROUPS: dict[str, tuple[dict[str, object], str, list[int], str, str]] = {
    "Dense": ({"units": 5}, "kernel", [4], "weight", "oi"),
    "Conv2D": ({"filters": 5, "kernel_size": [3, 2]}, "kernel", [4, 6, 7], "weight", "oihw"),
    "Conv2DTranspose": ({"filters": 5, "kernel_size": [3, 2]}, "kernel", [4, 6, 7], "weight", "iohw"),
    "SeparableConv2D": ({"filters": 5, "kernel_size": [3, 2]}, "pointwise", [4, 6, 7], "pointwise.weight", "oihw"),
    "LSTM": ({"units": 5}, "recurrent", [6, 4], "weight_hh_l0", "oi"),
}


@pytest.mark.parametrize("axis", ["output", "input"])
@pytest.mark.parametrize("kind", GROUPS)
def test_groups_of_weights(kind: str, axis: str) -> None:
    """A group holds the weights of one output, or of one input, wherever torch has them."""
    fields, slot, shape, path, axes = GROUPS[kind]
    regularizer = {f"{slot}_regularizer": {"group_lasso": {"strength": 0.1, "axis": axis}}}
    layers = [{kind: {"name": "layer", **fields, **regularizer}}]
    model = regspec.build({"inputs": {"x": {"shape": shape}}, "layers": layers}, seed=1)
    name, _, last = f"layer.{path}".replace("layer.pointwise", "layer_pointwise").rpartition(".")
    weight = getattr(model.get_submodule(name), last).detach()
    groups = weight.movedim(axes.index(axis[0]), 0).flatten(1)
    torch.testing.assert_close(model.regularization_terms()[f"layer.{slot}"], 0.1 * lasso(groups))


def test_groups_of_a_table_and_of_depthwise_filters() -> None:
    """A table's outputs are its columns; a channel's filters lie in one dimension of torch's, with the channel."""
    spec = {
        "inputs": {"tokens": {"shape": [3], "dtype": "int64"}, "image": {"shape": [4, 6, 7]}},
        "layers": [
            {"Embedding": {"input_dim": 7, "output_dim": 5, "inputs": "tokens", "embeddings_regularizer": LASSO}},
            {"DepthwiseConv2D": {"kernel_size": [3, 2], "inputs": "image", "depthwise_regularizer": LASSO}},
        ],
        "outputs": ["embedding", "depthwise_conv2d"],
    }
    model = regspec.build(spec, seed=1)
    terms = model.regularization_terms()
    table, filters = model.embedding.weight.detach(), model.depthwise_conv2d.weight.detach()
    torch.testing.assert_close(terms["embedding.embeddings"], 0.1 * lasso(table))
    torch.testing.assert_close(terms["depthwise_conv2d.depthwise"], 0.1 * lasso(filters.flatten(1)))


LASSO = {"group_lasso": {"strength": 0.1, "axis": "input"}}
