"""Scores of a fast precision, put right in fp32 around the cut of a selection, and audited."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pilotfish.audit import Rule, Walked, cut_facts, cuts_of, refusal, walk
from pilotfish.budget import Budget
from pilotfish.flows.candidates import Candidates, Part, Scored
from pilotfish.flows.picking import gathered
from pilotfish.flows.precision import precision_of
from pilotfish.flows.progress import SILENT, Progress
from pilotfish.flows.reading import warn
from pilotfish.flows.weak import weak_by_digest
from pilotfish.pickers import Picker
from pilotfish.records import Floats, Ints, Texts
from pilotfish.selectors import Selector
from pilotfish.store import Run


@dataclass(frozen=True)
class Chosen:
    """What a selection is going to be made by."""

    column: str
    selector: Selector
    picker: Picker
    budget: Budget


def recheck(
    rows: Candidates, scored: Scored, chosen: Chosen, *, progress: Progress = SILENT
) -> tuple[Scored, dict[str, Any] | None]:
    """The scores a selection may trust, and what was done to them; fp32 scores as they are.

    Every row near a cut is measured again in fp32, outward until nothing flips, and random rows
    elsewhere (see `pilotfish.audit.walk`). What was measured is kept for the next selection.
    """
    run, fast = rows.run, precision_of(rows.run, chosen.column)
    if fast == "fp32":
        return scored, None
    if told := refusal(chosen.picker):
        warn(run, [f"'{chosen.column}' was scored in {fast}, and nothing audits it: {told}"])
        return scored, None
    some = gathered(rows, scored, chosen.picker, None)
    cuts = cuts_of(chosen.picker, chosen.budget, tokens=some.tokens)
    lengths = np.concatenate([response for _, response in rows.need_counts("the audit")])
    again = _Again(rows, chosen)
    known = _known(run, chosen.column, len(rows))
    rule = Rule()
    why = np.concatenate([part.why for part in scored.parts()])
    progress.note(f"re-measuring in fp32 around the cut of {fast} scores")
    walked = walk(
        some.scores, some.tie, lengths, cuts, again,
        rule=rule, known=known, given_up=np.isin(why, _HOPELESS),
    )  # fmt: skip
    _keep(run, chosen.column, walked)
    agreed = run.section("precision").get("columns", {}).get(chosen.column)
    facts = cut_facts(
        walked, precision=fast, token_budget=again.token_budget, agreed=None, rule=rule
    )
    return _corrected(rows, scored, walked, again.why), {**facts, "agreement": agreed}


# A row that no precision can read.
_HOPELESS = (
    "empty_response", "prompt_over_limit", "too_few_tokens", "no_response_tokens",
    "template_error", "tokenizer_error", "model_error", "oom_single_row",
)  # fmt: skip


class _Again:
    """Pool indices -> fp32 scores; the model is loaded when the first row is asked for."""

    def __init__(self, rows: Candidates, chosen: Chosen) -> None:
        facts = rows.run.section("scores")[chosen.column]
        self._rows, self._selector, self._facts = rows, chosen.selector, facts
        self.token_budget = int(rows.run.section("weak")["token_budget"])
        self.why: dict[int, str] = {}
        self._look: Any = None

    def __call__(self, indices: Ints) -> Floats:
        seen = self._looker()(self._rows.pool.take(indices))
        values = np.asarray(self._selector.score(seen), dtype=np.float64)
        reasons = self._selector.reasons(seen, values)
        self.why |= dict(zip(indices.tolist(), reasons.tolist(), strict=True))
        return values

    def _looker(self) -> Any:
        if self._look is None:
            from pilotfish.engine import Looker

            loaded = weak_by_digest(self._rows.run, self._facts["weak"], precision="fp32")
            self._look = Looker(
                loaded, self._selector.needs, max_length=self._facts["max_length"],
                token_budget=self.token_budget,
            )  # fmt: skip
        return self._look


def _corrected(rows: Candidates, scored: Scored, walked: Walked, why: Mapping[int, str]) -> Scored:
    """The scores as walked, read anew as often as wanted."""

    def parts() -> Iterator[Part]:
        for (start, stop), part in zip(rows.pool.ranges, scored.parts(), strict=True):
            values = walked.scores[start:stop]
            told = [why.get(start + i, old) for i, old in enumerate(part.why)]
            reasons: Texts = np.where(np.isfinite(values), "", np.array(told, dtype=object))
            yield Part(values, reasons)

    return Scored(scored.column, parts)


def _name(run: Run, column: str) -> str:
    """Where the fp32 scores of a column's rows are kept: by what it was measured with."""
    keys = sorted(run.section("scores")[column]["keys"].values())
    return "audits/" + "+".join(key.rpartition("-")[2] for key in keys)


def _known(run: Run, column: str, n: int) -> Floats:
    """[n] fp32 scores that earlier selections had measured, nan elsewhere."""
    known, name = np.full(n, np.nan), _name(run, column)
    if run.store.manifest(f"{name}.json") is not None:
        table = pq.read_table(run.store.path(f"{name}.parquet"))
        known[table["row"].to_numpy()] = table["score"].to_numpy()
    return known


def _keep(run: Run, column: str, walked: Walked) -> None:
    name = _name(run, column)
    at = np.flatnonzero(walked.remeasured & np.isfinite(walked.scores))
    with run.store.attempt(f"{name}.json") as attempt:
        table = pa.table({"row": pa.array(at), "score": pa.array(walked.scores[at])})
        pq.write_table(table, attempt.path(f"{name}.parquet"), compression="zstd")
        attempt.meta = {"column": column, "rows": len(at)}
