"""What a training leaves behind: a line per step, and the tokens that went through."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pilotfish.errors import UsageError
from pilotfish.training.loop import Step
from pilotfish.training.setup import accelerator

LOOK_EVERY = 10  # steps between two looks at the loss, each of which waits for the device


@dataclass
class StepLog:
    """Plain values only: a checkpoint writes them down as they are."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    tokens: int = 0
    inputs: int = 0

    def add(self, pending: Sequence[Step]) -> None:
        """Take over finished steps; waits for the device. UsageError at a loss of nan or inf."""
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
    def final(self) -> float:
        """Mean loss of the last ten steps, in nats per token."""
        last = [float(line["loss"]) for line in self.lines[-LOOK_EVERY:]]
        return sum(last) / len(last)
