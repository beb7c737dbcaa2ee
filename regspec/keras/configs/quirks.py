"""Behaviour of a version of Keras that is surely not intended: reproduced or corrected, and named in a note."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeAlias

from regspec.keras.configs.dialect import Dialect
from regspec.keras.configs.notes import Notes
from regspec.keras.configs.values import UnportedError

Config = dict[str, Any]
Quirk: TypeAlias = Callable[[Config, Dialect, Notes], Config]

ATTENTION = ("MultiHeadAttention", "GroupQueryAttention", "GroupedQueryAttention")
# Classes whose weights are those of layers that they are given, or make without a word on whether these are trained.
HOLDERS = frozenset(
    (
        *("RNN", "StackedRNNCells", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"),
        *("Bidirectional", "TimeDistributed", "SpectralNormalization"),
        *ATTENTION,  # whose projections are made when the file has been read
    )
)
# Classes whose output in training depends on the whole batch, or on how often they were called.
OF_BATCHES = ("BatchNormalization", "SyncBatchNormalization", "SpectralNormalization", "RandomCrop")
TABLES = ("Embedding", "ReversibleEmbedding")  # of vectors, which whole numbers index


def heeded(class_name: str, config: Config, dialect: Dialect, notes: Notes) -> Config:
    """A layer's config as its Keras heeds it; or, where quirks are not kept, as it was meant."""
    for generation, classes, quirk in QUIRKS:
        if generation == dialect.generation and class_name in classes:
            config = quirk(config, dialect, notes)
    return config


def _is_kept(dialect: Dialect, notes: Notes, what: str, kept: str, meant: str) -> bool:
    """Whether a quirk is reproduced; a note says what it is, and what becomes of it in either case."""
    notes.add(f"{what}{kept if dialect.keeps_quirks else meant}")
    return dialect.keeps_quirks


def _unheard(config: Config, dialect: Dialect, notes: Notes) -> Config:
    """Without the penalty on the output of a layer inside: Keras 3 calls it so that none is added."""
    inner = config.get("layer") or {}
    own = inner.get("config")
    if not isinstance(own, dict) or own.get("activity_regularizer") is None:
        return config
    what = f"'{config.get('name')}' wraps a layer with an activity_regularizer, which Keras 3 never applies there"
    if not _is_kept(dialect, notes, what, ", and so it is left out; keeps_quirks=False applies it", "; here it is"):
        return config
    return {**config, "layer": {**inner, "config": {**own, "activity_regularizer": None}}}


def _at_once(config: Config, dialect: Dialect, notes: Notes) -> Config:
    """Before Keras 3 all steps are one batch of the layer inside.

    That shows where the layer reads its batch (`OF_BATCHES`), or where a layer in it has a penalty on its output, which
    is a mean over the batch.
    """
    inner, reads_batch = config.get("layer"), False
    while isinstance(inner, dict) and not reads_batch:
        own = inner.get("config") or {}
        wrapped = [
            own[key].get("config") or {} for key in ("layer", "backward_layer") if isinstance(own.get(key), dict)
        ]
        has_penalty = any(each.get("activity_regularizer") is not None for each in wrapped)
        reads_batch = inner.get("class_name") in OF_BATCHES or has_penalty
        inner = own.get("layer")
    return {**config, "steps_at_once": True} if reads_batch else config


def _off_center(config: Config, dialect: Dialect, notes: Notes) -> Config:
    """Refuses the interpolation of Keras before TensorFlow 2, which shifts images; or ports it as it is now."""
    if not dialect.is_standalone or config.get("interpolation", "nearest") == "nearest":
        return config
    what = f"the interpolation {config['interpolation']} of Keras before TensorFlow 2, which moves the image"
    if dialect.keeps_quirks:
        raise UnportedError(f"{what}; keeps_quirks=False ports it as it is now")
    notes.add(f"'{config.get('name')}' has {what}; here it does not")
    return config


