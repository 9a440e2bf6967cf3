"""`explain`: why one row was kept or dropped, in one sentence with the numbers."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pilotfish.data.run_pool import open_run
from pilotfish.errors import UsageError
from pilotfish.methods.rankers import COPY, KEPT, OVER_BUDGET, OVER_QUOTA, UNSCORABLE
from pilotfish.methods.rankers.base import IN_SELECTION, OVER_CEILING, UNDER_FLOOR, UNMATCHED
from pilotfish.records import Floats
from pilotfish.selection.files import decisions_of
from pilotfish.store import Run

# Why a row could not be scored, in words.
_UNSCORABLE = {
    "empty_response": "its response is empty",
    "no_response_tokens": "no response token is left after truncation",
    "prompt_over_limit": "its prompt alone fills the window of the weak model",
    "too_few_tokens": "its response has too few tokens to be scored",
    "too_short": "its response has too few tokens to be scored",
    "nonfinite": "the weak model gave a value that is no finite number",
    "missing_signal": "the signals of the score were not measured for it",
    "model_error": "the weak model failed on it",
    "cascade_skipped": "the cheaper model of the cascade did not pass it on",
}


@dataclass(frozen=True, eq=False)
class Case:
    """One row among all decisions of a selection."""

    facts: dict[str, Any]  # the selection's entry in run.json
    decision: dict[str, Any]  # the row's line in decisions.parquet
    eligible: Floats  # [m] scores of the rows that could be selected
    kept: Floats  # [k] scores of the selected rows

    @property
    def direction(self) -> str:
        """Which end the selection keeps: high, low or middle."""
        return str(self.facts.get("direction"))

    @property
    def criterion(self) -> str:
        """What the selection ranks by: `superfiltering score`, `draw`, `response length`."""
        method = str(self.facts.get("method", "selection")).partition("(")[0]
        named = {"random": "draw", "length_matched": "draw", "longest": "response length"}
        return named.get(method, f"{method} score")

    @property
    def score(self) -> str:
        """The row's score by name: `superfiltering score 0.71`."""
        return f"{self.criterion} {_number(self.decision['score'])}"

    @property
    def ranking(self) -> str:
        """The row's place among the eligible rows, in the direction of the selection."""
        own = self.decision["score"]
        ahead = self.eligible < own if self.direction == "low" else self.eligible > own
        end = {"low": ", lowest first", "middle": ", highest first"}.get(self.direction, "")
        place = _nth(1 + int(ahead.sum()))
        return f"its {self.score} ranks {place} of {len(self.eligible):,} eligible rows{end}"

    @property
    def budget(self) -> str:
        """The rows that the budget bought, and where the cut fell."""
        low, high, count = float(self.kept.min()), float(self.kept.max()), f"{len(self.kept):,}"
        if self.direction == "middle":
            return f"the {count} around the median (from {_number(low)} to {_number(high)})"
        cut = high if self.direction == "low" else low
        tied = "; ties are broken by content hash" if cut == self.decision["score"] else ""
        return f"the first {count} (cut at {_number(cut)}{tied})"


def explain(
    root: str | Path,
    *,
    id: str | None = None,
    row: int | None = None,
    source: str | None = None,
    selection: str = "selected",
) -> dict[str, Any]:
    """Explain one row of a run: kept or dropped, and why.

    Rows that never reached the pool (quarantined, or dropped because the test data has them) are
    explained too.

    Args:
        root: The run folder.
        id: The row's id; or give `row`.
        row: The row's 0-based number in its source.
        source: The file of `row`, needed where several sources have such a number.
        selection: The selection that decided.

    Returns:
        `sentence`, and the numbers behind it.

    Raises:
        UsageError: No row fits, or more than one, or there is no such run or selection.
    """
    if (id is None) == (row is None):
        raise UsageError("name one row", hint=f"pilotfish explain {root} ID, or --row N")
    run = open_run(root)
    found = [*_decided(run, selection, id, row, source), *_outside(run, id, row, source)]
    if len(found) == 1:
        return found[0]
    wanted = f"id '{id}'" if id is not None else f"row {row}"
    if found:
        known = ", ".join(sorted({line["source"] for line in found}))
        raise UsageError(f"{wanted} is in several sources", hint=f"add --source: {known}")
    raise UsageError(
        f"{root} has no {wanted}" + (f" of {source}" if source else ""),
        hint="rows count from 0 in their source; ids are in "
        f"selections/{selection}/decisions.parquet",
    )


