"""A file's arrays by the weights that they are, each used exactly once; and then as torch's parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from regspec.graph.network import BlockNode, Graph, LayerNode
from regspec.keras.arrays.files import ArrayFile
from regspec.keras.arrays.groups import NO_WEIGHTS, groups_of, own_group
from regspec.keras.arrays.own import own_parameters
from regspec.keras.arrays.quantized import dequantized, is_quantized
from regspec.keras.arrays.sources import Stored, damaged
from regspec.keras.configs.models import MODELS, Model, name_of
from regspec.layers.arrays import to_array, to_parameters
from regspec.layers.layer import Weight
from regspec.targets.torch.program import Program, block_of
from regspec.targets.torch.steps import Step
from regspec.text.problems import Problem, Problems, RegspecError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WRAPPED = re.compile(r"(?:layer/)+")  # the group of a layer in a wrapper
OF_WRAPPERS = ("vector_u",)  # weights of a wrapper itself, and not of the layer in it


# The way to a weight: the names of the entries of a spec that lead to it, and its own: (encoder, dense, kernel).
WeightPath = tuple[str, ...]
Arrays: TypeAlias = "Mapping[WeightPath, NDArray[np.generic]]"


def parameters_of(program: Program, found: Arrays) -> dict[str, NDArray[np.generic]]:
    """Torch's parameters by their paths in the compiled model, from Keras's arrays by the ways to the weights."""
    parameters: dict[str, NDArray[np.generic]] = {}
    for step, within, prefix in steps_in(program):
        resolved = step.lowered.resolved
        if resolved is not None and resolved.layer.is_opaque:  # whose parameters only its module knows
            own = {path[-1]: array for path, array in found.items() if path[:-1] == (*within, step.name)}
            parameters |= {f"{prefix}{step.attributes['']}.{parameter}": array for parameter, array in own.items()}
            continue
        for weight in step.lowered.weights:
            array = found.get((*within, step.name, weight.name))
            if array is not None:
                moved = to_parameters(weight, array)
                module = f"{prefix}{step.attributes[weight.module]}"
                # an operand of an operation is an attribute by itself
                parameters |= {f"{module}.{key}" if key else module: value for key, value in moved.items()}
    return parameters


def steps_in(program: Program) -> Iterator[tuple[Step, WeightPath, str]]:
    """The steps that declare modules, also in blocks: each with the blocks that it is in, and its path's beginning."""
    waiting: list[tuple[Program, WeightPath, str]] = [(program, (), "")]
    while waiting:
        current, within, prefix = waiting.pop()
        for step in (each for each in current.steps if each.declares):
            if (block := block_of(step)) is None:
                yield step, within, prefix
            else:
                waiting.append((block, (*within, step.name), f"{prefix}{step.attributes['']}."))


def arrays_in(program: Program, state: Mapping[str, NDArray[np.generic]]) -> dict[WeightPath, NDArray[np.generic]]:
    """Keras's arrays by the ways to the weights, from torch's parameters by their paths: `parameters_of` undone.

    Raises:
        RegspecError: where a parameter that Keras does not have is not zero.
    """
    found: dict[WeightPath, NDArray[np.generic]] = {}
    problems = Problems()
    for step, within, prefix in steps_in(program):
        for weight in step.lowered.weights:
            module = f"{prefix}{step.attributes[weight.module]}"
            own = [state[f"{module}.{key}" if key else module] for key in weight.parameters]
            found[(*within, step.name, weight.name)] = to_array(weight, own)
        resolved = step.lowered.resolved
        for name in resolved.layer.absent(*resolved.inputs) if resolved is not None else ():
            module, _, key = name.rpartition(".")
            path = f"{prefix}{step.attributes[module]}.{key}"
            if state[path].any():
                what = f"'{path}' is not zero, and Keras has no such weight"
                problems.append(Problem(what, "add its numbers to those of the other bias, and make it zero"))
    if problems:
        raise RegspecError(problems)
    return found


def arrays_of(
    graph: Graph, model: Model, config: Mapping[str, Any], arrays: ArrayFile
) -> dict[WeightPath, NDArray[np.generic]]:
    """The arrays of a file, by the ways to the weights that they are.

    Raises:
        RegspecError: for weights that have no array, arrays of other shapes, and arrays of a layer that none of its
            weights takes.
    """
    problems = Problems()
    if arrays.is_legacy:
        found = _ByLayer(arrays, problems).model(graph, model)
    else:
        found = _ByGroup(arrays, problems).model(graph, model, config)
    if problems:
        raise RegspecError(problems)
    return found


def weights_of(graph: Graph, within: WeightPath = ()) -> Iterator[tuple[WeightPath, Weight]]:
    """The weights of a graph, and of those in it, with the ways to them; none of modules that only the user knows."""
    for name, node in _nodes(graph).items():
        if isinstance(node, BlockNode):
            yield from weights_of(node.block, (*within, name))
            continue
        for weight in node.resolved.weights:
            yield (*within, name, weight.name), weight


