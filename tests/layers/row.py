"""A row of the layer table: one case of a kind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One case of a kind."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    shapes: tuple[tuple[int | None, ...], ...] = ()
    dtype: str = "float32"
    data_format: str = "channels_last"
    dtypes: tuple[str, ...] = ()  # of the inputs, where they differ
    high: int = 5  # whole numbers of the input lie below
    span: tuple[float, float] | None = None  # of the input's floating-point numbers, where they are not normal
    has_gradient: bool = True  # in Keras
    has_nan: bool = False  # whether some of the input's numbers are nan
    is_random: bool = False  # in training
    has_reference: bool = True  # whether Keras's torch backend is one; where not, `FORMULAS` has the formula
    tolerance: float = 1e-4

    @property
    def types(self) -> tuple[str, ...]:
        """The types of the inputs."""
        return self.dtypes or (self.dtype,) * len(self.shapes)

    @property
    def id(self) -> str:
        """The row in a test's name."""
        fields = ",".join(f"{name}={value}" for name, value in self.fields.items() if name != "name")
        return f"{self.kind}({fields})-{'x'.join(str(shape) for shape in self.shapes)}-{self.data_format}".replace(
            " ", ""
        )


def row(kind: str, *shapes: tuple[int | None, ...], _dtype: str = "float32", **fields: Any) -> Row:
    """A row; `_dtype` is the type of its inputs."""
    return Row(kind, fields, shapes, _dtype)
