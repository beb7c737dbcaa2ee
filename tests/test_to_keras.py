"""Models back in Keras: whole files, and code with weights beside it; loaded in Keras, and ported again."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import keras
import pytest
import torch

import regspec
from regspec.modules.building import graph_behind

from .commands import command
from .layers.specs import inputs_of, outputs_of
from .layers.test_keras_code import made
from .random_models import random_model
from .random_models.checks import flat, in_order, run
from .test_keras_code import PRINTED, REFUSED_EXAMPLES, in_keras, trained

# Of Keras, when it loads and calls a model.
pytestmark = [pytest.mark.filterwarnings(f"ignore::{name}:keras") for name in ("UserWarning", "DeprecationWarning")]

EXAMPLES = Path(__file__).parents[1] / "examples"

# Layers of one class in an order that is not Keras's: by depth it has 'late' last, and 'deep' before 'near'.
ORDER = """\
regspec: 1
name: order
data_format: channels_last
inputs: {left: {shape: [5]}, right: {shape: [5]}, other: {shape: [5]}}
layers:
  - Dense: {name: late, units: 5, inputs: other, bias_initializer: constant, kernel_constraint: unit_norm}
  - Dense: {name: near, units: 5, inputs: right, kernel_regularizer: l2}
  - Dense: {name: first, units: 5, inputs: left}
  - Dense: {name: deep, units: 5}
  - call: {name: again, layer: near}
  - Add: {name: sum, inputs: [again, late]}
  - Multiply: {name: product, inputs: [sum, near]}
outputs: {total: product, part: late}
"""
MASKED = """\
regspec: 1
name: masked
data_format: channels_last
inputs: {tokens: {shape: [7], dtype: int32}, more: {shape: [7], dtype: int32}}
layers:
  - Embedding: {name: words, input_dim: 11, output_dim: 6, mask_zero: true, inputs: tokens}
  - LSTM: {name: one, units: 6, return_sequences: true}
  - Embedding: {name: others, input_dim: 11, output_dim: 6, mask_zero: true, inputs: more}
  - LSTM: {name: two, units: 6, return_sequences: true}
  - Add: {name: sum, inputs: [one, two]}
  - GRU: {name: last, units: 3, recurrent_constraint: {max_norm: 2}, kernel_regularizer: {l1: 1e-2}}
"""
# Where Keras hands no mask on, or takes it off: behind operations, beside states, after attention; and one by its name.
LOST = """\
regspec: 1
name: lost
data_format: channels_last
inputs: {tokens: {shape: [7], dtype: int32}, vectors: {shape: [7, 6]}}
layers:
  - Embedding: {name: words, input_dim: 11, output_dim: 6, mask_zero: true, inputs: tokens}
  - Multiply: {name: scaled, x2: 2.0}
  - LSTM: {name: first, units: 6, return_sequences: true, return_state: true}
  - LSTM: {name: second, units: 6, return_sequences: true, inputs: [words, first.1, first.2]}
  - MultiHeadAttention: {name: attention, num_heads: 2, key_dim: 3, inputs: [words, words]}
  - Masking: {name: seen, inputs: vectors}
  - Add: {name: sum, inputs: [words, attention, seen]}
  - GRU: {name: third, units: 6, return_sequences: true}
  - Conv1D: {name: score, filters: 6, kernel_size: 1, inputs: second}
  - GRU: {name: fourth, units: 4, inputs: score, mask: words}
outputs: [third, fourth]
"""
# Functions with arguments that no field of a layer keeps in a file.
FUNCTIONS = """\
regspec: 1
name: functions
data_format: channels_first
inputs: {image: {shape: [3, 6, 5]}, other: {shape: [3, 6, 5]}}
layers:
  - Conv2D: {name: conv, filters: 4, kernel_size: 3, activation: {gelu: {approximate: true}}, inputs: image}
  - call: {name: again, layer: conv, inputs: other}
  - Concatenate: {name: both, inputs: [conv, again]}
  - Activation: {name: gated, activation: {threshold: {threshold: 0.1, default_value: -1.0}}}
  - Conv2D: {name: scores, filters: 3, kernel_size: 1, activation: {log_softmax: 1}, kernel_regularizer: l2}
  - GlobalAveragePooling2D
  - Dense: {name: last, units: 2, activation: {celu: 0.5}}
