"""Recurrent layers beyond the layer table: dropout, faults of cells, and Keras's files of them."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import pytest
import torch
from keras import layers
from torch import Tensor, nn

import regspec
from regspec.runtime import GRU, LSTM, ConvLSTM, SimpleRNN

from .layers import reference

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras, when it saves


def build(layer: str, shape: tuple[int | None, ...] = (6, 5), **more: str) -> Any:
    rest = "".join(f"{name}: {value}\n" for name, value in more.items())
    text = f"regspec: 1\nname: net\ninputs: {{x: {{shape: {json.dumps(shape)}}}}}\nlayers:\n  - {layer}\n{rest}"
    return regspec.build(regspec.loads(text), seed=0)


# -- modules -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("own", "native"), [(LSTM, nn.LSTM), (GRU, nn.GRU), (SimpleRNN, nn.RNN)])
@pytest.mark.parametrize("bias", [True, False])
def test_modules_with_torchs_defaults_are_torchs(own: Any, native: Any, bias: bool) -> None:
    """Also where they step in Python, as recurrent dropout has them do."""
    theirs = native(5, 4, bias=bias, batch_first=True)
    x = torch.randn(3, 6, 5)
    for options in ({}, {"recurrent_dropout": 1e-12}, {"dropout": 0.5, "recurrent_dropout": 0.5}):
        ours = own(5, 4, bias=bias, **options)
        ours.load_state_dict(theirs.state_dict())
        if bias and own is not GRU:  # Keras has one bias
            for each in (ours, theirs):
                nn.init.zeros_(each.bias_hh_l0)
        torch.testing.assert_close(ours.train("dropout" not in options)(x), theirs(x))


@pytest.mark.parametrize("own", [LSTM, GRU, SimpleRNN])
@pytest.mark.parametrize("activation", [None, nn.Softsign()], ids=["by torch", "in steps"])
def test_a_sequence_of_padding_alone_keeps_its_states(own: Any, activation: nn.Module | None) -> None:
    module = own(5, 4, activation=activation)
    first = tuple(torch.randn(1, 3, 4) for _ in range(2 if own is LSTM else 1))
    mask = torch.tensor([[True] * 6, [False] * 6, [False, True] * 3])
    output, last = module(torch.randn(3, 6, 5), first if own is LSTM else first[0], mask)
    for before, after in zip(first, last if own is LSTM else (last,), strict=True):
        torch.testing.assert_close(after[:, 1], before[:, 1], rtol=0, atol=0)
        assert not torch.isclose(after[:, [0, 2]], before[:, [0, 2]]).any()
    assert not output[1].any()


def test_noise_of_each_gate() -> None:
    """With recurrent dropout, each gate sees the input times noise of its own, the same in each step; else all alike.

    A linear LSTM without a state: the projection of the input 1 by 1 is a gate's noise.
    """
    gates = []
    for recurrent in (0.0, 0.5):
        torch.manual_seed(0)
        module = LSTM(1, 1, bias=False, dropout=0.5, recurrent_dropout=recurrent)
        nn.init.ones_(module.weight_ih_l0)
        noise = module._noise(torch.ones(500, 1), 0.5)
        assert noise is not None
        assert set(noise.unique().tolist()) == {0.0, 2.0}
        gates.append(noise.shape[1])
        x = torch.ones(500, 3, 1)
        torch.manual_seed(0)
        first = module._noise(x[:, 0], 0.5)
        i, f, g, o = (first.expand(-1, 4, -1) if recurrent == 0 else first).unbind(1)
        nn.init.zeros_(module.weight_hh_l0)
        torch.manual_seed(0)
        output, _ = module(x)
        c = torch.zeros(500, 1)
        for step in range(3):
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            torch.testing.assert_close(output[:, step], o.sigmoid() * c.tanh())
    assert gates == [1, 4]


@pytest.mark.parametrize("resets_after", [True, False])
def test_noise_of_a_gru(resets_after: bool) -> None:
    """Written out: each gate sees the input and the state times its own noise."""
    torch.manual_seed(0)
    module = GRU(5, 4, dropout=0.4, recurrent_dropout=0.4, reset_after=resets_after)
    if not resets_after:
        nn.init.zeros_(module.bias_hh_l0)  # which Keras has not
    x, h = torch.randn(3, 6, 5), torch.randn(3, 4)
    torch.manual_seed(1)
    input_noise, noise = module._noise(x[:, 0], 0.4), module._noise(h, 0.4)
    assert input_noise is not None
    assert noise is not None
    torch.manual_seed(1)
    output, _ = module(x, h.unsqueeze(0))
    bias = module.bias_hh_l0 if resets_after else torch.zeros(12)

    def inner(gate: int, state: Tensor) -> Tensor:
        rows = slice(4 * gate, 4 * gate + 4)
        return (state * noise[:, gate]) @ module.weight_hh_l0[rows].T + bias[rows]

    for step in range(6):
        seen = [x[:, step] * input_noise[:, gate] for gate in range(3)]
        projected = [
            each @ weight.T + own
            for each, weight, own in zip(seen, module.weight_ih_l0.chunk(3), module.bias_ih_l0.chunk(3), strict=True)
        ]
        r, z = (projected[0] + inner(0, h)).sigmoid(), (projected[1] + inner(1, h)).sigmoid()
        new = (projected[2] + (r * inner(2, h) if resets_after else inner(2, r * h))).tanh()
        h = z * h + (1 - z) * new
        torch.testing.assert_close(output[:, step], h)


@pytest.mark.parametrize(
    "options", [{"dropout": 0.5}, {"recurrent_dropout": 0.5}, {"dropout": 0.3, "recurrent_dropout": 0.3}]
)
def test_convolutional_noise_of_each_gate(options: dict[str, float]) -> None:
    """Written out: one convolution a gate, of the input and of the state times the gate's noise."""
    torch.manual_seed(0)
    module = ConvLSTM(2, 3, (3, 2), stride=(2, 1), padding=(1, 0), **options)
    nn.init.normal_(module.bias)
    x, states = torch.randn(4, 5, 2, 6, 7), (torch.randn(4, 3, 3, 6), torch.randn(4, 3, 3, 6))
    torch.manual_seed(1)
    input_noise, noise = (
        module._noise(x[:, 0], module.input_dropout),
        module._noise(states[0], module.recurrent_dropout),
    )
    torch.manual_seed(1)
    output, _ = module(x, states)
    h, c = states
    for step in range(5):
        gates = []
        for gate in range(4):
            rows = slice(3 * gate, 3 * gate + 3)
            seen = x[:, step] if input_noise is None else x[:, step] * input_noise[:, gate]
            state = h if noise is None else h * noise[:, gate]
            projected = nn.functional.conv2d(seen, module.weight_ih[rows], module.bias[rows], (2, 1), (1, 0))
            padded = nn.functional.pad(state, (0, 1, 1, 1))
            gates.append(projected + nn.functional.conv2d(padded, module.weight_hh[rows]))
        i, f, g, o = gates
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        torch.testing.assert_close(output[:, step], h)


