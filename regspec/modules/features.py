"""What is computed inside a model, by names: a module whose call gives some layers' outputs.

Three ways were weighed. Hooks on modules see nothing of what no module gives, such as a mean or a sum. A graph traced
by fx, as torchvision's, does, but for whatever can't be traced, and by fx's names. Here modules are hooked while a call
runs, as in timm; and of a model that was built of a spec, a layer's output is handed on by the forward itself, which
for that call is printed with the layer's output in a call of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from regspec.code import axes
from regspec.code.axes import Order
from regspec.graph.network import BlockNode, Graph, LayerNode
from regspec.modules.building import COMPILED, SOURCES, graph_behind
from regspec.targets.torch.heard import Attributes, Hearing
from regspec.targets.torch.program import Program, block_of, program_of
from regspec.targets.torch.repeats import container_of
from regspec.targets.torch.steps import Step
from regspec.targets.torch.writing import printed
from regspec.text.problems import Problem, RegspecError, did_you_mean

SHOWN = 12  # names in a message


def features(model: nn.Module, names: Sequence[str]) -> Features:
    """A module that takes what the model takes, and returns a dict of tensors: the outputs that are named.

    In a model that was built of a spec, a layer's name is its output as the spec means it: after its activation, its
    axes in the spec's order, and one that no module gives too, such as a mean or a sum. Layers in blocks have the names
    that the state_dict has, ``stage1.0.conv1``. Any other name is that of a module, as `named_modules` has it: what it
    returns. What is called several times in a forward gives a tuple of its outputs; but each call that a spec names is
    an output of its own.

    The model is the one that was given, with its weights, its mode and its penalties, which are those of this call
    afterwards. It runs whole, and nothing stays in it.

    Args:
        model: any module.
        names: of layers, blocks or modules.

    Raises:
        RegspecError: for a name that there is not, with a near one, and for a model that torch has compiled.
            In a call, a RuntimeError for one whose output the call did not compute.

    Example:
        >>> import regspec, torch
        >>> inside = regspec.features(regspec.build("examples/resnet.yaml").eval(), ["stage1.0.conv1", "pool"])
        >>> {name: tuple(x.shape) for name, x in inside(torch.randn(2, 3, 32, 32)).items()}
        {'stage1.0.conv1': (2, 16, 32, 32), 'pool': (2, 64)}
    """
    if isinstance(names, str) or not names:
        raise RegspecError(Problem("features takes a list of names", f"[{names!r}]" if names else None))
    for name, part in model.named_modules():
        if (
            isinstance(part, torch.jit.ScriptModule)
            or hasattr(part, "_orig_mod")
            or part._compiled_call_impl is not None
        ):
            what = f"'{name}'" if name else "the model"
            raise RegspecError(Problem(f"{what} is compiled by torch", "take the features of the model before that"))
    found = {name: place_of(model, name) for name in dict.fromkeys(names)}
    if unknown := [name for name, place in found.items() if place is None]:
        raise RegspecError(_unknown(model, unknown))
    return Features(model, {name: place for name, place in found.items() if place is not None})


@dataclass(frozen=True)
class Place:
    """Where an output is computed."""

    owner: str  # the module whose forward computes it, by its path
    node: str = ""  # of the owner's graph, where the forward hands it on
    module: str | None = None  # in the owner, whose calls give it otherwise
    call: int = 0  # which of the module's calls in the owner's forward it is
    calls: int = 1
    views: tuple[Order | None, ...] = ()  # for each tensor that a spec says, how its axes come into the spec's order


@dataclass(frozen=True)
class Handing:
    """A forward that hands outputs on, by attributes that the owner has while it runs."""

    text: str  # of a file
    cls: str  # whose forward it is, in the file
    attributes: Attributes

    def of(self, owner: nn.Module) -> Callable[..., Any]:
        """The forward of an owner."""
        return partial(getattr(SOURCES.executed(self.text).module, self.cls).forward, owner)


@dataclass
class Heard:
    """What was computed in a call of a model, by the places."""

    outputs: dict[Place, list[Any]] = field(default_factory=dict)

    def note(self, place: Place, index: int, output: Any) -> Any:
        """Notes one of the tensors of a place's output, and returns it."""
        view = place.views[index] if index < len(place.views) else None
        self.outputs.setdefault(place, []).append(output if view is None else output.permute(*view))
        return output

    def value(self, place: Place) -> Any:
        """The output; of several calls a tuple."""
        outputs = self.outputs.get(place, [])
        if (count := len(place.views)) > 1:
            outputs = [tuple(outputs[first : first + count]) for first in range(0, len(outputs), count)]
        outputs = outputs[place.call :: place.calls]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


