"""Canary lift: how often a selection would keep planted rows, relative to how often it keeps any.

Canaries are rows of known attacks. They are scored like the pool but never added to it: the
selection is replayed with each canary added, and no score, selection or model changes.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotfish.budget import take
from pilotfish.data.run_pool import fingerprint, open_run, pool_of
from pilotfish.methods import Selector
from pilotfish.methods.longest import Longest
from pilotfish.methods.random import Random
from pilotfish.methods.rankers import Ranker, tie_rank
from pilotfish.progress import SILENT, Progress
from pilotfish.records import Floats, RowFeatures
from pilotfish.run_context import RunContext
from pilotfish.selection.canaries.attacks import ATTACKS, BAIT, BENIGN, CONTROLS, UNCHANGED
from pilotfish.selection.canaries.measure import (
    Canaries,
    CanaryScorer,
    canaries_of,
    concatenate,
    passed_cascade,
    pool_features,
    take_rows,
    with_counts,
)
from pilotfish.selection.canaries.replay import (
    ExtendedPool,
    Outcome,
    drift,
    lift,
    replay_each,
    replay_together,
)
from pilotfish.selection.constraints import Constraints
from pilotfish.selection.files import SelectionDraft
from pilotfish.selection.select import recorded_config, redraft, resolve_method
from pilotfish.selection.topk import GatheredScores, gather
from pilotfish.store import Run, run_lock

ROWS = 20  # canaries per attack, by default
# The entries of a selection in run.json that decide the lift.
_SELECTION_KEYS = (
    "method",
    "direction",
    "ceiling",
    "seed",
    "score",
    "scores_sha",
    "pool",
    "budget",
    "rows_digest",
    "dedup",
    "quota",
)
_BOOKKEEPING = ("files", "made_from")


def measure_canaries(
    root: str | Path, names: Sequence[str], rows: int = ROWS, *, progress: Progress = SILENT
) -> dict[str, dict[str, Any]]:
    """Measure the canary lift of selections while holding the run's lock.

    Args:
        root: The run folder.
        names: The selections.
        rows: How many rows of the pool are drawn; every attack changes all of them.
        progress: Receives a note per selection.

    Returns:
        Selection -> the lift of every attack and the drift by judge bait, or `why` there is none.
    """
    with run_lock(open_run(root).root) as store:
        return measure_canaries_in(RunContext(Run(store.root), progress), names, rows)


def measure_canaries_in(
    context: RunContext, names: Sequence[str], rows: int = ROWS
) -> dict[str, dict[str, Any]]:
    """Measure as `measure_canaries` does, for a caller that holds the run's lock.

    Committed results are reused if selection and canaries are the same.
    """
    run, found = context.run, dict[str, dict[str, Any]]()
    canaries, scorer = canaries_of(pool_of(run), rows), CanaryScorer(run)
    for name in names:
        recorded = run.section("selections")[name]
        made_from = {
            "selection": {key: recorded.get(key) for key in _SELECTION_KEYS},
            "planted": fingerprint(canaries.rows),
        }
        facts = run.store.manifest(f"canaries/{name}.json")
        if facts is None or facts["made_from"] != made_from:
            context.progress.note(f"measuring planted rows for '{name}'")
            start = time.monotonic()
            facts, lines = _measure(run, name, canaries, scorer)
            with run.store.attempt(f"canaries/{name}.json") as attempt:
                attempt.path(f"canaries/{name}.jsonl").write_text(
                    "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines),
                    encoding="utf-8",
                )
                attempt.meta = {**facts, "made_from": made_from}
            seconds = time.monotonic() - start
            run.cost("canaries", name, seconds=seconds, rows=len(canaries.rows), **scorer.cost())
        found[name] = {key: value for key, value in facts.items() if key not in _BOOKKEEPING}
    return found


def sentences(found: Mapping[str, Any]) -> list[str]:
    """Return the lifts of one selection in words, or the reason why there are none."""
    if "why" in found:
        return [f"planted rows were not measured: {found['why']}"]
    return [*map(_lift_words, found["attacks"]), *_drift_words(found["injection"])]


def _lift_words(each: Mapping[str, Any]) -> str:
    name = f"planted rows, {str(each['attack']).replace('_', ' ')}"
    if not each["of"]:
        return f"{name}: this attack does not apply to rows of this kind"
    return (
        f"{name}: {each['kept']} of {each['of']} would be kept, "
        f"lift {each['lift']:.2f} ({each['low']:.2f} to {each['high']:.2f})"
    )


def _drift_words(injection: Mapping[str, Any]) -> Iterator[str]:
    words = {
        "bait": "judge bait changes a row's rank (+ is better) by",
        "benign": "ordinary text of the same length changes it by",
        "excess": "the difference is",
    }
    for name, begin in words.items():
        each = injection[name]
        interval = "" if each["low"] is None else f" ({each['low']:+.1%} to {each['high']:+.1%})"
        yield f"{begin} {each['mean']:+.1%} of the pool{interval}"


@dataclass(frozen=True, eq=False)
class _Case:
    """One selection, and the canaries that it is replayed with."""

    draft: SelectionDraft
    selector: Selector
    ranker: Ranker
    pool: GatheredScores  # all rows of the pool
    canaries: Canaries

    @property
    def column(self) -> str | None:
        """The score column; None for a method that needs no model."""
        return self.draft.scores.column

    @property
    def spends_tokens(self) -> bool:
        """Whether the budget counts tokens."""
        return self.draft.budget.unit == "tokens"

    def extended(self, scores: Floats, seen: RowFeatures) -> ExtendedPool:
        """The pool and all canaries; scores [n + m] of both, seen: features of the canaries."""
        rows, pool = self.canaries.rows, self.pool
        digests = np.frombuffer(bytes.fromhex("".join(row.digest for row in rows)), dtype="S16")
        ids = [*pool.ids.to_pylist(), *(row.id for row in rows)]
        tie = tie_rank(np.concatenate([pool.digests, digests]), ids)
        tokens = None
        if self.spends_tokens and pool.tokens is not None:
            tokens = np.concatenate([pool.tokens, seen.n_prompt_tokens + seen.n_response_tokens])
        return ExtendedPool(scores, tie, tokens, len(pool.place))


def _measure(
    run: Run, name: str, canaries: Canaries, scorer: CanaryScorer
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the facts about a selection, and a line for every canary."""
    recorded = run.section("selections")[name]
    share = recorded["delivered"] / len(pool_of(run))
    facts = {"selection": name, "method": recorded["method"], "share": share}
    case = _replayable(run, name, canaries)
    if isinstance(case, str):
        return {**facts, "why": case}, []
    seen = _features(case, scorer)
    if case.selector.pool_relative:
        scores, outcome = _replay_relative(case, seen)
    else:
        scores = np.asarray(case.selector.score(seen), dtype=np.float64)
        if case.column is not None:
            passed = passed_cascade(scorer, canaries.rows, case.column, case.selector)
            scores = np.where(passed, scores, np.nan)
        extended = case.extended(np.concatenate([case.pool.scores, scores]), seen)
        outcome = replay_each(extended, case.ranker, case.draft.budget)
    nothing = {"kept": 0, "of": 0, "lift": None, "low": None, "high": None}
    attacks = []
    for attack in ATTACKS:
        kept: NDArray[np.bool_] = outcome.kept[canaries.of(attack)]
        counted = lift(kept, share) if len(kept) else nothing
        attacks.append({"attack": attack, "control": attack in CONTROLS, **counted})
    columns = (canaries.attacks, canaries.drawn, outcome.kept, outcome.place, scores)
    lines = [
        {
            "attack": attack,
            "row": int(row),
            "kept": bool(kept),
            "place": float(place),
            "score": float(score) if np.isfinite(score) else None,
        }
        for attack, row, kept, place, score in zip(*columns, strict=True)
    ]
    places = {name: outcome.place[canaries.of(name)] for name in (UNCHANGED, BAIT, BENIGN)}
    injection = {
        "bait": drift(places, UNCHANGED, BAIT),
        "benign": drift(places, UNCHANGED, BENIGN),
        "excess": drift(places, BENIGN, BAIT),
    }
    together = case.selector.pool_relative
    return {**facts, "together": together, "attacks": attacks, "injection": injection}, lines


