"""L1 and L2 as compiled code has them: their strengths are tensors, so that another strength needs no other code.

What torch's compiler makes of plain operations was weighed against one opaque operator for all weights, whose value is
that of `kernels.one_pass`, and whose gradient is in closed form. In CPU time of a step by one thread, over the loop
compiled: 1.02 and 1.01 to 1.04 for 6 layers of 1024, 1.02 and 1.09 for 20 of 256. So it is plain operations, for torch
joins them with what is around them.

All strengths of a module are one tensor, converted once. A tensor for each term is an input of the graph with guards of
its own, and one more number that the graph keeps for its backward pass: 8 layers of 64 took 1.15 to 1.20 of the loop
with those, and take 1.08 to 1.14; 20 of 256 took 1.04 to 1.06, and take 1.01. Of the 100 us that are left for 8 layers,
15 are guards, the checks before each call: 24 us, and 8 for the loop. To give all penalties of outputs as one vector
gained nothing: the stack takes what the outputs took.
Inductor makes one addmm of the sum of a weight's gradient and the penalty's, which costs a buffer and a copy, here as
in the loop: 6 layers of 1024 take 1.36 of a step without penalties, and 1.18 where that is switched off in torch. Its
pattern takes any two tensors of one type, in either order, and autograd is what adds them: no form was found that
keeps the penalty's gradient out of it. It does the same with the gradient of an output and its penalty's, from the
second layer on. A node after each output that negates the gradient twice stands in between there; but what it returned
was a view, which nothing may change in place, or a copy. By the least CPU time of 8 layers of 64, on a busy machine,
over the loop: 0.97 with views and 1.12 with copies, 1.07 without the node: too unsteady to decide by.
Each penalty of an output is an output of the graph with a gradient to come, also where the loss is read inside: it may
be read once more outside. Without these the backward pass would have an input and an addition less for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from regspec.runtime.penalties.regularizers import L1, L2
from regspec.runtime.penalties.schedules import Scheduled


class Strengths:
    """The strengths of the L1 and L2 of a module's terms, as one tensor.

    Another strength makes another tensor, because a graph may hold the one that was there.
    """

    def __init__(self) -> None:
        self.values: list[float] = []
        with torch.inference_mode(False):
            self.tensor = torch.zeros(8, dtype=torch.float64, device="cpu")  # with room for more

    def add(self, values: Sequence[float]) -> int:
        """Adds some, and gives the index of the first."""
        first = len(self.values)
        self.values += values
        with torch.inference_mode(False):
            if (lacking := len(self.values) - len(self.tensor)) > 0:
                self.tensor = torch.cat([self.tensor, self.tensor.new_zeros(len(self.tensor) + lacking)])
            self.tensor[first : len(self.values)] = torch.tensor(values, dtype=torch.float64, device="cpu")
        return first

    def set(self, index: int, value: float) -> None:
        """Gives one another value."""
        if self.values[index] != value:
            self.values[index] = value
            with torch.inference_mode(False):
                self.tensor = self.tensor.clone()
                self.tensor[index] = value


class Traced:
    """A regularizer that adds up over the numbers of a tensor, times a strength that is in a tensor."""

    def __init__(self, regularizer: L1 | L2, strengths: Strengths, index: int) -> None:
        self.regularizer = type(regularizer)(1.0)
        self.strengths, self.index = strengths, index

    def __call__(self, x: Tensor) -> Tensor:
        penalty = self.regularizer(x)
        return penalty * self.strengths.tensor.to(penalty.dtype)[self.index]  # one conversion for all

    def of_shard(self, x: Tensor, shape: Sequence[int], join: Callable[..., Tensor]) -> Tensor:
        """The penalty of a tensor of which ``x`` is this rank's piece; ``join`` sums over all pieces."""
        return join(self(x))


def without_schedule(regularizer: Any) -> tuple[Any, float]:
    """A regularizer without its schedules, and what these multiply its strength by now."""
    if isinstance(regularizer, Scheduled):
        return regularizer.regularizer, regularizer.factor
    return regularizer, 1.0


def strength_now(regularizer: Any) -> float:
    """The strength of an L1 or L2, as its schedules have it now; 0 for any other regularizer."""
    own, factor = without_schedule(regularizer)
    return float(own.strength * factor) if isinstance(own, (L1, L2)) else 0.0


def traced(regularizer: Callable[[Tensor], Tensor], strengths: Strengths, index: int) -> Callable[[Tensor], Tensor]:
    """An L1 or L2 as compiled code has it; any other regularizer is itself."""
    own, _ = without_schedule(regularizer)
    return Traced(own, strengths, index) if isinstance(own, (L1, L2)) else regularizer
