"""The kinds that the rules of a spec select, by the names of others too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from regspec.layers import KINDS, find_kind
from regspec.specs import synonyms
from regspec.specs.translating import selected_kind, translated_name
from regspec.text.faults import Origin
from regspec.text.problems import Problem, Problems


def with_kinds(rules: Any, origin: Origin, notes: list[Problem]) -> Any:
    """The rules with the kinds that names of others mean."""
    if not isinstance(rules, list):
        return rules
    made = []
    for index, rule in enumerate(rules):
        kinds = rule.get("kinds") if isinstance(rule, dict) else None
        here = origin / index / "kinds"
        if isinstance(kinds, list):
            own = [translated_name(each, here / place, notes) for place, each in enumerate(kinds)]
            rule = {**rule, "kinds": own}
        elif isinstance(kinds, str):
            rule = {**rule, "kinds": translated_name(kinds, here, notes)}
        made.append(rule)
    return made


def check_kinds(rules: Any, origin: Origin, problems: Problems) -> None:
    """Reports unknown kinds in the rules as they are written, before parameters are put in."""
    for kind, here in _kinds(rules, origin):
        if isinstance(kind, str) and "$" not in kind and find_kind(selected_kind(kind)) is None:
            hint = synonyms.selected_hint(kind, KINDS)
            problems.append(here.problem(f"no kind of layer is called '{kind}'", hint))


def _kinds(rules: Any, origin: Origin) -> Iterator[tuple[Any, Origin]]:
    """What stands in the rules for kinds, with its place."""
    for index, rule in enumerate(rules if isinstance(rules, list) else ()):
        kinds, here = rule.get("kinds") if isinstance(rule, dict) else None, origin / index / "kinds"
        if isinstance(kinds, list):
            yield from ((each, here / place) for place, each in enumerate(kinds))
        elif kinds is not None:
            yield kinds, here
