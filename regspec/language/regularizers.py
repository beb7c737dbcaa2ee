"""The regularizers that a spec may name: functions of a weight or of a layer's output to a scalar.

Forms: ``l2``; ``{l2: 1e-4}``; ``{l1: 1e-5, l2: 1e-4}``; ``{orthogonal: {factor: 0.01, mode: rows}}``; a list of
these. Several in a mapping or a list are summed. Beside them in a mapping may stand a ``schedule``, and the
``reduction`` of an output's penalty: ``{l1: 1e-4, reduction: sum}``.
The formulas stand with the runtime's classes of the same names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from regspec.code.expressions import Call, call, unless
from regspec.code.shapes import ShapeError
from regspec.language.calls import is_call
from regspec.language.fields import REFERENCE, Fraction, NotNegative
from regspec.language.forms import Family, at
from regspec.language.penalties import Dimensions, Penalty
from regspec.language.schedules import Schedule, parse_schedules
from regspec.language.serialized import is_serialized

DECAY = "an optimizer's weight_decay of d is {l2: d / 2}: its gradient is d * w, that of {l2: c} 2 * c * w"
_SYNONYMS = {
    "lasso": "l1",
    "ridge": "l2",
    "tikhonov": "l2",
    "elastic_net": "l1_l2",
    "elasticnet": "l1_l2",
    "group": "group_lasso",
    "grouplasso": "group_lasso",
    "l21": "group_lasso",
    "l2_1": "group_lasso",
    "ortho": "orthogonal",
    "orthonormal": "orthogonal",
    "spectral_norm": "spectral",
    "spectralnorm": "spectral",
    "kl": "kl_sparsity",
    "kl_divergence": "kl_sparsity",
    "sparsity": "kl_sparsity",
    "frobenius": "norm",
    "l2_norm": "norm",
}

Reduction = Literal["mean", "sum"]  # over the batch, of the penalty of an output
BESIDE = frozenset({"schedule", "reduction"})  # what a mapping may say besides its penalties

REGULARIZERS: Family[Penalty] = Family(
    "regularizer",
    synonyms=_SYNONYMS,
    explained={"weight_decay": DECAY, "weightdecay": DECAY, "decay": DECAY},
    entry_points="regspec.regularizers",
)


@REGULARIZERS.add
class L1(Penalty):
    """strength * sum(abs(w))."""

    main_in_keras = "l1"
    adds_up = True
    main = "strength"
    example = "1e-4"
    strength: NotNegative = 0.01

    def lower(self, at: Dimensions) -> Call:
        return call("L1", self.strength)


@REGULARIZERS.add
class L2(Penalty):
    """strength * sum(w**2), without a half."""

    main_in_keras = "l2"
    adds_up = True
    main = "strength"
    example = "1e-4"
    strength: NotNegative = 0.01

    def lower(self, at: Dimensions) -> Call:
        return call("L2", self.strength)


@REGULARIZERS.add
class L1L2(Penalty):
    """l1 * sum(abs(w)) + l2 * sum(w**2); 0.01 for both where neither is given."""

    adds_up = True
    example = "{l1: 1e-5, l2: 1e-4}"
    name = "l1_l2"
    aliases = ("l1l2",)
    l1: NotNegative = 0.0
    l2: NotNegative = 0.0

    @model_validator(mode="before")
    @classmethod
    def _by_name_alone(cls, value: Any) -> Any:
        """Keras's documented strengths, where none is given."""
        return value or {"l1": 0.01, "l2": 0.01}

    def lower(self, at: Dimensions) -> Call:
        return call("L1L2", l1=self.l1, l2=self.l2)


@REGULARIZERS.add
class Orthogonal(Penalty):
    """factor * the mean absolute cosine between the rows (or columns) of the weight as a matrix."""

    aliases = ("orthogonal_regularizer", "OrthogonalRegularizer")
    main = "factor"
    reads_units = True
    factor: NotNegative = 0.01
    mode: Literal["rows", "columns"] = "rows"

    def needs(self, rank: int) -> Literal["outputs", "columns"]:
        return "columns" if rank == 2 else "outputs"

    def lower(self, at: Dimensions) -> Call:
        dim = at.units if at.columns is None else at.columns
        return call("Orthogonal", self.factor, mode=unless("rows", self.mode), dim=dim)


