"""Train with several processes: DDP or FSDP2 around a learner, and messages between ranks."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

TIMEOUT = timedelta(days=7)  # ranks wait while the first one reads, saves or waits for a disk
ROOM = 0.6  # of a device's memory for weights, gradients and moments; the rest is activations


def world() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process; 0 writes files and reports."""
    return dist.get_rank() if world() > 1 else 0


def wrap_model(learner: nn.Module, how: str, device: torch.device) -> nn.Module:
    """Return the module to call instead of the learner: itself, DDP around it, or sharded by FSDP2.

    Under FSDP2 every block of the model is a group of its own. What is left (embeddings, head,
    norms) is one more group, which is gathered once for a whole step of forward and backward,
    however many blocks of rows the head is called on.

    Args:
        learner: FSDP2 changes it in place: its class becomes an FSDPModule too.
        how: "ddp", "fsdp", or "auto": fsdp if the model does not fit on one device.
        device: Of this process.
    """
    if world() == 1:
        return learner
    if how == "ddp" or (how == "auto" and _fits(learner, device)):
        return DistributedDataParallel(learner)
    mesh = init_device_mesh(device.type, (world(),))
    modules = list(learner.modules())
    # transformers names the classes that must not be split: a model's blocks
    blocks = {name for one in modules for name in getattr(one, "_no_split_modules", None) or ()}
    for module in modules:
        if type(module).__name__ in blocks:
            fully_shard(module, mesh=mesh)
    fully_shard(learner, mesh=mesh)
    return learner


def _fits(learner: nn.Module, device: torch.device) -> bool:
    """Return whether weights, gradients and Adam moments fit on a device; without a GPU: yes."""
    if device.type != "cuda":
        return True
    held = sum(
        p.numel() * p.element_size() * (4 if p.requires_grad else 1) for p in learner.parameters()
    )
    return held < ROOM * torch.cuda.get_device_properties(device).total_memory


def synced(model: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
    """Run a backward pass inside; ranks add up gradients after the `last` micro-batch only."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(last)
        return nullcontext()
    if isinstance(model, DistributedDataParallel) and not last:
        return model.no_sync()
    return nullcontext()


def clip(parameters: Sequence[nn.Parameter], limit: float) -> None:
    """Scale all gradients so that their norm, over every shard, is at most `limit`."""
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    nn.utils.clip_grads_with_norm_(parameters, limit, full_parameters(norm))


def full_parameters(tensor: Tensor) -> Tensor:
    """Return a sharded tensor as a whole, on every rank; other tensors unchanged."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def put_parameters(tensor: Tensor, value: Tensor) -> None:
    """Copy a whole `value` into a tensor that may be sharded."""
    value = value.to(tensor.device)
    if isinstance(tensor, DTensor):
        value = distribute_tensor(value, tensor.device_mesh, tensor.placements, src_data_rank=None)
    tensor.copy_(value)


def trained_parameters(learner: nn.Module) -> dict[str, Tensor]:
    """Return the trained weights, whole, by name, on the CPU of rank 0; {} on other ranks.

    All ranks must call it.
    """
    found = {}
    for name, weight in learner.named_parameters():
        if weight.requires_grad:
            full = full_parameters(weight.detach())
            if rank() == 0:
                found[name] = full.cpu()
    return found


@cache
def control() -> Any:
    """Return the process group of control messages: on the CPU, with a long timeout."""
    return dist.new_group(backend="gloo", timeout=TIMEOUT)


def broadcast(value: Any) -> Any:
    """Return rank 0's value on every rank."""
    if world() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0, group=control())
    return values[0]


def gathered(mine: bytes) -> list[bytes]:
    """Return the values of all ranks, in their order, on rank 0; [] on other ranks."""
    if world() == 1:
        return [mine]
    all_of_them: list[Any] | None = [None] * world() if rank() == 0 else None
    dist.gather_object(mine, all_of_them, dst=0, group=control())
    return all_of_them or []


def highest(number: int) -> int:
    """Return the largest of the ranks' numbers, on every rank."""
    if world() == 1:
        return number
    one = torch.tensor(number)
    dist.all_reduce(one, op=dist.ReduceOp.MAX, group=control())
    return int(one)


def broadcast_object(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield rank 0's named CPU tensors on every rank, one at a time."""
    shapes = broadcast([(name, one.shape, one.dtype) for name, one in tensors.items()])
    for name, shape, dtype in shapes:
        one = tensors[name] if rank() == 0 else torch.empty(shape, dtype=dtype)
        if world() > 1:
            dist.broadcast(one, src=0, group=control())
        yield name, one
