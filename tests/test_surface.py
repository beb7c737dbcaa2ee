"""The public surface: each name is there, says what it does by an example, and takes a spec in all its forms."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import regspec

TEXT = """\
regspec: 1
name: net
parameters: {width: 3}
inputs: {x: {shape: [4]}}
layers:
  - Dense: {name: hidden, units: $width, kernel_regularizer: {l2: 1e-4}}
"""
RULES = "regspec: 1\nrules:\n  - {types: [Linear], kernel_regularizer: {l1: 1e-5}}\n"


def forms(text: str, folder: Path) -> dict[str, Any]:
    """A document in every form in which it may be given; as plain data it need not say its version."""
    (folder / "given.yaml").write_text(text)
    data = yaml.safe_load(text)  # in which 1e-4 is a text
    del data["regspec"]
    return {"path": folder / "given.yaml", "path as text": str(folder / "given.yaml"), "text": text, "mapping": data}


def specs(folder: Path) -> dict[str, Any]:
    return {**forms(TEXT, folder), "spec": regspec.loads(TEXT)}


FORMS = ("path", "path as text", "text", "mapping", "spec")


@pytest.mark.parametrize("name", regspec.__all__)
def test_a_public_name_has_an_example(name: str) -> None:
    assert ">>> " in (inspect.getdoc(getattr(regspec, name)) or "")


def test_dir_is_the_table_of_contents() -> None:
    assert {*regspec.__all__} <= {*dir(regspec)}
    with pytest.raises(AttributeError, match="biuld"):
        regspec.biuld  # noqa: B018  # the attribute is asked for


@pytest.mark.parametrize("form", FORMS)
def test_load_takes_every_form(form: str, tmp_path: Path) -> None:
    spec = regspec.load(specs(tmp_path)[form], parameters={"width": 5})
    assert spec.parameters == {"width": 5}
    assert spec.layers[0].layer.units == 5
    assert regspec.load(specs(tmp_path)[form]).layers[0].layer.units == 3


@pytest.mark.parametrize("form", FORMS)
def test_source_takes_every_form(form: str, tmp_path: Path) -> None:
    assert "nn.Linear(4, 5)" in regspec.source(specs(tmp_path)[form], parameters={"width": 5})
    assert "L2(0.0001)" in regspec.source(specs(tmp_path)[form])


@pytest.mark.parametrize("form", FORMS)
def test_build_takes_every_form(form: str, tmp_path: Path) -> None:
    model = regspec.build(specs(tmp_path)[form], parameters={"width": 5}, seed=0)
    assert model.hidden.weight.shape == (5, 4)
    torch.testing.assert_close(model.regularization_loss(), 1e-4 * model.hidden.weight.square().sum())


def test_parameters_of_a_spec_stay_as_they_were_given() -> None:
    spec = regspec.loads(TEXT.replace("width: 3", "width: 3, other: 1"), parameters={"other": 2})
    assert regspec.load(spec, parameters={"width": 5}).parameters == {"width": 5, "other": 2}
    assert regspec.load(spec) is spec


@pytest.mark.parametrize("form", ["path", "path as text", "text", "mapping", "list"])
def test_regularize_takes_every_form(form: str, tmp_path: Path) -> None:
    given = forms(RULES, tmp_path)
    model = regspec.regularize(nn.Linear(4, 3), {**given, "list": given["mapping"]["rules"]}[form])
    assert regspec.strengths(model) == {"weight.l1": 1e-5}


def test_rules_take_classes() -> None:
    model = regspec.regularize(nn.Sequential(nn.Linear(4, 3)), [{"types": [nn.Linear], "bias_regularizer": "l2"}])
    assert list(model.regularization_terms()) == ["0.bias"]


@pytest.mark.parametrize("number", ["1e-4", 1e-4, np.float64(1e-4), np.array(1e-4)], ids=repr)
def test_numbers_mean_numbers(number: Any) -> None:
    layer = {"Dense": {"units": np.int64(3), "kernel_regularizer": {"l2": number}}}
    model = regspec.build({"inputs": {"x": {"shape": (4,)}}, "layers": (layer,)})
    assert regspec.strengths(model) == {"dense.kernel.l2": 1e-4}


@pytest.mark.parametrize("text", ["1e3 ways", "1e3_", "v1e3", "1e-4-5e-4"])
def test_texts_that_hold_numbers_stay_texts(text: str) -> None:
    spec = {"inputs": {"x": {"shape": [4]}}, "parameters": {"note": text}, "layers": ["Flatten"]}
    assert regspec.load(spec).parameters == {"note": text}


def test_a_fault_of_a_mapping_has_its_place() -> None:
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.build({"inputs": {"x": {"shape": [4]}}, "layers": [{"Dense": {"unit": 3}}]})
    (problem,) = caught.value.problems
    assert (problem.path, problem.what, problem.hint) == (
        "<mapping>",
        "Dense has no field 'unit'",
        "did you mean 'units'?",
    )
    assert problem.text.strip() == '"unit": 3'


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"layers": [object()]}, "is no plain data: Object of type object is not JSON serializable"),
        ({"layers": []}, "the spec needs 'inputs'"),
        ("regspec: 1\nlayers: []\n", "the spec needs 'inputs'"),
        ("no_such_file.yaml", "can't be read: No such file or directory"),
    ],
)
def test_what_can_not_be_taken(given: Any, what: str) -> None:
    for take in (regspec.load, regspec.build, regspec.source):
        with pytest.raises(regspec.RegspecError) as caught:
            take(given)
        assert what in [problem.what for problem in caught.value.problems]
