"""Layers that are right only with numbers of the data: given in a spec, or loaded; without them they are refused."""

from __future__ import annotations

import copy
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import regspec
from regspec.graph.loading import graph_of

from .commands import command

SPEC = "regspec: 1\nname: net\ninputs: {{x: {{shape: [3, 4]}}}}\nlayers:\n  - {}\n"
LOADED = "mean: loaded, variance: loaded"


@pytest.mark.parametrize(
    "layer",
    [
        "Normalization",
        "Normalization: {axis: [1, 2]}",
        "Normalization: {invert: true}",
        "Normalization: {variance: 2.0}",
        "Discretization",
        "Discretization: {output_mode: one_hot}",
        "Rescaling: {offset: 1.0}",
        "CategoryEncoding",
        "TimeDistributed: {layer: Normalization}",
    ],
)
def test_without_numbers_it_is_refused(layer: str, tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(SPEC.format(layer))
    with pytest.raises(regspec.RegspecError, match=r"needs (both )?'\w+'"):
        regspec.build(path)
    done = command("check", "net.yaml", cwd=tmp_path)
    assert done.code == 1
    assert "net.yaml:5:" in done.stdout


def test_in_a_block_too() -> None:
    text = "regspec: 1\ninputs: {x: {shape: [4]}}\nblocks: {own: {layers: [Normalization]}}\nlayers: [own, Flatten]\n"
    with pytest.raises(regspec.RegspecError, match="Normalization needs both 'mean' and 'variance'"):
        regspec.loads(text)


def test_it_waits_until_it_is_loaded() -> None:
    """And is then (x - mean) / sqrt(variance)."""
    model = regspec.build(SPEC.format(f"Normalization: {{name: scaled, {LOADED}}}"))
    x, mean, variance = torch.randn(5, 3, 4), torch.randn(4), torch.rand(4) + 0.5
    for each in (
        model,
        copy.deepcopy(model),
        regspec.build(SPEC.format(f"TimeDistributed: {{layer: {{Normalization: {{{LOADED}}}}}}}")),
    ):
        with pytest.raises(RuntimeError, match="no mean and variance yet: load a state_dict"):
            each(x)
    wanted = (x - mean) / variance.sqrt()
    state = {"scaled.mean": mean, "scaled.variance": variance}
    torch.testing.assert_close(torch.func.functional_call(copy.deepcopy(model), state, (x,)), wanted)
    assigned, copied = copy.deepcopy(model), copy.deepcopy(model)
    assigned.load_state_dict(state, assign=True)
    copied.scaled.mean.copy_(mean)
    copied.scaled.variance.copy_(variance)
    model.load_state_dict(state)
    for each in (model, assigned, copied, copy.deepcopy(model)):
        torch.testing.assert_close(each(x), wanted)
        exported = torch.export.export(each, (x,)).module()
        torch.testing.assert_close(exported(x), wanted)


def test_never_the_identity_where_nothing_can_be_asked() -> None:
    """In an exported program no numbers are looked at: there it is nan."""
    model = regspec.build(SPEC.format(f"Normalization: {{{LOADED}}}"))
    x = torch.randn(2, 3, 4)
    assert torch.export.export(model, (x,)).module()(x).isnan().all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras, when it saves
@pytest.mark.parametrize("axis", [-1, (1, 2), None])
def test_what_keras_has_adapted(axis: int | tuple[int, ...] | None, tmp_path: Path) -> None:
    """The port has the numbers; its spec says that they are loaded, and so it is checked, built and loaded."""
    layer = keras.layers.Normalization(axis=axis, name="scaled")
    data = np.random.default_rng(0).normal(3, 2, (50, 3, 4)).astype("float32")
    layer.adapt(data)
    model = keras.Sequential([keras.Input((3, 4)), layer])
    model.save(tmp_path / "model.keras")
    ported = regspec.port(tmp_path / "model.keras")
    x = torch.tensor(data[:7])
    wanted = torch.tensor(keras.ops.convert_to_numpy(model(data[:7])))
    torch.testing.assert_close(ported.build()(x), wanted, rtol=1e-4, atol=1e-5)
    ported.save(tmp_path / "ported")
    assert command("check", "ported/spec.yaml", cwd=tmp_path).code == 0
    built = regspec.build(tmp_path / "ported" / "spec.yaml")
    built.load_state_dict(load_file(tmp_path / "ported" / "weights.safetensors"))
    torch.testing.assert_close(built(x), wanted, rtol=1e-4, atol=1e-5)


def test_without_a_files_weights(tmp_path: Path) -> None:
    """A config alone has none: the other weights are drawn, and these are waited for."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Normalization(), keras.layers.Dense(2)])
    (tmp_path / "model.json").write_text(model.to_json())
    built = regspec.port(tmp_path / "model.json").build()
    with pytest.raises(RuntimeError, match="no mean and variance yet"):
        built(torch.ones(2, 4))


def test_bins_that_were_never_adapted(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Discretization(num_bins=3, name="bins")])
    (tmp_path / "model.json").write_text(model.to_json())
    with pytest.raises(regspec.RegspecError, match="bin_boundaries"):
        regspec.port(tmp_path / "model.json")


def test_a_training_begins_without_weights(tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(
        "regspec: 1\nname: net\ninputs: {x: {shape: [13]}}\n"
        f"layers:\n  - Normalization: {{name: scaled, {LOADED}}}\n  - Dense: {{units: 3}}\n"
    )
    done = command("train", "net.yaml", "--data", "wine", cwd=tmp_path)
    assert done.code == 1
    assert "net.yaml:5:" in done.stderr
    assert "'scaled' has mean and variance that are loaded" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_every_kind_that_is_loaded_is_here() -> None:
    """Where a further kind has numbers without a start, it belongs into these tests."""
    from .layers.rows import ROWS
    from .layers.specs import spec_of

    loaded = {
        row.kind
        for row in ROWS
        for node in graph_of(spec_of(row, row.fields)).layers()
        if any(weight.is_loaded for weight in node.resolved.weights)
    }
    assert loaded == {"Normalization"}


def test_its_keras_code_waits_for_weights_too() -> None:
    code = regspec.source(SPEC.format(f"Normalization: {{name: scaled, {LOADED}}}"), target="keras")
    assert 'layers.Normalization(name="scaled")' in code
