"""From a ModelSpec to a Graph: names resolved, blocks placed, shapes inferred, rules applied, every fault collected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import ValidationError

from regspec.code import axes, shapes
from regspec.code.shapes import ShapeError, Symbol
from regspec.graph import blocks, masks, nodes
from regspec.graph.blocks import Graph
from regspec.graph.nodes import Node
from regspec.graph.plans import Plans
from regspec.language.regularizers import Regularizer
from regspec.layers import Layer
from regspec.specs.model import BlockUse, Body, Call, Entry, Invalid, LayerUse, ModelSpec
from regspec.specs.rules import LayerRule
from regspec.text import faults
from regspec.text.faults import Origin
from regspec.text.problems import Problem, Problems, did_you_mean


def resolve(spec: ModelSpec, *, is_whole: bool = True) -> tuple[Graph | None, list[Problem]]:
    """The graph of a spec; or None, and what is wrong. Of a spec that is not whole, rules may well match nothing."""
    resolver = _Resolver(spec)
    inputs = [
        Symbol((None, *declared.shape), name, declared.dtype, (), spec.data_format) if declared is not None else None
        for name, declared in ((name, spec.inputs.get(name)) for name in spec.body.inputs)
    ]
    graph = resolver.graph(spec.name, spec.body, inputs, "", ())
    if is_whole and not resolver.problems:
        resolver.check_rules(spec.body)
    return (None if resolver.problems else graph), resolver.problems


class _ReportedError(Exception):
    """Something can't be resolved because of a fault that is reported already."""


@dataclass
class _Scope:
    """What the entries of one body may name."""

    names: frozenset[str]  # of all its entries and inputs
    taken: set[str]  # these names, and the attributes of the layers so far
    tensors: dict[str, Mapping[str, Symbol] | None] = field(default_factory=dict)  # by output; None after a fault
    nodes: dict[str, Node] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    last: str = ""
    sees: str | None = None  # a hint for who names what is not in it
    is_misnamed: bool = False  # whether an entry names what is not there


_ScopedRules = tuple[tuple[str, LayerRule], ...]  # rules, each with the prefix of the names that it sees


