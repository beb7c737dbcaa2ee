"""What a graph of TensorFlow says of itself: its signatures, with the shapes of what they take and give."""

from __future__ import annotations

from regspec.keras.formats.saved_model.bundle import HALF, TEXT, TYPES
from regspec.keras.formats.saved_model.protobuf import Message

MOST = 3  # signatures, and tensors of each, that are shown
LONGEST = 60  # letters of a name
NAMES = {**TYPES, TEXT: "string", HALF: "bfloat16"}
HIDDEN = "__saved_model_init_op"  # which TensorFlow runs when it loads the file


def signatures(graph: Message) -> str:
    """The signatures of a graph in a line: ``serving_default(x float32 (None, 4)) -> output_0 float32 (None, 2)``."""
    found = [(each.text(1), each.message(2)) for each in graph.messages(5)]
    shown = [
        f"{_short(name)}({_tensors(own, 1)}) -> {_tensors(own, 2) or 'nothing'}"
        for name, own in found
        if name != HIDDEN
    ]
    return "; ".join([*shown[:MOST], *(["…"] if len(shown) > MOST else [])])


def _tensors(signature: Message, number: int) -> str:
    named = sorted((each.text(1), each.message(2)) for each in _first(signature, number))
    shown = [
        f"{_short(name)} {NAMES.get(own.whole(2), 'of another type')} {_shape(own.message(3))}" for name, own in named
    ]
    return ", ".join([*shown[:MOST], *(["…"] if len(shown) > MOST else [])])


def _first(signature: Message, number: int) -> list[Message]:
    return [each for _, each in zip(range(MOST + 1), signature.messages(number), strict=False)]


def _shape(message: Message) -> str:
    if message.whole(3):
        return "of any shape"
    sizes = ["None" if (size := each.whole(1)) < 0 else str(size) for each in message.messages(2)]
    return f"({', '.join(sizes[:9])}{',' * (len(sizes) == 1)})"


def _short(name: str) -> str:
    shown = "".join(letter if letter.isprintable() else "?" for letter in name[:LONGEST])
    return shown + "…" * (len(name) > LONGEST)
