"""The Lightning module: a model's data loss plus its penalties."""

from __future__ import annotations

import math

import lightning
import torch
from torch import Tensor
from torch.nn import functional as F

from regspec.binding import bind
from regspec.blocks import Graph
from regspec.calls import Apply, Call, Module, Part
from regspec.runtime import Regularized


def gives_probabilities(graph: Graph) -> bool:
    """Whether the model's output comes from a softmax or a sigmoid, so that it is a probability and no score."""
    made = ((x, result) for node in graph.nodes for x, result in zip(node.outputs, node.plan.results, strict=True))
    match next((result for x, result in made if x is graph.outputs[0]), None):
        case (
            Apply(module=Module(constructor=Graph() as block))
            | Part(whole=Apply(module=Module(constructor=Graph() as block)))
        ):
            return gives_probabilities(block)
        case Apply(module=Module(constructor=Call(function=function))):
            return function in ("nn.Sigmoid", "nn.Softmax")
    return False


class Training(lightning.LightningModule):
    """Trains a model on its data loss and its penalties.

    The data loss is the cross-entropy of classes, or the mean square error of quantities. After each step of the
    optimizer constraints are applied, and strengths follow their schedules.
    """

    def __init__(
        self, model: Regularized, *, learning_rate: float, is_classification: bool, gives_probabilities: bool
    ) -> None:
        super().__init__()
        self.model = model
        self.learning_rate = learning_rate
        self.is_classification = is_classification
        self.gives_probabilities = gives_probabilities

    @property
    def task(self) -> str:
        """What is trained, and by which data loss, for people."""
        return "classes by cross-entropy" if self.is_classification else "quantities by mean square error"

    def data_loss(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss of an output, the penalties apart."""
        if not self.is_classification:
            return F.mse_loss(output.reshape(target.shape), target)
        if output.shape[1] == 1:
            target = target.to(output.dtype).unsqueeze(1)
            if self.gives_probabilities:
                return F.binary_cross_entropy(output, target)
            return F.binary_cross_entropy_with_logits(output, target)
        if self.gives_probabilities:
            return F.nll_loss(output.clamp_min(1e-7).log(), target)
        return F.cross_entropy(output, target)

    def accuracy(self, output: Tensor, target: Tensor) -> Tensor:
        """The share of examples whose class is right."""
        if output.shape[1] == 1:
            guess = (output[:, 0] > (0.5 if self.gives_probabilities else 0.0)).long()
        else:
            guess = output.argmax(dim=1)
        return (guess == target).float().mean()

    def training_step(self, batch: tuple[Tensor, ...], index: int) -> Tensor:
        *inputs, target = batch
        data_loss = self.data_loss(self.model(*inputs), target)
        penalty = self.model.regularization_loss()
        self._log({"data_loss": data_loss, "penalty": penalty}, len(target))
        return data_loss + penalty

    def validation_step(self, batch: tuple[Tensor, ...], index: int) -> None:
        *inputs, target = batch
        output = self.model(*inputs)
        self._log({"held_out_loss": self.data_loss(output, target)}, len(target))
        if self.is_classification:
            self._log({"held_out_accuracy": self.accuracy(output, target)}, len(target))

    def _log(self, values: dict[str, Tensor], size: int) -> None:
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=size, logger=False)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=self.learning_rate)
        steps = math.ceil(self.trainer.estimated_stepping_batches / (self.trainer.max_epochs or 1))
        bind(self.model, optimizer, steps_per_epoch=steps)
        return optimizer
