"""Random layers of features, of sequences and of whole numbers; the spatial ones are in a file of their own."""

from __future__ import annotations

from typing import Any

from . import spatial as _spatial  # noqa: F401  # which adds its makers to the table
from .table import ENTRIES, Layers, Shape, entry

# -- dense -------------------------------------------------------------------------------------------------------------


@entry(weight=4)
def dense(d: Layers, shape: Shape) -> Any:
    if shape[-1] is None:
        return None
    fields = {**d.some(use_bias=False), **d.slots("kernel", "bias"), **d.activity(), **d.activated()}
    if d.chance(0.05):
        return d.layer("Dense", units=4, **{**fields, "activation": "glu"})
    return d.layer("Dense", units=d.whole(1, 7), **fields)


@entry(weight=1)
def einsum(d: Layers, shape: Shape) -> Any:
    if None in shape:
        return None
    letters, free = "abcd"[: len(shape)], d.whole(2, 4)
    equation, sizes, bias = d.pick(
        [
            (f"...{letters[-1]},{letters[-1]}y->...y", (free,), "y"),
            (f"B{letters},{letters[-1]}y->B{letters[:-1]}y", (*[None] * (len(shape) - 1), free), "y"),
            (f"B{letters},{letters}y->By", (free,), "y"),
            (f"B{letters},{letters[0]}yz->B{letters[1:]}yz", (*shape[1:], free, 2), "yz"),
            (f"B{letters},{letters[-1]}yz->B{letters[:-1]}yz", (*shape[:-1], free, 2), "z"),
        ]
    )
    fields = {**d.slots("kernel", "bias", rank=None, axes=()), **d.activity(), **d.activated(0.3)}
    bias_axes = {"bias_axes": bias} if d.chance(0.6) else {}
    return d.layer("EinsumDense", equation=equation, output_shape=sizes, **bias_axes, **fields)


# -- normalization -----------------------------------------------------------------------------------------------------


def affine(d: Layers) -> dict[str, Any]:
    return {**d.some(center=False, scale=False), **d.slots("gamma", "beta", rank=1), **d.activity(0.05)}


@entry(weight=2.5)
def batch_normalization(d: Layers, shape: Shape) -> Any:
    axes = [axis for axis, size in enumerate(shape, 1) if size is not None]
    if not axes:
        return None
    axis = {"axis": d.pick(axes)} if shape[-1] is None or d.chance(0.3) else {}
    fields = {**axis, **d.some(momentum=d.number(0.5, 1), epsilon=d.number(0.001, 0.1)), **affine(d)}
    if d.chance(0.1):
        fields["moving_mean_initializer"] = "ones"
    return d.layer("BatchNormalization", **fields)


@entry(weight=2)
def layer_normalization(d: Layers, shape: Shape) -> Any:
    if shape[-1] is None:
        return None
    axis = {"axis": [len(shape) - 1, len(shape)]} if len(shape) > 1 and None not in shape and d.chance(0.2) else {}
    return d.layer("LayerNormalization", **axis, **d.some(epsilon=d.number(0.001, 0.1)), **affine(d))


@entry(2, 3, 4)
def group_normalization(d: Layers, shape: Shape) -> Any:
    axis = d.pick([1, len(shape)]) if len(shape) > 2 else len(shape)
    channels = shape[axis - 1]
    if None in shape:
        return None
    if sum(size > 1 for size in shape) < 2:  # torch refuses a single number in each group
        return None
    groups = d.pick([each for each in (1, 2, 3, -1) if each == -1 or channels % each == 0])
    return d.layer("GroupNormalization", groups=groups, axis=axis, **d.some(epsilon=0.01), **affine(d))


@entry(weight=1)
def other_normalization(d: Layers, shape: Shape) -> Any:
    if shape[-1] is None:
        return None
    if d.chance(0.5):
        return d.layer("RMSNormalization", **d.some(epsilon=d.number(0.001, 0.1)))
    return d.layer("UnitNormalization", **d.some(axis=d.pick([-1, len(shape)])), **d.activity(0.1))


@entry(1, 2, 3, weight=1)
def spectral(d: Layers, shape: Shape) -> Any:
    if shape[-1] is None:
        return None
    inner = d.layer("Dense", is_inner=True, units=d.whole(2, 5), **d.activated(), **d.slots("kernel", "bias", rank=2))
    if len(shape) == 3 and d.chance(0.6):
        fields = {"filters": d.whole(1, 4), "kernel_size": 2, "padding": "same", **d.some(use_bias=False)}
        inner = d.layer("Conv2D", is_inner=True, **fields, **d.activity(), **d.activated())
    return d.layer("SpectralNormalization", layer=inner, **d.some(power_iterations=2))


# -- activations and noise ---------------------------------------------------------------------------------------------


