"""Scores of a fast precision, put right in fp32 around the cut of a selection, and audited."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pilotfish.budget import Budget, resolve, take
from pilotfish.data.run_pool import warn
from pilotfish.methods import Selector
from pilotfish.methods.rankers import UNSCORABLE, Gate, Ranker
from pilotfish.methods.rankers.base import OPEN
from pilotfish.progress import SILENT, Progress
from pilotfish.records import SKIPPED, Floats, Ints, Mask, Texts
from pilotfish.scoring.audit import Remeasured, Rule, cut_facts, cuts_of, remeasure_near_cuts
from pilotfish.scoring.weak_model import precision_of, unaudited, weak_by_digest
from pilotfish.selection.candidates import Candidates, ScoredRow, ScoreShard
from pilotfish.selection.constraints import NONE, Constraints, duplicates_in
from pilotfish.selection.group_columns import groups_of
from pilotfish.selection.topk import GatheredScores, gathered, scores_sha
from pilotfish.selection.topk_by_group import shares_of


@dataclass(frozen=True)
class AuditTarget:
    """What a selection is going to be made by."""

    column: str
    selector: Selector
    ranker: Ranker
    budget: Budget
    limits: Constraints = NONE
    allow_short: bool = False


def audit_precision(
    rows: Candidates, scored: ScoredRow, chosen: AuditTarget, *, progress: Progress = SILENT
) -> tuple[ScoredRow, dict[str, Any] | None]:
    """The scores a selection may trust, and what was done to them; fp32 scores as they are.

    Every row near a cut is measured again in fp32, outward until nothing flips, and random rows
    elsewhere (see `pilotfish.scoring.audit.remeasure`): the set is put right, not every place
    inside it. What
    was measured is kept, so that the same selection made again measures nothing; another one
    starts afresh, for no score may depend on what was picked before.
    """
    run, fast = rows.run, precision_of(rows.run, chosen.column)
    if fast == "fp32":
        return scored, None
    if told := unaudited(chosen.selector, chosen.ranker):
        warn(run, [f"'{chosen.column}' was scored in {fast}, and nothing audits it: {told}"])
        return scored, None
    some = gathered(rows, scored, chosen.ranker, None)
    lengths = np.concatenate([response for _, response in rows.need_counts("the audit")])
    again = _Again(rows, chosen, scores_sha(scored))
    rule = Rule()
    why = np.concatenate([part.why for part in scored.parts()])
    copies = duplicates_in(rows, scored, chosen.ranker, chosen.limits)
    copied = np.zeros(len(rows), bool) if copies is None else copies.keeper >= 0
    given_up = np.isin(why, _HOPELESS) | copied
    agreed = run.section("precision").get("columns", {}).get(chosen.column)
    refuse_short(chosen, some, given_up, agreed)
    progress.note(f"re-measuring in fp32 around the cut of {fast} scores")
    walked = _settled(
        rows, chosen, replace(some, scores=np.where(copied, np.nan, some.scores)),
        partial(
            remeasure_near_cuts, lengths=lengths, remeasure=again, rule=rule, given_up=given_up
        ),
    )  # fmt: skip
    again.keep()
    facts = cut_facts(
        walked, precision=fast, token_budget=again.token_budget, agreed=None, rule=rule
    )
    if copies is not None:  # to the letter, so that a copy has the score of its keeper
        same = np.where(copied, walked.scores[copies.keeper], walked.scores)
        walked = replace(walked, scores=same)
    return _corrected(rows, scored, walked, again.why), {**facts, "agreement": agreed}


def refuse_short(
    chosen: AuditTarget, some: GatheredScores, given_up: Mask, agreed: Mapping[str, Any] | None
) -> None:
    """UsageError (exit 2), before a row is measured again, where no correction could do.

    Counted as eligible is every row that some precision may score, and that lies inside the gate or
    within twice the largest difference that the run's sample saw (`agreed`) of it.
    """
    reason = _opened(chosen.ranker, agreed).reasons(some.scores)
    rows = np.flatnonzero((reason == "") | ((reason == UNSCORABLE) & ~given_up))
    if some.tokens is not None:  # the smallest first: the order is what is not known yet
        rows = rows[np.argsort(some.tokens[rows], kind="stable")]
    take(
        rows, chosen.budget, len(some.scores), tokens=some.tokens, allow_short=chosen.allow_short
    )  # fmt: skip


def _opened(ranker: Ranker, agreed: Mapping[str, Any] | None) -> Gate:
    """The ranker's gate, wider by what the fast scores may be wrong by."""
    gate: Gate = getattr(ranker, "gate", OPEN)
    if agreed is None or agreed["largest"] is None:
        return OPEN
    off = 2.0 * agreed["largest"]

    def moved(bound: float | None, sign: int) -> float | None:
        if bound is None:
            return None
        return bound * float(np.exp(sign * off)) if agreed["space"] == "log" else bound + sign * off

    return Gate(moved(gate.below, 1), moved(gate.above, -1), strict=False)


