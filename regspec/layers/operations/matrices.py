"""Functions of the matrices in the last two axes, the axes before them kept."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from regspec.code.axes import Order
from regspec.code.expressions import Expression, Part, call, unless
from regspec.code.shapes import Shape, ShapeError, Symbol
from regspec.language.fields import NotNegative
from regspec.layers.following import order_after, order_without
from regspec.layers.kinds import operation
from regspec.layers.layer import Layer
from regspec.layers.operations.operands import made, promoted
from regspec.layers.operations.products import met


class Matrices(Layer):
    """A function of the matrices in the last two axes."""

    keras_operation = "linalg"

    is_counted_by_spec = True

    function: ClassVar[str]
    is_square: ClassVar[bool] = True

    def output_shape(self, x: Symbol, *others: Symbol) -> Shape | list[Shape]:
        self.check(x)
        return x.shape

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        return order_without(xs[0], range(rank, xs[0].rank))

    def check(self, x: Symbol) -> None:
        """Raises `ShapeError` where these are no matrices, or not square."""
        if x.rank < 3 or (self.is_square and not met(x.shape[-1], x.shape[-2])):
            what = "square matrices" if self.is_square else "matrices"
            raise ShapeError(f"takes {what} in the last two axes, but is given {x.described}")

    def output_dtype(self, x: Symbol, *others: Symbol) -> str:
        return promoted(x.dtype, *(each.dtype for each in others))

    def lower(self, x: Symbol, *others: Symbol) -> Expression | list[Expression]:
        return call(self.function, x, *others)


Inv = made(Matrices, "Inv", "The inverses of matrices.", function="torch.linalg.inv")


class Scalar(Matrices):
    """A number of each matrix."""

    def output_shape(self, x: Symbol, *others: Symbol) -> Shape:
        self.check(x)
        return x.shape[:-2]


Det = made(Scalar, "Det", "The determinants of matrices.", function="torch.linalg.det")
Logdet = made(
    Scalar, "Logdet", "The logarithms of the determinants of matrices.", function="torch.logdet", keras_operation="math"
)


@operation
class Cholesky(Matrices):
    """The Cholesky factors of positive definite matrices."""

    upper: bool = Field(False, description="Whether the factors are upper triangles.")

    def lower(self, x: Symbol, *others: Symbol) -> Expression:
        return call("torch.linalg.cholesky", x, upper=unless(False, self.upper))


@operation
class Pinv(Matrices):
    """The pseudo-inverses of matrices."""

    rcond: NotNegative | None = Field(
        None, description="What counts as zero, as a share of the largest singular value."
    )

    is_square = False
    keeps_axes = False

    def output_shape(self, x: Symbol, *others: Symbol) -> Shape:
        self.check(x)
        return (*x.shape[:-2], x.shape[-1], x.shape[-2])

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        return order_after(xs[0], (*range(rank - 2), rank - 1, rank - 2))

    def lower(self, x: Symbol, *others: Symbol) -> Expression:
        return call("torch.linalg.pinv", x, rtol=unless(None, self.rcond))


class Solution(Matrices):
    """The solution of linear equations: the first input has the matrices, the second the right sides."""

    example = "{inputs: [a, b]}"
    arity = (2, 2)

    def output_shape(self, x: Symbol, *others: Symbol) -> Shape:
        (b,) = others
        self.check(x)
        is_fit = b.rank == x.rank and all(map(met, x.shape[1:-1], b.shape[1:-1]))
        if not is_fit:
            raise ShapeError(f"solves equations of {x.named}, but their right sides are {b.named}")
        return b.shape


Solve = made(Solution, "Solve", "The solution x of a @ x = b; a is the first input, b the second.",
             function="torch.linalg.solve")  # fmt: skip


@operation
class SolveTriangular(Solution):
    """The solution x of a @ x = b for triangles a, the first input; b is the second."""

    is_lower: bool = Field(False, alias="lower", description="Whether they are lower triangles.")

    def lower(self, x: Symbol, *others: Symbol) -> Expression:
        return call("torch.linalg.solve_triangular", x, *others, upper=not self.is_lower)


@operation
class Eigh(Matrices):
    """The eigenvalues of symmetric matrices, and their eigenvectors as a second output."""

    def output_shape(self, x: Symbol, *others: Symbol) -> list[Shape]:
        self.check(x)
        return [x.shape[:-1], x.shape]

    def lower(self, x: Symbol, *others: Symbol) -> list[Expression]:
        whole = call("torch.linalg.eigh", x)
        return [Part(whole, ("values", "vectors"), (index,)) for index in range(2)]


@operation
class Slogdet(Matrices):
    """The signs of the determinants of matrices, and the logarithms of their sizes as a second output."""

    keras_operation = "numpy"

    def output_shape(self, x: Symbol, *others: Symbol) -> list[Shape]:
        self.check(x)
        return [x.shape[:-2]] * 2

    def lower(self, x: Symbol, *others: Symbol) -> list[Expression]:
        whole = call("torch.linalg.slogdet", x)
        return [Part(whole, ("sign", "logarithm"), (index,)) for index in range(2)]


@operation
class Qr(Matrices):
    """The factors q and r of matrices: orthogonal columns, and an upper triangle as a second output."""

    mode: Literal["reduced", "complete"] = Field("reduced", description="Whether q has as many columns, or is square.")

    is_square = False

    def output_shape(self, x: Symbol, *others: Symbol) -> list[Shape]:
        self.check(x)
        rows, columns = x.size(x.rank - 2), x.size(x.rank - 1)
        inner = rows if self.mode == "complete" else min(rows, columns)
        return [(*x.shape[:-2], rows, inner), (*x.shape[:-2], inner, columns)]

    def lower(self, x: Symbol, *others: Symbol) -> list[Expression]:
        whole = call("torch.linalg.qr", x, mode=unless("reduced", self.mode))
        return [Part(whole, ("q", "r"), (index,)) for index in range(2)]


@operation
class SVD(Matrices):
    """The factors u, s and v of matrices, of which s has the singular values; or these alone."""

    full_matrices: bool = Field(True, description="Whether u and v are square.")
    compute_uv: bool = Field(True, description="Whether there are u and v, and not the singular values alone.")

    is_square = False

    def output_shape(self, x: Symbol, *others: Symbol) -> Shape | list[Shape]:
        self.check(x)
        rows, columns = x.size(x.rank - 2), x.size(x.rank - 1)
        values = (*x.shape[:-2], min(rows, columns))
        if not self.compute_uv:
            return values
        inner = (rows, columns) if self.full_matrices else (min(rows, columns),) * 2
        return [(*x.shape[:-2], rows, inner[0]), values, (*x.shape[:-2], inner[1], columns)]

    def lower(self, x: Symbol, *others: Symbol) -> Expression | list[Expression]:
        if not self.compute_uv:
            return call("torch.linalg.svdvals", x)
        whole = call("torch.linalg.svd", x, full_matrices=unless(True, self.full_matrices))
        return [Part(whole, ("u", "s", "v"), (index,)) for index in range(3)]
