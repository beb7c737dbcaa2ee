"""Masking: which steps of a sequence count, told by the sequence itself."""

from __future__ import annotations

from pydantic import Field

from regspec.code.expressions import Binary, Expression, call
from regspec.code.shapes import ShapeError, Symbol
from regspec.language.fields import Number
from regspec.layers.kinds import kind
from regspec.layers.layer import Layer
from regspec.layers.operations.arithmetic import LogicalOr, NotEqual
from regspec.layers.operations.reductions import Any


@kind
class Masking(Layer):
    """Masks the steps whose features are all one value; recurrent layers skip them, and attention does not see them."""

    mask_value: Number = Field(0.0, description="The value of a step that does not count.")

    supports_masking = True

    def checked(self, *xs: Symbol) -> None:
        super().checked(*xs)
        if xs[0].rank < 3:
            raise ShapeError(f"takes (batch, steps, …), but is given {xs[0].described}")

    def output_mask(self, x: Symbol, *_: Symbol) -> Expression | None:
        return Binary("!=", x, self.mask_value).method("any", dim=-1)

    def lower(self, x: Symbol, *_: Symbol) -> Expression:
        return call("torch.where", Binary("!=", x, self.mask_value).method("any", dim=-1, keepdim=True), x, 0.0)


# By which operations of Keras masks are computed: of the operators and the methods of the expressions that say how.
OPERATIONS_OF_MASKS: dict[str, type[Layer]] = {"!=": NotEqual, "|": LogicalOr, "any": Any}
