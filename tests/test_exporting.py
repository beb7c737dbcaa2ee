"""`regspec export`: each form, loaded by its own library, gives what the run's model gives, and says what it is."""

from __future__ import annotations

import json
import runpy
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

import regspec
from regspec.graph.loading import graph_of
from regspec.training.exporting import forms
from regspec.training.exporting.comparing import cases_of, difference
from regspec.training.measures.objective import tensors_of

from .commands import command
from .test_using import SAID, WORDS, X, trained

GENERATOR = np.random.default_rng(1)
AGES = np.where(np.arange(40) % 3 == 0, np.nan, 30.0)  # whatever is held out: a median of 30, a minimum of 30
TABLE = pl.DataFrame({
    "id": np.arange(40),
    "age": [None if np.isnan(age) else age for age in AGES],
    "city": [("Bonn", "Ulm")[i % 2] for i in range(40)],
    "born": [f"20{10 + i % 7}-0{1 + i % 9}-11" for i in range(40)],
    "rooms": np.arange(40) % 4,
    "price": GENERATOR.random(40),
})  # fmt: skip
COLUMNS = {
    "id": "drop",
    "age": {"impute": "median", "scale": "min_max"},
    "city": "one_hot",
    "born": {"date": ["year", "month"]},
}
HEAD = "regspec: 1\nname: net\ninputs: {x: {shape: %s, dtype: %s}}\nlayers:\n"
DENSE = HEAD % ("[3]", "float32") + (
    "  - Dense: {name: hidden, units: 5, activation: relu, kernel_regularizer: l2, activity_regularizer: l1}\n"
    "  - Dropout: 0.5\n  - Dense: {name: kind, units: 3, activation: softmax}\n"
)
# outputs that are called as torch calls tensors between, and one that is called as an input
TWO = HEAD % ("[3]", "float32") + (
    "  - Dense: {name: a, units: 4, activation: relu}\n  - Dense: {name: b, units: 3}\n"
    "  - Dense: {name: c, units: 1, inputs: a}\noutputs: {linear: b, relu: c, x: a}\n"
)
SEQUENCE = HEAD % ("[null]", "int64") + (
    "  - Embedding: {name: table, input_dim: 9, output_dim: 4}\n"
    "  - Conv1D: {name: conv, filters: 4, kernel_size: 3, padding: same, activation: relu}\n"
    "  - Dense: {name: tags, units: 3}\n"
)
IMAGE = HEAD % ("[2, 6, 5]", "float32") + (
    "  - Conv2D: {name: conv, filters: 3, kernel_size: 3, use_bias: false}\n  - BatchNormalization: {name: norm}\n"
    "  - Activation: {activation: relu}\n  - Flatten: {}\n  - Dense: {name: kind, units: 3}\n"
)
HOUSES = HEAD % ("[6]", "float32") + "  - Dense: {name: price, units: 1, kernel_regularizer: l1}\n"
STEPS = GENERATOR.integers(0, 9, (40, 6))
IMAGES = GENERATOR.standard_normal((40, 2, 6, 5)).astype(np.float32)
PRICES = GENERATOR.random(40)
LOSSES = {"linear": {"loss": "cross_entropy"}, "relu": {"loss": "mse"}}
ROWS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "classes": (DENSE, (X, WORDS), {}),
    "two outputs": (TWO, {"x": X, "linear": WORDS, "relu": PRICES}, {"outputs": LOSSES}),
    "steps": (SEQUENCE, (STEPS, STEPS % 3), {}),
    "images": (IMAGE, (IMAGES, WORDS), {"lr": 0.5}),
    "a table": (HOUSES, TABLE, {"columns": COLUMNS}),
}
ENDINGS = {"onnx": "onnx", "pt2": "pt2", "safetensors": "safetensors", "source": "py", "keras": "keras"}
FILES = {form: f"net.{ending}" for form, ending in ENDINGS.items()}


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], regspec.Run]:
    """The run of a row, trained once."""
    made: dict[str, regspec.Run] = {}

    def run(name: str) -> regspec.Run:
        if name not in made:
            spec, data, options = ROWS[name]
            made[name] = trained(tmp_path_factory.mktemp("runs"), spec, data, **{"epochs": 1, **options})
        return made[name]

    return run


