"""The block of tokens that every signal reduces, and what is gathered of it over a vocabulary."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
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


Tile = tuple[int, torch.Tensor]  # first id, logits [m, w] in fp32
Facets = dict[str, torch.Tensor]
HEAD_FACETS = frozenset({"nll", "entropy", "hit", "top_ids", "top_logs", "logs", "draws"})
_ALL_LOGITS = {"logs", "draws"}  # facets that need all logits of a token at once
_DRAW_TOKENS = 64  # tokens whose cumulative sums are held in float64 at a time


@dataclass(frozen=True)
class FacetRequest:
    """The facets to gather for m tokens."""

    names: frozenset[str]  # of HEAD_FACETS; `Tokens` lists their shapes
    targets: torch.Tensor  # [m] int64, the true ids
    k: int = 0  # columns of `top_ids` and `top_logs`
    real_ids: int | None = None  # ids from here on pad the head: no probability, as logits of -inf
    uniform: torch.Tensor | None = None  # [m, n] float64 in [0, 1), which decide the n `draws`

    def rows(self, some: slice) -> "FacetRequest":
        """Return the request for some of the tokens."""
        uniform = None if self.uniform is None else self.uniform[some]
        return replace(self, targets=self.targets[some], uniform=uniform)


def gather_in_blocks(
    gather_block: Callable[[torch.Tensor, FacetRequest], Facets],
    states: torch.Tensor,
    request: FacetRequest,
    size: int,
) -> Facets:
    """Gather facets for at most `size` tokens at a time and concatenate them.

    Args:
        gather_block: Returns the facets of one block; also called once where there is no token.
        states: [m, d] one row per token.
        request: The facets of the m tokens.
        size: Tokens per block.
    """
    blocks = [slice(first, first + size) for first in range(0, max(len(states), 1), size)]
    parts = [gather_block(states[block], request.rows(block)) for block in blocks]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def gather(tiles: Iterable[Tile], request: FacetRequest) -> Facets:
    """Return the requested facets of m tokens from tiles of their logits, ids ascending."""
    names, targets = request.names, request.targets
    low = targets.new_full((len(targets),), float("-inf"), dtype=torch.float32)
    lse, true_logit, entropy = low, torch.zeros_like(low), torch.zeros_like(low)
    best, best_id = low, torch.zeros_like(targets)
    top, top_ids = low[:, None][:, :0], targets[:, None][:, :0]
    logits: list[torch.Tensor] = []
    for first, tile in tiles:
        if request.real_ids is not None:
            if first >= request.real_ids:
                continue
            tile = tile[:, : request.real_ids - first]
        tile_lse = tile.logsumexp(dim=1)
        total = torch.logaddexp(lse, tile_lse)
        if "entropy" in names:
            inside = torch.special.entr(tile.softmax(dim=1)).sum(dim=1)
            both = _entropy_share(entropy, lse - total) + _entropy_share(inside, tile_lse - total)
            # a tile whose ids all have logits of -inf adds nothing
            entropy = torch.where(tile_lse == -torch.inf, entropy, both)
        if "nll" in names:
            place = targets - first
            inside_tile = (place >= 0) & (place < tile.shape[1])
            found = tile.gather(1, place.clamp(0, tile.shape[1] - 1)[:, None])[:, 0]
            true_logit = torch.where(inside_tile, found, true_logit)
        if "hit" in names:  # of equal logits the lowest id, as argmax over all would give
            value, place = tile.max(dim=1)
            best_id = torch.where(value > best, place + first, best_id)
            best = torch.where(value > best, value, best)
        if "top_ids" in names:
            values, places = tile.topk(min(request.k, tile.shape[1]), dim=1)
            candidates = torch.cat([top, values], dim=1)
            top, order = candidates.topk(min(request.k, candidates.shape[1]), dim=1)
            top_ids = torch.cat([top_ids, places + first], dim=1).gather(1, order)
        if not names.isdisjoint(_ALL_LOGITS):
            logits.append(tile)
        lse = total
    facets = {"nll": lse - true_logit, "entropy": entropy, "hit": best_id == targets}
    if "top_ids" in names:
        facets |= {"top_ids": top_ids.int(), "top_logs": top - lse[:, None]}
    if logits:
        facets["logs"] = torch.cat(logits, dim=1) - lse[:, None]
        if request.uniform is not None:
            facets["draws"] = _draw(facets["logs"], request.uniform)
    return {name: facets[name] for name in names}


def _entropy_share(entropy: torch.Tensor, log_mass: torch.Tensor) -> torch.Tensor:
    """Return what a part of the distribution adds to the entropy of the whole.

    Grouping property of entropy: no large terms cancel.
    """
    mass = log_mass.exp()
    of_mass: torch.Tensor = torch.special.entr(mass)
    return mass * entropy + of_mass


def _draw(logs: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Return [m, n] ids drawn from log-probabilities [m, v] by inverse transform sampling."""
    drawn = []
    blocks = zip(torch.split(logs, _DRAW_TOKENS), torch.split(uniform, _DRAW_TOKENS), strict=True)
    for block, points in blocks:
        sums = block.double().exp().cumsum(dim=1)
        # to the right of equal sums, so that an id without mass is never drawn
        ids = torch.searchsorted(sums, points * sums[:, -1:], right=True)
        drawn.append(ids.clamp(max=logs.shape[1] - 1).int())
    return torch.cat(drawn) if drawn else uniform.int()
