"""A shrunk model computes the same with fewer units, and every unit that can go has gone."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import regspec
from regspec.graph.loading import graph_of
from regspec.modules.inputs import Form, inputs_of
from regspec.modules.shrinking.choosing import Choice, all_groups, balance
from regspec.modules.shrinking.shrinking import looked_at, made_without
from regspec.specs.model import ModelSpec

from .random_specs import random_spec, with_zeros

FORM = Form(first=7, is_padded=True)


def zeroed(layers: list[Any], inputs: Any = (4,), **zeros: Any) -> nn.Module:
    """A model of layers, of which random biases are drawn, and then the parameters at some indices are zero."""
    given = inputs if isinstance(inputs, dict) else {"x": {"shape": [*inputs]}}
    model = regspec.build({"inputs": given, "layers": layers}, seed=1).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
        for name, index in zeros.items():
            for each in index if isinstance(index, list) else [index]:
                model.get_parameter(name.replace("__", "."))[each] = 0
    return model


def outputs(model: nn.Module, xs: list[Tensor]) -> list[Tensor]:
    with torch.no_grad():
        found = model(*xs)
    return [*found] if isinstance(found, tuple) else [found]


def check_same(model: nn.Module, shrunk: regspec.Shrunk, spec: ModelSpec, batch: int = 5) -> None:
    xs = inputs_of(graph_of(spec), batch, FORM, seed=9)
    for one, other in zip(outputs(model, xs), outputs(shrunk.build(), xs), strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6), (one - other).abs().max()


@pytest.mark.parametrize("seed", range(24))
def test_random_networks_compute_the_same(seed: int) -> None:
    spec = regspec.load(random_spec(seed))
    model = regspec.build(spec, seed=seed).eval()
    with_zeros(model, spec, seed)
    shrunk = regspec.shrink(model)
    check_same(model, shrunk, spec)
    assert sum(map(torch.numel, shrunk.weights.values())) <= sum(map(torch.numel, model.state_dict().values()))


@pytest.mark.parametrize("seed", range(0, 24, 4))
def test_every_unit_that_can_go_has_gone(seed: int) -> None:
    """Each that is left is taken out alone: either an output changes, or an axis would be empty or uneven.

    Without rectifiers, which may be closed on all inputs that are tried, though not on all.
    """
    smooth = json.dumps(random_spec(seed)).replace('"relu"', '"elu"').replace('"ReLU"', '"ELU"')
    spec = regspec.load({"dtype": "float64", **json.loads(smooth)})
    model = regspec.build(spec, seed=seed).eval()
    with_zeros(model, spec, seed)
    shrunk = regspec.shrink(model)
    smaller = shrunk.build()
    live = looked_at(smaller, shrunk.spec)
    xs = inputs_of(graph_of(spec), 40, FORM, seed=3)
    wanted = outputs(smaller, xs)
    for root in all_groups(live.units):
        if live.units.why_kept(root) is not None:
            continue
        choice = Choice(live.units, {root})
        balance(choice, {})
        if choice.gone:
            found = outputs(made_without(smaller, shrunk.spec, live, choice).build(), xs)
            changes = [
                not torch.allclose(one, other, rtol=0, atol=1e-12) for one, other in zip(wanted, found, strict=True)
            ]
            assert any(changes), live.units.groups[root]
