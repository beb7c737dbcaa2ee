"""Operations: closed forms where Keras's torch backend is no reference, types, unknown sizes, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

import regspec
from regspec.graph.loading import graph_of
from regspec.layers import KINDS
from regspec.layers.kinds import OPERATIONS
from regspec.layers.operations.operands import promoted

from . import reference
from .operating import is_operation
from .rows import ROWS, Row
from .specs import outputs_of, spec_of, step_of

OWN = [index for index, row in enumerate(ROWS) if is_operation(row.kind, row.fields)]


def indexed(x: np.ndarray, key: list[Any]) -> np.ndarray:
    return eval(f"x[{', '.join(str(each) for each in key)}]", {"x": x})


def one_hot(x: np.ndarray, num_classes: int, axis: int) -> np.ndarray:
    return np.moveaxis(np.eye(num_classes, dtype="float32")[x], -1, axis)


BY_HAND: dict[str, Any] = {
    "GetItem": indexed,
    "CountNonzero": lambda x, axis: np.count_nonzero(x, axis=tuple(axis) if isinstance(axis, list) else axis),
    "Quantile": lambda x, axis, q, method: np.quantile(x, q, axis=axis, method=method),
    "Argmax": lambda x, axis, dtype: np.argmax(x, axis=axis),
    "Repeat": lambda x, repeats, axis: np.repeat(x, repeats, axis=axis),
    "BroadcastTo": lambda x, shape: np.broadcast_to(x, (len(x), *shape[1:])),
    "Pad": lambda x, pad_width, mode: np.pad(x, pad_width, mode=mode),
    "OneHot": one_hot,
    "Cross": lambda x, y, axis=-1: np.cross(x, y, axis=axis),
    "Take": lambda x, places, axis, batch_dims: np.stack([each[own] for each, own in zip(x, places, strict=True)]),
    "TakeAlongAxis": lambda x, places, axis: np.take_along_axis(x, places, axis),
}
WITHOUT = [index for index in OWN if not ROWS[index].has_reference]


@pytest.mark.parametrize("index", WITHOUT, ids=[ROWS[index].id for index in WITHOUT])
def test_closed_form(index: int) -> None:
    """By numpy."""
    row = ROWS[index]
    inputs = reference.inputs_of(row, index)
    got = regspec.build(spec_of(row, row.fields))(*map(torch.as_tensor, inputs))
    wanted = BY_HAND[row.kind](*inputs, **row.fields)
    np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-5, atol=1e-6)


# What Keras's torch backend gives in another type than it says: places, and what is joined with an array of integers.
OTHER_TYPES = ("TopK", "OneHot", "Maximum", "Minimum", "FloorDivide")
TYPED = [index for index in OWN if ROWS[index].has_reference and ROWS[index].kind not in OTHER_TYPES]


@pytest.mark.parametrize("index", TYPED, ids=[ROWS[index].id for index in TYPED])
def test_types_are_those_of_keras(index: int) -> None:
    row = ROWS[index]
    layer = reference.keras_layer(row.kind, row.fields, row.data_format)
    inputs = [torch.as_tensor(x) for x in reference.inputs_of(row, index)]
    wanted = [str(x.dtype).removeprefix("torch.") for x in reference.call(layer, row, inputs, False)]
    assert [x.dtype for x in step_of(spec_of(row, row.fields)).outputs] == wanted


DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")


@pytest.mark.parametrize("one", DTYPES)
def test_promotion_is_that_of_torch(one: str) -> None:
    for other in DTYPES:
        wanted = torch.promote_types(getattr(torch, one), getattr(torch, other))
        assert f"torch.{promoted(one, other)}" == str(wanted)
        assert promoted(one, other) == promoted(other, one)


@pytest.mark.parametrize("index", OWN, ids=[ROWS[index].id for index in OWN])
def test_sizes_that_are_not_known(index: int) -> None:
    """With every size but the batch unknown, a row gives the same numbers, or is refused by a message."""
    row = ROWS[index]
    inputs = [torch.as_tensor(x) for x in reference.inputs_of(row, index)]
    open_row = Row(
        row.kind, row.fields, tuple((None,) * len(shape) for shape in row.shapes), row.dtype, row.data_format, row.types
    )
    message = None
    try:
        model = regspec.build(spec_of(open_row, row.fields))
    except regspec.RegspecError as error:
        message = str(error)
    if message is not None:
        assert row.kind in NEEDS_SIZES
        assert "needs to know the size" in message or "slices along axis" in message
        return
    wanted = outputs_of(regspec.build(spec_of(row, row.fields))(*inputs))
    for a, b in zip(outputs_of(model(*inputs)), wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, equal_nan=True)


NEEDS_SIZES = ("GetItem", "Unstack", "Squeeze", "ExtractPatches", "Qr", "SVD", "DotProductAttention")


# -- what is refused ---------------------------------------------------------------------------------------------------

BATCH = "the batch"
REFUSED: list[tuple[dict[str, Any], list[tuple[int | None, ...]], str]] = [
    # the batch
    *(
        ({kind: {"axis": 0}}, [(7, 5)], BATCH)
        for kind in ("Sum", "Mean", "Max", "Any", "Cumsum", "Sort", "Argmax", "Flip", "Norm", "Normalize", "Unstack")
    ),
    ({"Mean": {"axis": [1, -3]}}, [(7, 5)], BATCH),
    ({"Mean": {}}, [(7, 5)], "axis"),
    ({"TopK": {"k": 1}}, [()], BATCH),
    ({"Swapaxes": {"axis1": 0, "axis2": 1}}, [(7, 5)], BATCH),
    ({"Moveaxis": {"source": 1, "destination": 0}}, [(7, 5)], BATCH),
    ({"Rot90": {"axes": [0, 1]}}, [(7, 5)], BATCH),
    ({"ExpandDims": {"axis": 0}}, [(7, 5)], BATCH),
    ({"ExpandDims": {"axis": -4}}, [(7, 5)], BATCH),
    ({"Squeeze": {"axis": 0}}, [(7, 5)], BATCH),
    ({"Stack": {"axis": 0}}, [(7, 5), (7, 5)], "1 is the first after the batch"),
    ({"Repeat": {"repeats": 2, "axis": 0}}, [(7, 5)], BATCH),
    ({"Tile": {"repeats": [2, 1, 1]}}, [(7, 5)], BATCH),
    ({"Pad": {"pad_width": [[1, 0], [0, 0]]}}, [(5,)], BATCH),
    ({"Roll": {"shift": 1, "axis": -3}}, [(7, 5)], BATCH),
    ({"Split": {"indices_or_sections": 2, "axis": 0}}, [(7, 5)], BATCH),
    ({"GetItem": {"key": [0]}}, [(7, 5)], BATCH),
    ({"GetItem": {"key": ["1:"]}}, [(7, 5)], BATCH),
    ({"GetItem": {"key": ["::-1"]}}, [(7, 5)], BATCH),
    ({"GetItem": {"key": [None]}}, [(7, 5)], BATCH),
    ({"GetItem": {"key": ["...", 1, 1, 1]}}, [(7, 5)], BATCH),
    ({"Take": {"indices": 1, "axis": 0}}, [(7, 5)], BATCH),
    ({"TakeAlongAxis": {"axis": 0}}, [(7, 5), (7, 5)], BATCH),
    ({"OneHot": {"num_classes": 3, "axis": 0}}, [(7,)], "the batch"),
    ({"Tril": {}}, [(5,)], BATCH),
    ({"Diagonal": {"axis1": 0, "axis2": 1}}, [(7, 5)], BATCH),
    ({"Matmul": {}}, [(5,), (5,)], BATCH),
    ({"Matmul": {}}, [(7, 5), (4, 5, 7)], BATCH),
    ({"Matmul": {"x1": [[1.0, 2.0]]}}, [(2,)], BATCH),
    ({"Matmul": {"x2": [[[1.0]], [[2.0]]]}}, [(1,)], BATCH),
    ({"Tensordot": {"x2": [[1.0, 2.0]], "axes": [[0], [0]]}}, [(7,)], BATCH),
    ({"Tensordot": {"x2": [[1.0, 2.0]], "axes": 2}}, [(7,)], BATCH),
    ({"Einsum": {"subscripts": "bi,ci->bc"}}, [(5,), (5,)], "mixes examples"),
    ({"Einsum": {"subscripts": "bi->i"}}, [(5,)], "mixes examples"),
    ({"Einsum": {"subscripts": "bi->ib"}}, [(5,)], "mixes examples"),
    ({"Einsum": {"subscripts": "bij,ib->bj"}}, [(7, 5), (7,)], "mixes examples"),
    ({"Einsum": {"subscripts": "...i,...i->..."}}, [(7, 5), (5,)], "mixes examples"),
    ({"Einsum": {"subscripts": "bi,bj->ij"}}, [(5,), (5,)], "mixes examples"),
    ({"Greater": {}}, [(7, 5), (5,)], "the batch of one meets an axis of the other"),
    ({"Where": {}}, [(7, 5), (7, 5), (5,)], "the batch of one meets an axis of the other"),
    ({"Add": {"x2": [[1.0], [2.0], [3.0]]}}, [(5,)], "numbers of the shape (3, 1)"),
    ({"Inv": {}}, [(3,)], "square matrices"),
    # shapes
    ({"Power": {}}, [(7, 5), (7, 4)], "can't raise"),
    ({"Greater": {"x2": [1.0, 2.0]}}, [(7, 5)], "numbers of the shape (2,)"),
    ({"GetItem": {"key": [":", 7]}}, [(7, 5)], "out of range"),
    ({"GetItem": {"key": [":", "7:"]}}, [(7, 5)], "empty"),
    ({"GetItem": {"key": [":", 0, 0, 0]}}, [(7, 5)], "4 axes"),
    ({"Take": {"indices": [0, 5], "axis": 2}}, [(7, 5)], "index 5"),
    ({"Squeeze": {"axis": 1}}, [(7, 5)], "is not 1"),
    ({"Split": {"indices_or_sections": 2, "axis": 1}}, [(7, 5)], "2 equal parts"),
    ({"Split": {"indices_or_sections": [2, 7], "axis": 1}}, [(7, 5)], "one is empty"),
    ({"Unstack": {"axis": 1, "num": 3}}, [(7, 5)], "3 slices"),
    ({"Unstack": {"axis": 1}}, [(5000, 5)], "slices along axis 1"),
    ({"TopK": {"k": 6}}, [(7, 5)], "6 largest"),
    ({"Diff": {"n": 5}}, [(7, 5)], "leaves nothing"),
    ({"Pad": {"pad_width": [[0, 0], [7, 0], [0, 0]], "mode": "reflect"}}, [(7, 5)], "mirrors 7 numbers"),
    ({"Stack": {"axis": 1}}, [(7, 5), (7, 4)], "can't stack"),
    ({"Stack": {"axis": 1}}, [(7, 5), (7,)], "can't stack"),
    ({"Matmul": {}}, [(7, 5), (4, 6)], "can't multiply"),
    ({"Einsum": {"subscripts": "bij,bjk->bik"}}, [(7, 5), (4, 6)], "the sizes of j differ"),
    ({"Einsum": {"subscripts": "bij->bi"}}, [(7,)], "has the term 'bij'"),
    ({"Moveaxis": {"source": [1, 2], "destination": 1}}, [(7, 5)], "none twice"),
    ({"BroadcastTo": {"shape": [None, 7, 6]}}, [(7, 5)], "can't repeat"),
    ({"BroadcastTo": {"shape": [4, 7, 5]}}, [(7, 5)], "its first size stands for the batch"),
    ({"Tile": {"repeats": [1, 1, 1, 2]}}, [(7, 5)], "4 axes"),
    ({"Repeat": {"repeats": [1, 2], "axis": 1}}, [(7, 5)], "2 repeats"),
    ({"Reshape": {"target_shape": [34]}}, [(7, 5)], "can't reshape"),
    ({"DepthToSpace": {"block_size": 2}}, [(6, 4, 4)], "blocks of 2"),
    ({"CDist": {}}, [(7, 5), (7, 4)], "rows of one size"),
    ({"Cross": {}}, [(7, 4), (7, 4)], "three numbers"),
    ({"DotProductAttention": {}}, [(7, 2, 5), (6, 2, 5), (5, 2, 5)], "as query, key and value"),
    # types
    ({"BitwiseAnd": {"x2": 3}}, [(7, 5)], "takes whole numbers"),
    ({"Gcd": {}}, [(7, 5), (7, 5)], "takes whole numbers"),
    ({"BitwiseInvert": {}}, [(7, 5)], "takes whole numbers"),
    # fields
    ({"Divide": {"x1": 1, "x2": 2}}, [(7, 5)], "gives all its operands as numbers"),
    ({"Divide": {"x2": 2}}, [(7, 5), (7, 5)], "takes 1 input (x1), but is given 2"),
    ({"Divide": {}}, [(7, 5)], "takes 2 inputs (x1, x2), but is given 1"),
    ({"Add": {"x2": "1"}}, [(7, 5)], "must be a number, or lists of numbers"),
    ({"Add": {"x2": [[1.0], [1.0, 2.0]]}}, [(7, 5)], "in lists of equal length"),
    ({"Add": {"x2": []}}, [(7, 5)], "must be a number, or lists of numbers"),
    ({"Add": {"x2": [0.5] * 10_001}}, [(7, 5)], "may have 10,000 numbers"),
    ({"Add": {"x2": {"shape": [0, 5]}}}, [(7, 5)], "an array that is loaded with the weights"),
    ({"Add": {"x2": {"shape": [5], "more": 1}}}, [(7, 5)], "an array that is loaded with the weights"),
    ({"Add": {"x2": {"shape": [2**20, 2**20]}}}, [(7, 5)], "an array that is loaded with the weights"),
    ({"Add": {"x2": {"shape": [6]}}}, [(7, 5)], "numbers of the shape (6,)"),
    ({"Add": {"x2": "nan"}}, [(7, 5)], "must be a number, or lists of numbers"),
    ({"Take": {"indices": {"shape": [3]}, "axis": 1}}, [(7, 5)], "must be a number, or lists of numbers"),
    ({"GetItem": {"key": ["1::0"]}}, [(7, 5)], "a list of whole numbers"),
    ({"GetItem": {"key": ["x"]}}, [(7, 5)], "a list of whole numbers"),
    ({"GetItem": {"key": ["...", "..."]}}, [(7, 5)], "at most one '...'"),
    ({"GetItem": {"key": [True]}}, [(7, 5)], "a list of whole numbers"),
    ({"Take": {"axis": 1}}, [(7, 5)], "needs 'indices'"),
    ({"Einsum": {"subscripts": "b,b->__import__"}}, [(), ()], "is no equation"),
    ({"Einsum": {"subscripts": "bi->bz"}}, [(5,)], "has an output"),
    ({"Einsum": {"subscripts": "bi,ij->bj", "operands": [None]}}, [(5,)], "needs 2 operands"),
    ({"Roll": {"shift": [1, 2], "axis": 1}}, [(7, 5)], "one for each axis"),
    ({"ArraySplit": {"indices_or_sections": [4, 2], "axis": 1}}, [(7, 5)], "in rising order"),
    ({"Digitize": {"bins": []}}, [(7, 5)], "bins"),
    ({"Clip": {"x_min": 0}}, [(7, 5)], "x_max"),
    ({"Cast": {"dtype": "complex64"}}, [(7, 5)], "dtype"),
]


def loaded(entry: dict[str, Any], shapes: list[tuple[int | None, ...]], dtype: str = "float32") -> regspec.ModelSpec:
    ((kind, fields),) = entry.items()
    names = [f"x{index}" for index in range(len(shapes))]
    inputs = {name: {"shape": list(shape), "dtype": dtype} for name, shape in zip(names, shapes, strict=True)}
    document = {"regspec": 1, "inputs": inputs, "layers": [{kind: {"inputs": names, **fields}}]}
    spec = regspec.loads(json.dumps(document))
    graph_of(spec)
    return spec


@pytest.mark.parametrize(("entry", "shapes", "message"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_is_refused(entry: dict[str, Any], shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(regspec.RegspecError) as caught:
        loaded(entry, shapes)
    assert message in str(caught.value)


HUGE: list[dict[str, Any]] = [
    {"Repeat": {"repeats": 2**31 - 1, "axis": 1}},
    {"Tile": {"repeats": [2**31 - 1, 2**31 - 1]}},
    {"Pad": {"pad_width": [[0, 0], [2**31 - 1, 2**31 - 1], [0, 0]]}},
    {"BroadcastTo": {"shape": [None, 2**31 - 1, 5]}},
    {"OneHot": {"num_classes": 2**31 - 1}},
    {"Tril": {"k": 2**31 - 1}},
    {"GetItem": {"key": [":", "-2147483647:2147483647:2147483647"]}},
]


@pytest.mark.parametrize("entry", HUGE, ids=[next(iter(entry)) for entry in HUGE])
def test_huge_sizes_are_only_numbers_until_the_model_runs(entry: dict[str, Any]) -> None:
    spec = loaded(entry, [(1, 5)])
    model = regspec.build(spec)
    assert sum(each.numel() for each in [*model.parameters(), *model.buffers()]) == 0
    assert len(regspec.source(spec)) < 1000


# -- gradients and values that the rows do not meet --------------------------------------------------------------------


def run(entry: dict[str, Any], *inputs: torch.Tensor) -> torch.Tensor:
    dtype = str(inputs[0].dtype).removeprefix("torch.")
    return regspec.build(loaded(entry, [tuple(x.shape[1:]) for x in inputs], dtype))(*inputs)


def test_a_quotient_that_is_rounded_has_a_gradient_of_zero() -> None:
    x = torch.randn(3, 5, requires_grad=True)
    (run({"FloorDivide": {"x2": 0.7}}, x) + x).sum().backward()
    torch.testing.assert_close(x.grad, torch.ones(3, 5))


def test_a_quotient_by_zero_has_a_gradient() -> None:
    x, y = torch.randn(3, 5, requires_grad=True), torch.tensor([[0.0, 1.0, 0.0, 2.0, -1.0]] * 3, requires_grad=True)
    output = run({"DivideNoNan": {}}, x, y)
    output.sum().backward()
    assert torch.equal(output == 0, y == 0)
    assert x.grad.isfinite().all()
    assert y.grad.isfinite().all()


def test_places_out_of_range() -> None:
    """One-hot of a number without a place is zero; a negative place counts from the end."""
    hot = run({"OneHot": {"num_classes": 3}}, torch.tensor([[-1, 0, 2, 3]]))
    assert hot.tolist() == [[[0, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]]]
    spec = regspec.loads(
        """
        regspec: 1
        inputs: {x: {shape: [3]}, n: {shape: [2], dtype: int64}}
        layers: [{TakeAlongAxis: {axis: 1, inputs: [x, n]}}]
        """
    )
    taken = regspec.build(spec)(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[-1, 0]]))
    assert taken.tolist() == [[3.0, 1.0]]


def test_positive_definite_matrices() -> None:
    root = torch.randn(3, 4, 4)
    x = root @ root.mT + torch.eye(4)
    torch.testing.assert_close(
        run({"Cholesky": {}}, x) @ run({"Cholesky": {"upper": True}}, x), x, rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(run({"Logdet": {}}, x).exp(), run({"Det": {}}, x), rtol=1e-4, atol=1e-4)
    document = {"regspec": 1, "inputs": {"x": {"shape": [4, 4]}}, "layers": [{"Eigh": {"name": "e"}}],
                "outputs": ["e", "e.1"]}  # fmt: skip
    values, vectors = regspec.build(regspec.loads(json.dumps(document)))(x)
    torch.testing.assert_close(vectors @ torch.diag_embed(values) @ vectors.mT, x, rtol=1e-4, atol=1e-4)


def test_a_held_array_moves_with_the_model() -> None:
    model = regspec.build(loaded({"Multiply": {"x2": [1.0, 2.0]}}, [(2,)]), dtype=torch.float64)
    assert model(torch.ones(1, 2, dtype=torch.float64)).dtype == torch.float64
    assert not model.state_dict()
    assert [name for name, _ in model.named_buffers()] == ["multiply_x2"]


@pytest.mark.parametrize("kind", ["Add", "Hypot", "Greater", "LogicalAnd", "Where", "Mod"])
def test_an_array_that_is_loaded_with_the_weights(kind: str) -> None:
    """It computes what the same numbers compute that stand in the spec."""
    array = torch.randn(7, 5)
    x = torch.randn(3, 7, 5)
    first = torch.rand(3, 7, 5) > 0.5
    inputs = [first, x] if kind == "Where" else [x]
    shapes = [(7, 5)] * len(inputs)
    model = regspec.build(loaded({kind: {"name": "layer", "x2": {"shape": [7, 5]}}}, shapes))
    assert list(model.state_dict()) == ["layer_x2"]
    model.load_state_dict({"layer_x2": array})
    wanted = regspec.build(loaded({kind: {"name": "layer", "x2": array.tolist()}}, shapes))(*inputs)
    torch.testing.assert_close(model(*inputs), wanted)


def test_operations_keep_the_order_of_axes() -> None:
    """In channels_last the images between convolutions lie with channels first, and operations leave them so."""
    spec = regspec.loads(
        """
        regspec: 1
        data_format: channels_last
        inputs: {x: {shape: [6, 7, 3]}}
        layers:
          - Conv2D: {filters: 4, kernel_size: 3, name: conv}
          - Square
          - Mean: {axis: [1, 2], keepdims: true, name: mean}
          - Subtract: {inputs: [square, mean]}
          - Sigmoid
          - Conv2D: {filters: 2, kernel_size: 3}
        """.replace("Sigmoid", "Activation: {activation: sigmoid}")
    )
    assert regspec.source(spec).count("permute") == 2


def test_variables_hide_no_function() -> None:
    """A layer may be called after the function that it becomes, or after one of Python's own."""
    spec = regspec.loads(
        """
        regspec: 1
        inputs: {x: {shape: [4], dtype: int64}}
        layers:
          - OneHot: {num_classes: 3, name: one_hot}
          - Pad: {pad_width: [[0, 0], [1, 0], [0, 0]], mode: symmetric, name: mirror_pad}
          - OneHot: {num_classes: 3, axis: 1, inputs: x, name: take_of_each}
          - Sum: {axis: 1, inputs: one_hot, name: sum}
          - Max: {axis: 1, inputs: mirror_pad, name: max}
          - Max: {axis: 2, inputs: take_of_each, name: F}
          - Add: {inputs: [sum, max, F]}
        """
    )
    x = torch.tensor([[0, 1, 2, 2]])
    assert regspec.build(spec)(x).tolist() == [[3.0, 3.0, 4.0]]
    assert " sum = " not in regspec.source(spec)


def test_every_operation_can_be_found_by_its_name() -> None:
    """As pickle does."""
    for name, kind in KINDS.items():
        module = __import__(kind.__module__, fromlist=[name])
        assert getattr(module, name, kind) is kind
        assert kind.__qualname__ == name or name not in OPERATIONS
