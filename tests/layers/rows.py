"""The layer table: for each kind, cases with odd sizes, batches over one and windows that are not square.

A row is a layer's kind, its fields, and the shapes of its inputs as Keras counts their axes, without the batch. The
properties in `test_layers.py` run over every row, in both data formats where the kind has one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from regspec.layers import KINDS
from regspec.layers.families import Spatial

from .image_rows import IMAGE_ROWS
from .operations import OPERATIONS
from .row import Row, row

BIASED = {"moving_variance": "biased"}  # as Keras's is


def _convolutions() -> list[Row]:
    rows = []
    for kind, shape in (("Conv1D", (11, 3)), ("Conv2D", (9, 11, 3)), ("Conv3D", (5, 6, 7, 3))):
        rank = len(shape) - 1
        kernel = [3, 2, 1][:rank] if rank > 1 else 3
        rows += [
            row(kind, shape, filters=4, kernel_size=kernel),
            row(kind, shape, filters=4, kernel_size=kernel, padding="same", activation="relu"),
            row(kind, shape, filters=4, kernel_size=3, strides=2, padding="same", use_bias=False),
            row(kind, shape, filters=4, kernel_size=2, strides=3, padding="valid", activation="tanh"),
            row(kind, shape, filters=4, kernel_size=2, dilation_rate=2, padding="same"),
            row(kind, (*shape[:-1], 4), filters=6, kernel_size=3, groups=2, padding="same"),
        ]
    rows += [
        row("Conv1D", (10, 3), filters=5, kernel_size=3, padding="causal", dilation_rate=2),
        row("Conv1D", (10, 3), filters=5, kernel_size=4, padding="causal", strides=2),
        row("Conv2D", (10, 8, 3), filters=5, kernel_size=[4, 5], strides=[2, 1], padding="same"),
        row("Conv2D", (8, 8, 3), filters=5, kernel_size=3, activation="softmax"),
        row("Conv2D", (8, 8, 3), filters=6, kernel_size=3, activation={"glu": {"axis": -1}}),
    ]
    for kind, shape in (("Conv1DTranspose", (7, 3)), ("Conv2DTranspose", (5, 7, 3)), ("Conv3DTranspose", (3, 4, 5, 3))):
        rows += [
            row(kind, shape, filters=4, kernel_size=3),
            row(kind, shape, filters=4, kernel_size=3, strides=2, padding="same", activation="relu"),
            row(kind, shape, filters=4, kernel_size=4, strides=2, padding="same"),
            row(kind, shape, filters=4, kernel_size=2, strides=3, padding="valid", use_bias=False),
            row(kind, shape, filters=4, kernel_size=3, padding="same", dilation_rate=2),
        ]
    rows += [
        row("Conv2DTranspose", (5, 7, 3), filters=4, kernel_size=[5, 2], strides=[3, 2], padding="same"),
        row("Conv2DTranspose", (5, 7, 3), filters=4, kernel_size=3, strides=2, padding="valid", output_padding=1),
        row("Conv2DTranspose", (5, 7, 3), filters=4, kernel_size=3, strides=2, padding="same", output_padding=1),
    ]
    # of Keras 2, so that Keras 3 is no reference
    for kind, shape in (("LocallyConnected1D", (9, 3)), ("LocallyConnected2D", (6, 7, 3))):
        window, stride = (3, 2) if kind.endswith("1D") else ([3, 2], [1, 2])
        rows += [
            Row(kind, {"filters": 4, "kernel_size": window}, (shape,), has_reference=False),
            Row(
                kind,
                {"filters": 2, "kernel_size": window, "strides": stride, "use_bias": False, "activation": "relu"},
                (shape,),
                has_reference=False,
            ),
        ]
    for kind, shape in (("DepthwiseConv1D", (9, 3)), ("DepthwiseConv2D", (7, 9, 3))):
        rows += [
            row(kind, shape, kernel_size=3),
            row(kind, shape, kernel_size=2, depth_multiplier=2, padding="same", activation="relu"),
            row(kind, shape, kernel_size=3, strides=2, padding="same", use_bias=False),
            row(kind, shape, kernel_size=3, dilation_rate=2),
        ]
    for kind, shape in (("SeparableConv1D", (9, 3)), ("SeparableConv2D", (7, 9, 3))):
        rows += [
            row(kind, shape, filters=5, kernel_size=3),
            row(kind, shape, filters=5, kernel_size=2, depth_multiplier=2, padding="same", activation="relu"),
            row(kind, shape, filters=5, kernel_size=3, strides=2, padding="same", use_bias=False),
        ]
    return rows


def _poolings() -> list[Row]:
    rows = []
    for rank, shape in ((1, (11, 3)), (2, (9, 8, 3)), (3, (5, 6, 7, 3))):
        window = [3, 2, 2][:rank] if rank > 1 else 3
        for function in ("Max", "Average"):
            kind = f"{function}Pooling{rank}D"
            rows += [
                row(kind, shape, pool_size=2),
                row(kind, shape, pool_size=window, strides=1),
                # Keras's torch backend counts padded cells where the padding is uneven and the window is 3 or more
                Row(
                    kind,
                    {"pool_size": window, "strides": 2, "padding": "same"},
                    (shape,),
                    has_reference=function == "Max",
                ),
                row(kind, shape, pool_size=2, padding="same"),
                row(kind, shape, pool_size=2, strides=1, padding="same"),
                row(kind, shape, pool_size=3, strides=1, padding="same"),
                row(kind, shape, pool_size=2, strides=3, padding="same"),
            ]
            rows += [row(f"Global{kind}", shape), row(f"Global{kind}", shape, keepdims=True)]
            rows.append(row(f"Adaptive{kind}", shape, output_size=[3, 2, 4][:rank] if rank > 1 else 3))
            rows.append(row(f"Adaptive{kind}", shape, output_size=2))
    return rows


def _normalizations() -> list[Row]:
    return [
        *(row("BatchNormalization", shape, **BIASED) for shape in ((5,), (7, 5), (4, 7, 5), (2, 3, 4, 5))),
        row("BatchNormalization", (4, 7, 5), axis=1, **BIASED),
        row("BatchNormalization", (4, 7, 5), axis=2, **BIASED),
        row("BatchNormalization", (4, 7, 5), momentum=0.7, epsilon=1e-2, scale=False, **BIASED),
        row("BatchNormalization", (4, 7, 5), center=False, **BIASED),
        row("BatchNormalization", (4, 7, 5), center=False, scale=False, **BIASED),
        # with torch's moving variance, which is not Keras's
        *(Row("BatchNormalization", {}, (shape,), has_reference=False) for shape in ((5,), (7, 5), (2, 3, 4, 5))),
        Row("BatchNormalization", {"axis": 2, "epsilon": 0.1}, ((4, 7, 5),), has_reference=False),
        Row("BatchNormalization", {"center": False, "scale": False}, ((4, 7, 5),), has_reference=False),
        Row("BatchNormalization", {"center": False}, ((4, 7, 5),), has_reference=False),
        row("BatchNormalization", (4, 7, 5), trainable=False),
        row("BatchNormalization", (4, 7, 5), renorm=True),
        row("BatchNormalization", (5,), renorm=True, renorm_momentum=0.6, momentum=0.8, scale=False),
        row(
            "BatchNormalization",
            (7, 5),
            axis=1,
            renorm=True,
            center=False,
            renorm_clipping={"rmin": 0.7, "rmax": 1.2, "dmax": 0.3},
        ),
        row("BatchNormalization", (7, 5), renorm=True, renorm_clipping={"dmax": 0.1}, trainable=False),
        *(row("LayerNormalization", shape) for shape in ((5,), (7, 5), (4, 7, 5))),
        row("LayerNormalization", (4, 7, 5), axis=[2, 3]),
        row("LayerNormalization", (4, 7, 5), axis=[1, 3]),
        Row("LayerNormalization", {"axis": 2}, ((4, 7, 5),), has_reference=False),
        row("LayerNormalization", (7, 5), center=False),
        row("LayerNormalization", (7, 5), scale=False, epsilon=1e-2),
        row("LayerNormalization", (7, 5), center=False, scale=False),
        # Keras warns of it
        Row("LayerNormalization", {"rms_scaling": True, "axis": 3}, ((4, 7, 5),), has_reference=False),
        Row("LayerNormalization", {"rms_scaling": True, "axis": 2, "scale": False}, ((4, 7, 5),), has_reference=False),
        row("GroupNormalization", (4, 7, 6), groups=3),
        row("GroupNormalization", (7, 6), groups=2),
        row("GroupNormalization", (6,), groups=2),
        row("GroupNormalization", (4, 7, 6), groups=-1),
        row("GroupNormalization", (4, 6, 5), groups=3, axis=2),
        row("GroupNormalization", (4, 7, 6), groups=3, scale=False),
        row("GroupNormalization", (4, 7, 6), groups=3, center=False, scale=False),
        row("RMSNormalization", (7, 5)),
        row("RMSNormalization", (4, 7, 5), axis=[2, 3], epsilon=1e-3),
        Row("RMSNormalization", {"axis": 1}, ((4, 7, 5),), has_reference=False),
        row("UnitNormalization", (7, 5)),
        row("UnitNormalization", (4, 7, 5), axis=[1, 3]),
        row("SpectralNormalization", (5,), layer={"Dense": {"units": 4}}),
        row("SpectralNormalization", (5,), layer={"Dense": {"units": 4, "activation": "relu"}}, power_iterations=3),
        row("SpectralNormalization", (6, 7, 3), layer={"Conv2DTranspose": {"filters": 4, "kernel_size": [3, 2]}}),
        row(
            "SpectralNormalization",
            (6, 7, 3),
            layer={"Conv2D": {"filters": 4, "kernel_size": [3, 2], "padding": "same"}},
        ),
        # Keras casts the output to the type of the input: whole numbers
        Row(
            "SpectralNormalization",
            {"layer": {"Embedding": {"input_dim": 5, "output_dim": 4}}},
            ((6,),),
            "int64",
            has_reference=False,
        ),
    ]


def _activations() -> list[Row]:
    plain = """
        celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear
        log_sigmoid log_softmax mish relu relu6 selu sigmoid silu swish soft_shrink softmax softplus softsign
        sparse_plus sparse_sigmoid sparsemax squareplus tanh tanh_shrink
    """
    return [
        *(row("Activation", (7, 5), activation=name) for name in plain.split()),
        row("Activation", (7, 6), activation="glu"),
        row("Activation", (6, 5), activation={"glu": {"axis": 1}}),
        row("Activation", (7, 5), activation={"softmax": {"axis": 1}}),
        row("Activation", (7, 5), activation={"sparsemax": 1}),
        row("Activation", (7, 5), activation={"leaky_relu": 0.1}),
        row("Activation", (7, 5), activation={"elu": 0.7}),
        Row("Activation", {"activation": {"hard_sigmoid": 0.2}}, ((7, 5),), has_reference=False),  # as in Keras 2
        row("Activation", (7, 5), activation={"celu": 0.7}),
        row("Activation", (7, 5), activation={"gelu": {"approximate": True}}),
        row("Activation", (7, 5), activation={"hard_shrink": 0.3}),
        row("Activation", (7, 5), activation={"soft_shrink": 0.3}),
        row("Activation", (7, 5), activation={"squareplus": 2.0}),
        row("Activation", (7, 5), activation={"threshold": {"threshold": 0.2, "default_value": -3.0}}),
        row("Activation", (7, 5), activation={"relu": {"negative_slope": 0.1, "max_value": 1.0, "threshold": 0.2}}),
        row("Activation", (7, 5), activation={"relu": {"max_value": 1.0}}),
        Row("Activation", {"activation": {"top_k": 2}}, ((7, 5),), has_reference=False),
        Row("Activation", {"activation": {"top_k": {"k": 2, "axis": 2}}}, ((4, 7, 5),), has_reference=False),
        Row("Activation", {"activation": "softmin"}, ((7, 5),), has_reference=False),
        Row("Activation", {"activation": {"softmin": {"axis": 2}}}, ((4, 7, 5),), has_reference=False),
        row("Activation", (7, 5), activation="sin"),
        row("Dense", (7, 5), units=3, activation="erf"),
        Row("Activation", {"activation": {"rrelu": {"upper": 0.6}}}, ((7, 5),), is_random=True, has_reference=False),
        Row("JumpReLU", {"bandwidth": 1.5}, ((5,),), has_reference=False),
        Row("JumpReLU", {"bandwidth": 0.7}, ((4, 7, 5),), has_reference=False),
        row("ReLU", (7, 5)),
        row("ReLU", (7, 5), max_value=6),
        row("ReLU", (7, 5), max_value=0.5, negative_slope=0.2, threshold=0.3),
        row("ReLU", (7, 5), negative_slope=0.2),
        row("LeakyReLU", (7, 5)),
        row("LeakyReLU", (4, 7, 5), negative_slope=0.1),
        row("ELU", (7, 5)),
        row("ELU", (7, 5), alpha=0.5),
        row("Softmax", (7, 5)),
        row("Softmax", (4, 7, 5), axis=1),
        row("Softmax", (4, 7, 5), axis=[1, 3]),
        row("PReLU", (7, 5)),
        row("PReLU", (4, 7, 5), shared_axes=[1, 2]),
        Row("SReLU", {}, ((7, 5),), has_reference=False),
        Row("SReLU", {"shared_axes": [1, 2]}, ((4, 7, 5),), has_reference=False),
        Row("ParametricSoftplus", {}, ((7, 5),), has_reference=False),
        Row("ParametricSoftplus", {"shared_axes": [1, 2]}, ((4, 7, 5),), has_reference=False),
    ]


def _reshapings() -> list[Row]:
    return [
        *(row("Flatten", shape) for shape in ((5,), (7, 5), (4, 7, 5), (1, 1, 5), (4, 7, 1))),
        row("Reshape", (1, 1, 6), target_shape=[2, 1, 3]),
        row("Reshape", (4, 6, 1), target_shape=[1, 1, 24]),
        row("Flatten", (4, 7, 5), data_format="channels_first"),
        row("Reshape", (4, 6), target_shape=[3, 8]),
        row("Reshape", (4, 6), target_shape=[2, -1, 3]),
        row("Reshape", (24,), target_shape=[24]),
        row("Permute", (4, 7, 5), dims=[2, 3, 1]),
        row("RepeatVector", (5,), n=3),
        row("Cropping1D", (9, 3)),
        row("Cropping1D", (9, 3), cropping=[0, 2]),
        row("Cropping2D", (9, 8, 3), cropping=1),
        row("Cropping2D", (9, 8, 3), cropping=[[1, 2], [0, 3]]),
        row("Cropping2D", (9, 8, 3)),
        row("Cropping3D", (5, 6, 7, 3)),
        row("Cropping3D", (5, 6, 7, 3), cropping=[[1, 0], [2, 1], [0, 0]]),
        row("ZeroPadding1D", (9, 3)),
        row("ZeroPadding1D", (9, 3), padding=[0, 2]),
        row("ZeroPadding2D", (5, 6, 3), padding=[[0, 1], [2, 0]]),
        row("ZeroPadding2D", (5, 6, 3), padding=[1, 2]),
        row("ZeroPadding3D", (3, 4, 5, 2), padding=[1, 0, 2]),
        row("ZeroPadding3D", (3, 4, 5, 2)),
        row("UpSampling1D", (5, 3)),
        row("UpSampling1D", (5, 3), size=3),
        row("UpSampling2D", (5, 4, 3), size=[2, 3]),
        row("UpSampling2D", (5, 4, 3), interpolation="bilinear"),
        Row("UpSampling2D", {"interpolation": "bicubic", "size": [2, 3]}, ((5, 4, 3),), has_reference=False),
        Row("UpSampling2D", {"interpolation": "lanczos3"}, ((5, 4, 3),), has_reference=False),
        row("UpSampling3D", (3, 4, 5, 2), size=[1, 2, 3]),
    ]


def _mergings() -> list[Row]:
    two, three = ((7, 5),) * 2, ((4, 7, 5),) * 3
    rows = [
        row(kind, *shapes)
        for kind in ("Add", "Multiply", "Average", "Maximum", "Minimum")
        for shapes in (two, three, ((7, 5), (5,)), ((4, 1, 5), (4, 7, 5)))
    ]
    return [
        *rows,
        row("Subtract", *two),
        row("Subtract", (7, 5), (1, 5)),
        row("Concatenate", (7, 5), (7, 2)),
        row("Concatenate", (5,), (2,), (3,)),
        row("Concatenate", (4, 7, 5), (4, 7, 2)),
        row("Concatenate", (4, 7, 5), (4, 2, 5), axis=2),
        row("Dot", (5,), (5,), axes=1),
        row("Dot", (5,), (5,), axes=-1, normalize=True),
        row("Dot", (7, 5), (6, 5), axes=2),
        row("Dot", (7, 5), (5, 6), axes=[2, 1], normalize=True),
        row("Dot", (7, 5), (5,), axes=[2, 1]),
        row("Dot", (2, 7, 5), (5, 6), axes=[3, 1]),
    ]


def _dropouts() -> list[Row]:
    return [
        Row("Dropout", {"rate": 0.4}, ((7, 5),), is_random=True),
        Row("Dropout", {"rate": 0.4, "noise_shape": [None, 1, 5]}, ((7, 5),), is_random=True),
        Row("AlphaDropout", {"rate": 0.4}, ((7, 5),), is_random=True),
        Row("AlphaDropout", {"rate": 0.4, "noise_shape": [None, 1, 5]}, ((7, 5),), is_random=True),
        Row("SpatialDropout1D", {"rate": 0.4}, ((7, 5),), is_random=True),
        Row("SpatialDropout2D", {"rate": 0.4}, ((4, 7, 5),), is_random=True),
        Row("SpatialDropout3D", {"rate": 0.4}, ((3, 4, 7, 5),), is_random=True),
        Row("GaussianDropout", {"rate": 0.4}, ((7, 5),), is_random=True),
        Row("GaussianNoise", {"stddev": 0.4}, ((7, 5),), is_random=True),
        Row("Sampling", {}, ((5,),) * 2, is_random=True, has_reference=False),
        Row("Sampling", {}, ((4, 7, 5),) * 2, is_random=True, has_reference=False),
        row("Identity", (7, 5)),
        row("ActivityRegularization", (7, 5), l1=0.1, l2=0.2),
    ]


def _embeddings() -> list[Row]:
    return [
        row("Embedding", (7,), input_dim=5, output_dim=4, _dtype="int64"),
        row("Embedding", (7, 2), input_dim=5, output_dim=4, _dtype="int32"),
        row("ReversibleEmbedding", (7,), input_dim=5, output_dim=4, _dtype="int64"),
        row("ReversibleEmbedding", (7, 4), input_dim=5, output_dim=4, reverse=True),
        row(
            "ReversibleEmbedding",
            (7, 4),
            input_dim=5,
            output_dim=4,
            reverse=True,
            tie_weights=False,
            logit_soft_cap=0.5,
        ),
    ]


def _recurrents() -> list[Row]:
    rows = []
    for kind in ("SimpleRNN", "LSTM", "GRU"):
        states = ((4,), (4,)) if kind == "LSTM" else ((4,),)
        rows += [
            row(kind, (7, 5), units=4),
            row(kind, (7, 5), units=4, return_sequences=True, go_backwards=True),
            row(kind, (7, 5), units=4, return_state=True, use_bias=False),
            row(kind, (7, 5), units=4, activation="relu", return_sequences=True, return_state=True),
            row(kind, (7, 5), *states, units=4),
            row(kind, (7, 5), *states, units=4, activation="sigmoid"),
            Row(kind, {"units": 4, "dropout": 0.3}, ((7, 5),), is_random=True),
            Row(kind, {"units": 4, "recurrent_dropout": 0.3, "dropout": 0.1}, ((7, 5),), is_random=True),
        ]
        rows += [
            row("Bidirectional", (7, 5), layer={kind: {"units": 4, "return_sequences": sequences}}, merge_mode=mode)
            for mode in ("concat", "sum", "mul", "ave", None)
            for sequences in (True, False)
        ]
        rows += [
            row("Bidirectional", (7, 5), layer={kind: {"units": 4, "activation": "relu", "return_sequences": True}}),
            row("Bidirectional", (7, 5), layer={kind: {"units": 4, "return_state": True}}),
            row("Bidirectional", (7, 5), *states, *states, layer={kind: {"units": 4}}),
        ]
    return [
        *rows,
        row("LSTM", (7, 5), units=4, recurrent_activation="hard_sigmoid", unit_forget_bias=False),
        row("GRU", (7, 5), units=4, reset_after=False),
        row("GRU", (7, 5), units=4, reset_after=False, use_bias=False, return_sequences=True),
        row("GRU", (7, 5), units=4, recurrent_activation="hard_sigmoid"),
        row(
            "Bidirectional",
            (7, 5),
            layer={"LSTM": {"units": 4, "return_sequences": True}},
            backward_layer={"GRU": {"units": 3, "return_sequences": True, "go_backwards": True}},
        ),
        row("TimeDistributed", (7, 5), layer={"Dense": {"units": 4, "activation": "relu"}}),
        row(
            "TimeDistributed", (3, 6, 7, 2), layer={"Conv2D": {"filters": 4, "kernel_size": [3, 2], "padding": "same"}}
        ),
        row("TimeDistributed", (3, 6, 7, 2), layer={"GlobalAveragePooling2D": {}}),
        row("TimeDistributed", (4, 7, 5), layer={"LSTM": {"units": 3}}),
        # one step after the other, because these compute by their batch
        row("TimeDistributed", (4, 7), layer={"BatchNormalization": {"momentum": 0.9, **BIASED}}),
        row("TimeDistributed", (4, 5, 6, 3), layer={"BatchNormalization": {"momentum": 0.9, **BIASED}}),
        row("TimeDistributed", (4, 7), layer={"BatchNormalization": {"renorm": True, "momentum": 0.9}}),
        row("TimeDistributed", (4, 7), layer={"BatchNormalization": {"trainable": False}}),
        row("TimeDistributed", (3, 4, 7), layer={"TimeDistributed": {"layer": {"BatchNormalization": BIASED}}}),
    ]


def _stacks() -> list[Row]:
    """RNN with a cell, or a stack of cells: each does what a recurrent layer, or a chain of them, does."""
    rows = []
    for kind, states in (("SimpleRNNCell", 1), ("LSTMCell", 2), ("GRUCell", 1)):
        one, other = {kind: {"units": 4}}, {kind: {"units": 3, "activation": "sigmoid", "use_bias": False}}
        rows += [
            row("RNN", (7, 5), cell=one),
            row("RNN", (7, 5), cell=other, return_sequences=True, go_backwards=True, return_state=True),
            row("RNN", (7, 5), cell=[one, other, one], return_state=True),
            row("RNN", (7, 5), *((4,),) * states, *((3,),) * states, cell=[one, other], return_sequences=True),
            row("Bidirectional", (7, 5), layer={"RNN": {"cell": one, "return_sequences": True}}, merge_mode="sum"),
            row("Bidirectional", (7, 5), layer={"RNN": {"cell": [one, other], "return_sequences": True}}),
        ]
    mixed = [{"LSTMCell": {"units": 4}}, {"GRUCell": {"units": 3, "reset_after": False}}, {"LSTMCell": {"units": 2}}]
    return [
        *rows,
        row("RNN", (7, 5), cell=mixed, return_sequences=True, return_state=True, go_backwards=True),
        row("RNN", (7, 5), cell={"StackedRNNCells": {"cells": mixed}}),
        row("RNN", (7, 5), cell={"StackedRNNCells": {"cells": mixed, "trainable": False}}),
        row("RNN", (7, 5), cell=[{"StackedRNNCells": {"cells": [{"GRUCell": {"units": 3}}]}}, *mixed]),
        row("RNN", (7, 5), cell=[{"GRUCell": {"units": 3}}], return_state=True),
        row("RNN", (7, 5), cell=[{"GRUCell": {"units": 4, "trainable": False}}, {"GRUCell": {"units": 4}}]),
        row("RNN", (7, 5), cell={"GRUCell": {"units": 4}}, trainable=False),
        row("RNN", (7, 5), (4,), (4,), cell={"LSTMCell": {"units": 4, "recurrent_activation": "hard_sigmoid"}}),
        row("Bidirectional", (7, 5), layer={"RNN": {"cell": mixed, "return_state": True}}, merge_mode=None),
        row(
            "Bidirectional",
            (7, 5),
            layer={"RNN": {"cell": mixed[:1], "return_sequences": True}},
            backward_layer={"GRU": {"units": 3, "return_sequences": True, "go_backwards": True}},
        ),
        row(
            "Bidirectional",
            (7, 5),
            *((4,), (3,)) * 2,
            layer={"RNN": {"cell": [{"GRUCell": {"units": 4}}, {"SimpleRNNCell": {"units": 3}}]}},
        ),
        row("TimeDistributed", (4, 7, 5), layer={"RNN": {"cell": mixed}}),
        row("TimeDistributed", (4, 7, 5), layer={"Bidirectional": {"layer": {"GRU": {"units": 3}}}}),
        Row("RNN", {"cell": [{"GRUCell": {"units": 4, "dropout": 0.3}}]}, ((7, 5),), is_random=True),
        Row(
            "RNN",
            {"cell": [{"LSTMCell": {"units": 4, "recurrent_dropout": 0.3}}, {"SimpleRNNCell": {"units": 3}}]},
            ((7, 5),),
            is_random=True,
        ),
    ]


def _convolutional_recurrents() -> list[Row]:
    rows = []
    for rank, sizes in ((1, (9,)), (2, (5, 7)), (3, (4, 5, 3))):
        kind, shape, kernel = f"ConvLSTM{rank}D", (3, *sizes, 2), [3, 2, 1][:rank] if rank > 1 else 3
        padded, strided = (*sizes, 4), (*(-(-size // 2) for size in sizes), 4)
        rows += [
            row(kind, shape, filters=4, kernel_size=kernel),
            row(kind, shape, filters=4, kernel_size=kernel, padding="same", return_sequences=True, return_state=True),
            row(kind, shape, filters=4, kernel_size=2, strides=2, padding="valid", use_bias=False, go_backwards=True),
            row(kind, shape, filters=4, kernel_size=3, strides=2, padding="same", activation="relu"),
            row(kind, shape, strided, strided, filters=4, kernel_size=kernel, strides=2, padding="same"),
            row(kind, shape, padded, padded, filters=4, kernel_size=2, padding="same", recurrent_activation="relu6"),
            row(kind, shape, filters=4, kernel_size=2, dilation_rate=2, return_state=True),
            row(kind, shape, filters=4, kernel_size=[2, 3, 2][:rank], padding="same", dilation_rate=2),
            Row(
                kind,
                {"filters": 4, "kernel_size": 2, "dropout": 0.3, "recurrent_dropout": 0.2, "padding": "same"},
                (shape,),
                is_random=True,
            ),
        ]
        for merge in ("concat", "mul", None):
            inner = {"filters": 4, "kernel_size": kernel, "return_sequences": merge != "mul", "padding": "same"}
            rows.append(row("Bidirectional", shape, layer={kind: inner}, merge_mode=merge))
    return [
        *rows,
        row("ConvLSTM2D", (3, 5, 7, 2), filters=4, kernel_size=3, activation="softmax", unit_forget_bias=False),
        row("ConvLSTM2D", (3, 5, 7, 2), filters=4, kernel_size=3, trainable=False),
        row(
            "Bidirectional", (3, 5, 7, 2), layer={"ConvLSTM2D": {"filters": 4, "kernel_size": 2, "return_state": True}}
        ),
        row("TimeDistributed", (4, 3, 7, 2), layer={"ConvLSTM1D": {"filters": 4, "kernel_size": 3}}),
        row(
            "TimeDistributed",
            (4, 3, 5, 7, 2),
            layer={"ConvLSTM2D": {"filters": 4, "kernel_size": 3, "return_sequences": True, "padding": "same"}},
        ),
    ]


def _attentions() -> list[Row]:
    return [
        row("Attention", (7, 5), (6, 5)),
        row("Attention", (7, 5), (6, 4), (6, 5), use_scale=True),
        row("Attention", (7, 5), (7, 5), use_scale=True, score_mode="concat", use_causal_mask=True),
        row("Attention", (7, 5), (6, 5), return_attention_scores=True),
        Row("Attention", {"dropout": 0.3}, ((7, 5), (6, 5)), is_random=True),
        row("AdditiveAttention", (7, 5), (6, 5)),
        row("AdditiveAttention", (7, 5), (7, 5), use_scale=False, use_causal_mask=True),
        row("MultiHeadAttention", (7, 6), (7, 6), num_heads=2, key_dim=3),
        row("MultiHeadAttention", (7, 6), (5, 4), num_heads=2, key_dim=3, value_dim=4, use_bias=False),
        row("MultiHeadAttention", (7, 6), (5, 4), (5, 3), num_heads=2, key_dim=3, output_shape=5),
        row("MultiHeadAttention", (7, 6), (7, 6), num_heads=2, key_dim=3, use_causal_mask=True),
        row("MultiHeadAttention", (7, 6), (7, 6), num_heads=2, key_dim=3, sliding_window=2, use_causal_mask=True),
        row("MultiHeadAttention", (7, 6), (7, 6), num_heads=2, key_dim=3, return_attention_scores=True, use_gate=True),
        row("MultiHeadAttention", (7, 6), (7, 6), num_heads=2, key_dim=3, output_shape=[3, 2]),
        row("MultiHeadAttention", (3, 4, 6), (3, 5, 6), num_heads=2, key_dim=3, attention_axes=2),
        row("MultiHeadAttention", (3, 4, 6), (3, 4, 6), num_heads=2, key_dim=3, return_attention_scores=True),
        Row("MultiHeadAttention", {"num_heads": 2, "key_dim": 3, "dropout": 0.3}, ((7, 6), (7, 6)), is_random=True),
        row("GroupQueryAttention", (7, 6), (5, 6), head_dim=3, num_query_heads=4, num_key_value_heads=2),
        row(
            "GroupQueryAttention", (7, 6), (7, 6), head_dim=3, num_query_heads=4, num_key_value_heads=2,
            use_causal_mask=True,
        ),
        row(
            "GroupQueryAttention", (7, 6), (5, 6), head_dim=3, num_query_heads=4, num_key_value_heads=1, use_gate=True,
            use_bias=False, return_attention_scores=True,
        ),
    ]  # fmt: skip


def _rotated_attentions() -> list[Row]:
    """Keras's layers have no rotary positions; a wavelength of 9 turns slowly and fast pairs alike."""
    many = {"num_heads": 2, "key_dim": 6}
    shared = {"head_dim": 4, "num_query_heads": 6, "num_key_value_heads": 2}
    cases: list[tuple[str, dict[str, Any], tuple[tuple[int, int], ...]]] = [
        ("MultiHeadAttention", {**many, "rope_max_wavelength": 10000.0}, ((7, 5), (7, 5))),
        ("MultiHeadAttention", {**many, "rope_max_wavelength": 9.0, "value_dim": 3}, ((7, 5), (4, 3))),
        ("MultiHeadAttention", {**many, "rope_max_wavelength": 9.0, "use_causal_mask": True}, ((7, 5), (7, 5))),
        ("GroupQueryAttention", {**shared, "rope_max_wavelength": 10000.0}, ((7, 5), (4, 5))),
        ("GroupQueryAttention", {**shared, "rope_max_wavelength": 9.0, "use_causal_mask": True}, ((7, 5), (7, 5))),
    ]
    return [Row(kind, fields, shapes, has_reference=False) for kind, fields, shapes in cases]


