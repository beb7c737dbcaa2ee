"""Outputs that are nested: each tensor once, by a name or a place that a note tells, or in the order of Keras."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
import torch
from keras import layers

import regspec

from .ported import flat

pytestmark = pytest.mark.filterwarnings("ignore")  # of Keras, when it saves

# What a model gives, of two tensors; and what its port gives: names, or how many.
STRUCTURES: dict[str, tuple[Callable[[Any, Any], Any], list[str] | int]] = {
    "one": (lambda x, r: x, 1),
    "a list of one": (lambda x, r: [x], 1),
    "a list": (lambda x, r: [x, r], 2),
    "a mapping": (lambda x, r: {"x": x, "r": r}, ["x", "r"]),
    "a mapping of one": (lambda x, r: {"a": x}, ["a"]),
    "a list in a mapping": (lambda x, r: {"x": x, "deep": [x, r]}, ["x", "deep_0", "deep_1"]),
    "a list of one in a mapping": (lambda x, r: {"a": [x]}, ["a_0"]),
    "a tuple in a mapping": (lambda x, r: {"x": x, "deep": (r, [x])}, ["x", "deep_0", "deep_1_0"]),
    "a mapping in a mapping": (lambda x, r: {"deep": {"r": r}}, ["deep_r"]),
    "mappings all the way": (lambda x, r: {"a": {"b": {"d": r, "e": x}}}, ["a_b_d", "a_b_e"]),
    "a list in a list": (lambda x, r: [[x]], 1),
    "lists in a list": (lambda x, r: [r, [x, [r]]], 3),
    "a tuple in a tuple": (lambda x, r: (x, (r,)), 2),
    "a mapping in a list": (lambda x, r: [x, {"b": r, "a": x}], 3),
    "names that meet": (lambda x, r: {"deep": [r], "deep_0": x}, ["deep_0_2", "deep_0"]),
}


def tensors(structure: Callable[[Any, Any], Any]) -> tuple[Any, Any]:
    i = keras.Input((4,), name="i")
    x = layers.Dense(3, name="x")(i)
    return i, structure(x, layers.ReLU(name="r")(x))


@pytest.mark.parametrize("form", ["keras", "h5"])
@pytest.mark.parametrize("name", STRUCTURES)
def test_of_a_model(name: str, form: str, tmp_path: Path) -> None:
    structure, wanted = STRUCTURES[name]
    model = keras.Model(*tensors(structure))
    model.save(tmp_path / f"model.{form}")
    port, inputs = regspec.port(tmp_path / f"model.{form}"), torch.randn(5, 4)
    got, expected = port.build()(inputs), model(inputs)
    if isinstance(wanted, list):
        assert [*got] == wanted
        for path, x in keras.tree.flatten_with_path(expected):
            key = "_".join(map(str, path))
            torch.testing.assert_close(got["deep_0_2" if name == "names that meet" and len(path) > 1 else key], x)
    else:
        assert isinstance(got, torch.Tensor) == (wanted == 1)
        for a, b in zip(flat(got), flat(expected), strict=True):
            torch.testing.assert_close(a, b)
        assert len(flat(got)) == wanted
    paths = [path for path, _ in keras.tree.flatten_with_path(structure(1, 2))]
    is_nested = any(len(path) > 1 for path in paths)
    assert any("which the file nests" in note for note in port.notes) == is_nested
    if is_nested:
        for path in (each for each in paths if len(each) > 1):
            assert "".join(f"[{key!r}]" for key in path) in " ".join(port.notes)
    verification = port.verify()
    assert verification.passed
    assert verification.reference is not None


@pytest.mark.parametrize("name", STRUCTURES)
def test_of_a_model_inside(name: str, tmp_path: Path) -> None:
    """Each of its outputs is taken by the place that Keras gives it."""
    inner = keras.Model(*tensors(STRUCTURES[name][0]), name="inner")
    x = keras.Input((4,))
    scaled = [each * (index + 2.0) for index, each in enumerate(keras.tree.flatten(inner(x)))]
    model = keras.Model(x, scaled)
    model.save(tmp_path / "model.keras")
    inputs = torch.randn(5, 4)
    for a, b in zip(flat(regspec.port(tmp_path / "model.keras").build()(inputs)), flat(model(inputs)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    "structure",
    [lambda a, b, c: {"a": a, "z": [b, c]}, lambda a, b, c: [a, {"c": c, "b": [b]}]],
    ids=["mapping", "list"],
)
def test_inputs(structure: Callable[[Any, Any, Any], Any], tmp_path: Path) -> None:
    """One after the other, as the file lists them."""
    a, b, c = (keras.Input((size,), name=name) for size, name in ((4, "a"), (5, "b"), (6, "c")))
    y = layers.Concatenate()([layers.Dense(2)(a), layers.Dense(3)(b), c])
    model = keras.Model(structure(a, b, c), y, name="inner")
    model.save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    given = {"a": torch.randn(3, 4), "b": torch.randn(3, 5), "c": torch.randn(3, 6)}
    wanted = model(structure(given["a"], given["b"], given["c"]))
    torch.testing.assert_close(port.build()(**given), wanted)
    assert port.verify().passed
    nested = [path for path, _ in keras.tree.flatten_with_path(structure(1, 2, 3)) if len(path) > 1]
    assert len(port.notes) == len(nested)
    for path, note in zip(nested, port.notes, strict=True):
        assert note.startswith(f"the input {''.join(f'[{key!r}]' for key in path)} is called '")
    outer = [keras.Input((size,), name=f"outer_{name}") for size, name in ((4, "a"), (5, "b"), (6, "c"))]
    keras.Model(outer, model(structure(*outer))).save(tmp_path / "outer.keras")
    torch.testing.assert_close(regspec.port(tmp_path / "outer.keras").build()(*given.values()), wanted)


def test_inputs_by_other_names_than_their_own() -> None:
    a, b = keras.Input((4,), name="one"), keras.Input((4,), name="b")
    port = regspec.port(keras.Model({"a": a, "b": b}, layers.Add()([a, b])))
    assert port.notes == ("the input ['a'] is called 'one'",)


def test_a_model_inside_whose_order_is_not_known(tmp_path: Path) -> None:
    """Keras sorts keys of mappings in mappings with optree, and leaves them without it."""
    inner = keras.Model(*tensors(lambda x, r: {"a": {"d": r, "c": x}}), name="inner")
    x = keras.Input((4,))
    keras.Model(x, keras.tree.flatten(inner(x))).save(tmp_path / "model.keras")
    with pytest.raises(regspec.RegspecError, match=r"'inner' .* mappings whose keys are in no order: .* optree"):
        regspec.port(tmp_path / "model.keras")
    inner.save(tmp_path / "inner.keras")
    port, inputs = regspec.port(tmp_path / "inner.keras"), torch.randn(2, 4)
    torch.testing.assert_close(port.build()(inputs)["a_c"], inner(inputs)["a"]["c"])
    assert port.verify().passed
