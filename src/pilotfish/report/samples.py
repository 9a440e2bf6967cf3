"""A few rows to look at, with what was decided about each and why."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pilotfish.data import Pool
from pilotfish.records import Example, Ints, Turn
from pilotfish.report.run_files import ScoreFiles, SelectionFiles
from pilotfish.report.sanitize import clean, excerpt

PROMPT_CHARACTERS = 400
RESPONSE_CHARACTERS = 600
_EACH = 3


def samples(pool: Pool, scored: ScoreFiles, picked: SelectionFiles) -> list[dict[str, Any]]:
    """Rows kept from the top, kept at the cut, dropped just after it, dropped last, unscorable."""
    groups = groups_of(scored, picked)
    wanted = [int(at) for _, rows in groups for at in rows]
    examples = dict(zip(wanted, pool.take(wanted), strict=True))
    return [
        {"order": order, "group": group, **_sample(int(at), examples[int(at)], scored, picked)}
        for order, (group, rows) in enumerate(groups)
        for at in rows
    ]


def groups_of(scored: ScoreFiles, picked: SelectionFiles) -> list[tuple[str, Ints]]:
    """(group, pool indices) of the rows to show; no row in two groups, no group empty."""
    kept = np.flatnonzero(picked.kept)
    kept = kept[np.argsort(picked.rank[kept], kind="stable")]
    dropped = _nearest_first(picked, kept)
    top, cut = kept[:_EACH], kept[_EACH:][-_EACH:]
    near, far = dropped[:_EACH], dropped[_EACH:][-_EACH:]
    groups = {
        "kept from the top": top,
        "kept at the cut": cut,
        "dropped at the cut": near,
        "dropped, furthest from the cut": far,
        "unscorable": _one_per_reason(scored),
    }
    return [(name, rows) for name, rows in groups.items() if len(rows)]


def _nearest_first(picked: SelectionFiles, kept: Ints) -> Ints:
    """Scored rows that were dropped, by the distance of their score to the kept scores."""
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


def _one_per_reason(scored: ScoreFiles) -> Ints:
    """The first unscorable row of each reason, the commonest reasons first."""
    bad = np.flatnonzero(~np.isfinite(scored.value))
    reasons, first, count = np.unique(
        scored.reason[bad].astype(str), return_index=True, return_counts=True
    )
    order = sorted(range(len(reasons)), key=lambda at: (-count[at], reasons[at]))
    return bad[first[order[:_EACH]]] if len(bad) else bad


def _sample(
    at: int, example: Example, scored: ScoreFiles, picked: SelectionFiles
) -> dict[str, Any]:
    rank = int(picked.rank[at])
    return {
        "id": example.id,
        "source": example.source,
        "row": example.row,
        "kept": bool(picked.kept[at]),
        "rank": rank if picked.kept[at] else None,
        "reason": str(picked.reason[at]) or str(scored.reason[at]),
        "score": float(scored.value[at]) if np.isfinite(scored.value[at]) else None,
        "prompt_tokens": int(scored.prompt_tokens[at]),
        "response_tokens": int(scored.response_tokens[at]),
        "prompt": excerpt(clean(_asked(example)), PROMPT_CHARACTERS),
        "response": excerpt(clean(example.response), RESPONSE_CHARACTERS),
    }


def _asked(example: Example) -> str:
    """What stands before the response: the turns with their roles, or the text to classify."""
    turns: Sequence[Turn] = example.prompt
    if turns:
        many = len(turns) > 1
        return "\n\n".join(
            f"{turn.role}: {turn.content}" if many else turn.content for turn in turns
        )
    return (example.text or "") if example.label is not None else ""
