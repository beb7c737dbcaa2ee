"""Operations that can't be ported, and files that lie about them: a message, no traceback, and no memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops
from torch import Tensor

import regspec

pytestmark = pytest.mark.filterwarnings("ignore")  # of Keras, when it saves

REFUSED: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "cross": (lambda x, y: ops.cross(x[:, :3, :3], y[:, :3, :3], axisa=1), "Cross along the axes 1, -1, -1"),
    "all axes": (lambda x, y: ops.mean(x), "Mean with no axis mixes the examples of a batch"),
    "a flat sum": (lambda x, y: ops.cumsum(x), "Cumsum with no axis mixes"),
    "softmax of the batch": (lambda x, y: ops.softmax(x, axis=0), "Softmax with axis 0 mixes"),
    "softmax of all": (lambda x, y: ops.softmax(x, axis=None), "Softmax with no axis mixes"),
    "the batch": (lambda x, y: ops.max(x, axis=0), "has axis 0, which is the batch"),
    "an example": (lambda x, y: x[0], "takes a part of axis 0, which is the batch"),
    "transposed": (lambda x, y: ops.transpose(x), "Transpose with the axes None mixes"),
    "concatenated": (lambda x, y: ops.concatenate([x, y]), "Concatenate with axis 0 mixes"),
    "other ranks": (lambda x, y: x + ops.mean(y, axis=1), "tensors of different ranks"),
    "compared ranks": (lambda x, y: x > ops.mean(y, axis=1), "put an ExpandDims before"),
    "flattened": (lambda x, y: ops.ravel(x), "Ravel with the batch as its first axis mixes"),
    "a fixed batch": (lambda x, y: ops.reshape(x, (35, -1)), "a shape that does not begin with -1"),
    "a dot of tensors": (lambda x, y: ops.dot(x, ops.transpose(y, (0, 2, 1))), "Dot with two tensors mixes"),
    "an outer product": (lambda x, y: ops.outer(x, y), "Outer with the batch"),
    "take by a tensor": (
        lambda x, y: ops.take(x, ops.argmax(y, axis=1), axis=1),
        "Take with indices that are a tensor mixes",
    ),
    "einsum": (lambda x, y: ops.einsum("bij,bik->jk", x, y), "mixes examples"),
    "many boundaries": (lambda x, y: ops.digitize(x, np.linspace(0, 1, 20_000)), "with 20,000 numbers in its config"),
    "an array for each example": (lambda x, y: x + np.zeros((3, 7, 5)), "which count examples"),
    "infinity": (lambda x, y: ops.clip(x, 0, np.inf), "Clip with the number inf"),
    "several shares": (lambda x, y: ops.quantile(x, [0.1, 0.2], axis=1), "for several shares"),
    "unknown": (lambda x, y: ops.argpartition(x, 1, axis=1), "no kind ports the operation Argpartition"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    case, message = REFUSED[name]
    x, y = keras.Input((7, 5)), keras.Input((7, 5))
    keras.Model([x, y], [case(x, y), x * y]).save(tmp_path / "model.keras")
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.port(tmp_path / "model.keras")
    assert message in str(caught.value)


def test_a_forgotten_method_is_noted(tmp_path: Path) -> None:
    x = keras.Input((7, 5))
    keras.Model(x, ops.quantile(x, 0.3, axis=1, method="lower")).save(tmp_path / "model.keras")
    values = torch.randn(3, 7, 5)
    port = regspec.port(tmp_path / "model.keras")
    assert any("forgets the method" in note for note in port.notes)
    torch.testing.assert_close(port.build()(values), values.quantile(0.3, 1))
    port = regspec.port(tmp_path / "model.keras", keeps_quirks=False)
    assert not port.notes
    torch.testing.assert_close(port.build()(values), values.quantile(0.3, 1, interpolation="lower"))


@keras.saving.register_keras_serializable("mine")
class Square(layers.Layer):
    def call(self, x: Tensor) -> Tensor:
        return x * 3


def test_a_layer_of_the_users_own_with_the_name_of_an_operation(tmp_path: Path) -> None:
    keras.Sequential([keras.Input((4,)), Square()]).save(tmp_path / "model.keras")
    with pytest.raises(regspec.RegspecError, match=r"'square(_\d+)?' \(Square\) can't be ported"):
        regspec.port(tmp_path / "model.keras")


# -- files that lie ----------------------------------------------------------------------------------------------------


def written(tmp_path: Path, class_name: str, config: Any, args: list[Any], kwargs: Any = None) -> Path:
    """A config with one operation on an input (1, 5)."""
    tensor = {"class_name": "__keras_tensor__", "config": {"shape": [None, 1, 5], "keras_history": ["x", 0, 0]}}
    args = [tensor if each == "x" else each for each in args]
    operation = {
        "module": "keras.src.ops.numpy",
        "class_name": class_name,
        "config": config,
        "name": "operation",
        "inbound_nodes": [{"args": args, "kwargs": kwargs or {}}],
    }
    first = {"class_name": "InputLayer", "config": {"name": "x", "batch_shape": [None, 1, 5]}, "name": "x"}
    whole = {"layers": [first, operation], "input_layers": ["x", 0, 0], "output_layers": ["operation", 0, 0]}
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"class_name": "Functional", "config": whole}))
    return path


HUGE = 2**31 - 1
LARGE: list[tuple[str, Any, list[Any]]] = [
    ("Repeat", {"repeats": HUGE, "axis": 1}, ["x"]),
    ("Tile", {"repeats": [1, HUGE, HUGE]}, ["x"]),
    ("Pad", {"pad_width": [[0, 0], [HUGE, HUGE], [0, 0]]}, ["x"]),
    ("BroadcastTo", {"shape": [-1, HUGE, 5]}, ["x"]),
    ("OneHot", {"num_classes": HUGE}, ["x"]),
    ("MultiHot", {"num_classes": HUGE}, ["x"]),
    ("Triu", {"k": HUGE}, ["x"]),
]


@pytest.mark.parametrize(("class_name", "config", "args"), LARGE, ids=[case[0] for case in LARGE])
def test_large_sizes_take_no_memory_before_the_model_runs(
    class_name: str, config: Any, args: list[Any], tmp_path: Path
) -> None:
    port = regspec.port(written(tmp_path, class_name, config, args))
    assert sum(each.numel() for each in port.build().buffers()) == 0


DAMAGED: list[tuple[str, Any, list[Any], Any]] = [
    ("Repeat", {"repeats": 10**30, "axis": 1}, ["x"], None),
    ("Repeat", {"repeats": [10**9] * 10_001, "axis": 1}, ["x"], None),
    ("Split", {"indices_or_sections": 10**9, "axis": 2}, ["x"], None),
    ("Unstack", {"num": 10**9, "axis": 2}, ["x"], None),
    ("GetItem", {}, ["x", {"class_name": "__slice__", "config": {"start": {}, "stop": [], "step": "os"}}], None),
    ("GetItem", {}, ["x", ["__import__('os')"]], None),
    ("GetItem", {}, ["x", {"class_name": "__lambda__", "config": {"value": "…"}}], None),
    ("GetItem", {}, ["x", 10**40], None),
    ("Add", {}, ["x", {"class_name": "__numpy__", "config": {"value": [[1], [1, 2]], "dtype": "float32"}}], None),
    ("Add", {}, ["x", {"class_name": "__numpy__", "config": {"value": [[1.5] * 50, [1.5] * 40]}}], None),
    ("Add", {}, ["x", {"class_name": "__numpy__", "config": {"value": [1.5] * 70 + ["a"]}}], None),
    ("Add", {}, ["x", {"class_name": "__numpy__", "config": {"value": [[[1.5] * 5]] * 50}}], None),
    ("Add", {}, ["x", {"class_name": "__numpy__", "config": 3}], None),
    ("Add", {}, ["x", {"module": "os", "class_name": "system", "config": {"command": "ls"}}], None),
    ("Add", {}, ["x", "x.__class__"], None),
    ("Add", {}, ["x", "x", "x"], None),
    ("Add", {}, [1, 2], None),
    ("Add", {}, [], None),
    ("Add", {"name": ["a"], "strange": 3}, ["x", 1], None),
    ("Einsum", {"subscripts": "a" * 10_000}, ["x"], None),
    ("Einsum", {"subscripts": ["bij->bij"]}, ["x"], None),
    ("Einsum", {"subscripts": "...->..." * 20}, ["x"], None),
    ("Select", {}, [["x"] * 3, ["x"] * 2], None),
    ("Relu", {"slope": 3}, ["x"], None),
    ("Gelu", {"approximate": {"a": 1}}, ["x"], None),
    ("Cast", {"dtype": "float32; import os"}, ["x"], None),
    ("Reshape", {"newshape": [-1, "x"]}, ["x"], None),
    ("Reshape", {"newshape": {"a": 1}}, ["x"], None),
    ("Transpose", {"axes": [0, "1", 2]}, ["x"], None),
    ("Transpose", {"axes": [[0]]}, ["x"], None),
    ("Mean", {"axis": [1.5]}, ["x"], None),
    ("Mean", {"axis": "1"}, ["x"], None),
    ("Average", {"axis": 2}, ["x"], {"weights": [1, "a"]}),
    ("Average", {"axis": 2}, ["x"], {"weights": [0.0, 0.0]}),
    ("BatchNorm", {"axis": -1}, ["x", [1.0], [-1.0]], None),
    ("BatchNorm", {"axis": -1}, ["x", "mean", None], None),
    ("BatchNorm", {"axis": -1}, ["x", [1.0] * 5, [-1e-3] * 5], None),
    ("Average", {"axis": 2}, ["x"], {"weights": [10**400, 1.5, 1, 1, 1]}),
    ("Add", {}, ["x", [10**400, *[1.5] * 70]], None),
    ("Add", {}, ["x", [1.5] * 70], None),
    ("Power", {}, ["x", 10**400], None),
    ("Norm", {"ord": "os", "axis": 1}, ["x"], None),
    ("Percentile", {"axis": 1}, ["x"], {"q": 300}),
    ("Pad", {"pad_width": "all"}, ["x"], None),
    ("MaxPool", {"pool_size": [1] * 9}, ["x"], None),
    ("Resize", {"size": [1, 2, 3]}, ["x"], None),
    ("PadImages", {"target_height": "a", "target_width": 1}, ["x"], None),
    ("Conv", {}, ["x", "x"], None),
    ("Conv", {}, ["x", [[[1.0], [2.0, 3.0]]]], None),
    ("Conv", {}, ["x", [[[]]]], None),
    ("Conv", {}, ["x"], None),
    ("SeparableConv", {}, ["x", [[[1.0]]]], None),
    ("Nothing", {}, ["x"], None),
]


@pytest.mark.parametrize(
    ("class_name", "config", "args", "kwargs"), DAMAGED, ids=[f"{c[0]} {c[1:]}"[:50] for c in DAMAGED]
)
def test_damaged_operations_are_faults_and_no_more(
    class_name: str, config: Any, args: list[Any], kwargs: Any, tmp_path: Path
) -> None:
    with pytest.raises(regspec.RegspecError):
        regspec.port(written(tmp_path, class_name, config, args, kwargs))
