"""From a Graph to a Program: what the module of a network does, step by step."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from regspec.code.expressions import Apply, Call, Definition, Expression, Module, Part, WeightPath, replaced, walk
from regspec.code.shapes import ShapeError, Symbol
from regspec.graph.again import calls_what_is_made_for_others
from regspec.graph.loading import in_order
from regspec.graph.network import BlockNode, Graph, LayerNode, Node, inside
from regspec.graph.weights import weight_named
from regspec.targets.torch.lowered import Lowered, LoweredLayers, Penalized, Place
from regspec.targets.torch.padding import with_own_padding
from regspec.targets.torch.steps import (
    Step,
    adapted,
    attribute_of,
    mask_of_output,
    mask_outside,
    ordered,
    without_unread_masks,
)
from regspec.text.problems import Problem, Problems, RegspecError


@dataclass(frozen=True, slots=True, eq=False)
class Program(Definition):
    """What the class of a network, or of a block of one, computes: steps in the order of execution."""

    graph: Graph
    inputs: tuple[Symbol, ...]  # its own, and then the masks of them that it takes
    steps: tuple[Step, ...]
    outputs: tuple[Symbol, ...]
    masked: tuple[int, ...]  # which inputs' masks it takes
    masks: Mapping[Symbol, Step]  # the steps that compute masks, also those that nothing reads, and views for them

    def penalized(self, step: Step) -> Iterator[Penalized]:
        """The regularizers of a step, with the paths of the other weights that they take."""
        if not step.lowered.names_weights:  # as most
            yield from step.lowered.penalized
            return
        for each in step.lowered.penalized:
            paths: dict[Expression, str] = {}
            for part in walk(each.constructor):
                if isinstance(part, WeightPath) and isinstance(step.node, LayerNode):
                    node, weight = weight_named(part.name, step.node, self.graph.nodes)
                    paths[part] = self.step(node.name).path(Place(weight.module, weight.parameters[0]))
            yield replace(each, constructor=replaced(each.constructor, paths)) if paths else each

    def step(self, name: str) -> Step:
        """The step of a node, by its name."""
        return next(each for each in self.steps if each.node is not None and each.name == name)

    def last_module(self, index: int = 0) -> str | None:
        """The torch class whose module computes an output, such as ``nn.Softmax``; None where it is no such module."""
        results = {
            x: result for step in self.steps for x, result in zip(step.outputs, step.lowered.results, strict=True)
        }
        match results.get(self.outputs[index]):
            case (
                Apply(module=Module(constructor=Program() as block))
                | Part(whole=Apply(module=Module(constructor=Program() as block)))
            ):
                return block.last_module()
            case Apply(module=Module(constructor=Call(function=str() as function))):
                return function
        return None


def program_of(graph: Graph) -> Program:
    """The program of a network, which is made once. Raises `RegspecError` with everything that torch can't do."""
    if "torch" not in graph.derived:
        lowering = _Lowering(LoweredLayers(graph.dtype))
        program = lowering.program(graph, graph.inputs, "")
        if lowering.problems:
            raise RegspecError(in_order(lowering.problems))
        graph.derived["torch"] = program
    made: Program = graph.derived["torch"]
    return made


