"""Arithmetic on parameters: what it gives, where it may stand, and its faults, column by column."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import regspec
from regspec.cli.application import parameters as of_options

VALUES = {"width": 64, "depth": 3, "alpha": 0.5, "zero": 0, "name": "a", "flag": True, "sizes": [2, 3], "less": -7}
HEAD = (
    "regspec: 1\nname: net\n"
    "parameters: {width: 64, depth: 3, alpha: 0.5, zero: 0, name: a, flag: true, sizes: [2, 3], less: -7}\n"
    "inputs: {x: {shape: [4]}}\nlayers:\n"
)


def units(value: str) -> Any:
    """What a spec reads where a parameter may stand."""
    spec = regspec.loads(f"{HEAD}  - Dense: {{units: 3}}\n".replace("less: -7", f'less: -7, result: "{value}"'))
    return spec.parameters["result"]


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("$width", 64),
        ("$width * 4", 256),
        ("$width*4", 256),
        ("4 * $width", 256),
        ("$width + $depth", 67),
        ("$width - $depth - 1", 60),
        ("$width // $depth", 21),
        ("$width // $depth // 2", 10),
        ("$less // 2", -4),
        ("$less % 3", 2),
        ("$width % $depth", 1),
        ("$width / 2", 32),
        ("$width / 128", 0.5),
        ("$depth / 2", 1.5),
        ("$width * $alpha", 32),
        ("$depth * $alpha", 1.5),
        ("$width / $alpha", 128),
        ("-$depth", -3),
        ("--$depth", 3),
        ("+$depth", 3),
        ("$depth - -1", 4),
        ("-$depth ** 2", -9),
        ("2 ** -$depth", 0.125),
        ("2 ** $depth ** 2", 512),
        ("($depth)", 3),
        ("(($depth + 1) * 2)", 8),
        ("$width - ($depth - 1)", 62),
        ("$width * (1 - $alpha)", 32),
        ("1e-4 * $depth", 0.0003),
        ("1e2 * $depth", 300),
        (".5 * $width", 32),
        ("$width * 1.", 64),
        ("  $width   *2 ", 128),
        ("$width * 144115188075855871", 2**63 - 64),
        # texts
        ("$$width", "$width"),
        ("$$width * 2", "$width * 2"),
        ("layer_$depth", "layer_3"),
        ("$name", "a"),
        ("$name$depth", "a3"),
        ("$depth.$zero", "3.0"),
        ("$name,$name->$name", "a,a->a"),
        ("$name-head", "a-head"),
        ("($name|b)", "(a|b)"),
        ("$name.*", "a.*"),
        ("l2($alpha)", "l2(0.5)"),
        ("l2($alpha * 2)", "l2(0.5 * 2)"),
        ("a text of $depth", "a text of 3"),
        ("4 * 16", "4 * 16"),
    ],
)
def test_value(value: str, result: Any) -> None:
    found = units(value)
    assert found == pytest.approx(result, rel=1e-15) if isinstance(result, float) else found == result
    assert type(found) is type(result)


def expression(random_: random.Random, levels: int) -> str:
    """An expression in which all is said by brackets and by the strength of operators."""
    if levels == 0 or random_.random() < 0.2:
        return random_.choice(["$width", "$depth", "$less", "$alpha", "2", "7", "1.5", "3"])
    if random_.random() < 0.2:
        return f"-{expression(random_, levels - 1)}"
    sides = [expression(random_, levels - 1) for _ in range(2)]
    sides = [f"({side})" if random_.random() < 0.4 else side for side in sides]
    return f"{sides[0]} {random_.choice(['+', '-', '*', '/', '//', '%'])} {sides[1]}"


@pytest.mark.parametrize("seed", range(60))
def test_as_python_computes_it(seed: int) -> None:
    """Python's operators bind and round as these do, but for a whole result, which is whole here."""
    text = f"$width + {expression(random.Random(seed), 5)}"
    names = {f"${name}": repr(value) for name, value in VALUES.items() if isinstance(value, int | float)}
    written = text
    for name, value in names.items():
        written = written.replace(name, f"({value})")
    try:
        expected = eval(written)  # of numbers that stand above
    except ZeroDivisionError:
        with pytest.raises(regspec.RegspecError, match="divides by 0"):
            units(text)
        return
    assert units(text) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("value", "column", "width", "what", "hint"),
    [
        ("$widht * 2", 0, 6, "no parameter is called 'widht'", "did you mean 'width'?"),
        ("2 * ($depth + $dept)", 14, 5, "no parameter is called 'dept'", "did you mean 'depth'?"),
        ("2 * ${width}", 4, 8, "'${width}' is no reference to a parameter", "write $width, without braces"),
        ("$width // $zero", 7, 2, "divides by 0", None),
        ("$width / ($depth - 3)", 7, 1, "divides by 0", None),
        ("$width % 0", 7, 1, "divides by 0", None),
        ("0 ** -$depth", 2, 2, "divides by 0", None),
        ("$less ** 0.5", 6, 2, "is a root of a number below 0", None),
        ("$width * (2 + 1", 9, 1, "has a bracket that is not closed", None),
        ("$width * 2)", 10, 1, "has a ')' that closes no bracket", None),
        ("$width *", 7, 1, "has no number or parameter behind '*'", None),
        ("$width * / 2", 9, 1, "has '/' where a number or a parameter must stand", None),
        ("* $width", 0, 1, "has '*' where a number or a parameter must stand", None),
        ("$width * ()", 10, 1, "has ')' where a number or a parameter must stand", None),
        ("$width (2)", 7, 1, "has '(' where an operator must stand", None),
        ("$width 2 * 3", 7, 1, "has '2' where an operator must stand", None),
        ("$width * four", 9, 4, "has the word 'four' among numbers", "a parameter is written $four"),
        ("depth * $width", 0, 5, "has the word 'depth' among numbers", "a parameter is written $depth"),
        ("$width * (2 depth)", 12, 5, "has the word 'depth' among numbers", "a parameter is written $depth"),
        ("$width * if", 9, 2, "has the word 'if' among numbers", None),
        ("$name * 2", 0, 5, "'$name' is 'a', which is no number", None),
        ("$width * $flag", 9, 5, "'$flag' is true, which is no number", None),
        ("$sizes * 2", 0, 6, "'$sizes' is a list, which is no number", None),
        (
            "10 ** 10 ** 10 * $width",
            3,
            2,
            TOO_LARGE := "makes a number that is too large: whole ones go up to 2**63 - 1",
            None,
        ),
        ("9 ** 9 ** 9 ** $depth", 7, 2, TOO_LARGE, None),
        ("$width * 9223372036854775807", 7, 1, TOO_LARGE, None),
        ("1e300 * $width * 1e300", 15, 1, TOO_LARGE, None),
        ("$alpha ** -1e9", 7, 2, TOO_LARGE, None),
        ("$width * 1e999", 9, 5, TOO_LARGE, None),
        (f"{'(' * 70}$width{')' * 70}", 64, 1, "is nested deeper than 64 levels", None),
        (f"{'-' * 900}$width", 64, 1, "is nested deeper than 64 levels", None),
        (f"{'2 ** ' * 190}$width", 5 * 64, 1, "is nested deeper than 64 levels", None),
    ],
)
@pytest.mark.parametrize("quote", ['"', "'", ""])
def test_a_fault_points_into_it(value: str, column: int, width: int, what: str, hint: str | None, quote: str) -> None:
    quote = '"' if value.startswith("*") else quote  # which names an alias, where nothing quotes it
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.loads(f"{HEAD}  - Dense:\n      units: {quote}{value}{quote}\n")
    (problem,) = caught.value.problems
    assert (problem.what, problem.hint) == (what, hint)
    assert (problem.line, problem.column, problem.width) == (7, 14 + len(quote) + column, width)


