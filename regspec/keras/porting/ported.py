"""What becomes of a Keras model in a file, and where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regspec.code.axes import Order
from regspec.keras.arrays.files import Account
from regspec.keras.configs.models import Model
from regspec.keras.porting.live import LiveModel
from regspec.specs.model import ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn


@dataclass(frozen=True)
class Provenance:
    """Where a port comes from: the file, what it says of itself, and what was read of it."""

    path: Path
    weights: Path | None  # of a config without any
    form: str  # .keras, .h5, JSON or SavedModel
    version: str | None  # of the Keras that wrote it
    generation: int  # of that Keras
    date: str | None
    config: Mapping[str, Any]
    renewed: Mapping[str, Any]  # the config as Keras 3 would have it
    training: Mapping[str, Any]  # what the model was compiled with
    model: Model
    account: Account | None  # of the arrays, if there are any
    reduction: str = "mean"  # of the penalties of outputs over a batch, by that Keras
    backend: str | None = None  # that trained it, of Keras 1 and 2, as far as that is known
    imports: tuple[str, ...] = ()  # what registers the user's kinds: modules, and module:Class
    live: LiveModel | None = None  # what was ported, where that was no file; `path` is where it was saved


@dataclass(frozen=True)
class PortedModel:
    """What became of a Keras model: a spec, its text, torch's parameters by name, and notes on what may surprise."""

    spec: ModelSpec
    text: str
    weights: Mapping[str, NDArray[np.generic]]
    notes: tuple[str, ...]
    provenance: Provenance = field(repr=False, compare=False)
    input_orders: Mapping[str, Order] = field(default_factory=dict)  # of axes, where it is not Keras's
    output_orders: Mapping[str, Order] = field(default_factory=dict)
    original: PortedModel | None = field(default=None, repr=False, compare=False)  # before it was folded, converted, …
    training: Mapping[str, Any] = field(default_factory=dict)  # options of `regspec train`, as the file was compiled
    moves: tuple[Callable[[Any], Any], ...] = field(default=(), repr=False, compare=False)  # of the original's arrays

    def build(self) -> nn.Module:
        """The module, with the weights of the file; in evaluation mode, as Keras's models are when they are called."""
        import torch

        from regspec.modules.building import build

        model = build(self.spec, seed=0)
        state = {name: torch.as_tensor(array) for name, array in self.weights.items()}
        model.load_state_dict({**model.state_dict(), **state})
        return model.eval()
