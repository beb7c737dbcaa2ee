"""The names in a body, and hints at what may be meant by one that an entry takes, and that gives no tensor."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from regspec.code.shapes import Symbol
from regspec.graph.network import BlockNode, LayerNode
from regspec.specs.model import BlockUse, Body, Entry, Invalid
from regspec.text.problems import did_you_mean

Tensors = Mapping[str, Mapping[str, Symbol] | None]  # by the name of what gives them, and by output
ByName = Mapping[str, LayerNode | BlockNode]

_INDEXED = re.compile(r"(\w+)\[(-?\d+)\]")  # as Python counts: from 0


def names_in(body: Body) -> Iterator[str]:
    """The names that a body has: of its inputs, and of its entries."""
    yield from body.inputs
    for entry in body.entries:
        yield from names_of(entry)


def names_of(entry: Entry) -> list[str]:
    """The names by which an entry can be referred to; the last is that of its last node."""
    if isinstance(entry, Invalid) or (isinstance(entry, BlockUse) and entry.is_repeated):
        return [entry.name, *entry.names]
    return [entry.name]


def name_hint(name: str, tensors: Tensors, nodes: ByName) -> str | None:
    """What may be meant by a name that nothing has."""
    indexed = _INDEXED.fullmatch(name)
    if indexed is None or indexed[1] not in tensors:
        return did_you_mean(name, tensors)
    stem, index = indexed[1], int(indexed[2])
    outputs = [*(tensors[stem] or ())]
    copies = [copy for copy in nodes if re.fullmatch(rf"{stem}_[0-9]+", copy)]
    if stem in nodes and len(outputs) > 1:
        meant = [f"{stem}.{output}" for output in outputs]
    else:
        meant = [stem] if stem in nodes or not copies else copies
    return f"did you mean '{meant[index]}'?" if -len(meant) <= index < len(meant) else did_you_mean(name, tensors)


def output_hint(name: str, output: str, tensors: Tensors, nodes: ByName) -> str:
    """What to write for an output that a layer or a block does not have."""
    copies = (node for each, node in nodes.items() if re.fullmatch(rf"{name}_[0-9]+", each))
    node = nodes[name] if name in nodes else next(copies, None)
    if isinstance(node, BlockNode) and output in node.block.names:
        given = node.block.output_names
        listed = ", ".join([*(each.source for each in node.block.outputs), output])
        written = f"[{listed}]" if given is None else f"{{…, {output}: {output}}}"
        return f"'{output}' is inside the block: give it there, 'outputs: {written}'"
    return f"it has {', '.join(f'{name}.{each}' for each in tensors[name] or ())}"
