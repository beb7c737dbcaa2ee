"""Colours of images changed: at random in training, or by their own histogram.

Images are (batch, channels, height, width), their numbers in a ``value_range``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from regspec.runtime.modules.augmentation import Augmentation

BYTES = (0.0, 255.0)


class Recolor(Augmentation):
    """A change of colours by a random factor of each image."""

    def __init__(self, factor: tuple[float, float], value_range: tuple[float, float] = (0.0, 255.0)) -> None:
        super().__init__()
        self.factor = factor
        self.value_range = value_range

    def draw(self, x: Tensor) -> tuple[Tensor]:
        return (self.uniform(self.factor, len(x), 1, 1, 1, like=x).to(x.dtype),)


class RandomBrightness(Recolor):
    """Images made brighter by a share of the value range."""

    def transform(self, x: Tensor, factor: Tensor) -> Tensor:
        low, high = self.value_range
        return (x + factor * (high - low)).clamp(low, high)


class RandomContrast(Recolor):
    """Images whose channels are stretched about their means, by a factor from 1 - the lower to 1 + the upper bound."""

    def draw(self, x: Tensor) -> tuple[Tensor]:
        low, high = self.factor
        return (self.uniform((1 - low, 1 + high), len(x), 1, 1, 1, like=x).to(x.dtype),)

    def transform(self, x: Tensor, factor: Tensor) -> Tensor:
        mean = x.mean((-2, -1), keepdim=True)
        return ((x - mean) * factor + mean).clamp(*self.value_range)


class RandomColorDegeneration(Recolor):
    """Images mixed with their grey versions: 0 leaves them, 1 makes them grey."""

    def transform(self, x: Tensor, factor: Tensor) -> Tensor:
        return (x + factor * (_grey(x) - x)).clamp(*self.value_range)


class RandomGrayscale(Augmentation):
    """Images made grey, with a probability."""

    def __init__(self, factor: float = 0.5) -> None:
        super().__init__()
        self.factor = factor

    def draw(self, x: Tensor) -> tuple[Tensor]:
        return (torch.rand(len(x), 1, 1, 1, device=x.device) < self.factor,)

    def transform(self, x: Tensor, changed: Tensor) -> Tensor:
        return torch.where(changed, _grey(x), x)


class RandomSaturation(Recolor):
    """Images with a saturation of f / (1 - f) times theirs: 0 makes them grey, 0.5 leaves them.

    As in Keras, the saturation is bounded by ``value_range``, though it lies between 0 and 1.
    """

    def draw(self, x: Tensor) -> tuple[Tensor]:
        factor = self.uniform(self.factor, len(x), 1, 1, 1, like=x)
        return ((factor / (1 - factor + 1e-7)).to(x.dtype),)

    def transform(self, x: Tensor, factor: Tensor) -> Tensor:
        hue, saturation, value = _hue_saturation_value(x)
        return _red_green_blue(hue, (saturation * factor).clamp(*self.value_range), value)


class RandomHue(Recolor):
    """Images whose hues are turned one way or the other, by up to half of the circle of colours."""

    def draw(self, x: Tensor) -> tuple[Tensor]:
        sign = torch.where(torch.rand(len(x), 1, 1, 1, device=x.device) > 0.5, -0.5, 0.5)
        return ((sign * self.uniform(self.factor, len(x), 1, 1, 1, like=x)).to(x.dtype),)

    def transform(self, x: Tensor, turn: Tensor) -> Tensor:
        hue, saturation, value = _hue_saturation_value(_rescaled(x, self.value_range, (0, 1)))
        turned = _red_green_blue(hue + turn, saturation, value).clamp(0, 1)
        return _rescaled(turned, (0, 1), self.value_range)


class RandomInvert(Recolor):
    """Negatives of images: the upper bound of the values less theirs, with a probability."""

    def __init__(
        self, factor: tuple[float, float] = (0.0, 1.0), value_range: tuple[float, float] = (0.0, 255.0)
    ) -> None:
        super().__init__(factor, value_range)

    def draw(self, x: Tensor) -> tuple[Tensor]:
        return (self.chance(self.factor, x),)

    def transform(self, x: Tensor, changed: Tensor) -> Tensor:
        return torch.where(changed, self.value_range[1] - x, x)


class RandomPosterization(Augmentation):
    """Images reduced to the first of their eight bits: as many as drawn, from the lower bound to the upper - 1."""

    def __init__(self, factor: tuple[int, int], value_range: tuple[float, float] = (0.0, 255.0)) -> None:
        super().__init__()
        self.factor = factor
        self.value_range = value_range

    def draw(self, x: Tensor) -> tuple[Tensor]:
        low, high = self.factor
        return (torch.randint(low, max(high, low + 1), (len(x), 1, 1, 1), device=x.device),)

    def transform(self, x: Tensor, bits: Tensor) -> Tensor:
        step = 2 ** (8 - bits)
        values = _rescaled(x, self.value_range, BYTES).clamp(*BYTES).long() // step * step
        return _rescaled(values.to(x.dtype), BYTES, self.value_range)


class RandomSharpness(Recolor):
    """Images blurred (0), left as they are (0.5), or sharpened (1)."""

    def transform(self, x: Tensor, factor: Tensor) -> Tensor:
        kernel = x.new_full((3, 3), 1 / 13)
        kernel[1, 1] = 5 / 13
        smooth = F.conv2d(x, kernel.expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])
        return (x + (1 - 2 * factor) * (smooth - x)).clamp(*self.value_range)


class Solarization(Augmentation):
    """Images to which a number is added, and whose values from a threshold up are then inverted, in training.

    Both numbers are drawn for each image, on a scale of 255: from the lower bound itself to 255 times the upper bound,
    as in Keras.
    """

    def __init__(
        self,
        addition_factor: tuple[float, float] = (0.0, 0.0),
        threshold_factor: tuple[float, float] = (0.0, 0.0),
        value_range: tuple[float, float] = (0.0, 255.0),
    ) -> None:
        super().__init__()
        self.addition_factor = addition_factor
        self.threshold_factor = threshold_factor
        self.value_range = value_range

    def draw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        (low, high), (floor, roof) = self.addition_factor, self.threshold_factor
        addition = self.uniform((low, 255 * high), len(x), 1, 1, 1, like=x)
        return addition.to(x.dtype), self.uniform((floor, 255 * roof), len(x), 1, 1, 1, like=x).to(x.dtype)

    def transform(self, x: Tensor, addition: Tensor, threshold: Tensor) -> Tensor:
        values = (_rescaled(x, self.value_range, BYTES) + addition).clamp(*BYTES)
        return _rescaled(torch.where(values < threshold, values, 255 - values), BYTES, self.value_range)


class AutoContrast(Augmentation):
    """Images whose channels are stretched to the whole value range, in evaluation too; a channel of one value stays."""

    def __init__(self, value_range: tuple[float, float] = (0.0, 255.0)) -> None:
        super().__init__()
        self.value_range = value_range

    def draw(self, x: Tensor) -> tuple[()]:
        return ()

    def transform(self, x: Tensor) -> Tensor:
        low, high = self.value_range
        darkest, brightest = x.amin((-2, -1), keepdim=True), x.amax((-2, -1), keepdim=True)
        is_flat = brightest == darkest
        share = (x - darkest) / torch.where(is_flat, 1.0, brightest - darkest)
        return torch.where(is_flat, x, (share * (high - low) + low).clamp(low, high))

    def forward(self, x: Tensor) -> Tensor:
        return self.transform(x)


class Equalization(Augmentation):
    """Images whose values are spread evenly, in training: by one histogram for each channel of the whole batch."""

    def __init__(self, value_range: tuple[float, float] = (0.0, 255.0), bins: int = 256) -> None:
        super().__init__()
        self.value_range = value_range
        self.bins = bins

    def draw(self, x: Tensor) -> tuple[()]:
        return ()

    def transform(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        scaled = _rescaled(x, self.value_range, BYTES) / 255 * (self.bins - 1)
        indices = scaled.clamp(0, self.bins - 1).long().transpose(0, 1).flatten(1)
        counts = indices.new_zeros(channels, self.bins).scatter_add_(1, indices, torch.ones_like(indices))
        below = counts.cumsum(1)
        total = below[:, -1:]
        first = torch.where(below > 0, below, total).amin(1, keepdim=True)
        table = ((below - first) * 255 / (total - first).clamp_min(1)).round().clamp(*BYTES)
        values = table.gather(1, indices).view(channels, len(x), *x.shape[2:]).transpose(0, 1)
        is_flat = (counts > 0).sum(1).view(-1, 1, 1) <= 1
        return torch.where(is_flat, x, _rescaled(values.to(x.dtype), BYTES, self.value_range))


class ContrastLimitedAdaptiveHistogramEqualization(nn.Module):
    """Images whose values are spread evenly in each of many tiles, in evaluation too.

    A tile's histogram is cut off at ``clip_limit`` times its mean, and what is cut off shared out; between the middles
    of tiles their mappings are interpolated. Zuiderveld (1994), Contrast limited adaptive histogram equalization.
    ``as_on_torch`` does what Keras's torch backend does: it cuts the limit to a whole number, and beyond the border it
    repeats the last pixels, where the other backends mirror the image.
    """

    def __init__(
        self,
        value_range: tuple[float, float] = (0.0, 255.0),
        clip_limit: float = 4.0,
        tile_grid_size: tuple[int, int] = (8, 8),
        *,
        as_on_torch: bool = False,
    ) -> None:
        super().__init__()
        self.value_range = value_range
        self.clip_limit = clip_limit
        self.tile_grid_size = tile_grid_size
        self.as_on_torch = as_on_torch

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, high, wide = x.shape
        values = _rescaled(x.float(), self.value_range, BYTES).clamp(*BYTES).long()
        tile = tuple(-(-size // count) for size, count in zip((high, wide), self.tile_grid_size, strict=True))
        rows, columns = (
            self._beyond(size, cells * count, x)
            for size, cells, count in zip((high, wide), tile, self.tile_grid_size, strict=True)
        )
        tables = self._tables(values[..., rows.unsqueeze(1), columns], tile)
        downs, acrosses = (
            _between(size, cells, count, x)
            for size, cells, count in zip((high, wide), tile, self.tile_grid_size, strict=True)
        )
        images = torch.arange(batch * channels, device=x.device).view(batch, channels, 1, 1)
        result = torch.zeros_like(values, dtype=torch.float32)
        for row, row_weight in downs:
            for column, column_weight in acrosses:
                tiles = (images * self.tile_grid_size[0] + row.unsqueeze(1)) * self.tile_grid_size[1] + column
                result += tables[tiles * 256 + values] * (row_weight.unsqueeze(1) * column_weight)
        return _rescaled(result, BYTES, self.value_range).to(x.dtype)

    def _beyond(self, size: int, wanted: int, like: Tensor) -> Tensor:
        """The indices from 0 to ``wanted`` - 1; from ``size`` on they run backwards, or stay at the last."""
        cells = torch.arange(wanted, device=like.device)
        if self.as_on_torch:
            return cells.clamp_max(size - 1)
        cells = cells % (2 * size)
        return torch.minimum(cells, 2 * size - 1 - cells)

    def _tables(self, values: Tensor, tile: tuple[int, ...]) -> Tensor:
        """What each of 256 values becomes in each tile: (batch * channels * tiles * 256)."""
        (down, across), area = self.tile_grid_size, tile[0] * tile[1]
        tiles = values.reshape(-1, down, tile[0], across, tile[1]).transpose(2, 3).reshape(-1, area)
        counts = torch.zeros(len(tiles), 256, device=values.device)
        counts.scatter_add_(1, tiles, torch.ones_like(tiles, dtype=torch.float32))
        if self.clip_limit > 0:
            limit = self.clip_limit * area / 256
            kept = counts.clamp_max(int(limit) if self.as_on_torch else limit)
            counts = kept + (counts - kept).sum(1, keepdim=True) / 256
        below = counts.cumsum(1)
        first = below[:, :1]
        rest = area - first
        return ((below - first) * 255 / torch.where(rest == 0, 1.0, rest)).clamp(*BYTES).flatten()

    def extra_repr(self) -> str:
        return f"value_range={self.value_range}, clip_limit={self.clip_limit}, tile_grid_size={self.tile_grid_size}"


def _between(size: int, cells: int, count: int, like: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each pixel along an axis the tiles before and after it, each with its weight."""
    place = (torch.arange(size, device=like.device) - cells / 2) / cells
    before = place.floor()
    share = place - before
    return [
        (before.long().clamp(0, count - 1), 1 - share),
        ((before.long() + 1).clamp(0, count - 1), share),
    ]


