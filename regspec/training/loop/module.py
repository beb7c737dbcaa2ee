"""The Lightning module: a model's data loss plus its penalties."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Sized
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from regspec.modules.binding import bind
from regspec.modules.measuring import outermost, regularization_loss, regularization_terms, strengths
from regspec.runtime.penalties.listeners import Listener
from regspec.runtime.penalties.state import terms_in
from regspec.text.problems import Problem, RegspecError
from regspec.training.data.examples import Parted
from regspec.training.loop.groups import Groups
from regspec.training.measures.metrics import OutputMetrics
from regspec.training.measures.objective import Objective, Sum
from regspec.training.options.optimizers import optimizer_of
from regspec.training.options.options import Options

# figures that need a place that counts, and of which examples they are; a loss of areas is also of none
NEEDED = (("data_loss", "trained on"), ("held_out_loss", "held out"), ("held_out_accuracy", "held out"))


class Training(lightning.LightningModule):
    """Trains a model on its data loss and its penalties, on one process or several.

    A step of the optimizer is of several batches, which lie over all processes. Each part's mean is scaled by its share
    of what counts in the step, as `Steps` tells it, so that the gradients, which are summed over batches and averaged
    over processes, become that of one batch that holds all, whatever the parts' sizes. After each step constraints are
    applied, and strengths follow their schedules.

    Args:
        model: what is trained.
        objective: the losses of its outputs on the data.
        options: how.
        batches: those of an epoch.
        inputs: how many the model has, with which a batch begins.
        groups: what rules say of the model's weights, of which some may be frozen already.
        is_penalized: whether the penalties are trained; those of a baseline are reported only.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        options: Options,
        batches: Sized,
        *,
        inputs: int = 1,
        groups: Groups | None = None,
        is_penalized: bool = True,
    ) -> None:
        super().__init__()
        self.groups = groups or Groups()
        self.model = model
        self.objective = objective
        self.metrics = nn.ModuleDict(
            {part: nn.ModuleList(OutputMetrics(loss) for loss in objective) for part in ("trained", "held_out")}
        )
        self.options = options
        self.batches = batches
        self.input_count = inputs
        self.is_penalized = is_penalized
        self.totals: dict[str, Tensor] = {}  # over the epoch, of what is reported at its end
        self.counts: dict[str, Tensor | int] = {}
        self.train()

    def train(self, mode: bool = True) -> Training:
        """Puts all into training, but for what rules hold as it is; or into evaluation."""
        super().train(mode)
        self.groups.hold(self.model)
        return self

    def configure_model(self) -> None:
        """Shards the model, where the strategy is to shard."""
        if self.device_mesh is not None and not hasattr(self.model, "unshard"):
            from torch.distributed.fsdp import fully_shard

            fully_shard(self.model, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch: tuple[Tensor, ...], index: int) -> Tensor:
        *parts, counted = batch
        parted = self._parted(parts)
        targets, result = parted.targets, self.model(*parted.inputs)
        sums = self.objective.sums(result, targets, parted.weights)
        penalty = regularization_loss(self.model)
        of_examples, *of_places = self._shares(counted).unbind()
        losses = [
            each.mean * share * loss.target.wanted.said.weight
            for loss, each, share in zip(self.objective, sums, of_places, strict=True)
        ]
        self._add_losses("data_loss", sums)
        self._add("penalty", Sum(penalty * len(targets[0]), len(targets[0])))
        self._measure("trained", result, targets)
        return sum(losses[1:], losses[0]) + (penalty * of_examples if self.is_penalized else 0)

    def _parted(self, batch: Sequence[Tensor]) -> Parted:
        """A batch in its parts."""
        return Parted.of(batch, self.input_count, len(self.objective.losses))

    def counted(self, batch: Sequence[Tensor]) -> Tensor:
        """How many examples a batch has, and how many places count of each output."""
        return self.objective.counted(self._parted(batch).targets)

    def _shares(self, counted: Tensor) -> Tensor:
        """How much of a step's examples, and of each output's places, a batch has, relative to an equal part."""
        own, whole = counted.unbind()
        whole = self.trainer.strategy.reduce(whole, reduce_op="sum")
        parts = self.trainer.world_size * self.options.accumulate  # over which the gradient is averaged
        return own * parts / whole.clamp_min(1)

    def validation_step(self, batch: tuple[Tensor, ...], index: int) -> None:
        parted = self._parted(batch)
        targets, result = parted.targets, self.model(*parted.inputs)
        self._add_losses("held_out_loss", self.objective.sums(result, targets, parted.weights))
        for loss, output, target in self.objective.pairs(result, targets):
            if loss.target.kind != "quantities":
                self._add(self.objective.name_of("held_out_accuracy", loss), loss.right(output, target))
        self._measure("held_out", result, targets)
        count = len(targets[0])
        for name, each in regularization_terms(self.model, detach=True).items():
            self._add(f"penalty/{name}", Sum(each * count, count))

    def _measure(self, part: str, result: Any, targets: tuple[Tensor, ...]) -> None:
        """Adds a batch to the metrics."""
        for metrics, (_, output, target) in zip(
            self._metrics(part), self.objective.pairs(result, targets), strict=True
        ):
            metrics.update(output, target)

    def _metrics(self, part: str) -> Iterator[OutputMetrics]:
        yield from self.metrics[part]  # type: ignore[misc]  # a ModuleDict has modules of any class

    def _measured(self) -> Iterator[tuple[str, float]]:
        """The metrics over the epoch by their columns: ``f1`` of what is trained, ``held_out_f1`` of the rest."""
        for part, prefix in (("trained", ""), ("held_out", "held_out_")):
            for loss, metrics in zip(self.objective, self._metrics(part), strict=True):
                for name, value in metrics.computed().items():
                    yield self.objective.name_of(f"{prefix}{name}", loss), value

    def _add_losses(self, name: str, sums: Sequence[Sum]) -> None:
        for loss, each in zip(self.objective, sums, strict=True):
            self._add(self.objective.name_of(name, loss), each)

    def _add(self, name: str, part: Sum) -> None:
        """Adds to the sums over the epoch; not by `log`, which costs as much as a small model's step."""
        total = part.total.detach().float()
        self.totals[name] = self.totals[name] + total if name in self.totals else total
        self.counts[name] = self.counts.get(name, 0) + part.count

    def means(self) -> dict[str, float]:
        """The means over the epoch, of all processes, since they were asked for last; and the sums of the losses.

        Raises:
            RegspecError: where of an output nothing counts.
        """
        names = [*self.totals]
        both = torch.tensor([[float(self.totals[name]), float(self.counts[name])] for name in names])
        both = self.trainer.strategy.reduce(both.to(self.device), reduce_op="sum").cpu()
        self._check_counts({name: count.item() for name, (_, count) in zip(names, both, strict=True)})
        measured = [*self._measured()]
        self.forget()
        means = {name: (total / count).item() for name, (total, count) in zip(names, both, strict=True)}
        return {**self._sums_of_losses(means), **means, **dict(measured)}

    def _check_counts(self, counts: Mapping[str, float]) -> None:
        """Raises where no place of a target counts: a mean over none is no number, and no sign of a large rate."""
        for loss in self.objective:
            for what, part in NEEDED:
                if counts.get(self.objective.name_of(what, loss)) == 0:
                    ignored = loss.target.wanted.said.ignore_index
                    what = f"the target of '{loss.target.name}' is {ignored} everywhere in what is {part}"
                    raise RegspecError(Problem(f"{what}, which stands for no class"))

    def so_far(self) -> dict[str, float]:
        """The means of this process over the epoch so far, of what is trained, as `means` names them."""
        known = {
            name: (total / self.counts[name]).item()
            for name, total in self.totals.items()
            if not name.startswith(("held_out_", "penalty/"))
        }
        return {**self._sums_of_losses(known), **known}

    def _sums_of_losses(self, means: Mapping[str, float]) -> dict[str, float]:
        """The weighted sums of the outputs' losses; of one output, its own."""
        sums = {}
        for name in ("data_loss", "held_out_loss"):
            own = {loss: means.get(self.objective.name_of(name, loss)) for loss in self.objective}
            known = [value * loss.target.wanted.said.weight for loss, value in own.items() if value is not None]
            if len(known) > 1:
                sums[name] = sum(known)
        return sums

    def forget(self) -> None:
        """Resets the sums."""
        for metrics in (*self._metrics("trained"), *self._metrics("held_out")):
            metrics.reset()
        self.totals.clear()
        self.counts.clear()

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips as Lightning does, or each parameter's gradient by itself, which Lightning does not."""
        if self.options.clip_by != "each_norm" or gradient_clip_val is None:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                nn.utils.clip_grad_norm_([parameter], gradient_clip_val)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        is_spread = self.trainer.world_size > 1
        steps = steps_of(self.batches, self.options.accumulate)
        is_penalized = self.is_penalized
        return bound_optimizer(
            self.model, self.options, steps, self.groups, is_penalized=is_penalized, is_spread=is_spread
        )


