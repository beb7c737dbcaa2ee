"""A Lightning callback that logs penalties, strengths and sparsity to whatever logger is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from regspec.modules.measuring import regularization_terms, sparsity, strengths


class PenaltyLogger(Callback):
    """Logs what a model's penalties are while it is trained, under names that loggers group.

    - ``penalty/<term>``: each term's penalty, those on other routes than the loss too;
    - ``strength/<term>.<regularizer>``: its strength, which a schedule may change;
    - ``zeros/<term>``: the share of exact zeros in each penalized weight;
    - ``below/<term>``: the share of its numbers whose magnitude is at most ``threshold``.

    Args:
        every: how many steps of the optimizer lie between two records; the trainer's ``log_every_n_steps`` if None.
        threshold: what counts as nearly zero.

    Example:
        >>> import lightning
        >>> trainer = lightning.Trainer(callbacks=[PenaltyLogger(every=10)], logger=False)
    """

    def __init__(self, *, every: int | None = None, threshold: float = 1e-3) -> None:
        self.every = every
        self.threshold = threshold
        self._logged = 0  # the step of the last record: with accumulated gradients several batches are one step

    def on_train_batch_end(self, trainer: lightning.Trainer, module: Any, *_: Any) -> None:
        step = trainer.global_step
        every = self.every or int(getattr(trainer, "log_every_n_steps", 50))
        if not trainer.loggers or step == self._logged or step % every:
            return
        self._logged = step
        # on every rank, because sharded weights need all of them; only the first one's loggers write
        metrics: dict[str, Mapping[str, Any]] = {
            "penalty": regularization_terms(module, detach=True),
            "strength": strengths(module),
            "zeros": sparsity(module),
            "below": sparsity(module, threshold=self.threshold),
        }
        values = {f"{what}/{name}": float(each) for what, own in metrics.items() for name, each in own.items()}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=step)
