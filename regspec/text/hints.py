"""Names of others for fields and sections: what is read as a field of Keras, and hints at what to write."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from regspec.text.problems import did_you_mean, nearest

# What PyTorch and others call a field, and what it is here: it means the same, wherever a kind has the one and not the
# other, and is read.
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
    "equation": "subscripts",
    "subscripts": "equation",
}
_SORTS = ("regularizer", "initializer", "constraint")
_WHOLE = ("kernel", "weight", "weights", "")  # what others call the weight of a layer, before what is said of it
_MAIN = ("kernel", "depthwise", "embeddings", "gamma", "alpha")  # and the names that it has here
# What may be meant by it else, or by another name.
_SYNONYMS = {
    **{f"{whole}_{sort}".strip("_"): tuple(f"{main}_{sort}" for main in _MAIN) for whole in _WHOLE for sort in _SORTS},
    **dict.fromkeys(("act", "nonlinearity", "activation_function", "activation_fn"), ("activation",)),
    **dict.fromkeys(("with_bias", "has_bias"), ("use_bias",)),
    **dict.fromkeys(("channels", "n_filters", "num_filters"), ("filters", "units")),
    **dict.fromkeys(("n_units", "num_units", "output_size"), ("units", "filters")),
    **dict.fromkeys(("window", "window_size"), ("kernel_size", "pool_size")),
    "kernel": ("kernel_size", "pool_size", "kernel_regularizer"),
    **dict.fromkeys(("prob", "drop_prob", "dropout_rate", "keep_prob"), ("rate", "dropout")),
    **dict.fromkeys(("vocab_size", "n_tokens"), ("input_dim",)),
    **dict.fromkeys(("embed_dim", "embedding_size"), ("output_dim", "key_dim")),
    **dict.fromkeys(("heads", "n_heads", "nhead"), ("num_heads",)),
    **dict.fromkeys(("times", "count", "n", "repeats", "num_layers"), ("repeat",)),
    **dict.fromkeys(("from", "input", "bottom", "after"), ("inputs",)),
    **dict.fromkeys(("id", "label"), ("name",)),
    "alpha": ("strength",),
    "out_channels": ("units",),
    **dict.fromkeys(("hidden_size", "out_features"), ("filters",)),
    "p": ("dropout",),
    "embedding_dim": ("key_dim",),
    **dict.fromkeys(("slope", "leak"), ("negative_slope",)),
    **dict.fromkeys(("lambda", "lam", "coefficient", "coef", "c", "scale"), ("strength", "factor")),
    "weight": ("strength", "factor", "kernel"),
    "weights": ("kernel",),
    "bias": ("bias_regularizer",),
    "activity": ("activity_regularizer",),
    **dict.fromkeys(("types", "type", "classes"), ("kinds",)),
    **dict.fromkeys(("kinds", "kind"), ("types",)),
    "modules": ("layers",),
    "layers": ("modules",),
    **dict.fromkeys(
        ("attention_mask", "attn_mask", "key_padding_mask", "padding_mask", "query_mask", "value_mask", "key_mask"),
        ("mask",),
    ),
    **dict.fromkeys(("causal", "is_causal", "use_causal_mask"), ("use_causal_mask", "is_causal")),
    "lambd": ("strength", "factor", "threshold"),
    "factor": ("strength",),
    "strength": ("factor",),
    **dict.fromkeys(("rate", "target_rate", "rho"), ("target",)),
    **dict.fromkeys(("std", "sigma", "standard_deviation"), ("stddev",)),
    **dict.fromkeys(("a", "low", "minimum"), ("minval", "min_value")),
    **dict.fromkeys(("b", "high", "maximum"), ("maxval", "max_value")),
    **dict.fromkeys(("min", "min_val"), ("min_value", "minval", "low", "x_min")),
    **dict.fromkeys(("max", "max_val"), ("max_value", "maxval", "high", "x_max")),
    "dim": ("axis", "dims"),
    "units": ("filters",),
    "num_bins": ("bin_boundaries",),
    **dict.fromkeys(("index", "indices", "slice"), ("key",)),
    "shape": ("target_shape",),
    "size": ("kernel_size", "pool_size", "target_shape"),
    "repeat": ("repeats", "n"),
    "frozen": ("trainable",),
    "requires_grad": ("trainable",),
    **dict.fromkeys(
        ("regularizer", "regularization"), (*(f"{main}_regularizer" for main in _MAIN), "activity_regularizer")
    ),
    "output_regularizer": ("activity_regularizer",),
    "activation_regularizer": ("activity_regularizer",),
    "init": tuple(f"{main}_initializer" for main in _MAIN),
    "kernel_regularizer": ("kernel", *(f"{main}_regularizer" for main in _MAIN)),
    "bias_regularizer": ("bias",),
    "activity_regularizer": ("activity",),
    **dict.fromkeys(("learning_rate", "learningrate"), ("lr",)),
    **dict.fromkeys(("validation_data", "val", "valid", "held_out"), ("validation", "value")),
    **dict.fromkeys(("file", "source", "data"), ("train",)),
}

_PENALIZED = ("kernel_regularizer", "embeddings_regularizer", "depthwise_regularizer", "kernel")
_PENALTIES = ("weight_decay", "l1", "l2")
_INFERRED = "it is inferred from the layer's input: leave it out"
_DECAY = (
    "an optimizer's weight_decay of d is '{field}: {{l2: d / 2}}': its gradient is d * w, that of {{l2: c}} 2 * c * w"
)
# Fields of others that no field here stands for: what to write, where the layer has one of some fields, or anywhere.
_EXPLAINED: dict[str, tuple[tuple[str, ...], str]] = {
    "weight_decay": (_PENALIZED, _DECAY),
    **dict.fromkeys(
        ("l1", "l2"),
        (_PENALIZED, "write '{field}: {{{name}: 1e-4}}'"),
    ),
    **dict.fromkeys(
        ("initial_state", "initial_states", "state", "h0", "hx"),
        (("return_state",), "states are inputs, after the sequence: 'inputs: [sequence, state]'"),
    ),
    **dict.fromkeys(
        ("in_features", "in_channels", "input_size", "num_features", "normalized_shape", "input_shape", "input_dim"),
        (("name", "trainable"), _INFERRED),
    ),
    **dict.fromkeys(
        ("batch_size", "batch_shape", "batch_input_shape"),
        (("name", "trainable"), "a spec has no batch: an input's shape under 'inputs' is without it"),
    ),
    "num_layers": (
        ("return_sequences",),
        "write the layers one after the other, all but the last with 'return_sequences: true', or a block of one with "
        "'repeat: 2'",
    ),
    "padding_idx": (("mask_zero",), "'mask_zero: true' masks the steps of index 0, and no other index is masked"),
    **dict.fromkeys(
        ("start_dim", "end_dim"),
        (("name", "trainable"), "Flatten keeps the batch and no other axis: leave it out, or take 'Reshape'"),
    ),
    **dict.fromkeys(("min_val", "max_val"), ((), "another range is 'Clip: {{x_min: 0, x_max: 6}}'")),
    "repeat": (
        ("name", "trainable"),
        "a block repeats: put the layer into one under 'blocks', and say 'repeat' where the block is used",
    ),
    "batch_first": (("name", "trainable"), "a batch comes first here: leave it out"),
    "bidirectional": (("return_sequences",), "wrap it: 'Bidirectional: {{layer: {{…}}}}'"),
    "weights": (("name", "trainable"), "numbers come with load_state_dict, or from kernel_initializer"),
    **dict.fromkeys(("device", "inplace"), (("name", "trainable"), "a spec says nothing of it: leave it out")),
    **dict.fromkeys(
        ("optimizer", "lr", "learning_rate", "epochs", "loss", "metrics", "data"),
        (
            ("layers",),
            "a spec says nothing of training: a training file does, 'regspec train net.yaml --with training.yaml'",
        ),
    ),
}
# What penalizes units, in other places than a rule of a spec: by a field that the place has, what to write there.
_OF_UNITS = ("units", "unit", "units_regularizer", "unit_regularizer")
_MAKES_UNITS = {
    "types": "a module has no graph that says which weights make a unit: take the groups of each weight, "
    "'{types: [Linear], kernel_regularizer: {group_lasso: 1e-3}}', or write the network as a spec, which regspec.build "
    "makes, and whose rules have units",
    "blocks": "units are penalized by a rule: 'regularizers: [{units: {group_lasso: 1e-3}}]'",
    "kernel_regularizer": "a unit has slices of several weights: write 'kernel_regularizer: {group_lasso: {strength: "
    "1e-3, coupled: true}}', or a rule 'regularizers: [{units: {group_lasso: 1e-3}}]'",
}
_SECTIONS = {
    "input": "inputs",
    "output": "outputs",
    "layer": "layers",
    "model": "layers",
    "network": "layers",
    "architecture": "layers",
    "regularization": "regularizers",
    "regularizer": "regularizers",
    "rule": "regularizers",
    "rules": "regularizers",
    "penalties": "regularizers",
    "variables": "parameters",
    "vars": "parameters",
    "params": "parameters",
    "hyperparameters": "parameters",
    "constants": "parameters",
    "precision": "dtype",
    "format": "data_format",
    "layout": "data_format",
    "image_data_format": "data_format",
    "definitions": "blocks",
    "modules": "blocks",
    "version": "regspec",
    "title": "name",
    "id": "name",
    "reduction": "activity_reduction",
    "frozen": "frozen_penalties",
}


def section_hint(name: str, known: Iterable[str]) -> str | None:
    """What to write instead of a section that a spec does not have."""
    known = [*known]
    if _SECTIONS.get(name) in known:
        return f"did you mean '{_SECTIONS[name]}'?"
    return field_hint(name, known)


def field_hint(name: str, known: Iterable[str]) -> str | None:
    """What to write instead of a field that is not among the known ones; None where nothing is near."""
    known = [*known]
    place = next((each for each in _MAKES_UNITS if each in known), None)
    if name in _OF_UNITS and place and (near_field(name, known) is None or name.endswith("regularizer")):
        return _MAKES_UNITS[place]
    wanted, text = _EXPLAINED.get(name, (("",), ""))
    field = next((each for each in wanted if each in known), None)
    if (field is not None or not wanted) and _near_synonym(name, known) is None:
        both = (
            "; and the same of 'pointwise_regularizer'"
            if "pointwise_regularizer" in known and name in _PENALTIES
            else ""
        )
        return text.format(field=field, name=name) + both
    whole, _, sort = name.rpartition("_")
    if whole in _WHOLE and sort in _SORTS and f"pointwise_{sort}" in known:
        return f"it has two kernels: 'depthwise_{sort}' and 'pointwise_{sort}'"
    near = near_field(name, known)
    inner = next((each for each in _INNER if each in known), None)
    if near is None and inner is not None and name[:1].isupper():
        return f"write '{inner}: {{{name}: …}}'"
    return None if near is None else f"did you mean '{near}'?"


_INNER = ("layer", "cell")  # fields that hold a kind, whose name begins with a capital


_TYPES = {
    **dict.fromkeys(("long", "int", "integer"), "int64"),
    **dict.fromkeys(("float", "single", "fp32"), "float32"),
    **dict.fromkeys(("double", "fp64"), "float64"),
    **dict.fromkeys(("half", "fp16"), "float16"),
    "bf16": "bfloat16",
    "short": "int16",
    "char": "int8",
    "byte": "uint8",
}


def choice_hint(value: str, choices: Iterable[str]) -> str | None:
    """What to write instead of a word that is none of the choices: a type of numbers by its name here."""
    choices = [*choices]
    own = _TYPES.get(value.rpartition(".")[2].casefold())  # torch.long too
    return f"did you mean '{own}'?" if own in choices else did_you_mean(value, choices)


def size_hint(field: str, value: Any) -> str | None:
    """What to write instead of a size that others leave open, or of a penalty in place of how many units there are."""
    if field == "units":
        return _MAKES_UNITS["kernel_regularizer"] if isinstance(value, dict) else None
    if isinstance(value, str) and value.startswith("("):
        return "a list stands in square brackets: [28, 28]"
    if value not in (None, -1, "None", "none", "~", "?", "-1"):
        return None
    return OPEN_SIZES.get(field)


OPEN_SIZES = {
    "shape": "a size that may vary is null, and the batch is no part of the shape",
    "target_shape": "the size that follows from the others is -1, and the batch is no part of the shape",
}


def _near_synonym(field: str, known: list[str]) -> str | None:
    return next((each for each in (FIELDS.get(field), *_SYNONYMS.get(field, ())) if each in known), None)


def near_field(field: str, known: Iterable[str]) -> str | None:
    """The known field that is probably meant: a synonym, or the nearest name; else None."""
    known = [*known]
    return _near_synonym(field, known) or nearest(field, known)
