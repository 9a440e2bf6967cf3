"""The training loop: a generator that makes one optimizer step at a time, and its log."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pilotfish.config import TrainConfig
from pilotfish.data_order import micro_batches, rows_per_step, warmup_length
from pilotfish.errors import UsageError
from pilotfish.training.classifier_module import ClassifierRows, ClassifierWithLoss
from pilotfish.training.data.collate import Batch
from pilotfish.training.data.mixture import draw_rows
from pilotfish.training.data.rows import TokenizedRows
from pilotfish.training.lm_module import LMWithLoss
from pilotfish.training.parallel import clip, synced, wrap_model
from pilotfish.training.setup import accelerator, build_optimizer

LOG_EVERY = 10  # steps between two readings of the loss, each of which waits for the device

Rows = TokenizedRows | ClassifierRows


@dataclass(frozen=True)
class Plan:
    """How long, how fast and in which order to train. Part of the key of a checkpoint."""

    steps: int
    learning_rate: float  # peak
    seed: int  # of the data order
    bf16: bool = False
    shares: Mapping[str, float] = field(default_factory=dict)  # of sources, see `shares_of`
    warm: int = 0  # the first of the steps, which learn prompts only


@dataclass(frozen=True)
class Step:
    """The result of one optimizer step."""

    step: int  # 1-based
    loss: Tensor  # scalar nats per supervised token, this rank's share; left on the device
    learning_rate: float
    tokens: int  # supervised tokens of the step, all ranks
    inputs: int  # input tokens of the step, all ranks, padding not counted


@dataclass
class StepLog:
    """One line per step, and the tokens of all steps. Plain values: checkpoints store it as is."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    tokens: int = 0  # supervised
    inputs: int = 0

    def add(self, pending: Sequence[Step]) -> None:
        """Add finished steps; waits for the device. Raises UsageError at a loss of nan or inf."""
        for step in pending:
            loss = float(accelerator().reduce(step.loss, "sum"))
            if not math.isfinite(loss):
                raise UsageError(
                    f"training diverged: the loss is {loss} at step {step.step}",
                    hint=f"lower train.learning_rate (the peak is now {step.learning_rate:.1e})",
                )
            self.lines.append(
                {"step": step.step, "loss": loss, "lr": step.learning_rate, "tokens": step.tokens}
            )
            self.tokens += step.tokens
            self.inputs += step.inputs

    @property
    def final_loss(self) -> float:
        """Mean loss of the last ten steps, in nats per token."""
        last = [float(line["loss"]) for line in self.lines[-LOG_EVERY:]]
        return sum(last) / len(last)


@dataclass(frozen=True)
class TrainerModule:
    """A model with its loss, spread over the ranks, and the optimizer of its parameters."""

    learner: LMWithLoss | ClassifierWithLoss
    model: nn.Module  # the learner, or DDP around it; FSDP2 changes the learner itself
    trained: list[nn.Parameter]
    optimizer: torch.optim.Optimizer

    @classmethod
    def begin(
        cls, learner: LMWithLoss | ClassifierWithLoss, config: TrainConfig
    ) -> "TrainerModule":
        """Spread the learner over the ranks, and give it a new optimizer."""
        model = wrap_model(learner, config.parallel, accelerator().device)
        trained = [p for p in learner.parameters() if p.requires_grad]
        return cls(learner, model, trained, build_optimizer(trained, config.weight_decay))


