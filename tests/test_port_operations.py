"""Operations in a Functional model, ported: outputs and gradients against Keras's torch backend."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops
from torch import Tensor

import regspec

from .ported import agrees

pytestmark = pytest.mark.filterwarnings("ignore")  # of Keras, when it saves

W = np.array([[0.5, -1.0], [2.0, 1.0], [0.0, 3.0], [1.5, -2.0], [1.0, 0.25]], "float32")
M = np.arange(24, dtype="float32").reshape(6, 4) / 10 - 1.05
KERNEL = np.random.default_rng(2).normal(size=(3, 2, 3, 4)).astype("float32")
LARGE = np.random.default_rng(1).normal(size=(8, 6, 3)).astype("float32")
V = np.array([1.0, -2.0, 0.5, 3.0, 0.25], "float32")

# What is done to x (7, 5), y (7, 5), n (7) of int32, and an image (8, 6, 3).
CASES: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    # operators with tensors and numbers on either side
    "x + y": lambda x, y, n, i: x + y,
    "x + 1": lambda x, y, n, i: x + 1,
    "1.5 + x": lambda x, y, n, i: 1.5 + x,
    "x - 1": lambda x, y, n, i: x - 1,
    "1 - x": lambda x, y, n, i: 1 - x,
    "x * 2": lambda x, y, n, i: x * 2.0,
    "x / 3": lambda x, y, n, i: x / 3,
    "1 / (x * x + 1)": lambda x, y, n, i: 1 / (x * x + 1),
    "x ** 2": lambda x, y, n, i: x**2,
    "2 ** x": lambda x, y, n, i: 2**x,
    "-x": lambda x, y, n, i: -x,
    "abs(x)": lambda x, y, n, i: abs(x),
    "x % 2": lambda x, y, n, i: x % 2,
    "x > y": lambda x, y, n, i: ops.cast(x > y, "float32"),
    "0.5 > x": lambda x, y, n, i: ops.cast(ops.greater(0.5, x), "float32"),
    "~(x > 0) & (y < 1)": lambda x, y, n, i: ~(x > 0) & (y < 1),
    "x @ y.T": lambda x, y, n, i: x @ ops.transpose(y, (0, 2, 1)),
    "round(x, 1)": lambda x, y, n, i: round(x, 1),
    "n // 2": lambda x, y, n, i: n // 2,
    "n % 3": lambda x, y, n, i: n % 3,
    "n / 2": lambda x, y, n, i: n / 2,
    "n * 1.5": lambda x, y, n, i: n * 1.5,
    "n ** 2": lambda x, y, n, i: n**2,
    "10 // (n + 1)": lambda x, y, n, i: 10 // (n + 1),
    "a chain of all": lambda x, y, n, i: (-(((x - 1) * 2 + y / 3) ** 2)) % 5,
    # arrays
    "x + array": lambda x, y, n, i: x + V,
    "x * array of a matrix": lambda x, y, n, i: x * V[None, None],
    "array - x": lambda x, y, n, i: ops.subtract(V, x),
    "array * x by list": lambda x, y, n, i: ops.multiply(ops.convert_to_tensor([1.0, 2.0, 3.0, 4.0, 5.0]), x),
    "arange + x": lambda x, y, n, i: ops.arange(5, dtype="float32") + x,
    "maximum of an array": lambda x, y, n, i: ops.maximum(x, V),
    "maximum of a number": lambda x, y, n, i: ops.maximum(0.1, x),
    "a large array": lambda x, y, n, i: i * LARGE + LARGE[0],
    "a large array among convolutions": lambda x, y, n, i: layers.Conv2D(2, 1)(layers.Conv2D(3, 1)(i) * LARGE),
    "a large matrix": lambda x, y, n, i: ops.matmul(x, LARGE.reshape(24, 6)[:5] @ LARGE.reshape(6, 24)),
    "einsum of a large matrix": lambda x, y, n, i: ops.einsum("bijc,ijc->bi", i, LARGE),
    "tensordot of a large matrix": lambda x, y, n, i: ops.tensordot(i, LARGE, axes=[[1, 2, 3], [0, 1, 2]]),
    "a mask of infinities": lambda x, y, n, i: ops.softmax(x + np.triu(np.full((7, 5), -np.inf, "float32"), 1)),
    "infinity": lambda x, y, n, i: ops.softmax(ops.where(y > 1, -np.inf, x)),
    "maximum of infinity": lambda x, y, n, i: ops.maximum(x, -np.inf),
    "where of an array": lambda x, y, n, i: ops.where(x > 0, x, V),
    "matmul by an array": lambda x, y, n, i: ops.matmul(x, W),
    "matmul of an array": lambda x, y, n, i: ops.matmul(W.T @ np.ones((5, 7), "float32"), x),
    "dot of an array": lambda x, y, n, i: ops.dot(x, W),
    "dot of a vector": lambda x, y, n, i: ops.dot(x, V),
    "tensordot": lambda x, y, n, i: ops.tensordot(x, W, axes=[[2], [0]]),
    "einsum of an array": lambda x, y, n, i: ops.einsum("bij,jk->bik", x, W),
    "einsum": lambda x, y, n, i: ops.einsum("bij,bkj->bik", x, y),
    "average by weights": lambda x, y, n, i: ops.average(x, axis=2, weights=np.abs(V)),
    "average": lambda x, y, n, i: ops.average(x, axis=1),
    # functions by keyword
    "subtract by name": lambda x, y, n, i: ops.subtract(x2=x, x1=y),
    "where by name": lambda x, y, n, i: ops.where(x > 0, x1=0.0, x2=y),
    "select": lambda x, y, n, i: ops.select([x > 1, x > 0], [x, y], -1.0),
    "select of numbers": lambda x, y, n, i: ops.select([x > 1, x > 0], [x, y * 2], 0.5),
    "clip": lambda x, y, n, i: ops.clip(x, -0.5, 0.5),
    "saturate_cast": lambda x, y, n, i: ops.saturate_cast(x * 200, "uint8"),
    "logical_xor": lambda x, y, n, i: ops.logical_xor(x > 0, y > 0),
    "isclose": lambda x, y, n, i: ops.isclose(x, y, rtol=0.5, atol=0.5),
    # activation functions
    "relu": lambda x, y, n, i: ops.relu(x),
    "leaky_relu": lambda x, y, n, i: ops.leaky_relu(x, negative_slope=0.3),
    "elu": lambda x, y, n, i: ops.elu(x, alpha=0.5),
    "gelu": lambda x, y, n, i: ops.gelu(x),
    "gelu exact": lambda x, y, n, i: ops.gelu(x, approximate=False),
    "hard_shrink": lambda x, y, n, i: ops.hard_shrink(x, threshold=0.2),
    "threshold": lambda x, y, n, i: ops.threshold(x, 0.2, -1.0),
    "squareplus": lambda x, y, n, i: ops.squareplus(x, b=2),
    "glu": lambda x, y, n, i: ops.glu(ops.concatenate([x, y], axis=2)),
    "softmax": lambda x, y, n, i: ops.softmax(x),
    "softmax along 1": lambda x, y, n, i: ops.softmax(x, axis=1),
    "log_softmax": lambda x, y, n, i: ops.log_softmax(x, axis=-2),
    "sparsemax": lambda x, y, n, i: ops.sparsemax(x, axis=-1),
    # reductions
    "mean": lambda x, y, n, i: ops.mean(x, axis=1),
    "x - mean": lambda x, y, n, i: x - ops.mean(x, axis=-1, keepdims=True),
    "sum of all axes": lambda x, y, n, i: ops.sum(i, axis=(1, 2, 3)),
    "sum of truth": lambda x, y, n, i: ops.sum(x > 0, axis=1),
    "sum of integers": lambda x, y, n, i: ops.sum(n, axis=1),
    "amax": lambda x, y, n, i: ops.amax(x, axis=(1, 2)),
    "min with an initial": lambda x, y, n, i: ops.min(x, axis=1, initial=-0.3),
    "prod of a type": lambda x, y, n, i: ops.prod(n, axis=1, dtype="float32"),
    "std": lambda x, y, n, i: ops.std(x, axis=1),
    "median": lambda x, y, n, i: ops.median(x, axis=2),
    "percentile": lambda x, y, n, i: ops.percentile(x, 30, axis=2) if hasattr(ops, "percentile") else x,
    "logsumexp": lambda x, y, n, i: ops.logsumexp(x, axis=1),
    "norm": lambda x, y, n, i: ops.norm(x, axis=-1),
    "norm of order inf": lambda x, y, n, i: ops.norm(x, ord=np.inf, axis=-1),
    "normalize": lambda x, y, n, i: ops.normalize(x, axis=-1),
    "argmax": lambda x, y, n, i: ops.argmax(x, axis=-1),
    "moments": lambda x, y, n, i: list(ops.moments(x, axes=[1])),
    "standardized": lambda x, y, n, i: (
        (x - ops.moments(x, axes=[1], keepdims=True)[0]) / ops.sqrt(ops.moments(x, axes=[1], keepdims=True)[1] + 1e-3)
    ),
    "cumsum of a type": lambda x, y, n, i: ops.cumsum(n, axis=1, dtype="float32"),
    "layer_normalization": lambda x, y, n, i: ops.layer_normalization(x, epsilon=1e-3),
    "layer_normalization by arrays": lambda x, y, n, i: ops.layer_normalization(x, gamma=V, beta=V + 1),
    "rms_normalization": lambda x, y, n, i: ops.rms_normalization(x, scale=V, epsilon=1e-3),
    "batch_normalization": lambda x, y, n, i: ops.batch_normalization(x, V, np.abs(V), axis=-1, offset=V, scale=V * 2),
    "count_nonzero": lambda x, y, n, i: ops.count_nonzero(n, axis=1),
    "nanmax": lambda x, y, n, i: ops.nanmax(x, axis=1),
    "nanmin": lambda x, y, n, i: ops.nanmin(x, axis=[1, 2], keepdims=True),
    "nanstd": lambda x, y, n, i: ops.nanstd(x, axis=[1, 2], keepdims=True),
    "nanvar": lambda x, y, n, i: ops.nanvar(x, axis=1),
    "nanprod": lambda x, y, n, i: ops.nanprod(x, axis=1),
    "nancumsum": lambda x, y, n, i: ops.nancumsum(x, axis=1),
    "nanpercentile": lambda x, y, n, i: ops.nanpercentile(x, 30, axis=1),
    "rfft": lambda x, y, n, i: ops.rfft(x)[0] ** 2 + ops.rfft(x)[1] ** 2,
    "stft": lambda x, y, n, i: list(ops.stft(ops.reshape(x, (-1, 35)), 8, 4, 8, window=None)),
    # axes and parts
    "x[:, 1:, ::2]": lambda x, y, n, i: x[:, 1:, ::2],
    "x[:, -1]": lambda x, y, n, i: x[:, -1],
    "x[..., None]": lambda x, y, n, i: x[..., None],
    "x[:, None, 2:-1, 0]": lambda x, y, n, i: x[:, None, 2:-1, 0],
    "take": lambda x, y, n, i: ops.take(x, [0, 2, -1], axis=1),
    "take rows of a table": lambda x, y, n, i: ops.take(LARGE[0], n, axis=0),
    "take one": lambda x, y, n, i: ops.take(x, 2, axis=-1),
    "take_along_axis": lambda x, y, n, i: ops.take_along_axis(x, ops.argsort(y, axis=1), axis=1),
    "reshape": lambda x, y, n, i: ops.reshape(x, (-1, 5, 7)),
    "reshape to a vector": lambda x, y, n, i: ops.reshape(x, [-1, 35]),
    "expand and squeeze": lambda x, y, n, i: ops.squeeze(ops.expand_dims(x, 1) * 2, axis=1),
    "squeeze": lambda x, y, n, i: ops.squeeze(x[:, :1]),
    "swapaxes": lambda x, y, n, i: ops.swapaxes(x, 1, -1),
    "moveaxis": lambda x, y, n, i: ops.moveaxis(i, -1, 1),
    "transpose": lambda x, y, n, i: ops.transpose(i, (0, 3, 1, 2)),
    "flip and roll": lambda x, y, n, i: ops.roll(ops.flip(x, axis=1), 2, axis=2),
    "repeat": lambda x, y, n, i: ops.repeat(x, 3, axis=1),
    "tile": lambda x, y, n, i: ops.tile(x, (1, 2, 1)),
    "pad": lambda x, y, n, i: ops.pad(x, [[0, 0], [1, 2], [0, 1]], constant_values=2),
    "pad by mirroring": lambda x, y, n, i: ops.pad(i, [[0, 0], [1, 2], [2, 0], [0, 0]], mode="reflect"),
    "concatenate": lambda x, y, n, i: ops.concatenate([x, y, x * 2], axis=1),
    "append": lambda x, y, n, i: ops.append(x, y, axis=-1),
    "hstack": lambda x, y, n, i: ops.hstack([x, y]),
    "stack": lambda x, y, n, i: ops.stack([x, y], axis=-1),
    "split": lambda x, y, n, i: ops.split(x, 7, axis=1),
    "one part of a split": lambda x, y, n, i: ops.split(x, [2, 4], axis=1)[1],
    "hsplit": lambda x, y, n, i: ops.hsplit(x, 7)[2] if hasattr(ops, "hsplit") else x,
    "unstack": lambda x, y, n, i: ops.unstack(x, axis=2)[3] - ops.unstack(y, axis=2)[0],
    "top_k": lambda x, y, n, i: list(ops.top_k(x, 3)),
    "values of top_k": lambda x, y, n, i: ops.top_k(x, 2)[0],
    "places of top_k": lambda x, y, n, i: ops.top_k(x, 2)[1],
    "sort": lambda x, y, n, i: ops.sort(x, axis=1),
    "one_hot": lambda x, y, n, i: ops.one_hot(n, 6),
    "one_hot of a type": lambda x, y, n, i: ops.one_hot(n, 6, axis=1, dtype="int32"),
    "multi_hot": lambda x, y, n, i: ops.multi_hot(n, 6),
    "diagonal": lambda x, y, n, i: ops.diagonal(x, axis1=1, axis2=2),
    "tril": lambda x, y, n, i: ops.tril(x, k=1),
    "digitize": lambda x, y, n, i: ops.digitize(x, np.array([-1.0, 0.0, 1.0])),
    # images and others
    "resize": lambda x, y, n, i: ops.image.resize(i, (5, 9)),
    "resize by name": lambda x, y, n, i: ops.image.resize(
        i, (5, 9), interpolation="nearest", data_format="channels_last"
    ),
    "rgb_to_grayscale": lambda x, y, n, i: ops.image.rgb_to_grayscale(i),
    "extract_patches": lambda x, y, n, i: ops.image.extract_patches(i, (2, 3)),
    "pad_images": lambda x, y, n, i: ops.image.pad_images(
        i, top_padding=1, left_padding=2, target_height=10, target_width=9
    ),
    "crop_images": lambda x, y, n, i: ops.image.crop_images(i, 1, 2, target_height=4, target_width=3),
    "max_pool": lambda x, y, n, i: ops.max_pool(i, 2, strides=1, padding="same"),
    "average_pool": lambda x, y, n, i: ops.average_pool(x, 2),
    "adaptive_average_pool": lambda x, y, n, i: ops.adaptive_average_pool(i, (2, 3)),
    "conv": lambda x, y, n, i: ops.conv(i, KERNEL, strides=2, padding="same"),
    "conv of a sequence": lambda x, y, n, i: ops.conv(x, KERNEL[0, :2, :1].repeat(5, 1), dilation_rate=2),
    "depthwise_conv": lambda x, y, n, i: ops.depthwise_conv(i, KERNEL, padding="same"),
    "separable_conv": lambda x, y, n, i: ops.separable_conv(i, KERNEL, LARGE.reshape(1, 1, 12, 12)[..., :5]),
    "dot_product_attention": lambda x, y, n, i: ops.dot_product_attention(x[:, :, None], y[:, :, None], y[:, :, None]),
    "dot_product_attention by a mask": lambda x, y, n, i: ops.dot_product_attention(
        x[:, :, None], y[:, :, None], y[:, :, None], mask=(x @ ops.transpose(y, (0, 2, 1)) > 0)[:, None]
    ),
    "identities": lambda x, y, n, i: ops.convert_to_tensor(ops.copy(x)) + ops.stop_gradient(y),
    "convert to a type": lambda x, y, n, i: ops.cast(n, "float32") * 0.5,
    "zeros_like": lambda x, y, n, i: x + ops.ones_like(x) * 2 + ops.zeros_like(x),
    "full_like": lambda x, y, n, i: ops.full_like(x, 1.5) * x,
    # among layers
    "squeeze and excite": lambda x, y, n, i: (
        i * layers.Dense(3, activation="sigmoid")(ops.mean(layers.Conv2D(4, 3)(i), axis=[1, 2], keepdims=True))
    ),
    "layers between": lambda x, y, n, i: layers.Dense(3)(ops.tanh(layers.Dense(4)(x) * 2)[:, ::2]),
    "convolutions between": lambda x, y, n, i: layers.Conv2D(2, 3)(
        ops.clip(layers.Conv2D(4, 3, padding="same")(i), -0.1, 0.1) - V[:4]
    ),
    "convolutions and a matrix": lambda x, y, n, i: layers.Conv2D(2, 3)(
        ops.hypot(layers.Conv2D(4, 3, padding="same")(i) * M, M) + ops.where(layers.Conv2D(4, 1)(i) > 0, M, 0.5)
    ),
    "rescaled": lambda x, y, n, i: layers.Conv2D(2, 3)(i / 127.5 - 1),
    "a shared operation": lambda x, y, n, i: sum((layer := layers.Dense(2))(each * 2) for each in (x, y)) * layer(x),
}


def model_of(case: Callable[[Any, Any, Any, Any], Any], data_format: str = "channels_last") -> tuple[Any, list[Tensor]]:
    """The model of a case, with the inputs that it takes, and values for them."""
    shapes: list[tuple[int, ...]] = [(7, 5), (7, 5), (7,), (8, 6, 3)]
    if data_format == "channels_first":
        shapes[3] = (3, 8, 6)
    symbolic = [keras.Input(shape, dtype="int32" if len(shape) == 1 else "float32") for shape in shapes]
    torch.manual_seed(0)
    values = [torch.randint(0, 6, (3, *shape)).int() if len(shape) == 1 else torch.randn(3, *shape) for shape in shapes]
    outputs = case(*symbolic)
    flat = outputs if isinstance(outputs, list) else [outputs]
    used = _inputs_of(flat)
    kept = [index for index, each in enumerate(symbolic) if id(each) in used]
    return keras.Model([symbolic[index] for index in kept], outputs), [values[index] for index in kept]


def _inputs_of(outputs: list[Any]) -> set[int]:
    """The ids of the tensors that outputs are made of."""
    found, waiting = set(), [*outputs]
    while waiting:
        tensor = waiting.pop()
        if id(tensor) not in found:
            found.add(id(tensor))
            operation, node, _ = tensor._keras_history
            waiting += operation._inbound_nodes[node].input_tensors
    return found


@pytest.mark.parametrize("name", CASES)
def test_cases(name: str, tmp_path: Path) -> None:
    model, values = model_of(CASES[name])
    model.save(tmp_path / "model.keras")
    agrees(model, tmp_path / "model.keras", inputs=values)


def ported(model: Any, tmp_path: Path) -> Any:
    model.save(tmp_path / "model.keras")
    return regspec.port(tmp_path / "model.keras").build()


# What Keras's torch backend can't compute.
BY_HAND: dict[str, tuple[Callable[[Any], Any], Callable[[Tensor], Tensor]]] = {
    "conv_transpose": (
        lambda i: ops.conv_transpose(i, KERNEL.swapaxes(2, 3), strides=2),
        lambda i: torch.nn.functional.conv_transpose2d(
            i.permute(0, 3, 1, 2), torch.tensor(KERNEL).permute(2, 3, 0, 1), stride=2
        ).permute(0, 2, 3, 1),
    ),
    "softmax": (lambda i: ops.softmax(i, axis=(1, 2)), lambda i: i.flatten(1, 2).softmax(1).reshape(i.shape)),
    "log_softmax": (
        lambda i: ops.log_softmax(i, axis=[1, 3]),
        lambda i: i - i.exp().sum((1, 3), keepdim=True).log(),
    ),
    "layer_normalization": (
        lambda i: ops.layer_normalization(i, axis=[1, 2], epsilon=1e-3),
        lambda i: (i - i.mean((1, 2), keepdim=True)) / (i.var((1, 2), keepdim=True, correction=0) + 1e-3).sqrt(),
    ),
    "i[:, ::-1]": (lambda i: i[:, ::-1], lambda i: i.flip(1)),
    "i[..., 2:0:-1, :]": (lambda i: i[..., 4:0:-2, :], lambda i: i[..., [4, 2], :]),
    "repeat": (lambda i: ops.repeat(i, [1, 0, 2], axis=-1), lambda i: i[..., [0, 2, 2]]),
    "pad": (
        lambda i: ops.pad(i, [[0, 0], [2, 0], [0, 1], [0, 0]], mode="symmetric"),
        lambda i: i[:, [1, 0, *range(8)]][:, :, [*range(6), 5]],
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name: str, tmp_path: Path) -> None:
    case, by_hand = BY_HAND[name]
    x, i = keras.Input((8, 6, 3)), torch.randn(3, 8, 6, 3)
    torch.testing.assert_close(ported(keras.Model(x, case(x)), tmp_path)(i), by_hand(i), rtol=1e-4, atol=1e-5)


NAN = ("max", "min", "std", "var", "prod", "sum", "mean", "median", "cumsum", "cumprod")


@pytest.mark.parametrize("name", [f"nan{name}" for name in NAN])
def test_what_is_no_number_is_left_out(name: str, tmp_path: Path) -> None:
    x, values = keras.Input((7, 5)), torch.randn(3, 7, 5)
    values[values > 1] = torch.nan
    got = ported(keras.Model(x, getattr(ops, name)(x, axis=1)), tmp_path)(values)
    np.testing.assert_allclose(got.numpy(), getattr(np, name)(values.numpy(), axis=1), rtol=1e-4, atol=1e-5)


def test_large_arrays_go_to_the_weights(tmp_path: Path) -> None:
    """Of models inside too; they are saved with them."""
    x = keras.Input((8, 6, 3))
    inner = keras.Sequential([keras.Input((8, 6, 3)), layers.Dense(3)], name="inner")
    y = keras.Input((8, 6, 3))
    scaled = keras.Model(y, inner(y) * LARGE, name="scaled")
    keras.Model(x, scaled(x) + scaled(x - LARGE)).save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    arrays = {name for name, array in port.weights.items() if array.shape == LARGE.shape}
    assert len(arrays) == 2
    assert sum(name.startswith("scaled.") for name in arrays) == 1
    assert len(port.text) < 1000
    port.save(tmp_path / "ported")
    from safetensors.numpy import load_file

    assert load_file(tmp_path / "ported" / "weights.safetensors").keys() == port.weights.keys()


def test_channels_first(tmp_path: Path) -> None:
    x = keras.Input((3, 8, 6))
    y = layers.Conv2D(4, 3, data_format="channels_first")(x)
    y = ops.max_pool(y - ops.mean(y, axis=(2, 3), keepdims=True), 2, data_format="channels_first")
    y = ops.image.resize(y * 2, (5, 7), data_format="channels_first")
    model = keras.Model(
        x, [ops.concatenate([y, -y], axis=1), ops.image.rgb_to_grayscale(x, data_format="channels_first")]
    )
    model.save(tmp_path / "model.keras")
    agrees(model, tmp_path / "model.keras", inputs=[torch.randn(3, 3, 8, 6)])


def test_sizes_that_vary(tmp_path: Path) -> None:
    """Operations on sequences of any length."""
    x = keras.Input((None, 5))
    y = ops.concatenate([x[:, 1:], x[:, :-1]], axis=-1) - ops.mean(x, axis=1, keepdims=True)[:, :, :1]
    y = ops.flip(ops.cumsum(y, axis=1), axis=1)
    y = ops.matmul(ops.softmax(ops.matmul(y, ops.swapaxes(y, 1, 2)), axis=-1), y)
    model = keras.Model(x, [ops.max(y, axis=1), ops.pad(y, [[0, 0], [2, 1], [0, 0]])])
    model.save(tmp_path / "model.keras")
    for length in (4, 9):
        agrees(model, tmp_path / "model.keras", inputs=[torch.randn(3, length, 5)])


@pytest.mark.parametrize("suffix", [".h5", ".json"])
def test_other_files(suffix: str, tmp_path: Path) -> None:
    """Which do not say of an operation that it is one."""
    x, n = keras.Input((7, 5)), keras.Input((7,), dtype="int32")
    y = ops.where(
        x[:, ::2] > 0, ops.expand_dims(ops.cast(n, "float32"), -1)[:, ::2], 1 - ops.mean(x, axis=1, keepdims=True)
    )
    model = keras.Model([x, n], layers.Dense(3)(ops.concatenate([y, ops.softmax(y, axis=1)], axis=1) + V))
    path = tmp_path / f"model{suffix}"
    if suffix == ".json":
        path.write_text(model.to_json())
        model.save_weights(tmp_path / "model.weights.h5")
        port = regspec.port(path, weights=tmp_path / "model.weights.h5")
    else:
        model.save(path)
        port = regspec.port(path)
    values = [torch.randn(3, 7, 5), torch.randint(0, 9, (3, 7)).int()]
    torch.testing.assert_close(port.build()(*values), model(values), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "axes", [{}, {"axis": 1}, {"axisa": 2, "axisb": -1, "axisc": 2}, {"axisa": 1, "axisb": -2, "axisc": 1}]
)
def test_cross(axes: dict[str, int], tmp_path: Path) -> None:
    """By numpy: Keras on torch refuses axes, and takes the first axis of three numbers where none is said."""
    x, y = keras.Input((3, 3)), keras.Input((3, 3))
    keras.Model([x, y], ops.cross(x, y, **axes)).save(tmp_path / "model.keras")
    a, b = torch.randn(3, 3, 3), torch.randn(3, 3, 3)
    expected = np.cross(a.numpy(), b.numpy(), **axes)
    np.testing.assert_allclose(regspec.port(tmp_path / "model.keras").build()(a, b).numpy(), expected, atol=1e-6)
