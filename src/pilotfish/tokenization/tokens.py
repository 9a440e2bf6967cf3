"""Tokenize texts in batches; `Encoded` carries the token ids of a row."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import UsageError
from pilotfish.tokenization.render import Segment

Ids = list[int]


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """One row as a model reads it."""

    ids: NDArray[np.int32]  # [t] int32 token ids
    # [t] bool, the token is scored (or supervised). Never the first token, which nothing predicts,
    # unless hidden states are pooled.
    target: NDArray[np.bool_]
    n_prompt: int  # prompt tokens of the whole text after truncation
    n_response: int  # response tokens of the whole text after truncation
    truncated: bool  # whether tokens were cut off
    reason: str = ""  # "" for a usable row, else why it is not; ids and target are empty then
    # the tokens read for every need of the same text form and condition
    passage: "Passage | None" = None

    @property
    def read(self) -> "Passage":
        """The passage; without one, the row's own ids from its first target on."""
        first = max(int(self.target.argmax()), 1) if self.target.any() else 1
        return self.passage or Passage(self.ids, (first, first, len(self.ids)), first)

    @property
    def digest(self) -> int:
        """64 bits over ids and targets: equal iff both are."""
        both = blake2b(len(self.ids).to_bytes(8, "little"), digest_size=8)
        both.update(self.ids.astype(np.int32).tobytes())
        both.update(self.target.tobytes())
        return int.from_bytes(both.digest(), "little")


@dataclass(frozen=True, slots=True, eq=False)
class Passage:
    """The tokens of one forward pass over a row, the same for all needs that share the pass."""

    # [t] int32, the longest sequence that any need reads (with the end marker); the ids of every
    # need are a prefix of it. Empty where no need can read the row.
    ids: NDArray[np.int32]
    # where the response begins (at least 1), where the aligned part of it begins, and where its end
    # marker begins
    marks: tuple[int, int, int]
    # where the response begins, which may be 0. Hidden states are pooled from there on, so a prompt
    # of one token differs from an empty one.
    begin: int


def usable(ids: Sequence[int], target: NDArray[np.bool_], **facts: Any) -> Encoded:
    """Make an Encoded row that can be measured; `facts` are its other fields."""
    return Encoded(np.asarray(ids, dtype=np.int32), target, **facts)


def unusable(
    reason: str,
    *,
    n_prompt: int = 0,
    n_response: int = 0,
    truncated: bool = False,
    passage: Passage | None = None,
) -> Encoded:
    """Make an Encoded row that cannot be measured.

    Args:
        reason: Why not.
        n_prompt: Prompt tokens after truncation.
        n_response: Response tokens after truncation.
        truncated: Whether tokens were cut off.
        passage: The passage other needs may still read.
    """
    ids, target = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=bool)
    return Encoded(ids, target, n_prompt, n_response, truncated, reason, passage)


def clamp_max_length(max_length: int, window: int | None) -> int:
    """Return the limit in tokens, never more than the model's window (None: unbounded).

    Raises:
        UsageError: `max_length` is below 1.
    """
    if max_length < 1:
        raise UsageError(f"max_length must be at least 1, not {max_length}")
    return max_length if window is None else min(max_length, window)


def tokenize(
    texts: Sequence[str],
    tokenizer: Any,
    *,
    specials: bool = False,
    literal: bool = False,
    limit: int | None = None,
) -> list[Ids | None]:
    """Tokenize texts in one batched call.

    Args:
        texts: The texts.
        tokenizer: The tokenizer.
        specials: Add the tokens that the tokenizer adds by itself (BOS).
        literal: Cut spelled-out control tokens into characters.
        limit: Let the tokenizer cut texts to this many tokens, its own marks included.

    Returns:
        Ids of every text; None for a text the tokenizer fails on.
    """
    if not texts:
        return []
    options: dict[str, Any] = {"add_special_tokens": specials, "return_attention_mask": False}
    if literal:
        options["split_special_tokens"] = True
    if limit is not None:
        options |= {"truncation": True, "max_length": limit}

    def batch(some: Sequence[str]) -> list[Ids | None]:
        try:
            return list(tokenizer(list(some), verbose=False, **options)["input_ids"])
        except Exception:  # a text that this tokenizer fails on must not take the others with it
            return [None] if len(some) == 1 else [batch([text])[0] for text in some]

    return batch(texts)


def tokenize_segments(rows: Sequence[Sequence[Segment]], tokenizer: Any) -> list[list[Ids] | None]:
    """Tokenize every segment of every row on its own, so that no token spans two segments.

    Returns:
        Per row the ids of its segments; None for a row with a segment the tokenizer fails on.
    """
    flat = [part for row in rows for part in row]
    ids: list[Ids | None] = [None] * len(flat)
    for literal in (False, True):
        indices = [index for index, part in enumerate(flat) if part.literal is literal]
        found = tokenize([flat[index].text for index in indices], tokenizer, literal=literal)
        for index, one in zip(indices, found, strict=True):
            ids[index] = one
    remaining = iter(ids)
    grouped = [[next(remaining) for _ in row] for row in rows]
    return [None if None in row else [one for one in row if one is not None] for row in grouped]


def added_ids(tokenizer: Any) -> tuple[Ids, Ids]:
    """Return the ids the tokenizer itself adds before and after a text (BOS, EOS), often none."""
    [bare] = tokenize(["a"], tokenizer)
    [framed] = tokenize(["a"], tokenizer, specials=True)
    if not bare or framed is None:
        return [], []
    for start in range(len(framed) - len(bare) + 1):
        if framed[start : start + len(bare)] == bare:
            return framed[:start], framed[start + len(bare) :]
    return [], []
