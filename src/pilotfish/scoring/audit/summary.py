"""What selections/<name>/audit.json holds of an audited cut or a cascade, and its sentences."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from pilotfish.scoring.audit.agreement import Agreement
from pilotfish.scoring.audit.blocks import Rule
from pilotfish.scoring.audit.cascade import Cascade, Recall
from pilotfish.scoring.audit.remeasure import Remeasured


def cut_facts(
    walked: Remeasured, *, precision: str, token_budget: int, agreed: Agreement | None, rule: Rule
) -> dict[str, Any]:
    """Everything worth keeping of an audited cut; no time, so the same run writes the same bytes.

    token_budget: the batch plan of both precisions, for fp32 itself moves by 1e-6 with it.
    """
    return {
        "kind": "audited_cut",
        "precision": precision,
        "reference": "fp32",
        "token_budget": token_budget,
        "agreement": None if agreed is None else plain_facts(agreed),
        "rule": asdict(rule),
        "cuts": list(walked.cuts),
        "rows": len(walked.scores),
        "walked": walked.walked,
        "blocks": walked.blocks,
        "flips": walked.flips,
        "swapped": walked.swapped,
        "audited": walked.audited,
        "audit_flips": walked.audit_flips,
        "left": int((~walked.remeasured & np.isfinite(walked.scores)).sum()),
        "bound": walked.bound,
        "confidence": walked.confidence,
    }


def cascade_facts(
    cascade: Cascade, found: Recall, *, cheap: str, intended: str, seed: int
) -> dict[str, Any]:
    """Everything worth keeping of a cascade; `cheap` and `intended` name the two models."""
    return {
        "kind": "cascade",
        "cheap": cheap,
        "intended": intended,
        "seed": seed,
        "rows": len(cascade.passed),
        "passed": int(cascade.passed.sum()),
        "threshold": [_finite(end) for end in cascade.threshold],
        "target": cascade.target,
        "target_confidence": cascade.confidence,
        "picked": cascade.picked,
        "calibration": cascade.calibration,
        "recall": [found.value, found.low, found.high],
        "confidence": found.confidence,
        "audited": found.audited,
        "found": found.found,
        "sentence": found.sentence,
    }


def audit_sentences(facts: Mapping[str, Any]) -> list[str]:
    """The sentences of the report on an audit.json, first the one that counts."""
    return _cascade_words(facts) if facts["kind"] == "cascade" else _cut_words(facts)


def _cut_words(facts: Mapping[str, Any]) -> list[str]:
    cuts, share = " and ".join(facts["cuts"]), facts["walked"] / max(facts["rows"], 1)
    precision, reference = facts["precision"], facts["reference"]
    said = [
        f"Scored in {precision}. {facts['walked']:,} of {facts['rows']:,} rows ({share:.1%}) were "
        f"re-measured in {reference} outward from the cut ({cuts or 'none'}), until "
        f"{facts['rule']['clean']} successive blocks held no flip: {facts['flips']:,} rows had "
        f"been on the wrong side, and {precision} alone would have picked "
        f"{facts['swapped']:,} rows wrongly.",
        _audit_words(facts),
    ]
    agreed = facts["agreement"]
    if agreed is not None and agreed["spearman"] is not None:
        said.append(
            f"On {agreed['rows']:,} sampled rows {precision} and {reference} rank alike to "
            f"{agreed['spearman']:.5f} (Spearman); the best tenth overlaps by "
            f"{agreed['overlap']:.0%}, by chance {agreed['chance']:.0%}."
        )
    said.append(f"Batches of at most {facts['token_budget']:,} tokens in both.")
    return said


def _audit_words(facts: Mapping[str, Any]) -> str:
    if facts["left"] == 0:
        return f"No row is left that was not measured in {facts['reference']}."
    if not facts["audited"]:
        return "No row outside the walk was audited, so nothing bounds the flips left there."
    found = facts["audit_flips"]
    more = " They were put right, and so were their neighbours; the bound counts them." * (
        found > 0
    )
    return (
        f"Of {facts['audited']:,} random rows outside the walk, {found:,} flipped: with "
        f"{facts['confidence']:.0%} confidence at most {facts['bound']:.2%} do.{more}"
    )


def _cascade_words(facts: Mapping[str, Any]) -> list[str]:
    share = facts["passed"] / max(facts["rows"], 1)
    return [
        f"Cascade: {facts['sentence']}.",
        f"{facts['cheap']} scored every row and {facts['intended']} {facts['passed']:,} of "
        f"{facts['rows']:,} ({share:.1%}), chosen on {facts['calibration']:,} random rows so that "
        f"recall is at least {facts['target']:.0%} with {facts['target_confidence']:.0%} "
        f"confidence; the interval rests on {facts['audited']:,} other rows.",
    ]


def plain_facts(agreed: Agreement) -> dict[str, Any]:
    """An agreement as JSON can hold it: what is undefined is null."""
    return {key: _finite(value) for key, value in asdict(agreed).items()}


def _finite(value: Any) -> Any:
    """JSON knows no nan."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
