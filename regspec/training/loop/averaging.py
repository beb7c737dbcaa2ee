"""The moving average of the weights over the steps of a training, which is what is evaluated and kept.

Lightning's WeightAveraging averages a copy of its whole module, which can't be one of shards, and whole numbers too,
which are rounded down then. Here torch's formula is used on the tensors themselves: the average of a weight's shards is
the shards of its average.
"""

from __future__ import annotations

from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from regspec.runtime.kernels.sharded import is_sharded


class Average(Callback):
    """Averages weights, and the numbers that layers keep, after each step; ``average = decay * average + …``.

    The average takes the model's place from the evaluation on until the callbacks before this one have kept what they
    keep of the epoch; a checkpoint has the weights that are trained, and the average beside them, whole. Of sharded
    weights each process has the shards of the average.

    Args:
        decay: what of the average stays in each step.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average: dict[str, Tensor] = {}
        self.is_in_place = False  # whether the model has the average, and the average the trained weights
        self._done = 0
        self._into = get_ema_multi_avg_fn(decay)

    def on_train_start(self, trainer: lightning.Trainer, training: Any) -> None:
        own = _tensors(training.model)
        self.average = {name: _placed(each, own[name]) for name, each in self.average.items()}
        self._done = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(self, trainer: lightning.Trainer, training: Any, *batch: Any) -> None:
        if trainer.global_step == self._done:
            return
        self._done = trainer.global_step
        own = _tensors(training.model)
        if not self.average:  # it begins with the weights after the first step, as torch's does
            self.average = {name: each.clone() for name, each in own.items()}
            return
        by_type: dict[torch.dtype, list[str]] = {}
        for name, each in own.items():
            if each.is_floating_point():
                by_type.setdefault(each.dtype, []).append(name)
            else:
                self.average[name].copy_(each)
        for names in by_type.values():
            self._into([self.average[name] for name in names], [own[name] for name in names], 0)

    def on_validation_start(self, trainer: lightning.Trainer, training: Any) -> None:
        if self.average:
            self._exchange(training.model)

    def on_train_epoch_end(self, trainer: lightning.Trainer, training: Any) -> None:
        if self.is_in_place:
            self._exchange(training.model)

    @torch.no_grad()
    def _exchange(self, model: nn.Module) -> None:
        for name, each in _tensors(model).items():
            before = each.clone()
            each.copy_(self.average[name])
            self.average[name].copy_(before)
        self.is_in_place = not self.is_in_place

    def whole(self) -> dict[str, Tensor]:
        """The average; of shards, put together beside the device. All processes must ask."""
        tensors: dict[str, Any] = self.average
        return {name: each.full_tensor().cpu() if is_sharded(each) else each for name, each in tensors.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.whole()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.average = dict(state_dict["average"])


def _placed(whole: Tensor, like: Any) -> Tensor:
    """A tensor on the device of another, and in shards as that one is."""
    if not is_sharded(like):
        return whole.to(like.device)
    from torch.distributed.tensor import distribute_tensor  # which takes half a second

    return distribute_tensor(whole, like.device_mesh, like.placements)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a model, without their gradients; of a sharded one the shards."""
    if (reshard := getattr(model, "reshard", None)) is not None:  # a forward leaves whole ones in their place
        reshard()
    return {name: each.detach() for name, each in (*model.named_parameters(), *model.named_buffers())}
