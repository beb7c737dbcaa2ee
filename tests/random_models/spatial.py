"""Random layers that go over space or time: convolutions, pooling, cropping, padding, resizing."""

from __future__ import annotations

from typing import Any

from .table import Layers, Shape, entry


def fits(sizes: Shape, spans: Any) -> bool:
    """Whether a window fits; a size that is not known is 7 or more."""
    spans = (spans,) * len(sizes) if isinstance(spans, int) else spans
    return all((size or 7) >= span for size, span in zip(sizes, spans, strict=True))


def spans_of(kernel: Any, dilation: Any, rank: int) -> tuple[int, ...]:
    kernels = (kernel,) * rank if isinstance(kernel, int) else kernel
    dilations = (dilation,) * rank if isinstance(dilation, int) else dilation
    return tuple((k - 1) * d + 1 for k, d in zip(kernels, dilations, strict=True))


# -- convolutions ------------------------------------------------------------------------------------------------------


def window(d: Layers, rank: int, *, paddings: tuple[str, ...] = ("valid", "same")) -> dict[str, Any]:
    fields: dict[str, Any] = {"kernel_size": d.sizes(rank, 1, 4 if rank < 3 else 3)}
    if d.chance(0.6):
        fields["padding"] = d.pick(paddings)
    if d.chance(0.4):
        fields["strides"] = d.sizes(rank, 1, 3)
    elif d.chance(0.3):
        fields["dilation_rate"] = d.sizes(rank, 1, 3)
    return fields


def placed(d: Layers, kind: str, shape: Shape, fields: dict[str, Any], *slots: str, axes: Any = None) -> Any:
    """A convolution with all that it may have, where its window fits."""
    rank = len(shape) - 1
    sizes, channels = d.space(shape, fields)
    if channels is None:
        return None
    if channels == 1:  # torch 2.13 reads beyond such an image, where one step fits in its width
        fields.pop("strides", None)
    is_padded = fields.get("padding", "valid") != "valid"
    if not is_padded and not fits(sizes, spans_of(fields["kernel_size"], fields.get("dilation_rate", 1), rank)):
        return None
    own = {**d.some(use_bias=False), **d.activity(), **d.activated(0.4)}
    own |= d.slots(*slots, rank=None, axes=[*range(rank + 1)] if axes is None else axes)
    return d.layer(kind, **fields, **own)


@entry(2, 3, 4, weight=5)
def convolution(d: Layers, shape: Shape) -> Any:
    rank = len(shape) - 1
    form = d.format(rank)
    paddings = ("valid", "same", "causal") if rank == 1 else ("valid", "same")
    fields = {"filters": d.whole(1, 5), **window(d, rank, paddings=paddings), **form}
    _, channels = d.space(shape, fields)
    if channels and channels % 2 == 0 and d.chance(0.4):
        fields |= {"groups": 2, "filters": d.pick([2, 4])}
    return placed(d, f"Conv{rank}D", shape, fields, "kernel", "bias")


@entry(2, 3, 4, weight=2)
def transposed(d: Layers, shape: Shape) -> Any:
    rank = len(shape) - 1
    fields = {"filters": d.whole(1, 4), **window(d, rank), **d.format(len(shape) - 1)}
    sizes, _ = d.space(shape, fields)
    if any((size or 9) > 9 for size in sizes):
        return None
    own = {**d.some(use_bias=False), **d.activity(), **d.activated(0.4), **d.slots("kernel", "bias", rank=None)}
    return d.layer(f"Conv{rank}DTranspose", **fields, **own)


@entry(2, 3, weight=2)
def depthwise(d: Layers, shape: Shape) -> Any:
    rank = len(shape) - 1
    fields = {**window(d, rank), **d.some(depth_multiplier=2), **d.format(len(shape) - 1)}
    if isinstance(fields.get("strides"), tuple):  # which must be the same for all axes
        fields["strides"] = 2
    return placed(d, f"DepthwiseConv{rank}D", shape, fields, "depthwise", "bias", axes=[*range(rank)])


@entry(2, 3, weight=2)
def separable(d: Layers, shape: Shape) -> Any:
    rank = len(shape) - 1
    fields = {"filters": d.whole(1, 5), **window(d, rank), **d.some(depth_multiplier=2), **d.format(len(shape) - 1)}
    if isinstance(fields.get("strides"), tuple):
        fields["strides"] = 2
    return placed(d, f"SeparableConv{rank}D", shape, fields, "depthwise", "pointwise", "bias", axes=[*range(rank)])


