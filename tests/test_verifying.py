"""The verification of a port: right ones pass, every way of being wrong is found, what is not compared is said."""

from __future__ import annotations

import inspect
import json
import math
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import torch
from keras import layers
from typer.testing import CliRunner

import regspec
from regspec.cli import app
from regspec.graph.loading import graph_of
from regspec.keras.verification import apart, loading
from regspec.keras.verification.backends import differs_on_torch
from regspec.keras.verification.comparing import Comparison, difference
from regspec.keras.verification.original import Original
from regspec.keras.verification.outcomes import PortSide
from regspec.keras.verification.rewording import reworded
from regspec.keras.verification.verifying import Verification
from regspec.modules import inputs

from .commands import ROOT, run_and_tell, started
from .layers import reference as rows
from .ported import RANDOM
from .test_port import MODELS, Strange, rewritten

pytestmark = pytest.mark.filterwarnings("ignore")  # of Keras, when it saves


def sorts(verification: Verification) -> set[str]:
    return {row.what for row in verification.rows()}


# -- what is right passes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_whole_models_pass(name: str, suffix: str, tmp_path: Path) -> None:
    model = MODELS[name][0]()
    rows.fill(model, 1)
    model.save(tmp_path / f"model{suffix}")
    verification = regspec.port(tmp_path / f"model{suffix}").verify()
    assert verification.passed
    if suffix == ".h5" and name in ("scaled", "branched"):  # private layers, and numbers in operations
        assert f"Keras {keras.__version__} on torch can't load the file: " in verification.left_out[0]
        return
    assert verification.reference == f"Keras {keras.__version__} on torch"
    assert {"weights", "outputs in evaluation", "gradients in evaluation"} <= sorts(verification)
    assert verification.weights == ("file",)  # of which none is constant
    assert verification.error < 1e-5
    if name == "branched":
        assert {"outputs in training", "statistics in training", "penalties in training"} <= sorts(verification)
        moving = {each.name for each in verification.checks if each.sort == "statistics"}
        assert moving == {"batch_normalization.running_mean", "batch_normalization.running_var"}
    if name == "sequence":
        assert verification.left_out == (RANDOM,)


def test_a_config_is_compared_with_random_weights(tmp_path: Path) -> None:
    model = MODELS["attending"][0]()
    (tmp_path / "model.json").write_text(model.to_json())
    verification = regspec.port(tmp_path / "model.json").verify()
    assert verification.passed
    assert verification.weights == ("random",)
    assert verification.account is None
    model.save_weights(tmp_path / "model.weights.h5")
    port = regspec.port(tmp_path / "model.json", weights=tmp_path / "model.weights.h5")
    assert port.verify().weights == ("file", "random")  # because biases are zeros still
    rows.fill(model, 1)
    model.save_weights(tmp_path / "model.weights.h5")
    port = regspec.port(tmp_path / "model.json", weights=tmp_path / "model.weights.h5")
    assert port.verify().weights == ("file",)


@pytest.mark.parametrize("structure", [list, lambda xs: dict(zip("cba", xs, strict=True))], ids=["list", "mapping"])
def test_inputs_that_nothing_uses(structure: Callable[[Any], Any], tmp_path: Path) -> None:
    """The port takes them, as Keras does."""
    unused, x, y = keras.Input((None, 3), name="c"), keras.Input((4,), name="b"), keras.Input((4,), name="a")
    model = keras.Model(structure([unused, x, y]), layers.Subtract()([layers.Dense(4)(x), y]))
    model.save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    assert [*inspect.signature(port.build().forward).parameters] == [*port.spec.inputs] == ["c", "b", "a"]
    verification = port.verify()
    assert verification.reference is not None, verification.left_out
    assert verification.passed
    assert "outputs in evaluation" in sorts(verification)
    assert "gradients in evaluation" in sorts(verification)


def test_sizes_that_are_not_known_and_indices(tmp_path: Path) -> None:
    """Windows that need room, two sequences of one length, a table of two rows beside one of eleven."""
    words, sort = keras.Input((None,), dtype="int32", name="words"), keras.Input((None,), name="sort")
    x = layers.Embedding(11, 4)(words) + layers.Embedding(2, 4)(sort)
    x = layers.Conv1D(3, 12)(x)
    image = keras.Input((None, None, 3), name="image")
    y = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 9)(image))
    model = keras.Model([words, sort, image], [layers.GlobalMaxPooling1D()(x), y])
    rows.fill(model, 1)
    model.save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    graph = graph_of(port.spec)
    assert inputs.limits(graph) == [11, 2, None]
    ids, flags, _ = inputs.inputs_of(graph, 5, inputs.Form(37, 0))
    assert (ids.dtype, int(ids.max()), flags.dtype, float(flags.max())) == (torch.int32, 10, torch.float32, 1.0)
    assert not ids[1, -12:].any()
    assert ids[0, -12:].any()
    assert port.verify().passed


