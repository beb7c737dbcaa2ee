"""Data to train on: every kind of source, how it is fitted and divided, and each fault of it."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import numpy as np
import polars
import pytest
import torch
from PIL import Image
from sklearn import datasets
from sklearn.utils.class_weight import compute_class_weight

import regspec
from regspec.graph.loading import graph_of
from regspec.graph.network import Graph
from regspec.training.data import Data, class_weights, load_data
from regspec.training.data.known import load_inputs


def graph(inputs: str, *layers: str, more: str = "") -> Graph:
    """The graph of a model with these inputs and layers."""
    entries = "".join(f"  - {layer}\n" for layer in layers)
    return graph_of(regspec.loads(f"regspec: 1\nname: net\n{more}\ninputs: {{{inputs}}}\nlayers:\n{entries}"))


def dense(width: int, units: int) -> Graph:
    return graph(f"x: {{shape: [{width}]}}", f"Dense: {{units: {units}}}")


def all_of(data: Data) -> list[torch.Tensor]:
    """The inputs and targets of all examples, those to train on first."""
    parts = [each[range(len(each))] for each in (data.train, data.held_out)]
    return [torch.cat(tensors) for tensors in zip(*parts, strict=True)]


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape)


def integers(below: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, below, shape)


TWO = graph(
    "left: {shape: [3]}, right: {shape: [2], dtype: int64}",
    "Embedding: {input_dim: 5, output_dim: 2, inputs: right}",
    "Flatten",
    "Concatenate: {inputs: [left, flatten]}",
    "Dense: {units: 2}",
)


# -- bundled sets, and what holds for all -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "width", "units"), [("breast_cancer", 30, 1), ("digits", 64, 10), ("iris", 4, 3), ("wine", 13, 3)]
)
def test_bundled_classes(name: str, width: int, units: int) -> None:
    bunch = getattr(datasets, f"load_{name}")()
    data = load_data(name, dense(width, units))
    assert data.is_classification
    assert data.classes == tuple(str(each) for each in bunch.target_names)
    assert data.train.targets[0].dtype == torch.int64
    total = len(bunch.target)
    assert len(data.held_out) == -(-total // 5)
    x, y = all_of(data)
    scale = 16 if name == "digits" else 1
    given = np.column_stack([bunch.data / scale, bunch.target]).astype(np.float32)
    made = np.column_stack([x.numpy(), y.numpy()]).astype(np.float32)
    assert sorted(made.tolist()) == sorted(given.tolist())
    counts = [each.targets[0].bincount() for each in (data.train, data.held_out)]
    assert (counts[1] - sum(counts) / 5).abs().max() < 1  # a fifth of each class


def test_bundled_quantities() -> None:
    data = load_data("diabetes", dense(10, 1))
    assert not data.is_classification
    assert data.classes is None
    assert data.train.targets[0].dtype == torch.float32
    assert len(data.train) + len(data.held_out) == 442


def test_a_seed_says_which_are_held_out() -> None:
    first, again, other = (load_data("iris", dense(4, 3), seed=seed).held_out[range(30)][0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_batches_are_rows_in_their_order() -> None:
    examples = load_data("wine", dense(13, 3)).train
    x, y = examples[range(len(examples))]
    batch = examples[[5, 0, 7]]
    assert torch.equal(batch[0], x[[5, 0, 7]])
    assert torch.equal(batch[1], y[[5, 0, 7]])
    assert torch.equal(y, examples.targets[0])


def test_few_examples_of_a_class_are_divided_all_the_same(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((10, 1)), y=np.array([0] * 9 + [1]))
    data = load_data(str(tmp_path / "d.npz"), dense(1, 2))
    assert (len(data.train), len(data.held_out)) == (8, 2)


@pytest.mark.parametrize("classes", [2, 5])
def test_class_weights(classes: int) -> None:
    target = torch.randint(classes, (57,))
    expected = compute_class_weight("balanced", classes=np.arange(classes), y=target.numpy())
    assert torch.allclose(class_weights(target), torch.tensor(expected, dtype=torch.float32))
    assert torch.equal(class_weights(target, classes + 2)[classes:], torch.ones(2))


# -- arrays -----------------------------------------------------------------------------------------------------------


def test_npz_by_the_inputs_names(tmp_path: Path) -> None:
    left, right, y = numbers(40, 3), integers(5, 40, 2), np.arange(40) % 2
    np.savez(tmp_path / "d.npz", right=right, left=left, y=y, other=np.zeros(3))
    data = load_data(str(tmp_path / "d.npz"), TWO)
    made_left, made_right, made_y = all_of(data)
    assert (made_left.dtype, made_right.dtype) == (torch.float32, torch.int64)
    order = [int(np.argmin(np.abs(left - row).sum(1))) for row in made_left.double().numpy()]
    assert sorted(order) == list(range(40))
    assert np.array_equal(made_right, right[order])
    assert np.array_equal(made_y, y[order])
    assert data.classes == ("0", "1")


@pytest.mark.parametrize(
    ("given", "shape", "data_format"),
    [
        ((64,), "[1, 8, 8]", "channels_first"),
        ((8, 8), "[1, 8, 8]", "channels_first"),
        ((8, 8, 1), "[1, 8, 8]", "channels_first"),
        ((8, 8), "[8, 8, 1]", "channels_last"),
        ((2, 3, 4), "[24]", "channels_first"),
        ((6, 5), "[null, 5]", "channels_first"),
        ((30,), "[null, 5]", "channels_first"),
        ((), "[1]", "channels_first"),
        ((), "[]", "channels_first"),
        ((1,), "[]", "channels_first"),
    ],
)
def test_shapes_that_fit(tmp_path: Path, given: tuple[int, ...], shape: str, data_format: str) -> None:
    """Numbers in a row and axes of size 1; the numbers keep their order."""
    x = numbers(10, *given).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(10.0))
    pooled = "GlobalAveragePooling1D: {data_format: channels_last}" if "null" in shape else "Flatten"
    net = graph(f"x: {{shape: {shape}}}", pooled, "Dense: {units: 1}", more=f"data_format: {data_format}")
    made, y = all_of(load_data(str(tmp_path / "d.npz"), net))
    assert np.array_equal(made.reshape(10, -1), x.reshape(10, -1)[y.long()])


@pytest.mark.parametrize(
    ("target", "classes"),
    [
        (np.array(["no", "yes", "no", "yes", "maybe"] * 4), ("maybe", "no", "yes")),
        (np.array([False, True] * 10), ("false", "true")),
        (np.array([[0], [1], [2], [1]] * 5), ("0", "1", "2")),
        (np.array([0, 1, 2, 1] * 5, dtype=np.uint8), ("0", "1", "2")),
        (np.array([0, 1, 2, 1] * 5, dtype=">i4"), ("0", "1", "2")),
        (np.array([0.0, 1.0, 2.5, 1.0] * 5, dtype=">f8"), None),
    ],
)
def test_targets_tell_the_task(tmp_path: Path, target: np.ndarray, classes: tuple[str, ...] | None) -> None:
    np.savez(tmp_path / "d.npz", x=np.arange(20.0), y=target)
    data = load_data(str(tmp_path / "d.npz"), dense(1, len(classes or "x")))
    assert data.classes == classes
    x, y = all_of(data)
    given = target.ravel()[x.flatten().long()]
    if classes is None:
        assert np.array_equal(y, given)
    else:
        assert [classes[each] for each in y] == [str(each).lower() for each in given]


def test_whole_numbers_may_lack_the_last_classes(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((10, 1)), y=np.array([0, 3] * 5))
    assert load_data(str(tmp_path / "d.npz"), dense(1, 6)).classes == ("0", "1", "2", "3", "4", "5")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int32", "int8", "uint8", "bool"])
def test_inputs_have_the_dtype_of_the_spec(tmp_path: Path, dtype: str) -> None:
    x = np.arange(20) % 2
    np.savez(tmp_path / "d.npz", x=x, y=x)
    made, y = all_of(
        load_data(str(tmp_path / "d.npz"), graph(f"x: {{shape: [1], dtype: {dtype}}}", "Dense: {units: 1}"))
    )
    assert made.dtype == getattr(torch, dtype)
    assert torch.equal(made[:, 0].long(), y)


def test_a_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "given_data.py").write_text(
        "import torch\n"
        "left, right = torch.randn(20, 3, requires_grad=True).bfloat16(), torch.arange(40).reshape(20, 2) % 5\n"
        "y = ['b', 'a'] * 10\n"
        "def mapping():\n    return {'right': right, 'left': left}, y\n"
        "def listed():\n    return [left, right], torch.arange(20) % 2\n"
        "def four():\n    return (left, right), y, (left[:5], right[:5]), y[:5]\n"
        "def frame():\n    import polars\n    f = polars.DataFrame({'a': [1.5, 2.5] * 5, 'y': ['u', 'v'] * 5})\n"
        "    return f[['a']], f['y']\n"
        "def whole():\n    inputs, y = frame()\n    return inputs.with_columns(y)\n"
        "def keys():\n    inputs, y = frame()\n    return {'x': inputs['a'], 'y': y}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, counts in (("mapping", (16, 4)), ("listed", (16, 4)), ("four", (20, 5))):
        data = load_data(f"given_data:{name}", TWO)
        assert (len(data.train), len(data.held_out)) == counts
        left, right, _ = data.train[range(counts[0])]
        assert left.dtype == torch.float32
        assert not left.requires_grad
        assert right.max() == 4
    assert data.classes == ("a", "b")
    assert data.train.targets[0].tolist() == [1, 0] * 10
    net = dense(1, 2)
    for name in ("frame", "whole", "keys"):
        data = load_data(f"given_data:{name}", net)
        assert data.classes == ("u", "v")
        assert all_of(data)[0].sum() == 20
        assert load_inputs(f"given_data:{name}", net, data.columns)[range(10)][0].sum() == 20


# -- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "a,answer,b\n1,yes,0.5\n2,no,-3e2\n3,yes,4\n4,no,5\n",
        "a;answer;b\n1;yes;0.5\n2;no;-3e2\n3;yes;4\n4;no;5",
        "a\tanswer\tb\r\n1\tyes\t0.5\r\n2\tno\t-3e2\r\n3\tyes\t4\r\n4\tno\t5\r\n",
        '\ufeff"a", answer ,"b"\n"1","yes",0.5\n 2 , no,-3e2\n\n3,"yes",4\n4,no,5\n\n\n',
    ],
)
def test_csv(tmp_path: Path, content: str) -> None:
    """Separators, quotes, marks, spaces and empty lines; words are classes; the other columns are the input."""
    (tmp_path / "d.csv").write_bytes(content.encode())
    data = load_data(str(tmp_path / "d.csv"), dense(2, 2), target="answer")
    assert data.classes == ("no", "yes")
    x, y = all_of(data)
    rows = sorted((*row, each) for row, each in zip(x.tolist(), y.tolist(), strict=True))
    assert rows == [(1, 0.5, 1), (2, -300, 0), (3, 4, 1), (4, 5, 0)]


TABLE = polars.DataFrame(
    {
        "right.1": [4, 3] * 10,
        "left_0": [x * 0.5 for x in range(20)],
        "left_1": list(range(20)),
        "right.0": [0, 1, 2, 0] * 5,
        "id": [f"row {x}" for x in range(20)],
        "left_2": [-1.0] * 20,
        "kind": ["cat", "dog"] * 10,
        "size": [x * 0.25 for x in range(20)],
        "weight": list(range(20)),
    },
    schema_overrides={"left_1": polars.UInt16, "kind": polars.Categorical, "left_2": polars.Decimal(10, 2)},
)


@pytest.mark.parametrize("name", ["d.csv", "d.parquet", "D.CSV"])
def test_several_inputs_take_columns_by_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    TABLE.write_parquet(path) if path.suffix == ".parquet" else TABLE.write_csv(path)
    data = load_data(str(path), TWO, target="kind")
    left, right, y = all_of(data)
    rows = left[:, 1].long()
    assert sorted(rows.tolist()) == list(range(20))
    assert torch.equal(left, torch.stack([rows * 0.5, rows.float(), torch.full((20,), -1.0)], 1))
    assert torch.equal(right, torch.stack([torch.tensor([0, 1, 2, 0])[rows % 4], 4 - rows % 2], 1))
    assert data.classes == ("cat", "dog")
    assert torch.equal(y, rows % 2)


def test_several_targets(tmp_path: Path) -> None:
    TABLE.drop("id", "kind").write_csv(tmp_path / "d.csv")
    x, y = all_of(load_data(str(tmp_path / "d.csv"), dense(5, 2), target="size, weight"))
    assert x.shape == (20, 5)
    assert torch.equal(y, torch.stack([x[:, 2] / 4, x[:, 2]], 1))


@pytest.mark.parametrize(
    ("column", "units", "classes"),
    [
        (["1", "0"] * 5, 1, ("0", "1")),
        (["1", "0.0"] * 5, 1, None),
        (["3", "7"] * 5, 9, tuple(map(str, range(9)))),
        (["True", "False"] * 5, 1, ("False", "True")),
        (["1", "a"] * 5, 1, ("1", "a")),
        (["007", "010"] * 5, 2, ("007", "010")),
    ],
)
def test_the_last_column_of_a_csv_is_the_target(
    tmp_path: Path, column: list[str], units: int, classes: tuple[str, ...] | None
) -> None:
    (tmp_path / "d.csv").write_text("\n".join(["a,y", *(f"{number},{each}" for number, each in enumerate(column))]))
    data = load_data(str(tmp_path / "d.csv"), dense(1, units))
    assert data.classes == classes
    x, y = all_of(data)
    names = [float(each) if classes is None else column[int(row)] for row, each in zip(x, y, strict=True)]
    assert names == (y.tolist() if classes is None else [classes[each] for each in y])


def test_a_target_of_booleans(tmp_path: Path) -> None:
    polars.DataFrame({"a": [True, False] * 10, "y": [False, True] * 10}).write_parquet(tmp_path / "d.parquet")
    data = load_data(str(tmp_path / "d.parquet"), dense(1, 1))
    x, y = all_of(data)
    assert data.classes == ("false", "true")
    assert torch.equal(x[:, 0], 1.0 - y)


def test_many_rows_load_at_once(tmp_path: Path) -> None:
    x = numbers(200_000, 10)
    polars.DataFrame({**{f"c{i}": x[:, i] for i in range(10)}, "y": np.arange(200_000) % 3}).write_csv(
        tmp_path / "d.csv"
    )
    start = time.perf_counter()
    data = load_data(str(tmp_path / "d.csv"), dense(10, 3))
    assert time.perf_counter() - start < 10
    assert len(data.train) == 160_000
    assert torch.isclose(all_of(data)[0].double().sum(), torch.tensor(x.sum()), atol=0.1)


# -- images -----------------------------------------------------------------------------------------------------------


def saved(path: Path, value: object, mode: str = "RGB", size: tuple[int, int] = (6, 4), **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path, **options)  # type: ignore[arg-type]  # any mode of Pillow's


def image_net(shape: str, units: int = 2, dtype: str = "float32", data_format: str = "channels_first") -> Graph:
    more = f"data_format: {data_format}"
    return graph(f"x: {{shape: {shape}, dtype: {dtype}}}", "Flatten", f"Dense: {{units: {units}}}", more=more)


@pytest.mark.parametrize(
    ("shape", "data_format", "value"),
    [
        ("[3, 4, 6]", "channels_first", [[[51]], [[102]], [[255]]]),
        ("[4, 6, 3]", "channels_last", [51, 102, 255]),
        ("[1, 4, 6]", "channels_first", 104),  # 0.299 * 51 + 0.587 * 102 + 0.114 * 255
        ("[4, 6, 1]", "channels_last", 104),
        ("[4, 6]", "channels_last", 104),
        ("[4, 4, 6]", "channels_first", [[[51]], [[102]], [[255]], [[255]]]),
        ("[3, 5, 2]", "channels_first", [[[51]], [[102]], [[255]]]),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "int64"])
def test_images_fit_the_input(tmp_path: Path, shape: str, data_format: str, value: object, dtype: str) -> None:
    for number in range(5):
        saved(tmp_path / "a" / f"{number}.png", (51, 102, 255))
        saved(tmp_path / "b" / f"{number}.PNG", (51, 102, 255), size=(12, 8))
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "notes.txt").write_text("no image")
    data = load_data(str(tmp_path), image_net(shape, dtype=dtype, data_format=data_format))
    assert (len(data.train), len(data.held_out), data.classes) == (8, 2, ("a", "b"))
    x, y = data.train[[0, 3, 1]]
    assert list(x.shape) == [3, *map(int, shape.strip("[]").split(","))]
    assert x.dtype == getattr(torch, dtype)
    expected = torch.tensor(value) / 255 if "float" in dtype else torch.tensor(value)
    assert torch.equal(x, expected.to(x.dtype).expand_as(x))
    assert torch.equal(y, data.train.targets[0][[0, 3, 1]])
    assert sorted(all_of(data)[1].tolist()) == [0] * 5 + [1] * 5


def test_images_are_resized_bilinearly(tmp_path: Path) -> None:
    pixels = integers(256, 4, 9, 7).astype(np.uint8)
    for number, each in enumerate(pixels):
        (tmp_path / f"c{number % 2}").mkdir(exist_ok=True)
        Image.fromarray(each).save(tmp_path / f"c{number % 2}" / f"{number}.png")
    data = load_data(str(tmp_path), image_net("[1, 5, 11]"))
    x = torch.cat([part[range(len(part))][0] for part in (data.train, data.held_out)])
    given = torch.from_numpy(pixels)[:, None] / 255
    expected = torch.nn.functional.interpolate(given, (5, 11), mode="bilinear", antialias=True)
    distances = (x[:, None] - expected).abs().amax((2, 3, 4))
    assert distances.amin(0).max() < 1.5 / 255
    assert sorted(distances.argmin(0).tolist()) == [0, 1, 2, 3]


def test_images_of_other_kinds(tmp_path: Path) -> None:
    """Two bytes a pixel are scaled and not cut off; a camera's orientation is heeded; palettes and alpha are taken."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    Image.fromarray(np.full((2, 2), 300, dtype=np.uint16)).save(tmp_path / "a" / "0.png")
    Image.fromarray(np.full((2, 2), 65535, dtype=np.uint16)).save(tmp_path / "a" / "1.tif")
    turned = Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).resize((64, 32), Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    turned.save(tmp_path / "a" / "2.jpg", quality=100, exif=exif)
    saved(tmp_path / "b" / "0.gif", 77, "L")
    saved(tmp_path / "b" / "1.png", (10, 77, 10, 128), "RGBA")
    net = image_net("[3, 2, 2]")
    data = load_data(str(tmp_path), net)
    made = {}
    for part in (data.train, data.held_out):
        for row, file in enumerate(part.files):
            made[f"{file.parent.name}{file.stem}"] = (part[[row]][0][0] * 255).round()
    assert made["a0"].unique().tolist() == [1]
    assert made["a1"].unique().tolist() == [255]
    assert (made["a2"][0] > 128).tolist() == [[False, False], [True, True]]
    assert made["b0"].unique().tolist() == [77]
    assert made["b1"][:, 0, 0].tolist() == [10, 77, 10]


@pytest.mark.parametrize(("held_out", "count"), [(["test"], 1), (["val"], 2), (["test", "val"], 2)])
def test_images_held_out_by_folder(tmp_path: Path, held_out: list[str], count: int) -> None:
    for name in ("ant", "bee"):
        for number in range(3):
            saved(tmp_path / "train" / name / f"{number}.png", 100)
    for name in held_out:
        for number in range(1 if name == "test" else 2):
            saved(tmp_path / name / "bee" / f"{number}.png", 200)
    data = load_data(str(tmp_path), image_net("[1, 4, 6]", units=1))
    assert (len(data.train), len(data.held_out), data.classes) == (6, count, ("ant", "bee"))
    assert data.held_out.targets[0].tolist() == [1] * count


def test_a_truncated_image_is_a_fault_when_it_is_decoded(tmp_path: Path) -> None:
    for number in range(4):
        path = tmp_path / f"c{number % 2}" / f"{number}.{'png' if number < 2 else 'jpg'}"
        path.parent.mkdir(exist_ok=True)
        content = io.BytesIO()
        pixels = integers(256, 40, 40, 3).astype(np.uint8)
        Image.fromarray(pixels).save(content, "PNG" if number < 2 else "JPEG")
        path.write_bytes(content.getvalue()[: len(content.getvalue()) // 2])
    data = load_data(str(tmp_path), image_net("[3, 4, 6]"))
    for part in (data.train, data.held_out):
        for row, file in enumerate(part.files):
            with pytest.raises(regspec.RegspecError, match=f"{file}: error: can't be read as an image: .*trunc"):
                part[[row]]


@pytest.mark.parametrize(
    ("files", "shape", "message"),
    [
        ({}, "[3, 4, 6]", "has no folders of images, one for each class"),
        ({"a/x.txt": b""}, "[3, 4, 6]", "a: error: has no images"),
        ({"a/x.png": b""}, "[3, 4, 6]", "x.png: error: can't be read as an image: it is empty"),
        (
            {"a/x.png": b"GIF89a", "a/y.jpg": b"no"},
            "[3, 4, 6]",
            "(?s)x.png: error: .*y.jpg: error: can't be read as an",
        ),
        ({"a/x.png": None, "a/y.png": None}, "[3, 4, 6]", "has one class only, a"),
        ({"a/x.png": None, "b/x.png": None, "c/x.png": None}, "[3, 4, 6]", "the last layer needs 3 units"),
        ({"train/a/x.png": None}, "[3, 4, 6]", "beside train there is neither val nor test"),
        ({"train/a/x.png": None, "val/b/x.png": None}, "[3, 4, 6]", "has the class 'b', but '.*train' has a"),
        ({"a/x.png": None}, "[5, 4, 6]", r"gives images \(batch, channels, .* takes \(batch, 5, 4, 6\) for 'x'"),
        ({"a/x.png": None}, "[3, null, 6]", "give it a height and a width"),
        ({"a/x.png": None}, "[72]", r"the spec takes \(batch, 72\)"),
    ],
)
def test_image_folders_that_are_wrong(tmp_path: Path, files: dict[str, bytes | None], shape: str, message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            saved(tmp_path / name, 100)
        else:
            (tmp_path / name).write_bytes(content)
    layers = "GlobalAveragePooling2D" if "null" in shape else "Flatten"
    with pytest.raises(regspec.RegspecError, match=message):
        load_data(str(tmp_path), graph(f"x: {{shape: {shape}}}", layers, "Dense: {units: 2}"))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (TWO, "are one input, but the spec takes left, right"),
        (image_net("[3, 4, 6]", dtype="int8"), "numbers 0 to 255, but the spec takes int8"),
    ],
)
def test_models_that_take_no_images(tmp_path: Path, net: Graph, message: str) -> None:
    saved(tmp_path / "a" / "x.png", 100)
    with pytest.raises(regspec.RegspecError, match=message):
        load_data(str(tmp_path), net)


# -- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.csv", b"", "needs a first line with the columns' names"),
        ("d.csv", b"\n\n", "needs a first line with the columns' names"),
        ("d.csv", b"a,b\n", "needs a first line with the columns' names"),
        ("d.csv", b"1,2\n3,4\n", "needs a first line with the columns' names"),
        ("d.csv", b"a\n1\n2\n", "has no column beside the target"),
        ("d.csv", b"a,a,b\n1,2,3\n", "has two columns 'a'"),
        ("d.csv", b"a,b\n1,2\n\n1,2,3\n", "line 4 has 3 values, but the header 2"),
        ("d.csv", b"a,b\n1,0\n\n2\n", "column 'b' has no value in line 4"),
        ("d.csv", b"a,b\n1,0\n,1\n2,1\n", "column 'a' has no value in line 3"),
        ("d.csv", b"a,b\n1,0\nNaN,1\nnan,1\n", "column 'a' has no value in line 3, and in 1 more"),
        ("d.csv", b"a,b\n1,0\n2,\n", "column 'b' has no value in line 3"),
        ("d.csv", b'a,b\n1,yes\n2,""\n', "column 'b' has no value in line 3"),
        ("d.csv", b"a,b\n1,0.5\n2,nan\n", "column 'b' has no value in line 3"),
        ("d.csv", b"a,b\n1,0\ninf,1\n", "column 'a' is infinite in line 3"),
        ("d.csv", b"a,b\n1,0\nx y,1\n", "column 'a' has 'x y', which is no number, in line 3"),
        ("d.csv", b"a;b\n1;0\n1,5;1\n", "column 'a' has '1,5', which is no number"),
        ("d.csv", b"a,c,b\n1,NA,0\nu,2,1\n", "(?s)column 'a' has 'u'.*column 'c' has 'NA'"),
        ("d.csv", b"\xff\xfea\x00", "is not UTF-8"),
        ("d.csv", b"a,b\n\xe9,2\n", "is not UTF-8"),
        ("d.csv", b'a,b\n"x,2\n3,4', "can't be read"),
        ("d.csv", b"a,y\n1,0\n", "too few to hold some out"),
        ("d.csv", b"a,y\n1,-1\n1,1\n2,0\n", "counted from 0"),
        ("d.csv", b"a,y\n1,1\n1,1\n2,2\n", "classes are counted from 0"),
        (
            "d.csv",
            b"a,y\n1,250000\n1,310000\n",
            "quantities, --outputs.dense.loss mse says so; or write them as floating-point numbers: 310000.0",
        ),
        ("d.csv", b"a,y\n1,u\n1,v\n2,w\n", "has the classes u, v, w\n   = the last layer needs 3 units"),
        ("d.csv", b"a,y\n1,0\n1,0\n2,0\n", "has one class only, 0"),
        ("d.csv", b"a,y\n1,u\n1,u\n2,u\n", "has one class only, u"),
        ("d.csv", b"a,y\n1,0.5\n2,1\n", r"the model gives \(batch, 2\), but the target of .* is \(batch\)"),
        ("d.csv", b"a,b,y\n1,2,0\n2,1,1\n", r"gives \(batch, 2\) for 'x', but the spec takes \(batch, 1\)"),
        ("d.csv", b"a,y\n1e39,0\n2,1\n", r"gives 1e\+39 for 'x' in example 0, .* but the spec takes float32"),
        ("d.parquet", b"", "can't be read as parquet"),
        ("d.parquet", b"PAR1 and no more", "can't be read as parquet"),
        ("d.npz", b"", "can't be read"),
        ("d.npz", b"not a zip", "can't be read"),
        ("d.npz", b"PK\x03\x04 broken", "can't be read"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(regspec.RegspecError, match=message) as caught:
        load_data(str(tmp_path / name), dense(1, 2))
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("name", ["d.csv", "d.parquet", "d.npz"])
def test_files_that_are_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(regspec.RegspecError, match=f"{name}: error: can't be read: No such file"):
        load_data(str(tmp_path / name), dense(1, 2))
    (tmp_path / name).mkdir()
    with pytest.raises(regspec.RegspecError, match=f"{name}: error: can't be read: Is a directory"):
        load_data(str(tmp_path / name), dense(1, 2))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1, None, 3], "y": [0, 1, 0]}, "column 'a' has no value in row 2"),
        ({"a": [1.0, 2.0, float("nan")], "y": [0, 1, 0]}, "column 'a' has no value in row 3"),
        ({"a": [True, None, False], "y": [0, 1, 0]}, "column 'a' has no value in row 2"),
        ({"a": [None, None], "y": [0, 1]}, "column 'a' has no value in row 1, and in 1 more"),
        ({"a": [[1], [2]], "y": [0, 1]}, r"column 'a' is List\(Int64\), and no numbers"),
        ({"a": ["u", "v"], "y": [0, 1]}, "column 'a' has 'u', which is no number, in row 1"),
        ({"a": [], "y": []}, "has no rows"),
        ({}, "has no rows"),
    ],
)
def test_parquet_that_is_wrong(tmp_path: Path, columns: dict[str, list[object]], message: str) -> None:
    polars.DataFrame(columns).write_parquet(tmp_path / "d.parquet")
    with pytest.raises(regspec.RegspecError, match=message):
        load_data(str(tmp_path / "d.parquet"), dense(1, 2))


