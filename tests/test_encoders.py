"""Rules for networks as other libraries have them: residual ones like torchvision's, an encoder like Hugging Face's.

They are written here as they are there: operations in place, a ReLU that is called several times, outputs that are
tuples and mappings, tied embeddings, gradient checkpointing. Beside each stands its forward in plain functions, with
the penalties written out.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import regspec
from regspec.runtime import Regularized
from tests.net import agree, ruled

Terms = dict[str, Tensor]


def check(model: Regularized, output: Tensor, wanted_output: Tensor, wanted: Terms) -> None:
    """The output, each penalty and their sum, and the gradients of both together."""
    agree(output, wanted_output, 1e-4)
    agree(model.regularization_terms(), wanted, 1e-4)
    loss, wanted_loss = model.regularization_loss(), sum(wanted.values())
    agree(loss, wanted_loss, 1e-4)
    parameters = [*model.parameters()]
    got = torch.autograd.grad(output.square().mean() + loss, parameters)
    agree(got, torch.autograd.grad(wanted_output.square().mean() + wanted_loss, parameters), 1e-4)


def elastic(x: Tensor, l1: float = 0.0, l2: float = 0.0) -> Tensor:
    return l1 * x.abs().sum() + l2 * x.square().sum()


# -- residual networks -------------------------------------------------------------------------------------------------


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


Block = BasicBlock | Bottleneck


class ResNet(nn.Module):
    """Images (batch, 3, height, width) -> logits (batch, 5)"""

    def __init__(self, block: type[Block], widths: tuple[int, ...] = (3, 4)) -> None:
        super().__init__()
        self.inputs = 3
        self.conv1 = nn.Conv2d(3, self.inputs, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(self.inputs)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = self.stage(block, widths[0], 1)
        self.layer2 = self.stage(block, widths[1], 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(self.inputs, 5)

    def stage(self, block: type[Block], width: int, stride: int) -> nn.Sequential:
        outputs = width * block.expansion
        downsample = None
        if stride != 1 or self.inputs != outputs:
            conv = nn.Conv2d(self.inputs, outputs, 1, stride, bias=False)
            downsample = nn.Sequential(conv, nn.BatchNorm2d(outputs))
        first = block(self.inputs, width, stride, downsample)
        self.inputs = outputs
        return nn.Sequential(first, block(self.inputs, width, 1, None))

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer2(self.layer1(x))
        return self.fc(torch.flatten(self.avgpool(x), 1))


KERNELS = [
    {"types": ["Conv2d"], "kernel_regularizer": {"l2": 0.01}},
    {"modules": "fc", "kernel_regularizer": {"l1": 0.01}, "bias_regularizer": {"l2": 0.02}},
]
RELUS = {"modules": r".*\.relu", "activity_regularizer": {"l1": 0.01}}
LAST_NORMS = {"types": ["BatchNorm2d"], "except": r"(.*\.)?bn1|.*downsample.*", "activity_regularizer": {"l2": 0.02}}


def norm(bn: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Batch normalization that leaves the moving averages alone."""
    if bn.training:
        return F.batch_norm(x, None, None, bn.weight, bn.bias, training=True)
    return F.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias)


def resnet_written_out(model: ResNet, x: Tensor) -> tuple[Tensor, Terms]:
    """The logits, and the penalties of all the rules above."""
    terms = {
        f"{name}.weight": elastic(part.weight, l2=0.01)
        for name, part in model.named_modules()
        if isinstance(part, nn.Conv2d)
    }
    terms["fc.weight"], terms["fc.bias"] = elastic(model.fc.weight, l1=0.01), elastic(model.fc.bias, l2=0.02)
    x = F.max_pool2d(norm(model.bn1, model.conv1(x)).relu(), 3, 2, 1)
    blocks = [(f"{stage}.{i}", model.get_submodule(f"{stage}.{i}")) for stage in ("layer1", "layer2") for i in range(2)]
    for name, block in blocks:
        out, relus = x, []
        pairs = [(block.conv1, block.bn1), (block.conv2, block.bn2)]
        pairs += [(block.conv3, block.bn3)] if isinstance(block, Bottleneck) else []
        for number, (conv, bn) in enumerate(pairs, 1):
            out = norm(bn, conv(out))
            if number > 1:
                terms[f"{name}.bn{number}.activity"] = elastic(out, l2=0.02) / len(x)
            if number < len(pairs):
                out = out.relu()
                relus.append(out)
        x = (out + (x if block.downsample is None else norm(block.downsample[1], block.downsample[0](x)))).relu()
        terms[f"{name}.relu.activity"] = sum(elastic(each, l1=0.01) for each in (*relus, x)) / len(x)
    return model.fc(x.mean((2, 3))), terms


