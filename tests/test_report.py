"""Reports of runs: what they say, what they show, what is missing in old runs, and what a browser makes of them."""

from __future__ import annotations

import csv
import html
import io
import json
import math
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import regspec
from regspec.report import drawing, figures, findings, notebook, plots, style
from regspec.report.images import image, images
from regspec.report.page import page
from regspec.report.runs import Recorded, read_runs
from regspec.report.weights import weights_in, zeros_of
from tests.runs import REGRESSION, write_run

from .commands import ROOT, Done, command, run_without, started

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --hide-scrollbars --enable-logging=stderr --v=0"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a CNN on digits, with its twin."""
    return write_run(tmp_path_factory.mktemp("runs") / "digits_small", baseline=True)


@pytest.fixture(scope="module")
def whole(trained: Path) -> str:
    """Its page."""
    return page([trained])


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of it, to spoil; with the activities of one layer, because pictures take time."""
    shutil.copytree(trained, tmp_path / "run")
    activities = json.loads((trained / "activities.json").read_text())
    (tmp_path / "run" / "activities.json").write_text(json.dumps({"conv": activities["conv"]}))
    return tmp_path / "run"


def only(folder: Path) -> Recorded:
    (run,) = read_runs([folder])
    return run


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def write_rows(folder: Path, rows: list[dict[str, str]]) -> None:
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


# -- what is said -----------------------------------------------------------------------------------------------------


def test_what_came_out_is_said(trained: Path, whole: str) -> None:
    run, last = only(trained), rows_of(trained)[-1]
    twin = rows_of(trained / "baseline")[-1]
    accuracy, without = (f"{100 * float(row['held_out_accuracy']):.1f} %" for row in (last, twin))
    penalty, loss = float(last["penalty"]), float(last["data_loss"])
    weights = load_file(trained / "weights.safetensors")
    penalized = torch.cat([weights[name].flatten() for name in ("conv.weight", "hidden.weight", "logits.bias")])
    zeros = f"{100 * (penalized == 0).float().mean():.1f} %"
    assert findings.headline(run) == f"digits_small gets {accuracy} of 359 held-out examples right"
    said = findings.account(run)
    assert "learned 10 classes from 1,438 examples of digits in 8 epochs" in said
    assert f"without regularization comes to {without}" in said
    assert f"Penalties make up {100 * penalty / (penalty + loss):.1f} % of" in said
    assert f"Of the penalized weights, {zeros} are exactly zero" in said
    for each in (findings.headline(run), said, *(found.value for found in findings.findings(run))):
        assert html.escape(each) in whole


def test_terms_are_in_the_order_of_their_penalties(trained: Path) -> None:
    last = rows_of(trained)[-1]
    names = ["conv.kernel", "hidden.kernel", "hidden.activity", "logits.bias"]
    expected = sorted(names, key=lambda name: -float(last[f"penalty/{name}"]))
    rows = findings.term_rows(only(trained))
    assert [row.name for row in rows] == expected
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert {row.name: row.regularizer for row in rows} == {
        "conv.kernel": "l1 0.002",
        "hidden.kernel": "l1 0.002 + l2 0.0001",
        "hidden.activity": "l1 0.001",
        "logits.bias": "l2 0.01",
    }


def test_a_run_and_its_twin_side_by_side(trained: Path) -> None:
    run = only(trained)
    assert run.baseline is not None
    table = {row[0]: row[1:] for row in findings.side_by_side(run, run.baseline).rows}
    for place, folder in enumerate((trained, trained / "baseline")):
        state = load_file(folder / "weights.safetensors")
        norm = math.sqrt(sum((each.double() ** 2).sum().item() for each in state.values()))
        assert table["norm of all weights"][place] == f"{norm:.3g}"
        assert table["held-out loss"][place] == f"{float(rows_of(folder)[-1]['held_out_loss']):.3g}"
    assert table["zeros in the penalized weights"][1] == "0 %"


def test_penalties_of_a_twin_are_only_measured(run: Path) -> None:
    """Its folder is as any other: it may note penalties that it did not minimize."""
    (run / "baseline" / "metrics.csv").write_text((run / "metrics.csv").read_text())
    twin = only(run / "baseline")
    assert not twin.is_penalized
    assert findings.account(twin).endswith("Its penalties are only measured.")
    table = {row[0]: row[1:] for row in findings.side_by_side(only(run), twin).rows}
    assert table["penalty"][1] == f"{table['penalty'][0]}, only measured"


def test_quantities(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "plain", REGRESSION, "diabetes", epochs=2)
    loss = float(rows_of(folder)[-1]["held_out_loss"])
    assert findings.headline(only(folder)) == f"plain has a mean square error of {loss:.3g} on 88 held-out examples"
    assert findings.account(only(folder)).endswith("It has no penalties.")
    text = page([folder])
    assert "accuracy" not in text.partition("<main>")[2].partition("<script>")[0].lower()
    assert "This model has no penalties" in text


def test_weights_by_their_names(trained: Path) -> None:
    weights = {weight.name: weight for weight in weights_in(only(trained))}
    before, after = (load_file(trained / f"{name}.safetensors") for name in ("initial", "weights"))
    names = {"conv": "conv", "hidden": "hidden", "logits": "logits"}
    assert list(weights) == [f"{layer}.{slot}" for layer in names for slot in ("kernel", "bias")]
    for layer in names:
        found = weights[f"{layer}.kernel"]
        assert found.before is not None
        assert np.array_equal(found.before, before[f"{layer}.weight"].flatten().numpy())
        assert np.array_equal(found.after, after[f"{layer}.weight"].flatten().numpy())
        assert found.zeros == pytest.approx((after[f"{layer}.weight"] == 0).double().mean().item())
    assert weights["logits.kernel"].regularizer is None
    assert zeros_of([weights["logits.kernel"]]) is None


def test_weights_in_blocks_and_of_gates(tmp_path: Path) -> None:
    """In blocks, and of a GRU, whose biases are two; a term counts where it is."""
    spec = """
