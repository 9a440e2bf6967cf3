"""Near-duplicate texts: MinHash finds candidate pairs, their exact Jaccard similarity decides.

Min-wise hashing: Broder 1997. Banding: Leskovec, Rajaraman & Ullman, Mining of Massive Datasets,
chapter 3.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pilotfish.diversity.results import Duplicates, rank_by_priority
from pilotfish.errors import UsageError
from pilotfish.records import NOT_ELIGIBLE, Floats, Ints, Mask, Texts
from pilotfish.selection.shingles import Hashes, shingles

NO_WORDS = "no_words"

_SHINGLES = 16_384  # hashed at a time, so that they stay in the cache of a core
_DEVIATIONS = 4.0  # standard errors below the threshold at which an estimate excludes a pair
_EXCLUDED = 3.2e-5  # the probability of that for a pair at the threshold (normal tail)

Signatures = NDArray[np.uint32]  # [n, permutations]


@dataclass(frozen=True, slots=True)
class Bands:
    """Signatures split into `count` bands of `rows` numbers; a shared band makes a candidate."""

    count: int
    rows: int

    def miss(self, similarity: float) -> float:
        """Return the probability that a pair of this Jaccard similarity shares no band."""
        return float((1 - similarity**self.rows) ** self.count)


def bands_for(threshold: float, permutations: int, miss: float) -> Bands:
    """Return the bands with the fewest candidates that find a pair often enough.

    Args:
        threshold: The Jaccard similarity of the pair.
        permutations: The length of a signature.
        miss: The highest probability that such a pair shares no band.

    Raises:
        UsageError: There are too few permutations for that.
    """
    for rows in range(permutations, 0, -1):
        bands = Bands(permutations // rows, rows)
        if bands.miss(threshold) <= miss:
            return bands
    raise UsageError(
        f"{permutations} permutations miss more than {miss:g} of the pairs at {threshold:g}",
        hint="use more permutations, a higher threshold or a higher miss",
    )


def near_duplicate_texts(
    texts: Sequence[str],
    threshold: float,
    tie: Ints,
    *,
    priority: Floats | None = None,
    eligible: Mask | None = None,
    words: int = 3,
    permutations: int = 128,
    miss: float = 0.01,
    seed: int = 0,
) -> Duplicates:
    """Find near-duplicate texts, best first: a text too similar to a kept one is dropped.

    No text is dropped wrongly. With 128 permutations and a threshold of 0.8 there are 21 bands of
    6, which miss 1.7e-3 of the pairs at 0.8 and 4e-7 at 0.9. Memory: 4·permutations bytes per
    text, and 8 bytes per shingle of texts that share a band. Time grows with pairs that share one.

    Args:
        texts: [n] texts; one without a word is not processed.
        threshold: The Jaccard similarity of shingle sets, in (0, 1], from which a text is dropped.
            Its keeper is the most similar kept text (of equals the first).
        tie: [n] the order among equal priorities, smallest first.
        priority: [n] texts with the highest value come first, nan last.
        eligible: [n] which texts to process; None for all.
        words: Words per shingle.
        permutations: The length of a signature.
        miss: The highest probability to miss a pair at the threshold.
        seed: The seed of the permutations.

    Raises:
        UsageError: The threshold is not in (0, 1], or there are too few permutations for `miss`.
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"threshold is a similarity above 0 and at most 1, got {threshold}")
    bands = bands_for(threshold, permutations, miss)
    signature, reason = _signatures(texts, words, bands.count * bands.rows, seed)
    if eligible is not None:
        reason[~eligible] = NOT_ELIGIBLE
    usable = np.flatnonzero(reason == "")
    order = usable[np.argsort(rank_by_priority(tie, priority)[usable], kind="stable")]
    search = _Search(signature, threshold, order, _shared(signature, order, bands))
    search.read(texts, words)
    for turn in range(len(order)):
        search.process(turn)
    return Duplicates(search.keeper, search.similarity, reason, bands.miss(threshold) + _EXCLUDED)


