"""Keras's serialized values as the forms of a spec: regularizers, constraints, initializers, activation functions.

A value is plain data: a string, a number, or a mapping with ``class_name`` and ``config``. Nothing that it names is
ever imported.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from regspec.keras.configs.bytecode import described
from regspec.keras.configs.defaults import is_like
from regspec.language.fields import snake_case
from regspec.language.forms import Named
from regspec.language.sorts import FAMILIES

Item = dict[str, Any]  # a layer, a model or the like in a file: class_name, config, and what else Keras says of it

# Layers that a file may have in place of an activation function: the function, its arguments by those of the layer
# where the names differ, and arguments that the layer does not have.
LAYERS: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "ELU": ("elu", {}, {}),
    "LeakyReLU": ("leaky_relu", {"alpha": "negative_slope"}, {}),  # as Keras 2 calls it
    "ReLU": ("relu", {}, {}),
    "Softmax": ("softmax", {}, {}),
    "ThresholdedReLU": ("threshold", {"theta": "threshold"}, {"default_value": 0.0}),
}
LAMBDA = {"value"}  # the keys of a lambda's code
# Arguments that are left out: those of initializers, because the weights come from the file, and those of anything.
NOT_FIELDS = ("seed", "input_axes", "output_axes", "name", "dtype")


# The packages whose modules Keras's own objects are in; functions of any package are written as if they were built in.
ROOTS = ("keras", "tf_keras", "tensorflow", "builtins")


HOLDERS_OF_FUNCTIONS = ("Activation",)  # layers that stand for the function in a field of theirs


class UnportedError(Exception):
    """A value, a layer or a call that has no counterpart; its text says which, and ``hint`` the way out, if any.

    ``others`` are further ones of the same layer.
    """

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what)
        self.hint = hint
        self.others: tuple[UnportedError, ...] = ()


class UnfitError(UnportedError):
    """What the user has put in the place of a value does not fit what the file says of that."""


def is_foreign(item: Mapping[str, Any]) -> bool:
    """Whether a serialized object is none of Keras's own, whatever its name: a class or a function of the user's."""
    module, registered = item.get("module"), item.get("registered_name")
    if isinstance(module, str):
        return module.partition(".")[0] not in ROOTS
    return registered is not None and registered != "function"


Choosing = Callable[[Sequence[str]], "str | None"]  # gives what the user has put in the place of a thing of these names


def spec_form(
    value: Any, sort: str, generation: int = 3, *, place: str | None = None, choose: Choosing | None = None
) -> Any:
    """A thing of a family as a spec writes it: its name, or ``{name: arguments}``; None for none.

    Args:
        value: as Keras has serialized it.
        sort: of `FAMILIES`.
        generation: that of the Keras that wrote it.
        place: where it stands, ``layer.field``.
        choose: gives the member that the user has put in its place, by its place and its names.

    Raises:
        UnportedError: where the family has no such member.
    """
    if value is None:
        return None
    if (own := _chosen(value, sort, place, choose)) is not None:
        return _of_the_user(own, value, sort)
    is_text = isinstance(value, str)
    if isinstance(value, dict) and value.keys() == LAMBDA:  # which Keras 3 writes so in the place of an activation
        value = {"class_name": "__lambda__", "config": value}
    if isinstance(value, str):
        name, config = value, dict[str, Any]()
    elif isinstance(value, dict) and isinstance(value.get("class_name"), str):
        name, config = value["class_name"], value.get("config") or {}
        if name == "__lambda__":
            raise UnportedError(f"the {sort} is a lambda: {described(config)}", replacing(sort, place or "LAYER.FIELD"))
        if name == "function":  # an activation function of its own
            name, config = config if isinstance(config, str) else "", {}
    else:
        raise UnportedError(f"the {sort} {str(value)[:80]}")
    if ">" in name:  # registered with Keras
        value, is_text = {"registered_name": name}, False
        name = name.rpartition(">")[2]
    if sort == "activation" and isinstance(config, dict) and "trainable" in config:  # a layer in a function's place
        name, config = _function_of(name, config)
        if name in HOLDERS_OF_FUNCTIONS:
            return spec_form(config.get("activation"), sort, generation, place=place, choose=choose)
    member = _member(name, sort)
    if not is_text and is_foreign(value) and not (member is not None and member.is_registered):
        what = f"the {sort} '{name}', which is none of Keras's own ({value.get('registered_name')})"
        raise UnportedError(what, replacing(sort, name))
    if sort == "regularizer" and name in NORMS:
        return _norms(name, config, is_text, generation)
    if member is None:
        raise UnportedError(f"the {sort} '{name}'", replacing(sort, name))
    if not isinstance(config, dict):
        raise UnportedError(f"the {sort} '{name}' with {str(config)[:80]}")
    return _written(member, config, f"the {sort} '{name}' with")


def _member(name: str, sort: str) -> type[Named] | None:
    """The member of a family that a name in a file is."""
    family = FAMILIES[sort]
    member: type[Named] | None = family.get(name) or family.get(snake_case(name).removesuffix(f"_{sort}"))
    return member


def _chosen(value: Any, sort: str, place: str | None, choose: Choosing | None) -> str | None:
    """The member that the user has put in the place of a value: by that place, or by what is none of Keras's own."""
    if choose is None:
        return None
    names = names_of(value)
    is_foreigner = isinstance(value, dict) and is_foreign(value)
    is_own = is_foreigner or not all(_is_known(each, sort) for each in names)
    return choose([*([] if place is None else [place]), *(names if is_own else [])])


