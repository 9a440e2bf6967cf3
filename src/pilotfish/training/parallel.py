"""Several processes train as one: DDP or FSDP2 around a learner, and what ranks tell each other."""

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

PATIENCE = timedelta(days=7)  # ranks wait while the first one reads, saves or waits for a disk
ROOM = 0.6  # of a device's memory for weights, gradients and moments; the rest is activations


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number; 0 writes and speaks."""
    return dist.get_rank() if world() > 1 else 0


def wrap_model(learner: nn.Module, how: str, device: torch.device) -> nn.Module:
    """The module to call in the learner's place: itself, DDP around it, or itself made FSDP2's.

    how: "ddp", "fsdp" or "auto". Under FSDP2 every block of the model is a group of its own, and
    what is left (embeddings, head, norms) one more, which is gathered once for a whole step of
    forward and backward, however many blocks of rows the head is called on.
    """
    if world() == 1:
        return learner
    if how == "fsdp" or (how == "auto" and not fits(learner, device)):
        return _sharded(learner, device)
    return DistributedDataParallel(learner)


def fits(learner: nn.Module, device: torch.device) -> bool:
    """Whether all that training holds of a model fits on one device; without a GPU: yes."""
    if device.type != "cuda":
        return True
    return held_bytes(learner) < ROOM * torch.cuda.get_device_properties(device).total_memory


def held_bytes(learner: nn.Module) -> int:
    """Bytes of the weights, and of gradient and both Adam moments of those that learn."""
    return sum(
        p.numel() * p.element_size() * (4 if p.requires_grad else 1) for p in learner.parameters()
    )


def _sharded(learner: nn.Module, device: torch.device) -> nn.Module:
    mesh = init_device_mesh(device.type, (world(),))
    modules = list(learner.modules())
    blocks = {name for module in modules for name in _block_names(module)}
    for module in modules:
        if type(module).__name__ in blocks:
            fully_shard(module, mesh=mesh)
    fully_shard(learner, mesh=mesh)  # in place: the learner's class becomes an FSDPModule too
    return learner


def _block_names(module: nn.Module) -> Sequence[str]:
    """The classes that transformers says must not be split: a model's blocks."""
    return tuple(getattr(module, "_no_split_modules", None) or ())


def synced(model: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
    """Backward inside: ranks add their gradients up after the `last` micro-batch only."""
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
    """A tensor put together from its shards, on every rank; others as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def put_parameters(tensor: Tensor, value: Tensor) -> None:
    """Copy a whole `value` into a tensor that may be sharded."""
    value = value.to(tensor.device)
    if isinstance(tensor, DTensor):
        value = distribute_tensor(value, tensor.device_mesh, tensor.placements, src_data_rank=None)
    tensor.copy_(value)


def trained_parameters(learner: nn.Module) -> dict[str, Tensor]:
    """What learnt, whole, by name, on the CPU; {} on every rank but the first, which all serve."""
    found = {}
    for name, weight in learner.named_parameters():
        if weight.requires_grad:
            full = full_parameters(weight.detach())
            if rank() == 0:
                found[name] = full.cpu()
    return found


@cache
def control() -> Any:
    """The group over which processes talk about what to do: on the CPU, and patient."""
    return dist.new_group(backend="gloo", timeout=PATIENCE)


def broadcast(what: Any) -> Any:
    """What rank 0 says, on every rank."""
    if world() == 1:
        return what
    words = [what]
    dist.broadcast_object_list(words, src=0, group=control())
    return words[0]


def gathered(mine: bytes) -> list[bytes]:
    """What each rank gives, in their order, on rank 0; [] on the others."""
    if world() == 1:
        return [mine]
    all_of_them: list[Any] | None = [None] * world() if rank() == 0 else None
    dist.gather_object(mine, all_of_them, dst=0, group=control())
    return all_of_them or []


def highest(number: int) -> int:
    """The largest of the ranks' numbers, on every rank."""
    if world() == 1:
        return number
    one = torch.tensor(number)
    dist.all_reduce(one, op=dist.ReduceOp.MAX, group=control())
    return int(one)


def broadcast_object(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Rank 0's named CPU tensors on every rank, one at a time."""
    shapes = broadcast([(name, one.shape, one.dtype) for name, one in tensors.items()])
    for name, shape, dtype in shapes:
        one = tensors[name] if rank() == 0 else torch.empty(shape, dtype=dtype)
        if world() > 1:
            dist.broadcast(one, src=0, group=control())
        yield name, one
