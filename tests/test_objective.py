"""The losses of outputs: each against torch or Keras, by every name; weights, places that do not count."""

from __future__ import annotations

import inspect
import math
import sys
from types import ModuleType
from typing import Any

import keras
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import regspec
from regspec.code import axes
from regspec.code.shapes import Symbol
from regspec.training.data.targets import Target
from regspec.training.data.wanted import Wanted
from regspec.training.measures.losses import LOSSES, Kind, loss_named
from regspec.training.measures.objective import Objective, OutputLoss
from regspec.training.options.outputs import OutputSection


def loss_of(
    name: str,
    kind: Kind,
    output: Tensor,
    *,
    gives_probabilities: bool = False,
    weights: Tensor | None = None,
    is_channels_first: bool = True,
    **said: Any,
) -> OutputLoss:
    """The loss of an output of this shape."""
    section = OutputSection.model_validate({"loss": name, **said})
    rank = output.ndim
    order = axes.channels_first(rank) if is_channels_first and rank > 2 else axes.identity(rank)
    wanted = Wanted("out", 0, Symbol((None, *output.shape[1:]), "out", "float32", order, order), section)
    target = Target(wanted, kind, loss_named(name, section.arguments))
    return OutputLoss(target, gives_probabilities=gives_probabilities, weights=weights)


# -- values ------------------------------------------------------------------------------------------------------------

SCORES = torch.randn(5, 4, 3, 2, generator=torch.Generator().manual_seed(1)) * 2
CLASSES = torch.randint(0, 4, (5, 3, 2), generator=torch.Generator().manual_seed(2))
LABELS = (torch.rand(5, 4, 3, 2, generator=torch.Generator().manual_seed(3)) > 0.4).float()
NUMBERS = torch.randn(5, 4, 3, 2, generator=torch.Generator().manual_seed(4))
COUNTS = torch.randint(0, 6, (5, 4, 3, 2), generator=torch.Generator().manual_seed(5)).float()
SHARES = NUMBERS.softmax(1)
RATES = SCORES.exp()


def of_keras(loss: Any, target: Tensor, output: Tensor) -> Tensor:
    """Keras's mean loss of tensors whose classes come last there."""
    y = target if target.ndim < output.ndim else target.movedim(1, -1)
    return torch.as_tensor(loss(y.numpy(), output.movedim(1, -1).numpy()))


