"""What every kind of layer is: a frozen class that declares its fields, its weights, its shapes and what it becomes.

A kind's methods see tensors as they lie in torch, in the order of axes that the kind asks for with `order`; where the
model's layout differs, the graph puts a permuted view before them. So a convolution is written once, for channels
first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from pydantic import Field

from regspec.code import axes
from regspec.code.axes import Order, Pattern
from regspec.code.expressions import Expression, unless
from regspec.code.shapes import Precision, RankError, ReadingError, Shape, ShapeError, States, Symbol, text
from regspec.language.activations import ActivationFunction
from regspec.language.constraints import WeightConstraint
from regspec.language.fields import Frozen, Name, Names, NamesIfAny, Trainable
from regspec.language.initializers import Drawn, WeightInitializer
from regspec.language.penalties import Dimensions
from regspec.language.regularizers import Regularizer, RegularizerField
from regspec.layers.ties import Ties

parse_pattern = cache(Pattern.parse)
KerasCall = tuple[tuple[Any, ...], dict[str, Any]]  # arguments in order, and by name
LAST = (-1, (-1,))  # defaults that mean the last axis
FIRST = ""  # as the main field of a kind: its first required field; where there is none, the first that itself declares


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight of a layer: Keras's name and shape, where it lies in torch, and what the spec says of it."""

    name: str  # Keras's, unique in the layer: kernel, query.kernel
    slot: str  # the slot whose fields apply to it: kernel
    shape: tuple[int, ...] | None  # Keras's; None where only the user's module knows it
    pattern: Pattern  # how Keras's array lies in torch
    parameters: tuple[str, ...] = ("weight",)  # attributes of its module; several are stacked along a first axis
    module: str = ""  # the suffix of its module
    trainable: bool = True  # by its kind: a moving average is not
    is_loaded: bool = False  # whether it has no first value, and comes with a state_dict
    frozen: bool = False  # by the spec
    initializer: WeightInitializer | None = None
    constructed: WeightInitializer | None = None  # what the module's constructor fills it with
    regularizer: Regularizer | None = None
    constraint: WeightConstraint | None = None
    explicit: bool = False  # whether the layer itself says what its regularizer is
    fans: tuple[int, int] | None = None  # where Keras does not count them from the shape
    ones: tuple[int, int] | None = None  # rows that start at one: an LSTM's forget gate
    blocks: int | None = None  # of a kernel of groups: how many there are, one below the other in torch
    chunks: tuple[int, ...] | None = None  # Keras's gates, in the order in which torch stores them
    along: tuple[int | None, ...] = ()  # for each of its axes, the Keras axis of the input that decides its size

    @property
    def dimensions(self) -> Dimensions:
        """Where its outputs and inputs lie in torch, if along one dimension each."""
        outputs, inputs = (each[0] if len(each) == 1 else None for each in (self.pattern.outputs, self.pattern.inputs))
        if self.blocks is not None:
            return Dimensions(outputs, 1, self.blocks)
        return Dimensions(outputs, inputs, columns=self.pattern.last if len(self.pattern.keras) == 2 else None)

    @property
    def alone(self) -> Regularizer | None:
        """What of its regularizer is of it alone, and not of all that vanishes with its units."""
        return None if self.regularizer is None else self.regularizer.alone

    @property
    def drawn(self) -> Drawn | None:
        """What its initializer has to fill; None where the module's constructor has filled it already."""
        if self.initializer is None or self.shape is None or self.initializer == self.constructed:
            return None
        return Drawn(self.shape, self.pattern, self.fans, self.chunks is not None)


class Placement(Frozen):
    """What a spec says of a layer besides the fields of its kind: where it stands."""

    name: Name | None = Field(None, description="The layer's name, unique in the spec; made from the kind when absent.")
    inputs: Names | None = Field(None, description="The layers or inputs it takes; the layer before when absent.")
    mask: NamesIfAny | None = Field(
        None,
        description="The layers or inputs that say which steps of its inputs count, in place of the masks that these "
        "have from Masking or mask_zero; [] for none. For attention with heads, which steps each step sees besides.",
    )