regspec: 1
name: net
inputs: {x: {shape: [8, 8]}}
blocks:
  part:
    layers:
      - GRU: {name: steps, units: 4, return_sequences: true, recurrent_regularizer: {l1: 0.1}}
layers:
  - part: {name: part, repeat: 2}
  - Flatten
  - Dense: {name: logits, units: 10}
"""
    (tmp_path / "spec.yaml").write_text(spec)
    model = regspec.build(tmp_path / "spec.yaml")
    save_file({name: each.contiguous() for name, each in model.state_dict().items()}, tmp_path / "weights.safetensors")
    terms = [f"part.{number}.steps.recurrent" for number in (0, 1)]
    head = ",".join(f"penalty/{name}" for name in terms)
    (tmp_path / "metrics.csv").write_text(f"epoch,data_loss,{head}\n1,0.5,,2.0\n2,0.4,1.0,3.0\n")
    rows = findings.term_rows(only(tmp_path))
    assert [(row.name, row.regularizer, row.share) for row in rows] == [
        (terms[1], "l1 0.1", 0.75),
        (terms[0], "l1 0.1", 0.25),  # which the first epoch lacks
    ]
    weights = weights_in(only(tmp_path))
    regularized = [weight.name for weight in weights if weight.regularizer is not None]
    assert regularized == terms
    assert sum(weight.after.size for weight in weights) == sum(each.numel() for each in model.parameters())


def test_weights_that_are_not_trained(tmp_path: Path) -> None:
    """They are left out, but for those with a term."""
    (tmp_path / "spec.yaml").write_text("""
regspec: 1
inputs: {x: {shape: [6]}}
layers:
  - Dense: {name: frozen, units: 5, trainable: false}
  - Dense: {name: kept, units: 4, trainable: false, kernel_regularizer: l2}
  - BatchNormalization: {name: norm}
  - Dense: {name: part, units: 3, trainable: kernel}
""")
    model = regspec.build(tmp_path / "spec.yaml")
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    (tmp_path / "metrics.csv").write_text("epoch,data_loss\n1,0.5\n")
    names = [weight.name for weight in weights_in(only(tmp_path))]
    assert names == ["kept.kernel", "norm.gamma", "norm.beta", "part.kernel"]


# -- what is shown ----------------------------------------------------------------------------------------------------


def pictures(text: str) -> dict[str, str]:
    """The pictures of a page by their names."""
    found = re.findall(r'<figure class="picture" data-name="([^"]*)">.*?(<svg.*?</svg>)', text, re.DOTALL)
    return dict(found)


def test_every_picture_is_there(trained: Path, whole: str) -> None:
    found = pictures(whole)
    expected = ["loss", "accuracy", "penalties", "penalty", "zeros", "sparsity", "graph", "calibration"]
    expected += ["confusion"]
    expected += [f"weights_{name}" for name in ("conv.kernel", "hidden.kernel", "logits.kernel", "logits.bias")]
    expected += [f"activity_{name}" for name in ("conv", "pool", "flatten", "hidden", "logits")]
    assert set(found) == set(expected)
    for name, svg in found.items():
        ElementTree.fromstring(svg.replace("xlink:href", "href"))  # is well formed
        assert re.search(r'aria-label="[^"]{10,}"', svg), name
        assert not re.search("#[0-9a-f]{6}", svg), "a colour that does not follow the theme"


def test_ids_are_unique(trained: Path, whole: str) -> None:
    ids = re.findall(r'\bid="([^"]*)"', whole)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^)"]*)', whole)) <= set(ids)


def test_nothing_comes_from_elsewhere(trained: Path, whole: str) -> None:
    assert not re.search(r"""(src|href|action|srcset)=["'](?!#)|@import|url\((?!#)|https?://(?!www\.w3\.org/)""", whole)


def test_the_page_is_the_same_every_time(trained: Path, whole: str) -> None:
    assert page([trained]) == whole


