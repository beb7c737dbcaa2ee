"""How a model is compiled in Keras that a run has trained, or that a training file is beside: in the words for that."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from regspec.graph.loading import graph_of, load
from regspec.graph.network import Graph
from regspec.keras.training.compiling import Compiled, Learned, compiled_of
from regspec.keras.training.schedules import Schedule
from regspec.modules.building import build
from regspec.specs.model import ModelSpec
from regspec.text.document import read
from regspec.training.data.targets import loss_said
from regspec.training.data.wanted import Wanted, wanted_outputs
from regspec.training.loop.starting import begin_with
from regspec.training.measures.losses import Kind, Loss
from regspec.training.measures.objective import Objective
from regspec.training.options.called import parts_of
from regspec.training.options.file import read_training
from regspec.training.options.optimizers import optimizer_of
from regspec.training.options.options import Options
from regspec.training.options.outputs import outputs_said
from regspec.training.runs.restoring import gives_probabilities


@dataclass(frozen=True)
class SavedPort:
    """What the folder of a port has: its spec, the module with its weights, and how its training file compiles it."""

    spec: ModelSpec
    model: nn.Module
    compiled: Compiled

    @classmethod
    def of(cls, folder: Path) -> SavedPort:
        """That of a folder. Raises `RegspecError` for faults of its files."""
        spec = load(folder / "spec.yaml")
        model = build(spec, seed=0)
        begin_with(model, str(folder))
        file = folder / "training.yaml"
        return cls(spec, model, compiled_by(file, graph_of(spec)) if file.exists() else Compiled())


def compiled_run(facts: Mapping[str, Any], objective: Objective) -> Compiled:
    """How a run was trained.

    Args:
        facts: what its folder says.
        objective: what its outputs have learned.
    """
    options = Options.of(facts["options"])
    learned = []
    for each in objective:
        target = each.target
        others = {"scaled targets": target.scaling, "weights of classes": each.weights}
        unsaid = [name for name, found in others.items() if found is not None]
        learned.append(_learned(target.wanted, target.loss, target.kind, each.gives_probabilities, unsaid))
    return _compiled(options, learned, facts.get("examples"))


def compiled_by(path: Path, graph: Graph) -> Compiled:
    """How a training file says that a model learns; nothing where it names no loss for what learns.

    Raises:
        RegspecError: with every fault of the file.
    """
    options, _ = read_training(read(path)).under(Options(), [])
    wanted = wanted_outputs(graph, outputs_said(options.outputs), options.target)
    if any(each.said.loss is None for each in wanted):
        return Compiled()
    learned = []
    for each in wanted:
        loss = loss_said(each.said)
        others = {"scaled targets": each.said.scale, "weights of classes": each.said.class_weights}
        unsaid = [name for name, found in others.items() if found is not None]
        learned.append(_learned(each, loss, loss.kinds[0], gives_probabilities(each, graph), unsaid))
    return _compiled(options, learned, None)


def _learned(wanted: Wanted, loss: Loss, kind: Kind, takes_probabilities: bool, unsaid: list[str]) -> Learned:
    said, is_last = wanted.said, wanted.channels == wanted.x.rank - 1
    return Learned(
        wanted.name,
        loss.name,
        kind,
        takes_probabilities,
        said.arguments,
        said.weight,
        said.metrics or (),
        wanted.x.spec_shape[wanted.channels],
        said.ignore_index,
        [*unsaid, *(["classes along an axis before the last"] if kind == "classes" and not is_last else [])],
    )


def _compiled(options: Options, learned: list[Learned], examples: Any) -> Compiled:
    name = parts_of(options.optimizer)[0].lower()
    batches = None if not isinstance(examples, int) else math.ceil(examples / options.batch_size)
    steps = None if batches is None else math.ceil(batches / options.accumulate)
    arguments = optimizer_of(options.optimizer)[1]
    return compiled_of(name, arguments, options.as_dict(), learned, _schedule(options, steps))


def _schedule(options: Options, steps: int | None) -> Schedule | None:
    """The schedule of the learning rate, in a run of so many steps in an epoch."""
    if options.schedule is None:
        return None
    from regspec.training.loop.rates import schedule_of  # which imports Lightning

    found = schedule_of(options.schedule)
    total = None if steps is None else steps * options.epochs
    return Schedule(found.name, found.arguments, 1 if found.is_of_steps else steps, total)
