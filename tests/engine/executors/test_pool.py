"""A pool gets every shard measured once, replaces who fails, and says what nobody could do."""

from collections.abc import Iterator

import pytest

from pilotfish.engine.executors.pool import Scheduler
from pilotfish.engine.executors.worker import LOST, TRIES, WorkerFailure
from pilotfish.engine.scorer import Receipt
from pilotfish.errors import PilotfishError, UsageError
from tests.engine.executors.fakes import OPENED, FakePool, fail_on, succeed


def receipts_of(workers: FakePool, count: int = 9) -> Iterator[Receipt]:
    scheduler = Scheduler(workers, range(count))
    assert scheduler.start() == OPENED and not workers.sent
    return scheduler.receipts()


def shards_of(workers: FakePool, count: int = 9) -> list[int]:
    return [receipt.shard for receipt in receipts_of(workers, count)]


@pytest.mark.parametrize("seats", [1, 2, 3, 20])
def test_every_shard_is_measured_once(seats: int) -> None:
    workers = FakePool(seats, succeed)
    assert sorted(shards_of(workers)) == list(range(9))
    assert sorted(shard for _, shard, _ in workers.sent) == list(range(9))
    assert len([1 for what, _ in workers.log if what == "start"]) == min(seats, 9)


def test_a_worker_is_told_of_its_next_shard_and_gets_that_one() -> None:
    workers = FakePool(2, succeed)
    shards_of(workers)
    for seat in (0, 1):
        mine = [(shard, then) for who, shard, then in workers.sent if who == seat]
        promised = [then for _, then in mine if then is not None]
        assert promised and set(promised) <= {shard for shard, _ in mine}
        assert all(mine[i + 1][0] == then for i, (_, then) in enumerate(mine[:-1]) if then)


def test_the_last_shards_are_promised_to_nobody() -> None:
    workers = FakePool(4, succeed)
    shards_of(workers, 4)
    assert [then for *_, then in workers.sent] == [None] * 4


def test_a_failed_shard_is_tried_by_a_new_worker_and_the_promised_one_is_not_lost() -> None:
    workers = FakePool(1, fail_on(0, times=TRIES - 1))
    assert sorted(shards_of(workers, 4)) == [0, 1, 2, 3]
    assert workers.log == [("start", 0), *[("stop", 0), ("start", 0)] * (TRIES - 1)]


def test_a_shard_that_fails_for_good_is_named_after_the_others_are_done() -> None:
    workers = FakePool(2, fail_on(4))
    done = []
    with pytest.raises(PilotfishError, match=r"shard 4 failed 3 times.*no luck with 4") as caught:
        for receipt in receipts_of(workers):
            done.append(receipt.shard)
    assert sorted(done) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert caught.value.exit_code == 1 and "only what is missing" in str(caught.value.hint)
    assert [shard for _, shard, _ in workers.sent].count(4) == TRIES


def test_nothing_more_is_begun_where_everything_fails() -> None:
    workers = FakePool(1, fail_on(*range(50)))
    with pytest.raises(PilotfishError, match="failed 3 times"):
        shards_of(workers, 50)
    assert len(workers.sent) <= LOST * TRIES + 2 * 50  # a round of first tries, and few more


def test_an_error_made_on_purpose_ends_it_at_once_with_its_exit_code() -> None:
    workers = FakePool(2, fail_on(3, exit_code=74))
    with pytest.raises(PilotfishError, match="no luck with 3") as caught:
        shards_of(workers)
    assert caught.value.exit_code == 74


def test_workers_that_cannot_even_open_are_not_hired_for_ever() -> None:
    workers = FakePool(2, succeed, opened=lambda seat: WorkerFailure("no memory for the model"))
    with pytest.raises(PilotfishError, match="no memory for the model"):
        shards_of(workers)
    assert len(workers.log) < 4 * TRIES


def test_workers_that_would_measure_otherwise_are_refused() -> None:
    workers = FakePool(2, succeed, opened=lambda seat: OPENED._replace(token_budget=64 + seat))
    with pytest.raises(UsageError, match="not measure alike"):
        shards_of(workers)