def _projected(config: Config, dialect: Dialect, notes: Notes) -> Config:
    """With the penalty of an attention layer's output where Keras 3 applies it: on its projections."""
    activity = config.get("activity_regularizer")
    if activity is None or not dialect.keeps_quirks:
        return config
    what = f"'{config.get('name')}' has its activity_regularizer on the outputs of its projections, as Keras 3 does"
    notes.add(f"{what}; with keeps_quirks=False it is on the layer's own output")
    return {**config, "activity_regularizer": None, "projection_activity": activity}


def _projected_too(config: Config, dialect: Dialect, notes: Notes) -> Config:
    """With the penalty of an attention layer's output on its projections besides."""
    return {**_projected(config, dialect, notes), "activity_regularizer": config.get("activity_regularizer")}


def _as_on_torch(config: Config, dialect: Dialect, notes: Notes) -> Config:
    """With the behaviour of Keras's torch backend, which differs from the others."""
    if not dialect.keeps_quirks:
        return config
    notes.add(
        "ContrastLimitedAdaptiveHistogramEqualization has as_on_torch: it does what Keras does on torch, which cuts "
        "off histograms at other counts, and pads images in another way, than Keras on its other backends"
    )
    return {**config, "as_on_torch": True}


def _unfrozen(config: Config, dialect: Dialect, notes: Notes) -> Config:
    """Trained, though the config says frozen: Keras freezes none of the layers that a constructor is given or makes."""
    if config.get("trainable") is not False or not dialect.keeps_quirks or dialect.is_frozen:
        return config
    if dialect.thawed is not None and config.get("name") not in dialect.thawed:  # as nobody has read a live model
        return config
    held = _held(config)
    if not held or any(map(_is_trained, held)):
        what = f"'{config.get('name')}' is frozen, but not what it holds, which Keras trains once it has read the file"
        notes.add(f"{what}, and so does the port; with keeps_quirks=False it is frozen")
    return {**config, "trainable": True}


def _cut_off(config: Config, dialect: Dialect, notes: Notes) -> Config:
    """With an output of the input's type, which are whole numbers where the layer inside is a table of vectors."""
    inner = config.get("layer")
    if not isinstance(inner, dict) or inner.get("class_name") not in TABLES:
        return config
    what = f"'{config.get('name')}' is around an embedding, whose vectors Keras 3 cuts to whole numbers"
    what = f"{what} where the input has these"
    if not _is_kept(dialect, notes, what, ", and so does the port; keeps_quirks=False leaves them", "; here they stay"):
        return config
    return {**config, "cuts_off": True}


def _is_trained(item: dict[str, Any]) -> bool:
    """Whether Keras trains a layer, or one that it holds, once it has read it."""
    config = item.get("config") or {}
    if held := _held(config):
        return any(map(_is_trained, held))
    return item["class_name"] in HOLDERS or config.get("trainable") is not False


def _held(config: Config) -> list[dict[str, Any]]:
    """The layers and cells that a layer holds."""
    held = [config.get(key) for key in ("layer", "backward_layer", "cell")] + list(config.get("cells") or [])
    return [each for each in held if isinstance(each, dict)]


# By the generation of Keras, and the classes.
QUIRKS: tuple[tuple[int, Collection[str], Quirk], ...] = (
    (1, ("TimeDistributed",), _at_once),
    (2, ("TimeDistributed",), _at_once),
    (2, ("UpSampling2D",), _off_center),
    (3, ("TimeDistributed",), _unheard),
    (3, ATTENTION[:1], _projected),
    (3, ATTENTION[1:], _projected_too),
    (3, ("ContrastLimitedAdaptiveHistogramEqualization",), _as_on_torch),
    (3, HOLDERS, _unfrozen),
    (3, ("SpectralNormalization",), _cut_off),
)


def mistaken(fields: Config, dialect: Dialect, notes: Notes) -> Config:
    """A gated layer of Keras 1.2, which takes the penalty of the kernel for its recurrent kernel too."""
    if fields.get("recurrent_regularizer") == fields.get("kernel_regularizer"):
        return fields
    what = f"'{fields.get('name')}' has the penalty of its kernel on its recurrent kernel too, in Keras 1.2"
    if not _is_kept(
        dialect, notes, what, ", and so in the port; keeps_quirks=False gives it its own", "; here its own"
    ):
        return fields
    return {**fields, "recurrent_regularizer": fields.get("kernel_regularizer")}
