"""Ported models against Keras, on its torch backend: outputs, penalties and gradients."""

from __future__ import annotations

import inspect
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import torch
from keras import layers
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

import regspec
from regspec.cli import app

from .layers import reference
from .ported import agrees, flat

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras, when it saves

WRITTEN = {"spec.yaml", "model.py", "weights.safetensors", "report.md"}

# -- whole models ------------------------------------------------------------------------------------------------------


def branched() -> Any:
    """A shared layer, a nested model that is called twice, operations, several inputs and outputs, frozen weights."""
    image, size = keras.Input((8, 7, 3), name="image"), keras.Input((5,), name="the size")
    conv = layers.Conv2D(4, 3, padding="same", strides=2, activation="relu", kernel_regularizer="l2", name="conv-1")
    x = layers.BatchNormalization(beta_regularizer=keras.regularizers.L1(0.1))(conv(image))
    y = layers.DepthwiseConv2D(2, padding="same", depthwise_regularizer=keras.regularizers.L1L2(0.1, 0.2))(x)
    x = 1.0 - layers.Add()([x, y]) * 2.0
    encoder = keras.Sequential(
        [
            keras.Input((4, 4, 4)),
            layers.Conv2D(3, 2, activity_regularizer=keras.regularizers.L2(0.3)),
            layers.Flatten(),
            layers.Dense(5, kernel_regularizer=keras.regularizers.OrthogonalRegularizer(0.2)),
        ],
        name="encoder",
    )
    first, second = encoder(x), encoder(y)
    shared = layers.Dense(5, activation="gelu", activity_regularizer="l1", name="shared")
    merged = layers.Concatenate()([shared(first), shared(size), second])
    frozen = layers.Dense(6, kernel_regularizer="l2", trainable=False, name="frozen")(merged)
    return keras.Model({"image": image, "size": size}, {"logits": layers.Dense(3)(frozen), "code": first})


def sequence() -> Any:
    """Recurrent layers, attention, an embedding, in a Sequential that was built by its first call."""
    model = keras.Sequential(
        [
            layers.Embedding(11, 6, embeddings_regularizer="l2"),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True, recurrent_regularizer="l1")),
            layers.GRU(5, return_sequences=True, reset_after=False, bias_regularizer="l2"),
            layers.TimeDistributed(layers.Dense(3)),
            layers.GlobalAveragePooling1D(),
            layers.Dropout(0.5),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model(np.zeros((2, 7), "int32"))
    return model


def nested() -> Any:
    """Models inside of one name, of which one begins with a capital; and one in another."""
    x = keras.Input((5,))
    inner = keras.Sequential([keras.Input((5,)), layers.Dense(4, kernel_regularizer="l2")], name="Encoder")
    outer = keras.Sequential([keras.Input((5,)), inner, layers.Dense(3, activity_regularizer="l1")], name="tower")
    other = keras.Sequential([keras.Input((5,)), layers.Dense(2, bias_regularizer="l2")], name="Encoder")
    return keras.Model(x, layers.Concatenate()([outer(x), other(x)]))


def scaled() -> Any:
    """The layer of its own that keras.applications' InceptionResNetV2 has."""
    a, b = keras.Input((5,)), keras.Input((5,))
    return keras.Model([a, b], layers.Dense(3)(CustomScaleLayer(0.17)([a, b])))


def attending() -> Any:
    x = keras.Input((5, 6))
    y = layers.MultiHeadAttention(2, 3, kernel_regularizer="l2")(x, x)
    y = layers.LayerNormalization(gamma_regularizer="l1")(layers.Add()([x, y]))
    return keras.Model(x, layers.SpectralNormalization(layers.Dense(3))(y))


