"""Modules with penalties by rules do what the class that they had does: construct, copy, pickle, trace, replicate."""

from __future__ import annotations

import abc
import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import regspec
from regspec.runtime import Regularized

RULES = [
    {"types": ["Linear"], "kernel_regularizer": {"l2": 0.1}},
    {"types": ["ReLU"], "activity_regularizer": {"l1": 0.2}},
]


def stack() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def ruled(module: nn.Module) -> Regularized:
    return regspec.regularize(module, RULES)


def check(model: nn.Module) -> None:
    """It is right by its own weights and its own last forward, in value and gradient."""
    x = torch.randn(5, 4)
    first, last = (part for part in model.modules() if type(part) is nn.Linear)
    for is_training in (True, False):
        model.train(is_training)
        model(x)
        wanted = 0.1 * (first.weight.square().sum() + last.weight.square().sum())
        wanted = wanted + 0.2 * torch.relu(first(x)).sum() / 5
        torch.testing.assert_close(model.regularization_loss(), wanted)
        gradients = torch.autograd.grad(model.regularization_loss(), [first.weight, last.weight])
        torch.testing.assert_close(gradients, torch.autograd.grad(wanted, [first.weight, last.weight]))


class Net(nn.Module):
    """It makes others of its class, and its parts are those of `stack`."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.width, self.body = width, nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)

    def other(self, *arguments: Any, **keywords: Any) -> Net:
        return type(self)(*arguments, **keywords)


class Abstract(Net, abc.ABC):
    pass


class New(Net):
    def __new__(cls, *arguments: Any, **keywords: Any) -> New:
        made = super().__new__(cls)
        made.was_new = True
        return made


class DeepCopied(Net):
    def __deepcopy__(self, memo: dict[int, Any]) -> DeepCopied:
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        made.copies = getattr(self, "copies", 0) + 1
        return made


class Remade(Net):
    """Copied by a call of its constructor, and then by the state that it gives."""

    def __reduce__(self) -> Any:
        return type(self), (self.width,), self.__getstate__()


class OwnState(Net):
    """Its state is no mapping of attributes."""

    def __getstate__(self) -> Any:
        return ("mine", dict(self.__dict__))

    def __setstate__(self, state: Any) -> None:
        assert state[0] == "mine"
        super().__setstate__(state[1])


class SelfReferring(Net):
    """A hook that holds the module itself."""

    def __init__(self, width: int = 8) -> None:
        super().__init__(width)
        self.calls = 0
        self.register_forward_hook(self.count)

    def count(self, *_: Any) -> None:
        self.calls += 1


CLASSES = [Net, Abstract, New, DeepCopied, Remade, OwnState, SelfReferring]


@pytest.mark.parametrize("cls", CLASSES)
def test_it_constructs_what_it_was(cls: type[Net]) -> None:
    model = ruled(cls())
    assert type(model.other(5)) is cls
    assert model.other(width=5).body[0].out_features == 5
    assert type(model.other()) is cls
    check(model)


@pytest.mark.parametrize("index", [slice(2), slice(1, None), slice(None, None, 2), slice(-1, None)], ids=str)
def test_slices(index: slice) -> None:
    """Share their modules with the whole, and have no penalties of their own."""
    model = ruled(stack())
    part = model[index]
    assert type(part) is nn.Sequential
    assert [*part] == [*model][index]
    assert not isinstance(part, Regularized)
    assert type(model + nn.Sequential(nn.ReLU())) is nn.Sequential
    check(model)
    parts = regspec.regularize(nn.ModuleList(stack()), RULES[:1])
    assert type(parts[1:]) is nn.ModuleList
    assert type(parts.__add__([nn.ReLU()])) is nn.ModuleList
    assert len(parts.regularization_terms()) == 2


COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "the first protocol": lambda model: pickle.loads(pickle.dumps(model, protocol=2)),
    "saved whole": lambda model: saved(model),
    "AveragedModel": lambda model: AveragedModel(model).module,
    "twice": lambda model: copy.deepcopy(pickle.loads(pickle.dumps(model))),
}


def saved(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("make", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("cls", CLASSES)
def test_copies(cls: type[Net], make: Callable[[Any], Any]) -> None:
    model = ruled(cls())
    check(model)  # so that it has heard something
    before = {*vars(model)}
    other = make(model)
    assert {*vars(model)} == before
    assert isinstance(other, cls)
    assert isinstance(other, Regularized)
    if make is not copy.copy:  # which has the modules in common
        check(other)
        assert other.body[0].weight is not model.body[0].weight
    check(model)
    assert type(regspec.unregularize(other)) is cls
    if cls is DeepCopied and make is copy.deepcopy:
        assert other.copies == 1


# -- graphs of torch.fx ------------------------------------------------------------------------------------------------


def graph() -> Regularized:
    return ruled(torch.fx.symbolic_trace(stack()))


@pytest.mark.parametrize("make", COPIES.values(), ids=COPIES)
def test_copies_of_a_graph(make: Callable[[Any], Any]) -> None:
    model = graph()
    check(model)
    other = make(model)
    assert isinstance(other, torch.fx.GraphModule)
    if make is not copy.copy:
        check(other)
    check(model)


def test_a_graph_that_is_changed() -> None:
    """And written anew: it does what the new graph says."""
    model = graph()
    check(model)
    for node in model.graph.nodes:
        if node.op == "output":
            with model.graph.inserting_before(node):
                node.args = (model.graph.call_function(torch.mul, (node.args[0], 2)),)
    model.recompile()
    x = torch.randn(5, 4)
    torch.testing.assert_close(model(x), 2 * model.get_submodule("2")(torch.relu(model.get_submodule("0")(x))))
    check(model)
    model.graph = torch.fx.symbolic_trace(stack()).graph  # which is written at once
    check(model)
    other = copy.deepcopy(model)
    other.recompile()
    check(other)
    plain = regspec.unregularize(model)
    assert not isinstance(plain, Regularized)
    plain.recompile()
    plain(x)


def test_a_graph_of_a_module_with_penalties() -> None:
    """Its own graph has no penalties, and the module keeps its own."""
    model, x = ruled(stack()), torch.randn(5, 4)
    traced = torch.fx.symbolic_trace(model)
    assert {node.op for node in traced.graph.nodes} == {"placeholder", "call_module", "output"}
    torch.testing.assert_close(traced(x), model(x))
    check(model)


# -- torch.jit ---------------------------------------------------------------------------------------------------------

COMPILED: dict[str, Callable[[nn.Module], Any]] = {
    "traced": lambda model: torch.jit.trace(model, torch.randn(2, 4)),
    "scripted": torch.jit.script,
}
MODELS: dict[str, Callable[[], nn.Module]] = {
    "by rules": lambda: ruled(stack()),
    "by rules, a class of the user's": lambda: ruled(Net()),
    "inside": lambda: nn.Sequential(ruled(stack()), nn.Identity()),
    "by a spec": lambda: regspec.build(
        "regspec: 1\nname: n\ninputs: {x: {shape: [4]}}\nlayers:\n"
        "  - Dense: {units: 8, activation: relu, kernel_regularizer: {l2: 0.1}, activity_regularizer: {l1: 0.2}}\n"
        "  - Dense: {units: 3, kernel_regularizer: {l2: 0.1}}\n"
    ),
}


@pytest.mark.filterwarnings("ignore:`torch.jit", "ignore:Converting a tensor to a Python boolean")  # torch's own
@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("compiled", COMPILED.values(), ids=COMPILED)
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_torch_jit(make: Callable[[], nn.Module], compiled: Callable[[nn.Module], Any], is_training: bool) -> None:
    """What it makes computes the same, with the same parameters, and has no penalties; the module keeps its own."""
    model, x = make().train(is_training), torch.randn(5, 4)
    model(x)
    if compiled is torch.jit.script and not isinstance(model, Regularized):
        with pytest.raises(RuntimeError, match="would take the penalties off"):
            compiled(model)
        assert isinstance(model[0], Regularized)
        return
    made = compiled(model)
    torch.testing.assert_close(made(x), model(x))
    assert {each.data_ptr() for each in made.parameters()} == {each.data_ptr() for each in model.parameters()}
    inner = model if isinstance(model, Regularized) else model[0]
    first, last = (part for part in inner.modules() if type(part) is nn.Linear)
    model(x)
    wanted = 0.1 * (first.weight.square().sum() + last.weight.square().sum()) + 0.2 * torch.relu(first(x)).sum() / 5
    torch.testing.assert_close(inner.regularization_loss(), wanted)


class WithScript(nn.Module):
    """With a part, of several, that is compiled."""

    def __init__(self, compiled: Callable[[nn.Module], Any]) -> None:
        super().__init__()
        self.a, self.b = compiled(nn.Sequential(nn.Linear(4, 3), nn.Tanh())), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x))


OTHERS: list[dict[str, Any]] = [  # that select nothing of that part
    {"types": ["Linear"], "kernel_regularizer": {"l2": 0.3}},
    {"modules": "b", "kernel_regularizer": {"l2": 0.3}},
    {"parameters": r".*\.weight", "except": r"a\..*", "regularizer": {"l2": 0.3}},
    {"except": r"a(\..*)?", "kernel_regularizer": {"l2": 0.3}},
]


@pytest.mark.filterwarnings("ignore:`torch.jit")  # torch's own
@pytest.mark.parametrize("rule", OTHERS, ids=str)
@pytest.mark.parametrize("compiled", COMPILED.values(), ids=COMPILED)
def test_a_model_with_a_part_of_torch_script(compiled: Callable[[nn.Module], Any], rule: dict[str, Any]) -> None:
    model, x = regspec.regularize(WithScript(compiled), [rule]), torch.randn(5, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for route in ("loss", "gradient"):
        binding = regspec.bind(model, optimizer, l2="gradient") if route == "gradient" else None
        torch.testing.assert_close(model.regularization_terms(), {"b.weight": 0.3 * model.b.weight.square().sum()})
        before, first = model.b.weight.detach().clone(), [each.detach().clone() for each in model.a.parameters()]
        optimizer.zero_grad()
        (0 * model(x).sum() + model.regularization_loss()).backward()
        optimizer.step()
        torch.testing.assert_close(model.b.weight, before - 0.1 * 0.6 * before)
        torch.testing.assert_close([*model.a.parameters()], first)
        if binding is not None:
            binding.remove()
    assert type(regspec.unregularize(model)) is WithScript


@pytest.mark.filterwarnings("ignore:`torch.jit")  # torch's own
@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ({"parameters": r".*\.weight", "regularizer": "l2"}, r"a\.0\.weight"),
        ({"kernel_regularizer": "l2"}, r"a\.0\.weight"),
        ({"modules": "a", "activity_regularizer": "l2"}, "a"),
        ({"modules": r"a\.1|b", "activity_regularizer": "l2"}, r"a\.1"),
    ],
    ids=str,
)
@pytest.mark.parametrize("compiled", COMPILED.values(), ids=COMPILED)
def test_what_is_of_torch_script_is_refused(
    compiled: Callable[[nn.Module], Any], rule: dict[str, Any], name: str
) -> None:
    model = WithScript(compiled)
    with pytest.raises(regspec.RegspecError, match=rf"'{name}' is compiled by TorchScript(.*\n)*.*'except'"):
        regspec.regularize(model, [rule])
    assert type(model) is WithScript


# -- replicas ----------------------------------------------------------------------------------------------------------


def replicas(model: nn.Module) -> list[nn.Module]:
    """As `nn.DataParallel` makes one for each device."""
    return [part._replicate_for_data_parallel() for part in model.modules()]


@pytest.mark.parametrize("make", [lambda: ruled(stack()), MODELS["by a spec"], lambda: nn.Sequential(ruled(stack()))])
def test_replicas_are_refused(make: Callable[[], nn.Module]) -> None:
    """They would lose the outputs of all devices but one."""
    with pytest.raises(RuntimeError, match=r"activity: nn\.DataParallel .* take DistributedDataParallel"):
        replicas(make())


def test_replicas_of_weight_penalties() -> None:
    """Those are of the model's own weights."""
    model = regspec.regularize(stack(), RULES[:1])
    copies = replicas(model)
    assert [type(each) for each in copies] == [type(each) for each in model.modules()]
    wanted = 0.1 * (model[0].weight.square().sum() + model[2].weight.square().sum())
    torch.testing.assert_close(model.regularization_loss(), wanted)
