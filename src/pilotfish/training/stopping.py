"""Early stopping of a language model: looks at held-out rows, and the best weights put back.

Labels to stop by are those the arm itself learns (honest), or gold ones that it would not have
(an oracle).
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from pilotfish.errors import UsageError
from pilotfish.training.data.collate import collate
from pilotfish.training.data.order import micro_batches
from pilotfish.training.data.rows import TokenizedRows
from pilotfish.training.lm_module import LMWithLoss
from pilotfish.training.parallel import broadcast
from pilotfish.training.save import local
from pilotfish.training.setup import accelerator

BATCH = 16
LOOKS = 20  # on the way to the last step, where nothing else is asked


@dataclass(frozen=True)
class Rule:
    """by: whose rows stop the training. It is over after `patience` looks without a better one."""

    by: str
    every: int  # steps between two looks
    patience: int

    @classmethod
    def of(cls, by: str, steps: int, *, every: int | None, patience: int) -> "Rule":
        """every None: a twentieth of the steps."""
        return cls(by, every or max(1, steps // LOOKS), patience)


class Stopping:
    """Follows one training. Owned state: `state` and `load_state` carry it through a resume.

    The weights before the first step compete too. The best ones are kept in the CPU's memory: one
    more copy of everything that learns.
    """

    def __init__(
        self, learner: LMWithLoss, rows: Mapping[str, TokenizedRows], rule: Rule, *, bf16: bool
    ) -> None:
        if rule.by not in rows:
            raise UsageError(
                f"there are no held-out rows '{rule.by}' to stop by",
                hint="trusted rows (--trusted) make gold ones, rows of the arm weak ones",
            )
        self._learner, self._rows, self._rule, self._bf16 = learner, rows, rule, bf16
        self._names = sorted(rows)
        self._looks: list[list[float]] = []  # step, then the loss of each name
        self._best: dict[str, Tensor] = {}

    @property
    def over(self) -> bool:
        """Whether patience is at an end."""
        return bool(self._looks) and len(self._looks) - 1 - self._kept >= self._rule.patience

    def due(self, step: int, steps: int) -> bool:
        """Whether to look after this step; the last one is always looked at."""
        return step % self._rule.every == 0 or step == steps

    def look(self, step: int) -> dict[str, float | None]:
        """Nats per token by name; None where that is no number. Keeps the best weights."""
        own = [self._loss(self._rows[name]) for name in self._names]
        losses: list[float] = broadcast(own)  # no two ranks may decide otherwise
        self._looks.append([float(step), *losses])
        if self._kept == len(self._looks) - 1:
            self._best = {
                name: local(weight).detach().to("cpu", copy=True) for name, weight in self._named()
            }
        return self._told(self._looks[-1])

    @torch.no_grad()
    def restore(self) -> None:
        """Put the best weights back."""
        for name, weight in self._named():
            local(weight).copy_(self._best[name])

    def facts(self) -> dict[str, Any]:
        """By what and when it was stopped, and both curves."""
        curve = [{"step": int(look[0]), **self._told(look)} for look in self._looks]
        return {
            "stopped_by": self._rule.by,
            "oracle": self._rule.by == "gold",
            "stopped_early": self.over,
            "kept_step": int(self._looks[self._kept][0]),
            "validation_rows": {name: len(self._rows[name]) for name in self._names},
            "validation": curve,
        }

    @property
    def read(self) -> int:
        """Input tokens read to judge by."""
        return len(self._looks) * sum(sum(rows.lengths) for rows in self._rows.values())

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold."""
        looks = torch.tensor(self._looks, dtype=torch.float64)
        return {"stop.looks": looks, **{f"stop.best.{k}": v for k, v in self._best.items()}}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        self._looks = state["stop.looks"].tolist()
        prefix = "stop.best."
        self._best = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}

    @property
    def _kept(self) -> int:
        """The look with the lowest loss; of equal ones, and of none, the first."""
        column = 1 + self._names.index(self._rule.by)
        losses = [look[column] if math.isfinite(look[column]) else math.inf for look in self._looks]
        return min(range(len(losses)), key=losses.__getitem__)

    def _told(self, look: list[float]) -> dict[str, float | None]:
        pairs = zip(self._names, look[1:], strict=True)
        return {name: loss if math.isfinite(loss) else None for name, loss in pairs}

    def _named(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((n, p) for n, p in self._learner.named_parameters() if p.requires_grad)

    @torch.no_grad()
    def _loss(self, rows: TokenizedRows) -> float:
        """Mean nats per supervised token under plain LM loss. Every rank reads all of them."""
        device = accelerator().device
        total = torch.zeros((), device=device, dtype=torch.float64)
        with _plainly(self._learner):
            for part in micro_batches(range(len(rows)), rows.lengths, BATCH):
                batch = collate(rows.take(part).encoded).to(device)
                with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self._bf16):
                    total += self._learner(batch)
        return float(total) / sum(rows.tokens)


class NoStopping:
    """In the place of `Stopping` where every step is made and the last weights are kept."""

    over = False

    def due(self, step: int, steps: int) -> bool:
        """Never."""
        return False

    def look(self, step: int) -> dict[str, float | None]:
        """Nothing to see."""
        return {}

    def restore(self) -> None:
        """The last weights stay."""


@contextmanager
def _plainly(learner: LMWithLoss) -> Iterator[None]:
    """The learner as a plain language model inside, dropout off."""
    learner.eval()
    learner.plain = True
    try:
        yield
    finally:
        learner.plain = False
        learner.train()
        if isinstance(learner, FSDPModule):
            learner.reshard()  # without a backward nobody else gives the gathered weights back
