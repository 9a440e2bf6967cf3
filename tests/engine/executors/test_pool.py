"""A crew gets every shard measured once, replaces who fails, and says what nobody could do."""

import pytest

from pilotfish.engine.executors.failures import LOST, TRIES, WorkerFailure
from pilotfish.engine.executors.pool import Scheduler
from pilotfish.errors import PilotfishError, UsageError
from tests.engine.executors.fakes import OPENED, FakeCrew, ill, well


def shards_of(crew: FakeCrew, count: int = 9) -> list[int]:
    return [receipt.shard for receipt in Scheduler(crew, range(count)).receipts()]


@pytest.mark.parametrize("seats", [1, 2, 3, 20])
def test_every_shard_is_measured_once(seats: int) -> None:
    crew = FakeCrew(seats, well)
    assert sorted(shards_of(crew)) == list(range(9))
    assert sorted(shard for _, shard, _ in crew.sent) == list(range(9))
    assert len([1 for what, _ in crew.log if what == "hire"]) == min(seats, 9)


def test_a_worker_is_told_of_its_next_shard_and_gets_that_one() -> None:
    crew = FakeCrew(2, well)
    shards_of(crew)
    for seat in (0, 1):
        mine = [(shard, then) for who, shard, then in crew.sent if who == seat]
        promised = [then for _, then in mine if then is not None]
        assert promised and set(promised) <= {shard for shard, _ in mine}
        assert all(mine[i + 1][0] == then for i, (_, then) in enumerate(mine[:-1]) if then)


def test_the_last_shards_are_promised_to_nobody() -> None:
    crew = FakeCrew(4, well)
    shards_of(crew, 4)
    assert [then for *_, then in crew.sent] == [None] * 4


def test_a_failed_shard_is_tried_by_a_new_worker_and_the_promised_one_is_not_lost() -> None:
    crew = FakeCrew(1, ill(0, times=TRIES - 1))
    assert sorted(shards_of(crew, 4)) == [0, 1, 2, 3]
    assert crew.log == [("hire", 0), *[("dismiss", 0), ("hire", 0)] * (TRIES - 1)]


def test_a_shard_that_fails_for_good_is_named_after_the_others_are_done() -> None:
    crew = FakeCrew(2, ill(4))
    shift, done = Scheduler(crew, range(9)), []
    with pytest.raises(PilotfishError, match=r"shard 4 failed 3 times.*no luck with 4") as caught:
        for receipt in shift.receipts():
            done.append(receipt.shard)
    assert sorted(done) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert caught.value.exit_code == 1 and "only what is missing" in str(caught.value.hint)
    assert [shard for _, shard, _ in crew.sent].count(4) == TRIES


def test_nothing_more_is_begun_where_everything_fails() -> None:
    crew = FakeCrew(1, ill(*range(50)))
    with pytest.raises(PilotfishError, match="failed 3 times"):
        shards_of(crew, 50)
    assert len(crew.sent) <= LOST * TRIES + 2 * 50  # a round of first tries, and few more


def test_an_error_made_on_purpose_ends_it_at_once_with_its_exit_code() -> None:
    crew = FakeCrew(2, ill(3, exit_code=74))
    with pytest.raises(PilotfishError, match="no luck with 3") as caught:
        shards_of(crew)
    assert caught.value.exit_code == 74


def test_workers_that_cannot_even_open_are_not_hired_for_ever() -> None:
    crew = FakeCrew(2, well, opened=lambda seat: WorkerFailure("no memory for the model"))
    with pytest.raises(PilotfishError, match="no memory for the model"):
        shards_of(crew)
    assert len(crew.log) < 4 * TRIES


def test_workers_that_would_measure_otherwise_are_refused() -> None:
    crew = FakeCrew(2, well, opened=lambda seat: OPENED._replace(token_budget=64 + seat))
    with pytest.raises(UsageError, match="not measure alike"):
        shards_of(crew)
