"""What objects of the user's stand in for: layers, with which of the arrays, and regularizers and the like.

The user names the object, or says `package.module:name`; a file never does. A torch module becomes a kind as by
`regspec.register_layer`, and a function as by `regspec.register_regularizer` and the like, so that the spec can be
loaded again.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from regspec.keras.arrays.files import ArrayFile
from regspec.keras.configs.values import names_of
from regspec.language.fields import OF_SLOTS
from regspec.language.registration import code_of_the_user
from regspec.language.sorts import member_of
from regspec.layers.kinds import BUILT_IN, KINDS
from regspec.layers.layer import Layer
from regspec.layers.registration import Registered, registered_as
from regspec.text.problems import Problem, Problems, RegspecError, did_you_mean

if TYPE_CHECKING:
    import h5py
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

NO_STATE = ("num_batches_tracked",)  # what torch keeps, and Keras does not


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


# -- arrays ------------------------------------------------------------------------------------------------------------


def own_parameters(
    layer: Layer, name: str, datasets: Mapping[str, h5py.Dataset], arrays: ArrayFile, problems: Problems
) -> dict[str, NDArray[np.generic]]:
    """The parameters of a module of the user's, by their names in it, from a layer's arrays, by their paths.

    They are matched by the names of the parts that they belong to, where these are the same, and in order; the shapes
    must fit, after the transpositions that torch's own layers need.
    """
    assert isinstance(layer, Registered)
    try:
        with code_of_the_user(f"'{name}': {type(layer).__name__} can't be made"):
            module = _instance(layer)
    except RegspecError as error:
        problems.extend(error.problems)
        return {}
    states, given = _states(module), _groups(datasets)
    wanted: dict[str, list[str]] = {}
    for key in states:
        # one group may hold those of all parts, as older files have them
        wanted.setdefault(next(iter(given)) if len(given) == 1 else key.rpartition(".")[0], []).append(key)
    if {part: len(names) for part, names in wanted.items()} != {part: len(paths) for part, paths in given.items()}:
        shapes = {key: tuple(each.shape) for key, each in module.state_dict().items() if not key.endswith(NO_STATE)}
        mine = ", ".join(f"{key} {shape}" for key, shape in shapes.items()) or "none"
        theirs = ", ".join(f"{path} {dataset.shape}" for path, dataset in datasets.items()) or "none"
        what = f"'{name}' has the arrays {theirs}, but {type(layer).__name__} the parameters {mine}"
        problems.append(Problem(what, "they are matched by their order, and those of parts by the parts' names"))
        return {}
    found = {}
    for part, names in wanted.items():
        for key, path in zip(names, given[part], strict=True):
            owner, _, own = key.rpartition(".")
            order = _order(module.get_submodule(owner), own)
            shape = tuple(module.state_dict()[key].shape)
            keras_shape = shape if order is None else tuple(shape[order.index(axis)] for axis in range(len(shape)))
            if datasets[path].shape != keras_shape:
                what = f"'{name}' has {path} with the shape {datasets[path].shape}, where {keras_shape} is wanted"
                problems.append(Problem(what, f"for {key} of {type(layer).__name__}, which has {shape}"))
                continue
            array = arrays.array(datasets[path], keras_shape)
            found[key] = array if order is None else array.transpose(order)
    return found


def _instance(layer: Registered) -> nn.Module:
    """The module that a kind of the user's is, as compiled source makes it."""
    import torch

    target = getattr(importlib.import_module(layer.module_import.module), layer.module_import.name)
    arguments = {name: getattr(layer, name) for name in layer.module_fields if name in layer.model_fields_set}
    with torch.random.fork_rng(devices=()):
        made: nn.Module = target(**arguments)
    return made


def _states(module: nn.Module) -> list[str]:
    """The names of a module's parameters, and then of its buffers, as Keras orders weights."""
    kept = module.state_dict().keys()
    names = [name for named in (module.named_parameters(), module.named_buffers()) for name, _ in named]
    return [name for name in names if name in kept and name.rpartition(".")[2] not in NO_STATE]


def _groups(datasets: Mapping[str, h5py.Dataset]) -> dict[str, list[str]]:
    """The paths of arrays by the parts that they belong to, in order."""
    groups: dict[str, list[str]] = {}
    for path in sorted(datasets, key=lambda path: (len(path.rpartition("/")[2]), path)):
        group = path.rpartition("/")[0].removesuffix("vars").strip("/")
        groups.setdefault(".".join(part.lstrip("_") for part in group.split("/")), []).append(path)
    return groups


def _order(owner: nn.Module, name: str) -> tuple[int, ...] | None:
    """The order in which Keras's axes lie in a parameter of torch's own layers; None where they lie as in Keras."""
    from torch import nn

    convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    if name != "weight":
        return None
    if isinstance(owner, (*convolutions, *transposed)):
        rank = owner.weight.ndim
        return (rank - 1, rank - 2, *range(rank - 2))
    return (1, 0) if isinstance(owner, nn.Linear) else None
