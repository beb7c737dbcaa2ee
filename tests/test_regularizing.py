"""Rules for modules that were not compiled here: a ResNet with operations in place, an encoder, a plain stack."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import regspec
from regspec.modules.regularizing import coverage

from .commands import command_apart


class Block(nn.Module):
    """A residual block as torchvision has it: its ReLU and its sum are in place."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.downsample(x)
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer1 = Block(3, 4)
        self.layer2 = Block(4, 6)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3)))


RULES = {
    "regspec": 1,
    "rules": [
        {"parameters": r"fc\.(weight|bias)", "regularizer": {"l1": 1e-2}},
        {"types": ["Conv2d", "Linear"], "kernel_regularizer": {"l2": 1e-3}},
        {"modules": r"layer\d\.bn2", "activity_regularizer": {"l1": 1e-2, "l2": 1e-3}},
    ],
}


def closed_form(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The terms of `RULES`; the outputs that are changed in place are computed anew, without that."""
    terms = {f"fc.{name}": 1e-2 * getattr(model.fc, name).abs().sum() for name in ("weight", "bias")}
    for layer in ("layer1", "layer2"):
        block = getattr(model, layer)
        for name in ("conv1", "conv2", "downsample"):
            terms[f"{layer}.{name}.weight"] = 1e-3 * getattr(block, name).weight.square().sum()
        hidden = torch.relu(block.bn1(block.conv1(x)))
        out = block.bn2(block.conv2(hidden))
        terms[f"{layer}.bn2.activity"] = (1e-2 * out.abs().sum() + 1e-3 * out.square().sum()) / len(x)
        x = torch.relu(out + block.downsample(x))
    return terms


def test_a_resnet_with_operations_in_place() -> None:
    """Values and gradients, in the first forward and after it."""
    torch.manual_seed(0)
    model = regspec.regularize(ResNet(), RULES)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 0.0  # computing the terms anew must not move the statistics
    x = torch.randn(3, 3, 5, 7)
    for _ in range(3):
        output = model(x)
        wanted = closed_form(model, x)
        terms = model.regularization_terms()
        assert set(terms) == set(wanted)
        for name, value in terms.items():
            torch.testing.assert_close(value, wanted[name])
        parameters = list(model.parameters())
        got = torch.autograd.grad(output.sum() + model.regularization_loss(), parameters)
        expected = torch.autograd.grad(model(x).sum() + sum(wanted.values()), parameters)
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


class Encoder(nn.Module):
    """Self-attention and a feed-forward part, whose output is a mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(11, 6)
        self.attention = nn.ModuleDict({name: nn.Linear(6, 6) for name in ("query", "key", "value")})
        self.norm = nn.LayerNorm(6)
        self.dense = nn.Linear(6, 6)

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        x = self.embeddings(tokens)
        q, k, v = (self.attention[name](x) for name in ("query", "key", "value"))
        hidden = self.norm(x + nn.functional.scaled_dot_product_attention(q, k, v))
        return {"last_hidden_state": self.dense(hidden), "tokens": tokens}


def test_an_encoder() -> None:
    rules = {
        "regspec": 1,
        "rules": [
            {"modules": r"attention\..*", "kernel_regularizer": {"group_lasso": {"strength": 0.1, "axis": "input"}}},
            {"types": ["Embedding"], "kernel_regularizer": {"group_lasso": 0.1}},
            {"types": ["Encoder"], "activity_regularizer": {"l2": 0.2}},
        ],
    }
    model = regspec.regularize(Encoder(), rules)
    state = model(torch.randint(0, 11, (2, 4)))["last_hidden_state"]
    terms = model.regularization_terms()
    assert set(terms) == {
        "attention.query.weight",
        "attention.key.weight",
        "attention.value.weight",
        "embeddings.weight",
        "activity",
    }
    torch.testing.assert_close(terms["activity"], 0.2 * state.square().sum() / 2)
    query = model.attention["query"].weight
    torch.testing.assert_close(terms["attention.query.weight"], 0.1 * 6**0.5 * query.norm(dim=0).sum())
    table = model.embeddings.weight  # a group for each feature, over all tokens
    torch.testing.assert_close(terms["embeddings.weight"], 0.1 * 11**0.5 * table.norm(dim=0).sum())


def test_it_stays_what_it_was() -> None:
    """For isinstance, its state_dict, copies and pickles; and it is restored."""
    module = ResNet()
    before, hooks = module.state_dict(), [len(part._forward_hooks) for part in module.modules()]
    attributes = set(vars(module))
    model = regspec.regularize(module, RULES)
    assert model is module
    assert isinstance(model, ResNet)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    x = torch.randn(2, 3, 5, 7)
    model.eval()(x)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        twin(x)
        assert isinstance(twin, ResNet)
        torch.testing.assert_close(twin.regularization_terms(), model.regularization_terms())
    assert regspec.unregularize(model) is module
    assert type(module) is ResNet
    assert set(vars(module)) == attributes
    assert [len(part._forward_hooks) for part in module.modules()] == hooks
    with pytest.raises(regspec.RegspecError, match="no penalties that were attached"):
        regspec.unregularize(module)


def test_a_module_inside_another() -> None:
    """A wrapper such as DistributedDataParallel's has the penalties of what it wraps."""
    x = torch.randn(2, 3, 5, 7)
    model = regspec.regularize(ResNet(), RULES)
    wrapper = nn.Sequential(nn.Identity(), model)
    wrapper(x)
    terms = regspec.regularization_terms(wrapper)
    assert set(terms) == {f"1.{name}" for name in model.regularization_terms()}
    torch.testing.assert_close(regspec.regularization_loss(wrapper), model.regularization_loss())
    torch.testing.assert_close(regspec.regularization_loss(model), model.regularization_loss())
    with pytest.raises(regspec.RegspecError, match="Linear has no penalties"):
        regspec.regularization_loss(nn.Linear(2, 2))


def test_a_compiled_module() -> None:
    torch._dynamo.reset()
    rules = [
        {"types": ["ReLU"], "activity_regularizer": {"l1": 0.1}},
        {"types": ["Linear"], "kernel_regularizer": "l2"},
    ]
    stack = nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))
    model = regspec.regularize(stack, {"regspec": 1, "rules": rules})
    x = torch.randn(4, 7)
    torch.compile(model, fullgraph=True, backend="aot_eager")(x)
    hidden = torch.relu(model[0](x))
    wanted = 0.1 * hidden.abs().sum() / 4 + 0.01 * sum(model[i].weight.square().sum() for i in (0, 2))
    torch.testing.assert_close(model.regularization_loss(), wanted)


