"""R10: out of memory halves the budget, down to the row that is too big alone; numbers stay."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from pilotfish.cli.main import run as run_command
from pilotfish.engine import batches
from pilotfish.engine.forward import Forward
from pilotfish.store import Run, Store
from pilotfish.training import loop
from tests.experiments.worlds import write
from tests.figures import Reached, size
from tests.torture.conftest import Whole
from tests.torture.jobs import Jobs, copy, files

pytestmark = pytest.mark.torture

METHOD_TEXTS = ["superfiltering", "perplexity(direction=low)"]
FULL, SMALLEST = 4096, 12


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Rows of very unequal lengths."""
    rows = [{"prompt": f"say {i}", "completion": "word " * (1 + i * i % 17)} for i in range(20)]
    return write(tmp_path_factory.mktemp("uneven") / "rows.jsonl", rows)


WORDS: tuple[Exception, ...] = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    MemoryError(),
)  # as devices and machines say it


def starved(patch: pytest.MonkeyPatch, room: int, error: Exception = WORDS[0]) -> None:
    """From now on a device has memory for so many tokens."""
    real = Forward.run

    def run(self: Forward, passages: Sequence[Any], where: Any, asks: Any) -> None:
        if sum(len(passage.ids) for passage in passages) > room:
            raise error
        real(self, passages, where, asks)

    patch.setattr(Forward, "run", run)


def command(jobs: Jobs, data: str, run: Path, *more: str) -> int:
    words = [
        "score",
        data,
        "--weak",
        jobs.weak,
        "--method",
        ",".join(METHOD_TEXTS),
        "--out",
        str(run),
    ]
    return run_command([*words, "--quiet", *more])


def scored(
    jobs: Jobs, data: str, run: Path, room: int | None = None, *,
    error: Exception = WORDS[0], precision: str = "fp32",
) -> dict[str, list[Any]]:  # fmt: skip
    """scores.parquet of a run, measured with memory for so many tokens."""
    with pytest.MonkeyPatch.context() as patch:
        if room is not None:
            starved(patch, room, error)
        assert command(jobs, data, run, "--precision", precision) == 0
    found: dict[str, list[Any]] = pq.read_table(run / "scores.parquet").to_pydict()
    return found


def budgets(run: Path) -> set[int]:
    """The token budgets that fitted, as the manifests of the shards say."""
    parts = run.glob("signals/*/part-*.json")
    store = Store(run)
    return {store.require(str(path.relative_to(run)))["token_budget"] for path in parts}


def test_less_memory_gives_the_same_numbers(
    jobs: Jobs, uneven: str, tmp_path: Path, reached: Reached
) -> None:
    whole = scored(jobs, uneven, tmp_path / "whole")
    lengths = np.add(whole["n_prompt_tokens"], whole["n_response_tokens"])
    rooms = size([300, 60, 30], [900, 600, 400, 300, 200, 150, 120, 100, 80, 60, 40, 30, 20, 15])
    drift, given_up = 0.0, 0
    for room in rooms:
        found = scored(jobs, uneven, tmp_path / str(room), room)
        assert max(budgets(tmp_path / str(room))) <= max(room, max(budgets(tmp_path / "whole")))
        for method in METHOD_TEXTS:
            reason = np.array(found[f"{method}_reason"], dtype=object)
            big = reason == "oom_single_row"
            # what fits alone is measured, what does not is said not to
            assert not big[lengths + 1 <= room].any() and big[lengths - 1 > room].all()
            old, new = (np.array(each[method])[~big].astype(float) for each in (whole, found))
            drift = max(drift, float(np.abs(new / old - 1).max(initial=0)))
            given_up += int(big.sum())
    assert drift <= 1e-6
    assert given_up
    reached(
        "R10",
        f"memory for {max(rooms)} down to {min(rooms)} tokens ({len(rooms)} sizes): "
        f"largest change of a score {drift:.1e}; {given_up} times a row too big alone, named so",
    )


@pytest.mark.parametrize("error", WORDS)
def test_however_it_is_said(
    error: Exception, jobs: Jobs, uneven: str, tmp_path: Path, reached: Reached
) -> None:
    found = scored(jobs, uneven, tmp_path / "run", 30, error=error)
    assert "oom_single_row" in found[f"{METHOD_TEXTS[0]}_reason"]
    assert max(budgets(tmp_path / "run")) < FULL
    reached("R10", f"said as {type(error).__name__}('{str(error)[:30]}'): the budget is halved")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_in_narrow_formats_too(
    precision: str, jobs: Jobs, uneven: str, tmp_path: Path, reached: Reached
) -> None:
    """Their last digits move with the batches, so no bound is promised; what is given up is."""
    whole = scored(jobs, uneven, tmp_path / "whole", precision=precision)
    lengths = np.add(whole["n_prompt_tokens"], whole["n_response_tokens"])
    found = scored(jobs, uneven, tmp_path / "run", 40, precision=precision)
    drift, given_up = 0.0, 0
    assert Run(tmp_path / "run").section("weak")["precision"] == precision
    for method in METHOD_TEXTS:
        big = np.array(found[f"{method}_reason"], dtype=object) == "oom_single_row"
        assert not big[lengths + 1 <= 40].any() and big[lengths - 1 > 40].all()
        old, new = (np.array(each[method])[~big].astype(float) for each in (whole, found))
        drift, given_up = max(drift, float(np.abs(new / old - 1).max())), given_up + big.sum()
    assert given_up and drift < 0.05
    reached("R10", f"{precision}: {given_up} times a row too big alone, named so; largest change "
            f"of a score {drift:.1e} (no bound promised)")  # fmt: skip


def test_memory_that_is_not_asked_for_is_found_out(
    jobs: Jobs, uneven: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reached: Reached
) -> None:
    """Negative control: an engine that takes it for any other error ends the run."""
    starved(monkeypatch, 30)
    monkeypatch.setattr(batches, "out_of_memory", lambda error: False)
    assert command(jobs, uneven, tmp_path / "run") != 0
    reached("R10", "negative control, no halving: red")


@pytest.mark.parametrize("error", WORDS[:2])
def test_training_says_so_in_words(
    error: Exception, jobs: Jobs, selected: Path, whole: Whole, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], reached: Reached,
) -> None:  # fmt: skip
    """A batch cannot be halved there without another training; what stands is gone on from."""
    run, real, calls = copy(selected, tmp_path / "run"), loop.accumulate, []

    def starving(*args: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise error
        return real(*args, **more)

    monkeypatch.setattr(loop, "accumulate", starving)
    words = ["train", str(run), "--strong", jobs.strong, "--arm", "selected", "--quiet"]
    for each in ("train.max_steps=3", "train.save_steps=1", "train.use_peft=false"):
        words += ["--set", each]
    assert run_command(words) == 2
    err = capfd.readouterr().err
    assert "out of memory" in err and "train.per_device_train_batch_size" in err
    assert "Traceback" not in err
    monkeypatch.undo()
    assert run_command(words) == 0 and files(run) == whole["train"]
    reached("R10", f"training ({type(error).__name__}): exit 2 in words; run again, it goes on to "
            "the same bytes")  # fmt: skip
