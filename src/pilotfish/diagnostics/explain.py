"""explain: what happened to one row, in one sentence with the numbers."""

import json
from collections.abc import Callable, Iterator
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
    "missing_signal": "what the score needs was not measured for it",
    "model_error": "the weak model failed on it",
    "cascade_skipped": "the cheaper model of the cascade did not pass it on",
}


@dataclass(frozen=True, eq=False)
class Case:
    """One row among all decisions: what a sentence is made of."""

    facts: dict[str, Any]  # the selection's line in run.json
    decision: dict[str, Any]  # the row's decision
    eligible: Floats  # [m] scores that could have been picked
    kept: Floats  # [k] scores that were

    @property
    def score(self) -> str:
        """The row's score by name: `superfiltering score 0.71`."""
        return f"{_what(self.facts)} {_number(self.decision['score'])}"

    @property
    def place(self) -> int:
        """1-based place among the eligible rows, in the direction of the selection."""
        own, low = self.decision["score"], self.facts.get("direction") == "low"
        ahead = self.eligible < own if low else self.eligible > own
        return 1 + int(ahead.sum())


def explain(
    root: str | Path,
    *,
    id: str | None = None,
    row: int | None = None,
    source: str | None = None,
    selection: str = "selected",
) -> dict[str, Any]:
    """`sentence` and the numbers behind it for one row, by id or by row (and source).

    Rows that never reached the pool (quarantined, or dropped because they stand in the test data)
    are explained too. UsageError (exit 2) when no row, or more than one, fits.
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
        raise UsageError(f"{wanted} stands in several sources", hint=f"add --source: {known}")
    raise UsageError(
        f"{root} knows no {wanted}" + (f" of {source}" if source else ""),
        hint="rows count from 0 in their source; ids stand in "
        f"selections/{selection}/decisions.parquet",
    )


def _decided(
    run: Run, selection: str, id: str | None, row: int | None, source: str | None
) -> Iterator[dict[str, Any]]:
    """The explanations of the rows of the pool that fit."""
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
            sentence = f"{_name(decision)} {_fate(case)}{_again(run, case, at)}."
            yield {**decision, "selection": selection, "sentence": sentence}


def _again(run: Run, case: Case, at: int) -> str:
    """What a fast number format had said of a row that was measured again in fp32, if it was."""
    audit, column = case.facts.get("audit"), str(case.facts.get("score"))
    made_in = run.section("scores").get(column, {}).get("precision")
    if not audit or audit["precision"] != made_in:
        return ""
    with pq.ParquetFile(run.store.path("scores.parquet")) as file:
        [fast] = file.read(columns=["id", column]).slice(at, 1).to_pylist()
    if fast["id"] != case.decision["id"] or fast[column] == case.decision["score"]:
        return ""
    before = "no score" if fast[column] is None else _number(fast[column])
    return f"; that score is of {audit['reference']}, {made_in} had said {before}"


def _fate(case: Case) -> str:
    code, _, detail = str(case.decision["reason"]).partition(":")
    return _FATES.get(code, _other)(case, detail)


def _kept(case: Case, _: str) -> str:
    rank = case.decision["rank"] + 1
    return (
        f"was kept as the {_nth(rank)} of {len(case.kept):,}: its {case.score} ranks "
        f"{_nth(case.place)} of {len(case.eligible):,} eligible rows{_end(case)}"
    )


def _over_budget(case: Case, _: str) -> str:
    return (
        f"was dropped: its {case.score} ranks {_nth(case.place)} of {len(case.eligible):,} "
        f"eligible rows{_end(case)}; the budget of {case.facts.get('budget', '?')} kept "
        f"{_window(case)}"
    )


def _over_quota(case: Case, _: str) -> str:
    return (
        f"was dropped: its {case.score} ranks {_nth(case.place)} of {len(case.eligible):,} "
        f"eligible rows{_end(case)}, and its group had given all the rows that the quota "
        f"{case.facts['quota']['as']} leaves it"
    )


def _copy(case: Case, _: str) -> str:
    like = {"exact": "a copy", "near": "a copy or near copy"}[case.facts["dedup"]["kind"]]
    other = case.decision["nearest_kept_id"]
    kept = f"the kept row {other}" if other else "a better-ranked row, which was not kept either"
    return f"was dropped: it is {like} of {kept}"


def _window(case: Case) -> str:
    """Which rows the budget bought, and where the cut fell."""
    low, high = float(case.kept.min()), float(case.kept.max())
    count = f"{len(case.kept):,}"
    if case.facts.get("direction") == "middle":
        return f"the {count} around the median (from {_number(low)} to {_number(high)})"
    cut = high if case.facts.get("direction") == "low" else low
    tied = "; equal scores go by content hash" if cut == case.decision["score"] else ""
    return f"the first {count} (cut at {_number(cut)}{tied})"


def _end(case: Case) -> str:
    return {"low": ", lowest first", "middle": ", highest first"}.get(
        str(case.facts.get("direction")), ""
    )


def _over_ceiling(case: Case, _: str) -> str:
    return (
        f"was dropped: its {case.score} is not below the ceiling of "
        f"{_number(case.facts.get('ceiling'))}, where the prompt stops helping the response"
    )


def _under_floor(case: Case, _: str) -> str:
    return f"was dropped: its {case.score} is not above the floor"


def _unscorable(case: Case, detail: str) -> str:
    why = _UNSCORABLE.get(detail, detail or "no reason is on record")
    return (
        f"was dropped: it has no {_what(case.facts)}, because {why} "
        f"({detail or UNSCORABLE}); rows without a score are never picked"
    )


def _unmatched(case: Case, _: str) -> str:
    return (
        f"was not drawn: its source and length bin already gave as many rows as "
        f"'{case.facts.get('of')}' holds there ({len(case.kept):,} rows in all)"
    )


def _in_selection(case: Case, _: str) -> str:
    return f"was left out: it is one of the rows of '{case.facts.get('of')}' that this is drawn to"


def _other(case: Case, _: str) -> str:
    return f"was {'kept' if case.decision['kept'] else 'dropped'}: {case.decision['reason']}"


_FATES: dict[str, Callable[[Case, str], str]] = {
    KEPT: _kept,
    OVER_BUDGET: _over_budget,
    OVER_QUOTA: _over_quota,
    COPY: _copy,
    OVER_CEILING: _over_ceiling,
    UNDER_FLOOR: _under_floor,
    UNSCORABLE: _unscorable,
    UNMATCHED: _unmatched,
    IN_SELECTION: _in_selection,
}


def _outside(
    run: Run, id: str | None, row: int | None, source: str | None
) -> Iterator[dict[str, Any]]:
    """The explanations of the rows that fit and were set aside when the data was read."""
    for name, say in (("dropped", _dropped), ("quarantine", _quarantined)):
        for line in _lines(run, f"pool/{name}.jsonl"):
            fits = line.get("id") == id if id is not None else line.get("row") == row
            if fits and source in (None, line.get("source")):
                yield {**line, "kept": False, "sentence": f"{_name(line)} {say(line)}."}


def _dropped(line: dict[str, Any]) -> str:
    return (
        "was dropped before anything was measured: it also stands in the test data "
        f"({line.get('reason', 'test_overlap')})"
    )


def _quarantined(line: dict[str, Any]) -> str:
    excerpt = f", it begins {json.dumps(line['excerpt'][:60])}" if line.get("excerpt") else ""
    return f"was quarantined when it was read: {line.get('reason', 'unreadable')}{excerpt}"


def _lines(run: Run, rel: str) -> Iterator[dict[str, Any]]:
    path = run.store.path(rel)
    if path.exists():
        with path.open(encoding="utf-8") as handle:
            yield from (json.loads(line) for line in handle)


def _name(line: dict[str, Any]) -> str:
    tail = f" (id {line['id']})" if line.get("id") else ""
    return f"Row {line['row']} of {line['source']}{tail}"


def _what(facts: dict[str, Any]) -> str:
    method = str(facts.get("method", "selection")).partition("(")[0]
    return {"random": "draw", "length_matched": "draw", "longest": "response length"}.get(
        method, f"{method} score"
    )


def _number(value: float | None) -> str:
    return "its method" if value is None else f"{value:.6g}"


def _nth(place: int) -> str:
    ending = "th" if 10 <= place % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place:,}{ending}"
