"""Training files: how a spec's model learns, as validated YAML that says what the command line says, by the same names.

Two forms were thought of. Sections of classes written by hand may group what belongs together, but each option is then
said twice. Here the keys are the fields of `Options`: a new one has its key by itself, and all that is written by hand
is how a mapping becomes the text that the command line takes (see `said`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast, get_type_hints

from pydantic import Field, ValidationError, create_model

from regspec.language.fields import Frozen
from regspec.text import faults
from regspec.text.document import Document
from regspec.text.dumping import dumped
from regspec.text.faults import Origin
from regspec.text.problems import Problem, Problems, RegspecError
from regspec.training.options import synonyms
from regspec.training.options.called import is_one_argument, over
from regspec.training.options.columns import columns_said
from regspec.training.options.forms import Text
from regspec.training.options.options import BUNDLED, IN_MEMORY, Option, Options
from regspec.training.options.rules import RuleSection, rules_said
from regspec.training.options.said import name_and_key, parted
from regspec.training.options.sections import SECTIONS


@cache
def training_file() -> type[Frozen]:
    """The class of training files: a section for each of `SECTIONS`, whose fields are options."""
    sections: dict[str, Any] = {"regspec": (Literal[1], Field(description="The version of the language: 1."))}
    for section, described in SECTIONS.items():
        own = {option.key or name: _field(name) for name, option in _options().items() if option.section == section}
        own |= synonyms.FIELDS.get(section, {})
        model = create_model(f"{section.title()}Section", __base__=Frozen, __doc__=described, **own)
        sections[section] = (model, Field(default_factory=model, description=described))
    whole = create_model("TrainingFile", __base__=Frozen, __doc__="How a spec's model learns.", **sections)
    return cast(type[Frozen], whole)


def _options() -> Mapping[str, Option]:
    return Option.all_of(Options)


def _field(name: str) -> Any:
    """A field of a section: its type, from the option's, and what is said of it."""
    option, hint = _options()[name], get_type_hints(Options)[name]
    default = getattr(Options, name)
    empty: Any = [] if option.is_list else {}
    about = Field(empty if default == () else default, description=option.help, ge=option.least, le=option.most)
    return option.form or _with_text(hint), about


def _with_text(hint: Any) -> Any:
    """An option's type, where a text may be a number, too."""
    if hint is str:
        return Text
    return Text | None if hint == str | None else hint


@dataclass(frozen=True)
class Places:
    """Where a training file says what: an option by its name, with the steps into it behind dots."""

    origins: Mapping[str, Origin] = field(default_factory=dict)

    @contextmanager
    def at(self, place: str, *, key: bool = False) -> Iterator[None]:
        """Faults in here that have no place of their own stand there, or with ``key`` at the key that leads there."""
        try:
            yield
        except RegspecError as error:
            origin = self.origins.get(place)
            if origin is None:
                raise
            placed = [
                origin.problem(each.what, each.hint, key=key) if each.path is None and each.line is None else each
                for each in error.problems
            ]
            raise RegspecError(placed) from None

    def without(self, places: Iterable[str]) -> Places:
        """The places but these, and what is in them: the command line says it."""
        gone = {*places}
        within = tuple(f"{place}." for place in gone)
        return Places(
            {
                place: origin
                for place, origin in self.origins.items()
                if place not in gone and not place.startswith(within)
            }
        )


@dataclass(frozen=True)
class Said:
    """What a training file says: values of options, by their names, and where they stand."""

    values: Mapping[str, Any] = field(default_factory=dict)
    places: Places = field(default_factory=Places)

    def under(self, options: Options, said: Iterable[str]) -> tuple[Options, Places]:
        """The options of a command line over those of the file, and the places of those that are the file's.

        Args:
            options: those of the command line, with its defaults.
            said: the names of those that it says.

        Raises:
            RegspecError: where the optimizer's arguments have another learning rate than is said beside it.
        """
        said, values, gone = [*said], dict(self.values), set[str]()
        for name in said:
            value, option = getattr(options, name), _options()[name]
            if isinstance(value, tuple) and not option.is_list:
                said_of = {name_and_key(parted(each)[0], option.keys) for each in value}
                before = [(each, name_and_key(parted(each)[0], option.keys)) for each in values.get(name, ())]
                # a word of a column is over all that is said of it
                kept = [each for each, place in before if not {place, (place[0], "")} & said_of]
                value = (*kept, *value)
                gone |= {".".join(filter(None, (name, *place))) for place in said_of}
            elif isinstance(value, str) and is_one_argument(value):
                value, changed = over(value, values.get(name, getattr(Options, name)))
                gone |= {f"{name}.{each}" for each in changed}
            else:
                gone.add(name)
            values[name] = value
        if "optimizer" in said:
            values["optimizer"], rate = synonyms.rate_apart(values["optimizer"])
            if rate is not None and rate != values.get("lr", rate) and "lr" in said:
                what = f"the learning rate is {values['lr']:g} by --lr, and {rate:g} by the optimizer"
                raise RegspecError(Problem(what, "leave out one of them"))
            values |= {} if rate is None else {"lr": rate}
            gone |= set() if rate is None else {"lr"}
        return replace(options, **values), self.places.without(gone)


