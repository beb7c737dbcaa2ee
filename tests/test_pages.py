"""The pages in examples/: their numbers are those of the scripts that made them, and their code runs."""

from __future__ import annotations

import copy
import importlib
import re
import shutil
import socket
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.distributed as dist
import yaml
from sklearn.datasets import load_iris
from torch import Tensor, nn
from torch.nn import functional as F

import regspec
from regspec.keras.verification.verifying import Verification
from regspec.language.schedules import SCHEDULES, parse_schedules
from regspec.training.measures.losses import LOSSES
from regspec.training.measures.metrics import _OF_CLASSES, _OF_QUANTITIES

from .commands import as_torchrun, run_script
from .markdown import Page
from .regularizers import NAMES
from .test_examples import FOLDER, module_of

SCRIPTS = FOLDER / "pages"
CLASSIFIER = Page("README.md").block("yaml", "# classifier.yaml")
PAGES = ("sparse_networks", "sparse_autoencoders", "from_keras_to_pytorch", "many_gpus")


def script(name: str) -> ModuleType:
    return module_of(SCRIPTS / f"{name}.py")


def page(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def block(name: str, language: str, part: str) -> str:
    """The one block of code in a page that holds ``part``."""
    blocks = re.findall(r"```(\w+)\n(.*?)```", page(name), re.DOTALL)
    (found,) = (text for each, text in blocks if each == language and part in text)
    return found


def numbers(row: str) -> list[float]:
    """Those of a table's row that are numbers."""
    cells = [cell.strip().replace(",", "") for cell in row.strip("|").split("|")]
    return [float(cell) for cell in cells if re.fullmatch(r"-?[0-9.]+(e-?[0-9]+)?", cell)]


def rows(name: str, start: str) -> list[list[float]]:
    """The rows of a page's tables that begin with ``start``, in order."""
    return [numbers(line) for line in page(name).splitlines() if line.startswith(f"| {start} |")]


def run(name: str, code: str, names: dict[str, Any]) -> dict[str, Any]:
    """The names after a page's code has run."""
    exec(compile(code, f"{name}.md", "exec"), names)
    return names


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_links_to_is_there(name: str) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", page(name))
    others = {"choosing_a_strength.md"} - {path.name for path in FOLDER.glob("*.md")}
    assert [each for each in targets if each not in others and not (FOLDER / each).exists()] == []


# -- sparse networks ---------------------------------------------------------------------------------------------------


@pytest.mark.everything
def test_sparse_networks_table() -> None:
    """To a digit that is read otherwise: the script's double precision leaves no more to the machine."""
    accuracy, zeros, small = script("sparse_networks").by_route(3e-4, "proximal")
    (shown,) = (row for row in rows("sparse_networks", "0.0003") if len(row) == 7)
    assert [100 * accuracy, 100 * zeros, 100 * small] == pytest.approx(shown[4:], abs=0.3)


@pytest.mark.everything
def test_sparse_networks_loss() -> None:
    """In the loss as many weights are small, and none is zero."""
    result = script("sparse_networks").l1(3e-4, "loss", 0)
    (shown,) = (row for row in rows("sparse_networks", "0.0003") if len(row) == 7)
    assert [100 * result.accuracy, 100 * result.small] == pytest.approx([shown[1], shown[3]], abs=4)
    assert result.zeros == 0


@pytest.mark.everything
def test_sparse_networks_groups() -> None:
    strength, accuracy, zeros, *units = script("sparse_networks").group_row(3e-4)
    (shown,) = (row for row in rows("sparse_networks", f"{strength:g}") if len(row) == 5)
    assert [100 * accuracy, 100 * zeros] == pytest.approx(shown[1:3], abs=0.3)
    assert units == pytest.approx(shown[3:], abs=0.7)  # of the page's whole numbers


@pytest.mark.everything
def test_five_ways() -> None:
    """A row of the table, by the first of its five trainings."""
    example, way = script("five_ways"), "coupled group lasso, proximal"
    model, smaller = example.WAYS["mlp"][way](example.NETWORKS["mlp"], 0)
    (shown,) = rows("sparse_networks", way)
    assert example.accuracy(model, 0) == pytest.approx(97.4, abs=1.5)
    assert example.accuracy(smaller, 0) == example.accuracy(model, 0)
    assert [example.zeros(model), example.units(smaller)] == pytest.approx(shown[:2], abs=8)
    assert example.multiply_adds(smaller) == pytest.approx(shown[2], rel=0.12)


def test_sparse_networks_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("classifier.yaml").write_text(block("sparse_networks", "yaml", "# classifier.yaml"), encoding="utf-8")
    torch.manual_seed(0)
    pixels, _, labels, _ = script("sparse_networks").digits()
    batches = [*zip(pixels.float().split(64), labels.split(64), strict=True)] * 60
    names = {"regspec": regspec, "torch": torch, "F": F, "batches": batches}
    model = run("sparse_networks", block("sparse_networks", "python", "batches"), names)["model"]
    kernels = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    zeros = sum(int((kernel == 0).sum()) for kernel in kernels) / sum(kernel.numel() for kernel in kernels)
    assert 0.7 < zeros < 0.85  # three of four weights go


# -- sparse autoencoders -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("way", "table"), [("with_l1", 0), ("with_kl", 1)])
def test_sparse_autoencoders_table(way: str, table: int) -> None:
    example = script("sparse_autoencoders")
    error, active, mean, silent = example.measured(getattr(example, way)(3e-3))
    _, *shown = rows("sparse_autoencoders", "0.003")[table]
    assert error == pytest.approx(shown[0], rel=0.1)
    assert 100 * active == pytest.approx(shown[1], abs=2)
    assert mean == pytest.approx(shown[2], rel=0.1)
    assert silent == pytest.approx(shown[3], abs=10)


@pytest.mark.everything
def test_sparse_autoencoders_without_the_constraint() -> None:
    example = script("sparse_autoencoders")
    model = example.with_l1(3e-3, decoder="use_bias: true")
    mean, norm = example.measured(model)[2], example.norm_of_units(model)
    said = r"mean activity of\s+([0-9.]+), where it is [0-9.]+ with it, .* norm of ([0-9.]+)"
    shown = re.search(said, page("sparse_autoencoders"))
    assert shown is not None
    assert (mean, norm) == pytest.approx((float(shown[1]), float(shown[2])), rel=0.1)


def test_sparse_autoencoders_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a spec and by hand it is the same training."""
    monkeypatch.chdir(tmp_path)
    Path("autoencoder.yaml").write_text(block("sparse_autoencoders", "yaml", "# autoencoder.yaml"), encoding="utf-8")
    start = regspec.build("autoencoder.yaml", seed=0)
    encoder, decoder = nn.Linear(64, 100), nn.Linear(100, 64)
    encoder.load_state_dict(copy.deepcopy(start.code_.state_dict()))
    decoder.load_state_dict(copy.deepcopy(start.reconstruction.state_dict()))
    parameters = [*encoder.parameters(), *decoder.parameters()]
    names: dict[str, Any] = {"regspec": regspec, "torch": torch, "F": F, "batches": torch.rand(20, 13, 64)}
    model = run("sparse_autoencoders", block("sparse_autoencoders", "python", "regspec.build"), {**names})["model"]
    names |= {"encoder": encoder, "decoder": decoder, "optimizer": torch.optim.Adam(parameters, lr=1e-3)}
    run("sparse_autoencoders", block("sparse_autoencoders", "python", "decoder.weight /="), names)
    trained: list[Tensor] = [*model.code_.parameters(), *model.reconstruction.parameters()]
    for ours, by_hand in zip(trained, parameters, strict=True):
        torch.testing.assert_close(ours, by_hand, rtol=1e-3, atol=1e-5)
    assert (start.code_.weight - encoder.weight).abs().max() > 1e-3


# -- from Keras to PyTorch ---------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras, when it saves
def test_from_keras_to_pytorch(tmp_path: Path) -> None:
    """The files and penalties are those shown; the outputs are Keras's, and stay so for an epoch of training."""
    made = [*script("from_keras_to_pytorch").rows((0, 1), tmp_path / "digits_resnet.keras")]
    shown = [line for line in page("from_keras_to_pytorch").splitlines() if line.startswith("| ")]
    ported, trained = made[:5], made[5:]
    for row in ported:
        what, apart = row.rsplit("|", 2)[0], numbers(row)[-1]
        assert any(line.startswith(what) for line in shown), row
        assert apart < 1e-5
    for row, limit in zip(trained, (1e-5, 1e-3), strict=True):
        _, theirs, ours, apart = numbers(row)
        assert ours == pytest.approx(theirs, abs=0.6)
        assert apart < limit


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras, when it saves
def test_the_block_that_the_page_shows(tmp_path: Path) -> None:
    example = script("from_keras_to_pytorch")
    example.residual_network().save(tmp_path / "net.keras")
    regspec.port(tmp_path / "net.keras", blocks=True, data_format="channels_first").save(tmp_path / "ported")
    spec = (tmp_path / "ported" / "spec.yaml").read_text(encoding="utf-8")
    assert block("from_keras_to_pytorch", "yaml", "blocks:") in spec


# -- many GPUs ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="torch was built without gloo")
@pytest.mark.parametrize(
    "processes", [pytest.param(1, marks=pytest.mark.everything), 2, pytest.param(4, marks=pytest.mark.everything)]
)
def test_many_gpus(processes: int, tmp_path: Path) -> None:
    """What the processes count is as on paper, and stands in the page."""
    done = as_torchrun(processes, run_script, tmp_path, SCRIPTS / "many_gpus.py")
    assert [each.code for each in done] == [0] * processes, done
    counted = done[0].stdout.splitlines()
    assert len(counted) == 7
    assert all(row in page("many_gpus").splitlines() for row in counted)


@pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="torch was built without gloo")
def test_many_gpus_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one of one process."""
    monkeypatch.chdir(tmp_path)
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", loopback)
    Path("model.yaml").write_text(CLASSIFIER, encoding="utf-8")
    names = {"regspec": regspec, "torch": torch, "criterion": F.cross_entropy, "device": "cpu"}
    names |= {"x": torch.randn(8, 1, 28, 28), "y": torch.randint(0, 10, (8,))}
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        run("many_gpus", block("many_gpus", "python", "DistributedDataParallel"), names)
    finally:
        dist.destroy_process_group()


def test_sparse_networks_of_groups() -> None:
    rules = block("sparse_networks", "yaml", "axis: output")
    layers = "[{Dense: {name: hidden1, units: 5}}, {Dense: {name: logits, units: 2}}]"
    model = regspec.build(regspec.loads(f"regspec: 1\ninputs: {{x: {{shape: [3]}}}}\nlayers: {layers}\n{rules}"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run(
        "sparse_networks",
        block("sparse_networks", "python", "group_lasso="),
        {"regspec": regspec, "model": model, "optimizer": optimizer},
    )
    assert model.regularization_loss() == 0
    assert list(model.regularization_terms()) == ["hidden1.kernel"]


def test_sparse_networks_of_units() -> None:
    """The term that the page shows is what a network is compiled to, by the rule and by the layer that it shows."""
    rule, layer = (block("sparse_networks", "yaml", part) for part in ("units: {", "coupled: true"))
    stem = "Conv2D: {name: stem, filters: 64, kernel_size: 3, padding: same, use_bias: false}"
    conv = layer.replace("kernel_size: 3", "kernel_size: 3, padding: same, use_bias: false").strip()
    by_rule = re.sub(", kernel_regularizer.*(?=})", "", conv)
    for own, rules in ((by_rule, rule), (conv, "")):
        text = f"""
