"""From a ModelSpec to a Graph: names resolved, blocks placed, shapes inferred, rules applied, every fault collected."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import ValidationError

from regspec.code import shapes
from regspec.code.expressions import Itself
from regspec.code.shapes import ShapeError, Symbol
from regspec.graph import readings
from regspec.graph.again import calls_what_is_made_for_others, check_block_again, shapes_of
from regspec.graph.masks import masked_by
from regspec.graph.naming import name_hint, names_in, names_of, output_hint
from regspec.graph.network import BlockNode, Graph, LayerNode, UnitRule, block_in_place, inside, layer_in_place
from regspec.graph.readings import Reading
from regspec.graph.resolved import ResolvedLayers
from regspec.graph.unmatched import unmatched
from regspec.graph.weights import weight_named
from regspec.language.regularizers import Regularizer
from regspec.layers import Layer
from regspec.specs.model import BlockUse, Body, Entry, Invalid, LayerCall, LayerUse, ModelSpec
from regspec.specs.rules import LayerRule
from regspec.text import faults
from regspec.text.faults import Origin
from regspec.text.problems import Problem, Problems, did_you_mean

Nodes = list[LayerNode | BlockNode]


def resolve(spec: ModelSpec, *, is_whole: bool = True) -> tuple[Graph | None, list[Problem]]:
    """The graph of a spec; or None, and what is wrong. Unless the spec ``is_whole``, a rule may match nothing."""
    resolver = _Resolver(spec)
    graph = resolver.graph(spec.name, spec.body, resolver.inputs(), "", ())
    if graph is not None and not resolver.problems:
        graph = resolver.with_coupled(graph)
    if is_whole and not resolver.problems:
        resolver.problems.extend(dict.fromkeys(unmatched(spec.body, resolver.matched, resolver.stays)))
    return (None if resolver.problems else graph), resolver.problems


class _ReportedError(Exception):
    """Something can't be resolved because of a fault that is reported already."""


@dataclass
class _Scope:
    """What the entries of one body may name."""

    names: frozenset[str]  # of all its entries and inputs
    uses: Mapping[str, Layer]  # what tensors first go into
    tensors: dict[str, Mapping[str, Symbol] | None] = field(default_factory=dict)  # by output; None after a fault
    nodes: dict[str, LayerNode | BlockNode] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    last: str = ""
    sees: str | None = None  # the hint for a name that is not in it
    is_misnamed: bool = False  # whether an entry has named something that is not there


_ScopedRules = tuple[tuple[str, LayerRule], ...]  # rules, each with the prefix of the names that it sees


