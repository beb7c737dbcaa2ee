"""Images changed at random in training, each by its own draw: flipped, cropped, erased, blurred, mixed.

Images are (batch, channels, height, width). The distributions are Keras's; the numbers are from torch's generator.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Augmentation(nn.Module):
    """A change of images in training; in evaluation they stay as they are.

    ``draw`` gives the random parameters for a batch, ``transform`` the batch changed by them.
    """

    draw: Callable[..., tuple[Tensor, ...]]
    transform: Callable[..., Tensor]

    def forward(self, x: Tensor) -> Tensor:
        return self.transform(x, *self.draw(x)) if self.training else x

    def uniform(self, bounds: tuple[float, float], *shape: int, like: Tensor) -> Tensor:
        """Numbers between the bounds, in float32, where ``like`` is."""
        low, high = bounds
        return low + (high - low) * torch.rand(shape, device=like.device)

    def chance(self, bounds: tuple[float, float], x: Tensor) -> Tensor:
        """Which images are changed (batch, 1, 1, 1): each with a probability that is drawn between the bounds."""
        probability = self.uniform(bounds, len(x), 1, 1, 1, like=x)
        return torch.rand_like(probability) < probability

    def extra_repr(self) -> str:
        own = {name: value for name, value in vars(self).items() if not name.startswith("_") and name != "training"}
        return ", ".join(f"{name}={value!r}" for name, value in own.items())


class RandomFlip(Augmentation):
    """Half of the images mirrored; with ``horizontal_and_vertical`` those are mirrored in both directions."""

    def __init__(self, mode: str = "horizontal_and_vertical") -> None:
        super().__init__()
        self.mode = mode

    def draw(self, x: Tensor) -> tuple[Tensor]:
        return (torch.rand(len(x), 1, 1, 1, device=x.device) <= 0.5,)

    def transform(self, x: Tensor, flipped: Tensor) -> Tensor:
        dims = {"horizontal": [-1], "vertical": [-2], "horizontal_and_vertical": [-2, -1]}
        return torch.where(flipped, x.flip(dims[self.mode]), x)


class RandomCrop(Augmentation):
    """A window of the images, at one random place for the whole batch.

    In evaluation, the largest window in the middle that has the target's aspect ratio, resized. Where the images are
    not larger than the window, it lies in the middle too, and is resized if they are smaller.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height = height
        self.width = width

    def draw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        places = x.shape[-2] - self.height + 1, x.shape[-1] - self.width + 1
        top, left = (torch.randint(count, (), device=x.device) for count in places)
        return top, left

    def transform(self, x: Tensor, top: Tensor, left: Tensor) -> Tensor:
        rows = top + torch.arange(self.height, device=x.device)
        columns = left + torch.arange(self.width, device=x.device)
        return x.index_select(-2, rows).index_select(-1, columns)

    def forward(self, x: Tensor) -> Tensor:
        high, wide = x.shape[-2:]
        if self.training and high > self.height and wide > self.width:
            return self.transform(x, *self.draw(x))
        window_high = max(min(high, wide * self.height // self.width), 1)
        window_wide = max(min(wide, high * self.width // self.height), 1)
        top, left = (high - window_high) // 2, (wide - window_wide) // 2
        if self.training:  # as Keras does: a window of the whole size, as far as the images reach
            window_high, window_wide = self.height, self.width
        x = x[..., top : top + window_high, left : left + window_wide]
        size = (self.height, self.width)
        return x if x.shape[-2:] == size else F.interpolate(x, size, mode="bilinear")


class RandomErasing(Augmentation):
    """Images with a rectangle of noise, or of a given value.

    ``scale`` bounds the square of its share of the height, and of the width; ``factor`` the probability.
    """

    def __init__(
        self,
        factor: tuple[float, float] = (0.0, 1.0),
        scale: tuple[float, float] = (0.02, 0.33),
        *,
        fill_value: float | tuple[float, ...] | None = None,
        value_range: tuple[float, float] = (0.0, 255.0),
    ) -> None:
        super().__init__()
        self.factor = factor
        self.scale = scale
        self.fill_value = fill_value
        self.value_range = value_range

    def draw(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        share = self.uniform(self.scale, len(x), 2, like=x).sqrt()
        inside = _rectangle(x, share[:, 0], share[:, 1], torch.rand(len(x), 2, device=x.device))
        return self.chance(self.factor, x), inside, self._fill(x)

    def _fill(self, x: Tensor) -> Tensor:
        if self.fill_value is None:
            fill = torch.randn_like(x) * self.value_range[1]
        elif isinstance(self.fill_value, tuple):
            fill = torch.tensor(self.fill_value, dtype=x.dtype, device=x.device).view(-1, 1, 1)
        else:
            fill = x.new_full((), self.fill_value)
        return fill.clamp(*self.value_range)

    def transform(self, x: Tensor, erased: Tensor, inside: Tensor, fill: Tensor) -> Tensor:
        return torch.where(erased & inside, fill, x)


def _rectangle(x: Tensor, wide: Tensor, high: Tensor, place: Tensor) -> Tensor:
    """Which pixels (batch, 1, height, width) lie in a rectangle of each image.

    Its width and height (batch) are shares of the image's; its place (batch, 2) is given as shares of the free space.
    """
    within = []
    for size, share, start in ((x.shape[-2], high, place[:, 1]), (x.shape[-1], wide, place[:, 0])):
        length = share * size
        first = (start * (size - length)).unsqueeze(1)
        cells = torch.arange(size, device=x.device)
        within.append((cells >= first) & (cells < first + length.unsqueeze(1)))
    rows, columns = within
    return (rows.unsqueeze(-1) & columns.unsqueeze(-2)).unsqueeze(1)


class RandomGaussianBlur(Augmentation):
    """Images blurred by a Gaussian kernel, one for the whole batch, beyond whose borders lie zeros."""

    def __init__(
        self,
        factor: tuple[float, float] = (0.0, 1.0),
        *,
        kernel_size: int = 3,
        sigma: tuple[float, float] = (0.0, 1.0),
        value_range: tuple[float, float] = (0.0, 255.0),
    ) -> None:
        super().__init__()
        self.factor = factor
        self.kernel_size = kernel_size
        self.sigma = sigma
        self.value_range = value_range

    def draw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.chance(self.factor, x), self.uniform(self.sigma, 2, like=x) + 1e-6

    def transform(self, x: Tensor, blurred: Tensor, deviations: Tensor) -> Tensor:
        """``deviations`` are those along the width and along the height."""
        cells = torch.arange(self.kernel_size, device=x.device) - (self.kernel_size - 1) / 2
        kernels = (-0.5 * (cells / deviations.unsqueeze(1)).square()).exp()
        across, down = (kernels / kernels.sum(1, keepdim=True)).to(x.dtype)
        return torch.where(blurred, _convolved(x, down, across), x).clamp(*self.value_range)


def _convolved(x: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Each channel convolved with kernels (odd,) along its height and its width; zeros lie around it."""
    channels, size = x.shape[1], len(down)
    x = F.conv2d(x, down.view(1, 1, -1, 1).expand(channels, 1, -1, 1), padding=(size // 2, 0), groups=channels)
    return F.conv2d(x, across.view(1, 1, 1, -1).expand(channels, 1, 1, -1), padding=(0, size // 2), groups=channels)


class MixUp(Augmentation):
    """Each image mixed with another of the batch, ``weight * x + (1 - weight) * other``; labels are not.

    Zhang et al. (2018), https://arxiv.org/abs/1710.09412.
    """

    def __init__(self, alpha: float = 0.2) -> None:
        super().__init__()
        self.alpha = alpha

    def draw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weight = torch.distributions.Beta(self.alpha, self.alpha).sample((len(x), 1, 1, 1))
        return weight.to(x), torch.randperm(len(x), device=x.device)

    def transform(self, x: Tensor, weight: Tensor, other: Tensor) -> Tensor:
        return weight * x + (1 - weight) * x[other]


class CutMix(Augmentation):
    """Images with a rectangle of another of the batch; labels are not mixed.

    Yun et al. (2019), https://arxiv.org/abs/1905.04899.
    """

    def __init__(self, factor: tuple[float, float] = (0.0, 1.0)) -> None:
        super().__init__()
        self.factor = factor

    def draw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        alpha = self.uniform(self.factor, like=torch.empty(0)) + 1e-6
        share = (1 - torch.distributions.Beta(alpha, alpha).sample((len(x),))).sqrt().to(x.device)
        inside = _rectangle(x, share, share, torch.rand(len(x), 2, device=x.device))
        return inside, torch.randperm(len(x), device=x.device)

    def transform(self, x: Tensor, inside: Tensor, other: Tensor) -> Tensor:
        return torch.where(inside, x[other], x)
