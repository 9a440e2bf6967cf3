"""Memory does not grow with the rows: nothing of every row is held but a few numbers (R17).

The process's own peak is measured by benchmarks/memory.py. Here allocations are counted, so that
a list of texts of every row, 60 bytes each at least, shows at a few thousand rows already.
"""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pilotfish.data import Pool, first_pass
from pilotfish.data import pool as pool_module
from pilotfish.methods import METHODS
from pilotfish.records import RowFeatures
from pilotfish.run_context import RunContext
from pilotfish.scoring.write import Column, View, write_columns
from pilotfish.selection.controls import Control, draw_control
from pilotfish.selection.select import SelectConfig, select
from pilotfish.store import Run, Store
from tests.experiments.runs import pool_run, records, score_run, write
from tests.reading import read

SHARD = 500
SMALL, LARGE = 2_000, 12_000
POOLS: list[pa.MemoryPool] = []  # a pool must outlive what was allocated from it


def peak(work: Callable[[], object]) -> int:
    """Bytes held at the worst moment of `work`, by Python, numpy and arrow."""
    before = pa.default_memory_pool()
    POOLS.append(pa.proxy_memory_pool(before))
    pa.set_memory_pool(POOLS[-1])
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] + int(POOLS[-1].max_memory())
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)


def growth(work: Callable[[int], Callable[[], object]], small: int, large: int) -> float:
    """Bytes for each row more; `work(rows)` prepares and gives what is measured."""
    work(small)()  # what is loaded or cached once does not count
    few, many = (peak(work(rows)) for rows in (small, large))
    return (many - few) / (large - small)


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of rows that are held together are small here, like the pools."""
    monkeypatch.setattr(pool_module, "GROUP_ROWS", SHARD)
    monkeypatch.setattr(first_pass, "RECENT", SHARD)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Run]:
    """A scored run of each size; scores of many values, a hundredth without one."""
    made = {}
    for rows in (SMALL, LARGE):
        folder = tmp_path_factory.mktemp(str(rows))
        run = pool_run(folder / "run", write(folder / "x.jsonl", records(rows)), shard_rows=SHARD)
        values = np.random.default_rng(0).uniform(0.1, 0.9, rows)
        made[rows] = score_run(
            run, values=values, reasons=dict.fromkeys(range(0, rows, 100), "model_error")
        )
        table, facts = pq.read_table(run.root / "scores.parquet"), run.store.require("scores.json")
        with run.store.attempt("scores.json") as attempt:
            pq.write_table(table, attempt.path("scores.parquet"), row_group_size=SHARD)
            attempt.meta = {key: facts[key] for key in ("pool", "rows")}
    return made


@pytest.mark.parametrize("method", ["superfiltering", "random", "longest"])
def test_selecting_by_score_holds_the_rows_before_the_cut(
    runs: dict[int, Run], method: str
) -> None:
    def work(rows: int) -> Callable[[], object]:
        return lambda: select(
            runs[rows].root, SelectConfig(method, "100rows", name=f"{method}-flat"), force=True
        )

    assert growth(work, SMALL, LARGE) < 12


def test_the_length_matched_control_holds_numbers_of_every_row(runs: dict[int, Run]) -> None:
    for run in runs.values():
        select(run.root, SelectConfig("superfiltering", "100rows", name="to"), force=True)

    def work(rows: int) -> Callable[[], object]:
        return lambda: draw_control(
            RunContext(runs[rows], force=True), Control("length_matched", "to"), "matched"
        )

    assert growth(work, SMALL, LARGE) < 300


def test_scoring_holds_one_shard(runs: dict[int, Run], tmp_path: Path) -> None:
    def work(rows: int) -> Callable[[], object]:
        pool = Pool.open(runs[rows].store)
        run = Run(tmp_path / f"{rows}-{len(list(tmp_path.iterdir()))}")

        def look(shard: int) -> tuple[RowFeatures, np.ndarray]:
            ids = np.array(pool.table(shard, "id")["id"].to_pylist(), dtype=object)
            ones = np.ones(len(ids), dtype=np.int64)
            return RowFeatures(ids, ones, ones), ones > 1

        def twice() -> None:
            for name in ("longest", "random"):  # the second one beside the first
                column = Column(name, METHODS[name](), {"method": name})
                write_columns(run, pool, [column], View(look, lambda: pytest.fail("all at once")))

        return twice

    assert growth(work, SMALL, LARGE) < 12


@pytest.mark.parametrize("ids", [True, False])
def test_reading_holds_digests(tmp_path: Path, ids: bool) -> None:
    def work(rows: int) -> Callable[[], object]:
        made = records(rows)
        for i, row in enumerate(made):
            row |= {"id": f"row-{i}"} if ids else {}
        data = write(tmp_path / f"{rows}.jsonl", made)
        out = Store(tmp_path / f"out-{rows}-{len(list(tmp_path.iterdir()))}")
        return lambda: read(data, out, shard_rows=SHARD)

    assert growth(work, 1_000, 5_000) < 120
