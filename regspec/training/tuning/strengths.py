"""Which strengths a path changes: those of a parameter, or of the terms of a name, where the spec's text has them.

Two ways were weighed: another strength for the live model alone, or another text for each strength. Of a text a run's
folder comes that says what was trained, and that every command takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from regspec.graph.loading import checked
from regspec.language.calls import is_call
from regspec.language.regularizers import BESIDE, L1L2, REGULARIZERS
from regspec.language.serialized import is_serialized
from regspec.modules.building import build
from regspec.modules.measuring import outermost
from regspec.runtime.penalties.state import named_terms
from regspec.runtime.penalties.terms import innermost
from regspec.runtime.penalties.tracing import without_schedule
from regspec.specs.model import ModelSpec
from regspec.specs.rewriting import with_values
from regspec.specs.rules import LayerRule
from regspec.text.document import Document, Location, parse
from regspec.text.problems import Problem, RegspecError, did_you_mean
from regspec.training.runs.folder import document_of

SHOWN = 12  # names in a message
_FIELD = "_regularizer"
_SLOTS: frozenset[str] = frozenset(LayerRule.model_fields) - LayerRule.selectors


@dataclass(frozen=True)
class Followed:
    """What a path changes in a spec.

    Args:
        name: as it was said: ``kernel.l1``, ``hidden.kernel.l1``, or a parameter's.
        document: the spec's text.
        given: values in place of its parameters' defaults.
        terms: the regularizers whose strengths these are, by their names in the model: ``hidden.kernel.l1``.
        places: where the text has the strengths, and the name alone that stands there in place of one; none of a
            parameter.
    """

    name: str
    document: Document
    given: Mapping[str, Any]
    terms: tuple[str, ...]
    places: Mapping[Location, str | None]

    def spec(self, strength: float) -> ModelSpec:
        """The spec with this strength."""
        if not self.places:
            return checked(self.document, {**self.given, self.name: strength})
        values = {place: _written(name, strength) for place, name in self.places.items()}
        return checked(_with(self.document, values), self.given)


def followed(spec: ModelSpec, name: str) -> Followed:
    """What a path of this name changes.

    Args:
        spec: made from a text.
        name: a term's, ``hidden.kernel.l1``; the end of several terms' names, ``kernel.l1``; or a parameter's.

    Raises:
        RegspecError: where there is no such strength, or the text can't have another one there.
    """
    document, name = document_of(spec), name.removeprefix("$")
    found = own_strengths(build(spec, seed=0))
    if name in spec.parameters:
        return _of_parameter(spec, document, name)
    terms = [name] if name in found else [each for each in found if "." in name and each.endswith(f".{name}")]
    if not terms:
        raise RegspecError(Problem(f"no strength is called '{name}'", _known(name, found, spec), document.path))
    kind = name.rpartition(".")[2]
    places = dict(_places(document.data, kind))
    marks = {place: 0.125 + index / 2**20 for index, place in enumerate(places)}  # each another strength
    marked = _with(document, {place: _written(alone, marks[place]) for place, alone in places.items()})
    now = own_strengths(build(checked(marked, spec.given), seed=0))
    governed = {each: place for each, value in now.items() for place, mark in marks.items() if value == mark}
    hint = f"write it as {{{kind}: $strength}}, with a parameter strength, and give --path strength"
    if others := [each for each in terms if each not in governed]:
        what = f"the strength of '{others[0]}' does not stand where another may be written"
        raise RegspecError(Problem(what, hint, document.path))
    mine = {governed[each] for each in terms}
    if shared := [each for each, place in governed.items() if place in mine and each not in terms]:
        what = f"the strength of '{terms[0]}' stands where that of '{shared[0]}' does, too"
        raise RegspecError(Problem(what, hint, document.path))
    return Followed(
        name, document, spec.given, tuple(terms), {place: places[place] for place in places if place in mine}
    )


def _of_parameter(spec: ModelSpec, document: Document, name: str) -> Followed:
    """What a parameter changes. Raises where that is no strength."""
    now = spec.parameters[name]
    what = f"'{name}' is {now!r}, and no strength of a penalty"
    hint = "a path is of a parameter that is a number, and alone is the strength of penalties"
    if isinstance(now, bool) or not isinstance(now, (int, float)):
        raise RegspecError(Problem(what, hint, document.path))
    try:
        one, other = (own_strengths(build(checked(document, {**spec.given, name: at}), seed=0)) for at in (0.125, 0.25))
    except RegspecError:  # of a size, which is whole
        raise RegspecError(Problem(what, hint, document.path)) from None
    terms = [each for each in one if one[each] != other.get(each)]
    if not terms:
        raise RegspecError(Problem(what, hint, document.path))
    return Followed(name, document, spec.given, tuple(terms), {})


def _known(name: str, found: Mapping[str, float], spec: ModelSpec) -> str:
    """What a name may be."""
    ends = dict.fromkeys(".".join(each.split(".")[-2:]) for each in found)
    names = [*dict.fromkeys((*spec.parameters, *ends, *found))]
    if not names:
        return "the spec has no penalty"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return did_you_mean(name, names) or f"it may be {', '.join(names[:SHOWN])}{more}"


def own_strengths(model: nn.Module) -> dict[str, float]:
    """The strength of each regularizer by the names that `regspec.strengths` has, whatever its schedule says now.

    Of what has no strength of its own there is none.
    """
    found: dict[str, float] = {}
    for _, root in outermost(model):
        for name, term, _ in named_terms(root):
            for kind, part in zip(term.kinds, term.parts, strict=True):
                own = innermost(without_schedule(part)[0])
                strength = own.keywords.get("strength") if isinstance(own, partial) else getattr(own, "strength", None)
                if strength is not None:
                    found[f"{name}.{kind}"] = strength
    return found


def _written(name: str | None, strength: float) -> Any:
    """What stands for a strength, where perhaps a name alone has stood."""
    return strength if name is None else {name: strength}


def _with(document: Document, values: Mapping[Location, Any]) -> Document:
    return parse(with_values(document, values), document.path)


def _places(data: Any, kind: str, at: Location = ()) -> Iterator[tuple[Location, str | None]]:
    """Where the strengths of a kind of regularizer may stand, in layers and in rules; or its name alone."""
    if isinstance(data, dict):
        for key, value in data.items():
            is_rules = key == "regularizers" and isinstance(value, list)
            if isinstance(key, str) and key.endswith(_FIELD):
                yield from _in_regularizer(value, kind, (*at, key))
            elif is_rules:
                for index, rule in enumerate(value):
                    for slot in _SLOTS & rule.keys():
                        yield from _in_regularizer(rule[slot], kind, (*at, key, index, slot))
            else:
                yield from _places(value, kind, (*at, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _places(value, kind, (*at, index))


def _in_regularizer(value: Any, kind: str, at: Location) -> Iterator[tuple[Location, str | None]]:
    """Where the strengths of a kind stand in what is written of a regularizer, in the forms that name it."""
    if isinstance(value, list):
        for index, each in enumerate(value):
            yield from _in_regularizer(each, kind, (*at, index))
    elif isinstance(value, str) and "$" not in value and not is_call(value):
        cls = REGULARIZERS.get(value)
        if cls is not None and cls.name == kind:
            yield at, value
    elif isinstance(value, dict) and not is_serialized(value):
        for name, arguments in value.items():
            cls = None if name in BESIDE else REGULARIZERS.get(name)
            if cls is L1L2 and isinstance(arguments, dict) and kind in arguments:
                yield (*at, name, kind), None
            elif cls is not None and cls.name == kind:
                if not isinstance(arguments, dict):
                    yield (*at, name), None
                elif cls.main is not None and cls.main in arguments:
                    yield (*at, name, cls.main), None
