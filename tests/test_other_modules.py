"""Rules on modules of other classes than torch's own: which weights are computed, what two terms are called, and which
axes of a weight count its outputs and inputs; and whose the names of attributes are."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import regspec
from regspec.runtime import L2, Regularized


class Own(nn.Module):
    """Has these parameters, buffers and plain tensors."""

    def __init__(self, *parameters: str, buffers: tuple[str, ...] = (), plain: tuple[str, ...] = ()) -> None:
        super().__init__()
        for name in parameters:
            self.register_parameter(name, nn.Parameter(torch.randn(3, 2)))
        for name in buffers:
            self.register_buffer(name, torch.randn(3, 2))
        for name in plain:
            setattr(self, name, torch.randn(3, 2))

    def forward(self, x: Tensor) -> Tensor:
        return x


class Log:
    """A hook with a name, as those have that compute weights."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, module: nn.Module, args: Any) -> None:
        pass


def with_hook(module: nn.Module, name: str) -> nn.Module:
    module.register_forward_pre_hook(Log(name))
    return module


def without(module: nn.Module, name: str) -> nn.Module:
    module.register_parameter(name, None)
    return module


# -- parameters that are called as those are from which a weight is computed ------------------------------------------

ENDINGS = ("_v", "_orig", "_g", "_u")
ALIKE: dict[str, tuple[Callable[[], nn.Module], set[str]]] = {  # the kernels and biases by plain tensors of the module
    **{f"beside weight{end}": (lambda end=end: Own("weight", f"weight{end}"), {"weight"}) for end in ENDINGS},
    **{
        f"weight{end} and a buffer": (lambda end=end: Own(f"weight{end}", "bias", buffers=("weight",)), {"bias"})
        for end in ENDINGS
    },
    **{
        f"weight{end} and a plain tensor": (lambda end=end: Own(f"weight{end}", "bias", plain=("weight",)), {"bias"})
        for end in ENDINGS
    },
    **{
        f"weight{end} and none": (lambda end=end: without(Own(f"weight{end}", "bias"), "weight"), {"bias"})
        for end in ENDINGS
    },
    "a hook of that name": (lambda: with_hook(Own("weight", "weight_v"), "weight"), {"weight"}),
    "a hook of another name": (lambda: with_hook(Own("weight"), "forward"), {"weight"}),
    "pruned": (lambda: prune.l1_unstructured(Own("weight", "bias"), "weight", 2), {"weight", "bias"}),
    "both pruned": (
        lambda: prune.l1_unstructured(prune.l1_unstructured(Own("weight", "bias"), "bias", 3), "weight", 2),
        {"weight", "bias"},
    ),
    "one pruned and one parametrized": (
        lambda: prune.l1_unstructured(parametrizations.weight_norm(Own("weight", "bias"), "bias"), "weight", 2),
        {"weight", "bias"},
    ),
}


@pytest.mark.parametrize(("make", "names"), ALIKE.values(), ids=ALIKE)
def test_what_is_computed(make: Callable[[], nn.Module], names: set[str]) -> None:
    """By parametrizations and by hooks; the name of a parameter tells nothing."""
    torch.manual_seed(0)
    model = nn.Sequential(make())
    regspec.regularize(model, [{"modules": "0", "kernel_regularizer": {"l2": 0.3}, "bias_regularizer": {"l2": 0.3}}])
    wanted = {f"0.{name}": 0.3 * getattr(model[0], name).square().sum() for name in names}
    torch.testing.assert_close(model.regularization_terms(), wanted)


def test_one_that_is_not_computed_is_not_found() -> None:
    model = nn.Sequential(Own("weight_v", buffers=("weight",)))
    with pytest.raises(regspec.RegspecError, match="Own has no kernel of its own"):
        regspec.regularize(model, [{"types": ["Own"], "kernel_regularizer": "l2"}])


# -- terms of one name -------------------------------------------------------------------------------------------------


def recurrent() -> nn.Module:
    made = nn.LSTM(3, 2)
    made.register_parameter("bias_l0", nn.Parameter(torch.randn(5)))
    return made


