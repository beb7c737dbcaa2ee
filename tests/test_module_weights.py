"""Weight penalties by rules: what is a kernel, where its channels lie, what frees one; and where a weight is now.

Expected values are written out for each weight, by plain torch.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, skip_init
from torch.nn.utils import spectral_norm as first_spectral_norm
from torch.nn.utils import weight_norm as first_weight_norm

import regspec

from .alone import alone


def ruled(module: nn.Module, **rule: Any) -> nn.Module:
    return regspec.regularize(module, [{"modules": ".*", **rule}])


def same(got: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(got.double(), wanted.double(), rtol=1e-5, atol=1e-6)


# -- what is a kernel --------------------------------------------------------------------------------------------------

KERNELS: dict[str, tuple[Callable[[], nn.Module], set[str]]] = {
    "Linear": (lambda: nn.Linear(3, 4), {"weight"}),
    "Linear to one": (lambda: nn.Linear(3, 1), {"weight"}),
    "Bilinear": (lambda: nn.Bilinear(3, 2, 4), {"weight"}),
    **{
        f"{kind}{rank}d": (lambda kind=kind, rank=rank: getattr(nn, f"{kind}{rank}d")(4, 6, 3), {"weight"})
        for kind in ("Conv", "ConvTranspose")
        for rank in (1, 2, 3)
    },
    "Embedding": (lambda: nn.Embedding(7, 4), {"weight"}),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(7, 4), {"weight"}),
    "LSTM": (lambda: nn.LSTM(3, 4, 2), {"weight_ih_l0", "weight_ih_l1"}),
    "GRU both ways": (lambda: nn.GRU(3, 4, bidirectional=True), {"weight_ih_l0", "weight_ih_l0_reverse"}),
    "RNN": (lambda: nn.RNN(3, 4), {"weight_ih_l0"}),
    "LSTMCell": (lambda: nn.LSTMCell(3, 4), {"weight_ih"}),
    "GRUCell": (lambda: nn.GRUCell(3, 4), {"weight_ih"}),
    "RNNCell": (lambda: nn.RNNCell(3, 4), {"weight_ih"}),
    "MultiheadAttention": (lambda: nn.MultiheadAttention(6, 2), {"in_proj_weight", "out_proj.weight"}),
    "MultiheadAttention of other sizes": (
        lambda: nn.MultiheadAttention(6, 2, kdim=3, vdim=5, add_bias_kv=True),
        {"q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"},
    ),
    "TransformerEncoderLayer": (
        lambda: nn.TransformerEncoderLayer(6, 2, 7),
        {"self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight"},
    ),
    "LayerNorm": (lambda: nn.LayerNorm(4), set()),
    "LayerNorm over two axes": (lambda: nn.LayerNorm([3, 4]), set()),
    "RMSNorm over two axes": (lambda: nn.RMSNorm([3, 4]), set()),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), set()),
    **{f"BatchNorm{rank}d": (lambda rank=rank: getattr(nn, f"BatchNorm{rank}d")(4), set()) for rank in (1, 2, 3)},
    **{
        f"InstanceNorm{rank}d": (lambda rank=rank: getattr(nn, f"InstanceNorm{rank}d")(4, affine=True), set())
        for rank in (1, 2, 3)
    },
    "PReLU": (lambda: nn.PReLU(4), set()),
}


@pytest.mark.parametrize(("make", "kernels"), KERNELS.values(), ids=KERNELS)
def test_kernels(make: Callable[[], nn.Module], kernels: set[str]) -> None:
    """And a scale is one where its type is named."""
    model = nn.ModuleList([make()])
    ruled(model, kernel_regularizer={"l2": 0.3}, optional=True)
    named = dict(model[0].named_parameters())
    terms = model.regularization_terms()
    assert terms.keys() == {f"0.{name}" for name in kernels}
    for name in kernels:
        same(terms[f"0.{name}"], 0.3 * named[name].square().sum())
    if not kernels:
        regspec.regularize(model, [{"types": [type(model[0]).__name__], "kernel_regularizer": {"l1": 0.2}}])
        same(model.regularization_loss(), 0.2 * named["weight"].abs().sum())


def test_a_scale_has_no_outputs() -> None:
    with pytest.raises(regspec.RegspecError, match="by outputs, but it is a scale"):
        regspec.regularize(nn.LayerNorm([3, 4]), [{"types": ["LayerNorm"], "kernel_regularizer": {"group_lasso": 1}}])
    rule = {"group_lasso": {"strength": 1, "axis": "input"}}
    with pytest.raises(regspec.RegspecError, match="over the input axis, but there is none"):  # there are two
        regspec.regularize(nn.Bilinear(3, 2, 4), [{"types": ["Bilinear"], "kernel_regularizer": rule}])


def orthogonal(w: Tensor) -> Tensor:
    rows = nn.functional.normalize(w.T, dim=1)  # as Keras has the kernel, with its outputs as columns
    pairs = len(rows) * (len(rows) - 1) / 2
    return (rows @ rows.T).triu(1).abs().sum() / pairs


@pytest.mark.parametrize(
    ("regularizer", "of_one"),
    [
        ("l1", lambda w: w.abs().sum()),
        ("norm", lambda w: w.norm()),
        ("orthogonal", orthogonal),
        ("spectral", lambda w: torch.linalg.matrix_norm(w, 2)),
        ("hoyer", lambda w: w.abs().sum() ** 2 / w.square().sum()),
        ({"group_lasso": {"strength": 0.3, "axis": "output"}}, lambda w: math.sqrt(6) * w.norm(dim=1).sum()),
        ({"group_lasso": {"strength": 0.3, "axis": "input"}}, lambda w: math.sqrt(6) * w.norm(dim=0).sum()),
        ([{"l2": 0.3}, {"norm": 0.3}], lambda w: w.square().sum() + w.norm()),
        ({"norm": 0.3, "schedule": {"constant": {"value": 0.5, "over": 3}}}, lambda w: 0.5 * w.norm()),
    ],
    ids=["l1", "norm", "orthogonal", "spectral", "hoyer", "group_output", "group_input", "sum", "scheduled"],
)
def test_the_projections_of_attention_are_three_kernels(regularizer: Any, of_one: Callable[[Tensor], Tensor]) -> None:
    rule = {regularizer: 0.3} if isinstance(regularizer, str) else regularizer
    model = regspec.regularize(
        nn.MultiheadAttention(6, 2), [{"types": ["MultiheadAttention"], "kernel_regularizer": rule}]
    )
    if "schedule" in rule:
        model.set_schedules(0)
    assert list(model.regularization_terms()) == ["in_proj_weight"]
    same(model.regularization_loss(), sum(0.3 * of_one(w) for w in model.in_proj_weight.double().chunk(3)))
    if regularizer == "norm":
        assert regspec.strengths(model) == {"in_proj_weight.norm": 0.3}


@pytest.mark.parametrize(
    ("module", "rule", "message"),
    [
        (nn.MultiheadAttention(6, 2), {"types": ["MultiheadAttention"], "recurrent_regularizer": "l2"},
         r"MultiheadAttention has no recurrent kernel of its own\n(.*\n)*.*it has kernel, bias: kernel_regularizer"),
        (nn.Linear(3, 4, bias=False), {"types": ["Linear"], "bias_regularizer": "l2"},
         r"has no bias .*\n(.*\n)*.*it has kernel"),
        (nn.TransformerEncoderLayer(6, 2, 7), {"types": ["TransformerEncoderLayer"], "kernel_regularizer": "l2"},
         r"has no kernel of its own\n(.*\n)*.*modules in it"),
        (nn.BatchNorm1d(4), {"modules": ".*", "kernel_regularizer": "l2"}, r"counts as a kernel where 'types'"),
    ],
)  # fmt: skip
def test_hints_name_slots(module: nn.Module, rule: dict[str, Any], message: str) -> None:
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.regularize(nn.Sequential(module), [rule])


@pytest.mark.parametrize("make", [nn.LazyLinear, nn.LazyConv2d, nn.LazyConvTranspose1d, nn.LazyBatchNorm2d])
def test_lazy_modules(make: Callable[..., nn.Module]) -> None:
    """And once they know their sizes, they are as others."""
    lazy = nn.Sequential(make(4, 1) if "Conv" in make.__name__ else make(*[4] * ("Linear" in make.__name__)))
    for rule in ({"kernel_regularizer": "l2"}, {"activity_regularizer": "l2"}):
        with pytest.raises(
            regspec.RegspecError, match=rf"'0', a {make.__name__}, has no weights before its first call"
        ):
            ruled(lazy, **rule)
    lazy(torch.randn(2, 3, 5, 7) if "2d" in make.__name__ else torch.randn(2, 3, 5))
    kind = type(lazy[0]).__name__
    model = regspec.regularize(lazy, [{"types": [kind], "kernel_regularizer": {"l2": 0.3}}])
    same(model.regularization_loss(), 0.3 * lazy[0].weight.square().sum())


# -- biases of recurrence ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_the_bias_of_a_recurrent_layer_is_a_sum(cls: type[nn.Module]) -> None:
    """Its two parts move alike, and nothing is gained by moving the bias from one to the other."""
    layer = cls(3, 4) if cls.__name__.endswith("Cell") else cls(3, 4, 2, bidirectional=True)
    model = ruled(nn.Sequential(layer), bias_regularizer={"l1": 0.2, "l2": 0.3})
    named = dict(layer.named_parameters())
    pairs = {
        name.replace("_ih", ""): (named[name], named[name.replace("_ih", "_hh")]) for name in named if "bias_ih" in name
    }
    terms = model.regularization_terms()
    assert terms.keys() == {f"0.{name}" for name in pairs}
    wanted = sum(0.2 * (a + b).abs().sum() + 0.3 * (a + b).square().sum() for a, b in pairs.values())
    same(model.regularization_loss(), wanted)
    biases = [each for pair in pairs.values() for each in pair]
    torch.testing.assert_close(
        torch.autograd.grad(model.regularization_loss(), biases), torch.autograd.grad(wanted, biases)
    )


def test_a_bias_half_of_which_is_frozen() -> None:
    model = ruled(nn.GRU(3, 4), bias_regularizer={"l2": 0.3})
    model.bias_hh_l0.requires_grad_(False)
    wanted = 0.3 * (model.bias_ih_l0 + model.bias_hh_l0).square().sum()
    same(model.regularization_loss(), wanted)
    model.bias_ih_l0.requires_grad_(False)
    assert model.regularization_terms() == {}


def test_routes_of_a_sum_of_biases() -> None:
    """Its gradient goes to both; a decay or a threshold of each is not that of the sum."""
    model = ruled(nn.LSTM(3, 4), bias_regularizer={"l2": 0.3})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(regspec.RegspecError, match="of the sum of two parameters"):
        regspec.bind(model, optimizer, l2="decay")
    a, b = model.bias_ih_l0.detach().clone(), model.bias_hh_l0.detach().clone()
    regspec.bind(model, optimizer, l2="gradient")
    assert model.regularization_loss() == 0
    model(torch.zeros(2, 5, 3))[0].sum().mul(0).backward()
    optimizer.step()
    torch.testing.assert_close(model.bias_ih_l0.detach(), a - 0.1 * 0.6 * (a + b))
    torch.testing.assert_close(model.bias_hh_l0.detach(), b - 0.1 * 0.6 * (a + b))


def test_a_rule_may_name_one_of_the_two() -> None:
    model = regspec.regularize(nn.LSTM(3, 4), [{"parameters": "bias_ih_l0", "regularizer": {"l2": 0.3}}])
    same(model.regularization_terms()["bias_ih_l0"], 0.3 * model.bias_ih_l0.square().sum())


# -- groups that free a channel ----------------------------------------------------------------------------------------

GROUPED: dict[str, Callable[[], nn.Module]] = {
    f"{kind}{rank}d in {groups}": lambda kind=kind, rank=rank, groups=groups: getattr(nn, f"{kind}{rank}d")(
        4, 8, (3, 2, 1)[:rank], groups=groups, bias=False
    )
    for kind in ("Conv", "ConvTranspose")
    for rank in (1, 2, 3)
    for groups in (1, 2, 4)
}


def by_channels(conv: Any, axis: str) -> list[Tensor]:
    """For each channel the weights that read it, or that make it, found by which of them have a gradient."""
    count = conv.in_channels if axis == "input" else conv.out_channels
    size = (3, 4, 5)[: conv.weight.ndim - 2]
    twin = copy.deepcopy(conv).double()
    nn.init.ones_(twin.weight)
    found = []
    for channel in range(count):
        x = torch.ones(1, conv.in_channels, *size, dtype=torch.double)
        if axis == "input":
            x = torch.zeros_like(x)
            x[:, channel] = 1.0
        y = twin(x)
        gradient = torch.autograd.grad((y if axis == "input" else y[:, channel]).sum(), twin.weight)[0]
        found.append(conv.weight.double()[gradient != 0])
    return found


@pytest.mark.parametrize("axis", ["input", "output"])
@pytest.mark.parametrize("make", GROUPED.values(), ids=GROUPED)
def test_group_lasso_of_grouped_convolutions(make: Callable[[], nn.Module], axis: str) -> None:
    """The groups are what frees a channel: its value, its gradient, and the proximal step."""
    conv = make()
    rule = {"kernel_regularizer": {"group_lasso": {"strength": 0.3, "axis": axis}}}
    model = ruled(nn.Sequential(conv), **rule)
    groups = by_channels(conv, axis)
    assert sum(each.numel() for each in groups) == conv.weight.numel()
    same(model.regularization_loss(), sum(0.3 * math.sqrt(each.numel()) * each.norm() for each in groups))
    nn.init.zeros_(conv.weight)
    with torch.no_grad():
        flat = conv.weight.view(-1)
        flat[0] = 0.1  # one channel has little, and is freed
        flat[-1] = 10.0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    regspec.bind(model, optimizer, group_lasso="proximal")
    conv.weight.grad = torch.zeros_like(conv.weight)
    optimizer.step()
    size = by_channels(conv, axis)[0].numel()
    same(conv.weight.view(-1)[0], torch.tensor(max(0.0, 0.1 - 0.1 * 0.3 * math.sqrt(size))))
    same(conv.weight.view(-1)[-1], torch.tensor(10 - 0.1 * 0.3 * math.sqrt(size)))


@pytest.mark.parametrize(
    ("layer", "module", "slot"),
    [
        ("Conv1D: {filters: 6, kernel_size: 3, groups: 2, name: c, kernel_regularizer: R}", "c", "kernel"),
        ("Conv2D: {filters: 8, kernel_size: [3, 2], groups: 4, name: c, kernel_regularizer: R}", "c", "kernel"),
        ("Conv3D: {filters: 8, kernel_size: 2, groups: 2, name: c, kernel_regularizer: R}", "c", "kernel"),
        ("Conv2DTranspose: {filters: 6, kernel_size: 3, name: c, kernel_regularizer: R}", "c", "kernel"),
        ("DepthwiseConv1D: {kernel_size: 3, depth_multiplier: 3, name: c, depthwise_regularizer: R}", "c", "depthwise"),
        ("DepthwiseConv2D: {kernel_size: 3, depth_multiplier: 2, name: c, depthwise_regularizer: R}", "c", "depthwise"),
        ("DepthwiseConv2D: {kernel_size: 3, name: c, depthwise_regularizer: R}", "c", "depthwise"),
        ("SeparableConv2D: {filters: 5, kernel_size: 2, depth_multiplier: 3, name: c, depthwise_regularizer: R}",
         "c_depthwise", "depthwise"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("axis", ["input", "output"])
def test_group_lasso_of_grouped_convolutions_in_a_spec(layer: str, module: str, slot: str, axis: str) -> None:
    """Of four channels, and of one where that has no groups."""
    for channels in (4,) if "groups" in layer else (4, 1):
        check_in_a_spec(layer, module, axis, channels)


def check_in_a_spec(layer: str, module: str, axis: str, channels: int) -> None:
    rank = 1 if "1D" in layer else 3 if "3D" in layer else 2
    entry = layer.replace("R}", f"{{group_lasso: {{strength: 0.3, axis: {axis}}}}}}}")
    shape = [channels, 9, 8, 7][: rank + 1]
    layout = "data_format: channels_first\n"
    text = f"regspec: 1\nname: n\n{layout}inputs: {{x: {{shape: {shape}}}}}\nlayers:\n  - {entry}\n"
    for model in (regspec.build(text), alone(text, "N")):
        groups = by_channels(model.get_submodule(module), axis)
        same(model.regularization_loss(), sum(0.3 * math.sqrt(each.numel()) * each.norm() for each in groups))


# -- where a weight is now ---------------------------------------------------------------------------------------------


class Half(nn.Module):
    def forward(self, w: Tensor) -> Tensor:
        return w / 2

    def right_inverse(self, w: Tensor) -> Tensor:
        return 2 * w


class Wrapper(nn.Module):
    """As those of adapters: its weight is that of the layer inside."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base, self.extra = base, nn.Parameter(torch.zeros(3))

    @property
    def weight(self) -> Tensor:
        return self.base.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.extra


