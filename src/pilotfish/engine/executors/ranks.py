"""Ranks: equal processes started by somebody else share a run's shards through leases."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pilotfish.engine.batches import Tick
from pilotfish.engine.executors.failures import RetryTracker
from pilotfish.engine.executors.local import loop
from pilotfish.engine.scorer import Receipt, ShardScorer
from pilotfish.engine.shard_files import shard_path
from pilotfish.errors import UsageError
from pilotfish.store import Leases, Store

PAUSE = 0.5  # seconds between two looks at what others have in hand

# Who numbers processes, most exact first: (number, count). Arrays of Slurm may begin anywhere.
_NUMBERED = (
    ("RANK", "WORLD_SIZE"),
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)


class Rank(NamedTuple):
    """Which of how many ranks this is: where in the pool to begin, nothing more."""

    rank: int
    world: int


def parse_rank(rank: int | None, world: int | None, env: Mapping[str, str] = os.environ) -> Rank:
    """The place given, else what torchrun or Slurm say. Raises UsageError where nobody says it."""
    if rank is None and world is None:
        rank, world = _numbered(env)
    if rank is None or world is None:
        raise UsageError(
            "ranks need a number and a count",
            hint="pass --rank I --world N, or start it with torchrun, srun or a Slurm array",
        )
    if not 0 <= rank < world:
        raise UsageError(
            f"--rank {rank} of --world {world}: ranks are numbered from 0 to {world - 1}"
        )
    return Rank(rank, world)


def _numbered(env: Mapping[str, str]) -> tuple[int | None, int | None]:
    for number, count in _NUMBERED:
        if number in env and count in env:
            first = int(env.get("SLURM_ARRAY_TASK_MIN", 0)) if "ARRAY" in number else 0
            step = int(env.get("SLURM_ARRAY_TASK_STEP", 1)) if "ARRAY" in number else 1
            return (int(env[number]) - first) // step, int(env[count])
    return None, None


def order(shards: int, place: Rank) -> list[int]:
    """All shards, this rank's own first; what others have not begun comes after, far ones first.

    Every rank walks through the others' shares from another place, so that they seldom meet.
    """
    own = [shard for shard in range(shards) if shard % place.world == place.rank]
    rest = [shard for shard in range(shards) if shard % place.world != place.rank]
    start = len(rest) * place.rank // place.world
    return own + (rest[start:] + rest[:start])[::-1]


def finished(store: Store, keys: Sequence[str], shard: int) -> bool:
    """Whether every need of a shard is committed and intact; keys: of the needs."""
    names = [f"{shard_path(key, shard)}.json" for key in keys]
    # asking for the names first: reading files again at every look would be dear
    return all(store.path(name).exists() for name in names) and all(
        store.manifest(name) is not None for name in names
    )


def score_as_rank(
    scorer: ShardScorer,
    store: Store,
    leases: Leases,
    place: Rank,
    *,
    shards: int,
    tries: RetryTracker,
    on_wait: Callable[[list[int]], None],
    tick: Tick | None = None,
) -> Iterator[Receipt]:
    """Measure whatever is missing and free, this rank's share first, until nothing is missing.

    What another rank has in hand is waited for, and measured here should that rank die: so one
    rank that lives is enough. `on_wait` hears what is waited for, each time that it is less.
    """

    def claimed() -> Iterator[int]:
        for shard in left:
            if leases.take(str(shard)) and not finished(store, keys, shard):
                yield shard
                if len(left) <= 2 * place.world:
                    return  # near the end nobody holds one that another could begin

    keys = list(scorer.keys.values())
    left = order(shards, place)
    waited_for = len(left) + 1
    while left := [s for s in left if s not in tries.lost and not finished(store, keys, s)]:
        idle = True
        for receipt in loop(scorer, claimed(), tries, tick):
            idle = False
            leases.release(str(receipt.shard))
            yield receipt
        leases.release_all()
        if idle and len(left) < waited_for:
            waited_for = len(left)
            on_wait(left)
        if idle:
            time.sleep(PAUSE)
