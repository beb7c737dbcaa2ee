"""Files of Keras 1 and 2, ported: outputs, penalties and gradients are what that Keras computed.

`keras2/make.py` and `keras2/make_old.py` have made the files, and what to expect of them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

import regspec
from regspec.keras.configs.dialect import Dialect
from regspec.keras.configs.notes import Notes
from regspec.keras.configs.values import UnportedError
from regspec.keras.formats import reading
from regspec.keras.older import keras2
from regspec.keras.reading.layers import layer_of

from .layers.specs import outputs_of

FOLDER = Path(__file__).parent / "keras2"
FILES = [
    path
    for path in sorted(FOLDER.glob("keras_*/*"))
    if path.suffix in (".h5", ".keras", ".json") and not path.name.endswith((".weights.h5", ".legacy.h5"))
]


def named(path: Path) -> str:
    return f"{path.parent.name}-{path.name}"


def inputs_of(port: regspec.Port, found: Any) -> list[Tensor]:
    """The arrays of a model's inputs: by their names, or as they stand where a Sequential has an input of its own."""
    arrays = {key.partition(":")[2]: torch.as_tensor(found[key]) for key in found if key.startswith("input:")}
    names = [*port.spec.inputs]
    return [arrays[name] for name in names] if set(names) == set(arrays) else [*arrays.values()]


def close(got: list[Tensor], wanted: list[Any]) -> None:
    assert [tuple(x.shape) for x in got] == [x.shape for x in wanted]
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a.detach(), torch.as_tensor(b), rtol=2e-4, atol=2e-4)