@REGULARIZERS.add
class Norm(Penalty):
    """strength * sqrt(sum(w**2)): the Euclidean norm, not squared."""

    main = "strength"
    example = "1e-3"
    strength: NotNegative

    def lower(self, at: Dimensions) -> Call:
        return call("Norm", self.strength)


@REGULARIZERS.add
class GroupLasso(Penalty):
    """strength * the sum over groups of sqrt(size) * norm; a group holds the weights of one output (or input).

    Where it is coupled, a group holds all weights that make the output, in whatever layers: they vanish together.
    """

    adds_up = True
    main = "strength"
    example = "{strength: 1e-3, axis: output}"
    reads_units = True
    strength: NotNegative
    axis: Literal["output", "input"] = "output"
    coupled: bool = Field(False, description="Whether a group holds all weights that vanish with the output.")

    @model_validator(mode="after")
    def _is_coupled_by_outputs(self) -> GroupLasso:
        if self.coupled and self.needs_inputs:
            what = "is coupled over the input axis: what vanishes together is what makes an output"
            raise PydanticCustomError("coupled", what)
        return self

    @property
    def is_coupled(self) -> bool:
        return self.coupled

    @property
    def needs_inputs(self) -> bool:
        return self.axis == "input"

    def needs(self, rank: int) -> Literal["inputs", "outputs"] | None:
        return None if self.coupled else "inputs" if self.needs_inputs else "outputs"

    def lower(self, at: Dimensions) -> Call:
        if self.coupled:
            return call("GroupLasso", self.strength)  # of a matrix with a row for each unit
        dim = at.inputs if self.axis == "input" else at.units
        if dim == 1 and at.blocks * at.kernels > 1:
            return call("GroupLassoOfBlocks", self.strength, at.blocks * at.kernels)
        return call("GroupLasso", self.strength, dim=dim)


@REGULARIZERS.add
class Hoyer(Penalty):
    """strength * sum(abs(w))**2 / sum(w**2): the Hoyer-square measure of sparsity."""

    main = "strength"
    example = "1e-4"
    strength: NotNegative

    def lower(self, at: Dimensions) -> Call:
        return call("Hoyer", self.strength)


@REGULARIZERS.add
class Spectral(Penalty):
    """strength * the largest singular value of the weight as a matrix."""

    main = "strength"
    example = "1e-3"
    reads_units = True
    strength: NotNegative

    def needs(self, rank: int) -> Literal["outputs"] | None:
        return None if rank == 2 else "outputs"  # a matrix has the singular values of its transpose

    def lower(self, at: Dimensions) -> Call:
        return call("Spectral", self.strength, dim=at.columns if at.units is None else at.units)


@REGULARIZERS.add
class KlSparsity(Penalty):
    """strength * the divergence of each unit's mean activity from a target rate, summed over the units."""

    main = "strength"
    example = "{strength: 1e-3, target: 0.05}"
    reads_units = True
    averages_batch = True
    for_weights = False
    strength: NotNegative
    target: Annotated[Fraction, Field(gt=0, lt=1)] = 0.05

    def lower(self, at: Dimensions) -> Call:
        return call("KLSparsity", self.strength, target=self.target, dim=unless(-1, at.units))


@REGULARIZERS.add
class GaussianKl(Penalty):
    """strength * the divergence of Gaussians from N(0, 1); half of the units are means, half logs of variances."""

    main = "strength"
    example = "1.0"
    reads_units = True
    reads_halves = True
    for_weights = False
    strength: NotNegative

    def lower(self, at: Dimensions) -> Call:
        return call("GaussianKL", self.strength, dim=unless(-1, at.units))


