"""Images changed at random in training by moving their pixels: turned, zoomed, shifted, sheared, bent.

A change is given by the place in the old image of each pixel of the new one.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from regspec.runtime.modules.augmentation import Augmentation


class Warp(Augmentation):
    """A change of where pixels lie.

    Beyond the borders lies what ``fill_mode`` says: ``constant`` the ``fill_value``; ``nearest`` the border's pixel
    (a a | a b c | c c); ``reflect`` the image mirrored (b a | a b c | c b); ``mirror`` the same without the border's
    pixel twice (c b | a b c | b a); ``wrap`` the image again (b c | a b c | a b).
    """

    def __init__(self, *, interpolation: str = "bilinear", fill_mode: str = "reflect", fill_value: float = 0.0) -> None:
        super().__init__()
        self.interpolation = interpolation
        self.fill_mode = fill_mode
        self.fill_value = fill_value

    def affine(self, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """The images whose pixel (column, row) is the old ones' at (a0 column + a1 row + a2, b0 column + b1 row + b2).

        Both ``a`` and ``b`` are (batch, 3).
        """
        rows, columns = _pixels(x)
        across, down = (
            each[:, 0] * columns + each[:, 1] * rows + each[:, 2] for each in (a.view(-1, 3, 1, 1), b.view(-1, 3, 1, 1))
        )
        return self.sample(x, down, across)

    def sample(self, x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """The images' values at these places (batch, height, width), counted in pixels."""
        high, wide = x.shape[-2:]
        if self.interpolation == "nearest":
            rows, columns = rows.round(), columns.round()
        rows, columns = self._inside(rows, high), self._inside(columns, wide)
        image = x if x.dtype is torch.float64 else x.float()
        if self.fill_mode == "constant":
            image = image - self.fill_value  # beyond the border grid_sample has zeros
        elif self.fill_mode == "wrap":
            image, high, wide = F.pad(image, (0, 1, 0, 1), mode="circular"), high + 1, wide + 1
        grid = torch.stack([(2 * columns + 1) / wide - 1, (2 * rows + 1) / high - 1], -1).to(image.dtype)
        padding = "zeros" if self.fill_mode == "constant" else "border"
        values = F.grid_sample(image, grid, self.interpolation, padding, align_corners=False)
        return (values + self.fill_value if self.fill_mode == "constant" else values).to(x.dtype)

    def _inside(self, places: Tensor, size: int) -> Tensor:
        """Places beyond the border as those within that hold the same value."""
        if self.fill_mode == "reflect":
            return (size - 0.5 - ((places + 0.5) % (2 * size) - size).abs()).clamp(0, size - 1)
        if self.fill_mode == "mirror":
            period = max(size - 1, 1)
            return ((places + period) % (2 * period) - period).abs().clamp(0, size - 1)
        return places % size if self.fill_mode == "wrap" else places


def _pixels(x: Tensor) -> tuple[Tensor, Tensor]:
    """The rows (height, 1) and the columns (width) of an image's pixels."""
    high, wide = x.shape[-2:]
    return torch.arange(high, device=x.device).unsqueeze(1), torch.arange(wide, device=x.device)


class RandomRotation(Warp):
    """Images turned about their middle, by a share of the full circle between the bounds of ``factor``."""

    def __init__(self, factor: tuple[float, float], **warp: Any) -> None:
        super().__init__(**warp)
        self.factor = factor

    def draw(self, x: Tensor) -> tuple[Tensor]:
        return (self.uniform(self.factor, len(x), like=x) * (2 * math.pi),)

    def transform(self, x: Tensor, angle: Tensor) -> Tensor:
        middle_row, middle_column = ((size - 1) / 2 for size in x.shape[-2:])
        cos, sin = angle.cos(), angle.sin()
        a = torch.stack([cos, -sin, middle_column * (1 - cos) + middle_row * sin], 1)
        b = torch.stack([sin, cos, middle_row * (1 - cos) - middle_column * sin], 1)
        return self.affine(x, a, b)


class RandomZoom(Warp):
    """Images zoomed about their middle: out by a share between the bounds, or in where it is negative.

    Without a ``width_factor`` height and width are zoomed alike.
    """

    def __init__(
        self, height_factor: tuple[float, float], width_factor: tuple[float, float] | None = None, **warp: Any
    ) -> None:
        super().__init__(**warp)
        self.height_factor = height_factor
        self.width_factor = width_factor

    def draw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        high = 1 + self.uniform(self.height_factor, len(x), like=x)
        wide = high if self.width_factor is None else 1 + self.uniform(self.width_factor, len(x), like=x)
        return high, wide

    def transform(self, x: Tensor, high: Tensor, wide: Tensor) -> Tensor:
        middle_row, middle_column = ((size - 1) / 2 for size in x.shape[-2:])
        zero = torch.zeros_like(high)
        a = torch.stack([wide, zero, middle_column * (1 - wide)], 1)
        b = torch.stack([zero, high, middle_row * (1 - high)], 1)
        return self.affine(x, a, b)


class RandomTranslation(Warp):
    """Images shifted down and to the right by shares of their height and width between the bounds."""

    def __init__(self, height_factor: tuple[float, float], width_factor: tuple[float, float], **warp: Any) -> None:
        super().__init__(**warp)
        self.height_factor = height_factor
        self.width_factor = width_factor

    def draw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.uniform(self.height_factor, len(x), like=x), self.uniform(self.width_factor, len(x), like=x)

    def transform(self, x: Tensor, down: Tensor, right: Tensor) -> Tensor:
        one, zero = torch.ones_like(down), torch.zeros_like(down)
        a = torch.stack([one, zero, -right * x.shape[-1]], 1)
        b = torch.stack([zero, one, -down * x.shape[-2]], 1)
        return self.affine(x, a, b)


