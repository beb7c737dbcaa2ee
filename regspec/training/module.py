"""The Lightning module: a model's data loss plus its penalties."""

from __future__ import annotations

from collections.abc import Mapping

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regspec.modules.binding import bind
from regspec.modules.measuring import outermost, regularization_loss, regularization_terms, strengths
from regspec.runtime.penalties.state import terms_in
from regspec.runtime.penalties.terms import Listener
from regspec.targets.torch.program import Program
from regspec.text.problems import Problem, RegspecError
from regspec.training.batches import Batches
from regspec.training.optimizers import optimizer_of
from regspec.training.options import Options


def gives_probabilities(program: Program) -> bool:
    """Whether the model's output comes from a softmax or a sigmoid, so that it is a probability and no score."""
    return program.last_module() in ("nn.Sigmoid", "nn.Softmax")


class DataLoss(torch.nn.Module):
    """The mean loss of outputs (batch, …) and targets: cross-entropy of classes, or the square error of quantities.

    Args:
        is_classification: whether targets are classes.
        gives_probabilities: whether outputs are probabilities, and no scores.
        class_weights: how much an example of each class counts; the sum is divided by the number of examples, as in
            Keras, so that the parts of a batch add up to the whole.
    """

    def __init__(
        self, *, is_classification: bool, gives_probabilities: bool = False, class_weights: Tensor | None = None
    ) -> None:
        super().__init__()
        self.is_classification = is_classification
        self.gives_probabilities = gives_probabilities
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        if not self.is_classification:
            return F.mse_loss(output.reshape(target.shape), target)
        return self._of_classes(output, target) / len(target)

    def _of_classes(self, output: Tensor, target: Tensor) -> Tensor:
        """The sum over examples."""
        if output.shape[1] == 1:
            weights = None if self.class_weights is None else self.class_weights[target]
            function = F.binary_cross_entropy if self.gives_probabilities else F.binary_cross_entropy_with_logits
            return function(output[:, 0], target.to(output.dtype), weights, reduction="sum")
        if self.gives_probabilities:
            return F.nll_loss(output.clamp_min(1e-7).log(), target, self.class_weights, reduction="sum")
        return F.cross_entropy(output, target, self.class_weights, reduction="sum")

    def accuracy(self, output: Tensor, target: Tensor) -> Tensor:
        """The share of examples whose class is right."""
        if output.shape[1] == 1:
            guess = (output[:, 0] > (0.5 if self.gives_probabilities else 0.0)).long()
        else:
            guess = output.argmax(dim=1)
        return (guess == target).float().mean()


