"""HDF5 files that lie about the lengths of texts and pieces: they are refused before HDF5 makes room for any."""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import torch

import regspec
from regspec.keras.porting.porting import report_of

from .hostile.checksums import part_around, put_checksum
from .hostile.worker import forgotten, memory
from .test_hostile_files import archive, arrays, layer, replaced

KERNEL, BIAS = np.arange(12, dtype="f4").reshape(4, 3) / 7, np.array([1, -2, 3], "f4")
TEXT = h5py.string_dtype()
HUGE = 2**30
CONFIG = {
    "class_name": "Sequential",
    "config": {"name": "m", "layers": [layer("Dense", "d", units=3, batch_input_shape=[None, 4])]},
}
MEMORY = 200  # MiB that a file may take more, which is a fifth of what it says


def model(path: Path, *, is_new: bool = False, is_shared: bool = False, more: int = 0, version: Any = "3.0.0") -> Path:
    """A model whose texts are all of any length; in the newer form of HDF5, or the older; with so many others."""
    with h5py.File(path, "w", **({"libver": "latest"} if is_new else {})) as file:
        if is_shared:
            file["type"] = np.dtype(TEXT)
        texts = {"model_config": json.dumps(CONFIG), "keras_version": "2.15.0", "backend": "tensorflow"}
        texts |= {f"n{each}": "x" for each in range(more)}
        for name, text in texts.items():
            file.attrs.create(name, text, dtype=file["type"] if is_shared else TEXT)
        file.create_group("model_weights").attrs["layer_names"] = np.array(["d"], TEXT)
        group = file["model_weights"].create_group("d")
        group.attrs["weight_names"] = np.array(["d/kernel", "d/bias"], TEXT)
        group["d/kernel"], group["d/bias"] = KERNEL, BIAS
    return path


def holder(file: h5py.File, name: str) -> Any:
    owners = (file, file["model_weights"], file["model_weights/d"])
    return next(each for each in owners if name in each.attrs)


def changed_texts(path: Path, name: str, length: int, count: int = 1) -> Path:
    """Changes the lengths that an attribute says of its first texts, before the place of a heap and a number there."""
    with h5py.File(path) as file:
        value = holder(file, name).attrs[name]
    raw = bytearray(path.read_bytes())
    heaps = [struct.pack("<Q", each.start()) for each in re.finditer(b"GCOL", raw)]
    own = len((value if isinstance(value, str) else value[0]).encode())
    found = re.compile(struct.pack("<I", own) + b"(" + b"|".join(map(re.escape, heaps)) + b")", re.DOTALL)
    match = found.search(raw, raw.index(f"{name}\0".encode()))
    assert match
    part = part_around(bytes(raw), match.start())
    for index in range(count):
        struct.pack_into("<I", raw, match.start() + 16 * index, length or own)
    put_checksum(raw, part)
    path.write_bytes(raw)
    return path


TEXTS = ("model_config", "keras_version", "backend", "layer_names", "weight_names")


