"""The optimizer of ``--optimizer``: every argument of every one, as YAML and as Python write it; what is refused."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import regspec
from regspec.training.options.optimizers import OPTIMIZERS, UNFIT_ARGUMENTS, optimizer_of
from regspec.training.options.options import Option, Options

from .commands import command

ARGUMENTS = [
    (name, each.name, each.default)
    for name, cls in OPTIMIZERS.items()
    for each in inspect.signature(cls).parameters.values()
    if each.name not in UNFIT_ARGUMENTS
]
OTHERS: dict[str, Any] = {
    "foreach": True,
    "fused": True,
    "eps": 1e-3,
    "weight_decay": 1e-2,
    "beta2_decay": -0.5,
    "d": 2.5,
}


def other(name: str, default: Any) -> Any:
    """A value that is not the default, of its type."""
    if isinstance(default, tuple):
        return tuple(0.25 if each is None else each * 0.875 for each in default)
    return not default if isinstance(default, bool) else OTHERS.get(name, 0.125)


@pytest.mark.parametrize(("name", "argument", "default"), ARGUMENTS, ids=lambda value: str(value))
def test_every_argument(name: str, argument: str, default: Any) -> None:
    """Of each type: the optimizer that torch makes has it, written as Python does and as YAML does."""
    value = other(argument, default)
    for text in (str(value).replace(" ", ""), str(value), str(value).lower().replace("(", "[").replace(")", "]")):
        cls, arguments = optimizer_of(f"{name} {argument}={text}")
        assert arguments == {argument: value}
        assert type(arguments[argument]) is type(value)
    needed = {"momentum": 0.5} if argument == "nesterov" else {}
    made = cls([torch.nn.Parameter(torch.ones(3))], lr=0.1, **arguments, **needed)
    assert made.defaults[argument] == value


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("SGD", {}),
        ("sgd momentum=0.9 nesterov=true", {"momentum": 0.9, "nesterov": True}),
        ("sgd  momentum=9e-1   nesterov=True", {"momentum": 0.9, "nesterov": True}),
        ("adam betas=(0.9, 0.99) eps=1e-8", {"betas": (0.9, 0.99), "eps": 1e-8}),
        ("adam betas=[.9,0.99] amsgrad=false foreach=none", {"betas": (0.9, 0.99), "amsgrad": False, "foreach": None}),
        ("adam fused=None weight_decay=0", {"fused": None, "weight_decay": 0}),
        ("adafactor eps=(None, 1e-3)", {"eps": (None, 1e-3)}),
        ("adafactor eps=[null,1e-3] d=2", {"eps": (None, 1e-3), "d": 2}),
        ("asgd t0=1e6", {"t0": 1e6}),
    ],
)
def test_several(text: str, arguments: dict[str, Any]) -> None:
    assert optimizer_of(text)[1] == arguments


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("sgd nesterov=3", "sgd does not take 'nesterov=3'", "nesterov is true or false"),
        ("sgd nesterov=yes", "sgd does not take 'nesterov=yes'", "nesterov is true or false"),
        ("sgd momentum=true", "sgd does not take 'momentum=true'", "momentum is a number, such as 0"),
        ("sgd momentum=", "sgd does not take 'momentum='", "momentum is a number, such as 0"),
        ("sgd momentum=.inf", "sgd does not take 'momentum=.inf'", "momentum is a number, such as 0"),
        ("sgd momentum=0.9, nesterov=true", "'momentum=0.9,'", "momentum is a number, such as 0"),
        ("sgd momentum=0.9 momentum=1", "sgd is given 'momentum' twice", None),
        ("sgd lr=0.1", "sgd does not take 'lr=0.1'", "the learning rate is lr, once"),
        ("adam learning_rate=0.1", "adam does not take 'learning_rate=0.1'", "the learning rate is lr, once"),
        ("sgd nesterov", "sgd does not take 'nesterov'", "write nesterov=…, where nesterov is true or false"),
        ("adam betas momentum=1", "adam does not take 'betas'", "write betas=…, where betas is 2 numbers in brackets"),
        ("sgd 0.9", "sgd does not take '0.9'", "it takes momentum, dampening"),
        ("adam betas=0.9", "'betas=0.9'", "betas is 2 numbers in brackets, such as (0.9,0.999)"),
        ("adam betas=(0.9,)", "'betas=(0.9,)'", "betas is 2 numbers in brackets, such as (0.9,0.999)"),
        ("adam betas=(0.9,none)", "'betas=(0.9,none)'", "betas is 2 numbers in brackets, such as (0.9,0.999)"),
        ("adam foreach=1", "'foreach=1'", "foreach is true, false or none"),
        ("adafactor eps=1e-3", "'eps=1e-3'", "eps is 2 numbers in brackets, such as (none,0.001)"),
    ],
)
def test_what_is_refused(text: str, message: str, hint: str | None) -> None:
    with pytest.raises(regspec.RegspecError) as caught:
        optimizer_of(text)
    (problem,) = caught.value.problems
    assert message in problem.what
    assert problem.hint == hint if hint is None else problem.hint.startswith(hint)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--optimizer", "sdg"), "'sdg' is no optimizer"),
        (("--route", "decay"), "'decay' is no route"),
        (("--route", "l1=proximl"), "no route is called 'proximl'"),
    ],
)
def test_it_is_refused_before_data_is_read(options: tuple[str, str], message: str, tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text("regspec: 1\ninputs: {x: {shape: [13]}}\nlayers: [Dense: {units: 3}]\n")
    done = command("train", "net.yaml", "--data", "absent.csv", *options, cwd=tmp_path)
    assert (done.code, done.stderr.startswith(f"error: {message}")) == (1, True)


EXAMPLES = [
    (f"--{name}", text)
    for name in ("optimizer", "schedule")
    for text in re.findall(r"'(\w+ \S+=[^']+)'", Option.all_of(Options)[name].help)
]


@pytest.mark.parametrize(("option", "text"), EXAMPLES)
def test_the_examples_of_the_help(option: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(
        "regspec: 1\nname: net\ninputs: {x: {shape: [13]}}\nlayers: [Dense: {units: 3, kernel_regularizer: l2}]\n"
    )
    done = command("train", "net.yaml", "--data", "wine", "--epochs", "90", option, text, cwd=tmp_path)
    assert done.code == 0, done.output
