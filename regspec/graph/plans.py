"""What a layer does on inputs of certain shapes: its modules, outputs and terms, free of the layer's name.

Layers that say the same, on inputs that are alike, share one plan: a thousand equal layers are planned once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from regspec.code import axes
from regspec.code.expressions import CASTS, Apply, Call, Definition, Expression, Module, call, walk
from regspec.code.shapes import ShapeError, Symbol
from regspec.language.initializers import Drawn
from regspec.language.regularizers import Regularizer
from regspec.layers import Layer
from regspec.layers.layer import Weight

Rules = Callable[[str], Regularizer | None]  # what a spec's rules say of a slot


@dataclass(frozen=True, slots=True)
class Place:
    """A parameter of a layer, by its module's suffix and its name there; or the module itself."""

    module: str
    parameter: str = ""


@dataclass(frozen=True, slots=True)
class Term:
    """A regularizer bound to a slot: of a weight, by its parameters, or of an output, by the module that gives it."""

    slot: str  # unique in the layer: kernel, query.kernel, activity
    regularizer: Regularizer
    constructor: Call
    places: tuple[Place, ...]
    is_activity: bool = False


@dataclass(frozen=True, slots=True)
class Constrained:
    """A constraint bound to a weight."""

    slot: str
    constructor: Call
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Fill:
    """How a parameter starts: the call that fills it, or some rows of it."""

    place: Place
    call: Call
    rows: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What a layer, or a block, or a view of a tensor computes, and with what."""

    kind: str
    inputs: tuple[Symbol, ...]  # in the type and order of axes that it takes them, and then the masks that it reads
    outputs: tuple[Symbol, ...]
    results: tuple[Expression, ...]  # one for each output, over these inputs
    modules: tuple[Module, ...] = ()  # that they apply, in the order of execution
    layer: Layer | None = None
    activity: Regularizer | None = None
    weights: tuple[Weight, ...] = ()
    fills: tuple[Fill, ...] = ()
    terms: tuple[Term, ...] = ()
    constraints: tuple[Constrained, ...] = ()
    frozen: tuple[Place, ...] = ()  # what is not trained
    output_names: tuple[str, ...] | None = None  # of a block whose outputs are a mapping
    mask: Expression | None = None  # of its output, over the inputs and their masks
    masked_outputs: int = 1  # how many of its outputs have it

    @property
    def block(self) -> Definition | None:
        """The definition of the block that it applies, if it is one."""
        first = self.modules[0].constructor if self.modules and self.layer is None else None
        return first if isinstance(first, Definition) else None


@dataclass
class Plans:
    """The plans of a spec's layers, by what they depend on."""

    dtype: str  # of the model
    made: dict[tuple[object, ...], Plan] = field(default_factory=dict)

    def of(self, layer: Layer, inputs: Sequence[Symbol], rules: Rules) -> Plan:
        """The plan of a layer on these inputs; what it says of a slot wins over the rules. Raises `ShapeError`."""
        by_rule = rules("activity")  # which counts as a match of the rule, even where the layer has its own
        activity = layer.activity if layer.says_activity else by_rule
        plan = self.again(layer, inputs, activity)
        asked = [(weight.explicit, rules(weight.slot)) for weight in plan.weights]
        ruled = [None if is_explicit else by_rule for is_explicit, by_rule in asked]
        if not any(ruled):
            return plan
        key = (id(plan), *map(id, ruled))
        if key not in self.made:
            self.made[key] = _ruled(plan, ruled)
        return self.made[key]

    def again(self, layer: Layer, inputs: Sequence[Symbol], activity: Regularizer | None) -> Plan:
        """The plan of a layer with this regularizer of its output, and without rules for its weights."""
        masks = [id(x.mask) for x in inputs]
        same = (masks.index(each) for each in masks)  # which inputs share a mask
        key = (id(layer), id(activity), *same, *(_described(x) for x in inputs))
        if key not in self.made:  # whose plans keep the layers alive, so that no other gets the id
            self.made[key] = _planned(layer, inputs, activity, layer.precision or self.dtype)
        return self.made[key]


