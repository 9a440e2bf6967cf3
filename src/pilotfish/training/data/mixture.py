"""Several sources of rows in every step, some with a fixed share of what the step weighs."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from pilotfish.config import TrainConfig
from pilotfish.data_order import shuffled
from pilotfish.training.classifier_module import ClassifierRows
from pilotfish.training.data.order import batches
from pilotfish.training.data.rows import TokenizedRows

GOLD, REPLAY, POOL = "gold", "replay", "pool"


def shares_of(rows: TokenizedRows | ClassifierRows, config: TrainConfig) -> dict[str, float]:
    """The share of each source that has a fixed one; {} where all rows form one stream.

    A share is of supervised tokens, as weighted. Replay rows always have one, gold rows where
    `gold_share` says so and there is something beside them; what is left goes to all other rows.
    """
    if isinstance(rows, ClassifierRows) or rows.sources is None:
        return {}
    there = set(rows.sources)
    asked = {GOLD: config.gold_share or 0.0, REPLAY: config.replay_share}
    fixed = {name: share for name, share in asked.items() if share and name in there}
    if not there - set(fixed):  # nothing but vouched and old rows: the vouched are what is learnt
        fixed.pop(GOLD, None)
    return fixed if there - set(fixed) else {}


def draw_rows(
    rows: TokenizedRows | ClassifierRows,
    shares: Mapping[str, float],
    size: int,
    steps: int,
    *,
    seed: int,
) -> Iterator[list[int]]:
    """`steps` lists of `size` positions: one stream of epochs, or `mixed` ones."""
    if not shares or isinstance(rows, ClassifierRows) or rows.sources is None:
        return batches(rows.names, size, steps, seed=seed)
    return mix_rows(rows, shares, size, steps, seed=seed)


def mix_rows(
    rows: TokenizedRows, shares: Mapping[str, float], size: int, steps: int, *, seed: int
) -> Iterator[list[int]]:
    """Steps in which every source has its share, and cycles through its own rows by itself.

    Each place goes to the source that is furthest behind its share of all that was drawn so far,
    so that with two sources any step is off by less than its heaviest row, and the run by no more.
    A pure function of seed, names and weights: the rows of the pool come in the order that they
    would have alone.
    """
    groups = grouped(rows, shares)
    wanted = {**shares, "": 1 - sum(shares.values())}
    streams = {
        name: _endless(places, rows.names, seed=seed) for name, places in sorted(groups.items())
    }
    weigh, have = rows.mass, dict.fromkeys(streams, 0.0)
    for _ in range(steps):
        step: list[int] = []
        while len(step) < size:
            total = sum(have.values())
            behind = {name: wanted[name] * total - have[name] for name in streams}
            name = max(streams, key=behind.__getitem__)
            step.append(next(streams[name]))
            have[name] += weigh[step[-1]]
        yield step


def grouped(rows: TokenizedRows, shares: Mapping[str, float]) -> dict[str, list[int]]:
    """Positions by the source with a share of its own; all others under ""."""
    groups: dict[str, list[int]] = {}
    for place, source in enumerate(rows.sources or ()):
        groups.setdefault(source if source in shares else "", []).append(place)
    return groups


def _endless(places: Sequence[int], names: Sequence[str], *, seed: int) -> Iterator[int]:
    own = [names[place] for place in places]
    for epoch in count():
        yield from (places[at] for at in shuffled(own, seed=seed, epoch=epoch))


def mix_facts(
    rows: TokenizedRows | ClassifierRows,
    shares: Mapping[str, float],
    size: int,
    steps: int,
    *,
    seed: int,
) -> dict[str, Any]:
    """{"mix": {source: share asked for, share it had, rows, passes}} of a run's steps, or {}."""
    if not shares or isinstance(rows, ClassifierRows):
        return {}
    seen: dict[int, int] = {}
    for step in mix_rows(rows, shares, size, steps, seed=seed):
        for place in step:
            seen[place] = seen.get(place, 0) + 1
    mass, groups = rows.mass, grouped(rows, shares)
    total = sum(times * mass[place] for place, times in seen.items())
    drawn_of = {
        name: sum(seen.get(p, 0) * mass[p] for p in places) for name, places in groups.items()
    }
    return {
        "mix": {
            name: {
                "asked": share,
                "share": drawn_of[name] / total,
                "rows": len(groups[name]),
                "passes": sum(seen.get(p, 0) for p in groups[name]) / len(groups[name]),
            }
            for name, share in shares.items()
        }
    }