@pytest.mark.parametrize(
    ("dropped", "target", "message"),
    [
        (
            ["left_1"],
            "kind",
            r"takes \(batch, 3\) for 'left', the columns 'left_0' to 'left_2', .* has left_0$",
        ),
        (["right.0"], "kind", r"\(batch, 2\) for 'right', .* but the file has right.1, left_0"),
        ([], "kin", "has no column 'kin'\n   = did you mean 'kind'"),
        ([], "kind,siz", "has no column 'siz'\n   = did you mean 'size'"),
        ([], "kind,size", "column 'kind' has 'cat', which is no number"),
        (
            [],
            "weight,right.1",
            r"is \(batch, 2\)\n   = a class for each place is \(batch\); labels are 0 or 1, .*; quantities are",
        ),
    ],
)
def test_columns_that_are_wrong(tmp_path: Path, dropped: list[str], target: str, message: str) -> None:
    net = dense(5, 2) if "," in target and "kind" not in target else TWO
    TABLE.drop(dropped if net is TWO else ["id", "kind"]).write_parquet(tmp_path / "d.parquet")
    with pytest.raises(regspec.RegspecError, match=message):
        load_data(str(tmp_path / "d.parquet"), net, target=target)


ONES = np.ones((9, 1))
Y = np.array([0, 1, 0] * 3)
INDICES = "Embedding: {input_dim: 5, output_dim: 2}"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": ONES}, "has no array 'y'"),
        ({"y": Y}, "has no array 'x'"),
        ({"x": ONES, "y": np.zeros(8)}, "unequal numbers of examples: 9 for x, 8 for the target"),
        ({"x": np.array(["a"] * 9), "y": Y}, "the numbers for 'x' of .* are no numbers"),
        ({"x": np.ones((9, 1), dtype=complex), "y": Y}, "are no numbers, but complex128"),
        ({"x": np.array([None] * 9), "y": Y}, "can't be read as .npz: Object arrays"),
        ({"x": ONES, "y": np.full(9, np.nan)}, "are not finite everywhere: the first in example 0"),
        ({"x": np.where(np.arange(9) == 4, np.inf, 0.0), "y": Y}, "for 'x' of .* the first in example 4"),
        ({"x": np.zeros(()), "y": Y}, "are one number"),
        (
            {"x": np.full((9, 1), 2**63, dtype=np.uint64), "y": Y},
            "up to 9223372036854775808, which int64 does not hold",
        ),
        (
            {"x": ONES, "y": np.full((9, 2), 2)},
            r"gives \(batch, 2\), .*\n   = a class for each place is \(batch\); labels are",
        ),
        ({"x": ONES, "y": np.zeros((9, 3))}, r"gives \(batch, 2\), but the target of .* is \(batch, 3\)"),
        ({"x": ONES, "y": np.full((9, 2), 1e39)}, "holds 1e.39, but quantities are float32"),
        ({"x": np.zeros((0, 1)), "y": np.zeros(0)}, "0 examples, too few"),
    ],
)
def test_arrays_that_are_wrong(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(regspec.RegspecError, match=message):
        load_data(str(tmp_path / "d.npz"), dense(1, 2))


@pytest.mark.parametrize(
    ("shape", "declared", "message"),
    [
        (
            (8, 8, 3),
            "[3, 8, 8]",
            r"(?s)\(batch, 8, 8, 3\) for 'x', .* \(batch, 3, 8, 8\).*counts the channels first",
        ),
        ((6, 2), "[3, 4]", r"gives \(batch, 6, 2\) for 'x', but the spec takes \(batch, 3, 4\)"),
        ((5,), "[3, 4]", r"gives \(batch, 5\)"),
        ((5, 5), "[3, 4]", r"gives \(batch, 5, 5\)"),
        ((13, 1, 1), "[14]", r"gives \(batch, 13, 1, 1\)"),
        ((), "[2]", r"gives \(batch\) for 'x', but the spec takes \(batch, 2\)"),
        ((0,), "[2]", r"gives \(batch, 0\) for 'x'"),
    ],
)
def test_shapes_that_do_not_fit(tmp_path: Path, shape: tuple[int, ...], declared: str, message: str) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((9, *shape)), y=Y)
    with pytest.raises(regspec.RegspecError, match=message):
        load_data(str(tmp_path / "d.npz"), graph(f"x: {{shape: {declared}}}", "Flatten", "Dense: {units: 2}"))