"""
# One axis where there may be several, which is written as a number there and here.
SINGLE = """\
regspec: 1
name: single
data_format: channels_last
inputs: {x: {shape: [6, 5]}}
layers:
  - Softmax: {axis: 1}
  - UnitNormalization: {axis: 1}
  - PReLU: {shared_axes: 1}
  - Flip: {axis: 1}
  - ExpandDims: {axis: 1}
  - Sum: {axis: 1}
"""
UNSAVED = ("functions",)  # which Keras can't, for a function with arguments
UNMASKED = ("lost",)  # whose port says of a layer that it takes no masks, though its inputs have some
MODELS: dict[str, Any] = {
    **PRINTED,
    "order": ORDER,
    "masked": MASKED,
    "lost": LOST,
    "functions": FUNCTIONS,
    "single": SINGLE,
}


def filled(spec: regspec.ModelSpec) -> Any:
    """A model of a spec with random weights, in evaluation."""
    model = regspec.build(spec, seed=1).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.any() or parameter.requires_grad:
            parameter.data += torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * 0.03
    return model


def is_alike(model: Any, loaded: keras.Model, inputs: list[torch.Tensor]) -> None:
    """Whether Keras's model gives the same outputs, penalties, and gradients of all that is trained."""
    ours = outputs_of(model(*inputs))
    given = loaded(inputs if len(inputs) > 1 else inputs[0], training=False)
    names = graph_behind(model).output_names
    theirs = keras.tree.flatten(given) if names is None else [given[name] for name in names]
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)
    ours_lost, lost = model.regularization_loss(), sum(loaded.losses, torch.zeros((), dtype=ours[0].dtype))
    torch.testing.assert_close(lost.to(ours_lost.dtype), ours_lost, rtol=1e-4, atol=1e-5)
    sums: list[float] = []
    for outputs, penalty, weights in (
        (ours, ours_lost, [each for each in model.parameters() if each.requires_grad]),
        (theirs, lost, [each.value for each in loaded.trainable_variables]),
    ):
        total = sum((x.square().mean() for x in outputs), penalty)
        found = torch.autograd.grad(total, weights, allow_unused=True)
        sums.append(sum(float(each.square().sum()) for each in found if each is not None))
    assert sums[1] == pytest.approx(sums[0], rel=1e-3)


def without_names(port: regspec.Port) -> str:
    """The text of a port with numbers for the names of its layers: Keras's code can't name operations."""
    text = port.text
    for number, name in enumerate(re.findall(r"\{name: (\w+)", text)):
        text = re.sub(rf"\b{name}\b", f"<{number}>", text)
    return text


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {*REFUSED_EXAMPLES}))
def test_there_and_back(name: str, tmp_path: Path) -> None:
    """In a file, and in code with its weights beside it."""
    spec = regspec.load(MODELS[name])
    model = filled(spec)
    inputs = inputs_of(spec, below=9)
    path = tmp_path / "model.keras"
    assert regspec.to_keras(model, path).files == (path,)
    is_alike(model, keras.models.load_model(path), inputs)
    port = regspec.port(path)
    again = port.build()
    if name not in UNMASKED:
        assert regspec.port(regspec.to_keras(port, tmp_path / "again.keras").files[0]).text == port.text
    state = {key: value for key, value in in_keras(model.state_dict()).items() if key in again.state_dict()}
    torch.testing.assert_close(again.state_dict(), state, rtol=0, atol=0)
    torch.testing.assert_close(outputs_of(again(*inputs)), outputs_of(model(*inputs)))
    torch.testing.assert_close(regspec.regularization_terms(again), in_keras(regspec.regularization_terms(model)))
    assert trained(again).items() <= in_keras(trained(model)).items()
    written = regspec.to_keras(model, tmp_path / "model.py")
    assert [each.name for each in written.files] == ["model.py", "model.weights.h5"]
    printed = made(written.files[0].read_text())
    printed.load_weights(written.files[1])
    is_alike(model, printed, inputs)
    if name not in UNSAVED:
        printed.save(tmp_path / "printed.keras")
        assert without_names(regspec.port(tmp_path / "printed.keras")) == without_names(port)


