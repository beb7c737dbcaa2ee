"""Keras with the model of a file, loaded by Keras's own loader: what it may load, and which Keras. Imported on demand.

Keras imports what a config names. So the config is gone through before: only Keras's own layers, operations and the
like pass, and nothing that could hold code, open files, or lead out of the weights.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from regspec.graph.network import BlockNode, Graph
from regspec.keras.formats import reading
from regspec.keras.older import theano
from regspec.keras.verification.backends import differs_on_torch
from regspec.keras.verification.faults import KerasError, UnverifiedError
from regspec.keras.verification.original import Original
from regspec.text.problems import RegspecError, first_sentence

if TYPE_CHECKING:
    from regspec.keras.arrays.files import ArrayFile
    from regspec.keras.porting.ported import Provenance

# Where Keras's own things lie: of Keras 3, of tf_keras, of Keras 2.
OWN = re.compile(
    r"(tf_)?keras(\.src)?(\.(layers|models|engine|ops|activations|regularizers|initializers|constraints|applications|"
    r"dtype_policies|mixed_precision)(\.\w+)*)?"
)
# Keras's own that run code of the file, or open files that it names.
BARRED = frozenset(
    (
        *("Lambda", "__lambda__", "__typespec__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"),
        *("StringLookup", "IntegerLookup", "TextVectorization"),
    )
)


def original_of(provenance: Provenance, graph: Graph) -> Original:
    """The file's model in Keras.

    Raises:
        UnverifiedError: where Keras is not installed, or can't or must not load the file.
    """
    arrays = _checked(provenance) if provenance.live is None else None
    if provenance.backend == "theano" and theano.is_padded(provenance.renewed, provenance.generation):
        raise UnverifiedError("Theano trained the file, whose padding no Keras of today computes")
    package = _package(provenance, graph)
    is_legacy = package.__version__.startswith("2.")
    backend = "tensorflow" if is_legacy else package.backend.backend()
    if backend == "torch" and (wrong := _is_torch_wrong(graph)):
        hint = "its TensorFlow backend is right: install tensorflow, or set KERAS_BACKEND=tensorflow"
        raise UnverifiedError(f"Keras's torch backend computes {wrong} wrongly, so that it is no reference; {hint}")
    original = Original(package, backend, provenance, graph)
    with original.on_cpu():
        try:
            original.load_file(arrays)
        except KerasError as error:
            raise UnverifiedError(f"{original.name} can't load the file: {error}") from None
    return original


# -- what Keras must not load, and where it is -------------------------------------------------------------------------


def _checked(provenance: Provenance) -> ArrayFile | None:
    """The arrays of a file, if it has any. Raises `UnverifiedError` for one that Keras must not load."""
    if foreign := sorted(_foreign(provenance.config)):
        raise UnverifiedError(f"Keras is not asked to load {', '.join(foreign)}: not its own, or code in the file")
    try:
        stored = reading.read(provenance.path, provenance.weights)
        if stored.arrays is not None:
            stored.arrays.check()
    except RegspecError as error:
        raise UnverifiedError(f"Keras is not asked to load the file: it {error.problems[0].what}") from None
    if stored.others:
        raise UnverifiedError(f"Keras is not asked to load a file that holds {stored.others[0]}")
    return stored.arrays


def _foreign(config: Any) -> set[str]:
    """The classes in a config that are not Keras's own, nor registered in this process; and those that hold code."""
    found, waiting = set(), [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            name, module = value.get("class_name"), value.get("module")
            if name is not None and not _is_known(str(name), module, value.get("registered_name")):
                found.add(f"'{name}'")
            waiting.extend(each for key, each in value.items() if key != "compile_config")
        elif isinstance(value, list):
            waiting.extend(value)
    return found - {"'__lambda__'"} if "'Lambda'" in found else found


def _is_known(name: str, module: Any, registered: Any) -> bool:
    if name in BARRED:
        return False
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(registered, str) and keras.saving.get_registered_object(registered):
        return True
    if module is None:
        return not isinstance(registered, str) or ">" not in registered
    return isinstance(module, str) and (OWN.fullmatch(module) is not None or module == "builtins")


def _is_torch_wrong(graph: Graph) -> str | None:
    """A layer that Keras's torch backend computes otherwise than its TensorFlow backend, if there is one."""
    for node in graph.nodes:
        if isinstance(node, BlockNode):
            if (inner := _is_torch_wrong(node.block)) is not None:
                return inner
        elif differs_on_torch(node.resolved.layer, node.resolved.inputs[0]):
            return f"'{node.name}' ({node.kind})"
    return None


def _package(provenance: Provenance, graph: Graph) -> Any:
    """The Keras that is the reference: a live model's own; of files, that of their generation."""
    if provenance.live is not None:
        return _imported(provenance.live.package)
    return _tf_keras() if provenance.generation < 3 else _keras(_is_torch_wrong(graph))


def _keras(is_torch_wrong: Any) -> Any:
    """Keras 3; on its torch backend, if nobody has imported it yet."""
    if "keras" not in sys.modules:
        has_tensorflow = importlib.util.find_spec("tensorflow") is not None
        before = os.environ.get("KERAS_BACKEND")
        os.environ["KERAS_BACKEND"] = "tensorflow" if is_torch_wrong and has_tensorflow else "torch"
        try:
            package = _imported("keras")
        finally:
            del os.environ["KERAS_BACKEND"]
            if before is not None:
                os.environ["KERAS_BACKEND"] = before
    package = _imported("keras")
    if not package.__version__.startswith("3."):
        raise UnverifiedError(f"Keras {package.__version__} is installed, which does not read files of Keras 3")
    return package


def _tf_keras() -> Any:
    """tf_keras, which is Keras 2: Keras 3 reads few files of Keras 2 right."""
    return _imported("tf_keras", " (Keras 3 reads few files of Keras 2 right)")


def _imported(name: str, why: str = "") -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:  # a broken installation of Keras or its backend raises anything, and is named here
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise UnverifiedError(f"{name} is not installed{why}: pip install {name}") from None
        raise UnverifiedError(f"{name} can't be imported: {first_sentence(error)}") from None
