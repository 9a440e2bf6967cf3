"""Which rows share a forward pass: a pure function of the rows and a token budget."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pilotfish.records import Ints
from pilotfish.tokenization import Encoded


class Distinct(NamedTuple):
    """n rows in u groups of equal ones: one of each group is measured, all get its numbers."""

    first: Ints  # [u] index of one row of each group
    kind: Ints  # [n] group of each row, in [0, u)
    key: tuple[bytes, ...]  # [u] digest of the group's content


def distinct(rows: Sequence[Encoded]) -> Distinct:
    """Group rows that would be measured alike.

    Equal rows have the same passage; where a row has none, the same ids and targets.
    """
    keys = []
    for row in rows:
        passage = row.read
        digest = hashlib.blake2b(len(passage.ids).to_bytes(8, "little"), digest_size=16)
        digest.update(passage.ids.tobytes())
        digest.update(np.array(passage.marks).tobytes())
        if passage.begin != passage.marks[0]:  # no prompt at all
            digest.update(b"begin")
        if row.passage is None:
            digest.update(row.target.tobytes())
        keys.append(digest.digest())
    group_of: dict[bytes, int] = {}
    first = []
    for index, key in enumerate(keys):
        if key not in group_of:
            group_of[key] = len(group_of)
            first.append(index)
    kind = np.array([group_of[key] for key in keys], dtype=np.int64)
    return Distinct(np.array(first, dtype=np.int64), kind, tuple(group_of))


def plan(
    lengths: Sequence[int],
    token_budget: int,
    *,
    tie: Sequence[bytes] | None = None,
    padded: bool = True,
    max_shared_length: int | None = None,
) -> list[Ints]:
    """Divide rows into batches, longest rows first.

    Args:
        lengths: Tokens of each row.
        token_budget: Tokens per batch; a longer row is a batch of its own.
        tie: Content digests that order rows of equal length, so that shuffled rows give the same
            batches; None: their order as given.
        padded: Whether every row of a batch costs as many tokens as its longest.
        max_shared_length: Rows longer than this share no batch.

    Returns:
        Row indices of each batch.

    Raises:
        ValueError: The budget is below 1.
    """
    if token_budget < 1:
        raise ValueError(f"token_budget must be at least 1, not {token_budget}")
    ties = tie if tie is not None else [b""] * len(lengths)
    batches: list[list[int]] = []
    used, longest, closed = token_budget, 0, False
    for row in sorted(range(len(lengths)), key=lambda i: (-lengths[i], ties[i], i)):
        length = max(lengths[row], 1)
        cost = longest if padded and used < token_budget else length
        if used + cost > token_budget or closed:
            batches.append([])
            used, longest, cost = 0, length, length
        batches[-1].append(row)
        used += cost
        closed = max_shared_length is not None and length > max_shared_length
    return [np.array(batch, dtype=np.int64) for batch in batches]
