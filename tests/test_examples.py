"""The examples: each spec compiles to the source kept beside it, and runs; the scripts do what they say."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

import regspec

from .layers.specs import inputs_of

FOLDER = Path(__file__).parent.parent / "examples"
SPECS = sorted(FOLDER.glob("*.yaml"))
SCRIPTS = {"contrastive", "lightning_module", "training_loop", "wgan_gp"}

of_every_spec = pytest.mark.parametrize("path", SPECS, ids=[path.stem for path in SPECS])


def module_of(path: Path) -> ModuleType:
    found = importlib.util.spec_from_file_location(f"examples_{path.stem}", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@of_every_spec
def test_source_is_the_one_beside_it(path: Path) -> None:
    """If this fails, look at the new source, then: regspec compile examples/<name>.yaml -o examples/<name>.py."""
    assert regspec.source(path) == path.with_suffix(".py").read_text(encoding="utf-8")


@of_every_spec
def test_source_beside_it_is_what_build_runs(path: Path) -> None:
    model = regspec.build(path, seed=0).eval()
    kept = getattr(module_of(path.with_suffix(".py")), type(model).__name__)().eval()
    kept.load_state_dict(model.state_dict())
    inputs = inputs_of(regspec.load(path), below=100)
    torch.testing.assert_close(kept(*inputs), model(*inputs), rtol=0, atol=0)
    torch.testing.assert_close(kept.regularization_terms(), model.regularization_terms(), rtol=0, atol=0)


@of_every_spec
def test_every_term_has_a_gradient(path: Path) -> None:
    model = regspec.build(path, seed=0)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(0.1)  # an L1 or L2 penalty has no gradient at zero
    model.set_schedules(10_000)  # where the strengths that follow schedules have come to
    model(*inputs_of(regspec.load(path), below=100))
    for name, term in model.regularization_terms().items():
        gradients = torch.autograd.grad(term, trained, allow_unused=True, retain_graph=True)
        assert any(gradient is not None and gradient.any() for gradient in gradients), name


@of_every_spec
def test_editor_finds_the_schema(path: Path) -> None:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    schema = FOLDER / first.removeprefix("# yaml-language-server: $schema=")
    assert json.loads(schema.read_text(encoding="utf-8"))["title"] == "A regspec spec"


def test_every_file_is_of_a_spec_or_a_script() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == {path.stem for path in SPECS} | SCRIPTS


def test_training_loop_learns(capsys: pytest.CaptureFixture[str]) -> None:
    error, activity = module_of(FOLDER / "training_loop.py").main(epochs=10)
    assert error < 0.04  # that of the mean image is 0.073
    assert activity < 0.3
    assert "code.activity" in capsys.readouterr().out


def test_vae_learns() -> None:
    """Against the mean image, whose cross-entropy is 27.1; while the weight of the divergence grows to its full one."""
    torch.manual_seed(0)
    x = torch.tensor(load_digits().data / 16, dtype=torch.float32)
    model = regspec.build(FOLDER / "vae.yaml", seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    regspec.bind(model, optimizer)
    for _ in range(8):
        for batch in x[torch.randperm(len(x))].split(64):
            optimizer.zero_grad()
            error = cross_entropy(model(batch)["logits"], batch)
            (error + model.regularization_loss()).backward()
            optimizer.step()
    assert regspec.strengths(model) == {"z.kl.gaussian_kl": pytest.approx(8 * 29 / 2000)}
    assert cross_entropy(model.eval()(x)["logits"], x) < 22


def cross_entropy(logits: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Summed over the features, of one sample on average."""
    return F.binary_cross_entropy_with_logits(logits, pixels, reduction="sum") / len(pixels)


def test_wgan_gp_learns(capsys: pytest.CaptureFixture[str]) -> None:
    """What it draws is nearer to held-out images than pixels that are drawn one by one; at the end, by far."""
    before, alone, after = module_of(FOLDER / "wgan_gp.py").main(steps=150)
    assert after < 0.8 * alone < alone < before
    assert "distance from held-out images" in capsys.readouterr().out


def test_the_gradient_penalty_is_that_of_plain_torch() -> None:
    """The critic's step, with layers of torch and all penalties written out."""
    module = module_of(FOLDER / "wgan_gp.py")
    critic = regspec.build(module.CRITIC, seed=1)
    first, second, last = (
        nn.Linear(each.in_features, each.out_features) for each in critic.children() if is_linear(each)
    )
    plain = nn.Sequential(first, nn.LeakyReLU(0.2), second, nn.LeakyReLU(0.2), last)
    plain.load_state_dict(dict(zip(plain.state_dict(), critic.state_dict().values(), strict=True)))
    real, fake = torch.rand(5, 64), torch.rand(5, 64)
    torch.manual_seed(3)
    module.critic_step(critic, torch.optim.SGD(critic.parameters(), lr=0.1), real, fake)
    torch.manual_seed(3)
    share = torch.rand(5, 1)
    mixed = (real + share * (fake - real)).requires_grad_()
    (gradient,) = torch.autograd.grad(plain(mixed).sum(), mixed, create_graph=True)
    kernels = sum(layer.weight.square().sum() for layer in (first, second, last))
    scores = plain(real)
    loss = plain(fake).mean() - scores.mean() + 10 * (gradient.norm(dim=1) - 1).square().mean()
    (loss + 1e-5 * kernels + 1e-3 * scores.square().sum() / 5).backward()
    for parameter, own in zip(plain.parameters(), critic.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter - 0.1 * parameter.grad, own)


def is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)


def test_contrastive_learning_learns() -> None:
    """Better than pixels, and than the same features before training; which are worse than pixels."""
    pixels, before, after = module_of(FOLDER / "contrastive.py").main(epochs=4)
    assert before < pixels < after - 0.02


def test_info_nce() -> None:
    """By its formula: for each view, the share of the other one of its image among all others."""
    one, other = torch.randn(4, 3), torch.randn(4, 3)
    views = [x / x.norm() for x in (*one, *other)]
    loss = 0.0
    for i, x in enumerate(views):
        scores = [torch.exp(x @ y / 0.2) for j, y in enumerate(views) if j != i]
        loss = loss - torch.log(torch.exp(x @ views[(i + 4) % 8] / 0.2) / sum(scores)) / 8
    torch.testing.assert_close(module_of(FOLDER / "contrastive.py").info_nce(one, other), loss)


def test_any_module_learns_and_has_exact_zeros() -> None:
    accuracy, zeros = module_of(FOLDER / "recipes" / "any_module.py").main(epochs=4)
    assert accuracy > 0.9
    assert zeros > 0.2


@pytest.mark.filterwarnings("ignore")  # of Lightning and what it imports
def test_lightning_module_learns() -> None:
    assert module_of(FOLDER / "lightning_module.py").main(epochs=2) > 0.8