@dataclass
class _Resolver:
    spec: ModelSpec
    problems: Problems = field(default_factory=Problems)
    plans: Plans = field(init=False)
    matched: set[int] = field(default_factory=set)  # ids of the rules that matched a slot
    reported: set[tuple[int, str]] = field(default_factory=set)  # ids of entries, and what is wrong with their shapes
    is_partial: bool = False  # whether a part was left out because of a fault

    def __post_init__(self) -> None:
        self.plans = Plans(self.spec.dtype)

    def graph(
        self, name: str, body: Body, inputs: Sequence[Symbol | None], prefix: str, rules: _ScopedRules
    ) -> Graph | None:
        """The graph of a body on these inputs; None where a fault stands in the way."""
        rules = (*rules, *((prefix, rule) for rule in body.rules))
        names = frozenset(_names(body))
        scope = _Scope(names, set(names))
        if prefix:
            scope.sees = f"a block sees its own layers and inputs only: {', '.join(body.inputs)}"
        for input_name, tensor in zip(body.inputs, inputs, strict=False):
            scope.tensors[input_name] = None if tensor is None else {"0": tensor}
            scope.last = input_name
        placed: list[Node] = []
        for index, entry in enumerate(body.entries):
            placed.extend(self._entry(entry, scope, prefix, rules, body.origins[index] if body.origins else None))
        outputs = self._outputs(body, scope)
        if not scope.is_misnamed and not any(isinstance(entry, Invalid) for entry in body.entries):
            self._check_use(body, scope)
        if self.is_partial or outputs is None:
            return None
        if not prefix:
            outputs = [nodes.ordered(x, axes.identity(x.rank), placed) for x in outputs]
        given = [x for x in inputs if x is not None]
        kept = masks.without_unread(placed, outputs)
        read = {id(x) for node in kept for x in node.inputs}
        masked = tuple(index for index, x in enumerate(given) if id(x.mask) in read)
        return Graph(
            name,
            (*given, *(mask for index in masked if (mask := given[index].mask) is not None)),
            kept,
            tuple(outputs),
            tuple(body.outputs) if isinstance(body.outputs, Mapping) else None,
            body.outputs is None or isinstance(body.outputs, str),
            not prefix,
            self.spec.activity_reduction,
            self.spec.dtype,
            self.spec.frozen_penalties == "counted",
            masked,
            {id(x): node for node in placed if node.plan.kind == nodes.MASK for x in node.outputs},
        )

    def check_rules(self, body: Body) -> None:
        """Reports the rules of a body, and of the bodies in it, that matched no layer."""
        for index, rule in enumerate(body.rules):
            if id(rule) not in self.matched:
                origin = None if body.origin is None else body.origin / "regularizers" / index
                self._fault(origin, "this rule matches no layer with such a slot", _nearest(rule, body))
        for entry in body.entries:
            if isinstance(entry, BlockUse):
                self.check_rules(entry.body)

    def _outputs(self, body: Body, scope: _Scope) -> list[Symbol] | None:
        origin = None if body.origin is None else body.origin / "outputs"
        if isinstance(body.outputs, Mapping):
            references = [(name, origin and origin / key) for key, name in body.outputs.items()]
        elif isinstance(body.outputs, tuple):
            references = [(name, origin and origin / index) for index, name in enumerate(body.outputs)]
        else:
            references = [(body.outputs or scope.last, origin)]
        try:
            return self._tensors(references, scope)
        except _ReportedError:
            self.is_partial = True
            return None

    def _check_use(self, body: Body, scope: _Scope) -> None:
        """Reports the inputs and layers whose output nothing takes."""
        for index, entry in enumerate(body.entries):
            if entry.name not in scope.used:
                origin = body.origins[index] if body.origins else None
                what = f"nothing uses the output of '{entry.name}'"
                self._fault(origin, what, "name it in 'outputs', or take it out", key=True)
        for name in body.inputs:
            if name not in scope.used:
                origin = None if body.origin is None else body.origin / "inputs" / name
                hint = f"a layer without 'inputs' takes what stands before it, the first one '{body.inputs[-1]}'"
                self._fault(
                    origin, f"nothing uses the input '{name}'", hint if name != body.inputs[-1] else None, key=True
                )

    def _entry(
        self, entry: Entry, scope: _Scope, prefix: str, rules: _ScopedRules, origin: Origin | None
    ) -> list[Node]:
        """The nodes of an entry; none where it has a fault."""
        try:
            if isinstance(entry, Invalid):
                raise _ReportedError
            inputs = self._inputs(entry.inputs, scope, origin)
            if isinstance(entry, BlockUse):
                placed = self._use(entry, inputs, scope, prefix, rules)
            elif isinstance(entry, Call):
                placed = self._call(entry, inputs, scope, origin)
            else:
                masked = self._masked(entry.mask, entry.layer, inputs, scope, origin)
                placed = self._layer(entry, inputs, masked, scope, prefix, rules)
        except ShapeError as error:
            if (id(entry), error.what) not in self.reported:  # a block that is used twice has its faults once
                self.reported.add((id(entry), error.what))
                self._fault(origin, f"{prefix}{entry.name} {error.what}", error.hint, key=True)
            placed = []
        except _ReportedError:
            placed = []
        if not placed:
            self.is_partial = True
            scope.tensors.update(dict.fromkeys(_names_of(entry)))
        scope.last = entry.name
        return placed

    def _masked(
        self, names: tuple[str, ...] | None, layer: Layer, inputs: list[Symbol], scope: _Scope, origin: Origin | None
    ) -> list[Symbol]:
        """The inputs with the masks that count: the named ones, if any are, in place of their own."""
        if names is None:
            return inputs
        here = origin and origin / "mask"
        named = self._tensors([(name, here and here / index) for index, name in enumerate(names)], scope)
        if len(named) > len(inputs):
            raise ShapeError(f"takes {len(inputs)} inputs, but {len(named)} masks")
        if named and layer.takes_attention_mask:
            return [replace(inputs[0], attention_mask=named[0]), *inputs[1:]]
        absent = [None] * (len(inputs) - len(named))
        return [replace(x, mask=mask) for x, mask in zip(inputs, [*named, *absent], strict=True)]

    def _layer(
        self,
        entry: LayerUse,
        inputs: list[Symbol],
        masked: list[Symbol],
        scope: _Scope,
        prefix: str,
        rules: _ScopedRules,
    ) -> list[Node]:
        name, layer = entry.name, entry.layer

        def rule_for(slot: str) -> Regularizer | None:
            """What the last of the rules that select the layer says of a slot."""
            found = None
            for seen_from, rule in rules:
                if slot in rule.slots and rule.matches((prefix + name).removeprefix(seen_from), layer.kinds):
                    self.matched.add(id(rule))
                    found = rule.slots[slot]
            return found

        plan = self.plans.of(layer, masked, rule_for)
        return self._finished(nodes.placed(plan, name, inputs, masked, scope.taken), scope)

    def _call(self, entry: Call, inputs: list[Symbol], scope: _Scope, origin: Origin | None) -> list[Node]:
        if entry.layer not in scope.nodes:
            if entry.layer in scope.tensors and scope.tensors[entry.layer] is None:
                raise _ReportedError
            scope.is_misnamed = True
            hint = did_you_mean(entry.layer, scope.nodes)
            self._fault(origin and origin / "layer", f"no layer above is called '{entry.layer}'", hint)
            raise _ReportedError
        node = scope.nodes[entry.layer]
        if node.plan.layer is None:
            return self._finished(self._block_again(entry, node, inputs), scope)
        layer = self._with_arguments(node.plan.layer, entry, origin)
        masked = self._masked(entry.mask, layer, inputs, scope, origin)
        plan = self.plans.again(layer, masked, node.plan.activity)
        if set(plan.modules) != set(node.plan.modules):  # an axis may lie elsewhere
            views = [nodes.viewed_like(x, first) for x, first in zip(masked, node.inputs, strict=False)]
            plan = self.plans.again(layer, [*views, *masked[len(views) :]], node.plan.activity)
        return self._finished(nodes.called_again(node, plan, entry.name, inputs, masked), scope)

    def _with_arguments(self, layer: Layer, entry: Call, origin: Origin | None) -> Layer:
        """The layer with the fields that a further call sets anew."""
        kind = type(layer)
        for name in entry.arguments:
            if name not in kind.call_fields:
                hint = did_you_mean(name, kind.call_fields)
                self._fault(origin and origin / name, f"a call of {kind.__name__} can't set '{name}'", hint, key=True)
                raise _ReportedError
        try:
            given = {name: getattr(layer, name) for name in layer.model_fields_set}
            return kind.model_validate({**given, **entry.arguments}) if entry.arguments else layer
        except ValidationError as error:
            if origin is None:
                raise
            self.problems.extend(faults.problems(error.errors(include_url=False), origin, kind.__name__))
            raise _ReportedError from None

    # -- blocks -------------------------------------------------------------------------------------------------------

    def _use(
        self, entry: BlockUse, inputs: list[Symbol], scope: _Scope, prefix: str, rules: _ScopedRules
    ) -> list[Node]:
        names = [entry.name] if entry.repeat is None else [f"{entry.name}_{index + 1}" for index in range(entry.repeat)]
        placed: list[Node] = []
        for name in names:
            self._check_inputs(entry, inputs)
            # inside, a tensor is known by the name of the block's own input
            inner = [blocks.inside(x, own) for x, own in zip(inputs, entry.body.inputs, strict=True)]
            graph = self.graph(entry.block, entry.body, inner, f"{prefix}{name}.", rules)
            if graph is None:
                raise _ReportedError
            placed.extend(self._finished(blocks.placed(name, graph, inputs), scope))
            inputs = [*placed[-1].outputs, *inputs[len(placed[-1].outputs) :]]  # what it does not give stays as it was
        scope.tensors[entry.name] = scope.tensors[names[-1]]
        scope.used.update(names[:-1])
        return placed

    def _check_inputs(self, entry: BlockUse, inputs: list[Symbol]) -> None:
        wanted = entry.body.inputs
        if len(inputs) != len(wanted):
            raise ShapeError(f"takes {len(wanted)} inputs ({', '.join(wanted)}), but is given {len(inputs)}")
        for x, name in zip(inputs, wanted, strict=True):
            declared = entry.body.declared.get(name)
            if declared is not None and not _fits(x.logical[1:], declared.shape):
                raise ShapeError(
                    f"takes {shapes.text((None, *declared.shape))} as '{name}', but is given {x.described}"
                )

    def _block_again(self, entry: Call, node: Node, inputs: list[Symbol]) -> list[Node]:
        """A further call of a block, which must be on tensors like those that its class was made for."""
        assert isinstance(node.plan.block, Graph)
        made_for = node.inputs[: len(node.inputs) - len(node.plan.block.masked)]
        if [*map(blocks.likeness, inputs)] != [*map(blocks.likeness, made_for)]:
            first, given = (" and ".join(blocks.described(x) for x in xs) for xs in (made_for, inputs))
            raise ShapeError(f"calls '{node.name}', which is made for {first}, on {given}")
        views: list[Node] = []
        inputs = [nodes.ordered(x, like.order, views) for x, like in zip(inputs, made_for, strict=True)]
        return [*views, *blocks.placed(entry.name, node.plan.block, inputs, node)]

    # -- names --------------------------------------------------------------------------------------------------------

    def _finished(self, placed: list[Node], scope: _Scope) -> list[Node]:
        """The nodes of an entry, of which the last is the entry's own; its outputs can be named from here on."""
        node = placed[-1]
        scope.nodes[node.name] = node
        scope.tensors[node.name] = {str(index): x for index, x in enumerate(node.outputs)}
        if node.plan.output_names is not None:
            scope.tensors[node.name] = dict(zip(node.plan.output_names, node.outputs, strict=True))
        return placed

    def _inputs(self, names: tuple[str, ...] | None, scope: _Scope, origin: Origin | None) -> list[Symbol]:
        if names is None:
            return self._tensors([(scope.last, origin)], scope)
        here = origin and origin / "inputs"
        return self._tensors([(name, here and here / index) for index, name in enumerate(names)], scope)

    def _tensors(self, references: Sequence[tuple[str, Origin | None]], scope: _Scope) -> list[Symbol]:
        """The tensors that references name; every fault among them is reported."""
        found = [self._tensor(name, scope, origin) for name, origin in references]
        if None in found:
            raise _ReportedError
        return [x for x in found if x is not None]

    def _tensor(self, reference: str, scope: _Scope, origin: Origin | None) -> Symbol | None:
        """The tensor that a reference names: ``hidden``, ``lstm.1`` for one of several outputs; None after a fault."""
        name, _, output = reference.partition(".")
        if name not in scope.tensors:
            scope.is_misnamed = True
            if name in scope.names:
                self._fault(origin, f"'{name}' is declared below; a layer takes what stands above it")
            elif name or scope.last:  # without layers there is no name, which is reported already
                hint = did_you_mean(name, scope.tensors) or scope.sees
                self._fault(origin, f"no layer or input is called '{name}'", hint)
            return None
        scope.used.add(name)
        outputs = scope.tensors[name]
        if outputs is None:
            return None
        if not output:
            return next(iter(outputs.values()))
        if output not in outputs:
            known = ", ".join(f"{name}.{each}" for each in outputs)
            self._fault(origin, f"'{name}' has no output '{output}'", f"it has {known}")
            return None
        return outputs[output]

    def _fault(self, origin: Origin | None, what: str, hint: str | None = None, *, key: bool = False) -> None:
        problem = Problem(what, hint) if origin is None else origin.problem(what, hint, key=key)
        if problem not in self.problems:  # a block that is used twice has its faults once
            self.problems.append(problem)


def _names(body: Body) -> Iterator[str]:
    yield from body.inputs
    for entry in body.entries:
        yield from _names_of(entry)


def _names_of(entry: Entry) -> Iterator[str]:
    """The names by which an entry can be referred to."""
    yield entry.name
    if isinstance(entry, BlockUse) and entry.repeat is not None:
        yield from (f"{entry.name}_{index + 1}" for index in range(entry.repeat))


def _fits(shape: shapes.Shape, declared: shapes.Shape) -> bool:
    return len(shape) == len(declared) and all(
        size is None or wanted is None or size == wanted for size, wanted in zip(shape, declared, strict=True)
    )


def _nearest(rule: LayerRule, body: Body) -> str | None:
    """The name nearest to a rule's pattern, as a hint."""
    return None if rule.layers is None else did_you_mean(rule.layers, _names(body))
