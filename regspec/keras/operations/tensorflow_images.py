"""TensorFlow's functions of images, pools and convolutions among them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from regspec.keras.operations.operation import Operand
from regspec.keras.operations.tensorflow_math import SPECIAL
from regspec.keras.operations.tensorflow_rules import TensorFlowCall, special, whole

__all__ = ["SPECIAL"]  # with the functions of all three files

METHODS = ("bilinear", "nearest", "bicubic", "lanczos3", "lanczos5")


@special("image.resize", "images size method preserve_aspect_ratio antialias")
def _resize(call: TensorFlowCall) -> Operand:
    method = call["method"] or "bilinear"
    if method not in METHODS:
        raise call.refused(f"by the method {method}")
    if call["preserve_aspect_ratio"]:
        raise call.refused("with preserve_aspect_ratio")
    return call.to(
        "Resize", images=call["images"], size=whole(call, "size"), interpolation=method, antialias=call["antialias"]
    )


@special("image.flip_left_right", "image")
def _flip_left_right(call: TensorFlowCall) -> Operand:
    return call.to("Flip", x=call["image"], axis=-2)


@special("image.flip_up_down", "image")
def _flip_up_down(call: TensorFlowCall) -> Operand:
    return call.to("Flip", x=call["image"], axis=-3)


@special("image.extract_patches", "images sizes strides rates padding")
def _extract_patches(call: TensorFlowCall) -> Operand:
    size, strides, rates = (whole(call, name)[1:3] for name in ("sizes", "strides", "rates"))
    padding = (call["padding"] or "valid").lower()
    return call.to(
        "ExtractPatches", images=call["images"], size=size, strides=strides, dilation_rate=rates, padding=padding
    )


@special("nn.depth_to_space", "input block_size data_format")
def _depth_to_space(call: TensorFlowCall) -> Operand:
    return call.to("DepthToSpace", x=call["input"], block_size=call["block_size"], data_format=_data_format(call))


@special("nn.space_to_depth", "input block_size data_format")
def _space_to_depth(call: TensorFlowCall) -> Operand:
    return call.to("SpaceToDepth", x=call["input"], block_size=call["block_size"], data_format=_data_format(call))


def _data_format(call: TensorFlowCall) -> str:
    """Keras's word for the data format."""
    if (call["data_format"] or "N").startswith("NC"):
        raise call.refused("of channels that lie first")
    return "channels_last"


POOLS = {f"nn.{name}_pool{rank}d": (kind, rank)
         for name, kind in (("max", "MaxPool"), ("avg", "AveragePool")) for rank in (1, 2, 3)}  # fmt: skip


@special(" ".join([*POOLS, *(f"compat.v1.{name}" for name in POOLS)]), "input ksize strides padding data_format")
def _pool(call: TensorFlowCall) -> Operand:
    kind, rank = POOLS[call.function.removeprefix("compat.v1.")]
    size, strides = (_spatial(call, name, rank) for name in ("ksize", "strides"))
    if not isinstance(call["padding"], str):
        raise call.refused("with explicit padding")
    padding = call["padding"].lower()
    return call.to(
        kind, inputs=call["input"], pool_size=size, strides=strides, padding=padding, data_format=_data_format(call)
    )


def _spatial(call: TensorFlowCall, name: str, rank: int) -> list[int]:
    """One size for each spatial axis, of one for all, for these, or for all axes."""
    sizes = [call[name]] if isinstance(call[name], int) else whole(call, name)
    sizes = sizes[1:-1] if len(sizes) == rank + 2 else sizes
    return sizes * rank if len(sizes) == 1 else sizes


@special("nn.conv1d", "input filters stride padding data_format dilations")
@special("nn.conv2d nn.conv3d", "input filters strides padding data_format dilations")
def _conv(call: TensorFlowCall) -> Operand:
    return _convolution(call, "Conv", call["filters"])


@special("compat.v1.nn.conv2d", "input filter strides padding use_cudnn_on_gpu data_format dilations name filters")
def _conv_of_old(call: TensorFlowCall) -> Operand:
    return _convolution(call, "Conv", call["filter"] or call["filters"])


@special("compat.v1.nn.conv1d", "value filters stride padding use_cudnn_on_gpu data_format name input dilations")
def _conv1d_of_old(call: TensorFlowCall) -> Operand:
    merged = {**call.arguments, "input": call["value"] or call["input"]}
    return _convolution(replace(call, arguments=merged), "Conv", call["filters"])


@special("nn.depthwise_conv2d", "input filter strides padding data_format dilations")
@special("compat.v1.nn.depthwise_conv2d", "input filter strides padding rate name data_format dilations")
def _depthwise_conv(call: TensorFlowCall) -> Operand:
    return _convolution(call, "DepthwiseConv", call["filter"])


def _convolution(call: TensorFlowCall, name: str, kernel: Any) -> Operand:
    rank, each = -2, kernel
    while isinstance(each, list) and each:
        rank, each = rank + 1, each[0]
    if rank < 1 or not isinstance(call["padding"], str):
        raise call.refused("by a kernel that is no array of numbers, or with explicit padding")
    dilations = call["dilations"] or call["rate"] or 1
    return call.to(
        name,
        inputs=call["input"],
        kernel=kernel,
        strides=_spatial(call, "strides" if call["stride"] is None else "stride", rank),
        padding=call["padding"].lower(),
        dilation_rate=_spatial(replace(call, arguments={"dilations": dilations}), "dilations", rank),
        data_format=_data_format(call),
    )
