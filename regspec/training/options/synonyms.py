"""Other forms that people write of what options say: as they are read they become the options, the one form of a run.

Two ways were weighed: options of their own, which whatever reads options would have to know; or, as here, nothing that
comes after the reading knows of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from regspec.language.fields import Frozen
from regspec.text import document, faults
from regspec.text.faults import Origin
from regspec.text.problems import Problem, RegspecError
from regspec.training.options.called import parts_of
from regspec.training.options.forms import Text

# what the command line has for them
OF_COMMANDS = {
    "--early-stopping": "--patience",
    "--early-stopping.patience": "--patience",
    "--early-stopping.monitor": "--monitor",
    "--data.file": "--data",
    "--train.file": "--data",
    "--validation.file": "--validation",
}


class EarlyStopping(Frozen):
    """When a training ends early: the options patience and monitor; a number alone is the patience."""

    patience: int = Field(description="Stop after so many epochs without a better figure: the option patience.", ge=1)
    monitor: Text | None = Field(
        None, description="Which held-out figure, f1 or kind.f1; the loss when absent: the option monitor."
    )


def _early(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return {"patience": value}
    if value is None or isinstance(value, (dict, EarlyStopping)):
        return value
    raise PydanticCustomError("form", "must be a number of epochs, or a mapping of patience and monitor")


def _named(value: Any) -> Any:
    if isinstance(value, dict) and {*value} == {"file"}:
        return value["file"]
    if isinstance(value, dict):
        raise PydanticCustomError("form", "must be a text, or a mapping of file to one")
    return value


def _or_a_number(schema: dict[str, Any]) -> None:
    schema["anyOf"].insert(0, {"type": "integer", "minimum": 1})


# A source of data: its name, or ``{file: name}``.
Source = Annotated[
    str,
    BeforeValidator(_named),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {"file": {"type": "string", "description": "The file, or whatever has the data."}},
                    "required": ["file"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]
# What a section takes beside its options.
FIELDS: Mapping[str, Mapping[str, Any]] = {
    "training": {
        "early_stopping": (
            Annotated[EarlyStopping | None, BeforeValidator(_early)],
            Field(
                None,
                description="patience and monitor in one: {monitor: kind.f1, patience: 5}, or 5 alone.",
                json_schema_extra=_or_a_number,
            ),
        )
    }
}


def others_said(read: Any, values: dict[str, Any], origin: Origin) -> Iterator[tuple[str, Any, Origin]]:
    """Options that a training file says in another form: the name of each, its value, and where it stands.

    Args:
        read: the file, validated.
        values: what it says in the form of options; the learning rate is taken out of the optimizer's arguments.
        origin: of the file.

    Raises:
        RegspecError: where the rate is none.
    """
    training = origin / "training"
    early = read.training.early_stopping
    if early is not None:
        place = training / "early_stopping"
        is_mapping = isinstance(place.document.data["training"]["early_stopping"], dict)
        yield from (
            (name, getattr(early, name), place / name if is_mapping else place)
            for name in sorted(early.model_fields_set)
            if getattr(early, name) is not None
        )
    if "optimizer" in values:
        place, written = training / "optimizer", origin.document.data["training"]["optimizer"]
        if isinstance(written, dict):
            ((name, arguments),) = written.items()
            place = place / name / "lr" if "lr" in (arguments or {}) else place / name
        try:
            values["optimizer"], rate = rate_apart(values["optimizer"])
        except RegspecError as error:
            raise RegspecError([place.problem(each.what, each.hint) for each in error.problems]) from None
        if rate is not None:
            yield "lr", rate, place


def rate_apart(optimizer: str) -> tuple[str, float | None]:
    """An optimizer without the learning rate, and this; None where its arguments have none.

    Example:
        >>> rate_apart("adamw lr=1e-3 weight_decay=0.1")
        ('adamw weight_decay=0.1', 0.001)

    Raises:
        RegspecError: for a rate that is no number of at least 0.
    """
    name, *settings = parts_of(optimizer)
    keys = [each.partition("=")[0].strip() for each in settings]
    if keys.count("lr") != 1:  # of two the optimizer says that it is one too many
        return optimizer, None
    written = settings.pop(keys.index("lr")).partition("=")[2].strip()
    rate = document.parse(written).data if written else None
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not rate >= 0:
        raise RegspecError(Problem(f"'lr' of {name} must be a number of at least 0, but is {faults.shown(rate)}"))
    return " ".join([name, *settings]), float(rate)


def check_alike(name: str, first: tuple[Any, Origin], second: tuple[Any, Origin]) -> None:
    """Raises `RegspecError`, with both places, where two forms of an option say different things."""
    if first[0] == second[0]:
        return
    problems = []
    for (own, here), (other, there) in ((first, second), (second, first)):
        line = there.problem("").line
        where = "elsewhere" if line is None else f"in line {line}"
        what = f"'{name}' is {faults.shown(own)} here, and {faults.shown(other)} {where}"
        problems.append(here.problem(what, "leave out one of them"))
    raise RegspecError(problems)