class RandomShear(Warp):
    """Images sheared: a pixel's column moves with its row by ``x_factor``, its row with its column by ``y_factor``.

    Half of the images are sheared the other way.
    """

    def __init__(
        self, x_factor: tuple[float, float] = (0.0, 0.0), y_factor: tuple[float, float] = (0.0, 0.0), **warp: Any
    ) -> None:
        super().__init__(**warp)
        self.x_factor = x_factor
        self.y_factor = y_factor

    def draw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        sign = torch.where(torch.rand(len(x), device=x.device) > 0.5, -1.0, 1.0)
        across, down = (self.uniform(bounds, len(x), like=x) for bounds in (self.x_factor, self.y_factor))
        return sign * across, sign * down

    def transform(self, x: Tensor, across: Tensor, down: Tensor) -> Tensor:
        one, zero = torch.ones_like(across), torch.zeros_like(across)
        return self.affine(x, torch.stack([one, across, zero], 1), torch.stack([down, one, zero], 1))


class RandomPerspective(Warp):
    """Images seen from aside: each corner moved towards the first or away from it, by up to half of ``scale``.

    As in Keras, the corner in the first row and column stays.
    """

    def __init__(
        self,
        factor: tuple[float, float] = (0.0, 1.0),
        *,
        scale: float = 1.0,
        interpolation: str = "bilinear",
        fill_value: float = 0.0,
    ) -> None:
        super().__init__(interpolation=interpolation, fill_mode="constant", fill_value=fill_value)
        self.factor = factor
        self.scale = scale

    def draw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shifts = self.uniform((-self.scale / 2, self.scale / 2), len(x), 4, 2, like=x)
        return self.chance(self.factor, x), shifts

    def transform(self, x: Tensor, changed: Tensor, shifts: Tensor) -> Tensor:
        """``shifts`` (batch, corner, column or row) are shares of each corner's column and row."""
        high, wide = x.shape[-2:]
        corners = shifts.new_tensor([[0, 0], [wide - 1, 0], [0, high - 1], [wide - 1, high - 1]])
        a, b, c = _homography(corners * (1 + shifts), corners.expand_as(shifts)).view(-1, 3, 3, 1, 1).unbind(1)
        rows, columns = _pixels(x)
        across, down, depth = (each[:, 0] * columns + each[:, 1] * rows + each[:, 2] for each in (a, b, c))
        return torch.where(changed, self.sample(x, down / depth, across / depth), x)


def _homography(start: Tensor, end: Tensor) -> Tensor:
    """The matrices (batch, 9) of the projections that move four points (batch, 4, 2) from start to end."""
    (x, y), zero = start.unbind(-1), torch.zeros_like(start[..., 0])
    own = torch.stack([x, y, zero + 1], -1)
    none = torch.zeros_like(own)
    moved = -end.unsqueeze(-1) * start.unsqueeze(-2)  # the products (batch, point, column or row, 2)
    equations = torch.stack([torch.cat([own, none], -1), torch.cat([none, own], -1)], -2)
    matrix = torch.cat([equations, moved], -1).flatten(1, 2)
    solved = torch.linalg.solve(matrix, end.flatten(1))
    return torch.cat([solved, torch.ones_like(solved[:, :1])], 1)


class RandomElasticTransform(Warp):
    """Images bent: each pixel moved by a random field that is smooth, stronger with a ``scale`` that the batch shares.

    Simard et al. (2003), https://doi.org/10.1109/ICDAR.2003.1227801.
    """

    def __init__(
        self,
        factor: tuple[float, float] = (0.0, 1.0),
        scale: tuple[float, float] = (0.0, 1.0),
        *,
        value_range: tuple[float, float] = (0.0, 255.0),
        **warp: Any,
    ) -> None:
        super().__init__(**warp)
        self.factor = factor
        self.scale = scale
        self.value_range = value_range

    def draw(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        noise = torch.randn(2, len(x), *x.shape[-2:], device=x.device)
        return self.chance(self.factor, x), self.uniform(self.scale, like=x), noise

    def transform(self, x: Tensor, changed: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
        """``noise`` (column or row, batch, height, width) is smoothed by a Gaussian kernel here."""
        high, wide = x.shape[-2:]
        deviation = 0.05 * scale * min(high, wide)
        most = int(6 * 0.05 * self.scale[1] * min(high, wide)) // 2
        cells = torch.arange(-most, most + 1, device=x.device)
        kernel = (-0.5 * (cells / deviation.clamp_min(1e-6)).square()).exp()
        kernel = torch.where(cells.abs() <= (6 * deviation).floor() // 2, kernel, 0.0)
        kernel = kernel / kernel.sum()
        fields = (noise * deviation).flatten(0, 1).unsqueeze(1)
        with torch.autocast(x.device.type, enabled=False):
            fields = F.conv2d(fields, kernel.view(1, 1, -1, 1), padding=(most, 0))
            fields = F.conv2d(fields, kernel.view(1, 1, 1, -1), padding=(0, most))
        across, down = (0.1 * scale * max(high, wide) * fields).view_as(noise)
        rows, columns = _pixels(x)
        return torch.where(changed, self.sample(x, rows + down, columns + across), x).clamp(*self.value_range)