def _settled(
    rows: Candidates,
    chosen: AuditTarget,
    some: GatheredScores,
    walk_from: Callable[..., Remeasured],
) -> Remeasured:
    """The walk from every cut; with quotas, again until no corrected score moves a share."""
    fast, tie, quota = some.scores, some.tie, chosen.limits.quota
    if quota is None:
        return walk_from(fast, tie, cuts=cuts_of(chosen.ranker, chosen.budget, tokens=some.tokens))
    groups, count = groups_of(rows.pool, quota.column), resolve(chosen.budget, len(rows))
    names, known, scores = np.array(groups.names, dtype=object), None, fast
    shares = shares_of(groups, quota, chosen.ranker.rank(scores, tie).order, count)
    while True:
        rows_of = dict(zip(groups.names, shares.rows.tolist(), strict=True))
        cuts = cuts_of(chosen.ranker, chosen.budget, groups=names[groups.codes], quotas=rows_of)
        walked = walk_from(fast, tie, cuts=cuts, known=known)
        before, order = shares, chosen.ranker.rank(walked.scores, tie).order
        shares = shares_of(groups, quota, order, count)
        if (shares.rows == before.rows).all():
            return walked
        # every round measures rows that the one before had not, so the rounds end
        known = np.where(walked.remeasured, walked.scores, np.nan)


# A row that no precision can read, or that a cascade did not pass on.
_HOPELESS = (
    "empty_response", "prompt_over_limit", "too_few_tokens", "no_response_tokens",
    "template_error", "tokenizer_error", "model_error", "oom_single_row",
    SKIPPED,
)  # fmt: skip


class _Again:
    """Pool indices -> fp32 scores; the model is loaded when the first unknown row is asked for."""

    def __init__(self, rows: Candidates, chosen: AuditTarget, sha: str) -> None:
        facts = rows.run.section("scores")[chosen.column]
        self._rows, self._selector, self._facts = rows, chosen.selector, facts
        self.token_budget = int(rows.run.section("weak")["token_budget"])
        # two methods of a user's own may need the same and pick alike: their scores differ
        what = [sorted(facts["keys"].values()), repr(chosen.ranker), chosen.budget.text, sha]
        what += [repr(chosen.limits)] if chosen.limits else []
        self._name = "audits/" + hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
        self._known, self.why = self._kept()
        self._before = len(self._known)
        self._look: Any = None

    def __call__(self, indices: Ints) -> Floats:
        if not all(int(i) in self._known for i in indices):
            seen = self._looker()(self._rows.pool.take(indices))
            values = np.asarray(self._selector.score(seen), dtype=np.float64)
            reasons = self._selector.reasons(seen, values)
            self._known |= dict(zip(indices.tolist(), values.tolist(), strict=True))
            self.why |= dict(zip(indices.tolist(), reasons.tolist(), strict=True))
        return np.array([self._known[int(i)] for i in indices])

    def keep(self) -> None:
        """Commit what was measured, if anything was."""
        if len(self._known) == self._before:
            return
        at = sorted(self._known)
        columns = {
            "row": pa.array(at, pa.int64()),
            "score": pa.array([self._known[i] for i in at], pa.float64()),
            "reason": pa.array([self.why[i] for i in at], pa.string()),
        }
        with self._rows.run.store.attempt(f"{self._name}.json") as attempt:
            pq.write_table(pa.table(columns), attempt.path(f"{self._name}.parquet"))
            attempt.meta = {"rows": len(at)}

    def _kept(self) -> tuple[dict[int, float], dict[int, str]]:
        store = self._rows.run.store
        if store.manifest(f"{self._name}.json") is None:
            return {}, {}
        table = pq.read_table(store.path(f"{self._name}.parquet")).to_pydict()
        scores = zip(table["row"], table["score"], strict=True)
        return dict(scores), dict(zip(table["row"], table["reason"], strict=True))

    def _looker(self) -> Any:
        if self._look is None:
            from pilotfish.engine.in_memory import InMemoryScorer

            loaded = weak_by_digest(self._rows.run, self._facts["weak"], precision="fp32")
            self._look = InMemoryScorer(
                loaded, self._selector.needs, max_length=self._facts["max_length"],
                token_budget=self.token_budget,
            )  # fmt: skip
        return self._look


def _corrected(
    rows: Candidates, scored: ScoredRow, walked: Remeasured, why: Mapping[int, str]
) -> ScoredRow:
    """The scores as walked, read anew as often as wanted."""

    def parts() -> Iterator[ScoreShard]:
        for (start, stop), part in zip(rows.pool.ranges, scored.parts(), strict=True):
            values = walked.scores[start:stop]
            told = [why.get(start + i, old) for i, old in enumerate(part.why)]
            reasons: Texts = np.where(np.isfinite(values), "", np.array(told, dtype=object))
            yield ScoreShard(values, reasons)

    return ScoredRow(scored.column, parts)
