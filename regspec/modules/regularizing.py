"""Rules for any module: which parameters and outputs they select, and the penalties that they give them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from regspec.code.expressions import Call, WeightPath, replaced, walk
from regspec.code.shapes import ShapeError
from regspec.language.penalties import Dimensions
from regspec.language.regularizers import Regularizer
from regspec.modules.building import value_of
from regspec.modules.outputs import Output, Outputs
from regspec.modules.weights import Weight, weight_of
from regspec.runtime import Regularized
from regspec.runtime.penalties.attaching import attach, detach
from regspec.runtime.penalties.readings import Reading
from regspec.runtime.penalties.weights import computed_in
from regspec.specs import loading
from regspec.specs.patterns import EVERYTHING, FOR_ALL, pattern_hint
from regspec.specs.rules import ModuleRule, RulesFile
from regspec.text.document import Document, document_of
from regspec.text.problems import Problem, RegspecError, did_you_mean

SHOWN = 8  # names in a message
Rules = str | Path | Mapping[str, Any] | Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Selected:
    """A parameter, or a module's output, and what the rules make of it."""

    name: str  # qualified; of an output, the module's
    shape: tuple[int, ...] | None  # of a parameter
    rule: int | None = None  # counted from 0; None where no rule selects it
    regularizer: Regularizer | None = None
    given: Output | None = None  # of an output, what the rule says of it
    weight: Weight | None = None  # of a parameter, what it is
    axes: tuple[int, int | None] | None = None  # of a parameter, those of outputs and inputs, if the rule says them
    is_named: bool = False  # whether a rule names the parameter itself

    @property
    def is_summand(self) -> bool:
        """Whether the penalty is that of a sum of parameters, of which this is one."""
        return self.weight is not None and self.weight.whole is not None and not self.is_named

    @property
    def term(self) -> str:
        """The term's name: the parameter's, or that of the module's activity."""
        if self.shape is not None:
            owner, _, own = self.name.rpartition(".")
            own = (self.weight.whole or own) if self.weight is not None and self.is_summand else own
            return f"{owner}.{own}" if owner else own
        return f"{self.name}.activity" if self.name else "activity"

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for ``--format json``; rules are counted from 1, as people do."""
        return {
            "name": self.name,
            "shape": None if self.shape is None else list(self.shape),
            "rule": None if self.rule is None else self.rule + 1,
            "penalty": None if self.regularizer is None else str(self.regularizer),
        }


def regularize(module: nn.Module, rules: Rules) -> Regularized:
    """The module itself, with penalties by rules on its parameters and on the outputs of its parts.

    It keeps its class, its state_dict and its behaviour, and has the methods `regularization_loss` and
    `regularization_terms` besides. For each parameter or output the first rule that matches holds. `unregularize`
    takes them off again.

    Args:
        module: any module.
        rules: the path of a YAML file, its text, or its content as a mapping, or the rules alone as a list; see
            ``schemas/rules.schema.json``. In Python ``types`` may be classes.

    Raises:
        RegspecError: for a fault of the rules, a rule that matches nothing, a term that there is already, or a module
            that is compiled or has methods of these names. Nothing is changed then.

    Example:
        >>> import regspec, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
        >>> model = regspec.regularize(model, [{"types": ["Linear"], "kernel_regularizer": {"l2": 1e-4}}])
        >>> list(model.regularization_terms())
        ['0.weight']
    """
    text = _document(rules)
    selected = [each for each in coverage(module, text) if each.regularizer is not None]
    outputs = Outputs(module)
    made = [(each, *_made(module, outputs, each, text)) for each in selected]
    known = {
        f"{name}.{term}" if name else term
        for name, part in module.named_modules()
        if isinstance(part, Regularized)
        for term in part._regspec.terms
    }
    alike: dict[str, list[Selected]] = {}  # by term: one, or the parameters of a sum
    for each in selected:
        if each.term in known:
            raise RegspecError(_problem(text, each.rule, f"there is a term '{each.term}' already"))
        others = alike.setdefault(each.term, [])
        if others and not (each.is_summand and others[0].is_summand):
            what = f"this rule and rule {(others[0].rule or 0) + 1} give two terms the name '{each.term}'"
            raise RegspecError(_problem(text, each.rule, what, "'except' takes one of them out"))
        others.append(each)
    try:
        model = attach(module)
    except TypeError as error:
        raise RegspecError(str(error)) from None
    for each, regularizer, reading in made:
        if each.shape is not None:
            if each is (parts := alike[each.term])[0]:
                own = tuple(part.name for part in parts)
                model.add_weight_terms(regularizer, {each.term: own}, adds_parameters=len(own) > 1)
        else:
            assert each.regularizer is not None
            reduction = each.regularizer.reduction or "mean"
            model.add_activity_terms(regularizer, {each.term: each.name}, reduction=reduction, reading=reading)
    model._regspec.attached.extend(dict.fromkeys(each.term for each, *_ in made))
    return model


def unregularize(module: nn.Module) -> nn.Module:
    """The module itself, as it was before `regularize`.

    Raises:
        RegspecError: where it has no penalties by rules.

    Example:
        >>> import regspec, torch
        >>> rules = [{"types": ["Linear"], "kernel_regularizer": {"l2": 1e-4}}]
        >>> model = regspec.regularize(torch.nn.Linear(4, 3), rules)
        >>> type(regspec.unregularize(model)) is torch.nn.Linear
        True
    """
    try:
        return detach(module)
    except TypeError as error:
        raise RegspecError(str(error)) from None


# -- what the rules select --------------------------------------------------------------------------------------------


def coverage(module: nn.Module, rules: Rules | Document) -> list[Selected]:
    """Every parameter of a module, with the rule that selects it or none, and then the outputs that a rule selects.

    Raises:
        RegspecError: for a fault of the rules, or one that matches nothing and is not optional.
    """
    text = rules if isinstance(rules, Document) else _document(rules)
    loaded, problems = loading.rules_from(text)
    if loaded is None:
        raise RegspecError(problems)
    for name, part in module.named_modules():
        if isinstance(part, LazyModuleMixin) and part.has_uninitialized_params():  # type: ignore[misc]  # it says that its self is a protocol
            what = f"'{name}', a {type(part).__name__}, has no weights before its first call"
            raise RegspecError(Problem(what, "call the model once, with a batch, and regularize it then"))
    selected = [*_parameters(module, loaded), *_outputs(module, loaded)]
    _refuse_scripts(module, selected, text)
    matched = {each.rule for each in selected}
    unmatched = [index for index, rule in enumerate(loaded.rules) if index not in matched and not rule.optional]
    if unmatched:
        problems = [_nothing(text, index, loaded.rules[index], module) for index in unmatched]
        raise RegspecError(problems)
    return selected


def _refuse_scripts(module: nn.Module, selected: Sequence[Selected], text: Document) -> None:
    """Raises where a rule selects something of TorchScript: hooks in it don't run, and its weights are not Python's."""
    scripts = {name for name, part in module.named_modules() if isinstance(part, torch.jit.ScriptModule)}
    problems = []
    for each in selected:
        owner = each.name if each.shape is None else each.name.rpartition(".")[0]
        if each.rule is not None and owner in scripts:
            what = f"'{each.name}' is compiled by TorchScript, where nothing can be regularized"
            hint = "regularize the model with that part as it was in Python, or leave it out: 'except' takes its name"
            problems.append(_problem(text, each.rule, what, hint))
    if problems:
        raise RegspecError(problems)


def _own(part: nn.Module) -> list[str]:
    """The names of a module's own parameters, and of those that it computes."""
    if isinstance(part, torch.jit.ScriptModule):
        return [name for name, _ in part.named_parameters(recurse=False)]
    return [*part._parameters, *computed_in(part)]


