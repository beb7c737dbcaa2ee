"""Which regular expressions a rule may have: those that match, or fail, in a short time."""

from __future__ import annotations

import pytest
from torch import nn

import regspec
from regspec.text import document
from regspec.views.formatting import formatted

from .test_schema import spec_schema, validator

QUICK = [
    "encoder", r"block_\d+\.conv[12]", "(conv|dense)_.*", ".*norm.*", "[^.]+", "(a|b)*", "(?:ab){2}", "(?:ab)*c+?",
    "(?P<stage>[a-f]+)_x", "a?b?c?d?e?", r"\(\)\*\+\?\|", "[]*+|(]+", "(?i)HEAD", "x{2,5}", "x{0,1}y{,3}", "a{}",
    "^head$", r"(a|[bc]|\d)*", "a*b*c*",
]  # fmt: skip
SLOW = [
    "(a+)+", "(.|b)*", "(a|[^b])*", "(a|a?)*", "(a|a)+", "([ab]|[ab])*",
    "(a*)*b", "(a|ab)*", "(?:a|bc)+", "((a+)b)*", "(a{2,})+", "a*b*c*d*", r"(a)\1", "(?P<n>a)(?P=n)", "(?=a)a",
    "(?<!a)b", "(a)?(?(1)b|c)", "(?:(?:a|bc)d){2}", "(?:(?:(?:a|bc)d)e){2}", "(?:(?:(a+)b)c)*", "a" * 201,
]  # fmt: skip
WRONG = ["(", "a**", "[a", "(?P<1>a)", "x{5,2}", "*"]


def rule(pattern: str) -> None:
    regspec.regularize(nn.Linear(3, 2), [{"modules": pattern, "kernel_regularizer": "l2", "optional": True}])


@pytest.mark.parametrize("pattern", QUICK)
def test_taken(pattern: str) -> None:
    rule(pattern)


@pytest.mark.parametrize("pattern", SLOW)
def test_too_slow(pattern: str) -> None:
    with pytest.raises(regspec.RegspecError, match="may take too long to match"):
        rule(pattern)


@pytest.mark.parametrize("pattern", WRONG)
def test_no_expression(pattern: str) -> None:
    with pytest.raises(regspec.RegspecError, match="is no regular expression"):
        rule(pattern)


NAMES = {
    "conv_1": ["conv_1"],
    "conv_1.*": ["conv_1", "conv_10"],
    "onv_1": [],
    "conv|dense": ["conv", "dense"],
}
LISTS = {  # several patterns, and the names that one of them matches
    ("conv", "dense"): ["conv", "dense"],
    ("conv_1.*", "dense"): ["conv_1", "conv_10", "dense"],
    ("onv", "conv|dens"): ["conv"],
    ("(?i)CONV", "DENSE"): ["conv", "dense"],
}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [*NAMES.items(), *(([*patterns], names) for patterns, names in LISTS.items())],
    ids=str,
)
@pytest.mark.parametrize("excepts", [False, True], ids=["selects", "excepts"])
def test_a_pattern_matches_whole_names(pattern: str | list[str], names: list[str], excepts: bool) -> None:
    """Those of layers, and those of modules."""
    known = ["conv", "conv_1", "conv_10", "dense"]
    wanted = [name for name in known if (name in names) != excepts]
    layers = [{"Dense": {"name": name, "units": 4}} for name in known]
    which = {"except": pattern} if excepts else {"layers": pattern}
    if wanted:
        spec = {"inputs": {"x": {"shape": [4]}}, "layers": layers, "regularizers": [{**which, "kernel": "l2"}]}
        assert [*regspec.build(spec).regularization_terms()] == [f"{name}.kernel" for name in wanted]
    which = {"except": pattern, "types": ["Linear"]} if excepts else {"modules": pattern}
    modules = nn.ModuleDict({name: nn.Linear(4, 4) for name in known})
    model = regspec.regularize(modules, [{**which, "kernel_regularizer": "l2", "optional": True}])
    assert [*model.regularization_terms()] == [f"{name}.weight" for name in wanted]


@pytest.mark.parametrize(
    ("patterns", "what", "column"),
    [
        ("[]", "must have at least 1 items, but has 0", 13),
        ("[conv, 3]", "must be a text, but is 3", 20),
        ("[conv, '[']", "is no regular expression: unterminated character set at position 0", 20),
        ("[conv, '(?i)DENSE']", "is no regular expression: global flags not at the start of the expression", 13),
        ("[conv, '(a+)+']", "may take too long to match", 20),
    ],
)
def test_a_list_of_patterns_is_checked(patterns: str, what: str, column: int) -> None:
    head = "regspec: 1\nname: net\ninputs: {x: {shape: [4]}}\nlayers: [{Dense: {name: conv, units: 3}}]\n"
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.loads(f"{head}regularizers:\n- {{layers: {patterns}, kernel: l2}}\n")
    (problem,) = caught.value.problems
    assert what in problem.what
    assert problem.column == column - 1


def test_a_list_of_patterns_in_the_schema_and_in_the_formatter() -> None:
    """The formatter keeps it; a parameter may be one of them."""
    text = (
        "regspec: 1\nname: net\nparameters: {last: fc}\ninputs:\n  x: {shape: [4]}\nlayers:\n"
        "  - Dense: {name: conv, units: 3}\n  - Dense: {name: fc, units: 3}\n"
        "regularizers:\n  - {layers: [conv, $last], except: [none, nobody], kernel: l2}\n"
    )
    assert [*regspec.build(text).regularization_terms()] == ["conv.kernel", "fc.kernel"]
    assert validator(spec_schema).is_valid(document.parse(text).data)
    assert document.parse(formatted(document.parse(text))).data == document.parse(text).data