def agrees(port: regspec.Port, found: Any) -> None:
    model = port.build()
    inputs = inputs_of(port, found)
    wanted = [found[key] for key in found if key.startswith("output_")]
    outputs = outputs_of(model(*inputs))
    close(outputs, wanted)
    penalty = regspec.regularization_loss(model)
    torch.testing.assert_close(penalty.detach(), torch.as_tensor(found["penalty"]), rtol=2e-4, atol=1e-6)
    (penalty + sum(x.square().mean() for x in outputs)).backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = sum(gradient.double().square().sum().item() for gradient in gradients) ** 0.5
    assert norm == pytest.approx(found["norm"].item(), rel=1e-3, abs=1e-6)
    in_training = [found[key] for key in found if key.startswith("training_") and key != "training_penalty"]
    if in_training:
        model.train()
        close(outputs_of(model(*inputs)), in_training)
        wanted_penalty = torch.as_tensor(found["training_penalty"])
        torch.testing.assert_close(regspec.regularization_loss(model).detach(), wanted_penalty, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("path", FILES, ids=named)
def test_computes_what_its_keras_did(path: Path) -> None:
    weights = path.with_suffix(".weights.h5") if path.suffix == ".json" else None
    port = regspec.port(path, weights=weights)
    assert port.provenance.config == reading.read(path).config  # which nothing has edited
    with np.load(path.with_suffix(".npz")) as found:
        agrees(port, found)


def test_a_config_with_weights_in_the_old_format() -> None:
    folder = FOLDER / "keras_2_21_0"
    with np.load(folder / "graph.npz") as found:
        agrees(regspec.port(folder / "graph.json", weights=folder / "graph.legacy.h5"), found)


# -- what a file says of itself ----------------------------------------------------------------------------------------


def config_of(name: str) -> dict[str, Any]:
    """The config in a file, without the version of Keras."""
    with h5py.File(FOLDER / name) as file:
        config: dict[str, Any] = json.loads(file.attrs["model_config"])
        return config


@pytest.mark.parametrize(
    ("name", "reduction"),
    [("keras_2_21_0/graph.h5", "mean"), ("keras_2_2_4/graph.h5", "sum"), ("keras_1_2_2/images.h5", "sum")],
)
@pytest.mark.parametrize("version", [None, "as it is"])
def test_a_config_alone(name: str, reduction: str, version: str | None, tmp_path: Path) -> None:
    """With its version, or without one: then by the words that it uses."""
    config = config_of(name)
    if version is not None:
        config["keras_version"] = name.split("/")[0].removeprefix("keras_").replace("_", ".")
    path = tmp_path / "model.json"
    path.write_text(json.dumps(config))
    assert regspec.port(path).spec.activity_reduction == reduction


def test_tensorflows_own_keras_divided_by_the_batch_before_it_was_keras_itself(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps({**config_of("keras_2_2_4/graph.h5"), "keras_version": "2.2.4-tf"}))
    assert regspec.port(path).spec.activity_reduction == "mean"


def test_strengths_are_as_they_were_written() -> None:
    """And not as float32 holds them."""
    text = regspec.port(FOLDER / "keras_2_21_0" / "graph.h5").text
    assert "kernel_regularizer: {l2: 0.01}" in text
    assert "depthwise_regularizer: {l1: 0.1, l2: 0.2}" in text


def test_frozen_penalties_are_said_only_where_there_are_any() -> None:
    port = regspec.port(FOLDER / "keras_2_21_0" / "nested.h5")
    assert port.spec.frozen_penalties == "counted"
    assert any("frozen_penalties: counted" in note for note in port.notes)
    assert regspec.port(FOLDER / "keras_2_21_0" / "sequence.h5").spec.frozen_penalties == "omitted"


def test_a_mistake_of_keras_1_is_kept_or_set_right() -> None:
    """It takes the penalty of the kernel for the recurrent kernel's."""
    path = FOLDER / "keras_1_2_2" / "sequence.h5"
    kept, right = regspec.port(path), regspec.port(path, keeps_quirks=False)
    assert "recurrent_regularizer" not in kept.text
    assert "recurrent_regularizer: {l1: 0.1}" in right.text
    assert all(any("recurrent kernel" in note for note in port.notes) for port in (kept, right))


def test_a_layer_that_models_share_has_a_note(tmp_path: Path) -> None:
    config = config_of("keras_2_21_0/graph.h5")
    layers = {layer["config"]["name"]: layer for layer in config["config"]["layers"]}
    for layer in (layers["shared"], layers["encoder"]["config"]["layers"][-1]):
        layer["shared_object_id"] = 5
    path = tmp_path / "model.json"
    path.write_text(json.dumps({**config, "keras_version": "2.21.0"}))
    assert any("'shared' is shared between models" in note for note in regspec.port(path).notes)


@pytest.mark.parametrize("keeps_quirks", [True, False])
def test_images_that_moved_when_they_were_enlarged(keeps_quirks: bool, tmp_path: Path) -> None:
    config = config_of("keras_2_0_8/channels_first.h5")
    layer = next(layer for layer in config["config"]["layers"] if layer["class_name"] == "UpSampling2D")
    layer["config"]["interpolation"] = "bilinear"
    path = tmp_path / "model.json"
    path.write_text(json.dumps({**config, "keras_version": "2.2.4"}))
    if keeps_quirks:
        with pytest.raises(regspec.RegspecError, match="which moves the image; keeps_quirks=False"):
            regspec.port(path)
    else:
        assert "moves the image" in regspec.port(path, keeps_quirks=False).notes[0]


def operation(name: str, sort: str, inputs: list[str], constants: dict[str, Any], **attributes: Any) -> dict[str, Any]:
    """A node of TensorFlow's graph as a layer, as TensorFlow 2.0 to 2.3 wrote it."""
    config = {"name": name, "trainable": True, "node_def": {"op": sort, "attr": attributes}, "constants": constants}
    nodes = [[[each, 0, 0, {}] for each in inputs]]
    return {"class_name": "TensorFlowOpLayer", "name": name, "config": config, "inbound_nodes": nodes}


def test_nodes_of_tensorflows_graph(tmp_path: Path) -> None:
    own = {"name": "x", "batch_input_shape": [None, 4, 6], "dtype": "float32", "ragged": False}
    masks = {"begin_mask": 1, "end_mask": 3, "ellipsis_mask": 0, "new_axis_mask": 0, "shrink_axis_mask": 4}
    layers = [
        {"class_name": "InputLayer", "name": "x", "config": own, "inbound_nodes": []},
        operation("mul", "Mul", ["x"], {"1": 2.0}),
        operation("sub", "Sub", ["mul"], {"0": 1.0}),
        operation("relu", "Relu", ["sub"], {}),
        operation("add", "AddV2", ["sub", "relu"], {}),
        operation("mean", "Mean", ["add"], {"1": 1}, keep_dims={"b": True}),
        operation("concat", "ConcatV2", ["add", "mean"], {"2": 1}),
        operation("shape", "Shape", ["x"], {}),
        operation("size", "StridedSlice", ["shape"], {"1": [0], "2": [1], "3": [1]}, shrink_axis_mask={"i": "1"}),
        operation("sizes", "Pack", ["size"], {"1": 3, "2": 10}, axis={"i": "0"}),
        operation("reshape", "Reshape", ["concat", "sizes"], {}),
        operation(
            "slice",
            "StridedSlice",
            ["reshape"],
            {"1": [0, 1, 0], "2": [0, 0, 1], "3": [1, 1, 1]},
            **{name: {"i": str(number)} for name, number in masks.items()},
        ),
    ]
    config = {"name": "m", "layers": layers, "input_layers": [["x", 0, 0]], "output_layers": [["slice", 0, 0]]}
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"class_name": "Model", "config": config, "keras_version": "2.3.0-tf"}))
    x = torch.randn(3, 4, 6)
    changed = 1 - 2 * x
    added = changed + changed.relu()
    wanted = torch.cat([added, added.mean(1, keepdim=True)], 1).reshape(3, 3, 10)[:, 1:, 0]
    torch.testing.assert_close(regspec.port(path).build()(x), wanted)


