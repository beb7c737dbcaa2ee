"""Attention with several heads: queries, keys and values are projected first. Over (batch, steps, features)."""

from __future__ import annotations

import math
from collections.abc import Collection
from operator import attrgetter
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import Field

from regspec.code import shapes
from regspec.code.expressions import Expression, Module, Value, call, unless
from regspec.code.shapes import Shape, ShapeError, Symbol
from regspec.language.fields import Axes, Positive, Size, Sizes
from regspec.language.regularizers import Regularizer, RegularizerField
from regspec.layers.attention import Attending
from regspec.layers.kinds import kind
from regspec.layers.layer import Weight
from regspec.layers.slots import BiasSlot, KernelSlot
from regspec.layers.ties import FieldPath, Place, Tie, Ties

AXES_OF_HEADS = (("kernel", 1), ("bias", 0))  # of a projection to heads


class Projected(KernelSlot, BiasSlot, Attending):
    """Attention whose queries, keys and values are projected first."""

    takes_attention_mask = True
    own_fields = frozenset({"projection_activity", "rope_max_wavelength"})
    takes_inputs_apart = True
    is_frozen_in_keras = False
    has_activity_in_keras = False

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        """Keras gives the penalty of the layer's activity to its projections."""
        return {"activity_regularizer": self.projection_activity, "projection_activity": None}

    def keras_group(self, name: str) -> str:
        return f"_{name.partition('.')[0].removeprefix('attention_')}_dense/vars"

    use_gate: bool = Field(False, description="Whether the attended values are multiplied by a gate of the query.")
    sliding_window: Size | None = Field(
        None, description="How far a step sees to both sides, itself included; all when absent."
    )
    rope_max_wavelength: Positive | None = Field(
        None,
        description="The longest wavelength, as a multiple of 2π steps, by which queries and keys are rotated by their "
        "positions (Su et al., 2021), usually 10000; as in keras_hub, a pair of features lies half a head apart. Not "
        "rotated when absent.",
    )
    projection_activity: RegularizerField | None = Field(
        None,
        description="A penalty on the output of each projection, divided by the batch size: what Keras 3 makes of "
        "this layer's activity_regularizer.",
    )

    @property
    def inner_activities(self) -> dict[str, Regularizer]:
        if self.projection_activity is None:
            return {}
        names = ("query", "key", *(("gating",) if self.use_gate else ()), "value", "output")
        return {f".{name}": self.projection_activity for name in names}

    def inner_sizes(self, *xs: Symbol) -> dict[str, tuple[int | None, ...]]:
        fans = {weight.parameters[0].removesuffix(".weight"): weight.fans for weight in self.weights(*xs)}
        units = {name: (each[1],) for name, each in fans.items() if each is not None}
        return {f".{'gating' if name == 'gate' else name}": each for name, each in units.items()}

    @property
    def head_size(self) -> int:
        """The size of each head's queries and keys."""
        raise NotImplementedError

    def masks_of(self, query: Symbol, value: Symbol, key: Symbol) -> dict[str, Value]:
        named = {"key_mask": None if key is value else key.mask, "attention_mask": query.attention_mask}
        given = {name: mask for name, mask in named.items() if mask is not None}
        return {**super().masks_of(query, value, key), **given}

    def projection(self, name: str, module: str, size: int, heads: int, width: int) -> tuple[Weight, ...]:
        """The weights of a projection to heads."""
        kernel = self.weight(
            "kernel",
            "i o0 o1 -> (o0 o1) i",
            (size, heads, width),
            name=f"{name}.kernel",
            parameters=(f"{module}.weight",),
            fans=(size, heads * width),
        )
        bias = self.weight(
            "bias", "o0 o1 -> (o0 o1)", (heads, width), name=f"{name}.bias", parameters=(f"{module}.bias",)
        )
        return (kernel, bias) if self.use_bias else (kernel,)

    def output_projection(self, heads: int, width: int, sizes: tuple[int, ...]) -> tuple[Weight, ...]:
        """The weights of the projection from heads to the output."""
        names = " ".join(f"o{index}" for index in range(len(sizes)))
        flat = names if len(sizes) == 1 else f"({names})"
        kernel = self.weight(
            "kernel",
            f"i0 i1 {names} -> {flat} (i0 i1)",
            (heads, width, *sizes),
            name="attention_output.kernel",
            parameters=("output.weight",),
            fans=(heads * width, math.prod(sizes)),
        )
        bias = self.weight(
            "bias", f"{names} -> {flat}", sizes, name="attention_output.bias", parameters=("output.bias",)
        )
        return (kernel, bias) if self.use_bias else (kernel,)

    def ties(self, *xs: Symbol) -> Ties | None:
        weights = {weight.name: weight for weight in self.weights(*xs)}
        value, key = min(1, len(xs) - 1), len(xs) - 1
        taken = {"query": 0, "gate": 0, "value": value, "key": key}
        kernels = [(i, f"{name}.kernel") for name, i in taken.items() if f"{name}.kernel" in weights]
        own = [[Place(name, 0) for index, name in kernels if index == i] for i, _ in enumerate(xs)]
        ties = [Tie(x.size(-1), (Place(i, x.rank - 1), *own[i])) for i, x in enumerate(xs)]
        shape = weights["attention_output.kernel"].shape or ()
        if len(shape) == 3:
            last = xs[0].rank - 1
            made = (Place("attention_output.kernel", 2), Place("attention_output.bias", 0), Place(~0, last))
            ties.append(Tie(shape[2], made, self.output_field, follows=Place(0, last)))
        return Ties((*ties, *self.head_ties(weights)))

    def settings(self) -> dict[str, Value]:
        """What a module is told besides sizes."""
        return {
            "dropout": unless(0.0, self.dropout),
            "bias": unless(True, self.use_bias),
            "gate": unless(False, self.use_gate),
            "sliding_window": unless(None, self.sliding_window),
            "rope_max_wavelength": unless(None, self.rope_max_wavelength),
        }

    # what says how many units its output has, if that need not be as many as before
    output_field: ClassVar[FieldPath] = ()

    def head_ties(self, names: Collection[str]) -> tuple[Tie, ...]:
        """The ties of what lies between the projections."""
        return ()

    def checked(self, *xs: Symbol) -> None:
        super().checked(*xs)
        query, value, key = self.inputs_of(xs)
        if min(query.rank, value.rank, key.rank) < 3 or value.logical[1:-1] != key.logical[1:-1]:
            given = ", and ".join(x.described for x in xs)
            raise ShapeError(f"takes a query, and a value and a key of as many steps, but is given {given}")
        self._check_attention_mask(query, value)
        if self.rope_max_wavelength is not None and query.rank != 3:
            raise ShapeError(
                f"has rope_max_wavelength, which needs (batch, steps, features), but is given {query.described}"
            )
        if self.rope_max_wavelength is not None and self.head_size % 2:
            raise ShapeError(f"has rope_max_wavelength, which needs heads of an even size, and not {self.head_size}")

    def _check_attention_mask(self, query: Symbol, value: Symbol) -> None:
        """Raises `ShapeError` where a mask of scores has other sizes than they, but for axes of one."""
        mask = query.attention_mask
        if mask is None:
            return
        if query.rank != 3:
            raise ShapeError(f"takes a mask only for a query of (batch, steps, features), and not of {query.described}")
        seen = (query.logical[1], value.logical[1])
        if mask.rank not in (3, 4) or any(
            None not in pair and pair[0] not in (1, pair[1]) for pair in zip(mask.shape[-2:], seen, strict=True)
        ):
            raise ShapeError(
                f"takes a mask of {shapes.text((None, *seen))}, or with an axis of the heads after the batch, but "
                f"'{mask.source}' is {shapes.text(mask.shape)}"
            )


