"""Files that Theano trained: kernels that are turned, and a padding that begins elsewhere, by the formula of each."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import regspec

from .commands import command

SIZES = {1: (7,), 2: (6, 7), 3: (5, 6, 4)}


def by_theano(
    x: np.ndarray, kernel: np.ndarray, strides: list[int], dilation: list[int], *, is_same: bool
) -> np.ndarray:
    """A convolution as Theano defines it, of (batch, …, inputs) by (…, inputs, outputs): in loops.

    ``border_mode="half"`` puts half a window of zeros at both sides; Keras cuts off what is above ceil(size / stride).
    https://theano-pymc.readthedocs.io/en/latest/library/tensor/nnet/conv.html
    """
    rank = kernel.ndim - 2
    spans = [(size - 1) * rate + 1 for size, rate in zip(kernel.shape, dilation, strict=False)]
    halves = [span // 2 if is_same else 0 for span in spans]
    padded = np.pad(x, [(0, 0), *((half, half) for half in halves), (0, 0)])
    counts = [(n - span) // step + 1 for n, span, step in zip(padded.shape[1:], spans, strides, strict=False)]
    if is_same:
        wanted = [-(-n // step) for n, step in zip(x.shape[1:], strides, strict=False)]
        evens = [size % 2 == 0 for size in kernel.shape[:rank]]
        counts = [min(n, most) if even else n for n, most, even in zip(counts, wanted, evens, strict=True)]
    turned = np.flip(kernel, tuple(range(rank)))
    out = np.zeros((len(x), *counts, kernel.shape[-1]))
    for place in itertools.product(*map(range, counts)):
        for cell in itertools.product(*map(range, kernel.shape[:rank])):
            at = [i * step + j * rate for i, step, j, rate in zip(place, strides, cell, dilation, strict=True)]
            out[(slice(None), *place)] += padded[(slice(None), *at)] @ turned[cell]
    return out


def keras_2(class_name: str, config: dict[str, Any], shape: tuple[int, ...], version: str = "2.2.4") -> dict[str, Any]:
    own = {"name": "layer", "trainable": True, "batch_input_shape": [None, *shape], "dtype": "float32", **config}
    return {
        "class_name": "Sequential",
        "keras_version": version,
        "backend": "theano",
        "config": {"name": "m", "layers": [{"class_name": class_name, "config": own}]},
    }


def written(path: Path, config: dict[str, Any], *arrays: np.ndarray) -> Path:
    """An HDF5 file of Keras 2."""
    names = [b"layer/kernel:0", b"layer/recurrent_kernel:0", b"layer/bias:0"]
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = config["keras_version"]
        if "backend" in config:
            file.attrs["backend"] = config["backend"]
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [b"layer"]
        group = root.create_group("layer")
        group.attrs["weight_names"] = names[: len(arrays)]
        for name, array in zip(names, arrays, strict=False):
            group[name.decode()] = array
    return path


WINDOWS = [(3, 1, 1), (4, 1, 1), (2, 1, 1), (3, 2, 1), (4, 2, 1), (5, 3, 1), (2, 3, 1), (4, 1, 2), (3, 1, 2)]
CASES = [
    (rank, size, stride, rate, padding)
    for rank in (1, 2, 3)
    for size, stride, rate in WINDOWS
    for padding in ("same", "valid")
    if rank < 3 or (size < 5 and rate == 1)
    if padding == "same" or (size - 1) * rate < SIZES[rank][0]  # else no window fits
]  # fmt: skip


@pytest.mark.parametrize(("rank", "size", "stride", "rate", "padding"), CASES)
def test_convolutions(rank: int, size: int, stride: int, rate: int, padding: str, tmp_path: Path) -> None:
    """Of Keras 2, whose files say that Theano trained them; as it is, and with channels first."""
    rng = np.random.default_rng(0)
    sizes, shape = [size, *[max(size - 1, 1)] * (rank - 1)], (*SIZES[rank], 3)
    kernel = rng.standard_normal((*sizes, 3, 4)).astype("float32")
    said = {"filters": 4, "kernel_size": sizes, "strides": [stride] * rank, "dilation_rate": [rate] * rank}
    config = keras_2(f"Conv{rank}D", {**said, "padding": padding, "use_bias": False}, shape)
    path = written(tmp_path / "model.h5", config, kernel)
    x = rng.standard_normal((2, *shape)).astype("float32")
    wanted = torch.as_tensor(by_theano(x, kernel, [stride] * rank, [rate] * rank, is_same=padding == "same")).float()
    port = regspec.port(path)
    torch.testing.assert_close(port.build()(torch.as_tensor(x)), wanted, rtol=1e-4, atol=1e-4)
    if rank == 2:
        first = regspec.port(path, data_format="channels_first")
        given = torch.as_tensor(x).permute(0, 3, 1, 2)
        torch.testing.assert_close(first.build()(given).permute(0, 2, 3, 1), wanted, rtol=1e-4, atol=1e-4)


def test_a_layer_that_is_called_twice(tmp_path: Path) -> None:
    """Each call has its zeros."""
    config = keras_2("Conv1D", {"filters": 2, "kernel_size": [2], "padding": "same", "use_bias": False}, (5, 3))
    layer = config["config"]["layers"][0]
    del layer["config"]["batch_input_shape"]
    inputs = [
        {"class_name": "InputLayer", "name": name, "inbound_nodes": [], "config": {"name": name, **more}}
        for name in ("a", "b")
        for more in [{"batch_input_shape": [None, 5, 3], "dtype": "float32", "sparse": False}]
    ]
    graph = [*inputs, {**layer, "name": "layer", "inbound_nodes": [[["a", 0, 0, {}]], [["b", 0, 0, {}]]]}]
    config["class_name"] = "Model"
    config["config"] = {
        "name": "m",
        "layers": graph,
        "input_layers": [["a", 0, 0], ["b", 0, 0]],
        "output_layers": [["layer", 0, 0], ["layer", 1, 0]],
    }
    kernel = np.random.default_rng(0).standard_normal((2, 3, 2)).astype("float32")
    path = written(tmp_path / "model.h5", config, kernel)
    with h5py.File(path, "r+") as file:
        root = file["model_weights"]
        root.attrs["layer_names"] = [b"a", b"b", b"layer"]
        for name in "ab":
            root.create_group(name).attrs["weight_names"] = np.zeros(0, "S1")
    given = [torch.randn(4, 5, 3) for _ in range(2)]
    for out, x in zip(regspec.port(path).build()(*given), given, strict=True):
        wanted = by_theano(x.numpy(), kernel, [1], [1], is_same=True)
        torch.testing.assert_close(out, torch.as_tensor(wanted).float(), rtol=1e-4, atol=1e-5)


def test_a_recurrent_convolution_has_both_kernels_turned(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kernels = [rng.standard_normal(shape).astype("float32") for shape in ((3, 3, 2, 8), (3, 3, 2, 8))]
    config = {"filters": 2, "kernel_size": [3, 3], "padding": "same", "use_bias": False}
    theano = keras_2("ConvLSTM2D", config, (3, 5, 6, 2))
    tensorflow = {**theano, "backend": "tensorflow"}
    one = regspec.port(written(tmp_path / "theano.h5", theano, *kernels))
    turned = [np.ascontiguousarray(kernel[::-1, ::-1]) for kernel in kernels]
    other = regspec.port(written(tmp_path / "tensorflow.h5", tensorflow, *turned))
    x = torch.randn(2, 3, 5, 6, 2)
    torch.testing.assert_close(one.build()(x), other.build()(x))


@pytest.mark.parametrize(
    ("class_name", "config", "shape"),
    [
        ("MaxPooling2D", {"pool_size": [2, 2], "strides": [2, 2]}, (5, 6, 3)),
        ("AveragePooling1D", {"pool_size": [5], "strides": [1]}, (9, 3)),
        ("Conv2DTranspose", {"filters": 2, "kernel_size": [4, 4], "strides": [2, 2]}, (5, 6, 3)),
        ("ConvLSTM2D", {"filters": 2, "kernel_size": [2, 2]}, (3, 5, 6, 3)),
    ],
)
def test_paddings_that_can_t_be_said(class_name: str, config: Any, shape: Any, tmp_path: Path) -> None:
    """They are refused; by TensorFlow they are ported."""
    spec = keras_2(class_name, {**config, "padding": "same"}, shape)
    (tmp_path / "model.json").write_text(json.dumps(spec))
    with pytest.raises(regspec.RegspecError, match=f"{class_name} with padding = same as Theano computes it"):
        regspec.port(tmp_path / "model.json")
    (tmp_path / "model.json").write_text(json.dumps({**spec, "backend": "tensorflow"}))
    assert regspec.port(tmp_path / "model.json").build()


@pytest.mark.parametrize("config", [{"kernel_size": [3]}, {"kernel_size": [3, 3, 3]}, {"strides": [1]}])
def test_a_window_of_another_rank(config: Any, tmp_path: Path) -> None:
    own = {"filters": 2, "kernel_size": [2, 2], "strides": [1, 1], "padding": "same", **config}
    (tmp_path / "model.json").write_text(json.dumps(keras_2("Conv2D", own, (5, 6, 3))))
    with pytest.raises(regspec.RegspecError, match="sizes for a window of rank 2"):
        regspec.port(tmp_path / "model.json")


@pytest.mark.parametrize(
    ("version", "said", "given", "fault"),
    [
        ("2.2.4", "theano", "tensorflow", "says that theano trained it, and not tensorflow"),
        ("2.2.4", "tensorflow", "theano", "says that tensorflow trained it, and not theano"),
        ("2.2.4", "cntk", "theano", "says that cntk trained it, and not theano"),
        ("3.5.0", "torch", "theano", "is of Keras 3, whose files mean the same with any backend"),
        ("3.5.0", None, "tensorflow", "is of Keras 3, whose files mean the same with any backend"),
        ("2.2.4", "theano", "theano", None),
        ("2.2.4", None, "theano", None),
    ],
)
@pytest.mark.parametrize("is_by_weights", [False, True])
def test_a_backend_against_the_file(
    version: str, said: str | None, given: Any, fault: str | None, is_by_weights: bool, tmp_path: Path
) -> None:
    """What a file or its weights say holds, and is not turned over by an option."""
    config = keras_2("Dense", {"units": 2, "use_bias": False}, (3,), version)
    if said is None or is_by_weights:
        del config["backend"]
    else:
        config["backend"] = said
    path = written(tmp_path / "model.h5", config, np.ones((3, 2), "float32"))
    if said is not None and is_by_weights:
        with h5py.File(path, "r+") as file:
            file.attrs["backend"] = said
    if fault is None:
        assert regspec.port(path, backend=given).build()
    else:
        with pytest.raises(regspec.RegspecError, match=fault):
            regspec.port(path, backend=given)


def test_a_layer_inside_another_is_refused(tmp_path: Path) -> None:
    inner = {"class_name": "Conv1D", "config": {"name": "c", "filters": 2, "kernel_size": [2], "padding": "same"}}
    (tmp_path / "model.json").write_text(json.dumps(keras_2("TimeDistributed", {"layer": inner}, (3, 5, 2))))
    with pytest.raises(regspec.RegspecError, match="a layer inside another with padding = same as Theano"):
        regspec.port(tmp_path / "model.json")


# -- Keras 1 -----------------------------------------------------------------------------------------------------------


def keras_1(path: Path, class_name: str, config: dict[str, Any], shape: tuple[int, ...], kernel: np.ndarray) -> Path:
    """An HDF5 file of Keras 1, which says nothing of its backend."""
    own = {"name": "c", "trainable": True, "batch_input_shape": [None, *shape], "input_dtype": "float32", **config}
    spec = {"class_name": "Sequential", "config": [{"class_name": class_name, "config": {**own, "bias": False}}]}
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(spec)
        file.attrs["keras_version"] = "1.2.2"
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [b"c"]
        group = root.create_group("c")
        group.attrs["weight_names"] = [b"c_W"]
        group["c_W"] = kernel
    return path


KERAS_1: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "1-D": ("Convolution1D", {"nb_filter": 4, "filter_length": 3, "subsample_length": 1}, (7, 3)),
    "1-D, even": ("Convolution1D", {"nb_filter": 4, "filter_length": 2, "subsample_length": 1}, (7, 3)),
    "channels last": ("Convolution2D", {"dim_ordering": "tf", "subsample": [1, 1]}, (6, 7, 3)),
    "channels first": ("Convolution2D", {"dim_ordering": "th", "subsample": [1, 1]}, (3, 6, 7)),
    "a stride": ("Convolution2D", {"dim_ordering": "th", "subsample": [2, 2]}, (3, 6, 7)),
}


@pytest.mark.parametrize("mode", ["same", "valid"])
@pytest.mark.parametrize("name", KERAS_1)
def test_keras_1(name: str, mode: str, tmp_path: Path) -> None:
    class_name, config, shape = KERAS_1[name]
    is_first, rng = config.get("dim_ordering") == "th", np.random.default_rng(0)
    if class_name == "Convolution1D":
        length = config["filter_length"]
        kernel = rng.standard_normal((length, 3, 4)).astype("float32")
        stored, strides = kernel[:, None], [1]
    else:
        config = {**config, "nb_filter": 4, "nb_row": 3, "nb_col": 2}
        kernel = rng.standard_normal((3, 2, 3, 4)).astype("float32")
        stored, strides = (kernel.transpose(3, 2, 0, 1) if is_first else kernel), config["subsample"]
    path = keras_1(tmp_path / "model.h5", class_name, {**config, "border_mode": mode}, shape, stored)
    x = rng.standard_normal((2, *shape)).astype("float32")
    lying = np.moveaxis(x, 1, -1) if is_first else x
    wanted = torch.as_tensor(by_theano(lying, kernel, strides, [1] * len(strides), is_same=mode == "same")).float()
    port = regspec.port(path, backend="theano")
    assert not any("--backend" in note for note in port.notes)
    got = port.build()(torch.as_tensor(x))
    torch.testing.assert_close(got.movedim(1, -1) if is_first else got, wanted, rtol=1e-4, atol=1e-4)


def test_a_note_where_the_backend_is_not_known(tmp_path: Path) -> None:
    """Of any file of Keras 1 with convolutions, but not where it is said, nor where there is none."""
    _, config, shape = KERAS_1["1-D"]
    kernel = np.ones((3, 1, 3, 4), "float32")
    path = keras_1(tmp_path / "model.h5", "Convolution1D", {**config, "border_mode": "valid"}, shape, kernel)
    assert any("give backend='theano' (--backend theano)" in note for note in regspec.port(path).notes)
    assert not regspec.port(path, backend="tensorflow").notes
    with h5py.File(path, "r+") as file:
        file.attrs["backend"] = "tensorflow"
    assert not regspec.port(path).notes
    dense = keras_1(tmp_path / "dense.h5", "Dense", {"output_dim": 2}, (3,), np.ones((3, 2), "float32"))
    assert not regspec.port(dense).notes


def test_the_command(tmp_path: Path) -> None:
    _, config, shape = KERAS_1["1-D"]
    kernel = np.random.default_rng(0).standard_normal((3, 1, 3, 4)).astype("float32")
    path = keras_1(tmp_path / "model.h5", "Convolution1D", {**config, "border_mode": "valid"}, shape, kernel)
    plain = command("port", str(path), "-o", str(tmp_path / "plain"))
    turned = command("port", str(path), "-o", str(tmp_path / "turned"), "--backend", "theano")
    assert (plain.code, turned.code) == (0, 0)
    assert "note: Keras 1 does not say which backend trained it" in plain.stdout
    assert "note" not in turned.stdout
    assert "--backend" in command("port", "--help").output
    weights = [(tmp_path / each / "weights.safetensors").read_bytes() for each in ("plain", "turned")]
    assert weights[0] != weights[1]
