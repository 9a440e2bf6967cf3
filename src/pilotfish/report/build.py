"""report.json: every section assembled from the run's files, then cleaned for showing."""

from collections.abc import Mapping, Sequence
from typing import Any

from pilotfish.data import Pool
from pilotfish.report import arms as evidence
from pilotfish.report import run_files, selection, w2s
from pilotfish.report.cost import account
from pilotfish.report.page import page
from pilotfish.report.provenance import models, provenance, remote_code
from pilotfish.report.samples import samples
from pilotfish.report.sanitize import clean
from pilotfish.report.scoring import scoring
from pilotfish.report.verdict import findings, pair_of, times_selected
from pilotfish.store import Run

SOURCES = 25  # listed; more would only be scrolled past
_MANY = 0.1  # a share of unscorable or truncated rows that deserves a warning
_TIED = 0.5  # a rank correlation of score and length that does


def write(run: Run) -> dict[str, Any]:
    """Commit report.json and report.html; returns the report."""
    report = build(run)
    with run.store.attempt("report.manifest.json") as attempt:
        attempt.json("report.json", report)
        attempt.path("report.html").write_bytes(page(report, run).encode())
    return report


def build(run: Run) -> dict[str, Any]:
    """The report of a run at whatever stage it is: strict JSON, no time of day, no host.

    Beside the contract's verdict, arms, ledger, warnings and provenance: notes, comparisons,
    missing, pool, selection, scoring, distributions, samples, models, test; and, only in a run
    that is such an experiment, weak_to_strong; remote_code, only where a model ran its own.
    """
    found, made = evidence.arm_sections(run), selection.selection_section(run)
    told = findings(run, found)
    arms = evidence.arms(found, told["verdict"]["metric"])
    spread = _spread(selection.distributions(made)) if made else None
    report = {
        **told,
        "arms": arms,
        "equal_steps": evidence.equal_steps(arms),
        "missing": evidence.missing(run, found),
        "pool": selection.pool_summary(run),
        "selection": selection.summary(run, made) if made else None,
        "scoring": scoring(run),
        "distributions": spread,
        "samples": _samples(run, made),
        "models": models(run),
        "test": {key: run.section("test").get(key) for key in ("rows", "held_out", "metric")},
        "ledger": account(run_files.costs(run), pair_of(run), times=times_selected(run)),
        "provenance": provenance(run),
    }
    if planted := run_files.canaries(run):
        report["canaries"] = planted
    if label_mode := w2s.weak_to_strong(run):
        report["weak_to_strong"] = label_mode
        report["notes"] = []  # of selections, of which there is none
        report["verdict"] |= {"outcome": "not_tested", "sentence": w2s.sentence(label_mode)}
    if brought := remote_code(run):
        report["remote_code"] = brought
    report["warnings"] = warnings(run, report)
    cleaned: dict[str, Any] = clean(report)
    return cleaned


def _spread(spread: dict[str, Any]) -> dict[str, Any]:
    listed: Sequence[Any] = spread["sources"]
    return {**spread, "sources": listed[:SOURCES], "more_sources": len(listed[SOURCES:])}


def _samples(run: Run, made: selection.SelectionSection | None) -> list[dict[str, Any]]:
    if made is None or made.picked is None:
        return []
    return samples(Pool.open(run.store), made.scored, made.picked)


def warnings(run: Run, report: Mapping[str, Any]) -> list[str]:
    """What the steps before warned of, then what only the whole run shows; each once."""
    said = [str(text) for text in run.manifest.get("warnings", ())]
    own = [*_about_code(report), *_about_selection(report), *_about_arms(report)]
    return list(dict.fromkeys([*said, *own]))


def _about_code(report: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} brought its own code, which was run: that code could read, write and send anything"
        for name in report.get("remote_code", ())
    ]


def _about_selection(report: Mapping[str, Any]) -> list[str]:
    spread, chosen, found = report["distributions"], report["selection"], []
    if chosen and chosen["stale"]:
        found.append(
            f"the selection '{chosen['name']}' was made again after these were built on the old "
            f"one: {', '.join(chosen['stale'])}"
        )
    if spread and (spread["truncated"]["pool"]["share"] or 0) > _MANY:
        share = spread["truncated"]["pool"]["share"]
        found.append(f"{share:.1%} of the pool was truncated when measured")
    if spread and (spread["unscorable"]["share"] or 0) > _MANY:
        share = spread["unscorable"]["share"]
        found.append(f"{share:.1%} of the pool could not be scored, and so was never a candidate")
    if spread and abs(spread["lengths"]["correlation"] or 0) >= _TIED:
        found.append(
            "the score goes with response length (rank correlation "
            f"{spread['lengths']['correlation']:+.2f}): a gain may be length alone"
        )
    return found


def _about_arms(report: Mapping[str, Any]) -> list[str]:
    found = [
        f"{item['arm']}: seed {', '.join(str(seed) for seed in item['seeds'])} {item['state']}"
        for item in report["missing"]
    ]
    lost = [f"{arm['name']} {arm['unscorable']:,}" for arm in report["arms"] if arm["unscorable"]]
    if lost:
        found.append(f"test rows that could not be judged are left out: {', '.join(lost)}")
    if len(evidence.steps_taken(report["arms"])) > 1:
        found.append("the arms were trained for different numbers of steps")
    return found
