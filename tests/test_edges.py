"""Cases at the edges, each once a bug: by a closed form, by Keras, or by two ways that must agree."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import torch

import regspec
from regspec.modules.building import build

from .alone import alone


def spec(layers: str, inputs: str = "x: {shape: [5]}", more: str = "") -> regspec.ModelSpec:
    listed = "".join(f"  - {layer.strip()}\n" for layer in layers.strip().splitlines())
    return regspec.loads(f"regspec: 1\nname: net\n{more}\ninputs: {{{inputs}}}\nlayers:\n{listed}")


# -- penalties ---------------------------------------------------------------------------------------------------------


def test_a_sum_divides_each_part_as_it_would_be_alone() -> None:
    """kl_sparsity is a mean over the batch by itself; the L1 beside it is not."""
    x = torch.rand(4, 5)

    def activity(regularizer: str) -> torch.Tensor:
        model = build(spec(f"Identity: {{name: seen, activity_regularizer: {regularizer}}}"))
        model(x)
        return regspec.regularization_loss(model)

    kl = "kl_sparsity: {strength: 1.0, target: 0.1}"
    torch.testing.assert_close(activity(f"{{l1: 0.5, {kl}}}"), activity("{l1: 0.5}") + activity(f"{{{kl}}}"))


def test_units_of_images_are_their_channels() -> None:
    """In both data formats: the mean rate of a channel is over the batch and all pixels."""
    layer = "Conv2D: {name: c, filters: 3, kernel_size: 2, activation: sigmoid, activity_regularizer: {kl_sparsity: 1}}"
    first = build(spec(layer, "x: {shape: [2, 5, 4]}"))
    last = build(spec(layer, "x: {shape: [5, 4, 2]}", "data_format: channels_last"))
    last.load_state_dict(first.state_dict())
    x = torch.randn(3, 2, 5, 4)
    rate = first(x).mean((0, 2, 3))
    last(x.permute(0, 2, 3, 1))
    wanted = (0.05 * (0.05 / rate).log() + 0.95 * (0.95 / (1 - rate)).log()).sum()
    torch.testing.assert_close(regspec.regularization_loss(first), wanted)
    torch.testing.assert_close(regspec.regularization_loss(last), wanted)


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        ("LSTM: {units: 3, return_state: true, activity_regularizer: {l1: 0.1}}", "x: {shape: [4, 5]}"),
        (
            "Bidirectional: {layer: {GRU: {units: 3}}, merge_mode: null, activity_regularizer: {l1: 0.1}}",
            "x: {shape: [4, 5]}",
        ),
        (
            "Attention: {inputs: [x, y], return_attention_scores: true, activity_regularizer: {l1: 0.1}}",
            "x: {shape: [4, 5]}, y: {shape: [3, 5]}",
        ),
    ],
)
def test_outputs_that_nothing_takes_count(layer: str, inputs: str) -> None:
    """As in Keras: the penalty is that of all outputs, whichever are used."""
    model = build(spec(layer, inputs), seed=0)
    name = next(iter(dict(model.named_children())))
    some = model(*(xs := [torch.randn(2, *shape) for shape in ((4, 5), (3, 5))[: inputs.count("shape")]]))
    count = 3 if "LSTM" in layer else 2
    everything = build(spec(layer, inputs, f"outputs: [{', '.join(f'{name}.{index}' for index in range(count))}]"))
    everything.load_state_dict(model.state_dict())
    outputs = everything(*xs)
    torch.testing.assert_close(some, outputs[0])
    wanted = sum(0.1 * each.abs().sum() / 2 for each in outputs)
    torch.testing.assert_close(regspec.regularization_loss(model), wanted)
    torch.testing.assert_close(regspec.regularization_loss(everything), wanted)


def test_terms_of_attributes_with_like_names() -> None:
    """``a`` has a module ``a_forward_activity``, and so would ``a_forward``; each keeps its own."""
    model = build(
        spec(
            """Bidirectional: {name: a, layer: {LSTM: {units: 2, return_sequences: true, activity_regularizer: l1}}}
            LSTM: {name: a_forward, units: 3, activity_regularizer: l2}""",
            "x: {shape: [4, 5]}",
        )
    )
    output = model(torch.randn(3, 4, 5))
    terms = regspec.regularization_terms(model)
    assert len(terms) == 3
    torch.testing.assert_close(terms["a_forward.activity"], 0.01 * output.square().sum() / 3)


def test_orthogonal_on_an_einsum_reads_axes_by_place() -> None:
    """Not by the equation's letters, of which 'o' and 'i' mean nothing."""
    values = []
    for equation in ("abo,oc->abc", "abd,dc->abc"):
        fields = f"equation: '{equation}', output_shape: [null, 4], kernel_regularizer: {{orthogonal: 0.5}}"
        model = build(spec(f"EinsumDense: {{{fields}}}", "x: {shape: [3, 5]}"), seed=0)
        values.append(regspec.regularization_loss(model))
    kernel = model.einsum_dense.weight.detach()
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(values[0].detach(), keras.regularizers.OrthogonalRegularizer(0.5)(kernel))


