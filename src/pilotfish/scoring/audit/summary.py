"""The facts of an audited cut or a cascade, as run.json keeps them, and their sentences."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from pilotfish.scoring.audit.agreement import Agreement
from pilotfish.scoring.audit.cascade import Cascade, Recall
from pilotfish.scoring.audit.remeasure import Remeasured, Rule


def cut_facts(
    walked: Remeasured, *, precision: str, token_budget: int, agreed: Agreement | None, rule: Rule
) -> dict[str, Any]:
    """Return the facts of an audited cut; no times, so the same run writes the same bytes.

    Args:
        walked: The re-measured scores.
        precision: The fast precision.
        token_budget: Tokens per forward pass in both precisions; fp32 itself moves by 1e-6 with it.
        agreed: Agreement on the run's sample.
        rule: When re-measuring stopped.
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
    """Return the facts of a cascade.

    Args:
        cascade: The plan.
        found: The recall that was measured.
        cheap: Name of the model that scored every row.
        intended: Name of the model that scored the rows passed on.
        seed: Of every draw.
    """
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
    """Return the report's sentences on the facts of an audited cut or a cascade, main one first."""
    if facts["kind"] == "cascade":
        share = facts["passed"] / max(facts["rows"], 1)
        return [
            f"Cascade: {facts['sentence']}.",
            f"{facts['cheap']} scored every row and {facts['intended']} {facts['passed']:,} of "
            f"{facts['rows']:,} ({share:.1%}), chosen on {facts['calibration']:,} random rows so "
            f"that recall is at least {facts['target']:.0%} with {facts['target_confidence']:.0%} "
            f"confidence; the interval rests on {facts['audited']:,} other rows.",
        ]
    cuts, share = " and ".join(facts["cuts"]), facts["walked"] / max(facts["rows"], 1)
    precision, reference = facts["precision"], facts["reference"]
    sentences = [
        f"Scored in {precision}. {facts['walked']:,} of {facts['rows']:,} rows ({share:.1%}) were "
        f"re-measured in {reference} outward from the cut ({cuts or 'none'}), until "
        f"{facts['rule']['clean']} successive blocks held no flip: {facts['flips']:,} rows had "
        f"been on the wrong side, and {precision} alone would have picked "
        f"{facts['swapped']:,} rows wrongly.",
        _sentence_on_the_rest(facts),
    ]
    agreed = facts["agreement"]
    if agreed is not None and agreed["spearman"] is not None:
        sentences.append(
            f"On {agreed['rows']:,} sampled rows {precision} and {reference} rank alike to "
            f"{agreed['spearman']:.5f} (Spearman); the best tenth overlaps by "
            f"{agreed['overlap']:.0%}, by chance {agreed['chance']:.0%}."
        )
    sentences.append(f"Batches of at most {facts['token_budget']:,} tokens in both.")
    return sentences


def _sentence_on_the_rest(facts: Mapping[str, Any]) -> str:
    """Return the sentence on the rows that were not re-measured around the cuts."""
    if facts["left"] == 0:
        return f"Every row was measured in {facts['reference']}."
    if not facts["audited"]:
        return "No other row was audited, so nothing bounds the flips among them."
    found = facts["audit_flips"]
    more = " They were corrected, and so were their neighbours; the bound counts them." * (
        found > 0
    )
    return (
        f"Of {facts['audited']:,} random rows elsewhere, {found:,} flipped: with "
        f"{facts['confidence']:.0%} confidence at most {facts['bound']:.2%} do.{more}"
    )


def plain_facts(agreed: Agreement) -> dict[str, Any]:
    """Return an agreement as JSON can hold it: an undefined number is null."""
    return {key: _finite(value) for key, value in asdict(agreed).items()}


def _finite(value: Any) -> Any:
    """Return None for nan and infinity, which JSON does not know."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
