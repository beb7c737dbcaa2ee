"""A WGAN with gradient penalty on scikit-learn's handwritten digits, in a loop of one's own.

The gradient penalty differentiates through the critic's gradient. The critic's other penalties come from its spec: L2
on its kernels, and on its scores for real images, which keeps them from drifting. Run it from anywhere:
``python examples/wgan_gp.py``.
"""

import numpy as np
import regspec
import torch
from scipy.linalg import sqrtm
from sklearn.datasets import load_digits
from torch import Tensor, nn

GENERATOR = """
regspec: 1
name: generator
inputs: {noise: {shape: [32]}}
layers:
  - Dense: {units: 128, activation: relu}
  - Dense: {units: 128, activation: relu}
  - Dense: {name: pixels, units: 64, activation: sigmoid}
"""
CRITIC = """
regspec: 1
name: critic
inputs: {pixels: {shape: [64]}}
regularizers: [{kinds: [Dense], kernel: {l2: 1e-5}}]
layers:
  - Dense: {units: 128, activation: leaky_relu}
  - Dense: {units: 128, activation: leaky_relu}
  - Dense: {name: score, units: 1, activity_regularizer: {l2: 1e-3}}
"""
BATCH, CRITIC_STEPS, STRENGTH = 128, 4, 10.0  # of the gradient penalty


def main(steps: int = 600) -> tuple[float, float, float]:
    """The distances of images from held-out ones: before training, of pixels drawn one by one, and after training."""
    torch.manual_seed(0)
    pixels = torch.tensor(load_digits().data / 16, dtype=torch.float32)[torch.randperm(1797)]
    real, held_out = pixels[:900], pixels[900:]
    generator, critic = regspec.build(GENERATOR, seed=0), regspec.build(CRITIC, seed=1)
    optimizers = [torch.optim.Adam(each.parameters(), lr=5e-4, betas=(0.0, 0.9)) for each in (generator, critic)]

    before = distance(sampled(generator), held_out)
    for step in range(1, steps + 1):
        for _ in range(CRITIC_STEPS):
            batch = real[torch.randint(len(real), (BATCH,))]
            gap, slope = critic_step(critic, optimizers[1], batch, sampled(generator, BATCH))
        optimizers[0].zero_grad()
        (-critic(generator(torch.randn(BATCH, 32))).mean()).backward()
        optimizers[0].step()
        if step % 200 == 0:
            far = distance(sampled(generator), held_out)
            print(f"step {step:4}: the critic's gap {gap:.3f}, its slope {slope:.3f}, distance {far:.3f}")

    shuffled = torch.stack([column[torch.randperm(len(real))] for column in real.T], dim=1)  # each pixel by itself
    after, alone = distance(sampled(generator), held_out), distance(shuffled, held_out)
    print(f"distance from held-out images: {before:.3f} before training, {after:.3f} after it")
    print(f"of pixels drawn one by one {alone:.3f}, of other real images {distance(real, held_out):.3f}")
    return before, alone, after


def critic_step(critic: nn.Module, optimizer: torch.optim.Optimizer, real: Tensor, fake: Tensor) -> tuple[float, float]:
    """A step of the critic; how far its scores are apart, and the norm of its gradient between real and fake."""
    mixed = torch.lerp(real, fake, torch.rand(len(real), 1)).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
    slope = gradient.norm(dim=1)
    fake_score = critic(fake).mean()
    gap = critic(real).mean() - fake_score  # real ones last: the penalty of an output is that of the last forward
    optimizer.zero_grad()
    (-gap + STRENGTH * (slope - 1).square().mean() + critic.regularization_loss()).backward()
    optimizer.step()
    return gap.item(), slope.mean().item()


@torch.no_grad()
def sampled(generator: nn.Module, count: int = 900) -> Tensor:
    return generator(torch.randn(count, 32))


def distance(some: Tensor, others: Tensor) -> float:
    """Fréchet's distance of two sets of images, as Gaussians of their pixels."""
    x, y = some.double().numpy(), others.double().numpy()
    both = np.cov(x.T), np.cov(y.T)
    root = sqrtm(both[0] @ both[1] + 1e-9 * np.eye(64)).real
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(both[0] + both[1] - 2 * root))


if __name__ == "__main__":
    main()
