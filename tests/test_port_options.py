"""Arguments of Keras's layers that the layer table does not hold: ported, noted, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
import torch
from keras import layers

import regspec

from .layers import reference
from .ported import agrees

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Keras, when it saves
    pytest.mark.filterwarnings("ignore:You passed `rms_scaling=True`"),  # on purpose
]

TOKENS = torch.tensor([[1, 2, 3, 0, 0, 0], [4, 5, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]])


def saved(path: Path, x: Any, y: Any) -> Any:
    """A model of Keras, with weights that no symmetry hides, as Keras reads it again."""
    model = keras.Model(x, y)
    reference.fill(model, 1)
    model.save(path)
    return keras.saving.load_model(path)


ONE_INPUT: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "rms scaling": (lambda: layers.LayerNormalization(rms_scaling=True), (7, 5)),
    "rms scaling, whose beta is none and whose gamma is one": (
        lambda: layers.LayerNormalization(
            rms_scaling=True, scale=False, axis=[1, 2], gamma_regularizer="l2", beta_regularizer="l1"
        ),
        (7, 5),
    ),
    "no epsilon": (lambda: layers.LayerNormalization(epsilon=0.0), (7, 5)),
    "axes from the end": (lambda: layers.PReLU(shared_axes=[-1]), (4, 7, 5)),
    "axes from both ends": (lambda: layers.PReLU(shared_axes=[1, -2]), (4, 7, 5)),
    "numbers for truths": (lambda: layers.BatchNormalization(scale=0, center=1), (7, 5)),
    "moving averages that start elsewhere": (
        lambda: layers.BatchNormalization(moving_mean_initializer="ones", moving_variance_initializer="he_normal"),
        (7, 5),
    ),
}


@pytest.mark.parametrize("name", ONE_INPUT)
def test_layers_of_one_input(name: str, tmp_path: Path) -> None:
    make, shape = ONE_INPUT[name]
    x = keras.Input(shape)
    model = saved(tmp_path / "model.keras", x, make()(x))
    agrees(model, tmp_path / "model.keras", inputs=[torch.randn(3, *shape)])


def test_an_axis_without_cells(tmp_path: Path) -> None:
    """Its size may vary in the port."""
    x = keras.Input((0, 5))
    model = saved(tmp_path / "model.keras", x, layers.Dense(3)(layers.LayerNormalization()(x)))
    port = regspec.port(tmp_path / "model.keras")
    assert next(iter(port.spec.inputs.values())).shape == (None, 5)
    assert port.build()(torch.ones(2, 0, 5)).shape == model(torch.ones(2, 0, 5)).shape == (2, 0, 3)
    y = torch.randn(2, 4, 5)
    assert port.build()(y).shape == (2, 4, 3)


def test_statistics_that_keras_synchronizes(tmp_path: Path) -> None:
    """Which only its TensorFlow backend does."""
    (tmp_path / "model.json").write_text(config_of("BatchNormalization", synchronized=True))
    (note,) = regspec.port(tmp_path / "model.json").notes
    assert note == "'layer' takes the statistics of each process's own batch, where Keras synchronizes them"


def test_inputs_that_are_given_by_name(tmp_path: Path) -> None:
    x, counts = keras.Input((6,), dtype="int32"), keras.Input((6,))
    encoded = layers.CategoryEncoding(7, output_mode="count")(x, count_weights=counts)
    y = layers.RMSNormalization()(x=layers.Dense(4)(inputs=encoded))
    model = saved(tmp_path / "model.keras", [x, counts], y)
    agrees(model, tmp_path / "model.keras", inputs=[TOKENS.int(), torch.rand(3, 6)])


def test_scores_in_another_type(tmp_path: Path) -> None:
    table = layers.ReversibleEmbedding(9, 4, dtype="float16", reverse_dtype="float32", logit_soft_cap=2.0)
    x = keras.Input((6,), dtype="int32")
    model = saved(tmp_path / "model.keras", x, table(table(x), reverse=True))
    got, wanted = regspec.port(tmp_path / "model.keras").build()(TOKENS), model(TOKENS)
    assert got.dtype is wanted.dtype is torch.float32
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


# -- attention ---------------------------------------------------------------------------------------------------------


def multi_head(**more: Any) -> Any:
    return layers.MultiHeadAttention(2, 3, **more)


def grouped(**more: Any) -> Any:
    return layers.GroupQueryAttention(3, 4, 2, **more)


@pytest.mark.parametrize("make", [multi_head, grouped])
@pytest.mark.parametrize("use_gate", [False, True])
def test_penalties_on_projections(make: Callable[..., Any], use_gate: bool, tmp_path: Path) -> None:
    """Where Keras 3 has them, and where one would look for them."""
    x = keras.Input((7, 6))
    layer = make(activity_regularizer=keras.regularizers.L1L2(0.1, 0.2), use_gate=use_gate, name="attention")
    model = saved(tmp_path / "model.keras", x, layer(x, x))
    agrees(model, tmp_path / "model.keras", inputs=[torch.randn(3, 7, 6)])
    (note,) = regspec.port(tmp_path / "model.keras").notes
    assert "'attention' has its activity_regularizer on the outputs of its projections" in note
    plain = regspec.port(tmp_path / "model.keras", keeps_quirks=False)
    assert not plain.notes
    built = plain.build()
    y = built(torch.randn(3, 7, 6))
    wanted = (0.1 * y.abs().sum() + 0.2 * y.square().sum()) / 3
    torch.testing.assert_close(built.regularization_loss(), wanted)


@pytest.mark.parametrize("make", [multi_head, grouped])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
# Keras's attention masks what its own layers inside do not take.
@pytest.mark.filterwarnings(r"ignore:Layer '.*' \(of type EinsumDense\) was passed an input with a mask")
def test_steps_that_see_none(make: Callable[..., Any], dropout: float, tmp_path: Path) -> None:
    """Those that are masked attend to all alike, or to none where there is a dropout: also what they give agrees."""
    x = keras.Input((6,), dtype="int32")
    rows = layers.Embedding(9, 8, mask_zero=True)(x)
    model = saved(tmp_path / "model.keras", x, make(dropout=dropout)(rows, rows))
    agrees(model, tmp_path / "model.keras", inputs=[TOKENS])


@pytest.mark.parametrize("make", [multi_head, grouped])
@pytest.mark.parametrize("scores", [False, True])
def test_a_window_beyond_the_keys(make: Callable[..., Any], scores: bool, tmp_path: Path) -> None:
    query, value = keras.Input((7, 6)), keras.Input((4, 6))
    y = make(sliding_window=2)(query, value, return_attention_scores=scores)
    model = saved(tmp_path / "model.keras", [query, value], y)
    agrees(model, tmp_path / "model.keras", inputs=[torch.randn(3, 7, 6), torch.randn(3, 4, 6)])


def test_half_precision_under_masks(tmp_path: Path) -> None:
    """And in torch.autocast, where what stands for minus infinity must not be it."""
    x = keras.Input((6,), dtype="int32")
    rows = layers.Embedding(9, 8, mask_zero=True, dtype="float16")(x)
    saved(tmp_path / "model.keras", x, layers.MultiHeadAttention(2, 3, dtype="float16")(rows, rows))
    model = regspec.port(tmp_path / "model.keras").build()
    assert torch.isfinite(model(TOKENS)).all()
    with torch.autocast("cpu", torch.float16):
        assert torch.isfinite(model.float()(TOKENS)).all()


# -- what is refused ---------------------------------------------------------------------------------------------------


def config_of(kind: str, **fields: Any) -> str:
    first = {"class_name": "InputLayer", "config": {"name": "x", "batch_shape": [None, 4, 3], "dtype": "float32"}}
    layer = {"class_name": kind, "config": {"name": "layer", **fields}}
    return json.dumps({"class_name": "Sequential", "config": {"name": "m", "layers": [first, layer]}})


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("BatchNormalization", {"virtual_batch_size": 4}, "BatchNormalization with virtual_batch_size = 4"),
        ("BatchNormalization", {"renorm": True, "renorm_clipping": {"rmin": 2, "rmax": 1}}, "rmin above its rmax"),
        ("BatchNormalization", {"renorm": True, "renorm_clipping": {"max": 2}}, "renorm_clipping"),
        ("Resizing", {"height": 3, "width": 3, "fill_mode": "reflect"}, "fill_mode"),
        ("Dense", {"units": 3, "of_a_later_keras": "x"}, "Dense with of_a_later_keras = x"),
        ("Softmax", {"axis": None}, "axis"),
    ],
)
def test_what_is_refused(kind: str, fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(config_of(kind, **fields))
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.port(tmp_path / "model.json")


# -- the file ----------------------------------------------------------------------------------------------------------


def test_what_a_file_says_stays_as_it_is(tmp_path: Path) -> None:
    """A layer without a config, and a model inside whose outputs have names: the file's own words are not edited."""
    config = json.loads(config_of("Flatten"))
    inner = keras.Input((4, 3))
    outputs = {"second": layers.Dense(2)(inner), "first": layers.Dense(5)(inner)}
    graph = json.loads(keras.Model(inner, outputs, name="inner").to_json())
    config["config"]["layers"][1] |= {"config": None, "name": "flat"}
    config["config"]["layers"].insert(1, graph)
    call = {"args": [{"class_name": "__keras_tensor__", "config": {"keras_history": ["x", 0, 0]}}], "kwargs": {}}
    taken = {"class_name": "__keras_tensor__", "config": {"keras_history": ["inner", 0, 1]}}
    x, model, flat = config["config"]["layers"]
    x |= {"inbound_nodes": [], "name": "x"}
    model |= {"inbound_nodes": [call], "name": "inner"}
    flat |= {"inbound_nodes": [{**call, "args": [taken]}]}
    config["class_name"] = "Functional"
    config["config"] |= {"input_layers": [["x", 0, 0]], "output_layers": [["flat", 0, 0]]}
    path = tmp_path / "model.json"
    path.write_text(json.dumps(config))
    first, again = regspec.port(path), regspec.port(path)
    assert first.provenance.config == again.provenance.config == json.loads(path.read_text())
    assert first.text == again.text
    assert first.provenance.renewed["config"]["layers"][2]["config"] == {}


@pytest.mark.parametrize(
    ("option", "value", "known"),
    [
        ("data_format", "nchw", "'channels_first' or 'channels_last'"),
        ("backend", "jax", "'tensorflow' or 'theano'"),
    ],
)
def test_options_of_the_port_that_are_not_known(option: str, value: str, known: str) -> None:
    with pytest.raises(regspec.RegspecError, match=f"'{option}' must be {known}, but is '{value}'"):
        regspec.port("examples/keras_mlp.keras", **{option: value})