# -- specs -------------------------------------------------------------------------------------------------------------


def problems(layer: str, shape: tuple[int, ...] = (6, 5)) -> list[str]:
    with pytest.raises(regspec.RegspecError) as caught:
        build(layer, shape)
    return [f"{each.column}: {each.what}" + (f" ({each.hint})" if each.hint else "") for each in caught.value.problems]


BIASLESS = "{GRUCell: {units: 3, use_bias: false, bias_regularizer: l2}}"
SEVERAL = "{GRUCell: {units: 3, activity_regularizer: l2}}, {GRUCel: {unit: 2}}, {LSTMCell: {unit: 1}}"
ACTIVITY = "has an activity_regularizer, which Keras applies to the output and the states of each step"
GIVE = "give it to the RNN, for the outputs of the whole"


@pytest.mark.parametrize(
    ("layer", "wanted"),
    [
        ("LSTMCell: {units: 3}", [r"no kind of layer or block is called 'LSTMCell' \(a cell stands in an RNN"]),
        ("RNN", ["RNN needs 'cell'"]),
        ("RNN: {cell: 3}", [r"'cell' of RNN must be a cell, \{class: fields\}, but is 3"]),
        ("RNN: {cell: []}", ["'cell' must have at least 1 items, but has 0"]),
        ("RNN: {cell: LSTMCell}", ["'LSTMCell' needs 'units'"]),
        ("RNN: {cell: {LSTM: {units: 3}}}", [r"'cell' of RNN names no cell: 'LSTM' \(did you mean 'LSTMCell'\?\)"]),
        ("RNN: {cell: {LSTMCell: {units: 3, activity_regularizer: l2}}}", [f"61: 'cell' of RNN {ACTIVITY} \\({GIVE}"]),
        (
            f"RNN: {{cell: [{SEVERAL}]}}",
            [
                f"61: '\\[0\\]' of 'cell' {ACTIVITY}",
                r"'\[1\]' of 'cell' names no cell: 'GRUCel' \(did you mean 'GRUCell'\?\)",
                r"'LSTMCell' has no field 'unit' \(did you mean 'units'\?\)",
            ],
        ),
        (f"RNN: {{cell: [{', '.join(['{GRUCell: {units: 3}}'] * 65)}]}}", ["'cell' must have at most 64 items"]),
        (
            "RNN: {cell: ["
            + ", ".join(["{StackedRNNCells: {cells: [" + ", ".join(["{GRUCell: {units: 3}}"] * 33) + "]}}"] * 2)
            + "]}",
            ["has more than 64 cells"],
        ),
        (f"RNN: {{cell: {BIASLESS}}}", ["a bias_regularizer, but no bias"]),
        ("RNN: {cell: {LSTMCell: {units: 3}}, inputs: [x, x]}", ["2 initial state.*, but 2 inputs are given"]),
        (
            "RNN: {cell: {GRUCell: {units: 3}}, inputs: [x, x]}",
            [r"takes an initial state of \(batch, 3\), but is given 'x', which gives \(batch, 6, 5\)"],
        ),
        (
            "Bidirectional: {layer: {GRU: {units: 3, stateful: true}}, "
            "backward_layer: {GRU: {units: 3, go_backwards: true}}}",
            ["needs the same return_sequences, return_state, stateful in both directions"],
        ),
        (
            "Bidirectional: {layer: {GRU: {units: 3}}, "
            "backward_layer: {ConvLSTM1D: {filters: 3, kernel_size: 2, go_backwards: true}}}",
            ["needs layers of the same rank in both directions"],
        ),
    ],
)  # fmt: skip
def test_faults_of_cells(layer: str, wanted: list[str]) -> None:
    found = problems(layer)
    assert len(found) == len(wanted), found
    for each, pattern in zip(found, wanted, strict=True):
        assert re.search(pattern, each), each


