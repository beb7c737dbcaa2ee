"""SavedModels that are damaged, or that lie: each is a fault that is told in a sentence, in bounded time and memory."""

from __future__ import annotations

import os
import random
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import regspec

from .saved_models import writing
from .saved_models.writing import EDGES, KERNEL, OBJECTS, Rows, dense, entry, field, fixed, shape, table, varint, words
from .saved_models.writing import write as written
from .test_hostile_files import is_read_or_refused
from .test_saved_models import FILES, folder_of

NAMES = ("saved_model.pb", "keras_metadata.pb", "variables/variables.index", "variables/variables.data-00000-of-00001")
HUGE = 2**62
NEGATIVE = -1


def kernel(*sizes: int, **rest: Any) -> Callable[[Rows], object]:
    """A kernel of another shape, or in another place."""
    given = {"offset": 0, "size": 48, **rest}
    return lambda rows: rows.__setitem__(b"k", entry(sizes or (4, 3), **given))


def header(**fields: bytes) -> Callable[[Rows], object]:
    return lambda rows: rows.__setitem__(b"", b"".join(fields.values()))


def graph_of(*edges: Any) -> dict[str, Any]:
    """A folder whose bundle has other objects."""
    return {"edges": [*edges]}


def chain(length: int) -> list[Any]:
    """Objects in objects, the last of which is an array."""
    below = [({f"e{index}": index + 2}, b"") for index in range(length)]
    return [({"layer-0": 1}, b""), *below, ({}, writing.variable("k"))]


# Layers that all lead to one object with many others, so that a walk without bounds takes their product.
FAN = [
    ({f"layer-{index}": 1 for index in range(300)}, b""),
    ({f"e{index}": 2 + index for index in range(4000)}, b""),
    *[({}, b"")] * 4000,
]
DENSE = [dense(name=f"d{index}") for index in range(300)]
# Models that are all one object, which has many edges to what is no layer.
SHARED = [
    ({f"layer-{index}": 1 for index in range(300)}, b""),
    ({"layer-0": 2, **{f"e{index}": 2 for index in range(4000)}}, b""),
    ({}, b""),
]
MODELS = [{"class_name": "Sequential", "config": {"name": f"m{n}", "layers": [dense()]}} for n in range(300)]

FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    # the index
    "no table": ({"index": b"no table at all" * 9}, "no table of arrays"),
    "empty": ({"index": b""}, "no table of arrays"),
    "footer alone": ({"index": b"\xff" * 40 + writing.MAGIC}, "a number has no end"),
    "handles outside": ({"index": (varint(HUGE) * 4).ljust(40, b"\0") + writing.MAGIC}, "a block lies outside"),
    "blocks overlap": (
        {"index": writing.table_of([(writing.block([(b"a", b"")]), 0)]).replace(b"", b"")},
        "it has no ''",
    ),
    "unknown kind": ({"index": writing.table_of([(writing.block([]), 7)])}, "compressed in a way that is not known: 7"),
    "block without an end": ({"index": writing.table_of([(b"\xff" * 8, 0)])}, "a block is cut off"),
    "row outside": (
        {"index": writing.table_of([(varint(0) + varint(HUGE) + varint(1) + b"\0\0\0\0", 0)])},
        "a row lies outside",
    ),
    "shared with nothing": (
        {"index": writing.table_of([(varint(9) + varint(0) + varint(0) + b"\0\0\0\0", 0)])},
        "a row lies outside",
    ),
    "endless number": ({"index": writing.table_of([(b"\xff" * 40 + b"\0\0\0\0", 0)])}, "a number has no end"),
    "Snappy of a petabyte": ({"index": writing.table_of([(varint(2**50) + b"\0a", 1)])}, "larger than it can be"),
    "Snappy of too much": ({"index": writing.table_of([(varint(3) + b"\x00a\xfe\x01\x00", 1)])}, "another size"),
    "Snappy of too little": ({"index": writing.table_of([(varint(60) + b"\x00a", 1)])}, "another size"),
    "Snappy before the start": ({"index": writing.table_of([(varint(64) + b"\x00a\xfe\x02\x00", 1)])}, "copies what"),
    "Snappy of nothing": ({"index": writing.table_of([(varint(64) + b"\xfe\x00\x00", 1)])}, "copies what"),
    "Snappy that is cut off": ({"index": writing.table_of([(varint(64) + b"\xfc\xff", 1)])}, "another size"),
    # the bundle
    "no header": ({"change": lambda rows: rows.pop(b"")}, "it has no ''"),
    "no graph": ({"change": lambda rows: rows.pop(OBJECTS)}, "those of no objects"),
    "no kernel": ({"change": lambda rows: rows.pop(b"k")}, "it has no 'k'"),
    "billions of files": ({"change": header(count=field(1, 2**31))}, "it lies in 2,147,483,648 files"),
    "minus one file": ({"change": header(count=field(1, NEGATIVE))}, "it lies in -1 files"),
    "a header of bytes": ({"change": header(count=field(1, b"1"))}, "bytes where a number is wanted"),
    "a petabyte": ({"change": kernel(2**25, 2**25, size=2**52)}, "lies outside of its file"),
    "a product past 64 bits": ({"change": kernel(2**32, 2**32)}, "another size than its shape"),
    "a product of zero": ({"change": kernel(2**62, 0)}, "another size than its shape"),
    "nothing": ({"change": kernel(2**62, 0, size=0)}, "has '/layers/dense/vars/0' with the shape"),
    "negative sizes": ({"change": kernel(-4, -3)}, "a shape that no array has"),
    "many axes": ({"change": kernel(*[1] * 17, size=4)}, "a shape that no array has"),
    "offset outside": ({"change": kernel(offset=HUGE)}, "lies outside of its file"),
    "offset before": ({"change": kernel(offset=NEGATIVE)}, "lies outside of its file"),
    "size before": ({"change": kernel(size=NEGATIVE)}, "another size than its shape"),
    "other file": ({"change": kernel(shard=1)}, "in file 1 of 1"),
    "file before": ({"change": kernel(shard=NEGATIVE)}, "in file -1 of 1"),
    "text": ({"change": kernel(dtype=7)}, "a type of TensorFlow that no weight has: 7"),
    "other type": ({"change": kernel(dtype=99)}, "a type of TensorFlow that no weight has: 99"),
    "other numbers": ({"change": kernel(rest=fixed(6, 12345))}, "another checksum"),
    "a shape of numbers": ({"change": lambda rows: rows.__setitem__(b"k", field(1, 1) + field(2, 3))}, "where bytes"),
    "graph of numbers": ({"change": lambda rows: rows.__setitem__(OBJECTS, rows[b"k"])}, "is no text"),
    "graph of another place": (
        {"change": lambda rows: rows.__setitem__(OBJECTS, entry((), 0, 48, dtype=7))},
        "another size|no end",
    ),
    "the same bytes for ever": (
        {
            "said": {0: words(*[dense(name=f"d{index}", units=4000, use_bias=False) for index in range(9)])},
            "edges": [({f"layer-{n}": n + 1 for n in range(9)}, b""), *[({"k": n + 10}, b"") for n in range(9)]]
            + [({}, writing.variable(f"k{n}")) for n in range(9)],
            "graph": writing.saved([{f"layer-{n}": n + 1 for n in range(9)}, *[{}] * 9]),
            "change": lambda rows: rows.update({b"k%d" % n: entry((25,), 0, 100) for n in range(9)}),
        },
        "overlap",
    ),
    "parts of another array": (
        {"change": lambda rows: rows.__setitem__(b"k", field(1, 1) + field(2, shape(4, 3)) + field(7, b""))},
        "damaged",
    ),
    "parts of a petabyte": (
        {
            "change": lambda rows: rows.update(
                {
                    b"k": field(1, 1) + field(2, shape(2**25, 2**25)) + field(7, field(1, b"") + field(1, b"")),
                    b"\0k\0\1": entry((2**25, 2**25), 0, 2**52),
                }
            )
        },
        "lies outside of its file",
    ),
    # the objects
    "a layer too many": (graph_of(({f"layer-{n}": 1 for n in range(3)}, b""), *EDGES[1:]), "has 1 layers, but 2"),
    "no layers": (graph_of(({}, b""), *EDGES[1:]), "has 1 layers, but 0 objects"),
    "no objects": ({"edges": []}, "leads nowhere"),
    "out of range": (graph_of(({"layer-0": 99}, b""), *EDGES[1:]), "leads nowhere"),
    "before the first": (graph_of(({"layer-0": NEGATIVE}, b""), *EDGES[1:]), "leads nowhere"),
    "weights out of range": (graph_of(EDGES[0], ({"kernel": 2**31}, b"")), "leads nowhere"),
    "objects in objects": (graph_of(*chain(9000)), "objects in objects without end"),
    "a cycle": (graph_of(({"layer-0": 0}, b""), *EDGES[1:]), "no array for kernel"),
    "without end": (
        {"said": {0: words(*DENSE)}, "edges": FAN, "graph": writing.saved([each for each, _ in FAN])},
        "graph of objects has no end",
    ),
    "models of one object": (
        {"said": {0: words(*MODELS)}, "graph": writing.saved([each for each, _ in SHARED])},
        "graph of objects has no end",
    ),
    "number of digits": (graph_of(({f"layer-{'9' * 5000}": 1}, b""), *EDGES[1:]), "has 1 layers, but 0"),
    "a null": (graph_of(EDGES[0], ({"kernel": 2, "b\0/..": 3}, b""), *EDGES[2:]), ""),
    "a null on the way": (graph_of(EDGES[0], ({"kernel": 2, "b\0/..": 3}, b""), EDGES[2], ({"bias": 2}, b"")), ""),
    "edges with slashes": (
        graph_of(EDGES[0], ({"../../x": 2}, b""), ({"k": 3}, b""), EDGES[2]),
        "an array that no weight takes|no array for kernel",
    ),
    "two edges that are one path": (
        graph_of(EDGES[0], ({"a/b": 2, "a_b": 3}, b""), ({"k": 4}, b""), ({"k": 4}, b""), EDGES[2]),
        "several arrays at 'layers/dense/a_b/vars/0'",
    ),
    "a path without end": (
        graph_of(EDGES[0], ({"a" * 9000: 2}, b""), ({"k": 3}, b""), EDGES[2]),
        "or one too deep",
    ),
    # the messages
    "no message": ({"graph": b"\xff" * 100}, "a number has no end"),
    "empty message": ({"graph": b""}, "has 0 bytes"),
    "cut off": ({"graph": writing.saved()[:40]}, "cut off"),
    "of great depth": ({"graph": b"\x12\x80\x80\x04" * 5000 + bytes(2**16)}, "cut off|without a model|leads nowhere"),
    "many fields": ({"graph": field(2, field(7, b"\x10\x00" * 2_100_000))}, "more fields than a model"),
    "many objects": ({"graph": field(2, field(7, field(1, b"") * 200_000))}, "more objects than a model"),
    "groups": ({"graph": b"\x13\x14" * 9}, "of no known type"),
    "words of nobody": ({"said": {99: words(dense()), -1: "{"}}, "without a model of Keras|has no keras_metadata"),
    # what Keras says
    "no JSON": ({"said": {0: "{"}}, "a config that is no JSON"),
    "no mapping": ({"said": {0: "[1]"}}, "a config that is no mapping"),
    "deep JSON": ({"said": {0: "[" * 100_000}}, "a config that is no JSON"),
    "no config": ({"said": {0: {"class_name": "Sequential"}}}, "which is no Sequential or functional"),
    "layers of numbers": ({"said": {0: words(1, 2)}}, "which is no Sequential or functional"),
    "layers without a class": ({"said": {0: words({"config": {}})}}, "which is no Sequential or functional"),
    "layers of lists": ({"said": {0: words({"class_name": [1], "config": {}})}}, "which is no Sequential"),
    "a strange name": ({"said": {0: {"class_name": "\x1b[2J" * 99, "config": {}}}}, "which is no Sequential"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name: str, tmp_path: Path) -> None:
    given, message = FAULTS[name]
    written(tmp_path, **given)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    if not message:
        assert is_read_or_refused(tmp_path)
        return
    with pytest.raises(regspec.RegspecError, match=message) as caught:
        regspec.port(tmp_path)
    assert time.monotonic() - start < 20  # the slowest takes a fifth of that
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 2**10
    assert all(len(line) < 1500 and line.isprintable() for line in str(caught.value).splitlines())