def test_values_for_hovering(trained: Path, whole: str) -> None:
    svg = pictures(whole)["accuracy"]
    attribute = re.search(r'data-lines="([^"]*)"', svg)
    assert attribute is not None
    lines = {line["name"]: line["points"] for line in json.loads(html.unescape(attribute[1]))}
    expected = [f"{100 * float(row['held_out_accuracy']):.2f} %" for row in rows_of(trained)]
    assert [point[1] for point in lines["regularized"]] == expected
    assert [point[0] for point in lines["regularized"]] == [str(epoch) for epoch in range(1, 9)]


def test_a_histogram_leaves_exact_zeros_out(tmp_path: Path, run: Path) -> None:
    state = load_file(run / "weights.safetensors")
    state["conv.weight"] = torch.tensor([0.0] * 54 + [1.0] * 54).reshape(state["conv.weight"].shape)
    save_file(state, run / "weights.safetensors")
    svg = pictures(page([run]))["weights_conv.kernel"]
    assert "after, 50.0 % zeros" in svg


@pytest.mark.parametrize(
    ("values", "is_logarithmic"),
    [([1.0, 2.0], False), ([1.0, 0.001], True), ([1.0, 0.0], False), ([-1.0, 1000.0], False), ([math.nan, 1.0], False)],
)
def test_logarithms_where_values_differ_by_orders(values: list[float], is_logarithmic: bool) -> None:
    line = plots.Line("line", np.arange(2.0), np.array(values), "#000000")
    assert plots.needs_logarithm([line]) is is_logarithmic


def test_labels_are_moved_apart() -> None:
    assert plots.spread([5.0, 5.0, 90.0], 10, 0, 100) == [5.0, 15.0, 90.0]
    assert plots.spread([99.0, 98.0], 10, 0, 100) == [100.0, 90.0]
    crowded = plots.spread([50.0] * 21, 10, 0, 100)
    assert crowded == [5.0 * place for place in range(21)]


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.9999, "99.9 %"),
        (0.5, "50.0 %"),
        (0.00123, "0.12 %"),
        (1e-6, "under 0.01 %"),
        (math.nan, "unknown"),
    ],
)
def test_shares_are_never_rounded_to_nothing_or_all(share: float, text: str) -> None:
    assert plots.percent(share) == text


# -- the graph --------------------------------------------------------------------------------------------------------


def dense(layers: int) -> regspec.ModelSpec:
    """Convolutions of which each takes all before it, as in DenseNet."""
    lines = ["  - Conv2D: {name: conv0, filters: 4, kernel_size: 3, padding: same}"]
    for number in range(1, layers):
        before = ", ".join(f"conv{each}" for each in range(number))
        lines.append(f"  - Concatenate: {{name: all{number}, axis: 1, inputs: [x, {before}]}}")
        lines.append(f"  - Conv2D: {{name: conv{number}, filters: 4, kernel_size: 3, padding: same}}")
    return regspec.loads("\n".join(["regspec: 1", "name: dense", "inputs: {x: {shape: [3, 8, 8]}}", "layers:", *lines]))


@pytest.mark.parametrize("name", ["digits_cnn", "unet", "transformer", "resnet", "siamese", "lstm_classifier", "dense"])
def test_boxes_do_not_overlap_and_lines_go_down(name: str) -> None:
    """A line goes from the bottom of a box to the top of one that takes it, and through none."""
    spec = dense(8) if name == "dense" else ROOT / "examples" / f"{name}.yaml"
    graph = regspec.graph.loading.graph_of(spec)
    boxes, ways = drawing.laid_out(graph)
    assert len(boxes) == len(graph.inputs) + len(graph.nodes) + len(graph.outputs)
    for box in boxes:
        for other in boxes:
            apart = abs(box.x - other.x) >= drawing.BOX
            assert box is other or apart or abs(box.y - other.y) >= (box.height + other.height) / 2
    joined = []
    for way in ways:
        (source,) = (box for box in boxes if touches(way[0], box, 1))
        (target,) = (box for box in boxes if touches(way[-1], box, -1))
        joined.append((source.title, target.title))
        assert (np.diff(way[:, 1]) >= 0).all()
        for start, end in pairwise(way):
            low, high = np.minimum(start, end), np.maximum(start, end)
            for box in boxes:
                centre, half = np.array([box.x, box.y]), np.array([drawing.BOX, box.height]) / 2
                assert ((high <= centre - half) | (low >= centre + half)).any()
    assert sorted(joined) == sorted((source.title, box.title) for box in boxes for source in box.above)


def touches(point: np.ndarray[Any, Any], box: drawing.Box, side: int) -> bool:
    """Whether a point is on the top of a box, side -1, or on its bottom, side 1."""
    return abs(point[0] - box.x) < drawing.BOX / 2 and math.isclose(point[1], box.y + side * box.height / 2)


