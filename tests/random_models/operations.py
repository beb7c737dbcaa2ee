"""Random operations on tensors: with numbers, along axes, of several tensors, slices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from .draws import Draws

ops = keras.ops

ELEMENTWISE: dict[str, Callable[[Any], Any]] = {
    "negative": lambda x: -x,
    "absolute": abs,
    "square": ops.square,
    "sqrt": lambda x: ops.sqrt(abs(x) + 0.1),
    "rsqrt": lambda x: ops.rsqrt(abs(x) + 0.1),
    "reciprocal": lambda x: 1.0 / (x * x + 0.5),
    "exp": lambda x: ops.exp(ops.clip(x, -3.0, 2.0)),
    "log": lambda x: ops.log(abs(x) + 0.1),
    "log1p": lambda x: ops.log1p(abs(x)),
    "sin": ops.sin,
    "arctan": ops.arctan,
    "erf": ops.erf,
    "sign": ops.sign,
    "floor": ops.floor,
    "round": ops.round,
    "clip": lambda x: ops.clip(x, -0.5, 0.7),
    "power": lambda x: x**2,
    "where": lambda x: ops.where(x > 0.1, x, -0.5 * x),
    "maximum of a number": lambda x: ops.maximum(x, 0.2),
    "minimum of a number": lambda x: ops.minimum(0.3, x),
    "relu": ops.relu,
    "relu6": ops.relu6,
    "sigmoid": ops.sigmoid,
    "tanh": ops.tanh,
    "silu": ops.silu,
    "gelu": ops.gelu,
    "elu": lambda x: ops.elu(x, alpha=0.7),
    "leaky_relu": lambda x: ops.leaky_relu(x, negative_slope=0.1),
    "softplus": ops.softplus,
    "hard_sigmoid": ops.hard_sigmoid,
    "zeros_like": lambda x: x + ops.zeros_like(x),
    "stop_gradient": ops.stop_gradient,
    "reshape": lambda x: ops.reshape(x, (-1, *x.shape[1:])) if None not in x.shape[1:] else x * 1.5,
    "expand_dims": lambda x: ops.expand_dims(x, 1),
    "split": lambda x: ops.split(x, 2, axis=-1) if x.shape[-1] and x.shape[-1] % 2 == 0 else -x,
    "greater": lambda x: ops.cast(x > 0.2, "float32"),
    "argmax": lambda x: ops.argmax(x, axis=-1),
    "one_hot": lambda x: ops.one_hot(ops.argmax(x, axis=-1), 5) if (x.shape[-1] or 9) <= 5 else abs(x),
    "matmul of itself": lambda x: ops.matmul(x, ops.swapaxes(x, -1, -2)) if len(x.shape) > 2 else x * x,
}
ALONG: dict[str, Callable[..., Any]] = {
    **{name: getattr(ops, name) for name in ("mean", "sum", "max", "min", "var", "std", "logsumexp", "prod")},
    "cumsum": ops.cumsum,
    "softmax": ops.softmax,
    "log_softmax": ops.log_softmax,
    "flip": ops.flip,
    "sort": ops.sort,
    "normalize": ops.normalize,
}
REDUCING = ("mean", "sum", "max", "min", "var", "std", "logsumexp", "prod")
PAIRS: dict[str, Callable[[Any, Any], Any]] = {
    "a + b": lambda a, b: a + b,
    "a - b": lambda a, b: a - b,
    "a * b": lambda a, b: a * b,
    "a / b": lambda a, b: a / (abs(b) + 0.5),
    "maximum": ops.maximum,
    "minimum": ops.minimum,
    "where": lambda a, b: ops.where(a > b, a, 0.5 * b),
    "concatenate": lambda a, b: ops.concatenate([a, b], axis=-1),
    "stack": lambda a, b: ops.stack([a, b], axis=1),
    "hypot": ops.hypot,
    "arctan2": ops.arctan2,
}


def operation(d: Draws, x: Any) -> tuple[str, Callable[..., Any]]:
    """An operation on one tensor, and how it is written."""
    rank = len(x.shape)
    ways = [of_number, elementwise]
    if rank > 1:
        ways += [along, slicing] + ([moved] if rank > 2 else [])
    return d.pick(ways)(d, rank)


def of_number(d: Draws, rank: int) -> tuple[str, Callable[..., Any]]:
    n = d.pick([d.number(-2, 2), d.number(0.5, 3), 2])
    return d.pick(
        [
            (f"({n} *)", lambda x: n * x),
            (f"(* {n})", lambda x: x * n),
            (f"(+ {n})", lambda x: x + n),
            (f"({n} +)", lambda x: n + x),
            (f"(- {n})", lambda x: x - n),
            (f"({n} -)", lambda x: n - x),
            ("(/ 3.0)", lambda x: x / 3.0),
        ]
    )


def elementwise(d: Draws, rank: int) -> tuple[str, Callable[..., Any]]:
    return d.pick([*ELEMENTWISE.items()])


def along(d: Draws, rank: int) -> tuple[str, Callable[..., Any]]:
    name = d.pick([*ALONG])
    axis: Any = d.pick([*range(1, rank), -1])
    keywords: dict[str, Any] = {"axis": axis}
    if name in REDUCING:
        keywords |= d.some(keepdims=True)
        if rank > 2 and d.chance(0.2):
            keywords["axis"] = (1, rank - 1)
    return f"{name} {keywords}", lambda x: ALONG[name](x, **keywords)


def slicing(d: Draws, rank: int) -> tuple[str, Callable[..., Any]]:
    parts = [slice(1, None), slice(None, -1), slice(None, None, 2), slice(0, 2), 0, -1, slice(None)]
    key = (slice(None), *(d.pick(parts) for _ in range(d.whole(1, rank - 1))))
    if d.chance(0.2):
        key = d.pick([(..., d.pick(parts)), (*key, None), (slice(None), None, ...)])
    return f"{key}", lambda x: x[key]


def moved(d: Draws, rank: int) -> tuple[str, Callable[..., Any]]:
    order = (0, *(int(each) for each in d.rng.permutation(rank - 1) + 1))
    return d.pick(
        [
            (f"transpose {order}", lambda x: ops.transpose(x, order)),
            ("swapaxes", lambda x: ops.swapaxes(x, 1, -1)),
            ("moveaxis", lambda x: ops.moveaxis(x, -1, 1)),
            ("roll", lambda x: ops.roll(x, 2, axis=1)),
            ("tile", lambda x: ops.tile(x, (1, 2) + (1,) * (rank - 2))),
            ("repeat", lambda x: ops.repeat(x, 2, axis=1)),
            ("pad", lambda x: ops.pad(x, ((0, 0), (1, 2), *((0, 0),) * (rank - 2)))),
            ("squeeze", lambda x: ops.squeeze(ops.max(x, axis=1, keepdims=True), axis=1)),
        ]
    )
