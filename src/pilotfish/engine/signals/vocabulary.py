"""Facts about a distribution over the vocabulary, gathered tile by tile.

Logits arrive as tiles [m, w] of w neighbouring ids, so [m, v] never exists. Each fact is kept by
itself, so that its bits do not depend on which others are asked for.
"""

from collections.abc import Collection, Iterable, Iterator

import torch

Tile = tuple[int, torch.Tensor]  # first id, logits [m, w] in fp32
HEAD_FACETS = frozenset({"nll", "entropy", "hit", "top_ids", "top_logs", "logs", "draws"})
_WHOLE = {"logs", "draws"}  # these need all logits of a token at once
_DRAWN = 64  # tokens whose sums are held in double precision at a time


def facts(
    tiles: Iterable[Tile],
    targets: torch.Tensor,
    facets: Collection[str],
    k: int,
    *,
    real_ids: int | None = None,
    uniform: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """The facets asked for, of m tokens with the true ids `targets` [m]; see `Tokens`.

    real_ids: ids from here on pad the head and have no mass, as with logits of -inf.
    uniform: [m, n] float64 in [0, 1), what the n draws of each token are made of.
    """
    size = len(targets)
    low = targets.new_full((size,), float("-inf"), dtype=torch.float32)
    lse, chosen, entropy = low, torch.zeros_like(low), torch.zeros_like(low)
    best = (low, torch.zeros_like(targets))
    top = (low[:, None][:, :0], targets[:, None][:, :0])
    whole: list[torch.Tensor] = []
    for first, tile in _within(tiles, real_ids):
        part = tile.logsumexp(dim=1)
        total = torch.logaddexp(lse, part)
        if "entropy" in facets:
            inside = torch.special.entr(tile.softmax(dim=1)).sum(dim=1)
            both = _share(entropy, lse - total) + _share(inside, part - total)
            # a tile of ids that are ruled out adds nothing
            entropy = torch.where(part == -torch.inf, entropy, both)
        if "nll" in facets:
            chosen = torch.where(*_chosen(tile, targets - first), chosen)
        if "hit" in facets:
            best = _better(best, tile, first)
        if "top_ids" in facets:
            top = _top(top, tile, first, k)
        if not _WHOLE.isdisjoint(facets):
            whole.append(tile)
        lse = total
    found = {"nll": lse - chosen, "entropy": entropy, "hit": best[1] == targets}
    if "top_ids" in facets:
        found |= {"top_ids": top[1].int(), "top_logs": top[0] - lse[:, None]}
    if whole:
        logs = torch.cat(whole, dim=1) - lse[:, None]
        found |= (
            {"logs": logs} if uniform is None else {"logs": logs, "draws": _draw(logs, uniform)}
        )
    return {name: found[name] for name in facets}


def _within(tiles: Iterable[Tile], real_ids: int | None) -> Iterator[Tile]:
    for first, tile in tiles:
        if real_ids is None:
            yield first, tile
        elif first < real_ids:
            yield first, tile[:, : real_ids - first]


def _draw(logs: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """[m, n] ids drawn from log-probabilities [m, v], by inverting the distribution function."""
    drawn = []
    for some, at in zip(torch.split(logs, _DRAWN), torch.split(uniform, _DRAWN), strict=True):
        sums = some.double().exp().cumsum(dim=1)
        # to the right of equal sums, so that an id without mass is never drawn
        ids = torch.searchsorted(sums, at * sums[:, -1:], right=True)
        drawn.append(ids.clamp(max=logs.shape[1] - 1).int())
    return torch.cat(drawn) if drawn else uniform.int()


def _share(inside: torch.Tensor, log_mass: torch.Tensor) -> torch.Tensor:
    """What a part of the distribution adds to the entropy of the whole: no large terms cancel."""
    mass = log_mass.exp()
    spread: torch.Tensor = torch.special.entr(mass)
    return mass * inside + spread


def _chosen(tile: torch.Tensor, place: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    inside = (place >= 0) & (place < tile.shape[1])
    return inside, tile.gather(1, place.clamp(0, tile.shape[1] - 1)[:, None])[:, 0]


def _better(
    best: tuple[torch.Tensor, torch.Tensor], tile: torch.Tensor, first: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The likeliest id so far; of equals the lowest, as argmax over all would give."""
    value, place = tile.max(dim=1)
    better = value > best[0]
    return torch.where(better, value, best[0]), torch.where(better, place + first, best[1])


def _top(
    top: tuple[torch.Tensor, torch.Tensor], tile: torch.Tensor, first: int, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    values, places = tile.topk(min(k, tile.shape[1]), dim=1)
    values = torch.cat([top[0], values], dim=1)
    ids = torch.cat([top[1], places + first], dim=1)
    kept, order = values.topk(min(k, values.shape[1]), dim=1)
    return kept, ids.gather(1, order)