CLASHES: dict[str, tuple[Callable[[], nn.Module], list[dict[str, Any]], str]] = {
    "a parameter and an output": (
        lambda: Own("activity"),
        [{"parameters": ".*activity", "regularizer": "l2"}, {"types": ["Own"], "activity_regularizer": "l2"}],
        "this rule and rule 1 give two terms the name '0.activity'",
    ),
    "a parameter and a sum": (
        recurrent,
        [{"parameters": ".*bias_l0", "regularizer": "l2"}, {"types": ["LSTM"], "bias_regularizer": "l2"}],
        "this rule and rule 2 give two terms the name '0.bias_l0'",
    ),
    "a term that there is": (
        lambda: regspec.regularize(Own("weight"), [{"types": ["Own"], "kernel_regularizer": "l2"}]),
        [{"types": ["Own"], "kernel_regularizer": "l1"}],
        "there is a term '0.weight' already",
    ),
}


@pytest.mark.parametrize(("make", "rules", "message"), CLASHES.values(), ids=CLASHES)
def test_two_terms_of_one_name(make: Callable[[], nn.Module], rules: list[dict[str, Any]], message: str) -> None:
    """Nothing is changed then."""
    model = nn.Sequential(make())
    hooks = len(model[0]._forward_hooks)
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.regularize(model, rules)
    assert type(model) is nn.Sequential
    assert len(model[0]._forward_hooks) == hooks


# -- where the axes of a weight lie ------------------------------------------------------------------------------------


class Sized(nn.Module):
    """A module with a weight, the sizes that it calls by these names, and this function of its input and weight."""

    def __init__(self, shape: tuple[int, ...], function: Callable[[Tensor, Tensor], Tensor], **sizes: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape))
        self.function = function
        for name, size in sizes.items():
            setattr(self, name, size)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight)


class Conv1D(Sized):
    """As that of transformers is called."""

    __module__ = "transformers.pytorch_utils"


class OwnConv1D(Conv1D):
    """Derived from it."""

    __module__ = __name__


class OtherConv1D(Sized):
    """Of the name, but no library's that is known."""


OtherConv1D.__name__ = "Conv1D"


class Derived(nn.Linear):
    """Of torch's class, as loralib's: with the inputs first where that is said."""

    def __init__(self, inputs: int, outputs: int, fan_in_fan_out: bool) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.fan_in_fan_out = fan_in_fan_out
        self.weight.data = self.weight.data.T if fan_in_fan_out else self.weight.data

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight.T if self.fan_in_fan_out else self.weight)


def outputs_first(x: Tensor, w: Tensor) -> Tensor:
    return x @ w.T


def inputs_first(x: Tensor, w: Tensor) -> Tensor:
    return x @ w


def convolved(groups: int) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, w: nn.functional.conv2d(x, w, groups=groups)


def transposed(groups: int) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, w: nn.functional.conv_transpose2d(x, w, groups=groups)


def channels_last(x: Tensor, w: Tensor) -> Tensor:
    return nn.functional.conv2d(x, w.permute(0, 3, 1, 2))


def experts(x: Tensor, w: Tensor) -> Tensor:
    return torch.einsum("bi,eoi->bo", x, w)


def conv(shape: tuple[int, ...], inputs: int, outputs: int, groups: int, **more: Any) -> Sized:
    function = transposed(groups) if more.get("transposed", "output_padding" in more) else convolved(groups)
    sizes = {"in_channels": inputs, "out_channels": outputs, "kernel_size": (3, 3), "groups": groups}
    return Sized(shape, function, **sizes, **more)


