"""Branches that lead to no output: with a penalty it is their use, without one they are a fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import regspec
from regspec.runtime import Regularized

from .alone import alone
from .commands import command

HEAD = "regspec: 1\nname: net\ninputs: {x: {shape: [4]}}\n"
DENSE = "{name: inside, units: 3, activity_regularizer: {l1: 0.2}}"
BLOCK = f"blocks: {{probe: {{layers: [Dense: {DENSE}]}}}}\n"
INSIDE = f"blocks: {{probe: {{layers: [{{Dense: {DENSE}}}, {{Dense: {{name: given, units: 3, inputs: input}}}}]}}}}\n"


def text_of(sections: str, *side: str) -> str:
    """A spec of two layers, with a branch from the first that the second does not take."""
    lines = "".join(f"  - {layer}\n" for layer in side)
    first, last = "Dense: {name: hidden, units: 3}", "Dense: {name: out, units: 2, inputs: hidden}"
    return f"{HEAD}{sections}layers:\n  - {first}\n{lines}  - {last}\noutputs: out\n"


def side(model: Regularized, h: Tensor) -> Tensor:
    """The output of the layer called side."""
    return F.linear(h, model.side.weight, model.side.bias)


Loss = Callable[[Regularized, Tensor], Tensor]  # of a model and its hidden layer's output, for a batch of 5
PENALIZED: dict[str, tuple[str, tuple[str, ...], Loss]] = {
    "an activity": (
        "",
        ("Dense: {name: side, units: 3, activation: relu, activity_regularizer: {l1: 0.2}}",),
        lambda model, h: 0.2 * side(model, h).relu().sum() / 5,
    ),
    "a weight": (
        "",
        ("Dense: {name: side, units: 3, kernel_regularizer: {l2: 0.2}}",),
        lambda model, h: 0.2 * model.side.weight.square().sum(),
    ),
    "several": (
        "",
        ("Dense: {name: side, units: 3, bias_regularizer: {l1: 0.3}, activity_regularizer: {l2: 0.2}}",),
        lambda model, h: 0.3 * model.side.bias.abs().sum() + 0.2 * side(model, h).square().sum() / 5,
    ),
    "a layer that is a penalty": (
        "",
        ("ActivityRegularization: {name: side, l1: 0.2, l2: 0.1}",),
        lambda model, h: (0.2 * h.abs() + 0.1 * h.square()).sum() / 5,
    ),
    "a layer without weights": (
        "",
        ("Activation: {name: side, activation: tanh, activity_regularizer: {l2: 0.2}}",),
        lambda model, h: 0.2 * h.tanh().square().sum() / 5,
    ),
    "after layers without one": (
        "",
        ("Activation: {name: before, activation: tanh}", "Dense: {name: side, units: 3, activity_regularizer: l1}"),
        lambda model, h: 0.01 * side(model, h.tanh()).abs().sum() / 5,
    ),
    "a rule for its output": (
        "regularizers: [{layers: side, activity: {l1: 0.2}}]\n",
        ("Dense: {name: side, units: 3}",),
        lambda model, h: 0.2 * side(model, h).abs().sum() / 5,
    ),
    "a further call": (
        "",
        ("Dense: {name: side, units: 3, activity_regularizer: {l1: 0.2}}", "call: {layer: side, name: again}"),
        lambda model, h: 0.2 * (side(model, h).abs().sum() + side(model, side(model, h)).abs().sum()) / 5,
    ),
    "a block": (
        BLOCK,
        ("probe: {name: side}",),
        lambda model, h: 0.2 * model.side.inside(h).abs().sum() / 5,
    ),
    "a branch in a block": (
        INSIDE,
        ("probe: {name: side}",),
        lambda model, h: 0.2 * model.side.inside(h).abs().sum() / 5,
    ),
    "a repeated block": (
        BLOCK,
        ("probe: {name: side, repeat: 2}",),
        lambda model, h: (
            0.2 * (model.side[0].inside(h).abs().sum() + model.side[1].inside(model.side[0].inside(h)).abs().sum()) / 5
        ),
    ),
    "a layer in a wrapper": (
        "",
        (
            "Reshape: {name: steps, target_shape: [1, 3]}",
            "TimeDistributed: {name: side, layer: {Dense: {units: 3}}, activity_regularizer: {l1: 0.2}}",
        ),
        lambda model, h: 0.2 * F.linear(h, *model.side.parameters()).abs().sum() / 5,
    ),
    "frozen weights that are counted": (
        "frozen_penalties: counted\n",
        ("Dense: {name: side, units: 3, trainable: false, kernel_regularizer: {l2: 0.2}}",),
        lambda model, h: 0.2 * model.side.weight.square().sum(),
    ),
}


@pytest.mark.parametrize("name", PENALIZED)
def test_a_penalty_is_a_use(name: str) -> None:
    """Its value and its gradients are the formula's, and the output is that of the model without the branch."""
    sections, layers, formula = PENALIZED[name]
    text = text_of(sections, *layers)
    model = regspec.build(text, seed=0)
    plain = regspec.build(text_of(""))
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if key in plain.state_dict()})
    x = torch.randn(5, 4)
    torch.testing.assert_close(model(x), plain(x))
    loss, wanted = model.regularization_loss(), formula(model, plain.hidden(x))
    torch.testing.assert_close(loss, wanted)
    assert wanted > 0
    with pytest.raises(regspec.RegspecError, match="adds a penalty and leads to no output"):
        regspec.source(text, target="keras")
    twin = alone(text, "Net")
    twin.load_state_dict(model.state_dict())
    twin(x)
    torch.testing.assert_close(twin.regularization_loss(), wanted)


@pytest.mark.parametrize(
    ("sections", "layers"),
    [
        ("", ["Dense: {name: side, units: 3}"]),
        ("", ["Dense: {name: other, units: 3, activity_regularizer: l1}", "Dense: {name: side, units: 3}"]),
        ("", ["Dense: {name: side, units: 3, trainable: false, kernel_regularizer: l2}"]),
        ("", ["call: {layer: hidden, name: side, inputs: x}"]),
        ("regularizers: [{kinds: Dense, kernel: l2}]\n", ["Dense: {name: side, units: 3}"]),
        ("blocks: {probe: {layers: [Dense: {units: 3}]}}\n", ["probe: {name: side}"]),
    ],
)
def test_without_one_it_is_a_fault(sections: str, layers: list[str]) -> None:
    with pytest.raises(regspec.RegspecError, match="nothing uses the output of 'side'"):
        regspec.loads(text_of(sections, *layers))


def test_its_weights_are_trained(tmp_path: Path) -> None:
    """As all others are; on the command line too."""
    (tmp_path / "net.yaml").write_text(
        text_of("", "Dense: {name: side, units: 3, activity_regularizer: l2}")
        .replace("shape: [4]", "shape: [13]")
        .replace("units: 2", "units: 3")
    )
    done = command("train", "net.yaml", "--data", "wine", "--epochs", "1", cwd=tmp_path)
    assert done.code == 0, done.output
    assert "side.activity" in done.stdout
    assert "penalties" in command("show", "net.yaml", cwd=tmp_path).stdout
