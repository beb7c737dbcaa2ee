"""A set of one's own that is held out: from each kind of source, with the classes and columns of what is trained on."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import regspec
from regspec.graph.loading import graph_of
from regspec.graph.network import Graph
from regspec.training.data import load_data

from .commands import command


def net(shape: str, units: int) -> Graph:
    return graph_of(
        regspec.loads(
            f"regspec: 1\nname: net\ninputs: {{x: {{shape: {shape}}}}}\n"
            f"layers: [Flatten, Dense: {{name: kind, units: {units}}}]\n"
        )
    )


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def images(folder: str, counts: dict[str, int]) -> None:
    for name, count in counts.items():
        Path(folder, name).mkdir(parents=True)
        for number in range(count):
            Image.new("L", (4, 4), 10 * number).save(Path(folder, name, f"{number}.png"))


def test_tables() -> None:
    """By the names of the columns, in whatever order; with the numbers that the classes have in the first."""
    Path("a.csv").write_text("one,two,kind\n" + "".join(f"{i},{i + 100},{'uvw'[i % 3]}\n" for i in range(9)))
    Path("b.csv").write_text("kind,id,two,one\nw,x,7,8\nv,y,9,10\n")
    data = load_data("a.csv", net("[2]", 3), validation="b.csv")
    x, y = data.held_out[range(2)]
    assert (x.tolist(), y.tolist()) == ([[8.0, 7.0], [10.0, 9.0]], [2, 1])
    assert (len(data.train), data.classes) == (9, ("u", "v", "w"))
    x, y = data.train[range(9)]
    assert (x[:, 0].tolist(), y.tolist()) == ([float(i) for i in range(9)], [0, 1, 2] * 3)


def test_arrays() -> None:
    for name, count in (("a", 9), ("b", 3)):
        np.savez(f"{name}.npz", x=np.full((count, 2), count), y=np.arange(count) % 3)
    data = load_data("a.npz", net("[2]", 3), validation="b.npz")
    assert torch.equal(data.held_out[range(3)][0], torch.full((3, 2), 3.0))
    assert len(data.train) == 9


def test_images() -> None:
    """A class that is not held out keeps its number."""
    images("a", {"ant": 2, "bee": 3, "cat": 2})
    images("b", {"cat": 2, "bee": 1})
    data = load_data("a", net("[1, 4, 4]", 3), validation="b")
    assert (data.held_out.targets[0].tolist(), data.classes) == ([1, 2, 2], ("ant", "bee", "cat"))
    assert len(data.train) == 7


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        ("a.csv", "no_two.csv", "no_two.csv: error: has no column 'two', which the data to train on have"),
        ("a.csv", "new.csv", "'new.csv' has the class 'x', which 'a.csv' does not have"),
        ("images", "grey.npz", "'grey.npz' is to be held out, but is no data like 'images'"),
        ("images", "new", "new: error: has the class 'dog', but the data to train on have ant, bee"),
        ("parts", "images", "'parts' has a part that is held out already\n   = leave out --validation"),
        ("images", "parts", "'parts' has two parts, and one is to be held out"),
        ("a.csv", "absent.csv", "absent.csv: error: can't be read"),
        ("a.npz", "wide.npz", r"'wide.npz' gives \(batch, 3\) for 'x', but the spec takes \(batch, 2\)"),
        ("a.npz", "quantities.npz", "the model gives|is of two kinds|quantities"),
        ("a.npz", "empty.npz", "has 0 examples to train on or to hold out"),
    ],
)
def test_what_does_not_go_together(train: str, validation: str, message: str) -> None:
    Path("a.csv").write_text("one,two,kind\n" + "".join(f"{i},{i + 100},{'uv'[i % 2]}\n" for i in range(9)))
    Path("no_two.csv").write_text("one,kind\n1,u\n")
    Path("new.csv").write_text("one,two,kind\n1,2,x\n")
    images("images", {"ant": 2, "bee": 2})
    images("new", {"ant": 2, "dog": 2})
    images("parts/train", {"ant": 2, "bee": 2})
    images("parts/val", {"ant": 2, "bee": 2})
    np.savez("a.npz", x=np.ones((9, 2)), y=np.arange(9) % 2)
    np.savez("grey.npz", x=np.ones((9, 1, 4, 4)), y=np.arange(9) % 2)
    np.savez("wide.npz", x=np.ones((9, 3)), y=np.arange(9) % 2)
    np.savez("quantities.npz", x=np.ones((9, 2)), y=np.arange(9) / 2)
    np.savez("empty.npz", x=np.ones((0, 2)), y=np.arange(0))
    graph = net("[1, 4, 4]", 2) if train in ("images", "parts") else net("[2]", 2)
    with pytest.raises(regspec.RegspecError) as caught:
        load_data(train, graph, validation=validation)
    assert re.search(message, str(caught.value)), str(caught.value)


def test_the_command() -> None:
    """All of the data are trained on, and the held-out figures are those of the other set."""
    Path("net.yaml").write_text("regspec: 1\ninputs: {x: {shape: [2]}}\nlayers: [Dense: {units: 1}]\n")
    for name, count in (("a", 20), ("b", 7)):
        np.savez(f"{name}.npz", x=np.ones((count, 2)), y=np.full(count, count / 2))
    arguments = ["--data", "a.npz", "--validation", "b.npz", "--epochs", "1", "--lr", "0", "-o", "run"]
    done = command("train", "net.yaml", *arguments, cwd=Path.cwd())
    assert done.code == 0, done.output
    assert "net on a.npz: 20 examples, 7 held out" in done.stdout
    model = regspec.build("net.yaml", seed=0)
    loss = (model(torch.ones(1, 2)).item() - 3.5) ** 2
    assert float(re.search(r"held-out loss (\S+)", done.stdout)[1]) == pytest.approx(loss, rel=1e-3)  # type: ignore[index]
    done = command("train", "--resume", "run", "--epochs", "2", cwd=Path.cwd())
    assert done.code == 0, done.output
