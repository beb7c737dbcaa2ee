"""The arrays of a file that no loader of the Keras at hand reads, given to a model that it has made of the config.

Such are SavedModels, whose loader loads functions of the file, TensorFlow.js, and files of tf.keras 2.12 to 2.14 or of
Windows, whose groups have other names than today's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py

from regspec.keras.arrays.groups import layers_in_groups
from regspec.keras.verification.faults import keras_computes

if TYPE_CHECKING:
    from regspec.keras.arrays.files import ArrayFile


def has_todays_groups(arrays: ArrayFile, renewed: Mapping[str, Any]) -> bool:
    """Whether the Keras of today finds the arrays of a model's layers where a file has them."""
    if arrays.is_legacy:
        return True
    return not arrays.source.is_of_windows and all(old == new for old, new in _groups(arrays, renewed["config"]))


def give_arrays(model: Any, arrays: ArrayFile, renewed: Mapping[str, Any]) -> None:
    """Gives a model of Keras the arrays of a file; ``renewed`` is the model's config as Keras 3 would have it.

    Of a file that lists them by the names of layers each layer gets its own, in order. Any other is written again as
    Keras writes its ``.weights.h5`` files today, and loaded by it.

    Raises:
        KerasError: where it does not take them.
    """
    if arrays.is_legacy:
        for layer in _layers_of(model):
            if datasets := arrays.of_layer(layer.name):
                own = [arrays.array(each, each.shape) for each in datasets]
                with keras_computes():
                    layer.set_weights(own)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.weights.h5"
        with h5py.File(path, "w") as file:
            for name in ("layers", "vars"):  # which each such file has
                file.create_group(name)
            for old, new in _groups(arrays, renewed["config"]):
                for way, dataset in arrays.below(old).items():
                    file[f"{new}/{way}"] = dataset[()]
        load_weights(model, path)


def load_weights(model: Any, path: Path) -> None:
    """Has Keras load weights of a file. Raises `KerasError`."""
    with keras_computes():
        model.load_weights(str(path))


def _layers_of(model: Any) -> Iterator[Any]:
    """The layers of a model, and of the models among them."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _layers_of(layer)
        else:
            yield layer


def _groups(arrays: ArrayFile, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The groups of a model's layers in a file, and where Keras has them today."""
    before, today = layers_in_groups(config, arrays), layers_in_groups(config)
    return ((old, new) for (_, old), (_, new) in zip(before, today, strict=True))
