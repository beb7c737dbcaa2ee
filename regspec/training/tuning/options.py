"""Options of a training that are searched beside a spec's parameters: ``lr={low: 1e-4, high: 1e-1, log: true}``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from regspec.specs.searches import OfOption, Range, Search
from regspec.text import document, faults
from regspec.text.document import document_of
from regspec.text.faults import Origin
from regspec.text.problems import Problem, Problems, RegspecError, did_you_mean
from regspec.training.options.forms import called_text
from regspec.training.options.options import Options
from regspec.training.options.synonyms import rate_apart
from regspec.training.tuning.spaces import ends

# those whose values are numbers or texts, and are not about how a trial is compared with others
SEARCHED = ("lr", "optimizer", "batch_size", "schedule", "clip_gradients", "accumulate", "ema")
REAL = ("lr", "clip_gradients", "ema")
EXAMPLE = "write --search 'lr={low: 1e-4, high: 1e-1, log: true}' or --search 'optimizer={choices: [adam, sgd]}'"


def searches_said(texts: Sequence[str]) -> dict[str, Search]:
    """Where options may lie, by their names.

    Example:
        >>> searches_said(["batch_size={choices: [32, 64]}"])
        {'batch_size': Choices(choices=(32, 64))}

    Raises:
        RegspecError: with all faults.
    """
    found: dict[str, Search] = {}
    problems = Problems()
    for text in texts:
        name, is_given, value = (each.strip() for each in text.partition("="))
        key = name.replace("-", "_")
        if not is_given or not value:
            problems.append(Problem(f"'{text}' says of no option where it may lie", EXAMPLE))
        elif key not in SEARCHED:
            hint = did_you_mean(key, SEARCHED) or f"they are {', '.join(SEARCHED)}; others are parameters of the spec"
            problems.append(Problem(f"'{name}' is no option that is searched", hint))
        elif key in found:
            problems.append(Problem(f"two things are said of '{name}'"))
        else:
            try:
                data = {key: document.parse(value, f"--search {name}").data}
                found[key] = OfOption.model_validate({"search": data[key]}).search
            except ValidationError as error:
                origin = Origin(document_of({"search": data[key]}, f"--search {name}"))
                problems.extend(faults.problems(error.errors(include_url=False), origin, f"'{name}'", ()))
            except RegspecError as error:
                problems.extend(error.problems)
    if problems:
        raise RegspecError(problems)
    return found


def first_of(searches: Mapping[str, Search], options: Options) -> dict[str, Any]:
    """The value of each option that is searched, if it is one that may be tried, or else the first that may be."""
    values = {name: getattr(options, name) for name in searches}
    return {
        name: values[name] if _may_be(search, values[name]) else ends(search)[0] for name, search in searches.items()
    }


def _may_be(search: Search, value: Any) -> bool:
    is_number = isinstance(value, (int, float))
    return (is_number or not isinstance(search, Range)) and search.refusal(value) is None


def with_values(options: Options, values: Mapping[str, Any]) -> Options:
    """The options with other values: an optimizer and a schedule as a text, or as a mapping in a training file."""
    made = {name: called_text(value) if isinstance(value, dict) else value for name, value in values.items()}
    made |= {name: float(value) for name, value in made.items() if name in REAL and isinstance(value, int)}
    if "optimizer" in made and "lr" not in made:  # which is searched beside it
        made["optimizer"], rate = rate_apart(made["optimizer"])
        made |= {} if rate is None else {"lr": rate}
    return replace(options, **made)