def _tokens() -> list[Row]:
    """None is in Keras; the values of a Parameter do not depend on its input."""
    return [
        Row("Parameter", {"shape": [4, 5]}, ((7, 3),), has_gradient=False, has_reference=False),
        Row("Parameter", {"shape": [6]}, ((7,),), "int64", has_reference=False),
        Row("Parameter", {"shape": []}, ((7,),), has_gradient=False, has_reference=False),
        Row("Parameter", {"shape": [2, 3, 4]}, ((7, 3),), has_gradient=False, has_reference=False),
        Row("ClassToken", {}, ((7, 5),), has_reference=False),
        Row("PositionEmbedding", {"sequence_length": 7}, ((7, 5),), has_reference=False),
        Row("PositionEmbedding", {"sequence_length": 9}, ((7, 5),), has_reference=False),
        Row("SinePositionEncoding", {}, ((7, 6),), has_reference=False),
        Row("SinePositionEncoding", {"max_wavelength": 100.0}, ((7, 5),), has_reference=False),
    ]


def _preprocessings() -> list[Row]:
    return [
        row("Rescaling", (4, 7, 3), scale=0.5, offset=-1.0),
        row("Rescaling", (4, 7, 3), scale=2),
        row("Rescaling", (4, 7, 3), scale=[0.5, 2.0, 3.0], offset=[1.0, 0.0, -1.0]),
        row("Normalization", (4, 7, 3), mean="loaded", variance="loaded"),
        row("Normalization", (7, 3), axis=1, mean="loaded", variance="loaded"),
        row("Normalization", (4, 7, 3), mean=[0.1, 0.2, 0.3], variance=[1.0, 0.0, 2.0]),
        row("Normalization", (4, 7, 3), mean=0.5, variance=2.0, axis=None),
        row("Normalization", (7, 3), mean=[0.1, 0.2, 0.3], variance=[1.0, 1.5, 2.0], invert=True),
        row("Resizing", (6, 7, 3), height=4, width=9),
        row("Resizing", (6, 7, 3), height=4, width=9, interpolation="nearest"),
        row("Resizing", (6, 9, 3), height=4, width=4, crop_to_aspect_ratio=True),
        row("Resizing", (6, 9, 3), height=4, width=4, pad_to_aspect_ratio=True, fill_value=0.5),
        row("Resizing", (9, 8, 3), height=4, width=5, antialias=True),
        Row("Resizing", {"height": 4, "width": 9, "interpolation": "bicubic"}, ((6, 7, 3),), has_reference=False),
        Row("Resizing", {"height": 4, "width": 9, "interpolation": "lanczos5"}, ((6, 7, 3),), has_reference=False),
        row("CenterCrop", (7, 8, 3), height=4, width=5),
        row("Masking", (7, 3)),
        row("Masking", (7, 2, 3), mask_value=2.0),
        row("CenterCrop", (3, 4, 3), height=5, width=6),
        row("CategoryEncoding", (6,), num_tokens=5, _dtype="int64"),
        row("CategoryEncoding", (1,), num_tokens=5, output_mode="one_hot", _dtype="int64"),
        row("CategoryEncoding", (6,), num_tokens=5, output_mode="one_hot", _dtype="int64"),
        row("CategoryEncoding", (6,), num_tokens=5, output_mode="count", _dtype="int64"),
        row("Discretization", (6,), bin_boundaries=[-1.0, 0.0, 0.5]),
        row("Discretization", (6,), bin_boundaries=[-1.0, 0.0, 0.5], output_mode="count"),
        row("Discretization", (1,), bin_boundaries=[-1.0, 0.0, 0.5], output_mode="one_hot"),
    ]


