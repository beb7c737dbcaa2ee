"""What a user should know of a class, wherever a config has it; and what is said of it besides, to keep a quirk."""

from __future__ import annotations

from typing import Any

from regspec.keras.dialect import Dialect

NOTES = {
    "RandomCrop": "RandomCrop gives the middle in evaluation, resized, as Keras says; newer versions of Keras give "
    "images of another size as they are",
    "MixUp": "MixUp mixes images, and not their labels",
    "CutMix": "CutMix mixes images, and not their labels",
}
QUIRKS = {
    "ContrastLimitedAdaptiveHistogramEqualization": (
        {"as_on_torch": True},
        "ContrastLimitedAdaptiveHistogramEqualization has as_on_torch: it does what Keras does on torch, which cuts "
        "off histograms at other counts, and pads images in another way, than Keras on its other backends",
    )
}


def besides(class_name: str, dialect: Dialect) -> dict[str, Any]:
    """Fields that a config does not say, but that make a layer do what Keras does; notes are added to the dialect."""
    fields: dict[str, Any] = {}
    if class_name in NOTES:
        dialect.note(NOTES[class_name])
    if class_name in QUIRKS and dialect.keeps_quirks:
        fields, note = QUIRKS[class_name]
        dialect.note(note)
    return dict(fields)