# -- pooling -----------------------------------------------------------------------------------------------------------


@entry(2, 3, 4, weight=2)
def pooling(d: Layers, shape: Shape) -> Any:
    rank = len(shape) - 1
    function = d.pick(["Max", "Average"])
    fields: dict[str, Any] = {**d.some(0.8, pool_size=d.sizes(rank, 1, 3)), **d.format(len(shape) - 1)}
    fields |= {"pool_size": 2} if function == "Average" and "pool_size" not in fields else {}
    fields |= {**d.some(0.4, strides=d.sizes(rank, 1, 3)), **d.some(0.5, padding="same")}
    sizes, _ = d.space(shape, fields)
    if not fits(sizes, fields.get("pool_size", 2)):
        return None
    # Keras's torch backend counts padded cells of a mean where the padding is uneven
    if function == "Average" and fields.get("padding") == "same":
        fields |= {"pool_size": 3 if rank > 1 else 2, "strides": 1}
    return d.layer(f"{function}Pooling{rank}D", **fields, **d.activity(0.05))


@entry(2, 3, 4, weight=1)
def global_pooling(d: Layers, shape: Shape) -> Any:
    kind = f"Global{d.pick(['Max', 'Average'])}Pooling{len(shape) - 1}D"
    return d.layer(kind, **d.some(keepdims=True), **d.format(len(shape) - 1), **d.activity(0.05))


@entry(2, 3, 4, weight=0.7)
def adaptive_pooling(d: Layers, shape: Shape) -> Any:
    rank = len(shape) - 1
    fields = {"output_size": d.sizes(rank, 1, 3), **d.format(len(shape) - 1)}
    sizes, _ = d.space(shape, fields)
    return d.layer(f"Adaptive{d.pick(['Max', 'Average'])}Pooling{rank}D", **fields) if fits(sizes, 3) else None


# -- sizes -------------------------------------------------------------------------------------------------------------


@entry(2, 3, 4, weight=1.5)
def sides(d: Layers, shape: Shape) -> Any:
    """Cropped, padded or enlarged."""
    rank = len(shape) - 1
    what = d.pick(["Cropping", "ZeroPadding", "UpSampling"])
    form = d.format(len(shape) - 1) if rank > 1 else {}
    sizes, _ = d.space(shape, form)
    if what == "UpSampling":
        if any((size or 9) > 9 for size in sizes):
            return None
        bilinear = {"interpolation": "bilinear"} if rank == 2 and d.chance(0.4) else {}
        return d.layer(
            f"UpSampling{rank}D", size=d.whole(1, 3) if rank == 1 else d.sizes(rank, 1, 2), **form, **bilinear
        )
    pairs = tuple((d.whole(0, 1), d.whole(0, 2)) for _ in range(rank))
    cells = d.pick([1, pairs, tuple(d.whole(0, 2) for _ in range(rank))]) if rank > 1 else d.pick([1, 2, *pairs])
    if what == "Cropping" and not fits(sizes, 4):
        return None
    return d.layer(f"{what}{rank}D", **{what.removeprefix("Zero").lower(): cells}, **form)


@entry(3, weight=0.7)
def image(d: Layers, shape: Shape) -> Any:
    form = d.format(len(shape) - 1)
    _, channels = d.space(shape, form)
    if None in shape or channels > 4:
        return None
    fields = {"height": d.whole(2, 7), "width": d.whole(2, 7), **form}
    if d.chance(0.5):
        return d.layer("CenterCrop", **fields)
    return d.layer("Resizing", **fields, **d.some(interpolation="nearest"))


@entry(3, weight=0.4)
def augmentation(d: Layers, shape: Shape) -> Any:
    """What changes images in training alone."""
    if None in shape or shape[-1] not in (1, 3):
        return None
    kind, fields = d.pick(
        [
            ("RandomFlip", d.some(mode="horizontal")),
            ("RandomRotation", {"factor": 0.2}),
            ("RandomZoom", {"height_factor": 0.2}),
            ("RandomTranslation", {"height_factor": 0.2, "width_factor": 0.1}),
            ("RandomContrast", {"factor": 0.3}),
            ("RandomBrightness", {"factor": 0.3}),
        ]
    )
    return d.layer(kind, **fields)