@pytest.mark.parametrize(
    ("layer", "wanted"),
    [
        ("ConvLSTM2D: {filters: 3, kernel_size: 3}", r"takes 5-D input \(batch, steps, channels, height, width\)"),
        ("ConvLSTM1D: {filters: 3, kernel_size: 9}", r"a window of \(9,\), which does not fit into 'x'"),
        (
            "ConvLSTM1D: {filters: 3, kernel_size: 2, activation: glu}",
            "takes no activation but one that keeps the shape of a step",
        ),
        (
            "ConvLSTM1D: {filters: 3, kernel_size: 2, inputs: [x, x, x]}",
            r"takes an initial state of \(batch, 3, 4\), but is given 'x', which gives \(batch, 6, 2, 5\)",
        ),
    ],
)
def test_faults_of_convolutional_layers(layer: str, wanted: str) -> None:
    with pytest.raises(regspec.RegspecError, match=wanted):
        build(layer, (6, 2, 5))


def test_sizes_that_are_not_known() -> None:
    """A stride of one needs none; a larger one does, as in Keras, for its padding depends on the size."""
    model = build("ConvLSTM1D: {filters: 3, kernel_size: 2, padding: same}", (None, 2, None))
    assert model(torch.randn(3, 4, 2, 7)).shape == (3, 3, 7)
    layer = "ConvLSTM1D: {filters: 3, kernel_size: 2, padding: same, strides: 2}"
    with pytest.raises(regspec.RegspecError, match=r"needs to know the size of axis 3 of 'x'"):
        build(layer, (None, 2, None))


def test_rules_reach_cells() -> None:
    """Those of the layer; what a cell says itself wins."""
    model = build(
        "RNN: {name: rnn, cell: [{GRUCell: {units: 3, kernel_regularizer: {l1: 0.5}}}, {LSTMCell: {units: 2}}]}",
        regularizers="[{kinds: [RNN], kernel: {l2: 0.1}}, {layers: rnn, recurrent: {l1: 0.2}}]",
    )
    terms = model.regularization_terms()
    assert terms.keys() == {f"rnn.{cell}_cell.{slot}" for cell in ("gru", "lstm") for slot in ("kernel", "recurrent")}
    torch.testing.assert_close(terms["rnn.gru_cell.kernel"], 0.5 * model.rnn_gru_cell.weight_ih_l0.abs().sum())
    torch.testing.assert_close(terms["rnn.lstm_cell.kernel"], 0.1 * model.rnn_lstm_cell.weight_ih_l0.square().sum())


