"""`features`: what is computed inside a model. References are the same spec with other outputs, and plain torch."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

import regspec
from regspec.graph.loading import graph_of

EXAMPLES = Path(__file__).parent.parent / "examples"
ALL = sorted(path for path in EXAMPLES.glob("*.yaml") if path.stem != "digits_search")

NETWORK = """
regspec: 1
inputs: {image: {shape: [3, 11, 9]}}
blocks:
  residual:
    layers:
      - Conv2D: {name: conv, filters: 4, kernel_size: 3, padding: same, activation: relu}
      - BatchNormalization: {name: bn}
      - Add: {name: sum, inputs: [bn, input]}
layers:
  - ZeroPadding2D: {name: pad, padding: 1}  # which is the convolution's own in torch
  - Conv2D: {name: stem, filters: 4, kernel_size: 3, activation: tanh, activity_regularizer: l1}
  - residual: {name: stage, repeat: 3}
  - residual: {name: last}
  - GlobalAveragePooling2D: {name: pool, activity_regularizer: l2}
  - Dense: {name: logits, units: 5, kernel_regularizer: l2}
"""
X = torch.randn(2, 3, 11, 9, generator=torch.Generator().manual_seed(0))


def built(text: str = NETWORK) -> Any:
    return regspec.build(text, seed=0)


def inputs_of(path: Path) -> list[Tensor]:
    draws = torch.Generator().manual_seed(1)
    return [
        torch.randn(2, *x.shape[1:], generator=draws)
        if x.is_floating
        else torch.randint(2, (2, *x.shape[1:]), generator=draws)
        for x in graph_of(path).inputs
    ]


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_a_layer_gives_what_it_gives_as_an_output(path: Path) -> None:
    """Of the spec in which it is one, with the same weights: axes, activations, what no module gives."""
    spec = yaml.safe_load(path.read_text())
    model = regspec.build(path, seed=0).eval()
    names = [each.name for each in regspec.load(path).layers]
    other = regspec.build(yaml.safe_dump({**spec, "outputs": {name: name for name in names}}, sort_keys=False)).eval()
    other.load_state_dict(model.state_dict())
    inputs = inputs_of(path)
    with torch.random.fork_rng():  # a sampling draws in evaluation, too
        torch.manual_seed(0)
        seen = regspec.features(model, names)(*inputs)
        torch.manual_seed(0)
        wanted = other(*inputs)
    assert [*seen] == names
    torch.testing.assert_close(seen, wanted, rtol=0, atol=0)


LAST = """
regspec: 1
data_format: channels_last
inputs: {image: {shape: [7, 5, 3]}}
layers:
  - Conv2D: {name: conv, filters: 4, kernel_size: 3}
  - MaxPooling2D: {name: pool, pool_size: 2}
  - Flatten: {name: flat}
"""


def test_axes_are_in_the_spec_s_order() -> None:
    model, x = built(LAST), torch.randn(2, 7, 5, 3)
    seen = regspec.features(model, ["conv", "pool", "flat"])(x)
    wanted = model.conv(x.permute(0, 3, 1, 2))
    torch.testing.assert_close(seen["conv"], wanted.permute(0, 2, 3, 1))
    torch.testing.assert_close(seen["pool"], nn.functional.max_pool2d(wanted, 2).permute(0, 2, 3, 1))
    torch.testing.assert_close(seen["flat"], seen["pool"].flatten(1))


@pytest.mark.parametrize("training", [True, False])
def test_inside_blocks(training: bool) -> None:
    """By hand, from the weights; a block that is repeated is its last copy."""
    model = built().train(training)
    names = ["stem", "stage.1.conv", "stage.1.sum", "stage_2", "stage.1", "stage", "stage.2", "last.bn", "pool"]
    seen = regspec.features(copy.deepcopy(model), names)(X)
    x = model.stem(X).tanh()
    torch.testing.assert_close(seen["stem"], x)
    for index, part in enumerate((*model.stage, model.last)):
        conv = part.conv(x).relu()
        bn = part.bn(conv)
        x = bn + x
        if index == 1:
            torch.testing.assert_close(seen["stage.1.conv"], conv)
            for name in ("stage.1.sum", "stage_2", "stage.1"):
                torch.testing.assert_close(seen[name], x)
        if index == 2:
            torch.testing.assert_close(seen["stage"], x)
            torch.testing.assert_close(seen["stage.2"], x)
    torch.testing.assert_close(seen["last.bn"], bn)
    torch.testing.assert_close(seen["pool"], x.mean((2, 3)))


SHARED = """
regspec: 1
inputs: {left: {shape: [4]}, right: {shape: [4]}}
blocks:
  tower:
    layers:
      - Dense: {name: hidden, units: 3, activation: relu}
      - Dense: {name: out, units: 2}
layers:
  - tower: {name: tower, inputs: left}
  - call: {layer: tower, inputs: right, name: tower_right}
  - Dense: {name: head, units: 1, activation: sigmoid, inputs: tower}
  - call: {layer: head, inputs: tower_right, name: head_right}
