"""What the reading of all models of a file shares: its dialect, notes and faults, and names that a spec takes."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any

from regspec.keras.configs.bytecode import CODE
from regspec.keras.configs.dialect import Dialect
from regspec.keras.configs.kinds import kind_of
from regspec.keras.configs.models import MODELS, name_of
from regspec.keras.configs.notes import Notes
from regspec.keras.configs.precision import policy_of
from regspec.keras.configs.values import UnportedError
from regspec.keras.formats.archive import Archive
from regspec.keras.operations.functions import is_function
from regspec.keras.operations.recorded import is_operation
from regspec.language.fields import MAX_NAME, RESERVED
from regspec.text.problems import Problem, Problems

MAX_AXES = 64  # of an input, as of any tensor
MAX_LAYERS = 20_000  # of a file; in a graph each call of a layer counts


@dataclass
class Reader:
    """How a file is read, and what is found out while its models are read."""

    dialect: Dialect
    notes: Notes
    source: Archive | None = None  # the file, of which messages name places
    problems: Problems = field(default_factory=Problems)
    blocks: set[str] = field(default_factory=lambda: {"call"})  # names of blocks so far, and one that none may have
    count: int = 0  # of the layers so far
    at: str | None = None  # the layer that is being read, for messages

    def count_layers(self, number: int) -> None:
        """Adds to the number of layers. Raises where there are too many."""
        self.count += number
        if self.count > MAX_LAYERS:
            raise UnportedError(f"a model of more than {MAX_LAYERS:,} layers")

    def replacement(self, layer: Mapping[str, Any]) -> str | None:
        """The kind of the user's that stands in for a layer, if any."""
        return self.notes.replacement(layer, self.dialect.replacements)

    def report(self, layer: Mapping[str, Any], reason: UnportedError) -> None:
        """Reports that a layer can't be ported."""
        name, cls = name_of(layer)[:80], layer["class_name"][:80]
        hint = f"put a torch module of yours in its place: --replace '{name}=package.module:Class'"
        if cls not in (*MODELS, *CODE) and kind_of(cls) is None and not is_operation(layer) and not is_function(layer):
            hint = (
                f"put a torch module of yours in the place of each: --replace '{cls}=package.module:Class', or of one "
                f"by its name; or regspec.register_layer(Class, name='{cls}')"
            )
        is_replaced = self.replacement(layer) is not None
        place = None if self.source is None else self.source.place_of(name_of(layer))
        for each in dict.fromkeys((reason, *reason.others)):
            what = f"'{name}' ({cls}) can't be ported: {each}"
            self.problems.append(Problem(what, each.hint or (None if is_replaced else hint), place))


# -- names and shapes --------------------------------------------------------------------------------------------------


def identifier(name: str, taken: set[str]) -> str:
    """A name that a spec takes, made of Keras's; it is added to those that are taken."""
    made = re.sub(r"\W", "_", name[: MAX_NAME - 16], flags=re.ASCII)
    made = made if made[:1].isalpha() else f"layer_{made.lstrip('_')}"
    made = f"{made}_" if made in RESERVED or keyword.iskeyword(made) else made
    numbered = (f"{made}_{number}" for number in chain(range(2, 12), count(len(taken))))  # few of which are taken
    unique = next(each for each in chain([made], numbered) if each not in taken)
    taken.add(unique)
    return unique


def batch_shape(layer: Mapping[str, Any]) -> list[int | None] | None:
    """The shape of a model's input with the batch, if this layer has it."""
    config = layer.get("config") or {}
    shape = config.get("batch_shape") or config.get("batch_input_shape") if isinstance(config, dict) else None
    if isinstance(shape, dict):
        shape = shape.get("items")
    return shape if isinstance(shape, list) and shape else None


def declared_input(layer: Mapping[str, Any], shape: list[int | None], dtype: str) -> dict[str, Any]:
    """An input of a model with this dtype, as a spec declares it; ``layer`` is its InputLayer, or the first layer."""
    if len(shape) > MAX_AXES:
        raise UnportedError(f"the input '{name_of(layer)[:80]}' of {len(shape):,} axes")
    config = layer.get("config") or {}
    own = config.get("dtype") if layer["class_name"] == "InputLayer" or "batch_input_shape" in config else None
    try:
        given = dtype if own is None else policy_of(own).computes
    except UnportedError:
        raise UnportedError(f"the input '{name_of(layer)}' of the type {str(own)[:80]}") from None
    # an axis of size 0 is ported as one whose size may vary
    sizes = [None if size == 0 else size for size in shape[1:]]
    return {"shape": sizes, **({} if given == dtype else {"dtype": given})}
