"""What a model computes of inputs, in a form in which a port and its original can be compared; and the port's side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from regspec.graph.network import Graph
from regspec.keras.verification.faults import port_computes
from regspec.modules.measuring import regularization_loss, regularization_terms
from regspec.runtime import reset_states
from regspec.runtime.penalties.readings import tensors


@dataclass(frozen=True)
class Outcome:
    """What came of a forward: outputs, penalties, and the gradients of one sum of all of them."""

    outputs: Sequence[Tensor]
    penalties: Mapping[str, Tensor]  # by term; or by number, where Keras gives no names
    gradients: Mapping[str, Tensor]  # by torch's parameter, or as "input …"
    is_random: bool  # whether random numbers were drawn


def objective(outputs: Sequence[Tensor], penalties: Sequence[Tensor]) -> Tensor:
    """A scalar in which every number of the outputs counts by another factor, and the penalties as they are."""
    weighed = [(x * output_factors(x, index)).mean() for index, x in enumerate(outputs) if x.is_floating_point()]
    return sum([each.float() for each in (*weighed, *penalties)], torch.zeros(()))


def output_factors(x: Any, index: int) -> Tensor:
    """Random numbers of the shape of an output, by which its numbers count; the same on both sides."""
    return torch.randn(tuple(x.shape), generator=torch.Generator().manual_seed(index))


def input_names(graph: Graph) -> list[str]:
    """What the gradients of the inputs that have them are called."""
    return [f"input {x.source}" for x in graph.inputs if x.is_floating]


def gradients(total: Tensor, xs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The gradient of a scalar with respect to each tensor that has one; zeros where it does not depend on it."""
    wanted = {name: x for name, x in xs.items() if x.requires_grad}
    found: Sequence[Tensor | None] = [None] * len(wanted)
    if wanted and total.requires_grad:
        found = torch.autograd.grad(total, [*wanted.values()], allow_unused=True)
    known = dict(zip(wanted, found, strict=True))
    return {name: torch.zeros_like(x) if (own := known.get(name)) is None else own for name, x in xs.items()}


def _contiguous(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The arguments of a batch normalization, of which torch's kernel loses digits on the CPU with channels last."""
    return arguments[0].contiguous(), *arguments[1:]


class PortSide:
    """The port's side of a comparison."""

    def __init__(self, module: nn.Module, graph: Graph) -> None:
        self.module = module
        self.graph = graph
        self.calmed: list[str] = []  # modules that stay in evaluation
        self.pixels: dict[str, int] = {}  # by batch normalization of images or volumes: of how many a mean was, last
        for name, own in module.named_modules():
            if isinstance(own, nn.modules.batchnorm._BatchNorm):
                own.register_forward_pre_hook(_contiguous)
            if getattr(own, "biased", False):
                own.register_forward_pre_hook(partial(self._note_pixels, name))

    def run(self, inputs: Sequence[Tensor], *, training: bool = False, with_gradients: bool = False) -> Outcome:
        """What it computes of inputs. Raises `PortError`."""
        xs = [x.clone().requires_grad_(with_gradients and x.is_floating_point()) for x in inputs]
        reset_states(self.module)
        self.module.train(training)
        for name in self.calmed:
            self.module.get_submodule(name).eval()
        before = torch.get_rng_state()
        with torch.set_grad_enabled(with_gradients):
            with port_computes():
                made = self.module(*xs)
            outputs = [*tensors(made)]
            is_random = not torch.equal(before, torch.get_rng_state())
            with port_computes():
                penalties, loss = regularization_terms(self.module), regularization_loss(self.module)
            found: Mapping[str, Tensor] = {}
            if with_gradients:
                floating = zip(input_names(self.graph), (x for x in xs if x.is_floating_point()), strict=True)
                wanted = {**dict(self.module.named_parameters()), **dict(floating)}
                total = objective(outputs, [loss])
                with port_computes():
                    found = gradients(total, wanted)
        self.module.eval()
        terms = {name: penalty.detach() for name, penalty in penalties.items()}
        return Outcome([x.detach() for x in outputs], terms, found, is_random)

    def _note_pixels(self, name: str, module: nn.Module, arguments: Sequence[Tensor]) -> None:
        if arguments[0].ndim > 3 and arguments[0].dtype is not torch.float64:  # for which it has no such kernel
            self.pixels[name] = arguments[0].numel() // arguments[0].shape[1]

    def as_keras_2(self, moved: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Moving statistics as they would be had the unbiased variance of images moved them, which Keras 2 takes."""
        found = {**moved}
        for name, number in self.pixels.items():
            key = f"{name}.running_var"
            if key in moved:
                share: Any = self.module.get_submodule(name).momentum
                kept = (1 - share) * before[key]
                found[key] = kept + (moved[key] - kept) * (number / max(number - 1, 1))
        return found

    def calm(self, inputs: Sequence[Tensor]) -> None:
        """Leaves what draws random numbers in training, such as dropout, in evaluation from now on."""
        states: list[Tensor] = []
        drawing: list[str] = []

        def note_state(module: nn.Module, arguments: Any) -> None:
            states.append(torch.get_rng_state())

        def note_draws(module: nn.Module, arguments: Any, output: Any, name: str) -> None:
            if not torch.equal(states.pop(), torch.get_rng_state()):
                drawing.append(name)

        hooks = []
        for name, module in self.module.named_modules():
            hooks.append(module.register_forward_pre_hook(note_state))
            hooks.append(module.register_forward_hook(partial(note_draws, name=name)))
        self.run(inputs, training=True)
        for hook in hooks:
            hook.remove()
        # those within which no other draws
        self.calmed = [name for name in drawing if name and not any(each.startswith(f"{name}.") for each in drawing)]

    @property
    def output_names(self) -> list[str]:
        """What the outputs are called: by their keys, or by the layers that give them."""
        return [*(self.graph.output_names or (x.source for x in self.graph.outputs))]

    def set_weights(self, parameters: Mapping[str, Tensor]) -> None:
        """Takes these weights over; others stay."""
        self.module.load_state_dict({**self.module.state_dict(), **parameters})

    def parameters(self) -> dict[str, Tensor]:
        """Its weights and moving statistics now."""
        return {name: each.clone() for name, each in self.module.state_dict().items()}
