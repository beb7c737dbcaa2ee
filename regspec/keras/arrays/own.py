"""The arrays of a layer in whose place a module of the user's stands, as that module's parameters."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from regspec.keras.arrays.files import ArrayFile
from regspec.keras.arrays.sources import Stored
from regspec.language.registration import code_of_the_user
from regspec.layers.layer import Layer
from regspec.layers.registration import Registered
from regspec.text.problems import Problem, Problems, RegspecError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

NO_STATE = ("num_batches_tracked",)  # what torch keeps, and Keras does not


def own_parameters(
    layer: Layer, name: str, datasets: Mapping[str, Stored], arrays: ArrayFile, problems: Problems
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


def _groups(datasets: Mapping[str, Stored]) -> dict[str, list[str]]:
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
