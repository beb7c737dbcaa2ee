"""What the outputs of modules are: which tensor is meant, which of its axes is the batch, which the units.

torch's own modules are known by their classes, in one table. Some do not change what axes mean, and take that from
what they are given: an activation, a dropout. Where that comes from is looked up in the graph of the smallest part of
the model that can be traced.
"""

from __future__ import annotations

import copy
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import fx, nn

from regspec.runtime.penalties.readings import Reading

Path = tuple[int | str, ...]


@dataclass(frozen=True)
class Output:
    """What a module gives. An axis that is None is not known by the module alone."""

    path: Path | None = ()  # to the tensor that is meant; None for all tensors, empty for all that are alike
    batch: int | None = None
    units: int | None = None
    least: int = 1  # the axes with a batch: an output with fewer is that of a single sample
    carries: bool = False  # whether what is not known is as in what the module is given


def own_output(module: nn.Module) -> Output:
    """What a module gives, as far as its class says."""
    compiled = getattr(module, "_orig_mod", None)
    if isinstance(compiled, nn.Module):
        return own_output(compiled)
    classes = type(module).__mro__
    for cls in classes:
        if cls is type(module) and cls in _BY_CLASS:
            return _BY_CLASS[cls](module)
        if cls in _BY_CLASS:
            try:
                return _BY_CLASS[cls](module)
            except (AttributeError, TypeError):  # made another way than torch's: an attribute is not there, or another
                return Output()
    for cls in classes:
        if cls.__module__ == "torch.nn.modules.loss":
            return Output(batch=0)
        if cls.__module__.startswith("torch.nn.modules.") and (found := re.search(r"([123])d$", cls.__name__)):
            rank = int(found[1])  # a convolution, a pool, padding: channels, and then so many axes
            return Output(batch=0, units=-(rank + 1), least=rank + 2)
        if cls.__module__ in _CARRYING:
            return _KEPT
    return Output()


class Outputs:
    """What the outputs of a model's modules are. A part of the model is traced where that is needed, and once."""

    def __init__(self, root: nn.Module) -> None:
        self._root = root
        self._traces: dict[str, _Trace] = {}  # by the name of the part
        # some module has the batch as its second axis, so that others may
        self._may_have_batch_second = any(getattr(part, "batch_first", True) is False for part in root.modules())

    def reading_of(self, name: str, given: Output, *, by_units: bool) -> tuple[Reading, int]:
        """How the output of a module, by its name, is read, and which of its axes holds the units.

        What is ``given`` by a rule holds; the rest is what the module says, and then what it is given. What is still
        not known is refused when the output is seen, unless its axes are so few that it is certain.
        """
        found = self._resolved(name, given, by_units)
        unknown = []
        if found.batch is None and self._may_have_batch_second:
            unknown.append("batch_axis")
        if found.units is None and by_units:
            unknown.append("channel_axis")
        kind = type(self._root.get_submodule(name)).__name__
        reading = Reading(
            found.path,
            0 if found.batch is None else found.batch,
            found.least,
            unknown=tuple(unknown),
            subject=f"the output of '{name}', a {kind}," if name else f"the output of the model, a {kind},",
        )
        return reading, -1 if found.units is None else found.units

    def _resolved(self, name: str, given: Output, by_units: bool) -> Output:
        """What a module gives: by the rule, by its class, by the module that it is a part of, by what it is given."""
        own = own_output(self._root.get_submodule(name))
        found = _filled(given, own)

        def is_enough() -> bool:
            has_units = found.units is not None or not by_units
            return has_units and (found.batch is not None or not self._may_have_batch_second)

        if not is_enough():  # a part of one of torch's own, such as the feed-forward of an encoder layer
            wholes = [self._root.get_submodule(above) for above in _above(name)]
            for whole in reversed([each for each in wholes if isinstance(each, _WHOLES)]):
                found = _filled(found, replace(own_output(whole), path=()))
        if not is_enough() and own == Output() and (inside := self._trace(name).gives) is not None:
            found = _filled(found, replace(inside, path=()))
        for above in _above(name):
            if is_enough():
                break
            if (outside := self._trace(above).given.get(name[len(above) :].lstrip("."))) is not None:
                found = _filled(found, replace(outside, path=()) if own.carries else replace(own, path=()))
        return found

    def _trace(self, name: str) -> _Trace:
        if name not in self._traces:
            self._traces[name] = _traced(self._root.get_submodule(name))
        return self._traces[name]


