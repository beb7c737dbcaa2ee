"""Live models of Keras: each is saved by its own Keras, to a folder that goes with what came of it, and read there.

So a live model is ported as its file would be. What the file can't say of it is kept beside: the user's classes, what
is trained, and penalties of outputs that Keras 2 does not write. Keras is never imported here: whoever has a model of
it has done so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from inspect import isfunction
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any
from weakref import finalize

from regspec.keras.configs.values import ROOTS
from regspec.text.problems import Problem, RegspecError, first_sentence

PACKAGES = ("keras", "tf_keras")  # of which each is Keras 2 or 3
GRAPHS = ("Functional", "Sequential")
BUILDING = "build it first: call it on an input, or give it a keras.Input"


@dataclass(frozen=True, eq=False)
class LiveModel:
    """A live model that was saved: where, by which Keras, and what the file does not say of it."""

    name: str
    path: Path
    package: str  # what to import for its Keras
    objects: dict[str, Any]  # the user's own classes and functions, by the names under which a file has them
    states: tuple[tuple[bool, Any], ...]  # of its layers, in Keras's order: whether trained, and the output's penalty
    activities: Mapping[
        tuple[str, ...], Any
    ]  # penalties of outputs as Keras writes them, by the names of models around
    thawed: frozenset[str]  # names of layers that are said to be frozen, and hold weights that are trained

    def load(self) -> Any:
        """The model again, as it was when it was saved; nothing that happens to it changes the user's."""
        models = import_module(f"{self.package}.models")
        safe = {"safe_mode": False} if self.path.suffix == ".keras" else {}  # code in it is the user's own
        made = models.load_model(str(self.path), custom_objects=self.objects, compile=False, **safe)
        for layer, (is_trained, activity) in zip(layers_of(made), self.states, strict=True):
            layer.trainable = is_trained
            if activity is not None and getattr(layer, "activity_regularizer", None) is None:
                layer.activity_regularizer = activity
        return made

    def completed(self, config: dict[str, Any], within: tuple[str, ...] = ()) -> dict[str, Any]:
        """The config in the file, with the penalties of outputs that Keras 2 leaves out of those of some layers."""
        own = config.get("config")
        if not isinstance(own, dict):
            return config
        way = (*within, str(own.get("name")))
        if way in self.activities and own.get("activity_regularizer") is None:
            own = {**own, "activity_regularizer": self.activities[way]}
        if isinstance(layers := own.get("layers"), list):
            own = {**own, "layers": [self.completed(each, way) for each in layers]}
        return {**config, "config": own}

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Gives problems inside the model's name, in place of the path where it was saved."""
        try:
            yield
        except RegspecError as error:
            own = str(self.path)
            named = [
                replace(each, path=self.name) if (each.path or "").startswith(own) else each for each in error.problems
            ]
            raise RegspecError(named) from error.__cause__


def layers_of(model: Any) -> Iterator[Any]:
    """A model and all layers in it, however deep."""
    return iter(model._flatten_layers())


def _package_of(model: Any) -> str | None:
    """What to import for the Keras that made a model; None for what is no model of Keras."""
    roots = (cls.__module__.partition(".")[0] for cls in type(model).__mro__ if cls.__name__ == "Model")
    return next((root for root in roots if root in PACKAGES), None)


def saved(model: Any) -> LiveModel:
    """A live model, saved. Raises `RegspecError` for one that can't be, or that is no model of Keras."""
    package = _package_of(model)
    if package is None:
        what = f"port takes a file or a model of Keras, and not {type(model).__module__}.{type(model).__qualname__}"
        raise RegspecError(what)
    name = f"the model '{model.name}'"
    _check_graph(model, name)
    generation = int(sys.modules[package].__version__.partition(".")[0])
    folder = mkdtemp(prefix="regspec-")
    path = Path(folder) / ("model.keras" if generation > 2 else "model.h5")
    try:
        model.save(str(path))
    except Exception as error:  # Keras, and the user's classes in the model, may raise anything
        rmtree(folder, ignore_errors=True)
        raise RegspecError(Problem(f"can't be saved by Keras: {first_sentence(error)}", path=name)) from error
    layers = [*layers_of(model)]
    live = LiveModel(
        name=name,
        path=path,
        package=package,
        objects=dict(_own_objects(layers, sys.modules[package])),
        states=tuple((bool(each.trainable), getattr(each, "activity_regularizer", None)) for each in layers),
        activities=dict(_activities(model, sys.modules[package])),
        thawed=frozenset(each.name for each in layers if not each.trainable and any(w.trainable for w in each.weights)),
    )
    finalize(live, rmtree, folder, ignore_errors=True)
    return live


def _check_graph(model: Any, name: str) -> None:
    """Raises `RegspecError` for a model without a graph of layers."""
    own = type(model)
    is_graph = any(cls.__name__ in GRAPHS for cls in own.__mro__) or getattr(model, "_is_graph_network", False)
    if not is_graph:
        what = (
            f"is of the class {own.__qualname__}, a Model with a call of its own, which is code and no graph of layers"
        )
        hint = "write that class in torch, and port the Functional and Sequential models that it holds one by one"
        raise RegspecError(Problem(what, hint, name))
    if not model.built or not getattr(model, "inputs", None):
        raise RegspecError(
            Problem("was never built, so that the shapes of its inputs and weights are not known", BUILDING, name)
        )


def _activities(layer: Any, keras: Any, within: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The penalties on the output of a layer and of those in it, if it is a model."""
    way = (*within, str(layer.name))
    if (own := getattr(layer, "activity_regularizer", None)) is not None:
        yield way, keras.regularizers.serialize(own)
    for each in getattr(layer, "layers", ()):
        yield from _activities(each, keras, way)


def _own_objects(layers: Sequence[Any], keras: Any) -> Iterator[tuple[str, Any]]:
    """The user's classes and functions in layers: of the layers, of their regularizers, activations and the like."""
    for layer in layers:
        held = [value if isfunction(value) else type(value) for value in vars(layer).values()]
        for each in (type(layer), *held):
            is_saved = isfunction(each) or hasattr(each, "get_config")
            if is_saved and each.__module__.partition(".")[0] not in ROOTS:
                yield each.__name__, each
                yield keras.saving.get_registered_name(each), each
