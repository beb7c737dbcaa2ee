"""YAML to plain data: scalars as YAML 1.2 has them, and what is refused, in bounded time."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest

from regspec.text import document
from regspec.text.document import MAX_DEPTH, parse
from regspec.text.problems import MAX_PROBLEMS, RegspecError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("-1.5e+3", -1500.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("+7", 7),
        ("-0", 0),
        ("007", 7),  # YAML 1.2 has no other octal than 0o
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("12:30", "12:30"),
        ("1.2.3", "1.2.3"),
        ("9223372036854775807", 2**63 - 1),
        ("true", True),
        ("False", False),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("y", "y"),
        ("null", None),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ('"true"', "true"),
        ("'~'", "~"),
        ("2026-01-01", "2026-01-01"),
        ("<<", "<<"),
        ("infinity", "infinity"),
        ("e5", "e5"),
        ("\n  -", [None]),
        ("|\n  a\n  b\n", "a\nb\n"),
        ("naïve ✓", "naïve ✓"),
    ],
)
def test_scalars(text: str, value: Any) -> None:
    got = parse(f"a: {text}").data["a"]
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("mapping", "data"),
    [
        ("{<<: *a, z: 3}", {"x": 1, "y": {"k": 1}, "z": 3}),
        ("{<<: *a, w: 3, <<x: 4}", {"x": 1, "y": {"k": 1}, "w": 3, "<<x": 4}),
        ("{z: 3, <<: *a}", {"x": 1, "y": {"k": 1}, "z": 3}),
        ("{x: 3, <<: *a}", {"x": 3, "y": {"k": 1}}),
        ("{<<: *a, y: 3}", {"x": 1, "y": 3}),
        ("{<<: [*a, *b]}", {"x": 1, "y": {"k": 1}, "z": 2}),
        ("{<<: [*b, *a], x: 0}", {"y": 5, "z": 2, "x": 0}),
        ("{<<: {x: 7}}", {"x": 7}),
        ("{<<: []}", {}),
        ("{<<: {}, x: 1}", {"x": 1}),
        ("{<<: *c}", {"x": 1, "y": 9}),
        ("{'<<': 3}", {"<<": 3}),
        ('{"<<": 3, <<: *b}', {"y": 5, "z": 2, "<<": 3}),
        ("{x: <<}", {"x": "<<"}),
        ("[<<]", ["<<"]),
        ("{x: {<<: *b, y: 1}}", {"x": {"y": 1, "z": 2}}),
    ],
)
def test_merge_keys(mapping: str, data: Any) -> None:
    """What a mapping says itself wins, and the first of several; what is merged comes first."""
    head = "a: &a {x: 1, y: {k: 1}}\nb: &b {y: 5, z: 2}\nc: &c {<<: *a, y: 9}\n"
    text = f"{head}d: {mapping}\n"
    read = parse(text).data
    assert read["d"] == data
    assert [*read["d"]] == [*data]
    assert (read["a"], read["b"], read["c"]) == ({"x": 1, "y": {"k": 1}}, {"y": 5, "z": 2}, {"x": 1, "y": 9})


def test_a_problem_in_what_is_merged_points_at_where_it_stands() -> None:
    read = parse("a: &a {x: 1}\nb: &b {y: 5, x: 2}\nd:\n  <<: [*a, *b]\n  z: 3\ne: {<<: *a, x: 4}\n")
    for location, place in ((("d", "x"), (1, 8)), (("d", "y"), (2, 8)), (("d", "z"), (5, 3)), (("e", "x"), (6, 13))):
        problem = read.problem(location, "wrong", key=True)
        assert (problem.line, problem.column) == place


def test_anchors_merge_nothing_but_stand_for_what_they_name() -> None:
    data = parse("a: &x {l2: 0.1}\nb: *x\nc: [*x, *x]\n").data
    assert data == {"a": {"l2": 0.1}, "b": {"l2": 0.1}, "c": [{"l2": 0.1}, {"l2": 0.1}]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: .inf", "numbers must be finite"),
        ("a: -.Inf", "numbers must be finite"),
        ("a: .nan", "numbers must be finite"),
        ("a: 1e999", "the number is too large"),
        ("a: 9223372036854775808", "the number is too large"),
        ("a: " + "9" * 5000, "the number is too large"),
        ("a: !!python/object:os.system x", "tags such as !!python/object:os.system"),
        ("a: !!int '3'", "tags such as !!int"),
        ("a: !own x", "tags such as !own"),
        ("a: 1\na: 2", "'a' is given twice"),
        ("1: a", "a key must be a text"),
        ("[a, b]: c", "a key must be a text"),
        ("null: c", "a key must be a text"),
        ("a: *x", "no anchor '&x' stands before"),
        ("a: {<<: 3}", "'<<' takes a mapping, or a list of mappings"),
        ("a: {<<: [{b: 1}, 3]}", "'<<' takes a mapping, or a list of mappings"),
        ("a: {<<: }", "'<<' takes a mapping, or a list of mappings"),
        ("a: {<<: *x}", "no anchor '&x' stands before"),
        ("a: &x {<<: *x}", "stands inside what it names"),
        ("a: {<<: {b: 1}, <<: {c: 1}}", "'<<' is given twice"),
        ("a: &x {b: 1}\nc: {<<: *x, d: 1, d: 2}", "'d' is given twice"),
        ("a: &x [*x]", "stands inside what it names"),
        ("a: [1", "not valid YAML"),
        ("a: b: c", "not valid YAML"),
        ("\ta: 1", "a tab, which may not indent YAML"),
        ("a: 1\n---\nb: 2", "a second begins"),
        ("", "the file is empty"),
        ("# nothing", "the file is empty"),
        ("a: \x07", r"U\+0007 may not stand in YAML"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(RegspecError, match=message) as caught:
        parse(text)
    assert all(problem.line is not None for problem in caught.value.problems) or "empty" in message


def test_a_problem_points_at_what_was_written() -> None:
    text = "a:\n  - {b: 1, c: [x, y]}\n"
    read = parse(text, "f.yaml")
    for location, key, place in (
        (("a",), True, (1, 1, 1)),
        (("a", 0, "c"), True, (2, 12, 1)),
        (("a", 0, "c", 1), False, (2, 19, 1)),
        (("a", 0, "b"), False, (2, 9, 1)),
        (("a", 0, "absent"), False, (2, 5, 17)),  # the nearest part that was written
    ):
        problem = read.problem(location, "wrong", key=key)
        assert (problem.line, problem.column, problem.width) == place, location


def test_long_lines_are_cut_around_the_fault() -> None:
    read = parse("{" + ", ".join(f"key{i}: {i}" for i in range(10_000)) + "}", "f.yaml")
    lines = str(read.problem(("key5000",), "wrong")).split("\n")
    assert max(map(len, lines)) < 140
    start = lines[2].index("^")
    assert lines[1][start : start + 4] == "5000"


NESTED = "[" * 100_000
MERGES = "a: &a {k: [x, x, x, x, x, x, x, x, x]}\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} {{<<: [{', '.join(['*' + chr(97 + i)] * 9)}]}}\n" for i in range(12)
)
CHAIN = "a0: &a0 {k: 1}\n" + "".join(f"a{i + 1}: &a{i + 1} {{<<: *a{i}}}\n" for i in range(1000))
ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)
)


@pytest.mark.parametrize(
    "text",
    [
        NESTED,
        "{a: " * 100_000,
        "- " * 100_000,
        ALIASES,
        MERGES,
        CHAIN,
        "a: 1\n" * 100_000,
        "[" + "*a, " * 100_000 + "]",
        "a: " + "*" * 100_000,
        "? " * 100_000,
        "'" * 100_001,
        "a: 0x" + "F" * 1_000_000,
        "%" * 100_000,
    ],
    ids=lambda text: text[:12],
)
def test_bounded(text: str) -> None:
    start = time.perf_counter()
    with pytest.raises(RegspecError) as caught:
        parse(text)
    assert len(caught.value.problems) <= MAX_PROBLEMS + 1
    assert len(str(caught.value)) < 1_000_000
    assert time.perf_counter() - start < 10  # the bound is seconds, not a speed


def test_depth() -> None:
    depth = MAX_DEPTH
    assert parse("[" * depth + "]" * depth).data is not None
    with pytest.raises(RegspecError, match="nested deeper than 64"):
        parse("[" * (depth + 1) + "]" * (depth + 1))
    with pytest.raises(RegspecError, match="nested deeper than 64"):  # through an alias
        parse("a: &x " + "[" * 40 + "]" * 40 + "\nb: " + "[" * 40 + "*x" + "]" * 40)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: caf\xe9 x", "is not UTF-8: byte 0xe9 in line 1"),
        (b"a: 1\n\xff", "is not UTF-8: byte 0xff in line 2"),
        (b"\x00", r"U\+0000 may not stand in YAML"),
        ("name: x".encode("utf-16"), "is not UTF-8"),
        (b"#" * (16 * 2**20 + 1), "is larger than 16 MiB"),
    ],
)
def test_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.yaml"
    path.write_bytes(content)
    with pytest.raises(RegspecError, match=message):
        document.read(path)


def test_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert document.read(path).data == {"a": 1}


def test_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_bytes(b"a: 1\r\nb: x\r\n")
    read = document.read(path)
    assert read.data == {"a": 1, "b": "x"}
    assert "\r" not in str(read.problem(("b",), "wrong"))


def test_numbers_keep_their_digits() -> None:
    for number in (0.1, 1e-300, math.pi, 5e-324, 1.7976931348623157e308):
        assert parse(f"a: {number!r}").data == {"a": number}
