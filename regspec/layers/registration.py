"""The user's own layers: a torch module becomes a kind by its constructor's parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

from pydantic import ConfigDict, create_model

from regspec.code.axes import Order
from regspec.code.expressions import Expression, Import, Module, call
from regspec.code.shapes import Shape, ShapeError, Symbol
from regspec.language.constraints import Constraint
from regspec.language.registration import code_of_the_user, fields_of, found, importable, load_module
from regspec.language.regularizers import RegularizerField
from regspec.language.sorts import FAMILIES, member_of
from regspec.layers.kinds import BUILT_IN, KINDS, add_kind
from regspec.layers.layer import Layer, Placement, Weight, parse_pattern
from regspec.text.problems import Problem, RegspecError

OutputShape = Callable[..., "tuple[int | None, ...]"]


class Registered(Layer):
    """A kind that is a torch module of the user's."""

    model_config = ConfigDict(strict=False, arbitrary_types_allowed=True)

    module_import: ClassVar[Import]
    module_class: ClassVar[type[Any]]
    module_fields: ClassVar[tuple[str, ...]]
    slots: ClassVar[Mapping[str, str]]
    is_opaque = True
    is_counted_by_spec = True
    shape_function: ClassVar[OutputShape | None]

    @property
    def takes_integers(self) -> bool:
        return True

    def output_spec_order(self, rank: int, *xs: Symbol) -> Order | None:
        """A module of the user's gives images as torch has them."""
        return super().output_spec_order(rank, *xs) or self.usual_spec_order(rank)

    def weights(self, x: Symbol, *_: Symbol) -> tuple[Weight, ...]:
        return tuple(
            Weight(
                slot,
                slot,
                None,
                parse_pattern("o i"),
                parameters=(parameter,),
                regularizer=getattr(self, f"{slot}_regularizer"),
                constraint=getattr(self, f"{slot}_constraint"),
                explicit=f"{slot}_regularizer" in self.model_fields_set,
            )
            for slot, parameter in self.slots.items()
        )

    def output_shape(self, x: Symbol, *others: Symbol) -> Shape:
        function: Any = type(self).shape_function
        if function is None:
            return x.shape
        arguments = {name: getattr(self, name) for name in self.module_fields}
        try:
            with code_of_the_user("can't take its input"):
                return (x.shape[0], *function(*(each.shape[1:] for each in (x, *others)), **arguments))
        except RegspecError as error:
            (problem,) = error.problems
            raise ShapeError(problem.what, problem.hint) from None

    def lower(self, x: Symbol, *others: Symbol) -> Expression:
        arguments = {name: getattr(self, name) for name in self.module_fields if name in self.model_fields_set}
        return Module(call(self.module_import, **arguments))(x, *others)


def register_layer(
    cls: type[Any] | None = None,
    *,
    name: str | None = None,
    output_shape: OutputShape | None = None,
    weights: Mapping[str, str] | None = None,
) -> Any:
    """Makes a torch module a kind that specs may name; a decorator, which gives the class back.

    The parameters of the constructor become the kind's fields, with their annotations and defaults. The class must be
    importable by its name, because the compiled source imports it. A package offers one without being imported first
    by an entry point of the group ``regspec.layers``.

    Args:
        cls: the module; or a `regspec.Layer`, for full control over shapes and lowering.
        name: the kind's name; the class's when absent.
        output_shape: a function of the inputs' shapes, without the batch, and of the fields by name, that gives the
            output's shape; when absent, the output has the shape of the first input.
        weights: slots that may be regularized and constrained: ``{"kernel": "weight"}`` gives the kind the fields
            kernel_regularizer and kernel_constraint, for its parameter weight.

    Raises:
        RegspecError: where the class can't be imported by its name, or the name is taken.

    Example:
        >>> import torch, regspec
        >>> @regspec.register_layer(weights={"gate": "gate"})
        ... class Gate(torch.nn.Module):
        ...     def __init__(self, start: float = 1.0) -> None:
        ...         super().__init__()
        ...         self.gate = torch.nn.Parameter(torch.tensor(start))
        ...     def forward(self, x: torch.Tensor) -> torch.Tensor:
        ...         return self.gate * x

        ``- Gate: {start: 0.5, gate_regularizer: {l1: 1e-3}}`` is then a layer.
    """
    if cls is None:
        return partial(register_layer, name=name, output_shape=output_shape, weights=weights)
    kind = name or cls.__name__
    if not kind.isidentifier() or not kind[0].isupper():
        raise RegspecError(f"'{kind}' can't be registered: a kind's name begins with a capital letter")
    if kind in BUILT_IN:
        raise RegspecError(f"'{kind}' can't be registered: it is a kind of regspec's own")
    add_kind(kind, cls if issubclass(cls, Layer) else _kind_of(cls, kind, output_shape, dict(weights or {})))
    if issubclass(cls, Layer) and cls.order is Layer.order:  # it is given tensors as its user sees them
        cls.is_counted_by_spec = True
    return cls


