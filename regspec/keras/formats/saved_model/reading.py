"""The reading of a SavedModel, as the same model's config and ``.weights.h5`` file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from regspec.keras.arrays.files import ArrayFile
from regspec.keras.arrays.held import InGroups, Numbers
from regspec.keras.arrays.sources import damaged
from regspec.keras.configs.models import is_model
from regspec.keras.formats.archive import Archive
from regspec.keras.formats.configs import mapping_in, parsed, string_in
from regspec.keras.formats.folders import file_in
from regspec.keras.formats.saved_model.bundle import Bundle
from regspec.keras.formats.saved_model.objects import Item, completed, is_of_keras, keys_in, saved_in, stored_in
from regspec.keras.formats.saved_model.protobuf import Message
from regspec.keras.formats.saved_model.signatures import signatures
from regspec.text.problems import Problem, RegspecError

GRAPH, WORDS, TEXT = "saved_model.pb", "keras_metadata.pb", "saved_model.pbtxt"
INDEX = "variables/variables.index"
OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"  # the key of the graph of the bundle's objects
MAX_PATH = 4096  # characters of the path to an array
MAX_FILE = 2**31  # bytes of a message, as of any protocol buffer
LISTS = ("__tuple__", "TensorShape")  # how Keras writes them in JSON
SAVE = "save the model itself where it was made: model.save('model.keras') or model.save('model.h5')"


def is_saved_model(path: Path) -> bool:
    """Whether a path leads to a SavedModel, or to a folder, which nothing else is."""
    return path.is_dir() or path.name in (GRAPH, WORDS, TEXT)


def read(path: Path, *, has_others: bool) -> Archive:
    """What a SavedModel says: its folder, or the graph in it; with its weights, unless those of another file are given.

    Raises:
        RegspecError: where it has no layers of Keras, or is damaged.
    """
    path.stat()  # which is an error where nothing is there
    folder = path if path.is_dir() else path.parent
    stored = _graph_in(folder)
    with damaged(stored):
        graph = _message(stored).message(2)
        words = None if (more := file_in(folder, WORDS)) is None else _message(more)
        saved = saved_in(graph.message(7), words)
        text = saved.at(0).said if saved.messages else ""
        own, item = _model_in(text, folder, signatures(graph), is_torn=words is None and is_of_keras(saved))
    with damaged(folder):
        config = completed(saved, item)
        arrays = None if has_others else _arrays(folder, item)
    said_before = {key: own[key] for key in ("keras_version", "backend") if key in own}
    return Archive(
        folder,
        {**config, **said_before},
        string_in(own.get("keras_version")),
        arrays,
        form="SavedModel",
        training=mapping_in(own.get("training_config")),
    )


def _graph_in(folder: Path) -> Path:
    """The file of the graph in a folder. Raises `RegspecError` where there is none that can be read."""
    if (path := file_in(folder, GRAPH)) is not None:
        return path
    if (folder / TEXT).is_file():
        what = f"is a SavedModel as text, {TEXT}, which is not read"
        raise RegspecError(Problem(what, f"load it with TensorFlow, and {SAVE}", str(folder)))
    hint = f"a SavedModel has a {GRAPH}"
    near = [each.parent for each in (*sorted(folder.glob(f"*/{GRAPH}")), folder.parent / GRAPH) if each.is_file()]
    if near:
        hint += f": did you mean '{near[0]}'?"
    raise RegspecError(Problem("is a folder, and no SavedModel", hint, str(folder)))


def _message(path: Path) -> Message:
    """A file as a message, of which nothing is in memory but what is read."""
    size = path.stat().st_size
    if not 0 < size < MAX_FILE:
        raise RegspecError(Problem(f"has {size:,} bytes, as no SavedModel has", path=str(path)))
    return Message(np.memmap(path, np.uint8, "r").data)


def _model_in(text: str, folder: Path, shown: str, *, is_torn: bool) -> tuple[Mapping[str, Any], Item]:
    """What Keras says of the model, and its config. Raises `RegspecError` where it says nothing of its layers.

    Args:
        text: Keras's words on the model, if there are any.
        folder: the SavedModel's.
        shown: its signatures.
        is_torn: whether it is Keras's, and its words must have been elsewhere.
    """
    signature = f": {shown}" if shown else ""
    if not text and is_torn:
        what = f"has no {WORDS}, in which Keras says what its layers are"
        raise RegspecError(Problem(what, "give the whole folder, as it was saved", str(folder)))
    if not text:
        what = f"is a SavedModel without a model of Keras: the graph of its computation alone{signature}"
        raise RegspecError(Problem(what, SAVE, str(folder)))
    own: Item = _plain(parsed(text, folder))
    item: Item = {"class_name": own.get("class_name"), "config": own.get("config")}
    name = str(item["class_name"])[:60]
    if not is_model(item["config"]) or not all(_is_layer(each) for each in item["config"]["layers"]):
        what = f"is a SavedModel of the class '{name}', which is no Sequential or functional model: its layers are "
        hint = f"write the model in torch, and take its weights from the file; or, of a layer's model, {SAVE}"
        raise RegspecError(Problem(f"{what}known to its own code alone{signature}", hint, str(folder)))
    return own, item


def _is_layer(item: Any) -> bool:
    """Whether a value is a layer's config, and so are those of the layers in it."""
    if not (isinstance(item, dict) and isinstance(item.get("class_name"), str)):
        return False
    return not is_model(item.get("config")) or all(_is_layer(each) for each in item["config"]["layers"])


def _plain(value: Any) -> Any:
    """A config with lists where Keras writes that they were tuples, or shapes."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") in LISTS and isinstance(value.get("items"), list):
        return _plain(value["items"])
    return {key: _plain(each) for key, each in value.items()}


def _arrays(folder: Path, item: Item) -> ArrayFile:
    """The arrays of a model, as they lie in its ``.weights.h5`` file."""
    if (index := file_in(folder, INDEX)) is None:
        what, hint = f"has no {INDEX}, and so no weights", "give the whole folder, as it was saved"
        raise RegspecError(Problem(what, f"{hint}; or other weights: --weights FILE", str(folder)))
    bundle = Bundle(index, folder)
    if OBJECTS.encode() not in bundle.rows:
        raise ValueError("its arrays are those of no objects")
    found: dict[str, Numbers] = {}
    for own, key in keys_in(stored_in(bundle.text(OBJECTS)), item):
        if own in found or len(own) > MAX_PATH:
            raise ValueError(f"it has several arrays at '{own[:80]}', or one too deep")
        found[own] = bundle.numbers(key)
    return ArrayFile(InGroups(found), folder)
