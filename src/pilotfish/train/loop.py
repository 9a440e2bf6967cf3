"""The training loop: one generator, one step at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pilotfish.config import TrainConfig
from pilotfish.train.collate import Batch
from pilotfish.train.learner import Learner
from pilotfish.train.order import batches, micro_batches, rows_per_step
from pilotfish.train.parallel import clip, spread, synced
from pilotfish.train.pupil import Pupil, Texts
from pilotfish.train.rows import Rows
from pilotfish.train.schedule import factor, warmup_length
from pilotfish.train.setup import build_optimizer


@dataclass(frozen=True)
class Plan:
    """How long, how fast and in which order."""

    steps: int
    learning_rate: float  # peak
    seed: int  # of the data order
    bf16: bool = False


@dataclass(frozen=True)
class Step:
    """What one optimizer step did."""

    step: int  # 1-based
    loss: Tensor  # scalar nats per supervised token, this rank's share; left on the device
    learning_rate: float
    tokens: int  # supervised tokens of the step, all ranks
    inputs: int  # input tokens of the step, all ranks, padding not counted


@dataclass(frozen=True)
class Work:
    """A learner made ready: what is called, what learns, and what moves it."""

    learner: Learner | Pupil
    model: nn.Module  # the learner, or DDP around it; FSDP2 changes the learner itself
    trained: list[nn.Parameter]
    optimizer: torch.optim.Optimizer

    @classmethod
    def begin(
        cls, learner: Learner | Pupil, config: TrainConfig, accelerator: Accelerator
    ) -> "Work":
        """Spread the learner over the ranks, then give it an optimizer that has seen nothing."""
        model = spread(learner, config.parallel, accelerator.device)
        trained = [p for p in learner.parameters() if p.requires_grad]
        return cls(learner, model, trained, build_optimizer(trained, config.weight_decay))


def steps(
    learner: Learner | Pupil,
    rows: Rows | Texts,
    plan: Plan,
    config: TrainConfig,
    *,
    accelerator: Accelerator,
    work: Work | None = None,
    done: int = 0,
) -> Iterator[Step]:
    """Train `learner` on `rows` in place, yielding after every optimizer step.

    The loss of a step is the sum over its supervised tokens divided by their *global* count, over
    all micro-batches and ranks: how a step is cut up does not change its gradient. Every rank
    knows the whole step, since the order is a pure function, so the count needs no message.

    work, done: a learner and its optimizer as they stood after `done` steps, to go on from there.
    """
    work = work or Work.begin(learner, config, accelerator)
    world, lengths = accelerator.num_processes, rows.lengths
    warmup = warmup_length(config.warmup_steps, plan.steps)
    order = batches(rows.names, rows_per_step(config, world=world), plan.steps, seed=plan.seed)
    learner.train()
    for step, chosen in islice(enumerate(order), done, None):
        cut = micro_batches(
            chosen,
            lengths,
            config.per_device_train_batch_size,
            rank=accelerator.process_index,
            world=world,
        )
        learner.progress = step / plan.steps
        collate: Callable[[Any], Batch] = learner.collate  # each knows its own kind of rows
        parts = [collate(rows.take(part)) for part in cut]
        mass = sum(rows.mass[i] for i in chosen)
        loss = accumulate(work.model, parts, mass, bf16=plan.bf16, accelerator=accelerator)
        rate = plan.learning_rate * factor(
            step, plan.steps, warmup=warmup, shape=config.lr_scheduler_type
        )
        _move(work, rate, config.max_grad_norm)
        tokens = sum(rows.tokens[i] for i in chosen)
        yield Step(step + 1, loss, rate, tokens, sum(lengths[i] for i in chosen))


def _move(work: Work, rate: float, limit: float) -> None:
    """One step of the optimizer, with its gradient clipped; then the learner looks at the step."""
    for group in work.optimizer.param_groups:
        group["lr"] = rate
    clip(work.trained, limit)
    work.optimizer.step()
    work.optimizer.zero_grad(set_to_none=True)
    after: Callable[[], None] | None = getattr(work.learner, "after_step", None)
    if after is not None:
        after()


def accumulate(
    model: nn.Module, parts: Sequence[Batch], mass: float, *, bf16: bool, accelerator: Accelerator
) -> Tensor:
    """Add one step's gradient to the parameters, one micro-batch after another.

    `mass`: supervised tokens of the whole step, all ranks (or what they weigh together), by which
    every sum is divided. -> this rank's share of the loss, scalar nats per token.
    """
    device, total = accelerator.device, torch.zeros((), device=accelerator.device)
    for number, part in enumerate(parts):
        batch = part.to(device)
        with synced(model, last=number == len(parts) - 1):
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
                loss = model(batch) / mass
            # Ranks average their gradients; we want the sum.
            (loss * accelerator.num_processes).backward()
        total = total + loss.detach()
    return total
