"""A Keras model in a file, as a spec and its weights."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from regspec import files
from regspec.axes import Order
from regspec.compiler import graph_of, loads, source
from regspec.errors import Problem, RegspecError
from regspec.graph import Graph
from regspec.keras import archive, keras1, keras2, legacy, masks, variables
from regspec.keras.conversion import Converted, Wanted, converted
from regspec.keras.dialect import Dialect, said
from regspec.keras.layers import kind_of
from regspec.keras.models import Model, Reader
from regspec.keras.precision import precision_of
from regspec.keras.values import UnportedError
from regspec.layers.layer import Spatial
from regspec.shapes import Precision
from regspec.spec.model import ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn


PLAIN = re.compile("[A-Za-z_][A-Za-z0-9_]*")  # texts that are what they look like, but for a few


@dataclass(frozen=True)
class Port:
    """A Keras model, ported: a spec, its text, torch's parameters by name, and notes on what may surprise."""

    spec: ModelSpec
    text: str
    weights: Mapping[str, NDArray[np.generic]]
    notes: tuple[str, ...] = ()
    input_orders: Mapping[str, Order] = field(default_factory=dict)  # Keras's axes as they lie, where otherwise
    output_orders: Mapping[str, Order] = field(default_factory=dict)
    original: Port | None = field(default=None, repr=False, compare=False)  # before it was folded, converted, …

    def build(self) -> nn.Module:
        """The module, with the weights of the file; in evaluation mode, as Keras's models are when they are called."""
        import torch

        from regspec.building import build

        model = build(self.spec, seed=0)
        state = {name: torch.as_tensor(array) for name, array in self.weights.items()}
        model.load_state_dict({**model.state_dict(), **state})
        return model.eval()

    def save(self, folder: str | Path) -> None:
        """Writes ``spec.yaml``, ``model.py`` and ``weights.safetensors``. Raises `RegspecError`."""
        import safetensors.torch

        folder = Path(folder)
        # each a tensor of its own, as this format wants them
        state = {name: value.detach().clone() for name, value in self.build().state_dict().items()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RegspecError(Problem(f"can't be made: {error.strerror}", path=str(folder))) from None
        files.write(folder / "spec.yaml", self.text)
        files.write(folder / "model.py", source(self.spec))
        files.write(folder / "weights.safetensors", safetensors.torch.save(state))


def port(
    path: str | Path,
    *,
    weights: str | Path | None = None,
    activity_reduction: Literal["mean", "sum"] | None = None,
    keeps_quirks: bool = True,
    data_format: Literal["channels_first", "channels_last"] | None = None,
    fold: bool = False,
    blocks: bool = False,
) -> Port:
    """The model in a file of Keras, as a spec with its weights: ``.keras``, ``.h5``, or the JSON of ``to_json()``.

    Args:
        path: the file.
        weights: a ``.weights.h5`` file, for a config without weights.
        activity_reduction: whether the activity penalties were divided by the batch size (mean) or not (sum), where the
            file does not tell.
        keeps_quirks: whether what Keras does and nobody can have wanted, such as a penalty that it drops, is done too;
            the notes name each.
        data_format: channels_first converts a model with channels last: its images are (batch, channels, height,
            width), and its weights go with them, those after a Flatten included.
        fold: whether a BatchNormalization that stands alone behind a convolution or a Dense becomes part of it, for
            inference.
        blocks: whether layers that repeat become blocks, so that a ResNet reads like one; the names of its weights
            begin with those of the blocks then.

    Raises:
        RegspecError: with every layer that can't be ported, or with what is wrong with the file.
    """
    stored = archive.read(Path(path), None if weights is None else Path(weights))
    dialect = Dialect.of(stored.version, stored.config, keeps_quirks)
    dialect.has_arrays = stored.arrays is not None
    reader = Reader(dialect)
    try:
        config = _renewed(stored, dialect)
        dialect.data_format, dialect.dtype = _data_format(config), _precision(config)
        model = reader.model(config)
    except (
        UnportedError,
        LookupError,
        TypeError,
        ValueError,
        ArithmeticError,
        AttributeError,
        RecursionError,
    ) as error:
        reason = error if isinstance(error, UnportedError) else f"its config is damaged: {error!r}"
        raise RegspecError(Problem(f"can't be ported: {reason}", path=str(path))) from None
    if reader.problems:
        raise RegspecError(reader.problems)
    settings = _settings(config, dialect, activity_reduction or _reduction(stored, dialect))
    _settle_masks(model, dialect, settings)

    def resolved(model: Model) -> tuple[str, ModelSpec, Graph]:
        """The text of a model, its spec and its graph."""
        kept = {key: value for key, value in settings.items() if key != "data_format" or value == dialect.data_format}
        text = _text(model, kept)
        spec = loads(text, "<the ported spec>")
        return text, spec, graph_of(spec)

    text, spec, graph = resolved(model)
    arrays: Mapping[variables.WeightPath, Any] = {}
    if stored.arrays is not None:
        found = stored.arrays
        if dialect.generation < 3:
            found = legacy.Renewed(found, config, dialect.generation)
        arrays = variables.arrays_of(graph, model, config["config"], found)
    original = Port(spec, text, variables.parameters_of(graph, arrays), tuple(dialect.notes))
    wanted = Wanted(data_format, fold, blocks)
    made = converted(Converted(model, arrays), wanted, dialect, lambda model: resolved(model)[2])
    if made.model is model:
        return replace(original, notes=tuple(dialect.notes))
    text, spec, graph = resolved(made.model)
    parameters = variables.parameters_of(graph, made.arrays)
    return Port(spec, text, parameters, tuple(dialect.notes), made.inputs, made.outputs, original)


def _settle_masks(model: Model, dialect: Dialect, settings: Mapping[str, str]) -> None:
    """Has a model's entries name the masks that they must. Raises `RegspecError`."""
    if not masks.needs_settling(model):
        return
    unmasks = dialect.generation == 3 and dialect.keeps_quirks
    try:
        reasons = masks.settle(
            model, lambda: graph_of(loads(_text(model, settings), "<the ported spec>")), unmasks=unmasks
        )
    except UnportedError as reason:
        raise RegspecError(Problem(f"can't be ported: {reason}")) from None
    for each in sorted(reasons):
        dialect.note(f"in Keras {each}; so it is in the port, but not with keeps_quirks=False")


def _renewed(stored: archive.Archive, dialect: Dialect) -> dict[str, Any]:
    """A file's config in the form of Keras 3."""
    layers = [layer for layer in _layers(stored.config) if layer["class_name"] != "InputLayer"]
    counts = Counter(layer.get("shared_object_id") for layer in layers)
    for layer in layers:
        if layer.get("shared_object_id") is not None and counts[layer["shared_object_id"]] > 1:
            what = "is shared between models; here each has a copy, whose penalties count by themselves"
            dialect.note(f"'{layer['config'].get('name')}' {what}")
    config = keras1.renewed(stored.config, dialect) if dialect.generation == 1 else stored.config
    return keras2.renewed(config, dialect) if dialect.generation < 3 else config


def _data_format(config: Any) -> str:
    """Where the channels lie in a model: last, unless all layers that say so say first."""
    formats = [
        layer["config"].get("data_format")
        for layer in _layers(config)
        if (cls := kind_of(layer["class_name"])) is not None and issubclass(cls, Spatial)
    ]
    said = [each for each in formats if each is not None]
    return "channels_first" if said and all(each == "channels_first" for each in said) else "channels_last"


def _precision(config: Any) -> Precision:
    """The type in which most layers keep their weights."""
    layers = (layer for layer in _layers(config) if kind_of(layer["class_name"]) is not None)
    return precision_of(layer["config"].get("dtype") for layer in layers)


def _layers(config: Any) -> list[Any]:
    """All layers of a config, wherever in it they are."""
    items = [item for own in said(config, "layers", "layer") for item in (own if isinstance(own, list) else [own])]
    return [
        item
        for item in items
        if isinstance(item, dict) and isinstance(item.get("config"), dict) and isinstance(item.get("class_name"), str)
    ]


def _reduction(stored: archive.Archive, dialect: Dialect) -> str:
    """Whether the version that wrote a file divided activity penalties by the batch size."""
    if not any(value is not None for value in said(stored.config, "activity_regularizer")):
        return "mean"
    if dialect.generation < 3:
        return "sum" if dialect.is_standalone else "mean"
    if dialect.version:
        return "mean" if dialect.version >= (3, 14) else "sum"
    if said(stored.config, "input_axes", "renorm", "use_gate"):
        return "mean"
    if said(stored.config, "quantization_config", "optional"):
        what = "has activity penalties, and does not tell whether its Keras divided them by the batch size"
        hint = "give activity_reduction: 'mean' for Keras 3.14 or newer, 'sum' for 3.13"
        raise RegspecError(Problem(what, hint, str(stored.path)))
    return "sum"


# -- the text of the spec ----------------------------------------------------------------------------------------------


def _settings(config: Any, dialect: Dialect, reduction: str) -> dict[str, str]:
    """What holds for the whole spec, where it is not as it would be anyway."""
    settings = {}
    if dialect.data_format != "channels_first":
        settings["data_format"] = dialect.data_format
    if dialect.dtype != "float32":
        settings["dtype"] = dialect.dtype
    if reduction != "mean":
        settings["activity_reduction"] = reduction
    if dialect.generation < 3 and keras2.has_frozen_penalties(config):
        settings["frozen_penalties"] = "counted"
        dialect.note("penalties of frozen weights count in the sum, as in Keras 2: frozen_penalties: counted")
    return settings


def _text(model: Model, settings: Mapping[str, str]) -> str:
    lines = ["regspec: 1", f"name: {_flow(model.name)}", *(f"{name}: {value}" for name, value in settings.items())]
    lines += ["inputs:", *(f"  {_flow(name)}: {_flow(declared)}" for name, declared in model.inputs.items())]
    blocks = _blocks(model)
    if blocks:
        lines.append("blocks:")
        for name, block in blocks.items():
            lines.append(f"  {_flow(name)}:")
            if block.parameters:
                lines.append(f"    parameters: {_flow(block.parameters)}")
            if [*block.inputs] != ["input"]:
                lines.append(f"    inputs: {_flow([*block.inputs])}")
            lines.append("    layers:")
            lines += [f"      - {entry}" for entry in _entries(block)]
            if block.outputs not in [fields["name"] for fields in block.entries[-1].values()]:
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
        yield f"{_flow(kind)}: {_flow(said)}"


def _flow(value: Any) -> str:
    """A value in YAML, on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, str):
        return _flow_of_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f".{value}".replace(".-", "-.")
    return json.dumps(value)


def _flow_of_text(value: str) -> str:
    """A text in YAML, in quotes where it needs them within a list."""
    if PLAIN.fullmatch(value) and value.lower() not in ("null", "true", "false", "yes", "no", "on", "off"):
        return value
    text: str = yaml.safe_dump([value], default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.strip()[1:-1]
