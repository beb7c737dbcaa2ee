"""How a module with penalties shows itself in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from torch import nn


def module_html(module: nn.Module, terms: Mapping[str, Iterable[Any]]) -> str:
    """Tables of a module's layers with parameters, and of its terms with their regularizers, collapsed, as HTML."""
    layers, total = [], 0
    for name, part in module.named_modules():
        if size := sum(parameter.numel() for parameter in part.parameters(recurse=False)):
            layers.append((name or "(itself)", type(part).__name__, f"{size:,}"))
            total += size
    rows = [(name, " + ".join(map(repr, parts))) for name, parts in terms.items()]
    head = f"{type(module).__name__}: {total:,} parameters, {len(rows)} {'penalty' if len(rows) == 1 else 'penalties'}"
    tables = _table(("layer", "module", "parameters"), layers) + _table(("term", "regularizer"), rows)
    return f"<details><summary>{escape(head)}</summary>{tables}</details>"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table as HTML; nothing where it has no row."""
    cells = "".join(f"<th>{name}</th>" for name in head)
    lines = ("".join(f'<td style="text-align: left">{escape(text)}</td>' for text in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>" if rows else ""
