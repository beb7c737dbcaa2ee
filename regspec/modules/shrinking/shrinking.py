"""`regspec.shrink`: a model without the units that it can do without."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from regspec.graph.loading import AnySpec, graph_of, load
from regspec.graph.units import Call, Units, units_of
from regspec.modules.building import build, graph_behind
from regspec.modules.features import features, place_of
from regspec.modules.inputs import forms_of, inputs_of
from regspec.modules.shrinking.arrays import Array, Held, Key, as_numpy, dense, groups_in, held_in
from regspec.modules.shrinking.choosing import Choice, unchanged
from regspec.modules.shrinking.keeping import changes_of, kept_share, norms_of
from regspec.modules.shrinking.live import Live
from regspec.modules.shrinking.report import ShrinkReport, changes_in, reasons
from regspec.modules.shrinking.slicing import Sliced, sliced
from regspec.modules.shrinking.writing import resized
from regspec.runtime import reset_states
from regspec.specs.model import ModelSpec
from regspec.targets.torch.program import program_of
from regspec.text.problems import Problem, RegspecError

TOLERANCE = 1e-4  # of outputs on random inputs, beside the largest of them: more would be a fault of this package
SIZED = "group_lasso, orthogonal and other penalties that count the size of a group weigh what is left otherwise"


@dataclass(frozen=True)
class Shrunk:
    """A smaller model: its spec, its weights as a state_dict, and what went.

    Example:
        >>> import regspec
        >>> shrunk = regspec.shrink(regspec.build("examples/mlp.yaml", seed=0))
        >>> shrunk.report.units, shrunk.report.difference
        ((67, 67), 0.0)
    """

    spec: ModelSpec
    weights: Mapping[str, Tensor] = field(repr=False)
    report: ShrinkReport

    @property
    def text(self) -> str:
        """The text of the spec."""
        assert self.spec.body.origin is not None  # it was made from a text
        return self.spec.body.origin.document.text

    def build(self) -> nn.Module:
        """The smaller module, with its weights, in evaluation mode."""
        model = build(self.spec, seed=0)
        model.load_state_dict(dict(self.weights))
        return model.eval()


def shrink(
    model: nn.Module,
    spec: AnySpec | None = None,
    *,
    keep: float | None = None,
    multiple: int = 1,
    losses: Iterable[Tensor] | None = None,
    inputs: Sequence[Tensor] | None = None,
) -> Shrunk:
    """A smaller model that gives the same in evaluation: without units that are constant, or that nothing takes.

    Units are channels, features and heads. One that is zero by all slices that make it goes, and so does one whose
    removal leaves the outputs as they are; with what is coupled to it in the whole network, by sums, concatenations,
    norms, and blocks that are called again. What a unit that went gave as a constant is added to the next bias, where
    that is exact. The model stays as it is.

    Args:
        model: What `regspec.build` made, with its weights; on any device.
        spec: What it was built of, where the model does not know that, as one that was unpickled does not.
        keep: The largest share of each layer's units that is left, those that weigh most; units that the outputs can do
            without alone, when absent. The outputs change then, and training goes on from it.
        multiple: How many units are left is rounded down to a multiple of this, where keep takes some and as many are
            left: 8 or 16, of which a processor computes as many at once.
        losses: Of batches, as ``(criterion(model(x), y) for x, y in batches)``: units are weighed by how much these
            would change without them, to first order; by the norms of the slices that make them, when absent.
        inputs: What the model is run on once, to read what constant units are, and to compare the outputs; random
            numbers when absent.

    Raises:
        RegspecError: where the model was not built of a spec that has a text, where a block in a file of its own has
            rules, or where the model can't be run.

    Example:
        >>> import regspec, torch
        >>> model = regspec.build("examples/mlp.yaml", seed=0)
        >>> with torch.no_grad():
        ...     _ = model.hidden1.weight[:8].zero_()
        >>> regspec.shrink(model).build().hidden1
        Linear(in_features=13, out_features=24, bias=True)
    """
    if keep is not None and not 0 < keep <= 1:
        raise RegspecError(Problem(f"keep is a share above 0 and up to 1, and not {keep}"))
    if multiple < 1:
        raise RegspecError(Problem(f"multiple is a whole number of units, at least 1, and not {multiple}"))
    if multiple > 1 and keep is None:
        raise RegspecError(Problem("multiple rounds what keep leaves", "give keep too"))
    if losses is not None and keep is None:
        raise RegspecError(Problem("losses weigh units, of which keep says what share is left", "give keep too"))
    if any(x.numel() == 0 for x in inputs or ()):
        raise RegspecError(Problem("inputs have no example, and the model is run on one at least"))
    own = _spec_of(model) if spec is None else load(spec)
    xs = _probe(model, own) if inputs is None else [*inputs]
    live = looked_at(model, own, xs)
    choice = unchanged(live)
    if keep is not None:
        weighed = norms_of(live) if losses is None else changes_of(live, _gradients(model, own, losses))
        return made_without(model, own, live, kept_share(live, choice, keep, weighed, multiple))
    return _compared(model, made_without(model, own, live, choice), xs)


def looked_at(model: nn.Module, spec: ModelSpec, xs: list[Tensor] | None = None) -> Live:
    """What is known of the units of a model, by its weights and one forward. Raises `RegspecError`."""
    graph = graph_of(spec)
    state, held = model.state_dict(), held_in(program_of(graph))
    _check_fits(state, build(spec, seed=0, device="meta").state_dict(), held)
    units = units_of(graph)
    groups = groups_in(units)
    arrays = {
        key: dense(each.array(state), groups.get(key, 1)) for key, each in held.items() if each.weight.shape is not None
    }
    return Live(units, arrays, _values(model, units, _probe(model, spec) if xs is None else xs))


def made_without(model: nn.Module, spec: ModelSpec, live: Live, choice: Choice) -> Shrunk:
    """The smaller model without the groups of a choice. Raises `RegspecError`."""
    left = sliced(live, choice)
    smaller = resized(spec, left.fields)
    state = model.state_dict()
    weights = _state(smaller, left, state)
    buffers = {name for name, _ in model.named_buffers()}
    counts = [sum(each.numel() for name, each in some.items() if name not in buffers) for some in (state, weights)]
    return Shrunk(smaller, weights, _report(live, left, spec, reasons(live, choice), (counts[0], counts[1])))


def _check_fits(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], held: Mapping[Key, Held]) -> None:
    """Raises `RegspecError` where a model's weights are not of the names, shapes and types that its spec has."""
    for name in (name for each in held.values() for name in each.names):
        if name not in state:
            raise RegspecError(Problem(f"the model has no '{name}', which its spec has", "give the spec it is of"))
        found, own = (
            f"{each[name].dtype} {tuple(each[name].shape)}".removeprefix("torch.") for each in (state, wanted)
        )
        if found != own:
            hint = "give the spec it is of; of a model in another type, one that says it as its dtype"
            raise RegspecError(Problem(f"the model's '{name}' is {found}, and in its spec {own}", hint))


