"""Names of others for fields and sections: what is read as a field of Keras, and hints at what to write."""

from __future__ import annotations

from collections.abc import Iterable

from regspec.text.problems import nearest

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
# What may be meant by it else, or by another name.
_SYNONYMS = {
    **dict.fromkeys(("act", "nonlinearity", "activation_function", "activation_fn"), ("activation",)),
    **dict.fromkeys(("with_bias", "has_bias"), ("use_bias",)),
    **dict.fromkeys(("channels", "n_filters", "num_filters"), ("filters", "units")),
    **dict.fromkeys(("n_units", "num_units", "output_size"), ("units", "filters")),
    **dict.fromkeys(("size", "window", "window_size"), ("kernel_size", "pool_size")),
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
    "min": ("min_value", "minval", "low"),
    "max": ("max_value", "maxval", "high"),
    "dim": ("axis", "dims"),
    "num_bins": ("bin_boundaries",),
    "frozen": ("trainable",),
    "requires_grad": ("trainable",),
    "regularizer": ("kernel_regularizer", "embeddings_regularizer", "activity_regularizer"),
    "regularization": ("kernel_regularizer", "embeddings_regularizer", "activity_regularizer"),
    "weight_regularizer": ("kernel_regularizer", "embeddings_regularizer"),
    "weights_regularizer": ("kernel_regularizer", "embeddings_regularizer"),
    "output_regularizer": ("activity_regularizer",),
    "activation_regularizer": ("activity_regularizer",),
    "initializer": ("kernel_initializer", "embeddings_initializer"),
    "init": ("kernel_initializer", "embeddings_initializer"),
    "weight_initializer": ("kernel_initializer", "embeddings_initializer"),
    "constraint": ("kernel_constraint", "embeddings_constraint"),
    "kernel_regularizer": ("kernel",),
    "bias_regularizer": ("bias",),
    "activity_regularizer": ("activity",),
    **dict.fromkeys(("learning_rate", "learningrate"), ("lr",)),
    "early_stopping": ("patience",),
    **dict.fromkeys(("validation_data", "val", "valid", "held_out"), ("validation", "value")),
    **dict.fromkeys(("file", "source", "data"), ("train",)),
}

_INFERRED = "it is inferred from the layer's input: leave it out"
_DECAY = (
    "an optimizer's weight_decay of d is '{field}: {{l2: d / 2}}': its gradient is d * w, that of {{l2: c}} 2 * c * w"
)
# Fields of others that no field here stands for: what to write, where the layer has the field that is named first.
_EXPLAINED: dict[str, tuple[tuple[str, ...], str]] = {
    "weight_decay": (("kernel_regularizer", "embeddings_regularizer", "kernel"), _DECAY),
    **dict.fromkeys(
        ("l1", "l2"),
        (("kernel_regularizer", "embeddings_regularizer", "kernel"), "write '{field}: {{{name}: 1e-4}}'"),
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
    wanted, text = _EXPLAINED.get(name, ((), ""))
    field = next((each for each in wanted if each in known), None)
    if field is not None and _near_synonym(name, known) is None:
        return text.format(field=field, name=name)
    near = near_field(name, known)
    inner = next((each for each in _INNER if each in known), None)
    if near is None and inner is not None and name[:1].isupper():
        return f"write '{inner}: {{{name}: …}}'"
    return None if near is None else f"did you mean '{near}'?"


_INNER = ("layer", "cell")  # fields that hold a kind, whose name begins with a capital


def _near_synonym(field: str, known: list[str]) -> str | None:
    return next((each for each in (FIELDS.get(field), *_SYNONYMS.get(field, ())) if each in known), None)


def near_field(field: str, known: Iterable[str]) -> str | None:
    """The known field that is probably meant: a synonym, or the nearest name; else None."""
    known = [*known]
    return _near_synonym(field, known) or nearest(field, known)