@dataclass
class _Resolver:
    spec: ModelSpec
    problems: Problems = field(default_factory=Problems)
    layers: ResolvedLayers = field(init=False)
    matched: set[object] = field(default_factory=set)  # the rules that matched a slot
    of_units: dict[str, list[UnitRule]] = field(default_factory=dict)  # what rules say of units, by layers
    stays: Mapping[object, str] = field(default_factory=dict)  # why a rule for units found none
    reported: set[tuple[Itself, str]] = field(default_factory=set)  # entries, and what is wrong with their shapes
    read_as: dict[Itself, tuple[Reading, ...]] = field(default_factory=dict)  # by layers, which equal entries share
    uses: dict[Itself, Mapping[str, Layer]] = field(default_factory=dict)  # what tensors first go into, by bodies
    is_partial: bool = False  # whether a part was left out because of a fault

    def __post_init__(self) -> None:
        self.layers = ResolvedLayers(self.spec.dtype, self.spec.data_format)

    def inputs(self) -> list[Symbol | None]:
        """The inputs of the spec; None for one with a fault."""
        uses, made = self._uses(self.spec.body), list[Symbol | None]()
        for name in self.spec.body.inputs:
            declared, first = self.spec.inputs.get(name), uses.get(name)
            if declared is None:
                made.append(None)
                continue
            spec_order = readings.order_of_input(declared, first, self.spec.data_format)
            if spec_order is None or readings.has_two_readings(declared, first, self.spec.data_format):
                origin = self.spec.body.origin
                problem = readings.two_readings(name, declared, spec_order)
                self._fault(origin and origin / "inputs" / name, problem.what, problem.hint, key=True)
                made.append(None)
                self.is_partial = True
                continue
            made.append(Symbol((None, *declared.shape), name, declared.dtype, spec_order, spec_order))
        return made

    def graph(
        self, name: str, body: Body, inputs: Sequence[Symbol | None], prefix: str, rules: _ScopedRules
    ) -> Graph | None:
        """The graph of a body on these inputs; None where a fault stands in the way."""
        was_partial, self.is_partial = self.is_partial, False
        rules = (*rules, *((prefix, rule) for rule in body.rules))
        names = frozenset(names_in(body))
        scope = _Scope(names, self._uses(body))
        if prefix:
            scope.sees = f"a block sees its own layers and inputs only: {', '.join(body.inputs)}"
        for input_name, tensor in zip(body.inputs, inputs, strict=False):
            scope.tensors[input_name] = None if tensor is None else {"0": tensor}
            scope.last = input_name
        nodes: Nodes = []
        for index, entry in enumerate(body.entries):
            nodes.extend(self._entry(entry, scope, prefix, rules, body.origins[index] if body.origins else None))
        self._check_other_weights(nodes, prefix)
        outputs = self._outputs(body, scope)
        if not scope.is_misnamed and not any(isinstance(entry, Invalid) for entry in body.entries):
            self._check_use(body, scope)
        is_partial, self.is_partial = self.is_partial, self.is_partial or was_partial
        if is_partial or outputs is None:
            return None
        return Graph(
            name=name,
            names=names,
            inputs=tuple(x for x in inputs if x is not None),
            nodes=tuple(nodes),
            outputs=tuple(outputs),
            output_names=tuple(body.outputs) if isinstance(body.outputs, Mapping) else None,
            is_single=body.outputs is None or isinstance(body.outputs, str),
            is_root=not prefix,
            reduction=self.spec.activity_reduction,
            dtype=self.spec.dtype,
            counts_frozen=self.spec.frozen_penalties == "counted",
        )

    def with_coupled(self, graph: Graph) -> Graph:
        """The network with the penalties of its units."""
        if not self.of_units and not graph.asks_for_units:
            return graph
        from regspec.graph.coupled import coupled_in  # with numpy, which takes longer than a small spec

        found = coupled_in(graph, self.of_units)
        self.problems.extend(found.problems)
        self.matched |= found.rules
        self.stays = found.stays
        return replace(graph, coupled=found.coupled)

    def _check_other_weights(self, nodes: Nodes, prefix: str) -> None:
        """Reports the penalties that take a weight of another layer which is not there."""
        own = [] if self.is_partial else [each for each in nodes if isinstance(each, LayerNode) and not each.is_again]
        names = {
            resolved: [name for term in resolved.terms for name in term.regularizer.other_weights]
            for resolved in {node.resolved for node in own}
        }
        taken = ((node, name) for node in own for name in names[node.resolved])
        for node, name in taken:
            try:
                weight_named(name, node, nodes)
            except ShapeError as error:
                self._fault(node.origin, f"{prefix}{node.name} {error.what}", error.hint, key=True)

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
        """Reports the inputs and layers whose output nothing takes, but for those whose penalty is their use."""
        for index, entry in enumerate(body.entries):
            last = names_of(entry)[-1]
            node, is_used = scope.nodes.get(last), not scope.used.isdisjoint((entry.name, last))
            if not is_used and node is not None and not self._is_penalized(node):
                origin = body.origins[index] if body.origins else None
                what = f"nothing uses the output of '{entry.name}'"
                self._fault(origin, what, "name it in 'outputs', or take it out", key=True)
        for name in body.inputs:
            origin = None if body.origin is None else body.origin / "inputs" / name
            if name in scope.used and name in body.unused:
                self._fault(origin, f"the input '{name}' is used, but says that it is unused", key=True)
            elif name not in scope.used and name not in body.unused:
                way_out = "say 'unused: true' at it" if body.declared else f"say 'unused: [{name}]' at the block"
                hint = f"if the signature alone needs it, {way_out}"
                if name != body.inputs[-1]:
                    taken = f"a layer without 'inputs' takes what stands before it, the first one '{body.inputs[-1]}'"
                    hint = f"{taken}; {hint}"
                self._fault(origin, f"nothing uses the input '{name}'", hint, key=True)

    def _is_penalized(self, node: LayerNode | BlockNode) -> bool:
        """Whether a node adds to the regularization loss by itself, so that it counts where nothing takes its output.

        A further call adds what its output has. A rule for the weights of many layers says nothing of this one.
        """
        if isinstance(node, BlockNode):
            return any(map(self._is_penalized, node.block.nodes))
        counts_frozen = self.spec.frozen_penalties == "counted"
        has_weights = not node.is_again and any(
            weight.regularizer is not None and (counts_frozen or not weight.frozen) for weight in node.resolved.weights
        )
        return has_weights or any(term.is_activity for term in node.resolved.terms)

    def _entry(self, entry: Entry, scope: _Scope, prefix: str, rules: _ScopedRules, origin: Origin | None) -> Nodes:
        """The nodes of an entry; none where it has a fault."""
        nodes: Nodes = []
        try:
            if isinstance(entry, Invalid):
                raise _ReportedError
            inputs = self._inputs(entry.inputs, scope, origin)
            if isinstance(entry, BlockUse):
                nodes = self._use(entry, inputs, scope, prefix, rules, origin)
            elif isinstance(entry, LayerCall):
                nodes = [self._call(entry, inputs, scope, origin)]
            else:
                nodes = [self._layer(entry, inputs, scope, prefix, rules, origin)]
        except ShapeError as error:
            if (Itself(entry), error.what) not in self.reported:  # a block that is used twice has its faults once
                self.reported.add((Itself(entry), error.what))
                self._fault(origin, f"{prefix}{entry.name} {error.what}", error.hint, key=True)
        except _ReportedError:
            pass
        if not nodes:
            self.is_partial = True
            scope.tensors.update(dict.fromkeys(names_of(entry)))
        scope.last = entry.name
        return nodes

    def _masked(
        self, names: tuple[str, ...] | None, layer: Layer, inputs: list[Symbol], scope: _Scope, origin: Origin | None
    ) -> list[Symbol]:
        """The inputs with the masks that count: the named ones, if any are, in place of their own."""
        if names is None:
            return inputs
        here = origin and origin / "mask"
        named = self._tensors([(name, here and here / index) for index, name in enumerate(names)], scope)
        return masked_by(named, layer, inputs)

    def _layer(
        self,
        entry: LayerUse,
        inputs: list[Symbol],
        scope: _Scope,
        prefix: str,
        rules: _ScopedRules,
        origin: Origin | None,
    ) -> LayerNode:
        name, layer = entry.name, entry.layer

        def rule_for(slot: str) -> Regularizer | None:
            """What the last of the rules that select the layer says of a slot."""
            found = None
            for seen_from, rule in rules:
                if slot in rule.slots and rule.matches((prefix + name).removeprefix(seen_from), layer.kinds):
                    self.matched.add(Itself(rule))
                    found = rule.slots[slot]
            return found

        for seen_from, rule in rules:
            if rule.units is not None and rule.matches((prefix + name).removeprefix(seen_from), layer.kinds):
                self.of_units.setdefault(prefix + name, []).append((Itself(rule), rule.units.of_units))
        masked = self._masked(entry.mask, layer, inputs, scope, origin)
        resolved = self.layers.of(layer, masked, rule_for, self._read_as(name, scope))
        node = layer_in_place(name, resolved, inputs, masked, origin=origin)
        self._know(node, scope)
        return node

    def _call(
        self, entry: LayerCall, inputs: list[Symbol], scope: _Scope, origin: Origin | None
    ) -> LayerNode | BlockNode:
        if entry.layer not in scope.nodes:
            if entry.layer in scope.tensors and scope.tensors[entry.layer] is None:
                raise _ReportedError
            scope.is_misnamed = True
            what, hint = f"no layer above is called '{entry.layer}'", did_you_mean(entry.layer, scope.nodes)
            copies = [name for name in scope.nodes if re.fullmatch(rf"{re.escape(entry.layer)}_[0-9]+", name)]
            if entry.layer in scope.tensors and copies:
                what = f"'{entry.layer}' is a repeated block, which can't be called again as one"
                hint = f"call one of its copies: {copies[0]}" + (f" to {copies[-1]}" if len(copies) > 1 else "")
            self._fault(origin and origin / "layer", what, hint)
            raise _ReportedError
        called = scope.nodes[entry.layer]
        first = called.first or called  # of a call of a call too the node that has the layer
        if isinstance(first, BlockNode):
            check_block_again(first, inputs)
            again: LayerNode | BlockNode = block_in_place(entry.name, first.block, inputs, first=first, origin=origin)
        else:
            assert isinstance(called, LayerNode)  # as its first call is
            assert isinstance(first, LayerNode)
            layer = self._with_arguments(called.resolved.said, entry, origin)
            masked = self._masked(entry.mask, layer, inputs, scope, origin)
            resolved = self.layers.again(layer, masked, first.resolved.activity, self._read_as(entry.name, scope))
            if shapes_of(resolved.weights) != shapes_of(first.resolved.weights):
                raise ShapeError(calls_what_is_made_for_others(first, inputs))
            again = layer_in_place(entry.name, resolved, inputs, masked, first=first, origin=origin)
        self._know(again, scope)
        return again

    def _uses(self, body: Body) -> Mapping[str, Layer]:
        """The layers that the tensors of a body first go into, by their names."""
        key = Itself(body)
        if key not in self.uses:
            self.uses[key] = readings.first_uses(body)
        return self.uses[key]

    def _read_as(self, name: str, scope: _Scope) -> tuple[Reading, ...]:
        """How the layer that an output first goes into reads its axes, where that layer or the spec says a layout."""
        first = scope.uses.get(name)
        key = Itself(first)
        if key not in self.read_as:
            self.read_as[key] = readings.readings_by_use(first, self.spec.data_format)
        return self.read_as[key]

    def _with_arguments(self, layer: Layer, entry: LayerCall, origin: Origin | None) -> Layer:
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
        self,
        entry: BlockUse,
        inputs: list[Symbol],
        scope: _Scope,
        prefix: str,
        rules: _ScopedRules,
        origin: Origin | None,
    ) -> Nodes:
        nodes: Nodes = []
        for index, (name, copy) in enumerate(zip(entry.names, entry.copies, strict=True)):
            self._check_inputs(copy.body, inputs)
            # inside, a tensor is known by the name of the block's own input
            inner = [inside(x, own) for x, own in zip(inputs, copy.body.inputs, strict=True)]
            graph = self.graph(entry.block, copy.body, inner, f"{prefix}{name}.", rules)
            if graph is None:
                raise _ReportedError
            path = f"{entry.name}.{index}" if entry.is_repeated else name
            graph = replace(graph, arguments=copy.arguments, formulas=copy.formulas)
            node = block_in_place(name, graph, inputs, path=path, origin=origin)
            self._know(node, scope)
            nodes.append(node)
            # the next copy takes as many outputs as there are inputs; inputs beyond the outputs stay as they are
            inputs = [*node.outputs[: len(inputs)], *inputs[len(node.outputs) :]]
        scope.tensors[entry.name] = scope.tensors[entry.names[-1]]
        scope.used.update(entry.names[:-1])
        return nodes

    def _check_inputs(self, body: Body, inputs: list[Symbol]) -> None:
        wanted = body.inputs
        if len(inputs) != len(wanted):
            count = f"{len(wanted)} input{'s' * (len(wanted) != 1)}"
            raise ShapeError(f"takes {count} ({', '.join(wanted)}), but is given {len(inputs)}")
        for x, name in zip(inputs, wanted, strict=True):
            declared = body.declared.get(name)
            if declared is not None and not _fits(x.spec_shape[1:], declared.shape):
                raise ShapeError(
                    f"takes {shapes.text((None, *declared.shape))} as '{name}', but is given {x.described}"
                )

    # -- names --------------------------------------------------------------------------------------------------------

    def _know(self, node: LayerNode | BlockNode, scope: _Scope) -> None:
        """Makes the outputs of a node known by name to the entries after it."""
        scope.nodes[node.name] = node
        names = node.block.output_names if isinstance(node, BlockNode) else None
        known = dict(zip(names or map(str, range(len(node.outputs))), node.outputs, strict=True))
        if isinstance(node, BlockNode) and names is None and len(node.outputs) > 1:  # by its layers' names, too
            sources = [x.source for x in node.block.outputs]
            known.update({name: known[str(sources.index(name))] for name in sources if sources.count(name) == 1})
        scope.tensors[node.name] = known

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
                hint = name_hint(name, scope.tensors, scope.nodes) or scope.sees
                self._fault(origin, f"no layer or input is called '{name}'", hint)
            return None
        scope.used.add(name)
        outputs = scope.tensors[name]
        if outputs is None:
            return None
        if not output:
            return next(iter(outputs.values()))
        if output not in outputs:
            hint = output_hint(name, output, scope.tensors, scope.nodes)
            self._fault(origin, f"'{name}' has no output '{output}'", hint)
            return None
        return outputs[output]

    def _fault(self, origin: Origin | None, what: str, hint: str | None = None, *, key: bool = False) -> None:
        problem = Problem(what, hint) if origin is None else origin.problem(what, hint, key=key)
        if problem not in self.problems:  # a block that is used twice has its faults once
            self.problems.append(problem)


def _fits(shape: shapes.Shape, declared: shapes.Shape) -> bool:
    return len(shape) == len(declared) and all(
        size is None or wanted is None or size == wanted for size, wanted in zip(shape, declared, strict=True)
    )