def test_an_index_that_unpacks_to_much(tmp_path: Path) -> None:
    """Each block by itself may be true; together they are none of an index."""
    packed = varint(2**20) + b"\x00a" + b"\xfe\x01\x00" * (2**14 - 1) + b"\xfa\x01\x00"
    blocks = [(packed, 1)] * 17
    start = time.monotonic()
    with pytest.raises(regspec.RegspecError, match="is damaged"):
        regspec.port(written(tmp_path, index=writing.table_of(blocks)))
    assert time.monotonic() - start < 20


def test_keys_that_grow(tmp_path: Path) -> None:
    """Each is as long as the one before, and a letter."""
    rows = b"".join(varint(length) + b"\x01\x00a" for length in range(20_000))
    with pytest.raises(regspec.RegspecError, match="more rows than a model's"):
        regspec.port(written(tmp_path, index=writing.table_of([(rows + b"\0\0\0\0", 0)])))


def test_a_huge_index_is_not_read(tmp_path: Path) -> None:
    written(tmp_path)
    with (tmp_path / "variables/variables.index").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(regspec.RegspecError, match="its index is larger than any model's"):
        regspec.port(tmp_path)


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.index"])
def test_what_is_no_file(name: str, tmp_path: Path) -> None:
    """A pipe, which would be waited for."""
    (written(tmp_path) / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(regspec.RegspecError, match=r"no SavedModel|has no variables"):
        regspec.port(tmp_path)


@pytest.mark.parametrize("name", ["variables", *NAMES])
def test_links_out_of_a_folder_are_not_followed(name: str, tmp_path: Path) -> None:
    """Whatever they lead to, so that nothing from elsewhere becomes a weight, which may be published."""
    folder = written(tmp_path / "saved")
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(regspec.RegspecError, match="is a link out of its folder, which is not followed") as caught:
        regspec.port(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("name", ["variables", *NAMES])
def test_links_within_a_folder_are_followed(name: str, tmp_path: Path) -> None:
    folder = written(tmp_path / "saved")
    wanted = regspec.port(folder).weights
    (folder / name).rename(folder / "kept")
    (folder / name).symlink_to(os.path.relpath(folder / "kept", (folder / name).parent))
    (tmp_path / "link").symlink_to(folder)  # which the user names
    for each in (folder, tmp_path / "link"):
        assert {*regspec.port(each).weights} == {*wanted}


def cached(path: Path) -> tuple[Path, Path]:
    """A SavedModel as a snapshot in a cache of Hugging Face: each file a link to one that is named by its checksum."""
    entry = path / "models--someone--digits"
    folder, blobs = entry / "snapshots" / "0f1e2d", entry / "blobs"
    blobs.mkdir(parents=True)
    written(folder)
    for number, name in enumerate(NAMES):
        (folder / name).rename(blobs / f"{number:064x}")
        (folder / name).symlink_to(os.path.relpath(blobs / f"{number:064x}", (folder / name).parent))
    return folder, blobs


def test_a_snapshot_in_a_cache_of_hugging_face(tmp_path: Path) -> None:
    folder, blobs = cached(tmp_path / "cache")
    assert regspec.port(folder).weights.keys() == regspec.port(written(tmp_path / "plain")).weights.keys()
    assert regspec.port(folder / "saved_model.pb").weights
    last = blobs / f"{len(NAMES) - 1:064x}"  # the arrays, of the user's own now
    last.rename(tmp_path / "secret")
    last.symlink_to(tmp_path / "secret")
    with pytest.raises(regspec.RegspecError, match="is a link out of its folder"):
        regspec.port(folder)


@pytest.mark.parametrize("way", ["other folders of the cache", "blobs that are a link", "no cache"])
def test_what_is_no_cache(way: str, tmp_path: Path) -> None:
    """And looks like one to a user who unpacks it."""
    folder, blobs = cached(tmp_path / "cache")
    if way == "no cache":
        entry = blobs.parent.rename(blobs.parent.with_name("digits"))
        folder = entry / "snapshots" / folder.name
    else:
        aside = blobs.rename(tmp_path / "elsewhere" if "link" in way else blobs.with_name("refs"))
        if "link" in way:
            blobs.symlink_to(aside)
        else:
            for number, name in enumerate(NAMES):
                (folder / name).unlink()
                (folder / name).symlink_to(aside / f"{number:064x}")
    with pytest.raises(regspec.RegspecError, match="is a link out of its folder"):
        regspec.port(folder)


def test_links_in_a_circle(tmp_path: Path) -> None:
    folder = written(tmp_path / "saved")
    (folder / NAMES[1]).unlink()
    (folder / NAMES[1]).symlink_to(NAMES[1])
    with pytest.raises(regspec.RegspecError):
        regspec.port(folder)


def mutated(raw: bytes, rng: random.Random) -> bytes:
    """Bytes of which some are others, or are gone."""
    changed = bytearray(raw)
    kind = rng.random()
    if kind < 0.2:
        return raw[: rng.randrange(len(raw) + 1)]
    for _ in range(rng.choice([1, 2, 8])):
        at = rng.randrange(len(changed) or 1)
        if kind < 0.7:
            changed[at : at + 1] = [rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])]
        else:
            changed[at : at + rng.randrange(4)] = rng.randbytes(rng.randrange(4))
    return bytes(changed)


