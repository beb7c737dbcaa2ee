"""Augmentations that are made of others, and what holds for all of them."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import pytest
import torch
from torch import Tensor

import regspec
from regspec import runtime
from regspec.layers import KINDS
from regspec.layers.augmentation import Images
from regspec.layers.layer import Layer

from .augmenting import HIGH, SEED, WIDE, built, images, ordered
from .image_rows import AUGMENTATIONS

pytestmark = pytest.mark.filterwarnings("ignore:Tensor.T is deprecated")  # of Keras, in Equalization


# -- what has other parameters than these ------------------------------------------------------------------------------


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_crops_without_a_place_to_choose(data_format: str) -> None:
    """Where the window is as large as the images along an axis, Keras crops the middle, and enlarges it."""
    for high, wide in ((HIGH, 5), (4, WIDE), (HIGH + 3, 5), (14, 15), (HIGH, WIDE)):
        layer = keras.layers.RandomCrop(high, wide, data_format="channels_first")
        x = images()
        wanted = layer.transform_images(x, layer.get_random_transformation(x))
        model = built("RandomCrop", {"height": high, "width": wide}, data_format)
        got = ordered(model(x if data_format == "channels_first" else x.permute(0, 2, 3, 1)))
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(("high", "wide"), [(4, 7), (HIGH, 5), (14, 15), (HIGH, WIDE), (3, 20)])
def test_crops_the_middle_in_evaluation(high: int, wide: int) -> None:
    x = images()
    got = built("RandomCrop", {"height": high, "width": wide}).eval()(x)
    resizing = keras.layers.Resizing(high, wide, crop_to_aspect_ratio=True, data_format="channels_first")
    torch.testing.assert_close(got, resizing(x), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("value_range", [[0.0, 255.0], [-1.0, 2.0]])
@pytest.mark.parametrize("left_out", ["brightness", "contrast", "saturation", "hue", ""])
def test_color_jitter_is_a_chain(left_out: str, value_range: list[float]) -> None:
    factors = {"brightness": 0.2, "contrast": 0.5, "saturation": [0.4, 0.7], "hue": 0.3}
    fields = {f"{name}_factor": factor for name, factor in factors.items() if name != left_out}
    layer = keras.layers.RandomColorJitter(value_range, **fields, seed=SEED)
    drawn: dict[str, Any] = {}
    for name in factors.keys() - {left_out}:
        inner = getattr(layer, f"random_{name}")

        def recorded(
            *args: Any, draw: Any = inner.get_random_transformation, key: str = name, **keywords: Any
        ) -> dict[str, Tensor]:
            transformation = draw(*args, **keywords)
            (drawn[key],) = (each.clone().reshape(-1, 1, 1, 1) for each in transformation.values())
            return transformation

        inner.get_random_transformation = recorded
    x = images(*value_range)
    wanted = layer(x.permute(0, 2, 3, 1).clone(), training=True)  # Keras adds to the images themselves
    model = built("RandomColorJitter", {"value_range": value_range, **fields})
    got = x
    for name, module in model.named_children():
        key = name.removeprefix("layer_")
        scale = value_range[1] - value_range[0] if key == "brightness" else 1
        got = module.transform(got, drawn.pop(key) / scale)
    assert not drawn
    torch.testing.assert_close(got, ordered(wanted), rtol=1e-4, atol=2e-5 * (value_range[1] - value_range[0]))
    torch.manual_seed(SEED)
    assert not torch.equal(model(x), x)


POLICY = {"value_range": [0.0, 1.0], "factor": [0.1, 0.4], "interpolation": "nearest"}


@pytest.mark.parametrize(("kind", "more"), [("RandAugment", {}), ("AugMix", {}), ("AugMix", {"all_ops": False})])
def test_policies_choose_from_what_keras_does(kind: str, more: dict[str, Any]) -> None:
    """The same augmentations, each with the same bounds; RandAugment's in the same order."""
    layer = getattr(keras.layers, kind)(**POLICY, **more)
    names = layer._AUGMENT_LAYERS if kind == "RandAugment" else layer._augment_layers
    theirs = [getattr(layer, name) for name in names]
    ours = list(built(kind, {**POLICY, **more}).layer.augmentations)
    if kind == "AugMix":
        assert {type(each).__name__ for each in ours} == {type(each).__name__ for each in theirs}
        theirs.sort(key=lambda each: [type(own).__name__ for own in ours].index(type(each).__name__))
    assert [type(each).__name__ for each in ours] == [type(each).__name__ for each in theirs]
    for own, its in zip(ours, theirs, strict=True):
        config = its.get_config()
        for name, value in vars(own).items():
            if name != "training" and not name.startswith("_"):
                wanted = config[name] if isinstance(config[name], (str, int, float)) else tuple(config[name])
                assert value == wanted, (type(own).__name__, name)


