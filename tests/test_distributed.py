"""Several processes: gradients are those of one process on the whole batch, and penalties are plain tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import regspec

SPEC = """
regspec: 1
name: net
inputs: {x: {shape: [7]}}
layers:
  - Dense: {name: hidden, units: 9, kernel_regularizer: {l1: 0.1, l2: 0.2}, activity_regularizer: {l1: 0.3}}
  - ReLU
  - Dense: {name: logits, units: 5, kernel_regularizer: {norm: 0.3}, bias_regularizer: {l2: 0.4}}
"""


def whole(x: Tensor) -> Tensor:
    return x.full_tensor() if hasattr(x, "full_tensor") else x


def work(rank: int, size: int, folder: str, how: str) -> None:
    """One process: its share of the batch, and the comparison with a model that has all of it."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    torch.set_num_threads(1)
    model, alone = (regspec.build(regspec.loads(SPEC), seed=1) for _ in range(2))
    torch.manual_seed(0)
    with torch.no_grad():
        for one, other in zip(model.parameters(), alone.parameters(), strict=True):
            other.copy_(one.add_(torch.randn_like(one)))
    batch = torch.randn(8, 7)
    trained: nn.Module = model
    if how == "ddp":
        trained = nn.parallel.DistributedDataParallel(model)
    else:
        mesh = init_device_mesh("cpu", (size,))
        for part in (model.hidden, model.logits, model):
            fully_shard(part, mesh=mesh)
    for _ in range(2):
        trained.zero_grad()
        alone.zero_grad()
        output = trained(batch.chunk(size)[rank])
        loss = regspec.regularization_loss(trained)
        terms = regspec.regularization_terms(trained, detach=True)
        (output.square().mean() + loss).backward()
        (alone(batch).square().mean() + alone.regularization_loss()).backward()
        assert type(loss) is Tensor
        assert all(type(each) is Tensor for each in terms.values())
        for name, value in alone.regularization_terms(detach=True).items():
            own = terms[f"module.{name}" if how == "ddp" else name]
            if name.endswith("activity"):  # the mean over the ranks is that over the batch
                dist.all_reduce(own)
                own = own / size
            torch.testing.assert_close(own, value)
        for one, other in zip(model.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(whole(one.grad), other.grad, rtol=1e-4, atol=1e-5)
    dist.destroy_process_group()


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
@pytest.mark.parametrize("size", [2, 4])
def test_gradients_are_those_of_one_process(tmp_path: Path, size: int, how: str) -> None:
    torch.multiprocessing.spawn(work, args=(size, str(tmp_path), how), nprocs=size)
