"""What a file is, by what is in it and not by its name: one table, from the first row that fits."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from regspec.keras.formats import hdf5, texts, tfjs, zipped
from regspec.keras.formats.archive import Archive
from regspec.keras.formats.folders import POINTED, POINTER, PULL
from regspec.keras.formats.saved_model import reading as saved_model
from regspec.keras.formats.sight import BLANKS, Sight

SAVE = "save the model itself in Keras: model.save('model.keras')"
NO_LAYERS = f"its graph has no layers of Keras, and so no penalties; where the model is at hand, {SAVE}"
WEIGHTS = "its config is needed too: regspec port model.json --weights FILE, where model.json is model.to_json()"
UNPACK = "unpack it, and give the model in it"
TORCH = "it needs no port: regspec.regularize gives penalties to any module of torch"
YAML = re.compile(r"(class_name|config|keras_version|backend|model_config)\s*:")


@dataclass(frozen=True)
class Form:
    """A row: what something is in words, whether a file or a folder is that, and how it is read or what else to do.

    ``read`` takes the path, and whether another file has the weights, ``has_others``; None for what can't be read.
    """

    words: str
    fits: Callable[[Sight], object]
    read: Callable[..., Archive] | None = None
    way_out: str | None = None


def form_of(sight: Sight) -> Form:
    """What a file or a folder is. Raises `RegspecError` for JSON that is broken or too large."""
    return next(form for form in FORMS if form.fits(sight))


def has_weights(sight: Sight) -> bool:
    """Whether it is an HDF5 file with the weights of a model of Keras, and without its config."""
    if not sight.is_hdf5:
        return False
    names = ("layer_names", "layer_names0", "model_weights", "layers", "_layer_checkpoint_dependencies", "vars")
    return any(name in sight.keys for name in names) or any("\\" in name for name in sight.keys)


def _without_arrays(read: Callable[[Path], Archive]) -> Callable[..., Archive]:
    """The reading of a form that holds no arrays, whether another file has them or not."""
    return lambda path, has_others: read(path)


def _is_shard(sight: Sight) -> bool:
    """Whether a file without marks of its own lies beside the model.json of TensorFlow.js."""
    beside = sight.path.parent / "model.json"
    return sight.path.suffix == ".bin" and beside.is_file() and Sight.of(beside).said("modelTopology")


def _is_graph_model(sight: Sight) -> bool:
    sight = sight.model
    if re.search(rb'"format"\s*:\s*"graph-model"', sight.start):  # before all of a graph is read
        return True
    if not sight.said("modelTopology"):
        return False
    topology = sight.json["modelTopology"]
    return sight.json.get("format") == "graph-model" or (isinstance(topology, dict) and "node" in topology)


def _is_of_saved_model(sight: Sight) -> bool:
    return sight.begins(b"\x08\x01\x12") or (sight.begins(b"\x0a") and b"_tf_keras_" in sight.start)


def _is_onnx(sight: Sight) -> bool:
    fields = [*sight.fields()]
    return len(fields) > 1 and sight.begins(b"\x08") and sight.start[1] < 32 and fields[1][0] in (2, 5, 7, 8)


def _is_frozen_graph(sight: Sight) -> bool:
    """A run of nodes: in each a name, and an operation."""
    number, node = next(sight.fields(), (0, b""))
    if number != 1 or node[:1] != b"\x0a" or len(node) < 4:
        return False
    return node[node[1] + 2 : node[1] + 3] == b"\x12" and node[2 : node[1] + 2].isascii()


FOLDERS = (
    Form(
        "a SavedModel of TensorFlow",
        lambda sight: sight.is_folder and {"saved_model.pb", "saved_model.pbtxt"} & {*sight.members},
        saved_model.read,
    ),
    Form("a graph model of TensorFlow.js", lambda sight: sight.is_folder and _is_graph_model(sight), way_out=NO_LAYERS),
    Form(
        "a layers model of TensorFlow.js",
        lambda sight: sight.is_folder and sight.model.said("modelTopology"),
        lambda path, has_others: tfjs.read(path / "model.json", has_others=has_others),
    ),
    Form(
        "a checkpoint of TensorFlow",
        lambda sight: (
            sight.is_folder
            and sight.ending(".index")
            and sight.ending(".data-00000-of-00001", "checkpoint")
            and not (sight.path.parent / saved_model.GRAPH).is_file()  # of which it is a part
        ),
        way_out=f"it has arrays without layers: load its weights into the model, and {SAVE}",
    ),
    Form(
        "a .keras file that was unpacked",
        lambda sight: sight.is_folder and {"config.json", "model.weights.h5"} <= {*sight.members},
        way_out="zip its files again as model.keras, and give that",
    ),
    Form(
        "a folder with models in it",
        lambda sight: sight.is_folder and sight.ending(".keras", ".h5", ".hdf5", "model.json"),
        way_out="give one of its files",
    ),
    Form("a folder", lambda sight: sight.is_folder, saved_model.read),  # which says what is nearest to it
)
HDF5 = (
    Form("an HDF5 model", lambda sight: sight.is_hdf5 and "model_config" in sight.keys, hdf5.read),
    Form("an HDF5 file of weights alone, without a model's config", has_weights, way_out=WEIGHTS),
    Form("HDF5", lambda sight: sight.is_hdf5 and not sight.keys, hdf5.read),  # which is damaged, or has nothing
    Form("an HDF5 file with no model of Keras in it", lambda sight: sight.is_hdf5),
)
ZIPS = (
    Form(
        "a model of PyTorch",
        lambda sight: sight.begins(b"PK") and sight.ending("/data.pkl", "/constants.pkl"),
        way_out=TORCH,
    ),
    Form(
        "an archive of NumPy's arrays",
        lambda sight: sight.begins(b"PK") and sight.members and all(name.endswith(".npy") for name in sight.members),
        way_out=f"it has arrays without layers: set them in the model, and {SAVE}",
    ),
    Form(
        "a zip with models in it",
        lambda sight: (
            sight.begins(b"PK\x03\x04")
            and not {*zipped.MEMBERS} & {*sight.members}
            and sight.ending(".keras", ".h5", ".hdf5", "saved_model.pb", "config.json", "model.json")
        ),
        way_out=UNPACK,
    ),
    Form("a .keras archive", lambda sight: sight.begins(b"PK\x03\x04"), zipped.read),
)
OTHERS = (
    Form("an empty file", lambda sight: not sight.size, way_out="was it downloaded whole?"),
    Form(POINTED, lambda sight: sight.begins(POINTER), way_out=PULL),
    Form("a model of TensorFlow Lite", lambda sight: sight.start[4:8] == b"TFL3", way_out=NO_LAYERS),
    Form(
        "a model of PyTorch",
        lambda sight: sight.begins(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20"),
        way_out=TORCH,
    ),
    Form(
        "a pickle, which is code, and is not run",
        lambda sight: sight.begins(*(bytes([128, version]) for version in range(2, 6))),
        way_out=f"load it where it was made, and {SAVE}",
    ),
    Form(
        "a file of safetensors",
        lambda sight: sight.start[8:9] == b"{" and 0 < int.from_bytes(sight.start[:8], "little") < sight.size,
        way_out="it has arrays without layers, and is no file of Keras",
    ),
    Form(
        "a compressed file", lambda sight: sight.begins(b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf"), None, UNPACK
    ),
    Form("a tar archive", lambda sight: sight.start[257:262] == b"ustar", way_out=UNPACK),
    Form("an image", lambda sight: sight.begins(b"\x89PNG", b"\xff\xd8\xff", b"GIF8") or sight.start[8:12] == b"WEBP"),
    Form("an array of NumPy", lambda sight: sight.begins(b"\x93NUMPY"), way_out="it has numbers without layers"),
    Form("a PDF", lambda sight: sight.begins(b"%PDF")),
    Form(
        "HTML or XML",
        lambda sight: sight.start.lstrip(BLANKS)[:1] == b"<",
        way_out="a page that was saved in place of the file? download the file itself",
    ),
    Form(
        "a SavedModel of TensorFlow",
        lambda sight: saved_model.is_saved_model(sight.path) and (sight.path.parent / saved_model.GRAPH).is_file(),
        saved_model.read,
    ),
    Form("a part of a SavedModel of TensorFlow", _is_of_saved_model, way_out="give its folder"),
    Form("a model of ONNX", _is_onnx, way_out=NO_LAYERS),
    Form("a frozen graph of TensorFlow", _is_frozen_graph, way_out=NO_LAYERS),
    Form(
        "a part of a checkpoint of TensorFlow",
        lambda sight: sight.end[-8:] == bytes.fromhex("57fb808b247547db") or sight.begins(b"model_checkpoint_path:"),
        way_out=f"it has arrays without layers: load its weights into the model, and {SAVE}",
    ),
)
TEXTS = (
    Form("a graph model of TensorFlow.js", _is_graph_model, way_out=NO_LAYERS),
    Form("a layers model of TensorFlow.js", lambda sight: sight.said("modelTopology"), tfjs.read),
    Form("JSON of a model of Keras", lambda sight: sight.is_json, _without_arrays(texts.read_json)),
    Form(
        "a spec of regspec",
        lambda sight: next((each for each in sight.lines if each[:1] not in ("", "#")), "").startswith("regspec:"),
        way_out="it needs no port: regspec check FILE",
    ),
    Form("YAML of a model of Keras", lambda sight: any(map(YAML.match, sight.lines)), _without_arrays(texts.read_yaml)),
    Form(
        "a file of weights of TensorFlow.js",
        _is_shard,
        way_out="give its folder, or the model.json in it",
    ),
    Form("a text, and no model of Keras", lambda sight: sight.lines, way_out=SAVE),
    Form("no file of Keras", lambda sight: True, way_out=SAVE),
)
FORMS = (*FOLDERS, *OTHERS, *HDF5, *ZIPS, *TEXTS)
