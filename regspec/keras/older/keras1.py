"""A config of Keras 1 in the form of Keras 2: the words of its layers, and models that begin with others merged.

What a layer says that Keras 2 has no word for stays as it is, so that it is refused, by name, with the rest of what
can't be ported.
"""

from __future__ import annotations

from typing import Any

from regspec.keras.configs import quirks
from regspec.keras.configs.dialect import Dialect
from regspec.keras.configs.notes import Notes
from regspec.keras.configs.values import Item, UnportedError
from regspec.keras.older.keras2 import with_names

CLASSES = {
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "AtrousConvolution1D": "Conv1D",
    "AtrousConvolution2D": "Conv2D",
    "SeparableConvolution2D": "SeparableConv2D",
    "TimeDistributedDense": "Dense",
    "Deconvolution2D": "Conv2DTranspose",
}
MERGES = {"sum": "Add", "mul": "Multiply", "ave": "Average", "max": "Maximum", "concat": "Concatenate", "dot": "Dot"}
FIELDS = {
    "W_constraint": "kernel_constraint",
    "W_regularizer": "kernel_regularizer",
    "U_regularizer": "recurrent_regularizer",
    "atrous_rate": "dilation_rate",
    "b_constraint": "bias_constraint",
    "b_regularizer": "bias_regularizer",
    "bias": "use_bias",
    "border_mode": "padding",
    "dim_ordering": "data_format",
    "dropout_U": "recurrent_dropout",
    "dropout_W": "dropout",
    "filter_length": "kernel_size",
    "init": "kernel_initializer",
    "inner_activation": "recurrent_activation",
    "inner_init": "recurrent_initializer",
    "length": "size",
    "nb_filter": "filters",
    "output_dim": "units",
    "p": "rate",
    "pool_length": "pool_size",
    "sigma": "stddev",
    "stride": "strides",
    "subsample": "strides",
    "subsample_length": "strides",
}
OWN_FIELDS = {  # of a class, where the word means another thing than elsewhere
    "Embedding": {
        "W_constraint": "embeddings_constraint",
        "W_regularizer": "embeddings_regularizer",
        "init": "embeddings_initializer",
        "input_dim": "input_dim",
        "output_dim": "output_dim",
    },
    "InputLayer": {"input_dtype": "dtype"},
    "PReLU": {"init": "alpha_initializer"},
    "ParametricSoftplus": {"alpha_init": "alpha_initializer", "beta_init": "beta_initializer"},
    "SReLU": {f"{each}_init": f"{each}_initializer" for each in ("t_left", "a_left", "t_right", "a_right")},
    "SeparableConvolution2D": {"init": "depthwise_initializer"},
}
SIZES = (("nb_row", "nb_col"), ("kernel_dim1", "kernel_dim2", "kernel_dim3"))  # of a window, a field for each axis
MEANINGLESS = frozenset({"consume_less", "input_dim"})
NEUTRAL = {"dropout": (0,), "mode": (0,)}  # of an embedding, of a normalization: what Keras 2 does anyway
FORMATS = {"th": "channels_first", "tf": "channels_last"}
REGULARIZERS = ("WeightRegularizer", "ActivityRegularizer", "L1L2Regularizer")
GATED = frozenset({"GRU", "LSTM"})
MERGING = frozenset({"Merge"})
TABLES = frozenset({"Embedding"})
TRANSPOSED = frozenset({"Deconvolution2D"})
CONSTRAINTS = {"m": "max_value", "low": "min_value", "high": "max_value"}


def renewed(item: Item, dialect: Dialect, notes: Notes) -> Item:
    """A layer or a model of Keras 1 as Keras 2 would write it.

    Raises:
        UnportedError: for a merge of a model of several outputs, or a size of a Deconvolution2D that is none of it.
    """
    config = item.get("config")
    if isinstance(config, list):
        return {**item, **_sequence(str(item.get("name") or "sequential"), config, dialect, notes)}
    if not isinstance(config, dict):
        return item
    if isinstance(config.get("layers"), list):
        layers = [renewed(each, dialect, notes) if isinstance(each, dict) else each for each in config["layers"]]
        return {**item, "config": {**config, "layers": layers}}
    return {**item, **_layer(str(item.get("class_name")), config, dialect, notes)}


