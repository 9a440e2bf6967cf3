"""Where rows come from and what they weigh: marks on rows that were tokenised."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pilotfish.errors import DataError
from pilotfish.records import Example
from pilotfish.training.data.mixture import GOLD
from pilotfish.training.data.rows import TokenizedRows

Weight = float | NDArray[np.floating]


@dataclass(frozen=True)
class RowInfo:
    """What is known about examples beside their text, in their order; () where nothing is.

    sources: pool, gold (a person vouches for the row) or replay. weights: >= 0, one number for a
    row or [t] numbers for its supervised tokens; a row of weight 0 is as if it were not there.
    """

    sources: Sequence[str] = ()
    weights: Sequence[Weight] = ()

    def take(self, positions: Sequence[int]) -> "RowInfo":
        """The same of some of the examples."""
        return RowInfo(
            [self.sources[i] for i in positions] if len(self.sources) else (),
            [self.weights[i] for i in positions] if len(self.weights) else (),
        )


def with_sources(
    rows: TokenizedRows, examples: Sequence[Example], known: RowInfo | None
) -> TokenizedRows:
    """The rows, tokenised from `examples`, with source, gold and weight.

    DataError for weights that do not fit, are negative or no numbers, and where no row weighs
    anything.
    """
    if known is None:
        return rows
    at = {f"{one.id}\0{one.digest}": place for place, one in enumerate(examples)}
    places = [at[name] for name in rows.names]
    if len(known.sources):
        _check_count("source", known.sources, examples)
        sources = [known.sources[place] for place in places]
        rows = replace(rows, sources=sources, gold=[source == GOLD for source in sources])
    if len(known.weights):
        _check_count("weight", known.weights, examples)
        rows = weigh_tokens(rows, [known.weights[place] for place in places])
    return rows


def _check_count(what: str, values: Sequence[object], examples: Sequence[Example]) -> None:
    if len(values) != len(examples):
        raise DataError(f"{len(examples):,} rows have {len(values):,} {what}s")


def weigh_tokens(rows: TokenizedRows, weights: Sequence[Weight]) -> TokenizedRows:
    """Every supervised token weighs as much more as `weights` says; weightless rows are left out.

    They count among `unsupervised`. Errors as in `marked`.
    """
    own = rows.weights or [np.ones(count, dtype=np.float32) for count in rows.tokens]
    pairs = zip(own, weights, rows.names, strict=True)
    new = [old * _fitting(weight, len(old), name) for old, weight, name in pairs]
    heavy = [place for place, weight in enumerate(new) if weight.sum() > 0]
    if not heavy:
        raise DataError(f"none of the {len(rows)} rows weighs anything")
    kept = replace(rows, weights=new).take(heavy)
    return replace(kept, unsupervised=rows.unsupervised + len(rows) - len(heavy))


def _fitting(weight: Weight, count: int, name: str) -> NDArray[np.float32]:
    found = np.asarray(weight, dtype=np.float32)
    row = name.split("\0", 1)[0]
    if found.shape not in ((), (count,)):
        raise DataError(f"row '{row}' has {count} supervised tokens and {found.size} weights")
    if not (np.isfinite(found).all() and (found >= 0).all()):
        raise DataError(f"row '{row}' has a weight that is no number of at least 0: {weight}")
    return np.broadcast_to(found, (count,))


def normalized(rows: TokenizedRows, by: Literal["tokens", "rows"]) -> TokenizedRows:
    """By tokens: as they are. By rows: every row weighs what the mean of its tokens weighs.

    The step then divides by the weight of its rows, so that a long answer counts no more than a
    short one.
    """
    if by == "tokens":
        return rows
    own = rows.weights or [np.ones(count, dtype=np.float32) for count in rows.tokens]
    return replace(rows, weights=[one / np.float32(len(one)) for one in own])
