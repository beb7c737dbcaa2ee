"""All L1 and L2 penalties of a model as one node of the autograd graph, with the gradient in closed form.

The usual loop, ``sum(c * w.abs().sum() + ...)``, makes four nodes for each term, each with a temporary as large as
the weight. Here the forward of a term is one or two reductions. In the backward, the gradient of a parameter is added
to its ``.grad`` in place when the backward pass ends, without a temporary. The gradient of an output goes to the
autograd engine; so does that of a parameter whose whole gradient is read earlier (see `_is_late`).

A node that is written in Python costs about 100 us in a step, its call in the forward and in the backward. So few
numbers are laid end to end, which is one node of torch's own, and multiplied with themselves or their signs. Measured
in steps of 8 layers of 64, over the loop: what penalties add is 0.65 so, and 0.72 with the node. In a step each
operation of torch's runs once, and so in a cold cache: a sum that takes 3 us by itself takes 15 there, and a scalar
that is made 20. Few operations count for more than fast ones: signs and a dot product are faster than `abs` and `sum`,
because squares take the dot product as well. All by numba, the node and both gradients, is 0.08 slower than the node.

Measured on two cores, over the 54 kernels of ResNet-50, in ms. The value of L1: as here, or by a dot product with the
signs, 4.0; by `vector_norm` 37. The gradient of L1 + L2: as here 21, of which 16 is the system's allocation of memory;
by `lerp` 32; in pieces 24 to 34; with foreach 39, because each of its passes goes over all weights. So foreach is used
for small tensors only, where a call costs more than the arithmetic. The sum of squares of 16 M numbers has an error of
6e-4 as one dot product, and of 4e-8 in pieces, with one thread or two.
Of large models numba does all this in one reading of each tensor, if it is there; see `by_numba`. For 20 layers of 256
L2 by foreach alone, and numba for the fewer numbers of outputs too, were tried: 0.52 of the loop, against 0.54 before,
which is less than runs differ by. There the passes over memory alone take 1.0 ms, and the loop adds 4.8.
On a GPU, where this has not been measured, foreach norms take a few launches, without synchronisation. They add in
float64, because the order in which a float32 norm adds is not defined: on a CPU it adds one number after the other, and
for 16 M numbers the error is 2e-2.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
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
FEW = 2**16  # the most numbers for which nodes of torch's own cost less than one of ours
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
    if not groups[0][1][0].is_cuda:
        if not torch.is_grad_enabled():
            return _valued([(*strengths, xs) for strengths, xs in groups])
        if not one_pass.takes_all() and sum([x.numel() for _, xs in groups for x in xs]) <= FEW:
            return _derived(groups)
    sizes = [(*strengths, len(xs)) for strengths, xs in groups]
    apply: Callable[..., Tensor] = _Penalty.apply
    return apply(sizes, *[x for _, xs in groups for x in xs])


def _derived(groups: list[Group]) -> Tensor:
    """The penalty of few numbers, by operations that torch derives itself."""
    total: Tensor | None = None
    for (l1, l2), xs in groups:
        flat = _end_to_end(xs)
        wide = flat if flat.dtype is torch.float64 else flat.float()
        if l2:
            square = torch.dot(wide, wide)
            total = l2 * square if total is None else torch.add(total, square, alpha=l2)
        if l1:
            absolute = torch.dot(wide, wide.detach().sign())
            total = l1 * absolute if total is None else torch.add(total, absolute, alpha=l1)
    assert total is not None  # there are no groups whose strengths are zero
    return total


def _end_to_end(xs: list[Tensor]) -> Tensor:
    """The numbers of tensors, one after the other."""
    if len(xs) == 1:
        return xs[0].reshape(-1)
    if len({x.shape[1:] for x in xs}) == 1 and xs[0].ndim:  # one node of the graph in place of one for each
        return torch.cat(xs).reshape(-1)
    flat: Tensor = torch._C._nn.flatten_dense_tensors(xs)
    return flat


class _Penalty(torch.autograd.Function):
    """The penalty of groups of tensors: for each its two strengths, and how many tensors it has."""

    @staticmethod
    def forward(ctx: Any, sizes: list[tuple[float, float, int]], *xs: Tensor) -> Tensor:
        ctx.sizes = sizes
        ctx.save_for_backward(*xs)
        return _valued(_members(sizes, xs))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        groups = _members(ctx.sizes, ctx.saved_tensors)
        # with create_graph, this is differentiated again; a batch of gradients (vmap) has no single scale
        if torch.is_grad_enabled() or torch._C._functorch.is_legacy_batchedtensor(gradient):
            each = [(gradient * (l1 * x.sign() + 2 * l2 * x)).to(x.dtype) for l1, l2, xs in groups for x in xs]
            return None, *each
        edges = _members(ctx.sizes, ctx.next_functions) if _may_be_late() else []
        gradients: list[Tensor | None] = [None]
        late: list[Members] = []
        for index, (l1, l2, xs) in enumerate(groups):
            if edges and all(map(_is_late, xs, edges[index][2])):
                late.append((l1, 2 * l2, xs))
                gradients += [None] * len(xs)
            else:
                gradients += _gradients(l1, 2 * l2, xs, gradient)
        if late:
            torch.autograd.Variable._execution_engine.queue_callback(partial(add_gradients, late, gradient))
        return tuple(gradients)


def _members(sizes: list[tuple[float, float, int]], xs: tuple[Any, ...]) -> list[Members]:
    """The strengths of each group, with the items of ``xs`` that belong to it."""
    groups, start = [], 0
    for l1, l2, count in sizes:
        groups.append((l1, l2, [*xs[start : start + count]]))
        start += count
    return groups


# -- values ------------------------------------------------------------------------------------------------------------


def _valued(groups: list[Members]) -> Tensor:
    """The penalty of groups."""
    dtype = torch.float64 if any(xs[0].dtype is torch.float64 for _, _, xs in groups) else torch.float32
    first = groups[0][2][0]
    if first.is_cuda:
        values = [_value_by_foreach(*each) for each in groups]
        return torch.stack(values).sum().to(dtype)
    taken, rest = _for_one_pass(groups)
    value = sum(map(one_pass.value, taken)) + sum([_value_by_torch(*each) for each in rest])
    penalty: Tensor = first.new_full((), value, dtype=dtype)
    return penalty


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


def _is_in_one_piece(x: Tensor) -> bool:
    return is_plain(x) and one_pass.is_in_one_piece(x)


def _for_one_pass(groups: list[Members]) -> tuple[list[list[one_pass.Part]], list[Members]]:
    """The tensors that numba takes, by type and each once, with the sums of its factors; and groups of the others.

    It takes none where a mode of torch wants to see each operation.
    """
    count = sum([x.numel() for _, _, xs in groups for x in xs])
    if not one_pass.takes(count) or torch._C._len_torch_dispatch_stack():
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
    sizes = [x.numel() for x in xs]
    if sum(sizes) <= PACKED:
        return [xs]
    batches: list[list[Tensor]] = []
    room = 0
    for x, size in zip(xs, sizes, strict=True):
        if not batches or size > room:
            batches.append([])
            room = PACKED
        batches[-1].append(x)
        room -= size
    return batches


# -- gradients ---------------------------------------------------------------------------------------------------------


def _gradients(l1: float, l2: float, xs: list[Tensor], scale: Tensor) -> list[Tensor]:
    """``scale * (l1 * sign(x) + l2 * x)`` for each of a group. Multiplying by a tensor is faster than by a number."""
    taken, rest = ([], []) if scale.is_cuda else _for_one_pass([(l1, l2, xs)])
    if taken and not rest and len(taken[0]) == len(xs):  # each is another one
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


def _may_be_late() -> bool:
    """Whether gradients may be added to ``.grad`` when the backward pass ends: no other thread or process reads them.

    DistributedDataParallel sends gradients while the pass runs.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    return not (torch.distributed.is_available() and torch.distributed.is_initialized())


def _is_late(x: Tensor, edge: tuple[Any, int]) -> bool:
    """Whether a tensor is a parameter whose gradient this pass accumulates, and no hook of which reads that earlier.

    (A hook on the accumulating node, which is rare, can't be detected; it sees the gradient without penalties. Of few
    numbers it sees the whole.)
    """
    if not isinstance(x, nn.Parameter) or x.is_cuda or x._backward_hooks or x._post_accumulate_grad_hooks:
        return False
    try:
        executes: bool = torch._C._will_engine_execute_node(edge[0])
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
