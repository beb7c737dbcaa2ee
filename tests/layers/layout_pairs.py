"""Networks written twice: with ``data_format: channels_last``, as Keras has them, and without one.

They are those that rows of single layers can't be: layers whose fields count by place, merges of several ranks,
layers that are called again, and states. How the outputs lie to each other is written out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .layouts import FIRST, FIRST_IN_STEPS, Order, meanings_of

PLAIN = {rank: tuple(range(rank)) for rank in range(2, 7)}
SIGNAL, IMAGE, VOLUME, VIDEO = FIRST[3], FIRST[4], FIRST[5], FIRST_IN_STEPS[2]
SIZES = {
    SIGNAL: (7, 4),
    IMAGE: (6, 7, 3),
    VOLUME: (3, 4, 5, 2),
    VIDEO: (4, 6, 7, 3),
    PLAIN[2]: (24,),
    PLAIN[3]: (7, 4),
    PLAIN[4]: (6, 7, 3),
}

Layers = list[Any]


@dataclass(frozen=True)
class Pair:
    """A network with channels last, and the same as a spec without a data_format has it."""

    last: Layers
    first: Layers
    inputs: dict[str, tuple[Order, tuple[int, ...]]]  # how the second counts each, and its sizes in Keras's order
    outputs: list[Order]  # how the second counts each output

    def documents(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Both specs as plain data."""
        last = {name: {"shape": [*sizes]} for name, (_, sizes) in self.inputs.items()}
        first: dict[str, Any] = {}
        for name, (order, sizes) in self.inputs.items():
            first[name] = {"shape": [(None, *sizes)[axis] for axis in order[1:]]}
            meanings = ["channels", "length"] if order == SIGNAL else meanings_of(order)
            if order == PLAIN[4]:
                meanings = ["height", "width", "channels"]
            if meanings is not None:
                first[name]["axes"] = meanings
        return (
            {**self._body(self.last), "data_format": "channels_last", "inputs": last},
            {**self._body(self.first), "inputs": first},
        )

    def _body(self, layers: Layers) -> dict[str, Any]:
        names = [next(iter(layer.values()))["name"] for layer in layers[-len(self.outputs) :]]
        return {"regspec": 1, "name": "pair", "layers": layers, "outputs": names}


def on(order: Order, *outputs: Order, last: Layers, first: Layers | None = None, **others: Order) -> Pair:
    """A pair whose input ``x`` is counted in this order by the second, as are ``others``; by default alike."""
    inputs = {"x": order, **others}
    return Pair(
        _named(last),
        _named(last if first is None else first),
        {name: (each, SIZES[each]) for name, each in inputs.items()},
        list(outputs),
    )


def _named(layers: Layers) -> Layers:
    """The layers, each with a name: its own, or its number."""
    named: Layers = []
    for index, layer in enumerate(layers):
        ((kind, fields),) = ({layer: {}} if isinstance(layer, str) else layer).items()
        named.append({kind: {"name": f"layer_{index}", **fields}})
    return named


def _wrapped(kind: str, **fields: Any) -> Layers:
    return [{"TimeDistributed": {"layer": {kind: fields}}}]


CONV = {"Conv2D": {"filters": 4, "kernel_size": [2, 3], "padding": "same"}}
STEPS = {"filters": 3, "kernel_size": [2, 3], "padding": "same"}
POOLED = {"GlobalAveragePooling2D": {"name": "pooled", "inputs": "x"}}


def _again(kind: str, **fields: Any) -> Layers:
    """A layer on ``x``, and then on ``y``."""
    return [
        {kind: {**fields, "name": "layer", "inputs": "x"}},
        {"call": {"layer": "layer", "inputs": "y", "name": "again"}},
    ]


def _with_states(**fields: Any) -> Layers:
    """A recurrent layer that begins with the states of another."""
    return [
        {"ConvLSTM2D": {**STEPS, "name": "one", "return_state": True, "inputs": "x"}},
        {"ConvLSTM2D": {**STEPS, **fields, "name": "two", "inputs": ["x", "one.1", "one.2"]}},
    ]


