"""What many_gpus.md says of penalties in several processes: messages, bytes and operations, counted; and gradients.

Run it on the CPU, with as many processes as you like: ``torchrun --nproc-per-node 2 examples/pages/many_gpus.py``.
It prints rows of the page's tables, and fails where a count is not that of the page's formulas.
"""

import os
from collections.abc import Callable
from typing import Any

import regspec
import torch
import torch.distributed as dist
from regspec.runtime import Regularized
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

FEATURES, WIDTH, CLASSES, BATCH = 64, 128, 8, 32
SPEC = """
regspec: 1
name: net
activity_reduction: {reduction}
inputs: {{features: {{shape: [64]}}}}
layers:
  - Dense: {{name: hidden, units: 128, activation: sigmoid, use_bias: false, activity_regularizer: {activity}}}
  - Dense: {{name: logits, units: 8, use_bias: false}}
regularizers:
  - {{kinds: [Dense], kernel: {kernel}}}
"""
L1, L2, KL = "{l1: 0.1}", "{l2: 0.01}", "{kl_sparsity: {strength: 0.1}}"


def build(kernel: str = L2, activity: str = L1, reduction: str = "mean") -> Regularized:
    return regspec.build(regspec.loads(SPEC.format(kernel=kernel, activity=activity, reduction=reduction)), seed=0)


Strategy = Callable[[Regularized], nn.Module]


# -- strategies --------------------------------------------------------------------------------------------------------


def ddp(model: Regularized) -> nn.Module:
    """Every process has all weights, and a share of the batch."""
    return nn.parallel.DistributedDataParallel(model)


def fsdp(model: Regularized) -> nn.Module:
    """Every process has a share of each layer's weights, which it gathers for the layer's forward and backward."""
    for part in (model.hidden, model.logits, model):
        fully_shard(part, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    return model


def fsdp_as_one(model: Regularized) -> nn.Module:
    """Every process has a share of all weights, and gathers them all from the forward to the backward."""
    return fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))


STRATEGIES: tuple[Strategy, ...] = (ddp, fsdp, fsdp_as_one)


# -- counting ----------------------------------------------------------------------------------------------------------

# Operations on each number of the larger of two tensors, or lists of tensors.
ONE = ("abs", "sign", "sum", "add", "add_", "mul", "_foreach_mul", "_foreach_mul_", "_foreach_sign")
ARITHMETIC = {"dot": 2, **dict.fromkeys(ONE, 1)}
AFTER = ("wait_tensor", "_wrap_tensor_autograd")  # what comes after a message


class Counter(TorchDispatchMode):
    """The messages that this process sends, their bytes, and the arithmetic that penalties are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.messages = self.bytes = self.operations = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(each, DTensor) for each in types):
            return NotImplemented  # what it does with its shard comes here, too
        name = function.__name__.partition(".")[0]
        if function.namespace in ("c10d", "_c10d_functional") and name not in AFTER:
            sent = args[1] if name in ("_allgather_base_", "_reduce_scatter_base_") else args[0]
            self.messages += 1
            self.bytes += sum(each.numel() * each.element_size() for each in _listed(sent))
        elif name in ARITHMETIC:
            self.operations += ARITHMETIC[name] * max(sum(each.numel() for each in _listed(x)) for x in args[:2])
        return function(*args, **(kwargs or {}))


def _listed(x: Any) -> list[Tensor]:
    return [each for each in (x if isinstance(x, (list, tuple)) else [x]) if isinstance(each, Tensor)]


def step(model: nn.Module, batch: Tensor, *, reads: bool = True) -> None:
    """A step without an optimizer; or one that does not read the penalties."""
    model.zero_grad()
    loss = model(batch).square().mean()
    if reads:
        loss = loss + regspec.regularization_loss(model)
    loss.backward()


def counted(function: Callable[[], Any]) -> tuple[int, int, int]:
    with Counter() as counter:
        function()
    return counter.messages, counter.bytes, counter.operations


def own(batch: Tensor) -> Tensor:
    """This process's share of a batch."""
    return batch.chunk(dist.get_world_size())[dist.get_rank()]


def costs(strategy: Strategy) -> dict[str, tuple[int, ...]]:
    """What is counted: the messages and bytes of penalties, their operations, and what the rest of the step sends."""
    model = strategy(build())
    batch = own(torch.randn(BATCH, FEATURES))
    for _ in range(2):  # DDP sorts its buckets anew after the first step, and outputs are copied in it
        step(model, batch)
    *rest, others = counted(lambda: step(model, batch, reads=False))
    *whole, operations = counted(lambda: step(model, batch))
    model(batch)
    terms = counted(lambda: regspec.regularization_terms(model, detach=True))
    regspec.bind(model, torch.optim.SGD(model.parameters(), lr=0.1), l2="decay")
    step(model, batch)  # which ends what the forward alone began
    decayed = counted(lambda: step(model, batch))
    return {
        "penalties": (whole[0] - rest[0], whole[1] - rest[1]),
        "operations": (operations - others,),
        "the rest": tuple(rest),
        "the terms": terms[:2],
        "with l2 as a decay": (decayed[0] - rest[0], decayed[1] - rest[1]),
    }