MATRIX, IMAGE = (5,), (5, 6)  # what an input has besides its batch and its units
SIZED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Conv1D of transformers": (lambda: Sized((3, 4), inputs_first, nf=4, nx=3), ()),
    "Conv1D of transformers, square": (lambda: Sized((4, 4), inputs_first, nf=4, nx=4), ()),
    "Conv1D of older transformers": (lambda: Conv1D((3, 4), inputs_first, nf=4), ()),
    "Conv1D of older transformers, square": (lambda: Conv1D((4, 4), inputs_first, nf=4), ()),
    "derived from Conv1D of older transformers, square": (lambda: OwnConv1D((4, 4), inputs_first, nf=4), ()),
    "Linear of torch_geometric": (lambda: Sized((4, 3), outputs_first, in_channels=3, out_channels=4), ()),
    "GraphConv of dgl": (lambda: Sized((3, 4), inputs_first, _in_feats=3, _out_feats=4), ()),
    "experts of transformers": (lambda: Sized((2, 4, 3), experts, input_size=3, output_size=4, num_experts=2), ()),
    "features, outputs first": (lambda: Sized((4, 3), outputs_first, in_features=3, out_features=4), ()),
    "features, inputs first": (lambda: Sized((3, 4), inputs_first, in_features=3, out_features=4), ()),
    **{
        f"derived from Linear, {outputs} outputs, inputs first: {is_first}": (
            lambda outputs=outputs, is_first=is_first: Derived(3, outputs, is_first),
            (),
        )
        for outputs in (4, 3)
        for is_first in (False, True)
    },
    **{
        f"DeformConv2d of torchvision in {groups}, {outputs} outputs": (
            lambda outputs=outputs, groups=groups: conv((outputs, 4 // groups, 3, 3), 4, outputs, groups),
            IMAGE,
        )
        for outputs in (8, 4)
        for groups in (1, 2)
    },
    **{
        f"transposed in {groups}": (
            lambda groups=groups: conv((4, 8 // groups, 3, 3), 4, 8, groups, output_padding=0),
            IMAGE,
        )
        for groups in (1, 2)
    },
    "DeformConv2d of mmcv": (
        lambda: conv((4, 2, 3, 3), 4, 4, 2, transposed=False, output_padding=(0,)),
        IMAGE,
    ),
    "transposed, square": (lambda: conv((4, 4, 3, 3), 4, 4, 1, transposed=True), IMAGE),
    "convolution of spconv": (
        lambda: Sized((4, 2, 2, 3), channels_last, in_channels=3, out_channels=4, kernel_size=[2, 2]),
        IMAGE,
    ),
}


def groups_of(part: nn.Module, axis: str, count: int, rest: tuple[int, ...]) -> list[Tensor]:
    """For each output the weights that make it, or for each input those that read it: where its gradient is not 0."""
    twin = copy.deepcopy(part).double()
    nn.init.ones_(twin.weight)
    inputs = count if axis == "input" else next(n for n in range(2, 9) if _takes(twin, n, rest))
    found = []
    for unit in range(count):
        x = torch.ones(1, inputs, *rest, dtype=torch.double)
        if axis == "input":
            x *= (torch.arange(inputs) == unit).view(1, -1, *[1] * len(rest))
        y = twin(x)
        gradient = torch.autograd.grad((y if axis == "input" else y[:, unit]).sum(), twin.weight)[0]
        found.append(part.weight.double()[gradient != 0])
    return found


def _takes(part: nn.Module, count: int, rest: tuple[int, ...]) -> bool:
    """Whether a module takes so many inputs."""
    try:
        part(torch.ones(1, count, *rest, dtype=torch.double))
    except RuntimeError:
        return False
    return True


def check_groups(part: nn.Module, rest: tuple[int, ...], axis: str, **rule: Any) -> None:
    lasso = {"group_lasso": {"strength": 0.3, "axis": axis}}
    model = regspec.regularize(nn.Sequential(part), [{"modules": "0", "kernel_regularizer": lasso, **rule}])
    twin = copy.deepcopy(part).double()
    inputs = next(n for n in range(2, 9) if _takes(twin, n, rest))
    count = inputs if axis == "input" else twin(torch.ones(1, inputs, *rest, dtype=torch.double)).shape[1]
    groups = groups_of(part, axis, count, rest)
    assert sum(each.numel() for each in groups) == part.weight.numel()
    wanted = sum(0.3 * math.sqrt(each.numel()) * each.norm() for each in groups)
    torch.testing.assert_close(model.regularization_loss().double(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", ["output", "input"])
@pytest.mark.parametrize(("make", "rest"), SIZED.values(), ids=SIZED)
def test_axes_by_the_sizes_of_a_module(make: Callable[[], nn.Module], rest: tuple[int, ...], axis: str) -> None:
    torch.manual_seed(0)
    check_groups(make(), rest, axis)


def test_an_embedding_of_another_class() -> None:
    """Its outputs are the vectors' elements."""
    for shape in ((7, 4), (4, 4)):
        part = Sized(shape, lambda x, w: w[x], embedding_dim=4, num_embeddings=shape[0])
        model = regspec.regularize(part, [{"types": ["Sized"], "kernel_regularizer": {"group_lasso": 0.3}}])
        wanted = 0.3 * math.sqrt(shape[0]) * part.weight.norm(dim=0).sum()
        torch.testing.assert_close(model.regularization_loss(), wanted)


OPEN: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, int]]] = {
    "no sizes, outputs first": (lambda: Sized((4, 3), outputs_first), (), {"output_axis": 0}),
    "no sizes, inputs first": (lambda: Sized((3, 4), inputs_first), (), {"output_axis": 1}),
    "counted from behind": (lambda: Sized((3, 4), inputs_first), (), {"output_axis": -1}),
    "square": (lambda: Sized((3, 3), inputs_first, in_features=3, out_features=3), (), {"output_axis": 1}),
    "other sizes": (lambda: Sized((3, 4), inputs_first, in_features=6, out_features=8), (), {"output_axis": 1}),
    **{
        f"{name} alone, {shape}": (
            lambda shape=shape, name=name: Sized(shape, outputs_first, **{name: 4}),
            (),
            {"output_axis": 0},
        )
        for name in ("embedding_dim", "num_embeddings", "nf", "nx")
        for shape in ((3, 4), (4, 3), (4, 4))
    },
    "nf alone, of a Conv1D elsewhere": (lambda: OtherConv1D((3, 4), outputs_first, nf=4), (), {"output_axis": 0}),
    "one of both, square": (lambda: Sized((4, 4), inputs_first, in_dim=4), (), {"output_axis": 1}),
    "experts of one size": (
        lambda: Sized((3, 3, 3), experts, input_size=3, output_size=3),
        (),
        {"output_axis": 1, "input_axis": 2},
    ),
    "channels last": (lambda: Sized((4, 2, 2, 3), channels_last), IMAGE, {"output_axis": 0, "input_axis": -1}),
}


@pytest.mark.parametrize("axis", ["output", "input"])
@pytest.mark.parametrize(("make", "rest", "axes"), OPEN.values(), ids=OPEN)
def test_axes_that_are_not_known(
    make: Callable[[], nn.Module], rest: tuple[int, ...], axes: dict[str, int], axis: str
) -> None:
    """They are asked for where a regularizer reads them, and a rule says them."""
    torch.manual_seed(0)
    part = make()
    reading: list[Any] = [{"group_lasso": {"strength": 1, "axis": axis}}, "orthogonal", ["l2", "orthogonal"]]
    others: list[Any] = ["l2", {"norm": 0.3}]
    (reading if part.weight.ndim > 2 else others).append({"spectral": 0.3})  # which is that of the transpose
    for regularizer in reading:
        for rule in ({"modules": "0", "kernel_regularizer": regularizer},
                     {"parameters": r"0\.weight", "regularizer": regularizer}):  # fmt: skip
            model = nn.Sequential(part)
            with pytest.raises(regspec.RegspecError, match=r"not known which of its axes(.*\n)*.*output_axis: 0"):
                regspec.regularize(model, [rule])
            assert type(model) is nn.Sequential
    for regularizer in others:
        regspec.regularize(nn.Sequential(part), [{"modules": "0", "kernel_regularizer": regularizer}])
    check_groups(part, rest, axis, **axes)


def test_a_rule_says_the_axes_of_torchs_own() -> None:
    """What it says holds; where it says what is so, kernels that lie one below the other are kept apart."""
    torch.manual_seed(0)
    lasso = {"group_lasso": {"strength": 0.3, "axis": "input"}}
    linear = regspec.regularize(nn.Linear(3, 4), [{"types": ["Linear"], "kernel_regularizer": lasso, "output_axis": 1}])
    torch.testing.assert_close(linear.regularization_loss(), 0.3 * math.sqrt(3) * linear.weight.norm(dim=1).sum())
    rule = {"types": ["MultiheadAttention"], "kernel_regularizer": lasso, "bias_regularizer": "l2", "output_axis": 0}
    attention = regspec.regularize(nn.MultiheadAttention(6, 2), [rule])
    kernels = attention.in_proj_weight.chunk(3)
    wanted = sum(0.3 * math.sqrt(6) * kernel.norm(dim=0).sum() for kernel in kernels)
    torch.testing.assert_close(attention.regularization_terms()["in_proj_weight"], wanted)


LASSO = {"group_lasso": {"strength": 1, "axis": "input"}}


@pytest.mark.parametrize(
    ("axes", "regularizer", "message", "is_half"),
    [
        ({"output_axis": 4}, LASSO, r"'0\.weight' has 4 axes, but the rule says 'output_axis: 4'", False),
        (
            {"output_axis": 0, "input_axis": -5},
            LASSO,
            r"has 4 axes, but the rule says 'input_axis: -5'",
            False,
        ),
        ({"output_axis": 0, "input_axis": -4}, LASSO, "so that output_axis and input_axis of the rule are one", False),
        ({"output_axis": 1, "input_axis": 1}, LASSO, "has one axis for output_axis and input_axis", False),
        ({"input_axis": 1}, LASSO, "says 'input_axis', but not 'output_axis'", False),
        ({"output_axis": 0}, LASSO, "over the input axis, and it is not known", True),
        ({"output_axis": 0}, [LASSO, "l2"], "over the input axis, and it is not known", True),
        ({"output_axis": 0}, {"kl_sparsity": 0.1}, "that is a regularizer of activities", False),
        ({"output_axis": 0}, [LASSO, {"kl_sparsity": 0.1}], "that is a regularizer of activities", False),
    ],
)
def test_faults_of_axes(axes: dict[str, int], regularizer: Any, message: str, is_half: bool) -> None:
    """Each with the hint that is its own."""
    model = nn.Sequential(Sized((4, 2, 2, 3), channels_last))
    with pytest.raises(regspec.RegspecError, match=message) as caught:
        regspec.regularize(model, [{"modules": "0", "kernel_regularizer": regularizer, **axes}])
    assert ("but not input_axis" in str(caught.value)) is is_half
    with pytest.raises(regspec.RegspecError, match="'output_axis', which is for a regularizer of weights"):
        regspec.regularize(model, [{"modules": "0", "activity_regularizer": "l2", "output_axis": 0}])


# -- attributes of one's own -------------------------------------------------------------------------------------------

NAMES = (
    "_terms", "_constraints", "_heard", "_accumulates", "_is_read", "_watched", "_has_run", "_attached", "_bindings",
    "_begin", "_add_term", "_project", "_heard_by", "_ask_why", "_not_finite", "_named_terms", "_regularized", "_watch",
    "_warn_if_unread", "_on_loss", "_state_of_copies", "_inner", "_state", "_copy", "_add", "terms", "bindings",
    "state",
)  # fmt: skip


class Named(nn.Module):
    """Has attributes and a method of these names, which its forward uses."""

    def __init__(self) -> None:
        super().__init__()
        for number, name in enumerate(NAMES):
            setattr(self, name, number)
        self.part = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x) * sum(getattr(self, name) for name in NAMES)


class Methods(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x) * sum(getattr(self, name)() for name in NAMES)


for number, name in enumerate(NAMES):
    setattr(Methods, name, lambda self, number=number: number)


class Compiled(Regularized):
    """Written with penalties of its own."""

    def __init__(self) -> None:
        super().__init__()
        for number, name in enumerate(NAMES):
            setattr(self, name, number)
        self.part = nn.Linear(3, 2)
        self.add_weight_terms(L2(0.3), {"part.weight": "part.weight"})
        self.add_activity_terms(L2(0.2), {"part.activity": "part"})

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x) * sum(getattr(self, name) for name in NAMES)


