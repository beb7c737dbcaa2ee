"""States that are kept from one forward to the next: as Keras keeps them, and as no part of the model."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import keras
import pytest
import torch
from keras import layers
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import regspec
from regspec import reset_states
from regspec.runtime import GRU

from .layers import reference
from .test_recurrent import build

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras, when it saves

CELLS = [layers.LSTMCell(4), layers.GRUCell(3, reset_after=False), layers.SimpleRNNCell(2)]
STATEFUL = {
    "lstm": (lambda: layers.LSTM(4, stateful=True, return_sequences=True, return_state=True), (3, 6, 5)),
    "gru": (lambda: layers.GRU(4, stateful=True, activation="relu"), (3, 6, 5)),
    "simple": (lambda: layers.SimpleRNN(4, stateful=True, go_backwards=True, dropout=0.2), (3, 6, 5)),
    "stack": (lambda: layers.RNN(CELLS, stateful=True, return_state=True), (3, 6, 5)),
    "both": (lambda: layers.Bidirectional(layers.LSTM(4, stateful=True)), (3, 6, 5)),
    "conv": (lambda: layers.ConvLSTM2D(4, (3, 2), strides=2, padding="same", stateful=True), (2, 3, 5, 7, 2)),
    "both convs": (lambda: layers.Bidirectional(layers.ConvLSTM1D(4, 2, stateful=True)), (2, 3, 7, 2)),
}


@pytest.mark.parametrize("name", STATEFUL)
def test_states_are_kept_as_in_keras(name: str, tmp_path: Path) -> None:
    """Outputs of several calls, gradients through the last of them, and a new beginning."""
    make, shape = STATEFUL[name]
    x = keras.Input(batch_shape=shape)
    model = keras.Model(x, make()(x))
    reference.fill(model, 1)
    model.save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    ported = regspec.port(tmp_path / "model.keras").build()
    batches = [torch.randn(shape) for _ in range(3)]

    def outputs(run: Any) -> list[list[Tensor]]:
        return [list(keras.tree.flatten(run(batch))) for batch in batches]

    got, wanted = outputs(ported), outputs(lambda batch: model(batch, training=False))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    if name in ("simple", "conv", "both convs"):  # of the others Keras's own backward fails: their states have changed
        sum(each.square().sum() for each in got[-1]).backward()
        sum(each.square().sum() for each in wanted[-1]).backward()
        norms = [
            sum(each.grad.square().sum() for each in parameters if each.grad is not None)
            for parameters in (ported.parameters(), [each.value for each in model.trainable_variables])
        ]
        torch.testing.assert_close(norms[0], norms[1], rtol=1e-3, atol=1e-4)
    for state in keras.tree.flatten(model.layers[1].states):  # Keras's own reset_state fails for a stack
        state.assign(keras.ops.zeros_like(state))
    reset_states(ported)
    again = outputs(ported)
    torch.testing.assert_close(again, got, rtol=0, atol=0)
    torch.testing.assert_close(again, outputs(lambda batch: model(batch, training=False)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", STATEFUL)
def test_ports_are_verified_from_a_new_beginning(name: str, tmp_path: Path) -> None:
    """Each forward of both sides, so that no side goes on from where another forward of it has ended."""
    make, shape = STATEFUL[name]
    x = keras.Input(batch_shape=shape)
    model = keras.Model(x, make()(x))
    reference.fill(model, 1)
    model.save(tmp_path / "model.keras")
    found = regspec.port(tmp_path / "model.keras").verify()
    assert found.passed, found.verdict
    assert {each.sort for each in found.checks} >= {"weights", "outputs"}


def test_gradients_end_where_the_call_began() -> None:
    """Those of torch's LSTM that is given the states."""
    model, x = build("LSTM: {name: lstm, units: 4, stateful: true}"), torch.randn(3, 6, 5, requires_grad=True)
    theirs = nn.LSTM(5, 4, batch_first=True)
    theirs.load_state_dict(model.lstm.state_dict())
    states = theirs(x)[1]
    model(x)
    model(x).square().sum().backward()
    got, x.grad = x.grad, None
    theirs(x, tuple(each.detach() for each in states))[0][:, -1].square().sum().backward()
    torch.testing.assert_close(got, x.grad)
    torch.testing.assert_close(model.lstm.weight_hh_l0.grad, theirs.weight_hh_l0.grad)


@pytest.mark.parametrize("layer", ["LSTM: {units: 4, stateful: true}", "GRU: {units: 4, stateful: true}"])
def test_two_halves_are_the_whole(layer: str) -> None:
    """A sequence in two calls gives what it gives in one."""
    model, whole = build(layer), build(layer.replace("stateful: true", "stateful: false"))
    whole.load_state_dict(model.state_dict())
    x = torch.randn(3, 6, 5)
    model(x[:, :2])
    torch.testing.assert_close(model(x[:, 2:]), whole(x))


def test_nothing_is_kept_that_is_not_asked_for() -> None:
    for layer in ("LSTM: {units: 4, activation: relu}", "GRU: {units: 4, dropout: 0.2}"):
        model, x = build(layer).eval(), torch.randn(3, 6, 5)
        torch.testing.assert_close(model(x), model(x), rtol=0, atol=0)


def test_states_are_no_part_of_the_model() -> None:
    """They are in no state_dict, and no buffers; a copy has its own."""
    model, x = build("LSTM: {name: lstm, units: 4, stateful: true}"), torch.randn(3, 6, 5)
    keys = list(model.state_dict())
    first, second = model(x), model(x)
    assert not torch.allclose(first, second)
    assert list(model.state_dict()) == keys
    assert not list(model.buffers())
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    third = model(x)
    for each in copies:
        torch.testing.assert_close(each(x), third, rtol=0, atol=0)
    model.lstm.reset_states()
    torch.testing.assert_close(model(x), first, rtol=0, atol=0)


