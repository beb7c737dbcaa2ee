"""What a layer is in torch, for inputs in certain orders of axes: modules, results, fills, terms; without its name.

Equal layers on inputs of equal shapes and orders share one such value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from regspec.code import axes
from regspec.code.axes import Order
from regspec.code.expressions import CASTS, Apply, Call, Expression, Module, Part, WeightPath, call, walk
from regspec.code.shapes import Symbol
from regspec.graph.resolved import Resolved, Term, alike, taken, weights_of
from regspec.language.penalties import Dimensions
from regspec.language.regularizers import Reduction
from regspec.layers import Layer
from regspec.layers.layer import Weight


@dataclass(frozen=True, slots=True)
class Place:
    """A parameter of a layer, by its module's suffix and its name there; or the module itself."""

    module: str
    parameter: str = ""


@dataclass(frozen=True, slots=True)
class Penalized:
    """A regularizer at its place: the parameters of a weight, or the module whose output is listened to."""

    slot: str
    constructor: Call
    places: tuple[Place, ...]
    is_activity: bool
    reduction: Reduction | None = None  # of an output's penalty; None for the model's


@dataclass(frozen=True, slots=True)
class Constrained:
    """A constraint at its place."""

    slot: str
    constructor: Call
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Fill:
    """How a parameter starts: the call that fills it, or some rows of it."""

    place: Place
    call: Call
    rows: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class Lowered:
    """What a layer, a block, a mask or a view of a tensor computes in torch, and with what."""

    kind: str
    inputs: tuple[Symbol, ...]  # in the type and order of axes that it takes them, and then the masks that it reads
    outputs: tuple[Symbol, ...]
    results: tuple[Expression, ...]  # one for each output, over these inputs
    modules: tuple[Module, ...] = ()  # that they apply, in the order of execution
    resolved: Resolved | None = None  # of a layer
    weights: tuple[Weight, ...] = ()  # as they lie in these modules
    fills: tuple[Fill, ...] = ()
    penalized: tuple[Penalized, ...] = ()
    constrained: tuple[Constrained, ...] = ()
    frozen: tuple[Place, ...] = ()  # what is not trained
    heard: frozenset[str] = frozenset()  # the modules, by their suffixes, that something else hears: all are called
    mask: Expression | None = None  # of its output, over the inputs and their masks

    @cached_property
    def expressions(self) -> tuple[Expression, ...]:
        """Every expression in its results, in the order in which Python evaluates them."""
        return tuple([each for result in self.results for each in walk(result)])

    @cached_property
    def operations(self) -> int:
        """How many operations its results take: all expressions but tensors."""
        return sum(not isinstance(each, Symbol) for each in self.expressions)

    @cached_property
    def has_parts(self) -> bool:
        """Whether its results take those of modules apart."""
        return any(isinstance(each, Part) for each in self.expressions)

    @cached_property
    def names_weights(self) -> bool:
        """Whether a regularizer takes other weights by their names."""
        return any(isinstance(part, WeightPath) for each in self.penalized for part in walk(each.constructor))

    @cached_property
    def holds_matrix(self) -> bool:
        """Whether one of its weights has two axes or more."""
        return any(len(weight.shape or ()) > 1 for weight in self.weights)


@dataclass
class LoweredLayers:
    """The lowered layers of a network, by what they depend on."""

    dtype: str  # of the model
    known: dict[tuple[object, ...], Lowered] = field(default_factory=dict)

    def of(self, resolved: Resolved, inputs: Sequence[Symbol]) -> Lowered:
        """A layer on inputs of these shapes and orders. Raises `ShapeError` for what torch can't do."""
        key = (resolved, alike(inputs))
        if key not in self.known:
            self.known[key] = _lowered(resolved, inputs, resolved.layer.precision or self.dtype)
        return self.known[key]


def _lowered(resolved: Resolved, inputs: Sequence[Symbol], dtype: str) -> Lowered:
    layer = resolved.layer
    xs = taken(layer, inputs, dtype)
    outputs, results = _computed(resolved, xs)
    lies_alike = not any(x.is_masked_elsewhere for x in xs)
    lies_alike = lies_alike and [x.order for x in xs] == [x.order for x in resolved.inputs]
    weights = {each.name: each for each in (resolved.weights if lies_alike else weights_of(layer, xs))}
    absent = tuple(_absent(parameter) for parameter in layer.absent(*xs))
    fills = [Fill(place, call("nn.init.zeros_")) for place in absent]
    fills += [fill for weight in weights.values() for fill in _fills(weight)]
    inner = {layer.inner_slot(suffix): suffix for suffix in layer.inner_activities}
    frozen = dict.fromkeys(_frozen([*weights.values()]))
    if layer.is_frozen_whole:
        frozen = {Place(""): None}
    read = {each for result in results for each in walk(result) if isinstance(each, Symbol)}
    masks = dict.fromkeys(mask for x in xs for mask in (x.mask, x.attention_mask) if mask in read)
    return Lowered(
        type(layer).__name__,
        (*xs, *(mask for mask in masks if mask is not None)),
        outputs,
        results,
        modules=tuple(_modules(results)),
        resolved=resolved,
        weights=tuple(weights.values()),
        fills=tuple(fills),
        penalized=tuple(
            _penalized(alone, weights, inner, layer, outputs[0], results)
            for term in resolved.terms
            if (alone := term.alone) is not None
        ),
        constrained=tuple(
            Constrained(weight.name, weight.constraint.lower(weight.pattern), _places(weight))
            for weight in weights.values()
            if weight.constraint is not None
        ),
        frozen=(*frozen, *(place for place in absent if Place(place.module) not in frozen)),
        mask=layer.output_mask(*xs),
    )