def _parameters(module: nn.Module, rules: RulesFile) -> Iterator[Selected]:
    named = {name for name, _ in module.named_parameters()}  # a tied one by its first name
    for owner, part in module.named_modules():
        for own in _own(part):
            qualified = f"{owner}.{own}" if owner else own
            if own in part._parameters and qualified not in named:
                continue
            parameter = getattr(part, own)
            weight = weight_of(part, own, parameter)
            for index, rule in enumerate(rules.rules):
                regularizer = _for_parameter(rule, qualified, owner, part, weight)
                if regularizer is not None:
                    axes = None if rule.output_axis is None else (rule.output_axis, rule.input_axis)
                    shape, is_named = tuple(parameter.shape), rule.parameters is not None
                    yield Selected(qualified, shape, index, regularizer, weight=weight, axes=axes, is_named=is_named)
                    break
            else:
                yield Selected(qualified, tuple(parameter.shape), weight=weight)


def _for_parameter(rule: ModuleRule, qualified: str, owner: str, part: nn.Module, weight: Weight) -> Regularizer | None:
    """The regularizer that a rule gives a parameter."""
    if rule.parameters is not None:
        return rule.regularizer if _is_named(rule, rule.parameters, qualified) else None
    return _by_slot(rule, weight) if _selects(rule, owner, part) else None


