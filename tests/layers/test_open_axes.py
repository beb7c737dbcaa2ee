"""What a tensor is whose axes nothing tells but the layer that takes it: what an input of its shape would be there."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import regspec

from .test_axes import one

SIZES = {1: [7], 2: [6, 7], 3: [2, 6, 7]}
NAMES = {1: ["length"], 2: ["height", "width"], 3: ["depth", "height", "width"]}


class Case(NamedTuple):
    """A layer of windows of one cell, so that it multiplies channels alone."""

    kind: str
    rank: int  # of space
    wrappers: tuple[str, ...] = ()  # the outermost first
    steps: int = 0  # how many axes of steps its input has

    def layer(self, **more: Any) -> dict[str, Any]:
        layer = one(self.kind, filters=5, kernel_size=1, **more)
        for wrapper in reversed(self.wrappers):
            layer = one(wrapper, layer=layer)
        ((kind, fields),) = layer.items()
        return one(kind, name="one", **fields)

    def sizes(self, *channels: int) -> list[int]:
        """Those of an input with its channels first, or without any."""
        return [*[4, 3][: self.steps], *channels, *SIZES[self.rank]]


CASES = {
    **{f"conv {rank}": Case(f"Conv{rank}D", rank) for rank in (1, 2, 3)},
    **{f"conv {rank} of steps": Case(f"Conv{rank}D", rank, ("TimeDistributed",), 1) for rank in (1, 2, 3)},
    **{f"recurrent {rank}": Case(f"ConvLSTM{rank}D", rank, (), 1) for rank in (1, 2, 3)},
    **{f"recurrent {rank}, both ways": Case(f"ConvLSTM{rank}D", rank, ("Bidirectional",), 1) for rank in (1, 2, 3)},
    "normalized conv": Case("Conv2D", 2, ("SpectralNormalization",)),
    "normalized conv of steps": Case("Conv2D", 2, ("TimeDistributed", "SpectralNormalization"), 1),
    "conv of steps of steps": Case("Conv2D", 2, ("TimeDistributed", "TimeDistributed"), 2),
}
SAYINGS = {
    "spec": ({"data_format": "channels_first"}, {}),
    "layer": ({}, {"data_format": "channels_first"}),
    "both": ({"data_format": "channels_first"}, {"data_format": "channels_first"}),
}


def wanted(model: Any, case: Case, x: Tensor) -> Tensor:
    """What the model's layer gives for an input with its channels first."""
    place = 1 + case.steps
    if "ConvLSTM" in case.kind:
        if case.wrappers:
            return torch.cat([model.one_forward(x)[0][:, -1], model.one_backward(x.flip(1))[0][:, -1]], 1)
        return model.one(x)[0][:, -1]
    weights = dict(model.named_parameters())
    bias, weight = (next(weights[name] for name in weights if name.endswith(end)) for end in ("bias", "weight"))
    return (x.movedim(place, -1) @ weight.flatten(1).T + bias).movedim(-1, place)


@pytest.mark.parametrize("said", SAYINGS)
@pytest.mark.parametrize("name", CASES)
def test_read_by_the_layer_that_takes_it(name: str, said: str) -> None:
    case, (of_spec, of_layer) = CASES[name], SAYINGS[said]
    sizes = case.sizes(3)
    x = torch.randn(2, *sizes)
    layers = [one("Reshape", target_shape=sizes), case.layer(**of_layer)]
    spec: dict[str, Any] = {"inputs": {"x": {"shape": [x[0].numel()]}}, "layers": layers, **of_spec}
    model = regspec.build(spec, seed=0).eval()
    torch.testing.assert_close(model(x.flatten(1)), wanted(model, case, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_channels_last_by_the_layer(name: str) -> None:
    case = CASES[name]
    x, place = torch.randn(2, *case.sizes(), 3), 1 + case.steps
    layers = [one("Reshape", target_shape=[*x.shape[1:]]), case.layer(data_format="channels_last")]
    spec: dict[str, Any] = {"inputs": {"x": {"shape": [x[0].numel()]}}, "layers": layers}
    model = regspec.build(spec, seed=0).eval()
    result = wanted(model, case, x.movedim(-1, place))
    place = 1 if "ConvLSTM" in case.kind else place  # which gives the last step
    torch.testing.assert_close(model(x.flatten(1)), result.movedim(place, -1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.steps < 2])
def test_both_readings_are_named(name: str) -> None:
    """With the steps, where the layer takes these."""
    case = CASES[name]
    sizes = case.sizes(3)
    spec: dict[str, Any] = {"inputs": {"x": {"shape": [torch.Size(sizes).numel()]}}}
    spec["layers"] = [one("Reshape", target_shape=sizes), case.layer()]
    steps, names = ["steps"] * case.steps, NAMES[case.rank]
    first, last = ", ".join([*steps, "channels", *names]), ", ".join([*steps, *names, "channels"])
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.build(spec)
    assert f"may be ({first}) or ({last if case.rank + case.steps > 1 else 'steps, features'})" in str(caught.value)