def _signatures(
    texts: Sequence[str], words: int, permutations: int, seed: int
) -> tuple[Signatures, Texts]:
    """[n, permutations] minimum hash per permutation, and [n] reasons of texts without a word."""
    rng = np.random.default_rng(seed)
    factor = rng.integers(0, 2**63, permutations, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    shift = rng.integers(0, 2**64, permutations, dtype=np.uint64)
    out = np.zeros((len(texts), permutations), dtype=np.uint32)
    reason = np.full(len(texts), NO_WORDS, dtype=object)
    for first, hashes, offsets in shingles(texts, words):
        full = np.flatnonzero(np.diff(offsets))
        reason[first + full] = ""
        for some in _batches(offsets, full):
            start, stop = offsets[some[0]], offsets[some[-1] + 1]
            at = offsets[some] - start
            for turn in range(permutations):
                permuted = hashes[start:stop] * factor[turn]
                permuted += shift[turn]
                out[first + some, turn] = np.minimum.reduceat(permuted, at) >> np.uint64(32)
    return out, reason


def _batches(offsets: Ints, full: Ints) -> Iterator[Ints]:
    """Batches of neighbouring texts with about `_SHINGLES` shingles; `full` [m] have any."""
    start = 0
    while start < len(full):
        end = int(np.searchsorted(offsets[full], offsets[full[start]] + _SHINGLES, side="right"))
        yield full[start : max(end, start + 1)]
        start = max(end, start + 1)


def _shared(signature: Signatures, order: Ints, bands: Bands) -> dict[int, list[int]]:
    """Row -> the buckets, numbered over all bands, that it shares with another usable row."""
    buckets: dict[int, list[int]] = {}
    used = 0
    for band in range(bands.count):
        part = signature[order, band * bands.rows : (band + 1) * bands.rows]
        key = np.zeros(len(order), dtype=np.uint64)
        for column in part.T:  # collisions cost time only: candidates are compared exactly
            key = (key ^ column) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(29)
        _, name, size = np.unique(key, return_inverse=True, return_counts=True)
        for place in np.flatnonzero(size[name] > 1):
            buckets.setdefault(int(order[place]), []).append(used + int(name[place]))
        used += len(size)
    return buckets


class _Search:
    """Compare every text with the kept texts that share a bucket with it."""

    def __init__(
        self, signature: Signatures, threshold: float, order: Ints, buckets: dict[int, list[int]]
    ) -> None:
        self.signature, self.threshold = signature, threshold
        self.order, self.buckets = order, buckets
        self.keeper = np.full(len(signature), -1)
        self.similarity = np.full(len(signature), np.nan)
        self.kept: dict[int, list[int]] = {}  # bucket -> turns of the kept rows in it
        self.sets: dict[int, Hashes] = {}  # distinct shingles of the rows in any bucket
        spread = _DEVIATIONS * np.sqrt(threshold * (1 - threshold) / signature.shape[1])
        self.lowest = threshold - spread

    def read(self, texts: Sequence[str], words: int) -> None:
        """Hash the texts in shared buckets again, for exact similarities."""
        rows = sorted(self.buckets)
        for first, hashes, offsets in shingles((texts[row] for row in rows), words):
            for place in range(len(offsets) - 1):
                found = np.unique(hashes[offsets[place] : offsets[place + 1]])
                self.sets[rows[first + place]] = found

    def process(self, turn: int) -> None:
        """Keep the row of a turn, or drop it for the most similar kept row."""
        row = int(self.order[turn])
        buckets = self.buckets.get(row, [])
        for other in self._likely(row, buckets):
            similarity = self._jaccard(row, other)
            if similarity >= self.threshold and not similarity <= self.similarity[row]:
                self.keeper[row], self.similarity[row] = other, similarity
        if self.keeper[row] < 0:
            for bucket in buckets:
                self.kept.setdefault(bucket, []).append(turn)

    def _likely(self, row: int, buckets: list[int]) -> list[int]:
        """Kept rows that share a bucket and whose estimate does not exclude them, by turn."""
        met: set[int] = set()
        met.update(*(self.kept.get(bucket, ()) for bucket in buckets))
        if not met:
            return []
        others = self.order[sorted(met)]
        alike = (self.signature[others] == self.signature[row]).mean(axis=1)
        return [int(other) for other in others[alike >= self.lowest]]

    def _jaccard(self, row: int, other: int) -> float:
        left, right = self.sets[row], self.sets[other]
        both = len(np.intersect1d(left, right, assume_unique=True))
        return both / (len(left) + len(right) - both)
