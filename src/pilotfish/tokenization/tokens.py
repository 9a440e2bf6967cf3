"""Text -> token ids in batches, and the frozen noun that carries them on."""

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
    """One row as a model reads it.

    ids: [t] int32. target: [t] bool, this token is scored (or supervised); never the first one,
    which nothing predicts, unless it is states that are pooled. n_prompt, n_response: tokens of
    the joint text after truncation. reason: "" when usable, else why not; ids and target are empty
    then. passage: what the model reads for every need of the same text form and condition.
    """

    ids: NDArray[np.int32]
    target: NDArray[np.bool_]
    n_prompt: int
    n_response: int
    truncated: bool
    reason: str = ""
    passage: "Passage | None" = None

    @property
    def read(self) -> "Passage":
        """The passage, or where none was named the row's own ids, scored from its first target."""
        first = max(int(self.target.argmax()), 1) if self.target.any() else 1
        return self.passage or Passage(self.ids, (first, first, len(self.ids)), first)

    @property
    def digest(self) -> int:
        """64 bits over the ids and which of them are targets: equal iff both are."""
        both = blake2b(len(self.ids).to_bytes(8, "little"), digest_size=8)
        both.update(self.ids.astype(np.int32).tobytes())
        both.update(self.target.tobytes())
        return int.from_bytes(both.digest(), "little")


@dataclass(frozen=True, slots=True, eq=False)
class Passage:
    """One forward pass's worth of a row, the same whichever of its needs are asked for.

    ids: [t] int32, the longest that any need of the pass reads (with the end marker), of which
    theirs are a beginning; empty where no need can read the row. marks: where the response
    begins (at least 1), where the aligned part of it begins, and where its end marker begins.
    begin: where the response begins, 0 too: states are pooled from there on, and then a prompt of
    one token is not an empty one.
    """

    ids: NDArray[np.int32]
    marks: tuple[int, int, int]
    begin: int


def usable(ids: Sequence[int], target: NDArray[np.bool_], **facts: Any) -> Encoded:
    """An Encoded row that can be measured; `facts` are its other fields."""
    return Encoded(np.asarray(ids, dtype=np.int32), target, **facts)


def unusable(
    reason: str,
    *,
    n_prompt: int = 0,
    n_response: int = 0,
    truncated: bool = False,
    passage: Passage | None = None,
) -> Encoded:
    """An Encoded row that cannot, and why."""
    nothing = np.zeros(0, dtype=np.int32)
    none = nothing.astype(bool)
    return Encoded(nothing, none, n_prompt, n_response, truncated, reason, passage)


def clamp_max_length(max_length: int, window: int | None) -> int:
    """The limit in tokens: what was asked for, but never more than the model's window."""
    if max_length < 1:
        raise UsageError(f"max_length must be at least 1, not {max_length}")
    return max_length if window is None else min(max_length, window)


def tokenize(
    texts: Sequence[str], tokenizer: Any, *, specials: bool = False, literal: bool = False
) -> list[Ids | None]:
    """Ids of every text in one batched call; None for a text the tokenizer fails on.

    specials: add what the tokenizer adds by itself (BOS). literal: spelled-out control tokens are
    cut into characters instead of becoming the control token.
    """
    if not texts:
        return []
    options: dict[str, Any] = {"add_special_tokens": specials, "return_attention_mask": False}
    if literal:
        options["split_special_tokens"] = True
    try:
        return list(tokenizer(list(texts), verbose=False, **options)["input_ids"])
    except Exception:
        if len(texts) == 1:
            return [None]
        single = [tokenize([text], tokenizer, specials=specials, literal=literal) for text in texts]
        return [ids for one in single for ids in one]


def tokenize_segments(rows: Sequence[Sequence[Segment]], tokenizer: Any) -> list[list[Ids] | None]:
    """Ids of every segment of every row; None for a row with a segment that fails.

    Segments are cut into tokens on their own, so no token spans two of them.
    """
    flat = [part for row in rows for part in row]
    ids: list[Ids | None] = [None] * len(flat)
    for literal in (False, True):
        chosen = [index for index, part in enumerate(flat) if part.literal is literal]
        found = tokenize([flat[index].text for index in chosen], tokenizer, literal=literal)
        for index, one in zip(chosen, found, strict=True):
            ids[index] = one
    flowing = iter(ids)
    grouped = [[next(flowing) for _ in row] for row in rows]
    return [None if None in row else [one for one in row if one is not None] for row in grouped]


def added_ids(tokenizer: Any) -> tuple[Ids, Ids]:
    """Ids the tokenizer itself puts before and after a text (BOS, EOS), often none."""
    [bare] = tokenize(["a"], tokenizer)
    [dressed] = tokenize(["a"], tokenizer, specials=True)
    if not bare or dressed is None:
        return [], []
    for start in range(len(dressed) - len(bare) + 1):
        if dressed[start : start + len(bare)] == bare:
            return dressed[:start], dressed[start + len(bare) :]
    return [], []
