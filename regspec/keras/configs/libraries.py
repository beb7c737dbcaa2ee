"""Libraries whose layers have names like Keras's and compute otherwise: what each is, and the way out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Library:
    """A library of layers for Keras."""

    name: str
    package: str  # under which its classes are registered, and its modules are, in small letters
    classes: re.Pattern[str]  # the names of its classes, where a file says no package
    does: str
    advice: str

    def has(self, item: Mapping[str, Any]) -> bool:
        """Whether a layer in a config is of it."""
        said = [item.get("module"), item.get("registered_name"), item.get("class_name")]
        roots = {
            re.split("[.>]", each)[0].lower() for each in said if isinstance(each, str) and re.search("[.>]", each)
        }
        if roots & {library.package for library in LIBRARIES}:
            return self.package in roots
        return self.classes.fullmatch(str(item.get("class_name"))) is not None


_LAYERS = (
    r"(Dense|Conv\dD|Depthwise|Separable|BatchNorm|Activation|LSTM|GRU|SimpleRNN|Bidirectional|\w*Pooling|Adaptive)\w*"
)
LIBRARIES = (
    Library(
        "QKeras",
        "qkeras",
        re.compile(f"Q{_LAYERS}"),
        "rounds weights and activations to few bits in every call",
        "let qkeras.utils.model_save_quantized_weights round its weights, and set them in a model of Keras's own "
        "layers, with the rounding of activations as layers of yours",
    ),
    Library(
        "Larq",
        "larq",
        re.compile(f"Quant{_LAYERS}"),
        "computes with weights of one bit",
        "save it in larq.context.quantized_scope(True), which stores these, and set them in a model of Keras's own "
        "layers",
    ),
    Library(
        "HGQ",
        "hgq",
        re.compile(rf"(H|P)({_LAYERS}|Quantize|Add|Flatten|Reshape|Concatenate)"),
        "rounds each number of its weights and activations to bits that it has learned",
        "set its rounded weights in a model of Keras's own layers",
    ),
)


def library_of(item: Mapping[str, Any]) -> Library | None:
    """The library that a layer in a config is of, if it is one of these."""
    return next((each for each in LIBRARIES if each.has(item)), None)
