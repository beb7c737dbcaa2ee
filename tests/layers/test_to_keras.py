"""A row of each kind as a file of Keras: there it gives and learns the same, and ported again it is the same spec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest
import torch

import regspec
from regspec.graph.loading import graph_of
from regspec.keras.arrays.matching import arrays_in
from regspec.layers import KINDS
from regspec.targets.torch.program import program_of

from . import reference
from .operating import is_operation
from .rows import ROWS, Row
from .specs import built, outputs_of, spec_of, step_of, with_penalties
from .test_keras_code import ONLY_LAST_AXES, is_refused

pytestmark = [
    pytest.mark.filterwarnings("ignore:You passed `rms_scaling=True`:UserWarning"),  # on purpose
    pytest.mark.filterwarnings("ignore:Tensor.T is deprecated"),  # of Keras
    pytest.mark.filterwarnings("ignore:NotImplemented should not be used:DeprecationWarning"),  # of Keras
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # of Keras, when it saves
]

# What a file of Keras does not tell: a moving variance is Keras's, whichever the spec says; a port of CLAHE is that of
# Keras's torch backend; and where channels are first the layers of a port say it, and not its spec.
UNTOLD = ("moving_variance", "as_on_torch", "data_format")


def is_kept(row: Row) -> bool:
    """Whether a file of Keras keeps a row, and Keras's torch backend computes it rightly."""
    kept = {"leaky_relu", "elu", "relu", "softmax"}  # of which Keras has layers
    function = row.fields.get("recurrent_activation")
    is_whole = not isinstance(function, dict) or {*function} <= kept
    is_private = KINDS[row.kind].keras_module != "layers"  # of keras.applications, which no code imports
    return is_whole and row.has_reference and (is_private or not is_refused(row))


def is_apart(row: Row) -> bool:
    """Whether a row's function is a layer of its own, ported again."""
    function = row.fields.get("activation")
    return row.kind != "Activation" and isinstance(function, dict) and "leaky_relu" not in function


def chosen() -> list[int]:
    """Of each kind the row that says most."""
    found: dict[str, int] = {}
    for index, row in enumerate(ROWS):
        if is_kept(row) and (row.kind not in found or len(ROWS[found[row.kind]].fields) <= len(row.fields)):
            found[row.kind] = index
    return [*found.values()]


def filled(spec: regspec.ModelSpec, index: int) -> Any:
    """The model of a row with random weights, of those that are Keras's."""
    model, step = built(spec), step_of(spec)
    own = {f"{step.attributes[each.module]}.{name}" for each in step.lowered.weights for name in each.parameters}
    generator = torch.Generator().manual_seed(index)
    for name, value in model.state_dict().items():
        if name in own and value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) + 0.2)
    return model


def said(spec: regspec.ModelSpec) -> list[Any]:
    """What a spec says of its layers, in Keras's words."""
    graph = graph_of(spec)
    layers = [
        (node.name, node.kind, {key: value for key, value in node.resolved.said if key not in UNTOLD})
        for node in graph.layers()
    ]
    return [layers, [x.source for node in graph.nodes for x in node.inputs], [x.source for x in graph.outputs]]


def gradients(weights: list[torch.Tensor], outputs: list[torch.Tensor], penalty: torch.Tensor) -> list[torch.Tensor]:
    """Those of the outputs' mean squares and a penalty."""
    total = sum((x.float().square().mean() for x in outputs if x.is_floating_point()), penalty)
    found = torch.autograd.grad(total, weights, allow_unused=True)
    return [torch.zeros_like(weight) if each is None else each for weight, each in zip(weights, found, strict=True)]


def in_keras(spec: regspec.ModelSpec, model: Any, values: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Values of the parameters that are trained, as those of Keras's weights, in Keras's order."""
    graph = graph_of(spec)
    state = {name: torch.zeros_like(each) for name, each in model.state_dict().items()} | values
    arrays = arrays_in(program_of(graph), {name: each.numpy() for name, each in state.items()})
    ((name, weights),) = ((node.name, node.resolved.weights) for node in graph.layers())
    return [torch.as_tensor(arrays[name, each.name]) for each in weights if each.trainable and not each.frozen]


def spec_in_keras(row: Row) -> regspec.ModelSpec:
    """The spec of a row, with penalties where Keras has them."""
    is_bare = is_operation(row.kind, row.fields) or isinstance(row.fields.get("activation"), dict)
    return spec_of(row, row.fields if is_bare else with_penalties(row))


@pytest.mark.parametrize("index", [pytest.param(index, id=ROWS[index].id) for index in chosen()])
def test_rows(index: int, tmp_path: Path) -> None:
    row, path = ROWS[index], tmp_path / "row.keras"
    spec = spec_in_keras(row)
    model = filled(spec, index)
    regspec.to_keras(model, path)
    inputs = [torch.as_tensor(x) for x in reference.inputs_of(row, index)]
    loaded = keras.models.load_model(path)
    got = keras.tree.flatten(loaded(inputs if len(inputs) > 1 else inputs[0], training=False))
    wanted = outputs_of(model(*inputs))
    for ours, theirs in zip(wanted, got, strict=True):
        torch.testing.assert_close(theirs.to(ours.dtype), ours, rtol=1e-4, atol=1e-5, equal_nan=True)
    lost, ours_lost = sum(loaded.losses, torch.zeros(())), regspec.regularization_loss(model)
    torch.testing.assert_close(lost.float(), ours_lost.float(), rtol=1e-4, atol=1e-5)
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    if weights:
        found = gradients([each.value for each in loaded.trainable_variables], got, lost)
        own = dict(zip(weights, gradients([*weights.values()], wanted, ours_lost), strict=True))
        torch.testing.assert_close(found, in_keras(spec, model, own), rtol=1e-3, atol=1e-4, check_dtype=False)
    port = regspec.port(path)
    regspec.to_keras(port, tmp_path / "again.keras")
    assert regspec.port(tmp_path / "again.keras").text == port.text
    loaded.save(tmp_path / "saved.keras")
    assert regspec.port(tmp_path / "saved.keras").text == port.text
    torch.testing.assert_close(port.build().state_dict(), model.state_dict(), rtol=0, atol=0, equal_nan=True)
    if not is_apart(row) and not (
        row.kind in ONLY_LAST_AXES and row.fields.get("axis") in (1, 2)
    ):  # whose axes are moved for Keras
        assert said(port.spec) == said(spec)


def others() -> list[Any]:
    """The other rows: in the gate those of kinds with fields that follow from others, which Keras's files say."""
    rest = sorted({*range(len(ROWS))} - {*chosen()})
    marks = {index: () if KINDS[ROWS[index].kind].unsaid else (pytest.mark.everything,) for index in rest}
    return [pytest.param(index, id=ROWS[index].id, marks=marks[index]) for index in rest if is_kept(ROWS[index])]


@pytest.mark.parametrize("index", others())
def test_what_keras_saves_is_the_same_text(index: int, tmp_path: Path) -> None:
    """It says all fields, and values in other forms than a file that is made of a spec."""
    spec = spec_in_keras(ROWS[index])
    regspec.to_keras(filled(spec, index), tmp_path / "row.keras")
    keras.models.load_model(tmp_path / "row.keras").save(tmp_path / "saved.keras")
    assert regspec.port(tmp_path / "saved.keras").text == regspec.port(tmp_path / "row.keras").text
