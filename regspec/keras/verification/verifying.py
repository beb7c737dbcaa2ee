"""What comes of comparing a port with Keras, as a value.

Outputs, penalties and gradients are compared in evaluation and in training, and what a forward in training does to
moving statistics. What can't be compared is listed, and never taken for a success.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from regspec.graph.loading import graph_of
from regspec.keras.arrays.files import Account
from regspec.keras.arrays.matching import constants_of, parameters_of, weights_of
from regspec.keras.verification.comparing import SUM, Check, Comparison, difference
from regspec.keras.verification.faults import PortError, UnverifiedError, port_computes
from regspec.keras.verification.loading import original_of
from regspec.keras.verification.outcomes import PortSide
from regspec.modules import inputs
from regspec.modules.building import build
from regspec.runtime.penalties.readings import tensors
from regspec.targets.torch.program import program_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from regspec.graph.network import Graph
    from regspec.keras.porting.ported import PortedModel
    from regspec.keras.verification.original import Original
    from regspec.specs.model import ModelSpec

HALF = 16  # how many steps of a half-precision type an error may be


@dataclass(frozen=True)
class Row:
    """The checks of a sort in a mode: how many, and the largest error with each of the weights that were tried."""

    what: str
    count: int
    errors: Mapping[str, float]  # by the weights: file, random
    name: str  # where the error is largest; none where there is none


@dataclass(frozen=True)
class Verification:
    """What came of comparing a port with Keras.

    Example:
        >>> import regspec
        >>> verification = regspec.port("examples/keras_mlp.keras").verify()
        >>> verification.passed, verification.error < 1e-5
        (True, True)
    """

    reference: str | None  # Keras's version and backend; None where nothing was run
    tolerance: float
    checks: tuple[Check, ...]
    left_out: tuple[str, ...]  # what could not be compared, and why
    account: Account | None  # of the file's arrays, if it has any
    parameters: int  # numbers that the port took from the file
    crash: str = ""  # what ended the process in which both ran, before it had an answer

    @property
    def error(self) -> float:
        """The largest relative error, apart from errors that rounding explains."""
        return max(
            (each.error for each in self.checks if each.allowed <= self.tolerance or not each.passed), default=0.0
        )

    @property
    def failed(self) -> tuple[Check, ...]:
        """What is further apart than the tolerance."""
        return tuple(each for each in self.checks if not each.passed)

    @property
    def passed(self) -> bool:
        """Whether nothing that was checked differs, and each of the file's arrays was used exactly once."""
        return self.is_whole and not self.failed and not self.crash

    @property
    def is_whole(self) -> bool:
        """Whether each of the file's arrays was used exactly once, and gave all its numbers."""
        return self.account is None or (self.account.is_complete and self.account.made == self.parameters)

    @property
    def weights(self) -> tuple[str, ...]:
        """With which weights both sides ran: those of the file, random ones, or both."""
        return tuple(_weights(self.checks))

    @property
    def verdict(self) -> str:
        """The result in a sentence."""
        if self.crash:
            return f"failed: {self.crash}"
        if self.failed:
            first = self.failed[0]
            alike = [each for each in self.failed if (each.sort, each.mode) == (first.sort, first.mode)]
            worst = max(alike, key=lambda each: each.error)
            return f"failed: {worst}" + ("" if worst.note else f", where {self.tolerance:g} is allowed")
        if not self.is_whole:
            return "failed: not every array of the file was used exactly once"
        if self.reference is None:
            return "nothing was compared with Keras"
        return f"passed: the largest relative error is {self.error:.1e}, where {self.tolerance:g} is allowed"

    def rows(self) -> tuple[Row, ...]:
        """The checks by sort and mode."""
        groups: dict[str, list[Check]] = {}
        for each in self.checks:
            groups.setdefault(f"{each.sort} in {each.mode}" if each.mode else each.sort, []).append(each)
        return tuple(_row(what, group) for what, group in groups.items())

    def as_dict(self) -> dict[str, Any]:
        """The verification as plain data."""
        return {
            "passed": self.passed,
            "reference": self.reference,
            "tolerance": self.tolerance,
            "error": self.error,
            "crash": self.crash or None,
            "checks": [vars(each) for each in self.checks],
            "left_out": list(self.left_out),
            "account": None if self.account is None else vars(self.account),
        }


def _row(what: str, group: Sequence[Check]) -> Row:
    worst = max(group, key=lambda each: each.error)
    errors = {weights: max(each.error for each in group if each.weights == weights) for weights in _weights(group)}
    count = len({each.name for each in group} - {SUM}) or 1
    return Row(what, count, errors, worst.name if worst.error else "")


def _weights(checks: Sequence[Check]) -> list[str]:
    return [*dict.fromkeys(each.weights for each in checks)]


def verify(port: PortedModel, tolerance: float) -> Verification:
    """The comparison of a port with Keras, as far as Keras is at hand; the account of the file's arrays in any case.

    Torch's random state, and the environment, are as before.
    """
    if port.original is not None:
        found = verify(port.original, tolerance)
        try:
            more = [*_converted(port, port.original, found.tolerance)]
        except UnverifiedError as reason:
            return replace(found, left_out=(*found.left_out, f"the conversion: {reason}"))
        return replace(found, checks=(*found.checks, *more))
    graph, account = graph_of(port.spec), port.provenance.account
    checks: Sequence[Check] = ()
    left_out: Sequence[str] = ()
    name = None
    with _quietly():
        module = build(port.spec, seed=0)
        allowed = max(tolerance, _least(module))
        try:
            original = original_of(port.provenance, graph)
            comparison = Comparison(PortSide(module, graph), original, allowed)
            is_meant = port.spec.activity_reduction == port.provenance.reduction
            if is_meant and port.provenance.reduction != original.reduction and _has_activities(graph):
                comparison = _reduced_alike(port.spec, original, allowed)
            with original.on_cpu():
                weights = {key: torch.as_tensor(array.copy()) for key, array in port.weights.items()}
                comparison.run(weights, is_hidden=account is not None and account.constant > 0)
            name, checks = original.name, comparison.checks
            left_out = (*comparison.reasons, *original.unasked)
        except UnverifiedError as reason:
            left_out = (f"outputs, penalties and gradients: {reason}",)
    return replace(without_comparison(port, allowed), reference=name, checks=tuple(checks), left_out=tuple(left_out))


