"""The reference as a page in Markdown: ``schemas/kinds.md``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from regspec.views.reference import Field, Kind, Name, Reference, shared_fields

_INTRODUCTION = """\
# Kinds and names

<!-- made by: python -m tests.generate -->

What a spec may name: every kind of layer with its fields, which are Keras's, and every activation function,
initializer, constraint, regularizer and schedule. In the terminal `regspec kinds Dense` shows one of them. How a spec
is written is in [language.md](../examples/language.md). A test compares this page with the code.

How to read it:

- **Types.** A size is a whole number from 1 up, a count one from 0 up; an axis counts from the batch, which is 0, or
  from the last, which is -1. `[size, size]` is a list of two, `[size, …]` one of any length. A field whose default is
  `null` may be `null` too.
- **Slots** are weights that may be regularized. A slot, kernel say, gives the kind the fields `kernel_initializer`,
  `kernel_regularizer` and `kernel_constraint`; in brackets stands how the weight starts.
- **Every kind** has these fields besides its own, and is not listed with them:
"""
_SORTS = {
    "activations": "What `activation` and `recurrent_activation` of a layer may be, and an Activation's.",
    "initializers": "How the weight of a slot starts: what `kernel_initializer` and its like may be.",
    "constraints": "What holds for a weight after each step of the optimizer: what `kernel_constraint` and its like\n"
    "may be. The axes are those of the weight in Keras.",
    "regularizers": "What `kernel_regularizer`, `activity_regularizer` and their like may be. Several in a mapping,\n"
    "or in a list, are summed; their strength follows a `schedule` beside them.",
    "schedules": "What `schedule` beside a regularizer may be. The factors of several in a list are multiplied.",
}


def page(whole: Reference) -> str:
    """The reference as Markdown.

    Example:
        >>> from regspec.views.reference import found
        >>> print(page(found("RepeatVector")).partition("#### ")[2])
        RepeatVector
        <BLANKLINE>
        A vector repeated over time.
        <BLANKLINE>
        ```yaml
        - RepeatVector: {n: 3}
        ```
        <BLANKLINE>
        | field | type | default | |
        |---|---|---|---|
        | `n` | size | required | How often it is repeated. |
        <BLANKLINE>
    """
    return "\n".join(_lines(whole))


def _lines(whole: Reference) -> Iterator[str]:
    yield _INTRODUCTION
    yield from _table(shared_fields())
    families = whole.families
    groups: dict[str, list[str]] = {}
    for title in families:
        groups.setdefault(title.partition(":")[0], []).append(title)
    for group, titles in groups.items():
        yield f"## {group.capitalize()}\n"
        for title in titles:
            links = ", ".join(f"[{kind.name}](#{kind.name.lower()})" for kind in families[title])
            yield f"- {title.partition(': ')[2]}: {links}"
        yield ""
        for title in titles:
            yield f"### {title.capitalize()}\n"
            for kind in families[title]:
                yield from _kind(kind)
    for sort, names in whole.sorts.items():
        yield f"## {sort.capitalize()}\n\n{_SORTS[sort]}\n"
        yield "| name | computes | as a spec writes it | arguments |\n|---|---|---|---|"
        yield from map(_name, names)
        yield ""


def _kind(kind: Kind) -> Iterator[str]:
    yield f"#### {kind.name}\n"
    slots = ", ".join(f"{slot} ({start})" if start else slot for slot, start in kind.starts.items())
    text = [f"{_escaped(kind.summary)}."] if kind.summary else []
    text += [f"Slots: {slots}."] if slots else []
    if text:
        yield f"{' '.join(text)}\n"
    yield f"```yaml\n{kind.example}\n```\n"
    if kind.plain_fields:
        yield from _table(kind.plain_fields)


def _table(fields: Iterable[Field]) -> Iterator[str]:
    yield "| field | type | default | |\n|---|---|---|---|"
    for field in fields:
        default = "required" if field.default is None else f"`{field.default}`"
        yield f"| `{field.name}` | {_escaped(field.type)} | {default} | {_escaped(field.description)} |"
    yield ""


def _name(name: Name) -> str:
    also = f", also {', '.join(name.aliases)}" if name.aliases else ""
    forms = ", ".join(f"`{form}`" for form in name.forms)
    arguments = "<br>".join(
        f"`{each.name}`: {_escaped(each.type)}, {'required' if each.default is None else f'`{each.default}`'}"
        for each in name.arguments
    )
    return f"| {name.name}{also} | {_escaped(name.summary)} | {forms} | {arguments} |"


def _escaped(text: str) -> str:
    """A text whose marks are escaped, except those of code."""
    return re.sub(r"([|*<])", r"\\\1", text)
