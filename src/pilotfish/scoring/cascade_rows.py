"""The rows that a cascade passes on: committed, read back, and what a selection may promise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pilotfish.budget import Budget, resolve
from pilotfish.errors import UsageError
from pilotfish.methods.rankers import Ranker
from pilotfish.records import Ints, Mask
from pilotfish.scoring.audit import audit_sentences
from pilotfish.scoring.audit.cascade import Cascade, recall_at_fewer
from pilotfish.store import Run, Store

CASCADE = "cascade_from"  # fact of a column: which model, budget and recall chose its rows
RECALL = 0.95  # of the picks, unless set
_PLAIN = ("target", "confidence", "picked", "missed")


@dataclass(frozen=True)
class CascadeConfig:
    """The cheap model of a cascade, and the recall that it is planned for."""

    model: str  # MODEL that reads every row
    budget: Budget  # how many rows will be selected
    recall: float = RECALL  # share of the intended model's picks to find, in (0, 1)

    def check(self) -> None:
        """Raise UsageError for a recall outside (0, 1)."""
        if not 0.0 < self.recall < 1.0:
            raise UsageError(
                f"--recall is the share of picks to be found, between 0 and 1, not {self.recall:g}",
                hint="leave --cascade out to be sure of every row",
            )


@dataclass(frozen=True, eq=False)
class CascadeRows:
    """Which rows the intended model reads, and the batches that the plan was made in."""

    name: str  # of the files in the run, without ending
    cascade: Cascade
    audited: Ints  # rows not passed on that are read all the same, to measure the recall
    calibration: Ints  # rows that the plan was made by, all of them passed on
    token_budget: int
    threads: int

    @property
    def scored(self) -> Mask:
        """[n] the rows that the intended model reads."""
        return self.cascade.passed | _mask(self.audited, len(self.cascade.passed))


def write_cascade_rows(store: Store, rows: CascadeRows, made_from: Mapping[str, Any]) -> None:
    """Commit NAME.parquet, one line per row of the pool, and NAME.json with what made it."""
    n, cascade = len(rows.cascade.passed), rows.cascade
    columns = {
        "scored": rows.scored,
        "passed": cascade.passed,
        "audited": _mask(rows.audited, n),
        "calibration": _mask(rows.calibration, n),
    }
    ends = [end if np.isfinite(end) else None for end in cascade.threshold]
    with store.attempt(f"{rows.name}.json") as attempt:
        pq.write_table(pa.table(columns), attempt.path(f"{rows.name}.parquet"))
        attempt.meta = {
            "made_from": dict(made_from),
            "token_budget": rows.token_budget,
            "threads": rows.threads,
            "threshold": ends,
            **{name: getattr(cascade, name) for name in _PLAIN},
        }


def read_cascade_rows(store: Store, name: str) -> CascadeRows | None:
    """Read what was committed under a name; None if it is missing or damaged."""
    facts = store.manifest(f"{name}.json")
    if facts is None:
        return None
    table = pq.read_table(store.path(f"{name}.parquet"))
    passed, audited, calibration = (
        table[column].to_numpy() for column in ("passed", "audited", "calibration")
    )
    low, high = (np.nan if end is None else end for end in facts["threshold"])
    plain = {key: facts[key] for key in _PLAIN}
    cascade = Cascade(passed, (low, high), calibration=int(calibration.sum()), **plain)
    rows = np.flatnonzero(audited), np.flatnonzero(calibration)
    return CascadeRows(name, cascade, *rows, facts["token_budget"], facts["threads"])


def promise(run: Run, column: str, ranker: Ranker, budget: Budget, n: int) -> dict[str, Any]:
    """Return what a cascade promises of a selection, for its facts; {} for a column of one model.

    Args:
        run: The run.
        column: The score column that is selected by.
        ranker: How the selection ranks.
        budget: Of the selection.
        n: Rows of the pool.

    Raises:
        UsageError: The cascade promises nothing: for more rows, for tokens, or for another ranker.
    """
    facts = run.section("scores")[column]
    if CASCADE not in facts:
        return {}
    plan = facts.get("cascade")
    if plan is None:
        raise UsageError(
            f"the cascade of '{column}' is not finished", hint="give the same `score` command again"
        )
    count = None if budget.unit == "tokens" else min(resolve(budget, n), n)
    if repr(ranker) != plan["picker"] or count is None or count > plan["picked"]:
        raise UsageError(
            f"'{column}' was scored by a cascade for the best {plan['picked']:,} rows "
            f"({plan['budget']}); beyond them, or from another end, most rows have no score",
            hint="pick that many or fewer, or score again with another --budget and --as",
        )
    sentences = audit_sentences(plan)
    if count < plan["picked"]:
        low = recall_at_fewer(plan["recall"][1], plan["picked"], count)
        sentences.insert(
            0,
            f"Cascade: planned for {plan['picked']:,} rows and cut at {count:,}, where recall was "
            f"not measured: by the interval of the whole it is at least {low:.0%}; not identical.",
        )
    return {"cascade": {**plan, "sentences": sentences}}


def _mask(rows: Ints, n: int) -> Mask:
    """Return [n] whether each row is among `rows` [m]."""
    mask = np.zeros(n, dtype=bool)
    mask[rows] = True
    return mask
