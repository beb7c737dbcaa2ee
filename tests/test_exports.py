"""Every example and architecture goes where torch sends models: torch.export, ONNX, one graph of torch.compile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import regspec
from regspec import runtime
from regspec.targets.torch.steps import OF_TRACED

from .architectures import FOLDER, NAMES
from .layers.specs import inputs_of, outputs_of

EXAMPLES = Path(__file__).parent.parent / "examples"
PATHS = {name: FOLDER / f"{name}.yaml" for name in NAMES} | {
    f"{path.stem}_example" if path.stem in NAMES else path.stem: path for path in sorted(EXAMPLES.glob("*.yaml"))
}
SLOW = ("alexnet", "vgg11")  # for their many weights
# ONNX takes seconds each; the gate has one of each: convolutions, masked recurrence, attention, tables, several outputs
IN_ONNX = ("digits_cnn", "bilstm", "transformer", "dlrm", "sae")
# torch.export traces all of them; of what torch.compile might see otherwise, one of each: penalties of outputs, masks,
# random numbers, schedules, blocks in a loop, derivatives, recurrence that it refuses
IN_ONE_GRAPH = ("sparse_autoencoder", "bilstm", "transformer", "vae", "gpt", "resnet18", "pinn", "dlrm", "unet")


def cases(*fast: str) -> list[Any]:
    """All of them; only the fast ones, or all but the slow ones, are in the gate."""
    gate = fast or [name for name in PATHS if name not in SLOW]
    return [name if name in gate else pytest.param(name, marks=pytest.mark.everything) for name in PATHS]


# Sizes that cost time and show nothing: images become small, and so do sequences, which are exported step by step.
SMALLER = {"224, 224": "64, 64", "1, 16000": "1, 2100", "shape: [200]": "shape: [9]"}
WITHOUT_RNN = "Dynamo does not support RNN, GRU, or LSTM"  # by default: torch._dynamo.config.allow_rnn
UNCOMPILED = {"bilstm": WITHOUT_RNN, "seq2seq": WITHOUT_RNN, "lstm_classifier": WITHOUT_RNN}


def spec_of(name: str) -> regspec.ModelSpec:
    text = PATHS[name].read_text(encoding="utf-8")
    for size, smaller in SMALLER.items():
        text = text.replace(size, smaller)
    return regspec.loads(text)


def dynamic(inputs: list[Tensor]) -> tuple[dict[int, Any], ...]:
    """The batch may be of any size."""
    return tuple({0: torch.export.Dim("batch")} for _ in inputs)


def gradients(model: nn.Module, outputs: list[Tensor]) -> dict[str, Tensor | None]:
    model.zero_grad()
    torch.autograd.backward([(each * torch.linspace(-1, 1, each.numel()).view_as(each)).sum() for each in outputs])
    return {name: None if each.grad is None else each.grad.clone() for name, each in model.named_parameters()}


@pytest.mark.parametrize("name", cases())
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning")  # torch's own
@pytest.mark.filterwarnings("ignore:The tensor attributes self.lstm._flat_weights")  # of any nn.LSTM
def test_it_is_exported(name: str) -> None:
    """With a batch of any size: outputs and gradients on another than the one that it was traced with."""
    spec = spec_of(name)
    model = regspec.build(spec, seed=0).eval()
    traced, other = inputs_of(spec, 3), inputs_of(spec, 5)
    exported = torch.export.export(model, tuple(traced), dynamic_shapes=dynamic(traced)).module()
    got, wanted = outputs_of(exported(*other)), outputs_of(model(*other))
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    after, before = gradients(exported, got), gradients(model, wanted)
    torch.testing.assert_close(after, {key: before[key] for key in after}, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", cases(*IN_ONNX))
@pytest.mark.filterwarnings("ignore")  # of torch.onnx and what it imports
def test_onnxruntime_agrees(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    spec = spec_of(name)
    model = regspec.build(spec, seed=0).eval()
    traced, other = inputs_of(spec, 3), inputs_of(spec, 5)
    program = torch.onnx.export(model, tuple(traced), dynamo=True, dynamic_shapes=dynamic(traced), verbose=False)
    assert program is not None
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    names = [each.name for each in session.get_inputs()]
    got = session.run(None, {name: x.numpy() for name, x in zip(names, other, strict=True)})
    with torch.no_grad():
        wanted = outputs_of(model(*other))
    torch.testing.assert_close([torch.as_tensor(each) for each in got], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", cases(*IN_ONE_GRAPH))
def test_it_is_one_graph(name: str) -> None:
    """For torch.compile, in training, with the penalties; or it fails as torch says."""
    torch.compiler.reset()
    spec = spec_of(name)
    model, twin, x = regspec.build(spec, seed=0), regspec.build(spec, seed=0), inputs_of(spec, 3)
    for each in (model, twin):
        if isinstance(each, runtime.Regularized):
            each.set_schedules(5)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    if name in UNCOMPILED:
        with pytest.raises(torch._dynamo.exc.Unsupported, match=UNCOMPILED[name]):
            compiled(*x)
        return
    with torch.random.fork_rng():
        got = outputs_of(compiled(*x))
        penalty = regspec.regularization_loss(model)
    torch.testing.assert_close(got, outputs_of(twin(*x)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(penalty, regspec.regularization_loss(twin), rtol=1e-5, atol=1e-6)


TRACED = """
regspec: 1
inputs: {x: {shape: [4]}}
blocks:
  graph:
    layers:
      - Dense: {name: code, units: 4, kernel_regularizer: l2}
layers:
  - graph: {name: graph, repeat: 2}
  - graph: {name: meta}
  - Dense: {name: code, units: 4, activity_regularizer: l1}
  - Dense: {name: code_, units: 3}
"""


def test_names_that_a_traced_module_has_itself() -> None:
    """A layer called `code` is the attribute `code_`: torch.fx can trace no module with an attribute `code`."""
    model, x = regspec.build(regspec.loads(TRACED)).eval(), torch.randn(2, 4)
    assert {name.partition(".")[0] for name in model.state_dict()} == {"graph_", "meta_", "code__", "code_"}
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(x), model(x))
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), model(x))


def test_torch_has_no_other_such_names() -> None:
    own = {*dir(torch.fx.GraphModule(nn.Module(), torch.fx.Graph()))} - {*dir(nn.Module())}
    assert {name for name in own if not name.startswith("_")} == OF_TRACED