def _denses() -> list[Row]:
    return [
        row("Dense", (5,), units=3),
        row("Dense", (7, 5), units=3, activation="relu"),
        row("Dense", (2, 7, 5), units=3, use_bias=False, activation={"leaky_relu": 0.1}),
        row("Dense", (5,), units=4, activation="glu"),
        row("EinsumDense", (5,), equation="ab,bc->ac", output_shape=3, bias_axes="c"),
        row("EinsumDense", (7, 5), equation="abc,cd->abd", output_shape=[None, 4], bias_axes="d", activation="relu"),
        row("EinsumDense", (2, 7, 5), equation="...x,xy->...y", output_shape=4, bias_axes="y"),
        row("EinsumDense", (7, 5), equation="abc,cde->abde", output_shape=[None, 2, 3], bias_axes="de"),
        row("EinsumDense", (7, 5), equation="ab...,bc->ac...", output_shape=4, bias_axes="c"),
        row("EinsumDense", (7, 5), equation="abc,cd->abd", output_shape=[7, 4]),
        row("EinsumDense", (5,), equation="ab,b->a", output_shape=[]),
        row("EinsumDense", (7, 5), equation="abc,bc->a", output_shape=[], activation="tanh"),
        row("EinsumDense", (7, 5), equation="abc,cd->adb", output_shape=[4, 7], bias_axes="d"),
    ]