def steps(
    module: TrainerModule,
    rows: Rows,
    plan: Plan,
    config: TrainConfig,
    *,
    done: int = 0,
    prompts: TokenizedRows | None = None,
) -> Iterator[Step]:
    """Train in place, and yield after every optimizer step.

    The loss of a step is the sum over its supervised tokens divided by their *global* weight, over
    all micro-batches and ranks: how a step is cut up does not change its gradient. Every rank knows
    the rows of the whole step, since their order is a pure function, so no message is needed.

    Args:
        module: Model and optimizer, in their state after `done` steps.
        rows: All rows to learn.
        plan: Steps, learning rate and order.
        config: Batch sizes, schedule and clipping.
        done: Steps made before; the first one yielded is `done` + 1.
        prompts: The rows of the plan's warm steps, learnt by plain LM loss.
    """
    learner, world = module.learner, accelerator().num_processes
    warmup = warmup_length(config.warmup_steps, plan.steps)
    schedule = _rows_of_steps(rows, prompts, plan, rows_per_step(config, world=world))
    sizes = {id(one): (one.lengths, one.mass) for one in (rows, prompts) if one is not None}
    learner.train()
    for step, (source, chosen) in islice(enumerate(schedule), done, None):
        lengths, masses = sizes[id(source)]
        if isinstance(learner, LMWithLoss):
            learner.plain_lm = source is prompts
        learner.progress = max(0, step - plan.warm) / (plan.steps - plan.warm)
        collate: Callable[[Any], Batch] = learner.collate  # each learner has its own kind of rows
        parts = [
            collate(source.take(part))
            for part in micro_batches(
                chosen,
                lengths,
                config.per_device_train_batch_size,
                rank=accelerator().process_index,
                world=world,
            )
        ]
        mass = sum(masses[i] for i in chosen)
        loss = accumulate(module.model, parts, mass, bf16=plan.bf16, accelerator=accelerator())
        share = rate_factor(step, plan.steps, warmup=warmup, shape=config.lr_scheduler_type)
        rate = plan.learning_rate * share
        optimizer_step(module, rate, config.max_grad_norm)
        tokens = sum(source.tokens[i] for i in chosen)
        yield Step(step + 1, loss, rate, tokens, sum(lengths[i] for i in chosen))


def _rows_of_steps(
    rows: Rows, prompts: TokenizedRows | None, plan: Plan, size: int
) -> Iterator[tuple[Rows, list[int]]]:
    """Yield (rows, positions in them) of every step: prompts first, then rows."""
    if prompts is not None:
        for chosen in draw_rows(prompts, {}, size, plan.warm, seed=plan.seed):
            yield prompts, chosen
    for chosen in draw_rows(rows, plan.shares, size, plan.steps - plan.warm, seed=plan.seed):
        yield rows, chosen


def rate_factor(
    step: int, steps: int, *, warmup: int, shape: Literal["linear", "cosine", "constant"]
) -> float:
    """Return the learning rate of a step as a share of the peak, in (0, 1].

    It rises through the warm-up, then falls. Neither the first nor the last step has rate 0.

    Args:
        step: 0-based.
        steps: Of the whole training.
        warmup: Steps of the warm-up, below `steps`.
        shape: Of the fall after the warm-up.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if shape == "constant":
        return 1.0
    done = (step - warmup) / (steps - warmup)
    return 1 - done if shape == "linear" else (1 + math.cos(math.pi * done)) / 2


def accumulate(
    model: nn.Module, parts: Sequence[Batch], mass: float, *, bf16: bool, accelerator: Accelerator
) -> Tensor:
    """Add the gradient of one step to the parameters, one micro-batch after another.

    Args:
        model: The learner, or DDP around it.
        parts: This rank's micro-batches.
        mass: Weight of the supervised tokens of the whole step, all ranks; divides every sum.
        bf16: Whether to autocast to bf16.
        accelerator: Device, and number of processes.

    Returns:
        This rank's share of the loss, scalar nats per token.
    """
    device, total = accelerator.device, torch.zeros((), device=accelerator.device)
    batches = [part.to(device) for part in parts]
    learner = getattr(model, "module", model)  # inside DDP
    if isinstance(learner, ClassifierWithLoss) and learner.needs_preview:
        _preview(model, learner, batches, bf16=bf16)
    for number, batch in enumerate(batches):
        with synced(model, last=number == len(parts) - 1):
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
                loss = model(batch) / mass
            # Ranks average their gradients, but the sum is wanted.
            (loss * accelerator.num_processes).backward()
        total = total + loss.detach()
    return total


@torch.no_grad()
def _preview(
    model: nn.Module, learner: ClassifierWithLoss, batches: Sequence[Batch], *, bf16: bool
) -> None:
    """Show a classifier a whole step, dropout off, before it learns it."""
    modes = [(module, module.training) for module in learner.modules()]
    learner.eval()
    learner.previewing = True
    for batch in batches:
        with torch.autocast(batch.ids.device.type, dtype=torch.bfloat16, enabled=bf16):
            model(batch)
    learner.previewing = False
    learner.after_preview()
    for module, training in modes:
        module.training = training


def optimizer_step(module: TrainerModule, rate: float, max_norm: float) -> None:
    """Clip the gradient, make one step of the optimizer, and let the learner close the step."""
    for group in module.optimizer.param_groups:
        group["lr"] = rate
    clip(module.trained, max_norm)
    module.optimizer.step()
    module.optimizer.zero_grad(set_to_none=True)
    if isinstance(module.learner, LMWithLoss):
        module.learner.after_step()
