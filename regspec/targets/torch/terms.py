"""The statements of a constructor that add a class's terms and constraints, one for those that are alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from regspec.code.expressions import Call, Value
from regspec.code.grouping import grouped
from regspec.graph.network import Graph
from regspec.targets.python.layout import INDENT, WIDTH, Brackets, Doc, Statement, beside, called, flat
from regspec.targets.python.printing import literal
from regspec.targets.torch.lowered import Constrained, Penalized
from regspec.targets.torch.program import Program
from regspec.targets.torch.steps import Step

MANY = 3  # places that are a loop where they would not stand on one line

Constructor = Callable[[Call], Doc]  # how a call of a constructor is printed


def terms(graph: Graph, penalized: Sequence[tuple[Step, Penalized]], constructor: Constructor) -> Iterator[Statement]:
    """A statement for the weight terms of each regularizer, and one for its activity terms."""
    frozen = [beside("counts_frozen=", "True")] if graph.counts_frozen else []
    for (regularizer, own), group in grouped(penalized, lambda each: (each[1].constructor, each[1].reduction)):
        said = own or graph.reduction
        reduction = [] if said == "mean" else [beside("reduction=", literal(said))]
        weights = [(step, each) for step, each in group if not each.is_activity]
        outputs = [(step, each) for step, each in group if each.is_activity]
        if weights:
            yield Statement(called("self.add_weight_terms", [constructor(regularizer), _places(weights), *frozen]))
        if outputs:
            yield Statement(called("self.add_activity_terms", [constructor(regularizer), _places(outputs), *reduction]))


def unit_terms(program: Program, printed: Callable[[Value], Doc]) -> Iterator[Statement]:
    """A statement for the unit terms of each regularizer: for each term, the slices that vanish together."""
    if not program.graph.coupled:
        return
    from regspec.targets.torch.coupled import coupled_terms  # with numpy, which takes longer than a small spec

    frozen = [beside("counts_frozen=", "True")] if program.graph.counts_frozen else []
    for regularizer, group in grouped(coupled_terms(program), lambda each: each[1]):
        slices = printed({name: each for name, _, each in group})
        yield Statement(called("self.add_unit_terms", [printed(regularizer), slices, *frozen]))


def constraints(constrained: Sequence[tuple[Step, Constrained]], constructor: Constructor) -> Iterator[Statement]:
    """A statement for each constraint."""
    for constraint, group in grouped(constrained, lambda each: each[1].constructor):
        yield Statement(called("self.add_constraints", [constructor(constraint), _places(group)]))


def _places(each_of: Sequence[tuple[Step, Penalized | Constrained]]) -> Doc:
    """Where terms are, by their names: ``{"hidden.kernel": "hidden.weight"}``; of many, a loop over their layers."""
    placed = [(step.name, each.slot, [step.path(place) for place in each.places]) for step, each in each_of]
    (slot, end), *different = {(slot, _after(name, paths)) for name, slot, paths in placed}
    is_loop = len(placed) >= MANY and not different and end is not None and _is_dotted(slot) and _is_dotted(f"_{end}")
    if not is_loop or len(placed) < WIDTH:
        pairs = literal({f"{name}.{slot}": paths[0] if len(paths) == 1 else (*paths,) for name, slot, paths in placed})
        if not is_loop or len(flat(pairs)) < WIDTH - 3 * len(INDENT):
            return pairs
    pair = f'f"{{layer}}.{slot}": ' + (f'f"{{layer}}{end}"' if end else "layer")
    loop = beside("for layer in ", literal(tuple(step.name for step, _ in each_of)))
    return Brackets("{", (pair, loop), "}", "loop")


def _after(name: str, paths: Sequence[str]) -> str | None:
    """What stands behind a layer's name in a path; None where that does not begin with it, and for several paths."""
    return paths[0][len(name) :] if len(paths) == 1 and paths[0].startswith(name) else None


def _is_dotted(text: str) -> bool:
    """Whether a text is names with dots between them, which may be printed as it stands."""
    return all(part.isidentifier() for part in text.split("."))
