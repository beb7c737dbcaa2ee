"""Names of torch and of older Keras that are read as Keras's, each with a note: only where they mean the same.

What means something else, such as torch's momentum of a BatchNorm, stays a fault, with a hint of `synonyms`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from regspec.language.activations import ACTIVATIONS
from regspec.language.fields import Frozen
from regspec.language.forms import spread
from regspec.language.initializers import initializer_of
from regspec.language.serialized import is_serialized
from regspec.layers import find_kind
from regspec.layers.layer import Layer, Placement
from regspec.layers.nested import inner_form
from regspec.text.faults import UNKNOWN, Origin, shown
from regspec.text.hints import FIELDS, near_field
from regspec.text.problems import Problem

_RANKS = (1, 2, 3)
# Classes of torch, each with its first argument, which a value alone is; a layer of them has Keras's defaults.
_TORCH = {
    "Linear": ("Dense", "in_features"),
    "LayerNorm": ("LayerNormalization", "normalized_shape"),
    "GroupNorm": ("GroupNormalization", "num_groups"),
    **{f"Conv{rank}d": (f"Conv{rank}D", "in_channels") for rank in _RANKS},
    **{f"ConvTranspose{rank}d": (f"Conv{rank}DTranspose", "in_channels") for rank in _RANKS},
    **{f"MaxPool{rank}d": (f"MaxPooling{rank}D", "kernel_size") for rank in _RANKS},
    **{f"AvgPool{rank}d": (f"AveragePooling{rank}D", "kernel_size") for rank in _RANKS},
    **{f"AdaptiveMaxPool{rank}d": (f"AdaptiveMaxPooling{rank}D", "output_size") for rank in _RANKS},
    **{f"AdaptiveAvgPool{rank}d": (f"AdaptiveAveragePooling{rank}D", "output_size") for rank in _RANKS},
    **{f"BatchNorm{rank}d": ("BatchNormalization", "num_features") for rank in _RANKS},
    **{f"Dropout{rank}d": (f"SpatialDropout{rank}D", "p") for rank in _RANKS},
    **{f"ZeroPad{rank}d": (f"ZeroPadding{rank}D", "padding") for rank in _RANKS},
}
OF_TORCH = {name: kind for name, (kind, _) in _TORCH.items()}
# Modules of torch that are functions, by their names here: those with the same numbers by their defaults, which an
# Activation of the function has.
_FUNCTIONS = {
    "CELU": "celu",
    "GELU": "gelu",
    "Hardshrink": "hard_shrink",
    "Hardsigmoid": "hard_sigmoid",
    "Hardswish": "hard_silu",
    "Hardtanh": "hard_tanh",
    "LogSigmoid": "log_sigmoid",
    "LogSoftmax": "log_softmax",
    "Mish": "mish",
    "ReLU6": "relu6",
    "RReLU": "rrelu",
    "SELU": "selu",
    "SiLU": "silu",
    "Sigmoid": "sigmoid",
    "Softmin": "softmin",
    "Softplus": "softplus",
    "Softshrink": "soft_shrink",
    "Softsign": "softsign",
    "Tanh": "tanh",
    "Tanhshrink": "tanh_shrink",
}
FUNCTIONS_OF_TORCH = {name: ("Activation", {"activation": function}) for name, function in _FUNCTIONS.items()}
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


def selected_kind(name: str) -> str:
    """The kind that a rule selects by a name of others; else the name itself. A function is no kind to select."""
    kind = OF_TORCH.get(name) or OF_KERAS.get(name)
    return name if kind is None or find_kind(name) is not None else kind


def kind_of(name: str) -> str:
    """The kind that a name of others means; else the name itself."""
    return FUNCTIONS_OF_TORCH[name][0] if said_by(name) else selected_kind(name)


def said_by(name: str) -> dict[str, str]:
    """The fields that a name of others says besides the kind: ``{activation: gelu}`` of ``GELU``."""
    is_function = name in FUNCTIONS_OF_TORCH and find_kind(name) is None
    return FUNCTIONS_OF_TORCH[name][1] if is_function else {}


def field_of(cls: type[BaseModel], name: str, others: Iterable[str]) -> str:
    """The field of a class that a name of others means, which is none of its ``others``; else the name itself."""
    own = FIELDS.get(name)
    if own is None:
        return name
    is_other = own in cls.model_fields and name not in cls.model_fields and own not in others
    return own if is_other else name


def takes_value(written: str) -> bool:
    """Whether a value alone is the same argument by a name of others as by the kind's own."""
    kind, first = _TORCH.get(written, (written, ""))
    cls = find_kind(kind)
    return written not in _TORCH or (cls is not None and FIELDS.get(first, first) == cls.main)


def translated_kind(name: str, origin: Origin, notes: list[Problem]) -> str:
    """The kind that a name of others means; else the name itself. ``origin`` is that of its fields."""
    kind = kind_of(name)
    if kind == name:
        return name
    more = ", with Keras's defaults" if name in OF_TORCH else ""
    said = "".join(f": {value}" for value in said_by(name).values())
    _note(notes, origin, f"'{name}' is read as {kind}{said}{more}", key=True)
    return kind


def translated_name(name: Any, origin: Origin, notes: list[Problem]) -> Any:
    """The kind that a rule selects by a name of others; another value as it is."""
    own = selected_kind(name) if isinstance(name, str) else name
    if own != name:
        _note(notes, origin, f"'{name}' is read as {own}", key=False)
    return own