regspec: 1
inputs: {{x: {{shape: [3, 5, 7]}}}}
blocks: {{residual: {{layers: [{own.removeprefix("- ")}, Add: {{inputs: [conv2, input]}}]}}}}
layers: [{stem}, BatchNormalization: {{name: norm}}, residual: {{name: stage, repeat: 2}}, Flatten, Dense: 2]
{rules}"""
        source = regspec.source(regspec.loads(text))
        assert textwrap.indent(block("sparse_networks", "python", "add_unit_terms"), " " * 8) in source


# -- penalties ---------------------------------------------------------------------------------------------------------

PENALTIES = Page("examples/penalties.md")
ANSWERS = [code for language, code in PENALTIES.blocks if language == "yaml" and code.startswith("- ")]


@pytest.fixture
def classified() -> dict[str, Any]:
    """The names that code about the README's classifier uses."""
    names: dict[str, Any] = {"regspec": regspec, "torch": torch, "F": F, "loader": [None] * 10}
    names["model"] = regspec.build(regspec.loads(CLASSIFIER))
    return names | {"images": torch.randn(8, 1, 28, 28), "labels": torch.randint(0, 10, (8,))}


def test_penalties_code(classified: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    loss, terms, schedules = (code for language, code in PENALTIES.blocks if language == "python")
    run("penalties", loss + terms, classified)
    assert classified["loss"].ndim == 0
    shown, said = PENALTIES.block("text", "conv.kernel").split(), capsys.readouterr().out.split()
    assert shown[::2] == said[::2]
    for value, example in zip(said[1::2], shown[1::2], strict=True):
        assert float(value) == pytest.approx(float(example), rel=0.5)  # of other weights and images
    run("penalties", schedules, classified)


@pytest.mark.parametrize("layers", ANSWERS)
def test_answers_are_layers(layers: str) -> None:
    spec = yaml.safe_dump({"regspec": 1, "inputs": {"x": {"shape": [5, 6]}}}) + f"layers:\n{layers}"
    model = regspec.build(regspec.loads(spec)).eval()
    model(torch.ones(2, 5, 6))
    assert all(term.isfinite() for term in model.regularization_terms().values())
    assert len(model.regularization_terms()) == layers.count("_regularizer")


def test_answer_for_all_layers() -> None:
    layers = "layers:\n  - Dense: {name: stage3_1, units: 3}\n  - Dense: {units: 3}\n"
    spec = f"regspec: 1\ninputs: {{x: {{shape: [5]}}}}\n{layers}{PENALTIES.block('yaml', 'stage[34]')}"
    model = regspec.build(regspec.loads(spec))
    model(torch.ones(2, 5))
    terms = model.regularization_terms()
    assert set(terms) == {"stage3_1.kernel", "dense.kernel"}
    # the later rule wins
    torch.testing.assert_close(terms["stage3_1.kernel"], 1e-5 * model.stage3_1.weight.abs().sum())


def forms(table: str) -> list[str]:
    """The forms in the first column of a table of the page, which has this head."""
    rows = PENALTIES.text.partition(f"| {table} |")[2].partition("\n\n")[0].splitlines()
    return [form for row in rows for form in re.findall(r"`(\{.*?\})`", row.split(" | ")[0])]


def test_every_regularizer_is_in_the_table() -> None:
    named = {form[1:].partition(":")[0] for form in forms("regularizer")}
    missing = [name for name in NAMES if name not in {*named, "l1_l2"}]
    assert not missing, f"add a row for {', '.join(missing)} to the table of examples/penalties.md"
    assert named <= {*NAMES, "my_penalty"}


def test_every_schedule_is_in_the_table() -> None:
    named = {parse_schedules(yaml.safe_load(form))[0].name for form in forms("schedule")}
    assert named == set(SCHEDULES.members)


def test_l2_is_half_of_a_weight_decay() -> None:
    """With plain SGD, ``{l2: c}`` makes the step that ``weight_decay=2 * c`` makes."""
    models = [regspec.build(regspec.loads(CLASSIFIER), seed=0) for _ in range(2)]
    by_loss = torch.optim.SGD([models[0].conv.weight], lr=0.1)
    by_decay = torch.optim.SGD([models[1].conv.weight], lr=0.1, weight_decay=2e-4)
    models[0].regularization_terms()["conv.kernel"].backward()
    models[1].conv.weight.grad = torch.zeros_like(models[1].conv.weight)
    by_loss.step()
    by_decay.step()
    torch.testing.assert_close(models[0].conv.weight, models[1].conv.weight, rtol=1e-7, atol=1e-9)


# -- routes, rules -----------------------------------------------------------------------------------------------------


def test_routes_code(classified: dict[str, Any]) -> None:
    run("routes", block("routes", "python", "regspec.bind"), classified)
    model, optimizer = classified["model"], classified["optimizer"]
    model(classified["images"])
    assert set(model.regularization_terms()) == {"conv.kernel", "hidden.kernel", "hidden.activity"}
    assert model.regularization_loss() == model.regularization_terms()["hidden.activity"]
    assert [group["weight_decay"] for group in optimizer.param_groups if group["weight_decay"]] == [2e-4]
    layers = block("routes", "yaml", "kernel_constraint")
    constrained = regspec.build(regspec.loads(f"regspec: 1\ninputs: {{x: {{shape: [5]}}}}\nlayers:\n{layers}"))
    with torch.no_grad():
        constrained.hidden.weight.fill_(3.0)
    constrained.apply_constraints()
    torch.testing.assert_close(constrained.hidden.weight.norm(dim=1), torch.full((64,), 2.0))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU()
        self.gru = nn.GRU(4, 4)
        self.fc = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.fc(self.gru(self.relu(self.conv(x)).mean((2, 3)))[0])
        return scores


def test_rules_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rules.yaml").write_text(block("rules", "yaml", "# rules.yaml"), encoding="utf-8")
    names: dict[str, Any] = {"regspec": regspec, "F": F, "resnet": ResNet(), "perceptron": nn.Linear(5, 3)}
    names |= {"images": torch.randn(8, 3, 5, 5), "labels": torch.randint(0, 10, (8,))}
    by_file, by_list = (code for language, code in Page("examples/rules.md").blocks if language == "python")
    run("rules", by_file, names)
    of_gru = {"gru.weight_ih_l0", "gru.weight_hh_l0"}
    terms = names["model"].regularization_terms()
    assert set(terms) == {"conv.weight", "fc.weight", "fc.bias", "relu.activity", *of_gru}
    names["loss"].backward()
    run("rules", by_list, names)
    assert list(names["model"].regularization_terms()) == ["weight"]


# -- language ----------------------------------------------------------------------------------------------------------

LANGUAGE = Page("examples/language.md")


def test_language_has_an_example() -> None:
    model = regspec.build(regspec.loads(LANGUAGE.block("yaml", "name: tower\nparameters")))
    outputs = model(torch.randn(2, 3, 32, 32))
    assert {name: tuple(x.shape) for name, x in outputs.items()} == {"features": (2, 8), "logits": (2, 10)}


def test_language_calls_a_layer_again() -> None:
    model = regspec.build(regspec.loads(f"regspec: 1\n{LANGUAGE.block('yaml', 'call:')}"))
    x = torch.ones(2, 4)
    assert not model(x, x).any()


def test_language_shows_a_fault() -> None:
    wrong = CLASSIFIER.replace("kernel_regularizer: {l2", "kernel_regulariser: {l2")
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.loads(wrong, "classifier.yaml")
    assert f"{caught.value}\n" == LANGUAGE.block("text", "kernel_regulariser")


# -- training, own layers ----------------------------------------------------------------------------------------------


def test_training_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was trained is used."""
    monkeypatch.chdir(tmp_path)
    head = "regspec: 1\ninputs: {x: {shape: [3]}}\n"
    Path("net.yaml").write_text(f"{head}layers: [{{Dense: {{name: price, units: 1}}}}]\n", encoding="utf-8")
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    names = run("training", block("training", "python", "load_run"), {"regspec": regspec, "x": x, "y": x.sum(1)})
    assert len(names["run"].history["held_out_loss"]) == 20


def test_training_in_scikit_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's search runs on a spec that has its parameter."""
    monkeypatch.chdir(tmp_path)
    layers = "layers:\n  - Dense: {units: $classes, kernel_regularizer: {l2: $strength}}\n"
    head = "regspec: 1\nparameters: {features: 1, classes: 2, strength: 0.1}\ninputs: {x: {shape: [$features]}}\n"
    Path("net.yaml").write_text(head + layers)
    code = block("training", "python", "GridSearchCV").replace("epochs=50", "epochs=3")
    search = run("training", code, {})["search"]
    x, y = load_iris(return_X_y=True)
    assert {"parameters", "epochs"} <= search.fit(x, y).best_estimator_[-1].get_params().keys()


def test_training_names_every_loss_and_metric() -> None:
    text = (FOLDER / "training.md").read_text(encoding="utf-8")
    told = {*re.findall(r"`(\w+)`", text[text.index("- `loss`:") : text.index("## Steps")])}
    assert {*LOSSES, *_OF_CLASSES, *_OF_QUANTITIES} <= told


@pytest.mark.usefixtures("_registry")
def test_extending_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(block("extending", "python", "register_layer"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("mine")
    spec = f"regspec: 1\ninputs: {{x: {{shape: [5]}}}}\nlayers:\n{block('extending', 'yaml', 'Scale')}"
    terms = regspec.build(regspec.loads(spec)).regularization_terms()
    torch.testing.assert_close(terms["scale.scale"], torch.tensor(0.1 * 0.5**3))


@pytest.mark.usefixtures("_registry")
def test_code_of_a_penalty_that_takes_another_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import regspec\nfrom torch import Tensor\n" + block("extending", "python", "weighted_l1")
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("mine")
    layers = block("extending", "yaml", "weighted_l1")
    model: Any = regspec.build(f"regspec: 1\ninputs: {{x: {{shape: [64]}}}}\n{layers}")
    x = torch.randn(3, 64)
    model(x)
    assert model.decoder.weight.shape == (64, 512)
    wanted = 1e-3 * (model.codes(x).relu() @ model.decoder.weight.norm(dim=0)).sum() / 3
    torch.testing.assert_close(model.regularization_terms(), {"codes.activity": wanted})


# -- what of Keras is ported -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Verification]:
    """The folder in which the page's code saves the port of the example, and how that compares with Keras."""
    folder = tmp_path_factory.mktemp("keras")
    shutil.copy(FOLDER / "keras_mlp.keras", folder / "model.keras")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        names = run("keras", block("keras", "python", "regspec.port"), {"regspec": regspec})
    assert set(names["model"].regularization_terms()) == {"hidden.kernel", "logits.bias"}
    return folder, names["verification"]


def test_keras_code(ported: tuple[Path, Verification]) -> None:
    folder, verification = ported
    assert verification.passed
    assert {path.name for path in (folder / "ported").iterdir()} == {
        "spec.yaml", "model.py", "weights.safetensors", "report.md", "training.yaml",
    }  # fmt: skip


def test_from_keras_to_pytorch_shows_what_is_verified(ported: tuple[Path, Verification]) -> None:
    _, verification = ported
    shown = block("from_keras_to_pytorch", "text", "passed:")
    rows = [re.match(r" (\S.*?) {2,}(\d+) ", line) for line in shown.splitlines()]
    assert [(row[1], int(row[2])) for row in rows if row] == [(each.what, each.count) for each in verification.rows()]
    assert all(f"not compared: {what}" in shown for what in verification.left_out)
    assert verification.verdict.partition("is ")[0] in shown


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras, when it saves
def test_from_keras_to_pytorch_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training file is the port's, and it trains, by the file and from Python."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(FOLDER)
    regspec.port("examples/keras_mlp.keras").save("ported")
    written = Path("ported/training.yaml").read_text(encoding="utf-8")
    assert block("from_keras_to_pytorch", "yaml", "regspec: 1") == written
    code = block("from_keras_to_pytorch", "python", "port.training")
    trained = run("from_keras_to_pytorch", code, {"regspec": regspec})["run"]
    assert len(trained.history["held_out_accuracy"]) == 5
    features, targets = torch.rand(5, 13), torch.zeros(5, dtype=torch.int64)
    names = {"features": features, "targets": targets, "criterion": nn.CrossEntropyLoss()}
    run("from_keras_to_pytorch", block("from_keras_to_pytorch", "python", "load_file"), names)


def test_every_model_of_keras_applications_is_in_the_list() -> None:
    rows = re.findall(r"^\| (\w+) \| [\d,]+ \|", Page("examples/keras.md").text, re.MULTILINE)
    keras = importlib.import_module("keras")
    assert rows == sorted(name for name in dir(keras.applications) if name[0].isupper())
