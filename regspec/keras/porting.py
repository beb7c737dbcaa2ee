"""A Keras model in a file, as a spec and its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from regspec import files
from regspec.compiler import graph_of, loads, source
from regspec.errors import Problem, RegspecError
from regspec.keras import archive, variables
from regspec.keras.dialect import Dialect
from regspec.keras.layers import kind_of
from regspec.keras.models import Model, Reader
from regspec.keras.values import UnportedError
from regspec.layers.layer import Spatial
from regspec.spec.model import ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn


@dataclass(frozen=True)
class Port:
    """A Keras model, ported: a spec, its text, torch's parameters by name, and notes on what may surprise."""

    spec: ModelSpec
    text: str
    weights: Mapping[str, NDArray[np.generic]]
    notes: tuple[str, ...] = ()

    def build(self) -> nn.Module:
        """The module, with the weights of the file; in evaluation mode, as Keras's models are when they are called."""
        import torch

        from regspec.building import build

        model = build(self.spec, seed=0)
        state = {name: torch.as_tensor(array.copy()) for name, array in self.weights.items()}
        model.load_state_dict({**model.state_dict(), **state})
        return model.eval()

    def save(self, folder: str | Path) -> None:
        """Writes ``spec.yaml``, ``model.py`` and ``weights.safetensors``. Raises `RegspecError`."""
        import safetensors.numpy

        folder = Path(folder)
        state = {name: value.detach().numpy() for name, value in self.build().state_dict().items()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RegspecError(Problem(f"can't be made: {error.strerror}", path=str(folder))) from None
        files.write(folder / "spec.yaml", self.text)
        files.write(folder / "model.py", source(self.spec))
        files.write(folder / "weights.safetensors", safetensors.numpy.save(state))


def port(
    path: str | Path,
    *,
    weights: str | Path | None = None,
    activity_reduction: Literal["mean", "sum"] | None = None,
    keeps_quirks: bool = True,
) -> Port:
    """The model in a file of Keras, as a spec with its weights: ``.keras``, ``.h5``, or the JSON of ``to_json()``.

    Args:
        path: the file.
        weights: a ``.weights.h5`` file, for a config without weights.
        activity_reduction: whether the activity penalties were divided by the batch size (mean) or not (sum), where the
            file does not tell.
        keeps_quirks: whether what Keras does and nobody can have wanted, such as a penalty that it drops, is done too;
            the notes name each.

    Raises:
        RegspecError: with every layer that can't be ported, or with what is wrong with the file.
    """
    stored = archive.read(Path(path), None if weights is None else Path(weights))
    dialect = Dialect(_data_format(stored.config), _generation(stored), keeps_quirks)
    reader = Reader(dialect)
    try:
        model = reader.model(stored.config)
    except (
        UnportedError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
        ArithmeticError,
    ) as error:
        reason = error if isinstance(error, UnportedError) else f"its config is damaged: {error!r}"
        raise RegspecError(Problem(f"can't be ported: {reason}", path=str(path))) from None
    if reader.problems:
        raise RegspecError(reader.problems)
    text = _text(model, dialect.data_format, activity_reduction or _reduction(stored))
    spec = loads(text, "<the ported spec>")
    found = variables.constants_of(graph_of(spec), model)
    if stored.arrays is not None:
        found |= variables.parameters_of(graph_of(spec), model, stored.config["config"], stored.arrays)
    return Port(spec, text, found, tuple(dialect.notes))


def _generation(stored: archive.Archive) -> int:
    """The Keras that wrote a file: 1, 2 or 3; of JSON without a version, 3."""
    first = (stored.version or "3").split(".")[0]
    return int(first) if first in ("1", "2") else 3


def _data_format(config: Any) -> str:
    """Where the channels lie in a model: last, unless all layers that say so say first."""
    formats = {
        layer["config"].get("data_format")
        for layer in _layers(config)
        if (cls := kind_of(layer["class_name"])) is not None and issubclass(cls, Spatial)
    } - {None}
    return "channels_first" if formats == {"channels_first"} else "channels_last"


def _layers(config: Any) -> list[Any]:
    """All layers of a config, wherever in it they are."""
    items = [
        item
        for own in _said(config, "layers") + _said(config, "layer")
        for item in (own if isinstance(own, list) else [own])
    ]
    return [
        item
        for item in items
        if isinstance(item, dict) and isinstance(item.get("config"), dict) and isinstance(item.get("class_name"), str)
    ]


def _said(value: Any, key: str) -> list[Any]:
    found, waiting = [], [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            found.extend([each[key]] if key in each else [])
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
    return found


def _reduction(stored: archive.Archive) -> str:
    """Whether the version that wrote a file divided activity penalties by the batch size."""
    if not any(value is not None for value in _said(stored.config, "activity_regularizer")):
        return "mean"
    version = stored.version
    if version is None:
        if _said(stored.config, "input_axes") or _said(stored.config, "renorm") or _said(stored.config, "use_gate"):
            return "mean"
        if _said(stored.config, "quantization_config") or _said(stored.config, "optional"):
            what = "has activity penalties, and does not tell whether its Keras divided them by the batch size"
            hint = "give activity_reduction: 'mean' for Keras 3.14 or newer, 'sum' for 3.13"
            raise RegspecError(Problem(what, hint, str(stored.path)))
        return "sum"
    numbers = tuple(int(part) for part in version.split("-")[0].split(".")[:2] if part.isdigit())
    if numbers >= (3, 14) or ((2, 4) <= numbers < (3, 0)) or (numbers[:1] == (2,) and "-tf" in version):
        return "mean"
    return "sum"


# -- the text of the spec ----------------------------------------------------------------------------------------------


def _text(model: Model, data_format: str, reduction: str) -> str:
    lines = ["regspec: 1", f"name: {_flow(model.name)}"]
    if data_format != "channels_first":
        lines.append(f"data_format: {data_format}")
    if reduction != "mean":
        lines.append(f"activity_reduction: {reduction}")
    lines += ["inputs:", *(f"  {name}: {_flow(declared)}" for name, declared in model.inputs.items())]
    blocks = _blocks(model)
    if blocks:
        lines.append("blocks:")
        for name, block in blocks.items():
            lines.append(f"  {name}:")
            lines.append(f"    inputs: {_flow([*block.inputs])}")
            lines.append("    layers:")
            lines += [f"      - {entry}" for entry in _entries(block)]
            lines.append(f"    outputs: {_flow(block.outputs)}")
    lines += ["layers:", *(f"  - {entry}" for entry in _entries(model))]
    lines.append(f"outputs: {_flow(model.outputs)}")
    return "\n".join(lines) + "\n"


def _blocks(model: Model) -> dict[str, Model]:
    """The models inside, by the names of their blocks; those that others use come first."""
    found: dict[str, Model] = {}
    for inner in model.inner.values():
        found |= {**_blocks(inner), inner.name: inner}
    return found


def _entries(model: Model) -> Iterator[str]:
    """The layers, a line each; what a layer takes is said where it is not what stands before."""
    last = list(model.inputs)[-1]
    for entry in model.entries:
        ((kind, fields),) = entry.items()
        said = dict(fields)
        if said["inputs"] == [last]:
            del said["inputs"]
        elif len(said["inputs"]) == 1:
            said["inputs"] = said["inputs"][0]
        last = said["name"]
        yield f"{kind}: {_flow(said)}"


def _flow(value: Any) -> str:
    """A value in YAML, on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False, allow_unicode=True)
    return text.removesuffix("...\n").strip()
