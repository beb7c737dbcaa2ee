"""What a block's spec computes from its parameters, ``$filters * 4``: so a class can compute it, too."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from regspec.language.arithmetic import ExpressionError, Number, Token, evaluated, tokens_of

OPERATORS = ("*", "//", "/")  # which bind alike: another formula in the place of the parameter changes nothing
WHOLE = ("+", "-", "*", "//", "%")  # which give whole numbers of whole numbers, and the same in Python

_SUM = re.compile(r"[-+%]")  # operators that bind otherwise, or whose order counts


@dataclass(frozen=True, slots=True)
class Formula:
    """What is computed from parameters, as Python has it: ``{} * 4`` of ``filters``, or ``{} * {}`` of two.

    Of any numbers it is a product that begins with a parameter, ``int({} * 0.5)``; of whole numbers it is any formula.
    """

    parameters: tuple[str, ...]
    form: str

    @property
    def is_product(self) -> bool:
        """Whether another formula in the place of its parameter needs no brackets."""
        return len(self.parameters) == 1 and self.form.startswith(("{} ", "int({} ")) and not _SUM.search(self.form)


def formulas_of(written: Any, own: Mapping[str, Any], outer: Mapping[str, Any]) -> dict[Formula, Number]:
    """The formulas in what is written of a block, with their values.

    Args:
        written: its section, as plain data.
        own: the values of its parameters.
        outer: those of the spec, which stand in a formula as numbers.
    """
    found: dict[Formula, Number] = {}
    known = {**outer, **own}
    for text in _texts(written):
        tokens = tokens_of(text)
        if tokens is None:
            continue
        names = tuple(_name(token) for token in tokens if token.sort == "parameter" and _name(token) in own)
        try:
            value = evaluated(tokens, lambda token: known[_name(token)])
            numbers = {token: _number(token, known) for token in tokens if token.sort in ("number", "parameter")}
        except (ExpressionError, KeyError):  # which is reported where it stands
            continue
        if _is_product(tokens, own):
            signs = [token.text for token in tokens[1::2]]
            form = _form(own[names[0]], signs, [numbers[token] for token in tokens[2::2]], value)
        elif names and _is_of_whole([value, *numbers.values(), *map(own.get, names)]) and _is_whole(tokens):
            form = _form_of_whole(tokens, numbers, own)
        else:
            continue
        found[Formula(names, form)] = value
    return found


def _number(token: Token, known: Mapping[str, Any]) -> Number:
    return evaluated([token], lambda token: known[_name(token)])


def _is_of_whole(values: Iterable[Any]) -> bool:
    """Whether values are whole by type: a parameter of 2.0, which arithmetic here takes for 2, is a float in Python."""
    return all(type(each) is int for each in values)


def _is_whole(tokens: list[Token]) -> bool:
    """Whether tokens have only operators that give whole numbers of whole numbers."""
    return all(token.text in WHOLE for token in tokens if token.sort == "operator")


def _form_of_whole(tokens: list[Token], numbers: Mapping[Token, Number], own: Mapping[str, Any]) -> str:
    """A formula of whole numbers in Python, with spaces as a person sets them."""
    form, before = "", None
    for token in tokens:
        is_own = token.sort == "parameter" and _name(token) in own
        text = "{}" if is_own else str(numbers.get(token, token.text))
        is_sign = before is None or before.sort == "operator" or before.text == "("
        spaced = f" {text} " if token.sort == "operator" and not is_sign else text
        form += f"({text})" if text.startswith("-") and token.sort == "parameter" else spaced
        before = token
    return form


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