@pytest.mark.parametrize(
    ("dtype", "layers", "value", "message"),
    [
        ("int64", [INDICES], 5, "gives 5 for 'x' in example 3, .* takes indices below 5"),
        ("int64", [INDICES], -1, "gives -1 for 'x' in example 3, .* takes indices below 5"),
        ("float32", [INDICES], 5.0, "gives 5.0 for 'x' in example 3, .* takes indices below 5"),
        ("float32", [INDICES], 0.5, "gives 0.5 .* below 5\n   = 'x' takes whole numbers"),
        ("int64", ["Reshape: {target_shape: [2, 1]}", INDICES], 7, "gives 7 .* indices below 5"),
        (
            "int64",
            ["Permute: {dims: [1]}", INDICES, "Embedding: {input_dim: 3, output_dim: 1, inputs: x}"],
            3,
            "below 3",
        ),
        ("int64", ["inner"], 5, "gives 5 .* takes indices below 5"),
        ("int64", ["CategoryEncoding: {num_tokens: 4}"], 4, "gives 4 .* takes classes below 4"),
        ("int32", ["Dense: {units: 1}"], 0.5, "gives 0.5 .* but the spec takes int32"),
        ("int32", ["Dense: {units: 1}"], 2**31, "gives 2147483648 .* but the spec takes int32"),
        ("uint8", ["Dense: {units: 1}"], -1, "gives -1 .* but the spec takes uint8"),
        ("int8", ["Dense: {units: 1}"], 128.0, "gives 128.0 .* but the spec takes int8"),
        ("bool", ["Dense: {units: 1}"], 2, "gives 2 .* but the spec takes bool"),
        ("float16", ["Dense: {units: 1}"], 70000, "gives 70000 .* but the spec takes float16"),
    ],
)
def test_numbers_out_of_range(tmp_path: Path, dtype: str, layers: list[str], value: float, message: str) -> None:
    x = np.zeros((9, 2), dtype=type(value))
    x[3, 1] = value
    np.savez(tmp_path / "d.npz", x=x, y=Y)
    if len(layers) == 3:  # two tables, the narrower of which counts
        layers = [*layers, "Concatenate: {inputs: [embedding, embedding_1]}"]
    blocks = "blocks: {inner: {layers: [{Embedding: {input_dim: 5, output_dim: 2}}]}}"
    net = graph(f"x: {{shape: [2], dtype: {dtype}}}", *layers, "Flatten", "Dense: {units: 2}", more=blocks)
    with pytest.raises(regspec.RegspecError, match=message):
        load_data(str(tmp_path / "d.npz"), net)


