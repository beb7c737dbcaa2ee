"""Random specs of small networks, and random units of them that are made zero, for `test_shrinking.py`."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from regspec.graph.loading import graph_of
from regspec.modules.shrinking.arrays import Held, held_in
from regspec.specs.model import ModelSpec
from regspec.targets.torch.program import program_of

Entry = dict[str, Any]
ACTIVATIONS = ("relu", "tanh", "sigmoid", "elu", "linear", {"leaky_relu": {"negative_slope": 0.1}})


def random_spec(seed: int) -> Entry:
    """A network of images or sequences, with blocks, sums, concatenations, groups, norms, calls, recurrent layers."""
    rng = random.Random(seed)
    return (_images if rng.random() < 0.6 else _sequences)(rng)


def _images(rng: random.Random) -> Entry:
    width = rng.choice((6, 8))
    blocks = {
        "residual": {
            "parameters": {"filters": width, "inner": 5},
            "layers": [
                {"Conv2D": {"name": "a", "filters": "$inner", "kernel_size": 3, "padding": "same",
                            "use_bias": rng.random() < 0.5}},
                "BatchNormalization",
                {"Activation": rng.choice(("relu", "tanh"))},
                {"Conv2D": {"name": "b", "filters": "$filters", "kernel_size": 1}},
                {"Add": {"inputs": ["b", "input"]}},
                {"ReLU": {"name": "out"}},
            ],
        },
        "branches": {
            "layers": [
                {"Conv2D": {"name": "left", "filters": 4, "kernel_size": [1, 3], "padding": "same", "inputs": "input"}},
                {"SeparableConv2D": {"name": "right", "filters": 3, "kernel_size": 3, "padding": "same",
                                     "inputs": "input"}},
                {"Concatenate": {"inputs": ["left", "right"]}},
                {"BatchNormalization": {"name": "bn"}},
            ]
        },
    }  # fmt: skip
    layers: list[Any] = [
        {"Conv2D": {"name": "stem", "filters": width, "kernel_size": 3, "activation": rng.choice(ACTIVATIONS)}}
    ]
    parts: list[Callable[[], list[Any]]] = [
        lambda: [{"residual": {"repeat": rng.choice((1, 2, 3))}}],
        lambda: [{"residual": {"inner": 7}}],
        lambda: ["branches", {"Conv2D": {"filters": width, "kernel_size": 1}}],
        lambda: [
            {"DepthwiseConv2D": {"kernel_size": 3, "depth_multiplier": rng.choice((1, 2)), "padding": "same"}},
            "BatchNormalization",
            {"Conv2D": {"filters": width, "kernel_size": 1, "activation": "relu"}},
        ],
        lambda: [{"Conv2D": {"filters": width, "kernel_size": 3, "groups": 2, "padding": "same"}}, "PReLU"],
        lambda: [{"Conv2D": {"filters": width, "kernel_size": 1}}, {"SpatialDropout2D": 0.2}],
        lambda: [{"MaxPooling2D": {"pool_size": 2, "strides": 1, "padding": "same"}}],
        lambda: [{"ZeroPadding2D": 1}, {"Conv2D": {"filters": width, "kernel_size": 3}}],
    ]
    for _ in range(rng.randint(1, 4)):
        layers += rng.choice(parts)()
    if rng.random() < 0.4:
        layers += [
            {"Conv2D": {"name": "shared", "filters": width, "kernel_size": 1, "activation": "relu"}},
            {"call": {"layer": "shared", "name": "again"}},
        ]
    layers += [{"GlobalAveragePooling2D": {}}] if rng.random() < 0.5 else [{"AveragePooling2D": 2}, "Flatten"]
    layers += [{"Dense": {"units": 9, "activation": rng.choice(ACTIVATIONS)}}, {"Dropout": 0.1}]
    layers += [{"Dense": {"units": 3, "activation": rng.choice(("softmax", "linear"))}}]
    return {"inputs": {"image": {"shape": [2, 8, 7]}}, "blocks": blocks, "layers": layers}


def _sequences(rng: random.Random) -> Entry:
    blocks = {
        "encoder": {
            "layers": [
                {"MultiHeadAttention": {"name": "heads", "num_heads": 3, "key_dim": 2, "value_dim": rng.choice((2, 3)),
                                        "inputs": ["input", "input"]}},
                {"Add": {"name": "sum", "inputs": ["heads", "input"]}},
                {"LayerNormalization": {"name": "norm"}},
                {"Dense": {"name": "wide", "units": 7, "activation": rng.choice(("relu", "gelu"))}},
                {"Dense": {"name": "narrow", "units": 6}},
                {"Add": {"inputs": ["norm", "narrow"]}},
            ]
        }
    }  # fmt: skip
    tokens = rng.random() < 0.4
    first: Entry = {"Embedding": {"input_dim": 11, "output_dim": 6, "mask_zero": rng.random() < 0.5}}
    layers: list[Any] = [first if tokens else {"Dense": {"units": 6}}]
    parts: list[Callable[[], list[Any]]] = [
        lambda: [{rng.choice(("LSTM", "GRU", "SimpleRNN")): {"units": 6, "return_sequences": True}}],
        lambda: [{"GRU": {"units": 6, "return_sequences": True, "reset_after": False}}],
        lambda: [{"Bidirectional": {"layer": {"LSTM": {"units": 3, "return_sequences": True}}}}],
        lambda: [{"Bidirectional": {"layer": {"GRU": {"units": 6, "return_sequences": True}}, "merge_mode": "sum"}}],
        lambda: [{"RNN": {"cell": [{"LSTMCell": 4}, {"GRUCell": {"units": 6}}], "return_sequences": True}}],
        lambda: [{"encoder": {"repeat": rng.choice((1, 2))}}],
        lambda: [{"TimeDistributed": {"layer": {"Dense": {"units": 6, "activation": "relu"}}}}],
        lambda: [{"Conv1D": {"filters": 6, "kernel_size": 3, "padding": "causal"}}, "BatchNormalization"],
        lambda: [{"EinsumDense": {"equation": "abc,cd->abd", "output_shape": [None, 6], "bias_axes": "d"}}],
    ]  # fmt: skip
    for _ in range(rng.randint(1, 3)):
        layers += rng.choice(parts)()
    layers += [{"LSTM": {"units": 5}}] if rng.random() < 0.5 else [{"Mean": {"axis": 1}}]
    layers += [{"Dense": {"units": 6, "activation": rng.choice(ACTIVATIONS)}}, {"Dense": 2}]
    given: Entry = {"shape": [7], "dtype": "int32"} if tokens else {"shape": [7, 4]}
    return {"inputs": {"x": given}, "blocks": blocks, "layers": layers}


def with_zeros(model: nn.Module, spec: ModelSpec, seed: int, share: float = 0.3) -> None:
    """Draws every parameter of a model anew, and makes random slices zero: what makes units, and what takes them."""
    rng = np.random.default_rng(seed)
    state = model.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point() and not name.endswith(("bias_hh_l0", "bias_hh_l0_reverse")):
            fresh = rng.uniform(0.5, 1.5, tensor.shape) if "running_var" in name else rng.normal(0, 0.5, tensor.shape)
            tensor.copy_(torch.as_tensor(fresh))
    layers: dict[str, dict[str, Held]] = {}
    for (path, name), each in held_in(program_of(graph_of(spec))).items():
        layers.setdefault(path, {})[name] = each
    for held in layers.values():
        arrays = {name: each.array(state).copy() for name, each in held.items()}
        for index in _slices(arrays, held, rng, share):
            for name, at in index.items():
                arrays[name][at] = 0
        for name, each in held.items():
            for key, value in each.parameters(arrays[name]).items():
                state[key].copy_(torch.as_tensor(value))
    model.load_state_dict(state)


def _slices(
    arrays: dict[str, Any], held: dict[str, Held], rng: np.random.Generator, share: float
) -> Iterator[dict[str, Any]]:
    """Indices of weights of a layer that are made zero together."""
    for name, array in arrays.items():
        prefix, _, slot = name.rpartition(".")
        own = f"{prefix}." if prefix else ""
        letters = [letter[0] for letter in held[name].weight.pattern.keras]
        if slot in ("gamma", "beta", "bias", "recurrent", "alpha") and slot != "gamma":
            continue
        if rng.random() < 0.25 and "i" in letters and "recurrent" not in arrays:  # nothing takes some inputs
            axis = letters.index("i")
            yield {name: _at(array.ndim, axis, rng.random(array.shape[axis]) < share)}
        if slot == "gamma":
            off = rng.random(array.shape) < share
            yield {name: off, **({f"{own}beta": off} if f"{own}beta" in arrays and rng.random() < 0.6 else {})}
        elif "o" in letters and rng.random() < 0.8:
            axis = letters.index("o")
            gates = array.shape[axis] // arrays[f"{own}recurrent"].shape[0] if f"{own}recurrent" in arrays else 1
            off = np.tile(rng.random(array.shape[axis] // gates) < share, gates)
            found = {name: _at(array.ndim, axis, off)}
            if f"{own}recurrent" in arrays:
                found[f"{own}recurrent"] = _at(2, 1, off)
            bias = arrays.get(f"{own}bias")
            if bias is not None and rng.random() < 0.6 and bias.shape[-1] == len(off):
                found[f"{own}bias"] = _at(bias.ndim, bias.ndim - 1, off)
            yield found


def _at(rank: int, axis: int, off: Any) -> Any:
    return tuple(off if each == axis else slice(None) for each in range(rank))
