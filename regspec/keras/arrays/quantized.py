"""Quantized weights as the numbers that they stand for: whole numbers of 8 or 4 bits, over a scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regspec.keras.configs.notes import Notes
from regspec.keras.configs.precision import policy_of
from regspec.keras.configs.values import UnportedError

MAIN = {  # the weight of each class that may be quantized, and that may have a low-rank update
    "Dense": "kernel",
    "EinsumDense": "kernel",
    "Embedding": "embeddings",
    "ReversibleEmbedding": "embeddings",
}
EQUATIONS = frozenset({"EinsumDense"})  # whose kernels lie as an equation says, and not as matrices
CONVOLUTIONS = {f"Conv{rank}D": "kernel" for rank in (1, 2, 3)}  # which may have an update alone
ADVICE = "port the model as it was before it was quantized"


def quantized_fields(class_name: str, config: Mapping[str, Any], notes: Notes) -> dict[str, Any]:
    """The fields that say of a layer what Keras makes of it by quantization, or by a low-rank update.

    Raises:
        UnportedError: for a quantization that has no counterpart.
    """
    mode = policy_of(config.get("dtype")).quantization
    if mode is None and not config.get("lora_rank"):
        return {}
    main = {**CONVOLUTIONS, **MAIN}.get(class_name)
    if main is None or (mode is not None and (mode not in ("int8", "int4") or class_name not in MAIN)):
        raise UnportedError(f"its weights are quantized ({mode}): {ADVICE}")
    fields: dict[str, Any] = {"trainable": _trained(config, mode) or False}
    if mode is not None:
        if _rounds_inputs(config, mode) and main == "kernel":
            fields |= {"rounds_inputs": True, "rounds_kernel": True}
        bits = mode.removeprefix("int")
        what = f"'{config.get('name')}' has the numbers that its weights of {bits} bits stand for, frozen as in Keras"
    else:
        what = f"'{config.get('name')}' has its low-rank update in its {main}, as Keras saves it, which stays frozen"
    notes.add(what)
    return fields


def _trained(config: Mapping[str, Any], mode: str | None) -> list[str]:
    """The slots that are still trained."""
    if config.get("trainable") is False:
        return []
    if config.get("tie_weights") is False and mode is None:
        return ["reverse_embeddings"]
    return ["bias"] if config.get("use_bias") or config.get("bias_axes") else []


def _rounds_inputs(config: Mapping[str, Any], mode: str) -> bool:
    """Whether inputs are rounded to 8 bits too, as they come. Raises for another rounding than Keras's own."""
    own = config.get("quantization_config")
    own = own.get("config") if isinstance(own, dict) else None
    if not isinstance(own, dict):
        return mode == "int8"
    quantizer = own.get("activation_quantizer")
    if quantizer is None:
        return False
    said = quantizer.get("config") if isinstance(quantizer, dict) else None
    is_plain = isinstance(said, dict) and list(said.get("value_range") or ()) == [-127, 127]
    if mode != "int8" or not is_plain or quantizer.get("class_name") != "AbsMaxQuantizer":
        raise UnportedError(f"its inputs are quantized otherwise than Keras does by itself: {ADVICE}")
    return True


def is_quantized(config: Mapping[str, Any]) -> bool:
    """Whether the weights of a layer are quantized in the file."""
    try:
        return policy_of(config.get("dtype")).quantization is not None
    except UnportedError:  # of a class of the user's own, which may say what it likes
        return False


def dequantized(
    class_name: str,
    config: Mapping[str, Any],
    arrays: Sequence[NDArray[np.generic]],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, NDArray[np.generic]]:
    """The weights of a layer by their names, from its arrays in Keras's order; ``shapes`` are what they should have.

    Raises:
        ValueError or LookupError: where the arrays are others than Keras's.
    """
    with np.errstate(all="ignore"):
        found = _dequantized(class_name, config, arrays, shapes)
    if not all(np.isfinite(array).all() for array in found.values()):
        raise ValueError("scales of quantized weights that are zero, or no numbers")
    return found


def _dequantized(
    class_name: str,
    config: Mapping[str, Any],
    arrays: Sequence[NDArray[np.generic]],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, NDArray[np.generic]]:
    mode = policy_of(config.get("dtype")).quantization
    left: list[NDArray[Any]] = list(arrays)
    main = MAIN[class_name]
    found: dict[str, NDArray[Any]] = {main: left.pop(0)}
    if main == "kernel" and len(left) in (2, 4):
        found["bias"] = left.pop(0)
    scale = left.pop(0)
    is_grouped = mode == "int4" and scale.ndim == 2  # a scale and a zero for each group of numbers
    zero, groups = (left.pop(0), left.pop(0).astype(int)) if is_grouped else (None, None)
    if class_name in EQUATIONS and mode == "int8":
        scale = _along_kernel(scale, str(config.get("equation")), found[main].shape)
        found[main] = found[main] / scale
    elif main == "kernel":
        size = scale.shape[-1]
        whole = found[main] if mode == "int8" else _unpacked(found[main], size, axis=-1)
        found[main] = whole / scale if zero is None else (whole - zero[groups].astype("f4")) * scale[groups]
        if class_name in EQUATIONS:  # whose kernel is packed as a matrix
            found[main] = found[main].reshape(shapes[main])
    else:
        size = int(config["output_dim"])
        whole = found[main] if mode == "int8" else _unpacked(found[main], size, axis=-1)
        if zero is None:
            found[main] = whole / scale[:, None]
        else:
            found[main] = (whole - zero[:, groups].astype("f4")) * scale[:, groups]
        if left:
            whole, scale = left.pop(0), left.pop(0)
            whole = whole if mode == "int8" else _unpacked(whole, size, axis=0)
            zero = left.pop(0) if is_grouped else None
            found["reverse_embeddings"] = (
                whole / scale if zero is None else (whole - zero[groups].astype("f4")) * scale[groups]
            )
    if "kernel_scale" in shapes:
        found["kernel_scale"] = scale
    if left:
        raise ValueError(f"{len(left)} arrays that a quantized {class_name} does not have")
    return {name: array.astype("f4") for name, array in found.items()}


def _unpacked(packed: NDArray[Any], size: int, *, axis: int) -> NDArray[Any]:
    """Numbers of 4 bits, two of which lie in each of 8 along an axis, the lower one first."""
    both = packed.astype("u1")
    halves = [((half ^ 8).astype("i1") - 8) for half in (both & 15, both >> 4)]
    moved = [half.swapaxes(axis, -1) for half in halves]
    whole = packed.swapaxes(axis, -1).astype("i1").repeat(2, -1)
    whole[..., 0::2], whole[..., 1::2] = moved
    unpacked: NDArray[Any] = whole[..., :size].swapaxes(axis, -1)
    return unpacked


def _along_kernel(scale: NDArray[Any], equation: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """A scale that lies along an equation's output, along its kernel."""
    terms, _, outputs = equation.replace(".", "").partition("->")
    kernel = terms.partition(",")[2]
    sizes = dict(zip(kernel, shape, strict=True))
    kept = [letter for letter in outputs if letter in sizes]
    order = [kept.index(letter) for letter in kernel if letter in kept]
    moved: NDArray[Any] = scale.reshape([sizes[letter] for letter in kept]).transpose(order)
    return moved.reshape([sizes[letter] if letter in kept else 1 for letter in kernel])