class Computing(Wrapper):
    @property
    def weight(self) -> Tensor:
        return self.base.weight + 1


def replace(model: nn.Module, wrap: Callable[[nn.Module], nn.Module]) -> None:
    model[0] = wrap(model[0])


CHANGED: dict[str, Callable[[nn.Sequential], object]] = {
    "parametrized": lambda m: parametrize.register_parametrization(m[0], "weight", Half()),
    "weight_norm": lambda m: parametrizations.weight_norm(m[0]),
    "orthogonal": lambda m: parametrizations.orthogonal(m[0]),
    "pruned": lambda m: prune.l1_unstructured(m[0], "weight", 0.5),
    "pruned twice": lambda m: (
        prune.l1_unstructured(m[0], "weight", 0.5),
        prune.random_unstructured(m[0], "weight", 0.3),
    ),
    "the first weight_norm": lambda m: first_weight_norm(m[0]),
    "the first spectral_norm": lambda m: first_spectral_norm(m[0]),
    "wrapped with a property": lambda m: replace(m, Wrapper),
    "wrapped with a computation": lambda m: replace(m, Computing),
    "compiled": lambda m: replace(m, lambda part: torch.compile(part, backend="eager")),
    "in DataParallel": lambda m: replace(m, nn.DataParallel),
    "replaced by one like it": lambda m: replace(m, lambda _: nn.Linear(4, 3)),
    "its parameter replaced": lambda m: setattr(m[0], "weight", nn.Parameter(torch.randn(3, 4))),
    "as it was": lambda m: None,
}  # fmt: skip
RENAMED = {name for name in CHANGED if name.startswith(("wrapped", "compiled", "in "))}  # rules find the one inside