def test_initial_states_come_before_kept_ones() -> None:
    text = """
        regspec: 1
        inputs: {x: {shape: [6, 5]}, h: {shape: [4]}}
        layers: [{GRU: {name: gru, units: 4, inputs: [x, h], stateful: true, return_state: true}}]
        outputs: [gru, gru.1]
    """
    model = regspec.build(regspec.loads(text), seed=0)
    x, h = torch.randn(3, 6, 5), torch.randn(3, 4)
    first, _ = model(x, h)
    torch.testing.assert_close(model(x, h)[0], first, rtol=0, atol=0)


def test_a_returned_state_may_be_changed() -> None:
    layer = "LSTM: {name: lstm, units: 4, stateful: true, return_state: true, activation: relu}"
    model, twin = (build(layer, outputs="[lstm, lstm.1, lstm.2]") for _ in range(2))
    x = torch.randn(3, 6, 5)
    for each in model(x):
        each.detach().zero_()
    twin(x)
    torch.testing.assert_close(model(x), twin(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        ("LSTM: {units: 4, stateful: true}", [(3, 6, 5), (2, 6, 5)]),
        ("SimpleRNN: {units: 4, stateful: true, activation: sigmoid}", [(3, 6, 5), (2, 6, 5)]),
        ("ConvLSTM1D: {filters: 4, kernel_size: 2, stateful: true}", [(3, 6, 2, 5), (2, 6, 2, 5)]),
        ("ConvLSTM1D: {filters: 4, kernel_size: 2, stateful: true}", [(3, 6, 2, 5), (3, 6, 2, 4)]),
    ],
)
def test_a_batch_of_another_size(layer: str, shapes: list[tuple[int, ...]]) -> None:
    model = build(layer, (None, *shapes[0][2:-1], None) if "Conv" in layer else shapes[0][1:])
    model(torch.randn(shapes[0]))
    with pytest.raises(ValueError, match=r"keeps states of \(3, 4.*until reset_states\(\) is called"):
        model(torch.randn(shapes[1]))
    reset_states(model)
    model(torch.randn(shapes[1]))


def test_training_after_inference() -> None:
    """A state that was kept in inference mode, in another precision."""
    model, x = build("LSTM: {units: 4, stateful: true, activity_regularizer: l2}"), torch.randn(3, 6, 5)
    with torch.inference_mode():
        model.eval()(x)
    (model.train()(x).sum() + model.regularization_loss()).backward()
    output = model.double()(x.double())
    assert output.dtype == torch.float64
    torch.testing.assert_close(model.regularization_loss(), 0.01 * output.square().sum() / 3)


@pytest.mark.parametrize(
    ("layer", "shape", "is_full"),
    [
        ("LSTM: {units: 4, stateful: true, activity_regularizer: l2}", (6, 5), False),
        ("GRU: {units: 4, stateful: true, activation: relu, activity_regularizer: l2}", (6, 5), False),
        ("ConvLSTM1D: {filters: 4, kernel_size: 2, stateful: true, activity_regularizer: l2}", (6, 2, 5), True),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")  # torch's own, when it is imported
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # read by torch's guards
def test_compiled(layer: str, shape: tuple[int, ...], is_full: bool) -> None:
    torch._dynamo.reset()
    model = build(layer, shape)
    eager = copy.deepcopy(model)
    compiled = torch.compile(model, backend="eager", fullgraph=is_full)
    for _ in range(3):
        x = torch.randn(3, *shape)
        torch.testing.assert_close(compiled(x), eager(x))
        torch.testing.assert_close(model.regularization_loss(), eager.regularization_loss())
        model.regularization_loss().backward()
        eager.regularization_loss().backward()
    for own, other in zip(model.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad)


def test_the_properties_of_super_under_the_compiler() -> None:
    """Dynamo takes them to be true, and would have run torch's own forward."""
    torch._dynamo.reset()
    module, x = GRU(5, 4, activation=nn.ReLU()), torch.randn(3, 6, 5)
    with torch._dynamo.config.patch(allow_rnn=True):
        compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(x)[0], module(x)[0])


def test_what_can_not_keep_a_state() -> None:
    """A checkpoint, which computes twice; a program that is exported."""
    model, x = build("LSTM: {name: lstm, units: 4, stateful: true}"), torch.randn(3, 6, 5)
    output = checkpoint(model.lstm, x, use_reentrant=False)[0]
    with pytest.raises(RuntimeError, match="leave it out of activation checkpointing"):
        output.sum().backward()
    with pytest.raises(RuntimeError, match="an exported program keeps no states"):
        torch.export.export(model, (x,), strict=False)
    text = "TimeDistributed: {layer: {LSTM: {units: 4, stateful: true}}}"
    with pytest.raises(regspec.RegspecError, match="wraps a stateful layer"):
        build(text, (2, 6, 5))


@pytest.mark.parametrize(
    "layer",
    [
        "LSTM: {name: r, units: 4, stateful: true}",
        "RNN: {name: r, cell: {GRUCell: {units: 3}}, stateful: true}",
        "Bidirectional: {name: r, layer: {GRU: {units: 4, stateful: true}}}",
    ],
)
@pytest.mark.parametrize("file", ["model.keras", "model.py"])
def test_keras_must_know_the_batch_size(layer: str, file: str, tmp_path: Path) -> None:
    with pytest.raises(regspec.RegspecError, match="r is stateful, for which Keras must know the batch size"):
        regspec.to_keras(build(layer), tmp_path / file)
