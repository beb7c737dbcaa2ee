"""Blocks as classes: how many, with which parameters; they compute what the same layers do without blocks."""

from __future__ import annotations

import copy
import io
import pickle
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

import regspec


@dataclass(frozen=True)
class Case:
    """A spec with blocks, and what its source has."""

    text: str
    classes: int  # besides the model's own
    has: tuple[str, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ((4, 9, 8),)


CASES = {
    "copies whose numbers begin alike and grow then": Case(
        """
        inputs: {x: {shape: [4]}}
        blocks:
          wide:
            parameters: {units: null}
            layers: [Dense: {name: up, units: $units}, Dense: {name: down, units: 4}]
        layers: [wide: {repeat: {units: [5, 5, 6, 7]}}, Dense: {units: 2}]
        """,
        1,
        ("nn.Sequential(*[Wide(units=5) for _ in range(2)], Wide(units=6), Wide(units=7))",),
        ((4,),),
    ),
    "a dilation": Case(
        """
        inputs: {x: {shape: [4, 9], axes: [channels, length]}}
        blocks:
          residual:
            parameters: {dilation: null, filters: 4}
            layers:
              - Conv1D: {name: filter, filters: $filters, kernel_size: 3, dilation_rate: $dilation, padding: causal}
              - Add: {name: out, inputs: [input, filter]}
        layers: [residual: {dilation: 1}, residual: {dilation: 2}, residual: {dilation: 4}, Flatten, Dense: {units: 2}]
        """,
        1,
        (
            "def __init__(self, dilation: int) -> None:",
            "self.filter = nn.Conv1d(4, 4, 3, dilation=dilation)",
            "F.pad(input, (self.dilation * 2, 0))",
            "Residual(dilation=4)",
        ),
        ((4, 9),),
    ),
    "a stride, with padding at one side or both": Case(
        """
        inputs: {x: {shape: [3, 8, 7]}}
        blocks:
          down:
            parameters: {filters: null, strides: 1}
            layers:
              - Conv2D: {name: conv, filters: $filters, strides: $strides, kernel_size: [3, 2], padding: same}
              - Conv2D: {name: plain, filters: 5, kernel_size: 1}
        layers: [down: {filters: 4}, down: {filters: 6, strides: 2}, down: {filters: 2, strides: 2}, Flatten]
        """,
        1,
        (
            "def __init__(self, in_channels: int, filters: int, strides: int, padding: tuple[int, ...]) -> None:",
            "nn.Conv2d(in_channels, filters, (3, 2), stride=strides)",
            "F.pad(input, self.padding)",
            "self.plain = nn.Conv2d(filters, 5, 1)",
        ),
        ((3, 8, 7),),
    ),
    "zeros that two convolutions add alike": Case(
        """
        inputs: {x: {shape: [4, 30], axes: [channels, length]}}
        blocks:
          gated:
            parameters: {dilation: null}
            layers:
              - Conv1D: {name: filter, filters: 4, kernel_size: 2, dilation_rate: $dilation, padding: causal}
              - Conv1D:
                  {name: gate, inputs: input, filters: 4, kernel_size: 2, dilation_rate: $dilation, padding: causal}
              - Multiply: {name: z, inputs: [filter, gate]}
              - Add: {name: out, inputs: [input, z]}
        layers:
          - gated: {dilation: 1}
          - gated: {name: last, dilation: 3}
          - Conv1D: {name: a, filters: 3, kernel_size: 3, padding: causal}
          - Conv1D: {name: b, inputs: last, filters: 3, kernel_size: 3, padding: causal, activation: relu}
          - Conv1D: {name: c, inputs: last, filters: 3, kernel_size: 2, padding: causal}
          - Add: {name: sum, inputs: [a, b, c]}
        """,
        1,
        (
            "input_padded = F.pad(input, (self.dilation, 0))",
            "self.filter(input_padded) * self.gate(input_padded)",
            "last_padded = F.pad(last, (2, 0))",
            "self.c(F.pad(last, (1, 0)))",
        ),
        ((4, 30),),
    ),
    "zeros that two convolutions add alike at some uses alone": Case(
        """
        inputs: {x: {shape: [4, 30], axes: [channels, length]}}
        blocks:
          pair:
            parameters: {one: 1, two: 1}
            layers:
              - Conv1D: {name: a, filters: 4, kernel_size: 2, dilation_rate: $one, padding: causal}
              - Conv1D: {name: b, inputs: input, filters: 4, kernel_size: 2, dilation_rate: $two, padding: causal}
              - Add: {name: sum, inputs: [a, b]}
        layers: [pair: {one: 2, two: 2}, pair: {one: 3}, pair: {two: 4}]
        """,
        1,
        ("F.pad(input, (self.one, 0))", "F.pad(input, (self.two, 0))"),
        ((4, 30),),
    ),
    "a padding that is another for another stride": Case(
        """
        inputs: {x: {shape: [3, 16, 16]}}
        blocks:
          down:
            parameters: {filters: null, strides: 1, padding: 4}
            layers:
              - Conv2D: {name: conv, filters: $filters, strides: $strides, kernel_size: 3, padding: same}
              - Conv2D: {name: narrow, filters: $padding, kernel_size: 1}
        layers:
          - down: {filters: 4}
          - down: {filters: 6, strides: 2, padding: 5}
          - down: {filters: 2, padding: 3}
          - down: {filters: 2, strides: 2}
        """,
        1,
        (
            "def __init__(self, in_channels: int, filters: int, strides: int, padding: int) -> None:",
            "self.padding = (1, 1, 1, 1) if strides == 1 else (0, 1, 0, 1)",
            "F.pad(input, self.padding)",
        ),
        ((3, 16, 16),),
    ),
    "a separable convolution with strides": Case(
        """
        inputs: {x: {shape: [3, 8, 7]}}
        blocks:
          down:
            parameters: {filters: null, strides: 1}
            layers: [SeparableConv2D: {name: conv, filters: $filters, strides: $strides, kernel_size: 3, padding: same}]
        layers: [down: {filters: 4}, down: {filters: 6, strides: 2}, Flatten, Dense: {units: 2}]
        """,
        1,
        ("F.pad(input, self.padding)",),
        ((3, 8, 7),),
    ),
    "parameters that hide what the class uses": Case(
        """
        name: net
        inputs: {x: {shape: [7, 3]}}
        blocks:
          rec:
            parameters: {LSTM: 2, L2: 3, Rec: 1, Net: 2}
            layers:
              - LSTM: {name: l, units: $LSTM, activation: relu, return_sequences: true}
              - Dense: {name: d, units: $L2, kernel_regularizer: {l2: 0.1}}
              - Dense: {name: e, units: $Rec}
              - Dense: {name: f, units: $Net}
        layers: [rec: {LSTM: 4, Rec: 3}, rec: {L2: 5, Net: 1}, rec: {LSTM: 3, L2: 7, Net: 4}]
        """,
        1,
        ("LSTM(in_features, LSTM_, ", "[LSTM_ : LSTM_ * 2]"),
        ((7, 3),),
    ),
    "a stride, with padding at both sides": Case(
        """
        inputs: {x: {shape: [3, 9, 7]}}
        blocks:
          down:
            parameters: {strides: 1}
            layers: [Conv2D: {name: conv, filters: 3, strides: $strides, kernel_size: 3, padding: same}]
        layers: [down, down: {strides: 2}, Flatten, Dense: {units: 2}]
        """,
        1,
        ("nn.Conv2d(3, 3, 3, stride=strides, padding=1)",),
        ((3, 9, 7),),
    ),
    "a rate and strengths": Case(
        """
        inputs: {x: {shape: [5]}}
        blocks:
          hidden:
            parameters: {rate: 0.5, strength: 1e-3, activity: 0.1}
            layers:
              - Dense:
                  name: dense
                  units: 5
                  kernel_regularizer: {l1: 1e-4, l2: $strength}
                  activity_regularizer: {l1: $activity}
              - Dropout: {name: drop, rate: $rate}
        layers: [hidden: {rate: 0.1}, hidden: {strength: 0.2}, hidden: {rate: 0.3, activity: 0.7}]
        """,
        1,
        ("rate: float, strength: float, activity: float", "self.drop = nn.Dropout(rate)"),
        ((5,),),
    ),
    "copies alike, and those whose first is not": Case(
        """
        inputs: {x: {shape: [6]}}
        blocks:
          dense:
            parameters: {units: null}
            layers: [Dense: {name: linear, units: $units, activation: tanh, kernel_regularizer: {l2: 0.1}}]
        layers:
          - dense: {name: one, units: 6, repeat: 3}
          - dense: {name: two, units: 4, repeat: 3}
          - dense: {name: three, units: 3, repeat: 1}
        """,
        1,
        (
            "self.one = nn.Sequential(*[Dense(in_features=6, units=6) for _ in range(3)])",
            "self.two = nn.Sequential(",
            "x = self.two(x)",
        ),
        ((6,),),
    ),
    "how often a block in a block is repeated": Case(
        """
        inputs: {x: {shape: [6]}}
        blocks:
          dense:
            parameters: {units: null}
            layers: [Dense: {name: linear, units: $units, activation: tanh}]
          stage:
            parameters: {units: null, depth: 1}
            layers: [dense: {units: $units, repeat: $depth}, LayerNormalization: {name: norm}]
        layers: [stage: {units: 4}, stage: {units: 5, depth: 3}, stage: {units: 5, depth: 2}]
        """,
        2,
        (
            "*[Dense(in_features=units, units=units) for _ in range(depth - 1)]",
            "Stage(in_features=5, units=5, depth=2)",
        ),
        ((6,),),
    ),
    "several tensors in a loop": Case(
        """
        inputs: {a: {shape: [4]}, b: {shape: [4]}}
        blocks:
          exchange:
            inputs: [left, right]
            layers:
              - Dense: {name: to_right, inputs: left, units: 4}
              - Dense: {name: to_left, inputs: right, units: 4, activation: tanh}
            outputs: {left: to_left, right: to_right}
          grown:
            inputs: [state, given]
            layers:
              - Concatenate: {name: both, inputs: [state, given]}
              - Dense: {name: new, units: 4, kernel_regularizer: {l1: 0.1}}
        layers:
          - exchange: {name: ex, inputs: [a, b], repeat: 3}
          - grown: {name: grown, inputs: [ex.left, b], repeat: 2}
          - Add: {name: sum, inputs: [grown, ex.right]}
        """,
        2,
        (
            "ex_left, ex_right = a, b\n        for block in self.ex:\n",
            "    ex_left, ex_right = block(ex_left, ex_right)",
            "for block in self.grown:\n            grown = block(grown, b)",
            "nn.ModuleList([Grown() for _ in range(2)])",
        ),
        ((4,), (4,)),
    ),
    "a copy whose output is taken twice, and one that is called again": Case(
        """
        inputs: {x: {shape: [4]}}
        blocks:
          dense: {layers: [Dense: {name: linear, units: 4, activation: tanh, activity_regularizer: {l2: 0.1}}]}
        layers:
          - dense: {name: d, repeat: 3}
          - Add: {name: sum, inputs: [d_1, d_3]}
          - call: {layer: d_2, name: again, inputs: sum}
        """,
        1,
        (
            "d_1 = self.d[0](x)",
            "d_2 = self.d[1](d_1)",
            "return self.d[1](x)",
            "nn.ModuleList([Dense() for _ in range(3)])",
        ),
        ((4,),),
    ),
    "numbers in the forward, negative ones too": Case(
        """
        inputs: {x: {shape: [4, 6]}}
        blocks:
          moved:
            parameters: {scale: 1.0, offset: 0.0, shape: null}
            layers:
              - Rescaling: {name: r, scale: $scale, offset: $offset}
              - Reshape: {name: s, target_shape: $shape}
        layers: [moved: {scale: 0.5, offset: -1.0, shape: [6, 4]}, moved: {scale: 2.0, offset: 3.0, shape: [8, 3]}]
        """,
        1,
        (),
        ((4, 6),),
    ),
    "parameters that are called like something else": Case(
        """
        inputs: {x: {shape: [2, 9], axes: [channels, length]}}
        blocks:
          odd:
            parameters: {hidden: 1, lambda: 1, nn: 1, training: 1, Conv1D: 1}
            layers:
              - Conv1D: {name: hidden, filters: 2, kernel_size: 2, padding: causal, dilation_rate: $hidden}
              - Conv1D: {name: b, filters: 2, kernel_size: 2, padding: causal, dilation_rate: $lambda}
              - Conv1D: {name: c, filters: 2, kernel_size: 2, padding: causal, dilation_rate: $nn}
              - Conv1D: {name: d, filters: 2, kernel_size: 2, padding: causal, dilation_rate: $training}
              - Conv1D: {name: e, filters: 2, kernel_size: 2, padding: causal, dilation_rate: $Conv1D}
        layers: [odd, odd: {hidden: 2}, odd: {lambda: 2}, odd: {nn: 2}, odd: {training: 2}, odd: {Conv1D: 2}]
        """,
        1,
        ("self.hidden_ = hidden", "self.training_ = training"),
        ((2, 9),),
    ),
    "zeros before a convolution, with strides or a dilation": Case(
        """
        inputs: {x: {shape: [3, 9, 9]}}
        blocks:
          b:
            parameters: {s: 1, d: 1}
            layers:
              - ZeroPadding2D: {name: zeros, padding: 1}
              - Conv2D: {name: c, filters: 3, kernel_size: 3, strides: $s, dilation_rate: $d}
        layers: [b: {s: 2}, b: {d: 2}, Flatten]
        """,
        1,
        ("nn.Conv2d(3, 3, 3, stride=s, padding=1, dilation=d)",),
        ((3, 9, 9),),
    ),
    "zeros before a convolution that pads at one side in some": Case(
        """
        inputs: {x: {shape: [3, 8, 8]}}
        blocks:
          b:
            parameters: {s: 1}
            layers:
              - ZeroPadding2D: {name: zeros, padding: 1}
              - Conv2D: {name: c, filters: 3, kernel_size: 3, strides: $s}
              - Conv2D: {name: e, filters: 3, kernel_size: 3, strides: $s, padding: same}
        layers: [b, b: {s: 2}, Flatten]
        """,
        1,
        (),
        ((3, 8, 8),),
    ),
    "a convolution that is called again, and pads otherwise in some": Case(
        """
        inputs: {x: {shape: [3, 8, 8]}}
        blocks:
          b:
            parameters: {k: 3, s: 1}
            layers:
              - Conv2D: {name: c, filters: 3, kernel_size: $k, strides: $s, padding: same}
              - call: {layer: c, name: again}
        layers: [b: {k: 3}, b: {k: 2, s: 2}, Flatten]
        """,
        1,
        (),
        ((3, 8, 8),),
    ),
    "attributes that would have one name": Case(
        """
        inputs: {x: {shape: [2, 16], axes: [channels, length]}}
        blocks:
          conv: {layers: [Conv1D: {name: c, filters: 2, kernel_size: 1}]}
          odd:
            parameters: {hidden: 1, hidden_: 1, stage: 1}
            layers:
              - Conv1D: {name: hidden, filters: 2, kernel_size: 2, padding: causal, dilation_rate: $hidden}
              - Conv1D: {name: b, filters: 2, kernel_size: 2, padding: causal, dilation_rate: $hidden_}
              - conv: {name: stage, repeat: 2}
              - Conv1D: {name: d, filters: 2, kernel_size: 2, padding: causal, dilation_rate: $stage}
        layers: [odd: {hidden: 2, hidden_: 3}, odd: {hidden: 4, stage: 2}, odd: {hidden_: 5, stage: 3}]
        """,
        2,
        ("self.hidden_ = hidden\n", "self.hidden__ = hidden_\n", "self.stage_ = stage\n"),
        ((2, 16),),
    ),
    "copies that give one named tensor, and one copy that gives more than it takes": Case(
        """
        inputs: {x: {shape: [4]}}
        blocks:
          one: {layers: [Dense: {name: e, units: 4}], outputs: {e: e}}
          two: {layers: [Dense: {name: c, units: 4}, Dense: {name: e, units: 4}], outputs: [c, e]}
        layers: [one: {name: o, repeat: 3}, two: {name: p, repeat: 1}, Add: {name: sum, inputs: [p.c, p.e]}]
        """,
        2,
        ("(x,) = block(x)",),
        ((4,),),
    ),
    "copies with a value each, whose first output goes on": Case(
        """
        inputs: {x: {shape: [4, 30], axes: [channels, length]}}
        parameters: {most: 8}
        blocks:
          residual:
            parameters: {dilation: null, filters: 4}
            layers:
              - Conv1D: {name: gate, filters: $filters, kernel_size: 2, dilation_rate: $dilation, padding: causal}
              - Conv1D: {name: skip, filters: $filters, kernel_size: 1}
              - Add: {name: out, inputs: [input, skip]}
            outputs: {out: out, skip: skip}
        layers:
          - residual: {name: r, repeat: {dilation: [1, 2, $most]}}
          - Add: {name: skips, inputs: [r_1.skip, r_2.skip, r.skip, r.out]}
        """,
        1,
        (
            "nn.ModuleList([Residual(dilation=1), Residual(dilation=2), Residual(dilation=8)])",
            "r_2_out, r_2_skip = self.r[1](r_1_out)",
        ),
        ((4, 30),),
    ),
    "copies with two values each, and one for all": Case(
        """
        inputs: {x: {shape: [3, 16, 16]}}
        blocks:
          conv:
            parameters: {filters: 4, strides: 1, size: 3}
            layers:
              - Conv2D: {name: c, filters: $filters, strides: $strides, kernel_size: $size, kernel_regularizer: l2}
        layers: [conv: {name: stage, size: 2, repeat: {filters: [4, 6, 5], strides: [2, 1, 1]}}]
        """,
        1,
        (
            "self.stage = nn.Sequential(",
            "Conv(in_channels=3, filters=4, strides=2),",
            "Conv(in_channels=6, filters=5, strides=1),",
            "return self.stage(x)",
        ),
        ((3, 16, 16),),
    ),
    "one copy with a value of its own": Case(
        """
        inputs: {x: {shape: [4]}}
        blocks: {mlp: {parameters: {units: 3}, layers: [Dense: {name: d, units: $units}]}}
        layers: [mlp: {name: m, repeat: {units: [5]}}, Dense: {name: last, inputs: m_1, units: 2}]
        """,
        1,
        ("self.m = nn.Sequential(Mlp())",),
        ((4,),),
    ),
    "a block that is called as the model": Case(
        """
        name: net
        inputs: {x: {shape: [4]}}
        blocks: {net: {parameters: {units: 3}, layers: [Dense: {name: d, units: $units}]}}
        layers: [net: {units: 5}, net: {units: 2}]
        """,
        1,
        ("class NetBlock(nn.Module):", "class Net(nn.Module):"),
        ((4,),),
    ),
    "a recurrent layer of several sizes": Case(
        """
        inputs: {x: {shape: [7, 3]}}
        blocks:
          steps: {parameters: {units: 3}, layers: [LSTM: {name: lstm, units: $units, return_sequences: true}]}
        layers: [steps: {units: 5}, steps: {units: 4}, steps: {units: 2}, Flatten]
        """,
        1,
        (),
        ((7, 3),),
    ),
    "what a block computes from its parameter": Case(
        """
        parameters: {expansion: 3}
        inputs: {x: {shape: [7]}}
        blocks:
          mlp:
            parameters: {units: null, inner: $units * $expansion, reduced: $units // 2}
            layers:
              - Dense: {name: up, units: $inner}
              - LayerNormalization: {name: norm}
              - Dense: {name: gate, units: $reduced}
              - Dense: {name: down, units: $units * 2}
        layers: [mlp: {units: 4}, mlp: {units: 7}, mlp: {units: 10}]
        """,
        1,
        (
            "def __init__(self, in_features: int, units: int) -> None:",
            "inner = units * 3",
            "self.norm = nn.LayerNorm(inner, eps=0.001)",
            "reduced = units // 2",
            "self.gate = nn.Linear(inner, reduced)",
            "self.down = nn.Linear(reduced, units * 2)",
            "Mlp(in_features=8, units=7)",
        ),
        ((7,),),
    ),
    "a parameter that is computed, but given at one use": Case(
        """
        inputs: {x: {shape: [7]}}
        blocks:
          mlp:
            parameters: {units: null, inner: $units * 3}
            layers:
              - Dense: {name: up, units: $inner}
              - Dense: {name: down, units: $units}
        layers: [mlp: {units: 4}, mlp: {units: 5, inner: 11}, mlp: {units: 6}]
        """,
        1,
        ("inner: int, units: int", "nn.Linear(inner, units)", "Mlp(in_features=4, inner=11, units=5)"),
        ((7,),),
    ),
    "formulas of two parameters, sums, and what is computed from these": Case(
        """
        parameters: {less: -1}
        inputs: {x: {shape: [7]}}
        blocks:
          mlp:
            parameters: {units: null, factor: null, inner: $units * $factor, more: $units + 3, most: $more * 2}
            layers:
              - Dense: {name: up, units: $inner}
              - Dense: {name: side, units: $more}
              - Dense: {name: wide, units: $most}
              - Dense: {name: odd, units: 40 - ($units - $factor) * 2 + $less}
              - Dense: {name: even, units: $factor * $more % 9 + 1}
              - Dense: {name: down, units: $units}
        layers: [mlp: {units: 4, factor: 2}, mlp: {units: 5, factor: 3}, mlp: {units: 8, factor: 5}]
        """,
        1,
        (
            "def __init__(self, in_features: int, units: int, factor: int) -> None:",
            "inner = units * factor",
            "more = units + 3",
            "most = more * 2",
            "self.odd = nn.Linear(most, 40 - (units - factor) * 2 + (-1))",
            "self.even = nn.Linear(40 - (units - factor) * 2 + (-1), factor * more % 9 + 1)",
            "Mlp(in_features=5, units=8, factor=5)",
        ),
        ((7,),),
    ),
    "a formula of a formula, in a method": Case(
        """
        inputs: {x: {shape: [2, 40], axes: [channels, length]}}
        blocks:
          conv:
            parameters: {rate: null, wide: $rate + 1}
            layers:
              - Conv1D: {name: c, filters: 2, kernel_size: 2, padding: causal, dilation_rate: $wide * 2}
        layers: [conv: {rate: 1}, conv: {rate: 2}, conv: {rate: 4}]
        """,
        1,
        ("dilation=(rate + 1) * 2", "F.pad(input, ((self.rate + 1) * 2, 0))"),
        ((2, 40),),
    ),
    "a formula that is a float at one use": Case(
        """
        inputs: {x: {shape: [7]}}
        blocks:
          mlp:
            parameters: {units: null, times: null}
            layers: [Dense: {name: up, units: $units * $times}, Dense: {name: down, units: $units}]
        layers: [mlp: {units: 4, times: 2}, mlp: {units: 5, times: 3}, mlp: {units: 8, times: 1.5}]
        """,
        1,
        ("def __init__(self, in_features: int, out_features: int, units: int) -> None:",),
        ((7,),),
    ),
    "what is whole in a spec is whole in a class": Case(
        """
        parameters: {more: 1.5, ten: 1e1}
        inputs: {x: {shape: [7]}}
        blocks:
          mlp:
            parameters: {units: null}
            layers:
              - Dense: {name: a, units: $units / 2}
              - Dense: {name: b, units: $units * $more}
              - Dense: {name: c, units: $units / 4 * 10}
              - Dense: {name: d, units: $units * 03}
              - Dense: {name: e, units: $units * $ten // 3}
              - Dropout: {name: f, rate: $units / 100}
              - Dropout: {name: g, rate: $units / 4 / 100}
        layers: [mlp: {units: 4}, mlp: {units: 10}, mlp: {units: 14}]
        """,
        1,
        (
            "self.a = nn.Linear(in_features, units // 2)",
            "self.b = nn.Linear(units // 2, int(units * 1.5))",
            "self.c = nn.Linear(int(units * 1.5), int(units / 4 * 10))",
            "self.d = nn.Linear(int(units / 4 * 10), units * 3)",
            "self.e = nn.Linear(units * 3, units * 10 // 3)",
            "self.f = nn.Dropout(units / 100)",
            "self.g = nn.Dropout(units / 4 / 100)",
        ),
        ((7,),),
    ),
    "padding that follows from a kernel": Case(
        """
        inputs: {x: {shape: [3, 9, 8]}}
        blocks:
          conv:
            parameters: {kernel: 3}
            layers:
              - Conv2D: {name: conv, filters: 3, kernel_size: $kernel, padding: same}
        layers: [conv: {kernel: 3}, conv: {kernel: 5}, Flatten, Dense: {units: 2}]
        """,
        1,
        ("def __init__(self, kernel: int) -> None:", "nn.Conv2d(3, 3, kernel, padding=kernel // 2)"),
        ((3, 9, 8),),
    ),
    "a start that is a number": Case(
        """
        inputs: {x: {shape: [7]}}
        blocks:
          scaled:
            parameters: {bound: 0.1}
            layers:
              - Dense: {name: d, units: 7, kernel_initializer: {random_uniform: {minval: 0.0, maxval: $bound}}}
        layers: [scaled: {bound: 0.2}, scaled: {bound: 2.0}]
        """,
        1,
        ("nn.init.uniform_(self.d.weight, 0.0, bound)",),
        ((7,),),
    ),
}


def flat(document: dict[str, Any]) -> dict[str, Any]:
    """The same network without blocks: their layers in place, one after the other."""
    blocks, parameters = document.pop("blocks", {}), document.pop("parameters", {})

    def unfolded(
        entries: list[Any], prefix: str, known: dict[str, str], values: dict[str, Any], last: str
    ) -> Iterator[Any]:
        counts: dict[str, int] = {}
        for entry in entries:
            ((kind, fields),) = entry.items() if isinstance(entry, dict) else [(entry, {})]
            fields = substituted(fields or {}, values)
            name = fields.pop("name", None) or f"{kind.lower()}_{counts.setdefault(kind, len(counts))}_{len(known)}"
            inputs = fields.pop("inputs", last)
            inputs = [known.get(each, each) for each in (inputs if isinstance(inputs, list) else [inputs])]
            if kind == "call":
                yield {
                    "call": {
                        **fields,
                        "layer": known[f"{fields['layer']}!"],
                        "name": f"{prefix}{name}",
                        "inputs": inputs,
                    }
                }
                known[name] = f"{prefix}{name}"
            elif kind not in blocks:
                yield {kind: {**fields, "name": f"{prefix}{name}", "inputs": inputs}}
                known[name] = known[f"{name}!"] = f"{prefix}{name}"
            else:
                block, repeat = blocks[kind], fields.pop("repeat", None)
                of_copies = repeat if isinstance(repeat, dict) else {}
                times = min(map(len, of_copies.values())) if of_copies else repeat or 1
                for copy_ in range(times):
                    fields |= {parameter: each[copy_] for parameter, each in of_copies.items()}
                    given = {**values, **fields}
                    for parameter, default in (block.get("parameters") or {}).items():
                        given[parameter] = fields[parameter] if parameter in fields else substituted(default, given)
                    inner = f"{prefix}{name}_{copy_ + 1}_"
                    own = dict(zip(block.get("inputs", ["input"]), inputs, strict=True))
                    made = [*unfolded(block["layers"], inner, own, given, [*own][-1])]
                    yield from made
                    final = next(iter(made[-1].values()))["name"]
                    given_names = block.get("outputs") or {}
                    given_names = given_names if isinstance(given_names, dict) else {key: key for key in given_names}
                    outputs = {key: own[each] for key, each in given_names.items()}
                    for place in {name, f"{name}_{copy_ + 1}"} if repeat else {name}:
                        known[place] = next(iter(outputs.values()), final)
                        known.update({f"{place}.{key}": each for key, each in outputs.items()})
                        known[f"{place}!"] = final
                    carried = [*(outputs.values() or [final])][: len(inputs)]
                    inputs = [*carried, *inputs[len(carried) :]]
            last = name

    document["layers"] = [*unfolded(document["layers"], "", {}, parameters, [*document["inputs"]][-1])]
    return document


def substituted(value: Any, values: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: substituted(each, values) for key, each in value.items()}
    if isinstance(value, list):
        return [substituted(each, values) for each in value]
    if not isinstance(value, str) or "$" not in value:
        return value
    if value[1:] in values:
        return values[value[1:]]
    text = re.sub(r"\$(\w+)", lambda name: str(values[name[1]]), value)
    made = eval(re.sub(r"(?<![\d.])0+(?=\d)", "", text))  # arithmetic of this file; Python writes no 03
    return int(made) if made == int(made) else made


def documents(case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
    text = "regspec: 1\n" + re.sub("^ {8}", "", case.text, flags=re.MULTILINE)
    loader = type("Loader", (yaml.SafeLoader,), {})  # which reads 1e-3 as YAML 1.2 does
    loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[0-9.]+e-?[0-9]+"), list("0123456789"))
    return yaml.load(text, loader), flat(yaml.load(text, loader))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_source(case: Case) -> None:
    source = regspec.source(documents(case)[0])
    assert len(re.findall("^class ", source, re.MULTILINE)) == 1 + case.classes, source
    for each in case.has:
        assert each in source, source


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_computes_what_its_layers_do(case: Case) -> None:
    """Outputs, penalties and all gradients; of a copy and of a pickled one too."""
    with_blocks, without = documents(case)
    model, plain = regspec.build(with_blocks, seed=0).eval(), regspec.build(without, seed=1).eval()
    ours, theirs = dict(model.named_parameters()), dict(plain.named_parameters())
    assert [x.shape for x in ours.values()] == [x.shape for x in theirs.values()]
    plain.load_state_dict(dict(zip(plain.state_dict(), model.state_dict().values(), strict=True)))
    saved = io.BytesIO()
    pickle.dump(model, saved)
    saved.seek(0)
    xs = [torch.randn(3, *shape) for shape in case.shapes]
    wanted = outcome(plain, xs)
    for each in (model, copy.deepcopy(model), pickle.load(saved)):
        torch.testing.assert_close(outcome(each, xs), wanted, rtol=1e-5, atol=1e-6)


def outcome(model: Any, xs: list[Tensor]) -> list[Tensor]:
    """The output, the penalty, and the gradients of both."""
    inputs = [x.clone().requires_grad_() for x in xs]
    output = model(*inputs)
    penalty = regspec.regularization_loss(model)
    trained = [each for each in model.parameters() if each.requires_grad]
    gradients = torch.autograd.grad(output.square().sum() + penalty, [*inputs, *trained], materialize_grads=True)
    return [output, penalty, *gradients]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_starts_as_its_layers_do(case: Case) -> None:
    """Every parameter's spread is that of the same layer without blocks."""
    ours, theirs = (largest(document) for document in documents(case))
    for our, their in zip(ours, theirs, strict=True):
        assert our <= their * 1.2 + 1e-6
        assert our >= their / 1.2 - 1e-6


def largest(document: dict[str, Any]) -> list[float]:
    """The largest number of each parameter, of 16 models: some have but a few."""
    spec = regspec.loads(yaml.safe_dump(document, sort_keys=False))
    models = [regspec.build(spec, seed=seed) for seed in range(16)]
    return [
        max(each.abs().max().item() for each in drawn) for drawn in zip(*(m.parameters() for m in models), strict=True)
    ]


def test_outputs_of_a_block_by_the_names_of_its_layers() -> None:
    """Where they are a list: by number too. A name that two of them have tells none of them."""
    text = (
        "regspec: 1\ninputs: {x: {shape: [4]}}\n"
        "blocks: {two: {layers: [Dense: {name: out, units: 4}, Dense: {name: skip, units: 4}], outputs: [out, skip]}}\n"
        "layers: [two: {name: t}, Subtract: {inputs: [t.out, t.skip]}]\n"
    )
    assert regspec.source(text) == regspec.source(text.replace("t.out, t.skip", "t.0, t.1"))
    with pytest.raises(regspec.RegspecError, match="'t' has no output 'skp'"):
        regspec.loads(text.replace("t.skip", "t.skp"))
    twice = text.replace("outputs: [out, skip]", "outputs: [out, out, skip]")
    with pytest.raises(regspec.RegspecError, match="'t' has no output 'out'"):
        regspec.loads(twice)


def test_a_whole_number_and_a_float_are_two_numbers() -> None:
    """On a tensor of whole numbers the sum with 2 is whole, with 2.0 it is not."""
    text = (
        "regspec: 1\ninputs: {x: {shape: [3], dtype: int32}}\n"
        "blocks: {b: {parameters: {s: 1}, layers: [Add: {name: sum, x2: $s}]}}\n"
        "layers: [b: {name: a, s: 2}, b: {name: c, s: 2.0, inputs: x}, b: {name: d, s: 3, inputs: x}]\n"
        "outputs: [a, c, d]\n"
    )
    x = torch.tensor([[1, 2, 3]], dtype=torch.int32)
    a, c, d = regspec.build(text)(x)
    assert (a.tolist(), c.tolist(), d.tolist()) == ([[3, 4, 5]], [[3.0, 4.0, 5.0]], [[4, 5, 6]])
    assert not a.is_floating_point()
    assert c.is_floating_point()


@pytest.mark.parametrize(
    ("units", "sizes"),
    [("$f * $a", [6, 4, 6]), ("$a * $f", [6, 4, 6]), ("$f + 1", [3, 5, 4]), ("$a + $f", [5, 5, 5]),
     ("$f // 2 + $a", [4, 3, 3]), ("$f * 2", [4, 8, 6]), ("$f % 3 + 1", [3, 2, 1])],
)  # fmt: skip
def test_a_size_computed_of_a_float_that_is_whole(units: str, sizes: list[int]) -> None:
    """Torch takes no size of 6.0, which is what Python computes of 2.0 * 3."""
    text = (
        "regspec: 1\ninputs: {x: {shape: [5]}}\n"
        f"blocks: {{b: {{parameters: {{f: 1.0, a: 1}}, layers: [Dense: {{name: d, units: {units}}}]}}}}\n"
        "layers: [b: {f: 2.0, a: 3}, b: {f: 4.0, a: 1}, b: {f: 3.0, a: 2}]\n"
    )
    assert [part.d.out_features for part in regspec.build(text).children()] == sizes  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "operation",
    ["Subtract: {x1: NUMBER}", "Subtract: {x2: NUMBER}", "Add: {x2: NUMBER}", "Multiply: {x2: NUMBER}",
     "Divide: {x1: NUMBER}", "Mod: {x2: NUMBER}"],
)  # fmt: skip
@pytest.mark.parametrize(
    ("number", "values"),
    [("$f + 1", (3, 4)), ("($f + 1)", (3, 4)), ("7 - $f", (5, 4)), ("$f * 2", (4, 6)), ("-$f", (-2, -3)),
     ("-($f + 1)", (-3, -4)), ("$f % 2 + 1", (1, 2)), ("1 - (2 - $f)", (1, 2)), ("(1 + $f) * ($f - 1)", (3, 8)),
     ("$f + 3 * $f", (8, 12))],
)  # fmt: skip
def test_what_is_computed_is_one_operand(operation: str, number: str, values: tuple[int, int]) -> None:
    """``x - (f + 1)``, and not ``x - f + 1``: what torch computes of the number."""
    text = (
        "regspec: 1\ninputs: {x: {shape: [4]}}\n"
        f"blocks: {{b: {{parameters: {{f: 0}}, layers: [{operation.replace('NUMBER', number)}]}}}}\n"
        "layers: [b: {name: u, f: 2}, b: {name: v, f: 3, inputs: x}]\noutputs: [u, v]\n"
    )
    x = torch.rand(3, 4) + 0.5
    function = {"Add": torch.add, "Subtract": torch.sub, "Multiply": torch.mul, "Divide": torch.div,
                "Mod": torch.remainder}[operation.partition(":")[0]]  # fmt: skip
    numbers = [torch.full_like(x, value) for value in values]
    wanted = [function(each, x) if "x1" in operation else function(x, each) for each in numbers]
    torch.testing.assert_close(regspec.build(text)(x), tuple(wanted))
