"""Masks as tensors of Keras's graph: how each is computed, for the layers that are told which steps count.

Keras's layers hand masks on by themselves. But its operations don't, a recurrent layer that is given a state takes
none, and attention takes them off; and in the files that Keras writes the mask of a layer is an argument of its call.
So it is one here, too, where it can be computed from tensors. Inside a block the mask of the block's own input is not
known, and Keras hands it on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from regspec.code.expressions import Binary, Method
from regspec.code.shapes import Symbol
from regspec.graph.network import LayerNode
from regspec.language.fields import snake_case
from regspec.layers.masking import OPERATIONS_OF_MASKS
from regspec.targets.keras.network import Operation, Tensor

Calling = Callable[[str, Operation, tuple[Any, ...]], Tensor]  # by the name of the call


@dataclass
class Masks:
    """The masks of one network, and the tensors that they are, once they are asked for."""

    tensors: dict[Symbol, Tensor]  # of the network, by the graph's
    call: Calling
    makers: dict[Symbol, LayerNode] = field(default_factory=dict)  # the nodes that compute them
    known: dict[Symbol, Tensor | None] = field(default_factory=dict)

    def add(self, node: LayerNode) -> None:
        """Notes the mask that a node gives its outputs, where it computes it."""
        mask = node.outputs[0].mask
        if mask is not None and mask not in self.makers and all(mask is not each for each in node.masks):
            self.makers[mask] = node

    def tensor(self, mask: Symbol) -> Tensor | None:
        """The tensor that a mask is; None where it can't be computed from tensors."""
        if mask in self.tensors:
            return self.tensors[mask]
        if mask not in self.known:
            node = self.makers.get(mask)
            self.known[mask] = None if node is None else self._computed(node)
        return self.known[mask]

    def _computed(self, node: LayerNode) -> Tensor | None:
        resolved = node.resolved
        if not all(x.is_plain for x in node.inputs):
            return None
        made = resolved.layer.output_mask(*resolved.inputs)
        own: dict[Any, Tensor | None] = {}
        for x, given, mask in zip(resolved.inputs, node.inputs, node.masks, strict=True):
            own[x] = self.tensors.get(given)
            if x.mask is not None and mask is not None:
                own[x.mask] = self.tensor(mask)
        found: Tensor | None = self._value(made, own, f"{node.name}_mask")
        return found

    def _value(self, value: Any, own: dict[Any, Tensor | None], name: str) -> Any:
        """An expression of a mask as a tensor, and a number as it is."""
        if isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, Symbol):
            return own.get(value)
        fields: dict[str, Any] = {}
        match value:
            case Binary(operator=operator, left=left, right=right) if operator in OPERATIONS_OF_MASKS:
                kind = OPERATIONS_OF_MASKS[operator]
                given = tuple(self._value(each, own, name) for each in (left, right))
            case Method(of=of, name=method, keywords=keywords) if method in OPERATIONS_OF_MASKS:
                kind, fields = OPERATIONS_OF_MASKS[method], {"axis": keywords["dim"]}
                given = (self._value(of, own, name),)
            case _:
                return None
        if any(each is None for each in given):
            return None
        called = Operation(str(kind.keras_operation), kind.__name__, snake_case(kind.__name__), fields)
        return self.call(name, called, given)
