"""What objects of the user's stand in for: layers, and regularizers and the like.

The user names the object, or says `package.module:name`; a file never does. A torch module becomes a kind as by
`regspec.register_layer`, and a function as by `regspec.register_regularizer` and the like, so that the spec can be
loaded again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regspec.keras.configs.values import names_of
from regspec.language.fields import OF_SLOTS
from regspec.language.sorts import member_of
from regspec.layers.kinds import BUILT_IN, KINDS
from regspec.layers.registration import Registered, registered_as
from regspec.text.problems import Problem, did_you_mean


@dataclass(frozen=True)
class Replacement:
    """A kind of the user's that stands in for layers, or a member of a family for values."""

    kind: str  # or the member's name
    imported: str  # what `--import` takes, to load the spec again
    name: str  # that the user has given for what it stands in for, or under which it is registered


@dataclass(frozen=True)
class Replacements:
    """Objects of the user's, or ``package.module:name``, by what they stand in for.

    That is the name of a layer or of a class; of another value in a file the name of its class or function, or its
    place, ``layer.field``.
    """

    targets: Mapping[str, str | Callable[..., Any]] = field(default_factory=dict)

    def find(self, item: Mapping[str, Any]) -> Replacement | None:
        """What stands in for a layer: by its name, by its class, or registered under its class's name."""
        config = item.get("config")
        own = item.get("name") or (config.get("name") if isinstance(config, dict) else None)
        stored = str(item.get("class_name"))
        class_name = stored.rpartition(">")[2]  # of a class that was registered with Keras, in an .h5 file
        for name in (own, item.get("registered_name"), stored, class_name):
            if isinstance(name, str) and name in self.targets:
                hint = f"'{name}' is a layer, in whose place only either can stand"
                return Replacement(*registered_as(self.targets[name], hint), name=name)
        kind = KINDS.get(class_name)
        if kind is None or class_name in BUILT_IN:
            return None
        module = kind.module_import.module if issubclass(kind, Registered) else kind.__module__
        return Replacement(class_name, module, class_name)

    def find_value(self, names: Sequence[str], sort: str) -> Replacement | None:
        """What stands in for a regularizer or the like, by one of its names."""
        name = next((name for name in names if name in self.targets), None)
        return None if name is None else Replacement(*member_of(sort, self.targets[name]), name=name)

    def problems(
        self, layers: Sequence[Mapping[str, Any]], used: Collection[Replacement], *, is_whole: bool
    ) -> Iterator[Problem]:
        """The replacements whose names fit nothing in the model; ``used`` are the others.

        Where the model ``is_whole`` no longer, because something can't be ported, what is there may fit all the same.
        """
        fitting = {each.name for each in used}
        places = {**{str(layer["config"].get("name")): {*names_of(layer)} for layer in layers}, **_values(layers)}
        names = {*places, *(each for own in places.values() for each in own)}
        for name in (name for name in self.targets if name not in fitting and (is_whole or name not in names)):
            at = [place for place, own in places.items() if name in own]
            if by := [place for place in at if place in fitting]:
                what = f"'{name}' is to be replaced, but what has that name is replaced already"
                yield Problem(what, f"by {', '.join(map(repr, by))}")
                continue
            if name in places and not places[name]:
                yield Problem(f"'{name}' is to be replaced, but nothing is there")
                continue
            what = (
                f"'{name}' is to be replaced, but no layer has that name, nor has any class or function of the user's"
            )
            near = did_you_mean(name, names) or f"the model has {', '.join(sorted(names)[:20])}"
            of_keras = (
                f"one of Keras's own is replaced at its place: --replace '{at[0]}=module:function'" if at else near
            )
            yield Problem(what, of_keras)


def _values(layers: Sequence[Mapping[str, Any]]) -> dict[str, set[str]]:
    """The places of other values than layers, with the names that these have; none where nothing is."""
    return {
        f"{layer['config'].get('name')}.{key}": {*names_of(value)}
        for layer in layers
        for key, value in layer["config"].items()
        if key.endswith((*OF_SLOTS, "activation"))
    }
