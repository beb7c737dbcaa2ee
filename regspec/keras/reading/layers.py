"""One layer of a Keras config as a layer of a spec: its kind and its fields, and what stands in the way.

The kinds have Keras's names, fields and defaults; so most of this is leaving out fields that have their default values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from regspec.code.shapes import Precision
from regspec.keras.arrays.quantized import is_quantized, quantized_fields
from regspec.keras.configs import quirks
from regspec.keras.configs.bytecode import CODE, described
from regspec.keras.configs.defaults import as_a_person_writes, is_default, sort_of
from regspec.keras.configs.dialect import Dialect
from regspec.keras.configs.kinds import CLASSES, kind_of
from regspec.keras.configs.libraries import library_of
from regspec.keras.configs.notes import Notes
from regspec.keras.configs.precision import note_of, policy_of
from regspec.keras.configs.values import UnfitError, UnportedError, is_foreign, spec_form
from regspec.keras.older import theano
from regspec.language.fields import OF_SLOTS, Frozen
from regspec.layers.cells import CELLS
from regspec.layers.families import Spatial
from regspec.layers.kinds import BUILT_IN, KINDS
from regspec.layers.layer import Layer

# Entries of a config that are no fields of a kind, and that do not change what is computed.
MEANINGLESS = frozenset(
    (
        *("name", "trainable", "build_config", "batch_input_shape", "batch_shape", "input_shape"),
        *("input_dtype",),
        *("autocast", "seed", "sparse", "ragged", "gptq_unpacked_column_size", "unroll", "implementation", "fused"),
        *("lora_rank", "lora_alpha", "quantization_config", "input_length", "use_cudnn", "synchronized"),
        *("flash_attention", "supports_masking", "moving_mean_initializer", "moving_variance_initializer"),
        *("query_shape", "key_shape", "value_shape", "softmax_robust_masking"),
        *("bounding_box_format",),
    )
)
# Fields that a kind lacks, and the values with which a layer computes what the kind computes.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "stateful": (False, None),
    "time_major": (False, None),
    "mask_zero": (False, None),
    "virtual_batch_size": (None,),
    "adjustment": (None,),
    "weights": (None,),
    "cell": (None,),
    "groups": (1,),
}
# What a layer of such a value computes, which no kind does.
COMPUTES: dict[tuple[str, str, Any], str] = {
    ("BatchNormalization", "mode", 1): "normalizes each example by itself, over its last axis",
    ("BatchNormalization", "mode", 2): "takes the statistics of the batch in evaluation too",
}
# Fields that a kind lacks, because no call reads them: of adapt(), before saving; and of Keras 3.3 to 3.5.
UNREAD = {("Discretization", "epsilon"), ("Discretization", "num_bins"), ("RandomRotation", "value_range")}
RENAMED = {
    ("MultiHeadAttention", "output_shape"): "output_size",
    ("EinsumDense", "output_shape"): "output_size",
    ("LeakyReLU", "alpha"): "negative_slope",
}
MAPPINGS = ("renorm_clipping",)  # fields whose values are mappings
ENCODINGS = ("CategoryEncoding", "Discretization")  # which give whole numbers, alike in all types
SWITCHES = {
    "use_bias": "bias",
    "bias_axes": "bias",
    "center": "beta",
    "scale": "gamma",
}  # the weight that each turns off
WITHOUT_BATCH = {
    (each, "shared_axes") for each in ("PReLU", "SReLU", "ParametricSoftplus")
}  # axes of a shape without the batch
SAME_BOUNDS = {("RandomContrast", "factor")}  # one number, in files before Keras 3.6, stands for both bounds
STACKS = ("StackedRNNCells",)  # cells that are made of others
# What a user should know of a class, wherever a config has it.
NOTES = {
    "RandomCrop": "RandomCrop gives the middle in evaluation, resized, as Keras says; newer versions of Keras give "
    "images of another size as they are",
    "MixUp": "MixUp mixes images, and not their labels",
    "CutMix": "CutMix mixes images, and not their labels",
}


def layer_of(item: Mapping[str, Any], dialect: Dialect, notes: Notes) -> dict[str, dict[str, Any]]:
    """``{kind: fields}`` of a layer in a config.

    Raises:
        UnportedError: for a class, or a field's value, that has no counterpart.
    """
    class_name = item["class_name"]
    if (kind := notes.replacement(item, dialect.replacements)) is not None:
        fields = _replaced(KINDS[kind], class_name, item.get("config") or {}, dialect, notes)
        return {kind: {**fields, "trainable": False} if dialect.is_frozen else fields}
    config = quirks.heeded(class_name, item.get("config") or {}, dialect, notes)
    cls = kind_of(class_name)
    if class_name in CODE:
        raise UnportedError(described(config.get("function")))
    if cls is None or (is_foreign(item) and class_name in (*BUILT_IN, *CLASSES)):
        if (library := library_of(item)) is not None:
            way = f"or put torch modules of yours in their place: --replace '{class_name}=package.module:Class'"
            raise UnportedError(f"it is a layer of {library.name}, which {library.does}", f"{library.advice}; {way}")
        raise UnportedError(f"no kind ports the class {_whose(item)}")
    fields = _fields_of(cls, class_name, config, dialect, notes)
    if (axis := cls.channel_axis) is not None and _is_last(fields.get(axis), item.get("build_config")):
        del fields[axis]
    if (precision := _precision(class_name, config, dialect, notes)) != dialect.dtype:
        fields["dtype"] = precision
    if config.get("synchronized"):
        what = f"'{config.get('name')}' takes the statistics of each process's own batch, where Keras synchronizes them"
        notes.add(what)
    fields |= quantized_fields(class_name, config, notes)
    if config.get("trainable") is False:
        fields["trainable"] = False
    elif dialect.is_frozen and cls.weights is not Layer.weights:  # it may still follow the statistics of batches
        fields["trainable"] = []
        notes.add("the model is frozen as a whole, so that Keras trains none of its weights, whatever its layers say")
    if class_name in SHORTER:
        fields = SHORTER[class_name](fields, config)
    if class_name in NOTES:
        notes.add(NOTES[class_name])
    return {cls.__name__: as_a_person_writes(cls, fields)}


def _is_last(axis: Any, built: Any) -> bool:
    """Whether an axis is the last of the input that a layer was built for."""
    shape = built.get("input_shape") if isinstance(built, dict) else None
    shape = shape[0] if isinstance(shape, list) and shape and isinstance(shape[0], list) else shape  # of several inputs
    return axis in [-1, *([len(shape) - 1] if isinstance(shape, list) else [])]


def weights_last(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields in the order of a spec: what a layer is comes first, and then what is said of its weights."""
    return dict(sorted(fields.items(), key=lambda item: item[0].endswith(OF_SLOTS)))