def test_a_chain_is_a_column() -> None:
    layers = "".join(f"  - Dense: {{name: layer{number}, units: 3}}\n" for number in range(100))
    spec = regspec.loads(f"regspec: 1\nname: chain\ninputs: {{x: {{shape: [4]}}}}\nlayers:\n{layers}")
    boxes, _ = drawing.laid_out(regspec.graph.loading.graph_of(spec))
    assert len({box.x for box in boxes}) == 1
    assert [box.title for box in boxes[1:3]] == ["layer0 · Dense", "layer1 · Dense"]
    assert [box.y for box in boxes] == sorted(box.y for box in boxes)


def test_a_box_says_its_shape_and_its_penalties() -> None:
    boxes, _ = drawing.laid_out(regspec.graph.loading.graph_of(ROOT / "examples" / "digits_cnn.yaml"))
    lines = {box.title: box.lines for box in boxes}
    assert lines["hidden · Dense"] == ("(batch, 64)", "kernel: l1 1e-05 + l2 0.0001", "activity: l1 1e-06")
    blocks, _ = drawing.laid_out(regspec.graph.loading.graph_of(ROOT / "examples" / "resnet.yaml"))
    assert {box.title: box.lines for box in blocks}["stage1_1 · basic"] == ("(batch, 16, 32, 32)", "4 penalties")


# -- several runs -----------------------------------------------------------------------------------------------------


def test_several_runs_are_compared(trained: Path, run: Path) -> None:
    about = json.loads((run / "run.json").read_text())
    about["options"]["batch_size"] = 17
    (run / "run.json").write_text(json.dumps(about))
    shutil.rmtree(run / "baseline")
    table = findings.comparison(read_runs([trained, run]))
    assert table.head[0] == "run"
    assert table.head[-1] == "batch size"
    assert [(row[0], row[-1]) for row in table.rows] == [("digits_small", "64"), ("run", "17")]
    text = page([trained, run])
    assert "2 runs compared" in text
    loss = re.search(r'data-name="loss">.*?</svg>', text, re.DOTALL)
    assert loss is not None
    assert ">digits_small<" in loss[0]
    assert ">run<" in loss[0]


def test_runs_of_one_name_are_told_apart(trained: Path, tmp_path: Path) -> None:
    folders = [tmp_path / each / "same" for each in ("first", "second")]
    for folder in folders:
        shutil.copytree(trained, folder)
    assert [run.name for run in read_runs(folders)] == ["first/same", "second/same"]
    assert [run.name for run in read_runs([folders[0], folders[0]])] != ["first/same", "first/same"]


def about(folder: Path, *, digest: str | None = None, **changes: Any) -> None:
    """Has a run say something else of itself."""
    said = json.loads((folder / "run.json").read_text())
    for name, value in changes.items():
        whole = said["options"] if name in said["options"] else said
        whole[name] = {**whole[name], **value} if isinstance(value, dict) else value
    (folder / "run.json").write_text(json.dumps(said))
    held_out = json.loads((folder / "held_out.json").read_text())
    (folder / "held_out.json").write_text(json.dumps({**held_out, "data": digest}))


@pytest.mark.parametrize(
    ("one", "other", "is_ranked"),
    [
        ({}, {}, True),
        ({}, {"data": "wine"}, False),
        ({}, {"held_out": 17}, False),
        ({"examples": 27, "held_out": 13}, {"examples": 26, "held_out": 14}, True),  # divided otherwise
        ({}, {"target": "price"}, False),
        ({"digest": "a"}, {"digest": "a", "data": "the_same.csv"}, True),
        ({"digest": "a"}, {"digest": "b"}, False),
        ({"digest": "a"}, {"seed": 7}, True),
    ],
)
def test_runs_on_different_data_are_not_ranked(
    one: dict[str, Any], other: dict[str, Any], is_ranked: bool, run: Path, tmp_path: Path
) -> None:
    """Known by their targets, and else by what they say of their data."""
    shutil.rmtree(run / "baseline")
    shutil.copytree(run, tmp_path / "other")
    about(run, **one)
    about(tmp_path / "other", **other)
    text = page([run, tmp_path / "other"])
    assert (" is the best: " in text) is is_ranked
    assert ("These runs are on different data, so none is ranked above another" in text) is not is_ranked


def test_folds_are_not_ranked(run: Path, tmp_path: Path) -> None:
    """Each holds out another part; runs of the same fold hold out the same."""
    shutil.rmtree(run / "baseline")
    shutil.copytree(run, tmp_path / "other")
    for folder, fold in ((run, 1), (tmp_path / "other", 2)):
        about(folder, options={"folds": 3, "fold": fold})
    assert "These runs are folds" in findings.best(read_runs([run, tmp_path / "other"]))
    about(run, options={"fold": 2})
    assert " is the best: " in findings.best(read_runs([run, tmp_path / "other"]))


def test_losses_of_different_kinds_are_not_ranked(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / each, spec=REGRESSION, data="diabetes", epochs=1) for each in ("one", "two")]
    assert " is the best: a held-out loss of " in findings.best(read_runs(folders))
    about(folders[1], outputs={"answer": {"loss": "huber", "weight": 1.0}})
    assert "losses of different kinds, so none is ranked" in findings.best(read_runs(folders))


