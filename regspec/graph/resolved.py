"""What a layer is on inputs of certain shapes: its outputs, weights, terms and mask, free of the layer's name.

Layers that say the same, on inputs that are alike, share one such value: a thousand equal layers are resolved once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from regspec.code import axes
from regspec.code.expressions import Itself, walk
from regspec.code.shapes import DataFormat, RankError, ReadingError, ShapeError, Symbol, text
from regspec.graph.masks import Mask
from regspec.graph.readings import Reading, reads_itself
from regspec.language.regularizers import Regularizer
from regspec.layers import Layer
from regspec.layers.layer import Weight

_HALVES = "has gaussian_kl, of as many means as logs of variances"

Rules = Callable[[str], Regularizer | None]  # what a spec's rules say of a slot


@dataclass(frozen=True, slots=True)
class Term:
    """A regularizer bound to a slot of a layer."""

    slot: str  # unique in the layer: kernel, query.kernel, activity
    regularizer: Regularizer
    weight: str | None = None  # the name of the weight; None for an output

    @property
    def is_activity(self) -> bool:
        """Whether it is of an output."""
        return self.weight is None

    @property
    def alone(self) -> Term | None:
        """What of it is of this slot alone, and not of all that vanishes with units; None where there is nothing."""
        alone = self.regularizer.alone
        if alone is self.regularizer:
            return self
        return None if alone is None else replace(self, regularizer=alone)


@dataclass(frozen=True, slots=True, eq=False)
class Resolved:
    """A layer on inputs of certain shapes."""

    layer: Layer  # with axes as Keras counts them
    said: Layer  # as the spec has it
    inputs: tuple[Symbol, ...]  # in the types and the orders of axes in which it takes them
    outputs: tuple[Symbol, ...]  # by Keras's axes
    weights: tuple[Weight, ...]
    terms: tuple[Term, ...]
    activity: Regularizer | None  # of its output: by the layer itself or by a rule
    mask: Symbol | None  # of its first outputs: that of an input, or a mask made of the inputs


@dataclass
class ResolvedLayers:
    """The resolved layers of a spec, by what they depend on."""

    dtype: str  # of the model
    data_format: DataFormat | None  # that the spec says
    known: dict[tuple[object, ...], Resolved] = field(default_factory=dict)

    def of(self, layer: Layer, inputs: Sequence[Symbol], rules: Rules, read_as: tuple[Reading, ...] = ()) -> Resolved:
        """A layer on these inputs; what it says itself of a slot wins over the rules. Raises `ShapeError`.

        ``read_as`` is how what follows reads the axes of an output that says nothing of them itself, by rank.
        """
        by_rule = rules("activity")  # which counts as a match of the rule, even where the layer has its own
        resolved = self.again(layer, inputs, layer.activity if layer.says_activity else by_rule, read_as)
        asked = [(weight.explicit, rules(weight.slot)) for weight in resolved.weights]
        ruled = [None if is_explicit else by_rule for is_explicit, by_rule in asked]
        if not any(ruled):
            return resolved
        key = (resolved, *map(Itself, ruled))
        if key not in self.known:
            self.known[key] = _ruled(resolved, ruled)
        return self.known[key]

    def again(
        self,
        layer: Layer,
        inputs: Sequence[Symbol],
        activity: Regularizer | None,
        read_as: tuple[Reading, ...] = (),
    ) -> Resolved:
        """A layer with this regularizer of its output, and without rules for its weights."""
        key = (Itself(layer), Itself(activity), read_as, alike(inputs))
        if key not in self.known:
            is_plain = self.data_format == "channels_last" and all(x.is_plain for x in inputs)
            try:
                counted = layer if is_plain else layer.counted_by_keras(*inputs)
                made = _resolved(counted, inputs, activity, layer.precision or self.dtype)
            except RankError as error:
                raise (error.with_channels_last() if self.data_format == "channels_last" else error) from None
            except ReadingError as error:
                raise (error if self.data_format is None else error.with_format_said()) from None
            outputs = tuple(self._counted(layer, x, read_as) for x in made.outputs)
            _check_units(activity, outputs)
            self.known[key] = replace(made, said=layer, outputs=outputs)
        return self.known[key]

    def _counted(self, layer: Layer, x: Symbol, read_as: tuple[Reading, ...]) -> Symbol:
        """An output of a layer with its axes as the spec counts them."""
        if self.data_format == "channels_last":
            if layer.gives_as_written and not x.is_open:  # of an input whose axes are said to be in another order
                return x
            return replace(x, spec_order=axes.identity(x.rank), is_open=False)
        reading = next((each for each in read_as if len(each.order) == x.rank), None)
        if x.is_open and reading is not None and (reading.is_said or reads_itself(x.shape[1:])):
            return x.counted(reading.order)
        if x.is_open and self.data_format == "channels_first" and x.rank > 3:
            return x.counted(axes.channels_first(x.rank))
        return x


def alike(inputs: Sequence[Symbol]) -> tuple[object, ...]:
    """A key of all that a layer may read of its inputs, and of which inputs share a mask."""
    found = [(x.shape, x.order, x.dtype, x.spec_order, x.is_open, x.is_masked_elsewhere) for x in inputs]
    masks = [(x.mask, x.attention_mask) for x in inputs]
    if all(each == (None, None) for each in masks):  # as most
        return tuple(found)
    own = [mask for mask, _ in masks]
    shapes = [None if mask is None else mask.shape for pair in masks for mask in pair]
    return (*found, *map(own.index, own), *shapes)


def taken(layer: Layer, inputs: Sequence[Symbol], dtype: str) -> tuple[Symbol, ...]:
    """The inputs in the types and the orders of axes in which the layer takes them; ``dtype`` is its own."""
    takes_indices = layer.index_limit is not None  # truncated in their own type: half precision rounds 2.9999 up
    # copies, because the result is shared with layers whose inputs have other masks
    masks = {mask: replace(mask) for x in inputs for mask in (x.mask, x.attention_mask) if mask is not None}
    own = [
        replace(
            x,
            dtype=x.dtype if takes_indices or (layer.takes_integers and not x.is_floating) else dtype,
            mask=None if x.mask is None else masks[x.mask],
            attention_mask=None if x.attention_mask is None else masks[x.attention_mask],
        )
        for x in inputs
    ]
    orders = [layer.order(x) for x in own]
    if None in orders:  # any order that the inputs share; of different ranks, only Keras's own is shared
        shared = own[0].order if len({x.rank for x in own}) == 1 else None
        orders = [shared or axes.identity(x.rank) for x in own]
    return tuple(
        x if order is None or x.order == order else x.permuted(order) for x, order in zip(own, orders, strict=True)
    )


def weights_of(layer: Layer, xs: Sequence[Symbol]) -> tuple[Weight, ...]:
    """The weights of a layer on inputs as it takes them, frozen where the layer says so. Raises `ShapeError`."""
    weights = layer.weights(*xs)
    if not layer.trainable:  # which holds for the layers in it too
        return tuple(replace(weight, frozen=True) for weight in weights)
    return tuple(_frozen_but(layer.trainable, weights)) if isinstance(layer.trainable, tuple) else weights


def _resolved(layer: Layer, inputs: Sequence[Symbol], activity: Regularizer | None, dtype: str) -> Resolved:
    layer.checked(*inputs)
    xs = taken(layer, inputs, dtype)
    outputs = _outputs(layer, xs, dtype)
    weights = weights_of(layer, xs)
    _check_slots(layer, weights)
    terms = [_weight_term(weight, weight.regularizer) for weight in weights if weight.regularizer is not None]
    activities = {} if activity is None else {"activity": activity}
    activities |= {layer.inner_slot(suffix): regularizer for suffix, regularizer in layer.inner_activities.items()}
    for slot, regularizer in activities.items():
        regularizer.check("activity", has_inputs=False)
        terms.append(Term(slot, regularizer))
    _check_inner_units(layer, xs)
    for weight in weights:
        if weight.initializer is not None and weight.drawn is not None:
            weight.initializer.check(weight.drawn)
        if weight.constraint is not None:
            weight.constraint.check(weight.pattern)
    return Resolved(
        layer,
        said=layer,
        inputs=xs,
        outputs=outputs,
        weights=weights,
        terms=tuple(terms),
        activity=activity,
        mask=_mask(layer, xs, outputs[0]),
    )


def _outputs(layer: Layer, xs: tuple[Symbol, ...], dtype: str) -> tuple[Symbol, ...]:
    """The outputs by Keras's axes."""
    found = layer.output_shape(*xs)
    shapes = found if isinstance(found, list) else [found]
    own = layer.output_dtype(*xs)
    dtypes = own if isinstance(own, list) else [own or dtype] * len(shapes)
    outputs = []
    for shape, given in zip(shapes, dtypes, strict=True):
        spec_order = layer.output_spec_order(len(shape), *xs)
        logical = axes.permute(shape, axes.inverse(layer.output_order(len(shape), *xs)))
        outputs.append(Symbol(logical, "", given, (), spec_order or (), is_open=spec_order is None))
    return tuple(outputs)


