"""The decay route: further parameter groups of an optimizer, with the weight decay of their penalties."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from regspec.modules.parts import Part

STEPS = "regspec_steps"  # in the optimizer's first group, as learning-rate schedulers keep their initial_lr in groups
NAMES = "param_names"  # in each group of an optimizer that was given named parameters, in their order


class Decays:
    """Further parameter groups of an optimizer, whose weight decay is that of their parameters' penalties.

    Groups are known by their parameters, because an optimizer makes them anew when it loads a state.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.orders: list[list[nn.Parameter]] = []  # the parameters of each group, as they were before any was added
        self.parts: dict[nn.Parameter, list[Part]] = {}  # of those that are in further groups

    def _groups(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The groups that the user made, and those that were added here."""
        own: list[dict[str, Any]] = []
        added: list[dict[str, Any]] = []
        for group in self.optimizer.param_groups:
            (added if group["params"] and group["params"][0] in self.parts else own).append(group)
        return own, added

    def arrange(self, parts: Iterable[Part]) -> None:
        """Has the parameters of these parts in further groups, and all others where the user has put them."""
        own, added = self._groups()
        if not self.parts:
            self.orders = []
        self.orders += [[*group["params"]] for group in own[len(self.orders) :]]
        names = self._names()
        held = {parameter: group for group in added for parameter in group["params"]}
        decaying: dict[nn.Parameter, list[Part]] = {}
        for part in parts:
            for parameter in part.parameters:
                decaying.setdefault(parameter, []).append(part)
        made: list[dict[str, Any]] = []
        for group, order in zip(own, self.orders, strict=True):
            alike: dict[Any, tuple[dict[str, Any], list[nn.Parameter]]] = {}
            for parameter in order:
                if own_parts := decaying.get(parameter):
                    # those that decay alike, now and later, are in one group
                    key = tuple((part.strength, part.scheduled and part.scheduled.schedules) for part in own_parts)
                    before = held.get(parameter, group)
                    if (key, id(before)) not in alike:
                        options = {name: value for name, value in before.items() if name != STEPS}
                        alike[key, id(before)] = options, []
                    alike[key, id(before)][1].append(parameter)
            group.update(_holding(group, [parameter for parameter in order if parameter not in decaying], names))
            made += [_holding(options, parameters, names) for options, parameters in alike.values()]
        self.parts = decaying
        self.optimizer.param_groups[:] = [*own, *made]
        self.update()

    def update(self, *, is_off: bool = False) -> None:
        """Sets the decay of each further group by its penalties' strengths now, or to what it is without them."""
        if not self.parts:
            return
        own, added = self._groups()
        origins = {parameter: group for group, order in zip(own, self.orders, strict=False) for parameter in order}
        for group in added:
            first = group["params"][0]
            penalties = 0.0 if is_off else 2 * sum(part.strength for part in self.parts[first])
            group["weight_decay"] = origins[first]["weight_decay"] + penalties

    def originals(self) -> list[dict[str, Any]]:
        """The groups as they would be without further ones."""
        own, _ = self._groups()
        orders, names = self.orders if self.parts else [], self._names()
        return [
            _holding(group, orders[index] if index < len(orders) else group["params"], names)
            for index, group in enumerate(own)
        ]

    def _names(self) -> dict[nn.Parameter, str]:
        """The names of the parameters, where the optimizer was given some."""
        groups = [group for group in self.optimizer.param_groups if NAMES in group]
        return {each: name for group in groups for each, name in zip(group["params"], group[NAMES], strict=True)}


def _holding(group: Mapping[str, Any], parameters: list[nn.Parameter], names: Mapping[Any, str]) -> dict[str, Any]:
    """A group like this, of these parameters."""
    named = {NAMES: [names[each] for each in parameters]} if NAMES in group else {}
    return {**group, "params": parameters, **named}