def test_bytes_that_are_others(tmp_path: Path) -> None:
    """In each file of a folder, and in the rows of its index, where no checksum tells of it."""
    rng = random.Random(1)
    good = {name: (written(tmp_path) / name).read_bytes() for name in NAMES}
    for _ in range(90):
        name = rng.choice(NAMES)
        (tmp_path / name).write_bytes(mutated(good[name], rng))
        assert is_read_or_refused(tmp_path)
        (tmp_path / name).write_bytes(good[name])
    index, arrays = tmp_path / NAMES[2], tmp_path / NAMES[3]
    for _ in range(90):
        rows, _ = writing.rows_of()
        key = rng.choice([*rows])
        rows[key] = mutated(rows[key], rng)
        index.write_bytes(table(rows))
        assert is_read_or_refused(tmp_path)
    for _ in range(60):
        graph = mutated(writing.text(writing.nodes(EDGES, 1))[5:], rng)
        rows, data = writing.rows_of()
        rows[OBJECTS] = entry((), len(data), len(writing.text(graph)), dtype=7)
        index.write_bytes(table(rows))
        arrays.write_bytes(data + writing.text(graph))
        assert is_read_or_refused(tmp_path)


@pytest.mark.parametrize("path", [path for path in FILES if path.stem == "graph"][:1], ids=lambda path: path.stem)
def test_bytes_of_a_true_one_that_are_others(path: Path, tmp_path: Path) -> None:
    rng = random.Random(2)
    good = folder_of(path, tmp_path)
    names = [each.relative_to(good) for each in sorted(good.rglob("*")) if each.is_file()]
    for count in range(40):
        folder = shutil.copytree(good, tmp_path / str(count))
        target = folder / rng.choice(names)
        target.write_bytes(mutated(target.read_bytes(), rng))
        assert is_read_or_refused(folder)


def test_the_one_that_is_changed_is_right(tmp_path: Path) -> None:
    assert regspec.port(written(tmp_path)).weights["d.weight"].tolist() == KERNEL.T.tolist()
