"""Models with channels last as ones with channels first: outputs, penalties and gradients are Keras's, transposed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers, regularizers
from keras.src.applications.convnext import LayerScale
from torch import Tensor
from typer.testing import CliRunner

import regspec
from regspec.cli import app
from regspec.keras.conversion import changes
from regspec.keras.porting import Port
from regspec.layers import KINDS
from regspec.layers.layer import Elementwise

from .layers import reference
from .layers.operating import is_operation, operated
from .layers.rows import ROWS
from .layers.specs import spec_of, step_of, with_penalties
from .test_port import UNSAVED, flat, is_saved

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras, when it saves

POOLINGS = {2: layers.MaxPooling1D, 3: layers.MaxPooling2D, 4: layers.MaxPooling3D}


def converted(model: Any, folder: Path, seed: int = 1, data_format: Any = "channels_first") -> Port:
    """The model with random weights, saved, and ported with channels first."""
    reference.fill(model, seed)
    model.save(folder / "model.keras")
    port = regspec.port(folder / "model.keras", data_format=data_format)
    assert port.spec.data_format == (data_format or "channels_last")
    return port


def agrees(model: Any, port: Port, inputs: list[Tensor], given: Any = None, has_gradient: bool = True) -> None:
    """Outputs after transposing, the penalty, and the norm of the gradient of both, in evaluation."""
    ported = port.build()
    theirs = [x.requires_grad_() if x.is_floating_point() else x for x in inputs]
    orders = [port.input_orders.get(name) for name in port.spec.inputs]
    ours = [x if order is None else x.permute(order) for x, order in zip(theirs, orders, strict=True)]
    wanted = flat(model(given or (theirs if len(theirs) > 1 else theirs[0]), training=False))
    got = flat(ported(*ours))
    for number, (a, b) in enumerate(zip(got, wanted, strict=True)):
        order = order_of_output(port, number)
        b = b.to(a.dtype)
        torch.testing.assert_close(a, b if order is None else b.permute(order), rtol=2e-4, atol=2e-4)
    penalty = sum(model.losses, torch.zeros(()))
    torch.testing.assert_close(ported.regularization_loss(), penalty, rtol=2e-4, atol=1e-6)
    norms, slopes = [], []
    for outputs, loss, parameters in (
        (got, ported.regularization_loss(), [*ported.parameters()]),
        (wanted, penalty, [variable.value for variable in model.trainable_variables]),
    ):
        own = [each for each in parameters if each.requires_grad]
        objective = loss + sum(x.square().mean() for x in outputs if x.is_floating_point())
        # of the inputs too: without them torch 2.13 crashes in the backward of a GroupNorm in channels_last
        asked = [*own, *(x for x in theirs if x.requires_grad)]
        differs = asked and objective.requires_grad and has_gradient
        gradients = torch.autograd.grad(objective, asked, allow_unused=True) if differs else ()
        known = [each for each in gradients[: len(own)] if each is not None]
        norms.append(sum(each.double().square().sum().item() for each in known) ** 0.5)
        slopes.append([torch.zeros(()) if each is None else each for each in gradients[len(own) :]])
    assert norms[0] == pytest.approx(norms[1], rel=1e-3, abs=1e-6)
    for a, b in zip(*slopes, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * max(1.0, b.abs().max().item()))


def order_of_output(port: Port, number: int) -> tuple[int, ...] | None:
    outputs = port.spec.body.outputs
    names = [outputs] if isinstance(outputs, str) else [*(outputs or ())]
    return port.output_orders.get(names[number])


# -- every row of the layer table, behind a pooling --------------------------------------------------------------------


def behind_poolings(index: int) -> tuple[Any, list[Tensor]]:
    """A layer that takes what poolings give, which lies as convolutions want it, and its inputs."""
    row = ROWS[index]
    symbolic = [keras.Input(shape) for shape in row.shapes]
    stems = [POOLINGS.get(len(x.shape) - 1) for x in symbolic]
    images = [x if stem is None else stem(1)(x) for x, stem in zip(symbolic, stems, strict=True)]
    if is_operation(row.kind, row.fields):
        model = keras.Model(symbolic, operated(row.kind, row.fields, images, row.data_format))
    else:
        fields = row.fields if row.kind in UNSAVED else with_penalties(row)
        layer = reference.keras_layer(row.kind, fields, row.data_format, len(row.shapes[0]) + 1)
        model = keras.Model(symbolic, reference.call(layer, row, images, False))
    return model, [torch.as_tensor(x) for x in reference.inputs_of(row, index)]


AS_KERAS = ("SimpleRNN", "LSTM", "GRU", "RNN", "Bidirectional", "Attention", "MultiHeadAttention")
BEHIND = [
    pytest.param(index, id=row.id)
    for index, row in enumerate(ROWS)
    if row.has_reference
    and row.data_format == "channels_last"
    and {*row.types} == {"float32"}
    and not row.has_nan  # of which a maximum is another
    and is_saved(row)
    and any(len(shape) > 1 for shape in row.shapes)
    and (row.kind not in AS_KERAS or row.kind != ROWS[index - 1].kind)  # of these, the first will do
]


@pytest.mark.parametrize("index", BEHIND)
@pytest.mark.filterwarnings("ignore:torch.searchsorted")  # in Keras, on what is permuted
def test_every_row_behind_poolings(index: int, tmp_path: Path) -> None:
    """Where its inputs lie as torch's convolutions give them, as it is and with channels first."""
    model, inputs = behind_poolings(index)
    port = converted(model, tmp_path, index)
    model = keras.saving.load_model(tmp_path / "model.keras")  # because a frozen layer trains those in it then
    agrees(model, port, inputs, has_gradient=ROWS[index].has_gradient)
    agrees(model, port.original or port, inputs, has_gradient=ROWS[index].has_gradient)


