"""Prepare vectors: usable rows only, as fp32, in an order that does not depend on the files.

Every algorithm here works on rows sorted by `tie` (a rank by content hash and id). Shuffled input
therefore gives the same blocks, with the same bits, draws and ties, and the same result.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import UsageError
from pilotfish.records import NOT_ELIGIBLE, Floats, Ints, Mask, Texts

Vectors = NDArray[np.float32]  # [n, d]
Metric = Literal["cosine", "euclidean"]
NONFINITE = "nonfinite_vector"  # nan, infinite, or with an infinite squared length
ZERO = "zero_vector"  # has no direction and so no cosine
_BLOCK_BYTES = 32 << 20  # size of a block of rows


@dataclass(frozen=True, eq=False)
class Rows:
    """The usable rows [m, d] in tie order, and their positions in the caller's array."""

    values: Vectors  # [m, d], unit rows under the cosine metric
    index: Ints  # [m] position of each row in the caller's array
    reason: Texts  # [n] "" for a usable row, else why it is not usable

    def __len__(self) -> int:
        return len(self.index)

    def spread(self, values: NDArray[Any], missing: float) -> NDArray[Any]:
        """Return values [m] of the usable rows as [n] in the caller's order, else `missing`."""
        out = np.full(len(self.reason), missing, dtype=values.dtype)
        out[self.index] = values
        return out

    def require(self, k: int, what: str = "rows") -> None:
        """Raise UsageError if there are fewer than k usable rows, or k is below 1."""
        if not 1 <= k <= len(self):
            raise UsageError(
                f"cannot make {k} {what} of {len(self)} usable rows ({self._missing()})",
                hint=f"give a number from 1 to {len(self)}" if len(self) else None,
            )

    def _missing(self) -> str:
        codes, counts = np.unique(self.reason[self.reason != ""].astype(str), return_counts=True)
        named = [f"{count} {code}" for code, count in zip(codes, counts, strict=True)]
        return ", ".join(named) or "none left out"


def gather(
    vectors: NDArray[Any],
    tie: Ints,
    *,
    eligible: Mask | None = None,
    metric: Metric = "cosine",
    scratch: Path | None = None,
) -> Rows:
    """Copy the usable rows of `vectors` [n, d] (array or memmap, any float type) in tie order.

    The copy takes 4·n·d bytes of memory, or of an unnamed file that is deleted with the last user.
    Zero rows are usable under the euclidean metric only.

    Args:
        vectors: [n, d] embeddings.
        tie: [n] distinct integers, smallest first.
        eligible: [n] which rows may be used; None for all.
        metric: "cosine" scales the rows to length 1.
        scratch: The folder for the file; None uses memory.

    Raises:
        UsageError: Shapes disagree, or `tie` repeats a value.
    """
    _check(vectors, tie, eligible)
    reason = _reasons(vectors, eligible, metric)
    usable = np.flatnonzero(reason == "")
    index = usable[np.argsort(tie[usable], kind="stable")]
    place = np.full(len(vectors), -1, dtype=np.int64)
    place[index] = np.arange(len(index))
    values = _room((len(index), vectors.shape[1]), scratch)
    for start, stop in blocks(len(vectors), vectors.shape[1]):
        here = place[start:stop]
        block = np.asarray(vectors[start:stop])  # read in file order, written in tie order
        values[here[here >= 0]] = block[here >= 0]
    if metric == "cosine":
        _normalise(values)
    return Rows(values, index, reason)


def blocks(n: int, width: int, *, size: int = _BLOCK_BYTES) -> Iterator[tuple[int, int]]:
    """Iterate over (start, stop) of blocks of rows.

    Args:
        n: The number of rows.
        width: fp32 numbers per row.
        size: Bytes per block, approximately.
    """
    step = max(1, size // (4 * max(width, 1)))
    for start in range(0, n, step):
        yield start, min(n, start + step)


def _check(vectors: NDArray[Any], tie: Ints, eligible: Mask | None) -> None:
    if vectors.ndim != 2:
        raise UsageError(f"vectors must be [n, d], got shape {vectors.shape}")
    for name, given in (("tie", tie), ("eligible", eligible)):
        if given is not None and given.shape != (len(vectors),):
            raise UsageError(f"{name} must be [{len(vectors)}], got shape {given.shape}")
    if len(np.unique(tie)) != len(tie):
        raise UsageError("tie repeats a rank, so file order would decide between equal rows")


def _reasons(vectors: NDArray[Any], eligible: Mask | None, metric: Metric) -> Texts:
    reason = np.full(len(vectors), "", dtype=object)
    for start, stop in blocks(len(vectors), vectors.shape[1]):
        with np.errstate(over="ignore", invalid="ignore"):
            block = np.asarray(vectors[start:stop], dtype=np.float32)
            square = np.einsum("ij,ij->i", block, block)
        if metric == "cosine":
            reason[start:stop][~block.any(axis=1)] = ZERO
        reason[start:stop][~np.isfinite(square)] = NONFINITE
    if eligible is not None:
        reason[~eligible] = NOT_ELIGIBLE
    return reason


def _room(shape: tuple[int, int], scratch: Path | None) -> Vectors:
    if scratch is None or not shape[0]:
        return np.empty(shape, dtype=np.float32)
    with TemporaryFile(dir=scratch) as handle:
        return np.memmap(handle, dtype=np.float32, mode="w+", shape=shape)


def _normalise(values: Vectors) -> None:
    for start, stop in blocks(*values.shape):
        block = values[start:stop].astype(np.float64)
        norm = np.sqrt(np.einsum("ij,ij->i", block, block))
        values[start:stop] = block / norm[:, None]


def squares(values: Vectors) -> Floats:
    """Return [m] the squared length of every row, in float64."""
    out = np.empty(len(values))
    for start, stop in blocks(*values.shape):
        block = values[start:stop].astype(np.float64)
        out[start:stop] = np.einsum("ij,ij->i", block, block)
    return out


def products(values: Vectors, other: Vectors) -> Iterator[tuple[int, int, Vectors]]:
    """Iterate over (start, stop, values[start:stop] @ other.T) for rows [m, d] and others [c, d].

    The next tile, of about 32 MB, overwrites the last one: use it at once.
    """
    turned = np.ascontiguousarray(other.T)
    room: Vectors | None = None  # shared by all tiles, since new memory costs as much as a product
    for start, stop in blocks(len(values), len(other)):
        if room is None:
            room = np.empty((stop - start, len(other)), dtype=np.float32)
        tile = room[: stop - start]
        np.matmul(values[start:stop], turned, out=tile)
        yield start, stop, tile
