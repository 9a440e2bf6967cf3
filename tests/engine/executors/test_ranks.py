"""Ranks: who begins where, what is left by others is taken, what others hold is waited for."""

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pilotfish.engine.executors import ranks as module
from pilotfish.engine.executors.ranks import (
    Rank,
    Waiting,
    finished,
    order,
    parse_rank,
    score_as_rank,
)
from pilotfish.errors import PilotfishError, UsageError
from pilotfish.store import Store, working
from tests.engine.executors.fakes import FakeScorer


def commit(store: Store, shard: int, text: str = "x") -> None:
    with store.attempt(f"signals/key/part-{shard:05d}.json") as attempt:
        attempt.path(f"signals/key/part-{shard:05d}.parquet").write_text(text)


def part_of(
    root: Path,
    rank: Rank,
    shards: int,
    *,
    on_wait: Callable[[list[int]], None] = lambda left: None,
    bad: int = -1,
) -> FakeScorer:
    store = Store(root)

    def measure(shard: int) -> None:
        if shard == bad:
            raise RuntimeError("bad luck")
        commit(store, shard)

    scorer: Any = FakeScorer(measure)
    with working(root) as leases:
        for event in score_as_rank(scorer, store, leases, rank, shards):
            if isinstance(event, Waiting):
                on_wait(event.shards)
            else:
                assert finished(store, ["key"], event.shard)
    return scorer


def test_places_come_from_options_torchrun_or_slurm() -> None:
    array = {
        "SLURM_ARRAY_TASK_ID": "14", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "10",
        "SLURM_ARRAY_TASK_STEP": "2", "SLURM_PROCID": "0", "SLURM_NTASKS": "1",
    }  # fmt: skip
    assert parse_rank(1, 4, {}) == (1, 4)
    assert parse_rank(None, None, {"RANK": "3", "WORLD_SIZE": "4", **array}) == (3, 4)
    assert parse_rank(None, None, array) == (2, 3)
    assert parse_rank(None, None, {"SLURM_PROCID": "5", "SLURM_NTASKS": "8"}) == (5, 8)
    assert parse_rank(0, 1, {"RANK": "3", "WORLD_SIZE": "4"}) == (0, 1)


@pytest.mark.parametrize(
    ("rank", "world", "words"),
    [(2, 2, "from 0 to 1"), (-1, 2, "from 0"), (0, None, "a count"), (None, None, "torchrun")],
)
def test_places_that_are_none(rank: int | None, world: int | None, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_rank(rank, world, {})
    assert words in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(("shards", "world"), [(0, 1), (1, 3), (7, 3), (12, 4)])
def test_every_rank_knows_every_shard_its_own_first(shards: int, world: int) -> None:
    orders = [order(shards, Rank(rank, world)) for rank in range(world)]
    assert all(sorted(one) == list(range(shards)) for one in orders)
    own = [shard for rank, one in enumerate(orders) for shard in one if shard % world == rank]
    assert sorted(own) == list(range(shards))
    for rank, one in enumerate(orders):
        count = len(range(rank, shards, world))
        assert all(shard % world == rank for shard in one[:count])


def test_one_rank_of_many_measures_everything(tmp_path: Path) -> None:
    scorer = part_of(tmp_path, Rank(1, 3), 7)
    assert sorted(scorer.measured) == list(range(7))
    again = part_of(tmp_path, Rank(0, 3), 7)
    assert again.measured == []


def test_damaged_parts_are_measured_again(tmp_path: Path) -> None:
    part_of(tmp_path, Rank(0, 1), 3)
    (tmp_path / "signals/key/part-00001.parquet").write_text("?")
    again = part_of(tmp_path, Rank(0, 1), 3)
    assert again.measured == [1]


def test_what_another_rank_holds_is_waited_for_and_taken_when_it_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.02)
    waits: list[list[int]] = []
    with working(tmp_path) as other:
        assert other.take("2") and other.take("4")
        dying = threading.Timer(0.1, lambda: (commit(Store(tmp_path), 4), other.release_all()))

        def wait(left: list[int]) -> None:
            waits.append(left)
            if len(waits) == 1:  # not by the clock: on a busy machine 0.1 s are nothing
                dying.start()

        scorer = part_of(tmp_path, Rank(0, 2), 6, on_wait=wait)
        dying.join()
    assert sorted(scorer.measured) == [0, 1, 2, 3, 5]  # 4 was finished by its holder, 2 was not
    assert waits in ([[2, 4]], [[2, 4], [2]])  # each time that it is less


def test_a_shard_that_fails_for_good_does_not_keep_a_rank_for_ever(tmp_path: Path) -> None:
    with pytest.raises(PilotfishError, match="shard 3 failed 3 times"):
        part_of(tmp_path, Rank(0, 2), 5, bad=3)
    assert [finished(Store(tmp_path), ["key"], i) for i in range(5)] == [True] * 3 + [False, True]
    with working(tmp_path) as later:
        assert later.take("3")


def test_ranks_side_by_side_share_the_work(tmp_path: Path) -> None:
    done: dict[int, list[int]] = {}
    abreast = threading.Barrier(3, timeout=60)

    def one(rank: int) -> None:
        store, begun = Store(tmp_path), itertools.count()

        def measure(shard: int) -> None:
            if next(begun) < 2:  # not by the clock: no rank measures its third before all had two
                abreast.wait()
            commit(store, shard)

        scorer: Any = FakeScorer(measure)
        with working(tmp_path) as leases:
            events = score_as_rank(scorer, store, leases, Rank(rank, 3), 12)
            done[rank] = [event.shard for event in events if not isinstance(event, Waiting)]

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(shard for mine in done.values() for shard in mine) == list(range(12))
    assert all(len(mine) >= 2 for mine in done.values())