def test_what_weights_lie_along_is_declared() -> None:
    """Of layers that take any order of units, which their weights then follow."""
    for row in ROWS:
        if issubclass(KINDS[row.kind], Elementwise):
            assert all(weight.along for weight in step_of(spec_of(row, row.fields)).lowered.weights), row.kind


# -- what follows a Flatten --------------------------------------------------------------------------------------------

VECTORS: dict[str, Callable[[Any], Any]] = {
    "dense": layers.Dense(5, activation="softmax", kernel_regularizer=regularizers.OrthogonalRegularizer(0.3)),
    "glu": layers.Activation("glu"),
    "softmax": lambda x: layers.Dense(3)(layers.Softmax()(x)),
    "relu": lambda x: layers.Dense(3)(layers.ReLU(negative_slope=0.1)(x)),
    "activity": lambda x: layers.Dense(3)(layers.ActivityRegularization(0.1, 0.2)(x)),
    "dropout": lambda x: layers.Dense(3)(layers.Dropout(0.5, noise_shape=[None, 24])(layers.Dropout(0.3)(x))),
    "batch": lambda x: layers.Dense(3)(layers.BatchNormalization(gamma_regularizer="l1")(x)),
    "layer": lambda x: layers.Dense(3)(layers.LayerNormalization(beta_regularizer="l2")(x)),
    "rms": lambda x: layers.Dense(3)(layers.RMSNormalization()(x)),
    "group": lambda x: layers.Dense(3)(layers.GroupNormalization(4)(x)),
    "unit": lambda x: layers.Dense(3)(layers.UnitNormalization()(x)),
    "scaled": lambda x: layers.Dense(3)(LayerScale(0.5, 24)(x)),
    "spectral": lambda x: layers.SpectralNormalization(layers.Dense(3, kernel_regularizer="l2"))(x),
    "prelu": lambda x: layers.Dense(3)(layers.PReLU(alpha_regularizer="l1")(x)),
    "prelu of one": lambda x: layers.Dense(3)(layers.PReLU(shared_axes=[1])(x)),
    "normalization": lambda x: layers.Dense(3)(layers.Normalization()(x)),
    "numbers": lambda x: layers.Dense(3)(layers.Normalization(mean=[*range(24)], variance=[*range(1, 25)])(x)),
    "scales": lambda x: layers.Dense(3)(layers.Rescaling([*range(24)])(x)),
    "scale": lambda x: layers.Dense(3)(2.0 - x * 3.0),
    "again": lambda x: layers.Dense(3)(layers.Flatten()(x)),
    "units are given": layers.Activation("tanh"),
    "reshape": lambda x: layers.Conv2D(2, 2)(layers.Reshape((4, 2, 3))(x)),
    "repeat": lambda x: layers.LSTM(3)(layers.RepeatVector(4)(x)),
    "einsum": layers.EinsumDense("ab,bc->ac", output_shape=3, bias_axes="c"),
    "residual": lambda x: layers.Dense(3)(layers.Add()([x, layers.Activation("tanh")(x)])),
    "another order": lambda x: layers.Dense(3)(layers.Multiply()([x, layers.Dense(24)(x)])),
    "a number": lambda x: layers.Dense(3)(layers.Multiply()([x, layers.Dense(1)(x)])),
    "joined": lambda x: layers.Dense(3)(layers.Concatenate()([layers.Dense(2)(x), x, layers.Activation("elu")(x)])),
    "dot": lambda x: layers.Dot(1)([x, layers.Activation("tanh")(x)]),
    "batch of a frozen layer": lambda x: layers.Dense(3)(layers.BatchNormalization(trainable=False)(x)),
}  # fmt: skip


