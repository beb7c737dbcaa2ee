"""The README: what it shows is what happens."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml
from torch.nn import functional as F

import regspec
from regspec.language.regularizers import REGULARIZERS
from regspec.language.schedules import SCHEDULES, parse_schedules
from regspec.training.run import Options, train

from .readme import PATH, updated

TEXT = PATH.read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
CLASSIFIER, TOWER = (text for language, text in BLOCKS if language == "yaml" and "inputs:" in text)


def block(language: str, part: str) -> str:
    """The one block of a language that holds ``part``."""
    (found,) = (text for each, text in BLOCKS if each == language and part in text)
    return found


@pytest.fixture
def classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("classifier.yaml").write_text(CLASSIFIER, encoding="utf-8")
    return Path("classifier.yaml")


def test_kinds_are_up_to_date() -> None:
    assert updated(TEXT) == TEXT, "run: python -m tests.readme"


def test_compiled_source(classifier: Path) -> None:
    assert regspec.source(classifier) == block("python", "compiled by regspec")


def test_loss_line_and_terms(classifier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = block("python", 'build("classifier.yaml")') + block("python", "regularization_terms()")
    images, labels = torch.randn(8, 1, 28, 28), torch.randint(0, 10, (8,))
    names = {"regspec": regspec, "F": F, "images": images, "labels": labels}
    exec(code, names)
    assert names["loss"].ndim == 0
    shown, said = block("text", "conv.kernel").split(), capsys.readouterr().out.split()
    assert shown[::2] == said[::2]
    for value, example in zip(said[1::2], shown[1::2], strict=True):
        assert float(value) == pytest.approx(float(example), rel=0.5)  # of other weights and images


def test_fault(classifier: Path) -> None:
    classifier.write_text(CLASSIFIER.replace("kernel_regularizer: {l2", "kernel_regulariser: {l2"), encoding="utf-8")
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.load(classifier)
    assert f"{caught.value}\n" == block("text", "kernel_regulariser")


def test_language_has_an_example() -> None:
    model = regspec.build(regspec.loads(TOWER))
    outputs = model(torch.randn(2, 3, 32, 32))
    assert {name: tuple(x.shape) for name, x in outputs.items()} == {"features": (2, 8), "logits": (2, 10)}


LAYERS = [text for language, text in BLOCKS if language == "yaml" and text.startswith("- ")]


@pytest.mark.parametrize("layer", LAYERS)
def test_answers_are_layers(layer: str) -> None:
    spec = yaml.safe_dump({"regspec": 1, "inputs": {"x": {"shape": [5, 6]}}}) + f"layers:\n{layer}"
    assert regspec.build(regspec.loads(spec)).regularization_terms() is not None


def test_answer_for_all_layers() -> None:
    layers = "layers:\n  - Dense: {name: stage3_1, units: 3}\n  - Dense: {units: 3}\n"
    rules = block("yaml", "stage[34]")
    spec = f"regspec: 1\ninputs: {{x: {{shape: [5]}}}}\n{layers}{rules}"
    assert set(regspec.build(regspec.loads(spec)).regularization_terms()) == {"stage3_1.kernel", "dense.kernel"}


def test_rules_and_routes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class ResNet(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3)
            self.relu = torch.nn.ReLU()
            self.gru = torch.nn.GRU(4, 4)
            self.fc = torch.nn.Linear(4, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.gru(self.relu(self.conv(x)).mean((2, 3)))[0])

    monkeypatch.chdir(tmp_path)
    Path("rules.yaml").write_text(block("yaml", "# rules.yaml"), encoding="utf-8")
    names = {"regspec": regspec, "F": F, "torch": torch, "resnet": ResNet()}
    names |= {"images": torch.randn(8, 3, 5, 5), "labels": torch.randint(0, 10, (8,))}
    exec(block("python", "regspec.regularize(") + block("python", "momentum=0.9"), names)
    model, optimizer = names["model"], names["optimizer"]
    of_gru = {"gru.weight_ih_l0", "gru.weight_hh_l0"}
    assert set(model.regularization_terms()) == {"conv.weight", "fc.weight", "fc.bias", "relu.activity", *of_gru}
    names["loss"].backward()
    optimizer.step()


def test_a_trained_model_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = train(PATH.parent / "examples" / "digits_cnn.yaml", Options(epochs=1))
    names = {"regspec": regspec, "safetensors": safetensors}
    exec(block("python", "load_state_dict"), names)
    torch.testing.assert_close(names["model"].state_dict(), run.model.state_dict(), rtol=0, atol=0)


@pytest.mark.usefixtures("_registry")
def test_own_layers_and_regularizers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(block("python", "register_layer"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    (layer,) = re.findall(r"`(- Scale: .*?)`", TEXT)
    importlib.import_module("mine")
    spec = f"regspec: 1\ninputs: {{x: {{shape: [5]}}}}\nlayers:\n  {layer}\n"
    terms = regspec.build(regspec.loads(spec)).regularization_terms()
    torch.testing.assert_close(terms["scale.scale"], torch.tensor(0.1 * 0.5**3))


def test_every_regularizer_is_in_the_table() -> None:
    named = set(re.findall(r"[`,] ?\{(\w+):", _rows(before="| schedule |")))
    assert named == set(REGULARIZERS.members) - {"l1_l2"} | {"my_penalty"}


def test_every_schedule_is_in_the_table() -> None:
    forms = re.findall(r"`(\{.*?\})`", _rows(before="## A module").partition("| schedule |")[2])
    named = set()
    for form in forms:
        (schedule,) = parse_schedules(yaml.safe_load(form))
        named.add(schedule.name)
    assert named == set(SCHEDULES.members)


def _rows(before: str) -> str:
    """The README's rows of forms, up to some text."""
    lines = TEXT.partition(before)[0].splitlines()
    return "".join(line for line in lines if line.startswith(("| `{", "| schedule |")))


@pytest.mark.parametrize("command", ["check", "show", "compile", "train", "port", "rules", "schema"])
def test_every_command_is_in_the_table(command: str) -> None:
    assert f"| `regspec {command}" in TEXT


def test_l2_is_half_of_a_weight_decay(classifier: Path) -> None:
    """With plain SGD, ``{l2: c}`` makes the step that ``weight_decay=2 * c`` makes."""
    models = [regspec.build(classifier, seed=0) for _ in range(2)]
    by_loss = torch.optim.SGD([models[0].conv.weight], lr=0.1)
    by_decay = torch.optim.SGD([models[1].conv.weight], lr=0.1, weight_decay=2e-4)
    models[0].regularization_terms()["conv.kernel"].backward()
    models[1].conv.weight.grad = torch.zeros_like(models[1].conv.weight)
    by_loss.step()
    by_decay.step()
    torch.testing.assert_close(models[0].conv.weight, models[1].conv.weight, rtol=1e-7, atol=1e-9)
