"""Live models of Keras: ported as their files are, and as they are in memory; what can't be ported is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers

import regspec

from .layers import reference
from .ported import agrees
from .test_port import MODELS

pytestmark = pytest.mark.filterwarnings("ignore")  # of Keras, when it saves


@pytest.mark.parametrize("name", MODELS)
def test_a_live_model_is_ported_as_its_file(name: str, tmp_path: Path) -> None:
    model = MODELS[name][0]()
    reference.fill(model, 1)
    model.save(tmp_path / "model.keras")
    live, file = regspec.port(model), regspec.port(tmp_path / "model.keras")
    assert (live.text, live.notes, live.training) == (file.text, file.notes, file.training)
    assert live.weights.keys() == file.weights.keys()
    assert all(np.array_equal(live.weights[name], each) for name, each in file.weights.items())


def test_a_port_is_of_the_model_as_it_was() -> None:
    model = keras.Sequential([layers.Input((5,)), layers.Dense(3, kernel_regularizer="l2", name="d")])
    port = regspec.port(model, verify=True)
    before = model.get_weights()
    model.set_weights([each + 1 for each in before])
    assert np.array_equal(port.weights["d.weight"], before[0].T)
    assert port.verify().passed


def attending() -> Any:
    x = keras.Input((4, 6))
    y = layers.MultiHeadAttention(2, 3, kernel_regularizer="l2", name="a")(x, x)
    y = layers.LSTM(3, kernel_regularizer="l1", name="r")(y)
    return keras.Model(x, layers.Dense(2, kernel_regularizer="l2", name="d")(y))


def test_layers_that_were_frozen_in_memory(tmp_path: Path) -> None:
    """Of attention Keras freezes all it holds, but not when it reads the file again."""
    model = attending()
    reference.fill(model, 1)
    for name in "ar":
        model.get_layer(name).trainable = False
    port = regspec.port(model, verify=True)
    x = torch.randn(3, 4, 6)
    agrees(model, port, inputs=[x])
    assert [*port.build().regularization_terms()] == ["d.kernel"]
    model.save(tmp_path / "model.keras")
    file = regspec.port(tmp_path / "model.keras")
    assert len(file.build().regularization_terms()) == 5  # of the projections too


def test_a_model_that_was_read_frozen_is_as_keras_has_it(tmp_path: Path) -> None:
    model = attending()
    model.get_layer("a").trainable = False
    model.save(tmp_path / "model.keras")
    read = keras.saving.load_model(tmp_path / "model.keras")
    reference.fill(read, 1)
    agrees(read, regspec.port(read, verify=True), inputs=[torch.randn(3, 4, 6)])


class Doubled(layers.Layer):
    """A layer of the user's that is not registered with Keras."""

    def __init__(self, times: float = 2.0, **rest: Any) -> None:
        super().__init__(**rest)
        self.times = times

    def call(self, x: Any) -> Any:
        return self.times * x

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "times": self.times}


class Times(torch.nn.Module):
    def __init__(self, times: float = 1.0) -> None:
        super().__init__()
        self.times = times

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.times * x


class Once(Times):
    """What does not compute what Keras computes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def with_own_layer() -> Any:
    return keras.Sequential([layers.Input((5,)), layers.Dense(3), Doubled(3.0, name="own")], name="m")


@pytest.mark.usefixtures("_registry")
def test_layers_of_the_users() -> None:
    model = with_own_layer()
    port = regspec.port(model, replace={"Doubled": Times}, verify=True)
    agrees(model, port, inputs=[torch.randn(3, 5)])
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.port(model, replace={"Doubled": Once}, verify=True)
    problem = caught.value.problems[0]
    assert problem.path == "the model 'm'"
    assert problem.what.startswith("was ported otherwise than Keras computes it: outputs in evaluation: own has a rela")


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__(name="s")
        self.dense = layers.Dense(3)

    def call(self, x: Any) -> Any:
        return self.dense(x)


class Speechless(layers.Layer):
    def call(self, x: Any) -> Any:
        return x

    def get_config(self) -> dict[str, Any]:
        raise NotImplementedError("it has none")


def speechless() -> Any:
    return keras.Sequential([layers.Input((5,)), Speechless()], name="m")


CODE = (
    "the model 's': error: is of the class Subclassed, a Model with a call of its own, which is code and no graph of "
)
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "subclassed": (Subclassed, CODE),
    "unbuilt": (
        lambda: keras.Sequential([layers.Dense(3)], name="u"),
        "the model 'u': error: was never built, so that the shapes of its inputs and weights are not known",
    ),
    "a layer of the user's": (
        with_own_layer,
        "the model 'm': error: 'own' (Doubled) can't be ported: no kind ports the class Doubled (Doubled), which is ",
    ),
    "a layer without a config": (speechless, "the model 'm': error: can't be saved by Keras: it has none"),
    "a layer": (
        lambda: layers.Dense(3),
        "error: port takes a file or a model of Keras, and not keras.src.layers.core.",
    ),
    "a module": (lambda: torch.nn.Linear(2, 3), "error: port takes a file or a model of Keras, and not torch.nn."),
    "nothing": (lambda: None, "error: port takes a file or a model of Keras, and not builtins.NoneType"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(regspec.RegspecError) as caught:
        regspec.port(make())
    assert str(caught.value).startswith(message)


@pytest.mark.usefixtures("_registry")
def test_where_nothing_was_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.json").write_text(with_own_layer().to_json())
    with pytest.raises(regspec.RegspecError, match="was not verified: outputs, penalties and gradients: Keras is not"):
        regspec.port(tmp_path / "model.json", replace={"Doubled": Times}, verify=True)


def test_the_report_of_a_live_model(tmp_path: Path) -> None:
    port = regspec.port(keras.Sequential([layers.Input((5,)), layers.Dense(3)], name="m"))
    port.save(tmp_path / "out")
    said = f"- **From:** the model 'm', as Keras `{keras.__version__}` had it in memory, saved `"
    assert said in (tmp_path / "out" / "report.md").read_text()
