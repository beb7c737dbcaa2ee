"""Rules of a training: learning rates, weight decay and what is trained, by plain torch's parameter groups."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import nn
from torch.optim import lr_scheduler as S

import regspec
from regspec.graph.loading import graph_of
from regspec.training.loop.groups import groups_of
from regspec.training.loop.module import bound_optimizer
from regspec.training.loop.run import resume, train
from regspec.training.options.file import Places
from regspec.training.options.options import Options

from . import own
from .commands import command
from .test_training_steps import StopError, assert_same, batches, loss_of, run_of, stop

NET = """\
regspec: 1
name: net
inputs: {x: {shape: [13]}}
blocks:
  encoder:
    layers:
      - Dense: {name: first, units: 9, activation: tanh}
      - BatchNormalization: {name: norm}
      - Dense: {name: last, units: 6, kernel_regularizer: {l2: 1e-2}}
layers:
  - LayerNormalization: {name: scaled, center: false, scale: false}
  - encoder: {name: encoder, repeat: 2}
  - Dense: {name: hidden, units: 7, activation: tanh, kernel_regularizer: {l2: 1e-2}}
  - Dense: {name: scores, units: 3}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "net.yaml"
    path.write_text(NET)
    return path


# -- which weights -----------------------------------------------------------------------------------------------------

ENCODER = ("first.weight", "first.bias", "norm.weight", "norm.bias", "last.weight", "last.bias")
FIRST, SECOND = ([f"encoder.{index}.{each}" for each in ENCODER] for index in (0, 1))
HIDDEN, SCORES = ["hidden.weight", "hidden.bias"], ["scores.weight", "scores.bias"]
ALL = [*FIRST, *SECOND, *HIDDEN, *SCORES]
BIASES = [each for each in ALL if each.endswith("bias") and "norm" not in each]
NORMS = [each for each in ALL if ".norm." in each]

# Rules, and what they say, by the names of parameters.
SELECTED: dict[tuple[str, ...], dict[str, list[str]]] = {
    ("lr=0.1",): {"lr 0.1": ALL},
    (r"layers=encoder_1\..* lr=0.1",): {"lr 0.1": FIRST},
    (r"layers=encoder_[12]\.first lr=0.1",): {"lr 0.1": [each for each in ALL if ".first." in each]},
    (r"except=encoder_\d\..* lr=0.1",): {"lr 0.1": [*HIDDEN, *SCORES]},
    ("kinds=BatchNormalization weight_decay=0",): {"weight_decay 0.0": NORMS},
    ("kinds=[Dense, BatchNormalization] except=hidden|scores lr=1",): {"lr 1.0": [*FIRST, *SECOND]},
    ("slots=bias lr=0",): {"lr 0.0": BIASES},
    ("slots=[gamma, beta, bias] weight_decay=0",): {"weight_decay 0.0": [*BIASES, *NORMS]},
    ("layers=scores trainable=true", "trainable=false"): {
        "trainable True": SCORES, "trainable False": [each for each in ALL if each not in SCORES],
    },
    # of each setting the first that says it
    ("layers=hidden lr=0.5", "slots=bias weight_decay=0 lr=0.1", "lr=0.2"): {
        "lr 0.5": HIDDEN,
        "lr 0.1": [each for each in BIASES if each not in HIDDEN],
        "lr 0.2": [each for each in ALL if each not in (*BIASES, *HIDDEN)],
        "weight_decay 0.0": BIASES,
    },
}  # fmt: skip


@pytest.mark.parametrize("rules", SELECTED, ids=" & ".join)
def test_what_rules_select(rules: tuple[str, ...], spec: Path) -> None:
    groups = groups_of(Options(rules=rules), graph_of(spec), Places())
    found: dict[str, list[str]] = {}
    for name in ALL:
        for key, value in groups.of(name).items():
            found.setdefault(f"{key} {value}", []).append(name)
    assert found == {each: sorted(names, key=ALL.index) for each, names in SELECTED[rules].items()}
    assert {name for name, _ in regspec.build(spec).named_parameters()} == {*ALL}


