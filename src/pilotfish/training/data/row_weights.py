"""Attach sources and weights to tokenized rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pilotfish.data_order import row_name
from pilotfish.errors import DataError
from pilotfish.records import Example
from pilotfish.training.data.mixture import GOLD
from pilotfish.training.data.rows import TokenizedRows

Weight = float | NDArray[np.floating]


@dataclass(frozen=True)
class RowInfo:
    """What is known about examples besides their text, in their order; () where nothing is known.

    Attributes:
        sources: pool, gold (a person confirmed the row) or replay.
        weights: >= 0, one number for a row or [t] numbers for its supervised tokens. A row of
            weight 0 is left out.
    """

    sources: Sequence[str] = ()
    weights: Sequence[Weight] = ()

    def take(self, positions: Sequence[int]) -> "RowInfo":
        """Return the information on some of the examples."""
        return RowInfo(
            [self.sources[i] for i in positions] if len(self.sources) else (),
            [self.weights[i] for i in positions] if len(self.weights) else (),
        )


def with_sources(
    rows: TokenizedRows, examples: Sequence[Example], info: RowInfo | None
) -> TokenizedRows:
    """Attach source, trusted mark and weight to rows.

    Args:
        rows: Rows tokenized from `examples`, in any order; some may be left out.
        examples: All examples.
        info: In the order of `examples`; None changes nothing.

    Raises:
        DataError: A weight does not fit, is negative or not a number; or no row has a weight.
    """
    if info is None:
        return rows
    at = {row_name(one): place for place, one in enumerate(examples)}
    places = [at[name] for name in rows.names]
    for what, values in (("source", info.sources), ("weight", info.weights)):
        if len(values) not in (0, len(examples)):
            raise DataError(f"{len(examples):,} rows have {len(values):,} {what}s")
    if len(info.sources):
        sources = [info.sources[place] for place in places]
        rows = replace(rows, sources=sources, trusted=[source == GOLD for source in sources])
    if len(info.weights):
        rows = weigh_tokens(rows, [info.weights[place] for place in places])
    return rows


def weigh_tokens(rows: TokenizedRows, weights: Sequence[Weight]) -> TokenizedRows:
    """Multiply the weights of supervised tokens, and leave out rows of weight 0.

    Rows left out count among `unsupervised`.

    Args:
        rows: n rows.
        weights: [n] numbers, or [t] numbers for the supervised tokens of a row.

    Raises:
        DataError: A weight does not fit, is negative or not a number; or no row has a weight.
    """
    weighted: list[NDArray[np.floating]] = []
    for old, weight, name in zip(_token_weights(rows), weights, rows.names, strict=True):
        new, row = np.asarray(weight, dtype=np.float32), name.split("\0", 1)[0]
        if new.shape not in ((), old.shape):
            raise DataError(f"row '{row}' has {len(old)} supervised tokens and {new.size} weights")
        if not (np.isfinite(new).all() and (new >= 0).all()):
            raise DataError(f"row '{row}' has a weight that is no number of at least 0: {weight}")
        weighted.append(old * new)
    heavy = [place for place, weight in enumerate(weighted) if weight.sum() > 0]
    if not heavy:
        raise DataError(f"none of the {len(rows)} rows weighs anything")
    kept = replace(rows, weights=weighted).take(heavy)
    return replace(kept, unsupervised=rows.unsupervised + len(rows) - len(heavy))


def normalized(rows: TokenizedRows, by: Literal["tokens", "rows"]) -> TokenizedRows:
    """Weigh every token alike (`tokens`, no change), or every row (`rows`).

    By rows, a row weighs the mean weight of its tokens. The step divides by the weight of its rows,
    so a long answer counts no more than a short one.
    """
    if by == "tokens":
        return rows
    return replace(rows, weights=[one / np.float32(len(one)) for one in _token_weights(rows)])


def _token_weights(rows: TokenizedRows) -> list[NDArray[np.floating]]:
    """Return [t] the weight of every supervised token of each row; 1 if none was set."""
    return rows.weights or [np.ones(count, dtype=np.float32) for count in rows.tokens]