def without_comparison(port: PortedModel, tolerance: float, *, crash: str = "") -> Verification:
    """What is known of a port without Keras: the account of the file's arrays."""
    constants = constants_of(port.provenance.model).values()  # which stand in the config
    numbers = sum(array.size for array in port.weights.values()) - sum(array.size for array in constants)
    return Verification(None, tolerance, (), (), port.provenance.account, numbers, crash)


def _has_activities(graph: Graph) -> bool:
    """Whether an output in a graph has a penalty."""
    return any(term.is_activity for node in graph.layers() for term in node.resolved.terms)


def _reduced_alike(spec: ModelSpec, original: Original, allowed: float) -> Comparison:
    """The comparison of a spec that reduces the penalties of outputs over a batch as the Keras at hand does."""
    alike = replace(spec, activity_reduction=original.reduction)
    how = {"mean": "divides by the batch size", "sum": "sums over the batch"}
    what = f"the penalties of outputs as the port has them: {original.name} {how[original.reduction]}, which the Keras"
    what += f" of the file does not, and so they were compared with activity_reduction: {original.reduction}"
    return Comparison(PortSide(build(alike, seed=0), graph_of(alike)), original, allowed, left_out=[what])


def _converted(port: PortedModel, original: PortedModel, tolerance: float) -> Iterator[Check]:
    """How far a model that was folded or converted is from the one before, on the same inputs.

    Raises:
        UnverifiedError: where the one before runs on no inputs.
    """
    graph, before, after = graph_of(original.spec), original.build(), port.build()
    if port.provenance.account is None:  # of a config alone: both draw their weights, each in its own order
        _draw_alike(before, after, port, original)
    orders = [port.input_orders.get(x.source) for x in graph.inputs]
    with torch.no_grad(), _quietly():
        for form in inputs.forms_of(graph):
            xs = inputs.inputs_of(graph, 3, form)
            try:
                with port_computes():
                    wanted = [*tensors(before(*xs))]
            except PortError as error:  # of sizes that do not fit: another form may do
                reason = str(error)
                continue
            moved = [x if order is None else x.permute(order) for x, order in zip(xs, orders, strict=True)]
            try:
                with port_computes():
                    got = [*tensors(after(*moved))]
            except PortError as error:
                yield _of_conversion("all", math.inf, tolerance, f"it fails: {error}")
                return
            break
        else:
            raise UnverifiedError(f"the model runs on none of the inputs that were tried: {reason}")
    outputs = port.spec.body.outputs  # where a layer that was folded gave one, it has another name
    names = [outputs] if isinstance(outputs, str) else [*(outputs or ())]
    for name, a, b in zip(names, got, wanted, strict=True):
        order = port.output_orders.get(name)
        gap = difference(a, b if order is None else b.permute(order), 1e-12)
        yield _of_conversion(name, gap, tolerance)


def _of_conversion(name: str, error: float, tolerance: float, note: str = "") -> Check:
    """The check of an output of a model that was folded or converted."""
    return Check(
        sort="outputs", mode="conversion", weights="file", name=name, error=error, allowed=tolerance, note=note
    )


def _draw_alike(before: nn.Module, after: nn.Module, port: PortedModel, original: PortedModel) -> None:
    """Gives two models the same random weights, moved as the conversion moves those of a file."""
    same = before.state_dict()  # of what no weight declares, such as a module of the user's
    known = {name: x for name, x in same.items() if name in (own := after.state_dict()) and own[name].shape == x.shape}
    after.load_state_dict({**after.state_dict(), **known})
    rng, graph = np.random.default_rng(0), graph_of(original.spec)
    arrays: Any = constants_of(port.provenance.model)
    for path, weight in weights_of(graph):
        if path not in arrays and weight.shape is not None:  # a moving variance is positive
            drawn = rng.uniform(0.5, 1.5, weight.shape) if not weight.trainable else rng.normal(0, 0.3, weight.shape)
            arrays[path] = drawn.astype("float32")
    _set_weights(before, parameters_of(program_of(graph), arrays))
    for move in port.moves:
        arrays = move(arrays)
    _set_weights(after, parameters_of(program_of(graph_of(port.spec)), arrays))


def _set_weights(module: nn.Module, parameters: Mapping[str, NDArray[Any]]) -> None:
    state = {name: torch.as_tensor(array.copy()) for name, array in parameters.items()}
    module.load_state_dict({**module.state_dict(), **state})


def _least(module: nn.Module) -> float:
    """The error that half precision makes by itself; nothing where a module has none."""
    types = {each.dtype for each in module.parameters()} & {torch.float16, torch.bfloat16}
    return max((HALF * torch.finfo(each).eps for each in types), default=0.0)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without Keras's warnings, and with the state of torch's generator kept."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=()):
        warnings.simplefilter("ignore")
        yield
