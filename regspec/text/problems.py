"""What is wrong with an input, where, and the one error that carries it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

SHOWN_WIDTH = 120  # characters of a source line that a message shows
SHOWN_LENGTH = 1000  # characters of what is wrong, or of the remedy, which may quote the input
MAX_PROBLEMS = 1000  # of a file, so that time stays bounded


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of an input: what is wrong, where, and the remedy.

    ``line`` and ``column`` count from 1; they are None where the input is not a text.

    Example:
        >>> import regspec
        >>> try:
        ...     regspec.loads("{regspec: 1, inputs: {x: {shape: [4]}}, layers: [Dense: {unit: 3}]}")
        ... except regspec.RegspecError as error:
        ...     problem = error.problems[0]
        >>> problem.line, problem.what, problem.hint
        (1, "Dense has no field 'unit'", "did you mean 'units'?")
    """

    what: str
    hint: str | None = None
    path: str | None = None
    line: int | None = None
    column: int | None = None
    width: int = 1
    text: str = ""
    severity: Literal["error", "note"] = "error"  # a note is about what is read, and not as it is written

    def __str__(self) -> str:
        place = _printable(":".join(str(part) for part in (self.path, self.line, self.column) if part is not None))
        what = _shown(self.what)
        lines = [f"{place}: {self.severity}: {what}" if place else f"{self.severity}: {what}"]
        if self.line is not None:
            text, start = _window(self.text, (self.column or 1) - 1)
            width = max(1, min(self.width, len(text) - start))
            lines.append(f"{self.line:>5} | {text}")
            lines.append(f"      | {' ' * start}{'^' * width}")
        if self.hint is not None:
            lines.append(f"   = {_shown(self.hint)}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, str | int | None]:
        """The problem as plain data, for ``--format json``."""
        return {
            "path": self.path,
            "line": self.line,
            "column": self.column,
            "message": self.what,
            "hint": self.hint,
            "severity": self.severity,
        }


class RegspecError(Exception):
    """What regspec raises on purpose: every problem that a stage found, in the order of the file.

    Example:
        >>> import regspec
        >>> try:
        ...     regspec.loads("regspec: 1")
        ... except regspec.RegspecError as error:
        ...     print(error.problems[0].what)
        the spec needs 'inputs'
    """

    def __init__(self, problems: Sequence[Problem] | Problem | str) -> None:
        if isinstance(problems, str):
            problems = Problem(problems)
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        lines, said = [], set[str]()
        for problem in self.problems:
            is_said = problem.hint in said and problem.line is None  # one at a line stands below it
            lines.append(str(replace(problem, hint=None) if is_said else problem))
            said |= {problem.hint} if problem.hint else set()
        return "\n".join(lines)


class Problems(list[Problem]):
    """The problems of a file as they are found; too many raise `RegspecError` at once."""

    def append(self, problem: Problem) -> None:
        super().append(problem)
        if len(self) == MAX_PROBLEMS:
            last = Problem(
                f"{MAX_PROBLEMS:,} faults are enough: the rest of the file was not checked", path=problem.path
            )
            raise RegspecError([*self, last])

    def extend(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self.append(problem)


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The hint ``did you mean 'x'?`` for the known name nearest to ``name``, or None where none is near."""
    near = nearest(name, known)
    return None if near is None else f"did you mean '{near}'?"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like ``name``, or None where none is near."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[near[0]] if near else None


@contextmanager
def needing(what: str, extra: str) -> Iterator[None]:
    """Makes of a package that can't be imported a `RegspecError`: ``what`` needs it, and an extra of regspec has it."""
    try:
        yield
    except ImportError as error:
        raise RegspecError(Problem(f"{what} needs {error.name}", f"pip install 'regspec[{extra}]'")) from None


def _window(text: str, start: int) -> tuple[str, int]:
    """``text`` cut to the width that is shown, and where ``start`` lies in the cut."""
    left = max(0, min(start - SHOWN_WIDTH // 2, len(text) - SHOWN_WIDTH))
    cut = text[left : left + SHOWN_WIDTH]
    return _printable(cut), start - left


def _shown(text: str) -> str:
    """``text`` as a message shows it, which may quote the input: both ends tell more than what is between them."""
    text = _printable(text)
    if len(text) <= SHOWN_LENGTH:
        return text
    return f"{text[: SHOWN_LENGTH // 2]} … {text[-SHOWN_LENGTH // 2 :]}"


def _printable(text: str) -> str:
    """``text`` with a space for each character that is not printable, such as a terminal's control codes."""
    return text if text.isprintable() else "".join(each if each.isprintable() else " " for each in text)


def first_sentence(error: Exception) -> str:
    """The first sentence of what an error says, without colours and not too long."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip() or type(error).__name__
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = lines[1] if len(lines) > 1 and lines[0].startswith("Exception encountered") else lines[0]
    sentence = re.split(r"(?<=[a-z')])\. ", first)[0].rstrip(".")
    return sentence if len(sentence) <= 200 else f"{sentence[:200]}…"
