"""An old Keras on TensorFlow 2.12: what it asks of TensorFlow 1 and of an old Python, put in its place."""

from __future__ import annotations

import builtins
import collections
import collections.abc
import importlib
import inspect
import os
import sys
import types
from typing import Any

import numpy as np


class Absent(types.ModuleType):
    """A module of which every attribute is None."""

    __path__: list[str] = []  # noqa: RUF012  # of a module, not of instances

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def old_keras(folder: str) -> Any:
    """The package `keras` of a folder, with TensorFlow as its backend."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    for name in ("Iterable", "Mapping", "Sequence", "Callable", "Hashable"):
        setattr(collections, name, getattr(collections.abc, name))
    arguments = collections.namedtuple("arguments", "args varargs keywords defaults")
    inspect.getargspec = lambda function: arguments(*inspect.getfullargspec(function)[:4])  # type: ignore[attr-defined]
    for name in ("bool", "float", "int", "object"):
        if name not in np.__dict__:
            setattr(np, name, getattr(builtins, name))
    import tensorflow
    import tensorflow.compat.v1 as tf
    from tensorflow.python.framework import ops

    tf.disable_v2_behavior()
    tf.__path__ = tensorflow.__path__
    tf.__version__ = "1.15.0"
    sys.modules["tensorflow"] = tf
    for name in (
        "contrib",
        "contrib.tensorboard",
        "contrib.tensorboard.plugins",
        "contrib.tensorboard.plugins.projector",
    ):
        sys.modules[f"tensorflow.{name}"] = Absent(name)
    tf.keras = types.SimpleNamespace(
        metrics=types.SimpleNamespace(MeanIoU=object),
        callbacks=types.SimpleNamespace(TensorBoard=object),
        losses=Absent("losses"),
        utils=Absent("utils"),
    )
    ops._TensorLike = ops.Tensor
    ops.is_dense_tensor_like = lambda x: isinstance(x, ops.Tensor)
    for name in [name for name in sys.modules if name == "keras" or name.startswith("keras.")]:
        del sys.modules[name]
    sys.path.insert(0, folder)
    return importlib.import_module("keras")