def constants_of(model: Model, within: WeightPath = ()) -> dict[WeightPath, NDArray[np.generic]]:
    """The arrays that stand in the config itself, as operands of operations."""
    found: dict[WeightPath, NDArray[np.generic]] = {
        (*within, name, weight): array for name, weight, array in model.arrays
    }
    for name, inner in model.inner.items():
        found |= constants_of(inner, (*within, name))
    return found


# -- Keras 3: by the groups of the layers, which tell their places in the model ----------------------------------------


@dataclass(frozen=True)
class _ByGroup:
    """Takes the arrays of a file in which each layer has a group."""

    arrays: ArrayFile
    problems: Problems

    def model(
        self, graph: Graph, model: Model, config: Mapping[str, Any], at: str = "", within: WeightPath = ()
    ) -> dict[WeightPath, NDArray[np.generic]]:
        """The arrays of a model, whose own group is ``at``, and which is ``within`` these others."""
        found: dict[WeightPath, NDArray[np.generic]] = {}
        groups, nodes = groups_of(config, at, self.arrays), _nodes(graph)
        for name, layer in model.layers:
            node, group = nodes[name], groups[name_of(layer)]
            if isinstance(node, BlockNode):
                path = (*within, name)
                found |= self.model(node.block, model.inner[name], layer["config"], own_group(layer, group), path)
            else:
                own = self._layer(node, layer, group)
                found |= {(*within, name, weight): array for weight, array in own.items()}
        return found

    def _layer(self, node: LayerNode, layer: Mapping[str, Any], group: str) -> dict[str, NDArray[np.generic]]:
        """The arrays of a layer by the names of its weights; of a module of the user's by those of its parameters."""
        datasets = {path: each for path, each in self.arrays.below(group).items() if not NO_WEIGHTS.fullmatch(path)}
        if is_quantized(layer["config"]):
            return self._dequantized(node, layer, [datasets[path] for path in sorted(datasets, key=_by_number)])
        if node.resolved.layer.is_opaque:
            return own_parameters(node.resolved.layer, name_of(layer), datasets, self.arrays, self.problems)
        found = {}
        pairs, left = _matched(node.resolved.weights, datasets)
        for weight, dataset in pairs:
            if dataset is None:
                self._fault(f"'{name_of(layer)}' has no array for {weight.name}")
            else:
                found[weight.name] = self.arrays.array(dataset, weight.shape or dataset.shape)
        for path in left:
            self._fault(f"'{name_of(layer)}' has an array that no weight takes: {path}")
        return found

    def _dequantized(
        self, node: LayerNode, layer: Mapping[str, Any], datasets: list[Stored]
    ) -> dict[str, NDArray[np.generic]]:
        """The weights of a quantized layer, by their names."""
        stored = [self.arrays.array(each, each.shape) for each in datasets]
        with damaged(self.arrays.path):
            wanted = {weight.name: weight.shape or () for weight in node.resolved.weights}
            found = dequantized(layer["class_name"], layer["config"], stored, wanted)
            if {name: array.shape for name, array in found.items()} != wanted:
                raise ValueError(f"the quantized weights of '{name_of(layer)}' have other shapes than it says")
        return found

    def _fault(self, what: str) -> None:
        self.problems.append(Problem(what, path=str(self.arrays.path)))


def _matched(
    weights: tuple[Weight, ...], datasets: Mapping[str, Stored]
) -> tuple[list[tuple[Weight, Stored | None]], list[str]]:
    """Each weight with its dataset, if any, and the paths of others; those of a sublayer lie in its group, in order."""
    groups: dict[str, list[str]] = {}
    for path in sorted(datasets, key=_by_number):
        groups.setdefault(path.rpartition("/")[0], []).append(path)
    inside = max((found[0] for group in groups if (found := _WRAPPED.match(group))), key=len, default="")
    pairs, left = [], dict(datasets)
    for weight in weights:
        *owner, _ = weight.name.split(".")
        if owner:
            own = next((groups[group] for group in groups if _leads_to(group.removeprefix(inside), owner)), [])
        elif weight.name in OF_WRAPPERS:
            own = groups.get(f"{inside.removesuffix('layer/')}vars", [])[-1:]  # before it stands the kernel once more
        else:
            own = next((groups[group] for group in (f"{inside}vars", f"{inside}cell/vars") if group in groups), [])
        pairs.append((weight, left.pop(own.pop(0), None) if own else None))
    # a wrapper's copies of weights, and the scalar counters of adapt(), are not reported
    return pairs, [path for path, each in left.items() if path.startswith(inside) and each.shape]


def _leads_to(group: str, owner: list[str]) -> bool:
    """Whether a group is that of a sublayer: its path has all the names of ``owner``, in order."""
    way = iter(step.strip("_").removesuffix("_layer").removesuffix("_dense") for step in group.split("/"))
    return all(name.replace("attention_output", "output") in way for name in owner)


