"""Outputs with penalties are kept until these are read: values and gradients by closed forms, and what is kept.

In training and evaluation, with gradients, without and in inference mode; where outputs are changed in place, in the
forward or after it; of sizes around what is kept; of a module that is called twice; over several forwards.
"""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import regspec
from regspec.runtime import L1, L1L2, L2, Regularized

MEBIBYTE = 2**20
MODES = {"grad": nullcontext, "no_grad": torch.no_grad, "inference": torch.inference_mode}
in_any_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
in_either_mode = pytest.mark.parametrize("is_training", [True, False], ids=["training", "evaluation"])


class Twice(Regularized):
    """A wide layer, an activation that is called twice, and a layer whose output the model gives."""

    def __init__(self, width: int, is_in_place: bool = False) -> None:
        super().__init__()
        self.wide, self.twice, self.after = nn.Linear(3, width), nn.Tanh(), nn.ReLU(is_in_place)
        self.last = nn.Linear(width, 5)
        self.add_activity_terms(L1L2(0.3, 0.2), {"wide.activity": "wide"})
        self.add_activity_terms(L1(0.4), {"twice.activity": "twice"})
        self.add_activity_terms(L2(0.5), {"last.activity": "last"}, reduction="sum")

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.last(self.twice(self.twice(self.after(self.wide(x)))))
        return output


def written_out(model: Twice, x: Tensor) -> dict[str, Tensor]:
    """Its penalties of one forward, by functions alone."""
    wide = nn.functional.linear(x, model.wide.weight, model.wide.bias)
    once = wide.relu().tanh()
    twice = once.tanh()
    last = nn.functional.linear(twice, model.last.weight, model.last.bias)
    return {
        "wide.activity": (0.3 * wide.abs().sum() + 0.2 * wide.square().sum()) / len(x),
        "twice.activity": 0.4 * (once.abs().sum() + twice.abs().sum()) / len(x),
        "last.activity": 0.5 * last.square().sum(),
    }


def change(how: str, output: Tensor) -> None:
    """Changes what a model gave, where its caller may."""
    if how != "nothing":
        with torch.inference_mode() if output.is_inference() else torch.no_grad():
            (output if how == "itself" else output.view(-1)[2:]).mul_(7)


@pytest.mark.parametrize("how", ["nothing", "itself", "a view"])
@pytest.mark.parametrize("is_in_place", [False, True], ids=["", "relu_"])
@in_any_mode
@in_either_mode
def test_values_after_the_forward(is_training: bool, mode: Any, is_in_place: bool, how: str) -> None:
    """Also when the output is changed, but in training: there it is refused once, and learnt."""
    torch.manual_seed(3)
    model = Twice(6, is_in_place).train(is_training)
    for index, batch in enumerate((4, 4, 3)):
        x = torch.randn(batch, 3)
        with mode():
            change(how, model(x))
        if is_training and mode is nullcontext and how != "nothing" and not index:
            with pytest.raises(RuntimeError, match="changed in place before its penalty was read"):
                model.regularization_loss()
            continue
        wanted = written_out(model, x)
        torch.testing.assert_close(model.regularization_terms(), wanted)
        loss = model.regularization_loss()
        torch.testing.assert_close(loss, sum(wanted.values()))
        if mode is nullcontext:
            parameters = [*model.parameters()]
            gradients = torch.autograd.grad(loss, parameters)
            torch.testing.assert_close(gradients, torch.autograd.grad(sum(wanted.values()), parameters))
        else:
            assert not loss.requires_grad


