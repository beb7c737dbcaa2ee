"""The tables and the figure of sparse_autoencoders.md: reconstruction error against active units, on digits.

Run it from anywhere: ``python examples/pages/sparse_autoencoders.py``. It prints the tables' rows, and with
``--figure sparse_autoencoders.png`` it draws.
"""

import argparse
from functools import cache

import regspec
import torch
from regspec.runtime import Regularized
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn import functional as F

SPEC = """
regspec: 1
name: autoencoder
inputs: {{pixels: {{shape: [64]}}}}
layers:
  - Dense: {{name: code, units: 100, activation: {activation}, activity_regularizer: {regularizer}}}
  - Dense: {{name: reconstruction, units: 64, {decoder}}}
outputs: {{reconstruction: reconstruction, code: code}}
"""
UNIT_NORM = "kernel_constraint: {unit_norm: {axis: 1}}"
EPOCHS, ACTIVE = 60, 0.1  # a unit is active where its output is larger
STRENGTHS = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Pixels to train on, and pixels held out."""
    pixels = torch.tensor(load_digits().data / 16, dtype=torch.float32)
    train, held_out = train_test_split(pixels, test_size=0.2, random_state=0)
    return train, held_out


@cache
def with_l1(strength: float, decoder: str = UNIT_NORM) -> Regularized:
    """An autoencoder with an L1 on the outputs of ReLUs."""
    return trained(SPEC.format(activation="relu", regularizer=f"{{l1: {strength!r}}}", decoder=decoder), 1e-3)


@cache
def with_kl(strength: float) -> Regularized:
    """An autoencoder whose sigmoids are drawn to a mean of 0.05."""
    regularizer = f"{{kl_sparsity: {{strength: {strength!r}, target: 0.05}}}}"
    return trained(SPEC.format(activation="sigmoid", regularizer=regularizer, decoder="activation: sigmoid"), 3e-3)


def trained(text: str, rate: float) -> Regularized:
    model = regspec.build(regspec.loads(text), seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    regspec.bind(model, optimizer)  # for the constraint
    pixels, _ = digits()
    generator = torch.Generator().manual_seed(0)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(pixels), generator=generator).split(64):
            batch = pixels[rows]
            optimizer.zero_grad()
            loss = F.mse_loss(model(batch)["reconstruction"], batch) + model.regularization_loss()
            loss.backward()
            optimizer.step()
    return model


@torch.no_grad()
def measured(model: Regularized) -> tuple[float, float, float, int]:
    """On held-out digits: the error, the share of active units, the mean activity, and the units that never are."""
    _, pixels = digits()
    output = model(pixels)
    code, error = output["code"], F.mse_loss(output["reconstruction"], pixels)
    is_active = code > ACTIVE
    return error.item(), is_active.float().mean().item(), code.mean().item(), int((~is_active.any(0)).sum())


@torch.no_grad()
def norm_of_units(model: Regularized) -> float:
    """The mean norm of what a unit that is ever active adds to the reconstruction."""
    is_used = (model(digits()[1])["code"] > ACTIVE).any(0)
    return model.reconstruction.weight.T[is_used].norm(dim=1).mean().item()


def row(strength: float, model: Regularized) -> str:
    error, active, mean, dead = measured(model)
    return f"| {strength:g} | {error:.4f} | {100 * active:.1f} | {mean:.3f} | {dead} |"


def draw(path: str) -> None:
    """The digit that each unit adds: its weights in the decoder, of the forty units that are active most."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    models = {
        "No penalty": with_l1(0.0),
        "L1, strength 0.003": with_l1(3e-3),
        "KL to 0.05, strength 0.003": with_kl(3e-3),
    }
    figure, panels = pyplot.subplots(1, 3, figsize=(8.5, 4.9), layout="constrained")
    for axes, (title, model) in zip(panels, models.items(), strict=True):
        with torch.no_grad():
            often = (model(digits()[1])["code"] > ACTIVE).float().mean(0)
        features = model.reconstruction.weight.detach().T[often.argsort(descending=True)[:40]]
        features = features / features.abs().amax(1, keepdim=True)
        framed = F.pad(features.reshape(8, 5, 8, 8), (1, 1, 1, 1), value=float("nan"))
        axes.imshow(framed.permute(0, 2, 1, 3).reshape(80, 50), cmap="RdBu_r", vmin=-1, vmax=1)
        error, active, *_ = measured(model)
        axes.set_title(f"{title}\n{active:.0%} of the units active, error {error:.4f}", fontsize=9)
        axes.axis("off")
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--figure")
    path = parser.parse_args().figure
    torch.set_num_threads(1)
    for make in (with_l1, with_kl):
        for strength in STRENGTHS:
            print(row(strength, make(strength)), flush=True)
    unconstrained = with_l1(3e-3, decoder="use_bias: true")
    print(f"{row(3e-3, unconstrained)} norm of a unit's weights {norm_of_units(unconstrained):.2f}")
    if path is not None:
        draw(path)


if __name__ == "__main__":
    main()
