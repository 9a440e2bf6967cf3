"""The Python face: read, score, select, as three calls; `pilotfish` re-exports them lazily."""

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pilotfish import remote_code
from pilotfish.budget import parse_budget
from pilotfish.config import make_recipe, parse_method, read_recipe
from pilotfish.config.data import Source
from pilotfish.config.scoring import ScoreConfig
from pilotfish.data import Pool
from pilotfish.data.run_pool import open_pool
from pilotfish.errors import UsageError
from pilotfish.records import Floats, Selection
from pilotfish.scoring.cascade_rows import CascadeConfig
from pilotfish.scoring.score import score as score_flow
from pilotfish.selection.cascade import score_cascade
from pilotfish.selection.constraints import Constraints
from pilotfish.selection.select import SelectConfig
from pilotfish.selection.select import select as select_flow
from pilotfish.store import Run, run_lock


def read(
    data: str | Path,
    *,
    out: str | Path | None = None,
    mapping: Mapping[str, str] | None = None,
    limit: int | None = None,
    max_bad_rate: float = 0.01,
) -> Pool:
    """Read DATA into a pool of Examples.

    `out` is the run folder to keep it in; without one it lives in a temporary folder for as long
    as the returned pool. Raises DataError above `max_bad_rate`, UsageError for a missing path.
    """
    folder = str(out) if out is not None else tempfile.mkdtemp(prefix="pilotfish-")
    source = Source(str(data), dict(mapping or {}), limit, max_bad_rate)
    with run_lock(folder) as store:
        pool = open_pool(Run(store.root), source)
    if out is None:
        weakref.finalize(pool, shutil.rmtree, folder, ignore_errors=True)
    return pool


@dataclass(frozen=True)
class Scores:
    """One score per row of a pool, in pool order."""

    pool: Pool
    name: str

    @property
    def folder(self) -> Path:
        """The run folder that holds scores.parquet."""
        return Path(self.pool.store.root)

    @property
    def values(self) -> Floats:
        """[n] raw values in the published orientation, nan where unscorable."""
        column = pq.read_table(self.folder / "scores.parquet", columns=[self.name]).column(0)
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)


def score(
    pool: Pool,
    *,
    weak: str | Path,
    method: str = "ifd",
    name: str | None = None,
    max_length: int | None = None,
    precision: str = "auto",
    seed: int = 0,
    cascade: str | Path | None = None,
    budget: str | None = None,
    recall: float = 0.95,
    trust_remote_code: bool = False,
) -> Scores:
    """Measure every row of `pool` with the weak model and score it by METHOD.

    cascade: a cheaper model reads every row, the weak one only where the best `budget` may lie, so
    that `recall` of its picks are found; the other rows have no score. trust_remote_code: run the
    code that a model brings with it.
    """
    parsed = parse_method(method)
    root = str(pool.store.root)
    config = ScoreConfig(
        str(weak),
        [parsed],
        [name] if name else [],
        max_length=max_length,
        precision=precision,
        seed=seed,
    )
    if (cascade is None) != (budget is None):
        raise UsageError("cascade and budget go together: which model reads all, for which picks")
    with remote_code.allowing(trust_remote_code):
        if cascade is None or budget is None:
            score_flow(root, Source(root), config)
        else:
            cheap = CascadeConfig(str(cascade), parse_budget(budget), recall)
            score_cascade(root, Source(root), config, cheap)
    return Scores(pool, name or parsed.text)


@dataclass(frozen=True)
class Picked:
    """The rows that were picked, best first."""

    scores: Scores
    selection: Selection

    def __len__(self) -> int:
        return len(self.selection)

    @property
    def ids(self) -> list[str]:
        """Ids in pick order."""
        ids = self.scores.pool.columns("id")["id"]
        return [str(ids[i]) for i in self.selection.order]

    def save(self, path: str | Path) -> Path:
        """Write the picked rows as jsonl, in the schema they came in and in pick order."""
        target = Path(path)
        if target.suffix != ".jsonl":
            raise UsageError(f"selected rows are written as .jsonl, not '{target.suffix}'")
        lines = self.scores.pool.raw(self.selection.order)
        target.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return target


def select(
    scores: Scores,
    *,
    budget: str = "10%",
    method: str | None = None,
    name: str = "selected",
    direction: str | None = None,
    seed: int = 0,
    allow_short: bool = False,
    dedup: str | None = None,
    quota: str | None = None,
) -> Picked:
    """Spend a budget on scores; exactly what was asked is delivered, else UsageError.

    dedup: "exact" or "near": of equal rows only the best-ranked is kept. quota: "COLUMN",
    "COLUMN:balanced" or "COLUMN:a=1,b=3": the budget, in rows, is shared among the column's values.
    """
    facts = Run(scores.folder).section("scores")[scores.name]
    selection = select_flow(
        str(scores.folder),
        SelectConfig(
            parse_method(method or facts["method"]),
            budget,
            score=scores.name,
            name=name,
            direction=direction,
            seed=seed,
            allow_short=allow_short,
            constraints=Constraints.parse(dedup, quota),
        ),
        force=True,
    )
    return Picked(scores, selection)


def run(recipe: str | Path | Mapping[str, Any], *, out: str | Path) -> dict[str, Any]:
    """Run a whole recipe (a YAML path or its settings) into `out`; returns the report."""
    from pilotfish.experiments.run import run_experiment

    settings = dict(recipe) if isinstance(recipe, Mapping) else read_recipe(recipe)
    done = run_experiment(make_recipe(settings), str(out))
    return done.store.read_json("report.json") or {}
