"""Models under `torch.compile`, `torch.export` and tracing: penalties in value and gradient, as they are written out.

Where it is about what torch traces, the graph runs as it is ("eager"); where it is about gradients, AOTAutograd makes
graphs of both directions ("aot_eager"), and inductor compiles them once, and more often with --everything. A test that
is marked as expected to fail shows a fault of the library, which its reason names.
"""

from __future__ import annotations

import copy
import pickle
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import regspec
from regspec.runtime import L1, L2, Regularized, Scheduled, WarmupSchedule
from tests.net import (
    BIAS,
    HIDDEN,
    KERNEL,
    LOGITS,
    RULES,
    SPEC,
    Checkpointed,
    InPlace,
    Make,
    Net,
    Run,
    agree,
    by_rules,
    by_spec,
    check,
    check_gradients,
    count_tensors,
    either,
    fault,
    in_threads,
    loss_of,
    ruled,
    stepped,
    terms,
    wanted_gradients,
    wanted_loss,
    written_out,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated"),  # torch's own, when it is imported
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),  # read by torch's guards
]


@pytest.fixture(autouse=True)
def _compiler() -> None:
    """Nothing compiled before; and a forward has run in this thread (see `test_the_first_forward_is_compiled`)."""
    torch._dynamo.reset()
    by_rules()(torch.randn(2, 7))


def whole(model: nn.Module, backend: str = "eager") -> Run:
    """In one graph."""
    return torch.compile(model, backend=backend, fullgraph=True)


def in_place(model: nn.Module, backend: str = "eager") -> Run:
    model.compile(backend=backend, fullgraph=True)
    return model


def with_loss(model: nn.Module, backend: str = "eager") -> Run:
    """A step that computes the penalties, too, and gives the output."""

    @torch.compile(backend=backend)
    def step(x: Tensor) -> Tensor:
        output = model(x)
        if isinstance(model, Regularized):
            model.regularization_loss()
        return output

    return step


WAYS: dict[str, Callable[..., Run]] = {"torch.compile": whole, "model.compile": in_place, "a step": with_loss}
everything = pytest.mark.everything


# -- values and gradients ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "make", "is_training"),
    [
        (whole, by_rules, True),
        pytest.param(whole, by_rules, False, marks=everything),
        (whole, by_spec, True),
        pytest.param(in_place, by_rules, True, marks=everything),
        (in_place, by_spec, False),
        pytest.param(with_loss, by_rules, True, marks=everything),
    ],
)
def test_forwards(way: Callable[..., Run], make: Make, is_training: bool) -> None:
    """One after the other, with batches of other sizes, the last of them empty."""
    model = make().train(is_training)
    run = way(model, "aot_eager")
    for batch in (4, 4, 3, 6, 0):
        check(model, run, torch.randn(batch, 7))


has_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))), reason="inductor needs a C++ compiler"
)


@everything
@has_compiler
def test_inductor() -> None:
    model = by_spec()
    run = torch.compile(model, fullgraph=True, dynamic=True)
    for batch in (4, 6):
        check(model, run, torch.randn(batch, 7), 1e-4)


SEVERAL = ((4, True), (6, True), (6, False), (3, True))  # batches, and whether the kernel is trained


@pytest.mark.parametrize(
    ("backend", "runs"),
    [
        ("aot_eager", SEVERAL),
        pytest.param("inductor", SEVERAL[:2], marks=has_compiler),
        pytest.param("inductor", SEVERAL, marks=[has_compiler, everything]),
    ],
)
def test_forward_and_loss_in_one_graph(backend: str, runs: tuple[tuple[int, bool], ...]) -> None:
    """With other batches, and a weight that is frozen and thawed."""
    model = by_rules()
    step = torch.compile(partial(loss_of, model), backend=backend, fullgraph=True, dynamic=True)
    for batch, is_trained in runs:
        model.hidden.weight.requires_grad_(is_trained)
        x = torch.randn(batch, 7)
        check_gradients(step(x), wanted_loss(model, x), model)


def test_a_step_with_its_backward() -> None:
    model = by_rules()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    @torch.compile(backend="aot_eager")
    def step(x: Tensor) -> None:
        optimizer.zero_grad()
        loss_of(model, x).backward()
        optimizer.step()

    for _ in range(3):
        x = torch.randn(4, 7)
        wanted = stepped(model, wanted_gradients(model, x))
        step(x)
        agree([*model.parameters()], wanted)


