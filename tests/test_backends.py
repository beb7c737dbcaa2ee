"""L1 and L2 on each backend: by closed forms in float64, for tensors of any layout, and in the settings of `tests.net`.

With "numba", tensors of any size go its way; with "torch" none do. What can't be loaded is done by torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pickle import UnpicklingError
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import regspec
from regspec.runtime import L1L2, Regularized, backend
from regspec.runtime.kernels import fused, one_pass, thresholds
from tests.net import KERNEL, Net, Run, agree, by_rules, check, ruled, weight_gradients
from tests.test_settings import CONTEXTS, RUNS, TOLERANCES

BACKENDS = [
    "torch",
    pytest.param("numba", marks=pytest.mark.skipif(find_spec("numba") is None, reason="there is no numba")),
]
on_either = pytest.mark.parametrize("chosen", BACKENDS)
in_each_way = pytest.mark.parametrize("chosen", [*BACKENDS, "torch, as one node"])


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    few = fused.FEW
    yield
    backend("auto")
    fused.FEW = few


def choose(way: str) -> None:
    """A backend; of torch either by its own nodes of the graph, or by one of ours, however many numbers there are."""
    chosen, _, how = way.partition(", ")
    backend(chosen)
    fused.FEW = -1 if how else 2**20


# -- tensors -----------------------------------------------------------------------------------------------------------

LAYOUTS: dict[str, Callable[[], Tensor]] = {
    "one": lambda: torch.randn(1),
    "none": lambda: torch.randn(0, 3),
    "a matrix": lambda: torch.randn(7, 5),
    "several chunks": lambda: torch.randn(3, 50_001),
    "channels last": lambda: torch.randn(5, 3, 4, 2).to(memory_format=torch.channels_last),
    "channels last, 3-D": lambda: torch.randn(2, 3, 4, 5, 2).to(memory_format=torch.channels_last_3d),
    "transposed": lambda: torch.randn(7, 5).T,
    "a piece": lambda: torch.randn(9, 10)[::2, 1:8],
    "of zeros": lambda: torch.randn(4, 6) * (torch.rand(4, 6) > 0.5),
    "doubles": lambda: torch.randn(6, 11, dtype=torch.float64),
    "halves": lambda: torch.randn(6, 11).half(),
}
GRADIENTS: dict[str, Callable[[Tensor], Tensor | None]] = {
    "no gradient": lambda x: None,
    "a gradient": torch.randn_like,
    "a gradient that lies otherwise": lambda x: (
        torch.randn_like(x.contiguous()).movedim(0, -1).contiguous().movedim(-1, 0)
    ),
}
STRENGTHS = [(0.3, 0.2), (0.3, 0.0), (0.0, 0.2)]


class Tensors(Regularized):
    """Parameters, with an L1 and an L2 each."""

    def __init__(self, l1: float, l2: float) -> None:
        super().__init__()
        for name, make in LAYOUTS.items():
            self.register_parameter(name.replace(" ", "_").replace(",", ""), nn.Parameter(make()))
        self.add_weight_terms(L1L2(l1, l2), {name: name for name, _ in self.named_parameters()})


@in_each_way
@pytest.mark.parametrize(("l1", "l2"), STRENGTHS)
@pytest.mark.parametrize("before", GRADIENTS)
@pytest.mark.parametrize("route", ["loss", "gradient"])
@pytest.mark.filterwarnings("ignore:grad and param do not obey")  # torch's own, of any gradient that lies otherwise
def test_tensors(chosen: str, l1: float, l2: float, before: str, route: str) -> None:
    """Their value, and their gradient, three times, beside what was in ``.grad``."""
    choose(chosen)
    model = Tensors(l1, l2)
    wanted = []
    for x in model.parameters():
        x.grad = GRADIENTS[before](x.detach())
        own = (l1 * x.detach().double().sign() + 2 * l2 * x.detach().double()) * (3 if route == "loss" else 1)
        wanted.append(own if x.grad is None else own + x.grad)
    wide = [x.detach().double() for x in model.parameters()]
    loss = model.regularization_loss()
    agree(loss, sum(l1 * x.abs().sum() + l2 * x.square().sum() for x in wide).float(), 1e-6)
    if route == "loss":
        (3 * loss).backward()
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
        regspec.bind(model, optimizer, l1="gradient", l2="gradient")
        optimizer.step()
    for x, gradient in zip(model.parameters(), wanted, strict=True):
        agree(x.grad, gradient, 1e-2 if x.dtype is torch.float16 else 1e-6)


# Each with the threshold of its step for an L1 of 0.3, by what it keeps.
SOFTENED: dict[str, tuple[Callable[..., torch.optim.Optimizer], Callable[[dict[str, Any]], Any]]] = {
    "SGD": (partial(torch.optim.SGD, lr=0.5), lambda kept: 0.15),
    "SGD, momentum": (partial(torch.optim.SGD, lr=0.1, momentum=0.8), lambda kept: 0.15),
    "no rate": (partial(torch.optim.Adam, lr=0.0), lambda kept: 0.0),
    "Adam": (
        partial(torch.optim.Adam, lr=0.2, eps=1e-3),
        lambda kept: 0.06 / ((kept["exp_avg_sq"].double() / (1 - 0.999 ** kept["step"].item())).sqrt() + 1e-3),
    ),
    "Adagrad": (
        partial(torch.optim.Adagrad, lr=0.2, eps=1e-3),
        lambda kept: 0.06 / (kept["sum"].double().sqrt() + 1e-3),
    ),
    "Adamax": (partial(torch.optim.Adamax, lr=0.2, eps=1e-3), lambda kept: 0.06 / kept["exp_inf"].double()),
    "Adadelta": (
        partial(torch.optim.Adadelta, lr=1.0, eps=1e-3),
        lambda kept: 0.3 * ((kept["acc_delta"].double() + 1e-3) / (kept["square_avg"].double() + 1e-3)).sqrt(),
    ),
}


@on_either
@pytest.mark.parametrize("name", SOFTENED)
def test_soft_thresholds(chosen: str, name: str) -> None:
    """Of tensors of each layout, beside those of the same steps without; tensors that are no leaf see the change."""
    backend(chosen)
    make, threshold = SOFTENED[name]
    models = [Tensors(0.3, 0.0), Tensors(0.3, 0.0)]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [make(model.parameters()) for model in models]
    regspec.bind(models[0], optimizers[0], l1="proximal")
    versions = [x._version for x in models[0].parameters()]
    zeros = 0
    for _ in range(2):
        for xs in zip(*[model.parameters() for model in models], strict=True):
            xs[0].grad = torch.randn_like(xs[0])
            xs[1].grad = xs[0].grad.clone()
        for optimizer in optimizers:
            optimizer.step()
        for x, plain in zip(*[model.parameters() for model in models], strict=True):
            wide = plain.detach().double()
            wanted = wide.sign() * (wide.abs() - threshold(optimizers[1].state[plain])).clamp_min(0)
            agree(x.detach(), wanted.to(x.dtype), 2e-3 if x.dtype is torch.float16 else 1e-6)
            zeros += int((x == 0).sum())
            with torch.no_grad():
                plain.copy_(x)
    assert (zeros > 100) is (name != "no rate")
    if name == "SGD":  # torch counts its own change, and the threshold is another one
        changes = [x._version - before for x, before in zip(models[0].parameters(), versions, strict=True)]
        assert min(changes) >= 4


@pytest.mark.parametrize("kept", [(), (torch.rand(7, 5) * 1e-2,)], ids=["no sizes", "sizes"])
def test_thresholds_that_a_device_has(kept: tuple[Tensor, ...]) -> None:
    """On a GPU rates and counts of steps are tensors, for which nobody waits."""
    given = [torch.randn(7, 5), torch.randn(7, 5)]
    for numbers in ((0.02, 1e-3), (torch.tensor(0.02), torch.tensor(1e-3)), (torch.tensor(0.02), 1e-3)):
        xs = [x.clone() for x in given]
        thresholds._soften_together([thresholds.Softened(x, *numbers, kept, None) for x in xs])
        for x, before in zip(xs, given, strict=True):
            limit = 0.02 / (kept[0].sqrt() + 1e-3) if kept else 0.02
            agree(x, before.sign() * (before.abs() - limit).clamp_min(0), 1e-6)


@on_either
def test_many_numbers(chosen: str) -> None:
    """Their sum is as exact as single precision is."""
    backend(chosen)
    model = Regularized()
    model.weight = nn.Parameter(torch.randn(2**21 + 5))
    model.add_weight_terms(L1L2(0.5, 0.25), {"weight": "weight"})
    x = model.weight.detach().double()
    wanted = (0.5 * x.abs().sum() + 0.25 * x.square().sum()).item()
    assert abs(model.regularization_loss().item() / wanted - 1) < 1.2e-7


@in_each_way
@pytest.mark.parametrize("strange", [torch.inf, -torch.inf, torch.nan, -0.0, 1e-42])
def test_numbers_that_are_none(chosen: str, strange: float) -> None:
    """What is off has no part in it: an infinite number times zero is none."""
    choose(chosen)
    for l1, l2 in STRENGTHS:
        model = Regularized()
        model.weight = nn.Parameter(torch.tensor([1.5, strange, -2.0]))
        model.add_weight_terms(L1L2(l1, l2), {"weight": "weight"})
        x = model.weight.detach()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is not finite
            loss = model.regularization_loss()
        loss.backward()
        parts = [(l1, x.abs().sum(), x.sign()), (l2, x.square().sum(), 2 * x)]
        torch.testing.assert_close(loss, sum(own * value for own, value, _ in parts if own), equal_nan=True)
        gradient = sum(own * each for own, _, each in parts if own)
        torch.testing.assert_close(model.weight.grad, gradient, equal_nan=True)


@on_either
def test_threads_and_a_gradient_that_is_shared_by_terms(chosen: str) -> None:
    """One parameter with several terms, of several chunks, which two threads work on."""
    backend(chosen)
    model = Regularized()
    model.weight = nn.Parameter(torch.randn(300_001))
    model.weight.grad = torch.randn(300_001)
    for strength in (0.1, 0.2, 0.3):
        model.add_weight_terms(L1L2(strength, 2 * strength), {f"by {strength}": "weight"})
    wanted = model.weight.grad + 0.6 * model.weight.detach().sign() + 2.4 * model.weight.detach()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        loss = model.regularization_loss()
        loss.backward()
    finally:
        torch.set_num_threads(before)
    agree(loss, 0.6 * model.weight.abs().sum() + 1.2 * model.weight.square().sum(), 1e-6)
    agree(model.weight.grad, wanted, 1e-6)


@on_either
def test_gradients_that_overlap(chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads, each on one of them, would lose some of what they add: those are not given to them at once."""
    backend(chosen)
    gradients = torch.zeros(20)
    starts = {"a": 0, "b": 0, "c": 5, "d": 10, "e": 10}
    model = Regularized()
    for name, start in starts.items():
        model.register_parameter(name, nn.Parameter(torch.randn(10)))
        model.get_parameter(name).grad = gradients[start : start + 10]
    model.add_weight_terms(L1L2(0.3, 0.2), {name: name for name in starts})
    wanted = torch.zeros(20)
    for name, start in starts.items():
        x = model.get_parameter(name).detach()
        wanted[start : start + 10] += 0.3 * x.sign() + 0.4 * x
    at_once, add = [], one_pass.add
    monkeypatch.setattr(one_pass, "add", lambda parts: (at_once.append([part[3] for part in parts]), add(parts)))
    model.regularization_loss().backward()
    agree(gradients, wanted, 1e-6)
    assert [[each.storage_offset() for each in own] for own in at_once] == ([[0, 10]] if chosen == "numba" else [])


