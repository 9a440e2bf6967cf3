"""Does an audited cut pick what fp32 picks, at what cost: `python -m benchmarks.audited_cut`.

Made-up pools with a known answer, JSON out: IFD-like scores, lengths like Alpaca's, and errors of a
fast precision of several kinds. `error` is the rms error in log space of a row of 100 tokens: 2e-4
is what int8 showed on near-random weights, 1e-3 what swaps 14 of 1,000 picks. Of each cell: the
share of pools in which the picked set equals fp32's, the rows wrongly picked on average, the share
of rows the walk re-measured, and the rows that the fast scores alone would have picked wrongly.
"""

import numpy as np

from benchmarks.machine import parser, write
from pilotfish.budget import parse_budget
from pilotfish.methods.rankers import Gate, Middle, Top
from pilotfish.scoring.audit import Rule, cuts_of, net_speedup, remeasure_near_cuts
from pilotfish.scoring.audit.remeasure import audit_rows

RANKERS = {
    "high": Top("high", Gate(below=1.0)),
    "low": Top("low"),
    "middle": Middle(Gate(below=1.0)),
}

# How errors [n] are drawn, at scale 1 for a row of 100 tokens: what they look like, and their
# power of the length (a mean over t independent token errors has 0.5).
KINDS = {
    "normal": (lambda rng, n: rng.normal(size=n), 0.5),
    "biased": (lambda rng, n: rng.normal(1.0, 1.0, n), 0.5),
    "one_in_20_is_5x": (lambda rng, n: rng.normal(0, np.where(rng.random(n) < 0.05, 5, 1)), 0.5),
    "student_4": (lambda rng, n: rng.standard_t(4, n) / np.sqrt(2), 0.5),
    "all_lengths_alike": (lambda rng, n: rng.normal(size=n), 0.0),
    "steeper_in_length": (lambda rng, n: rng.normal(size=n), 1.0),
}
SHAPES = ("smooth", "ties", "at_the_gate", "duplicates")


def draw(rng, n, *, error, kind="normal", shape="smooth"):
    """fp32 scores, fast scores, tie and lengths, each [n]."""
    lengths = np.clip(np.exp(rng.normal(4.1, 1.0, n)), 1, 1024).astype(np.int64)
    logs = rng.normal(-0.25, 0.25, n) - 0.02 * (np.log(lengths) - 4)
    if shape == "ties":
        logs = logs.round(2)
    elif shape == "at_the_gate":
        logs = np.where(rng.random(n) < 0.03, 0.0, logs)
    noise, power = KINDS[kind]
    wrong = error * noise(rng, n) * (100 / lengths) ** power
    if shape == "duplicates":
        first = rng.integers(0, max(1, n // 3), n)
        logs, wrong, lengths = logs[first], wrong[first], lengths[first]
    return np.exp(logs), np.exp(logs + wrong), rng.permutation(n), lengths


def once(seed, n, *, ranker="high", budget="10%", rule=None, **pool):
    """One pool: the rows wrongly picked after the walk, and what the walk says of itself."""
    exact, fast, tie, lengths = draw(np.random.default_rng(seed), n, **pool)
    cuts = cuts_of(RANKERS[ranker], parse_budget(budget), tokens=lengths)
    walked = remeasure_near_cuts(
        fast, tie, lengths, cuts, lambda rows: exact[rows], rule=rule or Rule(audit=0)
    )
    return int((walked.kept & ~cuts.kept(exact, tie)).sum()), walked


def cell(runs, seed, n, **options):
    found = [once(seed + run, n, **options) for run in range(runs)]
    wrong = np.array([each[0] for each in found])
    share = float(np.mean([each[1].share for each in found]))
    audit = min(audit_rows(n) / n, 1.0 - share)
    return {
        "rows": n,
        **options,
        "runs": runs,
        "same_set": float((wrong == 0).mean()),
        "wrong": float(wrong.mean()),
        "wrong_without_walk": float(np.mean([each[1].swapped for each in found])),
        "share_remeasured": round(share, 4),
        "net_speed_at_fast_ratio_4": round(net_speedup(4.0, share), 2),
        "with_audit": round(net_speedup(4.0, share, audit), 2),
    }


def main() -> None:
    made = parser(__doc__ or "")
    made.add_argument("--runs", type=int)
    made.add_argument("--rows", type=int, nargs="+")
    options = made.parse_args()
    options.runs = options.runs or (5 if options.quick else 100)
    options.rows = options.rows or ([1_000, 10_000] if options.quick else [1_000, 10_000, 100_000])
    grid = [{"error": error, "kind": kind} for error in (2e-4, 1e-3) for kind in KINDS]
    grid += [{"error": 1e-3, "shape": shape} for shape in SHAPES[1:]]
    grid += [{"error": 1e-3, "ranker": ranker} for ranker in ("low", "middle")]
    grid += [{"error": 1e-3, "budget": "200_000tokens"}]
    cells = [
        cell(max(10, options.runs * 10_000 // max(n, 10_000)), options.seed, n, **each)
        for n in options.rows
        for each in grid
        if n > 1_000 or "tokens" not in each.get("budget", "")
    ]
    config = {"runs": options.runs, "rows": options.rows, "seed": options.seed}
    write("audited_cut", options, {"config": config, "cells": cells})


if __name__ == "__main__":
    main()
