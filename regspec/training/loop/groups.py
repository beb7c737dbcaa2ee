"""What the rules of a training say of each weight of a model, and the optimizer's parameter groups that come of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from regspec.graph.network import Graph
from regspec.layers.layer import Weight
from regspec.specs.patterns import pattern_hint
from regspec.targets.torch.lowered import Place
from regspec.targets.torch.program import Program, block_of, program_of
from regspec.text.problems import Problem, Problems, RegspecError, did_you_mean
from regspec.training.options.file import Places
from regspec.training.options.optimizers import optimizer_of, takes_decay
from regspec.training.options.options import Options
from regspec.training.options.rules import SETTINGS, RuleSection, rules_said

Setting = Mapping[str, Any]  # what rules say of a weight, by `SETTINGS`


@dataclass(frozen=True)
class Groups:
    """What rules say of a model's parameters."""

    settings: Mapping[str, Setting] = field(default_factory=dict)  # by the paths of parameters, or of whole modules
    still: tuple[str, ...] = ()  # modules, all of whose weights are frozen: their moving averages stay as they are

    def of(self, name: str) -> Setting:
        """What is said of a parameter, or of the module that it is in."""
        while name and name not in self.settings:
            name = name.rpartition(".")[0]
        return self.settings.get(name, {})

    def freeze(self, model: nn.Module) -> None:
        """Has the parameters trained of which rules say so, and no others."""
        for name, parameter in model.named_parameters():
            if (is_trained := self.of(name).get("trainable")) is not None:
                parameter.requires_grad_(is_trained)

    def hold(self, model: nn.Module) -> None:
        """Puts the normalizations that are frozen into evaluation."""
        for name in self.still:
            if isinstance(module := model.get_submodule(name), _BatchNorm):
                module.eval()

    def parameters(self, model: nn.Module) -> list[dict[str, Any]]:
        """The parameters that are trained, in a group for each learning rate and weight decay; first those of no rule.

        So the first group's rate is that of the options, where any parameter has it.
        """
        alike: dict[tuple[Any, Any], dict[str, Any]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                said = {key: value for key, value in self.of(name).items() if key != "trainable"}
                group = alike.setdefault((said.get("lr"), said.get("weight_decay")), {"params": [], **said})
                group["params"].append(parameter)
        return sorted(alike.values(), key=lambda group: "lr" in group)

    def told(self, model: nn.Module) -> str:
        """How many tensors rules say what of, for people."""
        counts: dict[str, int] = {}
        for name, parameter in model.named_parameters():
            said = self.of(name)
            own = [f"{key.replace('_', ' ')} {said[key]:g}" for key in ("lr", "weight_decay") if key in said]
            for each in ["not trained"] if said.get("trainable") is False else own if parameter.requires_grad else []:
                counts[each] = counts.get(each, 0) + 1
        return f"tensors by rules: {', '.join(f'{count} {each}' for each, count in counts.items()) or 'all trained'}"


def groups_of(options: Options, graph: Graph, places: Places) -> Groups:
    """What the rules of options say of the weights of a graph.

    Raises:
        RegspecError: for a rule that is none, that selects nothing, or whose decay the optimizer does not know.
    """
    with places.at("rules"):
        rules = rules_said(options.rules)
    weights = [*weights_in(program_of(graph))] if rules else []
    problems = Problems()
    for index, rule in enumerate(rules):
        try:
            with places.at(f"rules.{index}"):
                _check(rule, weights, options)
        except RegspecError as error:
            problems.extend(error.problems)
    if problems:
        raise RegspecError(problems)
    settings = {}
    layers: dict[str, list[PlacedWeight]] = {}
    for each in weights:
        layers.setdefault(each.layer, []).append(each)
        if each.is_trained and (said := _said(rules, each)):
            settings.update(dict.fromkeys(each.paths, said))
    whole = [rule for rule in rules if rule.slots is None or rule.trainable]
    frozen = (
        own for own in layers.values() if all(_said(whole, each).get("trainable") is False for each in _trained(own))
    )
    return Groups(settings, tuple(dict.fromkeys(each.module for own in frozen for each in own)))


@dataclass(frozen=True)
class PlacedWeight:
    """A weight of a layer, or all weights of a layer that does not say which it has, and where it lies in the model."""

    layer: str  # its name, with those of blocks
    kinds: tuple[str, ...]
    slot: str | None  # None for all of a layer that does not say which weights it has
    paths: tuple[str, ...]  # of its parameters
    module: str  # that they are in
    is_trained: bool  # by its kind: a moving average is not
    weight: Weight | None = None  # as the layer has it


def _trained(weights: Sequence[PlacedWeight]) -> Sequence[PlacedWeight]:
    """Those weights of a layer that are trained; all of a layer that has none."""
    return [each for each in weights if each.is_trained] or weights


def weights_in(program: Program, module: str = "", names: str = "") -> Iterator[PlacedWeight]:
    """The weights of a program, and of the blocks in it, by the names that a spec has for their layers."""
    for step in program.steps:
        if not step.declares:
            continue
        if (block := block_of(step)) is not None:
            yield from weights_in(block, f"{module}{step.attributes['']}.", f"{names}{step.name}.")
        elif (resolved := step.lowered.resolved) is not None:
            layer, kinds = f"{names}{step.name}", resolved.layer.kinds
            for weight in step.lowered.weights:
                own = module + step.path(Place(weight.module))
                paths = tuple(f"{own}.{parameter}" for parameter in weight.parameters)
                yield PlacedWeight(layer, kinds, weight.slot, paths, own, weight.trainable, weight)
            if resolved.layer.is_opaque:
                whole = tuple(module + each for each in step.attributes.values())
                yield from (PlacedWeight(layer, kinds, None, (path,), path, is_trained=True) for path in whole)


def _said(rules: Iterable[RuleSection], weight: PlacedWeight) -> Setting:
    """What rules say of a weight: of each setting the first that says it, and selects the weight."""
    said: dict[str, Any] = {}
    for rule in rules:
        if rule.selects(weight.layer, weight.kinds, weight.slot):
            said |= {
                name: value for name in SETTINGS if name not in said and (value := getattr(rule, name)) is not None
            }
    return said


def _check(rule: RuleSection, weights: Sequence[PlacedWeight], options: Options) -> None:
    """Raises where a rule selects no weight, or says what the optimizer can't do."""
    if rule.weight_decay is not None and not takes_decay(optimizer_of(options.optimizer)[0]):
        name = options.optimizer.split()[0]
        raise RegspecError(Problem(f"a rule says weight_decay, which {name} does not have"))
    if any(rule.selects(each.layer, each.kinds, each.slot) for each in weights):
        return
    names = [*dict.fromkeys(each.layer for each in weights)]
    hint = None if rule.layers is None else pattern_hint(rule.layers, names)
    if rule.layers is None or any(rule.selects(each, rule.kinds or (), (rule.slots or (None,))[0]) for each in names):
        of_kinds = _nearest(rule.kinds, {kind for each in weights for kind in each.kinds})
        hint = of_kinds or _nearest(rule.slots, {each.slot for each in weights if each.slot is not None})
    raise RegspecError(Problem("this rule selects no weight", hint))


def _nearest(said: Sequence[str] | None, known: Iterable[str]) -> str | None:
    """What may be meant by names that are not known."""
    known = sorted(known)
    unknown = next((each for each in said or () if each not in known), None)
    if unknown is None:
        return None
    return did_you_mean(unknown, known) or f"the model has {', '.join(known)}"