PAIRS = {
    # several ranks
    "image times pooled": on(IMAGE, IMAGE, last=[POOLED, {"Multiply": {"inputs": ["x", "pooled"]}}]),
    "pooled times image": on(IMAGE, IMAGE, last=[POOLED, {"Multiply": {"inputs": ["pooled", "x"]}}]),
    "maximum of volume and vector": on(
        VOLUME,
        VOLUME,
        last=[
            {"GlobalMaxPooling3D": {"name": "pooled"}},
            {"Average": {"inputs": ["x", "pooled", "x"]}},
        ],
    ),
    "image less sequence": on(
        IMAGE,
        IMAGE,
        last=[{"Dense": {"units": 3, "inputs": "y"}}, {"Subtract": {"inputs": ["x", "layer_0"]}}],
        y=PLAIN[3],
    ),
    "excited": on(
        IMAGE,
        IMAGE,
        last=[
            {"GlobalAveragePooling2D": {"keepdims": True}},
            {"Dense": {"units": 3, "activation": "sigmoid"}},
            {"Multiply": {"inputs": ["x", "layer_1"]}},
        ],
    ),
    # several orders
    "image and turned image": on(IMAGE, IMAGE, last=[{"Add": {"inputs": ["x", "y"]}}], y=PLAIN[4]),
    "turned image and image": on(IMAGE, PLAIN[4], last=[{"Maximum": {"inputs": ["y", "x"]}}], y=PLAIN[4]),
    "joined": on(
        IMAGE,
        IMAGE,
        last=[{"Concatenate": {"inputs": ["x", "y"], "axis": 1}}],
        first=[{"Concatenate": {"inputs": ["x", "y"], "axis": 2}}],
        y=PLAIN[4],
    ),
    **{
        f"{kind} again": on(IMAGE, IMAGE, PLAIN[4], last=_again(kind, **fields), y=PLAIN[4])
        for kind, fields in {
            "BatchNormalization": {},
            "GroupNormalization": {"groups": 1},
            "LayerNormalization": {},
            "UnitNormalization": {},
            "Softmax": {},
            "Dense": {"units": 4, "activation": "softmax"},
        }.items()
    },
    "a call of a call": on(
        IMAGE,
        IMAGE,
        last=[
            {"Conv2D": {"name": "layer", "filters": 3, "kernel_size": 2, "inputs": "x"}},
            {"call": {"layer": "layer", "name": "again", "inputs": "layer"}},
            {"call": {"layer": "again", "name": "third", "inputs": "again"}},
        ],
    ),
    # by place
    "flat": on(IMAGE, PLAIN[2], last=[CONV, {"Permute": {"dims": [3, 1, 2]}}, "Flatten"], first=[CONV, "Flatten"]),
    "shaped as signal": on(
        PLAIN[2],
        SIGNAL,
        last=[
            {"Reshape": {"target_shape": [4, 6]}},
            {"Permute": {"dims": [2, 1]}},
            {"Conv1D": {"filters": 3, "kernel_size": 2}},
        ],
        first=[
            {"Reshape": {"target_shape": [4, 6], "axes": ["channels", "length"]}},
            "Identity",
            {"Conv1D": {"filters": 3, "kernel_size": 2}},
        ],
    ),
    "shaped as image": on(
        PLAIN[2],
        IMAGE,
        last=[{"Reshape": {"target_shape": [2, 3, 4]}}, {"Permute": {"dims": [2, 3, 1]}}, CONV],
        first=[{"Reshape": {"target_shape": [2, 3, 4], "axes": ["channels", "height", "width"]}}, "Identity", CONV],
    ),
    "turned signal": on(
        SIGNAL,
        PLAIN[3],
        last=["Identity", {"Dense": {"units": 3}}],
        first=[{"Permute": {"dims": [2, 1], "axes": ["steps", "features"]}}, {"Dense": {"units": 3}}],
    ),
    "turned image for a layer": on(
        IMAGE,
        PLAIN[2],
        last=["Identity", CONV, "GlobalMaxPooling2D"],
        first=[{"Permute": {"dims": [2, 3, 1]}}, CONV, "GlobalMaxPooling2D"],
    ),
    "product of signals": on(
        SIGNAL,
        PLAIN[3],
        last=[{"Dot": {"axes": 1, "inputs": ["x", "y"]}}],
        first=[{"Dot": {"axes": 2, "inputs": ["x", "y"]}}],
        y=SIGNAL,
    ),
    "product along an axis of images": on(
        IMAGE,
        IMAGE,
        last=[{"EinsumDense": {"equation": "bhwc,cd->bhwd", "output_shape": [None, None, 4], "bias_axes": "d"}}],
        first=[{"EinsumDense": {"equation": "bchw,cd->bdhw", "output_shape": [4, None, None], "bias_axes": "d"}}],
    ),
    # in steps
    "flat in steps": on(
        VIDEO,
        PLAIN[3],
        last=[*_wrapped("Permute", dims=[3, 1, 2]), *_wrapped("Flatten")],
        first=["Identity", *_wrapped("Flatten")],
    ),
    "shaped in steps": on(
        VIDEO,
        PLAIN[4],
        last=[*_wrapped("Permute", dims=[3, 1, 2]), *_wrapped("Reshape", target_shape=[6, 21])],
        first=["Identity", *_wrapped("Reshape", target_shape=[6, 21])],
    ),
    "turned in steps": on(VIDEO, PLAIN[5], last=["Identity"], first=_wrapped("Permute", dims=[2, 3, 1])),
    "turned in steps by two": on(
        VIDEO, PLAIN[5], last=_wrapped("Permute", dims=[2, 1, 3]), first=_wrapped("Permute", dims=[3, 2, 1])
    ),
    "convolved and pooled in steps": on(
        VIDEO, PLAIN[3], last=[*_wrapped("Conv2D", filters=4, kernel_size=2), *_wrapped("GlobalMaxPooling2D")]
    ),
    # states
    "states": on(VIDEO, IMAGE, last=_with_states()),
    "states with an activation along the channels": on(VIDEO, IMAGE, last=_with_states(activation="softmax")),
    "sequence from states": on(VIDEO, VIDEO, last=_with_states(return_sequences=True)),
    "both ways": on(VIDEO, IMAGE, last=[{"Bidirectional": {"layer": {"ConvLSTM2D": STEPS}}}]),
    "both ways in steps": on(
        VIDEO, VIDEO, last=[{"Bidirectional": {"layer": {"ConvLSTM2D": {**STEPS, "return_sequences": True}}}}]
    ),
}
