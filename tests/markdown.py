"""Pages in Markdown: their blocks of code, their headings and what they link to."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Page:
    """A page, by its path from the root of the repository."""

    name: str

    @cached_property
    def text(self) -> str:
        return (ROOT / self.name).read_text(encoding="utf-8")

    @property
    def folder(self) -> Path:
        return (ROOT / self.name).parent

    @property
    def blocks(self) -> list[tuple[str, str]]:
        """The language and the text of each block of code, without its indentation."""
        return [
            (language, re.sub(f"^{indentation}", "", code, flags=re.MULTILINE))
            for indentation, language, code in _FENCE.findall(self.text)
        ]

    def block(self, language: str, part: str) -> str:
        """The one block of a language that holds ``part``."""
        (found,) = (code for each, code in self.blocks if each == language and part in code)
        return found

    @cached_property
    def prose(self) -> str:
        """The text without its blocks of code."""
        return _FENCE.sub("", self.text)

    @property
    def links(self) -> list[str]:
        """What it links to, code apart."""
        return _LINK.findall(re.sub(r"`[^`\n]*`", "", self.prose))

    @cached_property
    def anchors(self) -> set[str]:
        """The names that GitHub gives to its headings."""
        names: list[str] = []
        for heading in re.findall(r"^#+ (.*)$", self.prose, re.MULTILINE):
            name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
            names.append(f"{name}-{names.count(name)}" if name in names else name)
        return set(names)

    @property
    def commands(self) -> Iterator[list[str]]:
        """The commands of regspec that it shows, as words after ``regspec``: in blocks, and in the text."""
        shown = [code.replace("\\\n", " ") for language, code in self.blocks if language == "sh"]
        lines = [part for code in shown for line in code.splitlines() for part in line.split("&&")]
        for line in (*lines, *re.findall(r"`(regspec [^`\n]*)`", self.prose)):
            words = shlex.split(line, comments=True)
            if "regspec" in words:
                yield words[words.index("regspec") + 1 :]


PAGES = [
    Page(str(path.relative_to(ROOT)))
    for pattern in ("*.md", "examples/**/*.md", "schemas/*.md", "tests/README.md", "regspec/**/README.md")
    for path in sorted(ROOT.glob(pattern))
]