def on_paper(strategy: Strategy, processes: int) -> dict[str, tuple[int, ...]]:
    """The same by the page's formulas, for weights and outputs of four bytes a number."""
    layers, weights, outputs = 2, FEATURES * WIDTH + WIDTH * CLASSES, WIDTH * BATCH // processes
    own = weights // processes
    sent = {
        ddp: (1, 4 * weights),  # gradients
        fsdp: (3 * layers, 2 * 4 * own + 4 * weights),  # weights twice, and gradients
        fsdp_as_one: (2, 4 * own + 4 * weights),
    }
    if strategy is not ddp and processes == 1:
        sent[strategy] = (0, 0)
    of_shards = strategy is fsdp
    return {
        "penalties": (1, 4) if of_shards else (0, 0),
        "operations": (6 * (own if of_shards else weights) + 5 * outputs,),  # 4, where numbers are more
        "the rest": sent[strategy],
        "the terms": (1, 4 * layers) if of_shards else (0, 0),
        "with l2 as a decay": (0, 0),
    }


# -- gradients ---------------------------------------------------------------------------------------------------------


def share_of_gradient(strategy: Strategy, **penalties: str) -> tuple[float, float]:
    """The penalties' gradient over that of one process with the whole batch; and how far it is from a multiple."""
    torch.manual_seed(1)
    batch = torch.randn(BATCH, FEATURES)
    model, alone = build(**penalties), build(**penalties)
    trained = strategy(model)
    gradients = []
    for each, inputs in ((trained, own(batch)), (alone, batch)):
        output = each(inputs)
        (0 * output.sum() + regspec.regularization_loss(each)).backward()
        whole = [x.grad.full_tensor() if isinstance(x.grad, DTensor) else x.grad for x in each.parameters()]
        gradients.append(torch.cat([x.flatten() for x in whole]))
    one, other = gradients
    ratio = (one @ other / (other @ other)).item()
    return ratio, ((one - ratio * other).norm() / one.norm()).item()


def cases(processes: int) -> list[tuple[str, dict[str, str], float | None]]:
    """Penalties, and their gradient's share of one process's; None where it is not a multiple."""
    return [
        ("weights, `l2`", {"activity": "{l1: 0.0}"}, 1),
        ("activity, `l1`", {"kernel": "{l2: 0.0}"}, 1),
        ("activity, `l1`, `activity_reduction: sum`", {"kernel": "{l2: 0.0}", "reduction": "sum"}, 1 / processes),
        ("activity, `kl_sparsity`", {"kernel": "{l2: 0.0}", "activity": KL}, None),
    ]


def main() -> list[str]:
    """What is not as on paper."""
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    processes = dist.get_world_size()
    lines, faults = [], []
    for strategy in STRATEGIES:
        torch.manual_seed(0)
        paper, found = on_paper(strategy, processes), costs(strategy)
        of_sums = found["operations"][0] - paper["operations"][0]  # of two or three numbers
        faults += [] if 0 <= of_sums < 10 else [f"{strategy.__name__}: {of_sums} operations too many"]
        found["operations"] = paper["operations"]
        faults += [f"{strategy.__name__}: {what}: {found[what]}" for what in paper if found[what] != paper[what]]
        numbers = (*found["penalties"], *found["operations"], *found["the terms"], *found["the rest"])
        lines.append(f"| {strategy.__name__} | {processes} | " + " | ".join(f"{each:,}" for each in numbers) + " |")
    for what, penalties, expected in cases(processes):
        ratios = [share_of_gradient(strategy, **penalties) for strategy in STRATEGIES]
        ratio, apart = ratios[0]
        lines.append(f"| {what} | {processes} | {ratio:.2f} | {apart:.2f} |")
        wanted = ratios[0] if expected is None else (expected, 0.0)
        if any(abs(one - other) > 1e-4 for each in ratios for one, other in zip(each, wanted, strict=True)):
            faults.append(f"{what}: {ratios} of the gradient")
    if dist.get_rank() == 0:
        print(*lines, *faults, sep="\n", flush=True)
    dist.barrier()
    return faults


if __name__ == "__main__":
    code = 1 if main() else 0
    os._exit(code)  # at the end of the interpreter gloo may abort: https://github.com/pytorch/pytorch/issues/56297