def _by_number(path: str) -> tuple[str, int]:
    group, _, number = path.rpartition("/")
    return group, int(number) if re.fullmatch("[0-9]{1,9}", number) else 0


def _nodes(graph: Graph) -> dict[str, LayerNode | BlockNode]:
    """The nodes that have weights of their own, by name."""
    return {node.name: node for node in graph.nodes if not node.is_again}


# -- HDF5 of Keras 2, and of Keras 3 in the older form: by the names of layers -----------------------------------------


@dataclass(frozen=True)
class _ByLayer:
    """Takes the arrays of a file that lists them by the names of layers, in order."""

    arrays: ArrayFile
    problems: Problems

    def model(self, graph: Graph, model: Model, within: WeightPath = ()) -> dict[WeightPath, NDArray[np.generic]]:
        """The arrays of a model, which is ``within`` these others."""
        found: dict[WeightPath, NDArray[np.generic]] = {}
        nodes = _nodes(graph)
        for name, layer in model.layers:
            node = nodes[name]
            if any(is_quantized(config) for _, config in _configs(layer)):
                self._fault(f"'{name_of(layer)}' has quantized weights, which are read from .keras files alone")
            elif isinstance(node, BlockNode) and self.arrays.source.lists_inner:
                found |= self.model(node.block, model.inner[name], (*within, name))
            elif isinstance(node, LayerNode) and (own := node.resolved.layer).is_opaque:
                given = {f"vars/{index}": each for index, each in enumerate(self.arrays.of_layer(name_of(layer)))}
                parameters = own_parameters(own, name_of(layer), given, self.arrays, self.problems)
                found |= {(*within, name, parameter): array for parameter, array in parameters.items()}
            else:
                found |= self._layer([*_in_order(node, layer, model, within)], layer)
        return found

    def _layer(
        self, weights: Sequence[tuple[Weight, WeightPath]], layer: Mapping[str, Any]
    ) -> dict[WeightPath, NDArray[np.generic]]:
        """The arrays of a layer, or of a model inside, which has these weights."""
        if layer["config"].get("trainable") is not False:  # those that are trained come first
            weights = sorted(weights, key=lambda each: not each[0].trainable or each[0].frozen)
        datasets = self.arrays.of_layer(name_of(layer))
        # with low-rank updates, which this form keeps apart
        updates = {each.name: each for each in datasets if "/lora_" in each.name}
        datasets = [each for each in datasets if each.name not in updates]
        if len(weights) != len(datasets):
            self._fault(f"'{name_of(layer)}' has {len(weights)} weights, but the file {len(datasets)} arrays for it")
            return {}
        found: dict[WeightPath, NDArray[np.generic]] = {}
        for (weight, path), dataset in zip(weights, datasets, strict=True):
            found[path] = self.arrays.array(dataset, weight.shape or dataset.shape)
            group, _, own = dataset.name.rpartition("/")
            names = [f"{group}/lora_{own}_{half}" for half in "ab"]
            if all(name in updates for name in names):
                halves = [updates[name] for name in names]
                found[path] = found[path] + self._update(halves, layer, group.rpartition("/")[2], found[path].shape)
        return found

    def _update(
        self, halves: list[Stored], layer: Mapping[str, Any], name: str, shape: tuple[int, ...]
    ) -> NDArray[Any]:
        """The product of the two halves of a low-rank update; ``name`` is that of a layer, or of one in a model."""
        with damaged(self.arrays.path):
            config = next(config for known, config in _configs(layer) if known == name)
            rank = int(config["lora_rank"])
            a = self.arrays.array(halves[0], (*shape[:-1], rank))
            b = self.arrays.array(halves[1], (rank, shape[-1]))
            product: NDArray[Any] = float(config["lora_alpha"]) / rank * (a @ b)
        return product.astype("f4")

    def _fault(self, what: str) -> None:
        self.problems.append(Problem(what, path=str(self.arrays.path)))


def _configs(layer: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The name and the config of a layer, and of those of a model inside, wherever they are."""
    config = layer.get("config")
    if isinstance(config, dict):
        yield name_of(layer), config
        inner = config.get("layers") if layer["class_name"] in MODELS else None
        for each in inner or ():
            yield from _configs(each)


def _in_order(
    node: LayerNode | BlockNode, layer: Mapping[str, Any], model: Model, within: WeightPath = ()
) -> Iterator[tuple[Weight, WeightPath]]:
    """The weights of a layer, or of all layers of a model, with the ways to them."""
    if isinstance(node, LayerNode):
        for weight in node.resolved.weights:
            yield weight, (*within, node.name, weight.name)
        return
    inner, nodes = model.inner[node.name], _nodes(node.block)
    for name, own in inner.layers:
        yield from _in_order(nodes[name], own, inner, (*within, node.name))