@pytest.mark.parametrize("axis", [-1, 1, -2, 3, [-2, -1], [1, 2, 3], [-3, -2, -1]], ids=str)
def test_axes_return_as_they_are_written(axis: Any, tmp_path: Path) -> None:
    """From the front or from behind; one that is the last is not said."""
    x = first = keras.Input((4, 3, 5))
    if isinstance(axis, int):
        x = keras.layers.BatchNormalization(axis=axis)(x)
        x = keras.layers.GroupNormalization(1, axis=axis)(x)
        x = keras.layers.Concatenate(axis=axis)([x, first])
        x = keras.ops.log_softmax(keras.ops.softmax(x, axis=axis), axis=axis)
    else:  # on torch Keras's classes know the last axes alone
        x = keras.layers.RMSNormalization(axis=axis)(keras.layers.LayerNormalization(axis=axis)(x))
    x = keras.layers.Softmax(axis=axis)(keras.layers.UnitNormalization(axis=axis)(x))
    model = keras.Model(first, x)
    model.save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    (path,) = regspec.to_keras(port, tmp_path / "again.keras").files
    assert regspec.port(path).text == port.text
    images = torch.randn(2, 4, 3, 5)
    torch.testing.assert_close(keras.models.load_model(path)(images), model(images))


def test_one_axis_is_a_number(tmp_path: Path) -> None:
    file = regspec.to_keras(regspec.loads(SINGLE), tmp_path / "model.keras").files[0]
    assert "[1]" not in regspec.port(file).text
    assert "(1,)" not in regspec.source(regspec.loads(SINGLE), target="keras")


def test_whole_numbers_of_fields_that_take_floats(tmp_path: Path) -> None:
    """Keras saves what its user wrote, -1 or -1.0; a port says one, as does that of a file that is made of it."""
    layers = [keras.layers.Rescaling(2, offset=[-1, 0, 3]), keras.layers.ReLU(max_value=6)]
    keras.Sequential([keras.Input((3,)), *layers]).save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    assert "scale: 2.0, offset: [-1.0, 0.0, 3.0]}" in port.text
    assert "max_value: 6.0" in port.text
    regspec.to_keras(port.spec, tmp_path / "again.keras")
    assert regspec.port(tmp_path / "again.keras").text == port.text


def test_blocks_that_are_alike_are_one(tmp_path: Path) -> None:
    """A port has a block for each that differs, and not for each use of one."""
    spec = """\
regspec: 1
name: tower
data_format: channels_last
inputs:
  x: {shape: [6]}
blocks:
  body_1:
    layers:
      - Dense: {name: a, units: 6, kernel_regularizer: {l2: 0.1}}
      - Add: {name: sum, inputs: [a, input]}
  last:
    layers:
      - body_1: {name: inner}
      - Dense: {name: a, units: 3}
layers:
  - body_1: {name: body_1}
  - body_1: {name: body_2}
  - last: {name: last}
outputs: last
"""
    regspec.to_keras(spec, tmp_path / "a.keras", seed=0)
    assert regspec.port(tmp_path / "a.keras").text == spec


def test_one_model_gives_one_file(tmp_path: Path) -> None:
    """Whose config says what a person would write, and no more."""
    model = regspec.build(EXAMPLES / "mlp.yaml", seed=0)
    for name in ("a", "b"):
        regspec.to_keras(model, tmp_path / f"{name}.keras")
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:
        layers = json.loads(archive.read("config.json"))["config"]["layers"]
    assert layers[3]["class_name"] == "Dropout"
    assert layers[3]["config"] == {"rate": 0.2, "name": "dropout"}


