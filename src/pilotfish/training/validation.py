"""Validation of a classifier while it learns: curves, and the epoch whose weights are kept.

Stopping on true labels, which label mode does not have, is an oracle: the honest arm stops on weak
ones. Both can be followed beside each other.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotfish.engine.classify import padded, read
from pilotfish.errors import UsageError
from pilotfish.losses import LM
from pilotfish.models import Loaded
from pilotfish.records import Example, Floats, Ints
from pilotfish.training.callbacks import StepCallback
from pilotfish.training.classifier_module import ClassifierRows, encode_classified
from pilotfish.training.data.collate import collate
from pilotfish.training.data.order import micro_batches
from pilotfish.training.data.rows import TokenizedRows
from pilotfish.training.lm_module import LMWithLoss
from pilotfish.training.save import restore, snapshot
from pilotfish.training.setup import Student, accelerator

BATCH = 32
_POINT = ("step", "loss", "accuracy")


@dataclass(frozen=True)
class Validation:
    """Rows kept apart, and one or more sets of labels for them, each under a name of its own.

    labels: classes [n] or distributions [n, K], as `train_classifier` takes them: {"weak": ...,
    "gold": ...}. stop: the name of the labels by whose loss the best epoch is chosen and kept; "":
    the last step is kept. All steps are made in any case, so that arms cost the same.
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
    """Follows one training, looks after every epoch, and remembers the best.

    Owned state: `state` and `load_state` carry it through a resume.
    """

    student: Student
    rows: dict[str, ClassifierRows]  # by the name of their labels
    stop: str
    curves: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    read: int = 0  # input tokens read to validate by
    _best: tuple[float, int, dict[str, Tensor]] | None = None

    @classmethod
    def over(
        cls, validation: Validation, student: Student, max_length: int
    ) -> "ValidationCallback":
        """Tokenise the rows. DataError for labels that do not fit them."""
        rows = {
            name: encode_classified(validation.examples, labels, None, student.loaded, max_length)
            for name, labels in validation.labels.items()
        }
        return cls(student, rows, validation.stop, {name: [] for name in rows})

    def looks(self, epochs: float) -> StepCallback:
        """One look an epoch, the last step's among them."""
        return StepCallback(max(1, math.ceil(epochs)), self.look)

    def look(self, step: int, loaded: Loaded) -> None:
        """Add a point to every curve; keep the weights where the loss is the lowest yet."""
        for name, rows in self.rows.items():
            loss, accuracy = measured(loaded, rows, bf16=self.student.bf16)
            self.read += sum(rows.lengths)
            self.curves[name].append({"step": step, "loss": loss, "accuracy": accuracy})
            if name == self.stop and (self._best is None or loss < self._best[0]):
                self._best = loss, step, snapshot(self.student)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold."""
        found = {f"watch.curve.{name}": _flat(curve) for name, curve in self.curves.items()}
        found["watch.read"] = torch.tensor(self.read)
        if self._best is None:
            return found
        loss, step, weights = self._best
        found["watch.best"] = torch.tensor([loss, step], dtype=torch.float64)
        return {**found, **{f"watch.weight.{name}": value for name, value in weights.items()}}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from it."""
        for name in self.curves:
            points = state[f"watch.curve.{name}"].tolist()
            self.curves[name] = [
                dict(zip(_POINT, (int(p[0]), *p[1:]), strict=True)) for p in points
            ]
        self.read = int(state["watch.read"])
        if "watch.best" in state:
            loss, step = state["watch.best"].tolist()
            prefix = "watch.weight."
            weights = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            self._best = loss, int(step), weights

    def finish(self) -> dict[str, Any]:
        """Put the best epoch's weights back where they are wanted. -> facts, curves in them."""
        facts: dict[str, Any] = {"validation": self.curves}
        if self._best is not None:
            restore(self.student, self._best[2])
            facts |= {"stopped_by": self.stop, "kept_step": self._best[1]}
        return facts


def _flat(curve: Sequence[Mapping[str, Any]]) -> Tensor:
    points = [[float(point[key]) for key in _POINT] for point in curve]
    return torch.tensor(points, dtype=torch.float64).reshape(-1, len(_POINT))


@torch.no_grad()
def measured(loaded: Loaded, rows: ClassifierRows, *, bf16: bool) -> tuple[float, float]:
    """(mean cross-entropy in nats, share of rows whose likeliest class is the label's)."""
    nats, right = 0.0, 0
    for part in micro_batches(range(len(rows)), rows.lengths, BATCH):
        some = rows.take(part)
        ids, mask = (each.to(loaded.device) for each in padded(some.encoded))
        with torch.autocast(loaded.device.type, dtype=torch.bfloat16, enabled=bf16):
            logits, _ = read(loaded.model, ids, mask)
        logs = torch.log_softmax(logits.double(), -1).cpu().numpy()
        share = np.eye(logs.shape[1])[some.hard] if some.soft is None else some.soft
        nats -= float((share * logs).sum())
        right += int((logs.argmax(1) == some.hard).sum())
    return nats / len(rows), right / len(rows)


LOSS_BATCH = 16


@torch.no_grad()
def held_out_loss(student: Student, rows: TokenizedRows) -> float:
    """Mean nats per supervised token of `rows` under plain LM loss, dropout off."""
    learner = LMWithLoss(student.causal, LM()).eval()
    device = accelerator().device
    total = torch.zeros((), device=device)
    everything: Sequence[int] = range(len(rows))
    for part in micro_batches(everything, rows.lengths, LOSS_BATCH):
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=student.bf16):
            total += learner(collate(rows.take(part).encoded).to(device))
    student.causal.train()
    return float(total) / sum(rows.tokens)