def _described(x: Symbol) -> tuple[object, ...]:
    """All that a layer may read of a tensor."""
    masks = (None if mask is None else mask.shape for mask in (x.mask, x.attention_mask))
    return x.shape, x.order, x.dtype, x.is_signal, *masks


def _planned(layer: Layer, inputs: Sequence[Symbol], activity: Regularizer | None, dtype: str) -> Plan:
    xs = _wanted(layer, inputs, dtype)
    outputs, results = _computed(layer, xs, activity, dtype)
    weights = layer.weights(*xs)
    if not layer.trainable:  # which holds for the layers in it too
        weights = tuple(replace(weight, frozen=True) for weight in weights)
    elif isinstance(layer.trainable, tuple):
        weights = tuple(_frozen_but(layer.trainable, weights))
    absent = tuple(_absent(parameter) for parameter in layer.absent(*xs))
    fills = [Fill(place, call("nn.init.zeros_")) for place in absent]
    _check_slots(layer, weights)
    terms, constraints = [], []
    for weight in weights:
        fills.extend(_fills(weight))
        if weight.regularizer is not None:
            terms.append(_weight_term(weight, weight.regularizer))
        if weight.constraint is not None:
            constraints.append(Constrained(weight.name, weight.constraint.lower(weight.pattern), _places(weight)))
    if activity is not None:
        listened = next(Place(result.module.suffix) for result in results if isinstance(result, Apply))
        constructor = activity.lower(layer.units_of(outputs[0]))
        terms.append(Term("activity", activity, constructor, (listened,), is_activity=True))
    for suffix, regularizer in layer.inner_activities.items():
        module, _, part = suffix.partition(".")
        slot = f"{part}.activity" if part else suffix.replace("_", ".")
        terms.append(Term(slot, regularizer, regularizer.lower(-1), (Place(module, part),), is_activity=True))
    frozen = dict.fromkeys(_frozen(weights))
    if layer.is_opaque and not layer.trainable:
        frozen = {Place(""): None}
    read = {id(each) for result in results for each in walk(result) if isinstance(each, Symbol)}
    masks = {id(mask): mask for x in xs for mask in (x.mask, x.attention_mask) if mask is not None and id(mask) in read}
    return Plan(
        type(layer).__name__,
        (*xs, *masks.values()),
        outputs,
        results,
        tuple(_modules(results)),
        layer,
        activity,
        weights,
        tuple(fills),
        tuple(terms),
        tuple(constraints),
        (*frozen, *(place for place in absent if Place(place.module) not in frozen)),
        mask=layer.output_mask(*xs),
        masked_outputs=layer.masked_outputs,
    )


def _frozen_but(trained: tuple[str, ...], weights: tuple[Weight, ...]) -> Iterator[Weight]:
    """The weights, frozen but for those of some slots."""
    slots = list(dict.fromkeys(weight.slot for weight in weights if weight.trainable))
    for slot in trained:
        if slot not in slots:
            raise ShapeError(f"can't train '{slot}' alone: it has {', '.join(slots) or 'no weights'}")
    for weight in weights:
        yield replace(weight, frozen=weight.frozen or weight.slot not in trained)


def _frozen(weights: tuple[Weight, ...]) -> Iterator[Place]:
    """The modules all of whose weights are frozen, and single parameters of others."""
    mixed = {weight.module for weight in weights if weight.trainable and not weight.frozen}
    for weight in weights:
        if weight.frozen and weight.module not in mixed:
            yield Place(weight.module)
        elif weight.frozen and weight.trainable:
            yield from _places(weight)


def _check_slots(layer: Layer, weights: tuple[Weight, ...]) -> None:
    """Raises where a layer regularizes a weight that it does not have: the bias of one without."""
    for field_name in sorted(layer.model_fields_set):
        slot = field_name.removesuffix("_regularizer")
        if slot in (field_name, "activity") or getattr(layer, field_name) is None:
            continue
        if all(weight.slot != slot for weight in weights):
            raise ShapeError(f"has a {field_name}, but no {slot}")