# -- sequences ---------------------------------------------------------------------------------------------------------


def _sequence(name: str, layers: list[Any], dialect: Dialect, notes: Notes) -> Item:
    """A Sequential; or, where it begins with a Merge of others, the graph that it is."""
    first = layers[0] if layers and isinstance(layers[0], dict) else {}
    if not isinstance((first.get("config") or {}).get("layers"), list):
        own = [renewed(each, dialect, notes) if isinstance(each, dict) else each for each in with_names(layers)]
        return {"class_name": "Sequential", "config": {"name": name, "layers": own}}
    graph: list[Item] = []
    inputs: list[Reference] = []
    last = _chain(layers, graph, inputs, dialect, notes)
    config = {"name": name, "layers": graph, "input_layers": inputs, "output_layers": [last]}
    return {"class_name": "Model", "config": config}


Reference = list[Any]  # layer, call, output


def _chain(layers: list[Item], graph: list[Item], inputs: list[Reference], dialect: Dialect, notes: Notes) -> Reference:
    """Adds the layers of a Sequential to a graph, each on the one before; gives what the last one gives."""
    last: list[Reference] = []
    for layer in with_names(layers):
        config = layer["config"]
        name = layer.get("name") or config["name"]
        if not last and isinstance(config, dict) and isinstance(config.get("layers"), list):
            if layer["class_name"] in MERGING:
                for branch in config["layers"]:
                    own = branch["config"]
                    add = _chain if isinstance(own, list) else _inlined
                    last.append(add(own, graph, inputs, dialect, notes))
                    if _penalties(branch):
                        what = "Keras 1 does not count the penalties of models that a Merge begins with; here they are"
                        notes.add(what)
                layer = {**layer, "config": {key: value for key, value in config.items() if key != "layers"}}
            else:
                last = config["input_layers"]
                inputs += last
                ends = [name for name, *_ in last]
                graph += [renewed(each, dialect, notes) for each in config["layers"] if each["name"] in ends]
        elif not last:
            given = f"{name}_input"
            own = {key: config[key] for key in ("batch_input_shape", "input_dtype") if key in config} | {"name": given}
            entry = renewed({"class_name": "InputLayer", "config": own}, dialect, notes)
            graph.append({**entry, "name": given, "inbound_nodes": []})
            inputs.append([given, 0, 0])
            last = [[given, 0, 0]]
        graph.append({**renewed(layer, dialect, notes), "name": name, "inbound_nodes": [last]})
        last = [[name, 0, 0]]
    if len({layer["name"] for layer in graph}) < len(graph):
        raise UnportedError("a Merge of sequences that share layers")
    return last[0]


def _inlined(config: Item, graph: list[Item], inputs: list[Reference], dialect: Dialect, notes: Notes) -> Reference:
    """Adds the layers of a model to a graph, among which a file has them too; gives what the model gives."""
    graph += [renewed(each, dialect, notes) for each in config["layers"]]
    inputs += config["input_layers"]
    if len(config["output_layers"]) != 1:
        raise UnportedError("a Merge of a model of several outputs")
    last: Reference = config["output_layers"][0]
    return last


# -- layers ------------------------------------------------------------------------------------------------------------


def _layer(class_name: str, config: Item, dialect: Dialect, notes: Notes) -> Item:
    """A layer's class and fields as Keras 2 has them."""
    if class_name in MERGING and config.get("mode") != "cos":  # of which a model is made, later
        return _merge(config)
    if class_name in TABLES and config.get("dropout"):
        notes.add(f"'{config.get('name')}' drops words in training, which is left out")
        config = {key: value for key, value in config.items() if key != "dropout"}
    words = FIELDS | OWN_FIELDS.get(class_name, {})
    fields: Item = {}
    for key, value in config.items():
        if key in words:
            fields[words[key]] = _field(words[key], value, dialect, notes)
        elif key not in MEANINGLESS and value not in NEUTRAL.get(key, ()):
            fields[key] = _field(key, value, dialect, notes)
    for axes in SIZES:
        if all(axis in fields for axis in axes):
            fields["kernel_size"] = [fields.pop(axis) for axis in axes]
    if class_name in TRANSPOSED:
        fields |= _of_output(fields.pop("output_shape", None), fields)
    if (start := fields.pop("forget_bias_init", None)) is not None:
        fields["unit_forget_bias"] = start == "one"
    if class_name in GATED and config.get("consume_less") != "gpu" and dialect.version[:2] == (1, 2):
        fields = quirks.mistaken(fields, dialect, notes)
    return {"class_name": CLASSES.get(class_name, class_name), "config": fields}