def test_l1_l2_with_one_strength() -> None:
    """As Keras's L1L2(l1=0.1): the other is zero."""
    model = build(spec("Dense: {units: 3, kernel_initializer: ones, kernel_regularizer: {l1_l2: {l1: 0.1}}}"))
    torch.testing.assert_close(regspec.regularization_loss(model), torch.tensor(1.5))


def test_a_term_can_not_be_added_twice() -> None:
    model = build(spec("Dense: {name: d, units: 3, kernel_regularizer: l2}"))
    with pytest.raises(ValueError, match=r"there is a term 'd\.kernel' already"):
        model.add_weight_terms(torch.sum, {"d.kernel": "d.weight"})


# -- constraints and freezing ------------------------------------------------------------------------------------------

CONSTRAINED = """Dense: {name: d, units: 3, kernel_constraint: {max_norm: 0.5}, bias_constraint: non_neg}
Dense: {name: e, units: 3, kernel_constraint: {min_max_norm: {min_value: 0.1, max_value: 0.2, rate: 0.5}}}
Dense: {name: f, units: 4, kernel_constraint: unit_norm, kernel_regularizer: {norm: 0.1}}"""


def test_constraints_of_a_file_that_stands_alone() -> None:
    model = build(spec(CONSTRAINED), seed=0)
    twin = alone(spec(CONSTRAINED), "Net")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    twin.load_state_dict(model.state_dict())
    model.apply_constraints()
    twin.apply_constraints()
    torch.testing.assert_close(twin.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert model.d.weight.norm(dim=1).max() < 0.5 + 1e-6
    assert model.d.bias.min() >= 0
    torch.testing.assert_close(model.f.weight.norm(dim=1), torch.ones(4))


def test_constraints_leave_frozen_weights() -> None:
    model = build(spec("Dense: {units: 3, trainable: false, kernel_constraint: unit_norm}"), seed=0)
    before = copy.deepcopy(model.state_dict())
    model.apply_constraints()
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("frozen", ["forward", "backward"])
def test_one_direction_is_frozen(frozen: str) -> None:
    fields = {each: f"units: 3, trainable: {str(each != frozen).lower()}" for each in ("forward", "backward")}
    back = f"backward_layer: {{LSTM: {{{fields['backward']}, go_backwards: true}}}}"
    model = build(spec(f"Bidirectional: {{layer: {{LSTM: {{{fields['forward']}}}}}, {back}}}", "x: {shape: [4, 5]}"))
    trained = {name.split(".")[0] for name, each in model.named_parameters() if each.requires_grad}
    assert trained == {f"bidirectional_{({'forward', 'backward'} - {frozen}).pop()}"}


# -- layers ------------------------------------------------------------------------------------------------------------


def test_attention_behind_convolutions_in_channels_last() -> None:
    """A convolution's output lies otherwise in memory; sizes are compared as Keras counts them."""
    inputs = "q: {shape: [9, 4]}, v: {shape: [7, 4]}"
    layers = """Conv1D: {name: cq, filters: 4, kernel_size: 3, inputs: q}
    Conv1D: {name: cv, filters: 4, kernel_size: 3, inputs: v}
    Attention: {inputs: [cq, cv]}"""
    last = "data_format: channels_last"
    assert build(spec(layers, inputs, last))(torch.randn(2, 9, 4), torch.randn(2, 7, 4)).shape == (2, 7, 4)
    with pytest.raises(regspec.RegspecError, match="a query and a key of the same size"):
        spec(layers.replace("cv, filters: 4", "cv, filters: 3"), inputs, last)


def test_time_distributed_over_a_bidirectional() -> None:
    layer = "TimeDistributed: {layer: {Bidirectional: {layer: {LSTM: {units: 2, activation: relu}}}}}"
    assert build(spec(layer, "x: {shape: [3, 4, 5]}"))(torch.randn(2, 3, 4, 5)).shape == (2, 3, 4)


def test_prelu_at_zero() -> None:
    """Its gradient there is zero, as Keras has it."""
    model = build(spec("PReLU: {alpha_initializer: ones}"))
    x = torch.zeros(2, 5, requires_grad=True)
    model(x).sum().backward()
    assert not x.grad.any()


def test_a_batch_of_one_can_be_normalized() -> None:
    """Its variance is 0, which counts for a hundredth of the moving one, and its numbers are the mean."""
    model, x = build(spec("BatchNormalization: {moving_variance: biased}")), torch.randn(1, 5)
    torch.testing.assert_close(model.train()(x), torch.zeros(1, 5), rtol=0, atol=1e-4)
    statistics = dict(model.named_buffers())
    torch.testing.assert_close(statistics["batch_normalization.running_var"], torch.full((5,), 0.99))
    torch.testing.assert_close(statistics["batch_normalization.running_mean"], 0.01 * x[0])


def test_statistics_of_several_axes() -> None:
    mean = np.arange(6.0)
    layer = f"Normalization: {{axis: [1, 2], mean: {mean.tolist()}, variance: {[4.0] * 6}}}"
    x = torch.randn(3, 2, 3)
    wanted = (x - torch.tensor(mean, dtype=torch.float32).view(2, 3)) / 2
    torch.testing.assert_close(build(spec(layer, "x: {shape: [2, 3]}"))(x), wanted)


def test_steps_that_see_nothing() -> None:
    """Six queries, three keys, a window of two: as in Keras, the last queries attend to all keys alike.

    But where the scores are given, to nothing.
    """
    layer = "MultiHeadAttention: {num_heads: 1, key_dim: 2, sliding_window: 2, inputs: [q, v], %s}"
    inputs = "q: {shape: [6, 4]}, v: {shape: [3, 4]}"
    xs = torch.randn(2, 6, 4), torch.randn(2, 3, 4)
    scored = build(spec(layer % "return_attention_scores: true", inputs), seed=0)
    module = build(spec(layer % "", inputs), seed=0)
    output = module(*xs)
    torch.testing.assert_close(scored(*xs)[:, :4], output[:, :4])
    attention = module.multi_head_attention
    alike = attention.output(attention.value(xs[1]).mean(1, keepdim=True)).expand(-1, 2, -1)
    torch.testing.assert_close(output[:, 4:], alike)
    torch.testing.assert_close(scored(*xs)[:, 4:], scored.multi_head_attention.output.bias.expand(2, 2, 4))


def test_scores_of_plain_attention_are_those_after_dropout() -> None:
    """As in Keras, unlike those of MultiHeadAttention."""
    layer = "Attention: {dropout: 0.5, return_attention_scores: true}"
    inputs = "q: {shape: [6, 4]}, v: {shape: [8, 4]}"
    both = build(spec(layer.replace("{", "{name: a, inputs: [q, v], ", 1), inputs, "outputs: [a.0, a.1]")).train()
    q, v = torch.randn(2, 6, 4), torch.randn(2, 8, 4)
    output, scores = both(q, v)
    assert 0.2 < (scores == 0).float().mean() < 0.8
    torch.testing.assert_close(output, scores @ v)


@pytest.mark.parametrize("kind", ["LSTM: {units: 3}", "MultiHeadAttention: {num_heads: 1, key_dim: 2}"])
def test_a_signal_is_a_sequence_too(kind: str) -> None:
    """A Conv1D gives (batch, channels, length), which a layer of sequences reads by what its axes mean."""
    before = "Conv1D: {filters: 4, kernel_size: 3}\nBatchNormalization\nReLU"
    first = build(spec(f"{before}\n{kind}", "x: {shape: [2, 9]}")).eval()
    last = build(spec(f"{before}\n{kind}", "x: {shape: [9, 2]}", "data_format: channels_last")).eval()
    last.load_state_dict(first.state_dict())
    x = torch.randn(2, 2, 9)
    got, wanted = first(x), last(x.mT)
    torch.testing.assert_close(got if got.ndim == 2 else got.mT, wanted)


def test_sums_of_tensors_with_one_mask_and_with_two() -> None:
    """The sums say the same, on tensors of the same shapes; a step counts where it does in one of these."""
    table = "Embedding: {name: %s, inputs: %s, input_dim: 5, output_dim: 4, mask_zero: true}\n"
    layers = table % ("x", "a") + table % ("y", "b") + "Dense: {name: dense, inputs: x, units: 4}\n"
    layers += "Add: {name: one, inputs: [x, dense]}\nAdd: {name: two, inputs: [x, y]}\n"
    layers += "LSTM: {name: first, inputs: one, units: 3}\nLSTM: {name: second, inputs: two, units: 3}"
    inputs = "a: {shape: [6], dtype: int64}, b: {shape: [6], dtype: int64}"
    model = build(spec(layers, inputs, "outputs: [first, second]"))
    a, b = torch.randint(0, 5, (2, 7, 6))
    a[:, 4:] = 0
    x = model.x(a)
    first, second = model.first(x + model.dense(x), mask=a != 0), model.second(x + model.y(b), mask=(a != 0) | (b != 0))
    for got, (steps, _) in zip(model(a, b), (first, second), strict=True):
        torch.testing.assert_close(got, steps[:, -1])


def test_whole_numbers_stay_whole() -> None:
    """Where nothing is computed but a sum: float32 has no 16777217."""
    inputs = "x: {shape: [2], dtype: int64}, y: {shape: [2], dtype: int64}"
    model = build(spec("Add: {inputs: [x, y]}\nConcatenate: {inputs: [add, x]}\nIdentity", inputs))
    x = torch.full((1, 2), 16777216)
    assert model(x, torch.ones_like(x)).tolist() == [[16777217, 16777217, 16777216, 16777216]]


def test_a_block_of_several_inputs_is_repeated_on_the_first() -> None:
    """What a copy does not give stays as it was: a decoder's memory."""
    decoder = """blocks:
  decoder:
    inputs: [x, memory]
    layers:
      - Add: {name: sum, inputs: [x, memory]}"""
    model = build(spec("decoder: {repeat: 3, inputs: [x, y]}", "x: {shape: [2]}, y: {shape: [2]}", decoder))
    x, y = torch.randn(2, 3, 2)
    torch.testing.assert_close(model(x, y), x + 3 * y)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_block_without_copies_hands_its_input_on(depth: int) -> None:
    """By its name, too, and as the output of the model: the chain is one copy shorter."""
    own = f"blocks: {{more: {{layers: [{{Dense: {{units: 5, activation: relu}}}}]}}}}\nparameters: {{n: {depth}}}"
    layers = "Dense: {name: first, units: 5}\nmore: {name: rest, repeat: $n - 1}\nAdd: {inputs: [rest, first]}"
    model, x = build(spec(f"{layers}\nmore: {{repeat: 0}}", more=own)), torch.randn(3, 5)
    wanted = first = model.first(x)
    for each in [] if depth == 1 else model.rest:
        wanted = each(wanted)
    torch.testing.assert_close(model(x), wanted + first)
    assert len(list(model.parameters())) == 2 * depth


@pytest.mark.parametrize(
    "block",
    ["{inputs: [a, b], layers: [{Add: [a, b]}]}", "{layers: [{Dense: 3}, {Dense: 3}], outputs: [dense, dense_1]}",
     "{layers: [{Dense: 3}], outputs: {one: dense}}"],
)  # fmt: skip
def test_a_block_without_copies_takes_and_gives_one_tensor(block: str) -> None:
    with pytest.raises(regspec.RegspecError, match="a block without copies must take one tensor, and give one"):
        spec("own: {inputs: [x, x], repeat: 0}", more=f"blocks: {{own: {block}}}")


def test_the_models_class_has_the_models_name() -> None:
    source = regspec.source(spec("net: {repeat: 2}", more="blocks: {net: {layers: [{Dense: {units: 5}}]}}"))
    assert "class NetBlock(nn.Module)" in source
    assert "class Net(nn.Module)" in source


@pytest.mark.parametrize(
    "layer",
    [
        "Average: {inputs: [%s, %s, %s, %s]}",
        "Bidirectional: {layer: {GRU: {units: 6, activation: sigmoid, return_sequences: true}}, merge_mode: ave}",
        "LSTM: {units: 4, go_backwards: true, inputs: [%s]}",
        "Rescaling: {scale: 0.5, offset: 0.123456789, inputs: %s}",
    ],
)
def test_long_names_change_nothing(layer: str) -> None:
    """Lines that are too long are broken where that has no meaning."""
    results = []
    kind, fields = layer.split(": {", 1)
    for length in (1, 97):
        written = f"{kind}: {{name: {'y' * length}, {fields}".replace("%s", "x" * length)
        model = build(spec(written, f"{'x' * length}: {{shape: [3, 6]}}"), seed=0)
        results.append(model(torch.linspace(-1, 1, 36).view(2, 3, 6)))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


@pytest.mark.parametrize("length", [1, 60])
def test_copies_that_give_two_tensors_which_are_taken_apart(length: int) -> None:
    """In a line of its own, where the call takes more than one: (a, b) becomes (a * b, a + b)."""
    block = "{inputs: [a, b], layers: [{Multiply: [a, b]}, {Add: [a, b]}], outputs: [multiply, add]}"
    a, b = ("x" * length, "y" * length)
    layers = f"{{own: {{repeat: 2, inputs: [{a}, {b}]}}}}, {{Add: [own_1, own_1.1, own, own.1]}}"
    text = f"regspec: 1\ninputs: {{{a}: {{shape: [3]}}, {b}: {{shape: [3]}}}}\nblocks: {{own: {block}}}\n"
    x, y = torch.randn(2, 2, 3)
    once, added = x * y, x + y
    wanted = once + added + once * added + (once + added)
    torch.testing.assert_close(build(f"{text}layers: [{layers}]\n")(x, y), wanted)


def test_an_average_of_directions_with_states() -> None:
    """A statement whose last bracket is an index: it is no place to break the line."""
    layer = "Bidirectional: {layer: {GRU: {units: 3, activation: sigmoid}}, merge_mode: ave, inputs: [a, s, t]}"
    model = build(spec(layer, "a: {shape: [5, 3]}, s: {shape: [3]}, t: {shape: [3]}"))
    assert model(torch.randn(2, 5, 3), torch.randn(2, 3), torch.randn(2, 3)).shape == (2, 3)


# -- copies and seeds --------------------------------------------------------------------------------------------------


def test_a_seed_leaves_other_generators_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(seed: int) -> None:
        raise AssertionError("torch.manual_seed seeds every device")

    monkeypatch.setattr(torch, "manual_seed", refuse)
    before = torch.random.get_rng_state()
    build(spec("Dense: {units: 3}"), seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)


class Derived(build(spec("Dense: {name: d, units: 3, kernel_regularizer: l2}")).__class__):  # type: ignore[misc]  # a class made at run time
    """A user's class on top of a compiled one."""

    answer = 42


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_class_that_derives_is_copied_as_itself(copied: object) -> None:
    model = Derived()
    twin = copied(model)
    assert type(twin) is Derived
    torch.testing.assert_close(regspec.regularization_terms(twin), regspec.regularization_terms(model))


def test_pickles_need_no_linecache() -> None:
    model = build(spec("Dense: {units: 3}"))
    clear = "import linecache; linecache.clearcache()"
    exec(clear)
    assert type(copy.deepcopy(model)) is type(model)


def test_a_spec_is_pickled() -> None:
    described = spec("Dense: {units: 3, activation: tanh, kernel_regularizer: {l1: 1e-3}}")
    assert regspec.source(pickle.loads(pickle.dumps(described))) == regspec.source(described)


# -- the current folder ------------------------------------------------------------------------------------------------


def test_a_file_in_the_way_is_not_run(tmp_path: Path) -> None:
    """`regspec check` in a folder of somebody else's runs nothing of it."""
    (tmp_path / "rich.py").write_text("raise SystemExit('run')")
    (tmp_path / "net.yaml").write_text("regspec: 1\ninputs: {x: {shape: [3]}}\nlayers: [Flatten]\n")
    command = [sys.executable, "-P", "-c", "from regspec.cli import main; main()", "show", "net.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr


def test_a_larger_image_is_no_larger_batch() -> None:
    """A Reshape keeps the batch: what has other sizes than the spec says is an error of torch, and not mixed."""
    model = regspec.build(spec("Reshape: {target_shape: [48]}", "x: {shape: [3, 4, 4]}"))
    assert model(torch.randn(2, 3, 4, 4)).shape == (2, 48)
    with pytest.raises(RuntimeError, match="shape"):
        model(torch.randn(2, 3, 8, 8))
