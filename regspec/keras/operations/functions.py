"""Calls of TensorFlow's functions, which Keras 2 records as layers; their arguments may be sizes of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from regspec.keras.configs.dialect import Dialect
from regspec.keras.configs.values import UnportedError
from regspec.keras.operations.operation import KerasTensor
from regspec.keras.operations.tensorflow import tf_operation_of
from regspec.keras.operations.tensorflow_rules import Parted, Result, ShapeOf, SizeOf, Sizes

CLASSES = frozenset({"SlicingOpLambda", "TFOpLambda"})

KnownSizes: TypeAlias = "Mapping[tuple[str, int], ShapeOf | SizeOf | Sizes]"  # by the layers that give them, and calls


def is_function(layer: Mapping[str, Any]) -> bool:
    """Whether a layer of a config is a call of a function."""
    return layer["class_name"] in CLASSES


def short_name(layer: Mapping[str, Any]) -> str:
    """The name of a call without the modules of its function: tf_add_1 for tf.__operators__.add_1."""
    return f"tf_{str(layer['config'].get('name')).rpartition('.')[2]}"


def function_of(
    layer: Mapping[str, Any], arguments: list[Any], keywords: Mapping[str, Any], dialect: Dialect, sizes: KnownSizes
) -> Result:
    """What becomes of a function on arguments, some of which are tensors of the file.

    Raises:
        UnportedError: for a function that has no counterpart.
    """
    function = str(layer["config"].get("function"))
    given = {name: _with_sizes(value, sizes) for name, value in keywords.items()}
    passed = [_with_sizes(each, sizes) for each in arguments]
    return tf_operation_of(function, passed, given, dialect)


def _with_sizes(value: Any, sizes: KnownSizes) -> Any:
    """A value with sizes in the place of the tensors that they are in the file."""
    if isinstance(value, tuple):
        known = sizes.get(value[:2])
        if isinstance(known, Parted):
            return SizeOf(known.tensor, value[2])
        return value if known is None else known
    if isinstance(value, list):
        return [_with_sizes(each, sizes) for each in value]
    return {name: _with_sizes(each, sizes) for name, each in value.items()} if isinstance(value, dict) else value


def refuse_sizes(tensors: Sequence[KerasTensor], sizes: KnownSizes) -> None:
    """Raises `UnportedError` where a layer takes the size of a tensor as if it were one."""
    if any(each[:2] in sizes for each in tensors):
        raise UnportedError("it computes with the shape of a tensor")