def test_the_first_rule_that_matches_holds() -> None:
    selected = {each.name: each.rule for each in coverage(ResNet(), RULES)}
    assert selected["fc.weight"] == 0
    assert selected["layer1.conv1.weight"] == 1
    assert selected["layer1.bn1.weight"] is None
    assert selected["layer2.bn2"] == 2


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"types": ["Conv3d"], "kernel_regularizer": "l2"}, r"matches nothing\n.*\n.*\n.*did you mean 'Conv2d'"),
        ({"modules": "layer3", "activity_regularizer": "l2"}, r"matches nothing\n(.*\n)*.*did you mean 'layer"),
        ({"parameters": "fc.wieght", "regularizer": "l2"}, r"matches nothing\n(.*\n)*.*did you mean 'fc.weight'"),
        ({"types": ["Linear"], "kernel_regularizer": {"kl_sparsity": 0.1}}, "a regularizer of activities"),
        ({"parameters": "fc.bias", "regularizer": {"group_lasso": {"strength": 1, "axis": "input"}}}, "there is none"),
        ({"types": ["Linear"]}, "needs a regularizer"),
        ({"types": ["Linear"], "kernel_regulariser": "l2"}, "did you mean 'kernel_regularizer'"),
    ],
)
def test_rules_that_are_wrong_change_nothing(rule: dict[str, object], message: str) -> None:
    module = ResNet()
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.regularize(module, {"regspec": 1, "rules": [rule]})
    assert type(module) is ResNet
    assert not any(part._forward_hooks for part in module.modules())