class Training(lightning.LightningModule):
    """Trains a model on its data loss and its penalties, on one process or several.

    A batch lies over all processes, of which each has its part; the loss is scaled by that part's share, so that the
    mean of gradients which DDP and FSDP take is the gradient of the whole batch, whatever the parts' sizes. After each
    step of the optimizer constraints are applied, and strengths follow their schedules.

    Args:
        model: what is trained.
        data_loss: its loss on the data.
        options: how.
        batches: those of an epoch.
        is_penalized: whether the penalties are trained; those of a baseline are reported only.
    """

    def __init__(
        self, model: nn.Module, data_loss: DataLoss, options: Options, batches: Batches, *, is_penalized: bool = True
    ) -> None:
        super().__init__()
        self.model = model
        self.data_loss = data_loss
        self.options = options
        self.batches = batches
        self.is_penalized = is_penalized
        self.sums: dict[str, Tensor] = {}  # over the epoch's examples, of what is reported at its end
        self.counts: dict[str, int] = {}

    def configure_model(self) -> None:
        """Shards the model, where the strategy is to shard."""
        if self.device_mesh is not None and not hasattr(self.model, "unshard"):
            from torch.distributed.fsdp import fully_shard

            fully_shard(self.model, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch: tuple[Tensor, ...], index: int) -> Tensor:
        *inputs, target = batch
        data_loss: Tensor = self.data_loss(self.model(*inputs), target)
        penalty = regularization_loss(self.model)
        self._add(len(target), {"data_loss": data_loss, "penalty": penalty})
        loss = data_loss + penalty if self.is_penalized else data_loss
        return loss * self._share(len(target), index)

    def _share(self, count: int, index: int) -> float:
        """The size of this process's part of a batch, relative to an equal part."""
        processes = self.trainer.world_size
        return 1.0 if processes == 1 else count * processes / self.batches.whole(index)

    def validation_step(self, batch: tuple[Tensor, ...], index: int) -> None:
        *inputs, target = batch
        output = self.model(*inputs)
        values = {"held_out_loss": self.data_loss(output, target)}
        if self.data_loss.is_classification:
            values["held_out_accuracy"] = self.data_loss.accuracy(output, target)
        terms = regularization_terms(self.model, detach=True)
        self._add(len(target), {**values, **{f"penalty/{name}": each for name, each in terms.items()}})

    def _add(self, count: int, values: Mapping[str, Tensor]) -> None:
        """Adds to the sums over the epoch's examples; not by `log`, which costs as much as a small model's step."""
        for name, value in values.items():
            added = value.detach().float() * count
            self.sums[name] = self.sums[name] + added if name in self.sums else added
            self.counts[name] = self.counts.get(name, 0) + count

    def means(self) -> dict[str, float]:
        """The means over the epoch's examples, of all processes, since they were asked for last."""
        names = [*self.sums]
        both = torch.tensor([[float(self.sums[name]), self.counts[name]] for name in names])
        self.forget()
        both = self.trainer.strategy.reduce(both.to(self.device), reduce_op="sum").cpu()
        return {name: (total / count).item() for name, (total, count) in zip(names, both, strict=True)}

    def forget(self) -> None:
        """Resets the sums."""
        self.sums.clear()
        self.counts.clear()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        is_spread = self.trainer.world_size > 1
        steps = len(self.batches)
        return bound_optimizer(self.model, self.options, steps, is_penalized=self.is_penalized, is_spread=is_spread)


def bound_optimizer(
    model: nn.Module, options: Options, steps: int, *, is_penalized: bool = True, is_spread: bool = False
) -> torch.optim.Optimizer:
    """The optimizer of a model's parameters, with its terms on their routes; ``steps`` make an epoch.

    Where training ``is_spread`` over several processes, each has its part of a batch, by which its loss is scaled.

    Raises:
        RegspecError: where there is no such optimizer, it does not take its arguments, or a route is not possible.
    """
    cls, arguments = optimizer_of(options.optimizer)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise RegspecError(Problem("nothing of the model is trained", "its weights are frozen, or it has none"))
    try:
        optimizer = cls(trained, lr=options.lr, **arguments)
    except (TypeError, ValueError) as error:
        raise RegspecError(Problem(f"'{options.optimizer}' is no optimizer: {error}")) from None
    routes = options.routes_of() if is_penalized else {}
    binding = bind(model, optimizer, **routes, steps_per_epoch=steps)
    if any(isinstance(part.term, Listener) for part in binding.parts) and (is_spread or options.precision[:2] == "16"):
        what = "penalties of outputs have no gradient route in half precision that is scaled, or on several processes"
        raise RegspecError(Problem(what, "leave them on the loss"))
    terms = [term for _, root in outermost(model) for term, _ in terms_in(root)]
    if "activity" in routes and not any(isinstance(term, Listener) for term in terms):
        raise RegspecError(Problem("no output has a penalty, and a route is given for them"))
    for kind in routes.keys() - {"terms", "activity"}:
        if not any(name.endswith(f".{kind}") and not name.endswith(f".activity.{kind}") for name in strengths(model)):
            raise RegspecError(
                Problem(f"no weight has the {kind} that a route is given for", "that of outputs is activity=gradient")
            )
    return optimizer
