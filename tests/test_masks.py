"""Masks, from Masking and mask_zero or by name, through the layers that hand them on to those that read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
import torch
from keras import layers
from torch import Tensor

import regspec
from regspec.graph.loading import graph_of
from regspec.graph.network import LayerNode
from regspec.targets.torch.program import program_of

from .layers import reference
from .ported import agrees, flat

pytestmark = pytest.mark.filterwarnings("ignore")  # Keras warns of masks that are destroyed


def tokens(*, is_empty: bool = True) -> Tensor:
    """Sequences with padding at the end, at the start and inside, without any, and one of nothing else."""
    x = torch.randint(1, 11, (5, 7), generator=torch.Generator().manual_seed(1))
    x[0, 4:] = 0
    x[1, :3] = 0
    x[2, 2:4] = 0
    x[3, 0 if is_empty else 1 :] = 0
    return x


def steps() -> Tensor:
    x = torch.randn(4, 7, 5, generator=torch.Generator().manual_seed(1))
    x[0, 5:] = 0
    x[1, [0, 3]] = 0
    return x


def embedded(*after: Any) -> Callable[[], Any]:
    """A Sequential model: layers after an embedding whose index 0 is padding."""

    def make() -> Any:
        start = [keras.Input((7,), dtype="int32"), layers.Embedding(11, 6, mask_zero=True)]
        return keras.Sequential([*start, *(each() for each in after)])

    return make


def layer(kind: str, *arguments: Any, **fields: Any) -> Callable[[], Any]:
    def make() -> Any:
        given = [each() if callable(each) else each for each in arguments]
        return getattr(layers, kind)(*given, **fields)

    return make


LSTM = layer("LSTM", 4, kernel_regularizer="l2", activity_regularizer="l1")
SEQUENTIAL: dict[str, Callable[[], Any]] = {
    "mean": embedded(layer("GlobalAveragePooling1D"), layer("Dense", 3)),
    "mean of what hands masks on": embedded(
        *(layer("LayerNormalization"), layer("Dropout", 0.3), layer("Dense", 4, activation="relu")),
        *(layer("BatchNormalization"), layer("ReLU"), layer("PReLU"), layer("TimeDistributed", layer("Dense", 3))),
        layer("GlobalAveragePooling1D", keepdims=True),
    ),
    "a layer that does not": embedded(layer("Conv1D", 3, 2), layer("GlobalAveragePooling1D")),
    "last": embedded(LSTM),
    "two": embedded(layer("GRU", 4, return_sequences=True), LSTM),
    "backwards": embedded(layer("LSTM", 4, go_backwards=True, return_sequences=True)),
    "zero": embedded(layer("SimpleRNN", 4, return_sequences=True, zero_output_for_mask=True)),
    "own steps": embedded(
        layer("LSTM", 4, activation="relu", return_sequences=True), layer("GRU", 3, reset_after=False)
    ),
    "relu": embedded(layer("SimpleRNN", 4, activation="relu")),
    "both directions": embedded(layer("Bidirectional", layer("LSTM", 4, return_sequences=True)), LSTM),
    "both directions, each step": embedded(
        layer("Bidirectional", layer("LSTM", 4, return_sequences=True)), layer("Conv1D", 3, 2)
    ),
    "both directions, last": embedded(layer("Bidirectional", layer("GRU", 4), merge_mode="sum")),
    "mean of stacked cells": embedded(
        layer("RNN", lambda: [layers.LSTMCell(4), layers.GRUCell(3, reset_after=False)], return_sequences=True),
        layer("GlobalAveragePooling1D"),
    ),
}


def saved(make: Callable[[], Any], folder: Path, suffix: str = ".keras") -> tuple[Any, Path]:
    model = make()
    reference.fill(model, 1)
    model.save(folder / f"model{suffix}")
    return model, folder / f"model{suffix}"


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", SEQUENTIAL)
def test_sequential_models(name: str, suffix: str, tmp_path: Path) -> None:
    model, path = saved(SEQUENTIAL[name], tmp_path, suffix)
    agrees(model, path, inputs=[tokens(is_empty="mean" not in name)])


# -- graphs, where Keras records masks as operations -------------------------------------------------------------------


def graph(make: Callable[[Any, Any], Any]) -> Callable[[], Any]:
    """A Functional model of two inputs of tokens; ``make`` takes both, embedded."""

    def build() -> Any:
        inputs = [keras.Input((7,), dtype="int32", name=name) for name in ("first", "second")]
        table = layers.Embedding(11, 6, mask_zero=True)
        return keras.Model(inputs, make(*(table(x) for x in inputs)))

    return build


def pooled(x: Any) -> Any:
    return layers.GlobalAveragePooling1D()(x)


def transformer(x: Any, y: Any) -> Any:
    """Two blocks: Keras takes the mask off what attention is called on, so that the second sees padding."""
    for _ in range(2):
        attended = layers.MultiHeadAttention(2, 3, kernel_regularizer="l2")(x, x)
        x = layers.LayerNormalization()(layers.Add()([x, attended]))
        x = layers.LayerNormalization()(x + layers.Dense(6)(layers.Dense(8, activation="relu")(x)))
    return layers.Concatenate()([pooled(x), pooled(y)])


def encoder_decoder(x: Any, y: Any) -> Any:
    encoded, h, c = layers.LSTM(6, return_sequences=True, return_state=True)(x)
    decoded = layers.LSTM(6, return_sequences=True)(y, initial_state=[h, c])
    return layers.Dense(3)(layers.Concatenate()([decoded, layers.Attention()([decoded, encoded])]))


def nested(x: Any, y: Any) -> Any:
    inner = keras.Sequential([keras.Input((7, 6)), layers.LSTM(4, return_sequences=True)], name="inner")
    return layers.Concatenate()([layers.GRU(3)(inner(x)), layers.GRU(2)(inner(y))])


def shared(x: Any, y: Any) -> Any:
    lstm = layers.LSTM(4, activity_regularizer="l2")
    return layers.Concatenate()([lstm(x), lstm(y)])


def characters(merge: Callable[[], Any]) -> Callable[[], Any]:
    """A model of words and their characters, whose masks have other ranks, side by side."""

    def build() -> Any:
        words, letters = keras.Input((7,), dtype="int32", name="words"), keras.Input((7, 6), dtype="int32")
        embedded = layers.Embedding(11, 6, mask_zero=True)(letters)
        both = [layers.Embedding(11, 6, mask_zero=True)(words), layers.TimeDistributed(layers.GRU(6))(embedded)]
        return keras.Model([words, letters], layers.LSTM(3)(merge()(both)))

    return build


GRAPHS: dict[str, Callable[[], Any]] = {
    "attention": graph(lambda x, y: layers.Attention()([x, y])),
    "causal attention": graph(lambda x, y: layers.Attention(use_scale=True)([x, y], use_causal_mask=True)),
    "additive attention": graph(lambda x, y: layers.AdditiveAttention()([x, y, y])),
    "heads": graph(lambda x, y: layers.MultiHeadAttention(2, 3)(x, y, use_causal_mask=True)),
    "heads, scores": graph(lambda x, y: layers.MultiHeadAttention(2, 3)(x, y, return_attention_scores=True)[0]),
    "shared heads": graph(lambda x, y: layers.GroupQueryAttention(3, 4, 2)(x, y)),
    "sum": graph(lambda x, y: layers.LSTM(3)(layers.Add()([x, y]))),
    "product": graph(lambda x, y: layers.LSTM(3)(layers.Multiply()([x, layers.Dense(6)(x), y]))),
    "largest": graph(lambda x, y: layers.LSTM(3)(layers.Maximum()([x, y]))),
    "smallest of masked and not": graph(lambda x, y: layers.LSTM(3)(layers.Minimum()([layers.Conv1D(6, 1)(x), y]))),
    "operations hand no mask on": graph(lambda x, y: layers.LSTM(3)(x + y * 2.0)),
    "side by side": graph(lambda x, y: layers.LSTM(3)(layers.Concatenate()([x, y]))),
    "one after the other": graph(lambda x, y: layers.LSTM(3)(layers.Concatenate(axis=1)([x, layers.Conv1D(6, 2)(y)]))),
    "by name": graph(lambda x, y: layers.LSTM(3)(layers.Conv1D(4, 1)(x), mask=keras.ops.not_equal(y, 0)[..., 0])),
    "two blocks": graph(transformer),
    "encoder and decoder": graph(encoder_decoder),
    "nested": graph(nested),
    "shared": graph(shared),
    "dot": graph(lambda x, y: layers.Dot(axes=1)([x, y])),
}


@pytest.mark.parametrize("axis", [-1, 1])
def test_masks_of_several_ranks_side_by_side(axis: int, tmp_path: Path) -> None:
    """A step counts where the mask of any of its places does."""
    model, path = saved(characters(layer("Concatenate", axis=axis)), tmp_path)
    words = tokens()
    letters = torch.stack([tokens().roll(shift, 0).flip(1 if shift % 2 else 0) for shift in range(6)], dim=2)
    letters[0, 2:] = 0
    letters[4, :3] = 0
    agrees(model, path, inputs=[words, letters])


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs(name: str, tmp_path: Path) -> None:
    model, path = saved(GRAPHS[name], tmp_path)
    is_empty = "blocks" not in name
    agrees(model, path, inputs=[tokens(is_empty=is_empty), tokens(is_empty=is_empty).flip(0)])


# -- a layer that is called with a mask and without one ----------------------------------------------------------------

L2 = {"kernel_regularizer": keras.regularizers.L2(0.1), "activity_regularizer": keras.regularizers.L1(0.2)}
SHARED = {
    "SimpleRNN": lambda: layers.SimpleRNN(3, recurrent_regularizer="l2"),  # Keras 3 drops the penalty of its output
    "LSTM": lambda: layers.LSTM(3, return_sequences=True, **L2),
    "GRU": lambda: layers.GRU(3, go_backwards=True, **L2),
    "GRU before": lambda: layers.GRU(3, reset_after=False, return_sequences=True, return_state=True),
    "zeros": lambda: layers.LSTM(3, return_sequences=True, zero_output_for_mask=True),
    "RNN": lambda: layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)], return_sequences=True),
    "Bidirectional": lambda: layers.Bidirectional(layers.LSTM(3, kernel_regularizer="l2", return_sequences=True)),
    "Bidirectional, last": lambda: layers.Bidirectional(layers.GRU(3), merge_mode="sum"),
    "Bidirectional, apart": lambda: layers.Bidirectional(layers.SimpleRNN(3), merge_mode=None),
    "Bidirectional, states": lambda: layers.Bidirectional(layers.LSTM(3, return_state=True)),
    "Bidirectional, two": lambda: layers.Bidirectional(
        layers.LSTM(3, activation="relu"), backward_layer=layers.GRU(2, go_backwards=True)
    ),
    "Bidirectional, a stack": lambda: layers.Bidirectional(layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)])),
    "Bidirectional, frozen": lambda: layers.Bidirectional(layers.LSTM(3, kernel_regularizer="l2", trainable=False)),
    "GlobalAveragePooling1D": lambda: layers.GlobalAveragePooling1D(),
    "BatchNormalization": lambda: layers.BatchNormalization(gamma_regularizer="l2"),
    "TimeDistributed": lambda: layers.TimeDistributed(layers.Dense(3, kernel_regularizer="l2")),
    "MultiHeadAttention": lambda: layers.MultiHeadAttention(2, 3, kernel_regularizer="l2"),
    "Attention": lambda: layers.Attention(use_scale=True),
}


@pytest.mark.parametrize("is_masked_first", [True, False])
@pytest.mark.parametrize("name", SHARED)
def test_a_layer_with_a_mask_and_without(name: str, is_masked_first: bool, tmp_path: Path) -> None:
    """Whichever call is the first, and in whichever form the file is."""
    words, vectors = keras.Input((6,), dtype="int32", name="words"), keras.Input((6, 4), name="vectors")
    # two, because attention with heads takes the mask off what it is called on
    one, other = (layers.Embedding(5, 4, mask_zero=True)(words) for _ in range(2))
    layer = SHARED[name]()
    calls: dict[str, Any] = {"MultiHeadAttention": lambda x: layer(x, x), "Attention": lambda x: layer([x, x])}
    call = calls.get(name, layer)
    given = (one, vectors, other) if is_masked_first else (vectors, one, vectors)
    model = keras.Model([words, vectors], keras.tree.flatten([call(x) for x in given]))
    reference.fill(model, 1)
    model.save(tmp_path / "model.keras")
    inputs = [torch.tensor([[1, 2, 0, 3, 0, 0], [0, 0, 4, 1, 2, 3], [0] * 6]).int(), torch.randn(3, 6, 4)]
    if name == "GlobalAveragePooling1D":  # whose mean over no steps is nan
        inputs[0][2, 1] = 3
    agrees(model, tmp_path / "model.keras", inputs=inputs)
    port = regspec.port(tmp_path / "model.keras")
    ported = port.build().train()
    for a, b in zip(flat(ported(*inputs)), flat(model(inputs, training=True)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert "nn.LSTM(" not in regspec.source(port.spec)  # which takes no mask


def test_torch_s_own_modules_stay_where_no_call_has_a_mask() -> None:
    text = """