def test_a_parameter_that_modules_share_has_one_penalty() -> None:
    model = nn.ModuleDict({"table": nn.Embedding(5, 4), "head": nn.Linear(4, 5, bias=False)})
    model["head"].weight = model["table"].weight
    rules = [{"parameters": r".*\.weight", "regularizer": {"l2": 0.5}}]
    assert [each.name for each in coverage(model, rules)] == ["table.weight"]
    loss = regspec.regularize(model, rules).regularization_loss()
    torch.testing.assert_close(loss, 0.5 * model["table"].weight.square().sum())


def test_optional_rules_may_match_nothing() -> None:
    optional = {"types": ["LSTM"], "kernel_regularizer": "l2", "optional": True}
    rules = {"regspec": 1, "rules": [*RULES["rules"], optional]}
    assert len(regspec.regularize(ResNet(), rules).regularization_terms()) == 8


def test_more_rules_are_added_and_none_twice() -> None:
    model = regspec.regularize(ResNet(), RULES)
    regspec.regularize(model, {"regspec": 1, "rules": [{"types": ["BatchNorm2d"], "bias_regularizer": "l2"}]})
    assert "layer1.bn1.bias" in model.regularization_terms()
    with pytest.raises(regspec.RegspecError, match=r"there is a term 'layer1\.conv1\.weight' already"):
        regspec.regularize(model, RULES)


def test_the_command(tmp_path: Path) -> None:
    net = "from torch import nn\ndef net():\n    return nn.Sequential(nn.Linear(3, 2), nn.ReLU())\n"
    (tmp_path / "nets.py").write_text(net)
    (tmp_path / "rules.yaml").write_text("regspec: 1\nrules:\n  - {types: [Linear], kernel_regularizer: {l2: 1e-4}}\n")
    arguments = ["rules", "rules.yaml", "nets:net"]
    done = command_apart(*arguments, "--format", "json", cwd=tmp_path)
    assert json.loads(done.stdout) == [
        {"name": "0.weight", "shape": [2, 3], "rule": 1, "penalty": "l2 0.0001"},
        {"name": "0.bias", "shape": [2], "rule": None, "penalty": None},
    ]
    done = command_apart(*arguments, cwd=tmp_path)
    assert "1 of 2 parameters, 0 outputs" in done.stdout


def test_a_kernel_is_a_matrix_unless_its_type_is_named() -> None:
    """The scale of a normalization is called weight too."""
    model = nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.PReLU())
    regspec.regularize(model, [{"modules": ".*", "kernel_regularizer": "l2"}])
    assert list(model.regularization_terms()) == ["0.weight"]
    regspec.regularize(model, [{"types": ["BatchNorm1d"], "kernel_regularizer": "l1"}])
    assert list(model.regularization_terms()) == ["0.weight", "1.weight"]


def test_the_weights_of_recurrence() -> None:
    """Each layer and direction; the bias is the sum of two."""
    model = nn.Sequential(nn.GRU(3, 5, num_layers=2, bidirectional=True))
    rule = {"types": ["GRU"], "kernel_regularizer": {"l1": 0.1}, "recurrent_regularizer": {"l2": 0.2}}
    regspec.regularize(model, [{**rule, "bias_regularizer": {"l2": 0.3}}])
    wanted = {}
    for name, each in model.named_parameters():
        if "weight_ih" in name:
            wanted[name] = 0.1 * each.abs().sum()
        elif "weight_hh" in name:
            wanted[name] = 0.2 * each.square().sum()
        elif "bias_ih" in name:
            both = each + model.get_parameter(name.replace("_ih", "_hh"))
            wanted[name.replace("_ih", "")] = 0.3 * both.square().sum()
    torch.testing.assert_close(model.regularization_terms(), wanted)
