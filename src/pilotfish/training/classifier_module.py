"""A classifier together with its loss: one call gives the summed loss of a micro-batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pilotfish.engine.classify import padded, read
from pilotfish.errors import DataError
from pilotfish.losses import Dense, Loss, LossInputs, Window
from pilotfish.models import Loaded
from pilotfish.records import Example, Floats, Ints
from pilotfish.tokenization import Encoded, encode_texts
from pilotfish.training.data.collate import Batch


@dataclass(frozen=True)
class ClassifierRows:
    """Texts to learn classes from. All lists have one entry per usable row."""

    encoded: list[Encoded]
    names: list[str]  # id and content: what the data order hangs on
    hard: Ints  # [n] the class
    soft: Floats | None  # [n, K] its distribution, where labels are soft
    weights: Floats | None = None  # [n] what each row counts; None: 1
    unsupervised: int = 0  # rows left out

    def __len__(self) -> int:
        return len(self.encoded)

    @property
    def tokens(self) -> list[int]:
        """Supervised things of each row: one, its class."""
        return [1] * len(self)

    @property
    def mass(self) -> list[float]:
        """What each row weighs in the mean that a loss is."""
        return [1.0] * len(self) if self.weights is None else [float(w) for w in self.weights]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [len(row.ids) for row in self.encoded]

    @property
    def truncated(self) -> int:
        """Usable rows that were cut."""
        return sum(row.truncated for row in self.encoded)

    def take(self, positions: Sequence[int]) -> "ClassifierRows":
        """Some of the rows, in the order given."""
        at = np.asarray(positions, dtype=np.int64)
        return ClassifierRows(
            [self.encoded[i] for i in at],
            [self.names[i] for i in at],
            self.hard[at],
            None if self.soft is None else self.soft[at],
            None if self.weights is None else self.weights[at],
        )


def encode_classified(
    examples: Sequence[Example],
    targets: Ints | Floats,
    weights: Floats | None,
    loaded: Loaded,
    max_length: int,
) -> ClassifierRows:
    """Tokenise texts with their targets: classes [n], or distributions over them [n, K].

    A text of weight 0 is left out, as if it were not there. DataError, naming what is wrong, for
    targets that do not fit, or where no text is usable.
    """
    _check(examples, targets, weights, int(loaded.model.config.num_labels))
    encoded = encode_texts(examples, loaded.tokenizer, max_length)
    worth = np.ones(len(encoded)) if weights is None else weights
    usable = [i for i, row in enumerate(encoded) if not row.reason and worth[i] > 0]
    if not usable:
        raise DataError(
            f"none of the {len(encoded)} texts can be learnt: they are empty, weigh nothing, or "
            "the tokenizer fails"
        )
    soft = np.asarray(targets, dtype=np.float64) if np.ndim(targets) == 2 else None
    everything = ClassifierRows(
        encoded,
        [f"{each.id}\0{each.digest}" for each in examples],
        np.asarray(targets if soft is None else soft.argmax(1), dtype=np.int64),
        soft,
        None if weights is None else np.asarray(weights, dtype=np.float64),
    )
    return replace(everything.take(usable), unsupervised=len(encoded) - len(usable))


def _check(examples: Sequence[Example], targets: Any, weights: Floats | None, classes: int) -> None:
    for what, values in (("target", targets), ("weight", weights)):
        if values is not None and len(values) != len(examples):
            raise DataError(f"{len(examples)} texts have {len(values)} {what}s")
    if weights is not None and not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise DataError("weights must be numbers of at least 0")
    if np.ndim(targets) == 2:
        sums, fit = np.sum(targets, axis=1), np.shape(targets)[1] == classes
        if not (fit and (targets >= 0).all() and (abs(sums - 1) <= 1e-3).all()):
            raise DataError(f"soft targets must be distributions over {classes} classes")
    elif len(targets) and not (np.min(targets) >= 0 and np.max(targets) < classes):
        raise DataError(f"targets must be classes from 0 to {classes - 1}")


class ClassifierWithLoss(nn.Module):
    """Classifier and loss. Its soft targets are the teacher; state is the window of `logconf`.

    looks_ahead: whether it must be shown a whole step before it learns it (`looking` meanwhile), so
    that what its window says hangs neither on how the step is cut up nor on how it was before.
    """

    def __init__(self, model: Any, loss: Loss, *, classes: int) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.progress = 0.0  # share of the steps done; the loop sets it before each step
        self._window = Window(classes) if "bias" in loss.needs else None
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._bias: Tensor | None = None  # for all micro-batches of a step
        self.looks_ahead = self._window is not None
        self.looking = False

    def collate(self, rows: ClassifierRows) -> Batch:
        """A micro-batch of those rows, on the CPU."""
        ids, mask = padded(rows.encoded)
        soft = None if rows.soft is None else torch.from_numpy(rows.soft).clamp(min=1e-30)
        given = LossInputs(
            torch.from_numpy(rows.hard), None if soft is None else Dense(soft.log().float())
        )
        weights = None if rows.weights is None else torch.from_numpy(rows.weights).float()
        return Batch(ids, mask, torch.arange(len(ids)), given, weights)

    def forward(self, batch: Batch) -> Tensor:
        """Scalar nats, summed over the texts of the batch; the caller divides."""
        assert batch.mask is not None
        logits, _ = read(self.model, batch.ids, batch.mask)
        if self.looking:
            return self._look(logits, batch.given)
        given = replace(
            batch.given,
            progress=self.progress,
            bias=None if self._bias is None else self._bias.to(logits),
        )
        each = self.loss(logits, given)
        return each.sum() if batch.weights is None else (each * batch.weights).sum()

    def _look(self, logits: Tensor, given: LossInputs) -> Tensor:
        if isinstance(given.teacher, Dense):
            log_p = torch.log_softmax(logits.float(), -1)
            self._seen.append((log_p, torch.softmax(given.teacher.logits, -1)))
        return logits.sum()

    def looked(self) -> None:
        """The whole step was shown: now the window takes it in, as one."""
        if self._window is not None and self._seen:
            log_p, q = (torch.cat(parts) for parts in zip(*self._seen, strict=True))
            self._window.add(log_p, q)
            self._bias = self._window.bias()
        self._seen.clear()

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold beside the weights."""
        return {} if self._window is None else self._window.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        if self._window is not None:
            self._window.load_state(state)