MODELS: dict[str, tuple[Callable[[], Any], list[Tensor]]] = {
    "branched": (branched, [torch.randn(3, 8, 7, 3), torch.randn(3, 5)]),
    "sequence": (sequence, [torch.randint(0, 11, (3, 7))]),
    "attending": (attending, [torch.randn(3, 5, 6)]),
    "nested": (nested, [torch.randn(3, 5)]),
    "scaled": (scaled, [torch.randn(3, 5), torch.randn(3, 5)]),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")  # Keras's own, of a key too many
def test_whole_models(name: str, suffix: str, tmp_path: Path) -> None:
    make, inputs = MODELS[name]
    model = make()
    reference.fill(model, 1)
    path = tmp_path / f"model{suffix}"
    model.save(path)
    given = dict(zip(("image", "size"), inputs, strict=True)) if name == "branched" else None
    agrees(model, path, inputs=inputs, given=given)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")  # Keras's own, of a key too many
def test_a_port_is_saved_and_built_again(name: str, tmp_path: Path) -> None:
    """The spec that a port writes is the port: the same source, the same keys, the same numbers to the last bit."""
    make, inputs = MODELS[name]
    model = make()
    reference.fill(model, 1)
    model.save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    port.save(tmp_path / "ported")
    ported, built = port.build(), regspec.build(tmp_path / "ported" / "spec.yaml")
    assert regspec.load(tmp_path / "ported" / "spec.yaml") == port.spec
    assert (tmp_path / "ported" / "model.py").read_text() == regspec.source(tmp_path / "ported" / "spec.yaml")
    assert inspect.getsource(type(built)) in (tmp_path / "ported" / "model.py").read_text()
    assert list(built.state_dict()) == list(ported.state_dict())
    built.load_state_dict(load_file(tmp_path / "ported" / "weights.safetensors"))
    for key, value in ported.state_dict().items():
        assert torch.equal(built.state_dict()[key], value)
    built.eval()
    for own, other in zip(flat(built(*inputs)), flat(ported(*inputs)), strict=True):
        assert torch.equal(own, other)
    assert regspec.regularization_terms(built) == regspec.regularization_terms(ported)


def test_a_port_is_saved_twice(tmp_path: Path) -> None:
    """The second takes the place of the first, and leaves what else is there."""
    port = regspec.port(saved(tmp_path))
    port.save(tmp_path / "ported")
    (tmp_path / "ported" / "notes.txt").write_text("own")
    again = regspec.port(saved(tmp_path))
    again.save(tmp_path / "ported")
    written = load_file(tmp_path / "ported" / "weights.safetensors")
    assert all(np.array_equal(written[key], value) for key, value in again.weights.items())
    assert {each.name for each in (tmp_path / "ported").iterdir()} == {*WRITTEN, "notes.txt"}


@pytest.mark.parametrize("name", ["model.weights.h5", "model.h5", "model.keras"])
def test_a_config_alone_and_with_weights(name: str, tmp_path: Path) -> None:
    """Those of a file of weights, or of a whole model."""
    model = attending()
    reference.fill(model, 1)
    (tmp_path / "model.json").write_text(model.to_json())
    (model.save_weights if "weights" in name else model.save)(tmp_path / name)
    assert not regspec.port(tmp_path / "model.json").weights
    port = regspec.port(tmp_path / "model.json", weights=tmp_path / name)
    x = torch.randn(3, 5, 6)
    torch.testing.assert_close(port.build()(x), model(x), rtol=1e-4, atol=1e-5)
    assert port.verify().passed


# -- what can't be ported, and files that are no models ----------------------------------------------------------------


@keras.saving.register_keras_serializable("mine")
class Strange(layers.Layer):
    def call(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")  # Keras's own, when it saves one
def test_all_that_stands_in_the_way_is_said_at_once(tmp_path: Path) -> None:
    x = keras.Input((4,))
    y = layers.Dense(3, kernel_regularizer=lambda w: w.sum(), name="first")(x)
    y = Strange(name="second")(layers.Lambda(lambda z: z * 2, name="third")(y))
    model = keras.Model(x, keras.ops.argpartition(y, 1, axis=1))
    model.save(tmp_path / "model.keras")
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.port(tmp_path / "model.keras")
    said = str(caught.value)
    for part in ("'first' (Dense)", "'second' (Strange)", "'third' (Lambda)", "operation Argpartition"):
        assert part in said


def saved(tmp_path: Path) -> Path:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    model.save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def rewritten(path: Path, name: str, content: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    """The archive with another member in the place of one."""
    with zipfile.ZipFile(path) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for each, old in {**members, name: content}.items():
            archive.writestr(each, content if each == name else old, compression)
    return path


def weights(change: Callable[[h5py.File], None]) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["layers/dense/vars/0"] = np.ones((4, 3), "float32")
        file["layers/dense/vars/1"] = np.ones(3, "float32")
        change(file)
    return buffer.getvalue()


def external(file: h5py.File) -> None:
    del file["layers/dense/vars/0"]
    file["layers/dense/vars/0"] = h5py.ExternalLink("/etc/other.h5", "/x")


def outside(file: h5py.File) -> None:
    del file["layers/dense/vars/0"]
    file.create_dataset("layers/dense/vars/0", (4, 3), "float32", external=[("/etc/hostname", 0, 48)])


def huge(file: h5py.File) -> None:
    del file["layers/dense/vars/0"]
    file.create_dataset("layers/dense/vars/0", (2**20, 2**20), "float32", chunks=(2**10, 2**10))


def elsewhere(file: h5py.File) -> None:
    file["model_weights"] = h5py.ExternalLink("/etc/other.h5", "/x")


def tangled(file: h5py.File) -> None:
    """Each group has two names: 2**60 paths lead to the last."""
    group = file["layers/dense"]
    for _ in range(60):
        below = group.create_group("a")
        group["b"] = below
        group = below


def extra(file: h5py.File) -> None:
    file["layers/dense/vars/2"] = np.ones(3, "float32")


def missing(file: h5py.File) -> None:
    del file["layers/dense/vars/1"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (external, "a link, which is not followed"),
        (elsewhere, "a link, which is not followed"),
        (tangled, "groups in groups without end"),
        (outside, "keeps '.*' in another file"),
        (huge, r"the shape \(1048576, 1048576\), where \(4, 3\) is wanted"),
        (extra, "an array that no weight takes"),
        (missing, r"'dense(_\d+)?' has no array for bias"),
    ],
)
def test_weights_that_lie(
    change: Callable[[h5py.File], None], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regspec.keras.arrays.hdf5.MAX_ITEMS", 1_000)  # no more than this is walked through
    path = rewritten(saved(tmp_path), "model.weights.h5", weights(change))
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.port(path)


def test_weights_that_hold_less_than_they_say(tmp_path: Path) -> None:
    """And a config that says the same, so that no shape tells."""
    path = saved(tmp_path)
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json").replace(b'"units": 3', b'"units": 1000000000')
    rewritten(path, "config.json", config)

    def change(file: h5py.File) -> None:
        for name, shape in (("0", (4, 10**9)), ("1", (10**9,))):
            del file[f"layers/dense/vars/{name}"]
            file.create_dataset(f"layers/dense/vars/{name}", shape, "float32", chunks=True)

    with pytest.raises(regspec.RegspecError, match="bytes, which it does not hold"):
        regspec.port(rewritten(path, "model.weights.h5", weights(change)))


def test_calls_in_any_order_take_linear_time(tmp_path: Path) -> None:
    """A chain that is written from its end."""

    def tensor(name: str) -> dict[str, Any]:
        return {"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}}

    first = {"class_name": "InputLayer", "config": {"name": "l0", "batch_shape": [None, 3]}, "name": "l0"}
    chain = [
        {
            "class_name": "ReLU",
            "config": {"name": f"l{n}", "trainable": True},
            "inbound_nodes": [{"args": [tensor(f"l{n - 1}")]}],
        }
        for n in range(2000, 0, -1)
    ]
    config = {"layers": [first, *chain], "input_layers": [["l0", 0, 0]], "output_layers": [["l2000", 0, 0]]}
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"class_name": "Functional", "config": config}))
    assert len(regspec.port(path).spec.layers) == 2000
    chain[0]["inbound_nodes"] = [{"args": [tensor("l2000")]}]
    path.write_text(json.dumps({"class_name": "Functional", "config": config}))
    with pytest.raises(regspec.RegspecError, match="takes what nothing gives before"):
        regspec.port(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "no JSON"),
        (b"[" * 200_000 + b"]" * 200_000, "no JSON"),
        (b"[]", "no mapping"),
        (b"{}", r"keras: error: has no class_name"),
        (b'{"class_name": "Sequential", "config": {"layers": [3]}}', r"\$\.config\.layers\[0\]: error: is 3, where"),
        (b'{"class_name": "Functional", "config": {"layers": [{"class_name": "Dense"}]}}', "has no output_layers"),
    ],
)
def test_configs_that_lie(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.port(rewritten(saved(tmp_path), "config.json", content))


def test_a_bomb(tmp_path: Path) -> None:
    path = rewritten(saved(tmp_path), "config.json", b" " * 2**28, zipfile.ZIP_DEFLATED)
    with pytest.raises(regspec.RegspecError, match=r"says that its config\.json has"):
        regspec.port(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"\x89HDF\r\n\x1a\n no file", b"GIF89a"])
