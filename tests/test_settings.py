"""Every setting in which a model is used: its penalties in value and gradient, as they are written out in `tests.net`.

Runs, contexts, types, checkpoints, operations in place, several models and threads, copies, memory, weights that are
frozen, replaced or computed, and rules that are taken off. What a penalty is stands in `test_penalties`, what belongs
to a backward pass or to an optimizer in `test_steps`, and what is compiled, exported or traced in `test_compiled`.

A test that is marked as expected to fail shows a fault of the library, which its reason names.
"""

from __future__ import annotations

import copy
import gc
import io
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.checkpoint import checkpoint

import regspec
from regspec.runtime import Regularized
from tests.net import (
    BIAS,
    HIDDEN,
    KERNEL,
    LOGITS,
    RULES,
    Checkpointed,
    InPlace,
    Make,
    Net,
    Run,
    agree,
    by_rules,
    by_spec,
    check,
    check_gradients,
    count_tensors,
    either,
    fault,
    in_either_mode,
    in_threads,
    loss_of,
    ruled,
    terms,
    wanted_loss,
    written_out,
)

without_gradients = pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])


def square(strength: float) -> dict[str, dict[str, float]]:
    return {"activity_regularizer": {"l2": strength}}


# -- how it is run -----------------------------------------------------------------------------------------------------


def hooked(model: nn.Module) -> nn.Module:
    """With backward hooks, which put nodes of their own around the modules."""
    for part in model.modules():
        part.register_full_backward_hook(lambda *_: None)
    return model


def tied(model: nn.Module) -> nn.Module:
    """Its kernel is another part's weight, too, and has one penalty."""
    model.other = nn.Linear(7, 5, bias=False)
    model.other.weight = model.hidden.weight
    return model


RUNS: dict[str, Callable[[nn.Module], Run]] = {
    "training": lambda model: model,
    "evaluation": lambda model: model.eval(),
    "evaluation of a part": lambda model: model.hidden.eval() and model,
    "in a container": nn.Sequential,
    "DataParallel": nn.DataParallel,
    "hooked": hooked,
    "tied": tied,
    "checkpointed": lambda model: partial(checkpoint, model, use_reentrant=False),
    "checkpointed in evaluation": lambda model: partial(checkpoint, model.eval(), use_reentrant=False),
}


@either
@pytest.mark.parametrize("prepare", RUNS.values(), ids=RUNS)
def test_forwards(prepare: Callable[[nn.Module], Run], make: Make) -> None:
    """One after the other, with batches of other sizes, one of them empty."""
    model = make()
    run = prepare(model)
    for batch in (4, 3, 0, 6):
        check(model, run, torch.randn(batch, 7))


@contextmanager
def default_type() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


CONTEXTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "anomaly mode": torch.autograd.detect_anomaly,
    "tensors saved elsewhere": torch.autograd.graph.save_on_cpu,
    "tensors packed": lambda: torch.autograd.graph.saved_tensors_hooks(lambda x: x.numpy(force=True), torch.tensor),
    "one thread": lambda: torch.autograd.set_multithreading_enabled(False),
    "float64 by default": default_type,
    "meta by default": lambda: torch.device("meta"),
}


@either
@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
@pytest.mark.filterwarnings("ignore:Anomaly Detection")  # torch's own, of what it costs
def test_contexts(context: Callable[[], AbstractContextManager[Any]], make: Make) -> None:
    model, x = make(), torch.randn(4, 7)
    with context():
        check(model, x=x)


@either
@without_gradients
@in_either_mode
def test_without_gradients(is_training: bool, mode: type, make: Make) -> None:
    """And the weights still have theirs, outside."""
    model, x = make().train(is_training), torch.randn(4, 7)
    with mode():
        model(x)
        wanted = written_out(model, x)[1]
        agree(terms(model), wanted)
        agree(model.regularization_loss(), sum(wanted.values()))
        assert not any(each.requires_grad for each in (*terms(model).values(), model.regularization_loss()))
    wanted = written_out(model, x)[1]
    weights = [model.hidden.weight, model.logits.bias]
    expected = torch.autograd.grad(wanted["hidden.kernel"] + wanted["logits.bias"], weights)
    agree(torch.autograd.grad(model.regularization_loss(), weights), expected)


