"""Rows of the layer table on images and signals: as arguments of `Row`."""

from __future__ import annotations

from typing import Any

Fields = dict[str, Any]

IMAGE = (6, 7, 3)
FACTOR = {"factor": 0.3}
RANGE = {"value_range": [-3.0, 2.0]}


def _row(kind: str, *shapes: tuple[int, ...], _more: Fields | None = None, **fields: Any) -> Fields:
    return {"kind": kind, "fields": fields, "shapes": shapes, **(_more or {})}


# In evaluation they give images as they are; what they do in training is in `test_augmentation.py`.
AUGMENTATIONS: dict[str, Fields] = {
    "RandomFlip": {"mode": "horizontal"},
    "RandomRotation": {"factor": [-0.1, 0.2], "fill_mode": "wrap", "interpolation": "nearest"},
    "RandomZoom": {"height_factor": 0.2, "fill_mode": "constant", "fill_value": 0.5},
    "RandomTranslation": {"height_factor": 0.2, "width_factor": [0.1, 0.3]},
    "RandomShear": {"x_factor": [0.1, 0.2]},
    "RandomPerspective": {"scale": 0.5},
    "RandomElasticTransform": {"factor": 0.5, "fill_mode": "mirror"},
    "RandomCrop": {"height": 6, "width": 7},
    "RandomErasing": {"scale": [0.1, 0.2], "fill_value": [0.1, 0.2, 0.3]},
    "RandomGaussianBlur": {"kernel_size": 5, "sigma": 0.5},
    "MixUp": {},
    "CutMix": {},
    "RandAugment": {"num_ops": 3, "factor": 0.2},
    "AugMix": {"num_chains": 2, "all_ops": False},
    "RandomBrightness": {**FACTOR, "value_range": [0, 1]},
    "RandomContrast": FACTOR,
    "RandomColorDegeneration": FACTOR,
    "RandomGrayscale": FACTOR,
    "RandomSaturation": FACTOR,
    "RandomHue": FACTOR,
    "RandomColorJitter": {"brightness_factor": 0.2, "contrast_factor": 0.1, "hue_factor": [0.1, 0.2]},
    "RandomInvert": {},
    "RandomPosterization": {"factor": 4},
    "RandomSharpness": FACTOR,
    "Solarization": {"addition_factor": 0.2, "threshold_factor": [0.1, 0.3]},
}
CLAHE = "ContrastLimitedAdaptiveHistogramEqualization"
SMALL = {"fft_length": 32, "sequence_stride": 9, "num_mel_bins": 5, "sampling_rate": 8000}

IMAGE_ROWS: list[Fields] = [
    *(_row(kind, IMAGE, _more={"is_random": True}, **fields) for kind, fields in AUGMENTATIONS.items()),
    _row("RandomColorJitter", IMAGE),
    _row("MaxNumBoundingBoxes", IMAGE, max_number=3),
    _row("MaxNumBoundingBoxes", (12, 4), max_number=3),
    *(_row("AutoContrast", IMAGE, **fields) for fields in (RANGE, {})),
    *(_row("Equalization", IMAGE, **fields) for fields in (RANGE, {"bins": 7, **RANGE}, {})),
    *(
        _row(CLAHE, (13, 10, 3), **RANGE, **fields)
        for fields in (
            {"as_on_torch": True},
            {"as_on_torch": True, "tile_grid_size": [2, 3], "clip_limit": 11},
            {"as_on_torch": True, "tile_grid_size": [3, 4], "clip_limit": 40},
            {"clip_limit": 0, "tile_grid_size": [13, 2]},
        )
    ),
    *(
        _row(CLAHE, (13, 10, 3), _more={"has_reference": False}, **RANGE, **fields)
        for fields in ({}, {"tile_grid_size": [2, 3], "clip_limit": 11}, {"tile_grid_size": [3, 4], "clip_limit": 40})
    ),
    _row(
        CLAHE,
        (5, 12, 1),
        _more={"dtype": "uint8", "high": 256},
        as_on_torch=True,
        tile_grid_size=[2, 3],
        clip_limit=30.0,
    ),
    _row("Resizing", (9, 8, 3), height=4, width=5, interpolation="bicubic", antialias=True),
    _row("Resizing", (6, 9, 3), height=4, width=4, interpolation="nearest", crop_to_aspect_ratio=True, antialias=True),
    *(
        _row("Resizing", (6, 9, 3), _more={"dtype": dtype, "high": 256}, height=4, width=7, **fields)
        for dtype in ("uint8", "int32")
        for fields in ({}, {"interpolation": "nearest"}, {"pad_to_aspect_ratio": True, "fill_value": 9})
    ),
    *(
        _row("Resizing", (9, 8, 3), _more={"has_reference": False}, height=4, width=11, antialias=True, **fields)
        for fields in ({"interpolation": "lanczos3"}, {"interpolation": "lanczos5"})
    ),
    # signals
    *(
        _row("STFTSpectrogram", (23, 2), mode=mode, frame_length=6)
        for mode in ("log", "magnitude", "psd", "real", "imag", "angle", "stft")
    ),
    *(
        _row(
            "STFTSpectrogram",
            (23, 2),
            mode=mode,
            frame_length=7,
            frame_step=3,
            fft_length=16,
            padding="same",
            window="hamming",
            scaling="spectrum",
            expand_dims=True,
        )
        for mode in ("log", "stft")
    ),
    _row("STFTSpectrogram", (23, 1), mode="psd", frame_length=5, window=None, scaling=None, periodic=True),
    _row("STFTSpectrogram", (23, 1), mode="real", frame_length=4, window=[0.1, 0.5, 1.0, 0.3]),
    _row("STFTSpectrogram", (23, 1), mode="imag", frame_length=8, periodic=True, window="blackman"),
    *(
        _row("MelSpectrogram", (111,), _more={"tolerance": 5e-4}, **{**SMALL, **fields})
        for fields in (
            {},
            {"window": "hamming", "sequence_length": 20, "top_db": 10.0},
            {"window": None, "mag_exp": 1.0, "power_to_db": False, "min_freq": 100.0, "max_freq": 3000.0},
            {"ref_power": 4.0, "min_power": 1e-3, "fft_length": 31},
        )
    ),
]
