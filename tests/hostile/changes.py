"""What is done at random to bytes, to values as JSON has them, and to messages as protocol buffers have them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from random import Random
from typing import Any

from regspec.keras.formats.saved_model.protobuf import Message
from tests.saved_models.writing import varint

EDGES = (7, 8, 15, 16, 31, 32, 63, 64)  # of numbers of so many bits, where they turn over
NUMBERS = (*range(4), *(2**bits + more for bits in EDGES for more in (-1, 0, 1)))
TEXTS = ("", "x", "..", "/", "../x", "\0", "\x1b[2J", "é", "9" * 5000, "{", "%s", "float32", "None")
FLOATS = (0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf"), float("-inf"))
VALUES = (None, True, False, {}, [], [[]], [None], {"a": 1}, *FLOATS, *TEXTS, *NUMBERS, *(-each for each in NUMBERS))
MAX_DEPTH = 12  # of messages in a message
MAX_PLACES = 20_000  # in a value that is changed once more
Place = tuple[Any, Any]  # a mapping or a list, and a key in it


def often(rng: Random) -> int:
    """How often something is changed: mostly once, as much at once hides what each does."""
    return rng.choice((1, 1, 1, 1, 2, 3, 12))


# -- bytes -------------------------------------------------------------------------------------------------------------


def changed_bytes(raw: bytes, rng: Random, other: bytes = b"", places: Sequence[int] = ()) -> bytes:
    """Bytes of which some are others, more or gone, or those of another file; mostly at one of these places."""
    changed = bytearray(raw)
    for _ in range(often(rng)):
        at = rng.choice(places) if places and rng.random() < 0.8 else rng.randrange(len(changed) + 1)
        rng.choice(EDITS)(changed, min(at, len(changed)), rng, other or raw)
    return bytes(changed)


def _turn(raw: bytearray, at: int, rng: Random, other: bytes) -> None:
    if at < len(raw):
        raw[at] ^= 1 << rng.randrange(8)


def _put(raw: bytearray, at: int, rng: Random, other: bytes) -> None:
    raw[at : at + 1] = bytes([rng.choice((0, 1, 2, 127, 128, 255, rng.randrange(256)))])


def _number(raw: bytearray, at: int, rng: Random, other: bytes) -> None:
    """A number that is larger or smaller than it was, or one that turns over somewhere."""
    width = rng.choice((1, 2, 4, 8))
    near = int.from_bytes(raw[at : at + width], "little") + rng.choice((-8, -2, -1, 1, 2, 8, 256))
    wanted = rng.choice((near, len(raw), len(raw) - at, rng.choice(NUMBERS), rng.getrandbits(32)))
    raw[at : at + width] = (wanted % 256**width).to_bytes(width, "little")


def _insert(raw: bytearray, at: int, rng: Random, other: bytes) -> None:
    raw[at:at] = rng.randbytes(rng.choice((1, 2, 4, 8, 100)))


def _delete(raw: bytearray, at: int, rng: Random, other: bytes) -> None:
    del raw[at : at + rng.choice((1, 2, 4, 8, 100))]


def _cut(raw: bytearray, at: int, rng: Random, other: bytes) -> None:
    if rng.random() < 0.3:  # as little can be found in what is cut off
        del raw[at:]


def _repeat(raw: bytearray, at: int, rng: Random, other: bytes) -> None:
    raw[at:at] = raw[at : at + rng.choice((1, 8, 64))] * rng.choice((1, 1, 2, 300))


def _take(raw: bytearray, at: int, rng: Random, other: bytes) -> None:
    """A piece of another file, or of another place, in the place of what is here or behind it."""
    start, size = rng.randrange(len(other) + 1), rng.choice((4, 8, 16, 64, 1000))
    raw[at : at + rng.choice((0, size))] = other[start : start + size]


EDITS: tuple[Callable[[bytearray, int, Random, bytes], None], ...] = (
    *(_turn, _put, _put, _number, _number, _number, _insert, _delete, _cut, _repeat, _take, _take),
)

# -- values ------------------------------------------------------------------------------------------------------------


def changed_json(text: str | bytes, rng: Random, other: str | bytes = "null") -> str:
    """JSON of a value that is another: see `changed_value`."""
    return json.dumps(changed_value(json.loads(text), rng, json.loads(other)))


def changed_value(value: Any, rng: Random, other: Any = None) -> Any:
    """A value of which parts are others, more or gone, or those of another value; it is changed in place."""
    root = [value]
    for _ in range(often(rng)):
        places = [*islice(_places(root), MAX_PLACES + 1)]
        if len(places) > MAX_PLACES:
            break
        holder, key = rng.choice(places)
        kind = rng.random()
        if kind < 0.35:
            holder[key] = _copied(rng.choice(VALUES))
        elif kind < 0.5:
            there, at = rng.choice([*_places([other])] if other is not None and rng.random() < 0.5 else places)
            holder[key] = _copied(there[at])
        elif kind < 0.65:
            holder[key] = _near(holder[key], rng)
        elif kind < 0.75:
            if holder is not root:
                del holder[key]
        elif kind < 0.85:
            holder[key] = rng.choice(WRAPPED)(holder[key])
        else:
            rng.choice(REORDERED)(holder, key, rng, places)
    return root[0]


def _places(value: Any) -> Iterator[Place]:
    """Every mapping and list in a value, with each of its keys."""
    waiting = [value]
    for each in waiting:  # which grows
        for key in each if isinstance(each, dict) else range(len(each)):
            yield each, key
            if isinstance(each[key], (dict, list)):
                waiting.append(each[key])


def _copied(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _near(value: Any, rng: Random) -> Any:
    """A value that is nearly as it was."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((value - 1, value + 1, -value, value * 1000, float(value), str(value), [value]))
    if isinstance(value, float):
        return rng.choice((-value, value * 1e30, int(value) if abs(value) < 1e300 else 0, str(value)))
    if isinstance(value, str):
        return changed_bytes(value.encode(errors="replace"), rng).decode(errors="replace")[:10_000]
    if isinstance(value, list):
        return rng.choice((value * 2, value[1:], value[::-1], [*value, None], value[:1] * 50))
    return value if value is None else {key.upper(): each for key, each in value.items()}


