"""The types of a spec's fields: sizes, rates, strengths, names."""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Annotated, Any, ClassVar, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from regspec.code.axes import Meaning
from regspec.language.arithmetic import ExpressionError, evaluated, is_of_numbers, lexed
from regspec.text.document import Part

MAX_SIZE = 2**31 - 1

Size = Annotated[int, Field(ge=1, le=MAX_SIZE)]
Count = Annotated[int, Field(ge=0, le=MAX_SIZE)]
Axis = Annotated[int, Field(ge=-64, le=64)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Frozen(BaseModel):
    """A validated, immutable value. Its schema is built when it is first needed: a spec uses few of the kinds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    main: ClassVar[str | None] = None  # the field that a value may stand for: {leaky_relu: 0.1}, Dropout: 0.5

    @classmethod
    def __pydantic_init_subclass__(cls, **keywords: Any) -> None:
        """Evaluates the types of the class's own fields, or pydantic does so again for each class below: 0.2 s.

        What is said of no field is left out: pydantic knows it by now, and would read it for each class below.
        """
        super().__pydantic_init_subclass__(**keywords)
        with suppress(NameError):  # of a class in a function, whose names only pydantic finds
            found: dict[str, Any] = inspect.get_annotations(cls, eval_str=True)
            cls.__annotations__ = {name: each for name, each in found.items() if get_origin(each) is not ClassVar}

    @field_validator("*", mode="before")
    @classmethod
    def _with_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Takes the results of arithmetic where a number is due: ``units: 7 * 7 * 64``."""
        is_written = isinstance(value, (str, list))
        return _computed(value) if is_written and info.field_name in _numeric(cls) else value


@cache
def _numeric(cls: type[Frozen]) -> frozenset[str]:
    """The fields that take numbers, and no text of one's own."""

    def types(annotation: Any) -> Iterator[Any]:
        yield annotation
        for each in get_args(annotation):
            yield from types(each)

    found = {name: {*map(id, types(field.annotation))} for name, field in cls.model_fields.items()}
    return frozenset(name for name, ids in found.items() if ids & {id(int), id(float)} and id(str) not in ids)


def _computed(value: Any, at: tuple[int, ...] = ()) -> Any:
    """A value with the results of texts of numbers in it; ``at`` leads to it from the field's."""
    if isinstance(value, list):
        return [_computed(each, (*at, index)) for index, each in enumerate(value)]
    if not isinstance(value, str) or not is_of_numbers(value):
        return value
    try:
        return evaluated(lexed(value) or [], lambda _: 0)
    except ExpressionError as error:
        context = {"what": error.what, "hint": error.hint, "part": Part(value, *error.part), "at": at}
        raise PydanticCustomError("arithmetic", "{what}", context) from None


OF_SLOTS = ("_initializer", "_regularizer", "_constraint")  # how the names of fields end that are of weights
# Optional fields that stand before others, as in the signatures of Keras.
_FIRST = (
    "pool_size",
    "size",
    "strides",
    "padding",
    "output_padding",
    "data_format",
    "dilation_rate",
    "groups",
    "activation",
    "use_bias",
)


@cache
def in_order(cls: type[Frozen]) -> tuple[str, ...]:
    """The fields of a class as a person would write them: required ones first, those of slots last."""
    declared = cls.model_fields
    names = [name for each in cls.__mro__ for name in inspect.get_annotations(each) if name in declared]

    def place(name: str) -> tuple[bool, int, int]:
        ending = next((index for index, each in enumerate(OF_SLOTS, 1) if name.endswith(each)), 0)
        if ending:
            return True, ending, ("bias_" in name) + 2 * name.startswith("activity_")
        return not declared[name].is_required(), 0, _FIRST.index(name) if name in _FIRST else len(_FIRST)

    return tuple(sorted(dict.fromkeys(names), key=place))


def _one_or_more(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _sequence(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


OneOrMore = BeforeValidator(_one_or_more)


def as_written(declared: FieldInfo, value: Any) -> Any:
    """The value of a field as a person writes it: one of several as itself, where the field takes one."""
    kinds = (declared.metadata, *map(get_args, get_args(declared.annotation)))  # the latter of those that may be absent
    takes_one = any(each is OneOrMore for kind in kinds for each in kind)
    return value[0] if takes_one and isinstance(value, (list, tuple)) and len(value) == 1 else value


REFERENCE = "x-definition"  # in a schema: the name of a definition that pydantic does not know
PER_AXIS = "x-per-axis"  # in a schema: the list has one item for each spatial axis of the kind


def _sizes_schema(least: int) -> WithJsonSchema:
    item = {"type": "integer", "minimum": least, "maximum": MAX_SIZE}
    return WithJsonSchema({"anyOf": [item, {"type": "array", "items": item, PER_AXIS: True}]})


# One size for all spatial axes, or one for each; the kind fixes how many there are (see `layers.families.Spatial`).
Sizes = Annotated[tuple[Size, ...], OneOrMore, _sizes_schema(1)]
Counts = Annotated[tuple[Count, ...], OneOrMore, _sizes_schema(0)]
Axes = Annotated[
    tuple[Axis, ...],
    OneOrMore,
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}, "minItems": 1}]}),
]


# True or False for all weights of a layer, or the slots of those that are trained.
def _trainable(value: Any) -> Any:
    """Whether weights are trained, or the names of those that are. Raises a pydantic error."""
    names = (value,) if isinstance(value, str) else value
    if isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names):
        return tuple(names)
    if isinstance(value, bool):
        return value
    raise PydanticCustomError("form", "must be {expected}", {"expected": "true or false, or names of weights"})


