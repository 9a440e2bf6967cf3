"""Facility location: the k rows that all rows together are most similar to.

Exact lazy greedy while the pool is small; beyond, rows are split at random, each part picks, and
the picks are picked from once more, in the manner of GreeDi (Mirzasoleiman et al. 2013,
arXiv:1411.0541; random parts: Barbosa et al. 2015, arXiv:1502.02606).
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.diversity.lazy_greedy import Greedy
from pilotfish.diversity.nearest import nearest_pick
from pilotfish.diversity.result import DiverseRows
from pilotfish.diversity.vectors import Rows, Vectors, gather
from pilotfish.errors import UsageError
from pilotfish.records import Floats, Ints, Mask

_EXACT_ROWS = 16_384
_PART_ROWS = 8_192  # all similarities of a part are held at once, 256 MB
_SPARE = 4  # a part picks this many times its share of k, so that the second round can choose
_LEAST = 64  # and no fewer than this
_MERGED = 16_384  # more candidates than this are not merged: each part picks its share only
_GROUND = 32_768  # rows the second round is judged on, at least; all where there are no more
_GROUND_PER_PICK = 16

Found = tuple[Ints, Floats, Ints, Floats]  # order [k], gain [k], nearest [m] pick, closeness [m]


def facility_location(
    vectors: NDArray[Any],
    k: int,
    tie: Ints,
    *,
    eligible: Mask | None = None,
    parts: int | None = None,
    seed: int = 0,
    scratch: Path | None = None,
) -> DiverseRows:
    """Pick k rows of `vectors` [n, d] that maximise sum_i max(0, max over kept j of cos(i, j)).

    parts: 1 is exact lazy greedy, at least 1 - 1/e of the best value; more are picked from apart
    and merged; None is 1 up to 16,384 usable rows and parts of at most 8,192 rows beyond. `gain` is
    what a pick added to the value, to 1e-4 and non-increasing (equal gains go by `tie`),
    `closeness` the cosine to `nearest`. `notes` holds `parts` and `value`.

    With several parts: every part picks the larger of 64 and 4·k/parts rows (k at most), and exact
    greedy picks k of all these, judged on a seeded sample of max(32,768, 16·k) rows, to which its
    gains are scaled up. Above some 8,000 picks the second round is left out: every part picks its
    share, `gain` is what a pick added within its part, times parts, and `nearest` is within the
    part. No bound is claimed for either (GreeDi's own asks for k picks from every part); on the
    test suite the first reaches 0.95 of full greedy and more, and the second 0.9. Memory:
    4·n·d bytes (see `gather`) and about 1 GB. Time grows with n·d·8,192 while k is small.
    Raises UsageError where k rows cannot be had.
    """
    rows = gather(vectors, tie, eligible=eligible, scratch=scratch)
    rows.require(k)
    m = len(rows)
    if parts is None:
        parts = 1 if m <= _EXACT_ROWS else -(-m // _PART_ROWS)
    if not 1 <= parts <= m:
        raise UsageError(f"{parts} parts were asked of {m} usable rows", hint="parts=1 is exact")
    if parts == 1:
        found = _exact(rows.values, k)
    else:
        found = _in_parts(rows.values, k, parts, np.random.default_rng(seed))
    return _answer(rows, found, parts)


def _exact(values: Vectors, k: int) -> Found:
    greedy = Greedy(values, values).run(k)
    order = np.array(greedy.order)
    return (order, np.array(greedy.gain), *nearest_pick(values, order))


def _in_parts(values: Vectors, k: int, parts: int, rng: np.random.Generator) -> Found:
    shuffled = rng.permutation(len(values))
    split = [np.sort(shuffled[part::parts]) for part in range(parts)]  # larger parts first
    each = min(k, max(_LEAST, -(-_SPARE * k // parts)), max(1, _MERGED // parts))
    if each * parts < 2 * k and each < k:
        return _shares(values, k, split)
    candidates = np.sort(np.concatenate([_pick(values, part, each)[0] for part in split]))
    ground = min(len(values), max(_GROUND, _GROUND_PER_PICK * k))
    judges = np.sort(rng.choice(len(values), ground, replace=False))
    greedy = Greedy(values[candidates], values[judges]).run(k)
    order = candidates[greedy.order]
    gain = np.array(greedy.gain) * (len(values) / ground)
    return (order, gain, *nearest_pick(values, order))


def _shares(values: Vectors, k: int, split: list[Ints]) -> Found:
    """Every part picks its share of k alone; the shares are merged by gain."""
    parts = len(split)
    orders: list[Ints] = []
    gains: list[Floats] = []
    nearest = np.full(len(values), -1)
    closeness = np.full(len(values), np.nan)
    for number, part in enumerate(split):
        share = k // parts + (number < k % parts)
        if not share:
            continue
        order, gain = _pick(values, part, share)
        found, closeness[part] = nearest_pick(values[part], np.searchsorted(part, order))
        nearest[part] = np.where(found < 0, -1, found + sum(len(order) for order in orders))
        orders.append(order)
        gains.append(gain * parts)
    order, gain = np.concatenate(orders), np.concatenate(gains)
    by_gain = np.lexsort((order, -gain))
    turn = np.append(np.argsort(by_gain), -1)  # new pick number of each old one; -1 stays
    return order[by_gain], gain[by_gain], turn[nearest], closeness


def _pick(values: Vectors, part: Ints, k: int) -> tuple[Ints, Floats]:
    """Exact greedy inside a part [p] of the rows: k places in `values` (p at most), and gains."""
    inside = values[part]
    greedy = Greedy(inside, inside).run(min(k, len(part)))
    return part[greedy.order], np.array(greedy.gain)


def _answer(rows: Rows, found: Found, parts: int) -> DiverseRows:
    order, gain, nearest, closeness = found
    kept = np.append(rows.index[order], -1)
    own = np.zeros(len(rows), dtype=bool)
    own[order] = True
    value = float(np.fmax(closeness[~own], 0.0).sum()) + len(order)  # a kept row covers itself
    return DiverseRows(
        order=rows.index[order],
        gain=gain,
        nearest=rows.spread(kept[nearest], -1),
        closeness=rows.spread(closeness, np.nan),
        reason=rows.reason,
        notes={"parts": parts, "value": value},
    )