def _nested(value: Any) -> Any:
    for _ in range(60):
        value = [value]
    return value


WRAPPED: tuple[Callable[[Any], Any], ...] = (
    lambda value: [value],
    lambda value: {"class_name": value, "config": {}},
    lambda value: {"class_name": "Dense", "config": value},
    lambda value: {"module": "keras", "class_name": "function", "config": value, "registered_name": "x"},
    lambda value: [_copied(value) for _ in range(30)],
    _nested,
    str,
)


def _rename(holder: Any, key: Any, rng: Random, places: Sequence[Place]) -> None:
    """A part under another name, that may be one of another place."""
    if isinstance(holder, dict):
        names = [each for _, each in places if isinstance(each, str)]
        holder[rng.choice((rng.choice(names), f"{key}_", ""))] = holder.pop(key)


def _exchange(holder: Any, key: Any, rng: Random, places: Sequence[Place]) -> None:
    """A part in the place of a copy of another, and that in its own."""
    there, at = rng.choice(places)
    holder[key], there[at] = _copied(there[at]), _copied(holder[key])


def _shuffle(holder: Any, key: Any, rng: Random, places: Sequence[Place]) -> None:
    if isinstance(holder, list):
        rng.shuffle(holder)


def _give(holder: Any, key: Any, rng: Random, places: Sequence[Place]) -> None:
    """A part to another mapping, too."""
    there, _ = rng.choice(places)
    if isinstance(there, dict) and isinstance(key, str):
        there[key] = _copied(holder[key])


REORDERED = (_rename, _exchange, _shuffle, _give)

# -- messages ----------------------------------------------------------------------------------------------------------

Field = tuple[int, int | bytes]  # its number, and what it holds


def changed_message(raw: bytes, rng: Random, depth: int = 0) -> bytes:
    """A message one of whose fields, or one of a message in it, is another; with the lengths that are right then."""
    fields = _fields(raw)
    if not fields or depth > MAX_DEPTH or rng.random() < 0.1:
        if raw[:1] in b"{[" and len(raw) > 1 and rng.random() < 0.9:
            return changed_json(raw, rng).encode()
        return changed_bytes(raw, rng)
    at = rng.randrange(len(fields))
    number, value = fields[at]
    kind = rng.random()
    if isinstance(value, bytes) and kind < 0.7:
        fields[at] = number, changed_message(value, rng, depth + 1)
    elif kind < 0.8:
        fields[at] = number, rng.choice((b"", b"\xff" * 9, raw[:1000], *NUMBERS))
    elif kind < 0.85:
        fields[at] = rng.choice((0, 1, 2, 3, 4, 5, 7, number + 1, 2**29)), value
    elif kind < 0.9:
        del fields[at]
    elif kind < 0.95:
        fields[at:at] = [rng.choice(fields)] * rng.choice((1, 2, 500))
    else:
        rng.shuffle(fields)
    return b"".join(_encoded(*each) for each in fields)


def _fields(raw: bytes) -> list[Field]:
    """The fields of a message, those of a fixed size as numbers; none of what is no message."""
    if raw[:1] in b"{[":  # a text, though it may look like one
        return []
    try:
        found = [*Message(memoryview(raw)).fields()]
    except ValueError:
        return []
    return [(number, value if isinstance(value, int) else bytes(value)) for number, value in found]


def _encoded(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value
