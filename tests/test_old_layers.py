"""Layers of Keras 1 that today's Keras lacks: by their formulas, and what is refused; `test_keras2` has files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

import regspec

from . import own

L2 = {"name": "WeightRegularizer", "l1": 0.0, "l2": 0.1}
L1 = {"name": "WeightRegularizer", "l1": 0.01, "l2": 0.0}


def drawn(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype("float32")


def layer(class_name: str, name: str, **config: Any) -> dict[str, Any]:
    said = {"init": "glorot_uniform", "bias": True, "activity_regularizer": None, "W_constraint": None}
    penalties = {"W_regularizer": L2, "b_regularizer": L1}
    return {"class_name": class_name, "config": {"name": name, "trainable": True, **said, **penalties, **config}}


DENSE = layer(
    "Dense", "d", output_dim=5, activation="linear", batch_input_shape=[None, 4], W_regularizer=None, b_regularizer=None
)
MAXOUT = layer("MaxoutDense", "m", output_dim=2, nb_feature=3, input_dim=5)
HIGHWAY = layer("Highway", "h", activation="tanh", transform_bias=-2, input_dim=5)
ARRAYS: dict[str, dict[str, np.ndarray[Any, Any]]] = {
    "d": {"d_W": drawn(4, 5), "d_b": drawn(5)},
    "m": {"m_W": drawn(3, 5, 2), "m_b": drawn(3, 2)},
    "h": {"h_W": drawn(5, 5), "h_W_carry": drawn(5, 5) + 1, "h_b": drawn(5), "h_b_carry": drawn(5) - 1},
}


def file(path: Path, layers: list[dict[str, Any]], arrays: Mapping[str, Mapping[str, Any]]) -> Path:
    """An HDF5 file as Keras 1.2 writes it."""
    with h5py.File(path, "w") as archive:
        archive.attrs["keras_version"] = b"1.2.2"
        archive.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": layers}).encode()
        weights = archive.create_group("model_weights")
        weights.attrs["layer_names"] = [name.encode() for name in arrays]
        for name, own in arrays.items():
            group = weights.create_group(name)
            group.attrs["weight_names"] = [each.encode() for each in own]
            for each, array in own.items():
                group[each] = array
    return path


def tensors(name: str) -> list[Tensor]:
    return [torch.tensor(each) for each in ARRAYS[name].values()]


def maxout(x: Tensor) -> tuple[Tensor, Tensor]:
    w, b = tensors("m")
    return (torch.einsum("bi,fio->bfo", x, w) + b).amax(1), 0.1 * w.square().sum() + 0.01 * b.abs().sum()


def highway(x: Tensor) -> tuple[Tensor, Tensor]:
    w, w_carry, b, b_carry = tensors("h")
    t = torch.sigmoid(x @ w_carry + b_carry)
    return t * torch.tanh(x @ w + b) + (1 - t) * x, 0.1 * w.square().sum() + 0.01 * b.abs().sum()


CASES = {"m": (MAXOUT, maxout), "h": (HIGHWAY, highway)}


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_layers(name: str, is_first: bool, tmp_path: Path) -> None:
    own, formula = CASES[name]
    own = {**own, "config": {**own["config"], **({"batch_input_shape": [None, 5]} if is_first else {})}}
    layers = [own] if is_first else [DENSE, own]
    names = [each["config"]["name"] for each in layers]
    model = regspec.port(file(tmp_path / "old.h5", layers, {each: ARRAYS[each] for each in names})).build()
    given = torch.randn(7, 5 if is_first else 4, generator=torch.Generator().manual_seed(0))
    w, b = tensors("d")
    wanted, penalty = formula(given if is_first else given @ w + b)
    torch.testing.assert_close(model(given), wanted)
    torch.testing.assert_close(regspec.regularization_loss(model), penalty)


def test_without_a_bias(tmp_path: Path) -> None:
    own = {**MAXOUT, "config": {**MAXOUT["config"], "bias": False, "batch_input_shape": [None, 5]}}
    kernel = ARRAYS["m"]["m_W"]
    model = regspec.port(file(tmp_path / "old.h5", [own], {"m": {"m_W": kernel}})).build()
    x = torch.randn(3, 5)
    torch.testing.assert_close(model(x), torch.einsum("bi,fio->bfo", x, torch.tensor(kernel)).amax(1))


def test_the_size_of_a_highway_is_not_guessed(tmp_path: Path) -> None:
    config = {"class_name": "Sequential", "keras_version": "1.2.2", "config": [DENSE, HIGHWAY]}
    (tmp_path / "old.json").write_text(json.dumps(config))
    with pytest.raises(regspec.RegspecError, match=r"'h' \(Highway\), of whose size only its weights tell"):
        regspec.port(tmp_path / "old.json")


def refusal(layers: list[dict[str, Any]], path: Path) -> str:
    path.write_text(json.dumps({"class_name": "Sequential", "keras_version": "1.2.2", "config": layers}))
    with pytest.raises(regspec.RegspecError) as raised:
        regspec.port(path)
    return str(raised.value)


TRANSPOSED = {"nb_filter": 2, "nb_row": 2, "nb_col": 3, "subsample": [2, 2], "batch_input_shape": [None, 4, 5, 3]}


@pytest.mark.parametrize(
    ("mode", "shape"),
    [("valid", [None, None, 11, 2]), ("valid", [9, 11, 2]), ("valid", None), ("same", [None, 8, 9, 2])],
)
def test_sizes_that_no_transposed_convolution_gives(mode: str, shape: Any, tmp_path: Path) -> None:
    """The last of them has the usual size along one axis and an even window along the other."""
    own = {"class_name": "Deconvolution2D", "config": {"name": "t", "output_shape": shape, **TRANSPOSED}}
    own["config"]["border_mode"] = mode  # type: ignore[index]
    message = refusal([own], tmp_path / "model.json")
    assert f"'t' (Deconvolution2D) with output_shape = {shape}" in message


NORMALIZATION = {"name": "n", "epsilon": 0.02, "axis": -1, "momentum": 0.99, "batch_input_shape": [None, 3, 5]}


@pytest.mark.parametrize(("mode", "what"), [(1, "each example by itself"), (2, "in evaluation too")])
def test_normalizations_that_no_kind_has(mode: int, what: str, tmp_path: Path) -> None:
    given = {"class_name": "BatchNormalization", "config": {**NORMALIZATION, "mode": mode}}
    message = refusal([given], tmp_path / "model.json")
    assert f"BatchNormalization with mode = {mode}, which" in message
    assert what in message
    assert "--replace 'BatchNormalization=package.module:Class'" in message


@pytest.mark.usefixtures("_registry")
def test_a_module_in_the_place_of_a_normalization(tmp_path: Path) -> None:
    """It gets the arrays, of which that mode leaves the statistics as they were made."""
    given = {"class_name": "BatchNormalization", "config": {**NORMALIZATION, "mode": 1}}
    gamma, beta = drawn(5), drawn(2, 3)[0, [0, 1, 2, 0, 1]]
    arrays = {"n_gamma": gamma, "n_beta": beta, "n_running_mean": 0 * gamma, "n_running_std": 0 * gamma + 1}
    path = file(tmp_path / "old.h5", [given], {"n": arrays})
    x = drawn(4, 3, 5)
    deviation = np.sqrt(x.var(-1, keepdims=True) + 0.02) + 0.02  # as Keras 1 adds it, twice
    wanted = gamma * (x - x.mean(-1, keepdims=True)) / deviation + beta
    model = regspec.port(path, replace={"BatchNormalization": own.OfExamples}).build()
    np.testing.assert_allclose(model(torch.tensor(x)).numpy(force=True), wanted, rtol=1e-5, atol=1e-6)


def test_a_merge_by_code(tmp_path: Path) -> None:
    code = {"mode": ["", None, None], "mode_type": "lambda", "output_shape": None, "output_shape_type": "raw"}
    branch = {"class_name": "Sequential", "config": [DENSE]}
    merge = {"class_name": "Merge", "config": {"name": "m", **code, "layers": [branch]}}
    message = refusal([merge], tmp_path / "model.json")
    assert "'m' (Lambda) can't be ported" in message
    assert "--replace 'm=package.module:Class'" in message


def test_words_that_an_embedding_drops(tmp_path: Path) -> None:
    own = {"name": "e", "input_dim": 7, "output_dim": 3, "input_length": 4, "batch_input_shape": [None, 4]}
    embedding = {"class_name": "Embedding", "config": {**own, "dropout": 0.2, "input_dtype": "int32"}}
    config = {"class_name": "Sequential", "keras_version": "1.2.2", "config": [embedding]}
    (tmp_path / "model.json").write_text(json.dumps(config))
    assert regspec.port(tmp_path / "model.json").notes[0] == "'e' drops words in training, which is left out"


@pytest.mark.parametrize(("version", "reduction"), [("1.2.2", "sum"), ("2.2.4", "sum"), ("2.4.0", "mean")])
def test_the_layer_that_is_a_penalty(version: str, reduction: str, tmp_path: Path) -> None:
    """Which Keras divided by the batch size from TensorFlow's on, as other penalties of outputs."""
    penalty = {"name": "a", "l1": 0.1, "l2": 0.2, "batch_input_shape": [None, 4]}
    layers = [{"class_name": "ActivityRegularization", "config": penalty}]
    config = {"class_name": "Sequential", "keras_version": version, "config": layers}
    (tmp_path / "model.json").write_text(json.dumps(config))
    model, x = regspec.port(tmp_path / "model.json").build(), torch.randn(3, 4)
    model(x)
    wanted = 0.1 * x.abs().sum() + 0.2 * x.square().sum()
    torch.testing.assert_close(regspec.regularization_loss(model), wanted / (3 if reduction == "mean" else 1))
