"""What several processes have to share: negatives, batch statistics, and random draws for the whole batch.

With W processes each holds its part of the global batch. Every draw is made for the whole batch by all of them, from
the same seed, and each keeps its own rows: the arithmetic of one step does not depend on W, apart from the order of
sums (and from stochastic depth and mixing, which draw inside a layer, where the rows of others are not known).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


def world_size() -> int:
    """Processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """This process among them, 0 …"""
    return dist.get_rank() if world_size() > 1 else 0


def own_rows(count: int, draw: Callable[[int], Tensor]) -> Tensor:
    """This process's ``count`` rows of what ``draw`` gives for the whole batch.

    Args:
        count: rows of this process; the same in every process.
        draw: number of rows -> a tensor with that many; deterministic, the same in every process.
    """
    rank = process_rank()
    return draw(count * world_size())[rank * count : (rank + 1) * count]


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """Rows of all processes (W * B, C), without gradients, and the place where this process's own begin."""
    if world_size() == 1:
        return rows, 0
    gathered = rows.new_empty(world_size() * len(rows), *rows.shape[1:])
    dist.all_gather_into_tensor(gathered, rows.contiguous())
    return gathered, process_rank() * len(rows)


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean of equal-shaped tensors of all processes, without gradients."""
    if world_size() == 1:
        return values
    values = values.clone()
    dist.all_reduce(values)
    return values / world_size()


class GlobalBatchNorm1d(nn.BatchNorm1d):
    """BatchNorm over the rows (B, C) of all processes.

    torch's SyncBatchNorm does the same on GPUs and refuses CPUs, on which the tests run with two processes. In float64,
    first the mean and then the squares about it: features of an encoder can have a mean 70 times their spread, of whose
    squares float32 keeps three digits.
    """

    def forward(self, rows: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(rows)
        values = rows.double()
        count = len(values) * world_size()
        mean = all_reduce(values.sum(0)) / count  # differentiable, as the next one
        centred = values - mean
        variance = all_reduce(centred.square().sum(0)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var.dtype), self.momentum)
        normalised = centred * (variance + self.eps).rsqrt()
        if self.affine:
            normalised = normalised * self.weight + self.bias
        return normalised.to(rows.dtype)


def share_batch_norms(module: nn.Module) -> nn.Module:
    """``module`` with every BatchNorm1d taking its statistics from all processes, in place."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm1d:
            shared = GlobalBatchNorm1d(child.num_features, eps=child.eps, momentum=child.momentum, affine=child.affine)
            shared.load_state_dict(child.state_dict())
            for parameter, before in zip(shared.parameters(), child.parameters(), strict=True):
                parameter.requires_grad_(before.requires_grad)
            setattr(module, name, shared)
        else:
            share_batch_norms(child)
    return module