@dataclass
class _Lowering:
    layers: LoweredLayers
    problems: Problems = field(default_factory=Problems)
    reported: set[tuple[object, str]] = field(default_factory=set)

    def program(self, graph: Graph, inputs: Sequence[Symbol], prefix: str) -> Program:
        """The program of a graph on inputs in these orders of axes."""
        known = dict(zip(graph.inputs, inputs, strict=True))
        known.update((own.mask, x.mask) for own, x in [*known.items()] if own.mask is not None and x.mask is not None)
        taken = {*graph.names}
        steps: list[Step] = []
        places: dict[Node, Step] = {}
        masked_calls = _masked_calls(graph)
        for node in graph.nodes:
            if node.first is not None and node.first not in places:
                known.update((x, x) for x in node.outputs)  # the layer that it calls again has a fault
                continue
            try:
                if isinstance(node, BlockNode):
                    steps += self._block(node, known, places, taken, prefix)
                else:
                    steps += self._layer(node, known, places, taken, masked_calls.get(node.first or node, ()))
                places[node] = steps[-1]
                outputs = steps[-1].outputs
            except ShapeError as error:
                self._report(node, prefix, error)
                outputs = node.outputs  # so that what takes them can be checked too
            known.update(zip(node.outputs, outputs, strict=True))
            known.update(
                (own.mask, x.mask)
                for own, x in zip(node.outputs, outputs, strict=True)
                if own.mask is not None and x.mask is not None
            )
        given = [known[x] for x in graph.outputs]
        if graph.is_root:
            given = [ordered(x, x.spec_order, steps) for x in given]
        kept = with_own_padding(without_unread_masks(steps, given), given)
        read = {x for step in kept for x in step.inputs}
        masked = tuple(index for index, x in enumerate(inputs) if x.mask in read)
        return Program(
            graph,
            inputs=(*inputs, *(mask for index in masked if (mask := inputs[index].mask) is not None)),
            steps=kept,
            outputs=tuple(given),
            masked=masked,
            masks={x: step for step in steps if step.node is None for x in step.outputs},
        )

    def _layer(
        self,
        node: LayerNode,
        known: Mapping[Symbol, Symbol],
        places: Mapping[Node, Step],
        taken: set[str],
        masked_inputs: Collection[int],
    ) -> list[Step]:
        """The steps of a layer, its own the last; ``masked_inputs`` are those that have a mask in any call of it."""
        inputs = [known[x] for x in node.inputs]
        masked = [
            replace(
                x,
                mask=None if mask is None else known[mask],
                is_masked_elsewhere=mask is None and index in masked_inputs,
            )
            if masked_inputs or x.mask or mask  # most have none
            else x
            for index, (x, mask) in enumerate(zip(inputs, node.masks, strict=True))
        ]
        if node.attention_mask is not None:
            masked[0] = replace(masked[0], attention_mask=known[node.attention_mask])
        lowered = self.layers.of(node.resolved, masked)
        if node.first is None:
            attributes = {each.suffix: attribute_of(node.name, each.suffix, taken) for each in lowered.modules}
            taken.update(attributes.values())
        else:
            first = places[node.first]
            attributes = {**first.attributes}
            if {*lowered.modules} != {*first.lowered.modules}:  # its inputs may be in another order of axes
                lowered = self.layers.of(
                    node.resolved, [*map(_viewed_like, masked, first.inputs), *masked[len(first.inputs) :]]
                )
            if {*lowered.modules} != {*first.lowered.modules}:
                assert isinstance(node.first, LayerNode)  # a further call of a layer
                raise ShapeError(calls_what_is_made_for_others(node.first, node.inputs))
        steps: list[Step] = []
        xs = adapted(inputs, lowered.inputs, steps)
        masks = _masks_by_own(lowered, masked)
        mask = mask_of_output(lowered, node.name, {**dict(zip(lowered.inputs, xs, strict=False)), **masks}, steps)
        count = 0 if mask is None else node.resolved.layer.masked_outputs
        pairs = enumerate(zip(node.outputs, lowered.outputs, strict=True))
        outputs = tuple([_output(node, given, x, mask if index < count else None) for index, (given, x) in pairs])
        read = (masks[own] for own in lowered.inputs[len(xs) :])
        return [*steps, Step(node.name, lowered, (*xs, *read), outputs, node=node, attributes=attributes)]

    def _block(
        self,
        node: BlockNode,
        known: Mapping[Symbol, Symbol],
        places: Mapping[Node, Step],
        taken: Container[str],
        prefix: str,
    ) -> list[Step]:
        """The steps of a block, its own the last."""
        steps: list[Step] = []
        inputs = [known[x] for x in node.inputs]
        if node.first is None:
            inner = [inside(x, own.source) for x, own in zip(inputs, node.block.inputs, strict=True)]
            program = self.program(node.block, inner, f"{prefix}{node.name}.")
            attributes: Mapping[str, str] = {"": attribute_of(node.path, "", taken)}
        else:
            first = places[node.first]
            found = block_of(first)
            assert found is not None  # a further call of a block
            program, attributes = found, first.attributes
            inputs = [ordered(x, like.order, steps) for x, like in zip(inputs, first.inputs, strict=False)]
        bound = dict(zip(program.inputs, inputs, strict=False))
        bound.update((own.mask, x.mask) for own, x in [*bound.items()] if own.mask is not None and x.mask is not None)
        outputs = [
            replace(
                x,
                source=node.name,
                mask=None if x.mask is None else mask_outside(x.mask, program.masks, bound, node.name, steps),
            )
            for x in program.outputs
        ]
        inputs += [mask for index in program.masked if (mask := inputs[index].mask) is not None]
        module = Module(program)
        whole = module(*inputs)
        structure = node.block.output_names or tuple(str(index) for index in range(len(outputs)))
        parts = tuple(Part(whole, structure, (index,)) for index in range(len(outputs)))
        results = (whole,) if node.block.is_single else parts
        lowered = Lowered(node.block.name, tuple(inputs), tuple(outputs), results, (module,))
        return [*steps, Step(node.name, lowered, lowered.inputs, lowered.outputs, node=node, attributes=attributes)]

    def _report(self, node: Node, prefix: str, error: ShapeError) -> None:
        """Adds a fault; a block that is used twice has its faults once."""
        if node.origin is None:
            self.problems.append(Problem(f"{prefix}{node.name} {error.what}", error.hint))
        elif (place := (node.origin.document.path, node.origin.location), error.what) not in self.reported:
            self.reported.add((place, error.what))
            self.problems.append(node.origin.problem(f"{prefix}{node.name} {error.what}", error.hint, key=True))


