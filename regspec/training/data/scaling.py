"""Numbers scaled by what the training part holds, by scikit-learn's scalers: columns of a table, and targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regspec.training.options.columns import Scale


@dataclass(frozen=True)
class Scaling:
    """What is taken from each unit's numbers, and what they are divided by then."""

    center: tuple[float, ...]
    spread: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """What a run's folder keeps of it, of which `of_dict` makes it again."""
        return {"center": [*self.center], "spread": [*self.spread]}

    @classmethod
    def of_dict(cls, data: Mapping[str, Any]) -> Scaling:
        """The scaling of what a run's folder keeps."""
        return cls(tuple(data["center"]), tuple(data["spread"]))


def scaling_of(numbers: NDArray[Any], how: Scale) -> Scaling:
    """The scaling that numbers (examples, units) are to have; one that is the same everywhere becomes 0."""
    import sklearn.preprocessing as preprocessing

    scalers = {
        "standard": preprocessing.StandardScaler, "min_max": preprocessing.MinMaxScaler,
        "robust": preprocessing.RobustScaler,
    }  # fmt: skip
    scaler = scalers[how]().fit(numbers)
    if how == "min_max":
        center, spread = scaler.data_min_, np.where(scaler.data_range_ == 0, 1.0, scaler.data_range_)
    else:
        center, spread = scaler.mean_ if how == "standard" else scaler.center_, scaler.scale_
    return Scaling(tuple(map(float, center)), tuple(map(float, spread)))