# -- settings ----------------------------------------------------------------------------------------------------------


@on_either
@pytest.mark.parametrize("prepare", RUNS.values(), ids=RUNS)
def test_settings(chosen: str, prepare: Callable[[nn.Module], Run]) -> None:
    backend(chosen)
    model = by_rules()
    run = prepare(model)
    for batch in (4, 3):
        check(model, run, torch.randn(batch, 7))


@on_either
@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
@pytest.mark.filterwarnings("ignore:Anomaly Detection")  # torch's own
def test_contexts(chosen: str, context: Callable[[], Any]) -> None:
    backend(chosen)
    model, x = by_rules(), torch.randn(4, 7)
    with context():
        check(model, x=x)


@on_either
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_types(chosen: str, dtype: torch.dtype) -> None:
    backend(chosen)
    check(by_rules().to(dtype), tolerance=TOLERANCES[dtype])


@in_each_way
def test_gradients_that_are_differentiated_again(chosen: str) -> None:
    choose(chosen)
    model = ruled(Net(), KERNEL)
    weight = model.hidden.weight
    (gradient,) = torch.autograd.grad(model.regularization_loss(), weight, create_graph=True)
    agree(gradient, 0.1 * weight.sign() + 0.4 * weight)
    agree(torch.autograd.grad(gradient.sum(), weight)[0], torch.full_like(weight, 0.4))


