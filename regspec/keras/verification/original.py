"""A model in Keras, as the reference of a port: what it computes, and its weights as those of the port."""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import torch
from torch import Tensor

from regspec.code.expressions import Itself
from regspec.graph.network import Graph
from regspec.keras.arrays import matching
from regspec.keras.arrays.files import ArrayFile
from regspec.keras.arrays.hdf5 import Hdf5
from regspec.keras.configs.dialect import Dialect
from regspec.keras.configs.precision import MIXED
from regspec.keras.older import legacy
from regspec.keras.verification.faults import keras_computes
from regspec.keras.verification.giving import give_arrays, has_todays_groups, load_weights
from regspec.keras.verification.outcomes import Outcome, gradients, input_names, objective, output_factors
from regspec.keras.verification.rewording import reworded, saved_again
from regspec.language.regularizers import Reduction
from regspec.targets.torch.program import program_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from regspec.keras.porting.ported import Provenance

# Of a forward: outputs, penalties, and the gradients of the trained variables and the inputs.
_Computed = tuple[list[Any], list[Any], list[Any]]

FROM_CONFIG = ("JSON", "YAML", "SavedModel", "TensorFlow.js")  # forms of which Keras reads the config alone
UNASKED = "which array of the file is which layer's: Keras has the layers and the arrays that were read here"
WHY = {"SavedModel": "its own loader loads functions of the file", "TensorFlow.js": "it has no loader of such a file"}
ROUNDING = "what half precision rounds where the file has mixed precision: both computed in float32, as the port does"
OTHER_GROUPS = "it looks for arrays where files of today have them"


