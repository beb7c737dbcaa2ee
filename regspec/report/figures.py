"""The figures of runs: learning curves, terms, weights, sparsity, activities, and the graph, as panels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle

import numpy as np

from regspec.report.matrices import matrix_panel
from regspec.report.plots import (
    Bar,
    Curve,
    Histogram,
    Line,
    draw_bars,
    draw_curves,
    draw_histograms,
    draw_lines,
    needs_logarithm,
    percent,
)
from regspec.report.runs import Activity, Numbers, Recorded
from regspec.report.style import DASHES, LIGHT, SERIES, Panel
from regspec.report.weights import Weight, weights_in
from regspec.text.problems import Problem, RegspecError, did_you_mean, needing

MOST_TERMS = 6  # with colours and labels
MOST_BARS = 40
MOST_LAYERS = 24  # whose distributions are drawn
BINS = 48


def with_baselines(runs: Sequence[Recorded]) -> list[Recorded]:
    """The runs, and after a single one its twin."""
    return [*runs, *([runs[0].baseline] if len(runs) == 1 and runs[0].baseline is not None else [])]


def colours(runs: Sequence[Recorded]) -> dict[str, tuple[str, object]]:
    """A colour and a dash for each run, by name."""
    pairs = zip(runs, cycle(SERIES), strict=False)
    return {run.name: (colour, DASHES[index % len(DASHES)]) for index, (run, colour) in enumerate(pairs)}


def curves(runs: Sequence[Recorded]) -> list[Panel]:
    """Data loss and penalties separately, on training and held-out data; and the accuracy."""
    every = with_baselines(runs)
    alone = len(every) == 1
    named = {each.name: each.name for each in every}
    if len(runs) == 1 and not alone:
        named[runs[0].name] = "regularized"
    panels = []
    if lines := _over_runs(every, "held_out_loss", {} if alone else named, "held out"):
        training = _over_runs(every, "data_loss", {}, "training", is_thin=not alone)
        text = "The data loss without penalties, on held-out data" + (
            " (thick) and on the training data (thin)." if not alone else " and on the training data."
        )
        if alone:
            training = [_muted(line) for line in training]
        panels.append(_line_panel("loss", "Data loss", text, [*training, *lines]))
    if lines := _over_runs(every, "held_out_accuracy", {} if alone else named, "held out"):
        text = "The share of held-out examples whose class is right."
        panels.append(_line_panel("accuracy", "Held-out accuracy", text, lines, is_share=True))
    panels += _of_figures(every, named, alone=alone)
    penalized = [run for run in runs if run.is_penalized]
    if lines := _over_runs(penalized, "penalty", {} if len(runs) == 1 else named, "penalties"):
        loss = [_muted(line) for line in _over_runs(penalized, "data_loss", {}, "data loss")] if len(runs) == 1 else []
        text = "What training minimizes is their sum." if loss else "The sum of all penalties, without the data loss."
        title = "Data loss and penalties, apart" if loss else "Penalties"
        panels.append(_line_panel("penalties", title, text, [*loss, *lines]))
    rates = _over_runs(runs, "learning_rate", {} if len(runs) == 1 else named, "learning rate")
    if any(np.ptp(line.known) > 0 for line in rates if len(line.known)):
        panels.append(_line_panel("learning_rate", "Learning rate", "The learning rate of each epoch.", rates))
    return panels


def terms(runs: Sequence[Recorded]) -> list[Panel]:
    """Each term's penalty over time; its strength, where that changes; its zeros, where there are some."""
    found = []
    for run in runs:
        titles = {
            "penalty": ("Penalty of each term", "How much each term adds to the loss."),
            "strength": ("Strengths", "The strengths that follow a schedule."),
            "zeros": ("Exact zeros over time", "The share of exact zeros in each penalized weight."),
        }
        for column, (title, text) in titles.items():
            values = run.by_term(column)
            if column == "strength":
                values = {name: each for name, each in values.items() if np.nanmax(each) > np.nanmin(each)}
            if column == "zeros":
                values = {name: each for name, each in values.items() if np.nanmax(each) > 0}
            if values:
                lines, note = _ranked(run, values)
                panel = _line_panel(column, title, text + note, lines, is_share=column == "zeros")
                found.append(panel)
    return found


def weights(runs: Sequence[Recorded]) -> list[Panel]:
    """The distribution of each weight before and after training; of a run's twin too."""
    found = []
    for run in runs:
        twins = {} if run.baseline is None else {each.name: each for each in weights_in(run.baseline)}
        shown = [each for each in weights_in(run) if each.is_matrix or each.regularizer is not None]
        found += [_weight_panel(each, twins.get(each.name)) for each in shown[:MOST_LAYERS] if each.after.size > 1]
    return found


