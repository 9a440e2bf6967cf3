"""scores.parquet shard by shard: the same columns as at once, whatever the shards and groups."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest

from pilotfish.data import Pool
from pilotfish.data import pool as pool_module
from pilotfish.methods import METHODS, Selector
from pilotfish.methods.custom import CustomMethod
from pilotfish.records import Need, RowFeatures
from pilotfish.scoring.write import Column, View, write_columns
from pilotfish.store import Run
from tests.experiments.runs import pool_run, records, write

N, SHARD = 53, 7


@dataclass(frozen=True)
class Place:
    """How many rows have a shorter response: a score that depends on the other rows."""

    needs: ClassVar[tuple[Need, ...]] = ()

    def score(self, seen: RowFeatures) -> np.ndarray:
        lengths = seen.n_response_tokens
        return (lengths[:, None] > lengths[None, :]).sum(axis=1).astype(float)


@dataclass(frozen=True)
class Alone(Place):
    pool_relative: ClassVar = False


class Looked:
    """Made-up token counts, and how often somebody looked at all rows."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.calls = pool, Counter[str]()
        self.lengths = np.random.default_rng(0).integers(0, 9, len(pool))

    def shard(self, i: int) -> tuple[RowFeatures, np.ndarray]:
        self.calls["shard"] += 1
        return self._of(slice(*self.pool.bounds(i)))

    def whole(self) -> tuple[RowFeatures, np.ndarray]:
        self.calls["whole"] += 1
        return self._of(slice(None))

    def _of(self, rows: slice) -> tuple[RowFeatures, np.ndarray]:
        ids = self.pool.columns("id")["id"][rows]
        lengths = self.lengths[rows]
        return RowFeatures(ids, np.full_like(lengths, 3), lengths), lengths == 8


def written(run: Run, **selectors: Selector) -> Looked:
    looked = Looked(Pool.open(run.store))
    fresh = [Column(name, each, {"method": name}) for name, each in selectors.items()]
    write_columns(run, looked.pool, fresh, View(looked.shard, looked.whole))
    return looked


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return pool_run(tmp_path / "run", write(tmp_path / "x.jsonl", records(N)), shard_rows=SHARD)


@pytest.mark.parametrize("group", [5, 1000])
def test_columns_are_added_beside_what_is_there(
    run: Run, group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "GROUP_ROWS", group)
    looked = written(run, longest=METHODS["longest"]())
    first = pq.read_table(run.root / "scores.parquet")
    monkeypatch.setattr(pool_module, "GROUP_ROWS", 11)
    written(run, random=METHODS["random"]())
    both = pq.read_table(run.root / "scores.parquet")
    assert both.select(first.column_names).equals(first)
    assert both.column_names == [
        "id", "source", "row", "n_prompt_tokens", "n_response_tokens", "truncated",
        "longest", "longest_status", "longest_reason", "random", "random_status", "random_reason",
    ]  # fmt: skip
    assert both["id"].to_pylist() == looked.pool.columns("id")["id"].tolist()
    assert both["n_response_tokens"].to_pylist() == looked.lengths.tolist()
    assert both["truncated"].to_pylist() == (looked.lengths == 8).tolist()
    empty = looked.lengths == 0
    assert both["longest"].to_pylist() == [int(n) or None for n in looked.lengths]
    assert both["longest_reason"].is_valid().to_pylist() == empty.tolist()
    assert set(both["n_prompt_tokens"].to_pylist()) == {3}
    told = run.section("scores")["longest"]
    assert told["unscorable"] == {"no_response_tokens": empty.sum()}
    assert told["scorable"] == N - empty.sum() and list(run.section("scores")) == [
        "longest",
        "random",
    ]
    assert pq.read_metadata(run.root / "scores.parquet").num_row_groups == -(-N // 11)


def test_a_method_that_looks_at_other_rows_is_shown_all_of_them_once(run: Run) -> None:
    looked = written(
        run, place=CustomMethod(Place()), alone=CustomMethod(Alone()), longest=METHODS["longest"]()
    )
    assert looked.calls == {"whole": 1, "shard": -(-N // SHARD)}
    table = pq.read_table(run.root / "scores.parquet")
    whole = Place().score(looked.whole()[0])
    assert table["place"].to_pylist() == whole.tolist() != table["alone"].to_pylist()


def test_many_unscorable_rows_are_warned_of(run: Run) -> None:
    written(run, longest=METHODS["longest"]())
    share = (Looked(Pool.open(run.store)).lengths == 0).mean()
    warned = [text for text in run.manifest.get("warnings", []) if "unscorable by longest" in text]
    assert bool(warned) == (share > 0.1)
