"""What a message suggests for a wrong word: tables over regularizers and their like, layers, fields, sections."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import regspec
from regspec.language.activations import ACTIVATIONS
from regspec.language.constraints import CONSTRAINTS
from regspec.language.initializers import INITIALIZERS
from regspec.language.regularizers import REGULARIZERS
from regspec.language.schedules import SCHEDULES
from regspec.layers import KINDS
from regspec.specs import synonyms
from regspec.specs.sections import SpecSections
from regspec.text import hints

from .markdown import ROOT

HEAD = "regspec: 1\nname: net\ninputs: {x: {shape: [9, 4]}}\nparameters: {width: 4}\n"
ALL = "there are l1, l2, l1_l2, orthogonal, norm, group_lasso, hoyer, spectral, kl_sparsity, gaussian_kl"
HALF = "an optimizer's weight_decay of d is {}{{l2: d / 2}}{}: its gradient is d * w, that of {{l2: c}} 2 * c * w"
IN_LIST, OF_KERNEL = HALF.format("", ""), HALF.format("'kernel_regularizer: ", "'")
SLOPE = "torch's slope is 0.01, and that of Keras's function 0.2: write {leaky_relu: 0.01}, or the slope that is meant"
BOTH = "it has two kernels: 'depthwise_{0}' and 'pointwise_{0}'"
NO_BATCH = "the batch is no part of the shape"
FOR_ALL = "a rule that names none is for all of them: leave it out"
OPERAND = "inputs are names, and a number is a field"
INFERRED = "it is inferred from the layer's input: leave it out"

SEVERAL = (
    "write the layers one after the other, all but the last with 'return_sequences: true', or a block of one with "
    "'repeat: 2'"
)

LAYERS: list[tuple[str, str | None]] = [
    # regularizers
    ("Dense: {units: 3, kernel_regularizer: l3}", ALL),
    ("Dense: {units: 3, kernel_regularizer: {l3: 1e-4}}", ALL),
    ("Dense: {units: 3, kernel_regularizer: [l2, {smooth: 1e-4}]}", ALL),
    ("Dense: {units: 3, activity_regularizer: {l0: 1e-4}}", ALL),
    ("Dense: {units: 3, kernel_regularizer: L_2}", "did you mean 'l2'?"),
    ("Dense: {units: 3, kernel_regularizer: lasso}", "did you mean 'l1'?"),
    ("Dense: {units: 3, kernel_regularizer: {ridge: 0.1}}", "did you mean 'l2'?"),
    ("Dense: {units: 3, kernel_regularizer: elastic_net}", "did you mean 'l1_l2'?"),
    ("Dense: {units: 3, kernel_regularizer: GroupLaso}", "did you mean 'group_lasso'?"),
    ("Dense: {units: 3, kernel_regularizer: {weight_decay: 1e-4}}", IN_LIST),
    ("Dense: {units: 3, kernel_regularizer: {l2: {lambda: 1e-4}}}", "did you mean 'strength'?"),
    ("Dense: {units: 3, kernel_regularizer: {l2: {alpha: 1e-4}}}", "did you mean 'strength'?"),
    ("Dense: {units: 3, kernel_regularizer: {orthogonal: {strength: 1e-4}}}", "did you mean 'factor'?"),
    ("Dense: {units: 3, kernel_regularizer: {l2: 0.1, schedule: {cosine_decay: 9}}}", "did you mean 'cosine'?"),
    (
        "Dense: {units: 3, kernel_regularizer: {l2: 0.1, schedule: {sawtooth: 9}}}",
        "there are constant, linear, cosine, exponential, warmup, steps",
    ),
    # initializers and constraints
    ("Dense: {units: 3, kernel_initializer: glorot}", "did you mean 'glorot_uniform'?"),
    ("Dense: {units: 3, kernel_initializer: xavier}", "did you mean 'glorot_uniform'?"),
    ("Dense: {units: 3, kernel_initializer: XavierUniform}", "did you mean 'glorot_uniform'?"),
    ("Dense: {units: 3, kernel_initializer: kaiming}", "did you mean 'he_normal'?"),
    ("Dense: {units: 3, kernel_initializer: he}", "did you mean 'he_normal'?"),
    ("Dense: {units: 3, kernel_initializer: lecun}", "did you mean 'lecun_normal'?"),
    ("Dense: {units: 3, kernel_initializer: trunc_normal}", "did you mean 'truncated_normal'?"),
    ("Dense: {units: 3, kernel_initializer: {random_normal: {std: 0.1}}}", "did you mean 'stddev'?"),
    ("Dense: {units: 3, kernel_initializer: {random_uniform: {low: 0.1}}}", "did you mean 'minval'?"),
    ("Dense: {units: 3, kernel_constraint: nonneg}", "did you mean 'non_neg'?"),
    ("Dense: {units: 3, kernel_constraint: {max_norm: {max: 2}}}", "did you mean 'max_value'?"),
    ("Dense: {units: 3, kernel_constraint: tight}", "there are max_norm, min_max_norm, non_neg, unit_norm"),
    # activations
    ("Dense: {units: 3, activation: prelu}", "'PReLU' is a layer: write '- PReLU' after this one"),
    ("Dense: {units: 3, activation: JumpReLU}", "'JumpReLU' is a layer: write '- JumpReLU' after this one"),
    ("Dense: {units: 3, activation: LeakyReLU}", SLOPE),
    ("Dense: {units: 3, activation: lrelu}", SLOPE),
    ("Dense: {units: 3, activation: hswish}", "did you mean 'hard_silu'?"),
    ("Dense: {units: 3, activation: {leaky_relu: {alpha: 0.1}}}", "did you mean 'negative_slope'?"),
    ("Dense: {units: 3, activation: {leaky_relu: {slope: 0.1}}}", "did you mean 'negative_slope'?"),
    # fields
    ("Dense: {units: 3, weight_decay: 1e-4}", OF_KERNEL),
    ("Dense: {units: 3, l2: 1e-4}", "write 'kernel_regularizer: {l2: 1e-4}'"),
    ("Dense: {units: 3, l1: 1e-4}", "write 'kernel_regularizer: {l1: 1e-4}'"),
    ("Dense: {units: 3, regularizer: l2}", "did you mean 'kernel_regularizer'?"),
    ("Dense: {units: 3, activation_regularizer: l2}", "did you mean 'activity_regularizer'?"),
    ("Dense: {units: 3, in_features: 4}", INFERRED),
    ("Dense: {units: 3, input_shape: [4]}", INFERRED),
    ("Dense: {units: 3, nonlinearity: relu}", "did you mean 'activation'?"),
    ("Dense: {units: 3, requires_grad: false}", "did you mean 'trainable'?"),
    ("Dense: {units: 3, input: x}", "did you mean 'inputs'?"),
    ("LSTM: {units: 3, initial_state: [x, x]}", "states are inputs, after the sequence: 'inputs: [sequence, state]'"),
    ("GRU: {units: 3, batch_first: true}", "a batch comes first here: leave it out"),
    ("LSTM: {units: 3, bidirectional: true}", "wrap it: 'Bidirectional: {layer: {…}}'"),
    ("Conv1D: {filters: 3, kernel: 1}", "did you mean 'kernel_size'?"),
    ("MultiHeadAttention: {heads: 3, key_dim: 2, inputs: [x, x]}", "did you mean 'num_heads'?"),
    ("MultiHeadAttention: {num_heads: 3, key_dim: 2, inputs: [x, x], attention_mask: m}", "did you mean 'mask'?"),
    ("Attention: {inputs: [x, x], attn_mask: m}", "did you mean 'mask'?"),
    ("MultiHeadAttention: {num_heads: 3, key_dim: 2, key_padding_mask: m}", "did you mean 'mask'?"),
    ("MultiHeadAttention: {num_heads: 3, key_dim: 2, causal: true}", "did you mean 'use_causal_mask'?"),
    ("Attention: {inputs: [x, x], is_causal: true}", "did you mean 'use_causal_mask'?"),
    ("DotProductAttention: {inputs: [x, x, x], causal: true}", "did you mean 'is_causal'?"),
    ("DotProductAttention: {inputs: [x, x, x], use_causal_mask: true}", "did you mean 'is_causal'?"),
    ("LSTM: {units: 3, num_layers: 2}", SEVERAL),
    ("RNN: {cell: {LSTMCell: 3}, num_layers: 2}", SEVERAL),
    ("Dense: {units: 3, activity: l2}", "did you mean 'activity_regularizer'?"),
    ("Discretization: {num_bins: 3}", "did you mean 'bin_boundaries'?"),
    ("DepthwiseConv1D: {kernel_size: 3, kernel_regularizer: l2}", "did you mean 'depthwise_regularizer'?"),
    ("DepthwiseConv1D: {kernel_size: 3, regularizer: l2}", "did you mean 'depthwise_regularizer'?"),
    ("DepthwiseConv1D: {kernel_size: 3, kernel_initializer: zeros}", "did you mean 'depthwise_initializer'?"),
    ("DepthwiseConv1D: {kernel_size: 3, kernel_constraint: non_neg}", "did you mean 'depthwise_constraint'?"),
    ("DepthwiseConv1D: {kernel_size: 3, l2: 0.1}", "write 'depthwise_regularizer: {l2: 1e-4}'"),
    ("SeparableConv1D: {filters: 3, kernel_size: 3, kernel_regularizer: l2}", BOTH.format("regularizer")),
    ("SeparableConv1D: {filters: 3, kernel_size: 3, regularizer: l2}", BOTH.format("regularizer")),
    ("SeparableConv1D: {filters: 3, kernel_size: 3, kernel_initializer: zeros}", BOTH.format("initializer")),
    ("SeparableConv1D: {filters: 3, kernel_size: 3, weight_constraint: non_neg}", BOTH.format("constraint")),
    ("BatchNormalization: {kernel_regularizer: l2}", "did you mean 'gamma_regularizer'?"),
    ("PReLU: {kernel_constraint: non_neg}", "did you mean 'alpha_constraint'?"),
    (
        "Embedding: {input_dim: 3, output_dim: 3, padding_idx: 0}",
        "'mask_zero: true' masks the steps of index 0, and no other index is masked",
    ),
    ("Flatten: {start_dim: 1}", "Flatten keeps the batch and no other axis: leave it out, or take 'Reshape'"),
    ("Reshape: {shape: [3, 12]}", "did you mean 'target_shape'?"),
    ("Reshape: {target_shape: [3, None]}", f"the size that follows from the others is -1, and {NO_BATCH}"),
    ("Hardtanh: {min_val: 0, max_val: 6}", "another range is 'Clip: {x_min: 0, x_max: 6}'"),
    ("Activation: {activation: {hard_tanh: {max_val: 6}}}", "another range is 'Clip: {x_min: 0, x_max: 6}'"),
    ("Clip: {min_val: 0, x_max: 6}", "did you mean 'x_min'?"),
    (
        "Dense: {units: 3, repeat: 3}",
        "a block repeats: put the layer into one under 'blocks', and say 'repeat' where the block is used",
    ),
    ("Repeat: {axis: 1, repeat: 3}", "did you mean 'repeats'?"),
    ("RepeatVector: {repeat: 3}", "did you mean 'n'?"),
    ("GetItem: {index: 0}", "did you mean 'key'?"),
    ("Cast: long", "did you mean 'int64'?"),
    (
        "SeparableConv1D: {filters: 3, kernel_size: 3, l2: 0.1}",
        "write 'depthwise_regularizer: {l2: 1e-4}'; and the same of 'pointwise_regularizer'",
    ),
    # kinds
    ("TimeDistributed: {layer: {nn.Linear: 3}}", "write 'Linear', or Keras's 'Dense'"),
    ("TimeDistributed: {layer: {cat: 3}}", "did you mean 'Concatenate'?"),
    (
        "TimeDistributed: {layer: {TimeDistributed: {layer: Lambda}}}",
        "code is no part of a spec: register a layer of your own",
    ),
    ("sin", "did you mean 'Sin'?"),
    ("InstanceNorm1d", "did you mean 'GroupNormalization'?"),
    ("Model: {}", "one model inside another is a block"),
    ("TextVectorization", "words are no tensors: turn them into numbers where the data is prepared"),
    ("Hashing: {num_bins: 3}", "words are no tensors: turn them into numbers where the data is prepared"),
    ("Lambda", "code is no part of a spec: register a layer of your own"),
    ("Lambda: x * 2", "code is no part of a spec: register a layer of your own"),
    ("Desne: 4", "did you mean 'Dense'?"),
    ("LocalResponseNorm: 5", "a kind of your own is known after 'regspec --import MODULE'"),
    ("PixelShuffle: 2", "did you mean 'DepthToSpace'?"),
    ("View: [4, 4]", "did you mean 'Reshape'?"),
    ("Unsqueeze: 1", "did you mean 'ExpandDims'?"),
    ("MultiheadAttention: 4", "did you mean 'MultiHeadAttention'?"),
    ("cat: [x, x]", "did you mean 'Concatenate'?"),
    ("Concat: [x, x]", "did you mean 'Concatenate'?"),
    ("Sequential: [Dense: 3]", "one model inside another is a block"),
    ("Dense units: 3", "write '- Dense: {units: 10}', with a colon and a space"),
    ("nn.Linear: {out_features: 12}", "write 'Linear', or Keras's 'Dense'"),
    ("torch.nn.Linear", "write 'Linear', or Keras's 'Dense'"),
    ("torch.nn.Linear: 4", "write 'Linear', or Keras's 'Dense'"),
    ("nn.ReLU", "write 'ReLU'"),
    ("nn.GELU: {}", "write 'GELU'"),
    ("keras.layers.Dense: 4", "write 'Dense'"),
    ("tf.keras.layers.MaxPool2D: 2", "write 'MaxPool2D', or Keras's 'MaxPooling2D'"),
    ("torch.cat: [x, x]", "did you mean 'Concatenate'?"),
    # numbers among inputs
    ("Multiply: [x, 0.5]", f"{OPERAND}: write 'Multiply: {{inputs: x, x2: 0.5}}'"),
    ("Multiply: {inputs: [x, 0.5]}", f"{OPERAND}: write 'Multiply: {{inputs: x, x2: 0.5}}'"),
    ("Subtract: [1, x]", f"{OPERAND}: write 'Subtract: {{x1: 1, inputs: x}}'"),
    ("Divide: [x, $width]", f"{OPERAND}: write 'Divide: {{inputs: x, x2: 4}}'"),
    ("Multiply: {inputs: 0.5}", "write 'Multiply: {x2: 0.5}'"),
    ("Power: 2", "write 'Power: {x2: 2}'"),
    # references
    ("Dense: {units: width}", "did you mean '$width'?"),
    ("Dense: {units: width * 2}", "did you mean '$width * 2'?"),
    ("Dense: {units: widht}", None),
    ("Dense: width", "did you mean '$width'?"),
    ("Dense: {units: 3, kernel_regularizer: {l2: width}}", "did you mean '$width'?"),
    ("Dense: {units: 3, kernel_regularizer: width}", "did you mean '$width'?"),
    ("Conv1D: {filters: 3, kernel_size: [width]}", "did you mean '$width'?"),
    ("TimeDistributed: {Dense: width}", "did you mean '$width'?"),
    ('Dense: {units: "${width}"}', "write $width, without braces"),
    ("Dense: {units: ${width}}", "a parameter is written $width, without braces"),
    ('Dense: {units: "${parameters.width}"}', "write $width, without braces"),
    ('Dense: {units: 3, kernel_regularizer: {l2: "${width}"}}', "write $width, without braces"),
    ('Dense: {units: "${}"}', "write $name, without braces"),
    ('Dense: {units: "${width * 2}"}', "write $width, without braces"),
    ("Dense: {units: $widht}", "did you mean 'width'?"),
    ("Dense: {units: $index}", "there is $width; a literal dollar is written '$$'"),
    ("Dense: {units: 3, name: dense_$index}", "there is $width; a literal dollar is written '$$'"),
]


def hints_of(text: str) -> list[str | None]:
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.loads(text)
    return [problem.hint for problem in caught.value.problems]


@pytest.mark.parametrize(("layer", "hint"), LAYERS, ids=[layer for layer, _ in LAYERS])
def test_in_a_layer(layer: str, hint: str | None) -> None:
    assert hints_of(f"{HEAD}layers:\n  - {layer}\n")[0] == hint


@pytest.mark.parametrize(
    ("layer", "hint"),
    [
        ("TimeDistributed: {Dense: 3, name: a}", "write 'layer: {Dense: …}'"),
        ("RNN: {LSTM: 3}", "write 'cell: {LSTM: …}'"),
        ("TimeDistributed: {Dens: 3}", "write 'layer: {Dens: …}'"),
    ],
)
def test_of_a_layer_inside_another(layer: str, hint: str) -> None:
    assert hints_of(f"{HEAD}layers:\n  - {layer}\n") == [None, hint]


@pytest.mark.parametrize(
    ("section", "hint"),
    [
        ("output: x", "did you mean 'outputs'?"),
        ("regularizer: []", "did you mean 'regularizers'?"),
        ("rule: []", "did you mean 'regularizers'?"),
        ("rules: []", "did you mean 'regularizers'?"),
        ("params: {}", "did you mean 'parameters'?"),
        ("variables: {}", "did you mean 'parameters'?"),
        ("precision: float16", "did you mean 'dtype'?"),
        ("layout: channels_last", "did you mean 'data_format'?"),
        ("model: []", "did you mean 'layers'?"),
        ("definitions: {}", "did you mean 'blocks'?"),
        (
            "optimizer: adam",
            "a spec says nothing of training: a training file does, 'regspec train net.yaml --with training.yaml'",
        ),
        (
            "epochs: 3",
            "a spec says nothing of training: a training file does, 'regspec train net.yaml --with training.yaml'",
        ),
        ("frozen: counted", "did you mean 'frozen_penalties'?"),
    ],
)
def test_of_a_section(section: str, hint: str) -> None:
    assert hints_of(f"{HEAD}layers: [Flatten]\n{section}\n")[0] == hint


@pytest.mark.parametrize(
    ("rule", "hint"),
    [
        ("{kinds: [Dense], weight_decay: 1e-4}", HALF.format("'kernel: ", "'")),
        ("{kinds: [Dense], l2: 1e-4}", "write 'kernel: {l2: 1e-4}'"),
        ("{kinds: [Dense], activity_regularizer: l2}", "did you mean 'activity'?"),
        ("{kinds: [FullyConnected], kernel: l2}", "did you mean 'Dense'?"),
        ("{types: [Dense], kernel: l2}", "did you mean 'kinds'?"),
        ("{kinds: all, kernel: l2}", FOR_ALL),
        ("{kinds: [nn.Linear], kernel: l2}", "write 'Linear', or Keras's 'Dense'"),
        ("{layers: all, kernel: l2}", FOR_ALL),
        ("{layers: '*', kernel: l2}", "every name matches '.*'"),
        ("{type: Dense, kernel: l2}", "did you mean 'kinds'?"),
        ("{kind: Dense, kernel: l2}", "did you mean 'kinds'?"),
        ("{modules: hidden, kernel: l2}", "did you mean 'layers'?"),
        ("{kinds: [Dense], weight: l2}", "did you mean 'kernel'?"),
        ("{kinds: [Dense], weights: l2}", "did you mean 'kernel'?"),
        ("{layers: hid, kernel: l2}", "a pattern must match a whole name, and 'hidden' it matches in part"),
        ("{layers: 'hiden.*', kernel: l2}", "did you mean 'hidden'?"),
        ("{layers: 'lgits', kernel: l2}", "did you mean 'logits'?"),
    ],
)
def test_of_a_rule(rule: str, hint: str) -> None:
    layers = "[{Dense: {name: hidden, units: 3}}, {Dense: {name: logits, units: 3}}]"
    assert hint in hints_of(f"{HEAD}layers: {layers}\nregularizers: [{rule}]\n")


@pytest.mark.parametrize(
    ("repeat", "hint"), [(1, "call one of its copies: own_1"), (3, "call one of its copies: own_1 to own_3")]
)
def test_a_call_of_a_repeated_block(repeat: int, hint: str) -> None:
    text = (
        f"{HEAD}blocks: {{twice: {{layers: [Dense: {{units: 4}}]}}}}\n"
        f"layers:\n  - twice: {{name: own, repeat: {repeat}}}\n  - call: {{layer: own, name: again}}\n"
    )
    with pytest.raises(regspec.RegspecError, match="'own' is a repeated block") as caught:
        regspec.loads(text)
    assert caught.value.problems[0].hint == hint
    assert regspec.loads(text.replace("layer: own,", "layer: own_1,")).layers[0].name == "own"


class Net(nn.Module):
    """A network with names as torchvision has them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
        self.layer4 = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())
        self.classifier = nn.ModuleDict({"fc": nn.Linear(4, 2)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier["fc"](self.layer4(self.layer1(x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("rule", "hint"),
    [
        ({"modules": r"layr4\.0", "kernel_regularizer": "l2"}, "did you mean 'layer4.0'?"),
        ({"modules": r"layer5\.0", "kernel_regularizer": "l2"}, "did you mean 'layer"),
        ({"modules": r"clasifier\..*", "kernel_regularizer": "l2"}, "did you mean 'classifier'?"),
        ({"modules": r"^model\.classifier\.fc$", "kernel_regularizer": "l2"}, "did you mean 'classifier.fc'?"),
        ({"modules": "fc", "kernel_regularizer": "l2"}, "a whole name, and 'classifier.fc' it matches in part"),
        ({"modules": "zzz", "kernel_regularizer": "l2"}, "did you mean '"),
        ({"parameters": r"classifier\.fc\.wieght", "regularizer": "l2"}, "did you mean 'classifier.fc.weight'?"),
        ({"parameters": "weight", "regularizer": "l2"}, "and 'layer1.0.weight' it matches in part"),
        ({"types": "all", "kernel_regularizer": "l2"}, FOR_ALL),
        ({"modules": "all", "kernel_regularizer": "l2"}, FOR_ALL),
        ({"types": ["Linaer"], "kernel_regularizer": "l2"}, "did you mean 'Linear'?"),
    ],
)
def test_of_a_rule_for_a_module(rule: dict[str, object], hint: str) -> None:
    with pytest.raises(regspec.RegspecError, match="this rule matches nothing") as caught:
        regspec.regularize(Net(), [rule])
    assert hint in (caught.value.problems[0].hint or "")


@pytest.mark.parametrize(
    ("rule", "hint"),
    [
        ({"kinds": ["Linear"], "kernel_regularizer": "l2"}, "did you mean 'types'?"),
        ({"layers": "fc", "kernel_regularizer": "l2"}, "did you mean 'modules'?"),
        ({"types": "Linear", "kernel": "l2"}, "did you mean 'kernel_regularizer'?"),
        ({"types": "Linear", "bias": "l2"}, "did you mean 'bias_regularizer'?"),
        ({"types": "Linear", "activity": "l2"}, "did you mean 'activity_regularizer'?"),
        ({"types": "Linear", "weight_decay": 0.1}, HALF.format("'kernel_regularizer: ", "'")),
    ],
)
def test_of_a_field_of_a_rule_for_a_module(rule: dict[str, object], hint: str) -> None:
    with pytest.raises(regspec.RegspecError, match="has no field") as caught:
        regspec.regularize(Net(), [rule])
    assert hint in [problem.hint for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ("shape: [4], dtype: long", "did you mean 'int64'?"),
        ("shape: [4], dtype: int", "did you mean 'int64'?"),
        ("shape: [4], dtype: float", "did you mean 'float32'?"),
        ("shape: [4], dtype: double", "did you mean 'float64'?"),
        ("shape: [4], dtype: half", "did you mean 'float16'?"),
        ("shape: [4], dtype: torch.long", "did you mean 'int64'?"),
        ("shape: [4], dtype: np.int32", "did you mean 'int32'?"),
        ("shape: [None, 4]", f"a size that may vary is null, and {NO_BATCH}"),
        ("shape: [-1, 4]", f"a size that may vary is null, and {NO_BATCH}"),
        ("shape: [4, '?']", f"a size that may vary is null, and {NO_BATCH}"),
        ("shape: (4)", "a list stands in square brackets: [28, 28]"),
        ("shape: [0, 4]", None),
    ],
)
def test_of_an_input(fields: str, hint: str | None) -> None:
    assert hints_of(f"regspec: 1\nname: net\ninputs: {{x: {{{fields}}}}}\nlayers: [Softmax]\n") == [hint]


def many(count: int) -> str:
    return f"{{{', '.join(f'p{index}: 1' for index in range(count))}}}"


@pytest.mark.parametrize(
    ("parameters", "hint"),
    [
        ("{}", "there is none; a literal dollar is written '$$'"),
        ("{width: 4}", "there is $width; a literal dollar is written '$$'"),
        ("{width: 4, rate: 0.5}", "there are $width and $rate; a literal dollar is written '$$'"),
        ("{width: 4, rate: 0.5, no: 1}", "there are $width, $rate and $no; a literal dollar is written '$$'"),
        ("{width: 4, indx: 0.5}", "did you mean 'indx'?"),
        (many(9), "there are $p0, $p1, $p2, $p3, $p4, $p5, $p6, $p7 and $p8; a literal dollar is written '$$'"),
        (many(10), "there are $p0, $p1, $p2, $p3, $p4, $p5, $p6, $p7 and 2 others; a literal dollar is written '$$'"),
    ],
)  # fmt: skip
def test_of_an_unknown_parameter(parameters: str, hint: str) -> None:
    """Those of the spec; in a block its own besides."""
    head = f"regspec: 1\nname: net\ninputs: {{x: {{shape: [9, 4]}}}}\nparameters: {parameters}\n"
    assert hints_of(f"{head}layers:\n  - Dense: {{units: $index}}\n") == [hint]


def test_of_an_unknown_parameter_of_a_block() -> None:
    blocks = "blocks: {own: {parameters: {units: 3}, layers: [Dense: {units: $index}]}}\n"
    hint = "there are $width and $units; a literal dollar is written '$$'"
    assert hints_of(f"{HEAD}{blocks}layers:\n  - own\n") == [hint]


def test_what_is_suggested_is_there() -> None:
    """Every synonym leads to a name that a spec may say, and none is a name itself."""
    for family in (REGULARIZERS, INITIALIZERS, CONSTRAINTS, ACTIVATIONS, SCHEDULES):
        assert {*family.synonyms.values()} <= family.members.keys(), family.sort
        assert not {*family.synonyms, *family.explained} & {*family.members, *family.aliases}, family.sort
    assert {*synonyms._KINDS.values()} <= KINDS.keys()
    assert {*hints._SECTIONS.values()} <= SpecSections.model_fields.keys()
    schemas = [ROOT / "schemas" / f"{name}.schema.json" for name in ("model", "rules", "training")]
    fields = "".join(schema.read_text(encoding="utf-8") for schema in schemas)
    missing = {name for names in hints._SYNONYMS.values() for name in names if f'"{name}"' not in fields}
    assert missing == set()
