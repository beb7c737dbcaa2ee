"""Every row of the layer table in a file of Keras's, saved and ported once: as it is, with channels first, verified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest
import torch
from keras import layers

import regspec
from regspec.keras.porting.states import state_of

from .layers import reference
from .layers.row import Row
from .layers.rows import ROWS
from .ported import RANDOM, agrees, is_saved, of_row

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Keras, when it saves
    pytest.mark.filterwarnings("ignore:torch.searchsorted"),  # in Keras, on what is permuted
]

SAVED = [index for index, row in enumerate(ROWS) if row.has_reference and is_saved(row)]
FIRST = {ROWS[index].kind: index for index in reversed(SAVED)}  # of each kind
POOLINGS = {2: layers.MaxPooling1D, 3: layers.MaxPooling2D, 4: layers.MaxPooling3D}
AS_KERAS = ("SimpleRNN", "LSTM", "GRU", "RNN", "Bidirectional", "Attention", "MultiHeadAttention")


@pytest.mark.parametrize("index", [pytest.param(index, id=ROWS[index].id) for index in SAVED])
def test_every_row(index: int, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """A layer in a model, with penalties."""
    row = ROWS[index]
    model = model_of(index)
    model.save(tmp_path / "model.keras")
    if row.fields.get("trainable") is False:
        model = keras.saving.load_model(tmp_path / "model.keras")  # because it trains what the layer holds then
    inputs = [torch.as_tensor(x) for x in reference.inputs_of(row, index)]
    port = regspec.port(tmp_path / "model.keras", data_format="channels_first" if is_converted(index) else None)
    original = port.original or port
    assert (port.original is not None) == is_converted(index)
    ports = [original] if port.original is None else [original, port]
    agrees(model, *ports, inputs=inputs, has_gradient=row.has_gradient)
    check_state(port)
    is_chosen = bool(port.weights) or row.is_random or pytestconfig.getoption("--everything")
    if index == FIRST[row.kind] and is_chosen:
        verified(original, row)


def check_state(port: regspec.Port) -> None:
    """What is written without torch is the module's state."""
    state, wanted = state_of(port), port.build().state_dict()
    if state is not None:
        torch.testing.assert_close(
            {name: torch.as_tensor(x) for name, x in state.items()}, dict(wanted), rtol=0, atol=0
        )


def is_converted(index: int) -> bool:
    """Whether a row is ported with channels first, too."""
    row = ROWS[index]
    return (
        row.data_format == "channels_last"
        and {*row.types} == {"float32"}
        and not row.has_nan  # of which a maximum is another
        and any(len(shape) > 1 for shape in row.shapes)
        and (row.kind not in AS_KERAS or row.kind != ROWS[index - 1].kind)  # of these, the first will do
    )


def model_of(index: int) -> Any:
    """A row's layer in Keras; behind poolings, if it is converted: there its input lies as convolutions want it."""
    row = ROWS[index]
    symbolic = [keras.Input(shape, dtype=dtype) for shape, dtype in zip(row.shapes, row.types, strict=True)]
    stems = [POOLINGS.get(len(x.shape) - 1) if is_converted(index) else None for x in symbolic]
    return of_row(index, symbolic, [x if stem is None else stem(1)(x) for x, stem in zip(symbolic, stems, strict=True)])


def verified(port: regspec.Port, row: Row) -> None:
    """The port's own comparison finds the same, and leaves out nothing that can be compared."""
    verification = port.verify()
    assert verification.passed, verification.verdict
    if row.kind == "Cholesky":  # which takes no random matrix
        assert "positive" in verification.left_out[0]
        return
    compared = {each.what for each in verification.rows()}
    assert "outputs in evaluation" in compared
    assert row.is_random or ("outputs in training" in compared and RANDOM not in verification.left_out)


def test_a_gradient_that_is_transposed_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a square kernel, whose gradient has the same shape and the same norm then."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="dense")])
    reference.fill(model, 1)
    model.save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    agrees(model, port, inputs=[torch.randn(3, 4)])
    built = port.build()
    built.dense.weight.register_hook(lambda gradient: gradient.T)
    monkeypatch.setattr(type(port), "build", lambda _: built)
    with pytest.raises(AssertionError, match=r"the gradient of dense\.weight"):
        agrees(model, port, inputs=[torch.randn(3, 4)])