def test_the_worst_examples_and_the_calibration_are_shown(trained: Path, whole: str) -> None:
    kept = json.loads((trained / "held_out.json").read_text())["outputs"]["logits"]
    ((output, table),) = findings.worst(only(trained))
    assert output == "logits"
    assert table.head == ["example", "is", "the model says", "probability of that", "loss"]
    assert [row[0] for row in table.rows] == [each["name"] for each in kept["worst"]]
    assert "Held-out examples" in whole
    assert kept["worst"][0]["name"] in whole
    assert f"regularized: {findings.percent(kept['calibration']['error'])}" in whole


def test_which_class_is_taken_for_which(trained: Path, run: Path, whole: str) -> None:
    """Of few classes in a picture, a number in each cell that is not empty; of many in a table."""
    kept = json.loads((trained / "held_out.json").read_text())["outputs"]["logits"]["confusion"]
    counts = np.array(kept["counts"])
    picture = pictures(whole)["confusion"]
    shown = re.findall(r"<text[^>]*>([^<]*)</text>", picture)
    names = [str(each) for each in range(10)]
    assert sorted(shown) == sorted([*names, "is", *names, "taken for", *(str(each) for each in counts[counts > 0])])
    assert f"{counts.trace()} of {counts.sum()} are right" in picture
    assert len(re.findall("var\\(--accent\\); fill-opacity", picture)) >= 10
    held_out = json.loads((run / "held_out.json").read_text())
    held_out["outputs"]["logits"]["confusion"] = {"classes": [], "counts": [], "mistakes": [["a<b", "c", 1234, 5678]]}
    (run / "held_out.json").write_text(json.dumps(held_out))
    text = page([run])
    assert "confusion" not in pictures(text)
    assert re.search("a&lt;b</th><td>c</td><td>1,234</td><td>5,678</td>", text)


# -- what is missing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("run.json", "There is no run.json"),
        ("activities.json", "There is no activities.json"),
        ("held_out.json", None),
        ("initial.safetensors", "There are no weights from before training"),
        ("weights.safetensors", "There are no weights"),
        ("model.py", None),
    ],
)
def test_missing_files_are_left_out(run: Path, name: str, sentence: str | None) -> None:
    (run / name).unlink()
    text = page([run])
    assert (sentence or "gets") in text
    assert ("<h2>What is missing</h2>" in text) is (sentence is not None)


def test_an_old_run(run: Path) -> None:
    """With four columns, and nothing but spec, source and weights."""
    for name in ("run.json", "activities.json", "initial.safetensors"):
        (run / name).unlink()
    shutil.rmtree(run / "baseline")
    kept = ["epoch", "data_loss", "penalty", "held_out_loss", "held_out_accuracy"]
    write_rows(run, [{name: row[name] for name in kept} for row in rows_of(run)])
    text = page([run])
    assert {"loss", "accuracy", "penalties", "graph", "weights_conv.kernel"} <= set(pictures(text))
    assert "digits_small gets" in text


def test_one_epoch_is_a_point(run: Path) -> None:
    write_rows(run, rows_of(run)[:1])
    shutil.rmtree(run / "baseline")
    text = page([run])
    assert "in 1 epoch." in text
    assert "accuracy" in pictures(text)


@pytest.mark.parametrize("value", ["nan", "inf", ""])
def test_numbers_that_are_not_finite(run: Path, value: str) -> None:
    rows = rows_of(run)
    for row in rows[4:]:
        row.update({name: value for name in row if name != "epoch"})
    write_rows(run, rows)
    text = page([run])
    assert "The numbers of data_loss, penalty, held_out_loss, held_out_accuracy are not finite everywhere" in text
    assert "loss" in pictures(text)
    shutil.rmtree(run / "baseline")
    write_rows(run, [{name: each if name == "epoch" else value for name, each in row.items()} for row in rows])
    assert "loss" not in pictures(page([run]))


def test_weights_that_are_not_finite(run: Path) -> None:
    state = load_file(run / "weights.safetensors")
    save_file({name: torch.full_like(each, math.nan) for name, each in state.items()}, run / "weights.safetensors")
    assert "weights_conv.kernel" in pictures(page([run]))


