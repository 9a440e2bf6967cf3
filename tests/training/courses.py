"""Short trainings that return every loss, gradient and weight, in one process or as a rank."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from pilotfish.config import TrainConfig
from pilotfish.losses import make_loss
from pilotfish.models import load
from pilotfish.store import Store
from pilotfish.training import loop
from pilotfish.training.checkpoint import Checkpoints
from pilotfish.training.data.rows import encode_rows
from pilotfish.training.lm_module import LMWithLoss
from pilotfish.training.parallel import full_parameters, rank, trained_parameters, world
from pilotfish.training.setup import accelerator, prepare, seeded
from pilotfish.training.trainer import train
from tests.training.words import backwards

ROWS = 20
STEPS = 6
# (dtype, LoRA, loss): what is learnt, and how exactly
COURSES = {
    "fp32": (torch.float32, False, "lm"),
    "fp64": (torch.float64, False, "lm"),
    "fp64 lora": (torch.float64, True, "lm"),
    "fp64 kd": (torch.float64, False, "mix(lm=0.7, kd=0.3)"),
}


def settings(**changes: Any) -> TrainConfig:
    """Eight rows a step, whatever the number of processes; every gradient is clipped."""
    each = 2 // world()
    plain = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": each}
    return TrainConfig(**{**plain, "learning_rate": 1e-3, "max_grad_norm": 0.02, **changes})


def course(name: str, model: str, teacher: str, *, how: str, **changes: Any) -> dict[str, Tensor]:
    """Losses, the first gradient before and after it is clipped, and the weights at the end."""
    dtype, peft, text = COURSES[name]
    config = settings(parallel=how, use_peft=peft, loss=text, **changes)
    with seeded(0):
        student = prepare(model, config)
        plain(student.causal, dtype)
        rows = encode_rows(backwards(ROWS), student.loaded, 64)
        taught = load(teacher, device="cpu", precision="fp32").model
        taught = plain(taught, dtype) if "kd" in text else None
        learner = LMWithLoss(student.causal, make_loss(text), teacher=taught)
        learner._block = 16  # so that the head is called many times
        module = loop.TrainerModule.begin(learner, config)
        check_wrapped(module, how)
        plan = loop.Plan(STEPS, 1e-3, seed=0)
        results: dict[str, Tensor] = {}
        real = loop.clip

        def clip(parameters: list[nn.Parameter], limit: float) -> None:
            gradients = {**gradients_of(learner, "before")} if "loss 1" not in results else {}
            real(parameters, limit)
            if gradients:
                results.update(gradients, **gradients_of(learner, "after"))

        loop.clip = clip
        try:
            for step in loop.steps(module, rows, plan, config):
                results[f"loss {step.step}"] = accelerator().reduce(step.loss, "sum")
        finally:
            loop.clip = real
    return {
        **results,
        **{f"weight {key}": value for key, value in trained_parameters(learner).items()},
    }


def plain(model: Any, dtype: torch.dtype) -> Any:
    """Without dropout, whose draws differ between ranks, and in the precision given."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model.to(dtype)


def gradients_of(learner: nn.Module, when: str) -> dict[str, Tensor]:
    return {
        f"gradient {when} {name}": full_parameters(weight.grad).clone()
        for name, weight in learner.named_parameters()
        if weight.grad is not None
    }


def check_wrapped(module: loop.TrainerModule, how: str) -> None:
    """The ranks share the model in the given way, and no other."""
    if world() == 1:
        assert module.model is module.learner
        return
    weights = list(module.learner.parameters())
    if how == "ddp":
        assert type(module.model) is DistributedDataParallel
        assert not any(isinstance(weight, DTensor) for weight in weights)
        return
    assert module.model is module.learner and isinstance(module.model, FSDPModule)
    assert all(isinstance(weight, DTensor) for weight in weights)
    assert all(isinstance(block, FSDPModule) for block in module.learner.model.transformer.h)
    held = sum(weight.to_local().numel() for weight in weights)  # type: ignore[attr-defined]
    assert held <= 0.6 * sum(weight.numel() for weight in weights)


def gathers(model: str, block: int) -> int:
    """How often parameters are gathered in one forward and backward under FSDP2."""
    config = settings(parallel="fsdp")
    with seeded(0):
        student = prepare(model, config)
    rows = encode_rows(backwards(8), student.loaded, 64)
    learner = LMWithLoss(student.causal, make_loss("lm"))
    learner._block = block
    module = loop.TrainerModule.begin(learner, config)
    batch = learner.collate(rows)
    with Counting() as counted:
        loop.accumulate(module.model, [batch], 1.0, bf16=False, accelerator=accelerator())
    return counted.gathers


class Counting(TorchDispatchMode):
    """Counts the messages that put shards together."""

    gathers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.gathers += "allgather" in str(func)
        return func(*args, **(kwargs or {}))


class Stopped(Exception):
    """A training that ends before it should."""


def resumed(model: str, root: Path, how: str, peft: bool) -> None:
    """Train once in one go, once stopped after five steps and taken up again."""
    config = settings(parallel=how, use_peft=peft, lora_dropout=0.1)
    where = Checkpoints(Store(root / how), "train/a/seed-0", "k", steps=2)

    def call(folder: str, **more: Any) -> None:
        train(
            backwards(ROWS), model, config, seed=1, folder=root / how / folder, steps=STEPS, **more
        )

    call("whole")
    real = loop.optimizer_step
    count = [0]

    def moving(*args: Any) -> None:
        count[0] += 1
        if count[0] == 6:
            raise Stopped
        real(*args)

    loop.optimizer_step = moving
    with suppress(Stopped):
        call("cut", checkpoints=where)
    loop.optimizer_step = real
    call("again", checkpoints=where)


def main(model: str, teacher: str, root: Path) -> None:
    torch.set_num_threads(1)
    accelerator()  # the ranks meet
    results = {
        f"{how} {name}": course(name, model, teacher, how=how)
        for how in ("ddp", "fsdp")
        for name in COURSES
    }
    counts = [gathers(model, block) for block in (4, 4096)]
    resumed(model, root, "ddp", peft=False)
    resumed(model, root, "fsdp", peft=True)
    resumed_full = settings(parallel="fsdp", learning_rate=1e-3)
    train(backwards(ROWS), model, resumed_full, seed=1, folder=root / "full", steps=STEPS)
    if rank() == 0:
        torch.save({"results": results, "gathers": counts}, root / "results.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    os._exit(0)  # as the command line ends: see cli.main._leave