def test_a_stack_is_a_chain() -> None:
    """Of the modules that LSTM and GRU become; constraints, initializers and freezing are each cell's own."""
    one = build("RNN: {name: rnn, cell: {LSTMCell: {units: 4}}}")
    assert type(one.rnn) is nn.LSTM
    model = build(
        "RNN: {name: rnn, cell: [{LSTMCell: {units: 4, kernel_constraint: {max_norm: 0.1}}}, "
        "{GRUCell: {units: 3, trainable: false, kernel_initializer: ones}}]}"
    )
    model.apply_constraints()
    assert model.rnn_lstm_cell.weight_ih_l0.norm(dim=1).max() <= 0.1001
    assert not any(each.requires_grad for each in model.rnn_gru_cell.parameters())
    assert bool((model.rnn_gru_cell.weight_ih_l0 == 1).all())
    assert model.rnn_lstm_cell.weight_ih_l0.requires_grad
    assert model.rnn_lstm_cell.bias_ih_l0.tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8


# -- Keras's files -----------------------------------------------------------------------------------------------------


def network() -> Any:
    """Every way in which cells lie in a file, with states that are passed on."""
    x, video = keras.Input((6, 5)), keras.Input((3, 7, 6, 2))
    encoder = layers.RNN([layers.LSTMCell(4), layers.GRUCell(3), layers.LSTMCell(4)], return_state=True, name="encoder")
    code, *states = encoder(x)
    decoder = layers.RNN(
        [
            layers.LSTMCell(4, dropout=0.2, recurrent_dropout=0.1, kernel_regularizer="l2"),
            layers.GRUCell(3, reset_after=False, bias_regularizer=keras.regularizers.L1(0.1), trainable=False),
            layers.LSTMCell(4, use_bias=False, recurrent_regularizer="l1"),
        ],
        return_sequences=True,
        activity_regularizer="l2",
        name="decoder",
    )
    decoded = decoder(x, initial_state=states)
    both = layers.Bidirectional(layers.RNN([layers.GRUCell(3), layers.SimpleRNNCell(2)], return_sequences=True))(
        decoded
    )
    one = layers.RNN(layers.GRUCell(3, dropout=0.3))(sequences=both)
    images = layers.ConvLSTM2D(3, 2, padding="same", return_sequences=True, kernel_regularizer="l2", dropout=0.1)(video)
    images = layers.Bidirectional(layers.ConvLSTM2D(3, (3, 2), strides=2))(images)
    each = layers.TimeDistributed(layers.RNN([layers.GRUCell(2)]))(layers.Reshape((3, 7, 12))(video))
    parts = [code, one, layers.Flatten()(images), layers.Flatten()(each)]
    return keras.Model([x, video], [layers.Concatenate()(parts), decoded])


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".weights.h5"])
def test_files(suffix: str, tmp_path: Path) -> None:
    model = network()
    reference.fill(model, 1)
    path, weights = tmp_path / f"model{suffix}", None
    if suffix == ".weights.h5":
        path, weights = tmp_path / "model.json", path
        path.write_text(model.to_json())
        model.save_weights(weights)
    else:
        model.save(path)
    ported = regspec.port(path, weights=weights).build()
    inputs = [torch.randn(3, 6, 5), torch.randn(3, 3, 7, 6, 2)]
    torch.testing.assert_close(ported(*inputs), tuple(model(inputs, training=False)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ported.regularization_loss(), sum(model.losses), rtol=1e-4, atol=1e-5)


def test_a_port_reads_as_written(tmp_path: Path) -> None:
    """Cells as a list; no backward_layer, which Keras writes, where it is like the other; and so torch's own module."""
    x = keras.Input((6, 5))
    y = layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="both")(x)
    model = keras.Model(x, layers.RNN([layers.GRUCell(3), layers.SimpleRNNCell(2)], name="rnn")(y), name="net")
    model.save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    assert "- Bidirectional: {name: both, layer: {LSTM: {units: 4, return_sequences: true}}}\n" in port.text
    assert "- RNN: {name: rnn, cell: [{GRUCell: {units: 3}}, {SimpleRNNCell: {units: 2}}]}\n" in port.text
    assert type(port.build().both) is nn.LSTM
    assert port.build().both.bidirectional


@keras.saving.register_keras_serializable("mine")
class MinimalCell(layers.Layer):
    """The cell of Keras's documentation."""

    state_size = units = 4

    def call(self, x: Tensor, states: list[Tensor]) -> Any:
        return x[:, :4] + states[0], [x[:, :4] + states[0]]


def test_cells_that_can_not_be_ported(tmp_path: Path) -> None:
    x = keras.Input((6, 5))
    y = layers.RNN([layers.GRUCell(3), MinimalCell()], name="first")(x)
    z = layers.RNN(layers.LSTMCell(3, activity_regularizer="l2"), name="second")(x)
    keras.Model(x, [y, z]).save(tmp_path / "model.keras")
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.port(tmp_path / "model.keras")
    first, second = (each.what for each in caught.value.problems)
    assert "'first' (RNN) can't be ported: no cell ports the class MinimalCell (mine>MinimalCell), which is" in first
    assert "'second' (RNN) can't be ported: a cell with an activity_regularizer, which Keras applies to" in second


