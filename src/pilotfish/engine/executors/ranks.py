"""Ranks: equal processes, started by a launcher, share the shards of a run through leases."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pilotfish.engine.batches import Tick
from pilotfish.engine.executors.worker import RetryTracker, score_in_order
from pilotfish.engine.scorer import Receipt, ShardScorer
from pilotfish.engine.shard_files import shard_path
from pilotfish.errors import UsageError
from pilotfish.store import Leases, Store

PAUSE = 0.5  # seconds before looking again at shards that other ranks hold

# Environment variables that number processes, most exact first: (number, count).
_NUMBERED = (
    ("RANK", "WORLD_SIZE"),
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)


class Rank(NamedTuple):
    """Which of how many ranks this process is. It only decides where in the pool to begin."""

    rank: int
    world: int


class Waiting(NamedTuple):
    """Shards that other ranks hold and that this one waits for."""

    shards: list[int]


def parse_rank(rank: int | None, world: int | None, env: Mapping[str, str] = os.environ) -> Rank:
    """Return the rank given by --rank and --world, else by torchrun or Slurm in `env`.

    Raises:
        UsageError: The rank or the world size is missing, or the rank is not below the world size.
    """
    if rank is None and world is None:
        for number, count in _NUMBERED:
            if number in env and count in env:
                array = "ARRAY" in number  # arrays of Slurm may begin anywhere and take steps
                first = int(env.get("SLURM_ARRAY_TASK_MIN", 0)) if array else 0
                step = int(env.get("SLURM_ARRAY_TASK_STEP", 1)) if array else 1
                rank, world = (int(env[number]) - first) // step, int(env[count])
                break
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


def order(shards: int, rank: Rank) -> list[int]:
    """Return all shard numbers in the order in which a rank tries them: its own share first.

    The shares of the others follow, from the end. Every rank starts at another place in them, so
    that two ranks seldom meet.
    """
    own = [shard for shard in range(shards) if shard % rank.world == rank.rank]
    rest = [shard for shard in range(shards) if shard % rank.world != rank.rank]
    start = len(rest) * rank.rank // rank.world
    return own + (rest[start:] + rest[:start])[::-1]


def finished(store: Store, keys: Sequence[str], shard: int) -> bool:
    """Return whether every need of a shard, by its cache key, is committed and intact."""
    names = [f"{shard_path(key, shard)}.json" for key in keys]
    # names first: verifying the files of every shard at every look would be slow
    return all(store.path(name).exists() for name in names) and all(
        store.manifest(name) is not None for name in names
    )


def score_as_rank(
    scorer: ShardScorer,
    store: Store,
    leases: Leases,
    rank: Rank,
    shards: int,
    tick: Tick | None = None,
) -> Iterator[Receipt | Waiting]:
    """Measure every missing shard that no other rank holds, until none is missing.

    A shard that another rank holds is waited for, and measured here if that rank dies: one living
    rank finishes the run.

    Args:
        scorer: Measures a shard.
        store: The store of the run.
        leases: Leases of this rank; a lease on a shard keeps other ranks from it.
        rank: Which rank this is.
        shards: Number of shards of the pool.
        tick: Called with the number of rows after each batch.

    Yields:
        The receipt of each shard measured here, and Waiting whenever fewer shards are waited for.

    Raises:
        PilotfishError: A shard failed too often.
    """

    def claimed() -> Iterator[int]:
        for shard in left:
            if leases.take(str(shard)) and not finished(store, keys, shard):
                yield shard
                if len(left) <= 2 * rank.world:
                    return  # near the end, hold no shard that another rank could begin

    keys, retries = list(scorer.keys.values()), RetryTracker()
    left = order(shards, rank)
    waited_for = len(left) + 1
    while left := [s for s in left if s not in retries.lost and not finished(store, keys, s)]:
        idle = True
        for receipt in score_in_order(scorer, claimed(), retries, tick):
            idle = False
            leases.release(str(receipt.shard))
            yield receipt
        leases.release_all()
        if idle and len(left) < waited_for:
            waited_for = len(left)
            yield Waiting(left)
        if idle:
            time.sleep(PAUSE)
    retries.raise_if_lost()
