"""All L1 and L2 penalties of a model as one node of the autograd graph, with the gradient in closed form.

The usual loop, ``sum(c * w.abs().sum() + ...)``, makes four nodes for each term, each with a temporary as large as
the weight. Here the forward of a term is one or two reductions. In the backward, the gradient of a parameter is added
to its ``.grad`` in place when the backward pass ends, without a temporary. The gradient of an output goes to the
autograd engine; so does that of a parameter whose whole gradient is read earlier (see `_is_late`).

Measured on two cores, over the 54 kernels of ResNet-50, in ms. The value of L1: as here, or by a dot product with the
signs, 4.0; by `vector_norm` 37. The gradient of L1 + L2: as here 21, of which 16 is the system's allocation of memory;
by `lerp` 32; in pieces 24 to 34; with foreach 39, because each of its passes goes over all weights. So foreach is used
for small tensors only, where a call costs more than the arithmetic. The sum of squares of 16 M numbers has an error of
6e-4 as one dot product, and of 4e-8 in pieces, with one thread or two.
Of large models numba does all this in one reading of each tensor, if it is there; see `by_numba`.
On a GPU, where this has not been measured, foreach norms take a few launches, without synchronisation. They add in
float64, because the order in which a float32 norm adds is not defined: on a CPU it adds one number after the other, and
for 16 M numbers the error is 2e-2.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from regspec.runtime.kernels import one_pass

Strengths = tuple[float, float]  # of the sum of absolute values, and of the sum of squares
Group = tuple[Strengths, list[Tensor]]  # tensors of one device and type
Members = tuple[float, float, list[Any]]  # two factors, and what they are of

PACKED = 2**15  # the most numbers, of several small tensors together, that one call takes
PIECE = 2**17  # the most numbers that one sum adds


def can_fuse() -> bool:
    """Whether operations run eagerly: neither traced by a compiler, transformed by functorch, nor derived forwards."""
    return not (
        torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    )


def is_plain(x: Tensor) -> bool:
    """Whether a tensor is no subclass that computes in its own way, as sharded tensors do."""
    is_own_type = type(x) is nn.Parameter or type(x) is Tensor
    return is_own_type and x.is_floating_point() and (x.is_cpu or x.is_cuda)


def fused_penalty(groups: list[Group]) -> Tensor:
    """``sum(l1 * sum(abs(x)) + l2 * sum(x**2))`` over tensors of one device, a scalar in float32 at least."""
    sizes = [(*strengths, len(xs)) for strengths, xs in groups]
    apply: Callable[..., Tensor] = _Penalty.apply
    return apply(sizes, *[x for _, xs in groups for x in xs])


class _Penalty(torch.autograd.Function):
    """The penalty of groups of tensors: for each its two strengths, and how many tensors it has."""

    @staticmethod
    def forward(ctx: Any, sizes: list[tuple[float, float, int]], *xs: Tensor) -> Tensor:
        ctx.sizes = sizes
        ctx.save_for_backward(*xs)
        dtype = torch.float64 if any(x.dtype is torch.float64 for x in xs) else torch.float32
        if xs[0].is_cuda:
            values = [_value_by_foreach(*each) for each in _members(sizes, xs)]
            return torch.stack(values).sum().to(dtype)
        return torch.tensor(_value([*_members(sizes, xs)]), dtype=dtype, device="cpu")

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        groups = _members(ctx.sizes, ctx.saved_tensors)
        # with create_graph, this is differentiated again; a batch of gradients (vmap) has no single scale
        if torch.is_grad_enabled() or torch._C._functorch.is_legacy_batchedtensor(gradient):
            each = [(gradient * (l1 * x.sign() + 2 * l2 * x)).to(x.dtype) for l1, l2, xs in groups for x in xs]
            return None, *each
        gradients: list[Tensor | None] = [None]
        late: list[Members] = []
        for (l1, l2, xs), (_, _, edges) in zip(groups, _members(ctx.sizes, ctx.next_functions), strict=True):
            if all(_is_late(x, node) for x, (node, _) in zip(xs, edges, strict=True)):
                late.append((l1, 2 * l2, xs))
                gradients += [None] * len(xs)
            else:
                gradients += _gradients(l1, 2 * l2, xs, gradient)
        if late:
            torch.autograd.Variable._execution_engine.queue_callback(partial(add_gradients, late, gradient))
        return tuple(gradients)


def _members(sizes: list[tuple[float, float, int]], xs: tuple[Any, ...]) -> Iterator[Members]:
    """The strengths of each group, with the items of ``xs`` that belong to it."""
    start = 0
    for l1, l2, count in sizes:
        yield l1, l2, [*xs[start : start + count]]
        start += count


# -- values ------------------------------------------------------------------------------------------------------------


def _value(groups: list[Members]) -> float:
    """The penalty of groups on the CPU."""
    taken, rest = _for_one_pass(groups)
    return sum(map(one_pass.value, taken)) + sum([_value_by_torch(*each) for each in rest])


def _value_by_torch(l1: float, l2: float, xs: list[Tensor]) -> float:
    """The penalty of a group on the CPU. A dot product is the fastest sum, but over many numbers inexact."""
    value = 0.0
    for batch in _batches(xs):
        flat = torch._C._nn.flatten_dense_tensors(batch) if len(batch) > 1 else batch[0].reshape(-1)
        for piece in flat.split(PIECE) if flat.numel() > PIECE else (flat,):
            wide = piece if piece.dtype is torch.float64 else piece.float()
            if l2:
                value += l2 * torch.dot(wide, wide).item()
            if l1:
                value += l1 * wide.abs().sum().item()
    return value


def _value_by_foreach(l1: float, l2: float, xs: list[Tensor]) -> Tensor:
    """The penalty of a group on a GPU, in float64."""
    value = xs[0].new_zeros((), dtype=torch.float64)
    if l1:
        value = value + l1 * torch.stack(torch._foreach_norm(xs, 1, dtype=torch.float64)).sum()
    if l2:
        value = value + l2 * torch.stack(torch._foreach_norm(xs, 2, dtype=torch.float64)).square().sum()
    return value


def _in_one_pass(xs: list[Tensor]) -> bool:
    """Whether tensors are many numbers, and no mode of torch wants to see each operation."""
    return one_pass.takes(sum([x.numel() for x in xs])) and not torch._C._len_torch_dispatch_stack()


def _is_in_one_piece(x: Tensor) -> bool:
    return is_plain(x) and one_pass.is_in_one_piece(x)


def _for_one_pass(groups: list[Members]) -> tuple[list[list[one_pass.Part]], list[Members]]:
    """The tensors that numba takes, by type and each once, with the sums of its factors; and groups of the others."""
    if not _in_one_pass([x for _, _, xs in groups for x in xs]):
        return [], groups
    taken: dict[int, one_pass.Part] = {}
    rest: list[Members] = []
    for l1, l2, xs in groups:
        others = []
        for x in xs:
            if _is_in_one_piece(x):
                own = taken.get(id(x), (0.0, 0.0))  # a gradient that two threads add to would be wrong
                taken[id(x)] = (own[0] + l1, own[1] + l2, x, None)
            else:
                others.append(x)
        if others:
            rest.append((l1, l2, others))
    by_type: dict[torch.dtype, list[one_pass.Part]] = {}
    for part in taken.values():
        by_type.setdefault(part[2].dtype, []).append(part)
    return [*by_type.values()], rest


def _batches(xs: list[Tensor]) -> list[list[Tensor]]:
    """Tensors grouped by call: several small ones together, a large one alone, so that it stays in the cache."""
    if not xs or xs[0].is_cuda:
        return [xs]
    batches: list[list[Tensor]] = []
    room = 0
    for x in xs:
        size = x.numel()
        if not batches or size > room:
            batches.append([])
            room = PACKED
        batches[-1].append(x)
        room -= size
    return batches


# -- gradients ---------------------------------------------------------------------------------------------------------


def _gradients(l1: float, l2: float, xs: list[Tensor], scale: Tensor) -> list[Tensor]:
    """``scale * (l1 * sign(x) + l2 * x)`` for each of a group. Multiplying by a tensor is faster than by a number."""
    if not scale.is_cuda and _in_one_pass(xs) and all(map(_is_in_one_piece, xs)):
        gradients = [torch.empty_like(x) for x in xs]
        factor = scale.item()
        one_pass.write([(factor * l1, factor * l2, x, made) for x, made in zip(xs, gradients, strict=True)])
        return gradients
    gradients = []
    for batch in _batches(xs):
        if not l1:
            gradients += torch._foreach_mul(batch, l2 * scale)
            continue
        values = [*torch._foreach_sign(batch)]
        torch._foreach_mul_(values, l1 * scale)
        if l2:
            _add(values, batch, l2, scale)
        gradients += values
    return gradients


def _is_late(x: Tensor, node: Any) -> bool:
    """Whether a tensor's gradient may be added to its ``.grad`` when the backward pass ends.

    It must be a parameter whose gradient this pass accumulates, and nothing may read that gradient earlier: no hook on
    the parameter, no other thread, and no other process, because DistributedDataParallel sends gradients while the pass
    runs. (A hook on the accumulating node, which is rare, can't be detected; it sees the gradient without penalties.)
    """
    if not isinstance(x, nn.Parameter) or x.is_cuda or x._backward_hooks or x._post_accumulate_grad_hooks:
        return False
    if threading.current_thread() is not threading.main_thread():
        return False
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return False
    try:
        executes: bool = torch._C._will_engine_execute_node(node)
    except RuntimeError:  # in torch.autograd.grad, which gives the gradient to its caller
        return False
    return executes


@torch.no_grad()
def add_gradients(groups: list[Members], scale: Tensor) -> None:
    """Adds ``scale * (l1 * sign(x) + l2 * x)`` to the ``.grad`` of each tensor of each group, without a copy of x."""
    taken, rest = ([], groups) if scale.is_cuda else _for_one_pass(groups)
    for parts in taken:
        rest = rest + _added_in_one_pass(parts, scale.item())
    for l1, l2, xs in rest:
        for batch in _batches(xs):
            gradients = [x.grad for x in batch if x.grad is not None and not x.grad.is_sparse]
            if len(gradients) == len(batch):
                if l1:
                    _add(gradients, torch._foreach_sign(batch), l1, scale)
                if l2:
                    _add(gradients, batch, l2, scale)
                continue
            for x, gradient in zip(batch, _gradients(l1, l2, batch, scale), strict=True):
                add_to_grad(x, gradient)


def _added_in_one_pass(parts: list[one_pass.Part], scale: float) -> list[Members]:
    """Adds gradients to those that are there, and writes those that are not; the tensors whose are of another form."""
    there: list[tuple[int, one_pass.Part]] = []  # by where the gradient lies
    new: list[one_pass.Part] = []
    others: list[Members] = []
    for l1, l2, x, _ in parts:
        gradient = x.grad
        if gradient is None:
            new.append((scale * l1, scale * l2, x, torch.empty_like(x)))
        elif is_plain(gradient) and one_pass.lie_alike(x, gradient):
            there.append((gradient.data_ptr(), (l1, l2, x, gradient)))
        else:
            others.append((l1, l2, [x]))
    apart: list[one_pass.Part] = []
    end = 0
    for start, (l1, l2, x, gradient) in sorted(there, key=itemgetter(0)):
        if start < end:  # it overlaps another one: two threads would add to the same numbers
            others.append((l1, l2, [x]))
        else:
            apart.append((scale * l1, scale * l2, x, gradient))
            end = start + x.nbytes
    one_pass.add(apart)
    one_pass.write(new)
    for _, _, x, gradient in new:
        x.grad = gradient
    return others


def add_to_grad(x: Tensor, gradient: Tensor) -> None:
    """Adds to the ``.grad`` of a tensor a gradient that is dense and nobody else's; the sum with a sparse one is dense.

    What is there and dense is added to, because it may be a view of a buffer.
    """
    if x.grad is None:
        x.grad = gradient
    elif x.grad.is_sparse:
        x.grad = gradient.add_(x.grad)
    else:
        x.grad.add_(gradient)


def _add(gradients: list[Tensor], values: list[Tensor] | tuple[Tensor, ...], factor: float, scale: Tensor) -> None:
    """Adds values, times a factor and a scale, to gradients."""
    if scale.is_cuda:  # reading its value would synchronise
        values = torch._foreach_mul(values, scale)
    else:
        factor *= scale.item()
    torch._foreach_add_(gradients, values, alpha=factor)
