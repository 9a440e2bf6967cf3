"""What a model says of some tokens: the block that every signal reduces."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pilotfish.records import Ints, Ragged

Column = NDArray[Any] | Ragged
Columns = dict[str, Column]


@dataclass(frozen=True)
class Tokens:
    """m tokens, row after row and each row's in order.

    rows: [m] which row each belongs to, in [0, n). at: [m] its place in the row's passage.
    facets: what is known of each: `nll` [m] nats, `entropy` [m] nats, `hit` [m] bool (the likeliest
    token was the true one), `top_ids` [m, k] int32 and `top_logs` [m, k] nats (likeliest first),
    `state` [m, d], `logs` [m, v] nats, `draws` [m, n] int32 ids.
    """

    rows: Ints
    at: Ints
    facets: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, chosen: NDArray[np.bool_]) -> "Tokens":
        """Only the tokens `chosen` [m]."""
        if chosen.all():
            return self
        facets = {name: values[chosen] for name, values in self.facets.items()}
        return Tokens(self.rows[chosen], self.at[chosen], facets)

    def add_to(self, totals: NDArray[np.float64], values: NDArray[Any]) -> None:
        """totals[row] += value, in float64 and token after token: cutting changes no bit."""
        np.add.at(totals, self.rows, values.astype(np.float64))


class Pieces:
    """Stretches of tokens that came in any order, put together row by row."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._rows: list[Ints] = []
        self._at: list[Ints] = []
        self._values: dict[str, list[NDArray[Any]]] = {}

    def add(self, tokens: Tokens, /, **values: NDArray[Any]) -> None:
        """Keep `values` [m, ...] of every token."""
        self._rows.append(tokens.rows)
        self._at.append(tokens.at)
        for name, column in values.items():
            self._values.setdefault(name, []).append(column)

    def ragged(self, name: str, dtype: DTypeLike, width: int = 1) -> Ragged:
        """`width` values of `dtype` per token, the tokens of a row in order."""
        rows = np.concatenate([np.zeros(0, np.int64), *self._rows])
        offsets = np.zeros(self._n + 1, dtype=np.int64)
        np.cumsum(np.bincount(rows, minlength=self._n) * width, out=offsets[1:])
        if not len(rows):
            return Ragged(np.zeros(0, dtype), offsets)
        order = np.lexsort((np.concatenate(self._at), rows))
        return Ragged(np.concatenate(self._values[name])[order].reshape(-1), offsets)