def steps_of(batches: Sized, several: int) -> int:
    """How many steps of the optimizer an epoch has, each of ``several`` batches."""
    return math.ceil(len(batches) / several)


def bound_optimizer(
    model: nn.Module,
    options: Options,
    steps: int,
    groups: Groups | None = None,
    *,
    is_penalized: bool = True,
    is_spread: bool = False,
) -> torch.optim.Optimizer:
    """The optimizer of a model's parameters, in groups by rules, with its terms on their routes.

    ``steps`` make an epoch.

    Where training ``is_spread`` over several processes, each has its part of a batch, by which its loss is scaled.

    Raises:
        RegspecError: where there is no such optimizer, it does not take its arguments, or a route is not possible.
    """
    cls, arguments = optimizer_of(options.optimizer)
    trained = (groups or Groups()).parameters(model)
    if not trained:
        raise RegspecError(Problem("nothing of the model is trained", "its weights are frozen, or it has none"))
    try:
        optimizer = cls(trained, lr=options.lr, **arguments)
    except (TypeError, ValueError) as error:
        raise RegspecError(Problem(f"'{options.optimizer}' is no optimizer: {error}")) from None
    routes = options.routes_of() if is_penalized else {}
    binding = bind(model, optimizer, **routes, steps_per_epoch=steps)
    is_scaled = is_spread or options.precision[:2] == "16" or options.accumulate > 1
    if is_scaled and any(isinstance(part.term, Listener) for part in binding.parts):
        what = (
            "penalties of outputs have no gradient route in half precision that is scaled, on several processes, "
            "or with steps of several batches"
        )
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
