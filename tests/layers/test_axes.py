"""What the axes of an output mean, after layers that multiply, move, drop and add axes: by torch, written out.

No row says a data_format, unless it is given: images and signals have their channels first, sequences are as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import regspec

Axes = list[str] | None
Shapes = list[list[int] | tuple[list[int], Axes]]
LSTM: dict[str, Any] = {"LSTM": {"name": "lstm", "units": 4, "return_sequences": True}}
CONV: dict[str, Any] = {"Conv2D": {"name": "conv", "filters": 2, "kernel_size": 1}}
CONV1D: dict[str, Any] = {"Conv1D": {"name": "conv", "filters": 2, "kernel_size": 2}}
CONV_OF_A: dict[str, Any] = {"Conv2D": {**CONV["Conv2D"], "inputs": "a"}}
RESHAPED: dict[str, Any] = {"Reshape": {"target_shape": [2, 6, 5], "inputs": "b"}}
FIRST = {"data_format": "channels_first"}
LAST = {"data_format": "channels_last"}


def signal(*sizes: int) -> tuple[list[int], Axes]:
    return [*sizes], ["channels", "length"]


def on(shapes: Shapes, *layers: Any, **more: Any) -> dict[str, Any]:
    """A spec with inputs a, b, … of these shapes, with the meanings of their axes or without."""
    inputs: dict[str, Any] = {}
    for name, said in zip("abcd", shapes, strict=False):
        shape, meanings = said if isinstance(said, tuple) else (said, None)
        inputs[name] = {"shape": shape, **({} if meanings is None else {"axes": meanings})}
    return {"inputs": inputs, "layers": [*layers], **more}


def ab(kind: str, **fields: Any) -> dict[str, Any]:
    return {kind: {"inputs": ["a", "b"], **fields}}


def one(kind: str, **fields: Any) -> dict[str, Any]:
    return {kind: fields}


def lstm(x: Tensor) -> Callable[[Any], Tensor]:
    """What the model's LSTM gives for (batch, steps, features)."""
    return lambda model: model.lstm(x)[0]


