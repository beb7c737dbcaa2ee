"""Rules: regularizers for many layers of a spec at once, or for the parameters and outputs of any module."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from regspec.language.fields import Frozen, NamesIfAny, Sequence
from regspec.language.regularizers import Regularizer, RegularizerField
from regspec.specs.patterns import Pattern

_Slot = RegularizerField | None
_Part = int | str
OutputPath = _Part | Annotated[tuple[_Part, ...], Sequence, Field(min_length=1)]


class LayerRule(Frozen):
    """Regularizers for the layers of a spec that it selects. A later rule wins over an earlier, a layer over both."""

    selectors: ClassVar[frozenset[str]] = frozenset(("kinds", "layers", "except_"))

    kinds: NamesIfAny | None = Field(None, description="The kinds of layers, such as Conv2D; all when absent.")
    layers: Pattern | None = Field(
        None, description="The names of layers, with their blocks: stage1_2.conv1; all when absent."
    )
    except_: Pattern | None = Field(None, alias="except", description="Names of layers that are left out.")
    kernel: _Slot = Field(None, description="The penalty on kernels.")
    bias: _Slot = Field(None, description="The penalty on biases.")
    recurrent: _Slot = Field(None, description="The penalty on recurrent kernels.")
    depthwise: _Slot = Field(None, description="The penalty on depthwise kernels.")
    pointwise: _Slot = Field(None, description="The penalty on pointwise kernels.")
    embeddings: _Slot = Field(None, description="The penalty on embeddings.")
    gamma: _Slot = Field(None, description="The penalty on scales, gamma.")
    beta: _Slot = Field(None, description="The penalty on offsets, beta.")
    alpha: _Slot = Field(None, description="The penalty on slopes, alpha.")
    threshold: _Slot = Field(None, description="The penalty on thresholds.")
    units: _Slot = Field(
        None, description="The group lasso on the units that these layers make: of all that vanishes with each."
    )
    activity: _Slot = Field(None, description="The penalty on outputs.")

    @model_validator(mode="after")
    def _has_a_slot(self) -> LayerRule:
        if not self.slots:
            raise PydanticCustomError("rule", "needs a regularizer: kernel, bias, activity or another slot")
        return self

    @field_validator("units")
    @classmethod
    def _is_of_units(cls, units: Regularizer | None) -> Regularizer | None:
        if units is not None and (other := units.not_of_units) is not None:
            what = "has {other}, where units take a coupled group_lasso by outputs"
            raise PydanticCustomError("rule", what, {"other": other})
        return units

    @property
    def slots(self) -> dict[str, Regularizer]:
        """The regularizer for each slot that the rule names."""
        slots = [field for field in type(self).model_fields if field not in self.selectors]
        return {slot: value for slot in slots if (value := getattr(self, slot)) is not None}

    def matches(self, name: str, kinds: tuple[str, ...]) -> bool:
        """Whether the rule selects the layer of this qualified name."""
        if self.kinds is not None and not set(kinds) & set(self.kinds):
            return False
        if self.layers is not None and not re.fullmatch(self.layers, name):
            return False
        return self.except_ is None or not re.fullmatch(self.except_, name)


class ModuleRule(Frozen):
    """Regularizers for the parameters or outputs of a module that was not compiled here."""

    types: NamesIfAny | None = Field(None, description="Classes of modules by name: Conv2d, Linear; all when absent.")
    modules: Pattern | None = Field(None, description="Qualified names of modules; all when absent.")
    parameters: Pattern | None = Field(None, description="Qualified names of parameters.")
    except_: Pattern | None = Field(None, alias="except", description="Qualified names that are left out.")
    optional: bool = Field(False, description="True allows a rule that matches nothing.")
    regularizer: RegularizerField | None = Field(None, description="The regularizer of the parameters.")
    kernel_regularizer: RegularizerField | None = Field(
        None, description="Of kernels; without types, the scale of a normalization is none."
    )
    recurrent_regularizer: RegularizerField | None = Field(
        None, description="Of the parameters called weight_hh, which LSTM, GRU and RNN have."
    )
    bias_regularizer: RegularizerField | None = Field(
        None, description="Of biases; that of LSTM, GRU and RNN is the sum of bias_ih and bias_hh."
    )
    activity_regularizer: RegularizerField | None = Field(None, description="The regularizer of the modules' outputs.")
    output: OutputPath | None = Field(
        None,
        description="Which output, where a module gives several: an index, a name, a list of these that leads into "
        "tuples and mappings, or all. Not needed for torch's own modules.",
    )
    batch_axis: int | None = Field(
        None, description="The axis of the output that is the batch. Not needed for torch's own modules."
    )
    channel_axis: int | None = Field(
        None, description="The axis of the output that holds the units, for regularizers that are by units."
    )
    output_axis: int | None = Field(
        None, description="The axis of the weights that counts their outputs. Not needed for torch's own modules."
    )
    input_axis: int | None = Field(
        None, description="The axis of the weights that counts their inputs, where there are more than two."
    )

    @model_validator(mode="after")
    def _selects_and_penalizes(self) -> ModuleRule:
        by_module = (
            self.kernel_regularizer,
            self.recurrent_regularizer,
            self.bias_regularizer,
            self.activity_regularizer,
        )
        if self.regularizer is None and not any(by_module):
            raise PydanticCustomError("rule", "needs a regularizer")
        if (self.regularizer is not None) != (self.parameters is not None):
            raise PydanticCustomError("rule", "'parameters' and 'regularizer' go together")
        if self.parameters is not None and any(value is not None for value in (*by_module, self.types, self.modules)):
            raise PydanticCustomError("rule", "selects either parameters by name or modules, not both")
        of_outputs = [name for name in ("output", "batch_axis", "channel_axis") if getattr(self, name) is not None]
        if of_outputs and self.activity_regularizer is None:
            raise PydanticCustomError(
                "rule", "says '{field}', which is for an activity_regularizer, but has none", {"field": of_outputs[0]}
            )
        of_weights = [name for name in ("output_axis", "input_axis") if getattr(self, name) is not None]
        by_weight = (self.kernel_regularizer, self.recurrent_regularizer, self.bias_regularizer, self.regularizer)
        if of_weights and not any(by_weight):
            what = "says '{field}', which is for a regularizer of weights, but has none"
            raise PydanticCustomError("rule", what, {"field": of_weights[0]})
        if of_weights == ["input_axis"]:
            raise PydanticCustomError("rule", "says 'input_axis', but not 'output_axis'")
        for one, other in (("batch_axis", "channel_axis"), ("output_axis", "input_axis")):
            if getattr(self, one) is not None and getattr(self, one) == getattr(self, other):
                raise PydanticCustomError("rule", f"has one axis for {one} and {other}")
        return self

    @property
    def output_path(self) -> tuple[int | str, ...] | None:
        """The way to the tensor that is meant; None for all, and empty where the rule does not say."""
        if self.output == "all":
            return None
        return () if self.output is None else self.output if isinstance(self.output, tuple) else (self.output,)


class RulesFile(Frozen):
    """Rules for any module: for each parameter or output the first rule that matches holds."""

    regspec: Literal[1] = Field(description="The version of the language: 1.")
    rules: Annotated[tuple[ModuleRule, ...], Sequence] = Field(min_length=1, description="The rules, in order.")
