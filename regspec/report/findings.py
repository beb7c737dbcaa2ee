"""What came out of a run, in sentences, numbers and rows of tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from regspec.graph.network import BlockNode, Graph
from regspec.report.plots import percent
from regspec.report.runs import Recorded
from regspec.report.weights import weights_in, zeros_of
from regspec.views.summary import plural


@dataclass(frozen=True, slots=True)
class Finding:
    """A number that came out: what it is, the number, and what to compare it with."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts; a row's first one says what it is."""

    head: list[str]
    rows: list[list[str]]


@dataclass(frozen=True, slots=True)
class TermRow:
    """A term in the table of terms."""

    name: str
    regularizer: str
    first: str
    last: str
    share: float  # of all penalties
    zeros: str


MOST_FIGURES = 4  # of outputs, at the head of a page


def headline(run: Recorded) -> str:
    """What came out, in a sentence."""
    held_out = f"{run.about['held_out']:,} held-out examples" if "held_out" in run.about else "the held-out examples"
    accuracy, loss = run.figure("held_out_accuracy"), run.figure("held_out_loss")
    if math.isfinite(accuracy):
        return f"{title(run)} gets {percent(accuracy)} of {held_out} right"
    if math.isfinite(loss):
        return f"{title(run)} has a {_measure(run)}{_of_scaled(run)} of {_number(loss)} on {held_out}"
    return f"The loss of {title(run)} on {held_out} is not finite" if run.has("held_out_loss") else title(run)


def _measure(run: Recorded) -> str:
    """What its held-out loss is, for people."""
    outputs = run.about.get("outputs")
    losses = [str(each.get("loss")) for each in outputs.values()] if isinstance(outputs, dict) else []
    if len(losses) > 1:
        return "loss"
    name = losses[0] if losses else "cross_entropy" if run.is_classification else "mse"
    return {"mse": "mean square error", "cross_entropy": "cross-entropy"}.get(name, f"{name} loss")


def _of_scaled(run: Recorded) -> str:
    """What its held-out loss is of, where it is not of the targets as they are."""
    outputs = run.about.get("outputs")
    is_scaled = isinstance(outputs, dict) and any(each.get("scaling") for each in outputs.values())
    return " of scaled targets" if is_scaled else ""


def _goal(run: Recorded) -> str:
    """What it learned, for people: ``3 classes``, ``quantities``, ``price (quantities) and kind (3 classes)``."""
    outputs = run.about.get("outputs")
    if not isinstance(outputs, dict) or not outputs:  # of an older version
        outputs = {
            "": {"kind": "classes" if run.is_classification else "quantities", "classes": run.about.get("classes")}
        }
    told = []
    for name, each in outputs.items():
        classes = each.get("classes")
        kind = plural(len(classes), "class", "classes") if classes else str(each.get("kind"))
        told.append(f"{name} ({kind})" if len(outputs) > 1 else kind)
    return " and ".join([", ".join(told[:-1]), told[-1]] if len(told) > 1 else told)


def best(runs: Sequence[Recorded]) -> str:
    """Which of the runs is the best on held-out data, in a sentence; or why none is."""
    if (why := unlike(runs)) is not None:
        return why
    column, sign = (
        ("held_out_accuracy", -1) if all(run.has("held_out_accuracy") for run in runs) else ("held_out_loss", 1)
    )
    known = [run for run in runs if math.isfinite(run.figure(column))]
    if not known:
        return "No run has a finite loss on held-out data"
    first, *others = sorted(known, key=lambda run: sign * run.figure(column))
    if sign < 0:
        text = f"{first.name} is the best: {percent(first.figure(column))} of held-out examples right"
        return f"{text}, {others[-1].name} {percent(others[-1].figure(column))}" if others else text
    text = f"{first.name} is the best: a held-out loss of {_number(first.figure(column))}"
    return f"{text}, {others[-1].name} {_number(others[-1].figure(column))}" if others else text


def unlike(runs: Sequence[Recorded]) -> str | None:
    """Why runs are not ranked, in a sentence: they are of different data, of several folds, or of different losses."""
    if any(_are_others(one, other) for one, other in pairwise(runs)):
        return "These runs are on different data, so none is ranked above another"
    if len({number for run in runs if (number := options_of(run).get("fold")) is not None}) > 1:
        return "These runs are folds, each of which holds out another part, so none is ranked above another"
    losses = {_losses(run) for run in runs} - {None}
    if len(losses) > 1 and not all(run.has("held_out_accuracy") for run in runs):
        return "These runs have losses of different kinds, so none is ranked above another"
    return None


def _are_others(one: Recorded, other: Recorded) -> bool:
    """Whether two runs' data are known to be different: by their targets, or by names and how many examples there are.

    However they are divided: folds may differ by an example.
    """
    if one.held_out.data is not None and other.held_out.data is not None:
        return one.held_out.data != other.held_out.data
    counts = {_count(run) for run in (one, other)} - {None}
    if len(counts) > 1:
        return True
    return any(_differ(options_of(one), options_of(other), name) for name in ("data", "validation", "target"))


