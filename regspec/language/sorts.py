"""What users add to the language by sort: the families, and a callable of the user's as a member of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from regspec.language.activations import ACTIVATIONS
from regspec.language.constraints import CONSTRAINTS
from regspec.language.forms import Family, Named
from regspec.language.initializers import INITIALIZERS
from regspec.language.registered import register_regularizer
from regspec.language.registered_functions import register_activation, register_constraint, register_initializer
from regspec.language.registration import found, importable
from regspec.language.regularizers import REGULARIZERS
from regspec.text.problems import Problem, RegspecError

FAMILIES: dict[str, Family[Any]] = {
    "regularizer": REGULARIZERS,
    "constraint": CONSTRAINTS,
    "initializer": INITIALIZERS,
    "activation": ACTIVATIONS,
}
REGISTERING: dict[str, Callable[..., Any]] = {
    "regularizer": register_regularizer,
    "constraint": register_constraint,
    "initializer": register_initializer,
    "activation": register_activation,
}


def member_of(sort: str, target: str | Callable[..., Any]) -> tuple[str, str]:
    """The name of the member of a family that a callable is, and what to import to add it again.

    That is its module, or ``sort=module:name`` for one that its module does not register. A callable that is no member
    yet is added here, under its own name.

    Args:
        sort: of `FAMILIES`.
        target: the callable; or ``package.module:name``, which is imported.

    Raises:
        RegspecError: where it can't be registered, or another member has its name.
    """
    function = found(target) if isinstance(target, str) else target
    family, place = FAMILIES[sort], importable(function)
    named = f"{sort}={place.module}:{place.name}"
    known = next((each for each in family.members.values() if each.of_user == place), None)
    if known is not None:
        module = target.partition(":")[0] if isinstance(target, str) else place.module
        return known.name, named if known in _NAMED else module
    other = family.spellings.get(place.name)
    if other is not None and not (other.is_registered and place.name not in family.members):
        has = f"another {sort} has the name" if other.is_registered else "it has a meaning of its own in regspec"
        hint = f"register it under another name: register_{sort}(…, name=…)"
        raise RegspecError(Problem(f"'{place.name}' can't be registered: {has}", hint))
    REGISTERING[sort](function)
    _NAMED.add(family.members[place.name])
    return place.name, named


_NAMED: set[type[Named]] = set()  # members that the modules of their callables do not register by themselves
