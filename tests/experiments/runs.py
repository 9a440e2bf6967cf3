"""Runs as the score flow leaves them, made without a model: a real pool and made-up scores."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pilotfish.data import Pool
from pilotfish.store import Run
from tests.reading import read

Record = dict[str, Any]


def records(count: int, *, start: int = 0) -> list[Record]:
    """Alpaca rows, all distinct, with a column that no format knows."""
    return [
        {"instruction": f"Say {i}", "input": "", "output": "word " * (i % 7 + 1) + str(i), "tag": i}
        for i in range(start, start + count)
    ]


def write(path: Path, rows: list[Record]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pool_run(root: Path, data: Path, **options: Any) -> Run:
    """A run that was read but not scored."""
    run = Run(root)
    pool = read(data, run.store, **options)
    run.update(pool={"fingerprint": pool.fingerprint, "rows": len(pool)})
    return run


def value_of(content: str) -> float:
    """A made-up score of a row, a function of its content alone, from 0.01 to 1.25."""
    return (sum(map(ord, content)) * 7919 % 125 + 1) / 100


def score_run(
    run: Run,
    columns: dict[str, str] | None = None,
    *,
    values: Any = None,
    reasons: dict[int, str] | None = None,
) -> Run:
    """Add scores.parquet: column NAME -> METHOD. `reasons`: pool position -> why unscorable."""
    pool = Pool.open(run.store)
    found = pool.columns("id", "source", "row", "raw")
    lengths = [len(json.loads(raw).get("output", "")) for raw in found["raw"]]
    table: dict[str, Any] = {
        "id": pa.array(found["id"], pa.string()),
        "source": pa.array(found["source"], pa.string()),
        "row": pa.array(found["row"], pa.int64()),
        "n_prompt_tokens": pa.array([4] * len(pool), pa.int64()),
        "n_response_tokens": pa.array(lengths, pa.int64()),
        "truncated": pa.array([False] * len(pool), pa.bool_()),
    }
    columns = columns or {"superfiltering": "superfiltering"}
    scores = np.array([value_of(raw) for raw in found["raw"]] if values is None else values)
    why = np.array([(reasons or {}).get(i) for i in range(len(pool))], dtype=object)
    bad = np.not_equal(why, None).astype(bool)
    for name in columns:
        table[name] = pa.array(np.where(bad, 0.0, scores), pa.float64(), mask=bad)
        status = np.where(bad, "unscorable", "ok").astype(object)
        table[f"{name}_status"] = pa.array(status, pa.string())
        table[f"{name}_reason"] = pa.array(why, pa.string())
    with run.store.attempt("scores.json") as attempt:
        pq.write_table(pa.table(table), attempt.path("scores.parquet"))
        attempt.meta = {"pool": pool.fingerprint, "rows": len(pool)}
    run.update(scores={name: {"method": method} for name, method in columns.items()})
    return run


def scored_run(root: Path, count: int = 100, **how: Any) -> Run:
    """A run of one alpaca file with scores by superfiltering."""
    data = write(root.parent / f"{root.name}-data" / "alpaca.jsonl", records(count))
    return score_run(pool_run(root, data), **how)


def decisions(run: Run, name: str = "selected") -> dict[str, list[Any]]:
    table = pq.read_table(run.root / f"selections/{name}/decisions.parquet")
    return dict(table.to_pydict())


def selected(run: Run, name: str = "selected") -> list[Record]:
    lines = (run.root / f"selections/{name}/selected.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]
