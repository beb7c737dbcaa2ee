"""Weights that a training begins with: of a run, a port and a file; a new head; what does not fit, by its name."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

import regspec
from regspec.graph.loading import graph_of
from regspec.training.loop.run import Run, resume, train
from regspec.training.options.options import Options

from .commands import ROOT

NET = """\
regspec: 1
name: net
inputs: {x: {shape: [13]}}
layers:
  - BatchNormalization: {name: norm}
  - Dense: {name: hidden, units: 6, activation: relu, kernel_regularizer: {l2: 1e-2}}
  - Dense: {name: scores, units: 3}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(folder: str, spec: str = NET, console: Console | None = None, on_epoch: Any = None, **options: Any) -> Run:
    Path("net.yaml").write_text(spec)
    made = Options(**{"data": "wine", "epochs": 1, "lr": 0.0, **options})
    quiet = Console(file=io.StringIO(), width=200)
    return train(Path("net.yaml"), made, Path(folder), console=console or quiet, on_epoch=on_epoch)


def weights(folder: str, name: str = "weights") -> dict[str, torch.Tensor]:
    return load_file(Path(folder, f"{name}.safetensors"))


def test_of_a_run_and_of_a_file() -> None:
    """From where the other one ended: without a step, the weights are the same."""
    run("first", lr=0.05, epochs=3, seed=5)
    first = weights("first")
    for number, source in enumerate(["first", "first/weights.safetensors"]):
        out = io.StringIO()
        run(f"run{number}", weights=source, console=Console(file=out, width=200))
        assert f"weights of {source}: {len(first)} tensors\n" in out.getvalue()
        begun = weights(f"run{number}", "initial")
        assert begun.keys() == first.keys()
        assert all(torch.equal(begun[name], first[name]) for name in first)


def test_of_a_port() -> None:
    regspec.port(ROOT / "examples" / "keras_mlp.keras").save(Path("ported"))
    graph = graph_of(regspec.load("ported/spec.yaml"))
    shapes = [each.spec_shape[1:] for each in (*graph.inputs, *graph.outputs)]
    np.savez("given.npz", x=np.ones((20, *shapes[0])), y=np.ones((20, *shapes[1])) / 2)
    options = Options(data="given.npz", outputs=(f"{graph.outputs[0].source}.loss=mse",), weights="ported", lr=0.0)
    train(Path("ported/spec.yaml"), options, Path("run"), console=Console(file=io.StringIO()))
    ported = weights("ported")
    for begun in (weights("run", "initial"), weights("run")):
        assert all(torch.equal(begun[name], ported[name]) for name in ported)


def test_a_new_head() -> None:
    """Its tensors are those of a model that begins anew, and the others those of the file."""
    run("first", lr=0.05, seed=5)
    first = weights("first")
    out = io.StringIO()
    more = NET.replace("scores, units: 3", "scores, units: 4")
    np.savez("four.npz", x=np.ones((20, 13)), y=np.arange(20) % 4)
    run(
        "second",
        more,
        data="four.npz",
        weights="first",
        weights_skip=r"scores\..*",
        seed=2,
        console=Console(file=out, width=200),
    )
    assert "weights of first: 7 tensors; scores.weight, scores.bias anew\n" in out.getvalue()
    begun, anew = weights("second", "initial"), regspec.build("net.yaml", seed=2).state_dict()
    for name, each in begun.items():
        assert torch.equal(each, anew[name] if name.startswith("scores") else first[name])


def test_a_resumed_run_needs_no_other() -> None:
    """Neither after an epoch nor before the first one has ended; nor does a twin."""

    class StopError(Exception):
        pass

    def stop(epoch: int, metrics: object) -> None:
        raise StopError

    run("first", seed=5)
    options: dict[str, Any] = {"weights": "first", "lr": 0.05, "epochs": 2, "baseline": True}
    run("whole", **options)
    for name in ("stopped", "later"):
        with pytest.raises(StopError):
            run(name, on_epoch=stop, **options)
    Path("stopped/checkpoint.ckpt").unlink(missing_ok=True)
    Path("first/weights.safetensors").unlink()
    for name in ("stopped", "later"):
        resume(Path(name), {}, console=Console(file=io.StringIO()))
        for folder in ("", "/baseline"):
            states = [weights(f"{each}{folder}") for each in ("whole", name)]
            assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"scores.weight": torch.ones(4, 6), "scores.bias": torch.ones(4)},
            r"first: error: has tensors of other shapes: scores.weight \(4, 6\), and not \(3, 6\), "
            r"scores.bias \(4\), and not \(3\)\n   = --weights-skip 'scores\\..\*' leaves them",
        ),
        (
            {"hidden.bias": None, "norm.bias": None},
            r"first: error: has no norm.bias, hidden.bias, which the model has\n",
        ),
        ({"more.weight": torch.ones(3)}, r"first: error: has more.weight, which the model does not have\n"),
    ],
)
def test_what_does_not_fit(change: dict[str, torch.Tensor | None], message: str) -> None:
    """The way out that is named is one."""
    run("first")
    state = {name: each for name, each in {**weights("first"), **change}.items() if each is not None}
    save_file(state, "first.safetensors")
    with pytest.raises(regspec.RegspecError) as caught:
        run("second", weights="first.safetensors")
    assert re.search(message.replace("first:", "first.safetensors:"), str(caught.value)), str(caught.value)
    assert not Path("second").exists()
    skip = re.search("--weights-skip '(.*)'", str(caught.value))
    assert skip is not None
    run("second", weights="first.safetensors", weights_skip=skip[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "absent"}, "absent: error: can't be read"),
        ({"weights": "net.yaml"}, "net.yaml: error: can't be read as safetensors"),
        ({"weights": "a.keras"}, "a.keras: error: is a file of Keras\n   = regspec port"),
        ({"weights": "a.pt"}, "a.pt: error: may run code when it is read"),
        ({"weights": "a", "weights_skip": "("}, r"'\(' is no regular expression"),
        ({"weights_skip": "a"}, "weights_skip is for --weights"),
    ],
)
def test_what_is_no_start(options: dict[str, Any], message: str) -> None:
    with pytest.raises(regspec.RegspecError, match=message):
        run("run", **options)
    assert not Path("run").exists()


def test_numbers_that_are_loaded() -> None:
    """A normalization without numbers takes them from the file, and is a fault where it is skipped."""
    spec = NET.replace("BatchNormalization: {", "Normalization: {mean: loaded, variance: loaded, ")
    Path("net.yaml").write_text(spec)
    state = regspec.build("net.yaml").state_dict()
    numbers = {name: torch.full_like(each, 2) for name, each in state.items() if name.startswith("norm.")}
    save_file({**state, **numbers}, "given.safetensors")
    run("run", spec, weights="given.safetensors")
    assert all(torch.equal(weights("run")[name], each) for name, each in numbers.items())
    for options in ({}, {"weights": "given.safetensors", "weights_skip": "norm.*"}):
        with pytest.raises(regspec.RegspecError, match="are loaded, but a training begins without weights"):
            run("again", spec, **options)
