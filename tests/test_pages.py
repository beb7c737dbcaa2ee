"""The pages in examples/: their numbers are those of the scripts that made them, and their code runs."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

import regspec

from .commands import as_torchrun, run_script
from .test_examples import FOLDER, module_of

SCRIPTS = FOLDER / "pages"
PAGES = ("sparse_networks", "sparse_autoencoders", "from_keras_to_pytorch", "many_gpus")


def script(name: str) -> ModuleType:
    return module_of(SCRIPTS / f"{name}.py")


def page(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def block(name: str, language: str, part: str) -> str:
    """The one block of code in a page that holds ``part``."""
    blocks = re.findall(r"```(\w+)\n(.*?)```", page(name), re.DOTALL)
    (found,) = (text for each, text in blocks if each == language and part in text)
    return found


def numbers(row: str) -> list[float]:
    """Those of a table's row that are numbers."""
    cells = [cell.strip().replace(",", "") for cell in row.strip("|").split("|")]
    return [float(cell) for cell in cells if re.fullmatch(r"-?[0-9.]+(e-?[0-9]+)?", cell)]


def rows(name: str, start: str) -> list[list[float]]:
    """The rows of a page's tables that begin with ``start``, in order."""
    return [numbers(line) for line in page(name).splitlines() if line.startswith(f"| {start} |")]


def run(name: str, code: str, names: dict[str, Any]) -> dict[str, Any]:
    """The names after a page's code has run."""
    exec(compile(code, f"{name}.md", "exec"), names)
    return names


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_links_to_is_there(name: str) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", page(name))
    others = {"choosing_a_strength.md"} - {path.name for path in FOLDER.glob("*.md")}
    assert [each for each in targets if each not in others and not (FOLDER / each).exists()] == []


# -- sparse networks ---------------------------------------------------------------------------------------------------


def test_sparse_networks_table() -> None:
    """To a digit that is read otherwise: the script's double precision leaves no more to the machine."""
    accuracy, zeros, small = script("sparse_networks").by_route(3e-4, "proximal")
    (shown,) = (row for row in rows("sparse_networks", "0.0003") if len(row) == 7)
    assert [100 * accuracy, 100 * zeros, 100 * small] == pytest.approx(shown[4:], abs=0.3)


@pytest.mark.everything
def test_sparse_networks_loss() -> None:
    """In the loss as many weights are small, and none is zero."""
    result = script("sparse_networks").l1(3e-4, "loss", 0)
    (shown,) = (row for row in rows("sparse_networks", "0.0003") if len(row) == 7)
    assert [100 * result.accuracy, 100 * result.small] == pytest.approx([shown[1], shown[3]], abs=4)
    assert result.zeros == 0


@pytest.mark.everything
def test_sparse_networks_groups() -> None:
    strength, accuracy, zeros, *units = script("sparse_networks").group_row(3e-4)
    (shown,) = (row for row in rows("sparse_networks", f"{strength:g}") if len(row) == 5)
    assert [100 * accuracy, 100 * zeros] == pytest.approx(shown[1:3], abs=0.3)
    assert units == pytest.approx(shown[3:], abs=0.7)  # of the page's whole numbers


def test_sparse_networks_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("classifier.yaml").write_text(block("sparse_networks", "yaml", "# classifier.yaml"), encoding="utf-8")
    torch.manual_seed(0)
    pixels, _, labels, _ = script("sparse_networks").digits()
    batches = [*zip(pixels.float().split(64), labels.split(64), strict=True)] * 60
    names = {"regspec": regspec, "torch": torch, "F": F, "batches": batches}
    model = run("sparse_networks", block("sparse_networks", "python", "batches"), names)["model"]
    kernels = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    zeros = sum(int((kernel == 0).sum()) for kernel in kernels) / sum(kernel.numel() for kernel in kernels)
    assert 0.7 < zeros < 0.85  # three of four weights go


# -- sparse autoencoders -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("way", "table"), [("with_l1", 0), ("with_kl", 1)])
def test_sparse_autoencoders_table(way: str, table: int) -> None:
    example = script("sparse_autoencoders")
    error, active, mean, silent = example.measured(getattr(example, way)(3e-3))
    _, *shown = rows("sparse_autoencoders", "0.003")[table]
    assert error == pytest.approx(shown[0], rel=0.1)
    assert 100 * active == pytest.approx(shown[1], abs=2)
    assert mean == pytest.approx(shown[2], rel=0.1)
    assert silent == pytest.approx(shown[3], abs=10)