class Original:
    """A model in Keras."""

    def __init__(self, package: Any, backend: str, provenance: Provenance, graph: Graph) -> None:
        self.package = package
        self.backend = backend
        self.provenance = provenance
        self.graph = graph
        self.is_legacy = package.__version__.startswith("2.")
        self.name = f"{'tf_keras' if package.__name__ == 'tf_keras' else 'Keras'} {package.__version__} on {backend}"
        self.model: Any = None
        self.unasked: tuple[str, ...] = ()  # what of the file Keras was not asked for

    @contextmanager
    def on_cpu(self) -> Iterator[None]:
        """Computes on the CPU, as the port does, and so to the last digits alike."""
        with importlib.import_module("tensorflow").device("CPU:0") if self.is_legacy else self.package.device("cpu"):
            yield

    def load_file(self, arrays: ArrayFile | None) -> None:
        """Loads the model; where Keras has no loader of the file, from its config and these arrays of it.

        Layers that compute in half precision and keep their weights in single precision compute in that, as the port
        does.

        Raises:
            KerasError: where it can't be loaded.
        """
        self._load(arrays)
        with keras_computes():
            mixed = [each for each in self.model._flatten_layers() if each.dtype_policy.name in MIXED]
            for layer in mixed:
                if self.is_legacy:
                    layer._set_dtype_policy("float32")
                else:
                    layer.dtype_policy = "float32"
        if mixed:
            self.unasked += (ROUNDING,)

    def _load(self, arrays: ArrayFile | None) -> None:
        own, form, weights = self.provenance.config, self.provenance.form, self.provenance.weights
        is_standalone = Dialect.of(self.provenance.version, own).is_standalone
        words = reworded(own, is_standalone=is_standalone) if self.is_legacy else own
        if self.provenance.live is not None:
            with keras_computes():
                self.model = self.provenance.live.load()
            return
        is_apart = form in WHY and weights is None
        is_given = arrays is not None and (is_apart or not has_todays_groups(arrays, self.provenance.renewed))
        if is_given:
            self.unasked = (f"{UNASKED}, because {WHY.get(form, OTHER_GROUPS) if is_apart else OTHER_GROUPS}",)
        if form not in FROM_CONFIG and not is_given and words == own:
            with keras_computes():
                self.model = self.package.models.load_model(str(self.provenance.path), compile=False, safe_mode=True)
        else:
            said = json.dumps({key: each for key, each in words.items() if key != "compile_config"})
            with keras_computes():
                self.model = self.package.models.model_from_json(said)
            if arrays is not None and is_given:
                give_arrays(self.model, arrays, self.provenance.renewed)
            elif weights is None and arrays is not None:
                load_weights(self.model, self.provenance.path)
        if weights is not None and not is_given:
            load_weights(self.model, weights)

    @property
    def reduction(self) -> Reduction:
        """How it reduces the penalties of outputs over a batch, whatever the Keras did that wrote the file."""
        version = tuple(int(part) for part in self.package.__version__.split(".")[:2])
        return "mean" if self.is_legacy or version >= (3, 14) else "sum"

    @property
    def has_gradients(self) -> bool:
        """Whether gradients can be asked for, on its backend."""
        return self.backend in ("torch", "tensorflow")

    @property
    def batch(self) -> int | None:
        """The size of a batch, where the model fixes it."""
        return next((x.shape[0] for x in self.model.inputs if x.shape[0] is not None), None)

    def run(self, inputs: Sequence[Tensor], *, training: bool = False, with_gradients: bool = False) -> Outcome:
        """What it computes of inputs. Raises `KerasError`."""
        compute = {"torch": self._on_torch, "tensorflow": self._on_tensorflow}.get(self.backend, self._elsewhere)
        self._forget()  # what it was called with before
        before = self._random_states()
        outputs, losses, found = compute(inputs, training, with_gradients and self.has_gradients)
        self._forget()
        after = self._random_states()
        is_random = any(not np.array_equal(old, new) for old, new in zip(before, after, strict=True))
        penalties = {str(index): _tensor(loss) for index, loss in enumerate(losses)}
        return Outcome([_tensor(x) for x in outputs], penalties, self._by_name(found), is_random)

    def _on_torch(self, inputs: Sequence[Tensor], training: bool, with_gradients: bool) -> _Computed:
        # gradients of the inputs too: without them torch 2.13 crashes in the backward of a GroupNorm in channels_last
        xs = [x.clone().requires_grad_(with_gradients and x.is_floating_point()) for x in inputs]
        with torch.set_grad_enabled(with_gradients):
            # copies, because some layers change their input in place
            outputs, losses = self._called([x.clone() for x in xs], training)
            if not with_gradients:
                return outputs, losses, []
            wanted = [*(variable.value for variable in self.model.trainable_variables)]
            wanted += [x for x in xs if x.is_floating_point()]
            by_number, total = {str(index): x for index, x in enumerate(wanted)}, objective(outputs, losses)
            with keras_computes():  # some of its layers have no backward on torch
                return outputs, losses, [*gradients(total, by_number).values()]

    def _on_tensorflow(self, inputs: Sequence[Tensor], training: bool, with_gradients: bool) -> _Computed:
        tf = importlib.import_module("tensorflow")
        xs = [tf.cast(_array(x), str(x.dtype).removeprefix("torch.")) for x in inputs]
        floating = [x for x in xs if x.dtype.is_floating]
        with tf.GradientTape(watch_accessed_variables=with_gradients) as tape:
            tape.watch(floating)
            outputs, losses = self._called(xs, training)
            total = tf.add_n([tf.zeros(()), *(tf.cast(loss, "float32") for loss in losses)])
            for index, x in enumerate(outputs):
                if x.dtype.is_floating:
                    total += tf.reduce_mean(tf.cast(x, "float32") * output_factors(x, index).numpy())
        if not with_gradients:
            return outputs, losses, []
        variables = [
            each if self.is_legacy else each.value  # of Keras 3, which wraps TensorFlow's
            for each in self.model.trainable_variables
        ]
        with keras_computes():
            found = tape.gradient(total, [*variables, *floating], unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return outputs, losses, [tf.convert_to_tensor(each) for each in found]

    def _elsewhere(self, inputs: Sequence[Tensor], training: bool, with_gradients: bool) -> _Computed:
        return *self._called([_array(x) for x in inputs], training), []

    def _called(self, xs: Sequence[Any], training: bool) -> tuple[list[Any], list[Any]]:
        """The outputs and losses of the model. Raises `KerasError`."""
        given = self._structured(xs)
        with keras_computes():
            outputs, losses = self.model(given, training=training), list(self.model.losses)
        return self._flat(outputs), losses

    def _by_name(self, found: Sequence[Any]) -> dict[str, Tensor]:
        """Gradients of Keras's variables and of the inputs, by the names that they have here."""
        if not found:
            return {}
        trained = self.model.trainable_variables
        by_variable = {Itself(each): _array(_tensor(own)) for each, own in zip(trained, found, strict=False)}
        of_inputs = [_tensor(each) for each in found[len(trained) :]]
        return {**self.parameters(by_variable), **dict(zip(input_names(self.graph), of_inputs, strict=True))}

    def parameters(self, instead: Mapping[Itself, NDArray[Any]] | None = None) -> dict[str, Tensor]:
        """Its weights as torch's parameters: saved by Keras, read and moved as the port does it.

        With ``instead``, other arrays in place of the weights, by Keras's variables, and zeros where there is none. So
        gradients are converted exactly as weights are.
        """
        kept = self.values()
        try:
            if instead is not None:
                pairs = zip(self.model.weights, kept, strict=True)
                self.restore([instead.get(Itself(each), np.zeros_like(old)) for each, old in pairs])
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / ("model.h5" if self.is_legacy else "model.weights.h5")
                self.model.save_weights(str(path))
                with h5py.File(path, "r") as file:
                    found = matching.parameters_of(
                        program_of(self.graph), self._arrays(ArrayFile(Hdf5(file, path), path))
                    )
        finally:
            if instead is not None:
                self.restore(kept)
        return {name: torch.as_tensor(array.copy()) for name, array in found.items()}

    def values(self) -> list[NDArray[Any]]:
        """Its weights as they are now."""
        return [_array(_tensor(variable)).copy() for variable in self.model.weights]

    def restore(self, values: Sequence[NDArray[Any]]) -> None:
        """Gives its weights other values."""
        for variable, array in zip(self.model.weights, values, strict=True):
            variable.assign(array)
        self._settle()

    def calm(self, inputs: Sequence[Tensor]) -> None:
        """Leaves layers that draw random numbers in training in evaluation from now on."""
        of_all = [] if self.is_legacy else self._drawing_from_what_all_share(inputs)
        for layer in self.model._flatten_layers():
            if self.is_legacy:
                is_random = hasattr(layer, "_random_generator")
            else:
                is_random = (bool(layer._seed_generators) and layer._call_has_training_arg) or layer in of_all
            if is_random:
                layer.call = partial(_in_evaluation, layer.call)

    def _drawing_from_what_all_share(self, inputs: Sequence[Tensor]) -> list[Any]:
        """The layers without a generator of their own that draw in training, such as ConvNeXt's StochasticDepth."""
        shared = self.package.src.random.seed_generator.global_seed_generator().state
        found: list[Any] = []

        def noted(layer: Any, call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
            before = _array(_tensor(shared)).copy()
            output = call(*arguments, **keywords)
            if not np.array_equal(before, _array(_tensor(shared))):
                found.append(layer)
            return output

        asked = [
            (layer, layer.call)
            for layer in self.model._flatten_layers(recursive=True)
            if layer._call_has_training_arg and not layer._seed_generators and not layer._layers
        ]
        for layer, call in asked:
            layer.call = partial(noted, layer, call)
        self.run(inputs, training=True)
        for layer, call in asked:
            layer.call = call
        return found

    def _arrays(self, arrays: ArrayFile) -> dict[matching.WeightPath, NDArray[Any]]:
        """The arrays of a file that was written just now, as the port reads them."""
        origin = self.provenance
        if origin.generation < 3:
            # which the Keras that has read the file has turned already
            arrays = legacy.Renewed(arrays, saved_again(origin.renewed), Dialect(origin.generation))
        found = matching.arrays_of(self.graph, origin.model, origin.renewed["config"], arrays)
        return {**matching.constants_of(origin.model), **found}

    def randomize(self) -> None:
        """Gives every weight numbers that no symmetry hides, not far from what it has; variances stay positive."""
        rng = np.random.default_rng(0)
        trained = {*map(Itself, self.model.trainable_variables)}
        for variable in self.model.weights:
            array = _array(_tensor(variable))
            if array.dtype.kind != "f" or not array.shape:
                continue
            if Itself(variable) not in trained and array.std() == 0:  # a moving average, as it starts
                moved = rng.uniform(0.5, 1.5, array.shape)
            else:
                moved = array + 0.1 * (array.std() or 1.0) * rng.standard_normal(array.shape)
            variable.assign(moved.astype(array.dtype))
        self._settle()

    def _forget(self) -> None:
        """Makes zeros of the states that recurrent layers keep from one call to the next."""
        for layer in self.model._flatten_layers():
            if getattr(layer, "stateful", False):
                for state in _flattened(getattr(layer, "states", None), None):
                    if hasattr(state, "assign"):
                        state.assign(np.zeros_like(_array(_tensor(state))))

    def _settle(self) -> None:
        """Lets layers that were adapted to data compute with the statistics that they have now."""
        for layer in self.model._flatten_layers():
            if getattr(layer, "adapt_mean", None) is not None:  # of which a Normalization computes with copies
                layer.finalize_state()

    def _random_states(self) -> list[NDArray[Any]]:
        """The states of its random generators, which change as they are drawn from."""
        weights = {*map(Itself, self.model.weights)}
        return [_array(_tensor(each)).copy() for each in self.model.variables if Itself(each) not in weights]

    def _structured(self, xs: Sequence[Any]) -> Any:
        """Tensors in the structure in which the model takes them."""
        names = self.provenance.model.names
        given = dict(zip((x.source for x in self.graph.inputs), xs, strict=True))

        def filled(structure: Any) -> Any:
            if isinstance(structure, dict):
                return {key: filled(each) for key, each in structure.items()}
            if isinstance(structure, list) and structure and isinstance(structure[0], str):
                return given[names[structure[0]]]
            return [filled(each) for each in structure]

        own = self.provenance.config["config"]
        structure = own.get("input_layers") if isinstance(own, dict) else None
        return filled(structure) if structure else xs[0]

    def _flat(self, outputs: Any) -> list[Any]:
        """The outputs in the order of the port's."""
        own = self.provenance.config["config"]
        structure = own.get("output_layers") if isinstance(own, dict) else None
        return [*_flattened(outputs, structure)]


def _in_evaluation(call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    return call(*arguments, **{**keywords, "training": False})


def _flattened(value: Any, structure: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key in structure if isinstance(structure, dict) else sorted(value):
            yield from _flattened(value[key], None)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _flattened(each, None)
    else:
        yield value


def _array(x: Any) -> NDArray[Any]:
    """A tensor as numpy's array; of a type that numpy lacks, as float32."""
    array = x.detach().cpu()
    return np.asarray(array.float() if array.dtype is torch.bfloat16 else array)


def _tensor(x: Any) -> Tensor:
    """A tensor or a variable of any backend as torch's, on the CPU."""
    value = getattr(x, "value", x)
    value = value() if callable(value) else value
    if isinstance(value, Tensor):
        return value.detach().cpu()
    array = np.asarray(value)
    return torch.as_tensor(array.astype("float32") if array.dtype.name == "bfloat16" else array.copy())