@entry(weight=2)
def activation(d: Layers, shape: Shape) -> Any:
    if shape[-1] is not None and shape[-1] % 2 == 0 and d.chance(0.1):
        return d.layer("Activation", activation="glu")
    return d.layer("Activation", activation=d.activation(), **d.activity())


@entry(weight=2)
def activation_layer(d: Layers, shape: Shape) -> Any:
    slope = d.some(negative_slope=d.number(0.01, 0.5))
    return d.pick(
        [
            lambda: d.layer(
                "ReLU", **d.some(max_value=d.number(0.5, 6), threshold=d.number(0, 1)), **slope, **d.activity()
            ),
            lambda: d.layer("LeakyReLU", **slope, **d.activity()),
            lambda: d.layer("ELU", **d.some(alpha=d.number(0.1, 2))),
            lambda: d.layer("Softmax", **d.some(axis=d.pick([-1, 1, len(shape)])), **d.activity()),
            lambda: prelu(d, shape),
        ]
    )()


def prelu(d: Layers, shape: Shape) -> Any:
    shared = [axis for axis, size in enumerate(shape, 1) if size is None or d.chance(0.3)]
    return d.layer(
        "PReLU", **({"shared_axes": shared} if shared else {}), **d.slots("alpha", rank=1), **d.activity(0.05)
    )


@entry(weight=1)
def noise(d: Layers, shape: Shape) -> Any:
    rate = d.number(0, 0.6)
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("Dropout", {"rate": rate, **d.some(seed=3)}),
        ("Dropout", {"rate": rate, "noise_shape": (None, *(d.pick([1, None]) for _ in shape))}),
        ("AlphaDropout", {"rate": rate}),
        ("GaussianDropout", {"rate": rate}),
        ("GaussianNoise", {"stddev": rate}),
        ("Identity", {}),
        ("ActivityRegularization", {"l1": d.strength(), **d.some(l2=d.strength())}),
    ]
    if len(shape) > 1:
        kinds.append((f"SpatialDropout{len(shape) - 1}D", {"rate": rate}))
    kind, fields = d.pick(kinds)
    return d.layer(kind, **fields, **(d.activity(0.1) if kind in ("Dropout", "GaussianNoise") else {}))


# -- moving numbers about ----------------------------------------------------------------------------------------------


@entry(weight=1)
def flatten(d: Layers, shape: Shape) -> Any:
    return None if None in shape else d.layer("Flatten", **(d.format(len(shape) - 1) if len(shape) > 1 else {}))


