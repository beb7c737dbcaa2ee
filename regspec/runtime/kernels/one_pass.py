"""What computes L1, L2 and soft thresholds on a CPU: code that numba compiles for this machine, or torch's operations.

numba is in the extra ``fast``. It takes 0.3 s to import, and about 2 s the first time to compile, so it is loaded
when weights are many. Where it is missing torch's operations do the same; where it fails they do, too, and say so.
"""

from __future__ import annotations

import ctypes
import threading
import warnings
from array import array
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

FEWEST = 2**19  # numbers for which numba is loaded
CHOICES = ("auto", "numba", "torch")
Part = tuple[float, float, Tensor, Tensor | None]  # two factors, a tensor, and another one that lies as it does

_chosen = "auto"
_loading = threading.Lock()


def choose(choice: str) -> None:
    """From now on, this one computes penalties. Raises `ValueError` where it can't."""
    global _chosen
    if choice not in CHOICES:
        raise ValueError(f"there is no backend '{choice}': there are {', '.join(CHOICES)}")
    if choice == "numba" and _kernel() is None:
        raise ValueError("numba can't be loaded: pip install 'regspec[fast]'")
    _chosen = choice


def of_large_models() -> str:
    """What computes the penalties of many numbers."""
    return "numba" if _chosen != "torch" and _kernel() is not None else "torch"


def takes(count: int, module: str = "by_numba", fewest: int = FEWEST) -> bool:
    """Whether a module's functions compute penalties of so many numbers."""
    if _chosen == "auto":
        return count >= fewest and _kernel(module) is not None
    return _chosen == "numba" and _kernel(module) is not None


def takes_all() -> bool:
    """Whether numba computes penalties of any number."""
    return _chosen == "numba"


# -- which tensors -----------------------------------------------------------------------------------------------------


def is_in_one_piece(x: Tensor) -> bool:
    """Whether a tensor of the CPU is numbers of a type that kernels have, one after the other in memory."""
    return (
        (x.dtype is torch.float32 or x.dtype is torch.float64)
        and x.is_cpu
        and x.layout is torch.strided
        and (x.is_contiguous() or _has_channels_last(x))
        and not (x.is_nested or x.is_neg() or x._is_zerotensor())
    )


def _has_channels_last(x: Tensor) -> bool:
    return (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)) or (
        x.ndim == 5 and x.is_contiguous(memory_format=torch.channels_last_3d)
    )


def lie_alike(x: Tensor, other: Tensor) -> bool:
    """Whether another tensor's numbers, as of a gradient, lie in memory as those of a tensor that is in one piece."""
    return (
        other.dtype is x.dtype
        and is_in_one_piece(other)
        and not other.is_inference()  # it has no version
        and (other.stride() == x.stride() or (other.is_contiguous() and x.is_contiguous()))
    )


# -- calls -------------------------------------------------------------------------------------------------------------


def value(parts: list[Part]) -> float:
    """``sum(l1 * sum(abs(x)) + l2 * sum(x**2))`` over tensors that are in one piece and of one type, in float64."""
    return sum(_run(parts, _by_numba().VALUE))


def add(parts: list[Part]) -> None:
    """Adds ``l1 * sign(x) + l2 * x`` to gradients that lie as their tensors, of one type."""
    if not parts:
        return
    _run(parts, _by_numba().ADD)
    torch.autograd.graph.increment_version([gradient for *_, gradient in parts if gradient is not None])


def write(parts: list[Part]) -> None:
    """Writes it to gradients that are new, and lie as their tensors, of one type."""
    if parts:
        _run(parts, _by_numba().WRITE)


def soften(parts: list[Part]) -> None:
    """Moves each number of tensors of one type towards zero by ``factor / (sqrt(squares) + eps)``, and no further.

    A part is ``(factor, eps, tensor, squares)``; where all are without squares it is by the factor.
    """
    code = _by_numba()
    _run(parts, code.SOFTEN_ALIKE if parts[0][3] is None else code.SOFTEN)
    torch.autograd.graph.increment_version([x for _, _, x, _ in parts])


def _run(parts: list[Part], what: int) -> array[float]:
    """Has the threads of torch work on tensors; returns the results of chunks."""
    code = _by_numba()
    table, numbers, start = array("q", [0] * code.HEAD), array("d"), 0
    for first, second, x, other in parts:
        address = x.data_ptr()
        table.extend((start, address, address if other is None else other.data_ptr()))
        numbers.extend((first, second))
        start += x.numel()
    table.extend((start, 0, 0))
    chunks = -(-start // code.CHUNK)
    numbers.extend([0.0] * chunks)
    table[1], table[2], table[3], table[4] = chunks, len(parts), what, numbers.buffer_info()[0]
    run("by_numba", parts[0][2].dtype, table, min(torch.get_num_threads(), chunks))
    return numbers[2 * len(parts) :]


def run(module: str, dtype: torch.dtype, table: array[int], threads: int) -> None:
    """Has threads of torch do what a table says, by the functions of a module that are compiled."""
    kernel = _kernel(module, str(dtype).removeprefix("torch."))
    assert kernel is not None  # `takes` has seen that there is one
    address, together = table.buffer_info()[0], _openmp()
    if threads > 1 and together is not None:
        together(kernel, address, threads, 0)
    elif threads:
        kernel(address)


# -- what is loaded ----------------------------------------------------------------------------------------------------


def _by_numba(module: str = "by_numba") -> ModuleType:
    """A module that numba compiles: its ``kernel`` gives what a thread runs for tensors of a type."""
    return import_module(f"regspec.runtime.kernels.{module}")


def _kernel(module: str = "by_numba", name: str = "float32") -> Any:
    """What is compiled of a module for a type; None where it can't be had."""
    with _loading:
        return _loaded(module, name)


@cache
def _loaded(module: str, name: str) -> Any:
    if find_spec("numba") is None:
        return None
    try:
        code = _by_numba(module)
        try:
            return code.kernel(name, is_cached=True)
        except Exception:  # its cache has no folder that can be written; or a broken file, which may raise anything
            return code.kernel(name, is_cached=False)
    except (
        Exception
    ) as error:  # numba says in many ways that it knows not this numpy, Python or machine; torch can do it
        why = str(error).partition("\n")[0]
        said = f"numba fails ({type(error).__name__}: {why}), and torch's operations compute penalties"
        warnings.warn(said, RuntimeWarning, stacklevel=2)
        return None


@cache
def _openmp() -> Callable[..., None] | None:
    """The function of the OpenMP that torch has which runs another one on its threads; None where it has none."""
    try:
        together = ctypes.CDLL(torch._C.__file__).GOMP_parallel
    except (OSError, AttributeError):
        return None
    together.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    together.restype = None
    return together