def test_computed_and_absent_indices_are_taken(tmp_path: Path) -> None:
    """What a layer makes of numbers is not known before it runs; -1 is no class in an encoding."""
    np.savez(tmp_path / "d.npz", x=np.full((9, 2), 40.5), y=Y)
    layers = ("Rescaling: {scale: 0.1}", INDICES, "Flatten", "Dense: {units: 2}")
    assert len(load_data(str(tmp_path / "d.npz"), graph("x: {shape: [2]}", *layers)).train) == 7
    np.savez(tmp_path / "d.npz", x=np.full((9, 2), -1), y=Y)
    layers = ("CategoryEncoding: {num_tokens: 4}", "Dense: {units: 2}")
    assert len(load_data(str(tmp_path / "d.npz"), graph("x: {shape: [2], dtype: int64}", *layers)).train) == 7


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("3", r"is int, and no data to train on\n   = it may be \(inputs, targets\)"),
        ("(x, y, x, y, x)", r"is tuple, and no data to train on\n   = it may be \(inputs, targets\)"),
        ("([x, x], y)", "are no array|gives"),
        ("({'z': x}, y)", "gives no input 'x'\n   = it gives z"),
        ("(x, y, x, [0.5] * 9)", "the targets of 'wrong_data:f' are of two kinds|classes are whole numbers"),
        ("(x, ['a'] * 9, x, y)", "are of two kinds: <U1"),
        ("(x, y, x[:0], y[:0])", "has 0 examples to train on or to hold out"),
        ("(x, y, x[:, [0, 0]], y)", r"gives \(batch, 2\) for 'x'"),
        ("(x, [object()] * 9)", "are no numbers, but object"),
        ("(x, [[1], [2, 3]])", "are no array"),
        ("{}['k']", r"'wrong_data:f' fails: KeyError: 'k'\n   = raised from .*wrong_data.py, line \d"),
    ],
)
def test_functions_that_are_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: str, message: str) -> None:
    monkeypatch.delitem(sys.modules, "wrong_data", raising=False)
    code = f"import numpy as np\nx, y = np.ones((9, 1)), np.array([0, 1, 0] * 3)\ndef f():\n    return {result}\n"
    (tmp_path / "wrong_data.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(regspec.RegspecError, match=message):
        load_data("wrong_data:f", dense(1, 2))


@pytest.mark.parametrize(
    ("data", "net", "target", "message"),
    [
        ("wine", dense(14, 3), None, r"'wine' gives \(batch, 13\) for 'x', but the spec takes \(batch, 14\)"),
        ("wine", dense(13, 2), None, "has the classes class_0, class_1, class_2\n   = the last layer needs 3 units"),
        ("wine", dense(13, 4), None, r"the model gives \(batch, 4\), .*\n   = the last layer needs 3 units"),
        ("wine", dense(13, 3), "y", "the target 'y' would be one of a file's, but 'wine' has its own"),
        ("wine", graph("x: {shape: [13, 1]}", "Dense: {units: 3}"), None, r"gives \(batch, 13, 3\), but"),
        ("diabetes", dense(10, 2), None, r"the model gives \(batch, 2\)"),
        ("wines", dense(13, 3), None, "did you mean 'wine'"),
        ("elsewhere", dense(13, 3), None, "a folder of images or of .npy files, or module:function"),
        (
            "wine",
            graph("x: {shape: [13]}", "Dense: {units: 3}", more="outputs: [dense, x]"),
            None,
            "does not give a target for each of dense, x\n   = for some outputs only, say which: --outputs.dense.loss",
        ),
        ("wine", TWO, None, "gives no input 'right'"),
    ],
)
def test_what_does_not_fit(data: str, net: Graph, target: str | None, message: str) -> None:
    with pytest.raises(regspec.RegspecError, match=message):
        load_data(data, net, target=target)


@pytest.mark.parametrize(("module", "name"), [("polars", "d.csv"), ("polars", "d.parquet"), ("PIL", "a/x.png")])
def test_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / name).write_bytes(b"a,b\n1,2\n")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(regspec.RegspecError, match=r"(?s)error: .* need .*pip install 'regspec\[data\]'"):
        load_data(str(tmp_path) if module == "PIL" else str(tmp_path / name), image_net("[3, 4, 6]"))
