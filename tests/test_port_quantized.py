"""Weights that are trained in part: low-rank updates, quantized weights, and what a spec says of either."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers
from keras.quantizers import Int4QuantizationConfig, Int8QuantizationConfig
from torch import Tensor, func, nn
from torch.autograd import forward_ad

import regspec
from regspec import runtime

from .layers import reference
from .ported import agrees

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Keras, when it saves
    pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method"),  # and when it quantizes a model
]

everything = pytest.mark.everything
TOKENS = torch.tensor([[1, 2, 3, 0, 0, 8], [4, 5, 0, 7, 6, 0]])

Made = tuple[Any, Callable[[Any], Any], torch.Tensor]  # an input, what is made of it, and what to call it on


def filled(x: Any, y: Any) -> Any:
    model = keras.Model(x, y)
    reference.fill(model, 1)
    return model


# -- low-rank updates --------------------------------------------------------------------------------------------------

UPDATED: dict[str, Callable[..., Made]] = {
    "Dense": lambda **more: (keras.Input((4,)), layers.Dense(3, **more), torch.randn(2, 4)),
    "Dense without a bias": lambda **more: (
        keras.Input((4,)),
        layers.Dense(3, use_bias=False, **more),
        torch.randn(2, 4),
    ),
    "EinsumDense": lambda **more: (
        keras.Input((6, 4)),
        layers.EinsumDense("abc,cde->abde", (None, 3, 2), bias_axes="e", **more),
        torch.randn(2, 6, 4),
    ),
    "Conv1D": lambda **more: (keras.Input((6, 4)), layers.Conv1D(3, 2, **more), torch.randn(2, 6, 4)),
    "Conv2D": lambda **more: (keras.Input((6, 5, 4)), layers.Conv2D(3, 2, **more), torch.randn(2, 6, 5, 4)),
    "Conv3D": lambda **more: (keras.Input((4, 6, 5, 2)), layers.Conv3D(3, 2, **more), torch.randn(2, 4, 6, 5, 2)),
    "Embedding": lambda **more: (keras.Input((6,), dtype="int32"), layers.Embedding(9, 5, **more), TOKENS),
}


@pytest.mark.parametrize("name", UPDATED)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_low_rank_updates(name: str, suffix: str, tmp_path: Path) -> None:
    """Outputs, penalties and gradients are those of the model that Keras reads; in HDF5 the update lies by itself."""
    slot = "embeddings" if name == "Embedding" else "kernel"
    regularized = {f"{slot}_regularizer": "l2"} if suffix == ".keras" else {}
    x, layer, given = UPDATED[name](lora_rank=2, lora_alpha=3, **regularized)
    filled(x, layer(x)).save(tmp_path / f"model{suffix}")
    model = keras.saving.load_model(tmp_path / f"model{suffix}")
    port = regspec.port(tmp_path / f"model{suffix}")
    (note,) = port.notes
    assert f"has its low-rank update in its {slot}" in note
    if suffix == ".keras":
        for half in [each for each in model.trainable_variables if "lora" in each.name]:
            assert not half.numpy().any()  # what was read is in the kernel, and nothing trains where both are zeros
            half.trainable = False
        agrees(model, tmp_path / "model.keras", inputs=[given])
    ported = port.build()
    torch.testing.assert_close(ported(given), model(given), rtol=1e-4, atol=1e-5)
    trained = [path for path, each in ported.named_parameters() if each.requires_grad]
    assert all(path.endswith(".bias") for path in trained)
    assert bool(trained) == (name not in ("Dense without a bias", "Embedding"))


def test_low_rank_updates_in_a_model_inside(tmp_path: Path) -> None:
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, lora_rank=2), layers.Dense(2, lora_rank=1)])
    x = keras.Input((4,))
    model = filled(x, inner(x))
    model.save(tmp_path / "model.h5")
    ported = regspec.port(tmp_path / "model.h5").build()
    given = torch.randn(3, 4)
    torch.testing.assert_close(ported(given), model(given), rtol=1e-4, atol=1e-5)


def test_a_frozen_layer_with_an_update(tmp_path: Path) -> None:
    x = keras.Input((4,))
    filled(x, layers.Dense(3, lora_rank=2, trainable=False)(x)).save(tmp_path / "model.keras")
    model = regspec.port(tmp_path / "model.keras").build()
    assert not any(each.requires_grad for each in model.parameters())


# -- quantized weights -------------------------------------------------------------------------------------------------

MODES: dict[str, tuple[str, Any]] = {
    "int8": ("int8", None),
    "int8, weights alone": ("int8", Int8QuantizationConfig(activation_quantizer=None)),
    "int4": ("int4", None),
    "int4 by channels": ("int4", Int4QuantizationConfig(block_size=-1)),
    "int4 by groups": ("int4", Int4QuantizationConfig(block_size=2)),
}
SEQUENCE = (7, 5)
QUANTIZED: dict[str, Callable[[], Made]] = {
    "Dense": lambda: (keras.Input(SEQUENCE), layers.Dense(3, activation="tanh"), torch.randn(4, *SEQUENCE)),
    "Dense without a bias": lambda: (keras.Input((5,)), layers.Dense(4, use_bias=False), torch.randn(4, 5)),
    **{
        f"EinsumDense {equation}": lambda equation=equation, shape=shape, axes=axes: (
            keras.Input(SEQUENCE),
            layers.EinsumDense(equation, shape, bias_axes=axes),
            torch.randn(4, *SEQUENCE),
        )
        for equation, shape, axes in [
            ("abc,cd->abd", (None, 4), "d"),
            ("abc,cde->abde", (None, 2, 3), "de"),
            ("abc,cde->abed", (None, 3, 2), None),
            ("abc,bcd->ad", (4,), "d"),
            ("abc,cd->adb", (4, 7), "d"),
            ("abc,dc->abd", (None, 3), None),
        ]
    },
    "Embedding": lambda: (keras.Input((6,), dtype="int32"), layers.Embedding(9, 5), TOKENS),
    "ReversibleEmbedding": lambda: (keras.Input((6,), dtype="int32"), layers.ReversibleEmbedding(9, 5), TOKENS),
    "ReversibleEmbedding of two tables": lambda: (
        keras.Input((6,), dtype="int32"),
        layers.ReversibleEmbedding(9, 5, tie_weights=False),
        TOKENS,
    ),
}


IN_GATE = ("Dense", "Embedding")  # in every mode; the others in these
EVERY_MODE = [
    pytest.param(mode, name, marks=() if name in IN_GATE or mode in ("int8", "int4 by groups") else everything)
    for mode in MODES
    for name in QUANTIZED
]


@pytest.mark.parametrize(("mode", "name"), EVERY_MODE)
def test_quantized_weights(name: str, mode: str, tmp_path: Path) -> None:
    """Outputs, and the gradients of what is trained and of inputs, to the last digits."""
    x, layer, given = QUANTIZED[name]()
    model = filled(x, layer(x))
    quantization, config = MODES[mode]
    model.quantize(quantization, **({} if config is None else {"config": config}))
    model.save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    (note,) = port.notes
    assert f"has the numbers that its weights of {quantization[-1]} bits stand for" in note
    ported = port.build()
    ours, theirs = (given.clone().requires_grad_(given.is_floating_point()) for _ in range(2))
    got, wanted = ported(ours), model(theirs, training=False)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    trained = [each for each in ported.parameters() if each.requires_grad]
    variables = [each.value for each in model.trainable_variables]
    assert [each.numel() for each in trained] == [each.numel() for each in variables]
    if not given.is_floating_point() or (mode == "int8, weights alone" and name.startswith("EinsumDense")):
        return  # nothing to derive by; Keras's own backward, which fails for most equations
    direction = torch.randn_like(got)
    a = torch.autograd.grad((got * direction).sum(), [ours, *trained])
    b = torch.autograd.grad((wanted * direction).sum(), [theirs, *variables])
    for mine, keras_own in zip(a, b, strict=True):
        torch.testing.assert_close(mine.reshape(keras_own.shape), keras_own, rtol=1e-4, atol=1e-5)


def quantized(tmp_path: Path, layer: Any, mode: str = "int8", **more: Any) -> Path:
    x = keras.Input(SEQUENCE)
    model = filled(x, layer(x))
    model.quantize(mode, **more)
    model.save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def test_quantizations_that_are_not_ported(tmp_path: Path) -> None:
    path = quantized(tmp_path, layers.Dense(3), "float8")
    with pytest.raises(regspec.RegspecError, match=r"quantized \(float8\): port the model as it was before"):
        regspec.port(path)
    path = quantized(tmp_path, layers.TimeDistributed(layers.Dense(3)))
    with pytest.raises(regspec.RegspecError, match="a layer inside another whose weights are quantized"):
        regspec.port(path)
    path = quantized(tmp_path, lambda x: layers.MultiHeadAttention(2, 3, name="attention")(x, x))
    with pytest.raises(regspec.RegspecError, match="'attention' has an array that no weight takes: key_dense"):
        regspec.port(path)
    other = keras.quantizers.AbsMaxQuantizer(value_range=(-7, 7))
    path = quantized(tmp_path, layers.Dense(3), config=Int8QuantizationConfig(activation_quantizer=other))
    with pytest.raises(regspec.RegspecError, match="quantized otherwise than Keras does by itself"):
        regspec.port(path)


def test_quantized_weights_in_reverse_and_in_hdf5(tmp_path: Path) -> None:
    table = layers.ReversibleEmbedding(9, 5)
    x = keras.Input((6,), dtype="int32")
    model = filled(x, table(table(x), reverse=True))
    model.quantize("int8")
    model.save(tmp_path / "model.keras")
    with pytest.raises(regspec.RegspecError, match="its call in reverse rounds what it takes"):
        regspec.port(tmp_path / "model.keras")
    model = filled(x, layers.Embedding(9, 5)(x))
    model.quantize("int8")
    model.save(tmp_path / "model.h5")
    with pytest.raises(regspec.RegspecError, match=r"quantized weights, which are read from \.keras files alone"):
        regspec.port(tmp_path / "model.h5")


def test_quantized_weights_of_other_shapes(tmp_path: Path) -> None:
    path = quantized(tmp_path, layers.Dense(3))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["config.json"] = members["config.json"].replace(b'"units": 3', b'"units": 4')
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(regspec.RegspecError, match="have other shapes than it says"):
        regspec.port(path)


# -- in a spec ---------------------------------------------------------------------------------------------------------


def spec(layer: str, shape: str = "[7, 5]") -> regspec.ModelSpec:
    return regspec.loads(f"regspec: 1\ninputs: {{x: {{shape: {shape}}}}}\nlayers: [{{{layer}}}]\n")


@pytest.mark.parametrize(
    ("layer", "trained"),
    [
        ("Dense: {units: 3, trainable: bias}", {"dense.bias"}),
        ("Dense: {units: 3, trainable: [kernel]}", {"dense.weight"}),
        ("Dense: {units: 3, trainable: [kernel, bias]}", {"dense.weight", "dense.bias"}),
        ("Dense: {units: 3, trainable: []}", set()),
        ("Dense: {units: 3, trainable: false}", set()),
        ("LSTM: {units: 3, trainable: recurrent}", {"lstm.weight_hh_l0"}),
        ("SeparableConv1D: {filters: 3, kernel_size: 2, trainable: [pointwise, bias]}", None),
        ("MultiHeadAttention: {num_heads: 2, key_dim: 3, trainable: bias}", None),
        ("BatchNormalization: {trainable: beta}", {"batch_normalization.bias"}),
    ],
)
def test_weights_that_are_trained_in_part(layer: str, trained: set[str] | None) -> None:
    """A frozen weight has no gradient and no penalty."""
    model = regspec.build(spec(layer), seed=0)
    paths = {path for path, each in model.named_parameters() if each.requires_grad}
    if trained is not None:
        assert paths == trained
    else:
        assert paths
        assert len(paths) < len(list(model.parameters()))
    output = model(torch.randn(2, 7, 5))
    if paths:
        output.square().sum().backward()
        assert {path for path, each in model.named_parameters() if each.grad is not None} == paths


def test_penalties_of_what_is_trained_in_part() -> None:
    both = "kernel_regularizer: {l2: 0.5}, bias_regularizer: {l2: 0.5}, bias_initializer: ones"
    model = regspec.build(spec(f"Dense: {{units: 3, trainable: bias, {both}}}"), seed=0)
    assert model.regularization_loss().item() == pytest.approx(1.5)
    text = regspec.source(spec(f"Dense: {{units: 3, trainable: bias, {both}}}"))
    assert "        self.dense.weight.requires_grad_(False)\n" in text


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("Dense: {units: 3, trainable: gamma}", "can't train 'gamma' alone: it has kernel, bias"),
        ("Dense: {units: 3, use_bias: false, trainable: bias}", "can't train 'bias' alone: it has kernel"),
        ("ReLU: {trainable: bias}", "can't train 'bias' alone: it has no weights"),
        ("Dense: {units: 3, trainable: 1}", "'trainable"),
        ("TimeDistributed: {layer: {Dense: {units: 3, trainable: bias}}}", "can't be trained in part"),
    ],
)
def test_what_can_not_be_trained_in_part(layer: str, message: str) -> None:
    with pytest.raises(regspec.RegspecError, match=message):
        spec(layer)


@pytest.mark.parametrize("layer", ["Dense: {units: 3", 'EinsumDense: {equation: "abc,bcd->ad", output_shape: 3'])
def test_inputs_that_are_rounded(layer: str) -> None:
    """To a 127th of the largest magnitude of what is summed; with the gradient of the identity."""
    rounding = regspec.build(spec(f"{layer}, name: d, rounds_inputs: true}}"), seed=0)
    plain = regspec.build(spec(f"{layer}, name: d}}"), seed=0)
    plain.load_state_dict(rounding.state_dict())
    x = torch.randn(2, 7, 5, requires_grad=True)
    axes = (-1,) if layer.startswith("Dense") else (1, 2)
    step = x.abs().amax(axes, keepdim=True) / 127
    torch.testing.assert_close(rounding(x), plain((x / step).round() * step), rtol=1e-4, atol=1e-5)
    (a,), (b,) = (torch.autograd.grad(model(x).sum(), x) for model in (rounding, plain))
    torch.testing.assert_close(a, b)


def of_rounded(layer: str) -> tuple[nn.Module, Tensor]:
    """A layer that rounds, and the matrix (outputs, inputs) whose product with the input has its derivatives."""
    if layer == "Rounding":
        linear = nn.Linear(3, 2)
        return nn.Sequential(runtime.Rounding(), linear), linear.weight.detach()
    linear = runtime.RoundedLinear(3, 2)
    einsum = runtime.RoundedEinsumDense("ab,bc->ac", (3, 2), (1, 2))
    for each in (linear, einsum):
        nn.init.uniform_(each.scale, 10, 40)
    return (einsum, einsum.weight.detach().T) if layer == "RoundedEinsumDense" else (linear, linear.weight.detach())


def forwards(call: Any, x: Tensor, tangent: Tensor) -> Tensor:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(call(forward_ad.make_dual(x, tangent))).tangent


def alone(call: Any) -> Any:
    """The function of one example, which is a batch of one."""
    return lambda row: call(row[None])[0]


DERIVED: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {  # of a layer, x and t; of y, its matrix w and t
    "grad": (lambda call, x, t: func.grad(lambda x: call(x).square().sum())(x), lambda y, w, t: 2 * y @ w),
    "of each example": (
        lambda call, x, t: func.vmap(func.grad(lambda row: alone(call)(row).square().sum()))(x),
        lambda y, w, t: 2 * y @ w,
    ),
    "vmap": (lambda call, x, t: func.vmap(call)(torch.stack([x, x])), lambda y, w, t: torch.stack([y, y])),
    "jacrev": (lambda call, x, t: func.jacrev(alone(call))(x[0]), lambda y, w, t: w),
    "jacfwd": (lambda call, x, t: func.jacfwd(alone(call))(x[0]), lambda y, w, t: w),
    "hessian": (
        lambda call, x, t: func.hessian(lambda row: alone(call)(row).square().sum())(x[0]),
        lambda y, w, t: 2 * w.T @ w,
    ),
    "jvp": (lambda call, x, t: func.jvp(call, (x,), (t,))[1], lambda y, w, t: t @ w.T),
    "jvp of vmap": (lambda call, x, t: func.jvp(func.vmap(alone(call)), (x,), (t,))[1], lambda y, w, t: t @ w.T),
    "dual numbers": (forwards, lambda y, w, t: t @ w.T),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")  # torch's own, when it derives forwards
@pytest.mark.parametrize("has_gradients", [True, False])
@pytest.mark.parametrize("name", DERIVED)
@pytest.mark.parametrize("layer", ["Rounding", "RoundedLinear", "RoundedEinsumDense"])
def test_derivatives_of_what_is_rounded(layer: str, name: str, has_gradients: bool) -> None:
    """By the transforms of `torch.func`, of which those of forward mode go on under `no_grad`."""
    call, w = of_rounded(layer)
    x, tangent = torch.randn(4, 3), torch.randn(4, 3)
    derive, wanted = DERIVED[name]
    y = call(x).detach()
    with torch.set_grad_enabled(has_gradients):
        torch.testing.assert_close(derive(call, x, tangent), wanted(y, w, tangent))
        torch.testing.assert_close(call(x), y, rtol=0, atol=0)


# Under autocast a product of float16 overflows, but not that of whole numbers. By the transforms that derive it once:
# those of the square have the product of such numbers as a factor.
LARGE = [name for name in DERIVED if name not in ("grad", "of each example", "hessian")]
OVERFLOWS = pytest.mark.parametrize("layer", ["RoundedLinear", "RoundedEinsumDense"])


def overflowing(layer: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A layer, whose inputs are 300 and weights 100, and its results, of three products."""
    call, _ = of_rounded(layer)
    nn.init.constant_(call.weight, 100.0)
    nn.init.ones_(call.scale)
    if layer == "RoundedLinear":
        nn.init.zeros_(call.bias)
    return call, torch.full((4, 3), 300.0), torch.full((4, 2), 3 * 300 * 100.0)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")  # torch's own, when it derives forwards