def test_a_spec_that_no_longer_compiles(run: Path) -> None:
    (run / "spec.yaml").write_text((run / "spec.yaml").read_text().replace("Flatten", "Flattern"))
    text = page([run])
    assert "graph is not shown, because its spec can&#39;t be compiled" in text
    assert {"weights_conv.weight", "loss"} <= set(pictures(text))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.csv", None, "has no metrics.csv: no epoch of this run is done yet"),
        ("spec.yaml", None, "is no run's folder: it has no spec.yaml"),
        ("metrics.csv", "", "holds no epoch"),
        ("metrics.csv", "epoch,data_loss\n", "holds no epoch"),
        ("metrics.csv", "epoch,data_loss\n1\n", "line 2 has 1 values, but the header 2"),
        ("run.json", "{", "is no JSON"),
        ("run.json", "[]", "is no mapping"),
        ("activities.json", '{"conv": 3}', "'conv' has no edges, counts and zeros"),
        ("activities.json", '{"conv": {"edges": [1], "counts": [2]}}', "needs one edge more than counts"),
        ("weights.safetensors", "nothing", "can't be read"),
        ("held_out.json", '{"outputs": {}}', "does not say what was held out"),
        ("held_out.json", '{"examples": 3, "outputs": {"a": {"calibration": [], "worst": [{}]}}}', "does not say"),
        (
            "held_out.json",
            '{"examples": 3, "outputs": {"a": {"calibration": null, "worst": [], "confusion": {"classes": ["b", "c"], '
            '"counts": [1, 2], "mistakes": []}}}}',
            "does not say",
        ),
        (
            "held_out.json",
            '{"examples": 3, "outputs": {"a": {"calibration": {"said": [1], "right": [], "counts": []}, "worst": []}}}',
            "does not say",
        ),
    ],
)
def test_broken_files_are_faults(run: Path, name: str, content: str | None, message: str) -> None:
    if content is None:
        (run / name).unlink()
    else:
        (run / name).write_text(content)
    with pytest.raises(regspec.RegspecError, match=re.escape(message)) as caught:
        page([run])
    assert str(run) in str(caught.value)