def test_limits_of_blocks_and_of_what_is_reshaped() -> None:
    text = """
regspec: 1
inputs: {a: {shape: [6], dtype: int64}, b: {shape: [6], dtype: int64}, c: {shape: [5]}}
blocks:
  table: {layers: [Reshape: {target_shape: [2, 3]}, Embedding: {input_dim: 7, output_dim: 2}]}
layers:
  - table: {name: first, inputs: a}
  - Embedding: {name: second, input_dim: 9, output_dim: 2, inputs: a}
  - CategoryEncoding: {name: third, num_tokens: 4, inputs: b}
  - Dense: {name: fourth, units: 3, inputs: c}
outputs: [first, second, third, fourth]
"""
    assert inputs.limits(graph_of(regspec.loads(text))) == [7, 4, None]


@pytest.mark.parametrize(("shape", "differs"), [((5, 7, 2), False), ((6, 7, 3), True)])
def test_a_layer_at_each_step_differs_on_torch_where_it_does_by_itself(shape: tuple[int, ...], differs: bool) -> None:
    """By the sizes of its images, and not of their channels."""
    pooling = "AveragePooling2D: {pool_size: 3, strides: 2, padding: same}"
    whole = "regspec: 1\nname: m\ndata_format: channels_last\ninputs: {x: {shape: %s}}\nlayers:\n  - %s\n"
    plain = whole % ([*shape], pooling)
    steps = whole % ([4, *shape], f"TimeDistributed: {{layer: {{{pooling}}}}}")
    for text in (plain, steps):
        (node,) = graph_of(regspec.loads(text)).nodes
        assert differs_on_torch(node.resolved.layer, node.resolved.inputs[0]) is differs


def test_a_batch_of_a_fixed_size(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input(batch_shape=(4, 3)), layers.Dense(2)])
    model.save(tmp_path / "model.keras")
    verification = regspec.port(tmp_path / "model.keras").verify()
    assert verification.passed
    assert verification.reference


def test_what_is_random_is_left_out_and_the_rest_is_compared(tmp_path: Path) -> None:
    x = keras.Input((8, 8, 3))
    y = layers.BatchNormalization(name="first")(layers.SpatialDropout2D(0.3)(layers.Conv2D(4, 3)(x)))
    y = layers.Dense(5, activation="relu")(layers.Flatten()(layers.GaussianNoise(0.1)(y)))
    y = layers.Reshape((5, 1))(layers.AlphaDropout(0.2)(layers.BatchNormalization(name="second")(y)))
    y = layers.LSTM(4, dropout=0.3, recurrent_dropout=0.2, return_sequences=True)(y)
    model = keras.Model(x, layers.Dropout(0.5)(layers.MultiHeadAttention(2, 3, dropout=0.1)(y, y)))
    rows.fill(model, 1)
    model.save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    verification = port.verify()
    assert verification.passed
    assert verification.left_out == (RANDOM,)
    moving = {each.name for each in verification.checks if each.sort == "statistics"}
    assert moving == {f"{name}.running_{sort}" for name in ("first", "second") for sort in ("mean", "var")}
    text = port.text.replace("{name: second", "{name: second, momentum: 0.98")
    wrong = replace(port, text=text, spec=regspec.loads(text)).verify()
    assert wrong.verdict.startswith("failed: statistics in training: second.running_")


def test_layers_that_draw_from_what_all_share_do_nothing_too(tmp_path: Path) -> None:
    """Two runs of such a layer may drop the same by chance, and look as if nothing were random."""
    x = keras.Input((7, 5))
    model = keras.Model(x, rows.StochasticDepth(0.05)(layers.Dropout(0.3)(layers.BatchNormalization()(x))))
    model.save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    for seed in range(4):
        keras.utils.set_random_seed(seed)
        verification = port.verify()
        assert verification.passed, verification.verdict
        assert verification.left_out == (RANDOM,)
        assert "outputs in training" in {each.what for each in verification.rows()}


# -- what is wrong is found --------------------------------------------------------------------------------------------


