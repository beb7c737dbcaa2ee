"""What a run's folder says, as what it was trained with: the model that it keeps, and what its outputs have learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from regspec.graph.network import Graph
from regspec.modules.measuring import outermost
from regspec.targets.torch.program import program_of
from regspec.text.problems import Problem, RegspecError
from regspec.training.data.scaling import Scaling
from regspec.training.data.targets import BY_KIND, Target, loss_said
from regspec.training.data.wanted import Columns, Wanted, wanted_outputs
from regspec.training.measures.objective import Objective, OutputLoss
from regspec.training.options.options import Options
from regspec.training.options.outputs import outputs_said
from regspec.training.runs.folder import Folder


def load_kept(model: nn.Module, place: Folder) -> nn.Module:
    """The model in evaluation mode, with the weights and strengths of the epoch that a run keeps.

    Raises:
        RegspecError: where there are none, or they are another model's.
    """
    kept = place.weights()
    try:
        model.load_state_dict(kept.state)
    except RuntimeError as error:
        what = f"are not those of the spec: {' '.join(str(error).split())}"
        raise RegspecError(Problem(what, path=str(place.path / "weights.safetensors"))) from None
    for _, penalized in outermost(model):
        penalized.set_schedules(kept.steps, kept.epoch)
    return model.eval()


def objective_of(facts: Mapping[str, Any], graph: Graph) -> Objective:
    """The losses of the outputs that a run has trained, and what each of them has learned.

    Args:
        facts: what the run's folder says.
        graph: the model's.

    Raises:
        RegspecError: where the folder does not say what the outputs have learned.
    """
    options = Options.of(facts["options"])
    wanted = wanted_outputs(graph, outputs_said(options.outputs), options.target)
    said = facts.get("outputs")
    if not isinstance(said, Mapping) or any(each.name not in said for each in wanted):
        what = "the run does not say what its outputs have learned: another version wrote it"
        raise RegspecError(Problem(what, "regspec train makes the run anew"))
    columns = columns_of(facts)
    return Objective(_loss(each, said[each.name], graph, columns) for each in wanted)


def _loss(wanted: Wanted, said: Mapping[str, Any], graph: Graph, columns: Columns | None) -> OutputLoss:
    classes = None if said["classes"] is None else tuple(said["classes"])
    loss = loss_said(wanted.said, BY_KIND[said["kind"]])
    weights, scaling = said.get("class_weights"), said.get("scaling")
    known = None if scaling is None else Scaling.of_dict(scaling)
    target = Target(wanted, said["kind"], loss, classes, said.get("sort", "words"), scaling=known)
    return OutputLoss(
        target.named(columns),
        gives_probabilities=gives_probabilities(wanted, graph),
        weights=None if weights is None else torch.tensor(weights),
    )


def gives_probabilities(wanted: Wanted, graph: Graph) -> bool:
    """Whether an output is a probability, and no score: as it is said, or by the model's last layer."""
    if wanted.said.from_logits is not None:
        return not wanted.said.from_logits
    return program_of(graph).last_module(wanted.index) in ("nn.Sigmoid", "nn.Softmax")


def columns_of(facts: Mapping[str, Any]) -> Columns | None:
    """The columns of the table that a run was trained with, if it was."""
    said = facts.get("columns")
    return None if said is None else Columns.of_dict(said)