def _count(run: Recorded) -> int | None:
    """How many examples there are, trained on or held out; None where it is not known."""
    train, held_out = (run.about.get(name) for name in ("examples", "held_out"))
    return train + held_out if isinstance(train, int) and isinstance(held_out, int) else None


def _differ(one: Mapping[str, Any], other: Mapping[str, Any], name: str) -> bool:
    return name in one and name in other and bool(one[name] != other[name])


def _losses(run: Recorded) -> str | None:
    """The losses of the outputs with their weights, and how their targets are scaled; None where that is not known."""
    outputs = run.about.get("outputs")
    if not isinstance(outputs, dict):
        return None
    return str({name: tuple(map(each.get, ("loss", "weight", "scale"))) for name, each in outputs.items()})


def worst(run: Recorded) -> list[tuple[str, Table]]:
    """For each output, by its name, a table of the examples with the largest losses, without columns that are empty."""
    found = []
    for output, examples in run.held_out.worst.items():
        head = ["example", "is", "the model says", "probability of that", "loss"]
        rows = [
            [
                each.name,
                each.truth,
                each.said,
                "" if each.probability is None else percent(each.probability),
                _number(each.loss),
            ]
            for each in examples
        ]
        found.append((output, _without_empty(head, rows)))
    return found


def mistakes(run: Recorded) -> list[tuple[str, Table]]:
    """For each output of many classes, by its name, a table of what is most often taken for something else."""
    head = ["is", "taken for", "how often", "of"]
    return [
        (output, Table(head, [[is_, said, f"{count:,}", f"{of:,}"] for is_, said, count, of in known.mistakes]))
        for output, known in run.held_out.confusions.items()
        if known.mistakes
    ]


def account(run: Recorded) -> str:
    """What was trained on what, and what the penalties did, in a few sentences."""
    about, data = run.about, options_of(run).get("data")
    examples = f" from {plural(about['examples'], 'example', 'examples')}" if "examples" in about else ""
    source = f" of {data}" if data and examples else ""
    stopped = "" if about.get("finished", True) else ", and was stopped before its end"
    sentences = [f"It learned {_goal(run)}{examples}{source} in {plural(len(run.epochs), 'epoch', 'epochs')}{stopped}."]
    if run.kept < len(run.epochs) - 1:
        sentences.append(f"The weights are those of epoch {run.epochs[run.kept]:g}, the best on held-out data.")
    if run.baseline is not None:
        twin, column = run.baseline, "held_out_accuracy" if run.has("held_out_accuracy") else "held_out_loss"
        came = percent(twin.figure(column)) if run.has("held_out_accuracy") else _number(twin.figure(column))
        sentences.append(f"Its twin without regularization comes to {came}.")
    share = penalty_share(run)
    if share is None:
        return " ".join([*sentences, "Its penalties are only measured." if run.is_twin else "It has no penalties."])
    sentences.append(f"Penalties make up {percent(share)} of what it minimized in epoch {run.epochs[run.kept]:g}.")
    if (zeros := zeros_of(weights_in(run))) is not None:
        sentences.append(f"Of the penalized weights, {percent(zeros)} are exactly zero.")
    return " ".join(sentences)


def title(run: Recorded) -> str:
    """The name of what was trained."""
    return str(run.about.get("spec") or (run.graph.name if run.graph is not None else run.name))


def options_of(run: Recorded) -> Mapping[str, Any]:
    """The options of training."""
    options = run.about.get("options")
    return options if isinstance(options, dict) else {}


def penalty_share(run: Recorded) -> float | None:
    """The penalties' share of the whole loss in the epoch that is kept; None where there are no penalties."""
    penalty, loss = run.figure("penalty"), _data_loss(run)
    whole = penalty + loss
    if not run.is_penalized:
        return None
    return penalty / whole if math.isfinite(whole) and whole > 0 else math.nan


def _data_loss(run: Recorded) -> float:
    """What was minimized of it: the loss of an only output times its weight, which the sum of several has in it."""
    outputs = run.about.get("outputs")
    own = [*outputs.values()] if isinstance(outputs, dict) else []
    return run.figure("data_loss") * (own[0].get("weight", 1.0) if len(own) == 1 else 1.0)


def findings(run: Recorded) -> list[Finding]:
    """The numbers at the head of a page."""
    twin, found = run.baseline, []
    for column, label in (("held_out_accuracy", "held-out accuracy"), ("held_out_loss", "held-out loss")):
        value = run.figure(column)
        if not run.has(column):
            continue
        shown = percent if column == "held_out_accuracy" else _number
        note = f"{shown(twin.figure(column))} without regularization" if twin is not None else _best(run, column)
        found.append(Finding(label, shown(value), note))
    for metric, output in [each for each in run.held_out_figures() if each[0] != "loss"][:MOST_FIGURES]:
        column = f"held_out_{metric}/{output}" if output else f"held_out_{metric}"
        shown = percent if metric == "accuracy" else _number
        note = f"{shown(twin.figure(column))} without regularization" if twin is not None else ""
        found.append(Finding(f"held-out {output} {metric}".replace("  ", " "), shown(run.figure(column)), note))
    if (share := penalty_share(run)) is not None:
        found.append(
            Finding(
                "of the loss is the penalty",
                percent(share),
                f"{_number(run.figure('penalty'))} beside a data loss of {_number(_data_loss(run))}",
            )
        )
    weights = weights_in(run)
    if (zeros := zeros_of(weights)) is not None:
        size = sum(weight.after.size for weight in weights if weight.regularizer is not None)
        found.append(Finding("of the penalized weights are zero", percent(zeros), f"exactly, of {size:,}"))
    return found