def inputs(name: str, batch: int) -> Tensor:
    if name == "steps":
        return torch.as_tensor(GENERATOR.integers(0, 9, (batch, 3 + batch)))
    shape = {"images": (2, 6, 5), "a table": (6,)}.get(name, (3,))
    return torch.as_tensor(GENERATOR.standard_normal((batch, *shape)), dtype=torch.float32)


# -- loading again -----------------------------------------------------------------------------------------------------


def by_onnx(path: Path, run: regspec.Run, x: Tensor) -> Sequence[Tensor]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path)
    given = session.run(None, {"x": x.numpy()})
    return [torch.as_tensor(each) for each in given]


def by_pt2(path: Path, run: regspec.Run, x: Tensor) -> Sequence[Tensor]:
    return tensors_of(torch.export.load(path).module()(x))


def by_safetensors(path: Path, run: regspec.Run, x: Tensor) -> Sequence[Tensor]:
    model = regspec.build(run.folder / "spec.yaml").eval()
    model.load_state_dict(load_file(path))
    return tensors_of(model(x))


def by_source(path: Path, run: regspec.Run, x: Tensor) -> Sequence[Tensor]:
    assert "import regspec" not in path.read_text()
    assert "from regspec" not in path.read_text()
    model = runpy.run_path(str(path), run_name="exported")["Net"]().eval()
    model.load_state_dict(load_file(path.with_suffix(".safetensors")))
    return tensors_of(model(x))


def by_keras(path: Path, run: regspec.Run, x: Tensor) -> Sequence[Tensor]:
    keras = pytest.importorskip("keras")
    found: Sequence[Tensor] = keras.tree.flatten(keras.models.load_model(path)(x, training=False))
    return found


LOADED = {"onnx": by_onnx, "pt2": by_pt2, "safetensors": by_safetensors, "source": by_source, "keras": by_keras}


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning")  # torch's own
@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer:UserWarning")  # of Keras: it begins anew
@pytest.mark.parametrize("form", FILES)
@pytest.mark.parametrize("name", ROWS)
def test_it_gives_what_the_run_gives(
    name: str, form: str, run_of: Callable[[str], regspec.Run], tmp_path: Path
) -> None:
    """On batches of 1 and 5, of other sizes than it was traced with; the run's model stays as it was."""
    run = run_of(name)
    before = {key: value.clone() for key, value in run.model.state_dict().items()}
    exported = run.export(tmp_path / FILES[form])
    assert exported.format == form
    assert exported.difference is not None
    assert exported.files[0] == tmp_path / FILES[form]
    for batch in (1, 5):
        x = inputs(name, batch)
        with torch.no_grad():
            wanted, got = tensors_of(run.model(x)), LOADED[form](tmp_path / FILES[form], run, x)
            torch.testing.assert_close([*got], [*wanted], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(run.model.state_dict(), before, rtol=0, atol=0)
    assert all(each.requires_grad for each in run.model.parameters())


# -- what is said ------------------------------------------------------------------------------------------------------


def said_in(form: str, path: Path) -> dict[str, Any]:
    """What a file says of itself."""
    if form == "pt2":
        extra = {"regspec.json": ""}
        torch.export.load(path, extra_files=extra)
        return json.loads(extra["regspec.json"])  # type: ignore[no-any-return]
    if form == "onnx":
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(path)
        said = session.get_modelmeta().custom_metadata_map
        return {key: text if key in ("regspec", "spec") else json.loads(text) for key, text in said.items()}
    if form == "keras":
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("metadata.json"))["regspec"]  # type: ignore[no-any-return]
    with safe_open(path.with_suffix(".safetensors"), "pt") as file:
        return json.loads(file.metadata()["regspec"])  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning")  # torch's own