class Tuned(nn.Module):
    """A network whose first part runs without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(7, 5), nn.Tanh())
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.backbone(x)
        return self.head(features)


def test_a_part_without_gradients() -> None:
    model = ruled(Tuned(), {"modules": r"backbone\.1|head", "activity_regularizer": {"l2": 0.3}})
    x = torch.randn(4, 7)
    model(x)
    features = torch.tanh(model.backbone[0](x)).detach()
    wanted = 0.3 * (features.square().sum() + model.head(features).square().sum()) / 4
    loss = model.regularization_loss()
    assert torch.autograd.grad(loss, model.backbone[0].weight, allow_unused=True, retain_graph=True) == (None,)
    check_gradients(loss, wanted, model.head)


# -- types and devices -------------------------------------------------------------------------------------------------

TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 5e-3}


@either
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_moved_to_a_type(dtype: torch.dtype, make: Make) -> None:
    """After building; and back."""
    model = make()
    check(model.to(dtype), tolerance=TOLERANCES[dtype])
    check(model.float())


@either
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_autocast(dtype: torch.dtype, make: Make) -> None:
    """Weights of any type: all penalties are float32, and those of weights as without."""
    half = torch.bfloat16 if dtype is torch.float32 else dtype
    model, x = make().to(dtype), torch.randn(4, 7).to(dtype)
    with torch.autocast("cpu", dtype=half):
        output = model(x)
        loss, found = model.regularization_loss(), terms(model)
    wanted = written_out(model, x)[1]
    assert output.dtype is half
    assert {each.dtype for each in (loss, *found.values())} == {torch.float32}
    agree(found, wanted, 3e-2)
    for name in ("hidden.kernel", "logits.bias"):
        agree(found[name], wanted[name])
    parameters = [*model.parameters()]
    agree(torch.autograd.grad(loss, parameters), torch.autograd.grad(sum(wanted.values()), parameters), 5e-2)


@either
def test_the_meta_device(make: Make) -> None:
    """There a penalty has a shape and a gradient; and from there a model comes back."""
    model = make().to("meta")
    loss = loss_of(model, torch.empty(4, 7, device="meta"))
    assert loss.is_meta
    assert all(each.is_meta for each in terms(model).values())
    loss.backward()
    assert all(each.grad.is_meta for each in model.parameters())
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    check(model)


def test_a_model_that_is_partly_on_the_meta_device() -> None:
    """Its loss has no value, and nobody takes it for one."""
    model = ruled(Net(), {"types": ["Linear"], "kernel_regularizer": "l2"})
    model.logits.to("meta")
    assert model.regularization_loss().is_meta


# -- checkpoints -------------------------------------------------------------------------------------------------------


@in_either_mode
def test_a_part_under_a_checkpoint(is_training: bool) -> None:
    model = ruled(Checkpointed(), *RULES).train(is_training)
    for batch in (4, 3):
        check(model, x=torch.randn(batch, 7))


@either
def test_a_loss_under_a_checkpoint(make: Make) -> None:
    """The penalties are read inside, too."""
    model, x = make(), torch.randn(4, 7)
    check_gradients(checkpoint(loss_of, model, x, use_reentrant=False), wanted_loss(model, x), model)


class Reentrant(Checkpointed):
    use_reentrant = True


def around_a_part(is_training: bool) -> Run:
    """A model with a checkpoint in its forward."""
    return ruled(Reentrant(), HIDDEN).train(is_training)


def around_the_whole(is_training: bool) -> Run:
    """A model in a checkpoint."""
    return partial(checkpoint, by_spec().train(is_training), use_reentrant=True)


NOT_REFUSED = fault("a whole model in evaluation is not refused, and loses its gradient", pytest.fail.Exception)


@pytest.mark.parametrize(
    ("prepare", "is_training"),
    [
        (around_a_part, True),
        (around_a_part, False),
        (around_the_whole, True),
        pytest.param(around_the_whole, False, marks=NOT_REFUSED),
    ],
)
def test_a_reentrant_checkpoint_is_refused(prepare: Callable[[bool], Run], is_training: bool) -> None:
    run = prepare(is_training)
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        run(torch.randn(4, 7, requires_grad=True))


def test_a_reentrant_checkpoint_without_outputs_in_it() -> None:
    """Where it loses nothing it may stay: penalties of weights, and of outputs outside of it."""
    model, x = ruled(Reentrant(), KERNEL, BIAS, LOGITS), torch.randn(4, 7, requires_grad=True)
    loss_of(model, x).backward()
    wanted = wanted_loss(model, x) - written_out(model, x)[1]["hidden.activity"]
    agree([each.grad for each in model.parameters()], [*torch.autograd.grad(wanted, [*model.parameters()])], 1e-4)


class Force(Net):
    """The gradient of an energy by its input, for which the network is computed again."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        energy = checkpoint(super().forward, x, use_reentrant=False).square().sum()
        return torch.autograd.grad(energy, x, create_graph=True)[0]