@kind
class MultiHeadAttention(Projected):
    """Multi-head attention of Vaswani et al. (2017)."""

    example = "{num_heads: 4, key_dim: 16, kernel_regularizer: {l2: 1e-5}}"

    num_heads: Size = Field(description="The number of heads.")
    key_dim: Size = Field(description="The size of each head's queries and keys.")
    value_dim: Size | None = Field(None, description="The size of each head's values; key_dim when absent.")
    output_size: Sizes | None = Field(
        None, alias="output_shape", description="The sizes of the output's last axes; the query's when absent."
    )
    attention_axes: Axes | None = Field(
        None, description="The axes over which attention goes; all but the batch and the features when absent."
    )

    axis_fields = ("attention_axes",)
    unsaid = MappingProxyType({"value_dim": attrgetter("key_dim")})

    def keras_group(self, name: str) -> str:
        """Of all but the gate's projection Keras's class has a property, by which its files go."""
        group = super().keras_group(name)
        return group if group.startswith("_gate") else group.removeprefix("_")

    @property
    def reads_axes(self) -> bool:
        return True

    def checked(self, *xs: Symbol) -> None:
        super().checked(*xs)
        query, value, key = self.inputs_of(xs)
        given = f"{query.described}, and {value.described}"
        if query.rank != value.rank:
            raise ShapeError(f"takes a query and a value of as many axes, but is given {given}")
        chosen = self._axes(query)
        is_masked = bool(self.masks_of(query, value, key)) or self.use_causal_mask or self.sliding_window is not None
        if chosen != (1,) and is_masked:
            raise ShapeError(
                f"has a mask or a window, which need (batch, steps, features), but is given {query.described}"
            )
        apart = set(range(1, query.rank - 1)).difference(chosen)
        if any(query.logical[axis] != value.logical[axis] for axis in apart):
            raise ShapeError(f"takes a query and a value that differ in its attention_axes alone, but is given {given}")

    @property
    def head_size(self) -> int:
        return self.key_dim

    @property
    def _value_size(self) -> int:
        return self.value_dim or self.key_dim

    def needless(self, x: Symbol, *others: Symbol) -> frozenset[str]:
        is_all = self.attention_axes is not None and [*self._axes(x)] == [*range(1, x.rank - 1)]
        return super().needless(x, *others) | ({"attention_axes"} if is_all else set())

    def _sizes(self, x: Symbol) -> tuple[int, ...]:
        return self.output_size or (x.size(-1),)

    def _axes(self, x: Symbol) -> tuple[int, ...]:
        """The axes over which attention goes, counted from the start."""
        if self.attention_axes is None:
            return tuple(range(1, x.rank - 1))
        chosen = tuple(axis % x.rank for axis in self.attention_axes)
        if any(not 0 < axis < x.rank - 1 for axis in chosen):
            said = self.attention_axes if x.is_plain else map(x.spec_axis, self.attention_axes)
            raise ShapeError(f"has attention_axes {list(said)}, which are out of range for {x.described}")
        return chosen

    def weights(self, x: Symbol, *others: Symbol) -> tuple[Weight, ...]:
        query, value, key = self.inputs_of((x, *others))
        heads = self.num_heads
        gate = self.projection("gate", "gate", query.size(-1), heads, self._value_size) if self.use_gate else ()
        return (
            *self.projection("query", "query", query.size(-1), heads, self.key_dim),
            *self.projection("key", "key", key.size(-1), heads, self.key_dim),
            *gate,
            *self.projection("value", "value", value.size(-1), heads, self._value_size),
            *self.output_projection(heads, self._value_size, self._sizes(query)),
        )

    output_field = ("output_shape",)

    def head_ties(self, names: Collection[str]) -> tuple[Tie, ...]:
        """Heads, and what each of them gives; what they are matched by scales the scores, so that it stays."""
        apart = [f"{name}.{slot}" for name in ("query", "key", "gate") for slot in ("kernel", "bias")]
        heads = [Place(each, 1 if each.endswith("kernel") else 0) for each in apart if each in names]
        own = (Place("value.kernel", 1), Place("value.bias", 0), Place("attention_output.kernel", 0))
        widths = [Place(each, 2 if each.endswith("kernel") else 1) for each in apart if each[:4] == "gate"]
        given = (Place("value.kernel", 2), Place("value.bias", 1), Place("attention_output.kernel", 1))
        stays = "their scores are an output" if self.return_attention_scores else ""
        return (
            Tie(self.num_heads, (*heads, *own), ("num_heads",), stays=stays, apart=tuple(apart)),
            Tie(self._value_size, (*widths, *given), ("value_dim",), apart=tuple(apart)),
        )

    def output_shape(self, x: Symbol, *others: Symbol) -> Shape | list[Shape]:
        query, value, _ = self.inputs_of((x, *others))
        output = (*query.shape[:-1], *self._sizes(query))
        if not self.return_attention_scores:
            return output
        chosen = self._axes(query)
        rest = tuple(size for axis, size in enumerate(query.shape[:-1]) if axis not in (0, *chosen))
        over = (*(query.shape[axis] for axis in chosen), *(value.shape[axis] for axis in chosen))
        return [output, (query.shape[0], *rest, self.num_heads, *over)]

    def lower(self, x: Symbol, *others: Symbol) -> Expression | list[Expression]:
        query, value, key = self.inputs_of((x, *others))
        chosen = self._axes(query)
        sizes = self._sizes(query)
        constructor = call(
            "MultiHeadAttention",
            query.size(-1),
            self.num_heads,
            self.key_dim,
            value_dim=unless(self.key_dim, self._value_size),
            key_size=unless(query.size(-1), key.size(-1)),
            value_size=unless(query.size(-1), value.size(-1)),
            output_size=unless((query.size(-1),), sizes),
            attention_axes=unless((1,), chosen),
            **self.settings(),
        )
        return self.applied(Module(constructor), (x, *others))