def _grey(x: Tensor) -> Tensor:
    """The brightness (batch, 1, height, width) of red, green and blue; of one channel, itself."""
    if x.shape[1] == 1:
        return x
    red, green, blue = x.split(1, 1)
    grey: Tensor = 0.2989 * red + 0.587 * green + 0.114 * blue
    return grey


def _hue_saturation_value(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue and saturation from 0 to 1, and value, each (batch, 1, height, width), of red, green and blue."""
    red, green, blue = torch.where(x.abs() < torch.finfo(x.dtype).eps, 0.0, x).split(1, 1)
    value = torch.maximum(torch.maximum(red, green), blue)
    spread = value - torch.minimum(torch.minimum(red, green), blue)
    sixth = 6 * torch.where(spread > 0, spread, 1.0)
    hue = torch.where(value == green, (blue - red) / sixth + 1 / 3, (red - green) / sixth + 2 / 3)
    hue = torch.where(value == red, (green - blue) / sixth, hue) % 1
    saturation = torch.where(value > 0, spread / torch.where(value > 0, value, 1.0), 0.0)
    return hue, saturation, value


def _red_green_blue(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Images of red, green and blue from hue, saturation and value."""
    sector = hue % 1 * 6
    shares = ((sector - 3).abs() - 1, 2 - (sector - 2).abs(), 2 - (sector - 4).abs())
    return torch.cat([value * (1 - saturation + saturation * share.clamp(0, 1)) for share in shares], 1)


def _rescaled(x: Tensor, old: tuple[float, float], new: tuple[float, float]) -> Tensor:
    """Numbers mapped from one range to another."""
    if old == new:
        return x
    return (x - old[0]) / (old[1] - old[0]) * (new[1] - new[0]) + new[0]