def conv(x: Tensor) -> Callable[[Any], Tensor]:
    """What the model's convolution gives for an input with its channels first."""
    return lambda model: model.conv(x)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Of (batch, steps, heads, features), written out."""
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v)


TABLE = [[0.1 * row + column for column in range(4)] for row in range(3)]  # 3 x 4
HEADS = [[5, 2, 4]] * 3
IMAGE = ([5, 6, 3], ["channels", "height", "width"])
STEPS = ([6, 4], ["steps", "features"])
TURNED: dict[str, Any] = {"Reshape": {"target_shape": [4, 5], "inputs": "b"}}
CHANNELS_LATER = ([3, 4, 6, 7], ["channels", "depth", "height", "width"])

# What a spec means, and what is wanted of its inputs: a tensor, or a function of the model.
ROWS: dict[str, tuple[dict[str, Any], Callable[..., Any]]] = {
    # -- products ------------------------------------------------------------------------------------------------------
    "matmul": (on([[3, 6, 4], [3, 4, 5]], ab("Matmul")), lambda a, b: a @ b),
    "matmul of one size": (on([[4, 4, 4], [4, 4, 4]], ab("Matmul")), lambda a, b: a @ b),
    "matmul of signals": (on([signal(3, 9), signal(9, 5)], ab("Matmul")), lambda a, b: a @ b),
    "matmul of an image and numbers": (on([IMAGE], one("Matmul", x2=TABLE)), lambda a: a @ torch.tensor(TABLE)),
    "matmul, conv": (on([[3, 6, 4], [3, 4, 5]], ab("Matmul"), CONV), lambda a, b: conv(a @ b)),
    "attention": (on(HEADS, {"DotProductAttention": {"inputs": ["a", "b", "c"]}}), attention),
    "attention, lstm": (
        on(HEADS, {"DotProductAttention": {"inputs": ["a", "b", "c"]}}, one("Mean", axis=2), LSTM),
        lambda q, k, v: lstm(attention(q, k, v).mean(2)),
    ),
    "attention of what is reshaped": (
        on(
            [[40]],
            one("Reshape", target_shape=[5, 2, 4]),
            {"DotProductAttention": {"inputs": ["reshape", "reshape", "reshape"]}},
        ),
        lambda a: attention(*[a.view(-1, 5, 2, 4)] * 3),
    ),
    "attention where channels are first": (
        on(
            [[40]],
            one("Reshape", target_shape=[5, 2, 4]),
            {"DotProductAttention": {"inputs": ["reshape", "reshape", "reshape"]}},
            **FIRST,
        ),
        lambda a: attention(*[a.view(-1, 5, 2, 4)] * 3),
    ),
    "distances": (on([[3, 6, 4], [3, 5, 4]], ab("CDist")), torch.cdist),
    "distances, conv": (on([[3, 6, 4], [3, 5, 4]], ab("CDist"), CONV), lambda a, b: conv(torch.cdist(a, b))),
    "cross": (on([[3, 3, 3]] * 2, ab("Cross", axis=1)), lambda a, b: torch.linalg.cross(a, b, dim=1)),
    "cross along the height": (
        on([[5, 3, 7]] * 2, ab("Cross", axis=2)),
        lambda a, b: torch.linalg.cross(a, b, dim=2),
    ),
    "cross of channels": (on([[3, 6, 7]] * 2, ab("Cross")), lambda a, b: torch.linalg.cross(a, b, dim=1)),
    "dense by an equation": (
        on(
            [signal(3, 9)],
            one("EinsumDense", name="d", equation="bcl,cd->bdl", output_shape=[4, 9], activation="softmax"),
        ),
        lambda a: lambda model: torch.einsum("bcl,cd->bdl", a, model.d.weight).softmax(1),
    ),
    "dense by an equation that turns": (
        on(
            [signal(3, 9)],
            one(
                "EinsumDense",
                name="d",
                equation="bcl,cd->bld",
                output_shape=[9, 4],
                activation={"softmax": {"axis": 1}},
            ),
            LSTM,
        ),
        lambda a: lambda model: lstm(torch.einsum("bcl,cd->bld", a, model.d.weight).softmax(1))(model),
    ),
    "dense of channels in the middle": (
        on([[3, 6, 7]], one("EinsumDense", name="d", equation="bchw,cd->bhdw", output_shape=[6, 4, 7]), "Softmax"),
        lambda a: lambda model: torch.einsum("bchw,cd->bhdw", a, model.d.weight).softmax(2),
    ),
    "dot, softmax": (
        on([signal(3, 9), signal(5, 9)], ab("Dot", axes=2), "Softmax"),
        lambda a, b: torch.einsum("bcl,bdl->bcd", a, b).softmax(-1),
    ),
    "dot of an image and a vector, lstm": (
        on([[3, 6, 7], [7]], ab("Dot", axes=[3, 1]), LSTM),
        lambda a, b: lstm(torch.einsum("bchw,bw->bch", a, b).mT),
    ),
    "tensordot of channels, conv": (
        on([[3, 6, 7]], one("Tensordot", x2=TABLE, axes=[[1], [0]]), CONV),
        lambda a: lambda model: model.conv((a.movedim(1, -1) @ torch.tensor(TABLE)).movedim(-1, 1)).movedim(1, -1),
    ),
    "tensordot of the width, conv": (
        on([IMAGE], one("Tensordot", x2=TABLE, axes=1), CONV),
        lambda a: conv(a @ torch.tensor(TABLE)),
    ),
    "einsum that turns a signal, lstm": (
        on([signal(3, 9)], one("Einsum", subscripts="bcl->blc"), LSTM),
        lambda a: lstm(a.mT),
    ),
    "einsum without the width, lstm": (
        on([[3, 6, 7]], one("Einsum", subscripts="bchw->bch"), LSTM),
        lambda a: lstm(a.sum(-1).mT),
    ),
    "einsum with dots, conv": (
        on([[3, 6, 7]], one("Einsum", subscripts="b...w,wk->b...k", operands=[None, [[1.0, 2.0]] * 7]), CONV),
        lambda a: conv(a @ torch.tensor([[1.0, 2.0]] * 7)),
    ),
    "einsum of two signals, softmax": (
        on([signal(3, 9), signal(5, 9)], ab("Einsum", subscripts="bcl,bdl->bcd"), "Softmax"),
        lambda a, b: torch.einsum("bcl,bdl->bcd", a, b).softmax(-1),
    ),
    "scores by an equation, conv": (
        on([[6, 4], [5, 4]], ab("Einsum", subscripts="bqd,bkd->bqk"), CONV1D),
        lambda a, b: lambda model: model.conv(torch.einsum("bqd,bkd->bkq", a, b)).mT,
    ),
    # -- what counts by number takes an image and what nothing tells of, each as it stands -----------------------------
    "matmul of an image and what is reshaped": (
        on([[3, 5, 6], [60]], CONV_OF_A, RESHAPED, {"Matmul": {"inputs": ["conv", "reshape"]}}),
        lambda a, b: lambda model: model.conv(a) @ b.view(-1, 2, 6, 5),
    ),
    "matmul of what is reshaped and an image": (
        on([[3, 5, 6], [60]], CONV_OF_A, RESHAPED, {"Matmul": {"inputs": ["reshape", "conv"]}}),
        lambda a, b: lambda model: b.view(-1, 2, 6, 5) @ model.conv(a),
    ),
    "dot of an image and what is reshaped": (
        on([[3, 5, 6], [60]], CONV_OF_A, RESHAPED, {"Dot": {"axes": [3, 2], "inputs": ["conv", "reshape"]}}),
        lambda a, b: lambda model: torch.einsum("bchw,bdwe->bchde", model.conv(a), b.view(-1, 2, 6, 5)),
    ),
    "stack of an image and what is reshaped": (
        on([[3, 6, 5], [60]], CONV_OF_A, RESHAPED, {"Stack": {"axis": 1, "inputs": ["conv", "reshape"]}}),
        lambda a, b: lambda model: torch.stack([model.conv(a), b.view(-1, 2, 6, 5)], 1),
    ),
    # -- and says nothing of the axes that the other one tells ---------------------------------------------------------
    "matmul of a sequence and what is reshaped, conv": (
        on([STEPS, [20]], TURNED, {"Matmul": {"inputs": ["a", "reshape"]}}, CONV1D),
        lambda a, b: lambda model: model.conv((a @ b.view(-1, 4, 5)).mT).mT,
    ),
    "matmul of what is reshaped and a sequence, conv": (
        on(
            [STEPS, [30]],
            one("Reshape", target_shape=[5, 6], inputs="b"),
            ab("Matmul", inputs=["reshape", "a"]),
            CONV1D,
        ),
        lambda a, b: lambda model: model.conv((b.view(-1, 5, 6) @ a).mT).mT,
    ),
    "matmul of a signal and what is reshaped, lstm": (
        on([signal(6, 4), [20]], TURNED, {"Matmul": {"inputs": ["a", "reshape"]}}, LSTM),
        lambda a, b: lstm((a @ b.view(-1, 4, 5)).mT),
    ),
    # -- matrices, in the last two axes --------------------------------------------------------------------------------
    "determinants": (on([[3, 4, 4]], "Det"), torch.linalg.det),
    "inverses, conv": (on([[3, 4, 4]], "Inv", CONV), lambda a: conv(torch.linalg.inv(a))),
    "pseudo-inverses": (on([[3, 4, 5]], "Pinv"), torch.linalg.pinv),
    "factors": (on([[3, 4, 5]], {"Qr": {"name": "qr"}}, outputs=["qr.0", "qr.1"]), torch.linalg.qr),
    "singular values": (
        on([[3, 4, 5]], one("SVD", compute_uv=False), LSTM),
        lambda a: lstm(torch.linalg.svdvals(a).mT),
    ),
    "solutions": (on([[3, 4, 4], [3, 4, 5]], ab("Solve")), torch.linalg.solve),
    "transforms of two axes": (
        on([[3, 4, 5]] * 2, {"FFT2": {"name": "f", "inputs": ["a", "b"]}}, outputs=["f.0", "f.1"]),
        lambda a, b: torch.view_as_real(torch.fft.fft2(torch.complex(a, b))).unbind(-1),
    ),
    # -- axes that go --------------------------------------------------------------------------------------------------
    "mean": (on([[3, 5, 9]], one("Mean", axis=2), LSTM), lambda a: lstm(a.mean(2).mT)),
    "squeeze": (on([[5, 1, 9]], one("Squeeze", axis=2), LSTM), lambda a: lstm(a.squeeze(2).mT)),
    "squeeze of all": (on([[5, 1, 9]], "Squeeze", LSTM), lambda a: lstm(a.squeeze(2).mT)),
    "conv, squeeze": (
        on(
            [[5, 3, 9]], {"Conv2D": {"name": "conv", "filters": 6, "kernel_size": [3, 1]}}, one("Squeeze", axis=2), LSTM
        ),
        lambda a: lambda model: model.lstm(model.conv(a).squeeze(2).mT)[0],
    ),
    "get item": (
        on([[5, 3, 9]], one("GetItem", key=[":", ":", 0]), {"Dense": {"name": "d", "units": 4}}),
        lambda a: lambda model: model.d(a[:, :, 0].mT).mT,
    ),
    "get item of a row": (on([[5, 3, 9]], one("GetItem", key=["...", 2]), CONV1D), lambda a: conv(a[..., 2])),
    "take": (on([[3, 7, 5]], one("Take", axis=2, indices=0), LSTM), lambda a: lstm(a[:, :, 0].mT)),
    "take of several": (on([[3, 7, 5]], one("Take", axis=2, indices=[0, 3]), CONV), lambda a: conv(a[:, :, [0, 3]])),
    "unstack": (
        on(
            [[3, 2, 9]],
            {"Unstack": {"name": "u", "axis": 2}},
            {"Conv1D": {**CONV1D["Conv1D"], "inputs": "u.1"}},
            outputs=["u.0", "conv"],
        ),
        lambda a: lambda model: (a[:, :, 0], model.conv(a[:, :, 1])),
    ),
    "argmax": (
        on([[3, 5, 9]], one("Argmax", axis=2), one("Cast", dtype="float32"), CONV1D),
        lambda a: conv(a.argmax(2).float()),
    ),
    "integral along the width": (
        on([[3, 5, 9]], one("Trapezoid", axis=3), LSTM),
        lambda a: lstm(torch.trapezoid(a).mT),
    ),
    "integral along the channels": (
        on([[3, 5, 9]], "Trapezoid", LSTM),
        lambda a: lstm(torch.trapezoid(a, dim=1)),
    ),
    "diagonals": (on([[3, 5, 9]], one("Diagonal", axis1=2, axis2=3), LSTM), lambda a: lstm(a.diagonal(0, 2, 3).mT)),
    "traces": (
        on([CHANNELS_LATER], one("Trace", axis1=3, axis2=4), LSTM),
        lambda a: lstm(a.diagonal(0, 3, 4).sum(-1).mT),
    ),
    # -- axes that are added -------------------------------------------------------------------------------------------
    "get item with a new axis": (
        on([[3, 6, 7]], one("GetItem", key=[":", 0, ":", ":", None]), CONV, **FIRST),
        lambda a: conv(a[:, 0, :, :, None]),
    ),
    "a new axis of a signal": (on([signal(3, 9)], one("ExpandDims", axis=2), CONV), lambda a: conv(a.unsqueeze(2))),
    "a new axis after a signal": (
        on([signal(3, 9)], one("ExpandDims", axis=-1), CONV),
        lambda a: conv(a.unsqueeze(-1)),
    ),
    "a new axis of a sequence": (
        on([[6, 7]], one("ExpandDims", axis=1), CONV, **FIRST),
        lambda a: conv(a.unsqueeze(1)),
    ),
    "stacked images": (
        on(
            [[3, 6, 7]] * 2,
            ab("Stack", axis=1),
            {"TimeDistributed": {"layer": {"Conv2D": {"filters": 2, "kernel_size": 1}}, "name": "conv"}},
        ),
        lambda a, b: lambda model: torch.stack([model.conv(a), model.conv(b)], 1),
    ),
    "stacked sequences": (
        on([[6, 7]] * 2, ab("Stack", axis=1), CONV, **FIRST),
        lambda a, b: conv(torch.stack([a, b], 1)),
    ),
    # -- what an elementwise layer does not tell -----------------------------------------------------------------------
    "reshape, conv": (
        on([[24]], one("Reshape", target_shape=[4, 6]), CONV1D, **FIRST),
        lambda a: conv(a.view(-1, 4, 6)),
    ),
    "reshape, relu, conv": (
        on([[24]], one("Reshape", target_shape=[4, 6]), "ReLU", CONV1D, **FIRST),
        lambda a: conv(a.view(-1, 4, 6).relu()),
    ),
    "mean of channels, relu, conv": (
        on([[3, 6, 7]], one("Mean", axis=1), "ReLU", CONV1D, **FIRST),
        lambda a: conv(a.mean(1).relu()),
    ),
    "reshape, relu, softmax": (
        on([[24]], one("Reshape", target_shape=[4, 6]), "ReLU", "Softmax", **FIRST),
        lambda a: a.view(-1, 4, 6).relu().softmax(-1),
    ),
    "reshape, relu, flip, pooling": (
        on([[24]], one("Reshape", target_shape=[4, 6]), "ReLU", one("Flip", axis=2), "GlobalAveragePooling1D", **FIRST),
        lambda a: (
            a.view(-1, 4, 6).relu().flip(2).mean(1)
        ),  # a global pooling takes (steps, features), where nothing is said
    ),
    # -- a layer that has read the last axis as features ---------------------------------------------------------------
    "reshape, dense, pooling": (
        on([[24]], one("Reshape", target_shape=[6, 4]), {"Dense": {"name": "d", "units": 3}}, "GlobalAveragePooling1D"),
        lambda a: lambda model: model.d(a.view(-1, 6, 4)).mean(1),
    ),
    "reshape, softmax, pooling": (
        on([[24]], one("Reshape", target_shape=[6, 4]), "Softmax", "GlobalAveragePooling1D"),
        lambda a: a.view(-1, 6, 4).softmax(-1).mean(1),
    ),
    # -- axes said at the input of a spec with channels last -----------------------------------------------------------
    "said, mean": (
        on([([3, 6, 7], ["channels", "height", "width"])], one("Mean", axis=1), **LAST),
        lambda a: a.mean(1),
    ),
    "said, normalization": (
        on([([3, 6, 7], ["channels", "height", "width"])], one("LayerNormalization", axis=1), **LAST),
        lambda a: F.layer_norm(a.permute(0, 2, 3, 1), (3,), eps=1e-3),
    ),
    "said, softmax": (
        on([([3, 6, 7], ["channels", "height", "width"])], one("Softmax", axis=2), **LAST),
        lambda a: a.softmax(2).permute(0, 2, 3, 1),
    ),
    "said, concatenate": (
        on([([3, 6, 7], ["channels", "height", "width"])] * 2, ab("Concatenate", axis=1), **LAST),
        lambda a, b: torch.cat([a, b], 1).permute(0, 2, 3, 1),
    ),
    "said, dot": (
        on([([3, 6, 7], ["channels", "height", "width"]), [7]], ab("Dot", axes=[3, 1]), **LAST),
        lambda a, b: torch.einsum("bchw,bw->bch", a, b),
    ),
    "said, permute, softmax": (
        on([([3, 6, 7], ["channels", "height", "width"])], one("Permute", dims=[2, 1, 3]), "Softmax", **LAST),
        lambda a: a.softmax(1).permute(0, 2, 3, 1),
    ),
    "said, conv that says so too": (
        on(
            [([3, 6, 7], ["channels", "height", "width"])],
            {"Conv2D": {**CONV["Conv2D"], "data_format": "channels_first"}},
            **LAST,
        ),
        lambda a: lambda model: model.conv(a).permute(0, 2, 3, 1),
    ),
}


def check_by_hand(spec: dict[str, Any], by_hand: Callable[..., Any]) -> None:
    """That the model of a spec gives what is wanted of its inputs."""
    model = regspec.build(spec, seed=0).eval()
    inputs = [torch.randn(2, *declared["shape"]) for declared in spec["inputs"].values()]
    wanted = by_hand(*inputs)
    got = model(*inputs)
    wanted = wanted(model) if callable(wanted) else wanted
    if isinstance(got, Tensor):
        got, wanted = (got,), (wanted,)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ROWS)
def test_by_hand(name: str) -> None:
    check_by_hand(*ROWS[name])


@pytest.mark.parametrize(
    ("kind", "place"), [("OneHot", 1), ("OneHot", 2), ("OneHot", -1), ("MultiHot", 2), ("MultiHot", -1)]
)
def test_new_features_of_whole_numbers(kind: str, place: int) -> None:
    """Of a sequence of signals, whose channels the new axis is not."""
    spec = {"inputs": {"x": {"shape": [5, 6], "dtype": "int64"}}, "layers": [{kind: {"num_classes": 4, "axis": place}}]}
    x = torch.randint(0, 4, (2, 5, 6))
    hot = F.one_hot(x, 4).float().movedim(-1, place)
    wanted = hot if kind == "OneHot" else hot.amax(1)
    torch.testing.assert_close(regspec.build(spec)(x), wanted)
    if kind == "OneHot" and place == 1:
        model = regspec.build({**spec, "layers": [*spec["layers"], CONV], **FIRST})
        assert model.conv.in_channels == 4
        torch.testing.assert_close(model(x), model.conv(wanted))


def test_a_layout_that_is_said_stays() -> None:
    """At each layer, at the first one alone, or at the input."""
    last = {"data_format": "channels_last"}
    layers = [{"Conv2D": {"name": "one", "filters": 4, "kernel_size": 3}}, "ReLU", {"MaxPooling2D": {"pool_size": 2}}]
    layers += ["BatchNormalization", {"Conv2D": {"name": "other", "filters": 5, "kernel_size": 1}}, "UpSampling2D"]

    def says(layer: Any) -> Any:
        ((kind, fields),) = layer.items() if isinstance(layer, dict) else ((layer, {}),)
        return {kind: {**fields, **last}} if kind in ("Conv2D", "MaxPooling2D", "UpSampling2D") else layer

    image, said = {"shape": [6, 7, 3]}, ["height", "width", "channels"]
    specs = [
        {"inputs": {"x": image}, "layers": [*map(says, layers)]},
        {"inputs": {"x": image}, "layers": [says(layers[0]), *layers[1:]]},
        {"inputs": {"x": {**image, "axes": said}}, "layers": layers},
        {"inputs": {"x": {**image, "axes": said}}, "layers": [*map(says, layers)]},
    ]
    x = torch.randn(2, 6, 7, 3)
    for spec in specs:
        model = regspec.build(spec, seed=0).eval()
        pooled = F.max_pool2d(model.one(x.movedim(-1, 1)).relu(), 2) / (1 + 1e-3) ** 0.5
        wanted = F.interpolate(model.other(pooled), scale_factor=2)
        torch.testing.assert_close(model(x), wanted.movedim(1, -1), rtol=1e-4, atol=1e-5)
        assert regspec.source(spec).count("permute") == 2  # at the beginning and at the end
