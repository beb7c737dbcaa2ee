"""A file's arrays as torch's parameters: which belongs to which weight, each used exactly once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from regspec.errors import Problem, Problems, RegspecError
from regspec.graph import Graph
from regspec.keras.archive import Arrays
from regspec.keras.models import MODELS, Model, name_of
from regspec.keras.operations import is_operation
from regspec.keras.weights import to_parameters
from regspec.layers.layer import Weight
from regspec.nodes import Node
from regspec.plans import Place
from regspec.spec.fields import snake_case

if TYPE_CHECKING:
    import h5py
    import numpy as np
    from numpy.typing import NDArray

# Groups of arrays that are no weights: the states of random generators, and a count of what was adapted.
NO_WEIGHTS = re.compile(r"(.*/)?(seed_generator(_\d+)?|_dropout_layer|_random_generator)/.*")
GROUPS = {"GroupQueryAttention": "grouped_query_attention"}  # of a class that is exported under another name


def parameters_of(
    graph: Graph, model: Model, config: Mapping[str, Any], arrays: Arrays
) -> dict[str, NDArray[np.generic]]:
    """Torch's parameters by their paths in the compiled model, from the arrays of a file.

    Raises:
        RegspecError: for weights that have no array, arrays of other shapes, and arrays that no weight has used.
    """
    problems = Problems()
    found = (
        _legacy(graph, model, arrays, problems) if arrays.is_legacy else _placed(graph, model, config, arrays, problems)
    )
    if problems:
        raise RegspecError(problems)
    return found


def constants_of(graph: Graph, model: Model, prefix: str = "") -> dict[str, NDArray[np.generic]]:
    """The arrays that stand in the config itself, as operands of operations, by their paths in the compiled model."""
    nodes = _nodes(graph)
    found: dict[str, NDArray[np.generic]] = {}
    for name, weight_name, array in model.arrays:
        (weight,) = (each for each in nodes[name].plan.weights if each.name == weight_name)
        for parameter, value in to_parameters(weight, array).items():
            found[prefix + nodes[name].path(Place(weight.module, parameter))] = value
    for name, inner in model.inner.items():
        block = _block(nodes[name])
        assert block is not None
        found |= constants_of(block, inner, f"{prefix}{next(iter(nodes[name].attributes.values()))}.")
    return found


# -- Keras 3: by the place in the model --------------------------------------------------------------------------------


def _placed(
    graph: Graph,
    model: Model,
    config: Mapping[str, Any],
    arrays: Arrays,
    problems: Problems,
    at: str = "",
    prefix: str = "",
) -> dict[str, NDArray[np.generic]]:
    """Of a model, whose group is ``at``, and which is the module ``prefix`` of the compiled one."""
    parameters: dict[str, NDArray[np.generic]] = {}
    places, nodes = _places(config, at), _nodes(graph)
    for name, layer in model.layers:
        node, place = nodes[name], places[name_of(layer)]
        block = _block(node)
        if block is not None:
            inner = model.inner[name]
            path = f"{prefix}{next(iter(node.attributes.values()))}."
            parameters |= _placed(block, inner, layer["config"], arrays, problems, f"{place}/", path)
            continue
        datasets = {path: each for path, each in arrays.below(place).items() if not NO_WEIGHTS.fullmatch(path)}
        for weight, dataset in [*_matched(node.plan.weights, datasets)]:
            if dataset is None:
                problems.append(Problem(f"'{name_of(layer)}' has no array for {weight.name}", path=str(arrays.path)))
                continue
            array = arrays.read(dataset, weight.shape or dataset.shape)
            module = node.attributes[weight.module]
            for parameter, value in to_parameters(weight, array).items():
                parameters[f"{prefix}{module}.{parameter}"] = value
        problems.extend(
            Problem(f"'{name_of(layer)}' has an array that no weight takes: {path}", path=str(arrays.path))
            for path in datasets
        )
    return parameters


def _places(config: Mapping[str, Any], at: str) -> dict[str, str]:
    """The group of each layer: numbered by class, in order."""
    places, counts = {}, dict[str, int]()
    for layer in config["layers"]:
        if is_operation(layer):
            continue
        group = GROUPS.get(layer["class_name"]) or snake_case(layer["class_name"])
        number = counts.get(group, 0)
        counts[group] = number + 1
        places[name_of(layer)] = f"{at}layers/{group}_{number}" if number else f"{at}layers/{group}"
    return places


def _matched(
    weights: tuple[Weight, ...], datasets: dict[str, h5py.Dataset]
) -> Iterator[tuple[Weight, h5py.Dataset | None]]:
    """Each weight with its dataset: those of a sublayer lie in its group, in Keras's order."""
    groups: dict[str, list[str]] = {}
    for path in sorted(datasets, key=_order):
        groups.setdefault(path.rpartition("/")[0], []).append(path)
    wraps = any(group.startswith("layer/") for group in groups)
    for weight in weights:
        owner = weight.name.rpartition(".")[0]
        if owner:
            sublayers = (owner, owner.replace("attention_output", "output"))
            own = next((paths for group, paths in groups.items() if group.lstrip("_").startswith(sublayers)), [])
        elif weight.name == "vector_u":
            own = groups.get("vars", [])[-1:]  # before it stands the kernel once more
        else:
            places = ("layer/vars", "layer/cell/vars") if wraps else ("vars", "cell/vars")
            own = next((groups[place] for place in places if place in groups), [])
        yield weight, datasets.pop(own.pop(0)) if own else None
    for path in [*datasets]:
        if (wraps and path.startswith("vars/")) or not datasets[path].shape:
            del datasets[path]  # a wrapper's copy; a count of what was adapted


