"""What the code in a file names is read without running it, whichever Python made it."""

from __future__ import annotations

import base64
import marshal
import random
import types
from typing import Any

import pytest

from regspec.keras.configs.bytecode import code_in, described

# lambda x, a=3: K.mean(x * 2.5 + 1, axis=-1) if a else tf.nn.relu([y + 70000000000 for y in x], name="out")
CODES = {
    "2.7": (
        "YwIAAAADAAAABQAAAEMAAABzTgAAAHwBAHIhAHQAAGoBAHwAAGQBABRkAgAXZAMAZAQAgwEBU3QCAGoDAGoEAGcAAHwAAERdEAB9"
        "AgB8AgBkBQAXXgIAcTEAZAYAZAcAgwEBUygIAAAATmcAAAAAAAAEQGkBAAAAdAQAAABheGlzaf////9JADxTTBAAAAB0BAAAAG5h"
        "bWV0AwAAAG91dCgFAAAAdAEAAABLdAQAAABtZWFudAIAAAB0ZnQCAAAAbm50BAAAAHJlbHUoAwAAAHQBAAAAeHQBAAAAYXQBAAAA"
        "eSgAAAAAKAAAAABzBwAAADxzdGRpbj50CAAAADxsYW1iZGE+AgAAAHQAAAAA"
    ),
    "3.6": (
        "4wIAAAAAAAAAAgAAAAQAAABDAAAAczQAAAB8AXIadABqAXwAZAEUAGQCFwBkCGQDjQJTAHQCagNqBGQEZAWEAHwARACDAWQGZAeN"
        "AlMAKQlO5wAAAAAAAARA6QEAAAApAdoEYXhpc2MBAAAAAAAAAAIAAAAEAAAAUwAAAHMUAAAAZwB8AF0MfQF8AWQAFwCRAnEEUwAp"
        "AewDAAAAADymGEEAqQApAtoCLjDaAXlyBQAAAHIFAAAA+gc8c3RkaW4++go8bGlzdGNvbXA+AgAAAHMCAAAABgB6HDxsYW1iZGE+"
        "Ljxsb2NhbHM+LjxsaXN0Y29tcD7aA291dCkB2gRuYW1l6f////8pBdoBS9oEbWVhbtoCdGbaAm5u2gRyZWx1KQLaAXjaAWFyBQAA"
        "AHIFAAAAcggAAADaCDxsYW1iZGE+AgAAAHMAAAAA"
    ),
    "3.8": (
        "4wIAAAAAAAAAAAAAAAIAAAAEAAAAQwAAAHM0AAAAfAFyGnQAagF8AGQBFABkAhcAZANkBI0CUwB0AmoDagRkBWQGhAB8AEQAgwFk"
        "B2QIjQJTACkJTucAAAAAAAAEQOkBAAAA6f////8pAdoEYXhpc2MBAAAAAAAAAAAAAAACAAAABAAAAFMAAABzFAAAAGcAfABdDH0B"
        "fAFkABcAkQJxBFMAKQHsAwAAAAA8phhBAKkAKQLaAi4w2gF5cgYAAAByBgAAAPoHPHN0ZGluPtoKPGxpc3Rjb21wPgIAAABzBAAA"
        "AAYAAgB6HDxsYW1iZGE+Ljxsb2NhbHM+LjxsaXN0Y29tcD7aA291dCkB2gRuYW1lKQXaAUvaBG1lYW7aAnRm2gJubtoEcmVsdSkC"
        "2gF42gFhcgYAAAByBgAAAHIJAAAA2gg8bGFtYmRhPgIAAADzAAAAAA=="
    ),
    "3.10": (
        "4wIAAAAAAAAAAAAAAAIAAAAEAAAAQwAAAHM0AAAAfAFyDXQAagF8AGQBFABkAhcAZANkBI0CUwB0AmoDagRkBWQGhAB8AEQAgwFk"
        "B2QIjQJTACkJTucAAAAAAAAEQOkBAAAA6f////8pAdoEYXhpc2MBAAAAAAAAAAAAAAACAAAABAAAAFMAAABzFAAAAGcAfABdBn0B"
        "fAFkABcAkQJxAlMAKQHsAwAAAAA8phhBAKkAKQLaAi4w2gF5cgYAAAByBgAAAPoHPHN0ZGluPtoKPGxpc3Rjb21wPgIAAABzAgAA"
        "ABQAehw8bGFtYmRhPi48bG9jYWxzPi48bGlzdGNvbXA+2gNvdXQpAdoEbmFtZSkF2gFL2gRtZWFu2gJ0ZtoCbm7aBHJlbHUpAtoB"
        "eNoBYXIGAAAAcgYAAAByCQAAANoIPGxhbWJkYT4CAAAAcwIAAAA0AA=="
    ),
    "3.11": (
        "4wIAAAAAAAAAAAAAAAQAAAADAAAA86AAAACXAHwBciJ0AAAAAAAAAAAAAACgAQAAAAAAAAAAAAAAAAAAAAAAAAAAfABkAXoFAABk"
        "AnoAAABkA6wEpgIAAKsCAAAAAAAAAABuKnQEAAAAAAAAAAAAAGoDAAAAAAAAAACgBAAAAAAAAAAAAAAAAAAAAAAAAAAAZAWEAHwA"
        "RACmAAAAqwAAAAAAAAAAAGQGrAemAgAAqwIAAAAAAAAAAFMAKQhO5wAAAAAAAARA6QEAAADp/////ykB2gRheGlzYwEAAAAAAAAA"
        "AAAAAAQAAAATAAAA8xgAAACXAGcAfABdB30BfAFkAHoAAACRAowIUwApAewDAAAAADymGEEAqQApAtoCLjDaAXlzAgAAACAg+gc8"
        "c3RkaW4++go8bGlzdGNvbXA+ehw8bGFtYmRhPi48bG9jYWxzPi48bGlzdGNvbXA+AgAAAHMdAAAAgADQQ1/QQ1/QQ1/QWFnAQcgL"
        "wU/QQ1/QQ1/QQ1/zAAAAANoDb3V0KQHaBG5hbWUpBdoBS9oEbWVhbtoCdGbaAm5u2gRyZWx1KQLaAXjaAWFzAgAAACAgcgsAAAD6"
        "CDxsYW1iZGE+chcAAAACAAAAc0sAAACAALAR0BFslRGXFpIWmAGYQ5kHoCGZC6gikBbRES3UES3QES29ArwFvwq6CtBDX9BDX9Bd"
        "XtBDX9FDX9RDX9Bma7gK0Ths1DhsgAByDQAAAA=="
    ),
    "3.12": (
        "4wIAAAAAAAAAAAAAAAcAAAADAAAA864AAACXAHwBch10AAAAAAAAAAAAagMAAAAAAAAAAAAAAAAAAAAAAAB8AGQBegUAAGQCegAA"
        "AGQDrASrAgAAAAAAAFMAdAQAAAAAAAAAAGoGAAAAAAAAAAAAAAAAAAAAAAAAagkAAAAAAAAAAAAAAAAAAAAAAAB8AEQAjwJjAmcA"
        "YwJdBwAAfQJ8AmQFegAAAJECjAkEAGMCfQJkBqwHqwIAAAAAAABTAGMCAQBjAn0CdwApCE7nAAAAAAAABEDpAQAAAOn/////KQHa"
        "BGF4aXPsAwAAAAA8phhBANoDb3V0KQHaBG5hbWUpBdoBS9oEbWVhbtoCdGbaAm5u2gRyZWx1KQPaAXjaAWHaAXlzAwAAACAgIPoH"
        "PHN0ZGluPvoIPGxhbWJkYT5yEgAAAAIAAABzRwAAAIAAsRGUEZcWkRaYAZhDmQegIZkLqCKQFtMRLYAAvAK/BbkFvwq5CtBdXtZD"
        "X9BYWcBByAvDT9JDX9Bma7gK0zhsgAD50kNfcwUAAAC9DEESCA=="
    ),
    "3.13": (
        "4wIAAAAAAAAAAAAAAAcAAAADAAAA864AAACVAFUBKAAAAAAAAABhGgAAWwAAAAAAAAAAAFIDAAAAAAAAAAAAAAAAAAAAAAAAVQBT"
        "AS0FAABTAi0AAABTA1MEOQIkAFsEAAAAAAAAAABSBgAAAAAAAAAAAAAAAAAAAAAAAFIJAAAAAAAAAAAAAAAAAAAAAAAAVQATAFYC"
        "cwIvAHMCSAcAAG8iUwUtAAAAUAJNCQAACwAgAHMCbgJTBlMHOQIkAHMCIABzAm4CZgApCE7nAAAAAAAABEDpAQAAAOn/////KQHa"
        "BGF4aXPsAwAAAAA8phhBANoDb3V0KQHaBG5hbWUpBdoBS9oEbWVhbtoCdGbaAm5u2gRyZWx1KQPaAXjaAWHaAXlzAwAAACAgINoH"
        "PHN0ZGluPtoIPGxhbWJkYT5yEgAAAAIAAABzTQAAAIAAthGUEZcWkRaYAZhDmQegIZkLqCKQFtARLdARbLwCvwW5Bb8KuQrRXV7T"
        "Q1/RXV7QWFnIC8RP0V1e0UNf0GZruArQOGzQEWz50kNfcwUAAAC/DUESCA=="
    ),
}
NAMES = {"K", "mean", "tf", "nn", "relu"}


