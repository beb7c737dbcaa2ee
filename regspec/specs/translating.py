"""Names of torch and of older Keras that are read as Keras's, each with a note: only where they mean the same.

What means something else, such as torch's momentum of a BatchNorm, stays a fault, with a hint of `synonyms`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from regspec.language.fields import Frozen
from regspec.layers import find_kind
from regspec.layers.cells import CELLS
from regspec.text.faults import Origin
from regspec.text.problems import Problem

_RANKS = (1, 2, 3)
# Classes of torch; a layer of them has Keras's defaults.
OF_TORCH = {
    "Linear": "Dense",
    "LayerNorm": "LayerNormalization",
    "GroupNorm": "GroupNormalization",
    **{f"Conv{rank}d": f"Conv{rank}D" for rank in _RANKS},
    **{f"ConvTranspose{rank}d": f"Conv{rank}DTranspose" for rank in _RANKS},
    **{f"MaxPool{rank}d": f"MaxPooling{rank}D" for rank in _RANKS},
    **{f"AvgPool{rank}d": f"AveragePooling{rank}D" for rank in _RANKS},
    **{f"AdaptiveMaxPool{rank}d": f"AdaptiveMaxPooling{rank}D" for rank in _RANKS},
    **{f"AdaptiveAvgPool{rank}d": f"AdaptiveAveragePooling{rank}D" for rank in _RANKS},
    **{f"BatchNorm{rank}d": "BatchNormalization" for rank in _RANKS},
    **{f"Dropout{rank}d": f"SpatialDropout{rank}D" for rank in _RANKS},
    **{f"ZeroPad{rank}d": f"ZeroPadding{rank}D" for rank in _RANKS},
}
_COUNTS_DOWN = [f"BatchNorm{rank}d" for rank in _RANKS]  # whose momentum is the share of what is new
# Other names that Keras itself has, or had.
OF_KERAS = {
    **{f"Convolution{rank}D": f"Conv{rank}D" for rank in _RANKS},
    **{f"Convolution{rank}DTranspose": f"Conv{rank}DTranspose" for rank in _RANKS},
    **{f"SeparableConvolution{rank}D": f"SeparableConv{rank}D" for rank in (1, 2)},
    **{f"MaxPool{rank}D": f"MaxPooling{rank}D" for rank in _RANKS},
    **{f"AvgPool{rank}D": f"AveragePooling{rank}D" for rank in _RANKS},
    **{f"GlobalMaxPool{rank}D": f"GlobalMaxPooling{rank}D" for rank in _RANKS},
    **{f"GlobalAvgPool{rank}D": f"GlobalAveragePooling{rank}D" for rank in _RANKS},
}
# Fields, wherever a kind has the one and not the other.
FIELDS = {
    "out_features": "units",
    "hidden_size": "units",
    "out_channels": "filters",
    "bias": "use_bias",
    "stride": "strides",
    "dilation": "dilation_rate",
    "kernel_size": "pool_size",
    "num_groups": "groups",
    "num_embeddings": "input_dim",
    "embedding_dim": "output_dim",
    "eps": "epsilon",
    "p": "rate",
    "alpha": "negative_slope",
}
# Initializers: torch's normal ones are not truncated, as Keras's he_normal and glorot_normal are.
INITIALIZERS: dict[str, Any] = {
    "xavier_uniform": "glorot_uniform",
    "kaiming_uniform": "he_uniform",
    "xavier_normal": {"variance_scaling": {"mode": "fan_avg", "distribution": "untruncated_normal"}},
    "kaiming_normal": {"variance_scaling": {"scale": 2.0, "distribution": "untruncated_normal"}},
}


def kind_of(name: str) -> str:
    """The kind that a name of others means; else the name itself."""
    kind = OF_TORCH.get(name) or OF_KERAS.get(name)
    return name if kind is None or find_kind(name) is not None else kind


def field_of(cls: type[BaseModel], name: str, others: Iterable[str]) -> str:
    """The field of a class that a name of others means, which is none of its ``others``; else the name itself."""
    own = FIELDS.get(name)
    is_other = own in cls.model_fields and name not in cls.model_fields and own not in others
    return own if own is not None and is_other else name


def initializer_of(name: str) -> Any:
    """The initializer that a name of torch means; None for another name."""
    return INITIALIZERS.get(name.removesuffix("_"))


def translated_kind(name: str, origin: Origin, notes: list[Problem]) -> str:
    """The kind that a name of others means; else the name itself. ``origin`` is that of its fields."""
    kind = kind_of(name)
    if kind == name:
        return name
    more = ", with Keras's defaults" if name in OF_TORCH else ""
    _note(notes, origin, f"'{name}' is read as {kind}{more}", key=True)
    return kind


def refusal(written: str, fields: Any, origin: Origin) -> list[Problem]:
    """What a class of torch means by a field of the same name otherwise, as problems."""
    if not (
        written in _COUNTS_DOWN and find_kind(written) is None and isinstance(fields, dict) and "momentum" in fields
    ):
        return []
    hint = f"torch's momentum of m is one of 1 - m here: write 'BatchNormalization: {{momentum: {_rest(fields)}}}'"
    return [(origin / "momentum").problem(f"'momentum' of {written} counts the other way", hint, key=True)]


def _rest(fields: dict[str, Any]) -> str:
    momentum = fields["momentum"]
    is_number = isinstance(momentum, int | float) and not isinstance(momentum, bool)
    return f"{1 - momentum:g}" if is_number else "0.9"


def translated_fields(cls: type[Frozen] | None, fields: Any, origin: Origin, notes: list[Problem]) -> Any:
    """Fields of a kind, with those and the initializers that others call otherwise as they are called here."""
    if cls is None or not isinstance(fields, dict):
        return fields
    made: dict[str, Any] = {}
    for name, value in fields.items():
        own = field_of(cls, name, (*fields, *made))
        if own != name:
            _note(notes, origin / name, f"'{name}' is read as '{own}'", key=True)
            made[own] = value
        elif name.endswith("_initializer"):
            made[name] = _initializer(value, origin / name, notes)
        else:
            made[name] = _inner(value, origin / name, notes) if name in _INNER else value
    return made


_INNER = ("layer", "backward_layer", "cell", "cells")  # fields that hold layers or cells


def _inner(value: Any, origin: Origin, notes: list[Problem]) -> Any:
    """What is inside a layer around others."""
    if isinstance(value, list):
        return [_inner(each, origin / index, notes) for index, each in enumerate(value)]
    if not isinstance(value, dict) or len(value) != 1:
        return value
    ((name, fields),) = value.items()
    if refusal(name, fields, origin):
        return value  # a name that nobody knows then
    kind = translated_kind(name, origin / name, notes)
    return {kind: translated_fields(CELLS.get(kind) or find_kind(kind), fields, origin / name, notes)}


def _initializer(value: Any, origin: Origin, notes: list[Problem]) -> Any:
    """An initializer by the name that it has here; one with arguments is not read."""
    name = next(iter(value)) if isinstance(value, dict) and len(value) == 1 else value
    own = initializer_of(name) if isinstance(name, str) else None
    if own is None or (isinstance(value, dict) and value[name]):
        return value
    is_normal = isinstance(own, Mapping)
    what = "the untruncated normal of torch, as variance_scaling" if is_normal else str(own)
    _note(notes, origin, f"'{name}' is read as {what}", key=False)
    return own


def _note(notes: list[Problem], origin: Origin, what: str, *, key: bool) -> None:
    notes.append(replace(origin.problem(what, key=key), severity="note"))