def _by_slot(rule: ModuleRule, weight: Weight) -> Regularizer | None:
    """The regularizer that a rule gives a parameter of this slot in a module that it selects."""
    if weight.slot == "scale":  # of a normalization: no kernel, unless a rule says so
        return rule.kernel_regularizer if rule.types is not None else None
    if weight.slot is None:
        return None
    found: Regularizer | None = getattr(rule, f"{weight.slot}_regularizer")
    return found


def _outputs(module: nn.Module, rules: RulesFile) -> Iterator[Selected]:
    for name, part in module.named_modules():
        for index, rule in enumerate(rules.rules):
            if rule.activity_regularizer is not None and _selects(rule, name, part):
                given = Output(rule.output_path, rule.batch_axis, rule.channel_axis)
                yield Selected(name, None, index, rule.activity_regularizer, given)
                break


def _selects(rule: ModuleRule, name: str, part: nn.Module) -> bool:
    """Whether a rule selects a module, by its classes and its name."""
    if rule.parameters is not None:
        return False
    if rule.types is not None and not {cls.__name__ for cls in type(part).__mro__} & set(rule.types):
        return False
    return _is_named(rule, rule.modules, name)


def _is_named(rule: ModuleRule, pattern: str | None, name: str) -> bool:
    """Whether a whole name matches a pattern, if there is one, and is not excepted."""
    if pattern is not None and not re.fullmatch(pattern, name):
        return False
    return rule.except_ is None or not re.fullmatch(rule.except_, name)


_SPEC = "a spec of the network does; without 'coupled' a group is of one weight"

# -- regularizers and faults ------------------------------------------------------------------------------------------


def _made(module: nn.Module, outputs: Outputs, selected: Selected, text: Document) -> tuple[Any, Reading]:
    """The runtime's regularizer for what a rule selects, and how an output is read."""
    regularizer = selected.regularizer
    assert regularizer is not None
    try:
        if regularizer.coupled is not None and selected.shape is not None:
            raise ShapeError(
                "has a coupled group_lasso, but a module does not say which weights vanish together", _SPEC
            )
        if selected.shape is None:
            regularizer.check("activity", has_inputs=False)
            given = selected.given or Output()
            reading, units = outputs.reading_of(selected.name, given, by_units=regularizer.reads_units)
            return value_of(_with_paths(regularizer.lower(Dimensions(units)), module), module), reading
        made = regularizer.lower(_axes(selected, regularizer, text))
        return value_of(_with_paths(made, module), module), Reading()
    except ShapeError as error:
        raise RegspecError(_problem(text, selected.rule, f"'{selected.name}' {error.what}", error.hint)) from None


def _with_paths(constructor: Call, module: nn.Module) -> Call:
    """A regularizer's constructor with the paths of the other weights that it takes: their names in the module.

    Raises `ShapeError` where the module has none of a name.
    """
    named = [each for each in walk(constructor) if isinstance(each, WeightPath)]
    for name in (each.name for each in named):
        try:
            is_weight = isinstance(attrgetter(name)(module), Tensor)
        except AttributeError:
            is_weight = False
        if not is_weight:
            known = [name for name, _ in module.named_parameters()]
            raise ShapeError(f"has a penalty that takes '{name}', which is no parameter", did_you_mean(name, known))
    made: Call = replaced(constructor, {each: each.name for each in named})
    return made


