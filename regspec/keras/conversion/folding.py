"""A ported model for inference: a BatchNormalization alone behind a convolution or a Dense becomes part of it.

In evaluation a BatchNormalization is ``scale * x + shift`` for each channel. So the kernel before it is multiplied by
the scale, and its bias becomes ``scale * bias + shift``; computed in float64, the result is right to the rounding of
its weights. Only what training needs is lost: the moving averages, and the penalties of the folded weights.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from regspec.graph.network import BlockNode, Graph, LayerNode, Node
from regspec.keras.arrays.matching import Arrays, WeightPath
from regspec.keras.configs.models import Model
from regspec.keras.configs.references import names_in, referred, renamed, with_renamed
from regspec.keras.conversion.linear import affine_in_evaluation, linear_weight
from regspec.layers.layer import Weight

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def folded(model: Model, graph: Graph, arrays: Arrays) -> tuple[Model, Arrays, list[str]]:
    """A model without the normalizations that can be folded into the layers before them, its arrays, and notes."""
    folding = _Folding(dict(arrays))
    made = folding.model(model, graph, ())
    if folding.count:
        notes = [f"for inference, BatchNormalization is folded into the layer before it: {folding.count} in all"]
    else:
        notes = ["no BatchNormalization stands where it could be folded into the layer before it"]
    if folding.penalized:
        names = ", ".join(".".join(path) for path in folding.penalized)
        notes.append(f"penalties and constraints of weights that were folded are left out: {names}")
    return made, folding.arrays, notes


@dataclass
class _Folding:
    """Folds a model and those inside it."""

    arrays: dict[WeightPath, NDArray[np.generic]]
    count: int = 0
    penalized: list[WeightPath] = field(default_factory=list)  # weights whose penalties or constraints are left out

    def model(self, model: Model, graph: Graph, within: WeightPath) -> Model:
        """A model, or one inside it."""
        nodes = {node.name: node for node in graph.nodes}
        taken = [name for _, fields in model.items() for name in referred(fields)]
        uses = Counter(name.partition(".")[0] for name in (*taken, *names_in(model.outputs)))
        closed = {fields["layer"] for kind, fields in model.items() if kind == "call"}  # what can't be folded
        closed |= {fields["name"] for kind, fields in model.items() if kind == "call" or "mask" in fields}
        kept: dict[str, tuple[str, dict[str, Any]]] = {}
        instead: dict[str, str] = {}
        inner = {}
        for kind, said in model.items():
            name = said["name"]
            fields = with_renamed(said, instead)
            if name in model.inner:
                node = nodes[name]
                assert isinstance(node, BlockNode)  # it is a model inside
                inner[name] = self.model(model.inner[name], node.block, (*within, name))
            before = fields["inputs"][0]
            is_open = before in kept and uses[before] == 1 and not {name, before} & closed
            made = self._fold(kept[before][1], nodes[before], nodes[name], within) if is_open else None
            if made is None:
                kept[name] = (kind, fields)
                continue
            activity = {key: value for key, value in fields.items() if key == "activity_regularizer"}
            kept[before] = (kept[before][0], {**made, **activity})
            closed |= {before} if activity else set()
            instead[name] = before
            uses[before] = uses[name]
        entries = [{kind: fields} for kind, fields in kept.values()]
        return replace(model, entries=entries, inner=inner, outputs=renamed(model.outputs, instead))

    def _fold(self, fields: dict[str, Any], node: Node, after: Node, within: WeightPath) -> dict[str, Any] | None:
        """A layer's fields with the one after it folded in, whose arrays change; None where it can't be."""
        if not isinstance(node, LayerNode) or not isinstance(after, LayerNode) or node.resolved.activity is not None:
            return None
        layer, following = node.resolved.layer, after.resolved.layer
        weights, weights_after = node.resolved.weights, after.resolved.weights
        if node.outputs[0].dtype != after.outputs[0].dtype:  # in another precision
            return None
        path, path_after = (*within, node.name), (*within, after.name)
        known = {weight.name: self.arrays.get((*path_after, weight.name)) for weight in weights_after}
        linear, scaling = linear_weight(layer, node.resolved.inputs[0]), None
        if linear is not None and not any(array is None for array in known.values()):
            exact = {name: array.astype("float64") for name, array in known.items() if array is not None}
            scaling = affine_in_evaluation(following, after.resolved.inputs[0], exact)
        if linear is None or scaling is None or linear[1] != scaling[0]:
            return None
        (name, _), (_, scale, shift) = linear, scaling
        kernel = next(weight for weight in weights if weight.name == name)
        at_kernel, at_bias = (*path, name), (*path, "bias")
        array, bias = self.arrays[at_kernel], self.arrays.get(at_bias)
        self.arrays[at_kernel] = (array * scale.reshape(_along_outputs(kernel))).astype(array.dtype)
        self.arrays[at_bias] = (shift if bias is None else bias * scale + shift).astype(array.dtype)
        for each in known:
            self.arrays.pop((*path_after, each))
        self.count += 1
        self.penalized += [(*path, weight.name) for weight in weights if _is_governed(weight)]
        self.penalized += [(*path_after, weight.name) for weight in weights_after if _is_governed(weight)]
        dropped = {f"{weight.slot}_{what}" for weight in weights for what in ("regularizer", "constraint")}
        return {key: value for key, value in fields.items() if key not in dropped and key != "use_bias"}


def _is_governed(weight: Weight) -> bool:
    return weight.regularizer is not None or weight.constraint is not None


def _along_outputs(weight: Weight) -> list[int]:
    """The shape of one number for each output, so that it multiplies Keras's array of a weight."""
    names = {name for dimension in weight.pattern.outputs for name in weight.pattern.torch[dimension]}
    sizes = zip(weight.pattern.keras, weight.shape or (), strict=True)
    return [size if name in names else 1 for name, size in sizes]
