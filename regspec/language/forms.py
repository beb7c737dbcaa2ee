"""The forms in which a spec names an initializer, an activation function, a constraint or a regularizer.

A member of a family is written by its name, ``relu``; with arguments, ``{leaky_relu: {negative_slope: 0.1}}``; or,
where one argument matters most, ``{leaky_relu: 0.1}``. What people bring is read too: a call, ``leaky_relu(0.1)``, and
what Keras serializes, ``{class_name: LeakyReLU, config: {negative_slope: 0.1}}``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from regspec.code.expressions import Import
from regspec.language.arithmetic import ExpressionError
from regspec.language.calls import FilledCall, Reader, Span, is_call, parse_call
from regspec.language.fields import REFERENCE, Frozen, snake_case
from regspec.language.registration import load_entry_points
from regspec.language.serialized import MODULES, is_serialized, of_layers, unserialized
from regspec.language.tables import Table
from regspec.text.document import Part
from regspec.text.faults import shown
from regspec.text.problems import did_you_mean


class Named(Frozen):
    """One thing of a family: a frozen class whose fields are its arguments."""

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    is_registered: ClassVar[bool] = False  # whether a user has added it
    of_user: ClassVar[Import | None] = None  # the callable that a user has added
    main_in_keras: ClassVar[str | None] = None  # what Keras calls the main argument, where that is otherwise
    layer_in_keras: ClassVar[str | None] = None  # Keras's layer of it, with another default of the main argument
    said_in_keras: ClassVar[frozenset[str]] = frozenset()  # arguments that Keras reads even at their defaults
    own_fields: ClassVar[frozenset[str]] = frozenset()  # arguments that Keras's counterpart does not have
    example: ClassVar[str] = ""  # what an example says after the name, as a spec writes it: 0.1

    def __str__(self) -> str:
        """Itself for people: its name, its main argument, and what else differs from the defaults."""
        fields = type(self).model_fields
        others = [field for field in fields if field != self.main and getattr(self, field) != fields[field].default]
        main = [] if self.main is None else [f"{getattr(self, self.main)}"]
        return " ".join([self.name, *main, *(f"{field}={getattr(self, field)}" for field in others)])


def spread(value: Any, main: str | None) -> Any:
    """The fields that a value stands for, of which ``main`` is the first: ``0.5`` is ``{rate: 0.5}``, null ``{}``.

    A value that is no mapping comes back as it is where there is no ``main``.
    """
    if value is None:
        return {}
    return value if isinstance(value, dict) or main is None else {main: value}


T = TypeVar("T", bound=Named)
_HOMES = ("regularizers", "initializers", "constraints", "activations", "layers")  # in a module of Keras


@contextmanager
def at(step: str | int) -> Iterator[None]:
    """Puts a step, a key or an index, before the location of the pydantic errors that are raised inside."""
    try:
        yield
    except PydanticCustomError as error:
        context = dict(error.context or {})
        context["at"] = (step, *context.get("at", ()))
        raise PydanticCustomError(error.type, error.message_template, context) from None


class Family(Generic[T]):
    """The named things of one sort. As an annotation of a pydantic field it validates all their forms."""

    def __init__(
        self,
        sort: str,
        *,
        synonyms: Mapping[str, str] | None = None,
        explained: Mapping[str, str] | None = None,
        entry_points: str | None = None,
    ) -> None:
        self.sort = sort
        self.entry_points = entry_points  # the group in which installed packages offer members
        self.synonyms = synonyms or {}  # what others call a member, in small letters
        self.explained = explained or {}  # hints for names that mean something else
        self.members = Table[type[T]]()
        self.aliases: dict[str, str] = {}
        self.classes: dict[str, str] = {}  # the names of members by those of their classes

    @property
    def definition(self) -> str:
        """The name of its definition in a JSON Schema."""
        return self.sort.replace(" ", "_")

    def add(self, cls: type[T]) -> type[T]:
        """Adds a class under its name; a decorator."""
        cls.name = cls.__dict__.get("name") or snake_case(cls.__name__)
        self.members[cls.name] = cls
        self._know(cls.name, cls.__name__, cls.aliases)
        return cls

    def add_later(self, class_name: str, aliases: tuple[str, ...], make: Callable[[], type[T]]) -> None:
        """Adds a class that is made when it is asked for, under the name that it then has."""
        name = snake_case(class_name)
        self.members.later(name, make)
        self._know(name, class_name, aliases)

    def _know(self, name: str, class_name: str, aliases: tuple[str, ...]) -> None:
        if self.classes.get(class_name) not in self.members:  # the first of a name is meant
            self.classes[class_name] = name
        for alias in aliases:
            self.aliases[alias] = name

    @property
    def spellings(self) -> dict[str, type[T]]:
        """Every name that is taken, with the class that it stands for."""
        classes = {cls.__name__: cls for cls in self.members.values()}  # as Keras's files have them: GlorotUniform
        return classes | {each: self.members[name] for each, name in self.aliases.items()} | {**self.members}

    def get(self, name: str) -> type[T] | None:
        """The class of a name: as in the table, an alias, or the name of a class; a registered one, or one offered."""
        known = self._known(name)
        if known is None and self.entry_points is not None:
            load_entry_points(self.entry_points, name)
            known = self._known(name)
        return known

    def _known(self, name: str) -> type[T] | None:
        known = self.members.get(self.aliases.get(name, name))
        return known or self.members.get(self.classes.get(name, name))

    def parse(self, value: Any) -> T:
        """The thing that a value of the document means. Raises a pydantic error."""
        if (
            isinstance(value, Named)
            and (cls := self.members.get(getattr(value, "name", "")))
            and isinstance(value, cls)
        ):
            return value  # built in Python
        if isinstance(value, str):
            return self.called(value) if is_call(value) else self.make(value, {}, ())
        if is_serialized(value):
            return self.unserialized(value)
        if isinstance(value, dict) and len(value) == 1:
            (name, arguments), *_ = value.items()
            return self.make(name, arguments, (name,))
        raise PydanticCustomError(
            "form",
            "must be {expected}",
            {
                "expected": f"a name or {{name: arguments}}, with one name, of {self._article} {self.sort}",
                "received": value,
            },
        )

    def unserialized(self, value: dict[str, Any]) -> T:
        """The thing that Keras has serialized."""
        form = unserialized(value)
        cls = self.serialized_class(form.name, form.config)
        if cls is None:
            raise self._unknown(form.name, ("class_name",))
        known, names = cls.model_fields, {cls.main_in_keras: cls.main}
        fields = form.fields(known, without=of_layers(known), names=names)
        return self.make(cls.name, fields, ("config",), named=("class_name",))

    def serialized_class(self, name: str, config: Mapping[str, Any]) -> type[T] | None:
        """The class that Keras's class of a name is, with a config."""
        layers = (cls for cls in self.members.values() if cls.layer_in_keras == name and cls.main in config)
        return self.get(name) or next(layers, None)

    def called(self, text: str) -> T:
        """The thing that a call says."""
        cls, given = self.read_call(text)
        text = text.written if isinstance(text, FilledCall) else text
        parts = {field: Part(text, *place) for field, (_, place) in given.items()}
        return self.make(cls.name, {field: each for field, (each, _) in given.items()}, (), parts)

    def read_call(self, text: str, read: Reader | None = None) -> tuple[type[T], dict[str, tuple[Any, Span]]]:
        """The class that a call names, and its arguments by their fields, with their places in the text.

        ``read`` gives arguments with parameters. Raises a pydantic error.
        """
        context: dict[str, Any]
        try:
            call = parse_call(text, read)
        except ExpressionError as error:
            context = {"what": error.what, "hint": error.hint, "part": Part(text, *error.part)}
            raise PydanticCustomError("call", "{what}", context) from None
        text = text.written if isinstance(text, FilledCall) else text  # which has the places
        home, _, last = call.name.text.rpartition(".")
        name = last if home.partition(".")[0] in (*MODULES, *_HOMES) else call.name.text
        cls = self.get(name)
        if cls is None:
            raise self._unknown(name, (), Part(text, *call.name.part))
        order = sorted(cls.model_fields, key=lambda field: field == "seed")  # which is the last of Keras's
        if len(call.positional) > len(order):
            _, place = call.positional[len(order)]
            context = {"name": cls.name, "most": len(order), "part": Part(text, *place)}
            raise PydanticCustomError("call", "has more than the {most} arguments of '{name}'", context)
        given = dict(zip(order, call.positional, strict=False))
        for keyword, each in call.named.items():
            field = cls.main if cls.main is not None and keyword == cls.main_in_keras else keyword
            if field in given:
                context = {"keyword": keyword, "part": Part(text, *each[1])}
                raise PydanticCustomError("call", "has '{keyword}' twice", context)
            given[field] = each
        return cls, given

    def _unknown(self, name: str, at: tuple[str, ...], part: Part | None = None) -> PydanticCustomError:
        context = {"sort": self.sort, "name": shown(name), "at": at, "hint": self.hint(name), "part": part}
        return PydanticCustomError("unknown_name", "names no {sort}: {name}", context)

    def make(
        self,
        name: str,
        given: Any,
        at: tuple[str, ...],
        parts: dict[str, Part] | None = None,
        named: tuple[str, ...] = (),
    ) -> T:
        """The thing called ``name``, with its arguments.

        ``at`` leads to them from the field's value, and ``named`` to the name, where that is not the last step;
        ``parts`` are where they stand in it, if it is a text.
        """
        cls = self.get(name)
        if cls is None:
            raise self._unknown(name, at)
        if given is None and cls.main is not None:
            given = {cls.main: None}  # which is no strength: a value that was forgotten
        try:
            return cls.model_validate(spread(given, cls.main))
        except ValidationError as error:
            context = {
                "name": cls.name,
                "at": at,
                "errors": error.errors(include_url=False),
                "fields": [*cls.model_fields],
                "parts": parts,
                **({"named": named} if named else {}),
            }
            raise PydanticCustomError("nested", "{name}", context) from None

    def hint(self, name: str) -> str:
        """What to write instead of a name that nobody knows: what it means elsewhere, one that is near, or all."""
        near = self.elsewhere(name) or did_you_mean(name, self.members) or did_you_mean(name, self.aliases)
        return near or f"there are {', '.join(self.members)}"

    def elsewhere(self, name: str) -> str | None:
        """What to write for a name that means something elsewhere; None for one that does not."""
        folded = snake_case(name).strip("_")
        for each in (folded, folded.replace("_", "")):
            if each in self.explained:
                return self.explained[each]
            if each in self.synonyms:
                return f"did you mean '{self.synonyms[each]}'?"
        return None

    @property
    def _article(self) -> str:
        return "an" if self.sort[0] in "aeiou" else "a"

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse, metadata={"family": self.sort})

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {REFERENCE: self.definition}
