"""The good files of each format, in bytes: those that lie beside the tests, and some of today's Keras."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import h5py

ROOT = Path(__file__).parents[1]
Files = dict[str, bytes]  # by their names in a folder, or in a zip

# Small ones, each of which is ported in some hundredths of a second, of every generation.
MODELS = {
    "keras_1_2_2": ("branches", "graph", "merged_models"),
    "keras_2_0_8": ("channels_first", "nested"),
    "keras_2_2_4": ("wrapped",),
    "keras_2_3_1": ("wrapped",),
    "keras_2_12_0": ("graph",),
    "keras_2_21_0": ("unshaped", "structured", "cudnn", "various", "attending"),
}
WEIGHTS = (("keras_2_21_0/graph", ("legacy.h5", "weights.h5", "h5")), ("keras_2_14_0/counted", ("weights.h5",)))
ARCHIVES = ("keras_2_12_0/distributed", "keras_2_14_0/distributed", "keras_2_21_0/local")
FOLDERS = ("branches", "float16", "graph", "nested", "old", "recurrent", "sequence", "teachable", "uint16", "uint8")
SAVED = {
    "tf_2_1_0": ("attending",),
    "tf_2_4_4": ("distributed",),
    "tf_2_15_0": ("distributed", "graph"),
    "tf_2_21_0": ("distributed", "parts"),
}
GRAPHS = {"tf_2_4_4": ("module",), "tf_2_15_0": ("builder", "subclassed"), "tf_2_21_0": ("module", "subclassed")}


def make(folder: Path) -> None:
    """Writes files of today's Keras to a folder, from which the others here take them."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    dense = [layers.Dense(3, "relu", kernel_regularizer="l2"), layers.BatchNormalization(), layers.Dense(2)]
    x, shared = keras.Input((6, 4)), layers.Dense(4, activity_regularizer="l1")
    y = layers.Bidirectional(layers.LSTM(3))(layers.Conv1D(3, 2, kernel_constraint="max_norm")(shared(shared(x)) + x))
    models = {"sequence": keras.Sequential([keras.Input((5,)), *dense]), "graph": keras.Model(x, [y, y * 2])}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as Keras warns of its own files
        for name, model in models.items():
            _save(model, folder / name)


def _save(model: Any, path: Path) -> None:
    model.compile("adam", "mse")
    model.save(path.with_suffix(".h5"))
    model.save(path.with_suffix(".keras"))
    model.save_weights(path.with_suffix(".weights.h5"))
    path.with_suffix(".json").write_text(model.to_json())


@cache
def models(made: Path) -> tuple[bytes, ...]:
    """HDF5 files with a config."""
    kept = [ROOT / f"keras2/{folder}/{name}.h5" for folder, names in MODELS.items() for name in names]
    files = [each.read_bytes() for each in (*kept, made / "sequence.h5", made / "graph.h5")]
    return (*files, _newer(files[-2]))


def _newer(raw: bytes) -> bytes:
    """An HDF5 file in its newer form."""
    buffer = io.BytesIO()
    with h5py.File(io.BytesIO(raw)) as file, h5py.File(buffer, "w", libver="latest", track_order=True) as found:
        for name in file:
            file.copy(name, found)
        found.attrs.update(file.attrs)
    return buffer.getvalue()


@cache
def weights(made: Path) -> tuple[tuple[bytes, bytes], ...]:
    """Configs as JSON, each with an HDF5 file of its weights."""
    kept = [(ROOT / f"keras2/{name}", endings) for name, endings in WEIGHTS]
    kept += [(made / "sequence", ("weights.h5", "h5")), (made / "graph", ("weights.h5",))]
    files = [(path.with_suffix(".json"), path.with_suffix(f".{end}")) for path, endings in kept for end in endings]
    return tuple((config.read_bytes(), weights.read_bytes()) for config, weights in files)


@cache
def archives(made: Path) -> tuple[Files, ...]:
    """The members of ``.keras`` files."""
    kept = [ROOT / f"keras2/{name}.keras" for name in ARCHIVES]
    kept += [ROOT.parent / "examples/keras_mlp.keras", made / "sequence.keras", made / "graph.keras"]
    return tuple(_members(each.read_bytes()) for each in kept)


@cache
def folders(made: Path) -> tuple[Files, ...]:
    """The files of models of TensorFlow.js."""
    return tuple(
        {each.name: each.read_bytes() for each in sorted((ROOT / "tfjs" / name).glob("*")) if each.stem != "expected"}
        for name in FOLDERS
    )


@cache
def saved_models(made: Path) -> tuple[Files, ...]:
    """The files of SavedModels of Keras."""
    return _saved(SAVED)


@cache
def graphs(made: Path) -> tuple[Files, ...]:
    """The files of SavedModels of Keras, and of some without its layers."""
    return (*_saved(SAVED), *_saved(GRAPHS))


def _saved(names: Mapping[str, Sequence[str]]) -> tuple[Files, ...]:
    kept = [ROOT / f"saved_models/{folder}/{name}.zip" for folder, names in names.items() for name in names]
    return tuple(_members(each.read_bytes()) for each in kept)


def _members(raw: bytes) -> Files:
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
