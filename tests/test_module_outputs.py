"""Activity penalties on torch's own modules and on others: which output counts, and which axis is what.

Each row says where they are; what is expected is written out from the module's own output.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import regspec


@dataclass(frozen=True)
class Row:
    """A module, the shapes of what it is given, and where in its output batch and units are; None for a sample."""

    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    batch: int | None = 0
    units: int | None = -1
    part: Callable[[Any], Tensor] = lambda y: y  # what counts of what it gives


def row(make: Callable[[], nn.Module], *shapes: tuple[int, ...], **where: Any) -> Row:
    return Row(make, shapes, **where)


def first(y: Any) -> Tensor:
    return y[0]


def encoder_layer(**options: Any) -> nn.Module:
    return nn.TransformerEncoderLayer(6, 2, 7, dropout=0.0, **options)


def decoder_layer(**options: Any) -> nn.Module:
    return nn.TransformerDecoderLayer(6, 2, 7, dropout=0.0, **options)


X = (5, 7, 6)
ROWS = {
    **{
        f"{cls.__name__}{' batch first' * is_first}{' both ways' * both}": row(
            lambda cls=cls, is_first=is_first, both=both: cls(6, 4, 2, batch_first=is_first, bidirectional=both),
            X,
            batch=0 if is_first else 1,
            part=first,
        )
        for cls in (nn.LSTM, nn.GRU, nn.RNN)
        for is_first in (True, False)
        for both in (True, False)
    },
    "LSTM projected": row(lambda: nn.LSTM(6, 4, proj_size=3), X, batch=1, part=first),
    **{
        f"{cls.__name__} sample": row(lambda cls=cls: cls(6, 4), (7, 6), batch=None, part=first)
        for cls in (nn.LSTM, nn.GRU)
    },
    "LSTMCell": row(lambda: nn.LSTMCell(6, 4), (5, 6), part=first),
    "LSTMCell sample": row(lambda: nn.LSTMCell(6, 4), (6,), batch=None, part=first),
    "GRUCell": row(lambda: nn.GRUCell(6, 4), (5, 6)),
    "RNNCell sample": row(lambda: nn.RNNCell(6, 4), (6,), batch=None),
    "MultiheadAttention": row(lambda: nn.MultiheadAttention(6, 2), X, X, X, batch=1, part=first),
    "MultiheadAttention batch first": row(lambda: nn.MultiheadAttention(6, 2, batch_first=True), X, X, X, part=first),
    "MultiheadAttention sample": row(lambda: nn.MultiheadAttention(6, 2), *[(7, 6)] * 3, batch=None, part=first),
    "TransformerEncoderLayer": row(encoder_layer, X, batch=1),
    "TransformerEncoderLayer batch first": row(lambda: encoder_layer(batch_first=True), X),
    "TransformerEncoderLayer sample": row(encoder_layer, (7, 6), batch=None),
    "TransformerDecoderLayer": row(decoder_layer, X, (3, 7, 6), batch=1),
    "TransformerEncoder": row(
        lambda: nn.TransformerEncoder(encoder_layer(), 2, enable_nested_tensor=False), X, batch=1
    ),
    "TransformerDecoder": row(lambda: nn.TransformerDecoder(decoder_layer(batch_first=True), 2), X, (5, 3, 6)),
    "Transformer": row(lambda: nn.Transformer(6, 2, 1, 1, 7, dropout=0.0), X, (3, 7, 6), batch=1),
    "Linear": row(lambda: nn.Linear(6, 4), (5, 6)),
    "Linear of a sequence": row(lambda: nn.Linear(6, 4), X),
    "Linear of an image": row(lambda: nn.Linear(6, 4), (5, 3, 7, 6)),
    "Linear sample": row(lambda: nn.Linear(6, 4), (6,), batch=None),
    "Bilinear": row(lambda: nn.Bilinear(6, 3, 4), (5, 6), (5, 3)),
    "LayerNorm": row(lambda: nn.LayerNorm(6), X),
    "RMSNorm": row(lambda: nn.RMSNorm(6), X),
    "GroupNorm": row(lambda: nn.GroupNorm(3, 6), (5, 6, 7, 3), units=1),
    "BatchNorm1d": row(lambda: nn.BatchNorm1d(6), (5, 6), units=1),
    "BatchNorm1d of signals": row(lambda: nn.BatchNorm1d(6), (5, 6, 7), units=1),
    "Upsample": row(lambda: nn.Upsample(scale_factor=2), (5, 6, 7), units=1),
    "PixelShuffle": row(lambda: nn.PixelShuffle(2), (5, 8, 3, 7), units=1),
    "PixelUnshuffle sample": row(lambda: nn.PixelUnshuffle(2), (3, 4, 6), units=0, batch=None),
    "ChannelShuffle": row(lambda: nn.ChannelShuffle(2), (5, 4, 3, 7), units=1),
    "Fold": row(lambda: nn.Fold((4, 5), (2, 2)), (5, 12, 12), units=1),
    "Unfold": row(lambda: nn.Unfold((2, 3)), (5, 3, 4, 7), units=1),
    "Flatten": row(lambda: nn.Flatten(), X),
    "Softmax2d": row(lambda: nn.Softmax2d(), (5, 6, 3, 7), units=1),
    "MaxPool2d and where": row(lambda: nn.MaxPool2d(2, return_indices=True), (5, 6, 4, 7), units=1, part=first),
    "activation": row(nn.Tanh, (5, 6)),
    **{
        f"{name}{'' if has_batch else ' sample'}": row(
            make, (5,) * has_batch + (4, 9, 8, 7)[: 1 + rank], batch=0 if has_batch else None, units=-(rank + 1)
        )
        for rank in (1, 2, 3)
        for name, make in {
            f"Conv{rank}d": lambda rank=rank: getattr(nn, f"Conv{rank}d")(4, 6, 3, groups=2),
            f"ConvTranspose{rank}d": lambda rank=rank: getattr(nn, f"ConvTranspose{rank}d")(4, 6, 3),
            f"MaxPool{rank}d": lambda rank=rank: getattr(nn, f"MaxPool{rank}d")(2),
            f"AvgPool{rank}d": lambda rank=rank: getattr(nn, f"AvgPool{rank}d")(2),
            f"AdaptiveAvgPool{rank}d": lambda rank=rank: getattr(nn, f"AdaptiveAvgPool{rank}d")(3),
            f"LPPool{rank}d": lambda rank=rank: getattr(nn, f"LPPool{rank}d")(2, 2),
            f"ConstantPad{rank}d": lambda rank=rank: getattr(nn, f"ConstantPad{rank}d")(1, 0.5),
            f"InstanceNorm{rank}d": lambda rank=rank: getattr(nn, f"InstanceNorm{rank}d")(4),
        }.items()
        for has_batch in (True, False)
    },
}


def group_lasso(y: Tensor, units: int) -> Tensor:
    rows = y.movedim(units, 0).flatten(1) if y.ndim > 1 else y.unsqueeze(1)
    return math.sqrt(rows.shape[1]) * rows.norm(dim=1).sum()


def penalty(model: nn.Module) -> Tensor:
    return model.regularization_loss()


@pytest.mark.filterwarnings(  # torch's own
    "ignore:The PyTorch API of nested tensors", "ignore:enable_nested_tensor", "ignore:LSTM with projections"
)
@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("each", ROWS.values(), ids=ROWS)
def test_torchs_own_modules(each: Row, is_training: bool) -> None:
    """By elements and by units, in a model around it, where what is counted has a gradient and where it has none."""
    torch.manual_seed(0)
    module = each.make()
    xs = [torch.randn(shape) for shape in each.shapes]
    for regularizer in ("l2", "group_lasso"):
        model = regspec.regularize(
            nn.ModuleList([module]), [{"modules": "0", "activity_regularizer": {regularizer: 0.3}}]
        )
        model.forward = lambda *xs, model=model: model[0](*xs)
        model.train(is_training)
        y = each.part(model(*xs))
        samples = 1 if each.batch is None else y.shape[each.batch]
        wanted = y.square().sum() if regularizer == "l2" else group_lasso(y, each.units)
        torch.testing.assert_close(penalty(model), 0.3 * wanted / samples)
        del model.forward
        regspec.unregularize(model)


def test_every_module_of_torch_is_known() -> None:
    """What gives tensors: its class says where the batch is, or that it keeps it."""
    from regspec.modules.outputs import _BY_CLASS, _CARRYING

    others = {"Module", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict", "Container", "Sequential"}
    others |= {"CosineSimilarity", "PairwiseDistance", "Unflatten"}  # anything
    for name in set(nn.modules.__all__) - others:
        cls = getattr(nn, name)
        if not issubclass(cls, nn.Module):
            continue
        known = any(
            each in _BY_CLASS or each.__module__ in (*_CARRYING, "torch.nn.modules.loss") for each in cls.__mro__
        )
        assert known or name[-2:] in ("1d", "2d", "3d"), name


# -- sequences of unequal lengths --------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_first", [True, False])
def test_packed_sequences(is_first: bool) -> None:
    """The steps that are there count, and the batch is that of the sequences."""
    torch.manual_seed(0)
    rule = {"types": ["GRU"], "activity_regularizer": {"l1": 0.5}}
    model = regspec.regularize(nn.Sequential(nn.GRU(3, 4, batch_first=is_first)), [rule])
    x, lengths = torch.randn(5, 7, 3), torch.tensor([2, 7, 1, 4, 4])
    packed = pack_padded_sequence(x if is_first else x.transpose(0, 1), lengths, is_first, enforce_sorted=False)
    out, _ = model(packed)
    padded, _ = pad_packed_sequence(out, batch_first=True)
    torch.testing.assert_close(penalty(model), 0.5 * padded.abs().sum() / 5)
    gradient = torch.autograd.grad(penalty(model), model[0].weight_ih_l0, retain_graph=True)
    torch.testing.assert_close(gradient, torch.autograd.grad(0.5 * padded.abs().sum() / 5, model[0].weight_ih_l0))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")  # torch's own
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
@pytest.mark.parametrize("regularizer", ["l1", "group_lasso"])
def test_nested_tensors(layout: torch.layout, regularizer: str) -> None:
    torch.manual_seed(0)
    rows = [torch.randn(length, 3) for length in (2, 5, 4)]
    model = regspec.regularize(
        nn.Sequential(nn.Linear(3, 4)), [{"types": ["Linear"], "activity_regularizer": {regularizer: 0.5}}]
    )
    model(torch.nested.nested_tensor(rows, layout=layout))
    y = model[0](torch.cat(rows))
    wanted = 0.5 * (y.abs().sum() if regularizer == "l1" else group_lasso(y, -1)) / 3
    torch.testing.assert_close(penalty(model), wanted)
    weight = model[0].weight
    gradient = torch.autograd.grad(penalty(model), weight)
    torch.testing.assert_close(gradient, torch.autograd.grad(wanted, weight))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")  # torch's own
def test_an_encoder_with_padding_in_evaluation() -> None:
    """torch takes the padding out of it, and nested tensors go through its layers."""
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(encoder_layer(batch_first=True), 2).eval()
    x, padding = torch.randn(2, 5, 6), torch.zeros(2, 5, dtype=torch.bool)
    padding[0, 3:] = True
    with torch.no_grad():
        plain = encoder(x, src_key_padding_mask=padding)
        regspec.regularize(encoder, [{"modules": r"layers\.1", "activity_regularizer": {"l1": 0.1}}])
        y = encoder(x, src_key_padding_mask=padding)
    torch.testing.assert_close(y, plain)
    torch.testing.assert_close(penalty(encoder), 0.1 * plain[~padding].abs().sum() / 2)


# -- what keeps the axes that it is given ------------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)) + x)


class Blocks(nn.Module):
    """Residual sums behind one another, so that there are two ways through each."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.blocks, self.act = nn.ModuleList([Residual() for _ in range(count)]), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = (x + block(x)) / 2
        return self.act(x)