def network() -> Any:
    x = keras.Input((6, 6, 3), name="image")
    y = layers.Conv2D(4, 3, activation="gelu", kernel_regularizer=keras.regularizers.L2(0.01), name="conv")(x)
    y = layers.BatchNormalization(name="norm")(y)
    y = layers.Dense(4, activity_regularizer=keras.regularizers.L1(0.5), name="dense")(layers.Flatten(name="flat")(y))
    y = layers.Dense(4, bias_regularizer=keras.regularizers.L1(0.25), trainable=False, name="frozen")(y)
    return keras.Model(x, layers.Dense(2, name="last")(y))


def swapped(port: regspec.Port, a: str, b: str) -> regspec.Port:
    return replace(port, weights={**port.weights, a: port.weights[b], b: port.weights[a]})


def respelled(old: str, new: str) -> Callable[[regspec.Port], regspec.Port]:
    """The port with another spec."""

    def change(port: regspec.Port) -> regspec.Port:
        assert port.text.count(old) == 1
        text = port.text.replace(old, new)
        return replace(port, text=text, spec=regspec.loads(text))

    return change


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> regspec.Port:
    """A port of `network` that passes."""
    model, path = network(), tmp_path_factory.mktemp("right") / "model.keras"
    rows.fill(model, 3)
    model.save(path)
    port = regspec.port(path)
    assert port.verify().passed
    return port


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda port: swapped(port, "dense.bias", "frozen.bias"), "weights: "),
        (lambda port: swapped(port, "norm.weight", "norm.running_var"), "weights: "),
        (respelled("activation: gelu", "activation: {gelu: {approximate: true}}"), "gradients in evaluation: conv"),
        (respelled("activation: gelu", "activation: relu"), "outputs in evaluation"),
        (
            respelled("{name: norm,", "{name: norm, epsilon: 0.002,"),
            "outputs in evaluation",
        ),
        (
            respelled("{name: norm,", "{name: norm, momentum: 0.98,"),
            "statistics in training",
        ),
        (respelled("{l2: 0.01}", "{l2: 0.0101}"), "penalties in evaluation: conv.kernel"),
        (respelled("kernel_regularizer: {l2: 0.01}", ""), "penalties in evaluation: their sum"),
        (respelled("activity_regularizer: {l1: 0.5}", ""), "penalties in evaluation: their sum"),
        (respelled("inputs:\n  image", "activity_reduction: sum\ninputs:\n  image"), "penalties in evaluation"),
        (respelled(", trainable: false", ""), "penalties in evaluation: their sum"),
        (respelled("{name: last, units: 2}", "{name: last, units: 2, trainable: false}"), "gradients in evaluation"),
    ],
)
def test_what_is_wrong_is_found(
    change: Callable[[regspec.Port], regspec.Port], found: str, right: regspec.Port
) -> None:
    verification = change(right).verify()
    assert not verification.passed
    assert verification.verdict.startswith(f"failed: {found}"), verification.verdict