@on_either
def test_a_gradient_that_changes_is_noticed(chosen: str) -> None:
    """By torch, where something needs it as it was."""
    backend(chosen)
    model = by_rules()
    model.hidden.weight.grad = torch.randn(5, 7)
    square = model.hidden.weight.grad.requires_grad_().square().sum()
    model.hidden.weight.grad.requires_grad_(False)
    model(torch.randn(2, 7))
    model.regularization_loss().backward()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        square.backward()


@on_either
def test_a_mode_sees_what_is_computed(chosen: str) -> None:
    backend(chosen)
    model, seen = ruled(Net(), KERNEL), []

    class Seeing(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(function)
            return function(*args, **(kwargs or {}))

    with Seeing():
        model.regularization_loss().backward()
    assert torch.ops.aten.dot.default in seen


# -- what is chosen ----------------------------------------------------------------------------------------------------


def test_small_models_take_torch() -> None:
    """To load numba takes longer than they do."""
    backend("auto")
    assert not one_pass.takes(one_pass.FEWEST - 1)
    assert one_pass.takes(one_pass.FEWEST) is (backend() == "numba")


def test_another_backend() -> None:
    with pytest.raises(ValueError, match="there is no backend 'cuda': there are auto, numba, torch"):
        backend("cuda")


@pytest.fixture
def _anew() -> Iterator[None]:
    """Nothing is loaded before."""
    one_pass._loaded.cache_clear()
    yield
    one_pass._loaded.cache_clear()


def fails(error: Exception, *_: object, **__: object) -> Any:
    raise error


@pytest.mark.usefixtures("_anew")
def test_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_pass, "find_spec", lambda name: None)
    assert backend("auto") == "torch"
    with pytest.raises(ValueError, match=r"numba can't be loaded: pip install 'regspec\[fast\]'"):
        backend("numba")
    check(by_rules())