class Layer(Frozen):
    """A layer, wherever it stands: the fields that every kind has, and what a kind says of itself.

    A class that derives from it is a kind with full control over shapes and code; `regspec.register_layer` adds it.

    Example:
        >>> import regspec
        >>> regspec.load("examples/mlp.yaml").layers[-1].layer.kinds
        ('Dense',)
    """

    trainable: Trainable = Field(
        True,
        description="Whether its weights are trained, or which of them, such as bias; the others are frozen, and their "
        "penalties not counted.",
    )
    dtype: Precision | None = Field(
        None, description="The type in which it computes and keeps its weights; the model's when absent."
    )
    activity_regularizer: RegularizerField | None = Field(
        None, description="A penalty on the layer's output, after its activation, divided by the batch size."
    )

    main: ClassVar[str | None] = FIRST  # Keras's first argument
    one_for_all: ClassVar[tuple[str, ...]] = ()  # fields of numbers, of which one stands for all where they are equal
    unsaid: ClassVar[Mapping[str, Callable[[Any], Any]]] = {}  # what fields that are None stand for, by the others
    example: ClassVar[str] = ""  # what an example says after the kind's name, as a spec writes it: {units: 64}
    arity: ClassVar[tuple[int, int | None]] = (1, 1)  # fewest and most inputs
    takes: ClassVar[tuple[str, ...] | None] = None  # the input's axes, in torch's order, where their number is fixed
    call_fields: ClassVar[frozenset[str]] = frozenset()  # fields that a further call of the layer may set anew
    gives: ClassVar[str | None] = None  # the type of the floating-point numbers that its module gives, if fixed
    is_opaque: ClassVar[bool] = False  # whether its module may have weights that it does not declare
    supports_masking: ClassVar[bool] = False  # whether its output has the mask of its input, as Keras calls it
    reads_mask: ClassVar[bool] = False  # whether it computes with the masks of its inputs, which are of (batch, steps)
    merges_masks: ClassVar[bool] = False  # whether its inputs are alike, so that one mask may be for all of them
    takes_attention_mask: ClassVar[bool] = False  # whether the 'mask' that a spec gives it may be one of scores
    is_in_keras: ClassVar[bool] = True  # whether Keras 3 has a layer of its name and fields
    is_in_files: ClassVar[bool] = False  # whether files of Keras have it all the same: older ones, or applications
    own_fields: ClassVar[frozenset[str]] = frozenset()  # fields that Keras's class does not have
    keras_module: ClassVar[str] = "layers"  # where Keras's files say that its class is
    keras_operation: ClassVar[str | None] = None  # the module of Keras's operations that has one of its name
    keras_function: ClassVar[str | None] = None  # that operation's function, where it is not called as the kind is
    keras_first: ClassVar[str | None] = None  # the field that this function takes before its tensors
    called_with: ClassVar[tuple[str, ...]] = ()  # fields that are arguments of the operation's call
    said_in_keras: ClassVar[frozenset[str]] = frozenset()  # fields that Keras reads in a file even at their defaults
    meant_in_keras: ClassVar[Mapping[str, str]] = {}  # fields that are None, of which a file should tell what they mean
    has_activity_in_keras: ClassVar[bool] = True  # whether Keras's class applies a penalty on its output
    has_inner_activities_in_keras: ClassVar[bool] = True  # and those on the outputs of layers in it
    is_frozen_in_keras: ClassVar[bool] = True  # whether Keras's class, said to be frozen, freezes what it makes itself
    keras_numbers: ClassVar[Mapping[str, int]] = {}  # that Keras's files have beside weights that come with them
    takes_inputs_apart: ClassVar[bool] = False  # whether Keras's class takes its inputs as separate arguments
    is_counted_by_spec: ClassVar[bool] = False  # whether it counts the axes of its inputs as the spec, and not as Keras
    keeps_axes: ClassVar[bool] = True  # whether an output with as many axes as an input has the axes of that
    says_axes: ClassVar[bool] = False  # whether a field of it, axes, says what those of its output mean
    open_rank: ClassVar[int] = 4  # from how many axes on it must be told which one has the channels
    channel_axis: ClassVar[str | None] = None  # the field with the axis of the channels, which is absent for these
    axis_fields: ClassVar[tuple[str, ...]] = ()  # fields with axes of its input, as the spec counts them

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        """Values of fields that Keras's class needs in place of the layer's, on these inputs. Raises `ShapeError`."""
        return {}

    @property
    def operated_by(self) -> str | None:
        """The module of Keras's operations that has one which computes it; None where a layer does."""
        return self.keras_operation

    def function_alone(self, *xs: Symbol) -> ActivationFunction | None:
        """The function that is all that it computes, along the axes of Keras's class; None where it computes else."""
        return None

    @property
    def fields_of_call(self) -> frozenset[str]:
        """The fields that are arguments of the call of Keras's operation, and not of its class."""
        return frozenset(self.called_with)

    def keras_call(self, *tensors: object) -> KerasCall:
        """The arguments of the call of Keras's operation, of which these are tensors: in order, and by name."""
        said = {name: getattr(self, name) for name in self.called_with}
        return tensors, {name: value for name, value in said.items() if value is not None}

    def literal_order(self, x: Symbol) -> Order:
        """The order of axes in which Keras's class, as `keras_fields` has it, takes a tensor like ``x``."""
        return x.spec_order if self.is_counted_by_spec else axes.identity(x.rank)

    def literal_orders(self, *xs: Symbol) -> list[Order]:
        """The order of axes in which that class takes each of several inputs; of different ranks, Keras's own."""
        if self.is_counted_by_spec or len({x.rank for x in xs}) == 1:
            first = self.literal_order(xs[0])
            return [self.literal_order(x) if self.is_counted_by_spec else first for x in xs]
        return [axes.identity(x.rank) for x in xs]

    def literal_output_order(self, output: Symbol, *xs: Symbol) -> Order:
        """The order of axes in which that class gives ``output`` on these inputs."""
        if self.is_counted_by_spec:
            return output.spec_order
        first = self.literal_orders(*xs)[0]
        return first if len(first) == output.rank else axes.identity(output.rank)

    def keras_group(self, name: str) -> str:
        """The group in which Keras's files have a weight of this name, in that of the layer."""
        return "vars"

    def keras_paths(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """The places in Keras's files of its weights, in that of the layer: numbered in each group, each with its name.

        Args:
            names: of its weights, in Keras's order.
        """
        counts, found = Counter[str](), []
        for name in names:
            group = self.keras_group(name)
            found.append((f"{group}/{counts[group]}", name))
            counts[group] += 1
        return found

    @property
    def state_structure(self) -> States:
        """The states that it takes and gives besides its tensors, nested in lists as in Keras."""
        return ()

    def order(self, x: Symbol) -> Order | None:
        """The order of axes in which it wants an input; None takes any that its inputs share."""
        return x.spec_order if self.is_counted_by_spec else axes.identity(x.rank)

    def output_order(self, rank: int, x: Symbol, *others: Symbol) -> Order:
        """The order of axes in which an output of this rank lies."""
        if rank == x.rank and self.keeps_axes:
            return x.order
        return (self.is_counted_by_spec and self.output_spec_order(rank, x, *others)) or axes.identity(rank)

    @classmethod
    def usual_spec_order(cls, rank: int) -> Order:
        """The order in which a spec counts the axes of a tensor of which nothing is said: sequences, and images."""
        return axes.identity(rank) if rank < 4 else axes.channels_first(rank)

    def input_spec_order(self, rank: int) -> Order | None:
        """The order in which a spec counts the axes of an input that goes first into this layer; None if open."""
        return self.usual_spec_order(rank)

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        """The order in which a spec counts the axes of an output of this rank; None where nothing says that."""
        if rank < 3:
            return axes.identity(rank)
        alike = next((x for x in xs if x.rank == rank), None)
        if alike is not None and self.keeps_axes:
            return None if alike.is_open and not self.reads_axes else alike.spec_order
        are_plain = all(x.is_plain and not x.is_open for x in xs)
        return None if self.is_counted_by_spec and not are_plain else axes.identity(rank)

    @property
    def reads_axes(self) -> bool:
        """Whether it asks which axis of its inputs holds the features or channels."""
        said = self.axis_fields and self.axis_fields[0] in self.model_fields_set
        return not (self.is_counted_by_spec or said)

    @property
    def has_fixed_rank(self) -> bool:
        """Whether its input has one number of axes, so that this tells what they mean."""
        return self.takes is not None

    @property
    def is_spatial(self) -> bool:
        """Whether it works on signals, images or volumes, each with its channels."""
        return False

    @property
    def takes_steps(self) -> bool:
        """Whether its input is a sequence of what has channels of its own: of signals, images or volumes."""
        return False

    @property
    def gives_as_written(self) -> bool:
        """Whether the axes of its output are those that its fields name, in their order, as the spec counts them."""
        return self.is_counted_by_spec

    @property
    def says_layout(self) -> bool:
        """Whether it says itself what the axes of an input mean that says nothing of them."""
        return False

    def counted_by_keras(self, *xs: Symbol) -> Layer:
        """The layer with axes, which its fields count as the spec does, as Keras counts them. Raises `ShapeError`."""
        fields: dict[str, int | tuple[int, ...]] = {}
        for name in self.axis_fields:
            said = getattr(self, name) if name in self.model_fields_set else None
            if isinstance(said, int):
                fields[name] = xs[0].keras_axis(said)
            elif said is not None:
                fields[name] = tuple(xs[0].keras_axis(axis) for axis in said)
        return self.model_copy(update=fields) if fields and not xs[0].is_plain else self

    def needless(self, x: Symbol, *others: Symbol) -> frozenset[str]:
        """The fields with axes that it need not say on these inputs, as it works on the same ones without them."""
        fields, last = type(self).model_fields, x.rank - 1
        by_default = [name for name in self.axis_fields if name == self.channel_axis or fields[name].default in LAST]
        return frozenset(name for name in by_default if getattr(self, name) in (last, (last,)))

    def weights(self, x: Symbol, *others: Symbol) -> tuple[Weight, ...]:
        """Its weights, in Keras's order."""
        return ()

    def output_shape(self, x: Symbol, *others: Symbol) -> Shape | list[Shape]:
        """The shape of its output, or the shapes of several, as they lie in torch. Raises `ShapeError`."""
        return x.shape

    def ties(self, x: Symbol, *others: Symbol) -> Ties | None:
        """Which axes of its inputs, outputs and weights have the same units; None where that is not known."""
        return None

    def ties_to(self, outputs: Sequence[Symbol], x: Symbol, *others: Symbol) -> Ties | None:
        """The same where that depends on how the axes of its outputs are counted."""
        return self.ties(x, *others)

    def lower(self, x: Symbol, *others: Symbol) -> Expression | list[Expression]:
        """The expression that computes its output, or those of several."""
        raise NotImplementedError

    def counts_by_mask(self, *xs: Symbol) -> bool:
        """Whether it computes with the masks that these inputs have, and does not only hand them on."""
        return self.reads_mask and any(x.mask is not None for x in xs)

    def absent(self, x: Symbol, *others: Symbol) -> tuple[str, ...]:
        """Parameters that Keras does not have, which stay zero: of the main module, or ``suffix.name`` of another."""
        return ()

    @property
    def precision(self) -> Precision | None:
        """The type in which it computes, if it has one of its own."""
        return self.dtype

    def output_mask(self, x: Symbol, *others: Symbol) -> Expression | None:
        """Which steps of its output count, over its inputs and their masks; None where all do."""
        return x.mask if self.supports_masking else None

    @property
    def masked_outputs(self) -> int:
        """How many of its outputs, from the first, have the mask that `output_mask` gives."""
        return 1

    @property
    def takes_integers(self) -> bool:
        """Whether it takes whole numbers as they are, and not as floating-point numbers."""
        return False

    @property
    def is_frozen_whole(self) -> bool:
        """Whether its module is frozen with whatever weights that has, declared or not."""
        return self.is_opaque and not self.trainable

    @property
    def reads_batch(self) -> bool:
        """Whether in training an example's output depends on its batch, or on how often the layer was called before."""
        return self.is_opaque  # only the user knows

    @property
    def index_limit(self) -> int | None:
        """How many indices its input may hold, from 0 up; None where it takes any numbers."""
        return None

    @property
    def indexes_rows(self) -> bool:
        """Whether its input holds indices of rows, of which none is below 0."""
        return False

    @property
    def activity(self) -> Regularizer | None:
        """The penalty on its output."""
        return self.activity_regularizer

    @property
    def says_activity(self) -> bool:
        """Whether its own field says what the penalty on its output is, even that there is none."""
        return "activity_regularizer" in self.model_fields_set

    @property
    def inner_activities(self) -> dict[str, Regularizer]:
        """Penalties on outputs inside it, by the module that is listened to: ``suffix``, or ``suffix.part`` of one."""
        return {}

    def inner_slot(self, suffix: str) -> str:
        """The slot of a penalty on an output inside it, unique in the layer."""
        part = suffix.partition(".")[2]
        return f"{part}.activity" if part else suffix.replace("_", ".")

    def inner_sizes(self, *xs: Symbol) -> dict[str, tuple[int | None, ...]]:
        """How many units the outputs inside it have that have penalties: those of each, by what is listened to."""
        return {}

    def inner_units(self, output: Symbol) -> int:
        """The dimension that holds the units of an output inside it, where its own output lies as ``output``."""
        return -1

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds by which a rule selects it: its own, and that of a layer that it wraps."""
        return (type(self).__name__,)

    def output_dtype(self, x: Symbol, *others: Symbol) -> str | list[str] | None:
        """The type of its output's numbers, where it is not the one in which it computes; or those of several."""
        return None

    def units_of(self, output: Symbol) -> int:
        """The dimension of an output that holds its units: features or channels, which are Keras's last axis."""
        dimension = output.dimension(-1)
        return -1 if dimension == output.rank - 1 else dimension

    def weight(self, slot: str, pattern: str, shape: tuple[int, ...], **more: Any) -> Weight:
        """A weight with the initializer, regularizer and constraint of its slot's fields."""
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

    def own_arguments(self) -> dict[str, Any]:
        """The kind's fields that differ from their defaults, as keyword arguments of a module with the same names."""
        shared = Layer.model_fields.keys() | {"data_format", "seed"}
        fields = {name: field for name, field in type(self).model_fields.items() if name not in shared}
        required = sorted(fields, key=lambda name: not fields[name].is_required())
        return {name: unless(fields[name].default, getattr(self, name)) for name in required}

    def checked(self, *xs: Symbol) -> None:
        """Raises `ShapeError` where the number of inputs or their ranks are not what the kind takes."""
        fewest, most = self.arity
        if len(xs) < fewest or (most is not None and len(xs) > most):
            count = f"{fewest}" if fewest == most else f"{fewest} or more" if most is None else f"{fewest} to {most}"
            raise ShapeError(f"takes {count} input{'s' * (count != '1')}, but is given {len(xs)}")
        for x in xs:
            if self.takes is not None and x.rank != len(self.takes):
                raise RankError(self.takes, x.source, x.spec_shape)
            if self.reads_mask and x.mask is not None and x.rank == 3 and x.mask.rank != 2:
                raise ShapeError(f"takes a mask of (batch, steps), but that of {x.described} is {text(x.mask.shape)}")
        self.check_readings(*xs)

    def check_readings(self, *xs: Symbol) -> None:
        """Raises `ReadingError` where it must know which axis of an input has the channels, and nothing tells."""
        told = set() if self.is_counted_by_spec else {x.rank for x in xs if x.rank > 2 and not x.is_plain}
        for x in xs:
            reads = self.reads_axes and x.rank >= self.open_rank
            if x.is_open and (reads or x.rank in told):
                raise ReadingError(f"takes {x.described}", x.rank, in_steps=self.takes_steps)
