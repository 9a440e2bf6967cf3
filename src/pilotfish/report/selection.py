"""What was selected: the selection's summary, distributions, sources, failures and sample rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.data import Pool
from pilotfish.records import Example, Ints, Texts
from pilotfish.report import run_files
from pilotfish.report.distributions import Mask, histogram, rank_correlation, source_shares
from pilotfish.report.run_files import ScoreFiles, SelectionFiles
from pilotfish.report.sanitize import clean, excerpt
from pilotfish.store import Run

CONTROL = "random-0"
MOST_SOURCES = 25  # sources listed on the page
PROMPT_CHARACTERS = 400
RESPONSE_CHARACTERS = 600
_PER_GROUP = 3  # sample rows


@dataclass(frozen=True)
class SelectionData:
    """One score column, the selection made from it, and the random control.

    Attributes:
        scored: The score column.
        picked: The selection; None where nothing was selected yet.
        control: The first random control; None without one.
    """

    scored: ScoreFiles
    picked: SelectionFiles | None
    control: SelectionFiles | None


def read_selected(run: Run) -> SelectionData | None:
    """Read the selection that the page is about with its score, or a score column alone."""
    selections, scores = run.section("selections"), run.section("scores")
    name = run_files.main_selection(selections)
    columns = [selections[name]["score"]] if name else []
    found = (run_files.read_scores(run, str(column)) for column in [*columns, *sorted(scores)])
    scored = next((each for each in found if each is not None), None)
    if scored is None:
        return None
    picked = run_files.read_selection(run, name, scored.ids) if name else None
    return SelectionData(scored, picked, run_files.read_selection(run, CONTROL, scored.ids))


def pool_summary(run: Run) -> dict[str, Any]:
    """Return the `pool` of report.json: rows read, quarantined (by reason) and dropped."""
    pool = run.section("pool")
    quarantined: Mapping[str, int] = pool.get("quarantined") or {}
    return {
        "rows": pool.get("rows"),
        "dropped": pool.get("dropped"),
        "quarantined": sum(quarantined.values()),
        "quarantined_by_reason": [
            {"reason": reason, "rows": rows} for reason, rows in sorted(quarantined.items())
        ],
    }


def summary(run: Run, data: SelectionData) -> dict[str, Any] | None:
    """Return the `selection` of report.json: its facts in run.json and its reasons counted.

    `again` names the selections of other seeds, where each seed tunes the weak model and selects
    for itself. None without a selection.
    """
    picked = data.picked
    if picked is None:
        return None
    selections = run.section("selections")
    facts = selections[picked.name]
    names = ("score", "method", "budget", "unit", "requested", "delivered", "tokens", "seed")
    kept = picked.score[picked.kept]
    finite = kept[np.isfinite(kept)]
    return {
        "name": picked.name,
        **{name: facts.get(name) for name in names},
        "direction": run.section("scores").get(data.scored.name, {}).get("direction"),
        "stale": [str(built) for built in facts.get("stale") or ()],
        "again": sorted(name for name in selections if name.startswith(f"{picked.name}-")),
        "kept": int(picked.kept.sum()),
        "least_kept": float(finite.min()) if len(finite) else None,
        "most_kept": float(finite.max()) if len(finite) else None,
        "reasons": _counted(picked.reason, of=len(picked.reason)),
    }


def distributions(data: SelectionData) -> dict[str, Any]:
    """Return the `distributions` of report.json: scores, lengths, sources, failures.

    Scores and response lengths have one histogram each for the rows kept, dropped and drawn at
    random, or for the whole pool before a selection.
    """
    scored, picked = data.scored, data.picked
    lengths = scored.response_tokens.astype(np.float64)
    lengths[scored.response_tokens < 0] = np.nan
    everything = np.ones(len(scored), dtype=bool)
    kept = picked.kept if picked else ~everything
    groups: dict[str, Mask] = {"kept": kept, "dropped": ~kept} if picked else {"pool": everything}
    if picked and data.control:
        groups["random"] = data.control.kept
    unscorable = ~np.isfinite(scored.value)
    sources = source_shares(scored.source, kept) if len(scored) else []
    return {
        "scores": {"name": scored.name, **histogram(scored.value, groups)},
        "lengths": {
            **histogram(lengths, groups, whole=True),
            "correlation": rank_correlation(scored.value, lengths),
        },
        "sources": sources[:MOST_SOURCES],
        "more_sources": len(sources[MOST_SOURCES:]),
        "truncated": {
            "pool": _part(scored.truncated),
            "kept": _part(scored.truncated[kept]) if picked else None,
        },
        "unscorable": {
            **_part(unscorable),
            "reasons": _counted(scored.reason[unscorable], of=len(scored)),
        },
    }


def _part(mask: Mask) -> dict[str, Any]:
    """Return how many of [n] are True, and their share (None of nothing)."""
    return {"rows": int(mask.sum()), "share": float(mask.mean()) if len(mask) else None}


def _counted(reasons: Texts, *, of: int) -> list[dict[str, Any]]:
    """Return each reason with its rows and their share of `of`: kept first, then most frequent."""
    names, counts = np.unique(reasons.astype(str), return_counts=True)
    order = sorted(
        range(len(names)), key=lambda at: (names[at] != "kept", -counts[at], str(names[at]))
    )
    return [
        {
            "reason": str(names[at]),
            "rows": int(counts[at]),
            "share": float(counts[at] / of),
        }
        for at in order
    ]


def samples(run: Run, data: SelectionData | None) -> list[dict[str, Any]]:
    """Return the `samples` of report.json: a few rows with the decision on each and its reason.

    Groups: kept from the top, kept at the cut, dropped at the cut, dropped furthest from it,
    unscorable. [] without a selection.
    """
    if data is None or data.picked is None:
        return []
    scored, picked = data.scored, data.picked
    groups = [(name, rows) for name, rows in _sample_rows(scored, picked).items() if len(rows)]
    wanted = [int(at) for _, rows in groups for at in rows]
    examples = dict(zip(wanted, Pool.open(run.store).take(wanted), strict=True))
    found = []
    for order, (group, rows) in enumerate(groups):
        for at in map(int, rows):
            example, kept = examples[at], bool(picked.kept[at])
            score = float(scored.value[at])
            found.append(
                {
                    "order": order,
                    "group": group,
                    "id": example.id,
                    "source": example.source,
                    "row": example.row,
                    "kept": kept,
                    "rank": int(picked.rank[at]) if kept else None,
                    "reason": str(picked.reason[at]) or str(scored.reason[at]),
                    "score": score if np.isfinite(score) else None,
                    "prompt_tokens": int(scored.prompt_tokens[at]),
                    "response_tokens": int(scored.response_tokens[at]),
                    "prompt": excerpt(clean(_prompt(example)), PROMPT_CHARACTERS),
                    "response": excerpt(clean(example.response), RESPONSE_CHARACTERS),
                }
            )
    return found


def _sample_rows(scored: ScoreFiles, picked: SelectionFiles) -> dict[str, Ints]:
    """Return group -> pool indices of the rows to show; no row is in two groups."""
    kept = np.flatnonzero(picked.kept)
    kept = kept[np.argsort(picked.rank[kept], kind="stable")]
    dropped = _nearest_first(picked, kept)
    # One unscorable row for each of the most frequent reasons.
    bad = np.flatnonzero(~np.isfinite(scored.value))
    reasons, first, count = np.unique(
        scored.reason[bad].astype(str), return_index=True, return_counts=True
    )
    order = sorted(range(len(reasons)), key=lambda at: (-count[at], reasons[at]))
    return {
        "kept from the top": kept[:_PER_GROUP],
        "kept at the cut": kept[_PER_GROUP:][-_PER_GROUP:],
        "dropped at the cut": dropped[:_PER_GROUP],
        "dropped, furthest from the cut": dropped[_PER_GROUP:][-_PER_GROUP:],
        "unscorable": bad[first[order[:_PER_GROUP]]] if len(bad) else bad,
    }


def _nearest_first(picked: SelectionFiles, kept: Ints) -> Ints:
    """Return dropped rows that have a score, by the distance of it to the kept scores."""
    dropped = np.flatnonzero(~picked.kept & np.isfinite(picked.score))
    scores = picked.score[kept]
    scores = np.sort(scores[np.isfinite(scores)])
    if not len(scores):
        return dropped
    values = picked.score[dropped]
    at = np.clip(np.searchsorted(scores, values), 1, max(1, len(scores) - 1))
    below, above = scores[at - 1], scores[np.minimum(at, len(scores) - 1)]
    with np.errstate(over="ignore"):
        away = np.minimum(np.abs(values - below), np.abs(values - above))
    return dropped[np.argsort(away, kind="stable")]


def _prompt(example: Example) -> str:
    """Return what comes before the response: turns with their roles, or the text to classify."""
    turns = example.prompt
    if len(turns) > 1:
        return "\n\n".join(f"{turn.role}: {turn.content}" for turn in turns)
    if turns:
        return turns[0].content
    return (example.text or "") if example.label is not None else ""
