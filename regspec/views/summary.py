"""What a model consists of: a row for each layer, the totals, and the graph as a Mermaid diagram."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regspec.code import shapes
from regspec.code.shapes import Symbol
from regspec.graph.network import BlockNode, Graph
from regspec.layers.layer import Weight


@dataclass(frozen=True, slots=True)
class Row:
    """A layer: its qualified name, its kind, its output shapes, its parameters, its penalties by slot."""

    name: str
    kind: str
    output_shapes: tuple[str, ...]
    parameters: int | None  # None where only the user's module knows it
    trainable: int | None
    penalties: Mapping[str, str] = field(default_factory=dict)  # the weight or activity -> the regularizer
    is_call: bool = False  # whether it calls a layer above again


@dataclass(frozen=True, slots=True)
class Summary:
    """A model's layers and totals."""

    name: str
    inputs: Mapping[str, str]
    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        """The numbers that the model's weights hold, moving statistics among them; registered layers not counted."""
        return sum(row.parameters or 0 for row in self.rows)

    @property
    def trainable(self) -> int:
        """The numbers that are trained."""
        return sum(row.trainable or 0 for row in self.rows)

    @property
    def penalties(self) -> int:
        """The number of terms."""
        return sum(len(row.penalties) for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """The summary as plain data, for ``--format json``."""
        return {
            "name": self.name,
            "inputs": dict(self.inputs),
            "layers": [
                {
                    "name": row.name,
                    "kind": row.kind,
                    "is_call": row.is_call,
                    "output_shapes": list(row.output_shapes),
                    "parameters": row.parameters,
                    "trainable": row.trainable,
                    "penalties": dict(row.penalties),
                }
                for row in self.rows
            ],
            "parameters": self.parameters,
            "trainable": self.trainable,
            "penalties": self.penalties,
        }

    @property
    def totals(self) -> str:
        """The totals in words."""
        trained = "" if self.trainable == self.parameters else f" ({self.trainable:,} trained)"
        parameters = plural(self.parameters, "parameter", "parameters")
        if any(row.parameters is None for row in self.rows):
            parameters = f"{parameters} and those of the user's own layers"
        layers = plural(len(self.rows), "layer", "layers")
        penalties = plural(self.penalties, "penalty", "penalties")
        return f"{layers}, {parameters}{trained}, {penalties}"


def plural(number: int, one: str, many: str) -> str:
    """A number with the name of what it counts."""
    return f"{number:,} {one if number == 1 else many}"


def error_text(error: float) -> str:
    """A relative error with two digits."""
    return f"{error:.1e}" if error else "0"


def summarize(graph: Graph) -> Summary:
    """The summary of a model's graph."""
    inputs = {x.source: shapes.text(x.spec_shape) for x in graph.inputs}
    return Summary(graph.name, inputs, tuple(_rows(graph, graph, "", "")))


def _rows(root: Graph, graph: Graph, prefix: str, within: str) -> Iterator[Row]:
    """The rows of a graph in a network; ``prefix`` and ``within`` are the names and the paths of the blocks around."""
    for node in graph.nodes:
        name = prefix + node.name
        outputs = tuple(shapes.text(x.spec_shape) for x in node.outputs)
        if node.is_again:
            yield Row(name, node.kind, outputs, 0, 0, is_call=True)
        elif isinstance(node, BlockNode):
            yield from _rows(root, node.block, f"{name}.", f"{within}{node.path}.")
        else:
            weights = node.resolved.weights
            trained = [weight for weight in weights if weight.trainable and not weight.frozen]
            penalties = {slot: str(each) for slot, each in root.penalties(node, within + node.name).items()}
            totals = (None, None) if node.resolved.layer.is_opaque else (_total(weights), _total(trained))
            yield Row(name, node.kind, outputs, *totals, penalties)


def _total(weights: Sequence[Weight]) -> int | None:
    """How many numbers are in weights; None where only the user's module knows."""
    sizes = [None if weight.shape is None else math.prod(weight.shape) for weight in weights]
    return None if None in sizes else sum(size or 0 for size in sizes)


def mermaid(graph: Graph) -> str:
    """The graph as a Mermaid flowchart, blocks as subgraphs, which Markdown viewers draw."""
    lines = ["flowchart TD"]
    places: dict[Symbol, str] = {}
    for x in graph.inputs:
        lines.append(f'    {x.source}[/"{x.source}<br/>{shapes.text(x.spec_shape)}"/]')
        places[x] = x.source
    lines.extend(_drawn(graph, graph, ("", ""), places, 1))
    names = graph.output_names or tuple(f"output_{index}" for index in range(len(graph.outputs)))
    for name, x in zip(names, graph.outputs, strict=True):
        label = name if graph.output_names or not graph.is_single else "output"
        lines.append(f"    {name}_out([{label}])")
        lines.append(f"    {places[x]} --> {name}_out")
    return "\n".join(lines) + "\n"


def _drawn(root: Graph, graph: Graph, around: tuple[str, str], places: dict[Symbol, str], indent: int) -> Iterator[str]:
    """The lines of a graph's nodes; ``places`` are the diagram's nodes by the tensor that comes from them.

    ``around`` is the prefix of its nodes in the diagram, and of its layers' paths.
    """
    margin, (prefix, within) = "    " * indent, around
    for node in graph.nodes:
        if isinstance(node, BlockNode):
            inner = {own: places[x] for own, x in zip(node.block.inputs, node.inputs, strict=True)}
            yield f'{margin}subgraph {prefix}{node.name}["{node.name}: {node.kind}"]'
            inside = (f"{prefix}{node.name}__", f"{within}{node.path}.")
            yield from _drawn(root, node.block, inside, inner, indent + 1)
            yield f"{margin}end"
            places.update({x: inner[own] for x, own in zip(node.outputs, node.block.outputs, strict=True)})
            continue
        place = f"{prefix}{node.name}"
        found = root.penalties(node, within + node.name)
        penalties = "".join(f"<br/>{slot} {regularizer}" for slot, regularizer in found.items())
        outputs = ", ".join(shapes.text(x.spec_shape) for x in node.outputs)
        yield f'{margin}{place}["{node.name}: {node.kind}<br/>{outputs}{penalties}"]'
        masks = [mask for x, mask in zip(node.inputs, node.masks, strict=True) if mask is not x.mask]
        named = [mask for mask in (*masks, node.attention_mask) if mask is not None]
        yield from (f"{margin}{places[x]} --> {place}" for x in (*node.inputs, *named))
        places.update(dict.fromkeys(node.outputs, place))