def _masked_calls(graph: Graph) -> dict[Node, set[int]]:
    """For each layer that is called again, by its first node, the inputs that have a mask in any of its calls."""
    again = {node.first for node in graph.nodes if node.first is not None}
    found: dict[Node, set[int]] = {}
    for node in graph.nodes:
        if isinstance(node, LayerNode) and (first := node.first or node) in again:
            masked = (index for index, mask in enumerate(node.masks) if mask is not None)
            found.setdefault(first, set()).update(masked)
    return found


def block_of(step: Step) -> Program | None:
    """The program of the block that a step applies; None for a layer's, and for what adapts tensors."""
    first = step.lowered.modules[0].constructor if isinstance(step.node, BlockNode) else None
    return first if isinstance(first, Program) else None


def layers_in(program: Program, within: str = "", prefix: str = "") -> Iterator[tuple[Step, str, str]]:
    """The steps of a program's layers, each with its path in the graph, and what stands before its paths in torch."""
    for step in program.steps:
        if not step.declares:
            continue
        if (block := block_of(step)) is None:
            yield step, f"{within}{step.name}", prefix
        else:
            assert isinstance(step.node, BlockNode)
            yield from layers_in(block, f"{within}{step.node.path}.", f"{prefix}{step.attributes['']}.")


def _output(node: LayerNode, given: Symbol, lowered: Symbol, mask: Symbol | None) -> Symbol:
    """An output of a layer as the lowered layer gives it: that of the graph where it lies alike and none has a mask."""
    is_same = mask is None and given.mask is None and given.order == lowered.order
    return given if is_same else lowered.given_by(node.name, mask)


def _masks_by_own(lowered: Lowered, inputs: Sequence[Symbol]) -> dict[Symbol, Symbol]:
    """The masks of a layer's inputs, by those of the lowered layer's."""
    found = {}
    for own, x in zip(lowered.inputs, inputs, strict=False):
        for known, mask in ((own.mask, x.mask), (own.attention_mask, x.attention_mask)):
            if known is not None and mask is not None:
                found[known] = mask
    return found


def _viewed_like(x: Symbol, other: Symbol) -> Symbol:
    """``x`` in the order of axes of another tensor, if that has as many."""
    return x if x.rank != other.rank else x.permuted(other.order)
