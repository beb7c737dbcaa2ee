"""One layer of a Keras config as a layer of a spec: its kind and its fields, and what stands in the way.

The kinds have Keras's names, fields and defaults; so nearly all of this is leaving out what is as it would be anyway.
"""

from __future__ import annotations

from typing import Any

from regspec.keras import quirks
from regspec.keras.dialect import Dialect
from regspec.keras.values import FAMILIES, UnportedError, named
from regspec.layers.layer import KINDS, Layer, Spatial

# What a config says besides the fields of a kind, and means nothing for what is computed.
MEANINGLESS = frozenset(
    (
        *("name", "trainable", "dtype", "build_config", "batch_input_shape", "batch_shape", "input_shape"),
        *("input_dtype",),
        *("autocast", "seed", "sparse", "ragged", "gptq_unpacked_column_size", "unroll", "implementation", "fused"),
        *("synchronized", "lora_alpha", "renorm_clipping", "renorm_momentum", "zero_output_for_mask", "input_length"),
        *("flash_attention", "supports_masking", "moving_mean_initializer", "moving_variance_initializer"),
        *("query_shape", "key_shape", "value_shape", "softmax_robust_masking"),
    )
)
# Of these, what is not said is what the kinds do.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "renorm": (False, None),
    "stateful": (False, None),
    "time_major": (False, None),
    "mask_zero": (False, None),
    "rms_scaling": (False, None),
    "virtual_batch_size": (None,),
    "adjustment": (None,),
    "weights": (None,),
    "cell": (None,),
    "count_weights": (False, None),
    "groups": (1,),
}
ADAPTING = {("Discretization", "epsilon"), ("Discretization", "num_bins")}  # of what was adapted before it was saved
RENAMED = {
    ("MultiHeadAttention", "output_shape"): "output_size",
    ("EinsumDense", "output_shape"): "output_size",
    ("LeakyReLU", "alpha"): "negative_slope",
}
ENDINGS = ("_initializer", "_regularizer", "_constraint")
CLASSES = {"GroupedQueryAttention": "GroupQueryAttention"}


def kind_of(class_name: str) -> type[Layer] | None:
    """The kind that ports a layer's class, if there is one."""
    cls = KINDS.get(CLASSES.get(class_name, class_name))
    # a layer of that name is the user's own
    return None if cls is None or cls.__module__.startswith("regspec.layers.operations.") else cls


def layer_of(item: dict[str, Any], dialect: Dialect) -> dict[str, dict[str, Any]]:
    """``{kind: fields}`` of a layer in a config.

    Raises:
        UnportedError: for a class, or a field's value, that has no counterpart.
    """
    class_name = item["class_name"]
    config = quirks.heeded(class_name, item.get("config") or {}, dialect)
    cls = kind_of(class_name)
    if cls is None or not str(item.get("module") or "keras").startswith("keras"):
        raise UnportedError(f"no kind ports the class {class_name}")
    _check_dtype(config.get("dtype"))
    fields: dict[str, Any] = {}
    for key, value in config.items():
        field = RENAMED.get((cls.__name__, key), key)
        if field not in cls.model_fields:
            if key in MEANINGLESS or (cls.__name__, key) in ADAPTING or value in NEUTRAL.get(key, ()) or value is None:
                continue
            raise UnportedError(f"{class_name} with {key} = {str(value)[:80]}")
        converted = _value(field, value, dialect)
        if field == "data_format" and converted == (
            dialect.data_format if issubclass(cls, Spatial) else "channels_last"
        ):
            continue
        if not is_default(cls, field, converted):
            fields[cls.model_fields[field].alias or field] = converted
    if config.get("trainable") is False:
        fields["trainable"] = False
    # what a layer is comes first, and then what is said of its weights
    return {cls.__name__: dict(sorted(fields.items(), key=lambda item: item[0].endswith(ENDINGS)))}


def _check_dtype(dtype: Any) -> None:
    """Raises where a layer computes in another precision than float32."""
    if isinstance(dtype, dict):
        name = dtype.get("class_name")
        if name != "DTypePolicy":
            raise UnportedError(f"the weights are quantized ({name})")
        dtype = (dtype.get("config") or {}).get("name")
    if dtype not in (None, "float32"):
        raise UnportedError(f"the precision {dtype}")


def _value(field: str, value: Any, dialect: Dialect) -> Any:
    """A field's value as a spec writes it."""
    if isinstance(value, dict) and value.get("class_name") == "__tuple__":
        value = value.get("items")
    if field in ("layer", "backward_layer"):
        return None if value is None else layer_of(value, dialect)
    if sort := _sort(field):
        return named(value, sort)
    if isinstance(value, dict):
        raise UnportedError(f"the value {str(value)[:80]} of {field}")
    return None if value == [] else value


def _sort(field: str) -> str | None:
    """What family of things a field names, if any."""
    return next((sort for sort in FAMILIES if field == sort or field.endswith(f"_{sort}")), None)


def is_default(cls: type[Layer], field: str, value: Any) -> bool:
    """Whether a field need not be said, because it is as its default."""
    default = cls.model_fields[field].default
    if value is None:
        return default is None
    if (sort := _sort(field)) is not None:
        if default is None:
            return bool(value == "linear")
        return bool(FAMILIES[sort].parse(value) == default)
    if isinstance(default, tuple):
        given = tuple(value) if isinstance(value, list) else (value,)
        return given == default or (len(set(given)) == 1 and given[:1] == default)
    return bool(value == default)