def _filled(known: Output, other: Output) -> Output:
    """What is known, and where something is not, the other."""
    return replace(
        known,
        path=known.path if known.path != () else other.path,
        batch=other.batch if known.batch is None else known.batch,
        units=other.units if known.units is None else known.units,
        least=max(known.least, other.least),
    )


def _above(name: str) -> Iterator[str]:
    """The names of what a module is in, from the root down."""
    parts = name.split(".") if name else []
    for count in range(len(parts)):
        yield ".".join(parts[:count])


# -- torch's own -------------------------------------------------------------------------------------------------------

_KEPT = Output(carries=True)


def _recurrent(module: Any) -> Output:
    """The outputs of each step; the states are no output."""
    return Output((0,), batch=0 if module.batch_first else 1, units=-1, least=3)


def _attention(module: Any) -> Output:
    """What is attended to; the weights of the attention are no output."""
    return Output((0,), batch=0 if module.batch_first else 1, units=-1, least=3)


def _encoder(module: Any) -> Output:
    """As its attention has the batch; layers of another class may have none that is known."""
    own: Any = module
    for attribute in ("layers", "0", "self_attn"):
        own = getattr(own, attribute, own)
    is_first = getattr(own, "batch_first", None)
    return Output(batch=None if is_first is None else 0 if is_first else 1, units=-1, least=3)


def _last(module: Any) -> Output:
    """A stack gives what its last module gives, unless that keeps what it is given."""
    if type(module).forward is not nn.Sequential.forward:
        return Output()
    found = _KEPT
    for part in reversed([*module]):
        found = _filled(found, replace(own := own_output(part), carries=False))
        if not own.carries:
            return replace(found, carries=False)
    return found


def _normalized(module: Any) -> Output:
    """Over one axis it is that of the units; over several it is not said which of them."""
    return Output(units=-1 if len(module.normalized_shape) == 1 else None, least=2, carries=True)


_BY_CLASS: dict[type, Callable[[Any], Output]] = {
    nn.RNNBase: _recurrent,
    nn.LSTMCell: lambda _: Output((0,), batch=0, units=-1, least=2),
    nn.modules.rnn.RNNCellBase: lambda _: Output(batch=0, units=-1, least=2),
    nn.MultiheadAttention: _attention,
    nn.TransformerEncoderLayer: _encoder,
    nn.TransformerDecoderLayer: _encoder,
    nn.TransformerEncoder: _encoder,
    nn.TransformerDecoder: _encoder,
    nn.Transformer: lambda module: Output(batch=0 if module.batch_first else 1, units=-1, least=3),
    nn.Linear: lambda _: Output(units=-1, least=2, carries=True),
    nn.Bilinear: lambda _: Output(units=-1, least=2, carries=True),
    nn.Embedding: lambda _: Output(units=-1, carries=True),
    nn.EmbeddingBag: lambda _: Output(batch=0, units=-1),
    nn.modules.batchnorm._BatchNorm: lambda _: Output(batch=0, units=1, least=2),
    nn.GroupNorm: lambda _: Output(batch=0, units=1, least=2),
    nn.LocalResponseNorm: lambda _: Output(batch=0, units=1, least=2),
    nn.CrossMapLRN2d: lambda _: Output(batch=0, units=1, least=2),
    nn.LayerNorm: _normalized,
    nn.RMSNorm: _normalized,
    nn.Upsample: lambda _: Output(batch=0, units=1, least=3),
    nn.PixelShuffle: lambda _: Output(batch=0, units=-3, least=4),
    nn.PixelUnshuffle: lambda _: Output(batch=0, units=-3, least=4),
    nn.ChannelShuffle: lambda _: Output(batch=0, units=1, least=3),
    nn.Fold: lambda _: Output(batch=0, units=-3, least=4),
    nn.Unfold: lambda _: Output(batch=0, units=-2, least=3),
    nn.Flatten: lambda _: Output(batch=0),
    nn.AdaptiveLogSoftmaxWithLoss: lambda _: Output((0,), batch=0),
    nn.Identity: lambda _: _KEPT,
    nn.Sequential: _last,
    nn.DataParallel: lambda module: own_output(module.module),
    nn.parallel.DistributedDataParallel: lambda module: own_output(module.module),
}
_CARRYING = ("torch.nn.modules.activation", "torch.nn.modules.dropout")
_WHOLES = (
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
    nn.TransformerEncoder,
    nn.TransformerDecoder,
    nn.Transformer,
)