# -- arrays in other forms ---------------------------------------------------------------------------------------------


def test_kernels_that_were_trained_with_theano_are_turned(tmp_path: Path) -> None:
    path = shutil.copy(FOLDER / "keras_2_2_4" / "graph.h5", tmp_path)
    with h5py.File(path, "r+") as file:
        weights = file["model_weights"]
        for target in (file, weights):
            target.attrs["backend"] = b"theano"
        for name in ("conv-1/conv-1/kernel:0", "encoder/conv2d_1/kernel:0"):
            weights[name][...] = weights[name][()][::-1, ::-1]
    turned, wanted = (regspec.port(each).weights for each in (path, FOLDER / "keras_2_2_4" / "graph.h5"))
    assert turned.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(turned[name], array)


def test_a_kernel_of_another_implementation_than_is_said(tmp_path: Path) -> None:
    """It may have the shape that is wanted, and is refused all the same."""
    path = shutil.copy(FOLDER / "keras_2_21_0" / "local.h5", tmp_path)
    with h5py.File(path, "r+") as file:
        text = file.attrs["model_config"]
        first = text.index('"implementation": 1')
        file.attrs["model_config"] = f"{text[:first]}{text[first:].replace(': 1', ': 2', 1)}"
    with pytest.raises(regspec.RegspecError, match=r"with the shape .*, of which .* can't be made"):
        regspec.port(path)


def test_names_that_do_not_fit_into_one_attribute(tmp_path: Path) -> None:
    path = shutil.copy(FOLDER / "keras_2_2_4" / "graph.h5", tmp_path)
    with h5py.File(path, "r+") as file:
        weights = file["model_weights"]
        for group, key in ((weights, "layer_names"), (weights["encoder"], "weight_names")):
            names = group.attrs[key]
            del group.attrs[key]
            for number, part in enumerate(np.array_split(names, 3)):
                group.attrs[f"{key}{number}"] = part
    with np.load(FOLDER / "keras_2_2_4" / "graph.npz") as found:
        agrees(regspec.port(path), found)


