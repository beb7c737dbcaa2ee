"""Faults of a config are told with the file's name and the JSON path that leads to them; equal hints stand once."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
from jsonschema.validators import Draft202012Validator

import regspec
from regspec.keras.formats import reading
from regspec.keras.formats.schemas import model_schema, tfjs_schema

from .test_port_tfjs import BIAS, FIRST, KERNEL, sequence, written


def dense(name: str, source: Any, **fields: Any) -> dict[str, Any]:
    config = {"name": name, "units": 4, **fields}
    return {"class_name": "Dense", "name": name, "inbound_nodes": source, "config": config}


def tensor(name: str) -> dict[str, Any]:
    return {"class_name": "__keras_tensor__", "config": {"shape": [None, 4], "keras_history": [name, 0, 0]}}


def model(generation: int, length: int = 3) -> dict[str, Any]:
    """A chain of layers, `d0` to the last; the one before the last is in a model inside."""

    def calls(name: str) -> Any:
        return [[[name, 0, 0, {}]]] if generation == 2 else [{"args": [tensor(name)], "kwargs": {}}]

    def graph(name: str, layers: list[Any]) -> dict[str, Any]:
        shape = {"batch_input_shape" if generation == 2 else "batch_shape": [None, 4]}
        first = {"class_name": "InputLayer", "name": f"{name}_in", "config": {"name": f"{name}_in", **shape}}
        ends = {"input_layers": [[f"{name}_in", 0, 0]], "output_layers": [[layers[-1]["name"], 0, 0]]}
        return {"class_name": "Functional", "name": name, "config": {"name": name, "layers": [first, *layers], **ends}}

    layers = [dense(f"d{n}", calls(f"d{n - 1}" if n else "m_in")) for n in range(length)]
    inner = graph("inner", [dense("e", calls("inner_in"))])
    last = dense("last", [[["inner", 1, 0, {}]]] if generation == 2 else calls("inner"))
    made = graph("m", [*layers, {**inner, "inbound_nodes": calls(f"d{length - 1}")}, last])
    return {**made, "keras_version": "2.4.0"} if generation == 2 else made


def layers_of(config: dict[str, Any]) -> list[Any]:
    return config["config"]["layers"]


Change = Callable[[dict[str, Any]], Any]
E = "$.config.layers[4].config.layers[1]"
# What is changed, in files of which generations, where the fault is, and what it is.
FAULTS: dict[str, tuple[Change, tuple[int, ...], str, str]] = {
    "no layers": (lambda c: c["config"].pop("layers"), (2, 3), "$.config", "has no layers"),
    "layers": (lambda c: c["config"].update(layers={}), (2, 3), "$.config.layers", "is {}, where a list is wanted"),
    "layer": (lambda c: layers_of(c).insert(1, 3), (2, 3), "$.config.layers[1]", "is 3, where a mapping is wanted"),
    "class": (lambda c: layers_of(c)[2].pop("class_name"), (2, 3), "$.config.layers[2]", "has no class_name"),
    "no text": (lambda c: layers_of(c)[2].update(class_name=[1]), (2, 3), "$.config.layers[2].class_name", "is [1]"),
    "config": (
        lambda c: layers_of(c)[2].update(config=3),
        (2, 3),
        "$.config.layers[2].config",
        "is 3, where a mapping",
    ),
    "name": (lambda c: layers_of(c)[2].update(name=3), (2, 3), "$.config.layers[2].name", "is 3, where a text"),
    "frozen": (
        lambda c: layers_of(c)[2]["config"].update(trainable="x"),
        (2, 3),
        "$.config.layers[2].config.trainable",
        'is "x", where true or false',
    ),
    "calls": (
        lambda c: layers_of(c)[3].update(inbound_nodes=3),
        (2, 3),
        "$.config.layers[3].inbound_nodes",
        "is 3, where a list or nothing is wanted",
    ),
    "call": (
        lambda c: layers_of(c)[3].update(inbound_nodes=[3]),
        (2, 3),
        "$.config.layers[3].inbound_nodes[0]",
        "is 3, where a",
    ),
    "short": (
        lambda c: layers_of(c)[3].update(inbound_nodes=[[["d1", 0]]]),
        (2,),
        "$.config.layers[3].inbound_nodes[0][0]",
        'is ["d1", 0], where [layer, call, output] is wanted',
    ),
    "no number": (
        lambda c: layers_of(c)[3].update(inbound_nodes=[[["d1", "0", 0, {}]]]),
        (2,),
        "$.config.layers[3].inbound_nodes[0][0][1]",
        'is "0", where a whole number is wanted',
    ),
    "arguments": (
        lambda c: layers_of(c)[3].update(inbound_nodes=[{"args": 3}]),
        (3,),
        "$.config.layers[3].inbound_nodes[0].args",
        "is 3, where a list is wanted",
    ),
    "inner": (
        lambda c: layers_of(c)[4]["config"]["layers"][1].update(inbound_nodes=3),
        (2, 3),
        f"{E}.inbound_nodes",
        "is 3, where a list",
    ),
    "outputs": (lambda c: c["config"].update(output_layers=3), (2, 3), "$.config.output_layers", "is 3, where a list"),
    "none": (lambda c: c["config"].update(output_layers=[]), (2, 3), "$.config.output_layers", "is [], where"),
    "units": (
        lambda c: layers_of(c)[2]["config"].update(units=-3),
        (2, 3),
        "$.config.layers[2]",
        "'d1' can't be ported: 'units' of Dense must be at least 1, but is -3, in Dense: {name: d1, units: -3}",
    ),
    "no units": (
        lambda c: layers_of(c)[4]["config"]["layers"][1]["config"].pop("units"),
        (2, 3),
        E,
        "'e' can't be ported: Dense needs 'units'",
    ),
    "penalty": (
        lambda c: layers_of(c)[2]["config"].update(kernel_regularizer={"class_name": "L2", "config": {"l2": "x"}}),
        (3,),
        "$.config.layers[2]",
        "'d1' can't be ported: its config is damaged: ValueError",
    ),
    "unported": (
        lambda c: layers_of(c)[2]["config"].update(activation="none"),
        (2, 3),
        "$.config.layers[2]",
        "'d1' (Dense) can't be ported: the activation 'none'",
    ),
}
CASES = [(name, generation) for name, (_, generations, *_) in FAULTS.items() for generation in generations]


@pytest.mark.parametrize(("name", "generation"), CASES)
def test_places(name: str, generation: int, tmp_path: Path) -> None:
    change, _, place, what = FAULTS[name]
    path, config = tmp_path / "model.json", model(generation)
    path.write_text(json.dumps(config))
    assert regspec.port(path).spec
    change(config)
    path.write_text(json.dumps(config))
    with pytest.raises(regspec.RegspecError) as raised:
        regspec.port(path)
    problem = raised.value.problems[0]
    assert problem.path == f"{path}: {place}"
    assert problem.what.startswith(what)


def test_places_in_other_files(tmp_path: Path) -> None:
    """As they stand there: of get_config(), of HDF5, and of TensorFlow.js."""
    config = model(2)
    layers_of(config)[2]["class_name"] = 3

    def place(path: Path) -> str:
        with pytest.raises(regspec.RegspecError) as raised:
            regspec.port(path)
        return str(raised.value.problems[0].path).partition(": ")[2]

    (tmp_path / "a.json").write_text(json.dumps(config["config"]))
    assert place(tmp_path / "a.json") == "$.layers[2].class_name"
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["model_config"] = json.dumps(config)
    assert place(tmp_path / "a.h5") == "$.config.layers[2].class_name"
    broken = sequence({**FIRST, "class_name": 3})
    folder = written(tmp_path / "model", broken, {"d/kernel": KERNEL, "d/bias": BIAS})
    assert place(folder) == "$.modelTopology.model_config.config.layers[0].class_name"


def test_equal_hints_stand_once(tmp_path: Path) -> None:
    config = model(2)
    for layer in layers_of(config)[1:4]:
        layer["class_name"] = "Mine"
    (tmp_path / "model.json").write_text(json.dumps(config))
    with pytest.raises(regspec.RegspecError) as raised:
        regspec.port(tmp_path / "model.json")
    assert len(raised.value.problems) == 3
    assert all(problem.hint for problem in raised.value.problems)
    assert str(raised.value).count("--replace 'Mine=package.module:Class'") == 1
    assert str(raised.value).count("can't be ported: no kind ports the class Mine") == 3


def test_the_schemas_are_schemas() -> None:
    for schema in (model_schema(1), model_schema(2), model_schema(3), tfjs_schema()):
        Draft202012Validator.check_schema(schema)
    assert model_schema(1) == model_schema(2)


@pytest.mark.parametrize("generation", [2, 3])
def test_a_config_of_many_layers_is_checked_in_no_time(generation: int, tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps(copy.deepcopy(model(generation, 500))))
    started = time.process_time()
    assert reading.read(path).config
    assert time.process_time() - started < 1