def _inert(config: Mapping[str, Any]) -> tuple[str, ...]:
    """How the names of fields begin that concern weights which the layer does not have."""
    if config.get("rms_scaling"):  # a normalization that has a gamma and no beta, whatever it says of them
        return ("beta_",)
    return tuple(f"{slot}_" for key, slot in SWITCHES.items() if key in config and not config[key])


def _fields_of(
    cls: type[Frozen], class_name: str, config: Mapping[str, Any], dialect: Dialect, notes: Notes
) -> dict[str, Any]:
    """The fields of a class that differ from their defaults."""
    fields: dict[str, Any] = {}
    unported: list[UnportedError] = []
    inert = _inert(config)
    for key, value in config.items():
        if key in ("dtype", "trainable") or (key.startswith(inert) and key.endswith(OF_SLOTS)):
            continue
        field = RENAMED.get((cls.__name__, key), key)
        if field not in cls.model_fields:
            if key in MEANINGLESS or (cls.__name__, key) in UNREAD or value in NEUTRAL.get(key, ()) or value is None:
                continue
            raise _unknown(class_name, key, value)
        if field in ("trainable", "seed"):  # the one is said by `layer_of`; torch draws from its own generator
            continue
        if (class_name, key) in SAME_BOUNDS and not isinstance(value, list):
            value = [value, value]
        if isinstance(cls.model_fields[field].default, bool) and isinstance(value, (int, float)):  # as Python takes it
            value = bool(value)
        if (class_name, key) in WITHOUT_BATCH and isinstance(value, list):
            # Keras counts them in a shape without the batch, and those from the end as if it had one
            value = [axis - 1 if isinstance(axis, int) and axis <= 0 else axis for axis in value]
        try:
            converted = _value(field, value, config, dialect, notes)
        except UnportedError as reason:
            if field.endswith("_initializer") and dialect.has_arrays and not isinstance(reason, UnfitError):
                notes.add(f"{reason} is not ported, which the numbers in the file make up for")
            else:
                unported += (reason, *reason.others)
            continue
        if field == "data_format" and converted == "channels_last":
            continue
        if not is_default(cls, field, converted):
            fields[cls.model_fields[field].alias or field] = converted
    if unported:
        unported[0].others = (*unported[1:],)
        raise unported[0]
    is_unsaid = issubclass(cls, Spatial) and "data_format" not in {*config, *cls.own_fields}
    if is_unsaid and dialect.data_format == "channels_first":  # as an old Keras does not say it everywhere
        fields["data_format"] = dialect.data_format
    return fields


