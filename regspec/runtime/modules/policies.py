"""Several augmentations of a batch, drawn at random from a list."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from regspec.runtime.modules.augmentation import Augmentation
from regspec.runtime.modules.colors import (
    AutoContrast,
    Equalization,
    RandomBrightness,
    RandomColorDegeneration,
    RandomContrast,
    RandomPosterization,
    RandomSharpness,
    Solarization,
)
from regspec.runtime.modules.warping import RandomRotation, RandomShear, RandomTranslation


class RandAugment(nn.Module):
    """Images changed one after the other by ``num_ops`` augmentations, which the whole batch shares, in training.

    Cubuk et al. (2019), https://arxiv.org/abs/1909.13719.
    """

    def __init__(
        self,
        value_range: tuple[float, float] = (0.0, 255.0),
        num_ops: int = 2,
        factor: tuple[float, float] = (0.0, 0.5),
        *,
        interpolation: str = "bilinear",
    ) -> None:
        super().__init__()
        self.num_ops = num_ops
        self.augmentations = nn.ModuleList(_augmentations(value_range, factor, interpolation))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        drawn: dict[int, tuple[Tensor, ...]] = {}  # one that is chosen twice is done twice alike, as in Keras
        for index in torch.randint(len(self.augmentations), (self.num_ops,)).tolist():
            augmentation = self.augmentations[index]
            if index not in drawn:
                drawn[index] = augmentation.draw(x)
            x = augmentation.transform(x, *drawn[index])
        return x

    def extra_repr(self) -> str:
        return f"num_ops={self.num_ops}"


class AugMix(nn.Module):
    """Images mixed with several versions, each changed by a chain of augmentations, in training.

    The batch shares the chains and the weights of the mixture. Hendrycks et al. (2020),
    https://arxiv.org/abs/1912.02781.
    """

    def __init__(
        self,
        value_range: tuple[float, float] = (0.0, 255.0),
        num_chains: int = 3,
        chain_depth: int = 3,
        factor: tuple[float, float] = (0.0, 0.3),
        *,
        alpha: float = 1.0,
        all_ops: bool = True,
        interpolation: str = "bilinear",
    ) -> None:
        super().__init__()
        self.value_range = value_range
        self.num_chains = num_chains
        self.chain_depth = chain_depth
        self.alpha = alpha
        every = _augmentations(value_range, factor, interpolation)
        self.augmentations = nn.ModuleList(
            every if all_ops else [each for each in every if not isinstance(each, _WITHOUT)]
        )

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        weights = torch.distributions.Dirichlet(torch.full((self.num_chains,), self.alpha)).sample().to(x)
        share = torch.distributions.Beta(self.alpha, self.alpha).sample().to(x)
        mixed = torch.zeros_like(x)
        for weight in weights:
            mixed += weight * self._chain(x)
        return (share * x + (1 - share) * mixed).clamp(*self.value_range)

    def _chain(self, x: Tensor) -> Tensor:
        """The images after a chain of augmentations, each link of which may be none."""
        links = len(self.augmentations) + 1
        for index in torch.randint(links, (self.chain_depth,)).tolist():
            x = self.augmentations[index](x) if index < len(self.augmentations) else x
        return x

    def extra_repr(self) -> str:
        return f"num_chains={self.num_chains}, chain_depth={self.chain_depth}, alpha={self.alpha}"


def _augmentations(
    value_range: tuple[float, float], factor: tuple[float, float], interpolation: str
) -> list[Augmentation]:
    """What both choose from, in Keras's order, with the bounds that Keras gives each."""
    return [
        RandomShear(factor, factor, interpolation=interpolation),
        RandomTranslation(factor, factor, interpolation=interpolation),
        RandomRotation(factor, interpolation=interpolation),
        RandomBrightness(factor, value_range),
        RandomColorDegeneration(factor, value_range),
        RandomContrast(factor, value_range),
        RandomSharpness(factor, value_range),
        RandomPosterization((1, max(1, int(8 * factor[1]))), value_range),
        Solarization(factor, factor, value_range),
        AutoContrast(value_range),
        Equalization(value_range),
    ]


_WITHOUT = (RandomBrightness, RandomColorDegeneration, RandomContrast, RandomSharpness)
