"""Random models: sequences and graphs, models in models, layers that are shared, several inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from . import operations
from .layers import recurrent
from .table import Layers, Shape

MOST = 400  # numbers in a tensor of one example
MOVING = ("BatchNormalization", "SpectralNormalization")  # whose calls in training change the next
THAWED = ("MultiHeadAttention", "GroupedQueryAttention")  # which Keras loads as trainable, though they were frozen
REFUSALS = (ValueError, TypeError, RuntimeError, NotImplementedError, AttributeError, LookupError, ZeroDivisionError)


@dataclass
class Pool:
    """The tensors of a graph so far, and what they can be given to once more."""

    tensors: list[Any] = field(default_factory=list)
    texts: dict[int, str] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    needs: dict[int, set[int]] = field(default_factory=dict)  # the inputs that a tensor depends on
    layers: list[tuple[Any, Any]] = field(default_factory=list)  # with the tensors of their last call

    def add(self, result: Any, text: str, *of: Any) -> None:
        flat = keras.tree.flatten(result)
        needs = set().union(*(self.needs[id(tensor)] for tensor in of))
        for index, tensor in enumerate(flat):
            self.needs[id(tensor)] = needs or {id(tensor)}
            self.tensors.append(tensor)
            self.texts[id(tensor)] = text if len(flat) == 1 else f"{text}[{index}]"

    def text(self, value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{key!r}: {self.text(each)}" for key, each in value.items()) + "}"
        if isinstance(value, (list, tuple)):
            return f"[{', '.join(map(self.text, value))}]"
        return self.texts.get(id(value)) or str(value)

    @property
    def leaves(self) -> list[Any]:
        return [tensor for tensor in self.tensors if id(tensor) not in self.used]


class Models(Layers):
    """Draws models."""

    def __init__(self, seed: list[int]) -> None:
        super().__init__(seed)
        self.lines: list[str] = []
        self.indent = ""
        self.count = 0
        self.is_ordered = False
        self.ends = np.random.default_rng([*seed, 1])  # draws what does not depend on the number of steps
        if self.chance(0.12):
            self.data_format = "channels_first"

    def say(self, line: str) -> None:
        self.lines.append(self.indent + line)

    # -- inputs and weights --------------------------------------------------------------------------------------------

    def shape(self) -> tuple[Shape, str]:
        """The shape of an input, and its type."""
        features, steps, channels = self.whole(1, 7), self.whole(3, 8), self.whole(1, 4)
        sizes = [self.whole(4, 8) for _ in range(3)]
        shapes: list[tuple[Shape, float]] = [
            ((features,), 3),
            ((steps, features), 3),
            ((None, features), 1),
            ((*sizes[:2], channels), 4),
            ((None, None, channels), 0.7),
            ((sizes[0], None, channels), 0.2),
            ((*[min(size, 5) for size in sizes], channels), 1),
        ]
        if self.chance(0.2):
            return self.pick(
                [((steps,), "int32"), ((None,), "int64"), ((), "int32"), ((steps,), "uint8")], [4, 2, 1, 1]
            )
        shape = self.pick([shape for shape, _ in shapes], [weight for _, weight in shapes])
        if self.data_format == "channels_first" and len(shape) > 2:
            shape = (shape[-1], *shape[:-1])
        return shape, "float32"

    def fill(self, model: keras.Model) -> None:
        """Gives all weights numbers that no symmetry hides; variances are positive."""
        for variable in model.weights:
            if "seed" in variable.path or variable.name == "count":
                continue
            shape = variable.shape
            values = self.ends.standard_normal(shape) * (0.4 if len(shape) < 2 else 1 / np.sqrt(np.prod(shape[:-1])))
            if "variance" in variable.name:
                values = self.ends.uniform(0.5, 1.5, shape)
            elif variable.name in ("gamma", "scale"):
                values = 1 + values / 2
            variable.assign(values.astype("float32"))

    # -- sequences -----------------------------------------------------------------------------------------------------

    def sequential(self, given: tuple[Shape, str], *, steps: int, depth: int) -> keras.Sequential:
        shape, dtype = given
        name = self.name("Sequential") if depth else {"name": "sequence"}
        taken, self.taken = self.taken, set()
        model = keras.Sequential(**name)
        is_deferred = depth == 0 and dtype == "float32" and None not in shape and self.chance(0.2)
        self.say(f"Sequential({name}) on {shape} {dtype}{', built by its first call' * is_deferred}")
        self.indent += "  "
        x = keras.Input(shape, dtype=dtype, **self.name("Input"))
        model.add(x)
        for _ in range(max(steps, 1)):
            x = model.outputs[0] if model.built else x
            if depth < 2 and not self.is_masked and self.chance(0.12) and "float" in x.dtype and x.shape[1:]:
                made: Any = self.model_for([x], depth + 1, is_single=True)
            else:
                made = self.for_shape(tuple(x.shape[1:]), x.dtype)
            if made is None or made.name in {layer.name for layer in model._layers}:
                continue
            count = len(model._layers)
            try:
                model.add(made)
            except REFUSALS:
                if len(model._layers) > count:
                    model.pop()
                continue
            if not _is_fine(model.outputs):
                model.pop()
                continue
            if not isinstance(made, keras.Model):
                self.say(made.written)
        self.indent = self.indent[2:]
        self.taken = taken
        if not model.layers:
            model.add(keras.layers.Dense(2) if "float" in dtype and shape else keras.layers.Identity())
        if is_deferred:
            layers = model.layers
            model = keras.Sequential(layers, **name)
            model(np.zeros((2, *shape), dtype))
        return model

    # -- graphs --------------------------------------------------------------------------------------------------------

    def graph(self, *given: tuple[Shape, str], steps: int, depth: int, is_single: bool = False) -> keras.Model:
        """A model of inputs like these; of one output, if it is to stand in a sequence."""
        name = self.name("Model") if depth else {"name": "graph"}
        taken, self.taken = self.taken, set()
        self.say(f"Model({name})")
        self.indent += "  "
        pool = Pool()
        shapes = [*given]
        while depth == 0 and len(shapes) < 3 and self.chance(0.3):
            shapes.append(self.shape() if self.chance(0.5) else shapes[0])
        inputs = [keras.Input(shape, dtype=dtype, **self.name("Input")) for shape, dtype in shapes]
        structure: Any = inputs
        if len(inputs) == 1 and (is_single or self.chance(0.7)):
            structure = inputs[0]
        elif self.chance(0.35):
            keys = [f"{'zyx'[index]}{self.pick(['', '-', ' 1'])}" for index in range(len(inputs))]
            structure = dict(zip(keys, inputs, strict=True))
        for index, tensor in enumerate(inputs):
            pool.add(tensor, f"in{index}")
            self.say(f"in{index} = Input({tensor.shape[1:]}, {tensor.dtype}, {tensor.name!r})")
        for _ in range(steps):
            self.step(pool, depth)
        for tensor in inputs:
            if id(tensor) not in pool.used:
                self.on_one(pool, tensor)
        outputs = pool.tensors[-1] if is_single else self.outputs(pool, inputs, depth)
        self.say(f"outputs {pool.text(outputs)}, inputs {pool.text(structure)}")
        self.indent = self.indent[2:]
        self.taken = taken
        return keras.Model(structure, outputs, **name)

    def outputs(self, pool: Pool, inputs: list[Any], depth: int) -> Any:
        """Some of the tensors, in some structure; of a model inside, so many that each input is needed."""
        leaves = [tensor for tensor in pool.leaves if not any(tensor is each for each in inputs)] or [pool.tensors[-1]]
        chosen = leaves[-1:] + [each for each in leaves[:-1] if self.ends.random() < 0.7]
        if self.ends.random() < 0.2:
            chosen.append(pool.tensors[int(self.ends.integers(len(pool.tensors)))])
        for tensor in inputs if depth or self.ends.random() < 0.8 else ():
            if not any(id(tensor) in pool.needs[id(each)] for each in chosen):
                chosen.append(next((x for x in leaves if id(tensor) in pool.needs[id(x)]), tensor))
        if len(chosen) == 1 and self.ends.random() < 0.7:
            return chosen[0]
        if self.ends.random() < 0.35:
            return {f"{'cab'[index % 3]}-{index}": tensor for index, tensor in enumerate(chosen)}
        return chosen

    def step(self, pool: Pool, depth: int) -> None:
        """One more call."""
        ways: list[tuple[Callable[[Pool], None], float]] = [
            (self.on_one, 10),
            (self.merged, 4),
            (self.again, 2.5),
            (self.operated, 3),
            (self.attended, 1.5),
            (self.with_state, 0.8),
        ]
        if depth < 2 and not self.is_masked:
            ways.append((lambda pool: self.nested(pool, depth), 2))
        self.pick([way for way, _ in ways], [weight for _, weight in ways])(pool)

    def one(self, pool: Pool, fits: Callable[[Any], bool] = lambda x: True) -> Any:
        """A tensor, one of the last rather than the first."""
        tensors = [x for x in pool.tensors if fits(x)]
        return self.pick(tensors, [index + 1 for index in range(len(tensors))]) if tensors else None

    def called(self, pool: Pool, layer: Any, value: Any, text: str, **more: Any) -> bool:
        """Whether a layer takes a value; what it gives is in the pool then."""
        try:
            result = layer(*value, **more) if isinstance(value, tuple) else layer(value, **more)
        except REFUSALS:
            return False
        if not _is_fine(result):
            return False
        keywords = "".join(f", {key}={pool.text(each)}" for key, each in more.items())
        arguments = ", ".join(map(pool.text, value)) if isinstance(value, tuple) else pool.text(value)
        self.say(f"t{self.count} = {text}({arguments}{keywords})")
        tensors = [x for x in keras.tree.flatten([value, *more.values()]) if isinstance(x, keras.KerasTensor)]
        pool.add(result, f"t{self.count}", *tensors)
        pool.used.update(map(id, tensors))
        self.count += 1
        return True

    def on_one(self, pool: Pool, x: Any = None) -> None:
        x = self.one(pool, lambda x: x.dtype != "bool") if x is None else x
        made = self.for_shape(tuple(x.shape[1:]), x.dtype)
        if made is not None and self.called(pool, made, x, made.written):
            pool.layers.append((made, x))

    def again(self, pool: Pool) -> None:
        """A layer, or a model, once more, on other tensors like those that it had; or on the same."""
        if not pool.layers:
            return
        layer, last = self.pick(pool.layers)
        all_layers = (
            layer._flatten_layers() if isinstance(layer, keras.Model) else [layer, getattr(layer, "layer", layer)]
        )
        self.is_ordered |= any(type(each).__name__ in MOVING for each in all_layers)
        # a convolution whose padding depends on the size has it in its module
        is_sized = getattr(layer, "padding", "") == "same" and not isinstance(layer, keras.Model)
        is_any = not isinstance(layer, keras.Model) and not is_sized and self.chance(0.3)

        def other(x: Any) -> Any:
            return self.one(
                pool, lambda y: y.dtype == x.dtype and (_alike(x, y) or (is_any and len(x.shape) == len(y.shape)))
            )

        self.called(pool, layer, keras.tree.map_structure(other, last), f"again {layer.name!r}")

    def merged(self, pool: Pool) -> None:
        x = self.one(pool, lambda x: "float" in x.dtype and len(x.shape) > 1)
        if x is None:
            return
        others = [y for y in pool.tensors if "float" in y.dtype and len(y.shape) == len(x.shape)]
        alike = [y for y in others if _alike(x, y)]
        kind = self.pick(["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate", "Dot"])
        if kind == "Concatenate":
            axis = self.pick([*range(1, len(x.shape)), -1])
            place = axis % len(x.shape)
            others = [
                y for y in others if x.shape[:place] == y.shape[:place] and x.shape[place + 1 :] == y.shape[place + 1 :]
            ]
            made = self.layer(kind, **({} if axis == -1 else {"axis": axis}), **self.activity(0.1))
        elif kind == "Dot":
            others = [y for y in pool.tensors if "float" in y.dtype and 2 <= len(y.shape) <= 4]
            y = self.pick(others or [x])
            pairs = [(i, j) for i in range(1, len(x.shape)) for j in range(1, len(y.shape)) if x.shape[i] == y.shape[j]]
            pairs = [(i, j) for i, j in pairs if x.shape[i] is not None]
            if not pairs or len(x.shape) > 3:
                return
            others, made = [y], self.layer(kind, axes=self.pick(pairs), **self.some(normalize=True))
        else:
            others = alike if self.chance(0.8) else [y for y in pool.tensors if "float" in y.dtype]
            made = self.layer(kind, **self.activity(0.1))
        count = 1 if kind in ("Subtract", "Dot") else self.whole(1, 2)
        if others:
            self.called(pool, made, [x, *(self.pick(others) for _ in range(count))], made.written)

    def operated(self, pool: Pool) -> None:
        """An operation, of a tensor and a number, or of two tensors."""
        x = self.one(pool, lambda x: "float" in x.dtype)
        if x is None:
            return
        y = self.pick([y for y in pool.tensors if _alike(x, y) and "float" in y.dtype])
        if self.chance(0.35):
            text, way = self.pick([*operations.PAIRS.items()])
            self.called(pool, way, (x, y), text)
        else:
            text, way = operations.operation(self, x)
            self.called(pool, way, (x,), text)

    def attended(self, pool: Pool) -> None:
        query = self.one(pool, lambda x: "float" in x.dtype and len(x.shape) == 3 and x.shape[-1] is not None)
        if query is None:
            return
        values = [
            x for x in pool.tensors if "float" in x.dtype and len(x.shape) == 3 and x.shape[-1] == query.shape[-1]
        ]
        value = self.pick(values)
        keys = [x for x in values if x is value or (x.shape[1] == value.shape[1] and x.shape[1] is not None)]
        third = (self.pick(keys),) if self.chance(0.3) else ()
        scores = self.some(0.2, return_attention_scores=True)
        causal = self.some(0.2, use_causal_mask=True)
        # Keras's other attention takes masks off what it is called on, in an order that is not that of its file
        if self.is_masked or self.chance(0.4):
            kind = self.pick(["Attention", "AdditiveAttention"])
            fields = {**self.some(use_scale=self.chance(0.5)), **self.some(0.1, dropout=0.2)}
            made = self.layer(kind, **fields, **(self.some(0.3, score_mode="concat") if kind == "Attention" else {}))
            self.called(pool, made, [query, value, *third], made.written, **scores, **causal)
            return
        fields = {**self.some(use_bias=False), **self.some(0.1, dropout=0.2), **self.some(0.2, use_gate=True)}
        fields |= self.slots("kernel", "bias", rank=None, axes=())
        if self.chance(0.3):
            sizes = {"head_dim": self.whole(1, 4), "num_query_heads": 4, "num_key_value_heads": self.pick([1, 2, 4])}
            made = self.layer("GroupQueryAttention", **sizes, **fields)
        else:
            fields |= self.some(0.3, value_dim=self.whole(1, 4), output_shape=self.whole(1, 5))
            made = self.layer("MultiHeadAttention", num_heads=self.whole(1, 3), key_dim=self.whole(1, 4), **fields)
        self.called(pool, made, (query, value, *third), made.written, **scores, **causal)

    def with_state(self, pool: Pool) -> None:
        """A recurrent layer that gives its state to another."""
        x = self.one(pool, lambda x: "float" in x.dtype and len(x.shape) == 3 and x.shape[-1] is not None)
        if x is None:
            return
        units = self.whole(1, 4)
        first = recurrent(self, units=units, return_state=True, unroll=False)
        if self.chance(0.25):
            inner = recurrent(self, is_inner=True, return_state=True, unroll=False, go_backwards=False, name="inner")
            made = self.layer("Bidirectional", layer=inner)
            self.called(pool, made, x, made.written)
            return
        if not self.called(pool, first, x, first.written):
            return
        _, *states = [tensor for tensor in pool.tensors if pool.texts[id(tensor)].startswith(f"t{self.count - 1}[")]
        second = recurrent(self, units=units, unroll=False)
        y = self.one(pool, lambda x: "float" in x.dtype and len(x.shape) == 3 and x.shape[-1] is not None)
        if len(states) == (2 if type(second).__name__ == "LSTM" else 1):
            given = states if len(states) > 1 or self.chance(0.5) else states[0]
            self.called(pool, second, y, second.written, initial_state=given)

    # -- models in models ----------------------------------------------------------------------------------------------

    def nested(self, pool: Pool, depth: int) -> None:
        x = self.one(pool, lambda x: len(x.shape) > 1 and x.dtype != "bool")
        if x is None:
            return
        given = [x] if self.chance(0.7) else [x, self.one(pool, lambda x: len(x.shape) > 1 and x.dtype != "bool")]
        model = self.model_for(given, depth + 1)
        if isinstance(model, keras.Sequential) or not isinstance(model._inputs_struct, (list, dict)):
            value = given[0]
        elif isinstance(model._inputs_struct, dict):
            value = dict(zip(model._inputs_struct, given, strict=True))
            if self.chance(0.5):
                value = dict(reversed(value.items()))
        else:
            value = given
        if self.called(pool, model, value, repr(model.name)):
            pool.layers += [(model, value)] * 3

    def model_for(self, given: list[Any], depth: int, *, is_single: bool = False) -> keras.Model:
        """A model for tensors like these."""
        self.can_mask = False
        shapes, steps = [(tuple(x.shape[1:]), x.dtype) for x in given], self.whole(1, 4)
        if len(given) == 1 and self.chance(0.5):
            model: keras.Model = self.sequential(shapes[0], steps=steps, depth=depth)
        else:
            model = self.graph(*shapes, steps=steps, depth=depth, is_single=is_single)
        attends = any(type(each).__name__ in THAWED for each in model._flatten_layers())
        if not attends and self.chance(0.12):
            model.trainable = False
            self.say(f"{model.name!r}.trainable = False")
        return model


def _alike(x: Any, y: Any) -> bool:
    return tuple(x.shape) == tuple(y.shape)


def _is_fine(result: Any) -> bool:
    """Whether tensors are not too large, and hold something."""
    sizes = [[7 if size is None else size for size in x.shape[1:]] for x in keras.tree.flatten(result)]
    return all(0 < np.prod(each) <= MOST and len(each) <= 4 for each in sizes)