def test_files_that_are_no_models(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(regspec.RegspecError, match=r"model\.keras"):
        regspec.port(path)


# -- what a version of Keras meant -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "divides"),
    [("3.15.1", True), ("3.14.0", True), ("3.13.2", False), ("3.3.3", False), ("2.15.0", True), ("2.3.1", False)],
)
def test_activity_penalties_by_version(version: str, divides: bool, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activity_regularizer=keras.regularizers.L2(0.5))])
    model.save(tmp_path / "model.keras")
    path = rewritten(tmp_path / "model.keras", "metadata.json", json.dumps({"keras_version": version}).encode())
    ported, x = regspec.port(path).build(), torch.randn(5, 4)
    wanted = 0.5 * ported(x).square().sum()
    torch.testing.assert_close(regspec.regularization_loss(ported), wanted / 5 if divides else wanted)


@pytest.mark.parametrize("keeps_quirks", [True, False])
def test_a_penalty_that_keras_3_drops(keeps_quirks: bool, tmp_path: Path) -> None:
    inner = layers.Dense(2, activity_regularizer=keras.regularizers.L2(0.5))
    model = keras.Sequential([keras.Input((3, 4)), layers.TimeDistributed(inner, name="steps")])
    model.save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras", keeps_quirks=keeps_quirks)
    ported, x = port.build(), torch.randn(5, 3, 4)
    torch.testing.assert_close(ported(x), model(x), rtol=1e-4, atol=1e-5)
    assert model.losses == []
    wanted = torch.zeros(()) if keeps_quirks else 0.5 * ported(x).square().sum() / 15
    torch.testing.assert_close(regspec.regularization_loss(ported), wanted)
    assert "'steps'" in port.notes[0]
    command = ["port", str(tmp_path / "model.keras"), "-o", str(tmp_path / "ported")]
    assert CliRunner().invoke(app, command if keeps_quirks else [*command, "--no-quirks"]).exit_code == 0
    assert regspec.load(tmp_path / "ported/spec.yaml") == port.spec


def test_the_command(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["port", str(saved(tmp_path)), "-o", str(tmp_path / "ported")])
    assert result.exit_code == 0, result.output
    assert "1 layer, 15 parameters" in result.output
    assert {each.name for each in (tmp_path / "ported").iterdir()} == WRITTEN