class Beside(nn.Module):
    """One whose batch is where it is, and one with the batch second, which is not called."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part, self.attention = part, nn.MultiheadAttention(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.part(x)
        return found


class Twisted(nn.Module):
    """Its forward can't be traced, and a part of it can."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(6, 6, 3), nn.Sequential(nn.Dropout(0.0), nn.Sigmoid()))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x if x.sum() < 1e9 else x + 1)


class Recurrence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.drop, self.head, self.act = nn.LSTM(6, 4), nn.Dropout(0.0), nn.Linear(4, 3), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(x)
        return self.act(self.head(self.drop(out)))


class Behind(NamedTuple):
    make: Callable[[], nn.Module]
    name: str  # of the module with the penalty, which gives what the model gives
    shape: tuple[int, ...]
    batch: int
    units: int


BEHIND = {
    "Conv2d": Behind(lambda: nn.Sequential(nn.Conv2d(6, 3, 3), nn.Sigmoid()), "1", (5, 6, 7, 4), 0, 1),
    "Conv1d": Behind(lambda: nn.Sequential(nn.Conv1d(6, 3, 3), nn.Sigmoid()), "1", (5, 6, 7), 0, 1),
    "Conv3d, pool, dropout": Behind(
        lambda: nn.Sequential(nn.Conv3d(6, 3, 2), nn.Sigmoid(), nn.MaxPool3d(2), nn.Dropout(0.0)),
        "3",
        (5, 6, 7, 4, 3),
        0,
        1,
    ),
    "pool behind an activation": Behind(
        lambda: nn.Sequential(nn.Conv2d(6, 3, 3), nn.Sigmoid(), nn.AvgPool2d(2)), "2", (5, 6, 7, 4), 0, 1
    ),
    "Linear on channels last": Behind(lambda: nn.Sequential(nn.Linear(6, 3), nn.Sigmoid()), "1", (5, 4, 7, 6), 0, 3),
    "a residual sum": Behind(Residual, "act", (5, 6, 7, 4), 0, 1),
    "forty residual sums": Behind(lambda: Blocks(40), "act", (5, 6, 7, 4), 0, 1),
    "forty residual sums beside an attention": Behind(lambda: Beside(Blocks(40)), "part.act", (5, 6, 7, 4), 0, 1),
    "a stack, its own output": Behind(
        lambda: nn.Sequential(nn.Sequential(nn.Conv2d(6, 3, 3), nn.Sigmoid())), "0", (5, 6, 7, 4), 0, 1
    ),
    "a block, its own output": Behind(lambda: nn.Sequential(Residual()), "0", (5, 6, 7, 4), 0, 1),
    "a part that can be traced": Behind(Twisted, "body.1.1", (5, 6, 7, 4), 0, 1),
    "recurrence, steps first": Behind(Recurrence, "act", (7, 5, 6), 1, 2),
    "a stack of layers of an encoder": Behind(
        lambda: nn.Sequential(encoder_layer(), nn.Sigmoid()), "1", (7, 5, 6), 1, 2
    ),
}


