"""Vectors made ready: usable rows only, fp32, in an order that no file decides.

Every algorithm of this room works on rows sorted by `tie` (a rank by content hash and id). Shuffled
input therefore gives the same blocks, so the same bits, draws and ties, and the same selected set.
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
NONFINITE = "nonfinite_vector"  # nan, infinite, or so long that its square is
ZERO = "zero_vector"  # has no direction, so no cosine to anything
_BLOCK_BYTES = 32 << 20  # of rows moved at a time


@dataclass(frozen=True, eq=False)
class Rows:
    """The usable rows [m, d] in the order of their tie rank, and where they came from."""

    values: Vectors  # [m, d], unit rows under the cosine metric
    index: Ints  # [m] place of each row in the caller's array
    reason: Texts  # [n] "" for the rows that are here, else why a row is not

    def __len__(self) -> int:
        return len(self.index)

    def spread(self, values: NDArray[Any], missing: float) -> NDArray[Any]:
        """[m] values of the usable rows -> [n] in the caller's order, `missing` elsewhere."""
        out = np.full(len(self.reason), missing, dtype=values.dtype)
        out[self.index] = values
        return out

    def require(self, k: int, what: str = "rows") -> None:
        """Refuse a k that these rows cannot give."""
        if not 1 <= k <= len(self):
            raise UsageError(
                f"{k} {what} were asked of {len(self)} usable rows ({self._missing()})",
                hint=f"ask for 1 to {len(self)}" if len(self) else None,
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

    tie: [n] distinct integers, the smaller first. eligible: [n] rows that may be used, all where
    None. The copy takes 4·n·d bytes: of memory, or of a nameless file in the folder `scratch`,
    which is gone when the last user is. Zero rows are usable under the euclidean metric only.
    Raises UsageError where shapes disagree or ties repeat.
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
    """(start, stop) of runs of rows, `width` fp32 numbers each, that take about `size` bytes."""
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
    """[m] squared length of every row, in float64."""
    out = np.empty(len(values))
    for start, stop in blocks(*values.shape):
        block = values[start:stop].astype(np.float64)
        out[start:stop] = np.einsum("ij,ij->i", block, block)
    return out


def products(values: Vectors, other: Vectors) -> Iterator[tuple[int, int, Vectors]]:
    """(start, stop, values[start:stop] @ other.T) for rows [m, d] and others [c, d].

    The tile of about 32 MB is written over by the next one: use it at once.
    """
    turned = np.ascontiguousarray(other.T)
    room: Vectors | None = None  # one for all tiles: fresh memory costs as much as the product
    for start, stop in blocks(len(values), len(other)):
        if room is None:
            room = np.empty((stop - start, len(other)), dtype=np.float32)
        tile = room[: stop - start]
        np.matmul(values[start:stop], turned, out=tile)
        yield start, stop, tile