@pytest.mark.parametrize(
    ("is_training", "mode"),
    [
        (False, torch.no_grad),
        (True, torch.inference_mode),
        pytest.param(True, torch.no_grad, marks=everything),
        pytest.param(False, torch.inference_mode, marks=everything),
    ],
)
def test_without_gradients(is_training: bool, mode: type) -> None:
    """The compiled module has the model's methods."""
    model = by_rules().train(is_training)
    run = whole(model)
    for batch in (4, 3):
        x = torch.randn(batch, 7)
        with mode():
            run(x)
            loss, wanted = run.regularization_loss(), written_out(model, x)[1]
            agree(terms(model), wanted)
            agree(loss, sum(wanted.values()))
            assert not loss.requires_grad


def test_memory_stays_flat() -> None:
    model, x = by_rules().eval(), torch.randn(4, 7)
    run = whole(model)

    def forwards(count: int) -> int:
        for _ in range(count):
            run(x)
        return count_tensors()

    with torch.no_grad():
        assert forwards(3) >= forwards(1000)  # what other tests have left may go meanwhile


def test_autocast() -> None:
    model, x = by_rules(), torch.randn(4, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        whole(model, "aot_eager")(x)
        loss = model.regularization_loss()
    assert loss.dtype is torch.float32
    agree(loss, sum(written_out(model, x)[1].values()), 3e-2)


@pytest.mark.parametrize("way", [whole, pytest.param(in_place, marks=everything)])
def test_several_forwards(way: Callable[..., Run]) -> None:
    model, xs = by_rules(), [torch.randn(batch, 7) for batch in (4, 3)]
    run = way(model)
    with regspec.accumulate(model):
        for x in xs:
            run(x)
    heard = [written_out(model, x)[1]["hidden.activity"] for x in xs]
    agree(terms(model)["hidden.activity"], sum(heard))


def test_several_forwards_in_one_graph() -> None:
    model, xs = ruled(Net(), HIDDEN, LOGITS), (torch.randn(4, 7), torch.randn(4, 7))

    @torch.compile(backend="aot_eager", fullgraph=True)
    def step(*xs: Tensor) -> Tensor:
        with regspec.accumulate(model):
            loss = sum(model(x).square().sum() for x in xs)
        return loss + model.regularization_loss()

    wanted = sum(wanted_loss(model, x) for x in xs)
    weights = written_out(model, xs[0])[1]
    wanted = wanted - 2 * (weights["hidden.kernel"] + weights["logits.bias"])  # which have no rule here
    check_gradients(step(*xs), wanted, model)


def test_a_graph_that_breaks() -> None:
    class Broken(Net):
        def forward(self, x: Tensor) -> Tensor:
            hidden = self.hidden_activation(self.hidden(x))
            torch._dynamo.graph_break()
            return self.logits(hidden)

    model = ruled(Broken(), *RULES)
    run = torch.compile(model, backend="eager")
    with pytest.warns(UserWarning, match="nobody has read the regularization loss"):
        run(torch.randn(4, 7)).sum().backward()
    model.zero_grad()
    for batch in (4, 3):
        check(model, run, torch.randn(batch, 7))


def test_a_compiled_model_under_a_checkpoint() -> None:
    model = by_rules()
    run = partial(checkpoint, whole(model, "aot_eager"), use_reentrant=False)
    for batch in (4, 3):
        check(model, run, torch.randn(batch, 7))


@pytest.mark.parametrize("is_full", [pytest.param(False, marks=everything), True])
def test_a_checkpoint_in_a_compiled_model(is_full: bool) -> None:
    """In one graph, where torch is told that hooks may note outputs in the forward alone."""
    model = ruled(Checkpointed(), *RULES)
    with torch._dynamo.config.patch(skip_fwd_side_effects_in_bwd_under_checkpoint=is_full):
        run = torch.compile(model, backend="aot_eager", fullgraph=is_full)
        for batch in (4, 3):
            check(model, run, torch.randn(batch, 7))


@pytest.mark.parametrize("is_training", [True, False])
def test_an_output_that_is_changed_in_place(is_training: bool) -> None:
    model = ruled(InPlace(), {"modules": "scale", "activity_regularizer": {"l1": 0.3, "l2": 0.2}}).train(is_training)
    x = torch.randn(4, 7)
    output, heard = whole(model, "aot_eager")(x), model.linear(x) * 2
    wanted = heard.relu().square().sum() + (0.3 * heard.abs().sum() + 0.2 * heard.square().sum()) / 4
    check_gradients(output.square().sum() + model.regularization_loss(), wanted, model)


# -- when and what is compiled -----------------------------------------------------------------------------------------


def test_the_first_forward_is_compiled() -> None:
    """As in a script that compiles its model and trains it; here in a thread that has not run a forward."""
    model, raised = by_rules(), []
    run = whole(model)

    def train() -> None:
        try:
            for _ in range(2):
                run(torch.randn(4, 7))
        except AssertionError as error:  # torch's
            raised.append(error)

    in_threads(train)
    assert not raised


def test_it_is_compiled_once() -> None:
    compilations = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., Any]:
        compilations.append(graph)
        return graph.forward

    run = torch.compile(by_spec(), backend=backend, fullgraph=True)
    for _ in range(3):
        run(torch.randn(4, 7))
    assert len(compilations) == 1