@dataclass(frozen=True)
class Scheduled:
    """A penalty whose strength follows schedules; their factors are multiplied."""

    penalty: Penalty
    schedules: tuple[Schedule, ...]

    def __str__(self) -> str:
        return f"{self.penalty} ({', '.join(map(str, self.schedules))})"


class Regularizer:
    """The sum of one or more penalties, as a layer's slot has it."""

    __slots__ = ("parts", "reduction")

    def __init__(self, parts: tuple[Penalty | Scheduled, ...], reduction: Reduction | None = None) -> None:
        self.parts = parts
        self.reduction = reduction  # of an output's penalty; None for the model's

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Regularizer) and (self.parts, self.reduction) == (other.parts, other.reduction)

    def __hash__(self) -> int:
        return hash((self.parts, self.reduction))

    def __repr__(self) -> str:
        return f"Regularizer({self.parts}, {self.reduction!r})"

    def __str__(self) -> str:
        added = " + ".join(map(str, self.parts))
        return added if self.reduction is None else f"{added}, a {self.reduction} over the batch"

    @property
    def reads_axes(self) -> bool:
        """Whether it must see the axes as Keras counts them."""
        return any(part.reads_axes for part in self._penalties)

    @property
    def reads_units(self) -> bool:
        """Whether a part of it is by units, so that it must know where they lie."""
        return any(part.reads_units for part in self._penalties)

    @property
    def reads_halves(self) -> bool:
        """Whether half of the units are one thing for a part of it, and half another."""
        return any(part.reads_halves for part in self._penalties)

    @property
    def other_weights(self) -> tuple[str, ...]:
        """The names of the weights that parts of it take besides what they penalize."""
        return tuple(name for part in self._penalties for name in part.other_weights)

    def needs(self, rank: int) -> list[str]:
        """Which axes of a weight of this rank it must know: of inputs, of outputs, the columns of a matrix."""
        needed = (part.needs(rank) for part in self._penalties)
        return sorted({each for each in needed if each is not None})

    @property
    def alone(self) -> Regularizer | None:
        """The parts that are of the slot's own weight; None where there is none."""
        return self._with([part for part in self.parts if not _penalty(part).is_coupled])

    @property
    def coupled(self) -> Regularizer | None:
        """The parts that are of all that vanishes with a unit; None where there is none."""
        return self._with([part for part in self.parts if _penalty(part).is_coupled])

    @property
    def not_of_units(self) -> str | None:
        """What units can't have of it, which take a coupled group lasso by outputs; None where there is nothing."""
        for part in self._penalties:
            if not isinstance(part, GroupLasso):
                return part.name
            if part.needs_inputs:
                return "a group_lasso over the input axis"
            if not part.coupled and "coupled" in part.model_fields_set:
                return "a group_lasso that is not coupled"
        return None

    @property
    def of_units(self) -> Regularizer:
        """Itself with every group lasso coupled, as a rule for units means it."""

        def coupled(part: Penalty | Scheduled) -> Penalty | Scheduled:
            made = _penalty(part).model_copy(update={"coupled": True})
            return Scheduled(made, part.schedules) if isinstance(part, Scheduled) else made

        return Regularizer(tuple(map(coupled, self.parts)), self.reduction)

    def _with(self, parts: list[Penalty | Scheduled]) -> Regularizer | None:
        if len(parts) == len(self.parts):
            return self
        return Regularizer(tuple(parts), self.reduction) if parts else None

    @property
    def _penalties(self) -> list[Penalty]:
        """The penalties of the parts, without their schedules."""
        return [_penalty(part) for part in self.parts]

    def check(self, slot: str, *, has_inputs: bool, has_outputs: bool = True) -> None:
        """Raises `ShapeError` where a part has no meaning for the slot, which may have axes of inputs and outputs."""
        if self.reduction is not None and slot != "activity":
            raise ShapeError(f"has a reduction over the batch on its {slot}, but that is for activities")
        if self.reduction == "sum" and all(part.averages_batch for part in self._penalties):
            raise ShapeError(f"has the reduction sum, but {self._penalties[0].name} is a mean over the batch by itself")
        for part in self._penalties:
            if slot == "activity" and part.is_coupled:
                raise ShapeError(f"has a coupled {part.name} on its output, but what is coupled are weights")
            if slot != "activity" and not part.for_weights:
                raise ShapeError(f"has {part.name} on its {slot}, but that is a regularizer of activities")
            if part.needs_inputs and not has_inputs:
                raise ShapeError(f"has {part.name} over the input axis, but there is none")
            if part.reads_units and not has_outputs and slot != "activity":
                raise ShapeError(f"has {part.name}, which is by outputs, but it is a scale, and has none")

    def lower(self, at: Dimensions) -> Call:
        """The constructor of the runtime's regularizer of what lies so."""
        alike: dict[tuple[Schedule, ...], list[Penalty]] = {}
        for part in self.parts:
            penalty, schedules = (part.penalty, part.schedules) if isinstance(part, Scheduled) else (part, ())
            alike.setdefault(schedules, []).append(penalty)
        calls = []
        for schedules, penalties in alike.items():
            own = _sum(penalties, at)
            calls.append(call("Scheduled", own, *[each.lower() for each in schedules]) if schedules else own)
        return calls[0] if len(calls) == 1 else call("Sum", *calls)