def read_training(given: Document) -> Said:
    """What a training file says. Paths of data are relative to it.

    Example:
        >>> from regspec.text.document import parse
        >>> from regspec.training.options.file import read_training
        >>> read_training(parse("{regspec: 1, training: {epochs: 3}, data: {train: a.csv}}")).values["data"]
        'a.csv'

    Raises:
        RegspecError: with every fault, where it stands.
    """
    model, origin = training_file(), Origin(given)
    if not isinstance(given.data, dict):
        what = f"a training file is a mapping, but this is {faults.shown(given.data)}"
        raise RegspecError(origin.problem(what, "it begins with 'regspec: 1'"))
    try:
        read: Any = model.model_validate(given.data)
    except ValidationError as error:
        sections: list[type[Frozen]] = [*_sections(), RuleSection, synonyms.EarlyStopping]
        known = [*model.model_fields, *(name for each in sections for name in each.model_fields)]
        found = Problems()
        found.extend(faults.problems(error.errors(include_url=False), origin, "the training file", known))
        raise RegspecError(sorted(found, key=lambda each: (each.line or 0, each.column or 0))) from None
    values: dict[str, Any] = {}
    places: dict[str, Origin] = {}
    for name, option in _options().items():
        section, key = getattr(read, option.section), option.key or name
        if key not in section.model_fields_set:
            continue
        value = getattr(section, key)
        values[name] = _from(given.path, value) if option.is_path and value is not None else value
        places |= _places(name, origin / option.section / key, given.data[option.section][key])
    for name, value, place in synonyms.others_said(read, values, origin):
        if name in values:
            synonyms.check_alike(name, (values[name], places[name]), (value, place))
        values.setdefault(name, value)
        places.setdefault(name, place)
    return Said(values, Places(places))


def _sections() -> list[type[Frozen]]:
    return [cast(type[Frozen], training_file().model_fields[name].annotation) for name in SECTIONS]


def _places(name: str, origin: Origin, value: Any) -> dict[str, Origin]:
    """The place of an option, and those of what is in it."""
    found = {name: origin}
    if isinstance(value, dict):
        for key, each in value.items():
            found |= _places(f"{name}.{key}", origin / key, each)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            found |= _places(f"{name}.{index}", origin / index, each)
    return found


def _is_path(value: str) -> bool:
    """Whether data are a file or a folder, and no bundled set, and no function."""
    return value not in (*BUNDLED, IN_MEMORY) and ":" not in value


def _from(path: str, value: str) -> str:
    """A path that stands in a file, from where the command is."""
    return os.path.normpath(Path(path).parent / value) if _is_path(value) else value


def training_text(options: Options, outputs: Mapping[str, Mapping[str, Any]], folder: Path) -> str:
    """The whole training file of options, in a folder to which the paths in it are relative.

    Args:
        options: all of them.
        outputs: what each output learns, by which loss: what is said, and what was inferred.
        folder: where it is to lie.
    """
    written: dict[str, Any] = {"regspec": 1, **{name: {} for name in SECTIONS}}
    for name, option in _options().items():
        value = getattr(options, name)
        if name == "outputs":
            value = {output: dict(each) for output, each in outputs.items()}
        elif name == "columns":
            value = {column: section.plain for column, section in columns_said(value).items()}
        elif name == "rules":
            value = [rule.plain for rule in rules_said(value)]
        elif isinstance(value, tuple):
            value = dict(each.rpartition("=")[::2] for each in value)
        elif value is not None and option.is_path and _is_path(value) and not os.path.isabs(value):
            value = os.path.relpath(value, folder)
        if isinstance(value, str) and value.isdecimal() and str(int(value)) == value:
            value = int(value)  # devices: 2
        if value is not None and value not in ({}, []):
            written[option.section][option.key or name] = value
    kept = {name: each for name, each in written.items() if each != {}}
    return dumped(kept)
