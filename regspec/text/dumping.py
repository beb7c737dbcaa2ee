"""Plain data as YAML that people read: short mappings and lists on one line, or all in one line."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from regspec.text import document

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def dumped(data: Any) -> str:
    """The YAML text of plain data, in the order in which it has its keys.

    Example:
        >>> from regspec.text.dumping import dumped
        >>> print(dumped({"training": {"lr": 0.1, "optimizer": {"sgd": {"momentum": 0.9}}}}), end="")
        training:
          lr: 0.1
          optimizer:
            sgd: {momentum: 0.9}
    """
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    return text


def written(value: Any) -> str:
    """A value as YAML in a line."""
    if isinstance(value, str) and _WORD.fullmatch(value) and document.parse(value).data == value:
        return value
    return json.dumps(value, ensure_ascii=False)


class _Dumper(yaml.SafeDumper):
    """Writes what YAML 1.2 reads: ``1e-4`` as a text is one in quotes."""


def _text(dumper: yaml.SafeDumper, value: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"' if document.is_exponent(value) else None)


_Dumper.add_representer(str, _text)
