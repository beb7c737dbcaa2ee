"""Every initializer against Keras: values where they are fixed, moments and bounds where they are drawn."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import torch

import regspec
from regspec.language.activations import ACTIVATIONS
from regspec.language.initializers import INITIALIZERS
from regspec.layers import KINDS

# Layers with many weights, whose fans torch and Keras may count differently: input shape, slot, torch's parameter.
LAYERS: dict[str, tuple[list[int], dict[str, Any], str, str]] = {
    "Dense": ([170], {"units": 230}, "kernel", "weight"),
    "Embedding": ([3], {"input_dim": 190, "output_dim": 210}, "embeddings", "weight"),
    "Conv1D": ([9, 40], {"filters": 150, "kernel_size": 5}, "kernel", "weight"),
    "Conv2D": ([9, 11, 40], {"filters": 60, "kernel_size": [3, 5], "groups": 2}, "kernel", "weight"),
    "Conv2DTranspose": ([4, 5, 40], {"filters": 60, "kernel_size": [3, 5]}, "kernel", "weight"),
    "DepthwiseConv2D": ([9, 11, 300], {"kernel_size": [3, 5], "depth_multiplier": 7}, "depthwise", "weight"),
    "EinsumDense": ([12, 90], {"equation": "abc,cde->abde", "output_shape": [12, 20, 17]}, "kernel", "weight"),
    "LSTM": ([5, 90], {"units": 110}, "kernel", "weight_ih_l0"),
}
RANDOM = {
    "glorot_uniform": {},
    "glorot_normal": {},
    "he_uniform": {},
    "he_normal": {},
    "lecun_uniform": {},
    "lecun_normal": {},
    "random_normal": {"mean": 0.3, "stddev": 0.7},
    "random_uniform": {"minval": -0.2, "maxval": 0.9},
    "truncated_normal": {"mean": 0.3, "stddev": 0.7},
    "variance_scaling": {"scale": 3.0, "mode": "fan_out", "distribution": "untruncated_normal"},
}


def built(
    kind: str, slot: str, initializer: Any, *, shape: list[int] | None = None, seed: int = 0, **changed: Any
) -> torch.nn.Module:
    """The module of a layer with this initializer."""
    usual, fields, _, _ = LAYERS[kind]
    layer = {kind: {"name": "own", **fields, f"{slot}_initializer": initializer, **changed}}
    dtype = "int64" if kind == "Embedding" else "float32"
    document = {
        "regspec": 1,
        "name": "test",
        "data_format": "channels_last",
        "inputs": {"x": {"shape": shape or usual, "dtype": dtype}},
        "layers": [layer],
    }
    return regspec.build(regspec.loads(repr(document).replace("None", "null").replace("False", "false")), seed=seed).own


def keras_weight(kind: str, slot: str, initializer: Any) -> np.ndarray:
    keras.utils.set_random_seed(1)
    shape, fields, _, _ = LAYERS[kind]
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    layer = getattr(keras.layers, kind)(**fields, **{f"{slot}_initializer": initializer})
    layer.build((None, *shape))
    weights = [each for each in layer.weights if each.path.endswith(("kernel", "embeddings"))]
    return np.asarray(weights[0].value.detach())


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("name", RANDOM)
def test_draws_as_keras(kind: str, name: str) -> None:
    _, _, slot, parameter = LAYERS[kind]
    ours = getattr(built(kind, slot, {name: RANDOM[name]}), parameter).detach().numpy()
    theirs = keras_weight(kind, slot, getattr(keras.initializers, INITIALIZERS.members[name].__name__)(**RANDOM[name]))
    assert ours.size == theirs.size > 15_000
    spread = theirs.std()
    assert abs(ours.mean() - theirs.mean()) < 0.05 * spread
    np.testing.assert_allclose(ours.std(), spread, rtol=0.03)
    np.testing.assert_allclose(np.quantile(ours, [0.1, 0.9]), np.quantile(theirs, [0.1, 0.9]), rtol=0.1)
    if not name.endswith("random_normal") and name != "variance_scaling":  # which have no bounds
        # Keras's torch backend lets about four in a million past the cut of a truncated normal; ours may not
        bounds = np.quantile(theirs, [0.001, 0.999])
        np.testing.assert_allclose([ours.min(), ours.max()], bounds, rtol=0.05)


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg"])
@pytest.mark.parametrize("distribution", ["truncated_normal", "untruncated_normal", "uniform", "normal"])
@pytest.mark.parametrize("kind", ["Dense", "DepthwiseConv2D"])
def test_variance_scaling(kind: str, distribution: str, mode: str) -> None:
    _, _, slot, parameter = LAYERS[kind]
    arguments = {"scale": 2.5, "mode": mode, "distribution": distribution}
    ours = getattr(built(kind, slot, {"variance_scaling": arguments}), parameter).detach().numpy()
    distribution = "truncated_normal" if distribution == "normal" else distribution
    theirs = keras_weight(kind, slot, keras.initializers.VarianceScaling(2.5, mode=mode, distribution=distribution))
    np.testing.assert_allclose(ours.std(), theirs.std(), rtol=0.03)


def test_fixed_values() -> None:
    for initializer, value in (("zeros", 0.0), ("ones", 1.0), ({"constant": 0.3}, 0.3), ("Ones", 1.0), ("zero", 0.0)):
        module = built("Dense", "kernel", initializer)
        torch.testing.assert_close(module.weight.detach(), torch.full((230, 170), value))


@pytest.mark.parametrize("form", ["identity", {"identity": 0.5}, {"identity": {"gain": 2.0}}])
def test_identity(form: Any) -> None:
    ours = built("Dense", "kernel", form).weight.detach().numpy().T
    gain = 1.0 if isinstance(form, str) else form["identity"] if form["identity"] == 0.5 else 2.0
    np.testing.assert_array_equal(ours, np.asarray(keras.initializers.Identity(gain)((170, 230)).cpu()))


@pytest.mark.parametrize(
    "arguments", [{}, {"side": "imag"}, {"window": None}, {"scaling": "spectrum", "periodic": True}]
)
def test_stft(arguments: dict[str, Any]) -> None:
    fields = {"filters": 9, "kernel_size": 16}
    ours = built("Conv1D", "kernel", {"stft": arguments}, shape=[40, 1], **fields).weight.detach().numpy()
    theirs = keras.initializers.STFT(**{"side": "real", **arguments})((16, 1, 9))
    np.testing.assert_allclose(ours.transpose(2, 1, 0), np.asarray(theirs.cpu()), atol=1e-5)  # Keras works in float32


@pytest.mark.parametrize("kind", ["Dense", "Conv2D", "Conv2DTranspose"])
def test_orthogonal(kind: str) -> None:
    """Keras's matrix form, all but the last axis by the last, has orthonormal rows or columns, times the gain."""
    weight = built(kind, "kernel", {"orthogonal": 1.5}).weight.detach()
    matrix = weight.permute(*range(2, weight.ndim), 1, 0).flatten(0, -2)  # torch has the last two axes first, reversed
    products = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    torch.testing.assert_close(products, 2.25 * torch.eye(len(products)), atol=1e-4, rtol=0)