ROWS: dict[str, tuple[str, Kind, Tensor, Tensor, dict[str, Any], Tensor]] = {
    "mse": ("mse", "quantities", SCORES, NUMBERS, {}, nn.MSELoss()(SCORES, NUMBERS)),
    "l1": ("l1", "quantities", SCORES, NUMBERS, {}, nn.L1Loss()(SCORES, NUMBERS)),
    "huber": ("huber", "quantities", SCORES, NUMBERS, {}, nn.HuberLoss()(SCORES, NUMBERS)),
    "huber, delta": ("huber", "quantities", SCORES, NUMBERS, {"delta": 0.3}, nn.HuberLoss(delta=0.3)(SCORES, NUMBERS)),
    "smooth_l1": ("smooth_l1", "quantities", SCORES, NUMBERS, {}, nn.SmoothL1Loss()(SCORES, NUMBERS)),
    "log_cosh": ("log_cosh", "quantities", SCORES, NUMBERS, {}, of_keras(keras.losses.LogCosh(), NUMBERS, SCORES)),
    "msle": (
        "msle", "quantities", RATES, COUNTS, {},
        of_keras(keras.losses.MeanSquaredLogarithmicError(), COUNTS, RATES),
    ),
    "poisson_nll": ("poisson_nll", "quantities", SCORES, COUNTS, {}, nn.PoissonNLLLoss()(SCORES, COUNTS)),
    "poisson": ("poisson", "quantities", RATES, COUNTS, {}, of_keras(keras.losses.Poisson(), COUNTS, RATES)),
    "cosine_similarity": (
        "cosine_similarity", "quantities", SCORES, NUMBERS, {},
        1 + of_keras(keras.losses.CosineSimilarity(), NUMBERS, SCORES),
    ),
    "cross_entropy": ("cross_entropy", "classes", SCORES, CLASSES, {}, nn.CrossEntropyLoss()(SCORES, CLASSES)),
    "cross_entropy, smoothed": (
        "cross_entropy", "classes", SCORES, CLASSES, {"label_smoothing": 0.2},
        nn.CrossEntropyLoss(label_smoothing=0.2)(SCORES, CLASSES),
    ),
    "cross_entropy of shares": (
        "cross_entropy", "quantities", SCORES, SHARES, {}, nn.CrossEntropyLoss()(SCORES, SHARES),
    ),
    "cross_entropy of one share": (
        "cross_entropy", "quantities", SCORES[:, :1], SHARES[:, :1], {},
        nn.BCEWithLogitsLoss()(SCORES[:, :1], SHARES[:, :1]),
    ),
    "cross_entropy of a share in each example": (
        "cross_entropy", "quantities", SCORES[:, :1, 0, 0], SHARES[:, 0, 0, 0], {},
        nn.BCEWithLogitsLoss()(SCORES[:, 0, 0, 0], SHARES[:, 0, 0, 0]),
    ),
    "nll": ("nll", "classes", SCORES.log_softmax(1), CLASSES, {}, nn.CrossEntropyLoss()(SCORES, CLASSES)),
    "binary_cross_entropy": (
        "binary_cross_entropy", "labels", SCORES, LABELS, {}, nn.BCEWithLogitsLoss()(SCORES, LABELS),
    ),
    "binary_cross_entropy, smoothed": (
        "binary_cross_entropy", "labels", SCORES, LABELS, {"label_smoothing": 0.2},
        of_keras(keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.2), LABELS, SCORES),
    ),
    "binary_cross_entropy of shares": (
        "binary_cross_entropy", "quantities", SCORES, SHARES, {}, nn.BCEWithLogitsLoss()(SCORES, SHARES),
    ),
    "hinge": ("hinge", "labels", SCORES, LABELS, {}, of_keras(keras.losses.Hinge(), 2 * LABELS - 1, SCORES)),
    "squared_hinge": (
        "squared_hinge", "labels", SCORES, LABELS, {},
        of_keras(keras.losses.SquaredHinge(), 2 * LABELS - 1, SCORES),
    ),
    "mape": (
        "mape", "quantities", SCORES, NUMBERS, {},
        of_keras(keras.losses.MeanAbsolutePercentageError(), NUMBERS, SCORES),
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_values(row: str) -> None:
    name, kind, output, target, said, wanted = ROWS[row]
    loss = loss_of(name, kind, output, **said)
    torch.testing.assert_close(loss.of(output, target).mean, wanted, rtol=1e-5, atol=1e-6)


def test_every_loss_has_a_row() -> None:
    rows = {name for name, *_ in ROWS.values()}
    assert rows | {"dice"} == {*LOSSES}


@pytest.mark.parametrize("smooth", [0.5, 1.0])
def test_dice(smooth: float) -> None:
    """Written out for each example and class."""
    shares = SCORES.softmax(1)
    expected = []
    for example in range(5):
        for each in range(4):
            p, y = shares[example, each], (CLASSES[example] == each).float()
            expected.append(1 - (2 * (p * y).sum() + smooth) / (p.sum() + y.sum() + smooth))
    loss = loss_of("dice", "classes", SCORES, smooth=smooth)
    torch.testing.assert_close(loss.of(SCORES, CLASSES).mean, torch.stack(expected).mean())
    loss = loss_of("dice", "labels", SCORES, smooth=smooth)
    p = SCORES.sigmoid()
    overlap = (2 * (p * LABELS).sum((2, 3)) + smooth) / (p.sum((2, 3)) + LABELS.sum((2, 3)) + smooth)
    torch.testing.assert_close(loss.of(SCORES, LABELS).mean, (1 - overlap).mean())
    loss = loss_of("dice", "labels", SCORES.movedim(1, -1), is_channels_first=False, smooth=smooth)
    torch.testing.assert_close(loss.of(SCORES.movedim(1, -1), LABELS.movedim(1, -1)).mean, (1 - overlap).mean())


@pytest.mark.parametrize("gives_probabilities", [False, True])
def test_dice_of_one_unit(gives_probabilities: bool) -> None:
    """Masks of 0 and 1, with or without an axis for the one unit: the area of what is 1."""
    scores, masks = SCORES[:, :1], CLASSES % 2
    p, y = scores[:, 0].sigmoid(), masks.float()
    expected = 1 - (2 * (p * y).sum((1, 2)) + 1) / (p.sum((1, 2)) + y.sum((1, 2)) + 1)
    output = scores.sigmoid() if gives_probabilities else scores
    loss = loss_of("dice", "classes", output, gives_probabilities=gives_probabilities)
    torch.testing.assert_close(loss.of(output, masks).mean, expected.mean())
    loss = loss_of("dice", "labels", output, gives_probabilities=gives_probabilities)
    torch.testing.assert_close(loss.of(output, masks[:, None].float()).mean, expected.mean())


@pytest.mark.parametrize("units", [1, 4])
def test_areas_have_only_the_places_that_count(units: int) -> None:
    """As if the other pixels were not there."""
    scores = SCORES[:, :units]
    target = CLASSES % max(units, 2)
    without = loss_of("dice", "classes", scores[:, :, 1:]).of(scores[:, :, 1:], target[:, 1:])
    ignored = target.clone()
    ignored[:, 0] = 9
    with_others = loss_of("dice", "classes", scores, ignore_index=9).of(scores, ignored)
    torch.testing.assert_close(with_others.mean, without.mean)


@pytest.mark.parametrize("row", [row for row, (_, kind, *_) in ROWS.items() if kind == "classes" or "shares" in row])
def test_classes_may_lie_along_the_last_axis(row: str) -> None:
    name, kind, output, target, said, wanted = ROWS[row]
    output, target = output.movedim(1, -1), target if kind == "classes" else target.movedim(1, -1)
    loss = loss_of(name, kind, output, is_channels_first=False, **said)
    torch.testing.assert_close(loss.of(output, target).mean, wanted)


@pytest.mark.parametrize("gives_probabilities", [False, True])
@pytest.mark.parametrize("units", [1, 2, 3])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_classes(units: int, gives_probabilities: bool, is_weighted: bool) -> None:
    """Minus the logarithm of the class's probability, times the weight of the class, over the number of examples."""
    scores, target = torch.randn(7, units), torch.randint(0, max(units, 2), (7,))
    shares = scores.softmax(1) if units > 1 else torch.cat([1 - scores.sigmoid(), scores.sigmoid()], 1)
    weights = torch.rand(max(units, 2)) if is_weighted else None
    output = (shares if units > 1 else shares[:, 1:]) if gives_probabilities else scores
    loss = loss_of("cross_entropy", "classes", output, gives_probabilities=gives_probabilities, weights=weights)
    logarithms = -shares[torch.arange(7), target].log() * (1 if weights is None else weights[target])
    torch.testing.assert_close(loss.of(output, target).mean, logarithms.sum() / 7)


def test_places_that_do_not_count() -> None:
    """As torch's own ``ignore_index``: the mean is over the others."""
    target = CLASSES.clone()
    target[0], target[3, 1] = 9, 9
    loss = loss_of("cross_entropy", "classes", SCORES, ignore_index=9)
    torch.testing.assert_close(loss.of(SCORES, target).mean, F.cross_entropy(SCORES, target, ignore_index=9))
    is_right = (SCORES.argmax(1) == target)[target != 9]
    torch.testing.assert_close(loss.right(SCORES, target).mean, is_right.float().mean())
    none = loss.of(SCORES, torch.full_like(target, 9))
    assert (none.mean.item(), none.count) == (0.0, torch.tensor(0))


@pytest.mark.parametrize(
    ("gives_probabilities", "output", "wanted"),
    [
        (True, [[0.3], [0.6], [0.9], [0.7]], 1.0),  # of no, yes, yes, yes
        (False, [[-2.0], [0.3], [3.0], [-0.1]], 0.75),
        (True, [[0.6, 0.4], [0.3, 0.7], [0.9, 0.1], [0.8, 0.2]], 0.5),
        (False, [[3.0, 4.0], [-2.0, -1.0], [0.9, 0.1], [0.8, 1.2]], 0.5),
    ],
)
def test_right_classes(gives_probabilities: bool, output: list[list[float]], wanted: float) -> None:
    """A probability of more than a half, and a score above 0, is a yes; of several the largest counts."""
    scores = torch.tensor(output)
    loss = loss_of("cross_entropy", "classes", scores, gives_probabilities=gives_probabilities)
    assert loss.right(scores, torch.tensor([0, 1, 1, 1])).mean == wanted


def test_right_labels() -> None:
    loss = loss_of("binary_cross_entropy", "labels", SCORES)
    torch.testing.assert_close(loss.right(SCORES, LABELS).mean, ((SCORES > 0) == LABELS.bool()).float().mean())


STEPS = SCORES[:, :, :, 0].movedim(1, -1)  # which have the units last, as they are


@pytest.mark.parametrize(
    ("name", "kind", "said", "gives_probabilities", "output", "wanted"),
    [
        ("mse", "quantities", {}, False, STEPS, STEPS),
        ("poisson", "quantities", {}, False, STEPS, STEPS),
        ("poisson_nll", "quantities", {}, False, STEPS, STEPS.exp()),
        ("poisson_nll", "quantities", {"log_input": True}, False, STEPS, STEPS.exp()),
        ("poisson_nll", "quantities", {"log_input": False}, False, STEPS, STEPS),
        ("binary_cross_entropy", "quantities", {}, False, STEPS, 1 / (1 + (-STEPS).exp())),
        ("binary_cross_entropy", "quantities", {}, True, STEPS, STEPS),
        ("cross_entropy", "quantities", {}, False, STEPS, STEPS.exp() / STEPS.exp().sum(-1, keepdim=True)),
        ("cross_entropy", "quantities", {}, False, STEPS[:, :, :1], 1 / (1 + (-STEPS[:, :, :1]).exp())),
        (
            "cross_entropy",
            "classes",
            {},
            False,
            STEPS,
            (STEPS.exp() / STEPS.exp().sum(-1, keepdim=True)).movedim(-1, 1),
        ),
        ("cross_entropy", "classes", {}, True, STEPS, STEPS.movedim(-1, 1)),
        ("nll", "classes", {}, False, STEPS.log_softmax(-1), STEPS.softmax(-1).movedim(-1, 1)),
        ("dice", "classes", {}, False, torch.tensor([[0.0]]), torch.tensor([[0.5, 0.5]])),
        ("cross_entropy", "classes", {}, True, torch.tensor([[0.2]]), torch.tensor([[0.8, 0.2]])),
        ("hinge", "labels", {}, False, torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 1 / (1 + math.exp(-1.0))]])),
    ],
)
def test_what_an_output_means(
    name: str, kind: Kind, said: dict[str, Any], gives_probabilities: bool, output: Tensor, wanted: Tensor
) -> None:
    loss = loss_of(name, kind, output, gives_probabilities=gives_probabilities, is_channels_first=False, **said)
    torch.testing.assert_close(loss.meant(output), wanted)
    assert loss.has_probabilities == (name != "hinge")