def _applications() -> list[Row]:
    return [
        row("LayerScale", (4, 5), init_values=1e-6, projection_dim=5),
        row("LayerScale", (5,), init_values=0.5, projection_dim=5),
        # Keras's own knows the last axis alone
        Row("LayerScale", {"init_values": 0.5, "projection_dim": 7, "axis": 2}, ((4, 7, 5),), has_reference=False),
        Row("StochasticDepth", {"drop_path_rate": 0.3}, ((4, 7, 5),), is_random=True),
        row("CustomScaleLayer", (4, 7, 5), (4, 7, 5), scale=0.3),
    ]


def _in_both_formats(rows: list[Row]) -> list[Row]:
    """Rows of channels last, and those of kinds with a data_format in channels first too."""
    both = list(rows)
    for each in rows:
        kind = KINDS[each.kind]
        if each.fields.get("activation") == "softmax" or isinstance(each.fields.get("activation"), dict):
            continue  # Keras works along the last axis there, whatever it is
        if issubclass(kind, Spatial) and not each.kind.endswith(("Cropping1D", "UpSampling1D", "SpatialDropout1D")):
            kept = 1 if each.kind.startswith("ConvLSTM") else 0  # the axis of steps comes before the channels
            first, *states = each.shapes
            shapes = (
                (*first[:kept], first[-1], *first[kept:-1]),
                *((shape[-1], *shape[:-1]) for shape in states),
            )
            has_reference = each.has_reference and each.kind != "AutoContrast"  # Keras takes the first axes there too
            both.append(replace(each, shapes=shapes, data_format="channels_first", has_reference=has_reference))
    both += [
        Row("BatchNormalization", BIASED, ((5, 4, 7),), data_format="channels_first"),
        Row("BatchNormalization", BIASED, ((5,),), data_format="channels_first"),
        Row("GroupNormalization", {"groups": 3}, ((6, 4, 7),), data_format="channels_first"),
        Row("Concatenate", {}, ((5, 4, 7), (2, 4, 7)), data_format="channels_first"),
        Row("Concatenate", {}, ((4, 7), (4, 2)), data_format="channels_first"),
    ]
    return both


ROWS = _in_both_formats(
    [
        *_denses(),
        *_embeddings(),
        *_convolutions(),
        *_poolings(),
        *_normalizations(),
        *_activations(),
        *_reshapings(),
        *_mergings(),
        *_dropouts(),
        *_recurrents(),
        *_stacks(),
        *_convolutional_recurrents(),
        *_attentions(),
        *_rotated_attentions(),
        *_tokens(),
        *_preprocessings(),
        *(Row(**each) for each in IMAGE_ROWS),
        *_applications(),
        *OPERATIONS,
    ]
)
