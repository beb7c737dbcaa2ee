"""Learned tensors, class tokens and positions: what becomes of masks, types and axes, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest
import torch

import regspec
from regspec.keras.configs.kinds import kind_of
from regspec.layers.kinds import BUILT_IN, KINDS, OPERATIONS

WORDS = "regspec: 1\ninputs: {words: {shape: [5], dtype: int64}}\nlayers:\n"
MASKED = WORDS + "  - Embedding: {name: words_embedded, input_dim: 9, output_dim: 4, mask_zero: true}\n"
STEPS = "regspec: 1\ninputs: {x: {shape: [5, 4]}}\nlayers:\n"


def padded() -> torch.Tensor:
    return torch.tensor([[3, 2, 0, 0, 0], [1, 2, 3, 4, 5], [0, 7, 0, 8, 0]])


def built(text: str) -> Any:
    """A model with random weights, in evaluation."""
    model = regspec.build(regspec.loads(text), seed=0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


def test_a_class_token_counts_where_the_steps_do_not() -> None:
    """The mean is over the token and the steps that are not padding."""
    model = built(MASKED + "  - ClassToken: {name: token}\n  - GlobalAveragePooling1D\n")
    words = padded()
    table, token = model.words_embedded.weight, model.token.weight
    for output, row in zip(model(words), words, strict=True):
        torch.testing.assert_close(output, torch.stack([token, *table[row[row != 0]]]).mean(0))


@pytest.mark.parametrize("kind", ["PositionEmbedding: 5", "SinePositionEncoding"])
def test_positions_keep_the_mask(kind: str) -> None:
    model = built(MASKED + f"  - {kind}\n")
    pooled = built(MASKED + f"  - {kind}\n  - GlobalAveragePooling1D\n")
    pooled.load_state_dict(model.state_dict())
    words = padded()
    for steps, mean, row in zip(model(words), pooled(words), words, strict=True):
        torch.testing.assert_close(mean, steps[row != 0].mean(0))


def test_a_parameter_has_no_mask_and_any_input() -> None:
    """Learned queries, which attend to a sequence of words."""
    queries = "  - Parameter: {name: queries, shape: [2, 4], value_regularizer: {l2: 0.1}}\n"
    model = built(MASKED + queries + "  - Attention: {inputs: [queries, words_embedded]}\n")
    words = padded()
    query, table = model.queries.weight, model.words_embedded.weight
    for output, row in zip(model(words), words, strict=True):
        values = table[row[row != 0]]
        torch.testing.assert_close(output, (query @ values.T).softmax(-1) @ values)
    torch.testing.assert_close(regspec.regularization_loss(model), 0.1 * query.square().sum())


def test_a_parameter_for_an_image() -> None:
    """Counted as the spec counts: with channels first, so that a convolution finds three channels."""
    text = "regspec: 1\ndata_format: channels_first\ninputs: {x: {shape: [3]}}\nlayers:\n"
    model = built(text + "  - Parameter: {name: canvas, shape: [3, 6, 7]}\n  - Conv2D: {filters: 2, kernel_size: 3}\n")
    assert model.conv2d.in_channels == 3
    image = model.canvas.weight.expand(2, 3, 6, 7)
    torch.testing.assert_close(model(torch.zeros(2, 3)), model.conv2d(image))


def test_where_the_channels_of_a_parameter_lie_is_said() -> None:
    text = "regspec: 1\ninputs: {x: {shape: [3]}}\nlayers:\n"
    layers = "  - Parameter: {shape: [6, 7, 3]%s}\n  - Conv2D: {filters: 2, kernel_size: 3}\n"
    with pytest.raises(regspec.RegspecError, match=r"\(channels, height, width\) or \(height, width, channels\)"):
        regspec.loads(text + layers % "")
    assert built(text + layers % ", axes: [height, width, channels]").conv2d.in_channels == 3


def test_a_scalar_starts_as_it_is_told() -> None:
    text = (
        STEPS + "  - Parameter: {name: scale, shape: [], value_initializer: {constant: 0.7}, value_constraint: non_neg}"
    )
    model: Any = regspec.build(regspec.loads(text))
    assert model.scale.weight.shape == ()
    torch.testing.assert_close(model(torch.zeros(3, 5, 4)), torch.full((3,), 0.7))


@pytest.mark.parametrize("kind", ["Parameter: {shape: [700, 30]}", "ClassToken", "PositionEmbedding: 700"])
def test_default_initial_values(kind: str) -> None:
    """Normal with Keras's deviation of 0.05; a table as Keras draws one, by the sizes of both axes."""
    text = STEPS.replace("[5, 4]", "[700, 30]") if "Class" not in kind else STEPS.replace("4]", "20000]")
    model: Any = regspec.build(regspec.loads(text + f"  - {kind}\n"), seed=0)
    (weight,) = model.parameters()
    wanted = (2 / 730) ** 0.5 if "Position" in kind else 0.05
    torch.testing.assert_close(weight.std().item(), wanted, rtol=0.03, atol=0)
    assert (weight.abs().max().item() > 0.15) == ("Position" not in kind)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize(
    "kind", ["Parameter: {shape: [2, 4]}", "ClassToken", "PositionEmbedding: 5", "SinePositionEncoding"]
)
def test_the_model_has_one_type(kind: str, dtype: str) -> None:
    text = STEPS.replace("layers:", f"dtype: {dtype}\nlayers:")
    model = built(text + f"  - {kind}\n")
    assert model(torch.zeros(3, 5, 4, dtype=getattr(torch, dtype))).dtype is getattr(torch, dtype)