def test_a_checkpoint_that_a_forward_differentiates() -> None:
    model, x = ruled(Force(), HIDDEN), torch.randn(4, 7)
    model(x)
    check_gradients(model.regularization_loss(), written_out(model, x)[1]["hidden.activity"], model.hidden)


# -- operations in place -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_checkpointed", [False, True])
@in_either_mode
def test_an_output_that_is_changed_in_place(is_checkpointed: bool, is_training: bool) -> None:
    model = ruled(InPlace(is_checkpointed), {"modules": "scale", "activity_regularizer": {"l1": 0.3, "l2": 0.2}})
    model.train(is_training)
    for batch in (4, 4, 3):
        x = torch.randn(batch, 7)
        output, heard = model(x), model.linear(x) * 2
        wanted = heard.relu().square().sum() + (0.3 * heard.abs().sum() + 0.2 * heard.square().sum()) / batch
        check_gradients(output.square().sum() + model.regularization_loss(), wanted, model)


def test_an_output_that_becomes_changed_in_place() -> None:
    """Is refused once: what is changed is learnt."""
    model, x = ruled(nn.Sequential(nn.Linear(7, 5), nn.ReLU()), {"modules": "0", **square(0.3)}), torch.randn(4, 7)
    model(x)
    model[1].inplace = True
    with pytest.raises(RuntimeError, match="changed in place before its penalty was read"):
        model(x)
    model(x)
    check_gradients(model.regularization_loss(), 0.3 * model[0](x).square().sum() / 4, model)


def test_an_output_that_is_changed_after_the_forward() -> None:
    model = ruled(Net(), LOGITS)
    model(torch.randn(4, 7)).relu_()
    with pytest.raises(RuntimeError, match="changed in place before its penalty was read"):
        model.regularization_loss()


def test_a_weight_that_is_changed_before_the_backward_pass() -> None:
    model = ruled(Net(), KERNEL)
    loss = model.regularization_loss()
    with torch.no_grad():
        model.hidden.weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# -- several forwards, models and threads ------------------------------------------------------------------------------


@either
@pytest.mark.parametrize("prepare", ["training", "evaluation", "checkpointed"])
def test_several_forwards(prepare: str, make: Make) -> None:
    """Activity penalties are summed, those of weights are not; before it, and after it, a forward stands alone."""
    model, xs = make(), [torch.randn(batch, 7) for batch in (4, 3, 6)]
    run = RUNS[prepare](model)
    run(torch.randn(2, 7))
    with regspec.accumulate(model):
        for x in xs:
            run(x)
    each = [written_out(model, x)[1] for x in xs]
    wanted = {
        name: sum(penalties[name] for penalties in each) if name.endswith("activity") else penalty
        for name, penalty in each[0].items()
    }
    agree(terms(model), wanted)
    check_gradients(model.regularization_loss(), sum(wanted.values()), model)
    check(model, run)


def test_several_forwards_of_a_wrapper() -> None:
    model, x = by_rules(), torch.randn(4, 7)
    wrapper = nn.Sequential(model)
    with regspec.accumulate(wrapper):
        wrapper(x)
        wrapper(x)
    agree(terms(model)["hidden.activity"], 2 * written_out(model, x)[1]["hidden.activity"])


def check_heard(model: Regularized, strength: float, *heard: Tensor) -> None:
    """An L2 of outputs is all that there is, whichever way it is read."""
    wanted = [strength * x.square().sum() / len(x) for x in heard]
    agree([*model.regularization_terms().values()], wanted)
    agree(model.regularization_loss(), sum(wanted))


def test_a_module_that_two_models_share() -> None:
    part, x = nn.Tanh(), torch.randn(4, 7)
    models = {strength: nn.Sequential(nn.Linear(7, 5), part) for strength in (0.1, 0.2)}
    for strength, model in models.items():
        ruled(model, {"modules": "1", **square(strength)})
    for strength, model in models.items():
        check_heard(model, strength, model(x))