@pytest.mark.everything
def test_sparse_autoencoders_without_the_constraint() -> None:
    example = script("sparse_autoencoders")
    model = example.with_l1(3e-3, decoder="use_bias: true")
    mean, norm = example.measured(model)[2], example.norm_of_units(model)
    said = r"mean activity of\s+([0-9.]+), where it is [0-9.]+ with it, .* norm of ([0-9.]+)"
    shown = re.search(said, page("sparse_autoencoders"))
    assert shown is not None
    assert (mean, norm) == pytest.approx((float(shown[1]), float(shown[2])), rel=0.1)


def test_sparse_autoencoders_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a spec and by hand it is the same training."""
    monkeypatch.chdir(tmp_path)
    Path("autoencoder.yaml").write_text(block("sparse_autoencoders", "yaml", "# autoencoder.yaml"), encoding="utf-8")
    start = regspec.build("autoencoder.yaml", seed=0)
    encoder, decoder = nn.Linear(64, 100), nn.Linear(100, 64)
    encoder.load_state_dict(copy.deepcopy(start.code.state_dict()))
    decoder.load_state_dict(copy.deepcopy(start.reconstruction.state_dict()))
    parameters = [*encoder.parameters(), *decoder.parameters()]
    names: dict[str, Any] = {"regspec": regspec, "torch": torch, "F": F, "batches": torch.rand(20, 13, 64)}
    model = run("sparse_autoencoders", block("sparse_autoencoders", "python", "regspec.build"), {**names})["model"]
    names |= {"encoder": encoder, "decoder": decoder, "optimizer": torch.optim.Adam(parameters, lr=1e-3)}
    run("sparse_autoencoders", block("sparse_autoencoders", "python", "decoder.weight /="), names)
    trained: list[Tensor] = [*model.code.parameters(), *model.reconstruction.parameters()]
    for ours, by_hand in zip(trained, parameters, strict=True):
        torch.testing.assert_close(ours, by_hand, rtol=1e-3, atol=1e-5)
    assert (start.code.weight - encoder.weight).abs().max() > 1e-3


# -- from Keras to PyTorch ---------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras, when it saves
def test_from_keras_to_pytorch(tmp_path: Path) -> None:
    """The files and penalties are those shown; the outputs are Keras's, and stay so for an epoch of training."""
    made = [*script("from_keras_to_pytorch").rows((0, 1), tmp_path / "digits_resnet.keras")]
    shown = [line for line in page("from_keras_to_pytorch").splitlines() if line.startswith("| ")]
    ported, trained = made[:5], made[5:]
    for row in ported:
        what, apart = row.rsplit("|", 2)[0], numbers(row)[-1]
        assert any(line.startswith(what) for line in shown), row
        assert apart < 1e-5
    for row, limit in zip(trained, (1e-5, 1e-3), strict=True):
        _, theirs, ours, apart = numbers(row)
        assert ours == pytest.approx(theirs, abs=0.6)
        assert apart < limit


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_block_that_the_page_shows(tmp_path: Path) -> None:
    example = script("from_keras_to_pytorch")
    example.residual_network().save(tmp_path / "net.keras")
    regspec.port(tmp_path / "net.keras", blocks=True, data_format="channels_first").save(tmp_path / "ported")
    spec = (tmp_path / "ported" / "spec.yaml").read_text(encoding="utf-8")
    assert block("from_keras_to_pytorch", "yaml", "blocks:") in spec


# -- many GPUs ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="torch was built without gloo")
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_many_gpus(processes: int, tmp_path: Path) -> None:
    """What the processes count is as on paper, and stands in the page."""
    done = as_torchrun(processes, run_script, tmp_path, SCRIPTS / "many_gpus.py")
    assert [each.code for each in done] == [0] * processes, done
    counted = done[0].stdout.splitlines()
    assert len(counted) == 7
    assert all(row in page("many_gpus").splitlines() for row in counted)