def _mask(layer: Layer, xs: tuple[Symbol, ...], output: Symbol) -> Symbol | None:
    """The mask of the output: that of an input, or one that is made of inputs and their masks."""
    made = layer.output_mask(*xs)
    if made is None or isinstance(made, Symbol):
        return made
    made_of = tuple(dict.fromkeys(each for each in walk(made) if isinstance(each, Symbol)))
    return Mask(output.shape[:-1], "", "bool", made_of=made_of)


def _check_units(activity: Regularizer | None, outputs: Sequence[Symbol]) -> None:
    """Raises `ReadingError` where a penalty is by units, and nothing tells which axis of an output has these."""
    for x in outputs if activity is not None and activity.reads_units else ():
        if x.is_open and x.rank > 3:
            raise ReadingError(f"has a penalty by the units of its output {text(x.spec_shape)}", x.rank)
        if activity is not None and activity.reads_halves and _is_odd(x.logical[-1]):
            raise ShapeError(f"{_HALVES}, but gives {text(x.spec_shape)}")


def _check_inner_units(layer: Layer, xs: Sequence[Symbol]) -> None:
    """Raises `ShapeError` where a penalty on an output inside the layer can't halve the units of that."""
    asked = [suffix for suffix, regularizer in layer.inner_activities.items() if regularizer.reads_halves]
    sizes = layer.inner_sizes(*xs) if asked else {}
    for suffix in asked:
        for units in filter(_is_odd, sizes.get(suffix, ())):
            raise ShapeError(f"{_HALVES}, but its {layer.inner_slot(suffix).removesuffix('.activity')} gives {units}")


