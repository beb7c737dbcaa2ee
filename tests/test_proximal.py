"""Proximal steps under optimizers that give each number a step size of its own.

The sizes are measured: how far a step moves a weight whose gradient is constant. Where such a run of steps rests is
known by the conditions of Karush, Kuhn and Tucker, and by scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import Lasso, LogisticRegression, MultiTaskLasso
from torch import Tensor, nn, optim
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR

import regspec
from regspec.modules.step_sizes import sizes_of
from regspec.runtime import MaxNorm, MinMaxNorm, NonNeg, UnitNorm
from regspec.training.options.keras_optimizers import (
    KerasAdadelta,
    KerasAdagrad,
    KerasAdam,
    KerasAdamax,
    KerasLion,
    KerasRMSprop,
    KerasSGD,
)

Make = Callable[..., optim.Optimizer]

# With learning rates at which each has come to rest after `STEPS`.
OPTIMIZERS: dict[str, Make] = {
    "sgd": partial(optim.SGD, lr=0.1),
    "sgd, momentum": partial(optim.SGD, lr=0.02, momentum=0.9),
    "adam": partial(optim.Adam, lr=0.02),
    "adam, one by one": partial(optim.Adam, lr=0.02, foreach=False),
    "adam, foreach": partial(optim.Adam, lr=0.02, foreach=True),
    "adam, fused": partial(optim.Adam, lr=0.02, fused=True),
    "adam, rate in a tensor": lambda parameters: optim.Adam(parameters, lr=torch.tensor(0.02), foreach=False),
    "amsgrad": partial(optim.Adam, lr=0.02, amsgrad=True),
    "adamw": partial(optim.AdamW, lr=0.02, weight_decay=0.0),
    "nadam": partial(optim.NAdam, lr=0.02),
    "radam": partial(optim.RAdam, lr=0.02, betas=(0.9, 0.99)),
    "rmsprop": partial(optim.RMSprop, lr=0.02),
    "rmsprop, momentum": partial(optim.RMSprop, lr=0.005, momentum=0.8),
    "adagrad": partial(optim.Adagrad, lr=0.5, lr_decay=1e-4),
    "adamax": partial(optim.Adamax, lr=0.05),
    "keras_sgd": partial(KerasSGD, lr=0.02, momentum=0.9, nesterov=True),
    "keras_adam": partial(KerasAdam, lr=0.02),
    "keras_amsgrad": partial(KerasAdam, lr=0.02, amsgrad=True),
    "keras_adamax": partial(KerasAdamax, lr=0.05),
    "keras_rmsprop": partial(KerasRMSprop, lr=0.005, momentum=0.8),
    "keras_adagrad": partial(KerasAdagrad, lr=0.5),
}
# Whose squares are near zero, or whose sizes grow slowly, where a gradient rests: their sizes alone are tested.
SIZED: dict[str, Make] = {
    **OPTIMIZERS,
    "rmsprop, centered": partial(optim.RMSprop, lr=0.02, centered=True, alpha=0.9),
    "adadelta": partial(optim.Adadelta, lr=0.5),
    "keras_rmsprop, centered": partial(KerasRMSprop, lr=0.02, centered=True),
    "keras_adadelta": partial(KerasAdadelta, lr=0.5),
}
STEPS = 1500


@pytest.mark.parametrize("make", SIZED.values(), ids=SIZED)
def test_step_sizes(make: Make) -> None:
    """Each step, after momentum has built up, is as long as its size says, for gradients of other lengths."""
    gradients = torch.tensor([[1.0, -0.03, 2.0], [0.5, -4.0, 0.2]], dtype=torch.float64)
    parameter = nn.Parameter(torch.zeros(2, 3, dtype=torch.float64))
    optimizer = make([parameter])
    for index in range(150):
        before = parameter.detach().clone()
        parameter.grad = gradients * (1 if index else 1.5)  # or else a centered variance would be zero
        optimizer.step()
        size = sizes_of(optimizer)(optimizer.param_groups[0], optimizer.state[parameter]).threshold(1.0)
        if index > 120:
            torch.testing.assert_close(before - parameter.detach(), gradients * size, rtol=0.06, atol=0)
    assert size > 0 if isinstance(size, float) else bool((torch.as_tensor(size) > 0).all())


def fit(
    make: Make,
    loss: Callable[[Tensor], Tensor],
    weight: Tensor,
    regularizer: Any,
    *,
    constraint: Callable[[Tensor], Tensor] | None = None,
    **fields: Any,
) -> tuple[Tensor, Tensor]:
    """The weight after many steps, the last of them short, and the gradient of the loss there."""
    units, features = weight.shape
    dense = {"name": "layer", "units": units, "use_bias": False, "kernel_regularizer": regularizer, **fields}
    spec = {"regspec": 1, "inputs": {"x": {"shape": [features]}}, "layers": [{"Dense": dense}]}
    model = regspec.build(spec, dtype=torch.float64)
    layer = model.get_submodule("layer")
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.copy_(weight)
    if constraint is not None:
        model.add_constraints(constraint, {"layer.kernel": "layer.weight"})
    optimizer = make(model.parameters())
    regspec.bind(model, optimizer, l1="proximal", group_lasso="proximal")
    half = STEPS // 2
    schedule = LambdaLR(optimizer, lambda step: 1.0 if step < half else 0.01 ** ((step - half) / half))
    for _ in range(STEPS):
        optimizer.zero_grad()
        (loss(layer.weight) + model.regularization_loss()).backward()
        optimizer.step()
        schedule.step()
    final = layer.weight.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(final), final)
    return final.detach(), gradient


def regression(outputs: int) -> tuple[Tensor, Tensor]:
    """Of few of the features, which have other sizes."""
    x = torch.randn(60, 9, dtype=torch.float64) * torch.linspace(0.5, 1.5, 9, dtype=torch.float64)
    true = torch.zeros(outputs, 9, dtype=torch.float64)
    true[:, ::3] = torch.randn(outputs, 3, dtype=torch.float64) + 1
    return x, x @ true.T + 0.1 * torch.randn(60, outputs, dtype=torch.float64)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_lasso(make: Make) -> None:
    x, y = regression(1)
    weight, gradient = fit(
        make,
        lambda weight: 0.5 * (x @ weight.T - y).square().mean(),
        torch.randn(1, 9, dtype=torch.float64),
        {"l1": 0.2},
    )
    off = torch.where(weight == 0, (gradient.abs() - 0.2).clamp_min(0), (gradient + 0.2 * weight.sign()).abs())
    assert off.max() < 1e-4
    wanted = Lasso(alpha=0.2, fit_intercept=False, tol=1e-10).fit(x.numpy(), y[:, 0].numpy()).coef_
    assert 0 < (wanted == 0).sum() < 9
    np.testing.assert_array_equal(weight[0].numpy() == 0, wanted == 0)
    np.testing.assert_allclose(weight[0].numpy(), wanted, atol=1e-3)


@pytest.mark.parametrize("name", ["sgd, momentum", "adam", "nadam", "radam", "rmsprop", "adagrad", "keras_rmsprop"])
def test_group_lasso(name: str) -> None:
    """A group is what reads one feature, for all outputs: scikit-learn's lasso of several tasks."""
    x, y = regression(4)
    weight, gradient = fit(
        OPTIMIZERS[name],
        lambda weight: 0.5 * (x @ weight.T - y).square().sum(1).mean(),
        torch.randn(4, 9, dtype=torch.float64),
        {"group_lasso": {"strength": 0.15, "axis": "input"}},
    )
    strength = 0.15 * 4**0.5
    norms = weight.norm(dim=0)
    beyond = (gradient.norm(dim=0) - strength).clamp_min(0)
    off = torch.where(norms == 0, beyond, (gradient + strength * weight / norms.clamp_min(1e-9)).norm(dim=0))
    assert off.max() < 1e-4
    wanted = MultiTaskLasso(alpha=strength, fit_intercept=False, tol=1e-10).fit(x.numpy(), y.numpy()).coef_
    assert 0 < (wanted == 0).all(0).sum() < 9
    np.testing.assert_array_equal(weight.numpy() == 0, wanted == 0)
    np.testing.assert_allclose(weight.numpy(), wanted, atol=1e-3)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_sparse_group_lasso(name: str) -> None:
    """An L1 and a group lasso of one weight, in whatever order they are written."""
    x, y = regression(4)
    weight, gradient = fit(
        OPTIMIZERS[name],
        lambda weight: 0.5 * (x @ weight.T - y).square().sum(1).mean(),
        torch.randn(4, 9, dtype=torch.float64),
        [{"group_lasso": {"strength": 0.1, "axis": "input"}}, {"l1": 0.2}],
    )
    strength, norms = 0.1 * 4**0.5, weight.norm(dim=0)
    assert ((weight == 0).any(0) & (norms > 0)).any()
    beyond = ((gradient.abs() - 0.2).clamp_min(0).norm(dim=0) - strength).clamp_min(0)
    smooth = gradient + strength * weight / norms.clamp_min(1e-9)
    inside = torch.where(weight == 0, (gradient.abs() - 0.2).clamp_min(0), smooth + 0.2 * weight.sign())
    assert torch.where(norms == 0, beyond, inside.norm(dim=0)).max() < 1e-4