@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND)
@pytest.mark.parametrize("regularizer", ["l2", "kl_sparsity"])
def test_what_keeps_its_axes(behind: Behind, regularizer: str) -> None:
    torch.manual_seed(0)
    model = regspec.regularize(
        behind.make(), [{"modules": behind.name.replace(".", r"\."), "activity_regularizer": {regularizer: 0.3}}]
    )
    y = model(torch.randn(behind.shape)).double()
    if regularizer == "l2":
        wanted = 0.3 * y.square().sum() / y.shape[behind.batch]
    else:
        rate = y.movedim(behind.units, 0).flatten(1).mean(1).clamp(1e-7, 1 - 1e-7)
        wanted = 0.3 * (0.05 * (0.05 / rate).log() + 0.95 * (0.95 / (1 - rate)).log()).sum()
    torch.testing.assert_close(penalty(model).double(), wanted, rtol=1e-5, atol=1e-6)


class Counted(Residual):
    """Counts how often it is traced. Two of its parts keep what they are given."""

    count = 0

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.0)

    def forward(self, x: Tensor) -> Tensor:
        Counted.count += isinstance(x, fx.Proxy)
        return self.drop(super().forward(x))


class Untraced(nn.Module):
    """Its forward can't be traced."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x) if x.sum() < 1e9 else x
            x = x[0] if isinstance(x, tuple) else x
        return x


@pytest.mark.parametrize("around", [nn.Sequential, Untraced])
def test_a_part_is_traced_once(around: Callable[..., nn.Module]) -> None:
    """However many outputs in it, and in others, have penalties."""
    rule = {"types": ["Sigmoid", "Dropout"], "activity_regularizer": {"kl_sparsity": 0.3}}
    Counted.count = 0
    regspec.regularize(around(*(Counted() for _ in range(7))), [rule])
    assert Counted.count == 7


@pytest.mark.parametrize("function", ["own_output", "_made"])
def test_only_the_users_errors_are_taken_for_what_is_not_known(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in looking at the graph of a model is no reason to know nothing of it."""
    from regspec.modules import outputs

    found = getattr(outputs, function)

    def faulty(first: Any, *others: Any) -> Any:
        if isinstance(first, nn.Tanh) or others:
            raise ZeroDivisionError
        return found(first, *others)

    monkeypatch.setattr(outputs, function, faulty)
    model = nn.Sequential(nn.Conv2d(6, 3, 3), nn.Sigmoid(), nn.Tanh())
    with pytest.raises(ZeroDivisionError):
        regspec.regularize(model, [{"modules": "1", "activity_regularizer": {"group_lasso": 0.3}}])