def imported(name: str) -> None:
    """Imports a module of the user's, for what it registers; or registers a layer's class of it, ``module:Class``.

    A regularizer, constraint, initializer or activation function of it is named with its sort:
    ``regularizer=module:function``.

    Raises:
        RegspecError: where that fails.
    """
    sort, _, target = name.rpartition("=")
    if sort:
        if sort not in FAMILIES or ":" not in target:
            known = ", ".join(FAMILIES)
            raise RegspecError(
                Problem(f"'{name}' names nothing to import", f"write SORT=module:name; sorts are {known}")
            )
        member_of(sort, target)
    elif ":" in name:
        registered_as(name, "what is no layer is imported with its sort: --import regularizer=module:function")
    else:
        load_module(name)


def registered_as(target: str | Callable[..., Any], hint: str) -> tuple[str, str]:
    """The kind of a class, and what to import to register it again: its module, or ``module:Class``.

    The latter is for a class that its module does not register. A class that is no kind yet is registered here, under
    its own name.

    Args:
        target: the class; or ``package.module:Class``, which is imported.
        hint: what is said where it is no class of a layer.

    Raises:
        RegspecError: where it is no torch module, can't be registered, or another class has its name.
    """
    import torch

    cls = found(target) if isinstance(target, str) else target
    if not inspect.isclass(cls) or not issubclass(cls, (Layer, torch.nn.Module)):
        raise RegspecError(Problem(f"'{target}' is no torch.nn.Module, and no regspec.Layer", hint))
    for name, kind in KINDS.items():
        if kind is cls or (issubclass(kind, Registered) and kind.module_class is cls):
            if kind in _NAMED:
                return name, f"{cls.__module__}:{cls.__name__}"
            return name, target.partition(":")[0] if isinstance(target, str) else cls.__module__
    if cls.__name__ in KINDS:
        what = f"'{cls.__name__}' can't be registered: a kind of another class has the name"
        raise RegspecError(Problem(what, "give the class another name, or register it: register_layer(…, name=…)"))
    register_layer(cls)
    _NAMED.add(KINDS[cls.__name__])
    return cls.__name__, f"{cls.__module__}:{cls.__name__}"


_NAMED: set[type[Layer]] = set()  # kinds that the modules of their classes do not register by themselves


def _kind_of(cls: type[Any], name: str, output_shape: OutputShape | None, weights: dict[str, str]) -> type[Layer]:
    fields: dict[str, Any] = fields_of(cls, skip=0)
    if fields.get("dtype", (None, ...))[1] is not ...:
        del fields["dtype"]  # every layer has one, by which its module is converted
    for field in fields:
        if field in Placement.model_fields or hasattr(Layer, field) or field in Layer.model_fields:
            raise RegspecError(f"'{name}' can't be registered: '{field}' has a meaning of its own in every layer")
    slots: dict[str, Any] = {}
    for slot in weights:
        slots[f"{slot}_regularizer"] = (RegularizerField | None, None)
        slots[f"{slot}_constraint"] = (Constraint | None, None)
    text = inspect.cleandoc(cls.__doc__ or "")  # its own: that of torch.nn.Module says nothing
    kind = create_model(name, __base__=Registered, __doc__=text, __module__=cls.__module__, **fields, **slots)
    kind.module_import = importable(cls)
    kind.module_class = cls
    kind.module_fields = tuple(fields)
    kind.slots = weights
    kind.shape_function = None if output_shape is None else staticmethod(output_shape)
    kind.arity = _arity(cls)
    return kind


def _arity(cls: type[Any]) -> tuple[int, int | None]:
    """The fewest and the most tensors that a module's forward takes."""
    parameters = list(inspect.signature(cls.forward).parameters.values())[1:]
    named = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    fewest = sum(each.default is inspect.Parameter.empty for each in named)
    takes_any = any(each.kind is each.VAR_POSITIONAL for each in parameters)
    return max(fewest, 1), None if takes_any else len(named)