@pytest.mark.usefixtures("_registry")
def test_a_module_of_one_s_own_is_selected_whole(spec: Path) -> None:
    """Which weights it has is not known of its layer."""
    regspec.register_layer(own.Gate)
    spec.write_text(
        NET.replace("\n  - Dense: {name: scores", "\n  - Gate: {name: own, features: 7}\n  - Dense: {name: scores")
    )
    run = run_of(spec, rules=("layers=own trainable=false", "slots=kernel lr=0.1"))
    before, after = load_file(run.folder / "initial.safetensors"), weights(run)
    assert [name for name in before if torch.equal(before[name], after[name])] == ["own.gate"]


# -- what they do ------------------------------------------------------------------------------------------------------

RULES = (r"layers=encoder_1\..* lr=0.01", "slots=[bias, gamma, beta] weight_decay=0", "layers=scores lr=0.4")


def by_hand(model: nn.Module, lr: float, decay: float) -> list[dict[str, Any]]:
    """The same groups as `RULES` makes, written out."""
    made: list[dict[str, Any]] = []
    for name, parameter in model.named_parameters():
        rate = 0.01 if name.startswith("encoder.0.") else 0.4 if name.startswith("scores") else lr
        own = decay if name.endswith("weight") and ".norm." not in name else 0.0
        made.append({"params": [parameter], "lr": rate, "weight_decay": own})
    return made


OPTIMIZERS: dict[str, Any] = {
    "sgd momentum=0.9 weight_decay=0.1": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
    "adamw weight_decay=0.1": lambda groups: torch.optim.AdamW(groups, lr=0.1),
}
STEPS = 3 * 5
SCHEDULES: dict[str | None, Any] = {
    None: None,
    "step step_size=1 gamma=0.5": lambda optimizer: S.StepLR(optimizer, 1, 0.5),
    "cosine": lambda optimizer: S.CosineAnnealingLR(optimizer, STEPS),
    "one_cycle": lambda optimizer: S.OneCycleLR(
        optimizer, [group["lr"] for group in optimizer.param_groups], total_steps=STEPS
    ),
    "cyclic max_lr=0.9 step_size_up=3": lambda optimizer: S.CyclicLR(
        optimizer, [group["lr"] for group in optimizer.param_groups],
        [group["lr"] * 9 for group in optimizer.param_groups], 3, cycle_momentum="momentum" in optimizer.defaults,
    ),
}  # fmt: skip


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_groups_are_torch_s(optimizer: str, schedule: str | None, spec: Path) -> None:
    """And a schedule scales the rate of each."""
    if schedule is not None and schedule.startswith("cyclic") and optimizer.startswith("adamw"):
        schedule += " cycle_momentum=false"
    model = regspec.build(spec, seed=0)
    plain = OPTIMIZERS[optimizer](by_hand(model, 0.1, 0.1))
    make = SCHEDULES[None if schedule is None else schedule.removesuffix(" cycle_momentum=false")]
    scheduler = None if make is None else make(plain)
    for epoch in batches(spec, 3):
        for x, y in epoch:
            plain.zero_grad()
            loss_of(model, x, y).backward()
            plain.step()
            if scheduler is not None and not schedule.startswith("step"):  # type: ignore[union-attr]  # there is one
                scheduler.step()
        if scheduler is not None and schedule.startswith("step"):  # type: ignore[union-attr]  # there is one
            scheduler.step()
    run = run_of(spec, optimizer=optimizer, lr=0.1, rules=RULES, schedule=schedule)
    assert_same(run, model)
    if schedule is None:
        assert [*run.history["learning_rate"]] == [0.1] * 3  # of what no rule is said


def test_without_rules_there_is_one_group(spec: Path) -> None:
    model = regspec.build(spec)
    (group,) = bound_optimizer(model, Options(), 1).param_groups
    assert len(group["params"]) == len(ALL)


