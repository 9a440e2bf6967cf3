"""Look at a model while it trains: callbacks, early stopping, and validation of classifiers.

Weights can be kept by labels that the arm itself learns (honest), or by gold labels, which it would
not have (an oracle).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from pilotfish.data_order import micro_batches
from pilotfish.engine.classify import padded, read
from pilotfish.errors import UsageError
from pilotfish.losses import LM
from pilotfish.models import Loaded
from pilotfish.records import Example, Floats, Ints
from pilotfish.training.classifier_module import ClassifierRows, encode_classified
from pilotfish.training.data.collate import collate
from pilotfish.training.data.rows import TokenizedRows
from pilotfish.training.lm_module import LMWithLoss
from pilotfish.training.loop import LOG_EVERY
from pilotfish.training.parallel import broadcast
from pilotfish.training.save import local, restore, snapshot
from pilotfish.training.setup import Student, accelerator

LM_BATCH = 16
CLASSIFIER_BATCH = 32
EVALUATIONS = 20  # of early stopping, if no other number is set


@dataclass(frozen=True)
class StepCallback:
    """Calls `look(step, model)` at about `count` steps, evenly spread; the last is one of them.

    The model is the one being trained, in evaluation mode; `look` must leave it as it found it.
    """

    count: int
    look: Callable[[int, Loaded], None]

    def at(self, step: int, steps: int) -> bool:
        """Return whether to look after a step: the first tenth step at or after each point."""
        if not self.count:
            return False
        points = (-(-part * steps // self.count) for part in range(1, self.count + 1))
        return step in {min(steps, -(-point // LOG_EVERY) * LOG_EVERY) for point in points}

    def after_step(self, step: int, steps: int, loaded: Loaded) -> None:
        """Call `look` if this step is one of its steps."""
        if self.at(step, steps):
            training = loaded.model.training
            loaded.model.eval()
            self.look(step, loaded)
            loaded.model.train(training)


@torch.no_grad()
def held_out_loss(student: Student, rows: TokenizedRows) -> float:
    """Return the mean nats per supervised token of rows under plain LM loss, dropout off."""
    learner = LMWithLoss(student.causal, LM()).eval()
    total = _total_nats(learner, rows, bf16=student.bf16, dtype=torch.float32)
    student.causal.train()
    return float(total) / sum(rows.tokens)


def _total_nats(
    learner: LMWithLoss, rows: TokenizedRows, *, bf16: bool, dtype: torch.dtype
) -> Tensor:
    device = accelerator().device
    total = torch.zeros((), device=device, dtype=dtype)
    for part in micro_batches(range(len(rows)), rows.lengths, LM_BATCH):
        batch = collate(rows.take(part).encoded).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            total += learner(batch)
    return total


@dataclass(frozen=True)
class StopRule:
    """When to evaluate, and when to stop."""

    by: str  # name of the rows that decide
    every: int  # steps between two evaluations
    patience: int  # evaluations without a better one after which training stops

    @classmethod
    def of(cls, by: str, steps: int, *, every: int | None, patience: int) -> "StopRule":
        """Build a rule; `every` None: a twentieth of the steps."""
        return cls(by, every or max(1, steps // EVALUATIONS), patience)


class EarlyStopping:
    """Evaluates a language model on held-out rows, and keeps the best weights.

    The weights before the first step compete too. The best ones are kept in the CPU's memory: one
    more copy of everything that is trained. State of a training: `state` and `load_state` carry it
    through a resume.
    """

    def __init__(
        self, learner: LMWithLoss, rows: Mapping[str, TokenizedRows], rule: StopRule, *, bf16: bool
    ) -> None:
        """Follow the training of `learner`.

        Args:
            learner: Evaluated by plain LM loss.
            rows: Held-out rows by name.
            rule: Names the rows that decide.
            bf16: Whether to autocast to bf16.

        Raises:
            UsageError: There are no rows of the name that decides.
        """
        if rule.by not in rows:
            raise UsageError(
                f"there are no held-out rows '{rule.by}' to stop by",
                hint="trusted rows (--trusted) make gold ones, rows of the arm weak ones",
            )
        self._learner, self._rows, self._rule, self._bf16 = learner, rows, rule, bf16
        self._names = sorted(rows)
        self._history: list[list[float]] = []  # of each evaluation: step, then the loss by name
        self._best: dict[str, Tensor] = {}

    @property
    def over(self) -> bool:
        """Whether training must stop."""
        history = len(self._history)
        return bool(history) and history - 1 - self._kept >= self._rule.patience

    def due(self, step: int, steps: int) -> bool:
        """Return whether to evaluate after a step; the last one always is."""
        return step % self._rule.every == 0 or step == steps

    def evaluate(self, step: int) -> dict[str, float | None]:
        """Evaluate, and keep the weights if they are the best.

        Returns:
            Nats per token by name; None for nan and inf.
        """
        own = [self._loss(self._rows[name]) for name in self._names]
        losses: list[float] = broadcast(own)  # all ranks must decide alike
        self._history.append([float(step), *losses])
        if self._kept == len(self._history) - 1:
            self._best = {
                name: local(weight).detach().to("cpu", copy=True)
                for name, weight in self._weights()
            }
        return self._by_name(self._history[-1])

    @torch.no_grad()
    def restore(self) -> None:
        """Load the best weights."""
        for name, weight in self._weights():
            local(weight).copy_(self._best[name])

    def facts(self) -> dict[str, Any]:
        """Return why and when training stopped, and all curves."""
        return {
            "stopped_by": self._rule.by,
            "oracle": self._rule.by == "gold",
            "stopped_early": self.over,
            "kept_step": int(self._history[self._kept][0]),
            "validation_rows": {name: len(self._rows[name]) for name in self._names},
            "validation": [{"step": int(one[0]), **self._by_name(one)} for one in self._history],
        }

    @property
    def read(self) -> int:
        """Input tokens read by all evaluations."""
        return len(self._history) * sum(sum(rows.lengths) for rows in self._rows.values())

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold; the names are those of earlier checkpoints."""
        history = torch.tensor(self._history, dtype=torch.float64)
        return {"stop.looks": history, **{f"stop.best.{k}": v for k, v in self._best.items()}}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the state of a checkpoint."""
        self._history = state["stop.looks"].tolist()
        self._best = _below("stop.best.", state)

    @property
    def _kept(self) -> int:
        """The evaluation of the lowest loss; of equal ones, and of none, the first."""
        column = 1 + self._names.index(self._rule.by)
        losses = [one[column] if math.isfinite(one[column]) else math.inf for one in self._history]
        return min(range(len(losses)), key=losses.__getitem__)

    def _by_name(self, evaluation: list[float]) -> dict[str, float | None]:
        pairs = zip(self._names, evaluation[1:], strict=True)
        return {name: loss if math.isfinite(loss) else None for name, loss in pairs}

    def _weights(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((n, p) for n, p in self._learner.named_parameters() if p.requires_grad)

    @torch.no_grad()
    def _loss(self, rows: TokenizedRows) -> float:
        """Return the mean nats per supervised token; every rank reads all rows."""
        learner = self._learner
        learner.eval()
        learner.plain_lm = True
        try:
            total = _total_nats(learner, rows, bf16=self._bf16, dtype=torch.float64)
        finally:
            learner.plain_lm = False
            learner.train()
            if isinstance(learner, FSDPModule):
                learner.reshard()  # gathered weights are freed by a backward pass only
        return float(total) / sum(rows.tokens)


@dataclass(frozen=True)
class Validation:
    """Held-out rows of a classifier, with one or more sets of labels.

    Attributes:
        examples: n rows.
        labels: By name ("weak", "gold"): classes [n] or distributions [n, K].
        stop: Name of the labels by whose loss the best epoch is kept; "": the last step is kept.
            All steps are made in any case, so that arms cost the same.
    """

    examples: Sequence[Example]
    labels: Mapping[str, Ints | Floats]
    stop: str = ""

    def __post_init__(self) -> None:
        if not self.labels:
            raise UsageError("validation needs labels for its rows")
        if self.stop and self.stop not in self.labels:
            raise UsageError(f"there are no validation labels '{self.stop}' to stop by")


@dataclass
class ValidationCallback:
    """Evaluates a classifier after every epoch, and keeps the best weights.

    State of a training: `state` and `load_state` carry it through a resume.
    """

    student: Student
    rows: dict[str, ClassifierRows]  # by the name of their labels
    stop: str
    curves: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    read: int = 0  # input tokens read by all evaluations
    _best: tuple[float, int, dict[str, Tensor]] | None = None  # loss, step, weights

    @classmethod
    def over(
        cls, validation: Validation, student: Student, max_length: int
    ) -> "ValidationCallback":
        """Tokenize the rows; raise DataError for labels that do not fit them."""
        rows = {
            name: encode_classified(validation.examples, labels, None, student.loaded, max_length)
            for name, labels in validation.labels.items()
        }
        return cls(student, rows, validation.stop, {name: [] for name in rows})

    def every_epoch(self, epochs: float) -> StepCallback:
        """Return the callback that evaluates once an epoch, and after the last step."""
        return StepCallback(max(1, math.ceil(epochs)), self.look)

    def look(self, step: int, loaded: Loaded) -> None:
        """Add a point to every curve; keep the weights if their loss is the lowest so far."""
        for name, rows in self.rows.items():
            loss, accuracy = classifier_loss(loaded, rows, bf16=self.student.bf16)
            self.read += sum(rows.lengths)
            self.curves[name].append({"step": step, "loss": loss, "accuracy": accuracy})
            if name == self.stop and (self._best is None or loss < self._best[0]):
                self._best = loss, step, snapshot(self.student)

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold; the names are those of earlier checkpoints."""
        found = {"watch.read": torch.tensor(self.read)}
        for name, curve in self.curves.items():
            points = [[point["step"], point["loss"], point["accuracy"]] for point in curve]
            found[f"watch.curve.{name}"] = torch.tensor(points, dtype=torch.float64).reshape(-1, 3)
        if self._best is None:
            return found
        loss, step, weights = self._best
        found["watch.best"] = torch.tensor([loss, step], dtype=torch.float64)
        return {**found, **{f"watch.weight.{name}": value for name, value in weights.items()}}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the state of a checkpoint."""
        self.read = int(state["watch.read"])
        for name in self.curves:
            self.curves[name] = [
                {"step": int(step), "loss": loss, "accuracy": accuracy}
                for step, loss, accuracy in state[f"watch.curve.{name}"].tolist()
            ]
        if "watch.best" in state:
            loss, step = state["watch.best"].tolist()
            self._best = loss, int(step), _below("watch.weight.", state)

    def finish(self) -> dict[str, Any]:
        """Load the best epoch's weights if `stop` is set, and return facts with all curves."""
        facts: dict[str, Any] = {"validation": self.curves}
        if self._best is not None:
            restore(self.student, self._best[2])
            facts |= {"stopped_by": self.stop, "kept_step": self._best[1]}
        return facts


@torch.no_grad()
def classifier_loss(loaded: Loaded, rows: ClassifierRows, *, bf16: bool) -> tuple[float, float]:
    """Return (mean cross-entropy in nats, share of rows whose likeliest class is the label's)."""
    nats, right = 0.0, 0
    for part in micro_batches(range(len(rows)), rows.lengths, CLASSIFIER_BATCH):
        some = rows.take(part)
        ids, mask = (each.to(loaded.device) for each in padded(some.encoded))
        with torch.autocast(loaded.device.type, dtype=torch.bfloat16, enabled=bf16):
            logits, _ = read(loaded.model, ids, mask)
        logs = torch.log_softmax(logits.double(), -1).cpu().numpy()
        share = np.eye(logs.shape[1])[some.hard] if some.soft is None else some.soft
        nats -= float((share * logs).sum())
        right += int((logs.argmax(1) == some.hard).sum())
    return nats / len(rows), right / len(rows)


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
