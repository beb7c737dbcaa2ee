"""How a model was trained in Keras, as torch code that a person can paste, and what of it has no counterpart."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regspec.graph.network import Graph
from regspec.keras.training.losses import Head, Loss, loss_of, metric_of
from regspec.keras.training.optimizers import Recipe, number, optimizer_of
from regspec.targets.torch.program import program_of


@dataclass(frozen=True)
class Training:
    """The code of a training loop, what to know of it, and the metrics with their code."""

    code: str
    remarks: tuple[str, ...]
    metrics: tuple[tuple[str, str, str], ...]  # output, name, code


def training_of(stored: Mapping[str, Any], config: Mapping[str, Any], graph: Graph) -> Training | None:
    """What a model was compiled with; None where it was not compiled."""
    recipe = optimizer_of(stored.get("optimizer") or stored.get("optimizer_config"))
    outputs = _outputs(config, graph)
    losses: list[Loss | None] = []
    metrics = []
    for index, output in enumerate(outputs):
        own = _first(_own(stored.get("loss"), output.key, index, len(outputs)))
        loss = loss_of(own, output.criterion, Head.of(program_of(graph), index))
        losses.append(loss)
        kind, key = None if loss is None else loss.kind, output.key if len(outputs) > 1 else ""
        for sort in ("metrics", "weighted_metrics"):
            found = _own(stored.get(sort), output.key, index, len(outputs))
            for metric in [] if found is None else found if isinstance(found, list) else [found]:
                metrics.append((key, *metric_of(metric, kind)))
    if recipe is None and not any(losses):
        return None
    factors = [
        number({"weight": _own(stored.get("loss_weights"), output.key, index, len(outputs))}, "weight", 1.0)
        for index, output in enumerate(outputs)
    ]
    remarks = [*(recipe.remarks if recipe else ()), *(each for loss in losses if loss for each in loss.remarks)]
    lines = _lines(recipe or Recipe(), [*zip(outputs, losses, factors, strict=True)], graph)
    return Training("\n".join(lines) + "\n", tuple(dict.fromkeys(remarks)), tuple(metrics))


@dataclass(frozen=True)
class Output:
    """An output of the model: what Keras calls it, its place in what the port gives, and what its loss is called."""

    key: str
    place: str
    criterion: str


def _outputs(config: Mapping[str, Any], graph: Graph) -> list[Output]:
    own = config.get("config")
    stored = own.get("output_layers") if isinstance(own, dict) else None
    keys = [str(key) for key in stored] if isinstance(stored, dict) else [*_layers(stored)]
    if len(keys) != len(graph.outputs):
        keys = [x.source for x in graph.outputs]
    if len(keys) == 1 and graph.output_names is None:
        return [Output(keys[0], "", "criterion")]
    names = graph.output_names or [str(index) for index in range(len(keys))]
    places = [f'["{name}"]' if graph.output_names else f"[{name}]" for name in names]
    return [Output(key, place, f"criterion_{name}") for key, place, name in zip(keys, places, names, strict=True)]


def _layers(stored: Any) -> Iterator[str]:
    """The layers that references ``[layer, node, output]`` name."""
    if isinstance(stored, list) and len(stored) == 3 and isinstance(stored[0], str):
        yield stored[0]
    elif isinstance(stored, list):
        for each in stored:
            yield from _layers(each)


def _own(stored: Any, key: str, index: int, count: int) -> Any:
    """The part of a stored value that is for one output: by its key, by its index, or the same for all."""
    if isinstance(stored, dict) and "class_name" not in stored:
        return stored.get(key)
    if isinstance(stored, list) and (count > 1 or any(isinstance(each, list) for each in stored)):
        return stored[index] if len(stored) == count else None
    return stored


def _first(stored: Any) -> Any:
    """A single thing, maybe in a list."""
    return stored[0] if isinstance(stored, list) and len(stored) == 1 else stored


# -- the code ----------------------------------------------------------------------------------------------------------


def _lines(recipe: Recipe, losses: Sequence[tuple[Output, Loss | None, float]], graph: Graph) -> list[str]:
    blocks = [*recipe.before, *(loss.code for _, loss, _ in losses if loss)]
    parts, comments = [], []
    for output, loss, factor in losses:
        if loss is not None:
            weight = "" if factor == 1 else f"{factor} * "
            parts.append(f"{weight}{output.criterion}(outputs{output.place}, targets{output.place})")
            comments += [f"# targets{output.place}: {loss.targets}"] * bool(loss.targets)
    penalties = ["model.regularization_loss()"] if graph.has_penalties else []
    loop = [
        *comments,
        "model.train()",
        "for inputs, targets in loader:",
        f"    outputs = model({'inputs' if len(graph.inputs) == 1 else '*inputs'})",
        *_sum([*parts, *penalties] or ["criterion(outputs, targets)"]),  # the user's own where none is known
        "    optimizer.zero_grad()",
        "    loss.backward()",
        *(f"    {line}" for line in recipe.after_backward),
        "    optimizer.step()",
        *(["    model.apply_constraints()"] if graph.has_constraints else []),
        *(f"    {line}" for line in recipe.after_step),
    ]
    return [*_imports("\n".join(blocks), recipe.imports), *_spaced(blocks), *loop]


def _sum(parts: Sequence[str]) -> list[str]:
    whole = f"    loss = {' + '.join(parts)}"
    if len(whole) <= 110:
        return [whole]
    return ["    loss = (", f"        {parts[0]}", *(f"        + {part}" for part in parts[1:]), "    )"]


def _spaced(blocks: Sequence[str]) -> Iterator[str]:
    """Definitions and statements, with blank lines before, around definitions, and after."""
    was_definition = False
    for index, block in enumerate(blocks):
        is_definition = block.startswith("def ")
        yield from [""] * (2 if is_definition or was_definition else index == 0)
        yield from block.splitlines()
        was_definition = is_definition
    yield from [""] * (2 if was_definition else 1)


def _imports(code: str, wanted: Collection[str]) -> Iterator[str]:
    """The imports of a code."""
    yield from sorted(each for each in wanted if each.startswith("import "))
    yield "import torch"
    if names := [name for name, mark in (("Tensor", ": Tensor"), ("nn", " nn.")) if mark in code]:
        yield f"from torch import {', '.join(names)}"
    if re.search(r"\bF\.", code):
        yield "from torch.nn import functional as F"
    yield from sorted(each for each in wanted if not each.startswith("import "))
