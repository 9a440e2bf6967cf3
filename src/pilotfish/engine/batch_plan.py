"""Which rows share a forward pass: a pure function of the rows and a token budget."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pilotfish.records import Ints
from pilotfish.tokenization import Encoded


class Distinct(NamedTuple):
    """Equal rows, found: measure each kind once, then fan out."""

    first: Ints  # [u] index of one row of each kind
    kind: Ints  # [n] which kind each row is, in [0, u)
    key: tuple[bytes, ...]  # [u] digest of what the kind is


def distinct(rows: Sequence[Encoded]) -> Distinct:
    """Group rows that would be measured alike: same passage (where none is named: same targets)."""
    keys = [_digest(row) for row in rows]
    number: dict[bytes, int] = {}
    first = []
    for index, key in enumerate(keys):
        if key not in number:
            number[key] = len(number)
            first.append(index)
    kind = np.array([number[key] for key in keys], dtype=np.int64)
    return Distinct(np.array(first, dtype=np.int64), kind, tuple(number))


def plan(
    lengths: Sequence[int],
    token_budget: int,
    *,
    tie: Sequence[bytes] | None = None,
    padded: bool = True,
    alone_above: int | None = None,
) -> list[Ints]:
    """Batches of row indices, longest rows first, each of at most `token_budget` tokens or one row.

    A padded batch counts every row as long as its longest. Rows longer than `alone_above` share
    no batch. Equal lengths are ordered by `tie` (content digests), so shuffled rows give the same
    batches; without it by index. Raises ValueError for a budget below 1.
    """
    if token_budget < 1:
        raise ValueError(f"token_budget must be at least 1, not {token_budget}")
    ties = tie if tie is not None else [b""] * len(lengths)
    batches: list[list[int]] = []
    used, longest, alone = token_budget, 0, False
    for row in sorted(range(len(lengths)), key=lambda i: (-lengths[i], ties[i], i)):
        length = max(lengths[row], 1)
        cost = longest if padded and used < token_budget else length
        if used + cost > token_budget or alone:
            batches.append([])
            used, longest, cost = 0, length, length
        batches[-1].append(row)
        used += cost
        alone = alone_above is not None and length > alone_above
    return [np.array(batch, dtype=np.int64) for batch in batches]


def _digest(row: Encoded) -> bytes:
    passage = row.read
    digest = hashlib.blake2b(len(passage.ids).to_bytes(8, "little"), digest_size=16)
    digest.update(passage.ids.tobytes())
    digest.update(np.array(passage.marks).tobytes())
    if passage.begin != passage.marks[0]:  # no prompt at all
        digest.update(b"begin")
    if row.passage is None:
        digest.update(row.target.tobytes())
    return digest.digest()
