"""What the tests of augmentations share: models of one layer, images."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

import regspec

BATCH, HIGH, WIDE = 5, 9, 12
SEED = 5


def built(kind: str, fields: dict[str, Any], data_format: str = "channels_first", shape: Any = None) -> Any:
    """The compiled model of one layer, in training."""
    shape = shape or ([3, HIGH, WIDE] if data_format == "channels_first" else [HIGH, WIDE, 3])
    document = {
        "regspec": 1,
        "data_format": data_format,
        "inputs": {"image": {"shape": shape}},
        "layers": [{kind: {**fields, "name": "layer"}}],
    }
    return regspec.build(regspec.loads(json.dumps(document))).train()


def images(low: float = 0.0, high: float = 255.0, batch: int = BATCH) -> Tensor:
    generator = torch.Generator().manual_seed(batch)
    return low + (high - low) * torch.rand(batch, 3, HIGH, WIDE, generator=generator)


def ordered(x: Tensor) -> Tensor:
    """Images in whatever order, channels first."""
    return x if x.shape[1] == 3 else x.permute(0, 3, 1, 2)
