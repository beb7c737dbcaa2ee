"""Augmentations against Keras: what they do with given parameters, and from what distribution they draw these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import pytest
import torch
from torch import Tensor

from .augmenting import BATCH, HIGH, SEED, WIDE, built, images, ordered

pytestmark = pytest.mark.filterwarnings("ignore:Tensor.T is deprecated")  # of Keras, in Equalization


def _shifts(t: Any) -> Parameters:
    """Keras gives where the corners are, and where they go."""
    start, end = t["start_points"], t["end_points"]
    return t["apply_perspective"].view(-1, 1, 1, 1), torch.where(start > 0, end / start.clamp_min(1) - 1, 0.0)


def _elastic(t: Any) -> Parameters:
    """Keras draws the fields from torch's own generator when it transforms."""
    torch.manual_seed(SEED)
    noise = torch.stack([torch.normal(0.0, 1.0, size=(BATCH, HIGH, WIDE)) for _ in range(2)])
    return t["apply_transform"].view(-1, 1, 1, 1), t["distortion_factor"], noise


Parameters = tuple[Any, ...]
WARPS = [
    {},
    {"fill_mode": "nearest"},
    {"fill_mode": "wrap"},
    {"fill_mode": "constant", "fill_value": 30.0},
    {"interpolation": "nearest", "fill_mode": "wrap"},
    {"interpolation": "nearest", "fill_mode": "constant"},
    {"interpolation": "nearest"},
]
SMALL = {"value_range": [-1.0, 2.0]}

# A kind, its fields, and its parameters by Keras's own.
CASES: list[tuple[str, dict[str, Any], Callable[[Any], Parameters]]] = [
    *(("RandomFlip", {"mode": mode}, lambda t: (_image(t["flips"]),)) for mode in ("horizontal", "vertical")),
    ("RandomFlip", {}, lambda t: (_image(t["flips"]),)),
    ("RandomCrop", {"height": 4, "width": 7}, lambda t: (torch.as_tensor(t[0]), torch.as_tensor(t[1]))),
    *(("RandomRotation", {"factor": 0.4, **warp}, lambda t: (t["angle"] * torch.pi / 180,)) for warp in WARPS),
    *(
        ("RandomZoom", {**zoom, **warp}, lambda t: (t["height_zoom"].flatten(), t["width_zoom"].flatten()))
        for zoom, warp in zip(
            (
                {"height_factor": 0.5},
                {"height_factor": [-0.9, -0.2], "width_factor": [0.2, 0.9]},
                {"height_factor": [0.3, 1.0]},
            ),
            WARPS[1:],
            strict=False,
        )
    ),
    *(
        (
            "RandomTranslation",
            {"height_factor": 0.6, "width_factor": [-1.0, 0.3], **warp},
            lambda t: (t["translations"][:, 1] / HIGH, t["translations"][:, 0] / WIDE),
        )
        for warp in WARPS
    ),
    *(
        ("RandomShear", {"x_factor": [0.0, 0.8], "y_factor": 0.3, **warp}, lambda t: t["shear_factor"].unbind(1))
        for warp in WARPS
    ),
    *(
        ("RandomPerspective", {"factor": [0.4, 1.0], **more}, _shifts)
        for more in ({}, {"scale": 0.5, "fill_value": 9.0}, {"interpolation": "nearest"})
    ),
    *(
        ("RandomElasticTransform", {"factor": [0.8, 1.0], "scale": [0.6, 1.0], **warp}, _elastic)
        for warp in (*WARPS, {"fill_mode": "mirror"}, SMALL)
    ),
    ("RandomBrightness", {"factor": 0.4}, lambda t: (t["rgb_delta"] / 255,)),
    ("RandomBrightness", {"factor": [0.1, 0.9], **SMALL}, lambda t: (t["rgb_delta"] / 3,)),
    *(
        (kind, {"factor": factor, **more}, parameters)
        for more in ({}, SMALL)
        for kind, factor, parameters in (
            ("RandomContrast", 0.7, lambda t: (t["contrast_factor"],)),
            ("RandomContrast", [0.8, 0.3], lambda t: (t["contrast_factor"],)),
            ("RandomColorDegeneration", 0.7, lambda t: (t["factor"],)),
            ("RandomSaturation", 0.7, lambda t: (_image(t["factor"]),)),
            ("RandomSaturation", [0.5, 0.9], lambda t: (_image(t["factor"]),)),
            ("RandomHue", 0.9, lambda t: (_image(t["factor"]),)),
            ("RandomInvert", [0.4, 0.9], lambda t: (_image(t["apply_inversion"]),)),
            ("RandomPosterization", 6, lambda t: (8 - _image(t["shift_factor"]).long(),)),
            ("RandomPosterization", [3, 3], lambda t: (8 - _image(t["shift_factor"]).long(),)),
            ("RandomSharpness", 1.0, lambda t: (_image(t["factor"]),)),
        )
    ),
    *(
        ("Solarization", {**factors, **more}, lambda t: (t["additions"], t["thresholds"]))
        for more in ({}, SMALL)
        for factors in ({}, {"addition_factor": [0.1, 0.3], "threshold_factor": [0.2, 0.7]})
    ),
    ("RandomGrayscale", {"factor": 0.6}, lambda t: (t,)),
    *(
        (
            "RandomErasing",
            {"factor": [0.5, 1.0], "scale": [0.1, 0.7], **more},
            lambda t: (_image(t["apply_erasing"]), _first(t["batch_masks"]), ordered(t["fill_value"])),
        )
        for more in ({}, {"fill_value": 40.0}, SMALL)
    ),
    *(
        (
            "RandomGaussianBlur",
            {"factor": [0.5, 1.0], **more},
            lambda t: (_image(t["should_apply_blur"]), t["blur_factor"]),
        )
        for more in ({}, {"kernel_size": 7, "sigma": [0.7, 1.0]}, SMALL)
    ),
    ("MixUp", {"alpha": 0.9}, lambda t: (_image(t["mix_weight"]), t["permutation_order"])),
    *(
        ("CutMix", more, lambda t: (_first(t["batch_masks"]), t["permutation_order"]))
        for more in ({}, {"factor": [0.7, 1.0]})
    ),
    *(("Equalization", more, lambda t: ()) for more in ({}, {"bins": 19}, SMALL)),
]


