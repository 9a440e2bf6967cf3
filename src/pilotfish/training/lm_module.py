"""A model together with its loss: one call gives the summed loss of a micro-batch."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pilotfish.losses import Dense, Loss, LossInputs, lm, summed
from pilotfish.training.data.collate import Batch, collate
from pilotfish.training.data.rows import TokenizedRows
from pilotfish.training.teacher.comparison import TeacherComparison
from pilotfish.training.teacher.outputs import stack

BLOCK_FLOATS = 2**24  # logits of one block: 64 MiB in fp32


class LMForward:
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


class FrozenBase:
    """The model training started from: a frozen copy, or under LoRA the same one without it."""

    def __init__(self, model: Any, *, lora: Any = None) -> None:
        """`lora`: peft's wrapper around `model`, whose adapters are switched off to read it."""
        self._lora = lora
        self._reader = LMForward(model) if lora is not None else _frozen(copy.deepcopy(model))

    def rows(self, batch: Batch) -> Tensor:
        """What `logits` needs at each supervised position, dropout off."""
        off = self._lora.disable_adapter() if self._lora is not None else nullcontext()
        with torch.no_grad(), off, _evaluated(self._reader.causal):
            return self._reader.rows(batch)

    def logits(self, rows: Tensor) -> Tensor:
        """[m, ...] of `rows` -> [m, v]; adapters on the head itself are off too."""
        off = self._lora.disable_adapter() if self._lora is not None else nullcontext()
        with torch.no_grad(), off:
            return self._reader.logits(rows)


class LMWithLoss(nn.Module):
    """Student, loss and, where the loss asks for them, a frozen teacher and the frozen base.

    Neither is a submodule: they have no parameters to train, to save or to send between ranks.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        *,
        teacher: Any = None,
        base: FrozenBase | None = None,
        vocabulary: int | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.vocabulary = vocabulary
        self.progress = 0.0  # share of the steps done; the loop sets it before each step
        self.plain = False  # whether to be a language model and nothing else for a while
        self._reader = LMForward(model)
        self._teacher = _frozen(teacher) if teacher is not None else None
        self._base = base
        self._block = max(256, BLOCK_FLOATS // self._reader.width)
        self.race = TeacherComparison() if "surpassed" in loss.needs else None

    def collate(self, rows: TokenizedRows) -> Batch:
        """A micro-batch of those rows, on the CPU, with all that is known about its tokens."""
        batch = collate(rows.encoded)
        given = batch.given
        if rows.taught is not None:
            given = replace(given, teacher=stack(rows.taught))
        if rows.gold is not None:
            marks = np.repeat(np.array(rows.gold, dtype=bool), rows.tokens)
            given = replace(given, gold=torch.from_numpy(marks))
        weights = None
        if rows.weights is not None:
            weights = torch.from_numpy(np.concatenate(rows.weights).astype(np.float32))
        return replace(batch, given=given, weights=weights)

    def forward(self, batch: Batch) -> Tensor:
        """Scalar nats, summed over the supervised tokens of the batch as they are weighted; the
        caller divides."""
        rows = self._reader.rows(batch)
        if self.plain:
            return summed(
                lambda some, about: lm(self._reader.logits(some), about.targets),
                rows, batch.given, block=self._block,
            )  # fmt: skip
        given = replace(
            batch.given,
            vocabulary=self.vocabulary,
            progress=self.progress,
            surpassed=self.race.won if self.race else False,
        )
        beside = self._beside(batch)
        if self.race and not self.race.won:
            self._watch(rows, given, beside.get("taught"))

        def term(some: Tensor, about: LossInputs, *more: Tensor) -> Tensor:
            own = dict(zip(beside, more, strict=True))
            each = self.loss(self._reader.logits(some), self._told(about, own))
            return each * own["weights"] if "weights" in own else each

        return summed(term, rows, given, *beside.values(), block=self._block)

    def _beside(self, batch: Batch) -> dict[str, Tensor]:
        """[m, ...] what goes with the student's rows block by block: no full logits of anybody."""
        found = {} if batch.weights is None else {"weights": batch.weights}
        with torch.no_grad():  # the same ids as the student's, at the same positions
            if self._teacher:
                found["taught"] = self._teacher.rows(batch)
            if self._base:
                found["base"] = self._base.rows(batch)
        return found

    def _told(self, given: LossInputs, own: dict[str, Tensor]) -> LossInputs:
        if "taught" in own:
            given = replace(given, teacher=self._said(own["taught"]))
        if "base" in own and self._base:
            given = replace(given, base=self._base.logits(own["base"]))
        return given

    def after_step(self) -> None:
        """Look at what the step has shown."""
        if self.race and not self.plain:
            self.race.after_step()

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold beside the weights."""
        return self.race.state() if self.race else {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        if self.race:
            self.race.load_state(state)

    def _said(self, taught: Tensor) -> Dense:
        assert self._teacher is not None
        with torch.no_grad():
            return Dense(self._teacher.logits(taught))

    @torch.no_grad()
    def _watch(self, rows: Tensor, given: LossInputs, taught: Tensor | None) -> None:
        """Tell the race what both paid for the same tokens; one more pass of the head."""
        assert self.race is not None
        for start in range(0, len(rows), self._block):
            cut = slice(start, start + self._block)
            some = given[cut]
            if taught is not None:
                some = replace(some, teacher=self._said(taught[cut]))
            self.race.add(self._reader.logits(rows[cut]), some)


def _frozen(teacher: Any) -> LMForward:
    teacher.eval()
    return LMForward(teacher)


@contextmanager
def _evaluated(model: Any) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