def test_several_outputs() -> None:
    """Of what a model gives, by whatever form, each takes its own."""
    first, second = loss_of("mse", "quantities", NUMBERS), loss_of("cross_entropy", "classes", SCORES)
    object.__setattr__(second.target.wanted, "index", 1)
    objective = Objective([first, second])
    expected = [F.mse_loss(SCORES, NUMBERS), F.cross_entropy(SCORES, CLASSES)]
    for result in ((SCORES, SCORES), [SCORES, SCORES], {"a": SCORES, "b": SCORES}):
        means = [each.mean for each in objective.sums(result, (NUMBERS, CLASSES))]
        torch.testing.assert_close(means, expected)


# -- names -------------------------------------------------------------------------------------------------------------

OF_TORCH = {
    "MSELoss": "mse", "L1Loss": "l1", "HuberLoss": "huber", "SmoothL1Loss": "smooth_l1", "NLLLoss": "nll",
    "CrossEntropyLoss": "cross_entropy", "PoissonNLLLoss": "poisson_nll", "BCELoss": "binary_cross_entropy",
    "BCEWithLogitsLoss": "binary_cross_entropy",
}  # fmt: skip
OF_TORCHS_FUNCTIONS = {
    "mse_loss": "mse", "l1_loss": "l1", "huber_loss": "huber", "smooth_l1_loss": "smooth_l1", "nll_loss": "nll",
    "binary_cross_entropy": "binary_cross_entropy", "binary_cross_entropy_with_logits": "binary_cross_entropy",
    "cross_entropy": "cross_entropy", "poisson_nll_loss": "poisson_nll",
}  # fmt: skip
OF_KERAS = {
    "MeanSquaredError": "mse", "MeanAbsoluteError": "l1", "MeanSquaredLogarithmicError": "msle", "Huber": "huber",
    "LogCosh": "log_cosh", "Poisson": "poisson", "CosineSimilarity": "cosine_similarity", "Hinge": "hinge",
    "SquaredHinge": "squared_hinge", "MeanAbsolutePercentageError": "mape", "Dice": "dice",
    "BinaryCrossentropy": "binary_cross_entropy", "CategoricalCrossentropy": "cross_entropy",
    "SparseCategoricalCrossentropy": "cross_entropy",
}  # fmt: skip


