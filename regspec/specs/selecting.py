"""The kinds that the rules of a spec select, by the names of others too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from regspec.layers import KINDS, Layer, find_kind
from regspec.specs import synonyms
from regspec.specs.rules import LayerRule
from regspec.specs.translating import WRAPPED, selected_kind, translated_name
from regspec.text.faults import Origin
from regspec.text.problems import Problem, Problems

BY_LAYER = frozenset(("activity", "units"))  # which a layer has without a field of its weights
SLOTS = [name for name in LayerRule.model_fields if name not in LayerRule.selectors]


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
    """Reports kinds in the rules, as they are written, that are unknown or have none of the slots of their rule."""
    for index, rule in enumerate(rules if isinstance(rules, list) else ()):
        slots = [slot for slot in rule if slot in SLOTS] if isinstance(rule, dict) else []
        for kind, here in _kinds(rule, origin / index / "kinds"):
            if not isinstance(kind, str) or "$" in kind:  # before parameters are put in
                continue
            cls = find_kind(selected_kind(kind))
            if cls is None:
                hint = synonyms.selected_hint(kind, KINDS)
                problems.append(here.problem(f"no kind of layer is called '{kind}'", hint))
            elif slots and BY_LAYER.isdisjoint(slots) and (own := _slots_of(cls)) and {*own}.isdisjoint(slots):
                hint = f"it has {' and '.join(own)}: give it a rule of its own"
                problems.append(here.problem(f"{cls.__name__} has no {' and no '.join(slots)} for this rule", hint))


def _slots_of(cls: type[Layer]) -> list[str]:
    """The weights for which a kind has fields; none of what wraps layers, which have their own."""
    fields = cls.model_fields
    if not WRAPPED.isdisjoint(fields):
        return []
    return [slot for slot in SLOTS if slot not in BY_LAYER and f"{slot}_regularizer" in fields]


def _kinds(rule: Any, here: Origin) -> Iterator[tuple[Any, Origin]]:
    """What stands in a rule for kinds, with its place."""
    kinds = rule.get("kinds") if isinstance(rule, dict) else None
    if isinstance(kinds, list):
        yield from ((each, here / place) for place, each in enumerate(kinds))
    elif kinds is not None:
        yield kinds, here