# What Keras does not have and training alone would miss; with the lines of what is left out.
LOSSY = """\
regspec: 1
data_format: channels_last
inputs: {x: {shape: [7, 5]}}
frozen_penalties: counted
layers:
  - Dense: {name: a, units: 4, kernel_regularizer: [{l2: 0.1}, {hoyer: 0.1}], bias_regularizer: {spectral: 0.1}}
  - SimpleRNN: {name: b, units: 4, return_sequences: true, activity_regularizer: l1}
  - TimeDistributed: {name: c, layer: {Dense: {units: 3, activity_regularizer: l2}}}
  - Dense: {name: d, units: 3, trainable: [bias], kernel_regularizer: {l2: 0.1, schedule: {cosine: {over: 9}}}}
  - Square: {name: e, activity_regularizer: l2}
  - Dense: {name: f, units: 3, activity_regularizer: {l1: 0.1, reduction: sum}}
"""
LEFT_OUT = [
    "frozen_penalties: counted, which Keras 3 does not do",
    "a has the regularizer hoyer 0.1, which Keras does not have",
    "a has the regularizer spectral 0.1, which Keras does not have",
    "b has an activity_regularizer, which Keras's SimpleRNN does not apply to its output",
    "c is around a layer with an activity_regularizer, which Keras's TimeDistributed does not apply",
    "d is trained in part, which Keras's layers can't be",
    "d has the regularizer l2 0.1",
    "e has a penalty on its output, and Keras's Square is an operation, which takes none",
    "f has the regularizer l1 0.1, a sum over the batch, where Keras divides by the batch size",
]


def test_all_that_keras_lacks_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(regspec.RegspecError) as raised:
        regspec.to_keras(LOSSY, tmp_path / "a.keras")
    assert not (tmp_path / "a.keras").exists()
    told = [each.what for each in raised.value.problems]
    assert [wanted for wanted, what in zip(LEFT_OUT, told, strict=True) if not what.startswith(wanted)] == []
    assert [each.line for each in raised.value.problems][1:] == [6, 6, 7, 8, 9, 9, 10, 11]


def test_what_is_left_out_changes_no_output(tmp_path: Path) -> None:
    model = filled(regspec.loads(LOSSY))
    written = regspec.to_keras(model, tmp_path / "a.keras", lossy=True)
    assert [
        wanted for wanted, what in zip(LEFT_OUT, written.left_out, strict=True) if not what.startswith(wanted)
    ] == []
    loaded, x = keras.models.load_model(tmp_path / "a.keras"), torch.randn(3, 7, 5)
    torch.testing.assert_close(loaded(x, training=False), model(x), rtol=1e-4, atol=1e-5)
    kernel = model.a.weight.square().sum() * 0.1
    torch.testing.assert_close(sum(loaded.losses, torch.zeros(())), kernel, rtol=1e-5, atol=1e-6)