@pytest.mark.parametrize(("home", "names"), [(nn, OF_TORCH), (F, OF_TORCHS_FUNCTIONS), (keras.losses, OF_KERAS)])
def test_names_of_others(home: Any, names: dict[str, str]) -> None:
    for theirs, ours in names.items():
        assert hasattr(home, theirs)
        snake = "".join(f"_{each.lower()}" if each.isupper() else each for each in theirs).lstrip("_")
        for name in (theirs, theirs.lower(), *([snake] if home is keras.losses else [])):
            assert loss_named(name, {}).name == ours, name


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("hubre", {}, "'hubre' is no loss\n   = did you mean 'huber'"),
        ("ctc", {}, "'ctc' is no loss\n   = it may be mse, "),
        ("KLDivergence", {}, "'KLDivergence' is no loss\n   = cross_entropy takes probabilities as targets"),
        ("huber", {"dleta": 1.0}, "huber does not take 'dleta'\n   = did you mean 'delta'"),
        ("mse", {"delta": 1.0}, "mse does not take 'delta'"),
        ("nowhere:loss", {}, "'nowhere' can't be imported"),
        ("huber", {"delta": "wide"}, "huber does not take delta='wide': .* must be float, not str"),
        ("huber", {"delta": -1.0}, "huber does not take delta=-1.0: .* non-positive"),
        ("cross_entropy", {"label_smoothing": 2.0}, "cross_entropy does not take label_smoothing=2.0: .* between 0"),
        ("bce", {"label_smoothing": 2.0}, "binary_cross_entropy does not take label_smoothing=2.0: .* must be 0 to 1"),
        ("poisson_nll", {"log_input": "no"}, "poisson_nll does not take log_input='no': "),
    ],
)
def test_what_is_no_loss(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(regspec.RegspecError, match=message):
        loss_named(name, arguments)


@pytest.mark.parametrize("reduced", [True, False])
def test_one_of_ones_own(reduced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function of the output and its target, that gives a number, or one for each example."""

    def quartic(output: Tensor, target: Tensor, factor: float = 1.0) -> Tensor:
        losses = factor * (output - target).pow(4).mean(1)
        return losses.mean() if reduced else losses

    monkeypatch.setattr(inspect.getmodule(test_one_of_ones_own), "quartic", quartic, raising=False)
    output, target = torch.randn(3, 4), torch.randn(3, 4)
    loss = loss_of(f"{__name__}:quartic", "quantities", output, factor=2.0)
    torch.testing.assert_close(loss.of(output, target).mean, 2 * (output - target).pow(4).mean())


@pytest.mark.parametrize("shape", [(), (2,)])
@pytest.mark.parametrize("said", [{"ignore_index": 9}, {"weights": torch.tensor([1.0, 2.0, 3.0])}])
def test_one_of_ones_own_that_can_not_be_weighted(
    said: dict[str, Any], shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number for all places can't have those left out that do not count, nor weigh them."""
    module: Any = ModuleType("own_losses")
    module.mean = F.cross_entropy
    module.each = lambda output, target: F.cross_entropy(output, target, reduction="none")
    monkeypatch.setitem(sys.modules, "own_losses", module)
    output, target = torch.randn(4, 3, *shape), torch.arange(4).expand(*shape, 4).movedim(-1, 0).clone() % 3
    target[3] = said.get("ignore_index", 0)
    loss = loss_of("own_losses:each", "classes", output, **said)
    theirs = loss_of("cross_entropy", "classes", output, **said)
    torch.testing.assert_close(loss.of(output, target).mean, theirs.of(output, target).mean)
    with pytest.raises(regspec.RegspecError, match=r"own_losses:mean has to give a number for each (example|place), "):
        loss_of("own_losses:mean", "classes", output, **said).of(output, target)


@pytest.mark.parametrize(
    ("dense", "message"),
    [
        (
            {"units": 3, "activation": "softmax"},
            "nll takes logarithms of probabilities, but 'dense' gives probabilities",
        ),
        ({"units": 1}, "nll takes a unit for each class, but 'dense' has one"),
    ],
)
def test_what_nll_does_not_read(dense: dict[str, Any], message: str) -> None:
    spec = {"inputs": {"x": {"shape": [4]}}, "layers": [{"Dense": dense}]}
    data = torch.randn(20, 4), torch.arange(20) % max(2, dense["units"])
    with pytest.raises(regspec.RegspecError, match=message):
        regspec.train(spec, data, outputs={"dense": {"loss": "nll"}}, quiet=True)


def test_areas_have_no_weights_of_classes() -> None:
    spec = {"inputs": {"x": {"shape": [4]}}, "layers": [{"Dense": {"units": 3}}]}
    outputs = {"dense": {"loss": "dice", "class_weights": "balanced"}}
    with pytest.raises(regspec.RegspecError, match="class_weights are for losses of each place, but dice is of areas"):
        regspec.train(spec, (torch.randn(20, 4), torch.arange(20) % 3), outputs=outputs, quiet=True)
