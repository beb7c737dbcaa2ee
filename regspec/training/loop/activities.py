"""What a trained model's layers give on held-out data: a histogram of each layer's output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from regspec.code.expressions import Apply
from regspec.targets.torch.program import Program

BINS = 60


def activities(model: nn.Module, program: Program, inputs: Sequence[Tensor]) -> dict[str, dict[str, Any]]:
    """A histogram of each layer's output, by the layer's name: ``edges``, ``counts``, and the share of ``zeros``.

    Layers whose output no module gives, such as a sum, are left out, and those that give no finite number; numbers
    that are not finite are not counted.

    Args:
        model: the module of ``program``, in evaluation mode.
        program: what it computes.
        inputs: the examples, in the model's order.
    """
    found: dict[str, dict[str, Any]] = {}

    def listen(name: str) -> Any:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.is_floating_point() and output.isfinite().any():
                found[name] = _histogram(output.detach().float().flatten())

        return hook

    handles = []
    for step in program.steps:
        result = step.lowered.results[0]
        if step.declares and isinstance(result, Apply):
            attribute = step.attributes[result.module.suffix]
            handles.append(model.get_submodule(attribute).register_forward_hook(listen(step.name)))
    try:
        with torch.no_grad():
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _histogram(values: Tensor) -> dict[str, Any]:
    finite = values[values.isfinite()]
    low, high = finite.min().item(), finite.max().item()
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts = torch.histc(finite, BINS, low, high)
    edges = torch.linspace(low, high, BINS + 1)
    zeros = (finite == 0).float().mean().item()
    return {"edges": edges.tolist(), "counts": counts.int().tolist(), "zeros": zeros}