def _axes(selected: Selected, regularizer: Regularizer, text: Document) -> Dimensions:
    """Where the axes of a weight lie. Raises `ShapeError` where its regularizer reads some that it does not have."""
    assert selected.weight is not None
    assert selected.shape is not None
    weight, rank = selected.weight, len(selected.shape)
    if selected.axes is not None:
        weight = weight.with_axes(rank, *selected.axes)
    has_inputs = weight.is_open or (weight.at is not None and weight.at.inputs is not None)
    has_outputs = weight.is_open or weight.at is not None or rank < 2
    is_half = selected.axes is not None and weight.at is not None and not has_inputs  # the rule left them out
    regularizer.check(selected.name, has_inputs=has_inputs or is_half, has_outputs=has_outputs)
    if is_half and "inputs" in regularizer.needs(rank):
        what = f"'{selected.name}' has a penalty over the input axis, and it is not known which of its axes that is"
        raise RegspecError(_problem(text, selected.rule, what, "the rule says output_axis, but not input_axis"))
    if weight.is_open and rank > 1 and regularizer.needs(rank):
        shape = ", ".join(map(str, selected.shape))
        what = f"'{selected.name}' is ({shape}), and it is not known which of its axes counts the outputs"
        hint = "say it in the rule: output_axis: 0, as in a Linear, or another" + ", and input_axis" * (rank > 2)
        raise RegspecError(_problem(text, selected.rule, what, hint))
    return weight.at or Dimensions(0)


def _document(rules: Rules) -> Document:
    if isinstance(rules, (str, Path)):
        return document_of(rules, "<rules>")
    content = rules if isinstance(rules, Mapping) else {"rules": [*rules]}
    return document_of({"regspec": 1, **content}, "<rules>")


def _nothing(text: Document, index: int, rule: ModuleRule, module: nn.Module) -> Problem:
    """The fault of a rule that matches nothing, with a name that is near."""
    chosen = [part for name, part in module.named_modules() if _selects(rule, name, part)]
    if chosen:
        return _problem(text, index, *_without_slots(rule, chosen))
    if rule.parameters is not None:
        hint = pattern_hint(rule.parameters, [name for name, _ in module.named_parameters()])
    elif rule.types is not None:
        names = {type(part).__name__ for part in module.modules()}
        near = FOR_ALL if {*rule.types} & {*EVERYTHING} else did_you_mean(next(iter(rule.types), ""), names)
        hint = near or f"there are {', '.join(sorted(names))}"
    else:
        hint = pattern_hint(rule.modules or "", [name for name, _ in module.named_modules() if name])
    return _problem(text, index, "this rule matches nothing", hint or "'optional: true' allows that")


def _without_slots(rule: ModuleRule, chosen: Sequence[nn.Module]) -> tuple[str, str]:
    """The fault of a rule that selects modules, but nothing of them; and what they have."""
    slots = {
        slot: "scale of a normalization" if slot == "scale" else slot
        for part in chosen
        for own in _own(part)
        if (parameter := getattr(part, own)) is not None and (slot := weight_of(part, own, parameter).slot) is not None
    }
    kinds = ", ".join(sorted({type(part).__name__ for part in chosen})[:SHOWN])
    asked = {"kernel": "kernel", "recurrent": "recurrent kernel", "bias": "bias"}
    given = [name for slot, name in asked.items() if getattr(rule, f"{slot}_regularizer") is not None]
    what = f"this rule matches nothing: {kinds} has no {' and no '.join(given)} of its own"
    if not slots:
        return what, "its weights are those of the modules in it, which other types select"
    if "scale" in slots and rule.types is None and rule.kernel_regularizer is not None:
        return what, "a scale counts as a kernel where 'types' names the class"
    fields = [f"{slot}_regularizer" for slot in asked if slot in slots]
    return what, f"it has {', '.join(slots.values())}" + f": {', '.join(fields)}" * bool(fields)


def _problem(text: Document, index: int | None, what: str, hint: str | None = None) -> Problem:
    return text.problem(("rules", index or 0), what, hint)