@kind
class GroupQueryAttention(Projected):
    """Multi-head attention whose heads share keys and values by groups, of Ainslie et al. (2023)."""

    example = "{head_dim: 16, num_query_heads: 8, num_key_value_heads: 2, kernel_regularizer: {l2: 1e-5}}"

    head_dim: Size = Field(description="The size of each head.")
    num_query_heads: Size = Field(description="The number of heads of the query.")
    num_key_value_heads: Size = Field(
        description="The number of heads of the key and the value, which divides the query's."
    )

    @property
    def head_size(self) -> int:
        return self.head_dim

    def checked(self, *xs: Symbol) -> None:
        super().checked(*xs)
        if any(x.rank != 3 for x in xs):
            raise ShapeError(f"takes inputs of (batch, steps, features), but is given {xs[0].described}")
        if self.num_query_heads % self.num_key_value_heads:
            raise ShapeError(
                f"has {self.num_query_heads} query heads, which {self.num_key_value_heads} key-value heads can't share"
            )

    def weights(self, x: Symbol, *others: Symbol) -> tuple[Weight, ...]:
        query, value, key = self.inputs_of((x, *others))
        heads, shared, width = self.num_query_heads, self.num_key_value_heads, self.head_dim
        gate = self.projection("gate", "gate", query.size(-1), heads, width) if self.use_gate else ()
        return (
            *self.projection("query", "query", query.size(-1), heads, width),
            *self.projection("key", "key", key.size(-1), shared, width),
            *gate,
            *self.projection("value", "value", value.size(-1), shared, width),
            *self.output_projection(heads, width, (query.size(-1),)),
        )

    def head_ties(self, names: Collection[str]) -> tuple[Tie, ...]:
        """A head of keys and values goes with all heads of queries that share it; how wide it is scales the scores."""
        shared = self.num_query_heads // self.num_key_value_heads
        inner = {"query": shared, "gate": shared, "key": 1, "value": 1}
        both = [(f"{name}.{slot}", axis, each) for name, each in inner.items() for slot, axis in AXES_OF_HEADS]
        heads = [Place(name, axis, inner=each) for name, axis, each in both if name in names]
        return (
            Tie(
                self.num_key_value_heads,
                (*heads, Place("attention_output.kernel", 0, inner=shared)),
                ("num_key_value_heads",),
                others=((("num_query_heads",), shared),),
                stays="their scores are an output" if self.return_attention_scores else "",
                apart=tuple(name for name, *_ in both if not name.startswith("value")),
            ),
        )

    def output_shape(self, x: Symbol, *others: Symbol) -> Shape | list[Shape]:
        _, value, _ = self.inputs_of((x, *others))
        scores = (x.shape[0], self.num_query_heads, x.shape[1], value.shape[1])
        return [x.shape, scores] if self.return_attention_scores else x.shape

    def lower(self, x: Symbol, *others: Symbol) -> Expression | list[Expression]:
        query, value, key = self.inputs_of((x, *others))
        constructor = call(
            "GroupQueryAttention",
            query.size(-1),
            self.num_query_heads,
            self.num_key_value_heads,
            self.head_dim,
            key_size=unless(query.size(-1), key.size(-1)),
            value_size=unless(query.size(-1), value.size(-1)),
            **self.settings(),
        )
        return self.applied(Module(constructor), (x, *others))