class Features(nn.Module):
    """A model whose call gives what is computed inside, by names; `features` makes it.

    Attributes:
        model: the model, whole.
    """

    def __init__(self, model: nn.Module, places: dict[str, Place]) -> None:
        super().__init__()
        self.model = model
        self.places = places
        self.handing = {owner: each for path, graph in _graphs(model) for owner, each in _handing(path, graph, places)}

    def forward(self, *inputs: Any, **named: Any) -> dict[str, Any]:
        """The outputs by their names, of the model's arguments.

        Raises:
            RuntimeError: where one was not computed.
        """
        heard = Heard()
        with ExitStack() as stack:
            for place in {*self.places.values()}:  # several names may have one
                if place.module is not None:
                    module = self.model.get_submodule(_joined(place.owner, place.module))
                    handle = module.register_forward_hook(_hook(heard, place))
                    stack.callback(handle.remove)
            for owner, handing in self.handing.items():
                stack.enter_context(self._handing_on(owner, handing, heard))
            self.model(*inputs, **named)
        values = {name: heard.value(place) for name, place in self.places.items()}
        if missing := [name for name, value in values.items() if isinstance(value, tuple) and not value]:
            raise RuntimeError(f"this call of the model did not compute {', '.join(missing)}")
        return values

    @contextmanager
    def _handing_on(self, owner: str, handing: Handing, heard: Heard) -> Iterator[None]:
        """The owner with a forward that hands outputs on."""
        module = self.model.get_submodule(owner)
        own: dict[str, Any] = {"forward": handing.of(module)}
        own |= dict.fromkeys((each for names in handing.attributes.values() for each in names), _itself)
        for place in self.places.values():
            if place.owner == owner and place.node:
                for index, attribute in enumerate(handing.attributes[place.node]):
                    own[attribute] = partial(heard.note, place, index)
        before = {name: module.__dict__[name] for name in own if name in module.__dict__}
        module.__dict__.update(own)
        try:
            yield
        finally:
            for name in own:
                del module.__dict__[name]
            module.__dict__.update(before)


def _itself(x: Any) -> Any:
    return x


def _hook(heard: Heard, place: Place) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        is_several = isinstance(output, tuple) and place.views  # a block's, and not a tuple of any other module
        for index, each in enumerate(output if is_several else (output,)):
            heard.note(place, index, each)

    return hook


# -- names ------------------------------------------------------------------------------------------------------------


def place_of(model: nn.Module, name: str) -> Place | None:
    """Where the output of a name is computed; None where there is none."""
    for path, graph in _graphs(model):
        if name.startswith(f"{path}." if path else ""):
            own = name[len(path) + 1 :] if path else name
            if (found := _in_graph(program_of(graph), path, own)) is not None:
                owner = model.get_submodule(found.owner)  # which may have several paths
                return replace(found, owner=next(path for path, part in model.named_modules() if part is owner))
    is_module = name and any(name == each for each, _ in model.named_modules(remove_duplicate=False))
    return Place("", module=name) if is_module else None


def _graphs(model: nn.Module) -> Iterator[tuple[str, Graph]]:
    """The models in a module that were built of specs, by their paths. One whose forward is another's is none."""
    for path, part in model.named_modules(remove_duplicate=False):
        graph = graph_behind(part)
        if graph is not None and type(part).forward.__module__.startswith(COMPILED):
            yield path, graph


