"""The property: what Keras saves of a random model is ported to a module that computes, costs and learns the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jsonschema
import keras
import numpy as np
import torch
from torch import Tensor

import regspec
from regspec.text import document
from regspec.views.formatting import formatted
from regspec.views.schema import spec_schema

from .cases import BATCHES, Case

TOLERANCE = 2e-4  # relative to the largest number of an output


@dataclass(frozen=True)
class Files:
    """A model in files of Keras, in one of its forms."""

    path: Path
    weights: Path | None = None

    @classmethod
    def save(cls, model: keras.Model, folder: Path, form: str) -> Files:
        if form != "json":
            model.save(folder / f"model.{form}")
            return cls(folder / f"model.{form}")
        (folder / "model.json").write_text(model.to_json(), encoding="utf-8")
        model.save_weights(folder / "model.weights.h5")
        return cls(folder / "model.json", folder / "model.weights.h5")

    def load(self) -> keras.Model:
        if self.weights is None:
            model: keras.Model = keras.saving.load_model(self.path, compile=False)
            return model
        model = keras.models.model_from_json(self.path.read_text(encoding="utf-8"))
        model.load_weights(self.weights)
        return model

    def port(self) -> regspec.keras.porting.porting.Port:
        return regspec.port(self.path, weights=self.weights, activity_reduction="mean")


def form_of(seed: int) -> str:
    """The form in which the model of a seed is saved."""
    return "json" if seed % 7 == 3 else "h5" if seed % 7 == 5 else "keras"


def check(case: Case, folder: Path, form: str | None = None) -> None:
    """Raises `AssertionError` where the port of a case differs; saved in a form, or in that of its seed."""
    form = form or form_of(case.seed)
    files = Files.save(case.model, folder, form)
    try:
        model = files.load()
    except (ValueError, TypeError):
        model = None
    if model is None or form == "h5":  # in which Keras 3 loses arguments of operations, and axes of normalizations
        assert form == "h5"
        model = case.model
    case = replace(case, model=model)
    port = files.port()
    check_text(port, files)
    check_sizes(model, port)
    ported = port.build()
    for training in (False,) if case.is_random or case.is_ordered else (False, True, False):
        ported.train(training)
        for batch, length in BATCHES[training:]:
            check_run(case, ported, case.inputs(batch, length), training)
    check_step(case, ported, folder, form)


SCHEMA = jsonschema.Draft202012Validator(spec_schema())


def check_text(port: Any, files: Files) -> None:
    """The spec's text says all of it, and is the same each time; the schema takes it, and the formatter keeps it."""
    assert regspec.source(regspec.loads(port.text)) == regspec.source(port.spec)
    read = document.parse(port.text)
    assert [error.message for error in SCHEMA.iter_errors(read.data)] == []
    assert regspec.loads(formatted(read)) == regspec.loads(port.text)
    assert files.port().text == port.text


def check_sizes(model: keras.Model, port: Any) -> None:
    counted = [each for each in model.weights if "seed" not in each.path and each.name != "count"]
    assert sum(each.size for each in port.weights.values()) == sum(int(np.prod(each.shape)) for each in counted)


def check_run(case: Case, ported: Any, arrays: list[np.ndarray], training: bool) -> None:
    """Outputs and penalties of one call."""
    before = [each.numpy().copy() for each in case.model.variables]
    wanted = run(case, arrays, training)
    got = [*flat(ported(*in_order(case, arrays))), regspec.regularization_loss(ported)]
    assert [tuple(x.shape) for x in got] == [tuple(x.shape) for x in wanted]
    least = [0.0] * len(wanted)
    if any(_off(a, b) > _bound(b) for a, b in zip(got, wanted, strict=True)):
        least = rounding(case, arrays, training, before)
    for index, (a, b, bound) in enumerate(zip(got, wanted, least, strict=True)):
        what = f"output {index}" if index + 1 < len(got) else "penalty"
        close(a, b, f"{what}, batch {len(arrays[0])}, training={training}", least=bound)


def run(case: Case, arrays: list[np.ndarray], training: bool) -> list[Tensor]:
    """Keras's outputs and penalty."""
    outputs = flat(case.model(case.structured([torch.as_tensor(each) for each in arrays]), training=training))
    return [*outputs, sum(case.model.losses, torch.zeros(()))]


def rounding(case: Case, arrays: list[np.ndarray], training: bool, weights: list[np.ndarray]) -> list[float]:
    """How far Keras's outputs move where its weights do by their rounding: far, where a variance is small."""
    after = [each.numpy().copy() for each in case.model.variables]
    runs = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        for variable, value in zip(case.model.variables, weights, strict=True):
            moved = value * (1 + 3e-7 * rng.choice([-1, 1], value.shape)) if value.dtype == "float32" else value
            variable.assign(moved.astype(value.dtype))
        runs.append(run(case, arrays, training))
    for variable, value in zip(case.model.variables, after, strict=True):
        variable.assign(value)
    return [10 * max(_off(each, first) for each in others) for first, *others in zip(*runs, strict=True)]