@entry(weight=1)
def reshape(d: Layers, shape: Shape) -> Any:
    if None in shape:
        return None
    total = 1
    for size in shape:
        total *= size
    divisors = [each for each in (2, 3, 4, 5, 6) if total % each == 0]
    first = d.pick(divisors) if divisors else 1
    target = d.pick(
        [(total,), (first, total // first), (total // first, first), (1, first, total // first), (first, -1)]
    )
    return d.layer("Reshape", target_shape=target, **d.activity(0.05))


@entry(2, 3, 4, weight=0.7)
def permute(d: Layers, shape: Shape) -> Any:
    dims = tuple(int(each) for each in d.rng.permutation(len(shape)) + 1)
    return d.layer("Permute", dims=dims)


@entry(1, weight=1)
def repeat(d: Layers, shape: Shape) -> Any:
    return d.layer("RepeatVector", n=d.whole(2, 6))


@entry(weight=1)
def scaling(d: Layers, shape: Shape) -> Any:
    if d.chance(0.5):
        return d.layer("Rescaling", scale=d.number(-2, 2), **d.some(offset=d.number(-1, 1)))
    if shape[-1] is None or len(shape) > 3:
        return None
    fields: dict[str, Any] = d.pick([{}, {"axis": -1}])
    if d.chance(0.4):
        count = shape[-1]
        fields |= {
            "mean": [d.number(-1, 1) for _ in range(count)],
            "variance": [d.number(0.3, 2) for _ in range(count)],
        }
    return d.layer("Normalization", **fields, **d.some(0.15, invert=True))


# -- recurrent ---------------------------------------------------------------------------------------------------------


def recurrent(d: Layers, *, is_inner: bool = False, **given: Any) -> Any:
    kind = d.pick(["SimpleRNN", "LSTM", "GRU"])
    fields: dict[str, Any] = {"units": d.whole(1, 5), **d.slots("kernel", "recurrent", "bias", rank=2)}
    fields |= d.some(0.25, use_bias=False, return_sequences=True, go_backwards=True, unroll=True)
    fields |= {"activation": d.activation(is_of_a_step=True)} if d.chance(0.25) else {}
    fields |= d.some(0.1, dropout=0.3, recurrent_dropout=0.2)
    fields |= d.activity() if d.chance(0.5) else {}
    if kind != "SimpleRNN" and d.chance(0.25):
        fields["recurrent_activation"] = d.activation(is_of_a_step=True)
    if kind == "GRU":
        fields |= d.some(reset_after=False)
    if kind == "LSTM":
        fields |= d.some(unit_forget_bias=False)
    return d.layer(kind, is_inner=is_inner, **{**fields, **given})


@entry(2, weight=4)
def sequence(d: Layers, shape: Shape) -> Any:
    if shape[-1] is None:
        return None
    if d.chance(0.6):
        made = recurrent(d)
        return made if shape[0] is not None or not made.unroll else None
    inner = recurrent(d, is_inner=True, go_backwards=False, unroll=False, name=f"inner_{next(d.names)}")
    other = {}
    if d.chance(0.2):
        same = {"return_sequences": inner.return_sequences, "units": inner.units}
        own = f"inner_{next(d.names)}"
        other["backward_layer"] = recurrent(d, is_inner=True, go_backwards=True, unroll=False, name=own, **same)
    mode = d.some(0.6, merge_mode=d.pick(["concat", "sum", "mul", "ave"]))
    return d.layer("Bidirectional", layer=inner, **mode, **other, **d.activity(0.1))


def cell(d: Layers) -> Any:
    """A cell for RNN."""
    kind = d.pick(["SimpleRNNCell", "LSTMCell", "GRUCell"])
    fields: dict[str, Any] = {"units": d.whole(1, 4), **d.slots("kernel", "recurrent", "bias", rank=2)}
    fields |= d.some(0.2, use_bias=False, activation=d.activation(is_of_a_step=True))
    fields |= d.some(0.05, dropout=0.2)
    return d.layer(kind, is_inner=True, **fields)


@entry(2, weight=1)
def cells(d: Layers, shape: Shape) -> Any:
    if shape[-1] is None:
        return None
    one = [cell(d) for _ in range(d.whole(2, 3))] if d.chance(0.4) else cell(d)
    options = d.some(0.3, return_sequences=True, go_backwards=True)
    return d.layer("RNN", cell=one, **options, **d.activity(0.1))


@entry(3, 4, weight=0.5)
def convolutional_recurrent(d: Layers, shape: Shape) -> Any:
    rank = len(shape) - 2
    if None in shape:
        return None
    fields: dict[str, Any] = {"filters": d.whole(1, 3), "kernel_size": d.sizes(rank, 1, 3)}
    fields |= d.some(0.4, padding="same", return_sequences=True, use_bias=False, go_backwards=True)
    if fields.get("padding") is None and not all(size >= 3 for size in shape[1:-1]):
        return None
    return d.layer(f"ConvLSTM{rank}D", **fields, **d.slots("kernel", "bias", rank=None, axes=()), **d.activity(0.1))


@entry(2, 3, 4, weight=1.5)
def distributed(d: Layers, shape: Shape) -> Any:
    if None in shape[1:]:
        return None
    entries = [each for each in ENTRIES if len(shape) - 1 in each.ranks and each.takes == "float"]
    inner = d.pick(entries, [each.weight for each in entries]).make(d, shape[1:])
    if inner is None or inner.activity_regularizer is not None or not inner.trainable:
        return None
    if "SpectralNorm" in inner.written:
        return None  # whose kernel Keras changes in place from step to step, so that its backward fails
    return d.layer("TimeDistributed", layer=inner, **d.activity(0.1))


# -- whole numbers -----------------------------------------------------------------------------------------------------

TOKENS = 5


@entry(0, 1, 2, weight=4, takes="int")
def embedding(d: Layers, shape: Shape) -> Any:
    fields = {"input_dim": TOKENS, "output_dim": d.whole(1, 5), **d.slots("embeddings", rank=2), **d.activity(0.05)}
    kind = "Embedding" if d.chance(0.8) else "ReversibleEmbedding"
    masks = d.some(mask_zero=True) if len(shape) == 1 and d.can_mask else {}
    d.is_masked |= bool(masks)
    return d.layer(kind, **fields, **masks)


@entry(2, weight=0.7)
def masking(d: Layers, shape: Shape) -> Any:
    if not d.can_mask:
        return None
    d.is_masked = True
    return d.layer("Masking", **d.some(mask_value=d.pick([0.0, 1.0])))


@entry(1, weight=1, takes="int")
def encoding(d: Layers, shape: Shape) -> Any:
    mode = d.pick(["multi_hot", "one_hot", "count"])
    return d.layer("CategoryEncoding", num_tokens=TOKENS, output_mode=mode)


@entry(1, 2, weight=0.3)
def discretization(d: Layers, shape: Shape) -> Any:
    boundaries = sorted(d.number(-2, 2) for _ in range(d.whole(1, 4)))
    return d.layer("Discretization", bin_boundaries=boundaries, **d.some(output_mode=d.pick(["one_hot", "int"])))
