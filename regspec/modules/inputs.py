"""Random inputs on which models are compared: whole numbers within the tables that they index, odd sizes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regspec.code.shapes import Symbol
from regspec.graph.network import BlockNode, Graph

if TYPE_CHECKING:
    import torch

ANY = 8  # whole numbers that index nothing are below this


@dataclass(frozen=True)
class Form:
    """What inputs look like where the model does not say: the first size, how much longer the next is, and padding."""

    first: int = 11
    step: int = 2
    is_padded: bool = True  # whether the second example of sequences ends in zeros


# Lengths that differ show what is swapped; some models take equal ones only, some need room for their windows, and some
# take no zeros.
FORMS = tuple(
    Form(first, step, is_padded)
    for first, step in ((11, 2), (11, 0), (37, 2), (37, 0), (75, 2), (75, 0), (149, 0), (299, 0))
    for is_padded in (True, False)
)


def forms_of(graph: Graph) -> tuple[Form, ...]:
    """The forms to try for a graph: those that differ for it."""
    has_unknown = any(size is None for x in graph.inputs for size in x.shape[1:])
    return FORMS if has_unknown else FORMS[:2]


def inputs_of(graph: Graph, batch: int, form: Form, seed: int = 0) -> list[torch.Tensor]:
    """A tensor for each input of a graph."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    lengths = itertools.count(form.first, form.step)
    made = []
    for x, limit in zip(graph.inputs, limits(graph), strict=True):
        shape = (batch, *(next(lengths) if size is None else size for size in x.shape[1:]))
        dtype = getattr(torch, x.dtype)
        if limit is None and x.is_floating:
            tensor = torch.randn(shape, generator=generator).to(dtype)
        else:
            high = limit or {"bool": 2, "uint8": 256}.get(x.dtype, ANY)
            tensor = torch.randint(high, shape, generator=generator).to(dtype)
        if form.is_padded and batch > 1 and x.rank == (2 if limit is not None else 3):
            tensor[1, -(tensor.shape[1] // 3) or tensor.shape[1] :] = 0
        made.append(tensor)
    return made


def limits(graph: Graph) -> list[int | None]:
    """How many indices each input of a graph may hold, from 0 up; None where it indexes nothing."""
    found: dict[Symbol, int] = {}

    def note(x: Symbol, limit: int | None) -> None:
        if limit is not None:
            found[x] = min(limit, found.get(x, limit))

    for node in reversed(graph.nodes):
        if isinstance(node, BlockNode):
            for x, limit in zip(node.inputs, limits(node.block), strict=True):
                note(x, limit)
        elif node.resolved.layer.index_limit is not None:
            note(node.inputs[0], node.resolved.layer.index_limit)
        else:  # the limit of an output holds for the inputs that it comes from
            for limit in [found.get(x) for x in node.outputs]:
                for x in node.inputs:
                    note(x, limit)
    return [found.get(x) for x in graph.inputs]
