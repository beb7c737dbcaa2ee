"""Random Keras models, ported; and those that were once ported wrongly, each as small as it can be.

``pytest tests/test_random_models.py --seeds 500`` goes over more of them; ``--seeds 7000-7500`` over others.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
from keras import layers

import regspec

from .random_models import Case, checks, random_model

# Of Keras, when it makes, calls and saves a model.
pytestmark = [pytest.mark.filterwarnings(f"ignore::{name}:keras") for name in ("UserWarning", "DeprecationWarning")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        few_or_many = "100" if metafunc.config.getoption("--everything") else "20"
        first, _, last = str(metafunc.config.getoption("--seeds") or few_or_many).rpartition("-")
        metafunc.parametrize("seed", range(int(first or 0), int(last)))


def test_random_models(seed: int, tmp_path: Path) -> None:
    case = random_model(seed)
    try:
        checks.check(case, tmp_path)
    except Exception as error:  # which is told with the model
        error.add_note(str(case))
        raise


def test_a_seed_gives_one_model() -> None:
    first, again = random_model(3), random_model(3)
    assert first.model.to_json() == again.model.to_json()
    assert all((a.value == b.value).all() for a, b in zip(first.model.weights, again.model.weights, strict=True))


# -- what was found ----------------------------------------------------------------------------------------------------


def inner(*shapes: tuple[int, ...], **more: Any) -> keras.Model:
    """A model of inputs, to be put inside another."""
    inputs = [keras.Input(shape) for shape in shapes]
    outputs = [layers.Dense(3, kernel_regularizer="l2")(x) for x in inputs]
    return keras.Model(inputs, outputs[0] if len(outputs) == 1 else layers.Add()(outputs), **more)


def outputs_of_a_model_inside() -> keras.Model:
    """Keras counts its calls from 1 where they are outputs."""
    x = keras.Input((4,))
    model = inner((4,))
    return keras.Model(x, [model(x), model(x * 2.0), layers.Dense(2)(model(x))])


def mappings() -> keras.Model:
    """Outputs by keys that are no names; a model inside that takes a mapping and gives one, in other orders."""
    a, b = keras.Input((4,), name="a b"), keras.Input((4,))
    sides = {"z": keras.Input((4,)), "y": keras.Input((4,))}
    both = {"2nd": layers.Dense(3)(sides["z"]), "1st": layers.Dense(2)(sides["y"])}
    given = keras.Model(sides, both)({"y": a, "z": b})
    return keras.Model({"a b": a, "b": b}, {"the code": given["2nd"], "forward": layers.Dense(3)(given["1st"])})


def masked_steps_as_channels() -> keras.Model:
    """The channels of a normalization are the axis that the mask is about, or one before others."""
    x = keras.Input((5, 3))
    steps = layers.Masking()(layers.ReLU()(x))
    return keras.Model(x, [layers.BatchNormalization(axis=1)(steps), layers.BatchNormalization()(steps)])


def operations_of_masked_steps() -> keras.Model:
    """Operations keep masks from what comes after them, whatever they compute."""
    x = keras.Input((5, 3))
    steps = layers.Masking()(layers.ReLU()(x))
    return keras.Model(x, [layers.Attention()([y, steps]) for y in (steps + steps, steps * steps, steps * 2.0)])


def a_mask_through_a_wrapper() -> keras.Model:
    x = keras.Input((5,), dtype="int64")
    rows = layers.Embedding(5, 4, mask_zero=True)(x)
    return keras.Model(x, layers.Attention()([layers.SpectralNormalization(layers.Dense(4))(rows), rows]))


def a_call_that_is_needed_late() -> keras.Model:
    """The second call of a layer comes before the first in the order of what needs them."""
    x = keras.Input((4, 3))
    layer = layers.Conv1D(2, 1)
    first = keras.ops.expand_dims(layer(x), 1)
    return keras.Model(x, [layers.Dense(3)(layer(x)), first])


def intervals_of_a_view() -> keras.Model:
    x = keras.Input((4, 3))
    return keras.Model(x, layers.Discretization([0.0, 0.5])(keras.ops.transpose(x, (0, 2, 1))))


def a_normalization_of_several_sizes() -> keras.Model:
    x, y = keras.Input((3, 1)), keras.Input((4, 5))
    layer = layers.Normalization(mean=[-0.985], variance=[1.903])
    return keras.Model([x, y], [layer(x), layer(y)])


def activation_layers() -> keras.Model:
    functions = [layers.LeakyReLU(0.1), layers.ReLU(1.5, 0.1, 0.2), layers.ELU(0.7), layers.Softmax()]
    return keras.Sequential(
        [
            keras.Input((4,)),
            *(layers.Dense(5, activation=function) for function in functions),
            layers.Activation(layers.Activation("gelu")),
        ]
    )


def inert_regularizers() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(5, use_bias=False, bias_regularizer="l2"),
            layers.LayerNormalization(center=False, scale=False, beta_regularizer="l2", gamma_regularizer="l1"),
            layers.EinsumDense("ab,bc->ac", 3, bias_regularizer="l2"),
        ]
    )


def an_unused_input() -> keras.Model:
    first, second, third = (keras.Input((4,)) for _ in range(3))
    return keras.Model([first, second, third], layers.Subtract()([layers.Dense(4)(first), third]))


def unused_inputs_inside() -> keras.Model:
    """Of a model that is called twice: on what is not needed otherwise, too; one is an image."""
    x, other = keras.Input((4,)), keras.Input((3,), name="other")
    inside = keras.Model([other, x], layers.Dense(2, kernel_regularizer="l2")(x), name="inside")
    y, z, image = keras.Input((4,), name="b"), keras.Input((3,), name="a"), keras.Input((5, 6, 2), name="image")
    return keras.Model({"b": y, "image": image, "a": z}, layers.Add()([inside([z, y]), inside([z, layers.ReLU()(y)])]))


def statistics() -> keras.Model:
    """With a count of what was adapted, which is no weight."""
    own = keras.Sequential([keras.Input((4,)), layers.Normalization(), layers.Dense(2)])
    return keras.Sequential([keras.Input((4,)), layers.Normalization(), own])


def frozen_wrappers() -> keras.Model:
    """Keras freezes nothing by the argument of a wrapper."""
    return keras.Sequential(
        [
            keras.Input((3, 4)),
            layers.SpectralNormalization(layers.Dense(5, bias_regularizer="l2"), trainable=False),
            layers.TimeDistributed(layers.Dense(5, kernel_regularizer="l2"), trainable=False),
            layers.TimeDistributed(layers.Dense(5, kernel_regularizer="l2", trainable=False)),
        ]
    )


def masked_wrappers() -> keras.Model:
    x = keras.Input((6,), dtype="int32")
    y = layers.Embedding(5, 4, mask_zero=True)(x)
    y = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(y)
    return keras.Model(x, layers.TimeDistributed(layers.Dense(2))(y))


def wrapped_twice() -> keras.Model:
    """What is not trained, because Keras changes the kernel in place from step to step."""
    layer = layers.TimeDistributed(layers.SpectralNormalization(layers.Dense(2)))
    return keras.Sequential([keras.Input((3, 4)), layer, layers.Dropout(0.1)])


def names() -> keras.Model:
    x = keras.Input((4,), name="null")
    made = [inner((4,), name=name)(x) for name in ("call", "None", "null ", "Encoder", "encoder", "x" * 150, "é")]
    return keras.Model(x, layers.Concatenate(name="true")([layers.Dense(2, name=name)(y) for y, name in zip(
        made, ("a-b", "a_b", "3d", "layer_3d", "forward", "class", "on"), strict=True)]))  # fmt: skip


def tensors_that_lie_differently() -> keras.Model:
    """A model, and a layer along an axis, on an input and on what a convolution gives."""
    x = keras.Input((5, 6, 4))
    model, softmax = inner((5, 6, 4)), layers.Softmax()
    y = layers.Conv2D(4, 3, padding="same")(x)
    return keras.Model(x, [model([x]), model([y]), softmax(y), softmax(x)])


FOUND = [
    outputs_of_a_model_inside,
    mappings,
    masked_steps_as_channels,
    operations_of_masked_steps,
    a_mask_through_a_wrapper,
    a_call_that_is_needed_late,
    intervals_of_a_view,
    a_normalization_of_several_sizes,
    activation_layers,
    inert_regularizers,
    an_unused_input,
    unused_inputs_inside,
    statistics,
    frozen_wrappers,
    masked_wrappers,
    wrapped_twice,
    names,
    tensors_that_lie_differently,
]


IN_FORMS = [  # each as .keras, and as one of the others in turn
    pytest.param(form, make, id=f"{make.__name__}-{form}", marks=() if is_in_gate else pytest.mark.everything)
    for index, make in enumerate(FOUND)
    for form, is_in_gate in (("keras", True), ("h5", index % 2 == 0), ("json", index % 2 == 1))
]


@pytest.mark.parametrize(("form", "make"), IN_FORMS)
def test_found(make: Callable[[], keras.Model], form: str, tmp_path: Path) -> None:
    checks.check(Case.of(make()), tmp_path, form)


def test_notes(tmp_path: Path) -> None:
    """What the port changed, and who uses the module should know."""
    for make in (mappings, an_unused_input):
        keras.backend.clear_session(free_memory=False)
        make().save(tmp_path / f"{make.__name__}.keras")
    notes = regspec.port(tmp_path / "mappings.keras").notes
    assert "the output 'the code' is called 'the_code'" in notes
    assert (
        "nothing uses the input 'input_layer_1', which the model takes all the same"
        in regspec.port(tmp_path / "an_unused_input.keras").notes
    )


def test_an_activation_with_a_penalty_of_its_own(tmp_path: Path) -> None:
    layer = layers.Dense(2, activation=layers.ReLU(activity_regularizer="l2"))
    (tmp_path / "model.json").write_text(json.dumps(json.loads(keras.Sequential([keras.Input((4,)), layer]).to_json())))
    with pytest.raises(regspec.RegspecError, match="the activation ReLU with an activity_regularizer"):
        regspec.port(tmp_path / "model.json")
