"""Random choices, and the values of the fields of Keras's layers: regularizers, constraints, activations, names."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, TypeVar

import keras
import numpy as np

T = TypeVar("T")

# As people and programs name things; none is a plain identifier of lower case that is free to use.
NAMES = """
conv-1|the layer|3d|Encoder|lambda|import|class|forward|self|weight|Dense|dense|größe|a.b|x|input|train|parameters|relu
|None|_private|UPPER|block|layers|$dollar|yes|on|1e3|null|~|#hash|a: b|{x}|[y]|'quoted'|"double"|%|&anchor|*star
|a_b|a-b|A_b|name|call|outputs|regularization_loss|torch|nn|F|Tensor|super|conv_activation|-|a, b|0|é|@|<x>|back\\slash
""".replace("\n", "").split("|")
ELEMENTWISE = """
celu elu gelu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear log_sigmoid mish relu relu6 selu
sigmoid silu swish soft_shrink softplus softsign sparse_plus sparse_sigmoid squareplus tanh tanh_shrink
""".split()  # noqa: SIM905  # so many are read better as words
ALONG_AXIS = ["softmax", "log_softmax", "sparsemax"]


class Draws:
    """Random choices from a seed."""

    def __init__(self, seed: int | Sequence[int]) -> None:
        self.rng = np.random.default_rng(seed)
        self.names = itertools.count()
        self.taken: set[str] = set()  # names in the model that is being made; Keras allows each once

    # -- choices -------------------------------------------------------------------------------------------------------

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def pick(self, options: Sequence[T], weights: Sequence[float] | None = None) -> T:
        shares = None if weights is None else np.asarray(weights, float) / sum(weights)
        return options[int(self.rng.choice(len(options), p=shares))]

    def whole(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def number(self, low: float, high: float) -> float:
        return round(float(self.rng.uniform(low, high)), 3)

    def sizes(self, rank: int, low: int, high: int) -> Any:
        """One size for all axes, or one for each."""
        return self.whole(low, high) if self.chance(0.5) else tuple(self.whole(low, high) for _ in range(rank))

    def some(self, share: float = 0.3, **options: Any) -> dict[str, Any]:
        """Some of the options."""
        return {name: value for name, value in options.items() if self.chance(share)}

    # -- values of fields ----------------------------------------------------------------------------------------------

    def name(self, kind: str) -> dict[str, str]:
        """A name as a keyword; none at times, and Keras makes one."""
        if self.chance(0.5):
            return {}
        name = self.pick(NAMES) if self.chance(0.7) else f"{kind.lower()}_{next(self.names)}"
        if name in self.taken:
            return {}
        self.taken.add(name)
        return {"name": name}

    def strength(self) -> float:
        return round(float(10 ** self.rng.uniform(-3, -1)), 5)

    def regularizer(self, rank: int | None = None) -> Any:
        """A regularizer in one of Keras's forms; for a weight of a rank, also what only matrices can have."""
        one, other = self.strength(), self.strength()
        forms = ["l1", "l2", "L1", "L2", "l1l2", {"class_name": "L2", "config": {"l2": one}}]
        made = keras.regularizers
        objects = [made.L1(one), made.L2(one), made.L1L2(one, other), made.L1L2(l1=one), made.L1L2(l2=other)]
        if rank == 2 and self.chance(0.2):
            return made.OrthogonalRegularizer(one, self.pick(["rows", "columns"]))
        return self.pick(objects) if self.chance(0.7) else self.pick(forms)

    def constraint(self, axes: Sequence[int]) -> Any:
        """A constraint; one of norms is along the axes, or there is none without."""
        made = keras.constraints
        if not axes or self.chance(0.3):
            return self.pick(["non_neg", made.NonNeg()])
        axis = self.pick([*axes, list(axes)])
        objects = [made.MaxNorm(self.number(0.5, 2), axis), made.UnitNorm(axis)]
        objects.append(made.MinMaxNorm(self.number(0.1, 0.5), self.number(0.6, 2), self.number(0.3, 1), axis))
        return self.pick(["max_norm", "unit_norm", "min_max_norm"]) if self.chance(0.3) else self.pick(objects)

    def initializer(self, is_matrix: bool) -> Any:
        made = keras.initializers
        names = ["zeros", "ones", "random_normal", "random_uniform", "truncated_normal", "normal", "uniform", "Ones"]
        objects = [
            made.Constant(self.number(-1, 1)),
            made.RandomNormal(self.number(-1, 1), self.number(0, 1)),
            made.RandomUniform(-self.number(0, 1), self.number(0, 1)),
            made.TruncatedNormal(stddev=self.number(0.01, 1)),
        ]
        if is_matrix:
            names += ["glorot_uniform", "glorot_normal", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform"]
            names += ["orthogonal", "variance_scaling", "HeNormal"]
            mode, kind = (
                self.pick(["fan_in", "fan_out", "fan_avg"]),
                self.pick(["normal", "untruncated_normal", "uniform"]),
            )
            objects += [
                made.VarianceScaling(self.number(0.1, 2), mode, kind, seed=self.pick([None, 3])),
                made.Orthogonal(self.number(0.5, 2)),
                made.HeNormal(seed=7),
            ]
        return self.pick([*names, *objects])

    def slots(self, *slots: str, rank: int | None = 2, axes: Sequence[int] = (0,)) -> dict[str, Any]:
        """Initializers, regularizers and constraints for slots: the first has this rank, the others are vectors."""
        fields: dict[str, Any] = {}
        for index, slot in enumerate(slots):
            is_matrix = slot not in ("bias", "gamma", "beta", "alpha")
            own_rank = rank if index == 0 else 2 if slot == "recurrent" else 4 if is_matrix else 1
            own_axes = axes if is_matrix and index == 0 else (0,) if slot == "recurrent" else ()
            if self.chance(0.15):
                fields[f"{slot}_initializer"] = self.initializer(is_matrix)
            if self.chance(0.3):
                fields[f"{slot}_regularizer"] = self.regularizer(own_rank)
            if self.chance(0.12):
                fields[f"{slot}_constraint"] = self.constraint(own_axes)
        return fields

    def activity(self, share: float = 0.12) -> dict[str, Any]:
        return {"activity_regularizer": self.regularizer()} if self.chance(share) else {}

    def activation(self, *, is_of_a_step: bool = False) -> Any:
        """An activation by its name, as a function, or as a layer."""
        names = ELEMENTWISE + ([] if is_of_a_step else ALONG_AXIS)
        if is_of_a_step or self.chance(0.75):
            name = self.pick(names)
            return getattr(keras.activations, name) if self.chance(0.1) and hasattr(keras.activations, name) else name
        made = keras.layers
        return self.pick(
            [
                made.LeakyReLU(self.number(0.05, 0.5)),
                made.ReLU(self.number(0.5, 2), self.number(0, 0.3), self.number(0, 0.3)),
                made.ReLU(),
                made.ELU(self.number(0.5, 1.5)),
                made.Softmax(),
                made.Activation(self.pick(names)),
            ]
        )

    def activated(self, share: float = 0.5) -> dict[str, Any]:
        return {"activation": self.activation()} if self.chance(share) else {}


def text(value: Any) -> str:
    """A value for people, as it could be written in a program."""
    if isinstance(value, keras.layers.Layer) and hasattr(value, "written"):
        return str(value.written)
    if hasattr(value, "get_config") and not isinstance(value, type):
        config = {name: each for name, each in value.get_config().items() if name not in ("name", "dtype", "trainable")}
        return f"{type(value).__name__}({', '.join(f'{name}={text(each)}' for name, each in config.items())})"
    return getattr(value, "__name__", None) or repr(value)