# -- what a module is given --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Trace:
    """What a part of a model gives, and what its own parts are given, by their names; None where it is not known."""

    gives: Output | None = None
    given: Mapping[str, Output | None] = field(default_factory=dict)


def _traced(root: nn.Module) -> _Trace:
    """What is known by a module's graph; nothing where there is none.

    What is traced is a copy, which shares the parameters, because a forward may keep what it sees.
    """
    leaves = {name for name, part in root.named_modules() if _is_known(part)}
    shared = {id(parameter): parameter for parameter in root.parameters()}
    try:  # the forward is the user's, and meets symbols instead of tensors
        twin = copy.deepcopy(root, shared)
        graph = _Tracer(leaves).trace(twin)
    except Exception:
        return _Trace()
    made: dict[fx.Node, Output | None] = {}
    given: dict[str, list[Output | None]] = {}
    for node in graph.nodes:  # in the order in which they are computed, so that nothing is looked for twice
        before = _common([found for each in node.all_input_nodes if (found := made[each]) is not None])
        if node.op == "output":
            return _Trace(before, {name: _common(found) for name, found in given.items()})
        if node.op == "call_module":
            given.setdefault(node.target, []).append(before)
        made[node] = _made(twin, node, before, made)
    return _Trace()


class _Tracer(fx.Tracer):
    """Stops at the modules of these names."""

    def __init__(self, leaves: set[str]) -> None:
        super().__init__()
        self._leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name in self._leaves


def _is_known(module: nn.Module) -> bool:
    """Whether a module is one of torch's own, or derived from one, that need not be looked into."""
    return own_output(module) != Output() and not isinstance(module, nn.Sequential)


def _common(outputs: Sequence[Output | None]) -> Output | None:
    """What outputs are, if they are all alike."""
    return outputs[0] if outputs and all(each == outputs[0] for each in outputs) else None


def _made(root: nn.Module, node: fx.Node, given: Output | None, made: Mapping[fx.Node, Output | None]) -> Output | None:
    """What a node gives, of which it is known what it is given; None where it is not known."""
    if node.op == "call_module":
        own = own_output(root.get_submodule(str(node.target)))
        return replace(own if given is None or not own.carries else _filled(own, given), carries=False)
    if node.op == "call_function" and node.target is operator.getitem:
        whole = made[node.all_input_nodes[0]]
        return whole if whole is not None and whole.path == (node.args[1],) else None
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if node.op in ("call_function", "call_method") and name.replace("_", "") in _ELEMENTWISE:
        return given
    return None


_ELEMENTWISE = {
    *(name.lower() for name in nn.modules.activation.__all__),
    *(name.lower() for name in nn.modules.dropout.__all__),
    *(
        "add",
        "iadd",
        "sub",
        "isub",
        "mul",
        "imul",
        "truediv",
        "div",
        "neg",
        "abs",
        "clamp",
        "exp",
        "log",
        "sqrt",
        "pow",
    ),
    *("float", "half", "bfloat16", "double", "to", "contiguous", "clone", "detach"),
}