outputs: [head, head_right]
"""


def test_what_is_called_twice() -> None:
    """Each call that has a name is an output; a layer in a block that is called twice gives both."""
    model, left, right = built(SHARED), torch.randn(3, 4), torch.randn(3, 4)
    seen = regspec.features(model, ["tower", "tower_right", "head", "head_right", "tower.hidden"])(left, right)
    hidden = tuple(model.tower.hidden(x).relu() for x in (left, right))
    outs = [model.tower.out(x) for x in hidden]
    torch.testing.assert_close(seen["tower.hidden"], hidden)
    torch.testing.assert_close([seen["tower"], seen["tower_right"]], outs)
    torch.testing.assert_close([seen["head"], seen["head_right"]], [model.head(x).sigmoid() for x in outs])


PARTLY = """
regspec: 1
data_format: channels_last
inputs: {image: {shape: [5, 6, 4]}}
blocks:
  two:
    inputs: [x]
    layers:
      - Conv2D: {name: conv, filters: 4, kernel_size: 1, inputs: x}
      - Flatten: {name: flat, inputs: x}
      - Dense: {name: dense, units: 3}
    outputs: [conv, dense]
layers:
  - two: {name: one, inputs: image}
  - two: {name: copies, repeat: 2}
  - call: {layer: copies_1, name: again, inputs: copies}
  - Flatten: {name: flat, inputs: again}
  - Reshape: {name: steps, target_shape: [6, 20], axes: [steps, features]}
  - LSTM: {name: lstm, units: 2, return_state: true, return_sequences: true}
  - call: {layer: lstm, name: lstm_again, inputs: steps}
  - GRU: {name: gru, units: 2, return_state: true, inputs: steps}
  - Concatenate: {name: all, inputs: [lstm.2, lstm_again.1, gru.1]}
%s
"""


def test_what_nothing_takes_of_several_outputs() -> None:
    """It is handed on all the same, in its place, by every call; the spec's other outputs say what it is."""
    counts = {"one": 2, "copies_1": 2, "copies_2": 2, "again": 2, "lstm": 3, "lstm_again": 3, "gru": 2}
    outputs = [f"{name}.{index}" for name, count in counts.items() for index in range(count)]
    model, whole = built(PARTLY % ""), built(PARTLY % f"outputs: [{', '.join(outputs)}, all]")
    whole.load_state_dict(model.state_dict())
    x = torch.randn(2, 5, 6, 4)
    *parts, last = whole(x)
    given = iter(parts)
    wanted = {name: tuple(next(given) for _ in range(count)) for name, count in counts.items()}
    torch.testing.assert_close(regspec.features(model, [*counts, "all"])(x), {**wanted, "all": last})
    same = {"copies": "copies_2", "copies.0": "copies_1", "copies.1": "copies_2"}
    seen = regspec.features(model, [*same])(x)
    torch.testing.assert_close(seen, {name: wanted[other] for name, other in same.items()})


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.twice = nn.ModuleList([nn.Linear(4, 4), nn.ReLU()])
        self.unused = nn.Linear(4, 4)

    def forward(self, x: Tensor, *, scale: float = 1.0) -> Tensor:
        x = self.first(x) * scale
        for _ in range(2):
            for each in self.twice:
                x = each(x)
        return x


def test_any_module_by_the_names_of_its_modules() -> None:
    model, x = Plain(), torch.randn(3, 4)
    seen = regspec.features(model, ["first", "twice.1"])(x, scale=2.0)
    torch.testing.assert_close(seen["first"], model.first(x))
    once = model.twice[0](model.first(x) * 2).relu()
    torch.testing.assert_close(seen["twice.1"], (once, model.twice[0](once).relu()))
    with pytest.raises(RuntimeError, match=r"did not compute unused$"):
        regspec.features(model, ["unused", "first"])(x)


def test_a_built_model_in_another_module() -> None:
    whole = nn.Sequential(nn.Identity(), built(), nn.Linear(5, 2))
    seen = regspec.features(whole, ["0", "1.stem", "1.stage.0.sum", "1.pool", "2"])(X)
    inner = regspec.features(whole[1], ["stem", "stage.0.sum", "pool"])(X)  # type: ignore[arg-type]  # a module
    assert torch.equal(seen["0"], X)
    for name, x in inner.items():
        torch.testing.assert_close(seen[f"1.{name}"], x, rtol=1e-5, atol=1e-5)


def test_a_model_that_has_two_paths() -> None:
    """Its outputs are those of all its calls, by either path."""
    model = built().eval()
    twice = nn.Sequential(model, nn.Unflatten(1, (5, 1, 1)), nn.Upsample((11, 9)), nn.Conv2d(5, 3, 1), model)
    found = regspec.features(twice, ["4.pool", "0.pool", "0.stage.1", "4.stage.1", "4.logits"])(X)
    inner = [regspec.features(model, ["pool", "stage.1", "logits"])(x) for x in (X, twice[:4](X))]
    for name, x in found.items():
        torch.testing.assert_close(x, tuple(each[name[2:]] for each in inner))


