"""Made examples of a model's inputs, and whether something else gives on them what the model gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from regspec.graph.network import Graph
from regspec.targets.torch.program import program_of
from regspec.text.problems import Problem, RegspecError
from regspec.training.data.fitting import Bounds, index_bounds
from regspec.training.measures.objective import tensors_of

LENGTHS = (5, 8, 12, 16, 32, 64, 128, 256)  # of axes whose size is known only at run time
BATCHES = (1, 5)
ABOVE = 10  # whole numbers without bounds are below it
HALF = (torch.float16, torch.bfloat16)

Tensors = tuple[Tensor, ...]


@dataclass(frozen=True)
class Case:
    """A made batch, and what the model gives on it."""

    inputs: Tensors
    outputs: Tensors


@dataclass(frozen=True)
class Cases:
    """A batch to trace a model with, and others, of other sizes, to compare with.

    ``is_drawn`` tells that the model draws random numbers, so that nothing can be compared.
    """

    traced: Tensors
    others: tuple[Case, ...]
    is_drawn: bool


def cases_of(model: nn.Module, graph: Graph) -> Cases:
    """Made examples for a model in evaluation mode.

    Args:
        model: the model, on the CPU.
        graph: its graph.

    Raises:
        RegspecError: where the model takes none of them.
    """
    lengths: list[int] = []
    fault: Exception | None = None
    has_open = any(None in x.shape[1:] for x in graph.inputs)
    for length in LENGTHS if has_open else LENGTHS[:1]:
        try:
            _given(model, made(graph, 2, length))
            lengths.append(length)
        except (RuntimeError, ValueError, IndexError) as error:  # of a size that is too small, or does not divide
            fault = fault or error
        if len(lengths) == 2:
            break
    if not lengths:
        raise RegspecError(Problem(f"the model takes none of the examples that were made for it: {reason(fault)}"))
    inputs = [made(graph, batch, length) for batch, length in zip(BATCHES, (lengths[0], lengths[-1]), strict=True)]
    others = tuple(Case(each, _given(model, each)) for each in inputs)
    with torch.random.fork_rng(devices=()):
        pairs = zip(_given(model, inputs[-1]), others[-1].outputs, strict=True)
        is_drawn = any(not torch.equal(again.nan_to_num(), before.nan_to_num()) for again, before in pairs)
    return Cases(made(graph, 3, lengths[0]), others, is_drawn)


def made(graph: Graph, batch: int, length: int) -> Tensors:
    """Inputs of a batch, always the same: normal numbers, and whole ones within their bounds.

    Args:
        graph: the model's.
        batch: how many examples.
        length: the size of each axis whose size is known only at run time.
    """
    generator = torch.Generator().manual_seed(batch)
    found = []
    for x, bounds in zip(graph.inputs, index_bounds(program_of(graph)), strict=True):
        shape = (batch, *(length if size is None else size for size in x.spec_shape[1:]))
        dtype: torch.dtype = getattr(torch, x.dtype)
        if bounds is None and x.is_floating:
            found.append(torch.randn(shape, generator=generator).to(dtype))
        else:
            found.append(torch.randint(_limit(dtype, bounds), shape, generator=generator).to(dtype))
    return tuple(found)


def _limit(dtype: torch.dtype, bounds: Bounds | None) -> int:
    if bounds is not None:
        return bounds.limit
    return {torch.bool: 2, torch.uint8: 256}.get(dtype, ABOVE)


def _given(model: nn.Module, inputs: Tensors) -> Tensors:
    with torch.no_grad():
        return tuple(tensors_of(model(*inputs)))


def difference(given: Callable[[Tensors], Sequence[Tensor]], cases: Cases, names: Sequence[str], by: str) -> float:
    """The largest difference between what something gives and what the model does.

    It is relative to the largest number of an output, where that is above 1.

    Args:
        given: what is compared with the model: its outputs, of inputs.
        cases: the examples.
        names: of the outputs.
        by: what messages call it.

    Raises:
        RegspecError: where it is above 1e-4, or 0.02 for half precision; or where it takes no batch of another size.
    """
    largest = 0.0
    for case in cases.others:
        try:
            with torch.no_grad():
                got = given(case.inputs)
        except Exception as error:  # whatever torch or a runtime raises
            sizes = " and ".join(str(tuple(x.shape)) for x in case.inputs)
            raise RegspecError(Problem(f"{by} does not take inputs of {sizes}: {reason(error)}")) from None
        for name, ours, theirs in zip(names, case.outputs, got, strict=True):
            if ours.shape != theirs.shape:
                what = f"{by} gives {tuple(theirs.shape)} for '{name}', and the model {tuple(ours.shape)}"
                raise RegspecError(Problem(what))
            apart = _apart(ours, theirs)
            if not apart <= (2e-2 if ours.dtype in HALF else 1e-4):
                raise RegspecError(Problem(f"{by} gives other numbers than the model for '{name}': {apart:.2g} apart"))
            largest = max(largest, apart)
    return largest


def _apart(ours: Tensor, theirs: Tensor) -> float:
    ours, theirs = ours.double(), theirs.double()
    if not torch.equal(ours.isfinite(), theirs.isfinite()):
        return float("inf")
    is_finite = ours.isfinite()
    if not is_finite.any():
        return 0.0
    ours, theirs = ours[is_finite], theirs[is_finite]
    return ((ours - theirs).abs().max() / ours.abs().max().clamp_min(1)).item()


def reason(error: BaseException | None) -> str:
    """What an error says, in a line: torch's go on for pages."""
    words = " ".join(str(error).split())
    return words if len(words) <= 300 else f"{words[:300].rsplit(' ', 1)[0]} …"
