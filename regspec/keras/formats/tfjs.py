"""Layers models of TensorFlow.js: `model.json` and its files, as the file of Keras that the same model would have been.

The arrays are named by what Keras called the variables, `dense/kernel`: by its layer, the name of a model inside left
out. So each layer gets its arrays by name, in the order in which they stand.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from regspec.keras.arrays.files import ArrayFile
from regspec.keras.arrays.held import InGroups, InLayers, Numbers
from regspec.keras.configs.models import MODELS, name_of
from regspec.keras.formats.archive import Archive
from regspec.keras.formats.configs import json_in, mapping_in, string_in
from regspec.keras.formats.envelopes import check_schema
from regspec.keras.formats.manifests import weights_in
from regspec.keras.formats.schemas import tfjs_schema
from regspec.text.problems import Problem, RegspecError

PLACES = re.compile(r"(layers|_layer_checkpoint_dependencies)/(.*/)?vars/[0-9]+")  # as a .keras file names arrays
OF_CELLS = ("RNN",)  # layers that take any cell, or several
OF_RECURRENT = frozenset(  # the fields of such a layer itself, and not of its cell
    (
        *("name", "trainable", "dtype", "batch_input_shape", "input_dtype", "return_sequences", "return_state"),
        *("go_backwards", "stateful", "unroll", "activity_regularizer"),
    )
)
MAX_PARTS = 16  # of the name of an array
Arrays = Mapping[str, "NDArray[Any]"]


def read(path: Path, *, has_others: bool) -> Archive:
    """What a `model.json` says, with the arrays of the files beside it. Raises `RegspecError`."""
    found = json_in(path)
    check_schema(found, tfjs_schema(), lambda way: f"{path}: {way}")
    topology = found["modelTopology"]
    model = mapping_in(topology.get("model_config", topology))
    version, backend = string_in(topology.get("keras_version")), string_in(topology.get("backend"))
    is_javascript = backend == "tensor_flow.js" or str(version).startswith("tfjs")
    config = {key: model[key] for key in ("class_name", "config", "name") if key in model}
    config = {**(_of_python(config) if is_javascript else config), "keras_version": version, "backend": backend}
    training = topology.get("training_config") or found.get("trainingConfig")
    arrays = None
    if not has_others and found.get("weightsManifest"):
        arrays = _file_of(weights_in(found["weightsManifest"], path), config, path)
    within = f"$.modelTopology{'.model_config' * ('model_config' in topology)}.config"
    training = mapping_in(training)
    return Archive(path, config, version, arrays, form="TensorFlow.js", training=training, within=within)


def _of_python(value: Any) -> Any:
    """A config of JavaScript as Python writes it: without nulls, which stand for defaults, and with cells in one."""
    if isinstance(value, list):
        return [_of_python(each) for each in value]
    if not isinstance(value, dict):
        return value
    found = {key: _of_python(each) for key, each in value.items() if each is not None}
    own = found.get("config")
    if found.get("class_name") in OF_CELLS and isinstance(own, dict):
        cells = {"class_name": "StackedRNNCells", "config": {"name": "cells", "cells": own.get("cells")}}
        cell = own.get("cell") or cells  # whose fields stand among those of the layer, too
        found["config"] = {"cell": cell, **{key: each for key, each in own.items() if key in OF_RECURRENT}}
    return found


def _file_of(arrays: Arrays, config: Mapping[str, Any], path: Path) -> ArrayFile:
    """The arrays as a file of Keras: by the places of layers where these are their names, and else by layers' names."""
    if any(map(PLACES.fullmatch, arrays)):
        return ArrayFile(InGroups({name: Numbers.of(array) for name, array in arrays.items()}), path)
    by_layer = {
        layer: {f"{number}/{name.rpartition('/')[2]}": Numbers.of(own[name]) for number, name in enumerate(own)}
        for layer, own in _by_layer(arrays, config, path).items()
    }
    return ArrayFile(InLayers(by_layer), path)


def _by_layer(arrays: Arrays, config: Mapping[str, Any], path: Path) -> dict[str, dict[str, NDArray[Any]]]:
    """The arrays of each layer by their names, in order.

    Raises:
        RegspecError: for an array whose name names no layer, or one of several layers.
    """
    counts = Counter(_names_of_layers(config.get("config")))
    found: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in arrays.items():
        parts = name.split("/")[:MAX_PARTS]
        ways = ("/".join(parts[start:end]) for start in range(len(parts)) for end in range(len(parts) - 1, start, -1))
        layer = next((way for way in ways if way in counts), None)
        if layer is None or counts[layer] > 1:
            which = f"{counts[layer]} layers of the name '{layer}'" if layer else "none of its layers"
            hint = "the model's own file, .keras or .h5, says more" if layer else None
            raise RegspecError(Problem(f"has the weight '{name[:80]}' of {which}", hint, f"{path}: $.weightsManifest"))
        found.setdefault(layer, {})[name] = array
    return found


def _names_of_layers(config: Any) -> Iterator[str]:
    """The names of a model's layers, and of those in models inside."""
    layers = config.get("layers") if isinstance(config, dict) else config
    for layer in layers if isinstance(layers, list) else ():
        if isinstance(layer, dict) and layer.get("class_name") in MODELS:
            yield from _names_of_layers(layer.get("config"))
        elif isinstance(layer, dict) and "class_name" in layer:
            yield name_of(layer)
