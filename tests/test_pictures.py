"""Folders of images that a model learns to give again: trained on as the same numbers in memory are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import regspec

from .commands import command
from .test_using import trained, weights

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 6, 5, 3)).astype(np.uint8)
NET = """\
regspec: 1
name: again
data_format: %s
inputs: {image: {shape: %s}}
layers:
  - Conv2D: {filters: 4, kernel_size: 3, padding: same, activation: relu, kernel_regularizer: {l2: 1e-3}}
  - Conv2D: {name: copy, filters: 3, kernel_size: 1, activation: %s}
"""
FIRST, LAST = NET % ("channels_first", "[3, 6, 5]", "sigmoid"), NET % ("channels_last", "[6, 5, 3]", "sigmoid")
SAID: dict[str, Any] = {"target": "image", "epochs": 2, "batch_size": 7, "lr": 0.05}


def folder_of(folder: Path, pixels: np.ndarray = PIXELS, per_folder: int = 11) -> Path:
    """Images in the order of their paths, some in folders in it."""
    for row, each in enumerate(pixels):
        place = folder / f"part_{row // per_folder}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(each).save(place / f"{row:02}.png")
    return folder


def numbers(pixels: np.ndarray, spec: str = FIRST) -> np.ndarray:
    floats = pixels.astype(np.float32) / 255
    return floats.transpose(0, 3, 1, 2) if spec == FIRST else floats


@pytest.mark.parametrize("spec", [FIRST, LAST], ids=["channels first", "channels last"])
def test_a_folder_trains_as_its_numbers_do(spec: str, tmp_path: Path) -> None:
    x = numbers(PIXELS, spec)
    expected = trained(tmp_path, spec, (x, x), "arrays", **SAID)
    run = trained(tmp_path, spec, str(folder_of(tmp_path / "images")), **SAID)
    torch.testing.assert_close(weights(run), weights(expected), rtol=0, atol=0)
    assert run.history["held_out_loss"] == expected.history["held_out_loss"]
    facts = json.loads((run.folder / "run.json").read_text())
    assert (facts["task"], facts["examples"], facts["held_out"]) == ("quantities", 24, 6)
    assert facts["images"] == {"channels": "RGB", "height": 6, "width": 5, "most": 1}
    assert run.evaluate().loss == pytest.approx(run.metrics["held_out_loss"], rel=1e-5)
    said = run.predict(str(tmp_path / "images")).values
    np.testing.assert_allclose(said, expected.predict(x).values, atol=1e-6)
    with torch.no_grad():
        wanted = F.mse_loss(run.model(torch.tensor(x)), torch.tensor(x)).item()
    assert run.evaluate(str(tmp_path / "images")).loss == pytest.approx(wanted, rel=1e-5)
    for each in json.loads((run.folder / "held_out.json").read_text())["outputs"]["copy"]["worst"]:
        row = int(Path(each["name"]).stem)
        assert (tmp_path / "images" / each["name"]).exists()
        assert each["loss"] == pytest.approx(float(np.square(said[row] - x[row]).mean()), rel=1e-4)


@pytest.mark.parametrize("way", ["parts", "another folder"])
def test_held_out(way: str, tmp_path: Path) -> None:
    x = numbers(PIXELS)
    expected = trained(tmp_path, FIRST, (x[:20], x[:20], x[20:], x[20:]), "arrays", **SAID)
    folder_of(tmp_path / "images" / "train", PIXELS[:20])
    other = folder_of(tmp_path / "images" / "val", PIXELS[20:])
    data, more = (
        (tmp_path / "images", {}) if way == "parts" else (tmp_path / "images/train", {"validation": str(other)})
    )
    run = trained(tmp_path, FIRST, data, **SAID, **more)
    torch.testing.assert_close(weights(run), weights(expected), rtol=0, atol=0)
    assert run.history["held_out_loss"] == expected.history["held_out_loss"]


def test_from_the_command_line(tmp_path: Path) -> None:
    """With a loss of probabilities, in folds, and exported; a small image is made as large as the input."""
    folder_of(tmp_path / "images", PIXELS[:12, :4, :4])
    (tmp_path / "net.yaml").write_text(FIRST)
    said = ["--data", "images", "--target", "image", "--outputs.copy.loss", "binary_cross_entropy", "--epochs", "1"]
    done = command("train", "net.yaml", *said, "--folds", "3", "-o", "run", cwd=tmp_path)
    assert done.code == 0, done.output
    assert "8 examples, 4 held out, quantities by binary_cross_entropy" in done.stdout
    done = command("export", "run/fold_1", "-o", "net.safetensors", cwd=tmp_path)
    assert "images: RGB of 6 by 5, bilinear, numbers 0 to 1" in done.stdout


def test_whole_numbers_are_quantities_where_said(tmp_path: Path) -> None:
    spec = FIRST.replace("[3, 6, 5]", "[3, 6, 5], dtype: uint8").replace("sigmoid", "relu")
    spec = spec.replace("layers:\n", "layers:\n  - Rescaling: {scale: 1.0}\n")
    folder = folder_of(tmp_path / "images")
    run = trained(tmp_path, spec, folder, **SAID, outputs={"copy": {"loss": "mse"}})
    x = torch.tensor(PIXELS.transpose(0, 3, 1, 2))
    with torch.no_grad():
        wanted = F.mse_loss(run.model(x), x.float()).item()
    assert run.evaluate(folder).loss == pytest.approx(wanted, rel=1e-4)


FAULTS = {
    "no images": ({}, FIRST, {}, ["has no images"]),
    "another target": ({"a": 3}, FIRST, {"target": "picture"}, ["'picture' would be one of a file's"]),
    "another size": (
        {"a": 3}, FIRST.replace("filters: 3", "filters: 2"), {},
        ["(batch, 3, 6, 5) for 'copy', but the spec takes (batch, 2, 6, 5)"],
    ),
    "two inputs": (
        {"a": 3},
        FIRST.replace("[3, 6, 5]}", "[3, 6, 5]}, more: {shape: [2]}").replace("filters: 4", "inputs: image, filters: 4")
        + "  - Dense: {name: out, inputs: more, units: 1}\noutputs: [copy, out]\n",
        {"target": None, "outputs": {"copy": {"target": "image"}}},
        ["are one input, but the spec takes image, more"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong(fault: str, tmp_path: Path) -> None:
    folders, spec, more, told = FAULTS[fault]
    (tmp_path / "images").mkdir()
    for name, count in folders.items():
        folder_of(tmp_path / "images" / name, PIXELS[:count])
    with pytest.raises(regspec.RegspecError) as raised:
        trained(tmp_path, spec, tmp_path / "images", **{**SAID, **more})
    for each in told:
        assert each in str(raised.value)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "images", PIXELS[:6])
    whole = (folder / "part_0" / "03.png").read_bytes()
    (folder / "part_0" / "03.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(regspec.RegspecError, match=r"03.png: error: can't be read as an image"):
        trained(tmp_path, FIRST, folder, **SAID)