def test_strengths_that_change_compile_nothing_anew() -> None:
    """Of weights and outputs, from and to zero, by hand and by a schedule."""
    model = ruled(Net(), {**KERNEL, "regularizer": {"l1": 0.1, "l2": 0.0}}, BIAS, HIDDEN, LOGITS)
    model.add_weight_terms(Scheduled(L1(0.1), WarmupSchedule(over=4)), {"logits.kernel": "logits.weight"})
    compilations, x = [], torch.randn(4, 7)

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., Any]:
        compilations.append(graph)
        return graph.forward

    @torch.compile(backend=backend, fullgraph=True)
    def step(x: Tensor) -> Tensor:
        return model(x).square().sum() + model.regularization_loss()

    changes = {"hidden.weight.l1": 0.0, "hidden.weight.l2": 0.7, "hidden_activation.activity.l1": 0.2}
    model.set_schedules(1)
    for count, (name, strength) in enumerate([("logits.bias.l2", 0.3), *changes.items()], 1):
        model.set_strength(name, strength)
        model.set_schedules(count)
        check_gradients(step(x), model(x).square().sum() + model.regularization_loss(), model)
    assert len(compilations) == 1


def test_a_copy_has_strengths_of_its_own() -> None:
    """In compiled code, too, and after more terms than there was room for."""
    model, x = by_rules(), torch.randn(4, 7)
    model.add_weight_terms(L1(0.1), {f"more{index}": "logits.weight" for index in range(20)})
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        copied.set_strength("more19.l1", 0.7)
        for each in (model, copied):
            found = torch.compile(partial(loss_of, each), backend="eager", fullgraph=True)(x)
            agree(found, loss_of(each, x))
        assert loss_of(copied, x) > loss_of(model, x)


@everything
def test_many_models_are_compiled() -> None:
    """As in a search for the best width, more than torch compiles one function for. Each has a forward of its own."""
    for width in range(2, 12):
        model = regspec.build(regspec.loads(SPEC.replace("units: 5", f"units: {width}")))
        check(model, whole(model))


FIRST: dict[str, list[dict[str, Any]]] = {"nothing": [], "weights": [KERNEL, BIAS], "an output": [KERNEL, HIDDEN]}


@pytest.mark.parametrize(
    ("way", "first"),
    [
        ("torch.compile", "nothing"),
        pytest.param("torch.compile", "weights", marks=everything),
        ("torch.compile", "an output"),
        pytest.param("model.compile", "nothing", marks=everything),
        ("model.compile", "weights"),
        pytest.param("model.compile", "an output", marks=everything),
        ("a step", "nothing"),
        pytest.param("a step", "an output", marks=everything),
    ],
)
def test_rules_added_after_compiling(way: str, first: str) -> None:
    """Once it has run, a model gets the rules that it lacks."""
    model = ruled(Net(), *FIRST[first]) if FIRST[first] else Net()
    run = WAYS[way](model)
    for _ in range(2):
        run(torch.randn(4, 7, requires_grad=True))
    ruled(model, *(rule for rule in RULES if rule not in FIRST[first]))
    if (way, first) == ("torch.compile", "nothing"):  # it calls the module by the class that it had
        run(torch.randn(4, 7))
        with pytest.raises(RuntimeError, match="computed outside of the model's own call"):
            model.regularization_loss()
    else:
        check(model, run)