def sparsity(runs: Sequence[Recorded]) -> list[Panel]:
    """The share of zeros in each weight."""
    found = []
    for run in runs:
        twins = {} if run.baseline is None else {each.name: each.zeros for each in weights_in(run.baseline)}
        shown = [each for each in weights_in(run) if each.is_matrix or each.regularizer is not None]
        bars = [
            Bar(each.name, each.zeros, each.nearly_zeros, twins.get(each.name) or None) for each in shown[:MOST_BARS]
        ]
        if not any(bar.around or bar.mark for bar in bars):
            continue
        text = "The share of exact zeros in each weight; pale, of magnitudes of at most 0.001."
        if any(bar.mark for bar in bars):
            text += " The mark is the share of zeros without regularization."
        elif twins:
            text += " Without regularization there are none."
        if len(shown) > MOST_BARS:
            text += f" The first {MOST_BARS} of {len(shown)} weights."
        height = 0.6 + 0.29 * len(bars)
        draw = partial(draw_bars, bars=bars)
        found.append(Panel("sparsity", "Zeros by weight", text, draw, height=height, left=1.85))
    return found


def activities(runs: Sequence[Recorded]) -> list[Panel]:
    """The distribution of each layer's outputs on held-out data, of penalized ones first; of a run's twin too."""
    found = []
    for run in runs:
        twins = {} if run.baseline is None else run.baseline.activities
        ordered = sorted(run.activities, key=lambda layer: not run.has(f"penalty/{layer}.activity"))
        for layer in ordered[:MOST_LAYERS]:
            pairs = [("regularized" if layer in twins else "", run.activities[layer], LIGHT["accent"], True)]
            if layer in twins:
                pairs.append(("without regularization", twins[layer], LIGHT["orange"], False))
            histograms = [_outputs(*each) for each in pairs]
            text = f"{percent(run.activities[layer].zeros)} of its outputs are exactly zero."
            found.append(Panel(f"activity_{layer}", layer, text, partial(draw_histograms, histograms=histograms)))
    return found


def calibration(runs: Sequence[Recorded]) -> list[Panel]:
    """How often what an output says is so, by the probability that it gives; of a run's twin too."""
    every = with_baselines(runs)
    looks = colours(every)
    found = []
    for output in dict.fromkeys(name for run in every for name in run.held_out.calibrations):
        curves, errors = [], []
        for run in every:
            if (known := run.held_out.calibrations.get(output)) is None:
                continue
            name = run.name if len(runs) > 1 else "" if len(every) == 1 else "regularized"
            name = "without regularization" if run.is_twin and len(runs) == 1 else name
            colour, dash = looks[run.name]
            curves.append(Curve(name, known.said, known.right, known.counts, colour, dash))
            errors.append(f"{name}: {percent(known.error)}" if name else percent(known.error))
        several = len({name for run in every for name in run.held_out.calibrations}) > 1
        text = (
            "How often it is right, by the probability that it gives; on the dotted line both are the same. "
            f"Expected calibration error {', '.join(errors)}."
        )
        draw = partial(draw_curves, curves=curves, label="how often it is right, by the probability given")
        title = f"Calibration of {output}" if several else "Calibration"
        found.append(Panel(f"calibration_{output}" if several else "calibration", title, text, draw, height=3.2))
    return found


def confusion(runs: Sequence[Recorded]) -> list[Panel]:
    """Which class is taken for which by each output, of held-out examples; not of a run's twin."""
    found = []
    outputs = dict.fromkeys(name for run in runs for name in run.held_out.confusions)
    for output in outputs:
        for run in runs:
            known = run.held_out.confusions.get(output)
            if known is None or not known.classes:
                continue
            of = f" of {output}" * (len(outputs) > 1) + f", {run.name}" * (len(runs) > 1)
            name = f"confusion_{output}" if len(outputs) > 1 else "confusion"
            found.append(matrix_panel(name, f"Confusion{of}", known.classes, known.counts))
    return found


def graph(runs: Sequence[Recorded]) -> list[Panel]:
    """The graph of each run's model. Raises `RegspecError` where there is no graphlay to place it."""
    with needing("the figure 'graph'", "report"):  # here, because a notebook shows curves without it
        from regspec.report.drawing import panel
    return [panel(run.graph) for run in runs if run.graph is not None]


FIGURES: dict[str, Callable[[Sequence[Recorded]], list[Panel]]] = {
    "curves": curves,
    "terms": terms,
    "weights": weights,
    "sparsity": sparsity,
    "activities": activities,
    "calibration": calibration,
    "confusion": confusion,
    "graph": graph,
}


def named(name: str) -> Callable[[Sequence[Recorded]], list[Panel]]:
    """What makes the panels of a figure. Raises `RegspecError` where there is none of the name."""
    if name not in FIGURES:
        hint = did_you_mean(name, FIGURES) or f"it may be {', '.join(FIGURES)}"
        raise RegspecError(Problem(f"there is no figure '{name}'", hint))
    return FIGURES[name]