def test_a_folder_of_runs_is_none(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(regspec.RegspecError, match="the folders in it that hold runs: digits_small"):
        page([trained.parent])
    with pytest.raises(regspec.RegspecError, match="is no folder"):
        page([tmp_path / "absent"])


NASTY = """"><img src=x onerror=alert(1)></script><script>alert(2)</script>&amp;'$x_1$ {{ 7*7 }} #1f5fbf"""


def test_names_of_the_user_are_only_text(run: Path, tmp_path: Path) -> None:
    """In each place where a user's words stand: none becomes an element, an attribute, or mathematics."""
    folder = run.rename(tmp_path / NASTY.replace("/", "|"))
    about = json.loads((folder / "run.json").read_text())
    about |= {"spec": NASTY, "classes": [NASTY], "regspec": NASTY, "options": {"data": NASTY, NASTY: NASTY}}
    (folder / "run.json").write_text(json.dumps(about))
    rows = [{**row, f"penalty/{NASTY}": "0.5", f"zeros/{NASTY}": "0.5"} for row in rows_of(folder)]
    write_rows(folder, rows)
    activities = json.loads((folder / "activities.json").read_text())
    (folder / "activities.json").write_text(json.dumps({**activities, NASTY: activities["conv"]}))
    for name in ("spec.yaml", "model.py"):
        (folder / name).write_text((folder / name).read_text() + f"# {NASTY}\n")
    for text in (page([folder]), page([folder, folder / "baseline"]), notebook.shown(folder)):
        assert "<img" not in text
        assert "alert(2)</script>" not in text
        assert "<script>alert" not in text
        assert len(re.findall("<script", text)) == len(re.findall("</script", text)) <= 1
        assert not re.search(r"<[^>]*\sonerror=", re.sub(r'"[^"]*"', '""', text))
        assert "{{ 7*7 }}" in text
    assert images(folder).keys() >= {"curves.png", "terms.png"}


# -- single figures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", figures.FIGURES)
def test_figures_as_files(trained: Path, name: str) -> None:
    from PIL import Image

    picture = Image.open(io.BytesIO(image(trained, name)))
    assert min(picture.size) >= 300
    assert len(picture.convert("L").histogram()) == 256
    assert picture.convert("L").getextrema()[0] < 120 < 250 < picture.convert("L").getextrema()[1]
    assert ElementTree.fromstring(image(trained, name, "svg")).tag.endswith("svg")


def test_figures_that_are_not_there(trained: Path, run: Path) -> None:
    with pytest.raises(regspec.RegspecError, match="did you mean 'curves'"):
        image(trained, "curve")
    with pytest.raises(regspec.RegspecError, match="'bmp' is no format"):
        image(trained, "curves", "bmp")
    (run / "activities.json").unlink()
    with pytest.raises(regspec.RegspecError, match="holds nothing for the figure 'activities'"):
        image(run, "activities")
    assert images(run).keys() == {f"{name}.png" for name in figures.FIGURES if name != "activities"}


# -- the command line -------------------------------------------------------------------------------------------------


def test_commands(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command("report", "run", "-o", "page.html", cwd=tmp_path) == Done(0, "report: page.html\n", "")
    assert command("report", "run", cwd=tmp_path) == Done(0, "report: run/report.html\n", "")
    monkeypatch.chdir(tmp_path)
    assert (tmp_path / "page.html").read_text() == (run / "report.html").read_text() == page([Path("run")])
    assert command("plot", "run", "graph", "-o", "graph.svg", cwd=tmp_path).code == 0
    assert (tmp_path / "graph.svg").read_bytes().startswith(b"<?xml")
    assert command("plot", "run", cwd=tmp_path).code == 0
    assert {each.stem for each in (run / "figures").iterdir()} == set(figures.FIGURES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("report .", "is no run's folder"),
        ("plot .", "is no run's folder"),
        ("report run -o absent/page.html", "can't be written"),
        ("plot run curve", "did you mean 'curves'"),
        ("plot run graph -o graph.bmp", "is no format of figures"),
        ("plot run graph -o graph", "a figure's file needs an ending"),
    ],
)
def test_commands_that_fail(run: Path, tmp_path: Path, arguments: str, message: str) -> None:
    result = command(*arguments.split(), cwd=tmp_path)
    assert result.code == 1
    assert message in result.stderr
    assert list(tmp_path.iterdir()) == [run]


@pytest.mark.parametrize(("package", "name"), [("graphlay", "report"), ("jinja2", "report"), ("matplotlib", "plot")])
def test_a_missing_extra_is_named(package: str, name: str, tmp_path: Path) -> None:
    with started(run_without, package, tmp_path, [name, "."]) as process:
        result = process.ended()
    assert result.code == 1
    assert f"{name} needs {package}" in result.output
    assert "pip install 'regspec[report]'" in result.output


def test_torch_is_named_too(tmp_path: Path) -> None:
    """In a new process, because a fork has it already."""
    code = "import sys; sys.modules['torch'] = None; sys.argv[1:] = ['report', '.'];"
    code += "from regspec.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 1
    assert "report needs torch" in result.stderr


def test_only_the_graph_needs_graphlay(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "graphlay", None)
    monkeypatch.delitem(sys.modules, "regspec.report.drawing")
    with pytest.raises(regspec.RegspecError, match=r"'graph' needs graphlay(.|\n)*pip install 'regspec\[report\]'"):
        image(trained, "graph")
    assert image(trained, "curves")
    assert "<svg" in notebook.shown(trained)


# -- notebooks --------------------------------------------------------------------------------------------------------


def test_a_model_shows_itself() -> None:
    model = regspec.build(ROOT / "examples" / "mlp.yaml")
    shown = model._repr_html_()
    root = ElementTree.fromstring(shown)
    assert root.tag == "details"
    cells = [["".join(cell.itertext()) for cell in row] for row in root.iter("tr")]
    sizes = {row[0]: row[2] for row in cells if len(row) == 3}
    for name, module in model.named_modules():
        if own := sum(each.numel() for each in module.parameters(recurse=False)):
            assert sizes[name] == f"{own:,}"
    assert set(regspec.regularization_terms(model)) <= {row[0] for row in cells if len(row) == 2}
    assert not regspec.build(ROOT / "examples" / "mlp.yaml")._regspec.is_read


def test_a_module_that_shows_itself_may_be_regularized() -> None:
    class Shown(nn.Linear):
        def _repr_html_(self) -> str:
            return "itself"

    module = regspec.regularize(Shown(3, 2), [{"parameters": "weight", "regularizer": {"l2": 0.5}}])
    assert "L2(strength=0.5)" in module._repr_html_()


def test_a_run_shows_itself(trained: Path) -> None:
    shown = notebook.shown(trained)
    root = ElementTree.fromstring(re.sub("<br>", "<br/>", shown).replace("xlink:href", "href"))
    assert root.tag == "div"
    assert findings.headline(only(trained)) in shown
    assert len(re.findall("<svg", shown)) == 3
    assert shown == notebook.shown(trained)
    assert not set(re.findall(r'id="([^"]*)"', shown)) & set(
        re.findall(r'id="([^"]*)"', notebook.shown(trained / "baseline"))
    )


# -- in a browser -----------------------------------------------------------------------------------------------------

LOOK = """
<!doctype html><body style="margin: 0">
<iframe id="page" style="border: 0; width: WIDTHpx; height: 900px" srcdoc="PAGE"></iframe>
<pre id="seen"></pre>
<script>
const frame = document.getElementById("page");
frame.addEventListener("load", () => {
  const inner = frame.contentDocument, root = inner.documentElement;
  for (const each of inner.querySelectorAll("details")) each.open = true;
  const svgs = [...inner.querySelectorAll("svg")], texts = [...inner.querySelectorAll("svg text")];
  const curve = inner.querySelector("svg[data-lines]"), place = curve.getBoundingClientRect();
  const move = {clientX: place.left + place.width / 3, clientY: place.top + 20, bubbles: true};
  curve.dispatchEvent(new frame.contentWindow.PointerEvent("pointermove", move));
  document.getElementById("seen").textContent = JSON.stringify({
    width: root.clientWidth,
    needs: root.scrollWidth,
    sizes: svgs.map((svg) => [svg.getBoundingClientRect().width, svg.getBoundingClientRect().height]),
    inks: [...new Set(texts.map((text) => getComputedStyle(text).fill))],
    letters: Math.min(...texts.map((text) => text.getBoundingClientRect().height)),
    surface: getComputedStyle(inner.body).backgroundColor,
    hover: inner.getElementById("hover").innerText,
  });
});
</script>
"""


def contrast(one: str, other: str) -> float:
    """The contrast of two colours as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(each) / 255 for each in re.findall(r"\d+", colour)[:3]]
        linear = [each / 12.92 if each <= 0.03928 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def look(text: str, width: int, folder: Path) -> dict[str, Any]:
    """What a browser shows of a page in a window of this width; without errors on its console."""
    (folder / "look.html").write_text(LOOK.replace("WIDTH", str(width)).replace("PAGE", html.escape(text)))
    assert CHROMIUM is not None
    options = [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=4000", "--window-size=1400,900"]
    command = [CHROMIUM, *FLAGS.split(), *options, "--dump-dom", (folder / "look.html").as_uri()]
    result = subprocess.run(command, capture_output=True, text=True)
    assert "CONSOLE" not in result.stderr, re.findall(".*CONSOLE.*", result.stderr)
    seen = re.search('<pre id="seen">(.*?)</pre>', result.stdout, re.DOTALL)
    assert seen is not None
    found: dict[str, Any] = json.loads(html.unescape(seen[1]))
    return found


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize(("width", "theme"), [(375, "light"), (1280, "dark")])
def test_in_a_browser(whole: str, tmp_path: Path, width: int, theme: str) -> None:
    """Every picture has a size and letters that can be read, nothing is wider than the window, and curves answer."""
    seen = look(whole.replace('<html lang="en">', f'<html lang="en" data-theme="{theme}">'), width, tmp_path)
    assert seen["width"] == width
    assert seen["needs"] <= width
    assert len(seen["sizes"]) == len(pictures(whole)) == 16
    assert all(each_width > 200 and height > 50 for each_width, height in seen["sizes"])
    assert all(each_width <= width for each_width, _ in seen["sizes"])
    assert seen["letters"] >= 9
    assert seen["hover"].startswith("epoch ")
    assert all(contrast(ink, seen["surface"]) >= 4.5 for ink in seen["inks"])


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_long_names_on_a_phone(trained: Path, run: Path, tmp_path: Path) -> None:
    long = "a_name/without_a_space." * 6
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**about, "spec": "long" * 30, "options": {"data": long, long: long}}))
    write_rows(run, [{**row, f"penalty/{long}": "0.5"} for row in rows_of(run)])
    assert look(page([run]), 375, tmp_path)["needs"] <= 375
    assert look(page([trained, run.rename(tmp_path / ("long" * 30))]), 375, tmp_path)["needs"] <= 375


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_letters_stand_out(theme: int) -> None:
    def rgb(colour: str) -> str:
        return ", ".join(str(int(colour[start : start + 2], 16)) for start in (1, 3, 5))

    surface = rgb(style.COLOURS["surface"][theme])
    for role, pair in style.COLOURS.items():
        if role not in ("surface", "raised", "grid"):
            assert contrast(rgb(pair[theme]), surface) >= 4.5, role


def test_several_outputs(tmp_path: Path) -> None:
    """A page of a run of several outputs has the losses of each and each metric, and says what was learned."""
    spec = "regspec: 1\nname: two\ninputs: {x: {shape: [4]}}\nlayers:\n"
    spec += "  - Dense: {name: price, units: 1}\n  - Dense: {name: kind, units: 3, inputs: x}\noutputs: [price, kind]\n"
    drawn = np.random.default_rng(0)
    x, price, kind = drawn.standard_normal((40, 4)), drawn.standard_normal(40), drawn.integers(0, 3, 40)
    outputs = {"price": {"metrics": ["mae"]}, "kind": {"metrics": ["f1"]}}
    run = regspec.train(
        spec, (x, {"price": price, "kind": kind}), outputs=outputs, epochs=3, folder=tmp_path / "run", quiet=True
    )
    assert command("report", "run", "-o", "page.html", cwd=tmp_path).code == 0
    said = re.sub(r"<[^>]+>", " ", (tmp_path / "page.html").read_text())
    assert "It learned price (quantities) and kind (3 classes) from 32 examples" in said
    for title in ("Held-out losses", "Held-out accuracy", "Held-out mae", "Held-out f1"):
        assert title in said
    for column, label in (("held_out_mae/price", "held-out price mae"), ("held_out_f1/kind", "held-out kind f1")):
        assert f"{run.metrics[column]:.3g}" in said
        assert label in said


def test_the_share_of_the_penalty_beside_a_loss_with_a_weight(tmp_path: Path) -> None:
    """Of what was minimized, which has the loss times its weight."""
    spec = {
        "inputs": {"x": {"shape": [3]}},
        "layers": [{"Dense": {"name": "out", "units": 1, "kernel_regularizer": "l2"}}],
    }
    x = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    outputs: Any = {"out": {"weight": 0.25}}
    run = regspec.train(spec, (x, x[:, 0]), epochs=1, outputs=outputs, folder=tmp_path / "run", quiet=True)
    row = run.metrics
    share = row["penalty"] / (row["penalty"] + 0.25 * row["data_loss"])
    (recorded,) = read_runs([run.folder])
    assert findings.penalty_share(recorded) == pytest.approx(share)