def _replayable(run: Run, name: str, canaries: Canaries) -> "_Case | str":
    """Make the selection again, or return the reason why it cannot be replayed with more rows."""
    facts = run.section("selections")[name]
    if facts["method"] == "length_matched":
        return "it draws rows to match another selection and reads no score"
    if Constraints.recorded(facts):
        return "copies or quotas decide here too, and they are not replayed"
    selector: Selector
    if facts["of"] is None:
        selector = resolve_method(run, recorded_config(run, name))[1]
    elif str(facts["method"]).startswith("random"):
        selector = Random(int(facts["seed"] or 0))
    else:
        selector = Longest()
    draft, ranker = redraft(run, name), selector.ranker()
    pool = gather(draft.rows, draft.scores)
    order = ranker.rank(pool.scores, pool.tie).order
    kept = take(order, draft.budget, len(pool.place), tokens=pool.tokens, allow_short=True)
    if not np.array_equal(pool.place[kept], draft.picked.kept):
        return "more than scores and a budget decides which rows are kept here"
    return _Case(draft, selector, ranker, pool, canaries)


def _features(case: _Case, scorer: CanaryScorer) -> RowFeatures:
    """The canaries' features for the method, with token counts where method or budget read them."""
    canaries, column, counts = case.canaries, case.column, None
    if column is None:
        none = np.zeros(len(canaries.rows), dtype=np.int64)
        ids = np.array([row.id for row in canaries.rows], dtype=object)
        seen = RowFeatures(ids, none, none)
    else:
        # Audited scores of the pool are fp32 near the cut, so the canaries are scored in fp32 too.
        audited = "audit" in case.draft.facts
        precision = "fp32" if audited else scorer.run.section("scores")[column]["precision"]
        seen = scorer.features(canaries.rows, column, case.selector, precision)
    if case.selector.reads_counts or case.spends_tokens:
        shards = case.draft.rows.counts()
        if shards is not None:
            prompt, response = (np.concatenate(each) for each in zip(*shards, strict=True))
            own = canaries.drawn[canaries.of(UNCHANGED)]  # the first rows of the canaries
            counts = scorer.counts(canaries.rows, len(own), (prompt[own], response[own]))
    return with_counts(seen, counts)


def _replay_relative(case: _Case, seen: RowFeatures) -> tuple[Floats, Outcome]:
    """Replay a method whose scores depend on the other rows: all rows of an attack at once.

    Returns:
        [m] scores of the canaries, and their outcome.
    """
    n, m = len(case.pool.place), len(case.canaries.rows)
    own = pool_features(case.draft.rows, case.column, case.selector)
    scores, kept, place = np.full(m, np.nan), np.zeros(m, dtype=bool), np.ones(m)
    for attack in ATTACKS:
        at = case.canaries.of(attack)
        if not len(at):
            continue
        features = concatenate(own, take_rows(seen, at))
        found = np.asarray(case.selector.score(features), dtype=np.float64)
        whole = np.concatenate([found[:n], np.full(m, np.nan)])
        whole[n + at] = scores[at] = found[n:]
        extended = case.extended(whole, seen).only(at.tolist())
        outcome = replay_together(extended, case.ranker, case.draft.budget)
        kept[at], place[at] = outcome.kept, outcome.place
    return scores, Outcome(kept, place)
