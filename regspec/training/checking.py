"""Whether what options name is there, before data are read: optimizers, routes, losses, and outputs that have them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from regspec.graph.network import Graph
from regspec.text.problems import Problem, Problems, RegspecError
from regspec.training.called import parts_of
from regspec.training.data.wanted import wanted_outputs
from regspec.training.file import Places
from regspec.training.losses import loss_named
from regspec.training.optimizers import optimizer_of
from regspec.training.options import Options
from regspec.training.outputs import OutputSection, outputs_said
from regspec.training.rates import named_schedule, schedule_of


def checked_outputs(options: Options, places: Places, graph: Graph | None = None) -> Mapping[str, OutputSection]:
    """What options say of outputs, once all that they name is there.

    Args:
        options: what is said.
        places: where.
        graph: the model's, whose outputs they are to be.

    Raises:
        RegspecError: with every fault, at its place in the training file if it has one.
    """
    problems = Problems()
    _check_called("optimizer", options.optimizer, optimizer_of, places, problems)
    if options.schedule is not None:
        _check_called("schedule", options.schedule, named_schedule, places, problems)
        with _kept(problems) if not problems else suppress(RegspecError), places.at("schedule"):
            schedule_of(options.schedule)
    with _kept(problems), places.at("clip_gradients"):
        if options.clip_gradients == 0:
            raise RegspecError(
                Problem("clip_gradients must be greater than 0", "nothing is learned from gradients of 0")
            )
    with _kept(problems), places.at("ema"):
        if options.ema == 1:
            raise RegspecError(Problem("ema must be less than 1", "an average of which all stays does not move"))
        if options.ema is not None and options.strategy == "fsdp":
            raise RegspecError(Problem("ema is not for weights that are sharded", "--strategy ddp averages them"))
    before = len(problems)
    for each in options.route:
        with _kept(problems), places.at(f"route.{each.rpartition('=')[0]}"):
            replace(options, route=(each,)).routes_of()
    if len(problems) == before:
        options.routes_of()  # of which one may be given twice
    said: Mapping[str, OutputSection] = {}
    with _kept(problems), places.at("outputs"):
        said = outputs_said(options.outputs)
    for name, section in said.items():
        here = f"outputs.{name}"
        if graph is not None:
            with _kept(problems), places.at(here, key=True):
                wanted_outputs(graph, {name: section})
        if section.loss is not None:
            before = len(problems)
            with _kept(problems), places.at(f"{here}.loss"):
                loss_named(section.loss, {})
            for argument, value in section.arguments.items() if len(problems) == before else ():
                with _kept(problems), places.at(f"{here}.{argument}", key=True):
                    loss_named(section.loss, {argument: value}, OutputSection.model_fields)
    if problems:
        raise RegspecError(problems)
    return said


def _check_called(option: str, text: str, check: Callable[[str], Any], places: Places, problems: Problems) -> None:
    """Checks a name with its arguments, of which a training file has each in a place of its own."""
    name, *arguments = parts_of(text)
    place = f"{option}.{name}" if f"{option}.{name}" in places.origins else option
    before = len(problems)
    with _kept(problems), places.at(place, key=place != option):
        check(name)
    for argument in arguments if len(problems) == before else ():
        key = f"{place}.{argument.partition('=')[0].strip()}"
        with _kept(problems), places.at(key if key in places.origins else option, key=key in places.origins):
            check(f"{name} {argument}")
    if len(problems) == before:
        with _kept(problems), places.at(option):
            check(text)  # of which an argument may be given twice


@contextmanager
def _kept(problems: Problems) -> Iterator[None]:
    """Keeps the faults in here for later."""
    try:
        yield
    except RegspecError as error:
        problems.extend(error.problems)
