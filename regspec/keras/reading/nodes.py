"""The calls of layers in a Keras config, as its nodes say them: the tensors that each takes, and other arguments."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regspec.keras.configs.values import UnportedError
from regspec.keras.operations.functions import is_function
from regspec.keras.operations.operation import KerasTensor
from regspec.keras.operations.recorded import is_operation

# Arguments of layers that are inputs in a spec, in order.
TENSORS = ("inputs", "sequences", "x", "data", "query", "value", "key", "initial_state", "count_weights")
MASKS = ("mask", "attention_mask")


@dataclass(frozen=True)
class RecordedCall:
    """A call that Keras recorded in a node: the tensors that it takes, and other arguments, in order and by name."""

    tensors: list[KerasTensor]
    arguments: list[Any]  # of an operation, in order, the tensors among them; none of a layer's
    keywords: dict[str, Any]
    masks: list[KerasTensor | None] = field(default_factory=list)  # of the tensors, in order
    shapes: Mapping[KerasTensor, Any] = field(default_factory=dict)  # of an operation's tensors
    strays: Sequence[Any] = ()  # constants where a layer takes tensors

    @property
    def taken(self) -> list[KerasTensor]:
        """All that it takes: tensors and masks."""
        return [*self.tensors, *(mask for mask in self.masks if mask is not None)]

    @classmethod
    def of(cls, layer: Mapping[str, Any], node: Any) -> RecordedCall:
        """The call that a node of a layer, or of an operation, records."""
        if is_operation(layer) or is_function(layer):
            return cls.of_operation(node)
        return cls.of_layer(node, _input_names(layer))

    @classmethod
    def of_layer(cls, node: Mapping[str, Any], names: Sequence[str] = ()) -> RecordedCall:
        """The call of a layer, or of a model, which takes inputs of these names from a mapping."""
        given = [_by_name(each, names) for each in node.get("args") or []]
        tensors = [tensor for each in given for tensor in _tensors(each)]
        keywords = {key: _by_name(value, names) for key, value in (node.get("kwargs") or {}).items()}
        by_name = {key: found for key in TENSORS if (found := [*_tensors(keywords.get(key))])}
        masking = [key for key in MASKS if keywords.get(key) is not None][:1]
        return cls(
            [*tensors, *(tensor for found in by_name.values() for tensor in found)],
            arguments=[],
            keywords={key: value for key, value in keywords.items() if key not in by_name and key not in masking},
            masks=[mask for key in masking for mask in _masks(keywords[key])],
            strays=[stray for each in (*given, *(keywords[key] for key in by_name)) for stray in _constants(each)],
        )

    @classmethod
    def of_operation(cls, node: Any) -> RecordedCall:
        """The call of an operation."""
        if not isinstance(node, dict):
            return cls.of_layer(node)
        shapes: dict[KerasTensor, Any] = {}
        arguments = _plain(node.get("args") or [], shapes)
        keywords = _plain(node.get("kwargs") or {}, shapes)
        return cls([*shapes], arguments, keywords, shapes=shapes, strays=[*_constants(arguments)])


def _input_names(layer: Mapping[str, Any]) -> Sequence[str]:
    """The names by which a model takes its inputs from a mapping, in their order; of a layer none."""
    config = layer.get("config")
    declared = config.get("input_layers") if isinstance(config, dict) else None
    return sorted(declared) if isinstance(declared, dict) else [name for name, _, _ in tensors_in(declared)]


def _by_name(value: Any, names: Sequence[str]) -> Any:
    """The values of a mapping under these names, in order, if it has them all; anything else unchanged."""
    is_named = bool(names) and isinstance(value, dict) and value.keys() >= {*names}
    return [value[name] for name in names] if is_named else value


def _masks(value: Any) -> list[KerasTensor | None]:
    """The masks in an argument, one or a list."""
    return [next(_tensors(each), None) for each in (value if isinstance(value, list) else [value])]


def is_said(value: Any) -> bool:
    """Whether an argument is more than the default: not None, not False, and no structure of these."""
    if isinstance(value, (list, dict)):
        return any(map(is_said, value.values() if isinstance(value, dict) else value))
    return value not in (None, False)


def _plain(value: Any, shapes: dict[KerasTensor, Any]) -> Any:
    """A serialized argument as a value, with arrays as lists; ``shapes`` gets those of the tensors in it."""
    if isinstance(value, list):
        return [_plain(each, shapes) for each in value]
    if not isinstance(value, dict):
        return value
    config = value.get("config")
    match value.get("class_name"):
        case "__keras_tensor__":
            (tensor,) = _tensors(value)
            shapes[tensor] = value["config"].get("shape")
            return tensor
        case "__numpy__" | "__tensor__" if isinstance(config, dict):
            return _plain(config.get("value"), shapes)
        case "__slice__" if isinstance(config, dict):
            return slice(*(config.get(part) for part in ("start", "stop", "step")))
        case "__ellipsis__":
            return ...
        case None:
            return {key: _plain(each, shapes) for key, each in value.items()}
    return value


def ordered(calls: Mapping[tuple[str, int], tuple[Any, RecordedCall]], known: Collection[tuple[str, int]]) -> list[Any]:
    """The calls in an order in which each comes after what it takes, and a layer's own one after the other."""
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


def _tensors(value: Any) -> Iterator[KerasTensor]:
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
    """The constants in a structure of tensors."""
    if isinstance(value, list) or (isinstance(value, dict) and "class_name" not in value):
        for each in value if isinstance(value, list) else value.values():
            yield from _constants(each)
    elif isinstance(value, dict):
        yield from () if value["class_name"] == "__keras_tensor__" else (value,)
    elif value is not None and not isinstance(value, tuple):  # which is a tensor
        yield value


def nested_tensors(
    value: Any, path: tuple[str | int, ...] = (), *, is_sorted: bool = True
) -> Iterator[tuple[tuple[str | int, ...], KerasTensor]]:
    """The tensors in a structure of ``[layer, node, output]``, each with the keys that lead to it.

    Keras sorts the keys of mappings when it flattens them; ``is_sorted`` is whether those of the outermost are sorted.
    """
    if isinstance(value, dict):
        for key in sorted(value) if is_sorted else value:
            yield from nested_tensors(value[key], (*path, key))
    elif isinstance(value, list) and len(value) == 3 and isinstance(value[0], str):
        yield path, (value[0], int(value[1]), int(value[2]))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from nested_tensors(each, (*path, index))


def has_loose_keys(value: Any, is_inside: bool = False) -> bool:
    """Whether a mapping in a mapping has its keys in another order than their own, in which Keras may flatten it.

    Keras 3 sorts all keys where it has optree; on torch without it those of the outermost mapping alone.
    """
    if isinstance(value, dict):
        return (is_inside and [*value] != sorted(value)) or any(has_loose_keys(each, True) for each in value.values())
    return isinstance(value, list) and any(has_loose_keys(each, is_inside) for each in value)


def tensors_in(value: Any) -> Iterator[KerasTensor]:
    """The tensors in a structure of ``[layer, node, output]``."""
    if isinstance(value, dict):
        for each in value.values():
            yield from tensors_in(each)
    elif isinstance(value, list) and len(value) == 3 and isinstance(value[0], str):
        yield value[0], int(value[1]), int(value[2])
    elif isinstance(value, list):
        for each in value:
            yield from tensors_in(each)