def _gradients(model: nn.Module, spec: ModelSpec, losses: Iterable[Tensor]) -> Iterator[dict[Key, Array]]:
    """The gradients of a model's weights by each loss, as Keras has their axes. Raises `RegspecError` without any."""
    graph = graph_of(spec)
    groups, held = groups_in(units_of(graph)), held_in(program_of(graph))
    parameters = {name: each for name, each in model.named_parameters() if each.requires_grad}
    is_empty = True
    for loss in losses:
        is_empty = False
        made = torch.autograd.grad(loss, [*parameters.values()], allow_unused=True)
        known = {name: each for name, each in zip(parameters, made, strict=True) if each is not None}
        found = {key: each for key, each in held.items() if all(name in known for name in each.names)}
        yield {key: dense(each.array(known), groups.get(key, 1)) for key, each in found.items()}
    if is_empty:
        raise RegspecError(
            Problem("losses gives none to weigh units by", "a generator gives them once: make a new one")
        )


def _probe(model: nn.Module, spec: ModelSpec) -> list[Tensor]:
    """Random inputs for a model, where it is."""
    graph = graph_of(spec)
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    return [x.to(device) for x in inputs_of(graph, 2, forms_of(graph)[0])]


def _spec_of(model: nn.Module) -> ModelSpec:
    """The spec that a model was built of. Raises `RegspecError`."""
    graph = graph_behind(model)
    spec = None if graph is None else graph.derived.get("spec")
    if not isinstance(spec, ModelSpec):
        what = "shrink takes what regspec.build made" if graph is None else "the model does not know its spec any more"
        raise RegspecError(Problem(what, "say it: regspec.shrink(model, spec)"))
    return spec


