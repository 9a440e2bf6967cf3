"""Mix several sources of rows into every step, some with a fixed share of its weight."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from pilotfish.config import TrainConfig
from pilotfish.data_order import batches, shuffled
from pilotfish.training.classifier_module import ClassifierRows
from pilotfish.training.data.rows import TokenizedRows

GOLD, REPLAY, POOL = "gold", "replay", "pool"


def shares_of(rows: TokenizedRows | ClassifierRows, config: TrainConfig) -> dict[str, float]:
    """Return the share of each source that has a fixed one; {} if all rows form one stream.

    A share is of weighted supervised tokens. Replay rows always have one. Gold (trusted) rows have
    one where `gold_share` is set and there are other rows to learn. All other rows get the rest.
    """
    if isinstance(rows, ClassifierRows) or rows.sources is None:
        return {}
    present = set(rows.sources)
    wanted = {GOLD: config.gold_share or 0.0, REPLAY: config.replay_share}
    fixed = {name: share for name, share in wanted.items() if share and name in present}
    if not present - set(fixed):  # only gold and replay rows: gold ones get the rest
        fixed.pop(GOLD, None)
    return fixed if present - set(fixed) else {}


def draw_rows(
    rows: TokenizedRows | ClassifierRows,
    shares: Mapping[str, float],
    size: int,
    steps: int,
    *,
    seed: int,
) -> Iterator[list[int]]:
    """Yield the positions of the rows of each step: one stream of epochs, or mixed sources.

    Args:
        rows: All rows to learn.
        shares: From `shares_of`.
        size: Rows of a step.
        steps: Number of steps.
        seed: Of the order.
    """
    if not shares or isinstance(rows, ClassifierRows) or rows.sources is None:
        return batches(rows.names, size, steps, seed=seed)
    return mix_rows(rows, shares, size, steps, seed=seed)


def mix_rows(
    rows: TokenizedRows, shares: Mapping[str, float], size: int, steps: int, *, seed: int
) -> Iterator[list[int]]:
    """Yield steps in which every source has its share and cycles through its own rows.

    Each place goes to the source that is furthest behind its share of the weight drawn so far. With
    two sources any step is off by less than its heaviest row, and so is the whole run. The result
    depends on seed, names and weights only; the rows of the pool come in the order that they would
    have alone. Arguments as in `draw_rows`.
    """
    groups = _by_share(rows, shares)
    wanted = {**shares, "": 1 - sum(shares.values())}

    def endless(places: Sequence[int]) -> Iterator[int]:
        own = [rows.names[place] for place in places]
        for epoch in count():
            yield from (places[at] for at in shuffled(own, seed=seed, epoch=epoch))

    streams = {name: endless(places) for name, places in sorted(groups.items())}
    mass, drawn = rows.mass, dict.fromkeys(streams, 0.0)
    for _ in range(steps):
        step: list[int] = []
        while len(step) < size:
            total = sum(drawn.values())
            behind = {name: wanted[name] * total - drawn[name] for name in streams}
            name = max(streams, key=behind.__getitem__)
            step.append(next(streams[name]))
            drawn[name] += mass[step[-1]]
        yield step


def mix_facts(
    rows: TokenizedRows | ClassifierRows,
    shares: Mapping[str, float],
    size: int,
    steps: int,
    *,
    seed: int,
) -> dict[str, Any]:
    """Return {"mix": {source: share wanted and reached, rows, passes}} of a run's steps, or {}.

    Arguments as in `draw_rows`.
    """
    if not shares or isinstance(rows, ClassifierRows):
        return {}
    times: dict[int, int] = {}
    for step in mix_rows(rows, shares, size, steps, seed=seed):
        for place in step:
            times[place] = times.get(place, 0) + 1
    mass, groups = rows.mass, _by_share(rows, shares)
    total = sum(count * mass[place] for place, count in times.items())
    facts = {}
    for name, share in shares.items():
        places = groups[name]
        facts[name] = {
            "asked": share,
            "share": sum(times.get(place, 0) * mass[place] for place in places) / total,
            "rows": len(places),
            "passes": sum(times.get(place, 0) for place in places) / len(places),
        }
    return {"mix": facts}


def _by_share(rows: TokenizedRows, shares: Mapping[str, float]) -> dict[str, list[int]]:
    """Group positions by the source with a fixed share; all others under ""."""
    groups: dict[str, list[int]] = {}
    for place, source in enumerate(rows.sources or ()):
        groups.setdefault(source if source in shares else "", []).append(place)
    return groups