@pytest.mark.parametrize("name", LARGE)
@OVERFLOWS
def test_products_that_overflow(layer: str, name: str) -> None:
    call, x, y = overflowing(layer)
    derive, wanted = DERIVED[name]
    tangent = torch.arange(12.0).view(4, 3)
    with torch.autocast("cpu", torch.float16):
        derived, found = derive(call, x, tangent), call(x)
    torch.testing.assert_close(derived, wanted(y, torch.full((2, 3), 100.0), tangent))
    torch.testing.assert_close(found, y)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=everything)])
@pytest.mark.parametrize("is_large", [False, True])
@OVERFLOWS
def test_what_is_rounded_is_compiled(layer: str, is_large: bool, backend: str) -> None:
    """In one graph, with the gradients of the product."""
    call, x, y = overflowing(layer)
    if not is_large:
        x, y = x / 300, y / 300
    x.requires_grad_()
    compiled = torch.compile(call, backend=backend, fullgraph=True)
    with torch.autocast("cpu", torch.float16):
        found = compiled(x)
    torch.testing.assert_close(found, y)
    found.sum().backward()
    torch.testing.assert_close(x.grad, torch.full((4, 3), 2 * 100.0))
    torch.testing.assert_close(call.weight.grad, 4 * x.detach()[0, 0].expand(call.weight.shape))


