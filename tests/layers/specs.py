"""A row as a spec: what a user would have written for it."""

from __future__ import annotations

import json
from typing import Any

import torch

import regspec
from regspec.graph.loading import graph_of
from regspec.layers import KINDS
from regspec.layers.families import Spatial
from regspec.targets.torch.program import program_of
from regspec.targets.torch.steps import Step

from .rows import Row

# Kinds whose activity_regularizer Keras 3 drops, or applies elsewhere than on the output.
ACTIVITY_ELSEWHERE = ("SimpleRNN", "MultiHeadAttention", "GroupQueryAttention", "SpatialDropout1D", "SpatialDropout2D",
                      "SpatialDropout3D", "Discretization", "ActivityRegularization")  # fmt: skip


def document_of(row: Row, fields: dict[str, Any]) -> dict[str, Any]:
    """A spec with one layer, that of the row, as plain data."""
    names = [f"input_{index}" for index in range(len(row.shapes))]
    return {
        "regspec": 1,
        "name": "row",
        "data_format": row.data_format,
        "inputs": {
            name: {"shape": list(shape), "dtype": dtype, **_axes(row, shape)}
            for name, shape, dtype in zip(names, row.shapes, row.types, strict=True)
        },
        "layers": [{row.kind: {**fields, "name": "layer", "inputs": names}}],
    }


def _axes(row: Row, shape: tuple[int | None, ...]) -> dict[str, Any]:
    """What the axes of a signal mean, which a spec else counts as (steps, features)."""
    is_signal = row.data_format == "channels_first" and len(shape) == 2 and issubclass(KINDS[row.kind], Spatial)
    return {"axes": ["channels", "length"]} if is_signal else {}


def spec_of(row: Row, fields: dict[str, Any]) -> regspec.ModelSpec:
    """The spec of a row, made as a user's would be, from text; with all outputs of its layer."""
    document = document_of(row, fields)
    spec = regspec.loads(json.dumps(document))
    outputs = len(graph_of(spec).nodes[0].outputs)
    if outputs > 1:
        document["outputs"] = [f"layer.{index}" for index in range(outputs)]
        spec = regspec.loads(json.dumps(document))
    return spec


def built(spec: regspec.ModelSpec) -> Any:
    """The model of a spec in evaluation, with numbers for what it waits to be loaded."""
    model = regspec.build(spec, seed=0).eval()
    generator = torch.Generator().manual_seed(0)
    for buffer in model.buffers():
        if buffer.is_floating_point() and buffer.isnan().all():
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return model


def step_of(spec: regspec.ModelSpec) -> Step:
    """The step of a spec's one layer, in torch."""
    return program_of(graph_of(spec)).step("layer")


def with_penalties(row: Row) -> dict[str, Any]:
    """The row's fields, with a penalty on every slot of the kind."""
    (node,) = graph_of(spec_of(row, row.fields)).layers()
    slots = [weight.slot for weight in node.resolved.weights]
    is_plain = row.dtype == "float32" and {x.dtype for x in node.outputs} == {"float32"} and not row.has_nan
    if row.kind not in ACTIVITY_ELSEWHERE and is_plain:
        slots.append("activity")
    known = KINDS[row.kind].model_fields
    penalties: dict[str, Any] = {
        f"{slot}_regularizer": {"l1": 0.01, "l2": 0.02} for slot in slots if f"{slot}_regularizer" in known
    }
    fields = {**row.fields, **penalties}
    if "layer" in fields:
        ((kind, inner),) = fields["layer"].items()
        inner_slots = [f"{slot}_regularizer" for slot in slots if f"{slot}_regularizer" in KINDS[kind].model_fields]
        inner_slots = [field for field in inner_slots if field != "activity_regularizer"]
        inner = {**inner, "cell": _with_penalties_on_cells(inner["cell"])} if "cell" in inner else inner
        fields["layer"] = {kind: {**inner, **{field: {"l1": 0.03, "l2": 0.01} for field in inner_slots}}}
    if "cell" in fields:
        fields["cell"] = _with_penalties_on_cells(fields["cell"])
    return fields


def _with_penalties_on_cells(value: Any) -> Any:
    """Cells with a penalty on every weight, of other strengths in each."""
    if isinstance(value, list):
        return [_with_penalties_on_cells(each) for each in value]
    ((kind, fields),) = value.items()
    if "cells" in fields:
        return {kind: {**fields, "cells": _with_penalties_on_cells(fields["cells"])}}
    slots = ["kernel", "recurrent", *(["bias"] if fields.get("use_bias", True) else [])]
    strength = 0.001 * fields["units"]
    return {kind: {**fields, **{f"{slot}_regularizer": {"l1": strength, "l2": 0.02} for slot in slots}}}


def inputs_of(spec: regspec.ModelSpec, batch: int = 3, below: int = 3) -> list[torch.Tensor]:
    """Random inputs of a model; whole numbers below one, some of them 0, which masks steps. An unknown size is 5."""
    drawn = []
    for x in graph_of(spec).inputs:
        numbers = torch.rand(batch, *(size or 5 for size in x.spec_shape[1:]))
        drawn.append((numbers if x.is_floating else (numbers * below).floor()).to(getattr(torch, x.dtype)))
    return drawn


def outputs_of(result: Any) -> list[torch.Tensor]:
    """What a model gives, as a list."""
    return list(result.values() if isinstance(result, dict) else result if isinstance(result, tuple) else [result])
