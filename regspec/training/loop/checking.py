"""Whether what options name is there, before data are read: optimizers, schedules, routes, losses, outputs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from regspec.graph.network import Graph
from regspec.text.problems import Problem, Problems, RegspecError
from regspec.training.data.targets import BY_KIND
from regspec.training.data.wanted import wanted_outputs
from regspec.training.loop.rates import named_schedule, schedule_of
from regspec.training.measures.losses import loss_named
from regspec.training.options.called import parts_of
from regspec.training.options.file import Places
from regspec.training.options.optimizers import optimizer_of
from regspec.training.options.options import Options
from regspec.training.options.outputs import OutputSection, outputs_said
from regspec.training.options.rules import rules_said


def checked_outputs(options: Options, places: Places, graph: Graph | None = None) -> Mapping[str, OutputSection]:
    """What options say of outputs, once all that they name is there.

    Args:
        options: what is said.
        places: where.
        graph: the model's, whose outputs they are to be.

    Raises:
        RegspecError: with every fault, at its place in the training file if it has one.
    """
    check = _Check(options, places)
    check.called("optimizer", options.optimizer, optimizer_of, optimizer_of)
    if options.schedule is not None:
        check.called("schedule", options.schedule, named_schedule, schedule_of)
    check.steps()
    with check.at("rules"):
        rules_said(options.rules)
    check.routes()
    said: Mapping[str, OutputSection] = {}
    with check.at("outputs"):
        said = outputs_said(options.outputs)
    for name, section in said.items():
        if graph is not None:
            with check.at(f"outputs.{name}", key=True):
                wanted_outputs(graph, {name: section})
        check.loss(f"outputs.{name}", section)
    if check.problems:
        raise RegspecError(check.problems)
    return said


@dataclass
class _Check:
    options: Options
    places: Places
    problems: Problems = field(default_factory=Problems)

    @contextmanager
    def at(self, place: str, *, key: bool = False) -> Iterator[None]:
        """Keeps the faults in here for later, with their place."""
        try:
            with self.places.at(place, key=key):
                yield
        except RegspecError as error:
            self.problems.extend(error.problems)

    def called(self, option: str, text: str, one: Callable[[str], Any], whole: Callable[[str], Any]) -> None:
        """Checks a name with its arguments, of which a training file may have each in a place of its own.

        Args:
            option: the option's name.
            text: what it is.
            one: checks the name, and the name with one argument.
            whole: checks all at once: whether one is given twice, or is missing.
        """
        name, *arguments = parts_of(text)
        is_mapping = f"{option}.{name}" in self.places.origins
        place = f"{option}.{name}" if is_mapping else option
        before = len(self.problems)
        with self.at(place, key=is_mapping):
            one(name)
        for argument in arguments if len(self.problems) == before else ():
            own = f"{place}.{argument.partition('=')[0].strip()}" if is_mapping else option
            with self.at(own, key=is_mapping):
                one(f"{name} {argument}")
        if len(self.problems) == before:
            with self.at(option):
                whole(text)

    def steps(self) -> None:
        """Checks what else is said of steps, and of what they begin with."""
        options = self.options
        with self.at("clip_gradients"):
            if options.clip_gradients == 0:
                what = "clip_gradients must be greater than 0"
                raise RegspecError(Problem(what, "nothing is learned from gradients of 0"))
        with self.at("clip_by"):
            if options.clip_by != "norm" and options.clip_gradients is None:
                raise RegspecError(Problem("clip_by is for clip_gradients, which is not given"))
            if options.clip_by != "norm" and options.strategy == "fsdp":
                what = f"gradients of weights that are sharded are not clipped by {options.clip_by}"
                raise RegspecError(Problem(what, "--clip-by norm, or --strategy ddp"))
        with self.at("ema"):
            if options.ema == 1:
                raise RegspecError(Problem("ema must be less than 1", "an average of which all stays does not move"))
        with self.at("weights_skip"):
            if options.weights_skip is not None and options.weights is None:
                raise RegspecError(Problem("weights_skip is for --weights, which is not given"))
            try:
                re.compile(options.weights_skip or "")
            except re.error as error:
                what = f"'{options.weights_skip}' is no regular expression: {error}"
                raise RegspecError(Problem(what)) from None

    def routes(self) -> None:
        """Checks each route, and that none is given twice."""
        before = len(self.problems)
        for each in self.options.route:
            with self.at(f"route.{each.rpartition('=')[0]}"):
                replace(self.options, route=(each,)).routes_of()
        if len(self.problems) == before:
            with self.at("route"):
                self.options.routes_of()

    def loss(self, place: str, section: OutputSection) -> None:
        """Checks the name of an output's loss, and the arguments; of one that is not said, whether any has them."""
        before = len(self.problems)
        names = [section.loss] if section.loss is not None else [*BY_KIND.values()]
        with self.at(f"{place}.loss"):
            for name in names:
                loss_named(name, {})
        for argument, value in section.arguments.items() if len(self.problems) == before else ():
            with self.at(f"{place}.{argument}", key=True):
                _check_any(names, {argument: value})


def _check_any(names: list[str], arguments: Mapping[str, Any]) -> None:
    """Raises where none of some losses takes the arguments."""
    for name in names:
        try:
            loss_named(name, arguments, OutputSection.model_fields)
            return
        except RegspecError:
            if name == names[-1]:
                raise