def test_fewer_steps_than_a_table_has() -> None:
    model = built(
        STEPS.replace("[5, 4]", "[null, 4]") + "  - PositionEmbedding: {name: positions, sequence_length: 6}\n"
    )
    x = torch.randn(2, 3, 4)
    torch.testing.assert_close(model(x), x + model.positions.weight[:3])


@pytest.mark.parametrize("length", [1, 3])
def test_more_steps_than_a_table_has_in_a_batch(length: int) -> None:
    """One vector is none for all steps."""
    model = built(STEPS.replace("[5, 4]", "[null, 4]") + f"  - PositionEmbedding: {length}\n")
    assert model(torch.randn(2, length, 4)).shape == (2, length, 4)
    with pytest.raises(RuntimeError, match=rf"length \(5\) exceeds dimension size \({length}\)"):
        model(torch.randn(2, 5, 4))


def test_more_steps_than_a_table_has() -> None:
    with pytest.raises(
        regspec.RegspecError, match=r"has vectors for 4 steps, but is given 'x', which gives \(batch, 5, 4\)"
    ):
        regspec.loads(STEPS + "  - PositionEmbedding: 4\n")


@pytest.mark.parametrize("kind", ["ClassToken", "PositionEmbedding: 5", "SinePositionEncoding"])
def test_an_image_is_no_sequence(kind: str) -> None:
    with pytest.raises(regspec.RegspecError, match="takes 3-D input"):
        regspec.loads(STEPS.replace("[5, 4]", "[3, 5, 4]") + f"  - {kind}\n")


ATTENTION = "  - MultiHeadAttention: {num_heads: 2, key_dim: %d, rope_max_wavelength: 100}\n"


def test_rotated_scores_see_distances_alone() -> None:
    """Of a sequence whose steps are all alike, a score depends on how far a step is from another."""
    text = STEPS + (ATTENTION % 6).replace("}", ", return_attention_scores: true}")
    text += "outputs: [multi_head_attention.1]\n"
    (scores,) = built(text)(torch.randn(3, 1, 4).expand(3, 5, 4))
    apart = scores.log() - scores.log().diagonal(dim1=-2, dim2=-1).unsqueeze(-1)
    for far in range(-3, 4):
        along = apart.diagonal(far, -2, -1)
        torch.testing.assert_close(along, along[..., :1].expand_as(along), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(apart[..., 0, 1], apart[..., 0, 2], atol=1e-2)


@pytest.mark.parametrize(
    ("shape", "size", "fault"),
    [
        ("[5, 4]", 5, "rope_max_wavelength, which needs heads of an even size, and not 5"),
        ("[3, 5, 4]", 6, r"rope_max_wavelength, which needs \(batch, steps, features\), but is given 'x'"),
    ],
)
def test_what_is_not_rotated(shape: str, size: int, fault: str) -> None:
    text = STEPS.replace("[5, 4]", shape).replace("layers:", "data_format: channels_last\nlayers:")
    with pytest.raises(regspec.RegspecError, match=fault):
        regspec.loads(text + ATTENTION % size)


IN_OLDER_KERAS = {"LocallyConnected1D", "LocallyConnected2D", "ParametricSoftplus", "SReLU"}
IN_APPLICATIONS = {"LayerScale", "StochasticDepth", "CustomScaleLayer"}
OWN = sorted(
    name for name in BUILT_IN.keys() - OPERATIONS - IN_OLDER_KERAS - IN_APPLICATIONS if not KINDS[name].is_in_keras
)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("name", OWN)
def test_a_class_of_that_name_is_not_ported(name: str, suffix: str, tmp_path: Path) -> None:
    """That of keras_hub gives the positions alone, and the user's does what it will; registered or not."""
    cls = type(name, (keras.layers.Identity,), {})
    inputs = keras.Input((5, 4))
    keras.Model(inputs, cls()(inputs)).save(tmp_path / f"model.{suffix}")
    with pytest.raises(regspec.RegspecError, match=f"no kind ports the class {name}"):
        regspec.port(tmp_path / f"model.{suffix}")


@pytest.mark.parametrize("name", OWN)
def test_a_class_of_which_a_file_says_the_name_alone(name: str) -> None:
    """As files of Keras 2 do."""
    assert kind_of(name) is None


@pytest.mark.usefixtures("_registry")
def test_a_registered_class_that_derives_from_one_is_ported() -> None:
    """Whose name is the user's own, in files too."""
    derived = regspec.register_layer(type("OwnToken", (KINDS["ClassToken"],), {"__module__": __name__}))
    assert kind_of("OwnToken") is derived


def test_what_files_of_keras_have_all_the_same() -> None:
    elsewhere = IN_OLDER_KERAS | IN_APPLICATIONS
    assert {name for name in BUILT_IN if KINDS[name].is_in_files} == elsewhere
    assert all(kind_of(name) is KINDS[name] for name in elsewhere)
