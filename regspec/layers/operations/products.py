"""Products of tensors with tensors or with numbers: of matrices, of vectors, sums over named axes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from regspec.code import axes
from regspec.code.axes import Order
from regspec.code.expressions import Binary, Expression, Value, call, unless
from regspec.code.shapes import Shape, ShapeError, Symbol
from regspec.language.fields import Axis, Number
from regspec.layers.following import order_of_product
from regspec.layers.kinds import operation
from regspec.layers.layer import KerasCall, Layer, Weight
from regspec.layers.operations.arithmetic import Pair
from regspec.layers.operations.operands import (
    Array,
    Numbers,
    Operand,
    array_weight,
    cast,
    converted,
    dtype_of,
    dtypes,
    promoted,
    shape_of,
    value,
)
from regspec.layers.operations.reductions import inner_dimension, keras_dimension, shown
from regspec.layers.reshaping import tuples


def factor(name: str, operand: Symbol | Numbers, dtype: str) -> Value:
    """An operand of a product, whose operands must be of one type."""
    if isinstance(operand, Symbol):
        return cast(operand, operand.dtype, dtype)
    return value(name, converted(operand, float) if "float" in dtype else operand, held=True)


def _shape(operand: Symbol | Numbers) -> Shape:
    return operand.shape if isinstance(operand, Symbol) else shape_of(operand)


def met(one: int | None, other: int | None) -> bool:
    """Whether two sizes may be equal."""
    return one is None or other is None or one == other


@operation
class Matmul(Pair):
    """The product of matrices, in the last two axes of both operands."""

    verb = "multiply"
    is_counted_by_spec = True
    keeps_axes = False

    def order(self, x: Symbol) -> Order | None:
        return x.spec_order

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        x1, x2 = (len(_shape(each)) for each in self.named(xs).values())
        outer = [f"...{place}" for place in range(max(x1, x2), 2, -1)]
        left, right = ([*outer, "i", "j"][-x1:] if x1 > 1 else ["j"]), ([*outer, "j", "k"][-x2:] if x2 > 1 else ["j"])
        output = [*outer, *(name for name in (*left, *right) if name in ("i", "k"))]
        named = zip((left, right), self.named(xs).values(), strict=True)
        return order_of_product(xs, [term for term, each in named if isinstance(each, Symbol)], output)

    def output_shape(self, *xs: Symbol) -> Shape:
        x1, x2 = self.named(xs).values()
        self._check_batch(x1, x2)
        left, right = _shape(x1), _shape(x2)
        rows = left[-2:-1] if len(left) > 1 else ()
        columns = right[-1:] if len(right) > 1 else ()
        inner = right[-2] if len(right) > 1 else right[-1]
        outer = self._broadcast(left[:-2], right[:-2])
        if not met(left[-1], inner) or outer is None:
            shapes = " and ".join(
                each.named if isinstance(each, Symbol) else f"numbers of the shape {shape_of(each)}"
                for each in (x1, x2)
            )
            raise ShapeError(f"can't multiply {shapes}")
        return (*outer, *rows, *columns)

    def _check_batch(self, x1: Symbol | Numbers, x2: Symbol | Numbers) -> None:
        """Raises `ShapeError` where the batch would be multiplied, or aligned with another axis."""
        if isinstance(x1, Symbol) and isinstance(x2, Symbol):
            if x1.rank != x2.rank or x1.rank < 3:
                what = f"can't multiply {x1.named} and {x2.named}: the batch of one meets an axis of the other"
                raise ShapeError(what, "Dot multiplies the examples of one with those of the other")
            return
        if isinstance(x1, Symbol):
            x, shape, least = x1, _shape(x2), 2
        else:
            assert isinstance(x2, Symbol)
            x, shape, least = x2, _shape(x1), 3
        is_aligned = len(shape) < max(x.rank, 3) or (len(shape) == x.rank and shape[0] == 1)
        if not shape or x.rank < least or not is_aligned:
            raise ShapeError(f"can't multiply {x.named} and numbers of the shape {shape}: the batch is multiplied")

    def _broadcast(self, left: Shape, right: Shape) -> Shape | None:
        """The broadcast shape of the axes before the matrices; None where they don't fit."""
        rank = max(len(left), len(right))
        merged: list[int | None] = []
        for sizes in zip(*((*(1,) * (rank - len(each)), *each) for each in (left, right)), strict=True):
            known = {*sizes} - {1, None}
            if len(known) > 1:
                return None
            merged.append(next(iter(known)) if known else None if None in sizes else 1)
        return tuple(merged)

    def output_dtype(self, *xs: Symbol) -> str:
        return promoted(*dtypes(self.named(xs).values()), 0)

    def lower(self, *xs: Symbol) -> Expression:
        dtype = self.output_dtype(*xs)
        x1, x2 = (factor(name, operand, dtype) for name, operand in self.named(xs).items())
        return Binary("@", x1, x2)


