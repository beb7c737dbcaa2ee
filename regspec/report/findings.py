"""What came out of a run, in sentences, numbers and rows of tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regspec.blocks import Graph
from regspec.report.plots import percent
from regspec.report.runs import Recorded
from regspec.report.weights import weights_of, zeros_of
from regspec.summary import counted


@dataclass(frozen=True, slots=True)
class Finding:
    """A number that came out: what it is, the number, and what to compare it with."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class TermRow:
    """A term in the table of terms."""

    name: str
    regularizer: str
    first: str
    last: str
    share: float  # of all penalties
    zeros: str


def headline(run: Recorded) -> str:
    """What was trained and what came out, in a few sentences."""
    about, options = run.about, options_of(run)
    spec = about.get("spec") or (run.graph.name if run.graph is not None else run.name)
    goal = "quantities"
    if run.is_classification:
        goal = counted(len(about["classes"]), "class", "classes") if about.get("classes") else "classes"
    source = f" of {options['data']}" if options.get("data") else ""
    examples = f" from {counted(about['examples'], 'example', 'examples')}{source}" if "examples" in about else ""
    epochs = counted(len(run.epochs), "epoch", "epochs")
    stopped = "" if about.get("finished", True) else ", and was stopped before its end"
    sentences = [f"{spec} learned {goal}{examples} in {epochs}{stopped}."]
    if came := outcome(run):
        sentences.append(came)
    if (share := penalty_share(run)) is not None:
        sentences.append(f"Penalties are {percent(share)} of what it minimized at the end.")
        zeros = zeros_of(weights_of(run))
        if zeros is not None:
            sentences.append(f"Of the penalized weights {percent(zeros)} are exactly zero.")
    else:
        sentences.append("It has no penalties.")
    return " ".join(sentences)


def outcome(run: Recorded) -> str:
    """What came out on held-out data, in a sentence."""
    held_out = f"{run.about['held_out']:,} held-out examples" if "held_out" in run.about else "held-out examples"
    accuracy, loss = run.last("held_out_accuracy"), run.last("held_out_loss")
    if math.isfinite(accuracy):
        text = f"It gets {percent(accuracy)} of {held_out} right"
        twin = math.nan if run.baseline is None else run.baseline.last("held_out_accuracy")
        return text + (f", its twin without regularization {percent(twin)}." if math.isfinite(twin) else ".")
    if math.isfinite(loss):
        what = "cross-entropy" if run.is_classification else "mean square error"
        text = f"On {held_out} the {what} is {loss:.4g}"
        twin = math.nan if run.baseline is None else run.baseline.last("held_out_loss")
        return text + (f", and without regularization {twin:.4g}." if math.isfinite(twin) else ".")
    return "Its loss on held-out examples is not finite." if "held_out_loss" in run.metrics else ""


def options_of(run: Recorded) -> Mapping[str, Any]:
    """The options of training."""
    options = run.about.get("options")
    return options if isinstance(options, dict) else {}


def penalty_share(run: Recorded) -> float | None:
    """The penalties' share of the whole loss in the last epoch; None where there are no penalties."""
    penalty, loss = run.last("penalty"), run.last("data_loss")
    whole = penalty + loss
    if not run.by_term("penalty") and not penalty > 0:
        return None
    return penalty / whole if math.isfinite(whole) and whole > 0 else math.nan


def findings(run: Recorded) -> list[Finding]:
    """The numbers at the head of a page."""
    twin, found = run.baseline, []
    for column, label in (("held_out_accuracy", "held-out accuracy"), ("held_out_loss", "held-out loss")):
        value = run.last(column)
        if column not in run.metrics:
            continue
        shown = percent if column == "held_out_accuracy" else _number
        note = f"{shown(twin.last(column))} without regularization" if twin is not None else _best(run, column)
        found.append(Finding(label, shown(value), note))
    if (share := penalty_share(run)) is not None:
        found.append(
            Finding(
                "of the loss is penalties",
                percent(share),
                f"{_number(run.last('penalty'))} beside a data loss of {_number(run.last('data_loss'))}",
            )
        )
    weights = weights_of(run)
    if (zeros := zeros_of(weights)) is not None:
        size = sum(weight.after.size for weight in weights if weight.regularizer is not None)
        found.append(Finding("of the penalized weights are zero", percent(zeros), f"exactly, of {size:,}"))
    return found