@pytest.mark.parametrize("version", CODES)
def test_code_of_all_versions_of_python(version: str) -> None:
    code = code_in([CODES[version], [3], None])
    assert code is not None
    assert {*code.names} == NAMES
    assert {2.5, 1, -1, 70000000000, "out"} <= {*code.constants}
    assert str(code).startswith("names K, mean, tf, nn, relu and has the constants ")


FORMS: dict[str, Any] = {
    "Keras 3": {"class_name": "__lambda__", "config": {"code": CODES["3.11"], "defaults": None, "closure": None}},
    "Keras 2.12": {"class_name": "__lambda__", "config": {"value": [CODES["3.8"] + "\n", None, None]}},
    "Keras 2": {"class_name": "__tuple__", "items": [CODES["3.6"][:76] + "\n" + CODES["3.6"][76:], None, None]},
    "Keras 1": [base64.b64decode(CODES["2.7"]).decode("raw_unicode_escape"), None, None],
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_functions(form: str) -> None:
    assert described(FORMS[form]).startswith(
        "it is Python code, which is not run: it names K, mean, tf, nn, relu and has"
    )


def test_what_is_no_code() -> None:
    assert described("my_function") == "it is the function 'my_function', of which the file has the name alone"
    for each in (
        None,
        3,
        [],
        ["", None],
        ["!!"],
        [base64.b64encode(marshal.dumps([1, "a"])).decode()],
        {"a": {"b": 1}},
    ):
        assert described(each) == "it is Python code, which is not run"


def test_code_that_is_damaged_anywhere() -> None:
    """It is read in part or not at all; nothing is raised, and nothing takes long."""
    rng = random.Random(5)
    for _ in range(3000):
        raw = bytearray(base64.b64decode(rng.choice([*CODES.values()])))
        for _ in range(rng.choice([1, 2, 8])):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        raw = raw[: rng.randrange(1, len(raw))] if rng.random() < 0.2 else raw
        assert described([base64.b64encode(raw).decode()])


@pytest.mark.parametrize(
    "data",
    [
        b"c" + bytes(16) + b"(\xff\xff\xff\x7f",  # a tuple of two thousand millions
        b"c" + bytes(16) + b")\x01" * 5000,  # tuples in tuples
        b"c" + bytes(16) + b"s\xff\xff\xff\xff",  # a text of -1 characters
        b"c" + bytes(16) + b"r\x05\x00\x00\x00",  # what is nowhere
        b"c" + bytes(20) + b"l\xff\xff\xff\x7f",  # a number of ten thousand million digits
    ],
)
def test_code_that_lies(data: bytes) -> None:
    assert code_in([base64.b64encode(data).decode()]) is None


def test_this_python() -> None:
    """Code in code, and a text that names no variable."""
    source = "def f(x):\n    def g(y):\n        return y.shape[0] + 17\n    return g(x).total"
    function: Any = next(each for each in compile(source, "file", "exec").co_consts if isinstance(each, types.CodeType))
    code = code_in([base64.b64encode(marshal.dumps(function)).decode()])
    assert code is not None
    assert {"shape", "total"} <= {*code.names}
    assert 17 in code.constants