FAULTS: dict[str, tuple[Any, str, str]] = {
    "ending": (LOSSY, "a.h5", r"is no \.keras or \.py file"),
    "module": (torch.nn.Linear(2, 2), "a.keras", "the Linear was not made of a spec"),
    "kind": ("{regspec: 1, inputs: {x: {shape: [4, 6]}}, layers: [ClassToken: {}]}\n", "a.keras", "has no such layer"),
    "sizes": (
        "{regspec: 1, inputs: {x: {shape: [4]}}, layers: [Dense: {units: 4, activation: glu}, Dense: 2]}\n",
        "a.keras",
        "has the activation glu, of whose output Keras believes that it has the input's sizes",
    ),
    "function": (
        "{regspec: 1, inputs: {x: {shape: [4]}}, layers: ["
        "Dense: {units: 2, activation: {celu: 0.5}, activity_regularizer: l2}]}\n",
        "a.keras",
        "has the activation celu 0.5, of which a file of Keras keeps the name alone",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name: str, tmp_path: Path) -> None:
    """Which --lossy does not take away."""
    model, file, message = FAULTS[name]
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.to_keras(model, tmp_path / file, lossy=True)
    assert not [*tmp_path.iterdir()]


def test_a_parameter_that_keras_lacks(tmp_path: Path) -> None:
    """torch's recurrent layers have two biases; a second one that is not zero has no place."""
    model = regspec.build("{regspec: 1, inputs: {x: {shape: [4, 3]}}, layers: [LSTM: {name: l, units: 2}]}\n")
    with torch.no_grad():
        model.l.bias_hh_l0.fill_(0.1)
    with pytest.raises(regspec.RegspecError, match=r"'l\.bias_hh_l0' is not zero, and Keras has no such weight"):
        regspec.to_keras(model, tmp_path / "a.keras")


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    regspec.to_keras(EXAMPLES / "mlp.yaml", tmp_path / "a.keras", seed=0)
    regspec.to_keras(EXAMPLES / "mlp.yaml", tmp_path / "a.keras", seed=0)  # the same once more
    with pytest.raises(regspec.RegspecError, match="--force"):
        regspec.to_keras(EXAMPLES / "mlp.yaml", tmp_path / "a.keras", seed=1)
    regspec.to_keras(EXAMPLES / "mlp.yaml", tmp_path / "a.keras", seed=1, force=True)
    assert regspec.port(tmp_path / "a.keras").spec.name == "mlp"


def test_a_port_and_a_spec_by_the_command(tmp_path: Path) -> None:
    """A port's folder gives its weights, and a spec drawn ones; other formats want a run."""
    source = EXAMPLES / "keras_mlp.keras"
    regspec.port(source).save(tmp_path / "ported")
    done = command("export", "ported", "-o", "back.KERAS", cwd=tmp_path)  # by an ending as Windows may have it
    assert (done.code, done.stdout) == (0, "back.keras\n"), done.output
    x = torch.randn(5, 13)
    back, first = (keras.models.load_model(path) for path in (tmp_path / "back.keras", source))
    torch.testing.assert_close(back(x), first(x), rtol=0, atol=0)
    ours, theirs = (each.get_compile_config() for each in (back, first))
    assert ours["optimizer"]["config"] == theirs["optimizer"]["config"]
    assert (ours["loss"]["class_name"], ours["metrics"]) == ("SparseCategoricalCrossentropy", theirs["metrics"])
    (tmp_path / "net.yaml").write_text(LOSSY)
    done = command("export", "net.yaml", "--format", "keras", cwd=tmp_path)
    assert done.code == 1
    assert done.output.count("error: ") == len(LEFT_OUT)
    done = command("export", "net.yaml", "--format", "keras", "--lossy", cwd=tmp_path)
    assert done.code == 0, done.output
    assert done.stdout.splitlines()[0] == "net.keras"
    assert done.stdout.count("left out: ") == len(LEFT_OUT)
    assert done.stdout.splitlines()[-1].startswith("its weights are drawn")
    done = command("export", "net.yaml", "--format", "onnx", cwd=tmp_path)
    assert done.code == 1
    assert "is no run's folder" in done.output
    assert command("export", "none.yaml", "--format", "keras", cwd=tmp_path).code == 1
    done = command("export", "back.keras", "--format", "keras", cwd=tmp_path)
    assert (done.code, "back.keras: error: is a file of Keras" in done.output) == (1, True)


@pytest.mark.parametrize("seed", range(300, 306))
def test_random_models_return(seed: int, tmp_path: Path) -> None:
    """From a file of Keras through a port to another: it gives the same, and so does a port of that."""
    case = random_model(seed)
    case.model.save(tmp_path / "there.keras")
    there = regspec.port(tmp_path / "there.keras")
    regspec.to_keras(there, tmp_path / "back.keras")
    back = regspec.port(tmp_path / "back.keras")
    assert back.text == there.text
    loaded, again = keras.models.load_model(tmp_path / "back.keras"), back.build()
    arrays = case.inputs(3)
    inputs, wanted = [*in_order(case, arrays)], run(case, arrays, training=False)
    got = [*flat(loaded(inputs if len(inputs) > 1 else inputs[0], training=False)), sum(loaded.losses, torch.zeros(()))]
    ported = [*flat(again(*inputs)), regspec.regularization_loss(again)]
    for found in (got, ported):
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=2e-4, atol=2e-4, check_dtype=False)