def _penalty(part: Penalty | Scheduled) -> Penalty:
    """A part without its schedules."""
    return part.penalty if isinstance(part, Scheduled) else part


def _sum(penalties: list[Penalty], at: Dimensions) -> Call:
    """The constructor of the sum of penalties."""
    strengths = {part.name: part.strength for part in penalties if isinstance(part, (L1, L2))}
    if len(strengths) == len(penalties) == 2:
        return call("L1L2", l1=strengths["l1"], l2=strengths["l2"])
    calls = [
        part.lower(at) if part.adds_up or at.kernels == 1 else call("Apart", part.lower(at), at.kernels)
        for part in penalties
    ]
    return calls[0] if len(calls) == 1 else call("Sum", *calls)


def _reduction(value: Any) -> Reduction:
    if value not in get_args(Reduction):
        context = {"expected": "mean or sum", "received": value}
        with at("reduction"):
            raise PydanticCustomError("form", "has a reduction that must be {expected}", context)
    found: Reduction = value
    return found


class _RegularizerForms:
    """The forms of a regularizer, as an annotation of pydantic fields."""

    def parse(self, value: Any) -> Regularizer:
        if isinstance(value, Regularizer):
            return value
        if isinstance(value, str):
            if is_call(value):
                return Regularizer((REGULARIZERS.called(value),))
            return Regularizer((REGULARIZERS.make(value, {}, ()),))
        if is_serialized(value):
            return Regularizer((REGULARIZERS.unserialized(value),))
        if isinstance(value, dict) and value:
            penalties = [
                REGULARIZERS.make(name, arguments, (name,)) for name, arguments in value.items() if name not in BESIDE
            ]
            if not penalties:
                raise PydanticCustomError(
                    "beside", "has a {name}, but nothing that follows it", {"name": next(iter(value))}
                )
            reduction = _reduction(value["reduction"]) if "reduction" in value else None
            if "schedule" not in value:
                return Regularizer(tuple(penalties), reduction)
            with at("schedule"):
                schedules = parse_schedules(value["schedule"])
            return Regularizer(tuple(Scheduled(penalty, schedules) for penalty in penalties), reduction)
        if isinstance(value, list) and value:
            summands: list[Regularizer] = []
            for index, item in enumerate(value):
                with at(index):
                    summands.append(self.parse(item))
                    if summands[-1].reduction != summands[0].reduction:
                        raise PydanticCustomError("reduction", "must have the reduction of the others in the list")
            return Regularizer(tuple(part for each in summands for part in each.parts), summands[0].reduction)
        expected = "a regularizer: a name, {name: strength}, or a list of these"
        raise PydanticCustomError("form", "must be {expected}", {"expected": expected, "received": value})

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {REFERENCE: REGULARIZERS.definition}


RegularizerField = Annotated[Regularizer, _RegularizerForms()]
