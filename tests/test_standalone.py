"""Files that stand alone: penalties are the formulas' in every setting, and the file is short.

`tests/layers/test_sources.py` compares values and gradients with the package's for every row, and looks for private
names of torch.
"""

from __future__ import annotations

import ast
import copy
import io
import pickle
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import regspec
from tests.net import SPEC, agree, in_threads, written_out
from tests.regularizers import NAMES, OF_WEIGHTS, of_strength

# read by torch's guards
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")

Made = Callable[[str], Any]
NUMBERS = count()


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    """Writes a spec's file that stands alone, and imports it as users do; gives its model."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[str] = []

    def make(spec: str) -> Any:
        name = f"alone_{next(NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(regspec.source(spec, standalone=True))
        made.append(name)
        torch.manual_seed(1)
        model = __import__(name).Net()
        for each in model.parameters():
            nn.init.normal_(each)
        return model

    yield make
    for name in made:
        del sys.modules[name]


def check(model: Any, run: Callable[[Tensor], Tensor] | None = None, x: Tensor | None = None) -> None:
    """The penalties of `SPEC`, their sum and its gradients, as they are written out in `tests.net`."""
    x = torch.randn(5, 7) if x is None else x
    (model if run is None else run)(x)
    _, wanted = written_out(model, x)
    agree(model.regularization_terms(), wanted)
    loss, total = model.regularization_loss(), sum(wanted.values())
    agree(loss, total)
    leaves = [each for each in model.parameters() if each.requires_grad]
    agree(torch.autograd.grad(loss, leaves), torch.autograd.grad(total, leaves), 1e-4)


# -- settings ----------------------------------------------------------------------------------------------------------


def compiled(model: Any) -> None:
    check(model, torch.compile(model, fullgraph=True, backend="aot_eager"))


def compiled_in_place(model: Any) -> None:
    model.compile(fullgraph=True, backend="aot_eager")
    check(model)


def compiled_step(model: Any) -> None:
    @torch.compile(fullgraph=True, backend="aot_eager")
    def loss_of(x: Tensor) -> Tensor:
        return model(x).sum() * 0 + model.regularization_loss()

    x = torch.randn(5, 7)
    loss_of(x).backward()
    wanted = torch.autograd.grad(sum(written_out(model, x)[1].values()), list(model.parameters()))
    agree([each.grad for each in model.parameters()], list(wanted), 1e-4)


def in_evaluation(model: Any) -> None:
    check(model.eval())


def copied(model: Any) -> None:
    model(torch.randn(5, 7))  # whose penalties are no part of a copy
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.hidden.weight.mul_(2)
    check(twin)
    check(model)


def pickled(model: Any) -> None:
    model(torch.randn(5, 7))
    check(pickle.loads(pickle.dumps(model)))


def saved_whole(model: Any) -> None:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    check(torch.load(file, weights_only=False))


def frozen(model: Any) -> None:
    model.hidden.weight.requires_grad_(False)
    check(model)


def empty_batch(model: Any) -> None:
    check(model, x=torch.randn(0, 7))


def checkpointed(model: Any) -> None:
    """What is computed again in the backward pass counts once."""
    layer = model.hidden_activation
    model.hidden_activation = Checkpointed(layer)
    run = model.forward
    x = torch.randn(5, 7)
    model(x)
    _, wanted = written_out(model, x)
    (run(x).sum() + model.regularization_loss()).backward()
    agree(model.regularization_terms(), wanted)


class Checkpointed(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Any:
        return checkpoint(self.module, x, use_reentrant=False)


def without_gradients(model: Any) -> None:
    x = torch.randn(5, 7)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            model(x)
            agree(model.regularization_terms(), written_out(model, x)[1])


def in_half_precision(model: Any) -> None:
    x = torch.randn(5, 7)
    model.bfloat16()(x.bfloat16())
    terms, wanted = model.regularization_terms(), written_out(model, x.bfloat16())[1]
    assert {each.dtype for each in terms.values()} == {torch.float32}
    agree(terms["hidden.kernel"], wanted["hidden.kernel"])
    agree(terms, wanted, 0.03)


def in_threads_of_their_own(model: Any) -> None:
    in_threads(*(partial(check, copy.deepcopy(model)) for _ in range(4)))


def with_other_weights(model: Any) -> None:
    """Those that `functional_call` puts in the place of parameters count, and have the gradients."""
    weights = {name: 2 * each.detach() for name, each in model.named_parameters()}

    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> Tensor:
            self.model(x)
            loss: Tensor = self.model.regularization_loss()
            return loss

    x = torch.randn(5, 7)
    doubled = copy.deepcopy(model)
    doubled.load_state_dict(weights)
    agree(
        functional_call(Loss(), {f"model.{k}": v for k, v in weights.items()}, (x,)),
        sum(written_out(doubled, x)[1].values()),
    )


def parametrized(model: Any) -> None:
    parametrizations.weight_norm(model.hidden)
    model(torch.randn(5, 7))
    weight = model.hidden.weight
    agree(model.regularization_terms()["hidden.kernel"], 0.1 * weight.abs().sum() + 0.2 * weight.square().sum())


SETTINGS = (
    check, in_evaluation, compiled, compiled_in_place, compiled_step, copied, pickled, saved_whole, frozen, empty_batch,
    checkpointed, without_gradients, in_half_precision, in_threads_of_their_own, with_other_weights, parametrized,
)  # fmt: skip


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda each: each.__name__)
def test_settings(setting: Callable[[Any], None], alone: Made) -> None:
    setting(alone(SPEC))


def test_exported(alone: Made) -> None:
    """The program has the output alone, for any batch, and the model hears its next forward as before."""
    model = alone(SPEC).eval()
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(model, (torch.randn(5, 7),), dynamic_shapes=shapes)
    x = torch.randn(3, 7)
    torch.testing.assert_close(program.module()(x), model(x))
    assert not any("abs" in str(node.target) for node in program.graph.nodes)
    check(model)


def test_traced(alone: Made) -> None:
    """`torch.fx` sees the outputs alone, through blocks and modules that it looks into."""
    scale = "  - LayerScale: {projection_dim: 7, init_values: 0.5, activity_regularizer: {l2: 0.1}}\n"
    model, x = alone(BLOCKS + scale), torch.randn(5, 7)
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(x), model(x))


# -- blocks, and what is called twice ----------------------------------------------------------------------------------

BLOCKS = """
regspec: 1
name: net
inputs: {x: {shape: [7]}}
blocks:
  part:
    parameters: {strength: 0.1}
    layers:
      - Dense: {name: a, units: 5, kernel_regularizer: {l2: $strength}, activity_regularizer: {l1: $strength}}
      - Dense: {name: b, units: 7}
