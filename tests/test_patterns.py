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
    "(?<!a)b", "(a)?(?(1)b|c)", "(?:(?:a|bc)d){2}", "a" * 201,
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