def _of_figures(runs: Sequence[Recorded], named: dict[str, str], *, alone: bool) -> list[Panel]:
    """A panel for the losses of several outputs, and for each metric besides: a line for each output, of each run."""
    figures = dict.fromkeys(name for run in runs for name in run.held_out_figures())
    by_metric: dict[str, list[tuple[str, str]]] = {}
    for metric, output in figures:
        by_metric.setdefault(metric, []).append(
            (output, f"held_out_{metric}/{output}" if output else f"held_out_{metric}")
        )
    panels = []
    for metric, columns in by_metric.items():
        lines: list[Line] = []
        for index, (output, column) in enumerate(columns):
            names = {run: f"{name}, {output}" if output else name for run, name in named.items()}
            found = _over_runs(runs, column, {} if alone else names, output or "held out")
            lines += [replace(line, colour=SERIES[index % len(SERIES)]) for line in found] if alone else found
        text = "The loss of each output on held-out data." if metric == "loss" else f"The {metric} of what is held out."
        title = "Held-out losses" if metric == "loss" else f"Held-out {metric}"
        panels.append(_line_panel(f"held_out_{metric}", title, text, lines, is_share=metric == "accuracy"))
    return panels


def _over_runs(
    runs: Sequence[Recorded], column: str, names: dict[str, str], name: str, *, is_thin: bool = False
) -> list[Line]:
    """A line for each run that has the metric."""
    looks = colours(runs)
    found = []
    for run in runs:
        values = run.metrics.get(column)
        if values is not None and np.isfinite(values).any():
            colour, dash = looks[run.name]
            label = names.get(run.name, name if len(runs) == 1 else f"{run.name}, {name}")
            found.append(Line(label, run.epochs, values, colour=colour, dash=dash, is_thin=is_thin, group=run.name))
    return found


def _muted(line: Line) -> Line:
    return replace(line, colour=LIGHT["muted"])


def _line_panel(name: str, title: str, text: str, lines: list[Line], *, is_share: bool = False) -> Panel:
    is_logarithmic = not is_share and needs_logarithm(lines)
    if is_logarithmic:
        text += " The scale is logarithmic."
    draw = partial(draw_lines, lines=lines, is_share=is_share, is_logarithmic=is_logarithmic)
    return Panel(name, title, text, draw)


def _ranked(run: Recorded, values: dict[str, Numbers]) -> tuple[list[Line], str]:
    """The lines of terms: the largest with colours, the others grey and thin; and a sentence about these."""
    order = sorted(values, key=lambda name: -float(np.nanmax(values[name])))
    lines = []
    for index, name in enumerate(order):
        is_first = index < MOST_TERMS
        colour = SERIES[index % len(SERIES)] if is_first else LIGHT["muted"]
        lines.append(Line(name, run.epochs, values[name], colour, is_thin=not is_first))
    others = len(order) - MOST_TERMS
    return lines, f" Those without a name are {others} smaller ones." if others > 0 else ""


def _weight_panel(weight: Weight, twin: Weight | None) -> Panel:
    parts = [("after", weight.after, LIGHT["accent"], True)]
    if weight.before is not None:
        parts.insert(0, ("before", weight.before, LIGHT["muted"], False))
    if twin is not None:
        parts.append(("without regularization", twin.after, LIGHT["orange"], False))
    numbers = np.concatenate([part[np.isfinite(part)] for _, part, _, _ in parts])
    low, high = np.quantile(numbers, (0.002, 0.998)) if numbers.size else (0.0, 0.0)
    margin = 0.05 * (high - low) or 0.1
    bins = min(BINS, 8 + 2 * int(np.sqrt(weight.after.size)))
    edges = np.linspace(low - margin, high + margin, bins + 1)
    histograms = []
    for name, part, colour, is_filled in parts:
        counts, _ = np.histogram(part[np.isfinite(part) & (part != 0)], edges)
        zeros = float((part == 0).mean())
        histograms.append(
            Histogram(name, edges, counts / max(1, part.size), zeros=zeros, colour=colour, is_filled=is_filled)
        )
    text = f"{weight.after.size:,} numbers, {weight.regularizer or 'no penalty'}."
    return Panel(f"weights_{weight.name}", weight.name, text, partial(draw_histograms, histograms=histograms))


def _outputs(name: str, activity: Activity, colour: str, is_filled: bool) -> Histogram:
    """A histogram of outputs, without the exact zeros, which lie in one of its bins."""
    counts, zeros = activity.counts.copy(), 0.0
    total = max(1.0, float(counts.sum()))
    if np.isfinite(activity.zeros) and activity.edges[0] <= 0 <= activity.edges[-1]:
        zeros = activity.zeros
        bin_of_zero = min(int(np.searchsorted(activity.edges, 0.0, side="right")) - 1, len(counts) - 1)
        counts[bin_of_zero] = max(0.0, counts[bin_of_zero] - zeros * total)
    return Histogram(name, activity.edges, counts / total, zeros=zeros, colour=colour, is_filled=is_filled)