def images(batch: int = 3) -> Tensor:
    return torch.randn(batch, 3, 17, 19)


def check_resnet(model: Regularized, run: Callable[[Tensor], Tensor], *rules: dict[str, Any], count: int = 3) -> None:
    """Forward after forward, the last with another batch: what is changed in place is learnt in the first."""
    for batch in (3, 3, 2)[-count:]:
        x = images(batch)
        wanted_output, terms = resnet_written_out(model, x)
        activities = {"relu": RELUS in rules, "bn2": LAST_NORMS in rules, "bn3": LAST_NORMS in rules}
        wanted = {name: each for name, each in terms.items() if activities.get(name.split(".")[-2], True)}
        check(model, run(x), wanted_output, wanted)


either_block = pytest.mark.parametrize("block", [BasicBlock, Bottleneck])


@either_block
def test_a_resnet_in_training(block: type[Block]) -> None:
    """A ReLU is called two or three times a block, and counts each time; sums and ReLUs change what was heard."""
    rules = [*KERNELS, RELUS, LAST_NORMS]
    model = ruled(ResNet(block), *rules)
    check_resnet(model, model, *rules)


@either_block
@pytest.mark.parametrize(
    "rules",
    [[RELUS], [RELUS, LAST_NORMS]],
    ids=["ReLUs", "norms"],
)
def test_a_resnet_in_evaluation(rules: list[dict[str, Any]], block: type[Block]) -> None:
    """As when it is tuned with moving averages that are kept."""
    model = ruled(ResNet(block), *KERNELS, *rules)
    with torch.no_grad():
        model(images())  # moves the averages
    check_resnet(model.eval(), model, *rules)


@either_block
def test_a_resnet_without_gradients(block: type[Block]) -> None:
    model = ruled(ResNet(block), *KERNELS, RELUS, LAST_NORMS).eval()
    for mode in (torch.no_grad, torch.inference_mode):
        x = images()
        with mode():
            output = model(x)
            wanted_output, wanted = resnet_written_out(model, x)
            agree(output, wanted_output, 1e-4)
            agree(model.regularization_terms(), wanted, 1e-4)
            agree(model.regularization_loss(), sum(wanted.values()), 1e-4)


@pytest.mark.parametrize(
    "rules",
    [pytest.param([RELUS], marks=pytest.mark.everything, id="ReLUs"), pytest.param([RELUS, LAST_NORMS], id="norms")],
)
def test_a_compiled_resnet(rules: list[dict[str, Any]]) -> None:
    torch._dynamo.reset()
    model = ruled(ResNet(BasicBlock), *KERNELS, *rules)
    with torch.no_grad():
        model(images())
    check_resnet(model, torch.compile(model, backend="eager", fullgraph=True), *rules, count=2)


@either_block
def test_a_resnet_is_restored(block: type[Block]) -> None:
    """Its keys and its outputs are those of one that never had rules."""
    net = ResNet(block).eval()
    plain, x = copy.deepcopy(net), images()
    model = ruled(net, *KERNELS, RELUS, LAST_NORMS)
    agree(model(x), plain(x), 0)
    agree(model.state_dict(), plain.state_dict(), 0)
    restored = regspec.unregularize(model)
    assert type(restored) is ResNet
    assert not any(part._forward_hooks for part in restored.modules())
    agree(restored(x), plain(x), 0)


# -- an encoder --------------------------------------------------------------------------------------------------------

WIDTH, HEADS, TOKENS = 6, 2, 13


@dataclass
class EncoderOutput(OrderedDict):  # type: ignore[type-arg]  # as transformers derives it
    """A mapping whose values are attributes, too."""

    logits: Tensor
    last_hidden_state: Tensor
    attentions: tuple[Tensor, ...] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            if (value := getattr(self, field.name)) is not None:
                self[field.name] = value


class Embeddings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(TOKENS, WIDTH, padding_idx=0)
        self.position_embeddings = nn.Embedding(8, WIDTH)
        self.LayerNorm = nn.LayerNorm(WIDTH)
        self.dropout = nn.Dropout(0.0)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1])
        x = self.word_embeddings(tokens) + self.position_embeddings(positions)
        return self.dropout(self.LayerNorm(x))


