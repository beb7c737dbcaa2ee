"""What is trained: a model and data brought together, with what options say of both."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from regspec import __version__
from regspec.graph.loading import graph_of, load
from regspec.graph.network import Graph
from regspec.modules.building import build
from regspec.specs.model import ModelSpec
from regspec.text.problems import Problem, RegspecError
from regspec.training import data
from regspec.training.data.division import Fold
from regspec.training.data.images import Images
from regspec.training.data.lazy import Lazy
from regspec.training.data.pictures import Pictures
from regspec.training.data.targets import Target
from regspec.training.data.wanted import output_names
from regspec.training.loop.checking import checked_outputs
from regspec.training.loop.groups import Groups, groups_of
from regspec.training.loop.module import bound_optimizer, steps_of
from regspec.training.loop.rates import schedule_of
from regspec.training.measures.metrics import OutputMetrics
from regspec.training.measures.monitor import Monitor, monitor_of
from regspec.training.measures.objective import Objective, OutputLoss, balanced, check_read
from regspec.training.options.columns import columns_said
from regspec.training.options.file import Places, training_text
from regspec.training.options.options import Options
from regspec.training.runs.folder import Folder, document_of
from regspec.training.runs.restoring import gives_probabilities


@dataclass(frozen=True)
class Task:
    """What is trained: a spec's model, on data that fits it."""

    parameters: Mapping[str, Any]  # values in place of the defaults in the spec's text
    spec: ModelSpec
    graph: Graph
    loaded: data.Data
    options: Options
    places: Places  # of options that stand in a training file
    monitor: Monitor  # which figure tells what epoch is the best
    groups: Groups  # what rules say of the weights

    @classmethod
    def of(
        cls,
        spec: Path | ModelSpec,
        options: Options,
        parameters: Mapping[str, Any] | None = None,
        places: Places | None = None,
        given: Any = None,
    ) -> Task:
        """The task of a spec. Raises `RegspecError` where it is faulty, or the data does not fit it.

        ``places`` are those of options that stand in a training file; ``given`` are data in memory, in place of those
        that the options name.
        """
        places = places or Places()
        spec = load(spec, parameters=parameters)
        graph = graph_of(spec)
        said = checked_outputs(options, places, graph)  # before data is read, which may take a while
        groups = groups_of(options, graph, places)
        _check_starts(graph, options, document_of(spec).path)
        with places.at("columns"):
            columns = columns_said(options.columns)
        with places.at("fold" if options.fold else "folds"):
            fold = Fold.of(options.folds, options.fold)
        source = options.data if given is None else given
        with places.at("data"):
            loaded = data.load_data(
                source,
                graph,
                validation=options.validation,
                target=options.target,
                outputs=said,
                columns=columns,
                seed=options.seed,
                batch_size=options.batch_size,
                fold=fold,
            )
        with places.at("monitor"):
            monitor = monitor_of(options.monitor, loaded.targets)
        return cls(spec.given, spec, graph, loaded, options, places, monitor, groups)

    def model(self) -> nn.Module:
        """The model as it is before training, with what rules freeze frozen."""
        model = build(self.spec, seed=self.options.seed)
        self.groups.freeze(model)
        return model

    def objective(self) -> Objective:
        """The losses of the outputs. Raises `RegspecError` for weighted classes and for metrics that there are not."""
        losses = []
        for place, target in enumerate(self.loaded.targets):
            with self.places.at(f"outputs.{target.name}.loss"):
                check_read(target, gives_probabilities=gives_probabilities(target.wanted, self.graph))
            with self.places.at("class_weights"), self.places.at(f"outputs.{target.name}.class_weights"):
                losses.append(self._loss(target, place))
            with self.places.at(f"outputs.{target.name}.metrics"):
                OutputMetrics(losses[-1])  # some of which there may not be
        return Objective(losses)

    def _loss(self, target: Target, place: int) -> OutputLoss:
        is_only = len(self.loaded.targets) == 1
        is_balanced = target.wanted.said.class_weights or (is_only and self.options.class_weights)
        if is_balanced and target.kind != "classes":
            what = f"class_weights are for classes, but '{self.options.data}' has {target.kind} for '{target.name}'"
            raise RegspecError(Problem(what))
        if is_balanced and target.loss.is_of_areas:
            what = f"class_weights are for losses of each place, but {target.loss.name} is of areas"
            raise RegspecError(Problem(what, "the areas of rare classes count as much as others do"))
        return OutputLoss(
            target,
            gives_probabilities=gives_probabilities(target.wanted, self.graph),
            weights=balanced(target, self.loaded.train.targets[place]) if is_balanced else None,
        )

    def with_options(self, options: Options) -> Task:
        """The same with other options, which are not about the data. Raises `RegspecError` for rules that don't fit."""
        return replace(self, options=options, groups=groups_of(options, self.graph, self.places))

    def with_spec(self, spec: ModelSpec, options: Options) -> Task:
        """The same data and options for a spec that differs in strengths alone. Raises as `with_options` does."""
        graph = graph_of(spec)
        groups = groups_of(options, graph, self.places)
        return replace(self, parameters=spec.given, spec=spec, graph=graph, options=options, groups=groups)

    def check_steps(self, batches: Sized) -> None:
        """Raises `RegspecError` where the optimizer, a route or the schedule can't be, in epochs of these batches."""
        steps = steps_of(batches, self.options.accumulate)
        optimizer = bound_optimizer(self.model(), self.options, steps, self.groups)
        if self.options.schedule is not None:
            with self.places.at("schedule"):
                schedule_of(self.options.schedule).of(optimizer, self.options.epochs * steps)

    @property
    def goal(self) -> str:
        """What is learned, and by which losses, for people."""
        scaled = [f", scale {each.wanted.said.scale}" if each.scaling else "" for each in self.loaded.targets]
        told = [
            f"{target.kind} by {target.loss.name}{scale}"
            for target, scale in zip(self.loaded.targets, scaled, strict=True)
        ]
        learned = [target.name for target in self.loaded.targets]
        others = [name for name in dict.fromkeys(output_names(self.graph)) if name not in learned]
        if len(told) > 1 or others:
            told = [f"{name}: {each}" for name, each in zip(learned, told, strict=True)]
        idle = [f"{' and '.join(others)} {'does' if len(others) == 1 else 'do'} not learn"] if others else []
        return "; ".join([*told, *idle])

    def training(self, place: Folder) -> str:
        """The training file of the run in a folder: every option, those that were inferred too."""
        outputs = {target.name: target.said() for target in self.loaded.targets}
        return training_text(self.options, outputs, place.path)

    @property
    def _images(self) -> dict[str, Any] | None:
        """How the model takes images, where the data are such."""
        train = self.loaded.train
        source = train.source if isinstance(train, Lazy) else train
        return source.form.as_dict() if isinstance(source, (Images, Pictures)) else None

    def facts(self) -> dict[str, Any]:
        """What the run's folder says of the run."""
        return {
            "regspec": __version__,
            "torch": torch.__version__,
            "spec": self.spec.name,
            "options": self.options.as_dict(),
            "task": "classes" if self.loaded.is_classification else self.loaded.kinds,
            "classes": None if self.loaded.classes is None else [*self.loaded.classes],
            "outputs": {loss.target.name: loss.as_dict() for loss in self.objective()},
            "columns": None if self.loaded.columns is None else self.loaded.columns.as_dict(),
            "images": self._images,
            "is_weighted": self.loaded.is_weighted,
            "examples": len(self.loaded.train),
            "held_out": len(self.loaded.held_out),
            "epochs": 0,
            "best_epoch": 0,
            "finished": False,
            "seconds": 0.0,
        }


def _check_starts(graph: Graph, options: Options, path: str) -> None:
    """Raises `RegspecError` where a layer takes numbers from a state_dict, and a training begins without these."""
    problems = []
    is_skipped = re.compile(options.weights_skip or r"(?!)").fullmatch
    for node in graph.layers():
        slots = [weight.slot for weight in node.resolved.weights if weight.is_loaded]
        if slots and (options.weights is None or any(is_skipped(f"{node.name}.{slot}") for slot in slots)):
            what = f"'{node.name}' has {' and '.join(slots)} that are loaded, but a training begins without weights"
            hint = f"give numbers as {' and '.join(map(repr, slots))}, or --weights"
            problems.append(node.origin.problem(what, hint) if node.origin else Problem(what, hint, path))
    if problems:
        raise RegspecError(problems)