def _ruled(plan: Plan, ruled: Sequence[Regularizer | None]) -> Plan:
    """The plan with regularizers of its weights by rules."""
    regularizers = [by_rule or weight.regularizer for weight, by_rule in zip(plan.weights, ruled, strict=True)]
    terms = [_weight_term(weight, each) for weight, each in zip(plan.weights, regularizers, strict=True) if each]
    return replace(plan, terms=(*terms, *(term for term in plan.terms if term.is_activity)))


def _weight_term(weight: Weight, regularizer: Regularizer) -> Term:
    regularizer.check(weight.slot)
    constructor = regularizer.lower(weight.pattern.output, weight.pattern.input)
    return Term(weight.name, regularizer, constructor, _places(weight))


def _wanted(layer: Layer, inputs: Sequence[Symbol], dtype: str) -> tuple[Symbol, ...]:
    """The inputs in the type and the order of axes that the layer takes."""
    layer.checked(*inputs)
    takes_indices = layer.index_limit is not None  # cut off as they are: half of a type's digits would round 2.9999 up
    # each a tensor of its own, because a layer that shares the plan may have others where this one has the same twice
    masks = {id(mask): replace(mask) for x in inputs for mask in (x.mask, x.attention_mask) if mask is not None}
    inputs = [
        replace(
            x,
            dtype=x.dtype if takes_indices or (layer.takes_integers and not x.is_floating) else dtype,
            mask=masks.get(id(x.mask)),
            attention_mask=masks.get(id(x.attention_mask)),
        )
        for x in inputs
    ]
    orders = [layer.order(x) for x in inputs]
    if None in orders:  # any order that the inputs share; of different ranks, only Keras's own is shared
        shared = inputs[0].order if len({x.rank for x in inputs}) == 1 else None
        orders = [shared or axes.identity(x.rank) for x in inputs]
    return tuple(
        x if order is None or x.order == order else x.permuted(order) for x, order in zip(inputs, orders, strict=True)
    )


def _computed(
    layer: Layer, xs: tuple[Symbol, ...], activity: Regularizer | None, dtype: str
) -> tuple[tuple[Symbol, ...], tuple[Expression, ...]]:
    """A layer's outputs and the expressions that compute them; with an activity term, the last step is a module."""
    shape, result = layer.output_shape(*xs), layer.lower(*xs)
    results = tuple(result) if isinstance(result, list) else (result,)
    shapes = shape if isinstance(shape, list) else [shape]
    own = layer.output_dtype(*xs)
    dtypes = own if isinstance(own, list) else [own or dtype] * len(shapes)
    results = tuple(
        result.method(CASTS[given]) if given in CASTS and layer.gives not in (None, given) else result
        for result, given in zip(results, dtypes, strict=True)
    )
    outputs = tuple(
        Symbol(
            each,
            "",
            given,
            layer.output_order(len(each), xs[0]),
            xs[0].data_format,
            layer.gives_signal(*xs) and len(each) == 3,
        )
        for each, given in zip(shapes, dtypes, strict=True)
    )
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


def _can_be_listened_to(result: Expression) -> bool:
    """Whether the last step is a module that is applied only there."""
    if not isinstance(result, Apply):
        return False
    return Counter(each.module for each in walk(result) if isinstance(each, Apply))[result.module] == 1


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
    """The calls that fill a weight's parameters, but for what their constructor has done."""
    if weight.initializer is None or weight.shape is None:
        return
    if weight.initializer != weight.constructed:
        fill = weight.initializer.lower(Drawn(weight.shape, weight.pattern, weight.fans, weight.chunks is not None))
        yield from (Fill(place, fill) for place in _places(weight))
    if weight.ones is not None:
        yield from (Fill(place, call("nn.init.ones_"), weight.ones) for place in _places(weight))
