"""Layers on tensors whose sizes are known only when they run: as on tensors whose sizes are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import regspec
from regspec.graph.loading import graph_of
from regspec.layers import KINDS
from regspec.layers.families import Spatial
from regspec.layers.kinds import OPERATIONS
from regspec.targets.torch.program import program_of

from . import reference
from .rows import ROWS, Row
from .specs import built, outputs_of, spec_of

# Of these, some rows have weights, or a result, of the sizes in question.
SIZED = (
    *("BatchNormalization", "CenterCrop", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "EinsumDense"),
    *("GroupNormalization", "LayerNormalization", "LocallyConnected1D", "LocallyConnected2D", "Normalization", "PReLU"),
    *("RMSNormalization", "SReLU", "ParametricSoftplus"),
)


def unknown(row: Row) -> Row:
    """The row with sizes that are not known, but for the channels."""
    first = row.data_format == "channels_first" and issubclass(KINDS[row.kind], Spatial)

    def forgotten(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        nothing = (None,) * (len(shape) - 1)
        return shape if not nothing else (shape[0], *nothing) if first else (*nothing, shape[-1])

    return replace(row, shapes=tuple(map(forgotten, row.shapes)))


REASONS = (
    "needs to know the size",
    "is not known",
    "takes the slices along axis 1 of 'input_0', which gives (batch, ?",
)


def may_refuse(row: Row) -> bool:
    """Whether a kind may need to know the sizes."""
    return row.kind in SIZED or row.kind in OPERATIONS


def refused(row: Row) -> str | None:
    """What is said of a row whose sizes are unknown, where that is refused."""
    try:
        program_of(graph_of(spec_of(unknown(row), row.fields)))
    except regspec.RegspecError as error:
        return str(error)
    return None


CASES = [
    pytest.param(index, id=row.id)
    for index, row in enumerate(ROWS)
    if unknown(row) != row and not row.is_random and (row.kind, row.fields) != ("Squeeze", {})
]  # by what it knows


@pytest.mark.parametrize("index", CASES)
def test_computes_the_same(index: int) -> None:
    row = ROWS[index]
    if may_refuse(row) and (refusal := refused(row)) is not None:
        assert any(reason in refusal for reason in REASONS)
        return
    spec = spec_of(unknown(row), row.fields)
    sized, unsized = built(spec_of(row, row.fields)), built(spec)
    unsized.load_state_dict(sized.state_dict())
    inputs = [torch.as_tensor(x) for x in reference.inputs_of(row, index)]
    for got, wanted in zip(outputs_of(unsized(*inputs)), outputs_of(sized(*inputs)), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