NET = """regspec: 1
name: net
parameters: {width: 8, hidden: $width * 2, depth: 3, strength: 1e-4}
inputs: {x: {shape: [$width - 2]}}
blocks:
  narrow:
    parameters: {filters: null, inner: $filters // 4, rate: $strength * 1e3}
    layers:
      - Dense: {name: down, units: $inner, activity_regularizer: {l1: $rate * 2}}
      - Dense: {name: up, units: $filters}
layers:
  - Dense: {name: wide, units: $hidden, kernel_regularizer: {l2: $strength / 2}}
  - narrow: {name: own, filters: $hidden + 4}
  - narrow: {name: more, filters: $hidden, inner: $width - 3}
  - Reshape: {target_shape: [$width // 4, $depth - 4]}
regularizers:
  - {layers: 'own\\..*', bias: {l1: $strength * $width}}
"""


@pytest.mark.parametrize("width", [8, 12])
def test_where_a_value_may_stand(width: int) -> None:
    """A width that is given scales all that depends on it; so it does once more, from the spec."""
    spec = regspec.loads(NET, parameters={"width": width})
    for each in (spec, regspec.load(regspec.loads(NET), parameters={"width": width})):
        wide, own, more, _ = each.layers
        assert each.inputs["x"].shape == (width - 2,)
        assert wide.layer.units == 2 * width
        assert str(wide.layer.kernel_regularizer) == "l2 5e-05"
        sizes = [[entry.layer.units for entry in block.copies[0].body.entries] for block in (own, more)]
        assert sizes == [[(2 * width + 4) // 4, 2 * width + 4], [width - 3, 2 * width]]
        assert str(own.copies[0].body.entries[0].layer.activity_regularizer) == "l1 0.2"
        assert each.layers[-1].layer.target_shape == (width // 4, -1)
        assert str(each.body.rules[0].bias) == f"l1 {1e-4 * width}"
    assert regspec.load(spec, parameters={"strength": 0.5}).parameters == {
        "width": width,
        "hidden": 2 * width,
        "depth": 3,
        "strength": 0.5,
    }


def test_on_the_command_line() -> None:
    spec = regspec.loads(NET, parameters=of_options(["hidden=$width * 3"]))
    assert spec.parameters["hidden"] == 24
    assert regspec.load(spec, parameters={"width": 12}).parameters["hidden"] == 36
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.loads(NET, parameters=of_options(["hidden=$width * tree"]))
    assert str(caught.value).splitlines()[:3] == [
        "parameter hidden:1:11: error: has the word 'tree' among numbers",
        '    1 | "$width * tree"',
        "      |           ^^^^",
    ]


def test_a_searched_width_scales_what_depends_on_it() -> None:
    text = NET.replace("width: 8", "width: {default: 8, search: {choices: [8, 12]}}")
    assert regspec.loads(text).layers[0].layer.units == 16
    assert regspec.loads(text, parameters={"width": 12}).layers[0].layer.units == 24
    assert {*regspec.loads(text).search} == {"width"}


def test_the_defaults_of_a_file_scale_too(tmp_path: Path) -> None:
    (tmp_path / "inner.yaml").write_text(
        "regspec: 1\nparameters: {width: 4, text: a$$b, hidden: $width * 2}\ninputs: {x: {shape: [6]}}\n"
        "layers: [{Dense: {units: $hidden}}]\n"
    )
    (tmp_path / "outer.yaml").write_text(
        "regspec: 1\nparameters: {size: 5}\ninputs: {x: {shape: [6]}}\nblocks: {inner: {file: inner.yaml}}\n"
        "layers:\n  - inner: {width: $size + 1, inputs: x}\n  - inner: {hidden: 3, inputs: x}\n  - inner: {inputs: x}\n"
        "  - Concatenate: {inputs: [inner, inner_1, inner_2]}\n"
    )
    uses = regspec.load(tmp_path / "outer.yaml").layers[:3]
    assert [use.copies[0].body.entries[0].layer.units for use in uses] == [12, 3, 8]


@pytest.mark.parametrize(
    ("parameters", "of", "what", "hint"),
    [
        ("{a: $b, b: 3}", "a", "no parameter is called 'b'", "a parameter may refer to those before it"),
        ("{a: $a}", "a", "no parameter is called 'a'", "a parameter may refer to those before it"),
        ("{width: 3, a: $widht * 2}", "a", "no parameter is called 'widht'", "did you mean 'width'?"),
        ("{a: true, b: $a + 1}", "b", "'$a' is true, which is no number", None),
    ],
)
@pytest.mark.parametrize("place", ["spec", "block", "used"])
def test_a_parameter_that_refers_to_others(parameters: str, of: str, what: str, hint: str | None, place: str) -> None:
    """It is one fault, at its place, and no other of what depends on it."""
    layers = "[Dense: {name: a_$b, units: $b}]".replace("$b", f"${of}")
    text = f"regspec: 1\nparameters: {parameters}\ninputs: {{x: {{shape: [4]}}}}\nlayers: {layers}\n"
    if place != "spec":
        text = "regspec: 1\ninputs: {x: {shape: [4]}}\nblocks:\n  own:\n"
        text += f"    parameters: {parameters}\n    layers: {layers}\n"
        text += f"layers: [{'Flatten' if place == 'block' else 'own'}]\n"
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.loads(text)
    assert [(each.what, each.hint) for each in caught.value.problems] == [(what, hint)]


@pytest.mark.parametrize(
    ("layer", "what"),
    [
        ("Dense: {units: $width // 100}", "'units' of Dense must be at least 1, but is 0"),
        ("Dense: {units: $width / 5}", "'units' of Dense must be a whole number, but is 12.8"),
        ("Dense: {units: -$width}", "'units' of Dense must be at least 1, but is -64"),
        ("Dropout: {rate: $alpha * 3}", "'rate' of Dropout must be at most 1, but is 1.5"),
        (
            "Dense: {units: 3, activation: $width * 2}",
            "'activation' of Dense must be a name or {name: arguments}, with one name, of an activation function, "
            "but is 128",
        ),
    ],
)
def test_a_result_that_a_field_refuses(layer: str, what: str) -> None:
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.loads(f"{HEAD}  - {layer}\n")
    (problem,) = caught.value.problems
    assert problem.what == what
    assert problem.column == 5 + layer.index("$") - layer[: layer.index("$")].endswith("-")
