"""A language model with its loss: one call gives the summed loss of a micro-batch."""

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
    """Computes a causal LM's logits at the supervised positions only.

    Body and head are called separately if that gives the model's own logits, so that the head runs
    on supervised positions alone. Models that do more than apply a head (soft caps, scaled logits)
    are found by a trial pass, and computed whole.
    """

    def __init__(self, model: Any) -> None:
        self.causal = model
        self.separate = self._head_gives_logits()

    def rows(self, batch: Batch) -> Tensor:
        """Return [m, d] hidden states before each supervised token, or [m, v] logits."""
        inputs = {"input_ids": batch.ids, "attention_mask": batch.mask, "use_cache": False}
        if self.separate:
            whole: Tensor = self.causal.base_model(**inputs).last_hidden_state
        else:
            whole = self.causal(**inputs).logits
        return whole.flatten(0, 1)[batch.source]

    def logits(self, rows: Tensor) -> Tensor:
        """Turn rows from `rows`, [m, ...], into logits [m, v]."""
        out: Tensor = self.causal.get_output_embeddings()(rows) if self.separate else rows
        return out

    @property
    def width(self) -> int:
        """Columns of the head, padding included."""
        head = self.causal.get_output_embeddings()
        return int(head.weight.shape[0] if head is not None else self.causal.config.vocab_size)

    @torch.no_grad()
    def _head_gives_logits(self) -> bool:
        head, body = self.causal.get_output_embeddings(), self.causal.base_model
        if head is None or body is self.causal:
            return False
        ids = torch.arange(8, device=self.causal.device)[None] % self.width
        with _in_eval_mode(self.causal):
            whole = self.causal(input_ids=ids, use_cache=False).logits
            state = getattr(body(input_ids=ids, use_cache=False), "last_hidden_state", None)
        return state is not None and torch.allclose(head(state), whole, rtol=1e-3, atol=1e-4)


class FrozenBase:
    """The model that training started from: a frozen copy, or under LoRA the model without it."""

    def __init__(self, model: Any, *, lora: Any = None) -> None:
        """Copy `model`, unless `lora`, peft's wrapper around it, can switch its adapters off."""
        self._lora = lora
        self._lm = LMForward(model) if lora is not None else _frozen(copy.deepcopy(model))

    def rows(self, batch: Batch) -> Tensor:
        """Return rows of `batch` for `logits`, dropout off."""
        with torch.no_grad(), self._without_adapters(), _in_eval_mode(self._lm.causal):
            return self._lm.rows(batch)

    def logits(self, rows: Tensor) -> Tensor:
        """Turn rows [m, ...] into logits [m, v]; adapters on the head itself are off too."""
        with torch.no_grad(), self._without_adapters():
            return self._lm.logits(rows)

    def _without_adapters(self) -> Any:
        return self._lora.disable_adapter() if self._lora is not None else nullcontext()


class LMWithLoss(nn.Module):
    """Student and loss, with a frozen teacher and the frozen base if the loss needs them.

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
        """Attach the parts of a loss.

        Args:
            model: The student.
            loss: The loss.
            teacher: The weak model, online.
            base: The model that training started from.
            vocabulary: Real columns of the heads of student and teacher; None: all.
        """
        super().__init__()
        self.model = model
        self.loss = loss
        self.vocabulary = vocabulary
        self.progress = 0.0  # share of the steps done; the loop sets it before each step
        self.plain_lm = False  # whether to use the plain LM loss for a while
        self._lm = LMForward(model)
        self._teacher = _frozen(teacher) if teacher is not None else None
        self._base = base
        self._block = max(256, BLOCK_FLOATS // self._lm.width)
        self.comparison = TeacherComparison() if "surpassed" in loss.needs else None

    def collate(self, rows: TokenizedRows) -> Batch:
        """Make a micro-batch of rows, on the CPU, with all that is known about its tokens."""
        batch = collate(rows.encoded)
        inputs, weights = batch.inputs, None
        if rows.teacher_outputs is not None:
            inputs = replace(inputs, teacher=stack(rows.teacher_outputs))
        if rows.trusted is not None:
            marks = np.repeat(np.array(rows.trusted, dtype=bool), rows.tokens)
            inputs = replace(inputs, trusted=torch.from_numpy(marks))
        if rows.weights is not None:
            weights = torch.from_numpy(np.concatenate(rows.weights).astype(np.float32))
        return replace(batch, inputs=inputs, weights=weights)

    def forward(self, batch: Batch) -> Tensor:
        """Return scalar nats, summed over the weighted supervised tokens; the caller divides."""
        rows = self._lm.rows(batch)
        if self.plain_lm:
            return summed(
                lambda some, inputs: lm(self._lm.logits(some), inputs.targets),
                rows,
                batch.inputs,
                block=self._block,
            )
        inputs = replace(
            batch.inputs,
            vocabulary=self.vocabulary,
            progress=self.progress,
            surpassed=self.comparison is not None and self.comparison.surpassed,
        )
        # [m, ...] each, turned into logits block by block: full logits never exist at once
        extra = {} if batch.weights is None else {"weights": batch.weights}
        with torch.no_grad():  # the same ids as the student's, at the same positions
            if self._teacher:
                extra["teacher"] = self._teacher.rows(batch)
            if self._base:
                extra["base"] = self._base.rows(batch)
        if self.comparison and not self.comparison.surpassed:
            self._compare(rows, inputs, extra.get("teacher"))

        def term(some: Tensor, inputs: LossInputs, *more: Tensor) -> Tensor:
            own = dict(zip(extra, more, strict=True))
            if "teacher" in own:
                inputs = replace(inputs, teacher=self._teacher_logits(own["teacher"]))
            if "base" in own and self._base:
                inputs = replace(inputs, base=self._base.logits(own["base"]))
            each = self.loss(self._lm.logits(some), inputs)
            return each * own["weights"] if "weights" in own else each

        return summed(term, rows, inputs, *extra.values(), block=self._block)

    def after_step(self) -> None:
        """Close a step of the comparison with the teacher."""
        if self.comparison and not self.plain_lm:
            self.comparison.after_step()

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold besides the weights."""
        return self.comparison.state() if self.comparison else {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore the state of a checkpoint."""
        if self.comparison:
            self.comparison.load_state(state)

    @torch.no_grad()
    def _teacher_logits(self, rows: Tensor) -> Dense:
        assert self._teacher is not None
        return Dense(self._teacher.logits(rows))

    @torch.no_grad()
    def _compare(self, rows: Tensor, inputs: LossInputs, teacher_rows: Tensor | None) -> None:
        """Add the losses of student and teacher to the comparison; one more pass of the head."""
        assert self.comparison is not None
        for start in range(0, len(rows), self._block):
            cut = slice(start, start + self._block)
            some = inputs[cut]
            if teacher_rows is not None:
                some = replace(some, teacher=self._teacher_logits(teacher_rows[cut]))
            self.comparison.add(self._lm.logits(rows[cut]), some)


def _frozen(model: Any) -> LMForward:
    model.eval()
    return LMForward(model)


@contextmanager
def _in_eval_mode(model: Any) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
