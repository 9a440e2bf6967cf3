"""A model together with its loss: one call gives the summed loss of a micro-batch."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pilotfish.losses import Dense, Given, Loss, summed
from pilotfish.train.collate import Batch, collate
from pilotfish.train.rows import Rows

BLOCK_FLOATS = 2**24  # logits of one block: 64 MiB in fp32


class Reader:
    """Reads a causal LM's logits at chosen positions only.

    Body and head are called apart where that gives the model's own logits, so that the head runs
    on supervised positions alone. Models that do more than apply a head (soft caps, scaled logits)
    are found by trying, and read whole.
    """

    def __init__(self, model: Any) -> None:
        self.causal = model
        self.apart = self._head_is_all()

    def rows(self, batch: Batch) -> Tensor:
        """What `logits` needs at each supervised position: [m, d] hidden states, or logits."""
        inputs = {"input_ids": batch.ids, "attention_mask": batch.mask, "use_cache": False}
        if self.apart:
            whole: Tensor = self.causal.base_model(**inputs).last_hidden_state
        else:
            whole = self.causal(**inputs).logits
        return whole.flatten(0, 1)[batch.source]

    def logits(self, rows: Tensor) -> Tensor:
        """[m, ...] of `rows` -> [m, v] logits."""
        out: Tensor = self.causal.get_output_embeddings()(rows) if self.apart else rows
        return out

    @property
    def width(self) -> int:
        """Columns of the head, padding included."""
        head = self.causal.get_output_embeddings()
        return int(head.weight.shape[0] if head is not None else self.causal.config.vocab_size)

    @torch.no_grad()
    def _head_is_all(self) -> bool:
        head, body = self.causal.get_output_embeddings(), self.causal.base_model
        if head is None or body is self.causal:
            return False
        was_training = self.causal.training
        self.causal.eval()
        ids = torch.arange(8, device=self.causal.device)[None] % self.width
        whole = self.causal(input_ids=ids, use_cache=False).logits
        state = getattr(body(input_ids=ids, use_cache=False), "last_hidden_state", None)
        self.causal.train(was_training)
        return state is not None and torch.allclose(head(state), whole, rtol=1e-3, atol=1e-4)


class Learner(nn.Module):
    """Student, loss and, where the loss asks for one, a frozen teacher.

    The teacher is no submodule: it has no parameters to train, to save or to send between ranks.
    """

    def __init__(
        self, model: nn.Module, loss: Loss, *, teacher: Any = None, vocabulary: int | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.vocabulary = vocabulary
        self.progress = 0.0  # share of the steps done; the loop sets it before each step
        self._reader = Reader(model)
        self._teacher = _frozen(teacher) if teacher is not None else None
        self._block = max(256, BLOCK_FLOATS // self._reader.width)

    def collate(self, rows: Rows) -> Batch:
        """A micro-batch of those rows, on the CPU."""
        return collate(rows.encoded)

    def forward(self, batch: Batch) -> Tensor:
        """Scalar nats, summed over the supervised tokens of the batch; the caller divides."""
        rows = self._reader.rows(batch)
        given = replace(batch.given, vocabulary=self.vocabulary, progress=self.progress)
        if self._teacher is None:
            return summed(self._alone, rows, given, block=self._block)
        with torch.no_grad():  # the same ids as the student's, at the same positions
            taught = self._teacher.rows(batch)
        return summed(self._taught, rows, given, taught, block=self._block)

    def _alone(self, rows: Tensor, given: Given) -> Tensor:
        return self.loss(self._reader.logits(rows), given)

    def _taught(self, rows: Tensor, given: Given, taught: Tensor) -> Tensor:
        assert self._teacher is not None
        with torch.no_grad():
            teacher = Dense(self._teacher.logits(taught))
        return self._alone(rows, replace(given, teacher=teacher))


def _frozen(teacher: Any) -> Reader:
    teacher.eval()
    return Reader(teacher)
