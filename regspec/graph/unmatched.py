"""Rules for layers that matched none: faults, because a penalty that is asked for is never left out in silence."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from regspec.code.expressions import Itself
from regspec.graph.naming import names_in
from regspec.specs.model import BlockUse, Body
from regspec.specs.patterns import pattern_hint
from regspec.specs.rules import LayerRule
from regspec.text.problems import Problem


def unmatched(body: Body, matched: Collection[object], stays: Mapping[object, str]) -> Iterator[Problem]:
    """The faults of the rules of a body, and of the bodies in it, that matched nothing.

    ``stays`` has why a rule for units found none that may go.
    """
    for index, rule in enumerate(body.rules):
        if Itself(rule) in matched:
            continue
        why = stays.get(Itself(rule))
        what = (
            "this rule matches no layer with such a slot" if why is None else "this rule matches no units that may go"
        )
        origin, hint = body.origin, why or _nearest(rule, body)
        yield Problem(what, hint) if origin is None else (origin / "regularizers" / index).problem(what, hint)
    for entry in body.entries:
        if isinstance(entry, BlockUse):
            for inner in {Itself(copy.body): copy.body for copy in entry.copies}.values():
                yield from unmatched(inner, matched, stays)


def _nearest(rule: LayerRule, body: Body) -> str | None:
    """The name nearest to a rule's pattern, as a hint; None where it matches one, or there is no pattern."""
    names = list(names_in(body))
    if rule.layers is None or any(re.fullmatch(rule.layers, name) for name in names):
        return None
    return pattern_hint(rule.layers, names)