class SelfAttention(nn.Module):
    """Gives the context and the probabilities of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.dropout = nn.Dropout(0.0)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        query, key, value = (
            each(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for each in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5
        probabilities = self.dropout((scores + mask).softmax(-1))
        return (probabilities @ value).transpose(1, 2).flatten(2), probabilities


class Residual(nn.Module):
    """A linear layer, added to what was there before."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, WIDTH)
        self.LayerNorm = nn.LayerNorm(WIDTH)
        self.dropout = nn.Dropout(0.0)

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(x)) + before)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"self": SelfAttention(), "output": Residual(WIDTH)})
        self.intermediate = nn.Sequential(nn.Linear(WIDTH, 9), nn.GELU())
        self.output = Residual(9)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        context, probabilities = self.attention["self"](x, mask)
        x = self.attention["output"](context, x)
        return self.output(self.intermediate(x), x), probabilities


class Encoder(nn.Module):
    """Tokens (batch, steps) and their mask -> logits for each token, and what led to them."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = Embeddings()
        self.layers = nn.ModuleList([Layer(), Layer()])
        self.head = nn.Linear(WIDTH, TOKENS)
        self.head.weight = self.embeddings.word_embeddings.weight
        self.gradient_checkpointing = False

    def forward(self, tokens: Tensor, attention_mask: Tensor) -> EncoderOutput:
        mask = (1.0 - attention_mask[:, None, None, :].to(self.head.weight.dtype)) * -1e4
        x, attentions = self.embeddings(tokens), ()
        for layer in self.layers:
            if self.gradient_checkpointing and self.training:
                x, probabilities = checkpoint(layer.__call__, x, mask, use_reentrant=False)
            else:
                x, probabilities = layer(x, mask)
            attentions += (probabilities,)
        return EncoderOutput(self.head(x), x, attentions)


ENCODER_RULES = [
    {"modules": r".*\.query", "kernel_regularizer": {"group_lasso": 0.01}},
    {"types": ["Linear"], "kernel_regularizer": {"l1": 0.01, "l2": 0.02}},
    {"types": ["LayerNorm"], "bias_regularizer": {"l1": 0.03}},
    {"parameters": r".*word_embeddings\.weight", "regularizer": {"l2": 0.02}},
    {"modules": r".*\.self", "activity_regularizer": {"l2": 0.03}},
    {"modules": r".*\.intermediate", "activity_regularizer": {"l1": 0.02}},
    {"types": ["Encoder"], "activity_regularizer": {"l2": 0.01}},
]


def encoder_written_out(model: Encoder, tokens: Tensor, attention_mask: Tensor) -> tuple[Tensor, Terms]:
    """The logits, and the penalties of the rules; the table counts once, though the head has it, too."""
    table, batch = model.embeddings.word_embeddings.weight, len(tokens)
    terms = {"embeddings.word_embeddings.weight": elastic(table, l2=0.02)}
    for name, part in model.named_modules():
        if isinstance(part, nn.LayerNorm):
            terms[f"{name}.bias"] = elastic(part.bias, l1=0.03)
        elif name.endswith("query"):
            terms[f"{name}.weight"] = 0.01 * WIDTH**0.5 * part.weight.square().sum(1).sqrt().sum()
        elif isinstance(part, nn.Linear) and name != "head":
            terms[f"{name}.weight"] = elastic(part.weight, l1=0.01, l2=0.02)

    def normalized(part: nn.LayerNorm, x: Tensor) -> Tensor:
        return F.layer_norm(x, (WIDTH,), part.weight, part.bias)

    x = F.embedding(tokens, table, padding_idx=0) + model.embeddings.position_embeddings.weight[: tokens.shape[1]]
    x, attentions = normalized(model.embeddings.LayerNorm, x), []
    for i, layer in enumerate(model.layers):
        own, output = layer.attention["self"], layer.attention["output"]
        heads = [own.query(x).chunk(HEADS, -1), own.key(x).chunk(HEADS, -1), own.value(x).chunk(HEADS, -1)]
        contexts, probabilities = [], []
        for query, key, value in zip(*heads, strict=True):
            scores = (query @ key.mT / (WIDTH / HEADS) ** 0.5).masked_fill(attention_mask[:, None] == 0, -torch.inf)
            probabilities.append(scores.softmax(-1))
            contexts.append(probabilities[-1] @ value)
        context, attention = torch.cat(contexts, -1), torch.stack(probabilities, 1)
        terms[f"layers.{i}.attention.self.activity"] = (elastic(context, l2=0.03) + elastic(attention, l2=0.03)) / batch
        x = normalized(output.LayerNorm, output.dense(context) + x)
        inner = F.gelu(layer.intermediate[0](x))
        terms[f"layers.{i}.intermediate.activity"] = elastic(inner, l1=0.02) / batch
        x = normalized(layer.output.LayerNorm, layer.output.dense(inner) + x)
        attentions.append(attention)
    logits = F.linear(x, table, model.head.bias)
    terms["activity"] = sum(elastic(each, l2=0.01) for each in (logits, x, *attentions)) / batch
    return logits, terms


def sentences(batch: int = 3) -> tuple[Tensor, Tensor]:
    """Tokens, and which of them there are."""
    mask = torch.ones(batch, 5, dtype=torch.long)
    mask[0, 3:] = 0
    return torch.randint(1, TOKENS, (batch, 5)) * mask, mask


@pytest.mark.parametrize("is_checkpointed", [False, True])
@pytest.mark.parametrize("is_training", [True, False])
def test_an_encoder(is_training: bool, is_checkpointed: bool) -> None:
    model = ruled(Encoder(), *ENCODER_RULES).train(is_training)
    model.gradient_checkpointing = is_checkpointed
    for batch in (3, 2):
        inputs = sentences(batch)
        check(model, model(*inputs).logits, *encoder_written_out(model, *inputs))


def test_a_checkpointed_encoder_keeps_what_it_says() -> None:
    """Rules for what a checkpoint computes again give the same as without it."""
    model, inputs = ruled(Encoder(), *ENCODER_RULES), sentences()
    found = []
    for model.gradient_checkpointing in (False, True):
        loss = model(*inputs)["logits"].square().mean() + model.regularization_loss()
        found.append(torch.autograd.grad(loss, [*model.parameters()]))
    agree(*found)


def test_an_encoder_without_gradients() -> None:
    model, inputs = ruled(Encoder(), *ENCODER_RULES).eval(), sentences()
    with torch.no_grad():
        output = model(*inputs)
        logits, wanted = encoder_written_out(model, *inputs)
    agree(output["logits"], logits, 1e-4)
    agree(model.regularization_terms(), wanted, 1e-4)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # read by torch's guards
def test_a_compiled_encoder() -> None:
    torch._dynamo.reset()
    model = ruled(Encoder(), *ENCODER_RULES)
    with torch.no_grad():
        model(*sentences())
    run = torch.compile(model, backend="eager")
    for batch in (3, 2):
        inputs = sentences(batch)
        check(model, run(*inputs)["logits"], *encoder_written_out(model, *inputs))


def test_an_encoder_in_training_steps() -> None:
    """Beside one whose loss is written out: the tied table gets the gradients of both its uses, and of one penalty."""
    model, plain = ruled(Encoder(), *ENCODER_RULES), Encoder()
    plain.load_state_dict(model.state_dict())
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.05, momentum=0.9) for each in (model, plain)]

    def loss(tokens: Tensor, mask: Tensor) -> Tensor:
        logits = model(tokens, attention_mask=mask).logits
        return F.cross_entropy(logits.flatten(0, 1), tokens.flatten()) + model.regularization_loss()

    def wanted_loss(tokens: Tensor, mask: Tensor) -> Tensor:
        logits, terms = encoder_written_out(plain, tokens, mask)
        return F.cross_entropy(logits.flatten(0, 1), tokens.flatten()) + sum(terms.values())

    for _ in range(4):
        inputs = sentences()
        for optimizer, compute in zip(optimizers, (partial(loss), partial(wanted_loss)), strict=True):
            optimizer.zero_grad()
            compute(*inputs).backward()
            optimizer.step()
    assert model.head.weight is model.embeddings.word_embeddings.weight
    agree(model.state_dict(), plain.state_dict(), 1e-4)


def test_a_copy_of_an_encoder() -> None:
    """Has its weights tied, as the encoder has, and hears its own outputs."""
    model = ruled(Encoder(), *ENCODER_RULES)
    model(*sentences())
    other, inputs = copy.deepcopy(model), sentences()
    assert other.head.weight is other.embeddings.word_embeddings.weight is not model.head.weight
    check(other, other(*inputs).logits, *encoder_written_out(other, *inputs))
