"""The loop of one process reretries whole shards; a worker prepares the one it was promised."""

import pickle
from typing import Any

import pytest

from pilotfish.engine.executors.worker import (
    RetryTracker,
    ScoreSpec,
    Worker,
    WorkerFailure,
    score_in_order,
)
from pilotfish.engine.scorer import Receipt
from pilotfish.errors import DamagedRun, MissingExtra, PilotfishError
from tests.engine.executors.fakes import NEED, FakeScorer


def failing(shard: int, times: int, error: Exception | None = None) -> Any:
    left = {shard: times}

    def measure(one: int) -> None:
        if left.get(one, 0):
            left[one] -= 1
            raise error or RuntimeError("cosmic ray")

    return measure


def run(scorer: Any, shards: int = 5) -> tuple[list[int], RetryTracker]:
    retries = RetryTracker()
    return [receipt.shard for receipt in score_in_order(scorer, range(shards), retries)], retries


@pytest.mark.parametrize("shard", [0, 2, 4])
def test_a_shard_that_fails_twice_is_measured_all_the_same(shard: int) -> None:
    done, retries = run(FakeScorer(failing(shard, 2)))
    assert sorted(done) == [0, 1, 2, 3, 4] and len(done) == 5
    retries.raise_if_lost()


@pytest.mark.parametrize("shard", [0, 4])
def test_one_that_fails_for_good_is_left_out_and_named(shard: int) -> None:
    done, retries = run(FakeScorer(failing(shard, 99)))
    assert sorted(done) == [each for each in range(5) if each != shard]
    with pytest.raises(PilotfishError, match=rf"shard {shard} .*cosmic ray \(test_worker.py:\d+\)"):
        retries.raise_if_lost()


def test_what_is_damaged_is_not_tried_again() -> None:
    scorer = FakeScorer(failing(1, 99, DamagedRun("part 1 is not what it was")))
    with pytest.raises(DamagedRun, match="part 1"):
        run(scorer)
    assert scorer.measured == [0]


def test_a_full_disk_is_told_as_one_and_not_tried_again() -> None:
    scorer = FakeScorer(failing(1, 99, OSError(28, "No space left", "part")))
    with pytest.raises(PilotfishError, match="cannot read or write") as caught:
        run(scorer)
    assert caught.value.exit_code == 74


def test_an_interruption_is_no_failure() -> None:
    def stop(shard: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(FakeScorer(stop))


def spec() -> ScoreSpec:
    return ScoreSpec("root", "model", "digest", (NEED,), 64)


def opened(scorer: Any) -> Worker:
    worker = Worker(spec())
    worker._scorer = scorer
    return worker


def test_a_worker_reads_ahead_what_it_was_promised() -> None:
    scorer = FakeScorer()
    worker = opened(scorer)
    assert worker.score(3, 5) == Receipt(3, 10, ("key",))
    assert scorer.pulled == [3, 5] and scorer.measured == [3]
    worker.score(5, None)
    worker.score(8, 9)
    worker.score(2)  # a promise that was broken: the other shard failed elsewhere
    assert scorer.measured == [3, 5, 8, 2]


def test_no_error_leaves_a_worker() -> None:
    worker = opened(FakeScorer(failing(1, 1)))
    assert isinstance(worker.score(1, 2), WorkerFailure)
    assert worker.score(1) == Receipt(1, 10, ("key",))
    missing = Worker(spec()).open()
    assert isinstance(missing, WorkerFailure)


def test_troubles_and_specs_travel_between_processes() -> None:
    error = MissingExtra("a model", "models")  # an error that cannot be pickled and read back
    said = WorkerFailure.of(error)
    assert pickle.loads(pickle.dumps(said)) == said
    assert said.exit_code == 2 and "pilotfish[models]" in str(said.hint)
    assert pickle.loads(pickle.dumps(spec())) == spec()