def test_a_seed_draws_the_same_each_time() -> None:
    for name in (*RANDOM, "orthogonal"):
        first = built("Dense", "kernel", {name: {**RANDOM.get(name, {}), "seed": 7}}, seed=0)
        second = built("Dense", "kernel", {name: {**RANDOM.get(name, {}), "seed": 7}}, seed=1)
        assert torch.equal(first.weight, second.weight), name


def test_values_that_are_made_in_python() -> None:
    """An initializer is taken as it is, and something of another sort is not."""
    zeros, relu = INITIALIZERS.parse("zeros"), ACTIVATIONS.parse("relu")
    assert KINDS["Dense"].model_validate({"units": 2, "kernel_initializer": zeros}).kernel_initializer is zeros
    with pytest.raises(ValueError, match=r"must be a name or \{name: arguments\}, with one name, of an initializer"):
        KINDS["Dense"].model_validate({"units": 2, "kernel_initializer": relu})


def test_every_initializer_of_keras_is_there() -> None:
    theirs = {
        name
        for name in dir(keras.initializers)
        if isinstance(getattr(keras.initializers, name), type) and name != "Initializer"
    }
    assert {name for name in theirs if INITIALIZERS.get(name) is None} == set()


def test_every_initializer_is_tested() -> None:
    fixed = {"zeros", "ones", "constant", "identity", "orthogonal", "stft"}
    assert INITIALIZERS.members.keys() == RANDOM.keys() | fixed


def test_blocks_that_start_otherwise() -> None:
    """Blocks that differ in what a parameter says of their initializers alone."""
    spec = {
        "inputs": {"x": {"shape": [4]}},
        "blocks": {
            "part": {
                "parameters": {"start": None},
                "layers": [{"Dense": {"name": "dense", "units": 4, "kernel_initializer": "$start"}}],
            }
        },
        "layers": [{"part": {"name": "first", "start": "zeros"}}, {"part": {"name": "second", "start": "ones"}}],
    }
    model = regspec.build(spec)
    assert (model.first.dense.weight == 0).all()
    assert (model.second.dense.weight == 1).all()
