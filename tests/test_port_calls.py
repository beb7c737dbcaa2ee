"""Calls of layers and models in Keras's files: what they say besides their tensors, and how tensors are given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers

import regspec

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras, when it saves

Item = dict[str, Any]


def item(kind: str, name: str, nodes: list[Any], /, **config: Any) -> Item:
    """A layer as Keras 2 writes it."""
    return {"class_name": kind, "name": name, "config": {**config, "name": name}, "inbound_nodes": nodes}


def graph(name: str, layers: list[Item], inputs: Any, outputs: Any) -> Item:
    return {"name": name, "layers": layers, "input_layers": inputs, "output_layers": outputs}


def given(name: str, size: int | None = 4) -> Item:
    return item("InputLayer", name, [], batch_input_shape=[None, size], dtype="float32")


def written(config: Item, tmp_path: Path) -> Path:
    """The file of a model of Keras 2."""
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"class_name": "Functional", "keras_version": "2.12.0", "config": config}))
    return path


# -- training= ---------------------------------------------------------------------------------------------------------

INNER = graph("m", [given("y"), item("Dropout", "in", [[["y", 0, 0, {}]]], rate=0.5)], [["y", 0, 0]], [["in", 0, 0]])
LSTM = {"units": 3, "dropout": 0.0, "recurrent_dropout": 0.0}


@pytest.mark.parametrize(
    ("kind", "config", "training", "finding"),
    [
        ("Dropout", {"rate": 0.5}, True, "'own' does in evaluation what is for training"),
        ("Dropout", {"rate": 0.5}, 1, "'own' does in evaluation what is for training"),
        ("Dropout", {"rate": 0.5}, ["x", 0, 0], "'own' does in evaluation what is for training"),
        ("Functional", INNER, True, "'in' does in evaluation what is for training"),
        ("BatchNormalization", {}, True, "'own' does in evaluation what is for training"),
        ("GaussianNoise", {"stddev": 0.1}, False, "so that in Keras 2 'own' does in training what it does in eval"),
        ("BatchNormalization", {}, False, "so that in Keras 2 'own' does in training what it does in eval"),
        ("Functional", INNER, False, "so that in Keras 2 'in' does in training what it does in eval"),
        ("BatchNormalization", {"trainable": False}, False, None),
        ("BatchNormalization", {"trainable": False}, True, None),
        ("Dropout", {"rate": 0.0}, True, None),
        ("Dropout", {"rate": 0.5}, None, None),
        ("LayerNormalization", {}, True, None),
    ],
)
def test_keras_2_heeds_training(kind: str, config: Item, training: Any, finding: str | None, tmp_path: Path) -> None:
    """Measured on tf_keras 2.21: whatever the model is called with."""
    own = item(kind, "own", [[["x", 0, 0, {"training": training}]]], **config)
    path = written(graph("outer", [given("x"), own], [["x", 0, 0]], [["own", 0, 0]]), tmp_path)
    if finding is not None and training is not False:
        with pytest.raises(regspec.RegspecError, match=finding):
            regspec.port(path)
        return
    notes = regspec.port(path).notes
    assert any(finding in note for note in notes) if finding else not any("training" in note for note in notes)


def test_recurrent_dropout_of_keras_2_in_evaluation(tmp_path: Path) -> None:
    x = item("InputLayer", "x", [], batch_input_shape=[None, 5, 4], dtype="float32")
    for dropout in (0.0, 0.5):
        own = item("LSTM", "own", [[["x", 0, 0, {"training": True}]]], **{**LSTM, "recurrent_dropout": dropout})
        path = written(graph("outer", [x, own], [["x", 0, 0]], [["own", 0, 0]]), tmp_path)
        if dropout:
            with pytest.raises(regspec.RegspecError, match="'own' does in evaluation"):
                regspec.port(path)
        else:
            assert not any("training" in note for note in regspec.port(path).notes)


@pytest.mark.parametrize("training", [True, False])
def test_keras_3_heeds_training_where_the_model_does_not_say(training: bool, tmp_path: Path) -> None:
    x = keras.Input((400,))
    y = layers.BatchNormalization(name="moving")(x, training=training)
    model = keras.Model(x, layers.Dropout(0.5, name="own")(y, training=training))
    model.save(tmp_path / "model.keras")
    numbers = np.random.default_rng(0).normal(1, 1, (5, 400)).astype("float32")
    wanted = model(numbers, training=False)  # as predict calls it
    port = regspec.port(tmp_path / "model.keras")
    torch.testing.assert_close(port.build()(torch.as_tensor(numbers)), wanted)
    said = [note for note in port.notes if "training=" in note]
    assert [name for name in ("own", "moving") if any(f"'{name}' is called" in note for note in said)] == (
        ["own", "moving"] if training else []
    )


# -- what is no tensor -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "node"),
    [
        ("Dropout", {"args": [{}, True], "kwargs": {}}),
        ("Add", {"args": [[{}, {}, 3.0]], "kwargs": {}}),
        ("Add", {"args": [], "kwargs": {"inputs": [{}, {}, 3.0]}}),
    ],
)
def test_constants_among_the_tensors_of_a_layer_are_refused(kind: str, node: Item, tmp_path: Path) -> None:
    def filled(value: Any) -> Any:
        if isinstance(value, list):
            return [*map(filled, value)]
        return {"class_name": "__keras_tensor__", "config": {"keras_history": ["x", 0, 0]}} if value == {} else value

    x = {"class_name": "InputLayer", "name": "x", "config": {"name": "x", "batch_shape": [None, 4]}}
    said = {
        key: {name: filled(each) for name, each in value.items()} if key == "kwargs" else filled(value)
        for key, value in node.items()
    }
    own = {**item(kind, "own", [said], **({"rate": 0.5} if kind == "Dropout" else {})), "module": "keras.layers"}
    config = graph("outer", [{**x, "inbound_nodes": []}, own], [["x", 0, 0]], [["own", 0, 0]])
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"class_name": "Functional", "module": "keras", "config": config}))
    with pytest.raises(regspec.RegspecError, match=r"its call with (True|3\.0)"):
        regspec.port(path)


# -- models that are called with mappings ------------------------------------------------------------------------------


def difference(inputs: Any, call: Any) -> Any:
    """A model of Keras that calls another, which takes b from a, with a mapping."""
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    inner = keras.Model(inputs(a, b), layers.Subtract()([a, b]), name="inner")
    x, y = keras.Input((4,), name="x"), keras.Input((4,), name="y")
    return keras.Model([x, y], inner(call(x, y)))


@pytest.mark.parametrize(
    ("inputs", "call"),
    [
        (lambda a, b: [b, a], lambda x, y: {"a": x, "b": y}),
        (lambda a, b: [b, a], lambda x, y: {"b": y, "a": x}),
        (lambda a, b: [a, b], lambda x, y: {"b": y, "a": x}),
        (lambda a, b: [b, a], lambda x, y: [y, x]),
        (lambda a, b: {"b": b, "a": a}, lambda x, y: {"b": y, "a": x}),
    ],
)
def test_a_model_takes_a_mapping_by_the_names_of_its_inputs(inputs: Any, call: Any, tmp_path: Path) -> None:
    difference(inputs, call).save(tmp_path / "model.keras")
    x, y = torch.randn(2, 3, 4)
    torch.testing.assert_close(regspec.port(tmp_path / "model.keras").build()(x, y), x - y)


@pytest.mark.parametrize(
    ("declared", "node"),
    [
        ([["b", 0, 0], ["a", 0, 0]], {"a": ["x", 0, 0, {}], "b": ["y", 0, 0, {}]}),
        ([["b", 0, 0], ["a", 0, 0]], {"a": ["x", 0, 0, {}], "b": ["y", 0, 0, {}], "c": ["x", 0, 0, {}]}),
        ([["b", 0, 0], ["a", 0, 0]], [["y", 0, 0, {}], ["x", 0, 0, {}]]),
        # where a name is missing, in the order of the names
        ([["b", 0, 0], ["a", 0, 0]], {"q": ["x", 0, 0, {}], "p": ["y", 0, 0, {}]}),
        ({"p": ["b", 0, 0], "q": ["a", 0, 0]}, {"q": ["x", 0, 0, {}], "p": ["y", 0, 0, {}]}),
    ],
)
def test_a_model_of_keras_2_takes_a_mapping_by_the_names_of_its_inputs(
    declared: Any, node: Any, tmp_path: Path
) -> None:
    subtracted = item("Subtract", "subtracted", [[["a", 0, 0, {}], ["b", 0, 0, {}]]])
    inner = graph("inner", [given("a"), given("b"), subtracted], declared, [["subtracted", 0, 0]])
    own = item("Functional", "inner", [node], **{key: each for key, each in inner.items() if key != "name"})
    outer = graph("outer", [given("x"), given("y"), own], [["x", 0, 0], ["y", 0, 0]], [["inner", 1, 0]])
    x, y = torch.randn(2, 3, 4)
    torch.testing.assert_close(regspec.port(written(outer, tmp_path)).build()(x, y), x - y)