def test_a_model_that_another_calls() -> None:
    """A teacher, say, that is no part of the student."""
    teacher = ruled(Net(), HIDDEN, LOGITS)

    class Student(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) - teacher(x)

    model, x = ruled(Student(), {"modules": "hidden_activation", **square(0.1)}), torch.randn(4, 7)
    model(x)
    check_heard(model, 0.1, torch.tanh(model.hidden(x)))


def test_a_part_that_is_copied() -> None:
    """A copy of a part is no part that a rule selected."""
    model, x = ruled(nn.Sequential(nn.Linear(7, 5), nn.Tanh()), {"modules": "1", **square(0.1)}), torch.randn(4, 7)
    model.append(copy.deepcopy(model[1]))
    model(x)
    check_heard(model, 0.1, torch.tanh(model[0](x)))


def test_rules_inside_and_outside() -> None:
    inner = ruled(Net(), KERNEL)
    with pytest.raises(regspec.RegspecError, match=r"there is a term '0\.hidden\.weight' already"):
        ruled(nn.Sequential(inner), {"parameters": r"0\.hidden\.weight", "regularizer": {"l2": 0.5}})


class Meeting(nn.Module):
    """Waits for another forward, so that two run at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.barrier = threading.Barrier(2, timeout=10)

    def forward(self, x: Tensor) -> Tensor:
        self.barrier.wait()
        return x


def test_two_models_in_two_threads() -> None:
    meeting, x = Meeting(), torch.randn(4, 7)
    models = {strength: nn.Sequential(nn.Linear(7, 5), nn.Tanh(), meeting) for strength in (0.1, 0.2)}
    for strength, model in models.items():
        ruled(model, {"modules": "1", **square(strength)})
    in_threads(*(partial(model, x) for model in models.values()))
    for strength, model in models.items():
        check_heard(model, strength, torch.tanh(model[0](x)))


def test_one_model_in_two_threads() -> None:
    """The penalties are those of the forward that ended last."""
    model = ruled(nn.Sequential(nn.Linear(7, 5), nn.Tanh(), Meeting()), {"modules": "1", **square(0.1)})
    x = torch.randn(4, 7)
    in_threads(partial(model, x), partial(model, x))
    check_heard(model, 0.1, torch.tanh(model[0](x)))


# -- copies ------------------------------------------------------------------------------------------------------------


def saved(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


COPIES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": saved,
    "AveragedModel": lambda model: torch.optim.swa_utils.AveragedModel(model).module,
}


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("make", [by_spec, lambda: ruled(Checkpointed(), *RULES)], ids=["by_spec", "by_rules"])
def test_copies(make: Make, duplicate: Callable[[nn.Module], nn.Module]) -> None:
    """Of a model that ran: each has the penalties of its own forward."""
    model = make()
    loss_of(model, torch.randn(4, 7)).backward()
    other = duplicate(model)
    assert type(other) is type(model)
    assert set(terms(other)) == {"hidden.kernel", "logits.bias"}
    nn.init.normal_(other.hidden.weight)
    check(other)
    check(model)


@either
def test_the_state_dict_is_untouched(make: Make) -> None:
    model, plain = make(), Net()
    model(torch.randn(4, 7))
    assert list(model.state_dict()) == list(plain.state_dict())
    assert not [*model.buffers()]
    plain.load_state_dict(model.state_dict())
    model.load_state_dict(Net().state_dict())
    check(model)


# -- memory ------------------------------------------------------------------------------------------------------------


def watch(part: nn.Module) -> list[weakref.ref[Tensor]]:
    """References to a part's outputs, which keep none of them alive."""
    outputs: list[weakref.ref[Tensor]] = []
    part.register_forward_hook(lambda module, inputs, output: outputs.append(weakref.ref(output)))
    return outputs


@either
@without_gradients
@in_either_mode
def test_a_forward_without_gradients_keeps_no_large_activation(is_training: bool, mode: type, make: Make) -> None:
    """What is kept of small ones stands in `test_heard_outputs`."""
    model = make().train(is_training)
    outputs = [watch(part) for part in (model.hidden, model.hidden_activation, model.logits)]
    with mode():
        model(torch.randn(40_000, 7))
    assert [each() for (each,) in outputs] == [None] * 3
    assert len(terms(model)) == 4


