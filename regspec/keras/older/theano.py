"""What Theano computed otherwise than TensorFlow, of files of Keras 1 and 2 that it trained.

It turns a kernel around before it slides it along (see `legacy`). And where the padding is `same` it begins half a
window before the input, whatever the stride: TensorFlow begins where as much of the windows hangs over on both sides.
See `_preprocess_padding` and `_postprocess_conv2d_output` in the theano_backend of Keras 2.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regspec.keras.configs.dialect import values_under
from regspec.keras.configs.models import layers_in
from regspec.keras.configs.values import UnportedError

# Classes with a window, by how Theano moves it: as a convolution, or in a way that no padding of a spec is.
CONVOLUTIONS = frozenset(
    {"Conv1D", "Conv2D", "Conv3D", "DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D"}
)
POOLINGS = frozenset(f"{kind}Pooling{rank}D" for kind in ("Max", "Average") for rank in (1, 2, 3))
RECURRENT = frozenset({"ConvLSTM2D"})  # whose state is padded in any case
OTHERS = frozenset({"Conv2DTranspose", "Conv3DTranspose"}) | RECURRENT
BY_THEMSELVES = {(1, "Conv3D")}  # before which the backend of that Keras put the zeros that TensorFlow puts there


def padding_of(item: Mapping[str, Any], generation: int) -> list[list[int]] | None:
    """The zeros at each side of the axes that Theano puts around the input of a layer, where `same` is something else.

    Raises:
        UnportedError: for a window that begins where no padding has it begin.
    """
    class_name, config = str(item.get("class_name")), item.get("config") or {}
    if class_name not in CONVOLUTIONS | POOLINGS | OTHERS:
        return None
    rank = int(class_name[-2]) if class_name[-1] == "D" else int(class_name.removesuffix("Transpose")[-2])
    is_same = config.get("padding") == "same" or class_name in RECURRENT
    if not is_same or (generation, class_name) in BY_THEMSELVES:
        return None
    sizes = _sizes(config.get("kernel_size", config.get("pool_size")), rank)
    strides = _sizes(config.get("strides") or (sizes if class_name in POOLINGS else 1), rank)
    dilation = _sizes(config.get("dilation_rate") or 1, rank)
    spans = [(size - 1) * rate + 1 for size, rate in zip(sizes, dilation, strict=True)]
    is_plain = all(step == 1 for step in strides)
    if class_name in POOLINGS:
        if all(size == 1 or (size == 3 and step == 1) for size, step in zip(sizes, strides, strict=True)):
            return None
        raise UnportedError(f"{class_name} with padding = same as Theano computes it, from before the first cell on")
    if is_plain and all(span % 2 for span in spans):
        return None  # as much on both sides, as anywhere
    if class_name in OTHERS:
        raise UnportedError(f"{class_name} with padding = same as Theano computes it, of a stride or an even kernel")
    return [[span // 2, span - 1 - span // 2] for span in spans]


def is_padded(config: Any, generation: int) -> bool:
    """Whether a layer of a config has zeros around its input that TensorFlow would put elsewhere."""
    return any(padding_of(layer, generation) is not None for layer in layers_in(config))


def has_convolutions(config: Any) -> bool:
    """Whether a config has layers whose kernels Theano turns around."""
    names = map(str, values_under(config, "class_name"))
    return any(name.startswith(("Conv", "AtrousConv", "Deconv")) for name in names)


def _sizes(value: Any, rank: int) -> list[int]:
    sizes = [int(each) for each in value] if isinstance(value, (list, tuple)) else [int(value)] * rank
    if len(sizes) != rank:
        raise UnportedError(f"{len(sizes)} sizes for a window of rank {rank}")
    return sizes
