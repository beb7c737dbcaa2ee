"""What a block's spec computes from its parameters, ``$filters * 4``: so a class can compute it, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from regspec.language.arithmetic import ExpressionError, Number, Token, evaluated, tokens_of

OPERATORS = ("*", "//", "/")  # which bind alike: another formula in the place of the parameter changes nothing


@dataclass(frozen=True, slots=True)
class Formula:
    """A product that begins with a parameter: ``{} * 4`` of ``filters``."""

    parameter: str
    form: str


def formulas_of(written: Any, own: Mapping[str, Any], outer: Mapping[str, Any]) -> dict[Formula, Number]:
    """The formulas in what is written of a block, with their values.

    Args:
        written: its section, as plain data.
        own: the values of its parameters.
        outer: those of the spec, which stand in a formula as numbers.
    """
    found: dict[Formula, Number] = {}
    for text in _texts(written):
        tokens = tokens_of(text)
        if tokens is None or (formula := _formula(tokens, own, outer)) is None:
            continue
        try:
            found[formula] = evaluated(tokens, lambda token: {**outer, **own}[token.text.strip("${}")])
        except ExpressionError:  # which is reported where it stands
            continue
    return found


def _texts(written: Any) -> Iterator[str]:
    if isinstance(written, str):
        yield written
    elif isinstance(written, (list, dict)):
        for each in written.values() if isinstance(written, dict) else written:
            yield from _texts(each)


def _formula(tokens: list[Token], own: Mapping[str, Any], outer: Mapping[str, Any]) -> Formula | None:
    """The formula of tokens: a parameter of the block, and then numbers and parameters of the spec."""
    first, *rest = tokens
    names = [token.text.strip("${}") if token.sort == "parameter" else "" for token in tokens]
    if first.sort != "parameter" or names[0] not in own or any(name in own for name in names[1:]):
        return None
    if any(token.sort == "bracket" or (token.sort == "operator" and token.text not in OPERATORS) for token in rest):
        return None
    values = [outer.get(name) if name else token.text for token, name in zip(rest, names[1:], strict=True)]
    is_plain = all(isinstance(value, (str, int, float)) and not isinstance(value, bool) for value in values)
    return Formula(names[0], " ".join(["{}", *map(str, values)])) if is_plain else None
