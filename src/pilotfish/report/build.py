"""report.json: all sections and warnings, assembled from a run's files and cleaned for display."""

from collections.abc import Mapping
from typing import Any

from pilotfish.report import arms, record, run_files, selection, w2s
from pilotfish.report.page import page
from pilotfish.report.sanitize import clean
from pilotfish.report.scoring import scoring
from pilotfish.report.verdict import findings, pair_of, times_selected
from pilotfish.store import Run

_MANY = 0.1  # a share of unscorable or truncated rows above which there is a warning
_TIED = 0.5  # a rank correlation of score and length from which there is one


def write(run: Run) -> dict[str, Any]:
    """Commit report.json and report.html; return the report."""
    report = build(run)
    with run.store.attempt("report.manifest.json") as attempt:
        attempt.json("report.json", report)
        attempt.path("report.html").write_bytes(page(report, run).encode())
    return report


def build(run: Run) -> dict[str, Any]:
    """Return the report of a run, at whatever stage the run is.

    It has verdict, arms, ledger, warnings, provenance, notes, comparisons, missing, pool,
    selection, scoring, distributions, samples, models and test; where a run has them also canaries,
    weak_to_strong, remote_code and the optional sections of `findings`. It holds strict JSON, and
    neither the time of day nor the name of the machine.

    Raises:
        DamagedRun: A committed file has changed.
        UsageError: The results cannot be compared, or a gate refers to something without results.
    """
    files, selected = arms.read_arms(run), selection.read_selected(run)
    found = findings(run, files)
    rows = arms.arms(files, found["verdict"]["metric"])
    report = {
        **found,
        "arms": rows,
        "equal_steps": arms.equal_steps(rows),
        "missing": arms.missing(run, files),
        "pool": selection.pool_summary(run),
        "selection": selection.summary(run, selected) if selected else None,
        "scoring": scoring(run),
        "distributions": selection.distributions(selected) if selected else None,
        "samples": selection.samples(run, selected),
        "models": record.models(run),
        "test": {key: run.section("test").get(key) for key in ("rows", "held_out", "metric")},
        "ledger": record.ledger(run_files.costs(run), pair_of(run), times=times_selected(run)),
        "provenance": record.provenance(run),
    }
    if canaries := run_files.canaries(run):
        report["canaries"] = canaries
    if experiment := w2s.weak_to_strong(run):
        report["weak_to_strong"] = experiment
        report["notes"] = []  # they are about selections
        report["verdict"] |= {"outcome": "not_tested", "sentence": w2s.sentence(experiment)}
    if remote_code := record.remote_code(run):
        report["remote_code"] = remote_code
    report["warnings"] = warnings(run, report)
    cleaned: dict[str, Any] = clean(report)
    return cleaned


def warnings(run: Run, report: Mapping[str, Any]) -> list[str]:
    """Return the warnings of earlier steps, then those about the whole run; each once."""
    earlier = [str(text) for text in run.manifest.get("warnings", ())]
    code = [
        f"the model {name} contains its own code, which was run: this code could read, write and "
        "send anything"
        for name in report.get("remote_code", ())
    ]
    own = [*code, *_selection_warnings(report), *_arm_warnings(report)]
    return list(dict.fromkeys([*earlier, *own]))


def _selection_warnings(report: Mapping[str, Any]) -> list[str]:
    found, chosen, distributions = [], report["selection"], report["distributions"]
    if chosen and chosen["stale"]:
        found.append(
            f"the selection '{chosen['name']}' was replaced after these were made from it: "
            f"{', '.join(chosen['stale'])}"
        )
    if not distributions:
        return found
    truncated = distributions["truncated"]["pool"]["share"] or 0
    if truncated > _MANY:
        found.append(f"{truncated:.1%} of the pool was truncated for scoring")
    unscorable = distributions["unscorable"]["share"] or 0
    if unscorable > _MANY:
        found.append(
            f"{unscorable:.1%} of the pool could not be scored, so these rows could not be selected"
        )
    correlation = distributions["lengths"]["correlation"] or 0
    if abs(correlation) >= _TIED:
        found.append(
            f"the score depends on response length (rank correlation {correlation:+.2f}): a gain "
            "may come from length alone"
        )
    return found


def _arm_warnings(report: Mapping[str, Any]) -> list[str]:
    found = []
    for item in report["missing"]:
        noun = "seed" if len(item["seeds"]) == 1 else "seeds"
        seeds = ", ".join(str(seed) for seed in item["seeds"])
        found.append(f"{item['arm']}, {noun} {seeds}: {item['state']}")
    lost = [f"{arm['name']} {arm['unscorable']:,}" for arm in report["arms"] if arm["unscorable"]]
    if lost:
        found.append(f"test rows that could not be scored are left out: {', '.join(lost)}")
    if len(arms.steps_taken(report["arms"])) > 1:
        found.append("the arms were trained for different numbers of steps")
    return found