def _computed(resolved: Resolved, xs: tuple[Symbol, ...]) -> tuple[tuple[Symbol, ...], tuple[Expression, ...]]:
    """A layer's outputs and the expressions that compute them; with an activity term, the last step is a module."""
    layer, activity = resolved.layer, resolved.activity
    found = layer.lower(*xs)
    results = tuple(
        result.method(CASTS[x.dtype]) if x.dtype in CASTS and layer.gives not in (None, x.dtype) else result
        for x, result in zip(resolved.outputs, found if isinstance(found, list) else [found], strict=True)
    )
    outputs = tuple(x.permuted(_order_of(x, layer, xs)) for x in resolved.outputs)
    if activity is None:
        return outputs, results
    if activity.reads_axes:
        results = tuple(
            result if x.order == axes.identity(x.rank) else result.method("permute", *axes.inverse(x.order))
            for x, result in zip(outputs, results, strict=True)
        )
        outputs = tuple(x.permuted(axes.identity(x.rank)) for x in outputs)
    if len(results) == 1 and _can_be_listened_to(results[0]):
        return outputs, results
    listener = Module(call("nn.Identity"), "activity")
    return outputs, tuple(listener(result) for result in results)


def _order_of(x: Symbol, layer: Layer, xs: Sequence[Symbol]) -> Order:
    """The order in which an output lies. One whose axes its use tells lies as the spec counts them."""
    order = layer.output_order(x.rank, *xs)
    is_told = layer.output_spec_order(x.rank, *xs) is not None
    return order if is_told else tuple(x.spec_order[axis] for axis in order)


def _can_be_listened_to(result: Expression) -> bool:
    """Whether the last step is a module, and one that is applied only once."""
    if not isinstance(result, Apply):
        return False
    return Counter(each.module for each in walk(result) if isinstance(each, Apply))[result.module] == 1


def _penalized(
    term: Term,
    weights: dict[str, Weight],
    inner: dict[str, str],
    layer: Layer,
    output: Symbol,
    results: tuple[Expression, ...],
) -> Penalized:
    """A term at its place. ``inner`` has the modules of outputs inside the layer, by the slots of their terms."""
    regularizer = term.regularizer
    if term.weight is not None:
        weight = weights[term.weight]
        return Penalized(term.slot, regularizer.lower(weight.dimensions), _places(weight), is_activity=False)
    if term.slot in inner:
        module, _, part = inner[term.slot].partition(".")
        at, place = Dimensions(layer.inner_units(output)), Place(module, part)
        return Penalized(term.slot, regularizer.lower(at), (place,), True, regularizer.reduction)
    listened = next(Place(result.module.suffix) for result in results if isinstance(result, Apply))
    units = -1 if regularizer.reads_axes else layer.units_of(output)  # see _computed
    return Penalized(term.slot, regularizer.lower(Dimensions(units)), (listened,), True, regularizer.reduction)


def _frozen(weights: Sequence[Weight]) -> Iterator[Place]:
    """The modules all of whose weights are frozen, and single parameters of others."""
    mixed = {weight.module for weight in weights if weight.trainable and not weight.frozen}
    for weight in weights:
        if weight.frozen and weight.module not in mixed:
            yield Place(weight.module)
        elif weight.frozen and weight.trainable:
            yield from _places(weight)


def _modules(results: tuple[Expression, ...]) -> list[Module]:
    """The modules that expressions apply, in the order of execution."""
    return list(dict.fromkeys(each.module for result in results for each in walk(result) if isinstance(each, Apply)))


def _places(weight: Weight) -> tuple[Place, ...]:
    return tuple(Place(weight.module, parameter) for parameter in weight.parameters)


def _absent(parameter: str) -> Place:
    """The place of a parameter that a layer names by ``suffix.name``, or by its name alone."""
    suffix, _, name = parameter.rpartition(".")
    return Place(suffix, name)


def _fills(weight: Weight) -> Iterator[Fill]:
    """The calls that fill a weight's parameters."""
    if weight.initializer is not None and weight.drawn is not None:
        fill = weight.initializer.lower(weight.drawn)
        yield from (Fill(place, fill) for place in _places(weight))
    if weight.initializer is not None and weight.ones is not None:
        yield from (Fill(place, call("nn.init.ones_"), weight.ones) for place in _places(weight))