@pytest.mark.usefixtures("_anew")
@pytest.mark.parametrize(
    "broken",
    [
        lambda module: fails(ImportError("Numba needs NumPy 9 or less\nor another")),
        lambda module: type("Code", (), {"kernel": staticmethod(partial(fails, ValueError("no code")))}),
    ],
)
def test_a_numba_that_fails(broken: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Is said once."""
    monkeypatch.setattr(one_pass, "find_spec", lambda name: object())
    monkeypatch.setattr(one_pass, "_by_numba", broken)
    with pytest.warns(RuntimeWarning, match=r"numba fails \(\w+: [^\n]+\), and torch's operations compute penalties"):
        assert not one_pass.takes(one_pass.FEWEST)
    assert backend() == "torch"


@pytest.mark.usefixtures("_anew")
@pytest.mark.parametrize("error", [RuntimeError("no locator available"), UnpicklingError("pickle data was truncated")])
def test_a_cache_that_can_not_be_used(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is compiled without; and for a type when there are tensors of it."""
    asked = []

    def kernel(name: str, is_cached: bool) -> str:
        asked.append((name, is_cached))
        return fails(error) if is_cached else name

    monkeypatch.setattr(one_pass, "find_spec", lambda name: object())
    monkeypatch.setattr(one_pass, "_by_numba", lambda module: type("Code", (), {"kernel": staticmethod(kernel)}))
    assert backend() == "numba"
    assert asked == [("float32", True), ("float32", False)]


def test_the_gradient_route_of_small_weights() -> None:
    """Each backend gives what the other one gives."""
    found = []
    for chosen in dict.fromkeys(("torch", backend())):
        backend(chosen)
        torch.manual_seed(0)
        model = by_rules()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        regspec.bind(model, optimizer, l1="gradient", l2="gradient")
        wanted = weight_gradients(model)
        optimizer.zero_grad()
        for each in model.parameters():
            each.grad = torch.zeros_like(each)
        optimizer.step()
        found.append([each.grad for each in model.parameters()])
        agree(found[-1], wanted)
    agree(found[0], found[-1], 1e-6)