def test_what_is_called_as_a_source_that_one_owns() -> None:
    """A class from a file has modules only."""
    names: dict[str, Any] = {}
    exec(regspec.source(NETWORK, standalone=True), names)
    model = next(each for name, each in names.items() if name == "Model")()
    seen = regspec.features(model, ["stem", "stem_activation"])(X)
    torch.testing.assert_close(seen["stem"].tanh(), seen["stem_activation"])


@pytest.mark.parametrize("training", [True, False])
def test_penalties_are_those_of_the_call(training: bool) -> None:
    model = built().train(training)
    wanted, x = copy.deepcopy(model), X + 1
    wanted(x)
    inside = regspec.features(model, ["stem", "stage.0.conv", "pool"])
    inside(X)
    inside(x)
    found = model.regularization_terms()
    assert [*found] == [*wanted.regularization_terms()]
    if not training:  # the moving averages have seen another batch, but don't count in training
        torch.testing.assert_close(found, wanted.regularization_terms())
    torch.testing.assert_close(regspec.regularization_loss(inside), model.regularization_loss())
    assert model.regularization_loss().item() > 0


def left_in(model: nn.Module) -> list[tuple[str, list[str], int]]:
    return [(name, sorted(vars(each)), len(each._forward_hooks)) for name, each in model.named_modules()]


def test_nothing_is_left_in_the_model() -> None:
    """Neither after a call nor after one that fails, nor of what its instance has for itself."""
    model = built()
    before, keys = left_in(model), [*model.state_dict()]
    inside = regspec.features(model, ["stem", "stage.0", "stage.0.sum", "pool"])
    inside(X)
    with pytest.raises(RuntimeError, match="size"):
        inside(torch.randn(2, 4, 11, 9))
    assert left_in(model) == before
    assert [*model.state_dict()] == keys
    assert inside.model is model
    assert inside.eval().model.training is False


def test_gradients_flow_and_weights_are_the_model_s() -> None:
    model = built()
    inside = regspec.features(model, ["stage.0.conv"])
    with torch.no_grad():
        assert not inside(X)["stage.0.conv"].requires_grad
        model.stem.weight.zero_()
        model.stem.bias.zero_()
        model.stage[0].conv.bias.fill_(0.5)
    seen = inside(X)["stage.0.conv"]
    torch.testing.assert_close(seen, torch.full_like(seen, 0.5))
    seen.sum().backward()
    torch.testing.assert_close(model.stage[0].conv.bias.grad, torch.full((4,), 2.0 * 11 * 9))


@pytest.mark.parametrize("how", ["pickle", "deepcopy", "pickled model", "copied model"])
def test_copies(how: str) -> None:
    names, model = ["stem", "stage.1.sum", "pool"], built().eval()
    inside = regspec.features(model, names)
    match how:
        case "pickle":
            other = pickle.loads(pickle.dumps(inside))
        case "deepcopy":
            other = copy.deepcopy(inside)
        case "pickled model":
            other = regspec.features(pickle.loads(pickle.dumps(model)), names)
        case _:
            other = regspec.features(copy.deepcopy(model), names)
    assert other.model is not model
    torch.testing.assert_close(other(X), inside(X), rtol=0, atol=0)


def test_by_torch_s_compiler_and_exported() -> None:
    inside = regspec.features(built().eval(), ["stem", "stage.1.sum", "pool"])
    wanted = inside(X)
    torch.testing.assert_close(torch.compile(inside, backend="eager")(X), wanted, rtol=0, atol=0)
    exported = torch.export.export(inside, (X,)).module()
    torch.testing.assert_close(exported(X), wanted, rtol=0, atol=0)


FAULTS: list[tuple[Any, str]] = [
    (["pol"], "the model has no 'pol'.*did you mean 'pool'"),
    (["stem", "stage.0.cnv"], "no 'stage.0.cnv'.*did you mean 'stage.0.conv'"),
    (["stage.3"], "no 'stage.3'.*did you mean 'stage."),
    (["zzz", "yyy"], "(?s)no 'zzz'.*there are stem, stage.0.*no 'yyy'"),
    ([""], "no ''"),
    (["pad"], "'pad' is not computed by itself"),
    ("pool", r"a list of names.*\['pool'\]"),
    ([], "a list of names"),
]


@pytest.mark.parametrize(("names", "message"), FAULTS)
def test_faults(names: Any, message: str) -> None:
    with pytest.raises(regspec.RegspecError, match=f"(?s){message}"):
        regspec.features(built(), names)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("compiled", [torch.compile, torch.jit.script])
def test_what_torch_has_compiled_is_refused(compiled: Any) -> None:
    with pytest.raises(regspec.RegspecError, match="before that"):
        regspec.features(compiled(nn.Sequential(nn.Linear(4, 4))), ["0"])
