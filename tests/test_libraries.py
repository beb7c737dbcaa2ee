"""Layers of QKeras, Larq and HGQ: named as what they are, by what a file says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import regspec
from regspec.keras.configs.libraries import library_of

LAYERS: list[tuple[dict[str, Any], str | None]] = [
    ({"class_name": "QDense"}, "QKeras"),
    ({"class_name": "QActivation"}, "QKeras"),
    ({"class_name": "QConv2DBatchnorm"}, "QKeras"),
    ({"class_name": "QDense", "module": "qkeras.qlayers", "registered_name": "QDense"}, "QKeras"),
    ({"class_name": "Larq>QuantConv2D"}, "Larq"),
    ({"class_name": "QuantDense", "module": "larq.layers", "registered_name": "Larq>QuantDense"}, "Larq"),
    ({"class_name": "QuantSeparableConv2D"}, "Larq"),
    ({"class_name": "HGQ>HDense"}, "HGQ"),
    ({"class_name": "HQuantize"}, "HGQ"),
    ({"class_name": "QDense", "module": "hgq.layers.core.dense", "registered_name": "hgq>QDense"}, "HGQ"),
    ({"class_name": "Query"}, None),
    ({"class_name": "HighPass", "module": "mine", "registered_name": "mine>HighPass"}, None),
]


@pytest.mark.parametrize(("item", "name"), LAYERS)
def test_whose_layers_these_are(item: dict[str, Any], name: str | None) -> None:
    found = library_of(item)
    assert (None if found is None else found.name) == name


@pytest.mark.parametrize(
    ("class_name", "message", "hint"),
    [
        ("QDense", "it is a layer of QKeras, which rounds weights", "let qkeras.utils.model_save_quantized_weights"),
        (
            "Larq>QuantDense",
            "it is a layer of Larq, which computes with weights of one bit",
            "save it in larq.context.",
        ),
        (
            "HDense",
            "it is a layer of HGQ, which rounds each number",
            "set its rounded weights in a model of Keras's own",
        ),
    ],
)
def test_a_file_with_one(class_name: str, message: str, hint: str, tmp_path: Path) -> None:
    layer = {"class_name": class_name, "config": {"name": "d", "units": 3, "batch_input_shape": [None, 4]}}
    config = {"class_name": "Sequential", "keras_version": "2.4.0", "config": {"name": "m", "layers": [layer]}}
    (tmp_path / "model.json").write_text(json.dumps(config))
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.port(tmp_path / "model.json")
    (problem,) = caught.value.problems
    assert problem.what.startswith(f"'d' ({class_name}) can't be ported: {message}")
    assert problem.hint is not None
    assert problem.hint.startswith(hint)
    assert f"--replace '{class_name}=package.module:Class'" in problem.hint
