"""The calls of layers in a Keras config, as its nodes say them: the tensors that each takes, and other arguments."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regspec.keras.operations.functions import is_function
from regspec.keras.operations.operation import Reference
from regspec.keras.operations.recorded import is_operation
from regspec.keras.values import UnportedError

# Arguments that are inputs here, in order.
TENSORS = ("inputs", "sequences", "x", "data", "query", "value", "key", "initial_state", "count_weights")


@dataclass(frozen=True)
class Call:
    """What a node says: the tensors that it takes, and other arguments, in order and by name."""

    references: list[Reference]
    constants: list[Any]  # the arguments in order; none of a layer's
    keywords: dict[str, Any]
    masks: tuple[Reference | None, ...] = ()  # of the tensors, in order
    shapes: Mapping[Reference, Any] = field(default_factory=dict)  # of an operation's tensors
    strays: Sequence[Any] = ()  # what is no tensor among the arguments that are tensors of a layer

    @property
    def taken(self) -> list[Reference]:
        """All that it takes: tensors and masks."""
        return [*self.references, *(mask for mask in self.masks if mask is not None)]

    @classmethod
    def of(cls, layer: Mapping[str, Any], node: Any) -> Call:
        """A node of a layer, or of an operation."""
        if is_operation(layer) or is_function(layer):
            return cls.of_operation(node)
        return cls.read(node, _input_names(layer))

    @classmethod
    def read(cls, node: Mapping[str, Any], names: Sequence[str] = ()) -> Call:
        """What a node says; ``names`` are those of a model's inputs, by which it takes what a mapping holds."""
        references: list[Reference] = []
        strays: list[Any] = []
        for each in node.get("args") or []:
            each = _by_name(each, names)
            references += _tensors(each)
            strays += _constants(each)
        keywords = {key: _by_name(value, names) for key, value in (node.get("kwargs") or {}).items()}
        for key in TENSORS:
            if found := [*_tensors(keywords.get(key))]:
                references += found
                strays += _constants(keywords.pop(key))
        return cls(references, [], keywords, _masks(keywords), strays=strays)

    @classmethod
    def of_operation(cls, node: Any) -> Call:
        """The node of an operation; tensors stay among its arguments, as references."""
        if not isinstance(node, dict):
            return cls.read(node)
        shapes: dict[Reference, Any] = {}
        arguments = _plain(node.get("args") or [], shapes)
        keywords = _plain(node.get("kwargs") or {}, shapes)
        return cls([*shapes], arguments, keywords, shapes=shapes, strays=[*_constants(arguments)])


def _input_names(layer: Mapping[str, Any]) -> Sequence[str]:
    """The names by which a model takes its inputs from a mapping, in their order; of a layer none."""
    config = layer.get("config")
    declared = config.get("input_layers") if isinstance(config, dict) else None
    return sorted(declared) if isinstance(declared, dict) else [name for name, _, _ in references_in(declared)]


def _by_name(value: Any, names: Sequence[str]) -> Any:
    """What a mapping that has all these names has under them, in their order; anything else as it is."""
    is_named = bool(names) and isinstance(value, dict) and value.keys() >= {*names}
    return [value[name] for name in names] if is_named else value


def _masks(keywords: dict[str, Any]) -> tuple[Reference | None, ...]:
    """The masks among a call's arguments, which are taken out."""
    given = next((keywords.pop(key) for key in ("mask", "attention_mask") if keywords.get(key) is not None), None)
    if given is None:
        return ()
    each_of = given if isinstance(given, list) else [given]
    return tuple(next(_tensors(each), None) for each in each_of)


def is_said(value: Any) -> bool:
    """Whether an argument is more than the default: not None, not False, and no structure of these."""
    if isinstance(value, (list, dict)):
        return any(map(is_said, value.values() if isinstance(value, dict) else value))
    return value not in (None, False)


def _plain(value: Any, shapes: dict[Reference, Any]) -> Any:
    """A serialized argument as a value: tensors as references, whose shapes are noted, and arrays as lists."""
    if isinstance(value, list):
        return [_plain(each, shapes) for each in value]
    if not isinstance(value, dict):
        return value
    config = value.get("config")
    match value.get("class_name"):
        case "__keras_tensor__":
            (reference,) = _tensors(value)
            shapes[reference] = value["config"].get("shape")
            return reference
        case "__numpy__" | "__tensor__" if isinstance(config, dict):
            return _plain(config.get("value"), shapes)
        case "__slice__" if isinstance(config, dict):
            return slice(*(config.get(part) for part in ("start", "stop", "step")))
        case "__ellipsis__":
            return ...
        case None:
            return {key: _plain(each, shapes) for key, each in value.items()}
    return value


def ordered(calls: Mapping[tuple[str, int], tuple[Any, Call]], known: Collection[tuple[str, int]]) -> list[Any]:
    """The calls as they can be done one after the other, and as they stand where that can be; each layer's in order."""
    done: dict[tuple[str, int], None] = {}
    begun = set()
    for first in calls:
        waiting = [first]
        while waiting:
            key = waiting[-1]
            taken = [(name, index) for name, index, _ in calls[key][1].taken]
            before = (key[0], key[1] - 1)
            needed = [*taken, before] if before in calls else taken
            missing = [each for each in needed if each not in done and each not in known]
            if not missing or key in done:
                done[waiting.pop()] = None
            elif key in begun or any(each not in calls for each in missing):
                raise UnportedError(f"the call of '{key[0]}', which takes what nothing gives before")
            else:
                begun.add(key)
                waiting.extend(missing)
    return [*done]


def _tensors(value: Any) -> Iterator[Reference]:
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            layer, node, output = value["config"]["keras_history"]
            yield str(layer), int(node), int(output)
        else:
            for key in sorted(value):  # in which Keras flattens a mapping
                yield from _tensors(value[key])
    elif isinstance(value, list):
        for each in value:
            yield from _tensors(each)


def _constants(value: Any) -> Iterator[Any]:
    """What stands in the place of a tensor in a structure of these, and is none."""
    if isinstance(value, list) or (isinstance(value, dict) and "class_name" not in value):
        for each in value if isinstance(value, list) else value.values():
            yield from _constants(each)
    elif isinstance(value, dict):
        yield from () if value["class_name"] == "__keras_tensor__" else (value,)
    elif value is not None and not isinstance(value, tuple):  # a reference
        yield value


def references_in(value: Any) -> Iterator[Reference]:
    """The references in a structure of ``[layer, node, output]``."""
    if isinstance(value, dict):
        for each in value.values():
            yield from references_in(each)
    elif isinstance(value, list) and len(value) == 3 and isinstance(value[0], str):
        yield value[0], int(value[1]), int(value[2])
    elif isinstance(value, list):
        for each in value:
            yield from references_in(each)