def _best(run: Recorded, column: str) -> str:
    values = run.metrics[column]
    if not np.isfinite(values).any():
        return ""
    best = int(np.nanargmax(values) if column == "held_out_accuracy" else np.nanargmin(values))
    return "its best" if best == len(values) - 1 else f"best in epoch {run.epochs[best]:g}"


def term_rows(run: Recorded) -> list[TermRow]:
    """The rows of the table of terms, the largest penalty first."""
    penalties = run.by_term("penalty")
    last = {name: float(values[-1]) for name, values in penalties.items()}
    total = sum(value for value in last.values() if math.isfinite(value))
    zeros = run.by_term("zeros")
    regularizers = {} if run.graph is None else dict(_regularizers(run.graph, ""))
    rows = [
        TermRow(
            name,
            regularizers.get(name, ""),
            _number(float(values[0])),
            _number(last[name]),
            last[name] / total if total > 0 and math.isfinite(last[name]) else 0.0,
            percent(float(zeros[name][-1])) if name in zeros else "",
        )
        for name, values in penalties.items()
    ]
    return sorted(rows, key=lambda row: -row.share)


def _regularizers(graph: Graph, prefix: str) -> list[tuple[str, str]]:
    """Each term's name, with its regularizer."""
    found = []
    for node in graph.nodes:
        if isinstance(node.plan.block, Graph):
            found += _regularizers(node.plan.block, f"{prefix}{node.name}.") if node.declares else []
        else:
            found += [(f"{prefix}{node.name}.{term.slot}", str(term.regularizer)) for term in node.plan.terms]
    return found


def comparison(runs: Sequence[Recorded]) -> tuple[list[str], list[list[str]]]:
    """The head and the rows of a table of runs: what came out, and the options in which they differ."""
    differing = [
        name
        for name in dict.fromkeys(name for run in runs for name in options_of(run))
        if len({str(options_of(run).get(name)) for run in runs}) > 1
    ]
    columns = {
        "held-out accuracy": lambda run: percent(run.last("held_out_accuracy")),
        "held-out loss": lambda run: _number(run.last("held_out_loss")),
        "data loss": lambda run: _number(run.last("data_loss")),
        "penalty": lambda run: _number(run.last("penalty")),
        "zeros": lambda run: "" if (zeros := zeros_of(weights_of(run))) is None else percent(zeros),
        "epochs": lambda run: str(len(run.epochs)),
        "seconds": lambda run: f"{run.about['seconds']:.3g}" if _is_number(run.about.get("seconds")) else "",
    }
    if not any("held_out_accuracy" in run.metrics for run in runs):
        del columns["held-out accuracy"]
    head = ["run", *columns, *(name.replace("_", " ") for name in differing)]
    rows = [
        [
            run.name,
            *(show(run) for show in columns.values()),
            *(str(options_of(run).get(name, "")) for name in differing),
        ]
        for run in runs
    ]
    return head, rows


def side_by_side(run: Recorded) -> tuple[list[str], list[list[str]]]:
    """The head and the rows of a table of a run and its twin: what came out, a row each."""
    assert run.baseline is not None
    head, (own, twin) = comparison([run, run.baseline])
    rows = [[name, a, b] for name, a, b in zip(head[1:], own[1:], twin[1:], strict=True)]
    norms = [_number(_norm(each)) for each in (run, run.baseline)]
    return ["", "with regularization", "without"], [*rows, ["norm of all weights", *norms]]


def _norm(run: Recorded) -> float:
    return math.sqrt(sum(float((weight.after.astype(np.float64) ** 2).sum()) for weight in weights_of(run)) or math.nan)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "not finite"


def facts(run: Recorded) -> list[tuple[str, str]]:
    """The options and versions, for a table."""
    about = {name: value for name, value in run.about.items() if name not in ("options", "classes")}
    if isinstance(classes := run.about.get("classes"), list):
        about["classes"] = ", ".join(map(str, classes[:20])) + ", …" * (len(classes) > 20)
    pairs = {**options_of(run), **about}
    return [(name.replace("_", " "), "" if value is None else f"{value}") for name, value in pairs.items()]