def check_step(case: Case, ported: Any, folder: Path, form: str) -> None:
    """The gradient of each weight: Keras's, stored as weights and ported, are those of the port."""
    model = case.model
    ported.eval()
    arrays = [torch.as_tensor(each) for each in case.inputs(3, 7)]
    # of the inputs too: without them torch 2.13 crashes in the backward of a GroupNorm in channels_last
    arrays = [each.requires_grad_() if each.is_floating_point() else each for each in arrays]
    wanted = flat(model(case.structured(arrays), training=False))
    got = flat(ported(*in_order(case, arrays)))
    objectives = [
        loss + sum(x.square().mean() for x in outputs if x.is_floating_point())
        for outputs, loss in ((got, regspec.regularization_loss(ported)), (wanted, sum(model.losses, torch.zeros(()))))
    ]
    if not objectives[1].requires_grad:
        assert not objectives[0].requires_grad
        return
    variables = model.trainable_variables
    ported.zero_grad()
    objectives[0].backward()
    floating = [x for x in arrays if x.requires_grad]
    of_inputs = [torch.zeros_like(x) if x.grad is None else x.grad for x in floating]
    targets = [*(each.value for each in variables), *floating]
    gradients = torch.autograd.grad(objectives[1], targets, allow_unused=True)
    for gradient, own in zip(gradients[len(variables) :], of_inputs, strict=True):
        close(own, torch.zeros_like(own) if gradient is None else gradient, "gradient of an input", 1e-3)
    weights = [each.numpy().copy() for each in model.variables]
    for variable in model.variables:
        variable.assign(np.zeros(variable.shape))
    for variable, gradient in zip(variables, gradients, strict=False):
        if gradient is not None:
            variable.assign(gradient)
    expected = Files.save(model, folder, form).port().weights
    # what is zero by its formula, as that of an attention's key bias, is as large as the rounding of its summands
    largest = 1e-5 * max(gradient.abs().max().item() for gradient in gradients if gradient is not None)
    trained = {name: parameter for name, parameter in ported.named_parameters() if parameter.requires_grad}
    for name, parameter in trained.items():
        assert name in expected, f"{name} is trained here, and is no weight in Keras"
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        close(gradient, torch.as_tensor(expected[name].copy()), f"gradient of {name}", 1e-3, largest)
    assert sum(each.numel() for each in trained.values()) == sum(int(np.prod(each.shape)) for each in variables)
    check_constraints(model, weights, trained, ported, folder, form)


def check_constraints(
    model: keras.Model, weights: list[np.ndarray], trained: dict[str, Any], ported: Any, folder: Path, form: str
) -> None:
    """What constraints make of the weights."""
    for variable, value in zip(model.variables, weights, strict=True):
        variable.assign(value)
    constrained = [each for each in model.trainable_variables if each.constraint is not None]
    if not constrained:
        return
    for variable in constrained:
        variable.assign(variable.constraint(variable))
    ported.apply_constraints()
    expected = Files.save(model, folder, form).port().weights
    for name, parameter in trained.items():
        close(parameter, torch.as_tensor(expected[name].copy()), f"{name}, constrained")


def close(got: Tensor, wanted: Tensor, what: str, tolerance: float = TOLERANCE, least: float = 0.0) -> None:
    """Raises where tensors differ by more than a share of the largest number, and by more than ``least``."""
    off, bound = _off(got, wanted), max(_bound(wanted, tolerance), least)
    # a gradient of Keras's that is no number, as of the norm of zero, is none to compare with
    assert off <= bound or wanted.isnan().any(), f"{what}: off by {off:.3g}, of {wanted.abs().max().item():.3g}"


def _off(got: Tensor, wanted: Tensor) -> float:
    return (got.detach().double() - wanted.detach().double()).abs().max().item() if wanted.numel() else 0.0


def _bound(wanted: Tensor, tolerance: float = TOLERANCE) -> float:
    return tolerance * max(wanted.detach().abs().max().item() if wanted.numel() else 0.0, 1e-2)


def in_order(case: Case, arrays: list[Any]) -> Iterator[Tensor]:
    """The inputs in the order in which the file lists them."""
    if isinstance(case.model, keras.Sequential):
        yield from (torch.as_tensor(each) for each in arrays)
        return
    inputs = case.model.inputs
    by_name = {tensor._keras_history.operation.name: each for tensor, each in zip(inputs, arrays, strict=True)}
    listed = case.model.get_config()["input_layers"]
    for name, *_ in listed.values() if isinstance(listed, dict) else [listed] if isinstance(listed[0], str) else listed:
        yield torch.as_tensor(by_name[name])


def flat(output: Any) -> list[Tensor]:
    """The tensors of a structure, in the order in which it has them."""
    return list(keras.tree.flatten(output))