def _run(model: nn.Module, xs: list[Tensor]) -> Any:
    """What a copy of a module gives in evaluation: so the module's modes, states and penalties stay."""
    own = deepcopy(model).eval()
    reset_states(own)
    try:
        with torch.no_grad():
            return own(*xs)
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        what = f"the model can't be run: {str(error).splitlines()[0]}"
        raise RegspecError(
            Problem(what, "give it inputs that it can take: regspec.shrink(model, inputs=[x])")
        ) from None


def _values(model: nn.Module, units: Units, xs: list[Tensor]) -> dict[Call, list[Array]]:
    """What each call gives in one forward, by Keras's axes."""
    names = [name for name in dict.fromkeys(call.name for call in units.calls) if place_of(model, name) is not None]
    heard = _run(features(model, names), xs) if names else {}
    repeated = {call.name for call in units.calls if call.index}
    found = {}
    for call in units.calls:
        if call.name not in heard:
            continue
        value = heard[call.name][call.index] if call.name in repeated else heard[call.name]
        outputs = value if isinstance(value, tuple) else (value,)
        pairs = zip(outputs, call.node.outputs, strict=True)
        found[call] = [as_numpy(x).transpose(np.argsort(symbol.spec_order)) for x, symbol in pairs]
    return found


def _state(spec: ModelSpec, left: Sliced, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state_dict of the smaller model."""
    graph = graph_of(spec)
    found = dict(build(spec, seed=0).state_dict())
    for name, tensor in found.items():
        if name in state and state[name].shape == tensor.shape:
            found[name] = state[name].detach().cpu().clone()
    for key, each in held_in(program_of(graph)).items():
        for name, array in each.parameters(left.arrays[key]).items() if key in left.arrays else ():
            found[name] = torch.as_tensor(np.ascontiguousarray(array)).to(found[name].dtype)
    return found


def _report(
    live: Live, left: Sliced, spec: ModelSpec, stays: Mapping[str, int], weights: tuple[int, int]
) -> ShrinkReport:
    terms = [term for call in live.units.calls for term in call.node.resolved.terms if not term.is_activity]
    is_smaller = any(each.before != each.after for each in changes_in(left))
    is_sized = bool(graph_of(spec).coupled) or any(term.regularizer.reads_units for term in terms)
    notes = [SIZED] if is_smaller and is_sized else []
    return ShrinkReport(changes_in(left), weights, left.folded, stays, None, tuple(notes))


def _compared(model: nn.Module, shrunk: Shrunk, xs: list[Tensor]) -> Shrunk:
    """The smaller model with how far its outputs are from the model's. Raises RuntimeError where that is too far."""
    device = xs[0].device if xs else None
    pairs = [*zip(_tensors(_run(model, xs)), _tensors(_run(shrunk.build().to(device), xs)), strict=True)]
    pairs = [(one, other) for one, other in pairs if one.is_floating_point()]
    alike = [torch.isclose(one, other, rtol=0, atol=0, equal_nan=True) for one, other in pairs]
    gaps = [(one - other).abs().masked_fill(same, 0) for (one, other), same in zip(pairs, alike, strict=True)]
    difference = max((float(gap.max()) for gap in gaps if gap.numel()), default=0.0)
    scale = max((float(one.abs().nan_to_num(posinf=0).max()) for one, _ in pairs if one.numel()), default=0.0)
    is_precise = all(torch.finfo(one.dtype).eps <= torch.finfo(torch.float32).eps for one, _ in pairs)
    if is_precise and not difference <= TOLERANCE * max(scale, 1.0):
        raise RuntimeError(f"the smaller model's outputs differ by {difference:.1e}: report it, with the spec")
    return replace(shrunk, report=replace(shrunk.report, difference=difference))


def _tensors(outputs: Any) -> list[Tensor]:
    if isinstance(outputs, Mapping):
        outputs = [*outputs.values()]
    tensors = [*outputs] if isinstance(outputs, (tuple, list)) else [outputs]
    return [each.detach() for each in tensors]  # a parameter may be an output