regspec: 1
inputs: {a: {shape: [5, 3]}, b: {shape: [5, 3]}}
layers:
  - Bidirectional: {name: both, inputs: a, layer: {LSTM: {units: 2}}}
  - call: {layer: both, inputs: b, name: again}
outputs: [both, again]
"""
    assert "self.both = nn.LSTM(3, 2, batch_first=True, bidirectional=True)" in regspec.source(regspec.loads(text))


def test_a_call_of_a_call_has_a_mask() -> None:
    """It is a call of the same layer, whose module then can take one."""
    layers = [
        {"LSTM": {"name": "one", "units": 3, "return_sequences": True, "inputs": "x"}},
        {"call": {"layer": "one", "name": "two", "inputs": "one"}},
        {"call": {"layer": "two", "name": "three", "inputs": "two", "mask": "counts"}},
    ]
    inputs = {"x": {"shape": [4, 3]}, "counts": {"shape": [4], "dtype": "bool"}}
    model, x = regspec.build({"inputs": inputs, "layers": layers}, seed=0), torch.randn(1, 4, 3)
    plain = torch.nn.LSTM(3, 3, batch_first=True)
    plain.load_state_dict(model.one.state_dict())
    twice, _ = plain(plain(x)[0])
    third, _ = plain(twice[:, :2])
    wanted = third[:, [0, 1, 1, 1]]  # a step that does not count repeats the output of the one before
    torch.testing.assert_close(model(x, torch.tensor([[True, True, False, False]])), wanted)


@pytest.mark.parametrize("before", ["BatchNormalization: {name: n}", "ReLU: {name: n}"])
def test_a_mask_of_a_block_in_a_block(before: str) -> None:
    """It is computed again outside, on the tensor as it lies in the block: behind a norm that is a view."""
    text = (
        "regspec: 1\ninputs: {x: {shape: [6, 4]}}\n"
        "blocks:\n  inner: {layers: [Masking: {name: m}, Dense: {name: d, units: 4}]}\n"
        "  outer: {layers: [inner: {name: i}, ReLU: {name: r}]}\n"
        f"layers: [{before}, outer: {{name: o}}, GlobalAveragePooling1D: {{name: mean}}]\n"
    )
    model = regspec.build(text, seed=0).eval()
    x = torch.randn(3, 6, 4).abs() + 0.1
    x[1, 2:] = 0.0
    x[2] = 0.0
    x[2, 5] = 1.0
    hidden = x / (1 + 1e-3) ** 0.5 if before.startswith("Batch") else x
    steps = model.o.i.d(hidden).relu()
    kept = (x != 0).any(-1, keepdim=True)
    torch.testing.assert_close(model(x), (steps * kept).sum(1) / kept.sum(1))


# -- masks that a spec names: a tensor of true and false, or the mask that comes with another ------------------------

WORDS = "tokens: {shape: [7], dtype: int32}"
COUNTS = f"{WORDS}, counts: {{shape: [7], dtype: bool}}"
EMBEDDED = "Embedding: {name: e, inputs: tokens, input_dim: 11, output_dim: 6, mask_zero: true}"
UNMASKED = EMBEDDED.replace(", mask_zero: true", "")
NAMED = {
    "a layer's own mask, behind one that hands none on": (
        WORDS,
        [EMBEDDED, "Conv1D: {filters: 6, kernel_size: 1}"],
        "e",
    ),
    "an input of true and false": (COUNTS, [UNMASKED], "counts"),
    "a layer of true and false": (WORDS, ["NotEqual: {name: n, inputs: tokens, x2: 0}", UNMASKED], "n"),
}
READERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "LSTM": ("LSTM: {units: 3}", lambda: layers.LSTM(3)),
    "MultiHeadAttention": ("MultiHeadAttention: {num_heads: 2, key_dim: 3}", lambda: layers.MultiHeadAttention(2, 3)),
    "GlobalAveragePooling1D": ("GlobalAveragePooling1D", lambda: layers.GlobalAveragePooling1D()),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", NAMED)
def test_named_masks(name: str, reader: str) -> None:
    """What counts is the same as with Keras's own mask; what is masked changes nothing."""
    inputs, before, mask = NAMED[name]
    entry = READERS[reader][0]
    entry = entry.replace("}", f", mask: {mask}}}") if "{" in entry else f"{entry}: {{mask: {mask}}}"
    text = f"regspec: 1\ninputs: {{{inputs}}}\nlayers: [{', '.join([*before, entry])}]\n"
    model, x = regspec.build(text, seed=0), tokens(is_empty=False)
    counts = [x != 0] if "counts" in inputs else []
    hidden = model.conv1d(model.e(x).mT).mT if hasattr(model, "conv1d") else model.e(x)
    wanted, last = masked_by_hand(reader, model, hidden, x != 0)
    torch.testing.assert_close(model(x, *counts)[last], wanted[last])