def _decided(
    run: Run, selection: str, id: str | None, row: int | None, source: str | None
) -> Iterator[dict[str, Any]]:
    """Explain the pool rows that match."""
    table = decisions_of(run, selection)
    reason = np.array(table.column("reason").to_pylist(), dtype=object)
    score, kept = table.column("score").to_numpy(), reason == KEPT
    eligible = score[kept | np.isin(reason, [OVER_BUDGET, OVER_QUOTA])]
    key, wanted = ("id", id) if id is not None else ("row", row)
    for at, value in enumerate(table.column(key).to_pylist()):
        decision = table.slice(at, 1).to_pylist()[0] if value == wanted else None
        if decision and source in (None, decision["source"]):
            facts = run.section("selections").get(selection, {})
            case = Case(facts, decision, eligible, score[kept])
            sentence = f"{_name(decision)} {_outcome(case)}{_fast_score(run, case, at)}."
            yield {**decision, "selection": selection, "sentence": sentence}


def _outcome(case: Case) -> str:
    """Return the decision on a row and its reason, as the predicate of a sentence."""
    facts, decision, reason = case.facts, case.decision, str(case.decision["reason"])
    code, _, detail = reason.partition(":")
    if code == KEPT:
        rank = _nth(decision["rank"] + 1)
        return f"was kept as the {rank} of {len(case.kept):,}: {case.ranking}"
    if code == UNMATCHED:
        return (
            "was not drawn: its source and length bin already gave as many rows as "
            f"'{facts.get('of')}' holds there ({len(case.kept):,} rows in all)"
        )
    if code == IN_SELECTION:
        return (
            f"was left out: it is one of the rows of '{facts.get('of')}', to which this control "
            "is matched"
        )
    if code == OVER_BUDGET:
        why = f"{case.ranking}; the budget of {facts.get('budget', '?')} kept {case.budget}"
    elif code == OVER_QUOTA:
        quota = facts["quota"]["as"]
        why = f"{case.ranking}, and its group had reached its quota ({quota})"
    elif code == COPY:
        like = {"exact": "a copy", "near": "a copy or near copy"}[facts["dedup"]["kind"]]
        other = decision["nearest_kept_id"]
        kept = (
            f"the kept row {other}" if other else "a better-ranked row, which was not kept either"
        )
        why = f"it is {like} of {kept}"
    elif code == OVER_CEILING:
        ceiling = _number(facts.get("ceiling"))
        why = (
            f"its {case.score} is not below the ceiling of {ceiling}, where the prompt stops "
            "helping the response"
        )
    elif code == UNDER_FLOOR:
        why = f"its {case.score} is not above the floor"
    elif code == UNSCORABLE:
        cause = _UNSCORABLE.get(detail, detail or "no reason is on record")
        why = (
            f"it has no {case.criterion}, because {cause} ({detail or UNSCORABLE}); rows without a "
            "score are never selected"
        )
    else:
        return f"was {'kept' if decision['kept'] else 'dropped'}: {reason}"
    return f"was dropped: {why}"


def _fast_score(run: Run, case: Case, at: int) -> str:
    """Name the score in a fast number format, of a row that was measured again in fp32."""
    audit, column = case.facts.get("audit"), str(case.facts.get("score"))
    made_in = run.section("scores").get(column, {}).get("precision")
    if not audit or audit["precision"] != made_in:
        return ""
    with pq.ParquetFile(run.store.path("scores.parquet")) as file:
        [fast] = file.read(columns=["id", column]).slice(at, 1).to_pylist()
    if fast["id"] != case.decision["id"] or fast[column] == case.decision["score"]:
        return ""
    before = "no score" if fast[column] is None else _number(fast[column])
    return f"; that score is of {audit['reference']}, it was {before} in {made_in}"


def _outside(
    run: Run, id: str | None, row: int | None, source: str | None
) -> Iterator[dict[str, Any]]:
    """Explain the matching rows that were set aside when the data was read."""
    for name in ("dropped", "quarantine"):
        for line in _lines(run, f"pool/{name}.jsonl"):
            matches = line.get("id") == id if id is not None else line.get("row") == row
            if not matches or source not in (None, line.get("source")):
                continue
            if name == "dropped":
                outcome = (
                    "was dropped before anything was measured: it is also in the test data "
                    f"({line.get('reason', 'test_overlap')})"
                )
            else:
                excerpt = line.get("excerpt", "")[:60]
                outcome = f"was quarantined when it was read: {line.get('reason', 'unreadable')}"
                outcome += f", it begins {json.dumps(excerpt)}" if excerpt else ""
            yield {**line, "kept": False, "sentence": f"{_name(line)} {outcome}."}


def _lines(run: Run, rel: str) -> Iterator[dict[str, Any]]:
    path = run.store.path(rel)
    if path.exists():
        with path.open(encoding="utf-8") as handle:
            yield from (json.loads(line) for line in handle)


def _name(line: dict[str, Any]) -> str:
    tail = f" (id {line['id']})" if line.get("id") else ""
    return f"Row {line['row']} of {line['source']}{tail}"


def _number(value: float | None) -> str:
    return "its method" if value is None else f"{value:.6g}"


def _nth(place: int) -> str:
    ending = "th" if 10 <= place % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place:,}{ending}"
