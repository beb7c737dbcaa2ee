"""Models that are bound to optimizers of every kind: wrapped, shared, with options for each group, copied and loaded.

Where the data has no gradient, an L2 of strength c takes the share 2 * lr * c from a weight in each step of SGD.
"""

from __future__ import annotations

import copy
import io
import linecache
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.nn.utils import parametrizations, parametrize
from torch.optim import LBFGS, SGD, Adam, Optimizer

import regspec
from regspec.runtime import Regularized

LR, C = 0.1, 0.2
SHARE = 1 - 2 * LR * C  # what a step leaves of a weight
L2 = {"types": ["Linear"], "kernel_regularizer": {"l2": C}}
WARM = {"types": ["Linear"], "kernel_regularizer": {"l2": C, "schedule": {"warmup": 10}}}


def made(*rules: Any, **options: Any) -> Regularized:
    net = nn.Sequential(nn.Linear(3, 4, **options), nn.Linear(4, 2, **options))
    return regspec.regularize(net, [*(rules or (L2,))])


def weights(model: nn.Module) -> list[Tensor]:
    return [each.weight.detach().clone() for each in model.modules() if isinstance(each, nn.Linear)]


def without_data(model: nn.Module) -> None:
    """Gives every parameter a gradient of zero."""
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)


def check_shares(model: nn.Module, before: list[Tensor], share: float) -> None:
    torch.testing.assert_close(weights(model), [share * each for each in before])


# -- wrappers ----------------------------------------------------------------------------------------------------------


class Lookahead(Optimizer):
    """Without step hooks, because `Optimizer.__init__` is not called; so most are written."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.param_groups, self.defaults = inner, inner.param_groups, inner.defaults

    def step(self, closure: Any = None) -> Any:
        return self.inner.step(closure)

    def state_dict(self) -> Any:
        return self.inner.state_dict()

    def load_state_dict(self, state: Any) -> None:
        self.inner.load_state_dict(state)


class HalfHooked(Lookahead):
    """With lists of hooks that nothing calls, as timm's Lookahead has them."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self._optimizer_step_pre_hooks: dict[int, Any] = {}
        self._optimizer_step_post_hooks: dict[int, Any] = {}


class ScheduleFree(Optimizer):
    """Whose groups are a property."""

    def __init__(self, base: Any) -> None:
        self.base = base

    @property
    def param_groups(self) -> Any:
        return self.base.param_groups

    def step(self, closure: Any = None) -> Any:
        return self.base.step(closure)


