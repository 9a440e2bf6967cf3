"""The block of tokens that every signal reduces, and the builder of ragged columns."""

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
    """m tokens, row after row, the tokens of a row in order.

    facets: arrays by name: `nll` [m] nats, `entropy` [m] nats, `hit` [m] bool (the likeliest token
    is the true one), `top_ids` [m, k] int32 and `top_logs` [m, k] nats (likeliest first),
    `state` [m, d], `logs` [m, v] nats, `draws` [m, n] int32 ids.
    """

    rows: Ints  # [m] the row of each token, in [0, n)
    positions: Ints  # [m] its position in the row's passage
    facets: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, mask: NDArray[np.bool_]) -> "Tokens":
        """Return the tokens where `mask` [m] is true."""
        if mask.all():
            return self
        facets = {name: values[mask] for name, values in self.facets.items()}
        return Tokens(self.rows[mask], self.positions[mask], facets)

    def add_to(self, totals: NDArray[np.float64], values: NDArray[Any]) -> None:
        """Add `values` [m] to `totals` [n] in float64, token after token.

        The order of additions is that of the tokens, so block boundaries change no bit.
        """
        np.add.at(totals, self.rows, values.astype(np.float64))


class RaggedBuilder:
    """Per-token values that arrive in any order, collected into one ragged column per name."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._rows: list[Ints] = []
        self._positions: list[Ints] = []
        self._values: dict[str, list[NDArray[Any]]] = {}

    def add(self, tokens: Tokens, /, **values: NDArray[Any]) -> None:
        """Keep arrays [m, ...] by name, one entry per token."""
        self._rows.append(tokens.rows)
        self._positions.append(tokens.positions)
        for name, column in values.items():
            self._values.setdefault(name, []).append(column)

    def ragged(self, name: str, dtype: DTypeLike, width: int = 1) -> Ragged:
        """Return `width` values per token, rows ascending and the tokens of a row in order."""
        rows = np.concatenate([np.zeros(0, np.int64), *self._rows])
        offsets = np.zeros(self._n + 1, dtype=np.int64)
        np.cumsum(np.bincount(rows, minlength=self._n) * width, out=offsets[1:])
        if not len(rows):
            return Ragged(np.zeros(0, dtype), offsets)
        order = np.lexsort((np.concatenate(self._positions), rows))
        return Ragged(np.concatenate(self._values[name])[order].reshape(-1), offsets)