def _penalties(item: Item) -> list[Item]:
    """The penalties that a layer, or what is in a model, has."""
    config = item.get("config")
    layers = config if isinstance(config, list) else config.get("layers") if isinstance(config, dict) else None
    if isinstance(layers, list):
        return [penalty for each in layers for penalty in _penalties(each)]
    return [value for key, value in (config or {}).items() if key.endswith("_regularizer") and value is not None]


def _merge(config: Item) -> Item:
    """A merge as the layer that merges so; by a function, which is code, as such a layer."""
    mode = config.get("mode")
    if config.get("mode_type") != "raw" or mode not in MERGES:
        return {"class_name": "Lambda", "config": {"name": config.get("name"), "function": mode}}
    axes = {"concat": {"axis": config.get("concat_axis", -1)}, "dot": {"axes": config.get("dot_axes", -1)}}
    own = {"name": config.get("name"), "trainable": True, **axes.get(mode, {})}
    return {"class_name": MERGES[mode], "config": own}


def _of_output(shape: Any, fields: Item) -> Item:
    """What a transposed convolution adds, so that its output has the size that is said; nothing where it is the usual.

    Raises:
        UnportedError: for a size that it can't have.
    """
    what = UnportedError(f"'{fields.get('name')}' (Deconvolution2D) with output_shape = {str(shape)[:80]}")
    if not isinstance(shape, list) or len(shape) != 4:
        raise what
    sizes = shape[2:] if fields.get("data_format") == "channels_first" else shape[1:3]
    added, is_usual = [], True
    for size, kernel, step in zip(sizes, fields["kernel_size"], fields.get("strides", [1, 1]), strict=True):
        if not all(isinstance(each, int) and each > 0 for each in (size, kernel, step)):
            raise what
        if fields.get("padding") == "same":  # of the convolution whose gradient it is: ceil(size / step) places
            places = -(-size // step)
            is_usual &= size == places * step
            added.append(size - (places - 1) * step - kernel % 2)
        else:
            places = (size - kernel) // step + 1
            is_usual &= size == places * step + max(kernel - step, 0)
            added.append(size - (places - 1) * step - kernel)
    if is_usual:
        return {}
    if any(not 0 <= each < step for each, step in zip(added, fields.get("strides", [1, 1]), strict=True)):
        raise what
    return {"output_padding": added}


def _field(field: str, value: Any, dialect: Dialect, notes: Notes) -> Any:
    """The value of a field."""
    if field == "layer" and isinstance(value, dict):
        return renewed(value, dialect, notes)
    if field == "data_format":
        return FORMATS.get(value, value)
    if field == "padding":
        return _padding(value)
    if field.endswith("_initializer") and isinstance(value, float):
        return {"class_name": "Constant", "config": {"value": value}}
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        rest = {CONSTRAINTS.get(key, key): each for key, each in value.items() if key != "name"}
        return {"class_name": "L1L2" if value["name"] in REGULARIZERS else value["name"], "config": rest}
    return value


def _padding(value: Any) -> Any:
    """Zeros around each axis: by the names of the sides, or all sides in a row."""
    if isinstance(value, dict):
        sides = [value.get(f"{side}_pad", 0) for side in ("top", "bottom", "left", "right")]
        return [sides[:2], sides[2:]] if {"top_pad", "bottom_pad"} & value.keys() else sides[2:]
    return [value[:2], value[2:]] if isinstance(value, list) and len(value) == 4 else value
