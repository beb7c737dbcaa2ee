"""What is said of a model beside its weights: what it takes, what it gives, and what must be done before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from regspec import __version__
from regspec.code.shapes import text
from regspec.graph.network import Graph
from regspec.training.data.arrays import DIVIDED
from regspec.training.measures.objective import Objective, OutputLoss

SHOWN = 12  # names in a line, at most

SCORES = "scores, of which a softmax makes probabilities"
SHARES = "scores, of which a sigmoid makes probabilities"


def about(facts: Mapping[str, Any], graph: Graph, objective: Objective, epoch: int) -> dict[str, Any]:
    """What is said of a run's model, as plain data: versions, inputs, outputs, columns and images.

    Args:
        facts: what the run's folder says.
        graph: the model's.
        objective: what its outputs have learned.
        epoch: the one that the weights are of.
    """
    columns = facts.get("columns") or {}
    learned = {loss.target.wanted.index: _learned(loss) for loss in objective}
    said = {
        "regspec": __version__,
        "spec": graph.name,
        "epoch": epoch,
        "inputs": {x.source: {"shape": [*x.spec_shape], "dtype": x.dtype} for x in graph.inputs},
        "outputs": {
            name: {"shape": [*x.spec_shape], "dtype": x.dtype, **learned.get(index, {})}
            for index, (name, x) in enumerate(zip(output_names(graph), graph.outputs, strict=True))
        },
        "columns": {key: columns[key] for key in ("inputs", "fitted") if key in columns},
        "images": facts.get("images"),
        "divided_by": DIVIDED.get(facts["options"]["data"]),
    }
    return {key: value for key, value in said.items() if value}


def output_names(graph: Graph) -> list[str]:
    """The names of the outputs, as the spec has them; one that another output or an input has gets ``.1``."""
    inputs, names = [x.source for x in graph.inputs], list[str]()
    for name in graph.output_names or [x.source for x in graph.outputs]:
        number, free = 0, name
        while free in (*inputs, *names):
            number += 1
            free = f"{name}.{number}"
        names.append(free)
    return names


def _learned(loss: OutputLoss) -> dict[str, Any]:
    """What an output has learned, and what its numbers are."""
    classes = None if loss.target.classes is None else [*loss.target.classes]
    scaling = {} if loss.target.scaling is None else loss.target.scaling.as_dict()
    known = {"kind": loss.target.kind, "gives": _gives(loss), **scaling}
    return {**known, **({} if classes is None else {"classes": classes})}


def _gives(loss: OutputLoss) -> str:
    """What the numbers of an output are, for people."""
    kind, reads = loss.target.kind, loss.target.loss.reads
    if loss.target.scaling is not None:
        return "scaled quantities, which are x * spread + center"
    if kind == "quantities" and reads == "logarithms":
        return "logarithms of the quantities"
    if kind == "quantities" and (reads != "scores" or loss.gives_probabilities):
        return "quantities"
    if loss.gives_probabilities:
        return "probabilities"
    if reads == "margins":
        return "scores, above 0 where a label holds"
    if reads == "logarithms":
        return "logarithms of probabilities"
    if loss.is_shared_out:
        return SCORES
    return f"{SHARES} of the second class" if kind == "classes" else SHARES


def told(said: Mapping[str, Any]) -> Iterator[str]:
    """The lines for people on what a model takes and gives, and what it does not do itself."""
    columns = said.get("columns", {})
    for name, x in said["inputs"].items():
        own = columns.get("inputs", {}).get(name)
        yield f"takes {name} {_shape(x)}" + (f": {plural_of(own)} {_listed(own)}" if own else "")
    for name, x in said["outputs"].items():
        if "gives" not in x:
            yield f"gives {name} {_shape(x)}"
            continue
        what = f", of {_listed(x['classes'])}" if "classes" in x else ""
        if "center" in x:
            pairs = zip(x["center"], x["spread"], strict=True)
            what = f": {_listed([f'x * {_number(spread)} + {_number(center)}' for center, spread in pairs])}"
        yield f"gives {name} {_shape(x)}: {x['gives']}{what}"
    before = [*_before(said)]
    if before:
        yield "what must be done before, and is not in it:"
        yield from (f"  {each}" for each in before)


def _before(said: Mapping[str, Any]) -> Iterator[str]:
    """What must be done with data before a model gets them."""
    for column in said.get("columns", {}).get("fitted", ()):
        yield f"{column['name']}: {', '.join(_steps(column))}"
    if images := said.get("images"):
        size = f"{images['height']} by {images['width']}"
        yield f"images: {images['channels']} of {size}, bilinear, numbers 0 to {images['most']}"
    if divisor := said.get("divided_by"):
        yield f"pixels: divided by {divisor}"


def _steps(column: Mapping[str, Any]) -> Iterator[str]:
    """What becomes of a column, with what was found in the examples that were trained on."""
    said = column["said"]
    if column["gap"] is not None:
        yield f"gaps become {_number(column['gap'])}"
    if said.get("one_hot"):
        yield f"1 in the place of its word among {_listed(column['words'])}, and 0 in the others"
    if said.get("codes"):
        yield f"the numbers from 1 on of {_listed(column['words'])}, 0 for others"
    if text := said.get("text"):
        yield (
            f"the numbers of its first {text['length']} words, in small letters and without punctuation: from 2 on of "
            f"{_listed(column['words'])}; 1 for others, and 0 behind the last"
        )
    if said.get("date"):
        yield f"{', '.join(said['date'])} of the date"
    if column["center"]:
        pairs = zip(column["center"], column["spread"], strict=True)
        yield " and ".join(f"(x - {_number(center)}) / {_number(spread)}" for center, spread in pairs)


def _shape(x: Mapping[str, Any]) -> str:
    return f"{text(tuple(x['shape']))} {x['dtype']}"


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def plural_of(names: Any) -> str:
    """How the columns of these names are called."""
    return "column" if len(names) == 1 else "columns"


def _listed(names: Any) -> str:
    more = f", … ({len(names)} in all)" if len(names) > SHOWN else ""
    return ", ".join(map(str, names[:SHOWN])) + more
