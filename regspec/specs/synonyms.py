"""Other names of kinds, as PyTorch and older Keras have them: hints at the right one."""

from __future__ import annotations

from collections.abc import Iterable

from regspec.language.activations import ACTIVATIONS
from regspec.specs.translating import OF_KERAS, OF_TORCH, kind_of, said_by
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
    "residual": "Add",
    "rmsnorm": "RMSNormalization",
    "selfattention": "MultiHeadAttention",
    "unflatten": "Reshape",
    "view": "Reshape",
    "transpose": "Permute",
    "rnn": "RNN",
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
        return COLON
    if kind := kind_elsewhere(name):
        return f"did you mean '{kind}'?"
    if folded in _EXPLAINED:
        return _EXPLAINED[folded]
    known = [*known]
    if (activation := ACTIVATIONS.get(name)) is not None and folded not in map(str.casefold, known):
        return f"write '- Activation: {{activation: {activation.name}}}'"
    own = "a kind of your own is known after 'regspec --import MODULE'" if name[0].isupper() else None
    return did_you_mean(name, known) or own


def selected_hint(name: str, known: Iterable[str]) -> str | None:
    """What to write instead of a kind that nobody knows, where a rule selects layers by it."""
    if said_by(name):
        return f"it is read as {kind_of(name)}, as every other function is: select the layers by name, 'layers: …'"
    return kind_hint(name, known)