def _unknown(class_name: str, key: str, value: Any) -> UnportedError:
    """The error that no kind has a field of a config, or no such value of it."""
    what = f"{class_name} with {key} = {str(value)[:80]}"
    known = COMPUTES.get((class_name, key, value)) if isinstance(value, (int, str)) else None
    if known is None:
        return UnportedError(what)
    way = f"--replace '{class_name}=package.module:Class'"
    hint = f"put a torch module of yours in its place, which gets its arrays: {way}"
    return UnportedError(f"{what}, which {known}", hint)


def _whose(item: Mapping[str, Any]) -> str:
    """A class's name, and the name under which it was registered where it is none of Keras's."""
    name = str(item["class_name"])
    return f"{name} ({item.get('registered_name')}), which is none of Keras's own" if is_foreign(item) else name


def _cell(item: Mapping[str, Any], dialect: Dialect, notes: Notes) -> dict[str, dict[str, Any]]:
    """A cell of an RNN as a spec writes it."""
    class_name, config = item["class_name"], item.get("config") or {}
    cls = CELLS.get(class_name)
    if cls is None or is_foreign(item):
        raise UnportedError(f"no cell ports the class {_whose(item)}")
    config = quirks.heeded(class_name, config, dialect, notes)
    if config.get("activity_regularizer") is not None:
        what = "a cell with an activity_regularizer, which Keras applies to the output and the states of each step"
        raise UnportedError(what)
    if class_name in STACKS:
        fields: dict[str, Any] = {"cells": [_cell(each, dialect, notes) for each in config["cells"]]}
    else:
        fields = _fields_of(cls, class_name, config, dialect, notes)
    if config.get("trainable") is False:
        fields["trainable"] = False
    return {class_name: as_a_person_writes(cls, fields)}


def _replaced(
    cls: type[Layer], class_name: str, config: Mapping[str, Any], dialect: Dialect, notes: Notes
) -> dict[str, Any]:
    """The fields of a kind of the user's that stands in for a layer: what its config says of them."""
    fields: dict[str, Any] = {}
    for key, value in config.items():
        own = cls.model_fields.get(key)
        if own is None:
            if value is not None and key.endswith(("_regularizer", "_constraint")):
                hint = "register_layer gives a module slots for these: weights={…}"
                raise UnportedError(f"{key}, for which {cls.__name__} has no slot ({hint})")
        elif key.endswith(OF_SLOTS):
            fields |= {} if value is None else {key: _thing(key, value, config, dialect, notes)}
        else:
            plain = value.get("items") if isinstance(value, dict) and value.get("class_name") == "__tuple__" else value
            if not isinstance(plain, dict) and plain != own.default:
                fields[key] = plain
    missing = [key for key, own in cls.model_fields.items() if own.is_required() and key not in fields]
    if missing:
        known = ", ".join(key for key in config if key not in (*MEANINGLESS, "dtype")) or "nothing"
        raise UnportedError(f"{cls.__name__} needs {' and '.join(missing)}, but the config of the layer has {known}")
    notes.add(f"'{config.get('name')}' ({class_name}) is computed by a module of your own, {cls.__name__}")
    return fields