Trainable = Annotated[
    bool | tuple[str, ...],
    PlainValidator(_trainable),
    WithJsonSchema(
        {"anyOf": [{"type": "boolean"}, {"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    ),
]
Shape = Annotated[tuple[Size | None, ...], BeforeValidator(_sequence)]
Sequence = BeforeValidator(_sequence)


def _meanings(value: tuple[Meaning, ...]) -> tuple[Meaning, ...]:
    names = {*value}
    if len(names) < len(value) or len({"channels", "features"} & names) != 1:
        raise PydanticCustomError("axes", "must name each axis once, and one of them channels or features")
    image = {"height", "width"}
    if "steps" in names and {*image, "depth"} & names and not image <= names:
        raise PydanticCustomError("axes", "must name both height and width of images in steps")
    return value


Meanings = Annotated[tuple[Meaning, ...], Sequence, AfterValidator(_meanings)]


def check_meanings(names: tuple[Meaning, ...] | None, sizes: tuple[int | None, ...]) -> None:
    """Raises a pydantic error where names are given, and are not as many as the sizes beside them."""
    if names is not None and len(names) != len(sizes):
        context = {"names": len(names), "sizes": len(sizes)}
        raise PydanticCustomError("axes", "names {names} axes, but has {sizes} sizes", context)


MAX_NAME = 100


class NameForm:
    """The form of a name, as an annotation of pydantic fields; ``message`` says what is wrong with other names."""

    def __init__(self, pattern: str, message: str) -> None:
        self.pattern = re.compile(pattern, re.ASCII)
        self.message = message

    def check(self, name: str) -> str:
        """``name``, if it has the form. Raises a pydantic error."""
        if not self.pattern.fullmatch(name) or len(name) > MAX_NAME:
            raise PydanticCustomError("name", "{message}, but is '{name}'", {"message": self.message, "name": name})
        return name

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, core_schema.str_schema(strict=True))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        ascii_pattern = self.pattern.pattern.replace(r"\w", "[A-Za-z0-9_]")
        return {"type": "string", "pattern": f"^{ascii_pattern}$", "maxLength": MAX_NAME}


class AttributeName(NameForm):
    """A name that a module's attribute can have."""

    def check(self, name: str) -> str:
        if keyword.iskeyword(name):
            context = {"name": name, "hint": f"write '{name}_'"}
            raise PydanticCustomError("name", "can't be '{name}': a word of Python's own", context)
        if name in RESERVED:
            what = "can't be '{name}': torch.nn.Module has an attribute of that name"
            raise PydanticCustomError("name", what, {"name": name, "hint": f"write '{name}_'"})
        return super().check(name)


Name = Annotated[
    str, AttributeName(r"[A-Za-z]\w*", "must consist of letters, digits and underscores, and begin with a letter")
]
Names = Annotated[
    tuple[str, ...],
    OneOrMore,
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]

NamesIfAny = Annotated[
    tuple[str, ...],
    OneOrMore,
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]

# What torch.nn.Module and the compiled classes keep for themselves; a test compares it with torch.
RESERVED = frozenset(
    [
        "T_destination",
        "add_activity_terms",
        "add_constraints",
        "add_module",
        "add_unit_terms",
        "add_weight_terms",
        "apply",
        "apply_constraints",
        "bfloat16",
        "buffers",
        "call_super_init",
        "children",
        "compile",
        "cpu",
        "cuda",
        "double",
        "dump_patches",
        "eval",
        "extra_repr",
        "float",
        "forward",
        "get_buffer",
        "get_extra_state",
        "get_parameter",
        "get_submodule",
        "half",
        "ipu",
        "load_state_dict",
        "modules",
        "mtia",
        "named_buffers",
        "named_children",
        "named_modules",
        "named_parameters",
        "parameters",
        "register_backward_hook",
        "register_buffer",
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
        "register_load_state_dict_post_hook",
        "register_load_state_dict_pre_hook",
        "register_module",
        "register_parameter",
        "register_state_dict_post_hook",
        "register_state_dict_pre_hook",
        "regularization_loss",
        "regularization_terms",
        "requires_grad_",
        "self",
        "set_extra_state",
        "set_schedules",
        "set_strength",
        "set_submodule",
        "share_memory",
        "state_dict",
        "to",
        "to_empty",
        "train",
        "training",
        "type",
        "xpu",
        "zero_grad",
    ]
)


def _no_cells(value: Any) -> Any:
    """Refuses a number of cells, as torch has it, with the way out."""
    if isinstance(value, (int, list, tuple)) and not isinstance(value, bool):
        hint = (
            "torch's padding is a layer before it, '- ZeroPadding2D: 1'; same pads otherwise where strides are over 1"
        )
        raise PydanticCustomError(
            "padding", "must be 'valid' or 'same', but is {value}", {"value": str(value), "hint": hint}
        )
    return value


NoCells = BeforeValidator(_no_cells)  # of a padding that is a word


@cache
def snake_case(name: str) -> str:
    """The name that Keras gives a layer of this class: ``MaxPooling2D`` gives ``max_pooling2d``."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


@cache
def layer_name(kind: str) -> str:
    """The name of a layer of this kind that says none: Keras's, but ``relu``, ``prelu`` and ``cdist`` are one word."""
    return snake_case(re.sub(r"[A-Z]?ReLU|CDist", lambda word: word[0].capitalize(), kind))
