"""How a model was trained in Keras, as a training file of regspec says it, and what of it that can't say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from regspec.graph.network import Graph
from regspec.keras.configs.dialect import Dialect
from regspec.keras.training.losses import Head, Said, loss_of, metric_of
from regspec.keras.training.optimizers import optimizer_of
from regspec.keras.training.settings import number
from regspec.layers.layer import Weight
from regspec.targets.torch.program import Program, block_of, program_of
from regspec.text.dumping import dumped


@dataclass(frozen=True)
class Training:
    """The options of a training file, by their names there, and what to know of them."""

    options: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def training_text(options: Mapping[str, Any], weights: str | None) -> str:
    """The training file of options; ``weights`` is the file to begin with, relative to it."""
    begun = {} if weights is None else {"weights": weights}
    return dumped({"regspec": 1, "training": {**options, **begun}})


def training_of(stored: Mapping[str, Any], config: Mapping[str, Any], graph: Graph, dialect: Dialect) -> Training:
    """What a model was compiled with; nothing where it was not compiled."""
    program = program_of(graph)
    recipe = optimizer_of(
        stored.get("optimizer") or stored.get("optimizer_config"),
        dialect,
        weights=[*_weights(program)],
        has_constraints=graph.has_constraints,
    )
    outputs = _outputs(config, graph)
    sections: dict[str, dict[str, Any]] = {}
    remarks = [] if recipe is None else recipe.remarks
    for index, (key, name) in enumerate(outputs):
        own = _Own(key, index, len(outputs))
        head = Head.of(program, index, graph.outputs[index])
        said = loss_of(_first(own.of(stored.get("loss"))), head)
        if said is not None and name not in sections:
            _add(said, stored, own, head)
            sections[name] = said.section
            several = f"'{name}': " if len(outputs) > 1 else ""
            remarks += [f"{several}{each}" for each in said.remarks]
    options: dict[str, Any] = {**({"outputs": sections} if sections else {}), **(recipe.options if recipe else {})}
    if options and not sections:
        remarks.append("the file names no loss: it follows from the targets")
    if sections and recipe is None:
        remarks.append("the file names no optimizer: without one, `regspec train` takes Adam")
    return Training(options, tuple(dict.fromkeys(remarks)))


def _add(said: Said, stored: Mapping[str, Any], own: _Own, head: Head) -> None:
    """Adds an output's weight and metrics to what is said of it."""
    weight = _first(own.of(stored.get("loss_weights")))
    if weight is not None and (factor := number({"weight": weight}, "weight", None)) != 1:
        if factor is None:
            said.remarks.append("its weight in the loss is no number from 0 on, and is left out")
        else:
            said.section["weight"] = factor
    metrics: dict[str, None] = {}
    for sort in ("metrics", "weighted_metrics"):
        found = own.of(stored.get(sort))
        for each in [] if found is None else found if isinstance(found, list) else [found]:
            if (word := metric_of(each, said, head)) is None:
                continue
            metrics[word] = None
            if sort == "weighted_metrics":
                said.remarks.append("metrics count each example once here, whatever it weighs")
    if metrics:
        said.section["metrics"] = [*metrics]


def _weights(program: Program) -> Iterator[Weight]:
    """The weights of a program, those in its blocks too."""
    for step in (each for each in program.steps if each.declares):
        block = block_of(step)
        yield from step.lowered.weights if block is None else _weights(block)


# -- outputs -----------------------------------------------------------------------------------------------------------


def _outputs(config: Mapping[str, Any], graph: Graph) -> list[tuple[str, str]]:
    """Each output of the model: what Keras calls it, and its name here."""
    own = config.get("config")
    stored = own.get("output_layers") if isinstance(own, dict) else None
    keys = [str(key) for key in stored] if isinstance(stored, dict) else [*_layers(stored)]
    names = [*(graph.output_names or (x.source for x in graph.outputs))]
    return [*zip(keys if len(keys) == len(names) else names, names, strict=True)]


def _layers(stored: Any) -> Iterator[str]:
    """The layers that references ``[layer, node, output]`` name."""
    if isinstance(stored, list) and len(stored) == 3 and isinstance(stored[0], str):
        yield stored[0]
    elif isinstance(stored, list):
        for each in stored:
            yield from _layers(each)


@dataclass(frozen=True)
class _Own:
    """Which output of how many something is of."""

    key: str
    index: int
    count: int

    def of(self, stored: Any) -> Any:
        """The part of a stored value that is for the output: by its key, by its index, or the same for all."""
        if isinstance(stored, dict) and "class_name" not in stored:
            return stored.get(self.key)
        if isinstance(stored, list) and (self.count > 1 or any(isinstance(each, list) for each in stored)):
            return stored[self.index] if len(stored) == self.count else None
        return stored


def _first(stored: Any) -> Any:
    """A single thing, maybe in a list."""
    return stored[0] if isinstance(stored, list) and len(stored) == 1 else stored