def effective(part: Any) -> Tensor:
    """The weight with which it multiplies: a linear function tells."""
    if isinstance(part, Computing):
        return part.weight
    is_training = part.training
    part.eval()
    weight = (part(torch.eye(4)) - part(torch.zeros(4, 4))).T
    part.train(is_training)
    return weight


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")  # torch's own
@pytest.mark.parametrize(
    ("name", "is_before"),
    [(name, is_before) for name in CHANGED for is_before in (True, False) if not (is_before and name in RENAMED)],
)
def test_what_becomes_of_a_layer(name: str, is_before: bool) -> None:
    """The penalty is that of the weight that it computes with, after a step too, and nothing while that is frozen."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3))
    change = CHANGED[name]
    if is_before:
        change(model)
    regspec.regularize(model, [{"modules": "0", "kernel_regularizer": {"l2": 0.3}}])
    if not is_before:
        change(model)
    for is_training in (True, False):
        model.train(is_training)
        with torch.no_grad():
            model(torch.randn(2, 4))  # what lies there has no gradient then
        wanted = 0.3 * effective(model[0]).square().sum()
        same(model.regularization_loss(), wanted)
        same(model.regularization_terms()["0.weight"], wanted)
        trained = [each for each in model.parameters() if each.requires_grad]
        got = torch.autograd.grad(model.regularization_loss(), trained, allow_unused=True)
        of_wanted = torch.autograd.grad(wanted, trained, allow_unused=True)
        assert any(each is not None and bool(each.any()) for each in of_wanted)
        for a, b in zip(got, of_wanted, strict=True):
            if a is None:  # as that of the bias, which is in both terms of the difference
                assert b is None or not b.any()
            else:
                same(a, b)
    for own, parameter in model.named_parameters():
        if "bias" not in own and "extra" not in own:
            parameter.requires_grad_(False)
    for forward in (lambda: None, lambda: model(torch.randn(2, 4))):
        forward()
        assert model.regularization_terms() == {}
        assert model.regularization_loss() == 0
        with torch.inference_mode():
            if not isinstance(model[0], Computing):
                assert model.regularization_terms() == {}


def test_pruned_weights_are_those_of_now() -> None:
    """What lies in the module is what the last forward computed, before the step."""
    model = nn.Sequential(nn.Linear(4, 3))
    prune.l1_unstructured(model[0], "weight", 0.5)
    ruled(model, kernel_regularizer={"l2": 0.3})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model.regularization_loss().backward()
    optimizer.step()
    same(model.regularization_loss(), 0.3 * (model[0].weight_orig * model[0].weight_mask).square().sum())
    model.regularization_loss().backward()  # and not through a graph that is gone


def quantized(model: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear})


class Adapter(nn.Module):
    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: replace(m, lambda _: nn.Identity()), r"'0\.weight' .* is gone: '0' is a Identity now, which has no"),
        (lambda m: replace(m, Adapter), r"is gone: '0' is a Adapter now, which has no 'weight'.*unregularize"),
        (lambda m: replace(m, lambda _: nn.Linear(4, 3, bias=False)), r"'0\.bias' .* is gone"),
        (lambda m: m.__delitem__(1), "is gone: there is no '1' any more"),
        (lambda m: setattr(m[0], "weight", None), "has no 'weight'"),
        (quantized, "has one that is no tensor, as quantized"),
    ],
)
def test_a_weight_that_is_gone(change: Callable[[nn.Module], Any], message: str) -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    ruled(model, kernel_regularizer={"l2": 0.3}, bias_regularizer={"l2": 0.3})
    found = change(model)
    model = found if isinstance(found, nn.Module) else model
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    for ask in (
        lambda: model.regularization_loss(),
        lambda: model.regularization_terms(),
        lambda: regspec.sparsity(model),
        lambda: regspec.bind(model, optimizer),
    ):
        with pytest.raises(RuntimeError, match=message):
            ask()
    regspec.unregularize(model)


@pytest.mark.parametrize("is_before", [True, False])
@pytest.mark.parametrize("is_computed", [True, False])
def test_weights_that_are_tied(is_before: bool, is_computed: bool) -> None:
    """They count once, and shrink once; untied, each counts."""
    model = nn.ModuleDict({"e": nn.Embedding(5, 4), "d": nn.Linear(4, 5, bias=False)})

    def tie() -> None:
        if is_computed:
            parametrize.register_parametrization(model["e"], "weight", Half())
            model["d"] = model["e"]
        else:
            model["d"].weight = model["e"].weight

    if is_before:
        tie()
    ruled(model, kernel_regularizer={"l1": 0.5})
    if not is_before:
        tie()
    weight = model["e"].weight.detach().clone()
    same(model.regularization_loss(), 0.5 * weight.abs().sum())
    assert list(model.regularization_terms()) == ["e.weight"]
    assert list(regspec.sparsity(model)) == ["e.weight"]
    if not is_computed:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        regspec.bind(model, optimizer, l1="proximal")
        assert model.regularization_loss() == 0
        model["e"].weight.grad = torch.zeros_like(weight)
        optimizer.step()
        torch.testing.assert_close(
            model["e"].weight.detach(), weight.sign() * (weight.abs() - 0.05).clamp_min(0), rtol=1e-5, atol=1e-6
        )
        model["d"].weight = nn.Parameter(torch.ones(5, 4))
        if not is_before:
            same(model.regularization_terms()["d.weight"], torch.tensor(10.0))


def test_weights_that_are_tied_after_build() -> None:
    layers = "\n".join(f"  - Dense: {{name: {name}, units: 4, kernel_regularizer: {{l1: 0.5}}}}" for name in "ab")
    model = regspec.build(f"regspec: 1\nname: n\ninputs: {{x: {{shape: [4]}}}}\nlayers:\n{layers}\n")
    model.b.weight = model.a.weight
    same(model.regularization_loss(), 0.5 * model.a.weight.abs().sum())


def test_one_weight_with_two_terms() -> None:
    """Which were given to it, and none by tying."""
    model = regspec.runtime.Regularized()
    model.linear = skip_init(nn.Linear, 4, 3)
    nn.init.normal_(model.linear.weight)
    model.add_weight_terms(regspec.runtime.L1(0.2), {"a": "linear.weight"})
    model.add_weight_terms(regspec.runtime.L2(0.3), {"b": "linear.weight"})
    w = model.linear.weight
    same(model.regularization_loss(), 0.2 * w.abs().sum() + 0.3 * w.square().sum())


IN_A_BLOCK = """
regspec: 1
blocks:
  half:
    layers:
      - Dense: {name: inner, units: 4, kernel_regularizer: {l2: 0.3}}