@pytest.mark.parametrize("error", [AttributeError, TypeError])
def test_no_error_about_torchs_own_is_hidden(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    from regspec.modules import outputs

    def faulty(module: nn.Module) -> Any:
        raise error

    monkeypatch.setitem(outputs._BY_CLASS, nn.Linear, faulty)
    with pytest.raises(error):
        regspec.regularize(nn.Sequential(nn.Linear(6, 3)), [{"modules": "0", "activity_regularizer": "l1"}])


def derived(cls: type[nn.Module], **attributes: Any) -> nn.Module:
    """Of torch's class, but made another way."""

    def init(self: Any) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(attributes)

    return type("Derived", (cls,), {"__init__": init, "forward": lambda self, x: x + 1})()


MADE_ANOTHER_WAY: dict[str, Callable[[], nn.Module]] = {
    "a recurrent one": lambda: derived(nn.LSTM),
    "an attention": lambda: derived(nn.MultiheadAttention),
    "a transformer": lambda: derived(nn.Transformer),
    "a normalization": lambda: derived(nn.LayerNorm),
    "a normalization of a size": lambda: derived(nn.LayerNorm, normalized_shape=6),
    "a normalization by the root of the mean square": lambda: derived(nn.RMSNorm, normalized_shape=6),
    "a wrapper": lambda: derived(nn.DataParallel),
}


@pytest.mark.parametrize("name", MADE_ANOTHER_WAY)
def test_what_only_derives_from_torchs_own_is_not_known(name: str) -> None:
    rule = {"modules": "0|1", "activity_regularizer": {"group_lasso": 0.3}}
    model = regspec.regularize(nn.Sequential(MADE_ANOTHER_WAY[name](), nn.Sigmoid()), [rule])
    x = torch.randn(5, 6)
    y = model(x)
    torch.testing.assert_close(penalty(model), 0.3 * (group_lasso(x + 1, 1) + group_lasso(y, 1)) / 5)


@pytest.mark.parametrize("cls", [nn.Conv2d, nn.ConvTranspose2d])
def test_a_convolution_that_is_made_another_way(cls: type[nn.Module]) -> None:
    """Where its axes lie is asked for; what does not read them needs no answer."""
    part = derived(cls)
    part.weight = nn.Parameter(torch.randn(4, 3, 2, 2))
    model = regspec.regularize(part, [{"types": ["Derived"], "kernel_regularizer": {"l2": 0.3}}])
    torch.testing.assert_close(penalty(model), 0.3 * part.weight.square().sum())
    rule: dict[str, Any] = {"types": ["Derived"], "kernel_regularizer": {"group_lasso": 0.3}}
    with pytest.raises(regspec.RegspecError, match="not known which of its axes counts the outputs"):
        regspec.regularize(regspec.unregularize(part), [rule])


def test_what_is_not_known_is_asked_for() -> None:
    """And where a rule says it, that holds."""
    torch.manual_seed(0)
    rule: dict[str, Any] = {"modules": r"parts\.1", "activity_regularizer": {"group_lasso": 0.3}}
    images, x = Untraced(nn.Conv2d(6, 3, 3), nn.Sigmoid()), torch.randn(5, 6, 7, 4)
    model = regspec.regularize(images, [rule])
    with pytest.raises(RuntimeError, match=r"'parts\.1', a Sigmoid, has 4 axes.*say channel_axis in its rule"):
        model(x)
    model = regspec.regularize(regspec.unregularize(model), [{**rule, "channel_axis": 1}])
    y = model(x)
    torch.testing.assert_close(penalty(model), 0.3 * group_lasso(y, 1) / 5)
    # with steps first in one place, it may be so in others
    rule = {"modules": r"parts\.1", "activity_regularizer": {"l1": 0.3}}
    model = regspec.regularize(Untraced(nn.LSTM(6, 4), nn.Linear(4, 3)), [rule])
    with pytest.raises(RuntimeError, match=r"'parts\.1', a Linear, has 3 axes.*say batch_axis in its rule"):
        model(torch.randn(7, 5, 6))
    model = regspec.regularize(regspec.unregularize(model), [{**rule, "batch_axis": 1}])
    y = model(torch.randn(7, 5, 6))
    torch.testing.assert_close(penalty(model), 0.3 * y.abs().sum() / 5)


# -- several outputs ---------------------------------------------------------------------------------------------------


@dataclass
class Outputs:
    hidden: Tensor
    states: tuple[Tensor, ...]


class Several(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.linear, self.form = nn.Linear(6, 4), form

    def forward(self, x: Tensor) -> Any:
        y = self.linear(x)
        if self.form == "mapping":
            return {"hidden": y, "states": (y + 1, y.T)}
        return (y, (y + 1, y.T)) if self.form == "tuple" else Outputs(y, (y + 1, y.T))


@pytest.mark.parametrize(
    ("form", "where", "wanted"),
    [
        ("tuple", {"output": 0}, lambda y: y.abs().sum() / 5),
        ("tuple", {"output": [1, 0]}, lambda y: (y + 1).abs().sum() / 5),
        ("tuple", {"output": [1, -1], "batch_axis": 1}, lambda y: y.abs().sum() / 5),
        ("mapping", {"output": "hidden"}, lambda y: y.abs().sum() / 5),
        ("mapping", {"output": ["states", 0]}, lambda y: (y + 1).abs().sum() / 5),
        ("dataclass", {"output": "hidden"}, lambda y: y.abs().sum() / 5),
        ("dataclass", {"output": ["states", 1], "batch_axis": -1}, lambda y: y.abs().sum() / 5),
        ("tuple", {"output": "all"}, lambda y: (y.abs().sum() + (y + 1).abs().sum()) / 5 + y.abs().sum() / 4),
    ],
)
def test_a_rule_says_which_output(form: str, where: dict[str, Any], wanted: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 6)
    rule = {"types": ["Several"], "activity_regularizer": {"l1": 0.3}, **where}
    model = regspec.regularize(Several(form), [rule])
    model(x)
    torch.testing.assert_close(penalty(model), 0.3 * wanted(nn.functional.linear(x, *model.linear.parameters())))


def test_several_outputs_are_not_guessed() -> None:
    rule = {"types": ["Several"], "activity_regularizer": {"l1": 0.3}}
    model = regspec.regularize(Several("tuple"), [rule])
    with pytest.raises(
        RuntimeError, match=r"a Several, is 3 tensors, of 4 and 5 samples .*: say in its rule .*output: 0"
    ):
        model(torch.randn(5, 6))
    y = model(torch.randn(4, 6))[0]  # where the axes don't tell them apart, all count
    wanted = (2 * y.abs().sum() + (y + 1).abs().sum()) / 4
    torch.testing.assert_close(penalty(model), 0.3 * wanted)
    for form, output, message in (
        ("tuple", 2, "tuple of 2"),
        ("tuple", "hidden", "tuple of 2"),
        ("mapping", "hiden", "there are hidden, states"),
        ("dataclass", "hiden", "there are hidden, states"),
    ):
        model = regspec.regularize(Several(form), [{**rule, "output": output}])
        with pytest.raises(RuntimeError, match=rf"'output: {output}'.*{message}"):
            model(torch.randn(5, 6))
    model = regspec.regularize(Several("tuple"), [{**rule, "output": 0, "batch_axis": 2}])
    with pytest.raises(RuntimeError, match="has 2 axes, but the rule says 'batch_axis: 2'"):
        model(torch.randn(5, 6))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"kernel_regularizer": "l2", "batch_axis": 1}, "'batch_axis', which is for an activity_regularizer"),
        ({"kernel_regularizer": "l2", "output": 0}, "'output', which is for an activity_regularizer"),
        (
            {"activity_regularizer": "l2", "batch_axis": 1, "channel_axis": 1},
            "one axis for batch_axis and channel_axis",
        ),
        ({"activity_regularizer": "l2", "output": []}, "output"),
        ({"activity_regularizer": "l2", "channel_axs": 1}, "did you mean 'channel_axis'"),
    ],
)
def test_faults_of_rules(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.regularize(nn.Sequential(nn.Linear(3, 2)), [{"types": ["Linear"], **rule}])
