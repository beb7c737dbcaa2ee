"""Regular expressions that are certain to match, or to fail, in a short time: names in rules are found by them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from regspec.language.forms import at
from regspec.text.faults import UNKNOWN

MAX_PATTERN = 200
EVERYTHING = ("all", "any", "everything")  # what people write for a rule that selects by nothing
FOR_ALL = "a rule that names none is for all of them: leave it out"
MORE = "more"
MAX_REPEATS = 3  # unbounded repetitions: matching takes up to the name's length to this power

_TOKEN = re.compile(
    r"""(?P<refused> \\[1-9] | \(\?(?: P= | <?[=!] | \( | > | [a-zA-Z]*x[a-zA-Z]*[-:)] ) )  # looks around, or back
      | (?P<opens>   \((?: \?(?: P<\w+> | [a-zA-Z-]*: ) )? )
      | (?P<flags>   \(\?(?: [a-zA-Z]+ | \#[^)]* )\) )
      | (?P<closes>  \) )
      | (?P<or>      \| )
      | (?P<repeats> (?: [*+?] | \{(?: \d+ | \d*,\d* )\} ) [+?]? )
      | (?P<one>     \\[^AbBZ] | \[(?!\^)\]?(?: \\. | [^\]\\] )*\] | [^.^$\[\\] )
      | (?P<other>   \\. | \[\^\]?(?: \\. | [^\]\\] )*\] | . )""",
    re.VERBOSE | re.DOTALL,
)


def _checked(value: Any) -> Any:
    """The regular expression, if it is one, and quick; of a list the one that matches what any of them does."""
    if isinstance(value, (list, tuple)):
        return _any_of(value)
    if not isinstance(value, str):
        return value
    try:
        is_quick = len(value) <= MAX_PATTERN and re.compile(value) is not None and _repeats(value) <= MAX_REPEATS
    except (re.error, OverflowError, RecursionError) as error:
        context = {"why": str(error), "hint": "every name matches '.*'" if value == "*" else None}
        raise PydanticCustomError("pattern", "is no regular expression: {why}", context) from None
    if is_quick:
        return value
    raise PydanticCustomError(
        "pattern",
        "may take too long to match: it may have {length} characters and {repeats} repetitions, "
        "none of them of a choice or of a repetition, and no look-around",
        {"length": MAX_PATTERN, "repeats": MAX_REPEATS},
    )


def _any_of(patterns: Sequence[Any]) -> str:
    """The expression that matches what one of several does. Raises a pydantic error at one that is none."""
    if any(each is UNKNOWN for each in patterns):
        return ""  # what stands there is reported
    if not patterns:
        raise PydanticCustomError("pattern", "must have at least 1 items, but has 0")
    for index, each in enumerate(patterns):
        with at(index):
            if not isinstance(each, str):
                raise PydanticCustomError("form", "must be a text", {"received": each})
            _checked(each)
    try:
        return re.compile("|".join(patterns)).pattern
    except re.error as error:  # flags and names of groups are those of the whole
        raise PydanticCustomError("pattern", "is no regular expression: {why}", {"why": str(error)}) from None


@dataclass
class _Group:
    """What stands in a pair of parentheses, as far as it was read."""

    repeats: int = 0  # how many repetitions it has
    chooses: bool = False  # whether a group inside it is a choice, at any depth
    alternatives: list[str] = field(default_factory=lambda: [""])  # each a character or set; MORE for any other

    @property
    def is_choice(self) -> bool:
        """Whether it has alternatives other than different single characters, of which only one can match."""
        different = {*self.alternatives}
        is_set = MORE not in different and "" not in different and len(different) > 1
        return len(self.alternatives) > 1 and not is_set

    @property
    def is_slow(self) -> bool:
        """Whether repeating it could take long."""
        return self.repeats > 0 or self.chooses or self.is_choice

    def add(self, token: str, is_character: bool) -> None:
        """Adds a part to the alternative that is read."""
        self.alternatives[-1] = token if is_character and not self.alternatives[-1] else MORE


def _repeats(pattern: str) -> int:
    """How many repetitions an expression has; more than is allowed where one repeats another, or a choice."""
    groups, last = [_Group()], _Group()
    for token in _TOKEN.finditer(pattern):
        group = groups[-1]
        if token["refused"]:
            return MAX_REPEATS + 1
        if token["opens"]:
            groups.append(_Group())
        elif token["or"]:
            group.alternatives.append("")
        elif token["closes"]:
            last = groups.pop()
            groups[-1].repeats += last.repeats
            groups[-1].chooses = groups[-1].chooses or last.chooses or last.is_choice
            groups[-1].add(MORE, False)
        elif token["one"] or token["other"]:
            last = _Group()
            group.add(token[0], bool(token["one"]))
        elif token["repeats"]:
            group.add(MORE, False)
            if _most(token["repeats"]) > 1:
                if last.is_slow:
                    return MAX_REPEATS + 1
                group.repeats += 1
                last = _Group(repeats=1)
    return groups[0].repeats


def _most(quantifier: str) -> float:
    """How often something is repeated at most."""
    bounds = re.fullmatch(r"\{(\d*)(,?)(\d*)\}[+?]?", quantifier)
    if bounds is None:
        return 1 if quantifier[0] == "?" else float("inf")
    low, comma, high = bounds.groups()
    return int(high) if high else float("inf") if comma else int(low)


Pattern = Annotated[
    str,
    BeforeValidator(_checked),
    WithJsonSchema(
        {
            "description": "A regular expression that the whole name must match, or a list of which one must.",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
        }
    ),
]


def pattern_hint(pattern: str, names: Sequence[str]) -> str | None:
    """The name nearest to a pattern that matches none of them whole, as a hint; None where there are no names."""
    if not names:
        return None
    if pattern.casefold() in EVERYTHING:
        return FOR_ALL
    inside = next((name for name in names if re.search(pattern, name)), None)
    if inside is not None:
        return f"a pattern must match a whole name, and '{inside}' it matches in part"
    literal = re.sub(r"\\(?=\W)|[\^$()?*+|\[\]]|\(\?:|\.(?=[*+])|\{[\d,]*\}|\\[dwsDWS]", "", pattern).casefold()

    def likeness(name: str) -> float:
        return difflib.SequenceMatcher(None, literal, name.casefold()).ratio()

    return f"did you mean '{max(names, key=likeness)}'?"
