"""What a kind says of its units holds: a unit hangs on what it is tied to, and on nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from regspec.code.shapes import Symbol
from regspec.graph.loading import graph_of
from regspec.graph.units import Call, indices, units_of
from regspec.layers import KINDS
from regspec.layers import Layer as Kind
from regspec.layers.ties import Tie
from regspec.modules.shrinking.arrays import dense, grouped, held_in
from regspec.modules.shrinking.shrinking import shrink
from regspec.targets.torch.program import program_of

from .rows import ROWS, Row
from .specs import built, inputs_of, outputs_of, spec_of

# rows of kinds that must say what their units are; of the others it is checked where they do
TIED = ("Dense", "Conv2D", "DepthwiseConv2D", "BatchNormalization", "LSTM", "MultiHeadAttention", "Flatten")


class Layer:
    """A row's layer, with its ties."""

    def __init__(self, row: Row) -> None:
        torch.manual_seed(0)
        self.spec = spec_of(row, row.fields)
        self.model: nn.Module = built(self.spec)
        for name, parameter in self.model.named_parameters():
            if not name.endswith(("hh_l0", "hh_l0_reverse")) or "weight" in name:
                nn.init.normal_(parameter, std=0.5)
        self.graph = graph_of(self.spec)
        self.call: Call = units_of(self.graph).calls[0]
        self.xs = inputs_of(self.spec, below=row.high)
        self.held = {name: each for (_, name), each in held_in(program_of(self.graph)).items()}

    @property
    def ties(self) -> tuple[Tie, ...]:
        return self.call.ties.ties

    def outputs(self, xs: list[Tensor]) -> list[Any]:
        """Outputs by Keras's axes."""
        with torch.no_grad():
            found = outputs_of(self.model(*xs))
        return [
            x.detach().double().numpy().transpose(np.argsort(symbol.spec_order))
            for x, symbol in zip(found, self.graph.outputs, strict=True)
        ]

    def moved(self, tie: Tie, unit: int) -> list[Tensor]:
        """The inputs with other numbers in a unit."""
        xs = [x.clone() for x in self.xs]
        for place in tie.places:
            if place.is_input:
                assert isinstance(place.of, int)
                x: Symbol = self.graph.inputs[place.of]
                own = torch.as_tensor(place.start + np.flatnonzero(indices(place, tie.size) == unit))
                at = xs[place.of].movedim(x.spec_order.index(place.axis), 0)
                at[own] = torch.rand(at[own].shape) + 0.3
        return xs

    def set_slices(self, names: set[str], tie: Tie, unit: int, value: float | None) -> None:
        """Makes the slices of a unit in weights one number, or draws them anew."""
        state = self.model.state_dict()
        for place in tie.places:
            if place.of in names and isinstance(place.of, str) and self.call.has(place):
                held = self.held[place.of]
                groups = self.call.ties.grouped.get(place.of, 1)
                array = dense(held.array(state), groups).copy()
                own = place.start + np.flatnonzero(indices(place, tie.size) == unit)
                at = np.moveaxis(array, place.axis, 0)
                at[own] = np.random.default_rng(1).uniform(0.5, 1, at[own].shape) if value is None else value
                for name, new in held.parameters(grouped(array, groups)).items():
                    state[name].copy_(torch.as_tensor(np.ascontiguousarray(new)))
        self.model.load_state_dict(state)

    def links(self) -> dict[str, tuple[set[int], set[int]]]:
        """The weights by which ties make others: the numbers of both."""
        found = {}
        for name, held in self.held.items():
            letters = [letter[0] for letter in held.weight.pattern.keras]
            own = [(number, place) for number, tie in enumerate(self.ties) for place in tie.places if place.of == name]
            targets = {number for number, place in own if letters[place.axis] == "o"}
            if targets and "i" in letters:
                found[name] = ({number for number, place in own if letters[place.axis] == "i"}, targets)
        return found


def check_only(layer: Layer, tie: Tie, unit: int, before: list[Any], after: list[Any]) -> None:
    """Nothing but a unit differs in the outputs."""
    for number, (one, other) in enumerate(zip(before, after, strict=True)):
        own = [place for place in tie.places if place.of == ~number]
        rest = np.ones(one.shape, bool)
        for place in own:
            at = np.moveaxis(rest, place.axis, 0)
            at[place.start + np.flatnonzero(indices(place, tie.size) == unit)] = False
        assert np.allclose(one[rest], other[rest], atol=1e-5, equal_nan=True), (layer.call.node.kind, tie)


def cases() -> Iterator[Any]:
    """The rows of kinds that say what their units are; in the gate one of each kind."""
    counts = Counter[str]()
    for index, row in enumerate(ROWS):
        cls = KINDS[row.kind]
        if (cls.ties, cls.ties_to) != (Kind.ties, Kind.ties_to) and not row.is_random:
            counts[row.kind] += 1
            marks = pytest.mark.everything if counts[row.kind] > 1 else ()
            yield pytest.param(index, id=row.id, marks=marks)


@pytest.mark.parametrize("index", [*cases()])
def test_a_unit_hangs_on_what_it_is_tied_to(index: int) -> None:
    row = ROWS[index]
    layer = Layer(row)
    assert layer.ties or row.kind not in TIED or row.fields.get("rounds_inputs") or row.fields.get("stateful")
    before, links = layer.outputs(layer.xs), layer.links()
    for number, tie in enumerate(layer.ties):
        unit = tie.size - 1
        inputs = [layer.graph.inputs[place.of] for place in tie.places if isinstance(place.of, int) and place.of >= 0]
        is_source = any(number in sources for sources, _ in links.values())
        is_target = any(number in targets for _, targets in links.values())
        has_output = any(place.is_output for place in tie.places)
        if tie.stays or not all(x.is_floating for x in inputs):
            continue
        if has_output and not is_target:
            check_only(layer, tie, unit, before, layer.outputs(layer.moved(tie, unit)))
        if inputs and is_source and not has_output:
            state = {name: x.clone() for name, x in layer.model.state_dict().items()}
            layer.set_slices({name for name, (sources, _) in links.items() if number in sources}, tie, unit, 0.0)
            same, moved = layer.outputs(layer.xs), layer.outputs(layer.moved(tie, unit))
            assert all(np.allclose(one, other, atol=1e-5) for one, other in zip(same, moved, strict=True)), tie
            layer.model.load_state_dict(state)
        if has_output and not is_source:
            state = {name: x.clone() for name, x in layer.model.state_dict().items()}
            layer.set_slices({*layer.held}, tie, unit, None)
            check_only(layer, tie, unit, before, layer.outputs(layer.xs))
            layer.model.load_state_dict(state)


@pytest.mark.parametrize("index", [*cases()])
def test_a_lone_layer_is_shrunk(index: int) -> None:
    """Its inputs and outputs stay; what lies inside may go, where its weights are zero."""
    layer = Layer(ROWS[index])
    for tie in layer.ties:
        if not any(isinstance(place.of, int) for place in tie.places):
            layer.set_slices({*layer.held}, tie, 0, 0.0)
    shrunk = shrink(layer.model, layer.spec, inputs=layer.xs)
    inner = [tie for tie in layer.ties if not any(isinstance(place.of, int) for place in tie.places)]
    changes = [each for each in shrunk.report.changes if each.before != each.after]
    fields = {
        field
        for tie in inner
        for field in (tie.field, *(each for each, _ in tie.others))
        if tie.size > 1 and field and not tie.stays
    }
    assert len(changes) == len(fields)
