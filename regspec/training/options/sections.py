"""The sections of a training file: what tells one from a spec, before anything else of it is read."""

from __future__ import annotations

from regspec.text.document import Document

SECTIONS = {"training": "How the model learns.", "data": "What it learns from."}


def is_training(given: Document) -> bool:
    """Whether a document is a training file, and no spec and no rules."""
    return (
        isinstance(given.data, dict) and not {"layers", "rules"} & {*given.data} and bool({*SECTIONS} & {*given.data})
    )
