"""Other names of kinds, and other forms, as PyTorch and older Keras have them: hints at the right one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from regspec.language.activations import ACTIVATIONS
from regspec.layers import KINDS, find_kind
from regspec.layers.layer import Layer
from regspec.layers.nested import LayerForm
from regspec.specs.patterns import EVERYTHING, FOR_ALL
from regspec.specs.translating import FUNCTIONS_OF_TORCH, OF_KERAS, OF_TORCH, kind_of, said_by
from regspec.text.problems import did_you_mean

COLON = "write '- Dense: {units: 10}', with a colon and a space"

# Names whose spelling is not near enough to the right kind's, or nearer to another's: those that are read, in any
# letters, and others.
_KINDS = {
    **{
        name.casefold(): kind
        for name, kind in (OF_TORCH | OF_KERAS).items()
        if name.casefold() != kind.casefold()  # of which the spelling is near enough
    },
    "batchnorm": "BatchNormalization",
    "cat": "Concatenate",
    "concat": "Concatenate",
    "depthwise": "DepthwiseConv2D",
    "fullyconnected": "Dense",
    "fc": "Dense",
    "maxout": "Maximum",
    "multiheadattention": "MultiHeadAttention",
    "pixelshuffle": "DepthToSpace",
    "pixelunshuffle": "SpaceToDepth",
    "residual": "Add",
    "rmsnorm": "RMSNormalization",
    "selfattention": "MultiHeadAttention",
    "unflatten": "Reshape",
    "view": "Reshape",
    "transpose": "Permute",
    "rnn": "RNN",
    "unsqueeze": "ExpandDims",
    "upsample": "UpSampling2D",
    **{f"instancenorm{rank}d": "GroupNormalization" for rank in (1, 2, 3)},
    **{f"deconv{rank}d": f"Conv{rank}DTranspose" for rank in (1, 2, 3)},
}
_CELL = "a cell stands in an RNN: write '- RNN: {cell: {LSTMCell: {units: 10}}}'"
_EXPLAINED = {
    "input": "an input is declared under 'inputs'",
    "inputlayer": "an input is declared under 'inputs'",
    "lambda": "code is no part of a spec: register a layer of your own",
    **dict.fromkeys(("grucell", "lstmcell", "rnncell", "simplernncell", "stackedrnncells"), _CELL),
    **dict.fromkeys(("sequential", "functional", "model", "module"), "one model inside another is a block"),
    **dict.fromkeys(
        ("textvectorization", "stringlookup", "hashing", "hashedcrossing", "featurespace"),
        "words are no tensors: turn them into numbers where the data is prepared",
    ),
    "integerlookup": "number the values where the data is prepared, or take 'CategoryEncoding: {num_tokens: 10}'",
}


def kind_elsewhere(name: str) -> str | None:
    """The kind that torch, or an older Keras, calls otherwise."""
    return _KINDS.get(name.casefold())


def kind_hint(name: str, known: Iterable[str]) -> str | None:
    """What to write instead of a kind that nobody knows."""
    folded = name.casefold()
    if not name.isidentifier():
        return _without_module(name, known)
    if kind := kind_elsewhere(name):
        return f"did you mean '{kind}'?"
    if folded in _EXPLAINED:
        return _EXPLAINED[folded]
    known = [*known]
    if (activation := ACTIVATIONS.get(name)) is not None and folded not in map(str.casefold, known):
        return f"write '- Activation: {{activation: {activation.name}}}'"
    own = "a kind of your own is known after 'regspec --import MODULE'" if name[0].isupper() else None
    return did_you_mean(name, known) or own


def hint_at_kinds(errors: Iterable[Any]) -> None:
    """Puts hints at kinds into pydantic's errors about layers inside layers."""
    for error in errors:
        context = error.get("ctx", {})
        if context.get("sort") == LayerForm.sort:
            context["hint"] = kind_hint(context["name"], KINDS)
        hint_at_kinds(context.get("errors", ()))


def _without_module(name: str, known: Iterable[str]) -> str | None:
    """What to write instead of ``nn.Linear``, and of what is no name at all."""
    *modules, last = name.split(".")
    if not modules or not all(each.isidentifier() for each in (*modules, last)):
        return COLON
    if find_kind(last) is not None or last in FUNCTIONS_OF_TORCH:
        return f"write '{last}'"
    kind = kind_of(last)
    return kind_hint(last, known) if kind == last else f"write '{last}', or Keras's '{kind}'"


def call_hint(fields: Mapping[str, Any], name: str) -> str | None:
    """A further call of the layer of a name that stands where a kind does; None where the fields are no call's."""
    if not fields.keys() <= {"inputs", "mask", "name"}:
        return None
    said = [f"{field}: {_listed(value)}" for field, value in fields.items()]
    written = f"{{layer: {name}, {', '.join(said)}}}" if said else name
    return f"did you mean a further call: '- call: {written}'?"


def _listed(value: Any) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)


def operand_hint(cls: type[Layer], value: Any) -> str | None:
    """Where a number stands that a kind takes, when it stands alone or among the names of its inputs."""
    if not {"x1", "x2"} <= cls.model_fields.keys():
        return None
    if _is_number(value):
        return f"write '{cls.__name__}: {{x2: {value}}}'"
    first, second = value if isinstance(value, list) and len(value) == 2 else (None, None)
    if not (_is_number(first) and isinstance(second, str)) and not (isinstance(first, str) and _is_number(second)):
        return None
    fields = f"x1: {first}, inputs: {second}" if _is_number(first) else f"inputs: {first}, x2: {second}"
    return f"inputs are names, and a number is a field: write '{cls.__name__}: {{{fields}}}'"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def selected_hint(name: str, known: Iterable[str]) -> str | None:
    """What to write instead of a kind that nobody knows, where a rule selects layers by it."""
    if name.casefold() in (*EVERYTHING, "*", ".*"):
        return FOR_ALL
    if said_by(name):
        return f"it is read as {kind_of(name)}, as every other function is: select the layers by name, 'layers: …'"
    return kind_hint(name, known)