class SAM(Optimizer):
    """Of davda54/sam: two steps, and none is `step`."""

    def __init__(self, params: Any, **options: Any) -> None:
        super().__init__(params, options)
        self.base_optimizer = SGD(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups

    def first_step(self) -> None:
        """Climbs; without a gradient, nowhere."""

    def second_step(self) -> None:
        self.base_optimizer.step()


class Apart(SAM):
    """With other groups than the optimizer in it."""

    def __init__(self, params: Any, **options: Any) -> None:
        params = [*params]
        Optimizer.__init__(self, params, options)
        self.base_optimizer = SGD(params, **options)


class OptimWrapper:
    """No optimizer itself, as MMEngine's."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()

    def step(self) -> None:
        self.optimizer.step()


class Clipped(SGD):
    """Torch runs the hooks of a step once in its class, and again in that of SGD."""

    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


def zero_redundancy(params: Any) -> Optimizer:
    with warnings.catch_warnings(action="ignore"):  # that TorchScript is deprecated
        from torch.distributed.optim import ZeroRedundancyOptimizer
    return ZeroRedundancyOptimizer(params, SGD, lr=LR)


def post_local(params: Any) -> Optimizer:
    with warnings.catch_warnings(action="ignore"):
        from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager
        from torch.distributed.optim import PostLocalSGDOptimizer
    return PostLocalSGDOptimizer(SGD(params, lr=LR), PeriodicModelAverager(period=100, warmup_steps=100))


def accelerated(optimizer: Any) -> Any:
    return Accelerator(cpu=True).prepare_optimizer(optimizer)


sgd = partial(SGD, lr=LR)
Make = Callable[[Any], Any]
WRAPPED: dict[str, Make] = {
    "Lookahead": lambda params: Lookahead(sgd(params)),
    "hooks that are not called": lambda params: HalfHooked(sgd(params)),
    "a property": lambda params: ScheduleFree(sgd(params)),
    "SAM": partial(SAM, lr=LR),
    "SAM, groups apart": partial(Apart, lr=LR),
    "OptimWrapper": lambda params: OptimWrapper(sgd(params)),
    "Accelerate": lambda params: accelerated(sgd(params)),
    "Accelerate, Lookahead": lambda params: accelerated(Lookahead(sgd(params))),
    "Lightning": lambda params: LightningOptimizer(sgd(params)),
    "super().step()": partial(Clipped, lr=LR),
    "ZeroRedundancyOptimizer": zero_redundancy,
    "PostLocalSGDOptimizer": post_local,
}


def step(optimizer: Any) -> None:
    if isinstance(optimizer, SAM):
        optimizer.first_step()
        optimizer.second_step()
    elif isinstance(optimizer, LightningOptimizer):
        optimizer._optimizer.step()  # a strategy of a trainer does so
    else:
        optimizer.step()


@pytest.fixture(scope="module", autouse=True)
def _one_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A group of one, for the optimizers of `torch.distributed`."""
    store = torch.distributed.FileStore(str(tmp_path_factory.mktemp("store") / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("route", ["gradient", "decay"])
@pytest.mark.parametrize("make", WRAPPED.values(), ids=WRAPPED)
def test_wrapped(make: Make, route: str) -> None:
    """It is seen through: each step takes its share once, and counts once; or the route is refused."""
    model = made(WARM)
    optimizer, before = make(model.parameters()), weights(model)
    has_own_groups = isinstance(optimizer, Apart) or isinstance(getattr(optimizer, "optimizer", None), Lookahead)
    if route == "decay" and (has_own_groups or type(optimizer).__name__ == "ZeroRedundancyOptimizer"):
        with pytest.raises(regspec.RegspecError, match=type(optimizer).__name__):
            regspec.bind(model, optimizer, l2=route)
        return
    regspec.bind(model, optimizer, l2=route)
    for _ in range(3):
        without_data(model)
        step(optimizer)
    check_shares(model, before, (1 - 2 * LR * C * 0.1) * (1 - 2 * LR * C * 0.2))  # no step by 0, one by 0.1, one by 0.2
    assert regspec.strengths(model)["0.weight.l2"] == pytest.approx(0.3 * C)


class Masters(Lookahead):
    """Steps copies of the parameters, as for half precision."""

    def __init__(self, inner: Any) -> None:
        copies = [each.detach().clone().requires_grad_() for group in inner.param_groups for each in group["params"]]
        super().__init__(inner)
        self.inner = sgd(copies)


class Several(Lookahead):
    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        halves = [[each] for each in inner.param_groups[0]["params"]]
        self.inner = [sgd(each) for each in halves]


class Unhooked(Lookahead):
    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        del self.inner


class Failing(SGD):
    """Its hooks can be set, but for the last."""

    def register_load_state_dict_post_hook(self, hook: Any, prepend: bool = False) -> Any:
        raise ArithmeticError


REFUSED = {
    "Masters": (lambda params: Masters(sgd(params)), "the steps of Masters can't be seen"),
    "Several": (lambda params: Several(sgd(params)), r"Several can't be seen(.*\n)*.*bind the model to each"),
    "Unhooked": (lambda params: Unhooked(sgd(params)), r"Unhooked can't be seen(.*\n)*.*the optimizer that it steps"),
    "scheduler": (lambda params: torch.optim.lr_scheduler.StepLR(sgd(params), 3), "StepLR is no optimizer"),
    "Failing": (partial(Failing, lr=LR), None),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("route", ["gradient", "decay", "loss"])
def test_a_bind_that_fails_changes_nothing(make: Make, message: str | None, route: str) -> None:
    model = made()
    optimizer, loss = make(model.parameters()), model.regularization_loss().item()
    groups = copy.deepcopy(getattr(optimizer, "param_groups", None))
    with pytest.raises((regspec.RegspecError, ArithmeticError), match=message):
        regspec.bind(model, optimizer, l2=route)
    assert model.regularization_loss().item() == loss > 0
    if groups is not None:
        assert len(optimizer.param_groups) == len(groups)
    other, before = sgd(model.parameters()), weights(model)
    regspec.bind(model, other, l2="decay")
    without_data(model)
    other.step()
    check_shares(model, before, SHARE)


class Stepless(Optimizer):
    """Steps by itself, and never by `step`."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": LR})

    @torch.no_grad()
    def second_step(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter -= group["lr"] * parameter.grad


def test_a_step_that_never_runs_is_noticed() -> None:
    model = made()
    optimizer = Stepless(model.parameters())
    regspec.bind(model, optimizer, l2="gradient")

    def trained() -> None:
        for _ in range(5):
            model.zero_grad()
            model(torch.randn(4, 3)).square().sum().backward()
            optimizer.second_step()

    with pytest.warns(UserWarning, match=r"weights of Stepless change, but its step\(\) was never called") as caught:
        trained()
    assert "model(torch.randn(4, 3))" in linecache.getline(caught[0].filename, caught[0].lineno)
    trained()  # once


def test_accumulated_gradients_are_no_missing_step() -> None:
    model = made()
    optimizer = sgd(model.parameters())
    regspec.bind(model, optimizer, l2="gradient")
    for _ in range(9):
        model(torch.randn(4, 3)).square().sum().backward()
    optimizer.step()


# -- several models, several optimizers --------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["loss", "gradient", "decay"])
def test_two_models_on_one_optimizer(route: str) -> None:
    one, other = made(WARM), made(WARM)
    optimizer, before = sgd([*one.parameters(), *other.parameters()]), (weights(one), weights(other))
    bindings = [regspec.bind(each, optimizer, l2=route) for each in (one, other)]

    def stepped(steps: int) -> None:
        for _ in range(steps):
            for each in (one, other):
                without_data(each)
                loss = each.regularization_loss()
                if loss.requires_grad:
                    loss.backward()
            optimizer.step()

    stepped(3)
    share = (1 - 2 * LR * C * 0.1) * (1 - 2 * LR * C * 0.2)
    for each, own in zip((one, other), before, strict=True):
        check_shares(each, own, share)
        assert regspec.strengths(each)["0.weight.l2"] == pytest.approx(0.3 * C)
    bindings[0].remove()
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    assert len(parameters) == len({*parameters}) == 8
    assert sum(one.regularization_terms().values()) == one.regularization_loss()
    one.set_schedules(3)
    stepped(1)
    check_shares(one, before[0], share * (1 - 2 * LR * C * 0.3))
    check_shares(other, before[1], share * (1 - 2 * LR * C * 0.3))
    bindings[1].remove()
    assert len(optimizer.param_groups) == 1
    assert optimizer.param_groups[0]["params"] == [*one.parameters(), *other.parameters()]
    assert "regspec_steps" not in optimizer.param_groups[0]
    assert not optimizer._optimizer_step_pre_hooks


class Pair(nn.Module):
    """A generator and a discriminator, of which some layers have the same names."""

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.discriminator = (nn.Sequential(nn.Linear(3, 3), nn.ReLU()) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.discriminator(self.generator(x))


@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize("route", ["loss", "gradient", "decay", "proximal"])
def test_two_optimizers_on_one_model(route: str, is_whole: bool) -> None:
    """Each steps its part, as often as it is called; the penalties are one model's, or those of its parts."""
    pair = Pair()
    kind = "l1" if route == "proximal" else "l2"
    rules = [
        {"types": ["Linear"], "kernel_regularizer": {kind: C, "schedule": {"warmup": 10}}},
        {"types": ["ReLU"], "activity_regularizer": {"l1": C, "schedule": {"warmup": 10}}},
    ]
    for each in [pair] if is_whole else [pair.generator, pair.discriminator]:
        regspec.regularize(each, rules)
    parts = pair.generator, pair.discriminator
    before = weights(pair)
    optimizers = [sgd(each.parameters()) for each in parts]
    bindings = [regspec.bind(pair, each, **{kind: route}) for each in optimizers]
    for part, optimizer, steps in zip(parts, optimizers, (3, 2), strict=True):
        for _ in range(steps):
            without_data(pair)
            pair.discriminator.requires_grad_(part is pair.discriminator)  # as Lightning toggles them
            pair.generator.requires_grad_(part is pair.generator)
            loss = sum(
                penalty for name, penalty in regspec.regularization_terms(pair).items() if "activity" not in name
            )
            if route == "loss":
                loss.backward()
            optimizer.step()
            pair.requires_grad_(True)
    if kind == "l2":
        wanted = [before[0] * (1 - 2 * LR * C * 0.1) * (1 - 2 * LR * C * 0.2), before[1] * (1 - 2 * LR * C * 0.1)]
    else:
        drawn = zip(before, (0.3, 0.1), strict=True)
        wanted = [each.sign() * (each.abs() - LR * C * total).clamp_min(0) for each, total in drawn]
    torch.testing.assert_close(weights(pair), wanted)
    for name, strength in regspec.strengths(pair).items():
        assert strength == pytest.approx(C * (0.3 if name.startswith("generator") else 0.2)), name
    bindings[0].remove()
    without_data(pair)
    optimizers[0].step()
    torch.testing.assert_close(weights(pair), wanted)
    others = [strength for name, strength in regspec.strengths(pair).items() if name.startswith("discriminator")]
    assert others == pytest.approx([0.2 * C] * 2)


def test_constraints_of_two_optimizers() -> None:
    """A step of one does not project what the other trains."""
    layers = [{"Dense": {"name": name, "units": 3, "kernel_constraint": "non_neg"}} for name in "ab"]
    model = regspec.build({"regspec": 1, "inputs": {"x": {"shape": [3]}}, "layers": layers}, seed=0)
    assert min(model.a.weight.min(), model.b.weight.min()) < 0
    first, second = sgd(model.a.parameters()), sgd(model.b.parameters())
    regspec.bind(model, first)
    regspec.bind(model, second)
    without_data(model)
    first.step()
    assert model.a.weight.min() == 0
    assert model.b.weight.min() < 0
    second.step()
    assert model.b.weight.min() == 0


@pytest.mark.parametrize("route", ["gradient", "decay"])
def test_an_optimizer_for_each_parameter(route: str) -> None:
    """Which steps in the backward pass."""
    model = made(bias=False)
    before = weights(model)
    for parameter in model.parameters():
        optimizer = sgd([parameter])
        regspec.bind(model, optimizer, l2=route)
        parameter.register_post_accumulate_grad_hook(lambda _, optimizer=optimizer: optimizer.step())
    (0.0 * model(torch.randn(2, 3)).sum() + 0.0 * sum(each.sum() for each in model.parameters())).backward()
    check_shares(model, before, SHARE)


@pytest.mark.parametrize("route", ["gradient", "decay"])
@pytest.mark.parametrize("has_all", [True, False])
def test_a_frozen_backbone(route: str, has_all: bool) -> None:
    """It counts nothing, whether the optimizer has it or not; and when it thaws, it does."""
    model = made()
    model[0].requires_grad_(False)
    optimizer = sgd([each for each in model.parameters() if has_all or each.requires_grad])
    regspec.bind(model, optimizer, l2=route)
    before = weights(model)
    assert model.regularization_loss() == 0
    model[1].weight.grad = torch.zeros_like(model[1].weight)
    optimizer.step()
    torch.testing.assert_close(weights(model), [before[0], SHARE * before[1]])
    model[0].requires_grad_(True)
    if not has_all:
        optimizer.add_param_group({"params": [*model[0].parameters()]})
    without_data(model)
    if (loss := model.regularization_loss()).requires_grad:
        loss.backward()
    optimizer.step()
    torch.testing.assert_close(weights(model), [SHARE * before[0], SHARE**2 * before[1]])


def test_what_no_optimizer_has_is_refused_by_name() -> None:
    model = made()
    optimizer = sgd(model[1].parameters())
    with pytest.raises(regspec.RegspecError, match=r"'0\.weight' is none of the optimizer's parameters"):
        regspec.bind(model, optimizer, terms={"0.weight": "decay"})
    regspec.bind(model, optimizer, l2="decay")  # of those that it has
    torch.testing.assert_close(model.regularization_loss(), C * model[0].weight.square().sum())
    with pytest.raises(regspec.RegspecError, match="bound already"):
        regspec.bind(model, sgd(model.parameters()))


def test_models_of_one_wrapper() -> None:
    """Their terms have the same names."""
    pair = nn.ModuleDict({"a": made(), "b": made()})
    optimizer, before = sgd(pair.parameters()), weights(pair)
    regspec.bind(pair, optimizer, terms={"a.0.weight": "loss"}, l2="decay")
    without_data(pair)
    optimizer.step()
    torch.testing.assert_close(weights(pair), [before[0], *(SHARE * each for each in before[1:])])


# -- steps that are none -----------------------------------------------------------------------------------------------


CONSTRAINED = """
regspec: 1
inputs: {x: {shape: [6]}}
layers:
  - Dense:
      name: a
      units: 4
      kernel_constraint: {max_norm: 0.1}
      kernel_regularizer: {l1: 0.1, l2: 0.2, schedule: {warmup: {over: 4}}}
"""


@pytest.mark.parametrize("routes", [{}, {"l1": "gradient", "l2": "gradient"}, {"l2": "decay"}], ids=str)
@pytest.mark.parametrize("make", [sgd, partial(SGD, lr=LR, momentum=0.9), partial(Adam, lr=torch.tensor(LR))])
def test_a_checkpoint_is_no_step(make: Make, routes: dict[str, str]) -> None:
    """`get_optimizer_state_dict` makes one with a learning rate of zero, and moments with it."""
    model = regspec.build(regspec.loads(CONSTRAINED), seed=0)
    optimizer = make(model.parameters())
    regspec.bind(model, optimizer, **routes)
    optimizer.param_groups[0]["regspec_steps"] = 4
    optimizer.load_state_dict(optimizer.state_dict())
    before, decays = model.a.weight.detach().clone(), [group["weight_decay"] for group in optimizer.param_groups]
    get_optimizer_state_dict(model, optimizer)
    assert torch.equal(model.a.weight, before)
    assert optimizer.param_groups[0]["regspec_steps"] == 4
    assert [group["weight_decay"] for group in optimizer.param_groups] == decays
    for state in optimizer.state.values():
        for name in ("momentum_buffer", "exp_avg", "exp_avg_sq"):
            assert name not in state or not state[name].any()


def test_saved_and_loaded_by_a_checkpoint() -> None:
    """The count goes on, and the strength is the new one."""
    model = made(WARM)
    optimizer = sgd(model.parameters())
    regspec.bind(model, optimizer, l2="decay")
    for _ in range(4):
        without_data(model)
        optimizer.step()
    saved = get_optimizer_state_dict(model, optimizer)
    other = made({**WARM, "kernel_regularizer": {"l2": 10 * C, "schedule": {"warmup": 10}}})
    resumed = sgd(other.parameters())
    regspec.bind(other, resumed, l2="decay")
    set_optimizer_state_dict(other, resumed, saved)
    assert resumed.param_groups[0]["regspec_steps"] == 4
    assert regspec.strengths(other)["0.weight.l2"] == pytest.approx(0.4 * 10 * C)
    before = weights(other)
    without_data(other)
    resumed.step()
    check_shares(other, before, 1 - 2 * LR * 0.4 * 10 * C)


def test_a_warm_up_of_the_learning_rate_begins_with_a_step() -> None:
    """Of learning rate zero; it counts, and moments take the penalty in, as they take the gradient of the data."""
    model = made(WARM)
    optimizer = SGD(model.parameters(), lr=LR, momentum=0.5)
    regspec.bind(model, optimizer, l2="gradient")
    model.set_schedules(10)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step)
    weight = model[0].weight.detach().clone()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    scheduler.step()
    torch.testing.assert_close(optimizer.state[model[0].weight]["momentum_buffer"], 1 + 2 * C * weight)
    assert regspec.strengths(model)["0.weight.l2"] == pytest.approx(0.1 * C)


# -- the options of a group --------------------------------------------------------------------------------------------

KINDS = ["SGD", "Adam", "NAdam", "RAdam", "Adagrad", "RMSprop"]
OTHERS = ["AdamW", "Adamax", "Adadelta", "ASGD", "Rprop", "Adafactor"]


FUSED = ("SGD", "Adam", "Adagrad", "AdamW")  # on the CPU
SETTINGS = [
    (kind, options)
    for kind in (*KINDS, *OTHERS)
    for options in ({}, {"foreach": True}, {"foreach": False}, *([{"fused": True}] if kind in FUSED else []))
    if kind != "Adafactor" or not options.get("foreach")  # which it has not
]


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("route", ["gradient", "decay"])
@pytest.mark.parametrize(("kind", "options"), SETTINGS, ids=str)
def test_options_of_a_group(kind: str, route: str, maximize: bool, options: dict[str, bool]) -> None:
    """Of the group with the weight, and not of the optimizer; against plain torch with the penalty written out."""
    make: Any = getattr(torch.optim, kind)
    models = [made(), nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))]
    models[1].load_state_dict(models[0].state_dict())

    def of(model: nn.Module) -> Optimizer:
        first, second = ([*layer.parameters()] for layer in model)
        groups = [{"params": first, "maximize": maximize, **options}, {"params": second}]
        return make(groups, lr=1e-2, **({"weight_decay": 0.0} if kind != "Rprop" else {}))

    own, plain = (of(each) for each in models)
    if route == "decay" and kind in OTHERS:
        with pytest.raises(regspec.RegspecError, match="decoupled" if kind == "AdamW" else "is not known"):
            regspec.bind(models[0], own, l2=route)
        return
    regspec.bind(models[0], own, l2=route)
    for _ in range(3):
        x = torch.randn(5, 3)
        own.zero_grad()
        models[0](x).square().mean().backward()
        own.step()
        plain.zero_grad()
        value = models[1](x).square().mean()
        value.backward()
        with torch.no_grad():
            for layer, sign in zip(models[1], (-1 if maximize else 1, 1), strict=True):
                layer.weight.grad += sign * 2 * C * layer.weight
        plain.step()
    torch.testing.assert_close(models[0].state_dict(), models[1].state_dict(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["Adam", "NAdam", "RAdam", "AdamW"])
def test_a_decoupled_group(kind: str) -> None:
    """Is what its group says, whatever the optimizer says."""
    make = partial(getattr(torch.optim, kind), lr=LR, weight_decay=0.0)
    for is_decoupled in (True, False):
        model = made()
        groups = [
            {"params": [*model[0].parameters()], "decoupled_weight_decay": is_decoupled},
            {"params": [*model[1].parameters()], "decoupled_weight_decay": not is_decoupled},
        ]
        optimizer = make(groups)
        with pytest.raises(regspec.RegspecError, match=f"weight decay of {kind} is decoupled"):
            regspec.bind(model, optimizer, l2="decay")
        coupled = "1.weight" if is_decoupled else "0.weight"
        regspec.bind(model, optimizer, terms={coupled: "decay"})


# -- loaded and copied -------------------------------------------------------------------------------------------------


def test_a_state_that_is_loaded_keeps_the_new_strength() -> None:
    old, new = made(), made({**L2, "kernel_regularizer": {"l2": 10 * C}})
    optimizers = [SGD(each.parameters(), lr=LR, weight_decay=0.01) for each in (old, new)]
    for each, optimizer in zip((old, new), optimizers, strict=True):
        regspec.bind(each, optimizer, l2="decay")
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    assert [group["weight_decay"] for group in optimizers[1].param_groups] == pytest.approx([0.01, 0.01 + 20 * C])


def saved(pair: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(pair, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("is_bound_again", [False, True])
@pytest.mark.parametrize("route", ["loss", "gradient", "decay"])
@pytest.mark.parametrize("wrap", [lambda each: each, accelerated], ids=["plain", "accelerated"])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, saved], ids=["deepcopy", "saved"])
def test_a_copied_pair(duplicate: Callable[[Any], Any], wrap: Any, route: str, is_bound_again: bool) -> None:
    """A model and its optimizer, with the binding; the penalty acts once, and the count goes on."""
    model = made(WARM)
    optimizer = wrap(SGD(model.parameters(), lr=LR, momentum=0.9))
    binding = regspec.bind(model, optimizer, l2=route)
    for _ in range(5):
        without_data(model)
        optimizer.step()
    model, optimizer, other = duplicate((model, optimizer, binding))
    other.remove()
    assert len(optimizer.param_groups) == 1
    assert optimizer.param_groups[0]["params"] == [*model.parameters()]
    if is_bound_again:
        regspec.bind(model, optimizer, l2=route)
    optimizer.state.clear()
    before = weights(model)
    without_data(model)
    if (loss := model.regularization_loss()).requires_grad:
        loss.backward()
    optimizer.step()
    check_shares(model, before, 1 - 2 * LR * C * 0.5)


# -- weights that change after binding ---------------------------------------------------------------------------------


class Half(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight / 2

    def right_inverse(self, weight: Tensor) -> Tensor:
        return 2 * weight


COMPUTED: dict[str, Callable[[nn.Module], Any]] = {
    "parametrization": lambda layer: parametrize.register_parametrization(layer, "weight", Half()),
    "weight norm": parametrizations.weight_norm,
}


@pytest.mark.parametrize("is_before", [True, False])
@pytest.mark.parametrize("compute", COMPUTED.values(), ids=COMPUTED)
def test_a_computed_weight(compute: Callable[[nn.Module], Any], is_before: bool) -> None:
    """The gradient route reaches what it is computed from, as the loss does; the others say that they do not."""
    rules = {"modules": "0", "kernel_regularizer": {"l2": C}}
    for route in ("gradient", "decay"):
        model = regspec.regularize(nn.Sequential(nn.Linear(3, 4, bias=False)), [rules])
        if is_before:
            compute(model[0])
            if route == "decay":
                with pytest.raises(regspec.RegspecError, match=r"'0\.weight' is computed"):
                    regspec.bind(model, sgd(model.parameters()), l2=route)
                continue
        optimizer = sgd(model.parameters())
        regspec.bind(model, optimizer, l2=route)
        if not is_before:
            compute(model[0])
            if route == "decay":
                without_data(model)
                with pytest.raises(RuntimeError, match=r"'0\.weight', on the decay route, has become computed"):
                    optimizer.step()
                continue
            new = [each for each in model.parameters() if not known(optimizer, each)]
            if new:
                optimizer.add_param_group({"params": new})
        parameters = [*model.parameters()]
        gradients = torch.autograd.grad(C * model[0].weight.square().sum(), parameters)
        wanted = [each - LR * gradient for each, gradient in zip(parameters, gradients, strict=True)]
        model(torch.zeros(1, 3)).sum().backward()
        optimizer.step()
        torch.testing.assert_close(parameters, wanted)


@pytest.mark.parametrize("route", ["gradient", "decay"])
def test_a_pruned_weight(route: str) -> None:
    """It is computed in the forward, and so the loss alone can have its penalty."""
    model = made()
    nn.utils.prune.l1_unstructured(model[0], "weight", 0.3)
    with pytest.raises(regspec.RegspecError, match=r"'0\.weight' is computed in the forward(.*\n)*.*the loss route"):
        regspec.bind(model, sgd(model.parameters()), l2=route)
    nn.utils.prune.remove(model[0], "weight")
    optimizer = sgd(model.parameters())
    regspec.bind(model, optimizer, l2=route)
    nn.utils.prune.l1_unstructured(model[0], "weight", 0.3)
    without_data(model)
    with pytest.raises(RuntimeError, match=r"'0\.weight'.* has become computed"):
        optimizer.step()


def known(optimizer: Optimizer, parameter: Tensor) -> bool:
    return any(parameter is each for group in optimizer.param_groups for each in group["params"])


@pytest.mark.parametrize("route", ["gradient", "decay"])
def test_a_weight_that_is_replaced_or_gone(route: str) -> None:
    for layer, message in (
        (nn.Linear(3, 4), r"the weight of '0\.weight'.*Remove the binding, and bind"),
        (nn.ReLU(), r"the weight '0\.weight' of a penalty is gone: .*Remove the binding before"),
    ):
        model = made()
        optimizer = sgd(model.parameters())
        regspec.bind(model, optimizer, l2=route)
        model[0] = layer
        without_data(model)
        with pytest.raises(RuntimeError, match=message):
            optimizer.step()


def test_weights_that_are_tied_after_they_were_bound() -> None:
    """They count once, as on the loss; untied, each counts."""
    model = regspec.regularize(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), [{"kernel_regularizer": {"l2": C}}])
    optimizer = sgd(model.parameters())
    regspec.bind(model, optimizer, l2="gradient")
    own = model[1].weight
    for weight in (model[0].weight, own):
        model[1].weight = weight
        wanted = [(1 - 2 * LR * C) * each.weight for each in model]
        without_data(model)
        optimizer.step()
        torch.testing.assert_close([each.weight for each in model], wanted)


@pytest.mark.parametrize("has_all", [True, False])
def test_a_sum_of_which_a_part_is_frozen(has_all: bool) -> None:
    model = regspec.regularize(nn.GRU(3, 4), [{"bias_regularizer": {"l2": C}}])
    model.bias_hh_l0.requires_grad_(False)
    optimizer = sgd(each for each in model.parameters() if has_all or each.requires_grad)
    regspec.bind(model, optimizer, l2="gradient")
    wanted = model.bias_ih_l0 - 2 * LR * C * (model.bias_ih_l0 + model.bias_hh_l0)
    optimizer.step()
    torch.testing.assert_close(model.bias_ih_l0, wanted)


# -- closures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
@pytest.mark.parametrize("route", ["loss", "gradient"])
def test_lbfgs_ends_at_the_closed_form(route: str, line_search: str | None) -> None:
    """Ridge regression. The loss of the closure has the penalty whose gradient it has."""
    x, y = torch.randn(50, 3, dtype=torch.float64), torch.randn(50, 1, dtype=torch.float64)
    rules = {"types": ["Linear"], "kernel_regularizer": {"l2": 70.0}}
    model = regspec.regularize(nn.Sequential(nn.Linear(3, 1, bias=False)).double(), [rules])
    options: dict[str, Any] = {"lr": 1.0 if line_search else 0.5, "max_iter": 100, "tolerance_change": 1e-12}
    optimizer = LBFGS(model.parameters(), line_search_fn=line_search, tolerance_grad=1e-10, **options)
    regspec.bind(model, optimizer, l2=route)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (model(x) - y).square().sum() + model.regularization_loss()
        loss.backward()
        return loss

    first = model[0].weight.detach().clone()
    wanted = (x @ first.T - y).square().sum() + 70 * first.square().sum()
    torch.testing.assert_close(optimizer.step(closure), wanted)
    for _ in range(9):
        optimizer.step(closure)
    least = torch.linalg.solve(x.T @ x + 70 * torch.eye(3, dtype=torch.float64), x.T @ y).T
    torch.testing.assert_close(model[0].weight.detach(), least, rtol=1e-5, atol=1e-7)


def test_a_closure_of_a_climb_and_of_a_number() -> None:
    """A climb is given the value without the penalty; a loss may be a number, or none."""
    for options, wanted in (({}, 1.0 + C), ({"maximize": True}, 1.0 - C)):
        model = regspec.regularize(nn.Sequential(nn.Linear(1, 1, bias=False)), [L2])
        nn.init.ones_(model[0].weight)
        optimizer = sgd(model.parameters(), **options)
        regspec.bind(model, optimizer, l2="gradient")

        def closure() -> float:
            without_data(model)  # noqa: B023  # called in this turn of the loop
            return 1.0

        assert optimizer.step(closure) == pytest.approx(wanted)
        assert model[0].weight.item() == pytest.approx(SHARE)
