"""What we are held against: one row at a time, and padded batches, written plainly.

Both give every row's mean NLL with its prompt and without it (two passes), as the published
Superfiltering scorer does: prompt, a line feed, response; a response alone loses its first token.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.rank import Floats
from benchmarks.rows import Row

IGNORED = -100
Item = tuple[list[int], int]  # ids, and the first of them that is scored


class OneRow:
    """Per row two forward passes of batch 1, logits at every position, the model's own loss."""

    def __init__(self, model: Any, tokenizer: Any, rows: Sequence[Row], max_length: int) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._rows, self._max_length = rows, max_length
        self._found: list[tuple[float, float]] = []

    def prepare(self) -> None:
        """Forget the last run's numbers."""
        self._found = []

    def run(self) -> None:
        """Row after row, tokenised on the way."""
        self._found = [self._losses(row) for row in self._rows]

    def numbers(self) -> dict[str, Floats]:
        """Mean NLL [n] of each pass, nan where there is none."""
        with_prompt, alone = np.array(self._found).T
        return {"prompt": with_prompt, "nothing": alone}

    def _losses(self, row: Row) -> tuple[float, float]:
        joint, alone = items(row, self._tokenizer, self._max_length)
        return self._loss(*joint), self._loss(*alone)

    @torch.no_grad()
    def _loss(self, ids: list[int], first: int) -> float:
        if len(ids) <= max(first, 1):
            return float("nan")
        tokens = torch.tensor([ids], device=self._model.device)
        labels = tokens.clone()
        labels[:, :first] = IGNORED
        return float(self._model(tokens, labels=labels).loss)


class Padded:
    """transformers as most people batch it: padded right, attention mask, logits everywhere."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        rows: Sequence[Row],
        max_length: int,
        *,
        size: int,
        by_length: bool,
    ) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._rows, self._max_length = rows, max_length
        self._size, self._by_length = size, by_length
        self._found: list[Floats] = []

    def prepare(self) -> None:
        """Forget the last run's numbers."""
        self._found = []

    def run(self) -> None:
        """Both passes, batch after batch of `size` rows."""
        pairs = [items(row, self._tokenizer, self._max_length) for row in self._rows]
        self._found = [self._pass([pair[which] for pair in pairs]) for which in (0, 1)]

    def numbers(self) -> dict[str, Floats]:
        """Mean NLL [n] of each pass, nan where there is none."""
        return dict(zip(("prompt", "nothing"), self._found, strict=True))

    def padding(self) -> float:
        """Padded positions per real token, over both passes."""
        pairs = [items(row, self._tokenizer, self._max_length) for row in self._rows]
        real = wide = 0
        for which in (0, 1):
            for batch in self._batches([pair[which] for pair in pairs]):
                lengths = [len(pairs[i][which][0]) for i in batch]
                real, wide = real + sum(lengths), wide + max(lengths) * len(lengths)
        return wide / real - 1

    def _batches(self, some: Sequence[Item]) -> Iterator[list[int]]:
        order = [i for i, (ids, first) in enumerate(some) if len(ids) > max(first, 1)]
        if self._by_length:
            order.sort(key=lambda i: -len(some[i][0]))
        for begin in range(0, len(order), self._size):
            yield order[begin : begin + self._size]

    def _pass(self, some: Sequence[Item]) -> Floats:
        found = np.full(len(some), np.nan)
        for batch in self._batches(some):
            found[batch] = self._losses([some[i] for i in batch])
        return found

    @torch.no_grad()
    def _losses(self, batch: Sequence[Item]) -> Floats:
        longest = max(len(ids) for ids, _ in batch)
        tokens = torch.zeros(len(batch), longest, dtype=torch.long)
        mask, labels = torch.zeros_like(tokens), torch.full_like(tokens, IGNORED)
        for row, (ids, first) in enumerate(batch):
            tokens[row, : len(ids)] = torch.tensor(ids)
            mask[row, : len(ids)] = 1
            labels[row, first : len(ids)] = tokens[row, first : len(ids)]
        tokens, mask, labels = (each.to(self._model.device) for each in (tokens, mask, labels))
        labels = labels[:, 1:]
        logits = self._model(tokens, attention_mask=mask).logits[:, :-1].float()
        losses = F.cross_entropy(
            logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
        )
        means = losses.sum(dim=1) / (labels != IGNORED).sum(dim=1)
        return np.asarray(means.double().cpu())


def items(row: Row, tokenizer: Any, max_length: int) -> tuple[Item, Item]:
    """(ids, first scored) of the row and of its response alone; a row without room is empty."""

    def cut(text: str, limit: int) -> list[int]:
        return list(tokenizer.encode(text, truncation=True, max_length=limit))

    if not row.response:
        return ([], 0), ([], 0)
    begins = len(tokenizer.encode(f"{row.asked}\n", verbose=False))
    if begins >= max_length:
        return ([], 0), ([], 0)
    joint = cut(f"{row.asked}\n{row.response}", max_length)
    return (joint, begins), (cut(row.response, max_length - begins + 1), 1)


def work(rows: Sequence[Row], tokenizer: Any, max_length: int) -> tuple[int, int]:
    """Tokens read and tokens scored over both passes, of rows that can be scored."""
    pairs: list[Item] = [item for row in rows for item in items(row, tokenizer, max_length)]
    usable = [(ids, first) for ids, first in pairs if len(ids) > max(first, 1)]
    return (
        sum(len(ids) for ids, _ in usable),
        sum(len(ids) - max(first, 1) for ids, first in usable),
    )
