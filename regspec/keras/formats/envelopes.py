"""Whether a config says of a model what the port must know: its class and its layers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regspec.keras.kinds import kind_of
from regspec.keras.models import MODELS
from regspec.text.problems import Problem, RegspecError


def check(item: Mapping[str, Any], path: Path) -> None:
    """Raises `RegspecError` where a config is none of a model whose layers it says."""
    name, config = item.get("class_name"), item.get("config")
    if not isinstance(name, str) or name in MODELS or (isinstance(config, dict) and "layers" in config):
        return
    if kind_of(name) is not None:
        what, hint = f"is the config of a layer, {name}, and of no model", "model.to_json() gives that of a model"
    else:
        what = f"is of the class '{name[:80]}', which is the user's own: what its layers are stands in its code alone"
        hint = "where the class is at hand: keras.Model(x, model.call(x)).save('model.keras'), with x = keras.Input(…)"
    raise RegspecError(Problem(what, hint, str(path)))