def _order(path: str) -> tuple[str, int]:
    group, _, number = path.rpartition("/")
    return group, int(number) if number.isdigit() else 0


def _block(node: Node) -> Graph | None:
    """The graph of a node that is a model inside."""
    constructors = [module.constructor for module in node.plan.modules]
    return constructors[0] if len(constructors) == 1 and isinstance(constructors[0], Graph) else None


def _nodes(graph: Graph) -> dict[str, Node]:
    """The nodes that have modules of their own, by name."""
    return {node.name: node for node in graph.nodes if node.declares and not node.is_adapter}


# -- HDF5 of Keras 2, and the legacy format of Keras 3: by the names of layers -----------------------------------------


def _legacy(graph: Graph, model: Model, arrays: Arrays, problems: Problems) -> dict[str, NDArray[np.generic]]:
    parameters: dict[str, NDArray[np.generic]] = {}
    nodes = _nodes(graph)
    for name, layer in model.layers:
        weights = [*_flat(nodes[name], layer, model)]
        # those that are trained come first
        weights.sort(key=lambda each: not each[0].trainable or each[0].frozen)
        datasets = arrays.of_layer(name_of(layer))
        if len(weights) != len(datasets):
            what = f"'{name_of(layer)}' has {len(weights)} weights, but the file {len(datasets)} arrays for it"
            problems.append(Problem(what, path=str(arrays.path)))
            continue
        for (weight, path), dataset in zip(weights, datasets, strict=True):
            array = arrays.read(dataset, weight.shape or dataset.shape)
            for parameter, value in to_parameters(weight, array).items():
                parameters[f"{path}.{parameter}"] = value
    return parameters


def _flat(node: Node, layer: Mapping[str, Any], model: Model, prefix: str = "") -> Iterator[tuple[Weight, str]]:
    """The weights of a layer, or of all layers of a model, with the paths of their modules."""
    block = _block(node)
    if block is None or layer["class_name"] not in MODELS:
        for weight in node.plan.weights:
            yield weight, prefix + node.attributes[weight.module]
        return
    inner, nodes = model.inner[node.name], _nodes(block)
    for name, own in inner.layers:
        yield from _flat(nodes[name], own, inner, f"{prefix}{next(iter(node.attributes.values()))}.")
