"""What was chosen: the selection's summary, distributions, sources, truncation and failures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotfish.records import Texts
from pilotfish.report import run_files
from pilotfish.report.distributions import Mask, drift, histogram, rank_correlation
from pilotfish.report.run_files import ScoreFiles, SelectionFiles
from pilotfish.store import Run

CONTROL = "random-0"


@dataclass(frozen=True)
class SelectionSection:
    """One score column, the selection cut from it, and the random control beside it."""

    scored: ScoreFiles
    picked: SelectionFiles | None
    control: SelectionFiles | None


def selection_section(run: Run) -> SelectionSection | None:
    """The selection the page is about with its score; a lone score column; or nothing."""
    selections, scores = run.section("selections"), run.section("scores")
    name = run_files.main_selection(selections)
    columns = [selections[name]["score"]] if name else []
    found = (run_files.read_scores(run, str(column)) for column in [*columns, *sorted(scores)])
    scored = next((each for each in found if each is not None), None)
    if scored is None:
        return None
    picked = run_files.read_selection(run, name, scored.ids) if name else None
    return SelectionSection(scored, picked, run_files.read_selection(run, CONTROL, scored.ids))


def summary(run: Run, made: SelectionSection) -> dict[str, Any] | None:
    """The selection as run.json tells it, with its reasons counted; None without one.

    again: the selections of other seeds, where a tuned weak model picks anew for each.
    """
    picked = made.picked
    if picked is None:
        return None
    everything = run.section("selections")
    told = everything[picked.name]
    names = ("score", "method", "budget", "unit", "requested", "delivered", "tokens", "seed")
    kept = picked.score[picked.kept]
    finite = kept[np.isfinite(kept)]
    return {
        "name": picked.name,
        **{name: told.get(name) for name in names},
        "direction": run.section("scores").get(made.scored.name, {}).get("direction"),
        "stale": [str(built) for built in told.get("stale") or ()],
        "again": sorted(name for name in everything if name.startswith(f"{picked.name}-")),
        "kept": int(picked.kept.sum()),
        "least_kept": float(finite.min()) if len(finite) else None,
        "most_kept": float(finite.max()) if len(finite) else None,
        "reasons": counted(picked.reason, of=len(picked.reason)),
    }


def distributions(made: SelectionSection) -> dict[str, Any]:
    """Histograms of score and response length, sources, truncation, unscorable rows."""
    scored, groups = made.scored, groups_of(made)
    lengths = scored.response_tokens.astype(np.float64)
    lengths[scored.response_tokens < 0] = np.nan
    kept = made.picked.kept if made.picked else np.zeros(len(scored), dtype=bool)
    bad = ~np.isfinite(scored.value)
    return {
        "scores": {"name": scored.name, **histogram(scored.value, groups)},
        "lengths": {
            **histogram(lengths, groups, whole=True),
            "correlation": rank_correlation(scored.value, lengths),
        },
        "sources": drift(scored.source, kept) if len(scored) else [],
        "truncated": {
            "pool": _part(scored.truncated),
            "kept": _part(scored.truncated[kept]) if made.picked else None,
        },
        "unscorable": {**_part(bad), "reasons": counted(scored.reason[bad], of=len(bad))},
    }


def groups_of(made: SelectionSection) -> dict[str, Mask]:
    """Masks [n] of the rows drawn side by side: kept, dropped, random; or the whole pool."""
    if made.picked is None:
        return {"pool": np.ones(len(made.scored), dtype=bool)}
    groups: dict[str, Mask] = {"kept": made.picked.kept, "dropped": ~made.picked.kept}
    if made.control is not None:
        groups["random"] = made.control.kept
    return groups


def _part(mask: Mask) -> dict[str, Any]:
    """How many of [n] are True, and their share (None of nothing)."""
    return {"rows": int(mask.sum()), "share": float(mask.mean()) if len(mask) else None}


def counted(reasons: Texts, *, of: int) -> list[dict[str, Any]]:
    """Each reason with its rows and their share of `of` rows, kept first, then the commonest."""
    names, counts = np.unique(reasons.astype(str), return_counts=True)
    order = sorted(
        range(len(names)), key=lambda at: (names[at] != "kept", -counts[at], str(names[at]))
    )
    return [
        {"reason": str(names[at]), "rows": int(counts[at]), "share": float(counts[at] / of)}
        for at in order
    ]


def pool_summary(run: Run) -> dict[str, Any]:
    """Rows read, refused (by reason) and dropped, from the pool's section of run.json."""
    told: Mapping[str, Any] = run.section("pool")
    refused: Mapping[str, int] = told.get("quarantined") or {}
    return {
        "rows": told.get("rows"),
        "dropped": told.get("dropped"),
        "quarantined": sum(refused.values()),
        "quarantined_by_reason": [
            {"reason": reason, "rows": rows} for reason, rows in sorted(refused.items())
        ],
    }
