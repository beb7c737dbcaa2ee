"""Which regular expressions a rule may have: those that match, or fail, in a short time."""

from __future__ import annotations

import pytest
from torch import nn

import regspec

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


@pytest.mark.parametrize("pattern", NAMES)
@pytest.mark.parametrize("excepts", [False, True], ids=["selects", "excepts"])
def test_a_pattern_matches_whole_names(pattern: str, excepts: bool) -> None:
    """Those of layers, and those of modules."""
    known = ["conv", "conv_1", "conv_10", "dense"]
    wanted = [name for name in known if (name in NAMES[pattern]) != excepts]
    layers = [{"Dense": {"name": name, "units": 4}} for name in known]
    which = {"except": pattern} if excepts else {"layers": pattern}
    if wanted:
        spec = {"inputs": {"x": {"shape": [4]}}, "layers": layers, "regularizers": [{**which, "kernel": "l2"}]}
        assert [*regspec.build(spec).regularization_terms()] == [f"{name}.kernel" for name in wanted]
    which = {"except": pattern, "types": ["Linear"]} if excepts else {"modules": pattern}
    modules = nn.ModuleDict({name: nn.Linear(4, 4) for name in known})
    model = regspec.regularize(modules, [{**which, "kernel_regularizer": "l2", "optional": True}])
    assert [*model.regularization_terms()] == [f"{name}.weight" for name in wanted]
