"""R15: what select keeps is what a full sort of all rows keeps, however the rows lie in shards."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pilotfish.data import Pool
from pilotfish.selection import topk
from pilotfish.selection.histogram import Cut, Histogram
from pilotfish.selection.select import SelectConfig, select
from pilotfish.store import Run
from tests.experiments.runs import pool_run, score_run, write
from tests.figures import Reached, size

pytestmark = pytest.mark.torture
LEVELS = (1.0, 1.0 + 2.0**-52, 1.0 + 2.0**-51, 0.0, -0.0, 5e-324, -3.5, 1e300, -1e300)


def made(folder: Path, rng: np.random.Generator) -> tuple[Run, dict[str, Any]]:
    """A scored run in shards of a random size: copies of rows, ties, and rows without a score."""
    count = int(rng.integers(20, 160))
    rows = [
        {"instruction": f"say {rng.integers(30)}", "input": "", "output": "w " * rng.integers(1, 9)}
        for _ in range(count)
    ]
    data = write(folder / "rows.jsonl", rows)
    run = pool_run(folder / "run", data, shard_rows=int(rng.integers(3, count + 2)))
    ties = rng.choice(LEVELS, count)
    values = np.where(rng.random(count) < 0.7, ties, rng.normal(size=count))
    bad = {int(i): "model_error" for i in np.flatnonzero(rng.random(count) < rng.choice([0, 0.2]))}
    score_run(run, {"s": "perplexity(direction=low)"}, values=values, reasons=bad)
    found = Pool.open(run.store).columns("id", "digest", "raw")
    tokens = [len(row["output"]) + 4 for row in rows]
    return run, {**found, "value": values, "bad": bad, "tokens": tokens}


def sorted_ids(rows: dict[str, Any], direction: str, budget: str) -> list[str]:
    """The slow way: sort every row that has a score by (score, content, id), and cut."""
    sign = 1 if direction == "low" else -1
    usable = [i for i in range(len(rows["id"])) if i not in rows["bad"]]
    usable.sort(key=lambda i: (sign * rows["value"][i], rows["digest"][i], rows["id"][i]))
    if budget.endswith("tokens"):
        spent = np.cumsum([rows["tokens"][i] for i in usable])
        k = int((spent <= int(budget.removesuffix("tokens"))).sum())
    elif budget.endswith("%"):
        k = len(rows["id"]) * int(budget[:-1]) // 100
    else:
        k = int(budget.removesuffix("rows"))
    return [rows["id"][i] for i in usable[:k]]


def kept_ids(run: Run, direction: str, budget: str) -> list[str]:
    method = f"perplexity(direction={direction})"
    select(run.root, SelectConfig(method, budget, score="s", allow_short=True), force=True)
    table = pq.read_table(run.root / "selections/selected/decisions.parquet").to_pylist()
    kept = sorted((row["rank"], row["id"]) for row in table if row["kept"])
    return [name for _, name in kept]


def budgets(rng: np.random.Generator, rows: dict[str, Any]) -> list[str]:
    longest = max(rows["tokens"])  # one that buys no row at all is refused
    total = sum(rows["tokens"])
    return [
        f"{rng.integers(1, len(rows['id']) + 5)}rows",
        f"{rng.integers(10, 101)}%",
        f"{rng.integers(longest, total + 9)}tokens",
    ]


def differing(folder: Path, seed: int) -> tuple[int, int]:
    """(cases, cases in which the ids or their order differ) over one random pool."""
    rng = np.random.default_rng(seed)
    run, rows = made(folder, rng)
    cases = [(way, budget) for way in ("high", "low") for budget in budgets(rng, rows)]
    wrong = [kept_ids(run, *case) != sorted_ids(rows, *case) for case in cases]
    return len(cases), sum(wrong)


def test_selections_of_random_pools_equal_a_full_sort(tmp_path: Path, reached: Reached) -> None:
    cases = wrong = 0
    for seed in range(size(2, 50)):
        more, differ = differing(tmp_path / str(seed), seed)
        cases, wrong = cases + more, wrong + differ
    assert not wrong
    reached("R15", f"{cases - wrong} of {cases} selections of randomly sharded pools with ties, "
            "copies and rows without a score: the ids of a full sort, in its order")  # fmt: skip


def test_cuts_of_random_shards_equal_a_full_sort(reached: Reached) -> None:
    """Top k, token budgets, and a quota for each source: ids at the boundary too."""
    same = tried = 0
    for seed in range(size(50, 2_000)):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 300))
        scores = np.where(rng.random(n) < 0.6, rng.choice([*LEVELS, np.nan], n), rng.normal(size=n))
        tokens, source = rng.integers(0, 40, n), rng.integers(0, 3, n)
        shard = rng.integers(0, rng.integers(1, 17), n)
        for each in (source < 3, source == 0, source == 1, source == 2):
            tried += 3
            same += _agree(scores, tokens, shard, np.flatnonzero(each), rng)
    assert same == tried
    reached("R15", f"{same:,} of {tried:,} cuts (top k, tokens, quota of a source) over random "
            "shards: the rows of a full sort")  # fmt: skip


def _agree(scores: Any, tokens: Any, shard: Any, rows: Any, rng: np.random.Generator) -> int:
    way = "high" if rng.random() < 0.5 else "low"
    known = rows[~np.isnan(scores[rows])]
    key = scores[known] if way == "low" else -scores[known]
    full = known[np.lexsort((known, key))]
    parts = [rows[shard[rows] == number] for number in rng.permutation(17)]
    whole = Histogram.total(
        (Histogram.of(scores[part], way, tokens[part]) for part in parts), way
    )  # fmt: skip
    k, room = int(rng.integers(0, len(rows) + 3)), int(rng.integers(1, 3_000))
    spent = np.cumsum(tokens[full])
    bought = int((spent <= room).sum())
    share = int(rng.integers(0, 101)) / 100
    cuts = (
        (whole.top_k(k), k),
        (whole.token_budget(room), bought),
        (whole.quantile(share), int(np.ceil(share * len(full) - 1e-9))),
    )
    return sum(_first(scores, parts, cut, way, k) == full[:k].tolist() for cut, k in cuts)


def _first(scores: Any, parts: list[Any], cut: Cut, way: str, k: int) -> list[int]:
    """The k best of the rows that the second pass gathers."""
    some = np.concatenate([part[cut.may_hold(scores[part])] for part in parts])
    key = scores[some] if way == "low" else -scores[some]
    return [int(row) for row in some[np.lexsort((some, key))][:k]]


def test_a_cut_one_bin_short_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reached: Reached
) -> None:
    """Negative control: the second pass is shown one row in two."""
    real = topk.Cut.may_hold

    @functools.wraps(real)
    def short(self: Cut, scores: Any) -> Any:
        inside = real(self, scores)
        inside[np.flatnonzero(inside)[::2]] = False
        return inside

    monkeypatch.setattr(topk.Cut, "may_hold", short)
    cases, wrong = differing(tmp_path, 0)
    assert wrong >= cases // 2
    reached("R15", f"negative control, rows left out of the second pass: {wrong} of {cases} cases")
