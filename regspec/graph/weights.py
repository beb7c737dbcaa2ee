"""The weights of other layers that a regularizer takes, by the names that a spec has for them."""

from __future__ import annotations

from collections.abc import Iterable

from regspec.code.shapes import ShapeError
from regspec.graph.network import LayerNode, Node
from regspec.layers.layer import Weight
from regspec.text.problems import did_you_mean


def weight_named(name: str, node: LayerNode, nodes: Iterable[Node]) -> tuple[LayerNode, Weight]:
    """The layer and the weight that ``decoder.kernel`` names, or ``kernel``, which is the node's own.

    A layer sees those of the network, or of the block, in which it stands itself.

    Raises:
        ShapeError: where there is none of the name, or it is several parameters in torch.
    """
    own = {weight.name for weight in node.resolved.weights}
    layer, _, weight = name.partition(".") if name not in own and "." in name else (node.name, "", name)
    layers = {each.name: each for each in nodes if isinstance(each, LayerNode)}
    what = f"has a penalty that takes '{name}', but"
    if layer not in layers:
        raise ShapeError(f"{what} there is no layer '{layer}' beside it", did_you_mean(layer, layers))
    found = layers[layer]
    found = found.first if isinstance(found.first, LayerNode) else found
    weights = {each.name: each for each in found.resolved.weights}
    if weight not in weights:
        is_layer = layer == node.name and weight in layers
        hint = f"name its weight, too: '{weight}.kernel'" if is_layer else did_you_mean(weight, weights)
        raise ShapeError(f"{what} the weights of '{layer}' are {', '.join(weights) or 'none'}", hint)
    if len(weights[weight].parameters) > 1:
        raise ShapeError(f"{what} that is several parameters in torch: {', '.join(weights[weight].parameters)}")
    return found, weights[weight]
