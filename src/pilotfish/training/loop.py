"""The training loop: one generator, one step at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pilotfish.config import TrainConfig
from pilotfish.data_order import rows_per_step, warmup_length
from pilotfish.training.classifier_module import ClassifierRows, ClassifierWithLoss
from pilotfish.training.data.collate import Batch
from pilotfish.training.data.mixture import draw_rows
from pilotfish.training.data.order import micro_batches
from pilotfish.training.data.rows import TokenizedRows
from pilotfish.training.lm_module import LMWithLoss
from pilotfish.training.parallel import clip, synced, wrap_model
from pilotfish.training.schedule import factor
from pilotfish.training.setup import build_optimizer


@dataclass(frozen=True)
class Plan:
    """How long, how fast and in which order."""

    steps: int
    learning_rate: float  # peak
    seed: int  # of the data order
    bf16: bool = False
    shares: Mapping[str, float] = field(default_factory=dict)  # of sources, as in `mixing`
    warm: int = 0  # of the steps: the first ones, which learn prompts alone


@dataclass(frozen=True)
class Step:
    """What one optimizer step did."""

    step: int  # 1-based
    loss: Tensor  # scalar nats per supervised token, this rank's share; left on the device
    learning_rate: float
    tokens: int  # supervised tokens of the step, all ranks
    inputs: int  # input tokens of the step, all ranks, padding not counted


@dataclass(frozen=True)
class TrainerModule:
    """A learner made ready: what is called, what learns, and what moves it."""

    learner: LMWithLoss | ClassifierWithLoss
    model: nn.Module  # the learner, or DDP around it; FSDP2 changes the learner itself
    trained: list[nn.Parameter]
    optimizer: torch.optim.Optimizer

    @classmethod
    def begin(
        cls, learner: LMWithLoss | ClassifierWithLoss, config: TrainConfig, accelerator: Accelerator
    ) -> "TrainerModule":
        """Spread the learner over the ranks, then give it an optimizer that has seen nothing."""
        model = wrap_model(learner, config.parallel, accelerator.device)
        trained = [p for p in learner.parameters() if p.requires_grad]
        return cls(learner, model, trained, build_optimizer(trained, config.weight_decay))


def steps(
    learner: LMWithLoss | ClassifierWithLoss,
    rows: TokenizedRows | ClassifierRows,
    plan: Plan,
    config: TrainConfig,
    *,
    accelerator: Accelerator,
    work: TrainerModule | None = None,
    done: int = 0,
    prompts: TokenizedRows | None = None,
) -> Iterator[Step]:
    """Train `learner` on `rows` in place, yielding after every optimizer step.

    The loss of a step is the sum over its supervised tokens divided by their *global* count, over
    all micro-batches and ranks: how a step is cut up does not change its gradient. Every rank
    knows the whole step, since the order is a pure function, so the count needs no message.

    work, done: a learner and its optimizer as they stood after `done` steps, to go on from there.
    prompts: what the plan's warm steps learn, by plain LM loss.
    """
    work = work or TrainerModule.begin(learner, config, accelerator)
    world = accelerator.num_processes
    warmup = warmup_length(config.warmup_steps, plan.steps)
    course = _course(rows, prompts, plan, rows_per_step(config, world=world))
    measures = {id(one): (one.lengths, one.mass) for one in (rows, prompts) if one is not None}
    learner.train()
    for step, (some, chosen) in islice(enumerate(course), done, None):
        lengths, weigh = measures[id(some)]
        cut = micro_batches(
            chosen,
            lengths,
            config.per_device_train_batch_size,
            rank=accelerator.process_index,
            world=world,
        )
        learner.plain = some is prompts
        learner.progress = max(0, step - plan.warm) / (plan.steps - plan.warm)
        collate: Callable[[Any], Batch] = learner.collate  # each knows its own kind of rows
        parts = [collate(some.take(part)) for part in cut]
        mass = sum(weigh[i] for i in chosen)
        loss = accumulate(work.model, parts, mass, bf16=plan.bf16, accelerator=accelerator)
        rate = plan.learning_rate * factor(
            step, plan.steps, warmup=warmup, shape=config.lr_scheduler_type
        )
        _move(work, rate, config.max_grad_norm)
        tokens = sum(some.tokens[i] for i in chosen)
        yield Step(step + 1, loss, rate, tokens, sum(lengths[i] for i in chosen))


def _course(
    rows: TokenizedRows | ClassifierRows, prompts: TokenizedRows | None, plan: Plan, size: int
) -> Iterator[tuple[TokenizedRows | ClassifierRows, list[int]]]:
    """Of every step: from which rows, and which of them. A pure function of its arguments."""
    if prompts is not None:
        for chosen in draw_rows(prompts, {}, size, plan.warm, seed=plan.seed):
            yield prompts, chosen
    for chosen in draw_rows(rows, plan.shares, size, plan.steps - plan.warm, seed=plan.seed):
        yield rows, chosen


def _move(work: TrainerModule, rate: float, limit: float) -> None:
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
    batches = [part.to(device) for part in parts]
    learner = getattr(model, "module", model)  # below DDP
    if getattr(learner, "looks_ahead", False):
        _show(model, learner, batches, bf16=bf16)
    for number, batch in enumerate(batches):
        with synced(model, last=number == len(parts) - 1):
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
                loss = model(batch) / mass
            # Ranks average their gradients; we want the sum.
            (loss * accelerator.num_processes).backward()
        total = total + loss.detach()
    return total


@torch.no_grad()
def _show(model: nn.Module, learner: Any, batches: Sequence[Batch], *, bf16: bool) -> None:
    """Let a learner see a whole step, dropout off, before it learns it."""
    modes = [(module, module.training) for module in learner.modules()]
    learner.eval()
    learner.looking = True
    for batch in batches:
        with torch.autocast(batch.ids.device.type, dtype=torch.bfloat16, enabled=bf16):
            model(batch)
    learner.looking = False
    learner.looked()
    for module, training in modes:
        module.training = training
