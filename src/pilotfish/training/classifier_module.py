"""A classifier with its loss: one call gives the summed loss of a micro-batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pilotfish.data_order import row_name
from pilotfish.engine.classify import padded, read
from pilotfish.errors import DataError
from pilotfish.losses import Dense, Loss, LossInputs, Window
from pilotfish.models import Loaded
from pilotfish.records import Example, Floats, Ints
from pilotfish.tokenization import Encoded, encode_texts
from pilotfish.training.data.collate import Batch


@dataclass(frozen=True)
class ClassifierRows:
    """Texts to learn, with K classes. All lists have one entry per usable row."""

    encoded: list[Encoded]
    names: list[str]  # id and content, which decide the data order
    hard: Ints  # [n] class
    soft: Floats | None  # [n, K] distribution over classes, if labels are soft
    weights: Floats | None = None  # [n] >= 0; None: 1
    unsupervised: int = 0  # rows left out

    def __len__(self) -> int:
        return len(self.encoded)

    @property
    def tokens(self) -> list[int]:
        """Targets of each row: one, its class."""
        return [1] * len(self)

    @property
    def mass(self) -> list[float]:
        """Weight of each row in the mean of the loss."""
        return [1.0] * len(self) if self.weights is None else [float(w) for w in self.weights]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [len(row.ids) for row in self.encoded]

    @property
    def truncated(self) -> int:
        """Number of usable rows that were cut."""
        return sum(row.truncated for row in self.encoded)

    def take(self, positions: Sequence[int]) -> "ClassifierRows":
        """Return some of the rows, in the order given."""
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
    """Tokenize texts with their targets; texts of weight 0 are left out.

    Args:
        examples: n texts.
        targets: [n] classes, or [n, K] distributions over them.
        weights: [n] >= 0; None: 1.
        loaded: The classifier.
        max_length: Tokens beyond it are cut.

    Raises:
        DataError: Targets or weights do not fit, or no text is usable.
    """
    for what, values in (("target", targets), ("weight", weights)):
        if values is not None and len(values) != len(examples):
            raise DataError(f"{len(examples)} texts have {len(values)} {what}s")
    if weights is not None and not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise DataError("weights must be numbers of at least 0")
    classes, soft = int(loaded.model.config.num_labels), None
    if np.ndim(targets) == 2:
        soft = np.asarray(targets, dtype=np.float64)
        sums, fit = np.sum(targets, axis=1), np.shape(targets)[1] == classes
        if not (fit and (targets >= 0).all() and (abs(sums - 1) <= 1e-3).all()):
            raise DataError(f"soft targets must be distributions over {classes} classes")
    elif len(targets) and not (np.min(targets) >= 0 and np.max(targets) < classes):
        raise DataError(f"targets must be classes from 0 to {classes - 1}")
    encoded = encode_texts(examples, loaded.tokenizer, max_length)
    usable = [
        i for i, row in enumerate(encoded) if not row.reason and (weights is None or weights[i] > 0)
    ]
    if not usable:
        raise DataError(
            f"none of the {len(encoded)} texts can be learnt: they are empty, weigh nothing, or "
            "the tokenizer fails"
        )
    rows = ClassifierRows(
        encoded,
        [row_name(each) for each in examples],
        np.asarray(targets if soft is None else soft.argmax(1), dtype=np.int64),
        soft,
        None if weights is None else np.asarray(weights, dtype=np.float64),
    )
    return replace(rows.take(usable), unsupervised=len(encoded) - len(usable))


class ClassifierWithLoss(nn.Module):
    """Classifier and loss. Soft targets are the teacher; its state is the window of `logconf`.

    Attributes:
        needs_preview: Whether it must be shown a whole step before it learns it, so that the bias
            depends neither on how the step is cut up nor on the steps before.
        previewing: Whether it is being shown a step.
    """

    def __init__(self, model: Any, loss: Loss, *, classes: int) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.progress = 0.0  # share of the steps done; the loop sets it before each step
        self._window = Window(classes) if "bias" in loss.needs else None
        self._previewed: list[tuple[Tensor, Tensor]] = []  # (log p, q) of each micro-batch
        self._bias: Tensor | None = None  # for all micro-batches of a step
        self.needs_preview = self._window is not None
        self.previewing = False

    def collate(self, rows: ClassifierRows) -> Batch:
        """Make a micro-batch of rows, on the CPU."""
        ids, mask = padded(rows.encoded)
        teacher = None
        if rows.soft is not None:
            teacher = Dense(torch.from_numpy(rows.soft).clamp(min=1e-30).log().float())
        inputs = LossInputs(torch.from_numpy(rows.hard), teacher)
        weights = None if rows.weights is None else torch.from_numpy(rows.weights).float()
        return Batch(ids, mask, torch.arange(len(ids)), inputs, weights)

    def forward(self, batch: Batch) -> Tensor:
        """Return scalar nats, summed over the weighted texts of the batch; the caller divides."""
        assert batch.mask is not None
        logits, _ = read(self.model, batch.ids, batch.mask)
        if self.previewing:
            if isinstance(batch.inputs.teacher, Dense):
                log_p = torch.log_softmax(logits.float(), -1)
                self._previewed.append((log_p, torch.softmax(batch.inputs.teacher.logits, -1)))
            return logits.sum()
        inputs = replace(
            batch.inputs,
            progress=self.progress,
            bias=None if self._bias is None else self._bias.to(logits),
        )
        each = self.loss(logits, inputs)
        return each.sum() if batch.weights is None else (each * batch.weights).sum()

    def after_preview(self) -> None:
        """Add the step that was shown to the window, and fit the bias."""
        if self._window is not None and self._previewed:
            log_p, q = (torch.cat(parts) for parts in zip(*self._previewed, strict=True))
            self._window.add(log_p, q)
            self._bias = self._window.bias()
        self._previewed.clear()

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold besides the weights."""
        return {} if self._window is None else self._window.state()

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore the state of a checkpoint."""
        if self._window is not None:
            self._window.load_state(state)