layers:
  - part: {name: one, strength: 0.3}
  - part: {name: two, strength: 0.7}
  - call: {layer: two, inputs: two, name: again}
"""


def test_blocks(alone: Made) -> None:
    """Each has its strengths, also where the compiler has compiled another of its class; one that is called twice has
    its activity twice and its weight once. A block that is called by itself has its own penalties."""
    model, x = alone(BLOCKS), torch.randn(5, 7)
    for part in (model.one, model.two):
        part.compile(backend="aot_eager")
    first = model.one.a(x)
    second = model.two.a(model.one.b(first))
    third = model.two.a(model.two.b(second))
    wanted = {
        "one.a.kernel": 0.3 * model.one.a.weight.square().sum(),
        "two.a.kernel": 0.7 * model.two.a.weight.square().sum(),
        "one.a.activity": 0.3 * first.abs().sum() / 5,
        "two.a.activity": 0.7 * (second.abs().sum() + third.abs().sum()) / 5,
    }
    model(x)
    agree(model.regularization_terms(), wanted)
    model.two(2 * x)
    agree(model.regularization_terms(), wanted)
    activity = 0.7 * model.two.a(2 * x).abs().sum() / 5
    agree(model.two.regularization_terms(), {"a.kernel": wanted["two.a.kernel"], "a.activity": activity})


def test_tied_weights_count_once(alone: Made) -> None:
    layers = "".join(f"  - Dense: {{name: {name}, units: 7, kernel_regularizer: {{l2: 0.3}}}}\n" for name in "ab")
    model = alone(f"regspec: 1\nname: net\ninputs: {{x: {{shape: [7]}}}}\nlayers:\n{layers}")
    model.b.weight = model.a.weight
    agree(model.regularization_terms(), {"a.kernel": 0.3 * model.a.weight.square().sum()})


def test_an_output_that_was_not_heard_is_no_zero(alone: Made) -> None:
    model = alone(SPEC)
    model.forward(torch.randn(5, 7))
    with pytest.raises(RuntimeError, match=r"call the model, model\(x\)"):
        model.regularization_loss()


# -- every regularizer -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", NAMES)
def test_regularizers(name: str, reduction: str, alone: Made) -> None:
    """Of a kernel, if it may be, and of an output: the package's, in value and gradient."""
    own = of_strength(name, 0.3)
    slots = ["activity", *(["kernel"] if name in OF_WEIGHTS else [])]
    fields = ", ".join(f"{slot}_regularizer: [{own}, {{l1: 0.2}}]" for slot in slots).replace("'", "")
    layer = f"  - Conv2D: {{name: conv, filters: 6, kernel_size: [3, 2], groups: 2, activation: sigmoid, {fields}}}\n"
    head = f"regspec: 1\nname: net\nactivity_reduction: {reduction}\ninputs: {{x: {{shape: [4, 9, 8]}}}}\n"
    text = f"{head}data_format: channels_first\nlayers:\n{layer}"
    model, twin, x = alone(text), regspec.build(text), torch.randn(5, 4, 9, 8)
    twin.load_state_dict(model.state_dict())
    found = []
    for each in (model, twin):
        each(x)
        loss, terms = each.regularization_loss(), each.regularization_terms()
        found.append((loss.detach(), terms, torch.autograd.grad(loss, list(each.parameters()))))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)
    assert found[0][0] > 0