def test_the_decay_route_adds_to_a_group_s_decay(spec: Path) -> None:
    """2 · 0.01 of the L2 of hidden.kernel and of the encoders', on what their rules say."""
    model = regspec.build(spec)
    rules = ("layers=hidden weight_decay=0.5 lr=0.2", "weight_decay=0.25")
    options = Options(optimizer="sgd", lr=0.1, rules=rules, route=("l2=decay",))
    optimizer = bound_optimizer(model, options, 1, groups_of(options, graph_of(spec), Places()))
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {
        names[parameter]: (group["lr"], round(group["weight_decay"], 6))
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    wanted = dict.fromkeys(ALL, (0.1, 0.25)) | {"hidden.bias": (0.2, 0.5), "hidden.weight": (0.2, 0.52)}
    assert found == wanted | dict.fromkeys(("encoder.0.last.weight", "encoder.1.last.weight"), (0.1, 0.27))


def weights(run: regspec.Run) -> dict[str, torch.Tensor]:
    return load_file(run.folder / "weights.safetensors")


FROZEN = r"layers=encoder_1\..* trainable=false"


def test_what_is_frozen_stays(spec: Path) -> None:
    """Its moving averages too, as those of a layer that the spec freezes; and its penalties don't count."""
    run = run_of(spec, rules=(FROZEN,))
    before, after = load_file(run.folder / "initial.safetensors"), weights(run)
    for name, each in after.items():
        assert torch.equal(each, before[name]) == name.startswith("encoder.0."), name
    assert "penalty/encoder.0.last.kernel" not in run.history
    assert "penalty/encoder.1.last.kernel" in run.history
    text = NET.replace("  encoder:\n    layers:", "  encoder:\n    parameters: {trains: true}\n    layers:")
    text = re.sub(r"(Dense|BatchNormalization): \{name: (first|norm|last)", r"\1: {trainable: $trains, name: \2", text)
    text = text.replace("encoder, repeat: 2}", "encoder_1, trains: false}\n  - encoder: {name: encoder_2}")
    spec.write_text(text)
    same = weights(run_of(spec))
    renamed = {name.replace("_1.", ".0.").replace("_2.", ".1."): each for name, each in same.items()}
    torch.testing.assert_close(after, renamed, rtol=0, atol=0)


def test_moving_averages_move_where_some_weights_are_frozen(spec: Path) -> None:
    run = run_of(spec, rules=("slots=[gamma, beta] trainable=false",))
    before, after = load_file(run.folder / "initial.safetensors"), weights(run)
    assert torch.equal(before["encoder.0.norm.weight"], after["encoder.0.norm.weight"])
    assert not torch.equal(before["encoder.0.norm.running_mean"], after["encoder.0.norm.running_mean"])


def test_a_new_head_on_a_frozen_encoder(spec: Path) -> None:
    """Fine-tuning: the file's weights in all but the head, which alone is trained."""
    first, out = run_of(spec, lr=0.05), io.StringIO()
    spec.write_text(NET.replace("scores, units: 3", "head, units: 3"))
    run = regspec.train(
        spec, "wine", epochs=2, lr=0.05, weights=str(first.folder), weights_skip="(head|scores).*", quiet=True,
        folder=spec.parent / "tuned", rules=[{"layers": "head", "lr": 0.1}, {"except": "head", "trainable": False}],
    )  # fmt: skip
    kept, tuned = weights(first), weights(run)
    assert all(torch.equal(each, kept[name]) for name, each in tuned.items() if not name.startswith("head"))
    assert not torch.equal(tuned["head.weight"], load_file(run.folder / "initial.safetensors")["head.weight"])
    options = Options(data="wine", epochs=1, rules=("layers=head lr=0.1", "except=head trainable=false"))
    train(spec, options, spec.parent / "told", console=Console(file=out, width=200))
    assert "\ntensors by rules: 14 not trained, 2 lr 0.1\n" in out.getvalue()


def test_what_a_spec_freezes_may_be_trained(spec: Path) -> None:
    spec.write_text(NET.replace("{name: hidden,", "{name: hidden, trainable: false,"))
    still, moved = run_of(spec), run_of(spec, rules=("layers=hidden trainable=true",))
    for run, is_moved in ((still, False), (moved, True)):
        before = load_file(run.folder / "initial.safetensors")["hidden.weight"]
        assert torch.equal(before, weights(run)["hidden.weight"]) is not is_moved


@pytest.mark.parametrize("schedule", [None, "one_cycle"])
def test_a_run_with_rules_goes_on(schedule: str | None, spec: Path) -> None:
    options: Mapping[str, Any] = {
        "optimizer": "adamw", "lr": 0.02, "rules": (*RULES, "layers=hidden trainable=false"), "schedule": schedule,
        "epochs": 4,
    }  # fmt: skip
    whole = run_of(spec, **options)
    with pytest.raises(StopError):
        run_of(spec, folder=spec.parent / "stopped", on_epoch=stop, **options)
    resume(spec.parent / "stopped", {}, console=Console(file=io.StringIO()))
    one, other = (
        torch.load(folder / "checkpoint.ckpt", weights_only=False)["state_dict"]
        for folder in (whole.folder, spec.parent / "stopped")
    )
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_by_the_command_line_and_by_the_file_that_it_leaves(spec: Path) -> None:
    line = ("train", "net.yaml", "--data", "wine", "--epochs", "2", "--optimizer", "adamw")
    rules = ("--rules", r"layers=encoder_1\..* lr=1e-4", "--rules", "slots=[bias, beta] weight_decay=0")
    done = command(*line, *rules, "-o", "one", cwd=spec.parent)
    assert done.code == 0, done.output
    assert "tensors by rules: 6 lr 0.0001, 8 weight decay 0\n" in done.output
    done = command("train", "spec.yaml", "--with", "training.yaml", "-o", "../two", cwd=spec.parent / "one")
    assert done.code == 0, done.output
    files = [load_file(spec.parent / each / "weights.safetensors") for each in ("one", "two")]
    torch.testing.assert_close(*files, rtol=0, atol=0)
    (spec.parent / "t.yaml").write_text("regspec: 1\ntraining: {rules: [{layers: nothing, lr: 1}]}\n")
    done = command(*line, "--with", "t.yaml", *rules, "-o", "three", cwd=spec.parent)  # in place of the file's
    assert done.code == 0, done.output
    torch.testing.assert_close(load_file(spec.parent / "three" / "weights.safetensors"), files[0], rtol=0, atol=0)


# -- faults ------------------------------------------------------------------------------------------------------------

FAULTS = [
    ("{layers: encodr_1.last, lr: 1}", "(?s)4:7: error: this rule selects no weight.*did you mean 'encoder_1.last'"),
    ("{layers: encoder_1, lr: 1}", r"(?s)4:7: error: this rule selects no weight.*it matches in part"),
    ("{kinds: Dens, lr: 1}", "(?s)4:7: error: this rule selects no weight.*did you mean 'Dense'"),
    ("{kinds: Conv2D, lr: 1}", "(?s)4:7: error: this rule selects no weight.*the model has BatchNormalization, Dense"),
    ("{slots: [kernl], lr: 1}", "(?s)4:7: error: this rule selects no weight.*did you mean 'kernel'"),
    ("{layers: hidden, slots: gamma, lr: 1}", "(?s)4:7: error: this rule selects no weight"),
    ("{except: '.*', lr: 1}", "4:7: error: this rule selects no weight"),
    ("{trainable: false}", "nothing of the model is trained"),
    ("{layers: hidden}", "4:7: error: .* says nothing of weights"),
    ("{layers: 'a(', lr: 1}", "4:16: error: .* is no regular expression"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "message"), FAULTS, ids=[rule for rule, _ in FAULTS])
def test_faults_in_a_file(rule: str, message: str, spec: Path) -> None:
    """At their lines, before data are read."""
    (spec.parent / "t.yaml").write_text(f"regspec: 1\ntraining:\n  rules:\n    - {rule}\ndata: {{train: wine}}\n")
    done = command("train", "net.yaml", "--with", "t.yaml", cwd=spec.parent)
    assert done.code == 1
    assert re.search(message, done.stderr), done.stderr
    assert [*spec.parent.glob("runs/*")] == []


SAID = [
    ("lr", "'lr' is no rule.*write --rules"),
    ("layers=a lr=", "'layers=a lr=' is no rule"),
    ("layers=scores", "says nothing of weights"),
    ("lr=1 lr=2", "'lr' of the rule 'lr=1 lr=2' is given twice"),
    ("lr=fast", "must be a number, but is 'fast'"),
    ("layer=a lr=1", "has no field 'layer'.*did you mean 'layers'"),
    ("layers=a( lr=1", "is no regular expression"),
    ("layers=skores lr=1", "this rule selects no weight.*did you mean 'scores'"),
]


@pytest.mark.parametrize(("rule", "message"), SAID, ids=[rule for rule, _ in SAID])
def test_faults_on_the_command_line(rule: str, message: str, spec: Path) -> None:
    done = command("train", "net.yaml", "--data", "wine", "--rules", rule, cwd=spec.parent)
    assert done.code == 1
    assert re.search(f"(?s){message}", done.stderr), done.stderr


def test_an_optimizer_without_a_decay(spec: Path) -> None:
    with pytest.raises(regspec.RegspecError, match="which rprop does not have"):
        run_of(spec, optimizer="rprop", rules=("slots=bias weight_decay=0",))
