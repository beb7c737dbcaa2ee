"""What is said of the outputs that are trained: the target of each, its loss, how much it counts, its metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import ConfigDict, Field

from regspec.language.fields import Frozen, NamesIfAny, NotNegative
from regspec.training.options.columns import Scale
from regspec.training.options.said import sections_said


class OutputSection(Frozen):
    """How an output learns. What is no field of it is an argument of its loss: ``{loss: huber, delta: 0.5}``."""

    model_config = ConfigDict(extra="allow")

    target: str | None = Field(None, description="Its target: an array, a column, or an input; that of its own name.")
    loss: str | None = Field(
        None, description="Of torch or Keras, or package.module:function; by the target if absent."
    )
    from_logits: bool | None = Field(
        None, description="Whether it gives scores, and no probabilities; if absent, by the model's last layer."
    )
    scale: Scale | None = Field(
        None,
        description="Its quantities, scaled for the loss as a column is; figures and predictions have their units.",
    )
    weight: NotNegative = Field(1.0, description="What its loss is multiplied by.")
    metrics: NamesIfAny = Field(
        (), description="Metrics of it, of the data that it is trained on and of those held out."
    )
    class_weights: Literal["balanced"] | None = Field(None, description="balanced: rare classes count more.")
    ignore_index: int | None = Field(None, description="The class that stands for none: such places do not count.")

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of its loss."""
        return dict(self.model_extra or {})


def outputs_said(texts: Sequence[str]) -> dict[str, OutputSection]:
    """What options say of outputs, ``price.loss=huber``, by the outputs' names.

    Raises:
        RegspecError: with all faults.
    """
    return sections_said(texts, OutputSection, "output", "--outputs.price.loss huber", takes_all=False)