def test_a_schedule_is_refused() -> None:
    """Each at its layer, and once where its block is used twice."""
    text = BLOCKS.replace("{l1: $strength}", "[{l2: 0.1}, {l1: 0.3, schedule: {warmup: {over: 10}}}]")
    with pytest.raises(regspec.RegspecError) as error:
        regspec.source(text, standalone=True)
    (problem,) = error.value.problems
    assert problem.what == "a.activity follows a schedule, which a file that stands alone does not"
    assert problem.hint == "compile it without --standalone, or give it a strength that stays"
    assert problem.line == 9


# -- how it reads ------------------------------------------------------------------------------------------------------


def lines_of(text: str) -> int:
    """Lines of code: none that is empty, an import or a docstring."""
    apart: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom) or (
            isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        ):
            apart.update(range(node.lineno, (node.end_lineno or 0) + 1))
    return sum(bool(line.strip()) for number, line in enumerate(text.splitlines(), 1) if number not in apart)


def added_lines(layers: str) -> int:
    """Of a spec: those that a file that stands alone has more."""
    text = f"regspec: 1\nname: net\ninputs: {{x: {{shape: [7]}}}}\nlayers:\n{layers}"
    return lines_of(regspec.source(text, standalone=True)) - lines_of(regspec.source(text))


@pytest.mark.parametrize(
    ("most", "layer"),
    [
        (0, "Dense: {units: 3}"),
        (30, "Dense: {units: 3, kernel_regularizer: {l2: 0.1}}"),
        (60, "Dense: {units: 3, kernel_regularizer: {l2: 0.1}, activity_regularizer: {l1: 0.1}}"),
        (35, "Dense: {units: 3, kernel_constraint: non_neg}"),
    ],
)
def test_it_is_short(most: int, layer: str) -> None:
    assert added_lines(f"  - {layer}\n") <= most


def test_it_is_short_with_every_regularizer() -> None:
    layers = [f"  - Dense: {{units: 3, kernel_regularizer: {of_strength(name, 0.1)}}}\n" for name in OF_WEIGHTS]
    layers.append("  - Dense: {units: 3, activity_regularizer: [{kl_sparsity: {strength: 0.1}}, {l1: 0.1}]}\n")
    layers.append("  - Reshape: {target_shape: [1, 1, 3], axes: [height, width, channels]}\n")
    layers.append("  - Conv2D: {filters: 3, groups: 3, kernel_size: 1, kernel_regularizer: {group_lasso: 0.1}}\n")
    assert added_lines("".join(layers).replace("'", "")) <= 150
