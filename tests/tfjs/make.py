"""Makes the folders of TensorFlow.js that `tests/test_port_tfjs.py` ports, of files of Keras 2 that are kept already.

Run by hand, in an environment of its own; the tests need none of it. Its package asks for more than this needs:

    pip install --no-deps tensorflowjs==4.22.0
    pip install h5py 'numpy<2' six packaging tensorflow-cpu==2.15 tf_keras==2.15
    python tests/tfjs/make.py

What Keras computes is beside the files of which they are made. For those with rounded weights `<folder>/expected.npz`
has the arrays as the converter's own reader gives them.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

for name in ("tensorflowjs", "tensorflowjs.converters"):  # whose own files import what is not needed
    package = types.ModuleType(name)
    package.__path__ = [str(Path(path) / name.replace(".", "/")) for path in sys.path]
    sys.modules[name] = package

from tensorflowjs import quantization, read_weights, write_weights  # noqa: E402
from tensorflowjs.converters import keras_h5_conversion  # noqa: E402

HERE = Path(__file__).parent
KEPT = HERE.parent / "keras2"
# The file of Keras, the largest size of a file in bytes, how weights are rounded, and whether each layer has a group.
FOLDERS: dict[str, tuple[str, int, dict[str, str], bool]] = {
    "graph": ("keras_2_21_0/graph.h5", 1001, {}, False),
    "nested": ("keras_2_21_0/nested.h5", 4 * 2**20, {}, True),
    "sequence": ("keras_2_21_0/sequence.h5", 4 * 2**20, {}, False),
    "old": ("keras_2_2_4/graph.h5", 4 * 2**20, {}, True),
    "uint8": ("keras_2_21_0/unshaped.h5", 33, {"uint8": "*"}, False),
    "uint16": ("keras_2_21_0/unshaped.h5", 4 * 2**20, {"uint16": "*"}, False),
    "float16": ("keras_2_21_0/unshaped.h5", 4 * 2**20, {"float16": "*"}, False),
}


def main() -> None:
    for folder, (name, size, rounded, by_layer) in FOLDERS.items():
        topology, groups = keras_h5_conversion.h5_merged_saved_model_to_tfjs_format(str(KEPT / name), by_layer)
        names = [weight["name"] for group in groups for weight in group]
        types_of = quantization.map_layers_to_quantization_dtype(names, rounded)
        (HERE / folder).mkdir(exist_ok=True)
        manifest = write_weights.write_weights(
            groups, str(HERE / folder), size, write_manifest=False, quantization_dtype_map=rounded
        )
        assert all(each in types_of for each in names) or not rounded
        model: dict[str, Any] = {
            "format": "layers-model",
            "generatedBy": f"keras v{topology['keras_version']}",
            "convertedBy": "TensorFlow.js Converter v4.22.0",
            "modelTopology": topology,
            "weightsManifest": manifest,
        }
        (HERE / folder / "model.json").write_text(json.dumps(model) + "\n")
        if rounded:
            read = read_weights.read_weights(manifest, str(HERE / folder), flatten=True)
            np.savez_compressed(HERE / folder / "expected.npz", **{each["name"]: each["data"] for each in read})


main()