def _is_odd(units: int | None) -> bool:
    return units is not None and units % 2 == 1


def _frozen_but(trained: tuple[str, ...], weights: tuple[Weight, ...]) -> Iterator[Weight]:
    """The weights, frozen except those of the slots in ``trained``."""
    slots = list(dict.fromkeys(weight.slot for weight in weights if weight.trainable))
    for slot in trained:
        if slot not in slots:
            raise ShapeError(f"can't train '{slot}' alone: it has {', '.join(slots) or 'no weights'}")
    for weight in weights:
        yield replace(weight, frozen=weight.frozen or weight.slot not in trained)


def _check_slots(layer: Layer, weights: tuple[Weight, ...]) -> None:
    """Raises where a layer regularizes a weight that it does not have, such as a bias with ``use_bias: false``."""
    inner = [layer.inner_slot(suffix) for suffix in layer.inner_activities]
    for field_name in sorted(layer.model_fields_set):
        slot = field_name.removesuffix("_regularizer")
        if slot in (field_name, "activity", *inner) or getattr(layer, field_name) is None:
            continue
        if all(weight.slot != slot for weight in weights):
            raise ShapeError(f"has a {field_name}, but no {slot}")


def _ruled(resolved: Resolved, ruled: Sequence[Regularizer | None]) -> Resolved:
    """The layer with regularizers of its weights by rules."""
    pairs = zip(resolved.weights, ruled, strict=True)
    found = [(weight, by_rule or weight.regularizer) for weight, by_rule in pairs]
    terms = [_weight_term(weight, regularizer) for weight, regularizer in found if regularizer is not None]
    return replace(resolved, terms=(*terms, *(term for term in resolved.terms if term.is_activity)))


def _weight_term(weight: Weight, regularizer: Regularizer) -> Term:
    regularizer.check(weight.slot, has_inputs=bool(weight.pattern.inputs))
    at = weight.dimensions
    known = {"inputs": at.inputs, "outputs": at.units, "columns": at.columns}
    for axes_needed in regularizer.needs(len(weight.pattern.keras)):
        if known[axes_needed] is None:
            raise ShapeError(f"has a penalty by {axes_needed}, but its {weight.slot} has no single axis of these")
    return Term(weight.name, regularizer, weight.name)