def _best(run: Recorded, column: str) -> str:
    values = run.metrics[column]
    if not np.isfinite(values).any():
        return ""
    best = int(np.nanargmax(values) if column == "held_out_accuracy" else np.nanargmin(values))
    return "its best" if values[best] == values[run.kept] else f"best in epoch {run.epochs[best]:g}"


def term_rows(run: Recorded) -> list[TermRow]:
    """The rows of the table of terms, the largest penalty first."""
    penalties = run.by_term("penalty")
    last = {name: float(values[run.kept]) for name, values in penalties.items()}
    total = sum(value for value in last.values() if math.isfinite(value))
    zeros = run.by_term("zeros")
    regularizers = {} if run.graph is None else dict(_regularizers(run.graph, run.graph, ""))
    rows = [
        TermRow(
            name,
            regularizer=regularizers.get(name, ""),
            first=_number(float(values[0])),
            last=_number(last[name]),
            share=last[name] / total if total > 0 and math.isfinite(last[name]) else 0.0,
            zeros=percent(float(zeros[name][run.kept])) if name in zeros else "",
        )
        for name, values in penalties.items()
    ]
    return sorted(rows, key=lambda row: -row.share)


def _regularizers(root: Graph, graph: Graph, prefix: str) -> list[tuple[str, str]]:
    """Each term's name, with its regularizer."""
    found = []
    for node in graph.nodes:
        if isinstance(node, BlockNode):
            found += [] if node.is_again else _regularizers(root, node.block, f"{prefix}{node.path}.")
        else:
            path = prefix + node.name
            found += [(f"{path}.{slot}", str(each)) for slot, each in root.penalties(node, path).items()]
    return found


def comparison(runs: Sequence[Recorded]) -> Table:
    """A table of runs: what came out, and the options in which they differ."""
    differing = [
        name
        for name in dict.fromkeys(name for run in runs for name in options_of(run))
        if len({str(options_of(run).get(name)) for run in runs}) > 1
    ]
    head = ["run", *_MEASURES, "zeros", *(name.replace("_", " ") for name in differing)]
    rows = [
        [
            run.name,
            *(show(run) for show in _MEASURES.values()),
            _zeros(run),
            *(str(options_of(run).get(name, "")) for name in differing),
        ]
        for run in runs
    ]
    return _without_empty(head, rows)


def side_by_side(run: Recorded, twin: Recorded) -> Table:
    """A table of a run and its twin: what came out, a row each."""
    penalized = {weight.name for weight in weights_in(run) if weight.regularizer is not None}
    rows = [[name, show(run), show(twin)] for name, show in _MEASURES.items()]
    rows.append(["zeros in the penalized weights", *(_zeros(each, penalized) for each in (run, twin))])
    rows.append(["norm of all weights", *(_number(_norm(each)) for each in (run, twin))])
    rows = [row for row in rows if any(row[1:])]
    return Table(["", "with regularization", "without"], rows)


_MEASURES: dict[str, Callable[[Recorded], str]] = {
    "held-out accuracy": lambda run: percent(run.figure("held_out_accuracy")) if run.has("held_out_accuracy") else "",
    "held-out loss": lambda run: _number(run.figure("held_out_loss")),
    "data loss": lambda run: _number(run.figure("data_loss")),
    "penalty": lambda run: _number(run.figure("penalty")) + (", only measured" if run.is_twin else ""),
    "epochs": lambda run: str(len(run.epochs)),
    "seconds": lambda run: f"{run.about['seconds']:.3g}" if isinstance(run.about.get("seconds"), float) else "",
}


def _zeros(run: Recorded, names: Container[str] | None = None) -> str:
    zeros = zeros_of(weights_in(run), names)
    return "" if zeros is None else percent(zeros)


def _without_empty(head: list[str], rows: list[list[str]]) -> Table:
    """A table without the columns in which no run has anything."""
    kept = [index for index in range(len(head)) if any(row[index] for row in rows)]
    return Table([head[index] for index in kept], [[row[index] for index in kept] for row in rows])


def _norm(run: Recorded) -> float:
    return math.sqrt(sum(float((weight.after.astype(np.float64) ** 2).sum()) for weight in weights_in(run)) or math.nan)


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "not finite"


def facts(run: Recorded) -> list[tuple[str, str]]:
    """The options and versions, for a table."""
    about = {name: value for name, value in run.about.items() if name not in ("options", "classes")}
    if isinstance(classes := run.about.get("classes"), list):
        about["classes"] = ", ".join(map(str, classes[:20])) + ", …" * (len(classes) > 20)
    pairs = {**options_of(run), **about}
    return [(name.replace("_", " "), "" if value is None else f"{value}") for name, value in pairs.items()]
