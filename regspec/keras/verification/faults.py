"""What either side of a comparison raises: told of that side, and never mistaken for a fault of the comparison.

Whoever calls Keras or the port does so in one of these contexts, which hold that call and nothing else; so a fault of
the code around it comes out as what it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from regspec.text.problems import first_sentence


class UnverifiedError(Exception):
    """Something can't be compared; its text says what, and why."""


class KerasError(Exception):
    """What Keras raised, in a sentence."""


class PortError(Exception):
    """What the port raised, in a sentence."""


def keras_computes() -> AbstractContextManager[None]:
    """Raises `KerasError` for whatever Keras raises in it, which says nothing of the port."""
    return _told_as(KerasError)


def port_computes() -> AbstractContextManager[None]:
    """Raises `PortError` for whatever the port raises in it: one that can't compute has failed, and is no crash."""
    return _told_as(PortError)


@contextmanager
def _told_as(kind: type[Exception]) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Keras, its backends, torch and modules of the user's share no class of what they raise
        raise kind(first_sentence(error)) from error