def masked_by_hand(reader: str, model: Any, hidden: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """The output on each sequence alone, without what is masked, and which places of it count."""
    everywhere = torch.ones(len(hidden), dtype=torch.bool)
    if reader == "GlobalAveragePooling1D":
        return torch.stack([x[kept].mean(0) for x, kept in zip(hidden, counts, strict=True)]), everywhere
    if reader == "LSTM":
        last = [model.lstm(x[kept][None])[0][:, -1] for x, kept in zip(hidden, counts, strict=True)]
        return torch.cat(last), everywhere
    attended = torch.zeros(*hidden.shape)
    for index, (x, kept) in enumerate(zip(hidden, counts, strict=True)):
        attended[index, kept] = model.multi_head_attention(x[kept][None], x[kept][None])[0]
    return attended, counts


def test_a_merge_takes_one_mask_for_all() -> None:
    inputs = f"{WORDS}, x: {{shape: [7, 6]}}"
    for kind in ("Add: {inputs: [e, x]", "Concatenate: {inputs: [e, x]"):
        text = f"regspec: 1\ninputs: {{{inputs}}}\nlayers: [{EMBEDDED}, {kind}, mask: e}}, GlobalAveragePooling1D]\n"
        model, words, x = regspec.build(text, seed=0), tokens(is_empty=False), torch.randn(5, 7, 6)
        both = model.e(words) + x if "Add" in kind else torch.cat([model.e(words), x], dim=-1)
        kept = (words != 0)[..., None]
        torch.testing.assert_close(model(words, x), (both * kept).sum(1) / kept.sum(1))


REFUSED = {
    "whole numbers": (
        WORDS,
        [UNMASKED, "LSTM: {units: 3, mask: tokens}"],
        "mask of true and false, but 'tokens' is int32",
    ),
    "an embedding without a mask": (
        WORDS,
        [UNMASKED, "GlobalAveragePooling1D: {mask: e}"],
        "mask of true and false, but 'e' is float32",
    ),
    "too many axes": (
        f"{WORDS}, counts: {{shape: [7, 3], dtype: bool}}",
        [UNMASKED, "GlobalAveragePooling1D: {mask: counts}"],
        "has a mask of (batch, 7, 3), which does not fit 'e', which gives (batch, 7, 6)",
    ),
    "all axes": (
        f"{WORDS}, counts: {{shape: [7, 6], dtype: bool}}",
        [UNMASKED, "GlobalAveragePooling1D: {mask: counts}"],
        "takes a mask of (batch, steps), but that of 'e', which gives (batch, 7, 6) is (batch, 7, 6)",
    ),
    "too many steps": (
        f"{WORDS}, counts: {{shape: [8], dtype: bool}}",
        [UNMASKED, "LSTM: {units: 3, mask: counts}"],
        "has a mask of (batch, 8), which does not fit 'e', which gives (batch, 7, 6)",
    ),
    "scores of other steps": (
        f"{WORDS}, counts: {{shape: [7, 8], dtype: bool}}",
        [UNMASKED, "MultiHeadAttention: {num_heads: 2, key_dim: 3, mask: counts}"],
        "takes a mask of (batch, 7, 7), or with an axis of the heads after the batch, but 'counts' is (batch, 7, 8)",
    ),
    "scores and steps": (
        f"{COUNTS}, seen: {{shape: [7, 7], dtype: bool}}, x: {{shape: [7, 6]}}",
        [UNMASKED, "MultiHeadAttention: {num_heads: 2, key_dim: 3, inputs: [e, x], mask: [seen, counts]}"],
        "takes a mask that says which steps each step sees alone, but is given 2 masks",
    ),
    "one of the steps of two inputs": (
        f"{COUNTS}, x: {{shape: [7, 6]}}",
        [UNMASKED, "MultiHeadAttention: {num_heads: 2, key_dim: 3, inputs: [e, x], mask: counts}"],
        "but is given 1 for 2 inputs",
    ),
    "a sum of several ranks": (
        f"{WORDS}, letters: {{shape: [7, 7], dtype: int32}}",
        [
            EMBEDDED,
            EMBEDDED.replace("name: e", "name: l").replace("tokens", "letters"),
            "TimeDistributed: {name: t, layer: {GRU: {units: 6}}}",
            "Add: {inputs: [e, t]}",
        ],
        "can't add tensors with masks of several ranks, 'e' (batch, 7) and 'l' (batch, 7, 7)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_masks(name: str) -> None:
    inputs, entries, message = REFUSED[name]
    text = f"regspec: 1\ninputs: {{{inputs}}}\nlayers: [{', '.join(entries)}]\n"
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.source(text)
    assert message in str(caught.value)


def test_a_mask_of_scores() -> None:
    """Which steps each step sees, for all heads or for each."""
    text = (
        "regspec: 1\ninputs: {x: {shape: [5, 6]}, seen: {shape: [%s], dtype: bool}}\n"
        "layers: [MultiHeadAttention: {name: a, num_heads: 2, key_dim: 3, inputs: x, mask: seen}]\n"
    )
    x, seen = torch.randn(3, 5, 6), torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(0)) > 0.4
    seen |= torch.eye(5, dtype=torch.bool)
    model, of_heads = regspec.build(text % "5, 5", seed=0), regspec.build(text % "2, 5, 5", seed=0)
    hidden = model(x, seen)
    torch.testing.assert_close(of_heads(x, seen[:, None].expand(3, 2, 5, 5)), hidden)
    for step in range(5):  # what a step does not see changes nothing of it
        changed = torch.where(seen[:, step, :, None], x, torch.randn(3, 5, 6))
        torch.testing.assert_close(model(changed, seen)[:, step], hidden[:, step])


COUNTING = """\
regspec: 1
data_format: channels_last
inputs: {words: {shape: [4, 7], dtype: int32}, tokens: {shape: [7], dtype: int32}}
layers:
  - Embedding: {name: nested, input_dim: 11, output_dim: 5, mask_zero: true, inputs: words}
  - TimeDistributed: {name: each, layer: {LSTM: 3}}
  - TimeDistributed: {name: dense_each, layer: {Dense: 3}}
  - Embedding: {name: table, input_dim: 11, output_dim: 6, mask_zero: true, inputs: tokens}
  - TimeDistributed: {name: unmasked, layer: {Dense: 6}}
  - BatchNormalization: {name: norm}
  - Dropout: {name: dropped, rate: 0.5}
  - Bidirectional: {name: both, layer: {GRU: {units: 3, return_sequences: true}}}
  - Attention: {name: attended, inputs: [both, both]}
  - Dense: {name: dense, units: 6, inputs: both}
  - SimpleRNN: {name: seen, units: 4, return_sequences: true}
  - LSTM: {name: blind, units: 4, ignores_mask: true, inputs: seen}
  - GlobalAveragePooling1D: {name: mean, inputs: seen}
  - GlobalMaxPooling1D: {name: most, inputs: seen}
outputs: [dense_each, attended, blind, mean, most]
"""


def test_kinds_say_whether_they_count_by_masks() -> None:
    """Those that torch's program gives masks to, and no others."""
    graph = graph_of(COUNTING)
    said = {node.name for node in graph.layers() if node.resolved.layer.counts_by_mask(*node.resolved.inputs)}
    taken = {
        step.name
        for step in program_of(graph).steps
        if isinstance(step.node, LayerNode) and len(step.inputs) > len(step.node.inputs)
    }
    assert said == taken == {"each", "norm", "both", "attended", "seen", "mean"}