@pytest.mark.parametrize("width", [16383, 16384, 16385, 50001])  # of 4 rows: a fourth of a MiB is 16384
@in_any_mode
@in_either_mode
def test_sizes_around_what_is_kept(is_training: bool, mode: Any, width: int) -> None:
    """Over several forwards in one, and the next one alone."""
    torch.manual_seed(4)
    model, xs = Twice(width).train(is_training), [torch.randn(4, 3) for _ in range(3)]
    for x in xs:  # in the first forward copies are kept
        with mode():
            change("nothing" if is_training else "itself", model(x))
        torch.testing.assert_close(model.regularization_terms(), written_out(model, x))
    with regspec.accumulate(model), mode():
        for x in xs:
            model(x)
    each = [written_out(model, x) for x in xs]
    wanted = {name: sum(penalties[name] for penalties in each) for name in each[0]}
    torch.testing.assert_close(model.regularization_terms(), wanted)
    torch.testing.assert_close(model.regularization_loss(), sum(wanted.values()))
    with mode():
        model(xs[0])
    torch.testing.assert_close(model.regularization_terms(), each[0])


@in_either_mode
def test_gradients_of_outputs_over_a_mebibyte(is_training: bool) -> None:
    """Each has a node of its own; also twice in one graph, and where the gradients are differentiated again."""
    torch.manual_seed(5)
    model, x = Twice(35_001).double().train(is_training), torch.randn(4, 3, dtype=torch.float64)
    parameters = [*model.parameters()]
    for _ in range(2):
        output = model(x)
        loss = output.square().sum() + model.regularization_loss()
        wanted = output.square().sum() + sum(written_out(model, x).values())
        torch.testing.assert_close(loss, wanted)
        for _ in range(2):
            own = torch.autograd.grad(loss, parameters, create_graph=True)
            torch.testing.assert_close(own, torch.autograd.grad(wanted, parameters, create_graph=True))
        again = torch.autograd.grad(sum(each.square().sum() for each in own), parameters, retain_graph=True)
        others = torch.autograd.grad(wanted, parameters, create_graph=True)
        seconds = torch.autograd.grad(sum(each.square().sum() for each in others), parameters)
        torch.testing.assert_close(again, seconds)


def most_bytes(step: Callable[[], None]) -> int:
    """The most bytes that two steps have allocated at once, after a first one, which keeps copies."""
    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as events:
        step()
        step()
    changes = [each for each in events.profiler.kineto_results.events() if each.name() == "[memory]"]
    return max(accumulate(each.nbytes() for each in sorted(changes, key=lambda each: each.start_ns())))


def test_a_step_keeps_no_large_output_longer_than_the_graph_does() -> None:
    """And penalties are there after the backward pass."""
    torch.manual_seed(6)
    layers = [nn.Linear(601, 601), nn.GELU(), nn.Linear(601, 601), nn.Tanh(), nn.Linear(601, 601), nn.ReLU()]
    plain, model, x = nn.Sequential(*layers), nn.Sequential(*copy.deepcopy(layers)), torch.randn(603, 601)
    rules = [{"modules": "[0135]", "activity_regularizer": {"l1": 0.3, "l2": 0.2}}]  # all of them are saved
    regspec.regularize(model, rules)

    def step(net: nn.Module, penalty: Callable[[], Tensor | float]) -> None:
        net.zero_grad()
        (net(x).square().mean() + penalty()).backward()

    bytes_without = most_bytes(lambda: step(plain, lambda: 0.0))
    assert most_bytes(lambda: step(model, lambda: regspec.regularization_loss(model))) < 1.01 * bytes_without
    outputs = [layers[:1], layers[:2], layers[:4], layers]
    with torch.no_grad():
        wanted = [0.3 * y.abs().sum() + 0.2 * y.square().sum() for y in (nn.Sequential(*each)(x) for each in outputs)]
    terms = regspec.regularization_terms(model).values()
    torch.testing.assert_close([*terms], [each / 603 for each in wanted])