@pytest.mark.parametrize("name", ["radam", "adagrad", "rmsprop"])
def test_logistic(name: str) -> None:
    x, y = regression(1)
    labels = (y > y.median()).double()
    weight, _ = fit(
        OPTIMIZERS[name],
        lambda weight: F.binary_cross_entropy_with_logits(x @ weight.T, labels),
        torch.randn(1, 9, dtype=torch.float64),
        {"l1": 0.05},
    )
    solver = LogisticRegression(l1_ratio=1, solver="liblinear", C=1 / (0.05 * 60), fit_intercept=False, tol=1e-10)
    wanted = solver.fit(x.numpy(), labels[:, 0].numpy()).coef_
    assert 0 < (wanted == 0).sum() < 9
    np.testing.assert_array_equal(weight.numpy() == 0, wanted == 0)
    np.testing.assert_allclose(weight.numpy(), wanted, atol=3e-3)


@pytest.mark.parametrize("name", ["sgd, momentum", "adam", "rmsprop"])
def test_group_lasso_of_weights_that_are_not_negative(name: str) -> None:
    """The numbers that a constraint makes zero count nothing in a norm: the conditions hold for the others."""
    x, y = regression(4)
    y = y - 3 * x[:, [0, 3, 6, 0]]  # so that some numbers of a group that stays would be negative
    weight, gradient = fit(
        OPTIMIZERS[name],
        lambda weight: 0.5 * (x @ weight.T - y).square().sum(1).mean(),
        torch.rand(4, 9, dtype=torch.float64),
        {"group_lasso": {"strength": 0.05, "axis": "input"}},
        kernel_constraint="non_neg",
    )
    strength, norms = 0.05 * 4**0.5, weight.norm(dim=0)
    assert (weight >= 0).all()
    assert ((weight == 0).any(0) & (norms > 0)).any()
    beyond = ((-gradient).clamp_min(0).norm(dim=0) - strength).clamp_min(0)
    inside = torch.where(weight > 0, gradient + strength * weight / norms.clamp_min(1e-9), gradient.clamp_max(0))
    assert torch.where(norms == 0, beyond, inside.norm(dim=0)).max() < 1e-4


