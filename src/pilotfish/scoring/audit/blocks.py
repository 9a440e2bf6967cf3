"""Which rows a walk asks for next: blocks outward from a cut, until enough of them are clean."""

from dataclasses import dataclass

import numpy as np

from pilotfish.records import Floats, Ints
from pilotfish.scoring.audit.strata import Mask

_ENOUGH = 30  # errors in a stratum; with fewer, those of all strata speak for it
# One error in a thousand is left out of what sets a block's extent: a row that broke down would
# make the walk take the whole pool, and such rows, being anywhere, are the audit's business.
_BROKEN = 0.001


@dataclass(frozen=True, slots=True)
class Rule:
    """When a walk stops and what is audited after it; benchmarks/audited_cut.py chose the numbers.

    A walk ends after `clean` successive blocks without a flip. A block holds at least `rows` rows
    (None: `block_rows(n)`) and spans at least `width` rms errors and `reach` of the largest error
    met so far: three of them reach 1.5 times further than any error did. `strata`: groups of
    length that are walked apart. `audit`: random rows re-measured outside (None: `audit_rows(n)`),
    drawn by `seed`.
    """

    clean: int = 3
    rows: int | None = None
    width: float = 1.5
    reach: float = 0.5
    strata: int = 4
    audit: int | None = None
    confidence: float = 0.95
    seed: int = 0


def block_rows(n: int) -> int:
    """Fewest rows of a block in a pool of n: what 2 cuts ask first is then 60 rows, or 2.4%."""
    return max(5, n // 2_000)


def audit_rows(n: int) -> int:
    """Random rows re-measured outside a walk in a pool of n: 2% of it, so that speed stays speed.

    3,000 at most, where no flip bounds their share by 0.1%; 300 at least, where it is 1%.
    """
    return min(max(n // 50, 300), 3_000)


def spans(errors: Floats, stratum: Ints, rule: Rule) -> Floats:
    """[strata] least extent of a block, from the errors [n] met so far (nan: none met).

    Errors are differences on the axis times sqrt(length), as distances in a queue are.
    """
    met = np.isfinite(errors)
    count = int(stratum.max(initial=0)) + 1
    inside = [met & (stratum == label) for label in range(count)]
    return np.array(
        [_span(errors[mask if mask.sum() >= _ENOUGH else met], rule) for mask in inside]
    )


def _span(errors: Floats, rule: Rule) -> float:
    if not len(errors):
        return 0.0
    sizes = np.sort(np.abs(errors))[: len(errors) - int(_BROKEN * len(errors))]
    return max(rule.width * float(np.sqrt(np.mean(sizes**2))), rule.reach * float(sizes[-1]))


def audit_budget(
    far: Floats, flips: Ints, span: float, *, rows: int, clean: int
) -> tuple[Mask, int]:
    """Which rows of a queue must be re-measured [m], and how many blocks that is.

    far [m]: distances from the cut, ascending. flips: positions known to flip. The first `clean`
    blocks, and as many on both sides of every block with a flip.
    """
    edges = _edges(far, int(flips.max(initial=-1)), span, rows=rows, clean=clean)
    blocks = np.zeros(len(edges) - 1, dtype=bool)
    blocks[:clean] = True
    for block in np.unique(np.searchsorted(edges, flips, side="right") - 1):
        blocks[max(0, block - clean) : block + 1 + clean] = True
    return np.repeat(blocks, np.diff(edges)), int(blocks.sum())


def _edges(far: Floats, last: int, span: float, *, rows: int, clean: int) -> Ints:
    """Positions where blocks begin, ending `clean` blocks past `last` and then at m itself."""
    edges, beyond = [0], 0
    while edges[-1] < len(far) and beyond < clean:
        start = edges[-1]
        beyond += start > last
        wide = int(np.searchsorted(far, far[start] + span, side="right"))
        edges.append(min(len(far), max(start + rows, wide)))
    return np.array(edges if edges[-1] == len(far) else [*edges, len(far)], dtype=np.int64)
