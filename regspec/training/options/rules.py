"""Rules of a training: the learning rate, the weight decay, and whether it is trained, of the weights they select."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from pydantic import Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from regspec.language.fields import Frozen, Names, NotNegative
from regspec.specs.patterns import Pattern
from regspec.text import document, faults
from regspec.text.document import document_of
from regspec.text.faults import Origin
from regspec.text.problems import Problem, Problems, RegspecError
from regspec.training.options.called import settings_in

SETTINGS = ("lr", "weight_decay", "trainable")
_PLAIN = ("layers", "except")  # which are texts, whatever YAML would read in them


class RuleSection(Frozen):
    """How the weights learn that it selects. Of each setting the first rule that says it and selects a weight holds."""

    layers: Pattern | None = Field(
        None, description="The names of layers, with their blocks: stage1_2.conv1; all when absent."
    )
    kinds: Names | None = Field(None, description="The kinds of layers; all when absent.")
    except_: Pattern | None = Field(None, alias="except", description="Names of layers that are left out.")
    slots: Names | None = Field(None, description="Which weights of these layers: kernel, bias, gamma, …; all.")
    lr: NotNegative | None = Field(None, description="Their learning rate; a schedule scales it as the others'.")
    weight_decay: NotNegative | None = Field(None, description="The optimizer's weight decay of them.")
    trainable: bool | None = Field(
        None, description="Whether they are trained. Moving averages stay as they are in a layer that is not."
    )

    @model_validator(mode="after")
    def _says_something(self) -> RuleSection:
        if all(getattr(self, name) is None for name in SETTINGS):
            raise PydanticCustomError("rule", "says nothing of weights: lr, weight_decay or trainable")
        return self

    @property
    def plain(self) -> dict[str, Any]:
        """What is said, as plain data."""
        return self.model_dump(mode="json", exclude_none=True, by_alias=True)

    def selects(self, layer: str, kinds: Sequence[str], slot: str | None) -> bool:
        """Whether it selects a weight, by its layer's name and kinds, and its slot; None where that is not known."""
        if self.slots is not None and slot not in self.slots:
            return False
        if self.kinds is not None and not {*kinds} & {*self.kinds}:
            return False
        if self.layers is not None and not re.fullmatch(self.layers, layer):
            return False
        return self.except_ is None or not re.fullmatch(self.except_, layer)


def written_rule(rule: RuleSection) -> str:
    r"""The text that says a rule.

    Example:
        >>> written_rule(RuleSection(layers=r"encoder\..*", slots=("bias",), weight_decay=0))
        'layers=encoder\\..* slots=["bias"] weight_decay=0.0'
    """
    return " ".join(
        f"{name}={value if name in _PLAIN else json.dumps(value, ensure_ascii=False)}"
        for name, value in rule.plain.items()
    )


def rules_said(texts: Sequence[str]) -> tuple[RuleSection, ...]:
    r"""The rules that texts say, ``layers=encoder\..* lr=1e-4``, in order. Raises `RegspecError` with all faults."""
    rules, problems = [], Problems()
    for text in texts:
        try:
            rules.append(_rule(text))
        except RegspecError as error:
            problems.extend(error.problems)
    if problems:
        raise RegspecError(problems)
    return tuple(rules)


def _rule(text: str) -> RuleSection:
    said: dict[str, Any] = {}
    for part in settings_in(text.strip()):
        key, is_given, value = (each.strip() for each in part.partition("="))
        if not is_given or not value:
            raise RegspecError(Problem(f"'{text}' is no rule", r"write --rules 'layers=encoder\..* lr=1e-4'"))
        if key in said:
            raise RegspecError(Problem(f"'{key}' of the rule '{text}' is given twice"))
        said[key] = value if key in _PLAIN else document.parse(value, f"--rules {key}").data
    try:
        return RuleSection.model_validate(said)
    except ValidationError as error:
        known = [field.alias or name for name, field in RuleSection.model_fields.items()]
        origin = Origin(document_of(said, "--rules"))
        found = faults.problems(error.errors(include_url=False), origin, f"the rule '{text}'", known)
        raise RegspecError([*found]) from None