# -- what can't be ported, and what is damaged -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layer", "change", "message"),
    [
        ("keras_1_2_2/images.h5", 1, {"mode": 2}, "BatchNormalization with mode = 2"),
        ("keras_2_0_8/sequence.h5", 6, {"time_major": True}, "LSTM with time_major = True"),
        ("keras_2_0_8/sequence.h5", 7, {"alpha": "much"}, "LeakyReLU must be"),
        ("keras_2_0_8/sequence.h5", 0, {"ragged": True}, "the input 'embedding_1' of ragged tensors"),
        ("keras_2_0_8/sequence.h5", 8, {"kernel_regularizer": {"name": "EigenvalueRegularizer"}}, "EigenvalueReg"),
    ],
)
def test_what_can_not_be_ported_is_named(
    name: str, layer: int, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    config = config_of(name)
    config["config"][layer]["config"].update(change)
    path = tmp_path / "model.json"
    path.write_text(json.dumps({**config, "keras_version": name.split("/")[0][6:].replace("_", ".")}))
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.port(path)


@pytest.mark.parametrize("function", ["math.subtract", "math.squared_difference", "math.maximum", "math.truediv"])
@pytest.mark.parametrize("is_inner", [False, True])
def test_functions_that_align_tensors_at_their_last_axes(function: str, is_inner: bool, tmp_path: Path) -> None:
    """In TensorFlow, (batch, 1, 3) and (batch, 3) make (batch, batch, 3)."""

    def layer(name: str, class_name: str, nodes: Any, **config: Any) -> dict[str, Any]:
        return {"name": name, "class_name": class_name, "config": {"name": name, **config}, "inbound_nodes": nodes}

    given = layer("x", "InputLayer", [], batch_input_shape=[None, 3], dtype="float32")
    layers = [
        given,
        layer("tf.e", "TFOpLambda", [["x", 0, 0, {"axis": 1}]], function="expand_dims", trainable=True),
        layer("tf.s", "TFOpLambda", [["tf.e", 0, 0, {"y": ["x", 0, 0]}]], function=function, trainable=True),
    ]
    ends = {"input_layers": [["x", 0, 0]], "output_layers": [["tf.s", 0, 0]]}
    if is_inner:
        layers = [given, layer("inner", "Functional", [[["x", 0, 0, {}]]], layers=layers, **ends)]
        ends["output_layers"] = [["inner", 1, 0]]
    config = {"name": "m", "layers": layers, **ends}
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"class_name": "Functional", "keras_version": "2.12.0", "config": config}))
    with pytest.raises(regspec.RegspecError, match=r"(?s)tf_s.*align(s|ed) at their last axes"):
        regspec.port(path)


@pytest.mark.parametrize(
    "nodes",
    [None, 3, [3], [[]], [[["image"]]], [[["none", 0, 0, {}]]], [[["image", "0", 0, {}]]], {"a": 1}, [[[[[]]]]]],
)
def test_calls_that_are_damaged(nodes: Any, tmp_path: Path) -> None:
    config = config_of("keras_2_21_0/graph.h5")
    next(layer for layer in config["config"]["layers"] if layer["name"] == "conv-1")["inbound_nodes"] = nodes
    path = tmp_path / "model.json"
    path.write_text(json.dumps({**config, "keras_version": "2.21.0"}))
    with pytest.raises(regspec.RegspecError):
        regspec.port(path)


@pytest.mark.parametrize(
    ("activation", "wanted"),
    [
        ({"class_name": "LeakyReLU", "config": {"alpha": 0.1}}, {"leaky_relu": {"negative_slope": 0.1}}),
        (
            {"class_name": "ReLU", "config": {"max_value": None, "negative_slope": 0.25, "threshold": 0.0}},
            {"relu": {"negative_slope": 0.25}},
        ),
        (
            {"class_name": "ThresholdedReLU", "config": {"theta": 0.4}},
            {"threshold": {"threshold": 0.4, "default_value": 0.0}},
        ),
        ({"class_name": "Activation", "config": {"activation": "hard_sigmoid"}}, {"hard_sigmoid": {"slope": 0.2}}),
    ],
)
def test_a_layer_in_the_place_of_an_activation_function(activation: Any, wanted: Any) -> None:
    assert _activation_of(activation) == wanted


def test_a_layer_in_the_place_of_an_activation_function_has_no_penalty() -> None:
    penalty = {"class_name": "L2", "config": {"l2": 0.1}}
    with pytest.raises(UnportedError, match="LeakyReLU with an activity_regularizer of its own"):
        _activation_of({"class_name": "LeakyReLU", "config": {"alpha": 0.1, "activity_regularizer": penalty}})


def _activation_of(activation: Any) -> Any:
    """What becomes of the activation function of a layer of Keras 2."""
    dialect, notes = Dialect(generation=2), Notes()
    own = {"name": "a", "trainable": True, "dtype": "float32", **activation["config"]}
    config = {"name": "d", "units": 3, "activation": {**activation, "config": own}}
    renewed = keras2.renewed({"class_name": "Dense", "config": config}, dialect, notes)
    ((_, fields),) = layer_of(renewed, dialect, notes).items()
    return fields["activation"]