class Marked(runtime.Augmentation):
    """Adds a power of sixteen, so that the sum tells which were done; counts its draws."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index, self.draws = index, 0

    def draw(self, x: Tensor) -> tuple[()]:
        self.draws += 1
        return ()

    def transform(self, x: Tensor) -> Tensor:
        return x + 16.0**self.index


def test_rand_augment_chooses_evenly() -> None:
    """One list of augmentations for the batch; one that is chosen twice has one draw."""
    module = built("RandAugment", {"num_ops": 2}).layer
    count = len(module.augmentations)
    module.augmentations = torch.nn.ModuleList(Marked(index) for index in range(count))
    torch.manual_seed(SEED)
    chosen, twice = torch.zeros(count), 0
    for _ in range(2200):
        before = [each.draws for each in module.augmentations]
        total = module(torch.zeros(2, 1, 1, 1, dtype=torch.float64)).flatten()
        assert total[0] == total[1]
        digits = [int(total[0] // 16**index) % 16 for index in range(count)]
        assert sum(digits) == 2
        assert [each.draws for each in module.augmentations] == [
            old + (digit > 0) for old, digit in zip(before, digits, strict=True)
        ]
        chosen += torch.tensor(digits)
        twice += 2 in digits
    assert (chosen - 400).abs().max() < 4 * (4400 * 10 / 121) ** 0.5
    assert abs(twice - 200) < 4 * (2200 * 10 / 121) ** 0.5


def test_aug_mix_is_a_mixture_of_chains() -> None:
    """Of augmentations that each add one: the mean of their number, and what is mixed with the images themselves."""
    fields = {"num_chains": 3, "chain_depth": 4, "alpha": 0.7, "value_range": [-100.0, 100.0]}
    module = built("AugMix", fields).layer
    count = len(module.augmentations)

    class Adding(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1

    module.augmentations = torch.nn.ModuleList(Adding() for _ in range(count))
    torch.manual_seed(SEED)
    added = torch.stack([module(torch.zeros(1, 1, 1, 1)).flatten() for _ in range(3000)]).flatten()
    # what is changed has a share of Beta(a, a), a chain a length of Binomial(4, count / (count + 1))
    share = count / (count + 1)
    length_mean, length_variance = 4 * share, 4 * share * (1 - share)
    beta_square = 0.25 + 1 / (4 * (2 * 0.7 + 1))
    weights_square = 3 * (1 / 9 + (1 / 3) * (2 / 3) / (3 * 0.7 + 1))
    mean = length_mean / 2
    variance = beta_square * (length_mean**2 + weights_square * length_variance) - mean**2
    assert float(added.mean()) == pytest.approx(mean, abs=4 * (variance / 3000) ** 0.5)
    assert float(added.var()) == pytest.approx(variance, rel=0.1)
    module(torch.full((1, 1, 1, 1), 99.0))  # bounded
    assert float(module(torch.full((1, 1, 1, 1), 99.9)).max()) <= 100


def test_zooms_alike_without_a_factor_of_the_width() -> None:
    module = built("RandomZoom", {"height_factor": 0.5}).layer
    high, wide = module.draw(images())
    assert torch.equal(high, wide)


# -- all of them -------------------------------------------------------------------------------------------------------

EVERY = [(kind, fields) for kind, fields in AUGMENTATIONS.items() if kind != "RandomCrop"]


@pytest.mark.parametrize("kind", sorted(name for name, cls in KINDS.items() if issubclass(cls, Images)))
def test_modules_have_the_defaults_of_their_kinds(kind: str) -> None:
    if kind == "RandomColorJitter":  # a chain of others
        return
    fields = KINDS[kind].model_fields
    shared = Layer.model_fields.keys() | {"data_format", "seed"}
    wanted = {name: field for name, field in fields.items() if name not in shared}
    required = {name for name, field in wanted.items() if field.is_required()}
    module = getattr(runtime, kind)
    known = dict(inspect.signature(module).parameters)
    if known.pop("warp", None) is not None:
        known |= dict(inspect.signature(runtime.Warp).parameters)
    assert known.keys() == wanted.keys()
    for name, parameter in known.items():
        if name in required:
            assert parameter.default is inspect.Parameter.empty
        elif name == "kernel_size":
            assert (parameter.default,) == fields[name].default
        else:
            assert parameter.default == fields[name].default, name


@pytest.mark.parametrize(("kind", "fields"), EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_dtypes_are_kept(kind: str, fields: dict[str, Any], dtype: torch.dtype) -> None:
    """And the result is near that of float32 with the same draws."""
    model = built(kind, fields)
    bounds = fields.get("value_range", (0.0, 255.0))
    x = images(*bounds).to(dtype)
    outputs = []
    for each in (x, x.float()):
        torch.manual_seed(SEED)
        outputs.append(model(each))
    assert outputs[0].dtype == dtype
    assert (outputs[0].float() - outputs[1]).abs().mean() < 0.02 * (bounds[1] - bounds[0])


@pytest.mark.parametrize("kind", ["RandomRotation", "RandomZoom", "RandomPerspective", "RandomElasticTransform"])
def test_places_are_exact_under_autocast(kind: str) -> None:
    model, x = built(kind, AUGMENTATIONS[kind]), images()
    outputs = []
    for is_enabled in (False, True):
        torch.manual_seed(SEED)
        with torch.autocast("cpu", torch.bfloat16, enabled=is_enabled):
            outputs.append(model(x))
    torch.testing.assert_close(outputs[1], outputs[0])


@pytest.mark.parametrize(("kind", "fields"), EVERY)
def test_both_formats_are_one(kind: str, fields: dict[str, Any]) -> None:
    x = images(*fields.get("value_range", (0.0, 255.0)))
    torch.manual_seed(SEED)
    first = built(kind, fields)(x)
    torch.manual_seed(SEED)
    last = built(kind, fields, "channels_last")(x.permute(0, 2, 3, 1))
    torch.testing.assert_close(last.permute(0, 3, 1, 2), first, rtol=0, atol=0)
    torch.manual_seed(SEED)
    unknown = built(kind, fields, shape=[3, None, None])(x)
    torch.testing.assert_close(unknown, first, rtol=0, atol=0)


@pytest.mark.parametrize(("kind", "fields"), [*EVERY, ("RandomCrop", {"height": 5, "width": 6})])
def test_seeds_decide(kind: str, fields: dict[str, Any]) -> None:
    model, x = built(kind, fields), images(*fields.get("value_range", (0.0, 255.0)))
    outputs = []
    for seed in (SEED, SEED, *range(8)):
        torch.manual_seed(seed)
        outputs.append(model(x))
    assert torch.equal(outputs[0], outputs[1])
    assert not all(torch.equal(outputs[0], each) for each in outputs)


@pytest.mark.parametrize(
    ("kind", "fields"), [each for each in AUGMENTATIONS.items() if each[0] not in ("RandAugment", "AugMix")]
)
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # of torch, for Beta
def test_compiles_whole(kind: str, fields: dict[str, Any]) -> None:
    """RandAugment and AugMix choose on the host, which breaks a graph."""
    model, x = built(kind, fields), images(*fields.get("value_range", (0.0, 255.0)))
    torch.compiler.reset()
    whole = torch.compile(model, fullgraph=True, backend="eager")
    outputs = []
    for each in (model, whole):
        torch.manual_seed(SEED)
        outputs.append(each(x))
    torch.testing.assert_close(outputs[1], outputs[0])


@pytest.mark.parametrize(("kind", "fields"), [each for each in EVERY if each[0] != "RandomPosterization"])
def test_gradients_reach_the_images(kind: str, fields: dict[str, Any]) -> None:
    x = images(*fields.get("value_range", (0.0, 255.0))).requires_grad_()
    torch.manual_seed(SEED)
    built(kind, fields)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


FAULTS = [
    ("RandomRotation", {"factor": 1.5}, "must be a number from -1 to 1, or a list of two"),
    ("RandomRotation", {"factor": [0.1]}, "or a list of two"),
    ("RandomRotation", {"factor": True}, "or a list of two"),
    ("RandomRotation", {"factor": [2, 3]}, "or a list of two"),
    ("RandomRotation", {"factor": 1e300}, "or a list of two"),
    ("RandomRotation", {}, "factor"),
    ("RandomZoom", {"height_factor": [-1, 0]}, "must be above -1"),
    ("RandomTranslation", {"height_factor": 0.1, "width_factor": [0.5, 1.5]}, "or a list of two"),
    ("RandomShear", {"x_factor": -0.1}, "must be a number from 0 to 1"),
    ("RandomBrightness", {"factor": 0.1, "value_range": [1, 0]}, "must be the least and the greatest value"),
    ("RandomGaussianBlur", {"kernel_size": 4}, "must be one odd number"),
    ("RandomGaussianBlur", {"kernel_size": [3, 5]}, "must be one odd number"),
    ("RandomPosterization", {"factor": 9}, "must be a number from 1 to 8"),
    ("RandomErasing", {"fill_value": [1.0, 2.0]}, "has 2 numbers as fill_value, but 3 channels"),
    ("RandomFlip", {"mode": "diagonal"}, "mode"),
    ("MixUp", {"alpha": 0}, "alpha"),
    ("CustomScaleLayer", {"scale": 1.0}, "takes 2 inputs"),
]


@pytest.mark.parametrize(("kind", "fields", "message"), FAULTS)
def test_faults(kind: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(regspec.RegspecError, match=message):
        built(kind, fields)


@pytest.mark.parametrize("kind", ["RandomHue", "RandomSaturation", "RandomGrayscale", "RandomColorDegeneration"])
def test_colors_need_red_green_and_blue(kind: str) -> None:
    with pytest.raises(regspec.RegspecError, match=r"takes images of (1 or )?3 channels, but 'image' gives 4"):
        built(kind, {"factor": 0.5}, shape=[4, 5, 6])


def test_grey_images_stay_as_they_are() -> None:
    grey = images()[:, :1]
    for kind in ("RandomGrayscale", "RandomColorDegeneration"):
        torch.testing.assert_close(built(kind, {"factor": 0.5}, shape=[1, HIGH, WIDE])(grey), grey)
