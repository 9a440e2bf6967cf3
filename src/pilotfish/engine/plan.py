"""Which rows share a forward pass: a pure function of the rows and a token budget."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pilotfish.encode import Encoded
from pilotfish.records import Ints


class Distinct(NamedTuple):
    """Equal rows, found: measure each kind once, then fan out."""

    first: Ints  # [u] index of one row of each kind
    kind: Ints  # [n] which kind each row is, in [0, u)
    key: tuple[bytes, ...]  # [u] digest of the kind's ids and targets


def distinct(rows: Sequence[Encoded]) -> Distinct:
    """Group rows that would be measured alike: same ids, same targets."""
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
    lengths: Sequence[int], token_budget: int, *, tie: Sequence[bytes] | None = None
) -> list[Ints]:
    """Batches of row indices, longest rows first; padded to its longest row, a batch holds at most
    `token_budget` tokens, or one row.

    Equal lengths are ordered by `tie` (content digests), so shuffled rows give the same batches;
    without it by index. Raises ValueError for a budget below 1.
    """
    if token_budget < 1:
        raise ValueError(f"token_budget must be at least 1, not {token_budget}")
    ties = tie if tie is not None else [b""] * len(lengths)
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], ties[i], i))
    batches: list[Ints] = []
    start = 0
    while start < len(order):
        longest = max(lengths[order[start]], 1)
        size = max(token_budget // longest, 1)
        batches.append(np.array(order[start : start + size], dtype=np.int64))
        start += size
    return batches


def _digest(row: Encoded) -> bytes:
    digest = hashlib.blake2b(len(row.ids).to_bytes(8, "little"), digest_size=16)
    digest.update(row.ids.tobytes())
    digest.update(row.target.tobytes())
    return digest.digest()
