"""Which rows make up which step: a pure function of seed, epoch and row, never of file order."""

from collections.abc import Iterator, Sequence
from itertools import count, islice

from pilotfish.data_order import shuffled


def batches(names: Sequence[str], size: int, steps: int, *, seed: int) -> Iterator[list[int]]:
    """`steps` lists of `size` positions; epochs follow one another without a gap."""
    stream = (position for epoch in count() for position in shuffled(names, seed=seed, epoch=epoch))
    for _ in range(steps):
        yield list(islice(stream, size))


def micro_batches(
    rows: Sequence[int], lengths: Sequence[int], size: int, *, rank: int = 0, world: int = 1
) -> list[list[int]]:
    """One rank's share of a step, cut into micro-batches of at most `size` rows of like length.

    Grouping by length stays inside the step: the step's rows, hence its gradient, do not change,
    only the padding does.
    """
    longest_first = sorted(rows, key=lambda row: -lengths[row])
    mine = longest_first[rank::world]
    return [mine[start : start + size] for start in range(0, len(mine), size)]
