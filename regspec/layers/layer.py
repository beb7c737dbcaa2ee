"""What every kind of layer is: a frozen class that declares its fields, its weights, its shapes and what it becomes.

A kind's methods see tensors as they lie in torch, in the order of axes that the kind asks for with `order`; where the
model's layout differs, the graph puts a permuted view before them. So a convolution is written once, for channels
first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, TypeVar

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from regspec import axes
from regspec.axes import Order, Pattern
from regspec.calls import Expression, Module
from regspec.shapes import DataFormat, Shape, ShapeError, Tensor, text
from regspec.spec.activations import Activation
from regspec.spec.constraints import WeightConstraint
from regspec.spec.fields import Axis, Frozen, Name, Names
from regspec.spec.initializers import WeightInitializer
from regspec.spec.registration import load_entry_points
from regspec.spec.regularizers import Regularizer, RegularizerField

parse_pattern = cache(Pattern.parse)


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight of a layer: Keras's name and shape, where it lies in torch, and what the spec says of it."""

    name: str  # Keras's, unique in the layer: kernel, query.kernel
    slot: str  # of the fields that govern it: kernel
    shape: tuple[int, ...] | None  # Keras's; None where only the user's module knows it
    pattern: Pattern  # how Keras's array lies in torch
    parameters: tuple[str, ...] = ("weight",)  # attributes of its module; several are stacked along a first axis
    module: str = ""  # the suffix of its module
    trainable: bool = True  # by its kind: a moving average is not
    frozen: bool = False  # by the spec
    initializer: WeightInitializer | None = None
    constructed: WeightInitializer | None = None  # what the module's constructor fills it with
    regularizer: Regularizer | None = None
    constraint: WeightConstraint | None = None
    explicit: bool = False  # whether the layer itself says what its regularizer is
    fans: tuple[int, int] | None = None  # where Keras counts other than by the shape
    ones: tuple[int, int] | None = None  # rows that start at one: an LSTM's forget gate
    chunks: tuple[int, ...] | None = None  # Keras's gates, in the order in which torch stores them


class Placement(Frozen):
    """What a spec says of a layer besides the fields of its kind: where it stands."""

    name: Name | None = Field(None, description="The layer's name, unique in the spec; made from the kind when absent.")
    inputs: Names | None = Field(None, description="The layers or inputs it takes; the layer before when absent.")


class Layer(Frozen):
    """A layer, wherever it stands. The fields that every kind has."""

    trainable: bool = Field(
        True, description="False freezes the weights: they are not trained and their penalties not counted."
    )
    activity_regularizer: RegularizerField | None = Field(
        None, description="A penalty on the layer's output, after its activation, divided by the batch size."
    )

    arity: ClassVar[tuple[int, int | None]] = (1, 1)  # fewest and most inputs
    takes: ClassVar[tuple[str, ...] | None] = None  # the input's axes, in torch's order, where their number is fixed
    call_fields: ClassVar[frozenset[str]] = frozenset()  # fields that a further call of the layer may set anew
    is_opaque: ClassVar[bool] = False  # whether its module may have weights that it does not declare

    def order(self, x: Tensor) -> Order | None:
        """The order of axes in which it wants an input; None takes any that its inputs share."""
        return axes.identity(x.rank)

    def weights(self, x: Tensor, *others: Tensor) -> tuple[Weight, ...]:
        """Its weights, in Keras's order."""
        return ()

    def output_shape(self, x: Tensor, *others: Tensor) -> Shape | list[Shape]:
        """The shape of its output, or the shapes of several, as they lie in torch. Raises `ShapeError`."""
        return x.shape

    def lower(self, x: Tensor, *others: Tensor) -> Expression | list[Expression]:
        """The expression that computes its output, or those of several."""
        raise NotImplementedError

    def absent(self) -> tuple[str, ...]:
        """Parameters that Keras does not have, which stay zero: of the main module, or ``suffix.name`` of another."""
        return ()

    @property
    def takes_integers(self) -> bool:
        """Whether it takes whole numbers as they are, and not as floating-point numbers."""
        return False

    @property
    def activity(self) -> Regularizer | None:
        """The penalty on its output."""
        return self.activity_regularizer

    @property
    def says_activity(self) -> bool:
        """Whether it says itself what the penalty on its output is, be it none."""
        return "activity_regularizer" in self.model_fields_set

    @property
    def inner_activities(self) -> dict[str, Regularizer]:
        """Penalties on outputs inside it, by the suffix of the module that is listened to."""
        return {}

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds by which a rule selects it: its own, and that of a layer that it wraps."""
        return (type(self).__name__,)

    def output_dtype(self, x: Tensor, *others: Tensor) -> str | list[str]:
        """The type of its output's numbers, or the types of several outputs."""
        return "float32"

    def gives_signal(self, *xs: Tensor) -> bool:
        """Whether it gives (batch, channels, length), where a recurrent layer would read (batch, steps, features)."""
        return False

    def units_of(self, output: Tensor) -> int:
        """The dimension of an output that holds its units: the channels of images, else Keras's last axis."""
        dimension = 1 if output.data_format == "channels_first" and output.rank > 3 else output.dimension(-1)
        return -1 if dimension == output.rank - 1 else dimension

    def weight(self, slot: str, pattern: str, shape: tuple[int, ...], **more: Any) -> Weight:
        """A weight with what the fields of its slot say."""
        return Weight(
            more.pop("name", slot),
            slot,
            shape,
            parse_pattern(pattern),
            initializer=more.pop("initializer", None) or getattr(self, f"{slot}_initializer", None),
            regularizer=getattr(self, f"{slot}_regularizer", None),
            constraint=getattr(self, f"{slot}_constraint", None),
            explicit=f"{slot}_regularizer" in self.model_fields_set,
            frozen=not self.trainable,
            **more,
        )

    def checked(self, *xs: Tensor) -> None:
        """Raises `ShapeError` where the number of inputs or their ranks are not what the kind takes."""
        fewest, most = self.arity
        if len(xs) < fewest or (most is not None and len(xs) > most):
            count = f"{fewest}" if fewest == most else f"{fewest} or more" if most is None else f"{fewest} to {most}"
            raise ShapeError(f"takes {count} input{'s' * (count != '1')}, but is given {len(xs)}")
        for x in xs:
            if self.takes is not None and x.rank != len(self.takes):
                names = self.takes
                if x.data_format == "channels_last" or getattr(self, "data_format", None) == "channels_last":
                    names = (*(name for name in names if name != "channels"), "channels")
                raise ShapeError(
                    f"takes {len(names)}-D input ({', '.join(names)}), but '{x.source}' gives {text(x.logical)}"
                )