@pytest.mark.parametrize("name", VECTORS)
def test_what_follows_a_flatten(name: str, tmp_path: Path) -> None:
    image = keras.Input((5, 3, 2))
    flattened = layers.Flatten()(layers.Conv2D(3, 2, kernel_regularizer="l1")(image))  # (4, 2, 3)
    model = keras.Model(image, VECTORS[name](flattened))
    agrees(model, converted(model, tmp_path), [torch.randn(3, 5, 3, 2)])


def test_kernels_after_a_flatten_are_moved_and_nothing_is_permuted(tmp_path: Path) -> None:
    """By hand: the rows of the kernel in the order of torch's flatten."""
    image = keras.Input((4, 3, 2), name="image")
    model = keras.Model(image, layers.Dense(5, name="fc")(layers.Flatten(name="flatten")(image)))
    port = converted(model, tmp_path)
    assert "permute" not in regspec.source(port.spec)
    kernel = model.get_layer("fc").kernel.numpy().reshape(4, 3, 2, 5)
    np.testing.assert_array_equal(port.weights["fc.weight"], kernel.transpose(3, 2, 0, 1).reshape(5, 24))
    assert port.notes == (
        "the weights of 'fc' follow channels first, as 'flatten' gives them",
        "the input 'image' takes (batch, 2, 4, 3)",
    )


# -- what is not converted, and the command ----------------------------------------------------------------------------


def test_a_model_with_channels_first_stays_as_it_is(tmp_path: Path) -> None:
    x = keras.Input((2, 6, 5))
    model = keras.Model(
        x, layers.Flatten(data_format="channels_first")(layers.Conv2D(3, 2, data_format="channels_first")(x))
    )
    port = converted(model, tmp_path)
    assert port.text == regspec.port(tmp_path / "model.keras").text
    agrees(model, port, [torch.randn(3, 2, 6, 5)])
    with pytest.raises(regspec.RegspecError, match="is not converted to channels last"):
        regspec.port(tmp_path / "model.keras", data_format="channels_last")


def test_a_layer_that_can_not_be_converted_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(changes.CHANGES, KINDS["UnitNormalization"], lambda *_, **__: None)
    x = keras.Input((2, 6, 5))
    model = keras.Model(x, layers.UnitNormalization(name="unit")(layers.Conv2D(3, 2)(x)))
    with pytest.raises(regspec.RegspecError, match="'unit' can't be converted to channels first"):
        converted(model, tmp_path)


def test_the_command(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4, 3, 2)), layers.Flatten(), layers.Dense(5)])
    model.save(tmp_path / "model.keras")
    arguments = [
        "port",
        str(tmp_path / "model.keras"),
        "-o",
        str(tmp_path / "ported"),
        "--data-format",
        "channels_first",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    spec = regspec.load(tmp_path / "ported" / "spec.yaml")
    assert [declared.shape for declared in spec.inputs.values()] == [(2, 4, 3)]
