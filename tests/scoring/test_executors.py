"""Whoever measures, the run holds the same bytes; a kill costs what was in hand, no more."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from pilotfish.config import parse_method
from pilotfish.config.data import Source
from pilotfish.config.scoring import ScoreConfig
from pilotfish.engine.executors import launch, pool, ranks
from pilotfish.engine.executors.launch import ExecutorConfig
from pilotfish.engine.executors.worker import ScoreSpec
from pilotfish.errors import UsageError
from pilotfish.flops import Cost, by_stage
from pilotfish.scoring import multi_rank
from pilotfish.scoring.multi_rank import merge
from pilotfish.scoring.score import score
from pilotfish.store import Run, run_lock
from tests.experiments.worlds import rows, write
from tests.scoring.shards import hashes, sharded

METHOD_TEXTS = [parse_method("superfiltering"), parse_method("perplexity(direction=low)")]
RANK = ExecutorConfig("ranks", rank=0, world=1)


@pytest.fixture
def weak(models: tuple[str, str]) -> str:
    return models[0]


def scored(
    root: Path,
    weak: str,
    executor: ExecutorConfig | None = None,
    *,
    force: bool = False,
    **settings: Any,
) -> Run:
    """Score a run that was read in shards of 6 rows (7 of them)."""
    out = sharded(root) if not root.exists() else str(root)
    config = ScoreConfig(weak, METHOD_TEXTS, **settings)
    return score(out, Source(out), config, executor=executor or ExecutorConfig(), force=force)


def costs(run: Run) -> list[dict[str, Any]]:
    lines = (run.root / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event.get("stage") == "score"]


def paid(run: Run) -> Cost:
    """What scoring took, all events together."""
    return by_stage(costs(run))["score"]


def measured_now(monkeypatch: pytest.MonkeyPatch, call: Callable[[], object]) -> list[int]:
    """The shards that were measured by a call, from the receipts of whoever measured."""
    seen: list[int] = []
    real = launch.ShardProgress.shard_done

    def listening(self: launch.ShardProgress, receipt: Any) -> None:
        seen.extend([receipt.shard] * bool(receipt.measured))
        real(self, receipt)

    with monkeypatch.context() as patch:
        patch.setattr(launch.ShardProgress, "shard_done", listening)
        call()
    return sorted(seen)


def test_a_lone_rank_leaves_what_the_loop_leaves(tmp_path: Path, weak: str) -> None:
    here, rank = scored(tmp_path / "a", weak), scored(tmp_path / "b", weak, RANK)
    assert len(list(here.root.glob("signals/*/part-00006.json"))) == 3
    assert hashes(here.root) == hashes(rank.root)
    assert replace(paid(here), seconds=None) == replace(paid(rank), seconds=None)
    assert paid(here).rows == 40


def test_what_ranks_pay_adds_up_and_a_second_command_pays_nothing(
    tmp_path: Path, weak: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = scored(tmp_path / "a", weak)
    root = tmp_path / "b"
    real = ranks.score_as_rank

    def three(*args: Any, **how: Any) -> Any:
        """A rank that is gone after three shards, as if it had been killed."""
        for count, receipt in enumerate(real(*args, **how), 1):
            yield receipt
            if count == 3:
                return

    with monkeypatch.context() as patch:
        patch.setattr(ranks, "score_as_rank", three)
        patch.setattr(multi_rank, "_written", lambda job: True)
        scored(root, weak, RANK)
    with pytest.raises(UsageError, match="4 of 7 shards are not measured") as caught:
        merge(str(root))
    assert "--executor ranks --rank 0 --world 1" in str(caught.value.hint)
    assert paid(Run(root)).rows == 18  # each shard is charged as it is done
    run = scored(root, weak, RANK)
    assert len(costs(run)) == 7
    assert paid(run).rows == paid(here).rows and paid(run).tokens == paid(here).tokens
    assert paid(run).flops == pytest.approx(paid(here).flops)
    scored(root, weak, RANK)
    assert len(costs(run)) == 7
    assert hashes(run.root) == hashes(here.root)
    assert measured_now(monkeypatch, lambda: scored(root, weak)) == []
    assert len(costs(run)) == 7  # looking at what is there is no scoring
    last = json.loads((run.root / "events.jsonl").read_text().splitlines()[-1])
    assert (last["stage"], last["rows"], last["tokens"]) == ("resume", 0, 0)


def test_merge_writes_what_ranks_have_measured(
    tmp_path: Path, weak: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = scored(tmp_path / "a", weak)
    with monkeypatch.context() as patch:
        patch.setattr(multi_rank, "_written", lambda job: True)  # killed before it wrote the scores
        run = scored(tmp_path / "b", weak, RANK)
    assert not (run.root / "scores.parquet").exists()
    merge(str(run.root))
    assert hashes(run.root) == hashes(here.root)
    merge(str(run.root))
    with pytest.raises(UsageError, match="no ranks have begun"):
        merge(sharded(tmp_path / "c"))


def test_a_rank_that_would_measure_otherwise_is_refused(
    tmp_path: Path, weak: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = sharded(tmp_path / "run")
    asked: list[str] = []

    def meanwhile(*args: Any, **how: Any) -> Any:
        """Another rank joins while the first one works; its signal format is another."""
        with monkeypatch.context() as patch:
            patch.setattr("pilotfish.engine.cache_keys.SIGNAL_FORMAT", 0)
            with pytest.raises(UsageError, match="not measure as the run was planned"):
                scored(Path(out), weak, ExecutorConfig("ranks", rank=1, world=2))
        asked.append("refused")
        return iter(())

    monkeypatch.setattr(ranks, "score_as_rank", meanwhile)
    monkeypatch.setattr(multi_rank, "_written", lambda job: True)
    scored(Path(out), weak, ExecutorConfig("ranks", rank=0, world=2))
    assert asked == ["refused"]


def test_ranks_wait_for_whoever_plans(tmp_path: Path, weak: str) -> None:
    root = tmp_path / "run"
    sharded(root)
    held, released = threading.Event(), threading.Event()

    def planner() -> None:
        with run_lock(root):
            held.set()
            released.wait(30)

    thread = threading.Thread(target=planner)
    thread.start()
    held.wait(30)
    start = time.monotonic()
    threading.Timer(0.3, released.set).start()
    run = scored(root, weak, RANK)
    thread.join()
    assert time.monotonic() - start >= 0.3 and "superfiltering" in run.section("scores")


def test_ranks_share_a_tuned_weak_model(
    tmp_path: Path, weak: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = sharded(tmp_path / "run")
    trusted = write(tmp_path / "trusted.jsonl", rows(10, start=100))
    digests: list[str] = []
    inside = threading.Event()
    real = ranks.score_as_rank

    def part(*args: Any, **how: Any) -> Any:
        if not inside.is_set():
            inside.set()
            monkeypatch.setattr(
                "pilotfish.training.tune.tune", lambda *a, **k: pytest.fail("tuned twice")
            )
            call(1)
        return real(*args, **how)

    def call(rank: int) -> None:
        executor = ExecutorConfig("ranks", rank=rank, world=2)
        run = scored(Path(out), weak, executor, trusted=trusted)
        digests.append(run.section("weak")["digest"])

    monkeypatch.setattr(ranks, "score_as_rank", part)
    call(0)
    assert len(digests) == 2 and len(set(digests)) == 1
    assert run_names(out) == ["perplexity(direction=low)", "superfiltering"]


def run_names(out: str) -> list[str]:
    return sorted(Run(out).section("scores"))


def test_threads_and_token_budget_are_fixed_by_the_first_score_of_a_run(
    tmp_path: Path, weak: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bits depend on both: on another machine the same run goes on with the same ones."""
    monkeypatch.setattr("pilotfish.models.set_threads", lambda parameters: None)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        run = scored(tmp_path / "run", weak, token_budget=300)
        assert torch.get_num_threads() == 2
        facts = run.section("weak")
        assert (facts["threads"], facts["token_budget"], facts["device"]) == (2, 300, "cpu")
        torch.set_num_threads(1)
        assert measured_now(monkeypatch, lambda: scored(tmp_path / "run", weak)) == []
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert run.section("weak") == facts


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (ExecutorConfig("rai"), "did you mean 'ray'"),
        (ExecutorConfig(rank=0, world=2), "number equal commands"),
        (ExecutorConfig("ray", world=2), "--executor ray has one"),
        (ExecutorConfig("ranks", rank=3, world=3), "numbered from 0 to 2"),
        (ExecutorConfig("ranks", rank=0), "a number and a count"),
        (ExecutorConfig("ranks", workers=2, rank=0, world=1), "a rank is one process"),
    ],
)
def test_options_that_contradict_each_other_cost_nothing(
    tmp_path: Path, weak: str, wrong: ExecutorConfig, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        config = ScoreConfig(weak, METHOD_TEXTS)
        score(str(tmp_path / "r"), Source("absent.jsonl"), config, executor=wrong)
    assert not (tmp_path / "r").exists()


def test_ranks_do_not_overrule_each_other(tmp_path: Path, weak: str) -> None:
    with pytest.raises(UsageError, match="--force"):
        scored(tmp_path / "run", weak, RANK, force=True)


def test_each_gpu_gets_a_process_of_its_own(weak: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from pilotfish.models import load

    loaded = load(weak, device="cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    on_gpu = replace(loaded, device=torch.device("cuda"))
    assert ExecutorConfig().processes(on_gpu) == 2 and ExecutorConfig().processes(loaded) == 1
    assert (
        ExecutorConfig(workers=3).processes(on_gpu) == 3
        and ExecutorConfig("ray").processes(on_gpu) == 1
    )
    specs = launch.local_specs(on_gpu, ScoreSpec("r", "m", "d", (), 8), 3)
    assert [spec.device for spec in specs] == ["cuda:0", "cuda:1", "cuda:0"]


# Real processes from here on: seconds each, most of them torch being loaded.


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pilotfish", "score", *map(str, arguments), "--quiet"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip


def command(root: Path, weak: str, *more: object) -> subprocess.Popen[str]:
    methods = ",".join(method.text for method in METHOD_TEXTS)
    return start(root, "--weak", weak, "--method", methods, *more)


def finish(process: subprocess.Popen[str]) -> int:
    _, told = process.communicate(timeout=180)
    assert process.returncode in (0, 130) or not told, told
    return process.returncode


def wait_for(root: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not list(root.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def members(group: int) -> list[int]:
    """Processes of a group that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def deaf_workers(group: int) -> list[bool]:
    """Of each worker of a group, whether SIGINT is blocked in it."""
    deaf = []
    for pid in members(group):
        if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
            status = Path(f"/proc/{pid}/status").read_text()
            blocked = int(re.search(r"SigBlk:\s*(\w+)", status)[1], 16)  # type: ignore[index]
            deaf.append(bool(blocked >> (signal.SIGINT - 1) & 1))
    return deaf


def all_gone(group: int) -> None:
    """Wait for the end of a group. Ray's agents give open connections a minute (aiohttp's rule)."""
    deadline = time.monotonic() + 150
    while left := members(group):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def finished_parts(root: Path) -> dict[Path, int]:
    parts = root.glob("signals/*/part-*.json")
    return {path: path.stat().st_mtime_ns for path in parts}


@dataclass(frozen=True)
class Large:
    """Runs of 30 shards, each a tenth of a second, and what they are to hold in the end."""

    folder: Path
    whole: dict[str, str]

    def fresh(self) -> Path:
        root = self.folder / f"run-{len(list(self.folder.iterdir()))}"
        return Path(sharded(root, count=3000, shard_rows=100))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, models: tuple[str, str]) -> Large:
    folder = tmp_path_factory.mktemp("large")
    whole = Large(folder, {}).fresh()
    assert finish(command(whole, models[0])) == 0
    return Large(folder, hashes(whole))


WORKERS = ["--workers", "2"]
RAY = ["--executor", "ray", "--workers", "2"]


def skip_without(how: list[str]) -> None:
    if how is RAY and find_spec("ray") is None:
        pytest.skip("the ray extra is not installed")


@pytest.mark.slow
def test_processes_leave_the_same_bytes(tmp_path: Path, weak: str) -> None:
    here = scored(tmp_path / "a", weak)
    several = scored(tmp_path / "b", weak, ExecutorConfig(workers=2))
    assert hashes(several.root) == hashes(here.root)
    assert paid(several).tokens == paid(here).tokens


@pytest.mark.slow
def test_two_real_ranks_leave_the_same_bytes(large: Large, weak: str) -> None:
    other = large.fresh()
    ranked = [
        command(other, weak, "--executor", "ranks", "--rank", rank, "--world", 2) for rank in (0, 1)
    ]
    assert [finish(process) for process in ranked] == [0, 0]
    assert hashes(other) == large.whole
    assert sum(event["rows"] for event in costs(Run(other))) == 3000


@pytest.mark.slow
def test_a_rank_that_is_killed_is_made_good_by_the_other(large: Large, weak: str) -> None:
    other = large.fresh()
    victim, survivor = (
        command(other, weak, "--executor", "ranks", "--rank", rank, "--world", 2) for rank in (0, 1)
    )
    wait_for(other, "signals/*/part-*.json", victim)
    victim.kill()
    victim.communicate()
    assert finish(survivor) == 0
    assert hashes(other) == large.whole


def without_temps(root: Path) -> dict[str, str]:
    """A run's files, but for what an orphan may be writing right now."""
    return {name: sha for name, sha in hashes(root).items() if ".tmp-" not in name}


@pytest.mark.slow
@pytest.mark.parametrize("how", [WORKERS, RAY])
def test_a_killed_driver_costs_what_its_workers_had_in_hand(
    large: Large, weak: str, how: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without(how)
    cut = large.fresh()
    driver = command(cut, weak, *how)
    wait_for(cut, "signals/*/part-*.json", driver)
    driver.kill()
    driver.communicate()
    done = finished_parts(cut)
    redone = measured_now(monkeypatch, lambda: scored(cut, weak))  # beside its orphans
    assert 0 < len(redone) <= 30 and all(path.stat().st_mtime_ns == done[path] for path in done)
    assert without_temps(cut) == large.whole
    all_gone(driver.pid)
    time.sleep(0.5)
    assert without_temps(cut) == large.whole
    assert measured_now(monkeypatch, lambda: scored(cut, weak)) == []
    assert hashes(cut) == large.whole


@pytest.mark.slow
@pytest.mark.parametrize(
    ("group", "how"), [(False, WORKERS), (True, WORKERS), (False, RAY), (True, RAY)]
)
def test_ctrl_c_ends_every_worker_and_keeps_what_is_finished(
    large: Large, weak: str, group: bool, how: list[str]
) -> None:
    """With `group` as a terminal does it: every process of it hears the signal."""
    skip_without(how)
    cut = large.fresh()
    driver = command(cut, weak, *how)
    wait_for(cut, "signals/*/part-*.json", driver)
    assert how is RAY or deaf_workers(driver.pid) == [True, True]
    (os.killpg if group else os.kill)(driver.pid, signal.SIGINT)
    _, told = driver.communicate(timeout=60)
    assert driver.returncode == 130 and "finished work is kept" in told
    assert "Traceback" not in told
    assert how is RAY or not list(cut.rglob(".tmp-*"))  # Ray kills; the next command sweeps
    all_gone(driver.pid)
    done = finished_parts(cut)
    assert finish(command(cut, weak)) == 0
    assert hashes(cut) == large.whole
    assert all(path.stat().st_mtime_ns == done[path] for path in done)


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced(
    tmp_path: Path, weak: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    real = pool.Processes.send

    def deadly(self: pool.Processes, seat: int, shard: int, then: int | None) -> None:
        sent.append(shard)
        if len(sent) == 3:
            self._running[seat][0].kill()
            Path(self._specs[seat].root, ".tmp-of-the-dead").touch()
        real(self, seat, shard, then)

    monkeypatch.setattr(pool.Processes, "send", deadly)
    several = scored(tmp_path / "b", weak, ExecutorConfig(workers=2))
    assert len(sent) == 8 and sorted(set(sent)) == list(range(7))
    monkeypatch.undo()
    assert hashes(several.root) == hashes(scored(tmp_path / "a", weak).root)