@pytest.mark.parametrize("form", FILES)
def test_a_file_says_what_it_is(form: str, run_of: Callable[[str], regspec.Run], tmp_path: Path) -> None:
    run = run_of("a table")
    exported = run.export(tmp_path / FILES[form])
    said = said_in(form, tmp_path / FILES[form])
    assert said == exported.about
    assert (said["regspec"], said["spec"], said["epoch"]) == (regspec.__version__, "net", 1)
    assert said["inputs"] == {"x": {"shape": [None, 6], "dtype": "float32"}}
    assert said["columns"]["inputs"] == {"x": ["age", "city", "born", "rooms"]}
    assert [each["name"] for each in said["columns"]["fitted"]] == ["age", "city", "born"]
    assert said["columns"]["fitted"][1]["words"] == ["Bonn", "Ulm"]


NAMES: dict[str, tuple[list[str], list[str | int]]] = {
    "two outputs": (["linear", "relu", "x.1"], ["batch", 3]),
    "steps": (["tags"], ["batch", "x_1"]),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_in_onnx(name: str, run_of: Callable[[str], regspec.Run], tmp_path: Path) -> None:
    """Those of the spec, also where torch calls tensors between alike; axes of any size have names."""
    onnx = pytest.importorskip("onnx")
    run_of(name).export(tmp_path / "net.onnx")
    onnx.checker.check_model(str(tmp_path / "net.onnx"), full_check=True)
    graph = onnx.load(tmp_path / "net.onnx").graph
    assert [each.name for each in graph.input] == ["x"]
    axes = [axis.dim_param or axis.dim_value for axis in graph.input[0].type.tensor_type.shape.dim]
    assert ([each.name for each in graph.output], axes) == NAMES[name]


def test_its_text_for_people(run_of: Callable[[str], regspec.Run], tmp_path: Path) -> None:
    told = str(run_of("a table").export(tmp_path / "net.safetensors"))
    assert told.splitlines()[1:] == [
        "takes x (batch, 6) float32: columns age, city, born, rooms",
        "gives price (batch, 1) float32: quantities",
        "what must be done before, and is not in it:",
        "  age: gaps become 30, (x - 30) / 1",
        "  city: 1 in the place of its word among Bonn, Ulm, and 0 in the others",
        "  born: year, month of the date",
    ]


SCORES, SHARES = "scores, of which a softmax makes probabilities", "scores, of which a sigmoid makes probabilities"
GIVES = {
    "classes by scores": SCORES,
    "classes by probabilities": "probabilities",
    "classes by logarithms": "logarithms of probabilities",
    "two classes by a score": f"{SHARES} of the second class",
    "labels by scores": SHARES,
    "labels by probabilities": "probabilities",
    "labels by hinge": "scores, above 0 where a label holds",
    "a quantity": "quantities",
    "shares of classes": SCORES,
    "probabilities": SHARES,
    "counts by their logarithm": "logarithms of the quantities",
}


@pytest.mark.parametrize("name", GIVES)
def test_what_its_numbers_are(name: str, tmp_path: Path) -> None:
    """`SAID` has what predictions make of them, in torch's words."""
    spec, x, target, loss, _ = SAID[name]
    run = trained(tmp_path, spec, (x, target), outputs={"out": {"loss": loss}} if loss else None, epochs=1)
    said = run.export(tmp_path / "net.safetensors").about["outputs"]["out"]
    assert said["gives"] == GIVES[name]
    assert ("classes" in said) == ("classes by" in name)


def test_what_images_and_digits_need(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(4):
            pixels = GENERATOR.integers(0, 256, (6, 5, 3), dtype=np.uint8)
            image.fromarray(pixels).save(tmp_path / "pets" / name / f"{number}.png")
    spec = IMAGE.replace("[2, 6, 5]", "[3, 6, 5]").replace("units: 3", "units: 2")
    pets = trained(tmp_path, spec, tmp_path / "pets", "pets run", epochs=1)
    exported = pets.export(tmp_path / "pets.safetensors")
    assert "  images: RGB of 6 by 5, bilinear, numbers 0 to 1" in str(exported).splitlines()
    assert exported.about["outputs"]["kind"]["classes"] == ["cat", "dog"]
    digits = trained(tmp_path, DENSE.replace("[3]", "[64]").replace("units: 3", "units: 10"), "digits", "d", epochs=1)
    assert "  pixels: divided by 16" in str(digits.export(tmp_path / "digits.safetensors")).splitlines()


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_that_is_there_is_kept(run_of: Callable[[str], regspec.Run], tmp_path: Path) -> None:
    run = run_of("classes")
    place = tmp_path / "new" / "net.py"
    run.export(place)
    run.export(place)  # the same once more
    place.with_suffix(".safetensors").write_text("mine")
    place.unlink()
    with pytest.raises(regspec.RegspecError, match=r"net\.safetensors: error: is there already"):
        run.export(place)
    assert not place.exists()
    run.export(place, force=True)
    assert load_file(place.with_suffix(".safetensors")).keys() == run.model.state_dict().keys()


def test_the_command(run_of: Callable[[str], regspec.Run], tmp_path: Path) -> None:
    folder = str(run_of("classes").folder)
    done = command("export", folder, "--format", "safetensors", cwd=tmp_path)
    assert done.code == 0, done.output
    assert done.stdout.startswith("net.safetensors: a new model with these weights gives what the model gives")
    assert "probabilities, of high, low, middle\n" in done.stdout
    assert command("export", folder, "--format", "onx", cwd=tmp_path).code == 2
    assert command("export", str(tmp_path), "-o", "net.pt2", cwd=tmp_path).code == 1
    (tmp_path / "net.safetensors").write_text("mine")
    kept = command("export", folder, "-o", "net.safetensors", cwd=tmp_path)
    assert (kept.code, (tmp_path / "net.safetensors").read_text()) == (1, "mine")
    assert command("export", folder, "-o", "net.safetensors", "--force", cwd=tmp_path).code == 0


# -- faults ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "form", "message"),
    [
        ("net.onnx", "onx", "'onx' is no format\n.*did you mean 'onnx'"),
        ("net.h5", None, r"net\.h5: error: is no \.onnx, \.pt2, \.safetensors, \.py or \.keras file"),
        ("net.pt2", "onnx", r"net\.pt2: error: is no \.onnx file"),
        (None, None, "neither a format nor a file is said"),
    ],
)
def test_formats_that_are_not(
    path: str | None, form: str | None, message: str, run_of: Callable[[str], regspec.Run]
) -> None:
    with pytest.raises(regspec.RegspecError, match=message):
        run_of("classes").export(path, format=form)


def test_packages_that_are_not_there(
    run_of: Callable[[str], regspec.Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("classes")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    exported = run.export(tmp_path / "net.onnx")
    assert exported.compared == "not compared with the model, because onnxruntime is not installed"
    assert exported.difference is None
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(regspec.RegspecError, match=r"ONNX needs onnxscript\n.*pip install 'regspec\[onnx\]'"):
        run.export(tmp_path / "other.onnx")
    assert not (tmp_path / "other.onnx").exists()


INVERSE = DENSE.replace("activation: softmax", "activation: tanh") + "  - Erfinv: {name: out}\n"
RECURRENT = SEQUENCE.replace("Conv1D: {name: conv, filters: 4, kernel_size: 3, padding: same, activation: relu}",
                             "LSTM: {units: 4, return_sequences: true}")  # fmt: skip
SCHEDULED = DENSE.replace("kernel_regularizer: l2", "kernel_regularizer: {l2: 0.1, schedule: {warmup: 9}}")
REFUSED: dict[str, tuple[str, Any, str, str]] = {
    "an operator": (INVERSE, (X, X), "net.onnx", r"has no 'prims.erf_inv', which the line 'return .*erfinv\(\)' needs"),
    "a loop": (
        RECURRENT,
        (STEPS, STEPS % 3),
        "net.pt2",
        "for 5 steps where 'x' has null\n.*give it a size in the spec.yaml of a copy of the run",
    ),
    "a schedule": (SCHEDULED, (X, WORDS), "net.py", "hidden.kernel follows a schedule(.*\n)*.*another format"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_form_can_not_hold(name: str, tmp_path: Path) -> None:
    """It says what, and nothing is written."""
    spec, data, file, message = REFUSED[name]
    run = trained(tmp_path, spec, data, epochs=1)
    with pytest.raises(regspec.RegspecError, match=message):
        run.export(tmp_path / file)
    assert not (tmp_path / file).exists()


def test_a_loop_with_a_size(tmp_path: Path) -> None:
    """As the message has it: the weights go with any number of steps."""
    run = trained(tmp_path, RECURRENT, (STEPS, STEPS % 3), epochs=1)
    place = run.folder / "spec.yaml"
    place.write_text(place.read_text().replace("[null]", "[6]"))
    regspec.load_run(run.folder).export(tmp_path / "net.pt2")
    with torch.no_grad():
        got = by_pt2(tmp_path / "net.pt2", run, torch.as_tensor(STEPS[:5]))
        torch.testing.assert_close(got[0], run.model(torch.as_tensor(STEPS[:5])), rtol=1e-5, atol=1e-5)


def test_more_than_a_file_of_onnx_holds(
    run_of: Callable[[str], regspec.Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "MOST", 4 * (3 * 5 + 5 + 5 * 3 + 3) - 1)
    with pytest.raises(regspec.RegspecError, match=r"holds 2 GB, but the weights are 152 bytes\n.*pt2 holds more"):
        run_of("classes").export(tmp_path / "net.onnx")


def broken(_: tuple[Tensor, ...]) -> Sequence[Tensor]:
    raise ValueError("of another size")


OTHERS: dict[str, tuple[Callable[[tuple[Tensor, ...]], Sequence[Tensor]], str]] = {
    "numbers": (lambda x: [x[0] * 1.01], "other numbers than the model for 'kind'"),
    "no numbers": (lambda x: [x[0] * float("nan")], "other numbers than the model for 'kind'"),
    "a shape": (lambda x: [x[0][:, :2]], r"gives \(1, 2\) for 'kind', and the model \(1, 3\)"),
    "a fault": (broken, r"it does not take inputs of \(1, 3\): of another size"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_gives_something_else_is_found(name: str) -> None:
    cases = cases_of(nn.Identity(), graph_of(DENSE))
    given, message = OTHERS[name]
    with pytest.raises(regspec.RegspecError, match=message):
        difference(given, cases, ["kind"], "it")
    assert difference(lambda x: [x[0] * (1 + 1e-6)], cases, ["kind"], "it") == pytest.approx(1e-6, rel=0.1)


def test_a_model_that_draws_is_not_compared() -> None:
    graph = graph_of(DENSE)
    assert cases_of(nn.Dropout(0.5), graph).is_drawn
    assert not cases_of(nn.Dropout(0.5).eval(), graph).is_drawn


def test_sizes_that_a_model_takes() -> None:
    """Of axes with null, the first two that it takes: what is made is compared on both."""

    class Halved(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(len(x), -1, 4)

    cases = cases_of(Halved(), graph_of(SEQUENCE))
    assert [each.inputs[0].shape for each in cases.others] == [(1, 8), (5, 12)]
    assert cases.traced[0].shape == (3, 8)
    with pytest.raises(regspec.RegspecError, match="takes none of the examples that were made for it"):
        cases_of(nn.Linear(7, 7), graph_of(DENSE))