def names_of(value: Any) -> list[str]:
    """What a regularizer or the like, or a layer, may be called by in a file: its class, or its function."""
    said = [value]
    if isinstance(value, dict):
        said = [value.get("registered_name"), value.get("class_name")]
        if said[-1] == "function":
            said[-1] = value.get("config")
    return [name for each in said if isinstance(each, str) for name in dict.fromkeys((each, each.rpartition(">")[2]))]


def _is_known(name: str, sort: str) -> bool:
    """Whether a name in a file means something of Keras's own."""
    return name in (*NORMS, *LAYERS, *HOLDERS_OF_FUNCTIONS, "function") or _member(name, sort) is not None


def _of_the_user(name: str, value: Any, sort: str) -> Any:
    """What stands in for a value: a member of the family, with what the value's config says."""
    member = FAMILIES[sort].members[name]
    config = value.get("config") if isinstance(value, dict) and value.get("class_name") != "__lambda__" else None
    where = f"'{name}', in the place of the {sort},"
    try:
        fields = _written(member, config if isinstance(config, dict) else {}, f"{where} does not take")
    except UnportedError as reason:
        raise UnfitError(str(reason), f"'{name}' gets what the file says of it: give it such a parameter") from None
    given = fields[name] if isinstance(fields, dict) else {}
    missing = [field for field, own in member.model_fields.items() if own.is_required() and field not in given]
    if missing:
        hint = f"give it {'defaults' if len(missing) > 1 else 'a default'} in '{name}'"
        raise UnfitError(f"{where} needs {' and '.join(missing)}, which the file lacks", hint)
    return fields


def _written(member: type[Named], config: Mapping[str, Any], what: str) -> Any:
    """A member of a family as a spec writes it, with the arguments that differ from their defaults.

    ``what`` is said of an argument that it does not take.
    """
    fields = {field: shortened(each) for field, each in config.items() if field not in NOT_FIELDS}
    for field, each in [*fields.items()]:
        if field not in member.model_fields:
            if each is not None:
                raise UnportedError(f"{what} {field} = {str(each)[:80]}")
            del fields[field]
        elif isinstance(each, dict):
            raise UnportedError(f"{what} {field} = {str(each)[:80]}")
        elif is_like(each, member.model_fields[field].default):
            del fields[field]
    fields = {field: fields[field] for field in member.model_fields if field in fields}
    return {member.name: fields} if fields else member.name


def replacing(sort: str, name: str) -> str:
    """How a thing of a family becomes known that is the user's own: by what it is called, or by its place."""
    way = f"write it in torch, and give --replace '{name}=package.module:function'"
    if not name.isidentifier():
        return way
    return f"{way}; or write @regspec.register_{sort}(name='{snake_case(name)}') above it, and give --import its module"


def _function_of(name: str, config: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The activation function for which a layer stands, and its arguments."""
    if config.get("activity_regularizer") is not None:
        raise UnportedError(f"the activation {name} with an activity_regularizer of its own")
    function, renamed, fixed = LAYERS.get(name, (name, {}, {}))
    rest = {renamed.get(key, key): each for key, each in config.items() if key not in ("trainable", *NOT_FIELDS)}
    return function, {**rest, **fixed}


NORMS = ("L1L2", "l1l2", "l1_l2", "L1", "L2", "l1", "l2")


def _norms(name: str, config: Any, is_text: bool, generation: int) -> Any:
    """L1, L2 or both; without strengths they have the defaults of the Keras that wrote them."""
    if not isinstance(config, dict):
        raise UnportedError(f"the regularizer '{name}' with {str(config)[:80]}")
    if name == "l1_l2" and is_text and generation > 2:
        raise UnportedError("the regularizer 'l1_l2', which Keras 3 does not know by that name")
    # of Keras 2, and of Keras 1, these were functions; as classes they have no default
    both = 0.01 if not config and (name == "l1_l2" or (name == "l1l2" and generation == 1)) else None
    known = {"l1": config.get("l1", both), "l2": config.get("l2", config.get("l", both))}
    if name in ("L1", "l1"):
        known = {"l1": config.get("l1", config.get("l", 0.01))}
    if name in ("L2", "l2"):
        known = {"l2": config.get("l2", config.get("l", 0.01))}
    strengths = {norm: shortened(float(strength)) for norm, strength in known.items() if strength}
    return strengths or None


def shortened(value: Any) -> Any:
    """A value with its numbers as the user wrote them: Keras keeps 0.01 as float32, 0.009999999776482582."""
    if isinstance(value, float):
        for digits in range(1, 9):
            short = float(f"{value:.{digits}g}")
            if _single(short) == value:
                return short
        return value
    if isinstance(value, list):
        return [shortened(each) for each in value]
    return {key: shortened(each) for key, each in value.items()} if isinstance(value, dict) else value


def _single(value: float) -> float:
    """The nearest number in float32."""
    try:
        number: float = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return float("inf")
    return number