def refuse_signals(*xs: Tensor) -> None:
    """Raises `ShapeError` where an input is a signal, which a layer would read as a sequence."""
    for x in xs:
        if x.is_signal:
            what = f"takes (batch, steps, features), but '{x.source}' gives (batch, channels, length)"
            raise ShapeError(what, "put 'Permute: {dims: [2, 1]}' between, or set data_format: channels_last")


class Elementwise(Layer):
    """A layer that computes each number of its output from the numbers at the same place: any order of axes will do."""

    def order(self, x: Tensor) -> Order | None:
        return None

    def gives_signal(self, *xs: Tensor) -> bool:
        return any(x.is_signal for x in xs)


class Activated(Layer):
    """A layer with an activation function after its own computation."""

    activation: Activation | None = Field(None, description="The activation function; none when absent.")

    def activate(self, x: Expression, like: Tensor) -> Expression:
        """``x`` after the activation; ``like`` is a tensor with the rank and order of its axes."""
        if self.activation is None:
            return x
        constructor = self.activation.lower(self._dimension(like))
        return x if constructor is None else Module(constructor, "activation")(x)

    def activated_shape(self, shape: Shape, like: Tensor) -> Shape:
        """``shape`` after the activation."""
        return shape if self.activation is None else self.activation.output_shape(shape, self._dimension(like))

    @property
    def is_along_last_axis(self) -> bool:
        """Whether the activation, if any, has no axis other than the last."""
        return self.activation is None or self.activation.along in (None, -1)

    def _dimension(self, like: Tensor) -> int:
        axis = None if self.activation is None else self.activation.along
        if axis is None:
            return -1
        dimension = like.dimension(axis)
        return -1 if dimension == like.rank - 1 else dimension


class Spatial(Layer):
    """A layer that works along space or time, one axis of channels apart; written for channels first."""

    data_format: DataFormat | None = Field(
        None, description="Where the channels lie; the model's data_format when absent."
    )

    spatial_rank: ClassVar[int]

    @field_validator(
        "kernel_size",
        "strides",
        "dilation_rate",
        "pool_size",
        "size",
        "output_size",
        "output_padding",
        check_fields=False,
    )
    @classmethod
    def _per_axis(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        """One size for each spatial axis."""
        if value is None or len(value) == cls.spatial_rank:
            return value
        if len(value) == 1:
            return value * cls.spatial_rank
        wanted = {"wanted": cls.spatial_rank, "given": len(value)}
        raise PydanticCustomError("sizes", "must be one size or {wanted}, but has {given}", wanted)

    def gives_signal(self, *xs: Tensor) -> bool:
        return self.order(xs[0]) == axes.identity(xs[0].rank)

    def units_of(self, output: Tensor) -> int:
        return 1

    def order(self, x: Tensor) -> Order | None:
        last = (self.data_format or x.data_format) == "channels_last"
        return axes.channels_first(x.rank) if last else axes.identity(x.rank)

    @classmethod
    def __pydantic_init_subclass__(cls, **keywords: Any) -> None:
        rank = getattr(cls, "spatial_rank", None)
        if rank is not None:
            cls.takes = (
                "batch",
                "channels",
                *{1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}[rank],
            )


def channel_axis(axis: Axis | None, x: Tensor) -> int:
    """The axis of the channels: ``axis`` where it is given, else where the model's data format puts them."""
    if axis is not None:
        return axis % x.rank if -x.rank <= axis < x.rank else x.dimension(axis)
    return 1 if x.data_format == "channels_first" and x.rank > 2 else x.rank - 1


KINDS: dict[str, type[Layer]] = {}

L = TypeVar("L", bound=type[Layer])


def kind(cls: L) -> L:
    """Adds a kind to the language, under its class's name; a decorator."""
    KINDS[cls.__name__] = cls
    return cls


def find_kind(name: str) -> type[Layer] | None:
    """The kind of a name: of this package, registered, or offered by an entry point of the group ``regspec.layers``."""
    if name not in KINDS and name[:1].isupper():
        load_entry_points("regspec.layers", name)
    return KINDS.get(name)