def _in_graph(program: Program, path: str, name: str) -> Place | None:
    """Where the output of a name is computed in the program of the module of a path."""
    for step in program.steps:
        if step.node is None:
            continue
        attribute = step.attributes[""] if isinstance(step.node, BlockNode) else step.name
        if name == step.name or (name == attribute and step.declares):
            return _of_step(program, path, step)
        block = block_of(step) if step.declares else None
        if block is not None:
            for begin in (f"{step.name}.", f"{attribute}."):
                if name.startswith(begin):
                    return _in_graph(block, _joined(path, attribute), name.removeprefix(begin))
    copies = [step for step in program.steps if step.declares and container_of(step.attributes.get("", "")) == name]
    return _of_step(program, path, copies[-1]) if copies else None  # a block that is repeated gives what its last gives


def _of_step(program: Program, path: str, step: Step) -> Place:
    views = tuple(_view(x.order, x.spec_order) for x in step.outputs)
    if not isinstance(step.node, BlockNode) or not step.declares or container_of(step.attributes[""]) is None:
        return Place(path, node=step.name, views=views)
    calls = [each.name for each in program.steps if each.attributes.get("") == step.attributes[""]]
    return Place(path, module=step.attributes[""], call=calls.index(step.name), calls=len(calls), views=views)


def _view(order: Order, wanted: Order) -> Order | None:
    return None if order == wanted else axes.between(order, wanted)


def _known(model: nn.Module) -> Iterator[str]:
    """The names that outputs have."""
    for path, graph in _graphs(model):
        yield from (_joined(path, each) for each in _names(graph))
    yield from (name for name, _ in model.named_modules() if name)


def _unknown(model: nn.Module, names: Sequence[str]) -> list[Problem]:
    """What is wrong with names of which there is no output."""
    known = dict.fromkeys(_known(model))
    there = [each for each in known if place_of(model, each) is not None]
    shown = f"there are {', '.join(there[:SHOWN])}{', …' if len(there) > SHOWN else ''}"
    return [
        Problem(f"'{each}' is not computed by itself: the layer after it does it, too")
        if each in known
        else Problem(f"the model has no '{each}'", did_you_mean(each, there) or shown)
        for each in names
    ]


def _names(graph: Graph) -> Iterator[str]:
    for node in graph.nodes:
        yield node.name if isinstance(node, LayerNode) or node.is_again else node.path
        if isinstance(node, BlockNode) and not node.is_again:
            yield from (f"{node.path}.{each}" for each in _names(node.block))


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def _handing(path: str, graph: Graph, places: Mapping[str, Place]) -> Iterator[tuple[str, Handing]]:
    """The forwards that hand on outputs of nodes, by the modules in the model of a graph, at a path."""
    program = program_of(graph)
    owners = dict.fromkeys(each.owner for each in places.values() if each.node)
    found = {owner: _block_at(program, path, owner) for owner in owners}
    wanted: dict[str, list[str]] = {}
    for place in places.values():
        if place.node and (block := found[place.owner]) is not None:
            wanted.setdefault(block.graph.name, []).append(place.node)
    if not wanted:
        return
    hearing = Hearing(wanted)
    file = printed(hearing.of(program))
    for owner, block in found.items():
        if block is not None:
            made = hearing.programs[block]
            yield owner, Handing(file.text, file.classes[made], hearing.attributes[made])


def _block_at(program: Program, path: str, owner: str) -> Program | None:
    """The program of a module that is the model of a path, or a block in it; None where it is neither."""
    if owner == path:
        return program
    for step in program.steps:
        if step.declares and (block := block_of(step)) is not None:
            own = _joined(path, step.attributes[""])
            if owner == own or owner.startswith(f"{own}."):
                return _block_at(block, own, owner)
    return None
