"""What a block's spec computes from its parameters, ``$filters * 4``: so a class can compute it, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from regspec.language.arithmetic import ExpressionError, Number, Token, evaluated, tokens_of

OPERATORS = ("*", "//", "/")  # which bind alike: another formula in the place of the parameter changes nothing


@dataclass(frozen=True, slots=True)
class Formula:
    """A product that begins with a parameter, as Python has it: ``{} * 4`` of ``filters``, or ``int({} * 0.5)``."""

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
        if tokens is None or not _is_product(tokens, own):
            continue
        try:
            value = evaluated(tokens, lambda token: {**outer, **own}[_name(token)])
            factors = [evaluated([token], lambda token: outer[_name(token)]) for token in tokens[2::2]]
        except (ExpressionError, KeyError):  # which is reported where it stands
            continue
        parameter = _name(tokens[0])
        signs = [token.text for token in tokens[1::2]]
        found[Formula(parameter, _form(own[parameter], signs, factors, value))] = value
    return found


def _form(first: Number, signs: list[str], factors: list[Number], value: Number) -> str:
    """A product in Python, whose result is whole where the spec's is: there what is whole by value is."""
    is_of_floats = any(isinstance(each, float) for each in (first, *factors))
    if signs == ["/"] and isinstance(value, int) and not is_of_floats:
        signs = ["//"]  # without a rest
    form = " ".join(["{}", *(f"{sign} {factor}" for sign, factor in zip(signs, factors, strict=True))])
    return f"int({form})" if isinstance(value, int) and (is_of_floats or "/" in signs) else form


def _texts(written: Any) -> Iterator[str]:
    if isinstance(written, str):
        yield written
    elif isinstance(written, (list, dict)):
        for each in written.values() if isinstance(written, dict) else written:
            yield from _texts(each)


def _is_product(tokens: list[Token], own: Mapping[str, Any]) -> bool:
    """Whether tokens are a parameter of the block, and then numbers and parameters of the spec."""
    first, *rest = tokens
    signs, factors = rest[::2], rest[1::2]
    return (
        first.sort == "parameter"
        and _name(first) in own
        and all(token.text in OPERATORS for token in signs)
        and all(token.sort in ("number", "parameter") and _name(token) not in own for token in factors)
    )


def _name(token: Token) -> str:
    return token.text.strip("${}")
