"""One class a kind, by family. Importing the package fills the table of kinds, `KINDS`."""

from regspec.layers import (
    activation,
    attention,
    convolution,
    convolutional_recurrent,
    dense,
    dropout,
    embedding,
    masking,
    merging,
    normalization,
    pooling,
    preprocessing,
    recurrent,
    reshaping,
    wrappers,
)
from regspec.layers.layer import KINDS, Layer, find_kind

__all__ = [
    "KINDS",
    "Layer",
    "activation",
    "attention",
    "convolution",
    "convolutional_recurrent",
    "dense",
    "dropout",
    "embedding",
    "find_kind",
    "masking",
    "merging",
    "normalization",
    "pooling",
    "preprocessing",
    "recurrent",
    "reshaping",
    "wrappers",
]