PARTS = [{"modules": "part", "kernel_regularizer": {"l2": 0.3}, "activity_regularizer": {"l2": 0.2}}]


@pytest.mark.parametrize(
    "made", [lambda model: model, copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
@pytest.mark.parametrize("make", [Named, Methods, Compiled])
def test_names_of_ones_own(make: Callable[[], nn.Module], made: Callable[[nn.Module], nn.Module]) -> None:
    """All names are the user's, but for those of the public methods and one."""
    torch.manual_seed(0)
    model = make() if make is Compiled else regspec.regularize(make(), PARTS)
    model = made(model)
    x = torch.randn(5, 3)
    y = nn.functional.linear(x, *model.part.parameters())
    with torch.no_grad():
        torch.testing.assert_close(model(x), y * sum(range(len(NAMES))))
    wanted = {"part.weight": 0.3 * model.part.weight.square().sum(), "part.activity": 0.2 * y.square().sum() / 5}
    found = model.regularization_terms()
    torch.testing.assert_close(found["part.weight"], wanted["part.weight"])
    torch.testing.assert_close(found["part.activity"], wanted["part.activity"].detach())
    assert {*vars(model)} - {*vars(nn.Module())} <= {*NAMES, "_regspec"}
    if make is not Compiled:
        regspec.unregularize(model)
        assert type(model) is make
        assert "_regspec" not in vars(model)


@pytest.mark.parametrize("name", ["regularization_loss", "apply_constraints", "set_schedules", "_regspec"])
def test_names_that_are_taken(name: str) -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    setattr(model, name, None)
    with pytest.raises(regspec.RegspecError, match=f"Sequential has a '{name}' of its own"):
        regspec.regularize(model, [{"types": ["Linear"], "kernel_regularizer": "l2"}])
    assert type(model) is nn.Sequential