def _pair_of_axes(value: Any) -> Any:
    """Axes of both operands, as two tuples; a number alone stays as it is."""
    if isinstance(value, (list, tuple)):
        return tuple(tuples(each) if isinstance(each, (list, tuple)) else (each,) for each in value)
    return value


@operation
class Tensordot(Layer):
    """The sum of products with numbers over axes of both."""

    called_with = ("x2",)

    main = None
    is_counted_by_spec = True
    keeps_axes = False

    example = "{x2: [1.0, 2.0, 3.0, 4.0, 5.0], axes: 1}"

    x2: Operand = Field(description="The numbers, as nested lists.")
    axes: Annotated[
        Annotated[int, Field(ge=0, le=64)] | tuple[tuple[Axis, ...], tuple[Axis, ...]],
        BeforeValidator(_pair_of_axes),
        WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "array", "minItems": 2, "maxItems": 2}]}),
    ] = Field(2, description="How many of the last axes meet as many of the first of x2, or the axes of each.")

    @property
    def takes_integers(self) -> bool:
        return True

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        return (array_weight(self, "x2", self.x2),) if isinstance(self.x2, Array) else ()

    def _axes(self, x: Symbol) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The axes of the input, and those of the numbers, that are multiplied and summed."""
        rank = len(shape_of(self.x2))
        if isinstance(self.axes, int):
            ours = tuple(range(x.rank - self.axes, x.rank))
            theirs = tuple(range(self.axes))
            if ours[:1] == (0,) or self.axes > min(x.rank, rank):
                raise ShapeError(f"sums over the last {self.axes} axes of {x.described}, the batch among them")
            return ours, theirs
        if any(not -rank <= axis < rank for axis in self.axes[1]):
            raise ShapeError(f"sums over axes {[*self.axes[1]]} of numbers of the shape {shape_of(self.x2)}")
        return tuple(inner_dimension(axis, x) for axis in self.axes[0]), tuple(axis % rank for axis in self.axes[1])

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape:
        ours, theirs = self._axes(x)
        shape = shape_of(self.x2)
        fits = len(ours) == len(theirs) and all(
            met(x.shape[one], shape[other]) for one, other in zip(ours, theirs, strict=False)
        )
        if not fits or len({*ours}) < len(ours) or len({*theirs}) < len(theirs):
            raise ShapeError(
                f"can't sum over axes {[*ours]} of {x.named} and {[*theirs]} of numbers of the shape {shape}"
            )
        kept = tuple(size for axis, size in enumerate(x.shape) if axis not in ours)
        return (*kept, *(size for axis, size in enumerate(shape) if axis not in theirs))

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        ours, theirs = self._axes(xs[0])
        names = [f"x{place}" for place in range(xs[0].rank)]
        new = [f"x2.{place}" for place in range(len(shape_of(self.x2))) if place not in theirs]
        kept = [name for place, name in enumerate(names) if place not in ours]
        return order_of_product(xs, [names], [*kept, *new])

    def output_dtype(self, x: Symbol, *_: Symbol) -> str:
        return promoted(x.dtype, dtype_of(self.x2), 0)

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        dtype = self.output_dtype(x)
        dims = self.axes if isinstance(self.axes, int) else self._axes(x)
        return call("torch.tensordot", factor("x", x, dtype), factor("x2", self.x2, dtype), dims=unless(2, dims))


_TERM = re.compile(r"[A-Za-z]*(\.\.\.)?[A-Za-z]*", re.ASCII)


@operation
class Einsum(Layer):
    """The sum of products over named axes: ``bij,bjk->bik``."""

    keras_first = "subscripts"
    called_with = ("operands",)

    is_counted_by_spec = True
    keeps_axes = False

    example = "{subscripts: 'abc,adc->abd', inputs: [a, b]}"

    subscripts: str = Field(
        max_length=200, description="A letter for each axis of each operand, '->', and the output's."
    )
    operands: Annotated[tuple[Operand | None, ...], BeforeValidator(tuples)] | None = Field(
        None, description="Operands that are given as numbers, with null for each input; all are inputs when absent."
    )

    arity = (1, None)

    @model_validator(mode="after")
    def _is_one(self) -> Einsum:
        terms, output = self._terms()
        if not all(_TERM.fullmatch(term) for term in (*terms, output)) or "->" in output:
            what = "is no equation: '{text}'"
            raise PydanticCustomError("equation", what, {"text": self.subscripts})
        letters = {letter for term in terms for letter in term}
        if not {*output} <= letters or len({*output} - {"."}) < len(output.replace(".", "")):
            raise PydanticCustomError("equation", "has an output that is none of '{text}'", {"text": self.subscripts})
        if self.operands is not None and (len(self.operands) != len(terms) or None not in self.operands):
            raise PydanticCustomError("operands", "needs {n} operands, one an input", {"n": len(terms)})
        return self

    def _terms(self) -> tuple[list[str], str]:
        """The terms of the operands, and the output's, which is derived where the equation leaves it out."""
        left, arrow, output = self.subscripts.replace(" ", "").partition("->")
        if not arrow:
            once = sorted(letter for letter in {*left} - {",", "."} if left.count(letter) == 1)
            output = ("..." if "..." in left else "") + "".join(once)
        return left.split(","), output

    def _operands(self, xs: Sequence[Symbol]) -> list[Symbol | Numbers]:
        inputs = iter(xs)
        given = self.operands or (None,) * len(xs)
        return [next(inputs) if each is None else each for each in given]

    def checked(self, *xs: Symbol) -> None:
        terms, _ = self._terms()
        wanted = len(terms) if self.operands is None else [*self.operands].count(None)
        if len(xs) != wanted:
            raise ShapeError(f"takes {wanted} inputs for '{self.subscripts}', but is given {len(xs)}")

    def keras_call(self, *tensors: object) -> KerasCall:
        inputs = iter(tensors)
        return tuple(next(inputs) if each is None else each for each in self.operands or (None,) * len(tensors)), {}

    @property
    def takes_integers(self) -> bool:
        return True

    def weights(self, *xs: Symbol) -> tuple[Weight, ...]:
        given = enumerate(self.operands or ())
        return tuple(array_weight(self, f"operands_{index}", each) for index, each in given if isinstance(each, Array))

    def output_shape(self, *xs: Symbol) -> Shape:
        terms, _ = self._terms()
        sizes: dict[str, int | None] = {}
        for term, operand in zip(terms, self._operands(xs), strict=True):
            for name, size in zip(self._axes(term, operand), _shape(operand), strict=True):
                if sizes.get(name) in (None, 1):
                    sizes[name] = size if size != 1 or name not in sizes else sizes[name]
                elif size not in (None, 1, sizes[name]):
                    given = " and ".join(x.named for x in xs)
                    raise ShapeError(f"can't multiply {given} as '{self.subscripts}': the sizes of {name} differ")
        batch = {term[0] for term in self._input_terms(xs)}
        out = self._output_term(xs)
        inner = [
            name
            for term, operand in zip(terms, self._operands(xs), strict=True)
            for name in self._axes(term, operand)[_is_tensor(operand) :]
        ]
        if len(batch) > 1 or out[:1] != [*batch] or out.count(out[0]) > 1 or out[0] in inner:
            what = f"mixes examples: in '{self.subscripts}' the batch must be one letter, first in every input's term"
            raise ShapeError(what, "and first in the output's")
        return tuple(sizes[name] for name in out)

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        return order_of_product(xs, self._input_terms(xs), self._output_term(xs))

    def _input_terms(self, xs: Sequence[Symbol]) -> list[list[str]]:
        """The names of the axes of each input."""
        pairs = zip(self._terms()[0], self._operands(xs), strict=True)
        return [self._axes(term, operand) for term, operand in pairs if _is_tensor(operand)]

    def _output_term(self, xs: Sequence[Symbol]) -> list[str]:
        """The names of the axes of the output."""
        terms, output = self._terms()
        all_axes = (self._axes(term, operand) for term, operand in zip(terms, self._operands(xs), strict=True))
        dots = max((sum(name.startswith("...") for name in names) for names in all_axes), default=0)
        return self._expanded(output, dots)

    def _axes(self, term: str, operand: Symbol | Numbers) -> list[str]:
        """The names of an operand's axes; those of an ellipsis are numbered from the last."""
        dots = len(_shape(operand)) - len(term.replace("...", ""))
        if dots < 0 or (dots and "..." not in term):
            shape = operand.described if isinstance(operand, Symbol) else f"numbers of the shape {shape_of(operand)}"
            raise ShapeError(f"has the term '{term}', but is given {shape}")
        return self._expanded(term, dots)

    def _expanded(self, term: str, dots: int) -> list[str]:
        before, ellipsis, after = term.partition("...")
        return [*before, *(f"...{index}" for index in range(dots, 0, -1) if ellipsis), *after]

    def output_dtype(self, *xs: Symbol) -> str:
        return promoted(*dtypes(self._operands(xs)), 0)

    def lower(self, *xs: Symbol) -> Expression:
        dtype = self.output_dtype(*xs)
        operands = [factor(f"operands_{index}", operand, dtype) for index, operand in enumerate(self._operands(xs))]
        return call("torch.einsum", self.subscripts.replace(" ", ""), *operands)