def _image(value: Any) -> Tensor:
    """One number an image, in any shape, as (batch, 1, 1, 1)."""
    return value.reshape(-1, 1, 1, 1)


def _first(mask: Tensor) -> Tensor:
    """Keras's mask, of one channel."""
    return ordered(mask)[:, :1]


def transformed(
    kind: str, fields: dict[str, Any], x: Tensor, parameters_of: Callable[[Any], Parameters], data_format: str
) -> tuple[Parameters, Tensor]:
    """What Keras draws for the images, and makes of them."""
    is_first = data_format == "channels_first"
    layer = getattr(keras.layers, kind)(
        **fields, data_format=data_format, **({} if kind == "Equalization" else {"seed": SEED})
    )
    given = x if is_first else x.permute(0, 2, 3, 1)
    transformation = layer.get_random_transformation(given)
    parameters = [each.clone() for each in parameters_of(transformation)]  # Keras changes its matrices in place
    torch.manual_seed(SEED)
    wanted = layer.transform_images(given.clone(), transformation)
    return tuple(parameters), ordered(wanted)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda index: f"{CASES[index][0]}-{index}")
def test_transforms_as_keras_does(index: int, data_format: str) -> None:
    kind, fields, parameters_of = CASES[index]
    low, high = fields.get("value_range", (0.0, 255.0))
    x = images(low, high)
    parameters, wanted = transformed(kind, fields, x, parameters_of, data_format)
    got = built(kind, fields).layer.transform(x, *parameters)
    if wanted.shape == x.shape:
        assert (wanted != x).float().mean() > 0.1  # it does something
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5 * (high - low))


# -- what is drawn -----------------------------------------------------------------------------------------------------

MANY = 3000
FURTHEST = 0.045  # of two samples of 3000 from one distribution, 1 in 200 pairs differs by more
SHARED = ("RandomCrop", "RandomGaussianBlur", "RandomElasticTransform", "CutMix")  # draw numbers for the whole batch
DRAWN = [
    index
    for index, (kind, fields, _) in enumerate(CASES)
    if kind != "Equalization" and not {"fill_mode", "fill_value", "interpolation", "kernel_size"} & fields.keys()
]


def furthest(one: Tensor, other: Tensor) -> float:
    """The greatest difference of the distribution functions of two samples."""
    one, other = one.flatten().double().sort().values, other.flatten().double().sort().values
    both = torch.cat([one, other])
    shares = [torch.searchsorted(each, both, right=True) / len(each) for each in (one, other)]
    return float((shares[0] - shares[1]).abs().max())


def samples(kind: str, parameters: list[Parameters]) -> list[Tensor]:
    """The numbers of each parameter over several draws; of a mask, the share of each image that it covers."""
    if kind == "RandomPerspective":  # what Keras draws for the first corner has no effect, and it does not tell
        parameters = [(changed, shifts[:, 3]) for changed, shifts in parameters]
    if kind == "RandomElasticTransform":
        parameters = [each[:2] for each in parameters]
    return [
        torch.stack([x.float().mean((1, 2, 3)) if x.dtype == torch.bool else x.float() for x in each])
        for each in zip(*parameters, strict=True)
    ]


@pytest.mark.parametrize("index", DRAWN, ids=lambda index: f"{CASES[index][0]}-{index}")
def test_draws_from_keras_distribution(index: int) -> None:
    kind, fields, parameters_of = CASES[index]
    layer = getattr(keras.layers, kind)(**fields, data_format="channels_first", seed=SEED)
    module = built(kind, fields).layer
    calls, batch = (MANY // BATCH, BATCH) if kind in SHARED else (4, MANY // 4)
    x = images(batch=batch)
    theirs = samples(kind, [parameters_of(layer.get_random_transformation(x)) for _ in range(calls)])
    torch.manual_seed(SEED)
    ours = samples(kind, [module.draw(x) for _ in range(calls)])
    assert len(ours) == len(theirs)
    for got, wanted in zip(ours, theirs, strict=True):
        assert got.numel() == wanted.numel()
        assert furthest(got, wanted) < FURTHEST * max(MANY / got.numel(), 1) ** 0.5


@pytest.mark.parametrize("index", DRAWN, ids=lambda index: f"{CASES[index][0]}-{index}")
def test_draws_for_each_image_by_itself(index: int) -> None:
    """What an image's draw is says nothing of the next one's; what the batch shares is drawn anew in each call."""
    kind, fields, _ = CASES[index]
    module = built(kind, fields).layer
    torch.manual_seed(SEED)
    for numbers in samples(kind, [module.draw(images(batch=MANY)) for _ in range(2)]):
        first, second = numbers.flatten(2)[..., 0] if numbers.ndim > 2 else numbers
        if len(numbers.unique()) == 1:  # as its bounds are equal
            continue
        assert not torch.equal(first, second)
        if first.ndim and len(first) == MANY:
            assert abs(float(torch.corrcoef(torch.stack([first[:-1], first[1:]]))[0, 1])) < 0.06