@pytest.mark.parametrize(
    ("axis", "more", "written"),
    [
        ([3], {}, None),
        ([4], {}, None),
        (3, {}, None),
        ([2], {}, "biased"),
        ([1], {}, "biased"),
        ([3], {"dtype": "float64"}, "biased"),
    ],
)
def test_the_moving_variance_of_images(axis: Any, more: dict[str, Any], written: str | None) -> None:
    """Measured on tf_keras 2.21: its kernel for images and volumes in single precision takes the unbiased variance."""
    config = {"name": "b", "axis": axis, **more}
    dialect = Dialect(generation=2, version=(2, 15), dtype=more.get("dtype", "float32"))
    renewed = keras2.renewed({"class_name": "BatchNormalization", "config": config}, dialect, Notes())
    ((_, fields),) = layer_of(renewed, dialect, Notes()).items()
    assert fields.get("moving_variance") == written


@pytest.mark.parametrize(("dtype", "written"), [("int32", None), ("int64", None), ("float16", "float16")])
def test_the_type_of_an_embedding(dtype: str, written: str | None) -> None:
    """Keras 2.0 called it by the type of the words that it takes, int32; its table was of floats."""
    dialect = Dialect(generation=2, version=(2, 0, 5), is_standalone=True)
    config = {"name": "e", "input_dim": 7, "output_dim": 3, "dtype": dtype}
    inner = {"class_name": "Embedding", "config": config}
    outer = {"class_name": "TimeDistributed", "config": {"name": "t", "layer": inner}}
    ((_, fields),) = layer_of(keras2.renewed(inner, dialect, Notes()), dialect, Notes()).items()
    assert fields.get("dtype") == written
    if written is None:
        ((_, fields),) = layer_of(keras2.renewed(outer, dialect, Notes()), dialect, Notes()).items()
        assert "dtype" not in fields["layer"]["Embedding"]


@pytest.mark.parametrize(
    ("class_name", "axis", "written"),
    [
        ("BatchNormalization", [3], ""),
        ("BatchNormalization", [2], ", axis: 2"),
        ("LayerNormalization", [3], ""),
        ("LayerNormalization", [2], ", axis: 2"),
        ("LayerNormalization", [2, 3], ", axis: [2, 3]"),
    ],
)
@pytest.mark.parametrize("is_inside", [False, True])
def test_the_last_axis_goes_without_saying(
    class_name: str, axis: list[int], written: str, is_inside: bool, tmp_path: Path
) -> None:
    """Keras 2 writes its number."""
    first = {"class_name": "InputLayer", "config": {"name": "x", "batch_input_shape": [None, 5, 6, 3]}}
    last = {"class_name": class_name, "config": {"name": "n", "axis": axis}}
    config: dict[str, Any] = {"class_name": "Sequential", "config": {"name": "s", "layers": [first, last]}}
    if is_inside:
        config = {"class_name": "Sequential", "config": {"name": "t", "layers": [first, config]}}
    (tmp_path / "model.json").write_text(json.dumps({**config, "keras_version": "2.15.0"}))
    text = regspec.port(tmp_path / "model.json").text
    assert (f"{written}}}" if written else "name: n") in text
    assert ("axis" in text) is bool(written)


def test_the_last_axis_of_one_of_several_calls(tmp_path: Path) -> None:
    """Another call has another last axis."""
    shapes = {"x": [None, 5, 3], "y": [None, 5, 3, 2]}
    inputs = [
        {"class_name": "InputLayer", "name": name, "config": {"name": name, "batch_input_shape": shape},
         "inbound_nodes": []}
        for name, shape in shapes.items()
    ]  # fmt: skip
    calls = [[[name, 0, 0, {}]] for name in shapes]
    own = {"name": "n", "axis": [2]}
    norm = {"class_name": "LayerNormalization", "name": "n", "config": own, "inbound_nodes": calls}
    tensors = {"input_layers": [[name, 0, 0] for name in shapes], "output_layers": [["n", 0, 0], ["n", 1, 0]]}
    config = {"class_name": "Functional", "config": {"name": "m", "layers": [*inputs, norm], **tensors}}
    (tmp_path / "model.json").write_text(json.dumps({**config, "keras_version": "2.15.0"}))
    assert "{name: n, inputs: x, axis: 2}" in regspec.port(tmp_path / "model.json").text