@pytest.mark.parametrize(
    "cell", [3, {"class_name": "LSTMCell", "config": {"units": "x"}}, {"class_name": ["LSTMCell"]}]
)
def test_cells_that_lie(cell: Any, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((6, 5)), layers.RNN(layers.GRUCell(3))])
    config = json.loads(model.to_json())
    config["config"]["layers"][1]["config"]["cell"] = cell
    (tmp_path / "model.json").write_text(json.dumps(config))
    with pytest.raises(regspec.RegspecError):
        regspec.port(tmp_path / "model.json")


def test_weights_of_cells_are_told_apart(tmp_path: Path) -> None:
    """An array that is missing is missing of its own cell, although another's would fit."""
    model = keras.Sequential([keras.Input((6, 3)), layers.RNN([layers.GRUCell(3) for _ in range(11)], name="rnn")])
    model.save(tmp_path / "model.keras")
    (tmp_path / "model.json").write_text(model.to_json())
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        (tmp_path / "model.weights.h5").write_bytes(archive.read("model.weights.h5"))
    with h5py.File(tmp_path / "model.weights.h5", "a") as file:
        del file["layers/rnn/cell/cells/gru_cell_1/vars/2"]
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.port(tmp_path / "model.json", weights=tmp_path / "model.weights.h5")
    assert "has no array for gru_cell_1.bias" in str(caught.value)


FROZEN = {
    "a layer in it": (lambda: layers.Bidirectional(layers.GRU(3, kernel_regularizer="l2"), trainable=False), (6, 5)),
    "its cell": (lambda: layers.RNN(layers.GRUCell(3, kernel_regularizer="l2"), trainable=False), (6, 5)),
    "its stack": (
        lambda: layers.RNN(layers.StackedRNNCells([layers.GRUCell(3, kernel_regularizer="l2")], trainable=False)),
        (6, 5),
    ),
    "a cell of its own": (lambda: layers.ConvLSTM1D(3, 2, kernel_regularizer="l2", trainable=False), (6, 5, 2)),
}


@pytest.mark.parametrize("name", FROZEN)
def test_frozen_layers_whose_weights_others_hold(name: str, tmp_path: Path) -> None:
    """Keras trains the weights of a frozen layer that holds others, once it has read it from a file; which is said."""
    make, shape = FROZEN[name]
    x = keras.Input(shape)
    keras.Model(x, make()(x)).save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    (note,) = port.notes
    assert "is frozen, but not what it holds" in note
    torch.testing.assert_close(port.build().regularization_loss(), sum(model.losses))
    assert sum(model.losses) > 0
    frozen = regspec.port(tmp_path / "model.keras", keeps_quirks=False)
    assert not frozen.notes
    assert frozen.build().regularization_loss() == 0


def test_frozen_layers_with_all_that_they_hold(tmp_path: Path) -> None:
    """As Keras writes them that were frozen after they were made."""
    x = keras.Input((6, 5))
    layer = layers.RNN([layers.GRUCell(3, kernel_regularizer="l2"), layers.LSTMCell(2)])
    model = keras.Model(x, layer(x))
    layer.trainable = False
    model.save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    assert not port.notes
    assert not any(each.requires_grad for each in port.build().parameters())


@pytest.mark.parametrize("outputs", ["[sum, one.0]", "[sum, one.0, one.1]"])
def test_states_from_layer_to_layer(outputs: str) -> None:
    """Whether or not something else takes them: what torch's own modules give for them."""
    text = (
        "regspec: 1\ninputs: {a: {shape: [7, 3]}, b: {shape: [5, 3]}}\nlayers:\n"
        "  - LSTM: {name: one, inputs: a, units: 4, return_state: true}\n"
        "  - LSTM: {name: two, inputs: [b, one.1, one.2], units: 4, return_state: true, return_sequences: true}\n"
        "  - GRU: {name: three, inputs: [two.0, two.1], units: 4}\n"
        f"  - Add: {{name: sum, inputs: [three, two.2]}}\noutputs: {outputs}\n"
    )
    model, a, b = regspec.build(text, seed=0), torch.randn(3, 7, 3), torch.randn(3, 5, 3)
    one, (h, c) = model.one(a)
    two, (two_h, two_c) = model.two(b, (h, c))
    wanted = [model.three(two, two_h)[0][:, -1] + two_c[0], one[:, -1], h[0]]
    for got, each in zip(model(a, b), wanted, strict=False):
        torch.testing.assert_close(got, each)