inputs: {x: {shape: [4]}}
layers: [half: {name: first}, half: {name: second}]
"""


@pytest.mark.parametrize("is_tied", [False, True])
@pytest.mark.parametrize("route", ["loss", "gradient", "proximal"])
def test_a_rule_for_a_weight_that_has_a_term_of_a_block(route: str, is_tied: bool) -> None:
    """Both are of the one weight, by one path; tied to another, it counts once for each of the two."""
    model = regspec.build(regspec.loads(IN_A_BLOCK), seed=0)
    if is_tied:
        model.second.inner.weight = model.first.inner.weight
    regspec.regularize(model, [{"types": ["Linear"], "kernel_regularizer": {"l1": 0.2}}])
    weights = [*{model.first.inner.weight, model.second.inner.weight}]
    squares, sizes = (sum(each(w).sum() for w in weights) for each in (torch.square, torch.abs))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    regspec.bind(model, optimizer, l1=route)
    same(model.regularization_loss(), 0.3 * squares + (0.2 * sizes if route == "loss" else 0))
    same(sum(model.regularization_terms().values()), 0.3 * squares + 0.2 * sizes)
    before = [w.detach().clone() for w in weights]
    model.regularization_loss().backward()
    optimizer.step()
    for now, w in zip(weights, before, strict=True):
        moved = w - 0.5 * 0.6 * w
        pulled = moved - 0.1 * w.sign() if route != "proximal" else moved.sign() * (moved.abs() - 0.1).clamp_min(0)
        torch.testing.assert_close(now.detach(), pulled)


def test_a_block_that_is_shared() -> None:
    """By two names it is one module, of which each term counts once."""
    model = regspec.build(regspec.loads(IN_A_BLOCK), seed=0)
    model.second = model.first
    regspec.regularize(model, [{"types": ["Linear"], "kernel_regularizer": {"l1": 0.2}}])
    w = model.first.inner.weight
    same(model.regularization_loss(), 0.3 * w.square().sum() + 0.2 * w.abs().sum())
