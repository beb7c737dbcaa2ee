"""The progress bar of a training, which says what an epoch's line says."""

from __future__ import annotations

import time
from typing import Any

import lightning
from lightning.pytorch.callbacks import RichProgressBar

from regspec.training.loop.epochs import Epochs, figures_of

SECONDS = 0.25  # between two looks at the sums, for which a GPU is waited for


class Bar(RichProgressBar):
    """A bar for each epoch, numbered as its line is, with the losses so far and the held-out figures of the last line.

    Args:
        epochs: what has been noted.
    """

    def __init__(self, epochs: Epochs) -> None:
        super().__init__(leave=False)
        self.epochs = epochs
        self._figures: dict[str, str] = {}
        self._looked = 0.0

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1:>{len(str(self.epochs.total))}}/{self.epochs.total}"

    def get_metrics(self, trainer: lightning.Trainer, pl_module: Any) -> dict[str, Any]:
        """The figures for people, by their labels."""
        if time.monotonic() - self._looked >= SECONDS:
            self._looked = time.monotonic()
            last = self.epochs.rows[-1] if self.epochs.rows else {}
            self._figures = figures_of({**last, **pl_module.so_far()})
        return dict(self._figures)
