"""The forms in which a spec names an initializer, an activation function, a constraint or a regularizer.

A member of a family is written by its name, ``relu``; with arguments, ``{leaky_relu: {negative_slope: 0.1}}``; or,
where one argument matters most, ``{leaky_relu: 0.1}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from regspec.language.fields import REFERENCE, Frozen, snake_case
from regspec.text.problems import did_you_mean


class Named(Frozen):
    """One thing of a family: a frozen class whose fields are its arguments."""

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    is_registered: ClassVar[bool] = False  # whether a user has added it
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
        self, sort: str, *, synonyms: Mapping[str, str] | None = None, explained: Mapping[str, str] | None = None
    ) -> None:
        self.sort = sort
        self.synonyms = synonyms or {}  # what others call a member, in small letters
        self.explained = explained or {}  # hints for names that mean something else
        self.members: dict[str, type[T]] = {}
        self.aliases: dict[str, str] = {}

    @property
    def definition(self) -> str:
        """The name of its definition in a JSON Schema."""
        return self.sort.replace(" ", "_")

    def add(self, cls: type[T]) -> type[T]:
        """Adds a class under its name; a decorator."""
        cls.name = cls.__dict__.get("name") or snake_case(cls.__name__)
        self.members[cls.name] = cls
        for alias in cls.aliases:
            self.aliases[alias] = cls.name
        return cls

    def get(self, name: str) -> type[T] | None:
        """The class of a name: as in the table, in Keras's CamelCase, or one that was registered."""
        for each in (name, snake_case(name)):
            known = self.aliases.get(each, each)
            if known in self.members:
                return self.members[known]
        return None

    def parse(self, value: Any) -> T:
        """The thing that a value of the document means. Raises a pydantic error."""
        for cls in self.members.values():
            if isinstance(value, cls):  # built in Python
                return value
        if isinstance(value, str):
            return self.make(value, {}, ())
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

    def make(self, name: str, arguments: Any, at: tuple[str, ...]) -> T:
        """The thing called ``name``, with its arguments; ``at`` leads to them from the field's value."""
        cls = self.get(name)
        if cls is None:
            hint = self.hint(name)
            raise PydanticCustomError(
                "unknown_name", "names no {sort}: '{name}'", {"sort": self.sort, "name": name, "at": at, "hint": hint}
            )
        if arguments is None and cls.main is not None:
            arguments = {cls.main: None}  # which is no strength: a value that was forgotten
        try:
            return cls.model_validate(spread(arguments, cls.main))
        except ValidationError as error:
            context = {
                "name": cls.name,
                "at": at,
                "errors": error.errors(include_url=False),
                "fields": [*cls.model_fields],
            }
            raise PydanticCustomError("nested", "{name}", context) from None

    def hint(self, name: str) -> str:
        """What to write instead of a name that nobody knows: what it means elsewhere, one that is near, or all."""
        near = self.elsewhere(name) or did_you_mean(name, [*self.members, *self.aliases])
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