@in_either_mode
def test_a_forward_keeps_activations_until_the_next(is_training: bool) -> None:
    """Where there are gradients, those of its penalties need them, also in evaluation."""
    model = by_rules().train(is_training)
    outputs = watch(model.hidden_activation)
    for _ in range(4):
        model(torch.randn(4, 7))
        model.regularization_loss()
    gc.collect()
    assert [each() is not None for each in outputs] == [False, False, False, True]


@without_gradients
def test_ten_thousand_forwards_leave_memory_flat(mode: type) -> None:
    model, x = ruled(Net(), KERNEL, HIDDEN, LOGITS).eval(), torch.randn(2, 7)
    with mode():
        for _ in range(3):
            model(x)
        before = count_tensors()
        for _ in range(10_000):
            model(x)
        assert count_tensors() <= before  # what other tests have left may go meanwhile


def test_steps_leave_memory_flat() -> None:
    model = by_rules()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def steps(count: int) -> int:
        for _ in range(count):
            optimizer.zero_grad()
            loss_of(model, torch.randn(4, 7)).backward()
            optimizer.step()
        return count_tensors()

    assert steps(5) >= steps(50)  # what other tests have left may go meanwhile


def test_a_model_that_is_dropped_is_freed() -> None:
    model = ruled(Net(), LOGITS)
    model(torch.randn(4, 7))
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


# -- frozen, replaced and computed weights -----------------------------------------------------------------------------


@either
def test_frozen_and_thawed_while_training(make: Make) -> None:
    """With an optimizer that has all parameters: what is frozen stays, and the rest goes on."""
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for frozen in ([], ["weight"], ["weight", "bias"], []):
        for name, parameter in model.hidden.named_parameters():
            parameter.requires_grad_(name not in frozen)
        before, x = model.hidden.weight.detach().clone(), torch.randn(4, 7)
        optimizer.zero_grad()
        loss = loss_of(model, x)
        agree(loss, wanted_loss(model, x))
        loss.backward()
        optimizer.step()
        assert torch.equal(model.hidden.weight, before) is bool(frozen)
        check(model)


def test_a_weight_that_is_replaced() -> None:
    model = by_rules()
    model(torch.randn(4, 7))
    model.hidden.weight = nn.Parameter(torch.randn(5, 7))
    check(model)


def test_a_part_that_is_replaced() -> None:
    model, x = by_rules(), torch.randn(4, 7)
    model.hidden_activation = nn.Tanh()
    model(x)
    with pytest.raises(RuntimeError, match="the module that is listened to is no longer in the model"):
        model.regularization_terms()


def elastic(weight: Tensor) -> Tensor:
    """The penalty of `KERNEL`."""
    return 0.1 * weight.abs().sum() + 0.2 * weight.square().sum()


def test_weight_normalization() -> None:
    """The weight that is used is penalized, with gradients for what it is computed from."""
    model = ruled(Net(), KERNEL)
    parametrizations.weight_norm(model.hidden)
    size, direction = model.hidden.parametrizations.weight.parameters()
    weight = size * direction / direction.norm(dim=1, keepdim=True)
    check_gradients(model.regularization_loss(), elastic(weight), model.hidden.parametrizations)


def test_spectral_normalization() -> None:
    """Within `cached`, the weight is that of the forward; outside, each use of it is a step of torch's iteration."""
    model = ruled(Net(), KERNEL)
    parametrizations.spectral_norm(model.hidden)
    with parametrize.cached():
        model(torch.randn(4, 7))
        loss, wanted = model.regularization_loss(), elastic(model.hidden.weight)
    agree(loss, wanted)
    original = model.hidden.parametrizations.weight.original
    got = torch.autograd.grad(loss, original, retain_graph=True)
    agree(got, torch.autograd.grad(wanted, original))


def test_pruning() -> None:
    """The weight that is left is penalized."""
    model = ruled(Net(), KERNEL)
    prune.l1_unstructured(model.hidden, "weight", 0.5)
    model(torch.randn(4, 7))
    original, left = model.hidden.weight_orig, model.hidden.weight_orig * model.hidden.weight_mask
    agree(model.regularization_loss(), elastic(left))
    agree(torch.autograd.grad(model.regularization_loss(), original), torch.autograd.grad(elastic(left), original))