def are_names(value: Any) -> bool:
    """Whether a value is the name of a layer or an input, or a list of names."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(each, str) or each is UNKNOWN for each in value)
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


_NAME = re.compile(r"[A-Za-z]\w*(\.\w+)?", re.ASCII)


def wraps(cls: type[Frozen], names: Iterable[str]) -> bool:
    """Whether the keys of a mapping behind a kind are one, the layer or the cell that it wraps, and no field."""
    form = inner_form(cls)
    name, *others = names if form is not None else ("",)
    is_field = name in cls.model_fields or name in Placement.model_fields
    return form is not None and not others and not is_field and form.find(kind_of(name)) is not None


def accepted(written: str, fields: Any, origin: Origin, problems: list[Problem]) -> Any:
    """The fields of a class with what the name says, without what torch means otherwise by it, which is reported.

    `UNKNOWN` is for a value alone that is another argument of torch's.
    """
    if said_by(written):
        return _of_function(written, fields, origin, problems)
    if kind_of(written) == written or fields is None or fields is UNKNOWN:
        return fields
    if not isinstance(fields, dict):
        if takes_value(written):
            return fields
        kind, first = _TORCH[written]
        cls = find_kind(kind)
        needed = [] if cls is None else [name for name, each in cls.model_fields.items() if each.is_required()]
        form = f"{kind}: {{{', '.join(f'{name}: …' for name in needed)}}}" if needed else kind
        hint = f"it is inferred from the layer's input: write '{form}'"
        problems.append(origin.problem(f"a value alone is '{first}' of torch's {written}", hint))
        return UNKNOWN
    if written not in _COUNTS_DOWN or "momentum" not in fields:
        return fields
    hint = f"torch's momentum of m is one of 1 - m here: write 'BatchNormalization: {{momentum: {_rest(fields)}}}'"
    what = f"'momentum' of {written} counts the other way"
    problems.append((origin / "momentum").problem(what, hint, key=True))
    return {name: value for name, value in fields.items() if name != "momentum"}


def _of_function(written: str, fields: Any, origin: Origin, problems: list[Problem]) -> Any:
    """The fields of an Activation for a module of torch that is a function; arguments of that are reported."""
    if fields is None or fields is UNKNOWN:
        return fields if fields is UNKNOWN else said_by(written)
    function = _FUNCTIONS[written]
    cls = ACTIVATIONS.members[function]
    arguments = [each.alias or name for name, each in cls.model_fields.items()]
    if not isinstance(fields, dict):
        what = f"{written} takes a mapping of the fields of a layer, but is {shown(fields)}"
        problems.append(origin.problem(what, _as_argument(function, cls.main, arguments[:1])))
        return UNKNOWN
    kept = {**said_by(written)}
    for name, value in fields.items():
        argument = near_field(name, arguments) if name not in _ABOUT_LAYERS else None
        if name in kept:
            problems.append((origin / name).problem(f"the activation of {written} is {function}", key=True))
        elif argument is not None:
            hint = _as_argument(function, cls.main, [argument])
            problems.append((origin / name).problem(f"'{name}' is an argument of {function}", hint, key=True))
        else:
            kept[name] = value
    return kept


_ABOUT_LAYERS = {*Layer.model_fields, *Placement.model_fields}


def _as_argument(function: str, main: str | None, arguments: list[str]) -> str | None:
    """How an argument of a function is written."""
    values = ["…" if each == main else f"{{{each}: …}}" for each in arguments]
    return f"write '- Activation: {{activation: {{{function}: {values[0]}}}}}'" if values else None


def _rest(fields: dict[str, Any]) -> str:
    momentum = fields["momentum"]
    is_number = isinstance(momentum, int | float) and not isinstance(momentum, bool)
    return f"{1 - momentum:g}" if is_number else "0.9"


def translated_fields(
    cls: type[Frozen] | None, fields: Any, origin: Origin, notes: list[Problem], problems: list[Problem]
) -> Any:
    """Fields of a kind, with those and the initializers that others call otherwise as they are called here."""
    if cls is None or not isinstance(fields, dict):
        return fields
    if fields and wraps(cls, fields):
        fields = {cls.main: fields}
    made: dict[str, Any] = {}
    for name, value in fields.items():
        own = field_of(cls, name, fields.keys() | made.keys()) if name in FIELDS else name
        if own != name:
            _note(notes, origin / name, f"'{name}' is read as '{own}'", key=True)
            made[own] = value
        elif name.endswith("_initializer"):
            made[name] = _initializer(value, origin / name, notes)
        else:
            made[name] = _inner(value, origin / name, notes, problems) if name in WRAPPED else value
    return made


WRAPPED = frozenset(("layer", "backward_layer", "cell", "cells"))  # fields that hold layers or cells


def _inner(value: Any, origin: Origin, notes: list[Problem], problems: list[Problem]) -> Any:
    """What is inside a layer around others."""
    if isinstance(value, list):
        made = [_inner(each, origin / index, notes, problems) for index, each in enumerate(value)]
        return UNKNOWN if any(each is UNKNOWN for each in made) else made
    if isinstance(value, str):
        kind, said = translated_kind(value, replace(origin, name=origin.location), notes), said_by(value)
        return {kind: said} if said else kind
    if is_serialized(value) and isinstance(name := value["class_name"], str):
        here = replace(origin / "config", name=(origin / "class_name").location)
        fields = value.get("config")
    elif isinstance(value, dict) and len(value) == 1:
        ((name, fields),) = value.items()
        here = origin / name
    else:
        return value
    kind = translated_kind(name, here, notes)
    fields = accepted(name, fields, here, problems)
    if fields is UNKNOWN:
        return UNKNOWN
    from regspec.layers.cells import CELLS  # which few specs need

    cls = CELLS.get(kind) or find_kind(kind)
    if cls is not None and cls.main in WRAPPED:
        fields = spread(fields, cls.main)
    fields = translated_fields(cls, fields, here, notes, problems)
    return {**value, "class_name": kind, "config": fields} if is_serialized(value) else {kind: fields}


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