def _is_tensor(operand: Symbol | Numbers) -> bool:
    return isinstance(operand, Symbol)


# -- of vectors --------------------------------------------------------------------------------------------------------


@operation
class Cross(Layer):
    """The cross product of vectors of three numbers."""

    main = None
    example = "{inputs: [a, b]}"

    axis: Axis = Field(-1, description="The axis of the vectors; 1 is the first after the batch.")

    arity = (2, 2)
    axis_fields = ("axis",)

    def order(self, x: Symbol) -> Order | None:
        return None

    def output_shape(self, x: Symbol, *others: Symbol) -> Shape:
        (y,) = others
        dimension = keras_dimension(self.axis, x)
        same = len(x.shape) == len(y.shape) and all(map(met, x.shape[1:], y.shape[1:]))
        if not same or x.shape[dimension] not in (3, None):
            raise ShapeError(f"multiplies vectors of three numbers, but is given {x.named} and {y.named}")
        return tuple(one or other for one, other in zip(x.shape, y.shape, strict=True))

    def output_dtype(self, x: Symbol, *others: Symbol) -> str:
        return promoted(x.dtype, *(each.dtype for each in others))

    def lower(self, x: Symbol, *others: Symbol) -> Expression:
        return call("torch.linalg.cross", x, *others, dim=unless(-1, shown(x.dimension(self.axis), x)))


