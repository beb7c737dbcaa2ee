"""A layer whose kernel is divided by its largest singular value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import Field

from regspec.code.axes import Order
from regspec.code.expressions import Apply, Call, Expression, Module, call, replaced, unless, walk
from regspec.code.shapes import Shape, ShapeError, Symbol
from regspec.language.fields import Size
from regspec.language.initializers import TruncatedNormal
from regspec.language.regularizers import Regularizer
from regspec.layers import nested
from regspec.layers.kinds import kind
from regspec.layers.layer import Layer, Weight
from regspec.layers.nested import Nested, OnInputs, Wrapper
from regspec.layers.ties import Tie, Ties, wrapped


@kind
class SpectralNormalization(Wrapper):
    """A layer whose kernel is divided by its largest singular value at each step of training."""

    example = "{layer: {Dense: {units: 64}}}"

    layer: Nested = Field(description="The layer, such as Dense: {units: 32}; it must have a kernel or embeddings.")
    power_iterations: Size = Field(1, description="How many iterations estimate the singular value in each step.")
    cuts_off: bool = Field(
        False,
        description="Whether the output is cut to whole numbers where the input has these, as that of an embedding; "
        "Keras 3 does so.",
    )

    own_fields = frozenset({"cuts_off"})

    def keras_fields(self, *xs: Symbol) -> dict[str, Any]:
        if self._is_cut(xs[0]) != (self.takes_integers and not xs[0].is_floating):
            raise ShapeError("is on whole numbers without cuts_off: true, and Keras cuts its output to such numbers")
        return {"layer": OnInputs(self.layer, xs), "cuts_off": False}

    def keras_paths(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Keras has the kernel twice: in the layer, and before the vector."""
        kernel = names[names.index("vector_u") - 1]
        inner = self.layer.keras_paths([name for name in names if name != "vector_u"])
        return [("vars/0", kernel), ("vars/1", "vector_u"), *((f"layer/{path}", name) for path, name in inner)]

    def _is_cut(self, x: Symbol) -> bool:
        """Whether the output has the type of an input of whole numbers."""
        return self.cuts_off and self.takes_integers and not x.is_floating

    @property
    def inner_activities(self) -> dict[str, Regularizer]:
        return {} if self.layer.activity is None else {"layer_activity": self.layer.activity}

    def inner_sizes(self, *xs: Symbol) -> dict[str, tuple[int | None, ...]]:
        return nested.sizes(self.layer, xs[0])

    def order(self, x: Symbol) -> Order | None:
        return self.layer.order(x)

    def literal_order(self, x: Symbol) -> Order:
        return self.layer.literal_order(x)

    def literal_output_order(self, output: Symbol, *xs: Symbol) -> Order:
        return self.layer.literal_output_order(output, *xs)

    def input_spec_order(self, rank: int) -> Order | None:
        return self.layer.input_spec_order(rank)

    def output_order(self, rank: int, x: Symbol, *_: Symbol) -> Order:
        return self.layer.output_order(rank, x)

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        return self.layer.output_spec_order(rank, *xs)

    @property
    def reads_axes(self) -> bool:
        return self.layer.reads_axes

    def counted_by_keras(self, *xs: Symbol) -> Layer:
        return self.model_copy(update={"layer": self.layer.counted_by_keras(*xs)})

    def checked(self, *xs: Symbol) -> None:
        super().checked(*xs)
        self.layer.checked(*xs)

    def output_dtype(self, x: Symbol, *_: Symbol) -> str | list[str] | None:
        return x.dtype if self._is_cut(x) else self.layer.output_dtype(x)

    def output_mask(self, x: Symbol, *others: Symbol) -> Expression | None:
        return self.layer.output_mask(x, *others)

    @property
    def reads_batch(self) -> bool:
        return True  # each call takes the kernel on

    def _kernel(self, x: Symbol) -> Weight:
        """The weight that is normalized: Keras's kernel or embeddings, of a layer that is one module."""
        for weight in self.layer.weights(x):
            if weight.name in ("kernel", "embeddings") and weight.parameters == ("weight",) and not weight.module:
                return weight
        raise ShapeError(f"wraps {type(self.layer).__name__}, which has no kernel to normalize")

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        kernel = self._kernel(x)
        inner = tuple(
            replace(weight, parameters=tuple(f"layer.{path}" for path in weight.parameters))
            for weight in self.layer.weights(x)
        )
        assert kernel.shape is not None  # see _kernel
        size = (1, kernel.shape[-1])
        initializer = TruncatedNormal(stddev=0.02)
        vector = self.weight(
            "vector_u", "p v", size, parameters=("vector_u",), trainable=False, initializer=initializer
        )
        index = self.layer.weights(x).index(kernel) + 1
        return (*inner[:index], vector, *inner[index:])

    def output_shape(self, x: Symbol, *_: Symbol) -> Shape | list[Shape]:
        return self.layer.output_shape(x)

    def ties_to(self, outputs: Sequence[Symbol], x: Symbol, *_: Symbol) -> Ties | None:
        """Those of the layer; its vector has a number for each index of the kernel's last axis."""
        found = self.layer.ties_to(outputs, x)
        if found is None:
            return None
        kernel, inner = self._kernel(x), wrapped(found)
        last = len(kernel.shape or ()) - 1

        def with_vector(tie: Tie) -> Tie:
            own = tuple(
                replace(each, of="vector_u", axis=1)
                for each in tie.places
                if (each.of, each.axis) == (kernel.name, last)
            )
            return replace(tie, places=(*tie.places, *own), apart=(*tie.apart, "vector_u"))

        return replace(inner, ties=tuple(map(with_vector, inner.ties)))

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        kernel = self._kernel(x)
        inner = self.layer.lower(x)
        assert isinstance(inner, Expression)  # a layer with a kernel of its own module has one output
        main = next(each for each in walk(inner) if isinstance(each, Apply) and not each.module.suffix)
        assert isinstance(main.module.constructor, Call)
        constructor = call(
            "SpectralNormalization",
            main.module.constructor,
            kernel.parameters[0],
            dim=unless(0, kernel.pattern.last),
            power_iterations=unless(1, self.power_iterations),
        )
        normalized = Module(constructor)(*main.arguments, **main.keywords)
        result: Expression = replaced(inner, {main: normalized})
        if self._is_cut(x):
            result = result.method("type_as", x)
        if self.layer.activity is None:
            return result
        rank = len(self.layer.output_shape(x))
        return nested.listened(result, "layer_activity", self.layer.activity, self.layer.output_order(rank, x))
