"""The bytes of a `.keras` file: a config, and the arrays of its weights in the groups in which Keras looks for them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from regspec.keras.arrays.groups import groups_of
from regspec.keras.arrays.matching import Arrays, WeightPath
from regspec.keras.formats.zipped import MEMBERS
from regspec.targets.keras.config import config_of
from regspec.targets.keras.network import Network

if TYPE_CHECKING:
    from numpy.typing import NDArray

VERSION = "3.15.1"  # of Keras, by which the meaning of a config goes
_DATE = (1980, 1, 1, 0, 0, 0)  # of members, so that one model gives one file


def archived(network: Network, arrays: Arrays, compiled: Mapping[str, Any], said: Mapping[str, Any]) -> bytes:
    """A `.keras` file of a network with the arrays of its weights.

    Args:
        network: the model.
        arrays: of its weights.
        compiled: what it was compiled with, if anything.
        said: what is said of it besides, which Keras does not read.
    """
    config = config_of(network)
    contents = {
        "config.json": json.dumps({**config, **({"compile_config": compiled} if compiled else {})}).encode(),
        "metadata.json": json.dumps({"keras_version": VERSION, **({"regspec": said} if said else {})}).encode(),
        "model.weights.h5": weights_file(network, arrays, config),
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in MEMBERS:
            archive.writestr(zipfile.ZipInfo(name, _DATE), contents[name])
    return file.getvalue()


def weights_file(network: Network, arrays: Arrays, config: Mapping[str, Any]) -> bytes:
    """A `.weights.h5` file: a group for each layer of a config, numbered by class."""
    file = io.BytesIO()
    with h5py.File(file, "w") as written:
        for path, layer, array in _places(network, arrays, config["config"], "", ()):
            group, _, number = path.rpartition("/")
            written.require_group(group).attrs["name"] = layer
            written[group].create_dataset(number, data=array)
    return file.getvalue()


def _places(
    network: Network, arrays: Arrays, config: Mapping[str, Any], at: str, within: WeightPath
) -> Iterator[tuple[str, str, NDArray[np.generic]]]:
    """Each array with its path in the file, and with the name of its layer."""
    groups = groups_of(config, at)
    inner = {layer["name"]: layer["config"] for layer in config["layers"]}
    for call in network.calls:
        group = groups.get(call.layer)
        if isinstance(call.made, Network):
            yield from _places(call.made, arrays, inner[call.layer], f"{group}/", (*within, call.layer))
        for stored in call.weights:
            array = arrays[(*within, call.layer, stored.weight.name)]
            moved = array.transpose(stored.order) if stored.order else array
            yield f"{group}/{stored.path}", call.layer, moved
        for path, number in call.numbers.items():
            yield f"{group}/{path}", call.layer, np.asarray(number, "int32")