@pytest.mark.parametrize(("width", "kept"), [(999, True), (16384, True), (16385, False)])
def test_at_most_a_mebibyte_is_kept_without_gradients(width: int, kept: bool) -> None:
    model = Twice(width).eval()
    outputs: list[weakref.ref[Tensor]] = []
    for part in (model.wide, model.twice):
        part.register_forward_hook(lambda module, inputs, output: outputs.append(weakref.ref(output)))

    def bytes_kept() -> int:
        return sum(each.nbytes for each in (output() for output in outputs) if each is not None)

    with torch.no_grad():
        for _ in range(3):
            outputs.clear()
            model(torch.randn(4, 3))
        assert bytes_kept() == (3 * 16 * width if kept else 0)
        with regspec.accumulate(model):
            for _ in range(40):
                model(torch.randn(4, 3))
                assert bytes_kept() <= MEBIBYTE
        model(torch.randn(2, 3))
    assert bytes_kept() == (3 * 8 * width if 8 * width <= MEBIBYTE // 4 else 0)


class LastStep(Regularized):
    """Its penalized output is a view of a hundred times as much."""

    def __init__(self) -> None:
        super().__init__()
        self.steps, self.last = nn.Linear(3, 5), nn.Identity()
        self.add_activity_terms(L2(0.5), {"last.activity": "last"})
        self.seen: list[weakref.ref[Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        steps = self.steps(x)
        self.seen.append(weakref.ref(steps))
        return self.last(steps[:, -1]).relu()


def test_a_view_does_not_keep_what_it_is_of() -> None:
    model, x = LastStep().eval(), torch.randn(4, 100, 3)
    with torch.no_grad():
        for _ in range(3):
            model(x)
        assert [each() for each in model.seen] == [None] * 3
        last = nn.functional.linear(x[:, -1], model.steps.weight, model.steps.bias)
        torch.testing.assert_close(model.regularization_loss(), 0.5 * last.square().sum() / 4)


@pytest.mark.parametrize("mode", [nullcontext, torch.no_grad], ids=["grad", "no_grad"])
def test_an_output_that_becomes_changed_in_evaluation(mode: Any) -> None:
    """Nothing is refused until somebody reads; then it is learnt, and the next forward is right."""
    model, x = Twice(6).eval(), torch.randn(4, 3)
    with mode():
        for _ in range(2):
            model(x)
        model.after.inplace = True
        for _ in range(2):
            model(x)
        with pytest.raises(RuntimeError, match="changed in place before its penalty was read"):
            model.regularization_loss()
        model(x)
        torch.testing.assert_close(model.regularization_loss(), sum(written_out(model, x).values()))


@in_any_mode
def test_modes_learn_apart(mode: Any) -> None:
    """What is changed in place in training alone: the forward in evaluation comes first, as before a fit."""
    model, x = Twice(6), torch.randn(4, 3)
    for is_training in (False, True, False, True, True, False):
        model.train(is_training)
        model.after.inplace = is_training
        with nullcontext() if is_training else mode():
            model(x)
        torch.testing.assert_close(model.regularization_terms(), written_out(model, x))


def test_tensors_of_the_caller_are_let_go() -> None:
    model, x = Twice(6).eval(), torch.randn(4, 3)
    with torch.no_grad():
        wanted = sum(written_out(model, x).values())
        model(x)
        gone = weakref.ref(x)
        del x
    assert gone() is None
    torch.testing.assert_close(model.regularization_loss(), wanted)


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda model: pickle.loads(pickle.dumps(model))}


@pytest.mark.parametrize("made", COPIES.values(), ids=COPIES)
@in_any_mode
def test_copies(made: Any, mode: Any) -> None:
    """A copy listens to its own modules, and not to those of the model."""
    model, x = Twice(6).eval(), torch.randn(4, 3)
    with mode():
        model(x)
    twin = made(model)
    assert twin.regularization_terms() == {}
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(2)
    for each in (twin, model):
        with mode():
            each(2 * x)
        torch.testing.assert_close(each.regularization_terms(), written_out(each, 2 * x))
    with mode():
        model(x)
    torch.testing.assert_close(twin.regularization_terms(), written_out(twin, 2 * x))


def test_a_model_is_freed_without_the_garbage_collector() -> None:
    model = Twice(6)
    model(torch.randn(4, 3))
    parts = [weakref.ref(part) for part in model.modules()]
    gc.disable()
    try:
        del model
        assert [part() for part in parts] == [None] * len(parts)
    finally:
        gc.enable()


class Alone(Regularized):
    """One module, with a penalty on what it gives."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.add_activity_terms(L2(0.5), {"activity": "module"})

    def forward(self, x: Tensor) -> Any:
        return self.module(x)


def of_class(forward: Any) -> nn.Module:
    """A module of a class with this for its forward."""
    made: nn.Module = type("Made", (nn.Module,), {"forward": forward})()
    return made


FORWARDS: dict[str, Callable[[], nn.Module]] = {
    "a static method": lambda: of_class(staticmethod(torch.relu)),
    "a function of torch": lambda: of_class(torch.relu),
    "a property": lambda: of_class(property(lambda self: torch.relu)),
    "nested": lambda: of_class(lambda self, x: torch.nested.nested_tensor([x.relu(), torch.zeros(1, 3)])),
    "sparse": lambda: of_class(lambda self, x: x.relu().to_sparse()),
}


@pytest.mark.parametrize("made", FORWARDS.values(), ids=FORWARDS)
@in_any_mode
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")  # torch's own
def test_other_forwards_and_outputs(made: Callable[[], nn.Module], mode: Any) -> None:
    model, x = Alone(made()).eval(), torch.randn(2, 3)
    for _ in range(3):
        with mode():
            model(x)
        torch.testing.assert_close(model.regularization_loss(), 0.5 * x.relu().square().sum() / 2)


OF_THE_CALLER: dict[str, Callable[[Tensor], Tensor]] = {
    "torch": Tensor.clone,
    "numpy": lambda x: torch.from_numpy(x.numpy().copy()),
    "shared with processes": lambda x: x.clone().share_memory_(),
}


@pytest.mark.parametrize("by_name", [False, True], ids=["", "by name"])
@pytest.mark.parametrize("made", OF_THE_CALLER.values(), ids=OF_THE_CALLER)
@in_any_mode
def test_what_the_caller_gives(made: Callable[[Tensor], Tensor], mode: Any, by_name: bool) -> None:
    """In evaluation a dropout gives that itself, which the caller may fill anew."""
    model, x = Alone(nn.Dropout()).eval(), made(torch.randn(4, 3))
    for _ in range(3):
        x.numpy()[:] = torch.randn(4, 3).numpy()
        wanted = 0.5 * x.square().sum() / 4
        with mode():
            model(x=x) if by_name else model(x)
        x.numpy()[:] = 7
        torch.testing.assert_close(model.regularization_loss(), wanted)


def test_a_hook_that_was_there_before() -> None:
    """The penalty is that of what it makes of an output."""
    module, x = nn.Tanh(), torch.randn(2, 3)
    module.register_forward_hook(lambda module, inputs, output: 2 * output)
    model = Alone(module)
    model(x)
    torch.testing.assert_close(model.regularization_loss(), 0.5 * (2 * x.tanh()).square().sum() / 2)


def test_a_forward_that_is_replaced() -> None:
    """It is not silently zero; a wrapper that calls what was there is as good as before."""
    model, x = Alone(nn.Tanh()), torch.randn(2, 3)
    before = model.module.forward
    model.module.forward = lambda x: 2 * before(x)
    model(x)
    torch.testing.assert_close(model.regularization_loss(), 0.5 * x.tanh().square().sum() / 2)
    model.module.forward = torch.tanh
    model(x)
    with pytest.raises(RuntimeError, match=r"^activity: the module .* or has another forward since: give the penalty"):
        model.regularization_loss()


def test_the_modules_are_those_of_torch() -> None:
    """What hears them is neither a hook nor another class, unless a user's forward is in the way."""
    model = Twice(6)
    assert type(model.twice) is nn.Tanh
    assert not model.twice._forward_hooks
    other = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    other[1].forward = lambda x: 2 * x
    regspec.regularize(other, [{"modules": "1", "activity_regularizer": {"l2": 0.5}}])
    x = torch.randn(4, 3)
    torch.testing.assert_close(other(x), 2 * other[0](x))
    torch.testing.assert_close(other.regularization_loss(), 0.5 * (2 * other[0](x)).square().sum() / 4)