# -- constraints -------------------------------------------------------------------------------------------------------

# Bounds of each number: those of `non_neg`, and others that a constraint of one's own may have.
BOUNDS = {"non_neg": (0.0, np.inf), "around zero": (-0.4, 0.8), "above zero": (0.1, 0.9)}


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("name", ["sgd, momentum", "adam", "rmsprop"])
def test_lasso_with_bounds(name: str, bounds: str) -> None:
    """What is softened and then clipped is the least of both; SciPy's is of ``p - q``, neither of which is negative."""
    low, high = BOUNDS[bounds]
    x, y = regression(1)
    y = y - 2 * x[:, [3]]
    weight, gradient = fit(
        OPTIMIZERS[name],
        lambda weight: 0.5 * (x @ weight.T - y).square().mean(),
        torch.rand(1, 9, dtype=torch.float64),
        {"l1": 0.2},
        constraint=NonNeg() if bounds == "non_neg" else partial(torch.clamp, min=low, max=high),
    )
    softened = (weight - gradient).sign() * ((weight - gradient).abs() - 0.2).clamp_min(0)
    assert (weight - softened.clamp(low, high)).abs().max() < 1e-4

    def both(parts: Any) -> tuple[float, Any]:
        off = x.numpy() @ (parts[:9] - parts[9:]) - y[:, 0].numpy()
        slope = x.numpy().T @ off / 60
        return 0.5 * (off**2).mean() + 0.2 * parts.sum(), np.concatenate([slope + 0.2, 0.2 - slope])

    limits = [(max(low, 0), max(high, 0))] * 9 + [(max(-high, 0), max(-low, 0))] * 9
    solved = minimize(both, np.full(18, 0.3), jac=True, bounds=limits, tol=1e-14).x
    np.testing.assert_allclose(weight[0].numpy(), solved[:9] - solved[9:], atol=1e-3)
    assert low > 0 or 0 < (weight == 0).sum() < 9


