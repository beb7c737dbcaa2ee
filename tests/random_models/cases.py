"""A random model with its inputs, as a case of the property."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import torch

from .graphs import REFUSALS, Models
from .layers import TOKENS

RANDOM = ("Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise", "SpatialDropout1D", "SpatialDropout2D",
          "SpatialDropout3D")  # fmt: skip
BATCHES = ((1, 7), (2, 9), (5, 8))  # examples, and the size of what may have any


@dataclass
class Case:
    """A random model, and how it was made: one line for each layer."""

    seed: int
    steps: int
    model: keras.Model
    lines: list[str]
    is_ordered: bool = False  # whether the order of its calls matters, in training; Keras's is by depth

    def __str__(self) -> str:
        return "\n".join([f"random_model({self.seed}, steps={self.steps})", *self.lines])

    @classmethod
    def of(cls, model: keras.Model) -> Case:
        """A model that is not random, with random weights."""
        maker = Models([0])
        maker.fill(model)
        return cls(0, 0, model, [])

    @property
    def specs(self) -> list[Any]:
        """The symbolic inputs, in the order in which Keras stores them."""
        if isinstance(self.model, keras.Sequential):
            return [*self.model.inputs]
        return list(keras.tree.flatten(self.model._inputs_struct))

    @property
    def is_random(self) -> bool:
        """Whether it computes something else each time, in training."""
        return any(_is_random(layer) for layer in self.model._flatten_layers())

    @property
    def is_sound(self) -> bool:
        """Whether Keras can run it on all batches, and all numbers are finite."""
        for training, (batch, length) in [(True, BATCHES[1]), *((False, sizes) for sizes in BATCHES)]:
            values = self.structured([torch.as_tensor(each) for each in self.inputs(batch, length)])
            try:
                outputs = keras.tree.flatten(self.model(values, training=training))
            except REFUSALS:
                return False
            if not all(bool(x.isfinite().all()) for x in [*outputs, *self.model.losses]):
                return False
        return True

    def inputs(self, batch: int, length: int = 7) -> list[np.ndarray]:
        """Arrays for the inputs; a size that may be any is ``length``."""
        rng = np.random.default_rng([self.seed, batch])
        arrays = []
        for spec in self.specs:
            shape = [batch, *(length if size is None else size for size in spec.shape[1:])]
            whole = "int" in keras.backend.standardize_dtype(spec.dtype)
            values = rng.integers(0, TOKENS, shape) if whole else rng.standard_normal(shape)
            if len(shape) == 3 and not whole:  # sequences of several lengths, for masks
                for example, count in enumerate(rng.integers(1, shape[1] + 1, batch)):
                    values[example, count:] = 0
            arrays.append(values.astype(keras.backend.standardize_dtype(spec.dtype)))
        return arrays

    def structured(self, values: list[Any]) -> Any:
        """Values in the structure in which the model takes them."""
        if isinstance(self.model, keras.Sequential):
            return values[0]
        return keras.tree.pack_sequence_as(self.model._inputs_struct, values)


def _is_random(layer: Any) -> bool:
    rates = [getattr(layer, name, 0) or 0 for name in ("dropout", "recurrent_dropout")]
    name = type(layer).__name__
    noisy = name in RANDOM and (getattr(layer, "rate", 0) or getattr(layer, "stddev", 0))
    noisy = noisy or name.startswith("Random")
    return bool(noisy) or any(isinstance(rate, (int, float)) and rate > 0 for rate in rates)


def random_model(seed: int, steps: int = 9) -> Case:
    """The model of a seed; with fewer steps, the same one cut short. The first that Keras can run on all sizes."""
    for attempt in range(20):
        keras.backend.clear_session(free_memory=False)
        maker = Models([seed, attempt])
        made = maker.sequential if maker.chance(0.25) else maker.graph
        try:
            model = made(maker.shape(), steps=steps, depth=0)
        except REFUSALS:  # of a name that Keras had given to another layer; of a sequence at its first call
            continue
        case = Case(seed, steps, model, maker.lines, maker.is_ordered)
        maker.fill(model)
        if case.is_sound:
            maker.fill(model)  # again, because the moving statistics have moved
            return case
    raise AssertionError(f"no model of the seed {seed} runs")