def test_a_port_that_fails_is_wrong(tmp_path: Path) -> None:
    keras.Sequential([keras.Input((4,)), layers.Dense(3, name="dense")]).save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")

    def broken(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("mat1 and mat2 do not fit")

    graph, module = graph_of(port.spec), regspec.build(port.spec)
    module.dense.forward = broken
    comparison = Comparison(PortSide(module, graph), loading.original_of(port.provenance, graph), 1e-4)
    comparison.run({}, is_hidden=False)
    assert [(each.sort, each.error) for each in comparison.checks] == [("outputs", math.inf)] * 4
    assert str(comparison.checks[0]) == "outputs in evaluation: all: the port fails: mat1 and mat2 do not fit"


def test_a_weight_that_keras_has_not(tmp_path: Path) -> None:
    """One too many, which the outputs do not show as long as it is zero."""
    keras.Sequential([keras.Input((4,)), layers.Dense(3, name="dense")]).save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    text = port.text.replace("- Dense:", "- Dense: {name: more, units: 4, kernel_initializer: identity}\n  - Dense:")
    verification = replace(port, text=text, spec=regspec.loads(text)).verify()
    assert verification.verdict == "failed: gradients in evaluation: more.weight: Keras trains no such weight"


def test_arrays_that_nothing_takes(tmp_path: Path) -> None:
    """The weights of a larger model for a smaller config."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    (tmp_path / "model.json").write_text(model.to_json())
    model.add(layers.BatchNormalization())
    rows.fill(model, 1)
    model.save_weights(tmp_path / "model.weights.h5")
    said = "has 4 arrays that no layer of the model takes: /layers/batch_normalization/vars/0, .*, …"
    with pytest.raises(regspec.RegspecError, match=said):
        regspec.port(tmp_path / "model.json", weights=tmp_path / "model.weights.h5")


def test_an_account_that_is_not_complete(tmp_path: Path) -> None:
    """No port has one; where it had, neither would it pass."""
    keras.Sequential([keras.Input((4,)), layers.Dense(3)]).save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    account = port.provenance.account
    assert account is not None
    assert (account.arrays, account.numbers, account.bytes) == (2, 15, 60)
    left = replace(account, unused=("/layers/batch_normalization/vars/0",))
    port = replace(port, provenance=replace(port.provenance, account=left))
    verification = port.verify()
    assert not verification.passed
    port.save(tmp_path / "ported", verification=verification)
    assert "left unused" in (tmp_path / "ported" / "report.md").read_text()


@pytest.mark.parametrize(
    ("got", "wanted", "floor", "error"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0, 0.0),
        ([1.0, 2.2], [1.0, 2.0], 0.0, 0.1),
        ([1.0, 2.2], [1.0, 2.0], 20.0, 0.01),
        ([0.0], [0.0], 0.0, 0.0),
        ([1e-30], [0.0], 0.0, math.inf),
        ([1.0], [1.0, 1.0], 0.0, math.inf),
        ([math.nan, 1.0], [math.nan, 1.0], 0.0, 0.0),
        ([math.nan], [1.0], 0.0, math.inf),
        ([1.0], [math.nan], 0.0, math.inf),
        ([math.inf, 1.0], [math.inf, 2.0], 0.0, 0.5),
        ([-math.inf], [math.inf], 0.0, math.inf),
        ([], [], 0.0, 0.0),
    ],
)
def test_differences(got: list[float], wanted: list[float], floor: float, error: float) -> None:
    assert difference(torch.tensor(got), torch.tensor(wanted), floor) == pytest.approx(error)


def test_what_rounding_alone_makes_is_allowed_and_said(tmp_path: Path) -> None:
    """A small difference of large numbers: where the last digits of weights differ, the third of outputs do."""
    port = cancelling(100, tmp_path)
    assert port.verify().passed
    verification = off(port, 1e-6)
    assert max(each.error for each in verification.checks) > verification.tolerance > verification.error
    assert verification.passed
    assert any("so that rounding alone does" in each for each in verification.left_out)
    assert off(port, 1e-4).verdict.startswith("failed: outputs in evaluation")


def test_half_of_an_output_is_never_due_to_rounding(tmp_path: Path) -> None:
    """Where the last digits of weights make all of it."""
    assert off(cancelling(1e5, tmp_path), 2e-6).verdict.startswith("failed: outputs in evaluation")


def cancelling(size: float, folder: Path) -> regspec.Port:
    """The port of a model whose outputs are small differences of numbers of this size."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(6, name="dense"), layers.LayerNormalization()])
    rows.fill(model, 1)
    rng = np.random.default_rng(0)
    model.layers[0].bias.assign(size + rng.standard_normal(6) * 0.1)
    model.layers[0].kernel.assign(rng.standard_normal((4, 6)) * 0.1)
    model.save(folder / "model.keras")
    return regspec.port(folder / "model.keras")


def off(port: regspec.Port, share: float) -> Verification:
    """The verification of a port whose bias is wrong by about this share."""
    bias = port.weights["dense.bias"] * (1 + share * np.random.default_rng(1).standard_normal(6)).astype("float32")
    return replace(port, weights={**port.weights, "dense.bias": bias}).verify()


# -- conversions -------------------------------------------------------------------------------------------------------


def repeating() -> Any:
    """Layers that repeat, and a Dense whose units come from an image."""
    x = y = keras.Input((6, 7, 3))
    for stage in (1, 2):
        for part in (1, 2, 3, 4):
            y = layers.Conv2D(4, 3, padding="same", name=f"stage{stage}_{part}_conv")(y)
            y = layers.BatchNormalization(name=f"stage{stage}_{part}_norm")(y)
            y = layers.ReLU(name=f"stage{stage}_{part}_rectified")(y)
    return keras.Model(x, layers.Dense(5)(layers.Flatten()(y)))


@pytest.mark.parametrize("blocks", [False, True])
def test_a_conversion_of_a_config_alone(blocks: bool, tmp_path: Path) -> None:
    """Both sides have the same weights, moved as those of a file are."""
    (tmp_path / "model.json").write_text(repeating().to_json())
    port = regspec.port(tmp_path / "model.json", data_format="channels_first", blocks=blocks)
    assert ("blocks:" in port.text) == blocks
    verification = port.verify()
    assert verification.passed, verification.verdict
    assert [each.mode for each in verification.checks].count("conversion") == 1
    wrong = replace(port, moves=port.moves[:-1]).verify()
    assert wrong.verdict.startswith("failed: outputs in conversion")


def test_a_conversion_in_half_precision(tmp_path: Path) -> None:
    x = keras.Input((6, 7, 3), dtype="bfloat16")
    y = x
    for _ in range(6):
        y = layers.BatchNormalization(dtype="bfloat16")(layers.Conv2D(4, 3, padding="same", dtype="bfloat16")(y))
    model = keras.Model(x, y)
    rows.fill(model, 1)
    model.save(tmp_path / "model.keras")
    verification = regspec.port(tmp_path / "model.keras", fold=True).verify()
    (check,) = [each for each in verification.checks if each.mode == "conversion"]
    assert 2e-4 < check.error < check.allowed == verification.tolerance


class Broken(torch.nn.Module):
    """A module that takes nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise KeyError("no")


@pytest.mark.usefixtures("_registry")
def test_a_conversion_of_what_does_not_run(tmp_path: Path) -> None:
    x = keras.Input((6, 7, 3))
    y = layers.BatchNormalization()(layers.Conv2D(4, 3)(x))
    keras.Model(x, layers.ReLU(name="broken")(y)).save(tmp_path / "model.keras")
    verification = regspec.port(tmp_path / "model.keras", fold=True, replace={"broken": Broken}).verify()
    assert "the conversion: the model runs on none of the inputs that were tried: 'no'" in verification.left_out


@pytest.mark.parametrize(
    "where", ["original.has_todays_groups", "original.objective", "outcomes.tensors", "outcomes.objective"]
)
def test_a_fault_of_the_comparison_is_told_of_neither_side(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> Any:
        raise TypeError("a fault of regspec's")

    keras.Sequential([keras.Input((4,)), layers.Dense(3)]).save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    monkeypatch.setattr(f"regspec.keras.verification.{where}", broken)
    with pytest.raises(TypeError, match="a fault of regspec's"):
        port.verify()


# -- what is not compared ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "shape", "reason"),
    [
        (lambda: layers.LayerNormalization(axis=1), (4, 7), "can't run the model: "),
        (lambda: layers.Resizing(4, 5, "bicubic"), (6, 7, 3), "torch backend computes 'layer' (Resizing) wrongly"),
        (lambda: layers.AveragePooling2D(3, 2, "same"), (8, 8, 3), "torch backend computes 'layer' (AveragePooling2D)"),
        (
            lambda: layers.TimeDistributed(layers.AveragePooling2D(3, 2, "same")),
            (2, 8, 8, 3),
            "torch backend computes 'layer' (TimeDistributed)",
        ),
        (lambda: layers.UnitNormalization(), (5, 6), "where Keras's are not finite numbers"),
        (lambda: layers.GaussianNoise(0.1), (5, 6), RANDOM),
    ],
)
def test_what_is_not_compared_is_said(
    make: Callable[[], Any], shape: tuple[int, ...], reason: str, tmp_path: Path
) -> None:
    layer = make()
    layer.name = "layer"
    keras.Sequential([keras.Input(shape), layer]).save(tmp_path / "model.keras")
    verification = regspec.port(tmp_path / "model.keras").verify()
    assert any(reason in each for each in verification.left_out), verification.left_out
    assert verification.passed  # nothing differs
    assert verification.reference or verification.verdict == "nothing was compared with Keras"


@pytest.mark.parametrize("size", [9, 11])
def test_even_padding_is_compared(size: int, tmp_path: Path) -> None:
    """A window of three that moves by two is padded alike on both sides of an odd size: there Keras is right."""
    keras.Sequential([keras.Input((size, size, 3)), layers.AveragePooling2D(3, 2, "same")]).save(
        tmp_path / "model.keras"
    )
    assert regspec.port(tmp_path / "model.keras").verify().reference


@pytest.mark.parametrize(
    ("path", "value", "name"),
    [
        (("class_name",), "Lambda", "'Lambda'"),
        (("module",), "os", "'Dense'"),
        (("module",), "keras_evil.layers", "'Dense'"),
        (("module",), "keras.utils", "'Dense'"),
        (("module",), "keras.layers.a; import os", "'Dense'"),
        (("config", "kernel_initializer", "module"), "subprocess", "'GlorotUniform'"),
        (("config", "dtype"), {"class_name": "get_file", "module": "keras.utils", "config": {}}, "'get_file'"),
        (("build_config",), {"class_name": "function", "module": "os", "config": "system"}, "'function'"),
        (("config", "extra"), [{"a": {"class_name": "__lambda__", "config": {}}}], "'__lambda__'"),
        (("registered_name",), "mine>Strange", None),  # registered in this process, so that nothing is imported
    ],
)
def test_what_keras_is_not_asked_to_load(path: tuple[str, ...], value: Any, name: str | None) -> None:
    assert Strange  # which the registry holds
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    config = json.loads(model.to_json())
    place = config["config"]["layers"][1]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert loading._foreign(config) == ({name} if name else set())


def test_files_that_hold_more_than_a_model(tmp_path: Path) -> None:
    keras.Sequential([keras.Input((4,)), layers.Dense(3)]).save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras", "a") as archive:
        archive.writestr("assets/../../evil", b"")
    verification = regspec.port(tmp_path / "model.keras").verify()
    assert verification.reference is None
    assert "holds assets/../../evil" in verification.left_out[0]


def test_arrays_elsewhere_are_not_given_to_keras(tmp_path: Path) -> None:
    """Also those that the port has no need of."""
    keras.Sequential([keras.Input((4,)), layers.Dense(3)]).save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        (tmp_path / "weights").write_bytes(archive.read("model.weights.h5"))
    with h5py.File(tmp_path / "weights", "r+") as file:
        file["optimizer/link"] = h5py.ExternalLink("/etc/other.h5", "/x")
    rewritten(tmp_path / "model.keras", "model.weights.h5", (tmp_path / "weights").read_bytes())
    verification = regspec.port(tmp_path / "model.keras").verify()
    assert verification.reference is None
    assert "not asked to load the file: it has 'link', a link, which is not followed" in verification.left_out[0]


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    keras.Sequential([keras.Input((4,)), layers.Dense(3)]).save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    (tmp_path / "model.keras").unlink()
    assert "can't be read: No such file" in port.verify().left_out[0]


def test_the_process_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dropout(0.5)]).save(tmp_path / "model.keras")
    before = torch.get_rng_state()
    assert regspec.port(tmp_path / "model.keras").verify().passed
    assert torch.equal(torch.get_rng_state(), before)
    assert os.environ["KERAS_BACKEND"] == "jax"


# -- the command, and Keras that is not there --------------------------------------------------------------------------


@pytest.fixture
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of its own, in which a command verifies, is this one, which has Keras already."""
    monkeypatch.setattr(apart, "_answer_of", lambda request, environment: apart._verified(request))


def test_keras_is_imported_for_verification_alone(tmp_path: Path) -> None:
    """In a process of its own; and on torch, whatever backend it would take by itself."""
    arguments = ["port", "examples/keras_mlp.keras", "-o", str(tmp_path / "out"), "--verify"]
    with started(run_and_tell, ROOT, arguments, ["keras", "tensorflow"]) as process:
        result = process.ended()
    assert (result.code, "IMPORTED []" in result.stdout) == (0, True), result.stdout
    assert f"Keras {keras.__version__} on torch" in result.stdout


@pytest.mark.usefixtures("_here")
def test_without_keras_the_arrays_are_accounted_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)  # its import fails then
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["port", str(ROOT / "examples/keras_mlp.keras"), "-o", str(out), "--verify"])
    assert result.exit_code == 0, result.stdout
    assert "not compared: outputs, penalties and gradients: keras is not installed: pip install keras" in result.stdout
    assert "nothing was compared with Keras" in result.stdout
    assert "4 arrays of the file, 275 numbers, each used once" in (out / "report.md").read_text()