def test_lasso_with_a_norm() -> None:
    """Under SGD, whose step is as long for each number; the multiplier is what the gradient leaves along the weight."""
    x, y = regression(1)
    weight, gradient = fit(
        OPTIMIZERS["sgd, momentum"],
        lambda weight: 0.5 * (x @ weight.T - y).square().mean(),
        torch.rand(1, 9, dtype=torch.float64),
        {"l1": 0.2},
        constraint=MaxNorm(0.5, dim=1),
    )
    assert weight.norm() == pytest.approx(0.5, abs=1e-6)
    slope = gradient + 0.2 * weight.sign()
    multiplier = -(weight * slope).sum() / weight.square().sum()
    assert multiplier > 0.1
    off = torch.where(weight == 0, (gradient.abs() - 0.2).clamp_min(0), (slope + multiplier * weight).abs())
    assert 0 < (weight == 0).sum() < 9
    assert off.max() < 1e-4


SETS: dict[str, Callable[[Tensor], Tensor]] = {
    "non_neg": NonNeg(),
    "bounds": partial(torch.clamp, min=-0.2, max=0.5),
    "max_norm": MaxNorm(0.7, dim=1),
    "min_max_norm": MinMaxNorm(0.5, 0.7, dim=1),
    "unit_norm": UnitNorm(dim=1),
}


@pytest.mark.parametrize("name", SETS)
def test_a_constraint_after_a_threshold(name: str) -> None:
    """A step of SGD ends where ``(w - x)**2 / 2 + threshold * abs(w)`` is least of all that a constraint allows."""
    x = torch.randn(200, 4, dtype=torch.float64)
    model = regspec.regularize(nn.ParameterDict({"w": x.clone()}), [{"parameters": "w", "regularizer": {"l1": 0.6}}])
    model.add_constraints(SETS[name], {"w": "w"})
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    regspec.bind(model, optimizer, l1="proximal")
    model["w"].grad = torch.zeros_like(x)
    optimizer.step()
    found = model["w"].detach()
    found = found[found.any(1)]  # one that is zero has no direction, whatever its norm should be
    x = x[model["w"].detach().any(1)]

    def cost(w: Tensor) -> Tensor:
        return (0.5 * (w - x).square() + 0.3 * w.abs()).sum(-1)

    for spread in (1.0, 0.1, 0.01):
        others = SETS[name]((found + spread * torch.randn(100, *found.shape, dtype=torch.float64)).flatten(0, 1))
        assert (cost(others.view(100, *found.shape)) > cost(found) - 1e-6).all()
    assert len(found) > 100
    assert (found == 0).any()


# -- which optimizers --------------------------------------------------------------------------------------------------