@pytest.mark.parametrize(
    "way",
    [pytest.param(whole, marks=everything), in_place, pytest.param(with_loss, marks=everything)],
)
def test_a_term_added_after_compiling(way: Callable[..., Run]) -> None:
    model, x = ruled(Net(), KERNEL), torch.randn(4, 7)
    run = way(model)
    run(x)
    model.add_activity_terms(L2(0.5), {"logits.activity": "logits"})
    output = run(x)
    found = model.regularization_terms()
    agree(found["logits.activity"], 0.5 * output.square().sum() / 4)


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(whole, marks=fault("it calls what the module no longer has", torch._dynamo.exc.Unsupported)),
        pytest.param(in_place, marks=everything),
        with_loss,
    ],
)
def test_rules_taken_off_after_compiling(way: Callable[..., Run]) -> None:
    """And others put on: nothing of the first is left."""
    model = ruled(Net(), {"types": ["Linear", "Tanh"], "activity_regularizer": "l1", "kernel_regularizer": "l2"})
    run = way(model)
    run(torch.randn(4, 7))
    regspec.unregularize(model)
    run(torch.randn(4, 7))
    ruled(model, *RULES)
    check(model, run)


def test_rules_for_the_compiled_module_itself() -> None:
    compiled, x = torch.compile(nn.Sequential(nn.Linear(7, 5), nn.Tanh()), backend="aot_eager"), torch.randn(4, 7)
    compiled(x)
    with pytest.raises(regspec.RegspecError, match="is compiled already"):
        ruled(compiled, {"types": ["Tanh"], "activity_regularizer": {"l2": 0.3}})


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 5)
        self.activation = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.linear(x))


def test_blocks_compiled_one_by_one() -> None:
    """As those of large models are, to compile them once for all; here with penalties that differ."""
    strengths = {"0": 0.1, "1": 0.2, "3": 0.4}
    rules = [{"modules": rf"{i}\.activation", "activity_regularizer": {"l2": each}} for i, each in strengths.items()]
    model = ruled(nn.Sequential(*(Block() for _ in range(4))), *rules)
    for block in model:
        block.compile(backend="eager", fullgraph=True)
    x = torch.randn(4, 5)
    wanted, hidden = {}, x
    for name, block in model.named_children():
        hidden = torch.tanh(block.linear(hidden))
        if name in strengths:
            wanted[f"{name}.activation.activity"] = strengths[name] * hidden.square().sum() / 4
    for _ in range(2):
        model(x)
        agree(model.regularization_terms(), wanted)


# -- export and tracing ------------------------------------------------------------------------------------------------


@either
@pytest.mark.parametrize("is_strict", [False, True])
def test_export(is_strict: bool, make: Make) -> None:
    """The outputs of an exported model, with other batches, too."""
    model, x = make().eval(), torch.randn(6, 7)
    shapes = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(model, (torch.randn(4, 7),), dynamic_shapes=shapes, strict=is_strict)
    agree(exported.module()(x), written_out(model, x)[0])
    assert set(exported.state_dict) == set(model.state_dict())
    check(model)


@pytest.mark.parametrize("is_training", [False, True])
def test_an_exported_graph_has_no_penalties(is_training: bool) -> None:
    def operations(module: nn.Module) -> list[str]:
        exported = torch.export.export(module.train(is_training), (torch.randn(4, 7),))
        return [str(node.target) for node in exported.graph.nodes if node.op == "call_function"]

    assert operations(by_rules()) == operations(Net())


@pytest.mark.filterwarnings("ignore:`torch.jit", "ignore::torch.jit.TracerWarning")  # torch's own
@pytest.mark.parametrize("trace", [lambda model, x: torch.fx.symbolic_trace(model), torch.jit.trace])
def test_tracing(trace: Callable[[nn.Module, Tensor], Run]) -> None:
    """What is traced has the outputs, and none of the penalties; the model stays what it is."""
    model, x = by_rules().eval(), torch.randn(4, 7)
    with torch.no_grad():
        traced = trace(model, x)
    agree(traced(x), written_out(model, x)[0])
    check(model)