@pytest.mark.parametrize("data_format", [None, "channels_first"])
@pytest.mark.parametrize("is_always", [True, False])
def test_a_crash_loses_nothing(
    is_always: bool, data_format: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it comes with AVX-512 alone, or without it too: then Keras is not reached at all."""
    condition = "True" if is_always else "'ONEDNN_MAX_CPU_ISA' not in os.environ"
    given = [] if data_format is None else ["--data-format", data_format]
    out, found = tmp_path / "out", tmp_path / "found"
    if not is_always:
        found.write_bytes(pickle.dumps(regspec.port(ROOT / "examples/keras_mlp.keras").verify()))
    code = f"import os, sys, shutil; os.abort() if {condition} else shutil.copy({str(found)!r}, sys.argv[-1])"
    monkeypatch.setattr(apart, "COMMAND", (sys.executable, "-c", code))
    file = str(ROOT / "examples/keras_mlp.keras")
    result = CliRunner().invoke(app, ["port", file, "-o", str(out), "--verify", *given])
    assert result.exit_code == is_always
    assert "SIGABRT" in result.stdout
    assert ("--data-format channels_first" in result.stdout) == (data_format is None)
    last = result.stdout.splitlines()[-1]
    assert last.startswith("failed: the process in which both ran" if is_always else "passed: ")
    assert (out / "model.py").exists()
    assert "SIGABRT" in (out / "report.md").read_text()


@pytest.mark.usefixtures("_here")
def test_the_command(tmp_path: Path) -> None:
    keras.Sequential([keras.Input((4,), name="x"), layers.Dense(3, name="dense")]).save(tmp_path / "model.keras")
    options = ["port", str(tmp_path / "model.keras"), "-o", str(tmp_path / "out"), "--verify"]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.output.splitlines()]
    assert ["weights", "2", "0"] in lines
    assert lines[-1][0] == "passed:"
    page = (tmp_path / "out" / "report.md").read_text()
    assert "## Verification\n\nPassed: the largest relative error is " in page
    assert "| weights | 2 | 0 |  |  |" in page


@pytest.mark.usefixtures("_here")
def test_the_command_fails_where_they_differ(tmp_path: Path) -> None:
    """By rounding alone, which no tolerance of zero allows; and the report is written."""
    model = network()
    rows.fill(model, 3)
    model.save(tmp_path / "model.keras")
    options = ["port", str(tmp_path / "model.keras"), "-o", str(tmp_path / "out"), "--verify", "--tolerance", "0"]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith("failed: ")
    assert "Further apart than is allowed:" in (tmp_path / "out" / "report.md").read_text()


def test_as_plain_data(tmp_path: Path) -> None:
    model = network()
    rows.fill(model, 3)
    model.save(tmp_path / "model.keras")
    said = json.loads(json.dumps(regspec.port(tmp_path / "model.keras").verify().as_dict()))
    assert said["passed"] is True
    assert said["account"]["numbers"] == sum(int(np.prod(weight.shape)) for weight in model.weights)
    assert {check["sort"] for check in said["checks"]} == {
        *("weights", "outputs", "penalties", "gradients", "statistics")
    }


# -- what the Keras at hand does otherwise than the one that wrote the file --------------------------------------------


@pytest.mark.parametrize("version", ["3.13.2", "3.14.0"])
def test_penalties_of_outputs_are_reduced_as_keras_does(version: str, tmp_path: Path) -> None:
    """Before 3.14 it summed them over the batch, and the one that is installed divides."""
    x = keras.Input((5,))
    model = keras.Model(x, layers.Dense(3, activity_regularizer="l2", kernel_regularizer="l1")(x))
    rows.fill(model, 1)
    model.save(tmp_path / "model.keras")
    metadata = json.dumps({"keras_version": version}).encode()
    port = regspec.port(rewritten(tmp_path / "model.keras", "metadata.json", metadata))
    verification = port.verify()
    assert verification.passed
    is_old = version < "3.14"
    assert port.spec.activity_reduction == ("sum" if is_old else "mean")
    assert ["compared with activity_reduction: mean" in each for each in verification.left_out] == [True] * is_old


def test_the_moving_variance_of_keras_2() -> None:
    """Its fused kernel for images takes the variance over n - 1."""
    spec = regspec.loads(
        "{regspec: 1, data_format: channels_last, inputs: {x: {shape: [3, 5, 4]}, y: {shape: [7]}}, outputs: [b, d], "
        "layers: [{BatchNormalization: {name: b, inputs: x, momentum: 0.9, moving_variance: biased}}, "
        "{BatchNormalization: {name: d, inputs: y, momentum: 0.9, moving_variance: biased}}]}"
    )
    side = PortSide(regspec.build(spec), graph_of(spec))
    before = side.parameters()
    x, y = torch.randn(2, 3, 5, 4), torch.randn(3, 7)
    side.run([x, y], training=True)
    moved = side.as_keras_2(side.parameters(), before)
    expected = {"b": 0.9 + 0.1 * x.var((0, 1, 2)), "d": 0.9 + 0.1 * y.var(0, correction=0)}
    for name, variance in expected.items():
        torch.testing.assert_close(moved[f"{name}.running_var"], variance)


def test_every_number_of_two_biases_is_used() -> None:
    """A layer for cuDNN has two, of which the port has the sum."""
    verification = regspec.port(ROOT / "tests/keras2/keras_2_21_0/cudnn.h5").verify()
    assert verification.account is not None
    assert verification.account.numbers > verification.parameters == verification.account.made
    assert verification.is_whole


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_is_compared_in_single_precision(policy: str, tmp_path: Path) -> None:
    """As the port computes; what half precision rounds would hide a wrong weight."""
    x = keras.Input((6, 8))
    y = layers.MultiHeadAttention(2, 4, dtype=policy)(x, x)
    y = layers.Bidirectional(layers.LSTM(3, dtype=policy), dtype=policy)(y)
    model = keras.Model(x, layers.Dense(2, kernel_regularizer="l2", dtype="float32")(y))
    model.save(tmp_path / "model.keras")
    for each in (model, tmp_path / "model.keras"):
        found = regspec.port(each).verify()
        assert found.passed, found.verdict
        assert found.error < 1e-5
        assert "what half precision rounds" in found.left_out[-1]


def test_statistics_that_are_copied_follow_their_weights() -> None:
    """As tf.keras copies those of a Normalization, so that other weights changed nothing."""
    told: list[str] = []
    adapted = SimpleNamespace(adapt_mean=0, finalize_state=lambda: told.append("settled"))
    plain = SimpleNamespace(adapt_mean=None)
    port = regspec.port(ROOT / "examples/keras_mlp.keras")
    package: Any = SimpleNamespace(__name__="tf_keras", __version__="2.15.0")
    original = Original(package, "tensorflow", port.provenance, graph_of(port.spec))
    original.model = SimpleNamespace(weights=(), trainable_variables=(), _flatten_layers=lambda: [adapted, plain])
    original.restore([])
    original.randomize()
    assert told == ["settled"] * 2


REWORDED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "GRU": ({"units": 3}, {"class_name": "GRU", "config": {"units": 3, "reset_after": False}}),
    "GRUCell": ({"reset_after": True}, {"class_name": "GRUCell", "config": {"reset_after": True}}),
    "CuDNNGRU": ({"units": 3}, {"class_name": "GRU", "config": {"units": 3, "reset_after": True}}),
    "CuDNNLSTM": ({"units": 3}, {"class_name": "LSTM", "config": {"units": 3}}),
    "Dense": ({"units": 3}, {"class_name": "Dense", "config": {"units": 3}}),
}


@pytest.mark.parametrize("name", REWORDED)
def test_what_tf_keras_is_asked_for(name: str) -> None:
    config, wanted = REWORDED[name]
    for wrap in (lambda x: x, lambda x: {"class_name": "Bidirectional", "config": {"layer": x}}):
        given = {"class_name": "Model", "config": {"layers": [wrap({"class_name": name, "config": config})]}}
        found = reworded(given, is_standalone=False)
        assert found == {"class_name": "Model", "config": {"layers": [wrap(wanted)]}}


def test_what_tf_keras_is_asked_for_of_2_12() -> None:
    """Where it keeps its classes, and numbers in the place of which it wrote what nothing reads."""
    number = {"class_name": "__numpy__", "config": {"value": 1.5, "dtype": "float32"}}
    layer = {"module": "keras.layers", "class_name": "ReLU", "config": {"max_value": number}}
    given = {"module": "keras.engine.functional", "class_name": "Functional", "config": {"layers": [layer]}}
    wanted = {**layer, "config": {"max_value": 1.5}}
    assert reworded(given, is_standalone=False) == {
        "module": "keras.src.engine.functional",
        "class_name": "Functional",
        "config": {"layers": [wanted]},
    }


@pytest.mark.parametrize("is_standalone", [True, False])
def test_the_penalty_in_a_bidirectional_of_standalone_keras_is_that_of_its_output(is_standalone: bool) -> None:
    """As Keras 2.2.4 and 2.3.1 compute it: tests/keras2/make_old.py, `wrapped`."""
    inner = {"class_name": "LSTM", "config": {"units": 2, "activity_regularizer": "l1"}}
    found = reworded({"class_name": "Bidirectional", "config": {"layer": inner}}, is_standalone=is_standalone)
    outer = found["config"].get("activity_regularizer"), found["config"]["layer"]["config"]["activity_regularizer"]
    assert outer == (("l1", None) if is_standalone else (None, "l1"))