class Unknown(optim.Optimizer):
    """Of another library."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    def step(self, closure: Any = None) -> None:
        """Moves nothing."""


class Lion(Unknown):
    """As other libraries have it."""


# What is said of those that have no step size for each number.
UNSIZED = {
    optim.Adafactor: "Adafactor scales each step by the norms of the whole weight and of its whole update: it has no",
    optim.LBFGS: "LBFGS goes where all numbers of all weights together say: it has no step size for each number",
    optim.Muon: "Muon moves a matrix as a whole, along its singular vectors: it has no step size for each number",
    optim.Rprop: "Rprop lets its steps grow while the signs of a gradient stay",
    optim.ASGD: "ASGD steps by a rate that it sets one step before, and averages weights",
    optim.SparseAdam: "SparseAdam moves the rows alone that a batch has, and a penalty holds for all rows",
    KerasLion: "KerasLion moves each number by a sign, as far where its gradient is small as where it is large",
    Lion: "Lion moves each number by a sign",
    Unknown: "how far a step of Unknown moves each number of a weight is not known, as a proximal step needs it",
}
TORCHS = [cls for cls in vars(optim).values() if isinstance(cls, type) and issubclass(cls, optim.Optimizer)]
TORCHS.remove(optim.Optimizer)


@pytest.mark.parametrize("cls", dict.fromkeys([*TORCHS, *UNSIZED]), ids=lambda cls: cls.__name__)
def test_every_optimizer(cls: Any) -> None:
    """Its step size is measured above, or it is refused by its name, with what it does and what to take instead."""
    layer = nn.Linear(3, 2, bias=False)
    model = regspec.regularize(nn.Sequential(layer), [{"types": ["Linear"], "kernel_regularizer": "l1"}])
    optimizer = cls(model.parameters(), lr=0.1)
    if cls not in UNSIZED:
        regspec.bind(model, optimizer, l1="proximal")
        assert any(type(make([nn.Parameter(torch.ones(2, 2))])) is cls for make in SIZED.values())
        return
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.bind(model, optimizer, l1="proximal")
    (problem,) = caught.value.problems
    assert UNSIZED[cls] in problem.what
    assert "give these weights to SGD, Adam, NAdam" in problem.hint
    assert problem.hint.endswith("or take the loss route")


# -- one step ----------------------------------------------------------------------------------------------------------


class OfItsOwn(optim.Adam):
    """An Adam with an attribute that is no method of `Sized`."""

    step_size = 0.5


@pytest.mark.parametrize("make", [optim.Adam, optim.Adamax, optim.Adagrad, OfItsOwn])
@pytest.mark.parametrize("regularizer", ["l1", "group_lasso"])
def test_no_step_where_the_rate_is_zero(make: Make, regularizer: str) -> None:
    """A warm-up begins with it."""
    layer = nn.Linear(37, 41)
    rules = [{"types": ["Linear"], "kernel_regularizer": {regularizer: 0.1}}]
    model = regspec.regularize(nn.Sequential(layer), rules)
    optimizer = make(model.parameters(), lr=0.0)
    regspec.bind(model, optimizer, **{regularizer: "proximal"})
    before = layer.weight.detach().clone()
    (model(torch.ones(2, 37)).sum() + model.regularization_loss()).backward()
    optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), before, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_large_weights(name: str) -> None:
    """They are gone through in pieces, of which the last is shorter; transposed ones are not."""
    for shape in ((301, 303), (303, 301)):
        parameters = [nn.Parameter(torch.ones(shape)), nn.Parameter(torch.ones(shape[::-1]).T)]
        module = nn.Module()
        for index, parameter in enumerate(parameters):
            module.register_parameter(f"w{index}", parameter)
        model = regspec.regularize(module, [{"parameters": r"w\d", "regularizer": {"l1": 1.0}}])
        optimizer = OPTIMIZERS[name](model.parameters())
        regspec.bind(model, optimizer, l1="proximal")
        sizes = torch.rand(shape) + 0.5
        for parameter in parameters:
            parameter.grad = sizes.clone()
        optimizer.step()
        # a first step of Adam moves by its rate in the direction of the gradient, and shrinks by the rate over that
        wanted = 1 - 0.1 * sizes - 0.1 if name == "sgd" else 1 - 0.02 - 0.02 / sizes
        for parameter in parameters:
            torch.testing.assert_close(parameter.detach(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")  # torch's own, when it is imported
def test_a_compiled_step() -> None:
    """The step is compiled, and what is done around it is not: weights of other shapes have other sizes of steps."""
    module = nn.ParameterDict({"a": torch.ones(4, 3), "b": torch.ones(2, 5)})
    model = regspec.regularize(module, [{"parameters": "a|b", "regularizer": {"l1": 1.0}}])
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    regspec.bind(model, optimizer, l1="proximal")
    sizes = [torch.rand(parameter.shape) + 0.5 for parameter in model.parameters()]
    for parameter, size in zip(model.parameters(), sizes, strict=True):
        parameter.grad = size.clone()
    torch.compile(optimizer.step, backend="eager")()
    for parameter, size in zip(model.parameters(), sizes, strict=True):
        torch.testing.assert_close(parameter.detach(), 1 - 0.02 - 0.02 / size, rtol=1e-5, atol=1e-6)


def test_a_weight_that_the_optimizer_has_no_more() -> None:
    layer = nn.Linear(3, 2)
    model = regspec.regularize(nn.Sequential(layer), [{"types": ["Linear"], "kernel_regularizer": "l1"}])
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    regspec.bind(model, optimizer, l1="proximal")
    optimizer.param_groups[0]["params"] = [layer.bias]
    model(torch.ones(2, 3)).sum().backward()
    with pytest.raises(RuntimeError, match=r"the weight of '0\.weight' is none of the optimizer's parameters any more"):
        optimizer.step()


def test_a_rate_that_is_loaded_is_not_rounded_to_the_type_of_a_weight() -> None:
    optimizers = []
    for _ in range(2):
        parameter = nn.Parameter(torch.ones(3, dtype=torch.float16))
        parameter.grad = torch.ones_like(parameter)
        optimizers.append(KerasSGD([parameter], lr=0.001, momentum=0.9))
    for _ in range(3):
        optimizers[0].step()
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    group = optimizers[1].param_groups[0]
    size = sizes_of(optimizers[1])(group, optimizers[1].state[group["params"][0]]).threshold(1.0)
    assert size == pytest.approx(0.001 * (1 + 0.9 + 0.81), rel=1e-6)