@operation
class CDist(Layer):
    """The Euclidean distances between the rows of two matrices."""

    keras_operation = "math"
    keras_function = "cdist"

    example = "{inputs: [a, b]}"
    arity = (2, 2)
    is_counted_by_spec = True
    keeps_axes = False

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        outer = [f"...{place}" for place in range(rank - 2)]
        return order_of_product(xs, [[*outer, "i", "k"], [*outer, "j", "k"]], [*outer, "i", "j"])

    def output_shape(self, x: Symbol, *others: Symbol) -> Shape:
        (y,) = others
        is_fit = x.rank == y.rank > 2 and all(map(met, x.shape[1:-2], y.shape[1:-2])) and met(x.shape[-1], y.shape[-1])
        if not is_fit:
            raise ShapeError(f"takes matrices with rows of one size, but is given {x.named} and {y.named}")
        return (*x.shape[:-1], y.shape[-2])

    def output_dtype(self, x: Symbol, *others: Symbol) -> str:
        return promoted(x.dtype, *(each.dtype for each in others))

    def lower(self, x: Symbol, *others: Symbol) -> Expression:
        return call("torch.cdist", x, *others)


@operation
class DotProductAttention(Layer):
    """softmax(query · key) · value, of (batch, steps, heads, features); a fourth input is added to the scores."""

    keras_operation = "nn"
    called_with = ("scale",)

    example = "{inputs: [query, key, value]}"

    is_causal: bool = Field(False, description="Whether a step sees only those up to itself.")
    scale: Number | None = Field(None, description="The factor of the scores; 1 / sqrt(features) when absent.")

    arity = (3, 4)
    open_rank = 5  # it says itself what its axes mean

    @property
    def says_layout(self) -> bool:
        return True

    def input_spec_order(self, rank: int) -> Order | None:
        return axes.identity(rank)

    def checked(self, *xs: Symbol) -> None:
        super().checked(*xs)
        for x in xs:
            if not x.is_plain:
                what = f"takes (batch, steps, heads, features), but {x.described}, has channels, and these are not last"
                raise ShapeError(what, "put a Permute or a Reshape before it, with 'axes' that end with features")

    def output_shape(self, x: Symbol, *others: Symbol) -> Shape:
        key, value, *bias = others
        is_fit = (
            all(each.rank == 4 for each in (x, *others))
            and met(x.shape[3], key.shape[3])
            and met(key.shape[1], value.shape[1])
            and met(key.shape[2], value.shape[2])
            and not (x.shape[2] or 0) % (key.shape[2] or 1)
        )
        if not is_fit:
            given = " and ".join(each.named for each in (x, *others))
            raise ShapeError(f"takes (batch, steps, heads, features) as query, key and value, but is given {given}")
        if bias and self.is_causal:
            raise ShapeError("is causal, and so takes no bias")
        return (*x.shape[:3], value.shape[3])

    def lower(self, x: Symbol, *others: Symbol) -> Expression:
        key, value, *bias = others
        attended = call(
            "F.scaled_dot_product_attention",
            *(each.method("transpose", 1, 2) for each in (x, key, value)),
            **({"attn_mask": bias[0]} if bias else {}),
            is_causal=unless(False, self.is_causal),
            scale=unless(None, self.scale),
            enable_gqa=unless(False, x.size(2) != key.size(2)),
        )
        return attended.method("transpose", 1, 2)