@pytest.fixture(params=[False, True], ids=["older", "newer"])
def whole(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return model(tmp_path / "model.h5", is_new=request.param)


@pytest.fixture
def is_bounded() -> Iterator[None]:
    forgotten()  # what other tests took
    before = memory()
    yield
    assert memory() - before < MEMORY


def test_the_one_that_is_changed_is_right(whole: Path) -> None:
    for name in TEXTS:
        changed_texts(whole, name, 0)
    port = regspec.port(whole)
    assert port.weights["d.weight"].tolist() == KERNEL.T.tolist()
    assert port.weights["d.bias"].tolist() == BIAS.tolist()


UNREAD = "is HDF5 of a form that Keras does not write, and that is not read"
LONGER = "is damaged: its texts are longer than it is"


@pytest.mark.usefixtures("is_bounded")
@pytest.mark.parametrize("name", TEXTS)
def test_texts_that_are_longer_than_the_file(name: str, whole: Path) -> None:
    changed_texts(whole, name, HUGE)
    with pytest.raises(regspec.RegspecError, match=LONGER):
        regspec.port(whole)


def together(path: Path) -> Path:
    """Texts each of which is shorter than the file, but not all together."""
    with h5py.File(model(path), "r+") as file:
        file["model_weights"].attrs["layer_names"] = np.array(["d" * 99] * 2000, TEXT)
    return changed_texts(path, "layer_names", path.stat().st_size // 1000, 2000)


def behind(path: Path) -> Path:
    """A file that lies behind a block of something else."""
    path.write_bytes(b"x" * 512 + changed_texts(model(path), "keras_version", HUGE).read_bytes())
    return path


def wide(path: Path) -> Path:
    """A text of letters that have a megabyte each."""
    raw = bytearray(model(path, is_new=True).read_bytes())
    dtype = re.compile(rb"\x19...\x10\0\0\0", re.DOTALL).search(raw, raw.index(b"model_config\0"))
    assert dtype
    part = part_around(bytes(raw), dtype.start())
    struct.pack_into("<I", raw, dtype.start() + 12, 2**20)
    put_checksum(raw, part)
    path.write_bytes(raw)
    return path


def of_lists(path: Path) -> Path:
    """A file whose version is a list of lists of numbers."""
    with h5py.File(model(path), "r+") as file:
        del file.attrs["keras_version"]
        file.attrs["keras_version"] = np.array([np.arange(3), np.arange(2)], h5py.vlen_dtype("i8"))
    return path


FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "together": (together, LONGER),
    "behind": (behind, LONGER),
    "archive": (lambda path: archive(path, changed_texts(model(path), "weight_names", HUGE).read_bytes()), LONGER),
    "wide": (wide, LONGER),
    "elsewhere": (lambda path: model(path, is_new=True, more=12), UNREAD),
    "shared": (lambda path: model(path, is_shared=True), UNREAD),
    "neither": (of_lists, "'keras_version' is neither text nor numbers"),
}


@pytest.mark.usefixtures("is_bounded")
@pytest.mark.parametrize("name", FILES)
def test_texts_in_other_places(name: str, tmp_path: Path) -> None:
    make, message = FILES[name]
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.port(make(tmp_path / "model.h5"))


def test_texts_that_are_no_unicode(tmp_path: Path) -> None:
    """One is shown as far as it is; a config with halves of letters, which could not be written again, is refused."""
    with h5py.File(model(tmp_path / "model.h5"), "r+") as file:
        file.attrs.create("keras_version", b"2.15.0\xff", dtype=TEXT)
    assert "2.15.0\ufffd" in report_of(regspec.port(tmp_path / "model.h5"))["report.md"].decode()
    (tmp_path / "model.json").write_text(json.dumps(CONFIG).replace('"m"', '"\\udcff"'))
    with pytest.raises(regspec.RegspecError, match=r"no JSON: .* surrogates not allowed"):
        regspec.port(tmp_path / "model.json")


# Ways of newer files, in which HDF5 is brought down by what lies: none is looked at, whether it lies or not.
FORMS: dict[str, Callable[[h5py.Group], object]] = {
    "many attributes": lambda group: group.attrs.update({f"x{number}": number for number in range(12)}),
    "a fixed index": lambda group: group.create_dataset("0", data=KERNEL, chunks=(2, 3)),
    "a growing index": lambda group: group.create_dataset("0", data=KERNEL, chunks=(2, 3), maxshape=(None, 3)),
    "an index that is a tree": lambda group: group.create_dataset(
        "0", data=KERNEL, chunks=(2, 3), maxshape=(None,) * 2
    ),
    "one piece": lambda group: group.create_dataset("0", data=KERNEL, chunks=(4, 3), compression="gzip"),
    "plain": lambda group: group.create_dataset("0", data=KERNEL),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_newer_files(name: str, tmp_path: Path) -> None:
    weights = arrays(replaced(FORMS[name]), libver="latest")
    path = archive(tmp_path / "model.keras", weights)
    if name in ("one piece", "plain"):
        assert regspec.port(path).weights["d.weight"].tolist() == KERNEL.T.tolist()
        return
    with pytest.raises(regspec.RegspecError, match=UNREAD):
        regspec.port(path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:keras")  # when it saves
@pytest.mark.parametrize("part", ["FRHP", "BTHD", "BTLF", "FHDB"])
def test_many_links(part: str, tmp_path: Path) -> None:
    """HDF5 keeps many names otherwise where one has a letter beyond ASCII; a process of its own tries them."""
    dense = [keras.layers.Dense(3, name=f"schicht_{letter}") for letter in "äbcdefghij"]
    saved = keras.Sequential([keras.Input((3,)), *dense])
    path = tmp_path / "model.h5"
    saved.save(path)
    port = regspec.port(path)
    assert len(port.weights) == 20
    x = np.linspace(-1, 1, 12, dtype="f4").reshape(4, 3)
    with torch.no_grad():
        np.testing.assert_allclose(port.build()(torch.tensor(x)).numpy(), saved(x).numpy(force=True), rtol=1e-5)
    raw = bytearray(path.read_bytes())
    at = raw.rindex(part.encode())
    raw[at + 8 : at + 24] = b"\xfe" * 16
    path.write_bytes(raw)
    with pytest.raises(regspec.RegspecError, match=UNREAD):
        regspec.port(path)


def test_many_links_in_an_archive(tmp_path: Path) -> None:
    """They are read, and lead to no array of the layer."""
    weights = arrays(replaced(lambda group: [group.create_group(f"ä{number}") for number in range(12)]))
    with pytest.raises(regspec.RegspecError, match=r"shape|no array") as caught:
        regspec.port(archive(tmp_path / "model.keras", weights))
    assert UNREAD not in str(caught.value)


def links_lead_back(raw: bytearray) -> None:
    at = raw.rindex(b"TREE\x00")
    raw[at + 5] = 1
    struct.pack_into("<Q", raw, at + 32, at)


def pieces_lead_back(raw: bytearray) -> None:
    at = raw.index(b"TREE\x01")
    raw[at + 5] = 1
    struct.pack_into("<Q", raw, at + 24 + 8 + 8 * 3, at)  # behind the key: two sizes, and a place along each dimension


def two_links_are_one(raw: bytearray) -> None:
    at = raw.rindex(b"TREE\x00")
    below = struct.unpack_from("<Q", raw, at + 32)[0]
    raw[at + 5 : at + 8] = b"\x01\x02\x00"
    struct.pack_into("<QQQ", raw, at + 32, raw.index(b"TREE\x00"), below, raw.index(b"TREE\x00"))


def free_leads_back(raw: bytearray) -> None:
    at = raw.rindex(b"HEAP")
    _, free, names = struct.unpack_from("<QQQ", raw, at + 8)
    struct.pack_into("<Q", raw, names + free, free)


def names_are_longer(raw: bytearray) -> None:
    struct.pack_into("<Q", raw, raw.rindex(b"HEAP") + 8, 2**31)


OLDER: dict[str, tuple[Callable[[bytearray], None], str]] = {
    "links": (links_lead_back, "is damaged: what should be a tree is none"),
    "pieces": (pieces_lead_back, "is damaged: what should be a tree is none"),
    "twice": (two_links_are_one, "is damaged: a tree leads to one of its parts twice"),
    "free": (free_leads_back, "is damaged: what is free among the names of a group has no end"),
    "long": (names_are_longer, "is damaged: the names of a group lie nowhere"),
}


@pytest.mark.parametrize("name", OLDER)
def test_older_groups_and_pieces(name: str, tmp_path: Path) -> None:
    """Trees and heaps without checksums; of these HDF5 2.0 goes round in the first and the fourth for ever."""
    path = model(tmp_path / "model.h5")
    with h5py.File(path, "r+") as file:
        del file["model_weights/d/d/kernel"]
        file["model_weights/d/d"].create_dataset("kernel", data=KERNEL, chunks=(2, 3))
    assert regspec.port(path).weights["d.weight"].tolist() == KERNEL.T.tolist()
    change, message = OLDER[name]
    raw = bytearray(path.read_bytes())
    change(raw)
    path.write_bytes(raw)
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.port(path)


def test_a_file_that_goes_on_elsewhere(tmp_path: Path) -> None:
    """Its superblock has an extension."""
    with h5py.File(tmp_path / "model.h5", "w", fs_strategy="page") as file:
        file.attrs["model_config"] = json.dumps(CONFIG)
    with pytest.raises(regspec.RegspecError, match=UNREAD):
        regspec.port(tmp_path / "model.h5")


# -- pieces ------------------------------------------------------------------------------------------------------------


def piece(raw: bytes, mask: int = 0, **options: Any) -> Callable[[h5py.Group], object]:
    """A kernel of one piece, which holds what is given, as it is."""

    def make(group: h5py.Group) -> None:
        made = {"chunks": (4, 3), "maxshape": (None, None), **options}
        group.create_dataset("0", (4, 3), "f4", **made).id.write_direct_chunk((0, 0), raw, mask)

    return make


def bomb() -> bytes:
    """A gigabyte of zeros, compressed: the same megabyte again and again."""
    packer = zlib.compressobj(1)
    first, second = (packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + second * (2**10 - 1)


NUMBERS = KERNEL.tobytes()
SHORT = zlib.compress(NUMBERS[:8])
OTHER_SIZE = "a piece of '/layers/dense/vars/0' has another size than it says"
PIECES: dict[str, tuple[Callable[[h5py.Group], object], str]] = {
    "deflate: too short": (piece(SHORT, compression="gzip"), OTHER_SIZE),
    "deflate: a bomb": (piece(bomb(), compression="gzip"), OTHER_SIZE),
    "deflate: no such": (piece(b"abc", compression="gzip"), "is damaged"),
    "deflate: left out": (piece(NUMBERS[:8], 1, compression="gzip"), OTHER_SIZE),
    "deflate: cut off": (piece(zlib.compress(NUMBERS)[:9], compression="gzip"), OTHER_SIZE),
    "lzf: too short": (piece(b"\x07" + NUMBERS[:8], compression="lzf"), OTHER_SIZE),
    "lzf: too long": (piece(b"\x00\x00" + b"\xe0\xff\x00" * 9, compression="lzf"), OTHER_SIZE),
    "lzf: cut off": (piece(b"\xe0", compression="lzf"), "is damaged"),
    "shuffled": (piece(NUMBERS[:8], shuffle=True), OTHER_SIZE),
    "with a checksum": (piece(NUMBERS, fletcher32=True), OTHER_SIZE),
    "as it is": (piece(NUMBERS[:8]), OTHER_SIZE),
    "scaled": (piece(NUMBERS, scaleoffset=3), "'/layers/dense/vars/0' is compressed in a way that is not read"),
    "of numbers too wide": (lambda group: group.create_dataset("0", (4, 3), "longdouble"), "where numbers are wanted"),
    "large": (piece(b"x", chunks=(2**14, 2**13), compression="gzip"), "lies in pieces of 536,870,912 bytes"),
}


@pytest.mark.usefixtures("is_bounded")
@pytest.mark.parametrize("name", PIECES)
def test_pieces(name: str, tmp_path: Path) -> None:
    """What is too short would be filled up with what lies behind it in memory."""
    make, message = PIECES[name]
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.port(archive(tmp_path / "model.keras", arrays(replaced(make))))


WAYS: tuple[dict[str, Any], ...] = (
    {},
    {"compression": "gzip"},
    {"compression": "lzf"},
    {"compression": "gzip", "shuffle": True, "fletcher32": True},
    {"compression": "lzf", "shuffle": True, "fletcher32": True},
    {"fletcher32": True},
    {"shuffle": True},
)


@pytest.mark.parametrize("numbers", [KERNEL, np.zeros_like(KERNEL)], ids=["numbers", "zeros"])
@pytest.mark.parametrize("way", range(len(WAYS)))
def test_pieces_that_are_right(way: int, numbers: Any, tmp_path: Path) -> None:
    """Some of which stick out of the array."""
    options = {"chunks": (3, 2), **WAYS[way]}
    weights = arrays(replaced(lambda group: group.create_dataset("0", data=numbers, **options)))
    port = regspec.port(archive(tmp_path / "model.keras", weights))
    assert port.weights["d.weight"].tolist() == numbers.T.tolist()


def test_many_pieces_of_nothing(tmp_path: Path) -> None:
    """Of all arrays together; HDF5 would look for each."""
    with h5py.File(model(tmp_path / "model.h5"), "r+") as file:
        own = file["model_weights/d"]
        config = json.loads(file.attrs["model_config"].replace('"units": 3', '"units": 3000'))
        file.attrs["model_config"] = json.dumps(config)
        for name, shape in {"d/kernel": (4, 3000), "d/bias": (3000,)}.items():
            del own[name]
            own.create_dataset(name, shape, "f4", chunks=(1,) * len(shape))
    with pytest.raises(regspec.RegspecError, match=r"says that '/model_weights/d/d/.*' has .* pieces, as no array has"):
        regspec.port(tmp_path / "model.h5")
