"""The precision in which a Keras config computes: that of the model, and of layers that have another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, get_args

from regspec.code.shapes import Dtype, Precision
from regspec.keras.configs.values import UnportedError

MIXED = {"mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}
IN_TRAINING = {"float16": "16-mixed, which scales the loss, too", "bfloat16": "bf16-mixed"}
POLICIES = ("DTypePolicy", "FloatDTypePolicy", "Policy", "PolicyV1")  # the last two are of Keras 2


@dataclass(frozen=True)
class Policy:
    """In which types a layer keeps its weights and computes."""

    name: str
    weights: str
    computes: str
    quantization: str | None = None  # int8, int4, …


def policy_of(dtype: Any) -> Policy:
    """The policy that a layer's config gives as its dtype. Raises `UnportedError` for what is none."""
    if isinstance(dtype, dict):
        config = dtype.get("config")
        if dtype.get("class_name") == "DTypePolicyMap" and isinstance(config, dict) and not config.get("policy_map"):
            return policy_of(config.get("default_policy"))
        if isinstance(config, dict) and isinstance(mode := config.get("mode"), str):
            return replace(policy_of(config.get("source_name")), quantization=mode.partition("/")[0][:80])
        if dtype.get("class_name") not in POLICIES:
            raise UnportedError(f"the precision {str(dtype.get('class_name'))[:80]}")
        dtype = config.get("name") if isinstance(config, dict) else None
    if dtype is None:
        dtype = "float32"
    if isinstance(dtype, str) and "_from_" in dtype:  # int8_from_float32
        mode, _, source = dtype.partition("_from_")
        return replace(policy_of(source), quantization=mode.partition("/")[0][:80])
    if isinstance(dtype, str) and dtype in MIXED:
        return Policy(dtype, "float32", MIXED[dtype])
    if dtype not in get_args(Dtype):
        raise UnportedError(f"the precision {str(dtype)[:80]}")
    return Policy(dtype, dtype, dtype)


def precision_of(dtypes: Iterable[Any]) -> Precision:
    """The type in which most of the layers with these dtypes keep their weights; float32 before others."""
    counts = Counter({"float32": 0})
    for dtype in dtypes:
        try:
            counts[policy_of(dtype).weights] += 1
        except UnportedError:
            continue  # which is reported where the layer is read
    known: tuple[Precision, ...] = get_args(Precision)
    return max(known, key=lambda each: (counts[each], each == "float32"))


def note_of(policy: Policy) -> str | None:
    """What the port of a layer with this policy should tell, if anything."""
    if policy.name in MIXED:
        return (
            f"layers have the policy {policy.name}: their weights are in float32, as in Keras, but the port computes "
            f"in float32 too; in torch.autocast(device, torch.{policy.computes}) it computes in {policy.computes}, "
            f"but for what torch deems unsafe there; so does regspec train --precision {IN_TRAINING[policy.computes]}"
        )
    if policy.name in ("float16", "bfloat16"):
        return (
            f"layers compute and keep their weights in {policy.name}, as in Keras; but penalties are reduced in "
            "float32, where Keras reduces them in half precision"
        )
    return None