def _in_both_directions(fields: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields without those that the wrapper sets for both layers, and without a backward layer like its own."""
    sides = {
        side: {kind: {key: value for key, value in own.items() if key != "zero_output_for_mask"}}
        for side in ("layer", "backward_layer")
        for kind, own in (fields.get(side) or {}).items()
    }
    made = {kind: {**own, "go_backwards": True} for kind, own in sides.get("layer", {}).items()}
    return {key: value for key, value in {**fields, **sides}.items() if key != "backward_layer" or value != made}


def _with_statistics(fields: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a Normalization; without numbers of its own, these lie among the weights."""
    return fields if "mean" in fields else {**fields, "mean": "loaded", "variance": "loaded"}


def _with_biased_variance(fields: dict[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a BatchNormalization with the moving variance of Keras 3, where it moves and no other is said."""
    is_said = fields.get("trainable") is False or fields.get("renorm") or "moving_variance" in config
    return fields if is_said else {**fields, "moving_variance": "biased"}


# For classes some of whose fields follow from others, or are said otherwise than in a config: what a spec says.
SHORTER: dict[str, Callable[[dict[str, Any], Mapping[str, Any]], dict[str, Any]]] = {
    "BatchNormalization": _with_biased_variance,
    "Bidirectional": _in_both_directions,
    "Normalization": _with_statistics,
}


def _precision(class_name: str, config: Mapping[str, Any], dialect: Dialect, notes: Notes) -> str:
    """The type in which a layer computes and keeps its weights."""
    policy = policy_of(config.get("dtype"))
    for inner in (config.get("layer"), config.get("backward_layer"), *_cells(config.get("cell"))):
        own = inner.get("config") if isinstance(inner, dict) else None
        if isinstance(own, dict) and policy_of(own.get("dtype")).weights != policy.weights:
            raise UnportedError(f"{class_name} in {policy.name} around a layer in {policy_of(own['dtype']).name}")
    if policy.weights not in get_args(Precision):
        if class_name not in ENCODINGS:
            raise UnportedError(f"the precision {policy.name}")
        return dialect.dtype
    if (note := note_of(policy)) is not None:
        notes.add(note)
    return policy.weights


def _cells(cell: Any) -> list[Any]:
    """A cell, or those of a stack."""
    own = cell.get("config") if isinstance(cell, dict) else None
    stacked = own.get("cells") if isinstance(own, dict) else None
    return stacked if isinstance(stacked, list) else [cell]


def _thing(field: str, value: Any, config: Mapping[str, Any], dialect: Dialect, notes: Notes) -> Any:
    """A regularizer or the like as a spec writes it."""
    sort, place = str(sort_of(field)), f"{config.get('name')}.{field}"

    def choose(names: Sequence[str]) -> str | None:
        return notes.chosen(names, sort, dialect.replacements)

    chosen = choose if dialect.replacements.targets else None
    return spec_form(value, sort, dialect.generation, place=place, choose=chosen)


def _value(field: str, value: Any, config: Mapping[str, Any], dialect: Dialect, notes: Notes) -> Any:
    """A field's value as a spec writes it."""
    if isinstance(value, dict) and value.get("class_name") == "__tuple__":
        value = value.get("items")
    if field in ("layer", "backward_layer"):
        return None if value is None else _inner(value, dialect, notes)
    if field == "cell":
        cell = _cell(value, dialect, notes)
        (fields,) = cell.values()
        return fields["cells"] if fields.keys() == {"cells"} else cell  # a stack is written as a list
    if sort_of(field):
        return _thing(field, value, config, dialect, notes)
    if isinstance(value, dict) and field not in MAPPINGS:
        raise UnportedError(f"the value {str(value)[:80]} of {field}")
    return None if (value == [] and field == "axis") or (value == {} and field in MAPPINGS) else value


def _inner(item: Any, dialect: Dialect, notes: Notes) -> dict[str, dict[str, Any]]:
    """A layer inside another, whose precision it has, and which freezes its weights where the whole model is frozen."""
    own = item.get("config") or {}
    if is_quantized(own) or own.get("lora_rank"):
        raise UnportedError("a layer inside another whose weights are quantized, or have a low-rank update")
    if dialect.backend == "theano" and theano.padding_of(item, dialect.generation) is not None:
        raise UnportedError("a layer inside another with padding = same as Theano computes it")
    ((kind, fields),) = layer_of(item, dialect, notes).items()
    fields = {field: value for field, value in fields.items() if field != "dtype"}
    return {kind: {field: value for field, value in fields.items() if (field, value) != ("trainable", [])}}