def test_numbers_of_four_bits() -> None:
    """Against Keras's own packing, along either axis, of odd and even sizes."""
    from regspec.keras.arrays.quantized import _unpacked

    rng = np.random.default_rng(0)
    for shape, axis in [((3, 4), -1), ((3, 5), -1), ((4, 3), 0), ((5, 3), 0)]:
        whole = rng.integers(-8, 8, shape).astype("int8")
        packed, _, _ = keras.quantizers.pack_int4(whole, axis=axis)
        assert (_unpacked(np.asarray(packed), shape[axis], axis=axis) == whole).all()


def test_notes_name_the_layer(tmp_path: Path) -> None:
    port = regspec.port(quantized(tmp_path, layers.Dense(3, name="head")))
    assert port.notes == ("'head' has the numbers that its weights of 8 bits stand for, frozen as in Keras",)
    assert "{name: head, units: 3, rounds_inputs: true, rounds_kernel: true, trainable: [bias]}" in port.text


DEEP: dict[str, Callable[[Any], Any]] = {
    "Dense": lambda x: [layers.Dense(64, activation="relu"), layers.Dense(64, activation="tanh"), layers.Dense(10)],
    "EinsumDense": lambda x: [
        layers.EinsumDense("abc,cde->abde", (None, 2, 24), bias_axes="de", activation="relu"),
        layers.EinsumDense("abcd,cde->abe", (None, 16)),
        layers.Dense(5, use_bias=False),
    ],
}


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("Dense", "int4"),
        ("EinsumDense", "int8"),
        pytest.param("Dense", "int8", marks=everything),
        pytest.param("EinsumDense", "int4", marks=everything),
    ],
)
def test_layers_that_round_what_others_give(name: str, mode: str, tmp_path: Path) -> None:
    """Where a number is off by its last digit, the next layer rounds it to another one, and the error is 1e-3.

    So a layer gives the same numbers as Keras's, and not such that are close.
    """
    shape = (7, 32)
    x = keras.Input(shape)
    y = x
    for layer in DEEP[name](x):
        y = layer(y)
    model = filled(x, y)
    model.quantize(mode)
    model.save(tmp_path / "model.keras")
    port = regspec.port(tmp_path / "model.keras")
    ported = port.build()
    for seed in range(3):
        given = torch.randn(128, *shape, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            torch.testing.assert_close(ported(given), model(given, training=False), rtol=1e-6, atol=1e-6)
    folded = regspec.port(tmp_path / "model.keras", fold=True)
    assert folded.text == port.text


def test_a_normalization_is_not_folded_into_whole_numbers(tmp_path: Path) -> None:
    x = keras.Input((4,))
    model = filled(x, layers.BatchNormalization()(layers.Dense(3)(x)))
    model.quantize("int8")
    model.save(tmp_path / "model.keras")
    port, given = regspec.port(tmp_path / "model.keras", fold=True), torch.randn(9, 4)
    torch.testing.assert_close(port.build()(given), model(given), rtol=1e-5, atol=1e-5)
    assert "BatchNormalization" in port.text


def test_a_kernel_that_is_rounded_alone() -> None:
    for layer in ("Dense: {units: 3", 'EinsumDense: {equation: "abc,cd->abd", output_shape: [null, 3]'):
        with pytest.raises(regspec.RegspecError, match="needs rounds_inputs: true"):
            spec(f"{layer}, rounds_kernel: true}}")