COMPUTED: dict[str, Callable[[nn.Module], object]] = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "pruning": lambda module: prune.l1_unstructured(module, "weight", 0.5),
}


@pytest.mark.parametrize("compute", COMPUTED.values(), ids=COMPUTED)
def test_rules_for_weights_that_are_computed(compute: Callable[[nn.Module], object]) -> None:
    net = Net().eval()
    compute(net.hidden)
    model = ruled(net, {"types": ["Linear"], "kernel_regularizer": {"l2": 0.1}})
    wanted = 0.1 * (net.hidden.weight.square().sum() + net.logits.weight.square().sum())
    agree(model.regularization_loss(), wanted)


def test_frozen_weights_that_are_computed() -> None:
    model = ruled(Net(), KERNEL)
    parametrizations.weight_norm(model.hidden)
    model.hidden.requires_grad_(False)
    assert not model.regularization_terms()


def test_tied_weights_by_their_second_name() -> None:
    net = nn.ModuleDict({"table": nn.Embedding(11, 3), "head": nn.Linear(3, 11, bias=False)})
    net["head"].weight = net["table"].weight
    with pytest.raises(regspec.RegspecError, match=r"did you mean 'table\.weight'|matches nothing"):
        ruled(net, {"parameters": r"head\.weight", "regularizer": {"l2": 0.1}})


# -- nothing silent ----------------------------------------------------------------------------------------------------


class Methods(Net):
    """A model with further ways to call it."""

    def encode(self, x: Tensor) -> Tensor:
        return self.hidden_activation(self.hidden(x))


@pytest.mark.parametrize("name", ["forward", "encode"])
def test_other_ways_to_call_a_model(name: str) -> None:
    model, x = ruled(Methods(), HIDDEN), torch.randn(4, 7)
    getattr(model, name)(x)
    with pytest.raises(RuntimeError, match=r"computed outside of the model's own call(.|\n)*model\(\.\.\.\)"):
        model.regularization_loss()


def test_penalties_that_the_forward_reads() -> None:
    """As models do that compute their loss themselves."""

    class Whole(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).square().sum() + regspec.regularization_loss(self)

    model, x = ruled(Whole(), *RULES), torch.randn(4, 7)
    agree(model(x), wanted_loss(model, x))


@in_either_mode
def test_torch_encoder_layers(is_training: bool) -> None:
    """In evaluation torch has a fast way, which calls no parts; it does not take it where there are hooks."""
    layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)
    model = ruled(layer, {"modules": "linear1|linear2", **square(0.1)}).train(is_training)
    outputs: list[Tensor] = []
    for part in (layer.linear1, layer.linear2):
        part.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    with torch.set_grad_enabled(is_training):
        model(torch.randn(2, 3, 6))
    check_heard(model, 0.1, *outputs)


# -- taking penalties off ----------------------------------------------------------------------------------------------


def test_a_module_is_restored() -> None:
    """After training; a hook of its own stays, and it can have rules again."""
    net, x = Net(), torch.randn(4, 7)
    outputs = watch(net.logits)
    attributes = set(vars(net))
    model = ruled(net, *RULES)
    loss_of(model, x).backward()
    assert regspec.unregularize(model) is net
    assert type(net) is Net
    assert set(vars(net)) == attributes
    agree(net(x), written_out(net, x)[0])
    assert [len(part._forward_hooks) for part in net.modules()] == [0, 0, 0, 1]
    assert len(outputs) == 2
    check(ruled(net, *RULES))


def test_a_module_with_a_method_of_the_same_name() -> None:
    class Own(Net):
        def regularization_loss(self) -> str:
            return "its own"

    with pytest.raises(regspec.RegspecError, match="has a 'regularization_loss' of its own"):
        ruled(Own(), KERNEL)


def test_rules_are_taken_off_a_model_of_a_spec() -> None:
    model = by_spec()
    ruled(model, {"parameters": r"logits\.weight", "regularizer": "l2"})
    regspec.unregularize(model)
    check(model)


def test_rules_are_taken_off_a_bound_model() -> None:
    """The binding has to be removed before."""
    model = ruled(Net(), KERNEL)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    binding = regspec.bind(model, optimizer, l2="decay")
    with pytest.raises(regspec.RegspecError, match="remove the binding first"):
        regspec.unregularize(model)
    binding.remove()
    regspec.unregularize(model)(torch.randn(4, 7)).sum().backward()
    optimizer.step()
