"""What is written down of an audit, and the sentences made of it."""

import json

import numpy as np

from pilotfish.budget import parse_budget
from pilotfish.methods.rankers import Top
from pilotfish.scoring.audit import (
    Rule,
    agreement,
    audit_sentences,
    cascade,
    cascade_facts,
    cut_facts,
    cuts_of,
    remeasure_near_cuts,
)

EXACT = np.linspace(2.0, 1.0, 2_000)
CUTS = cuts_of(Top("high"), parse_budget("10%"))


def facts(rule, fast=EXACT):
    tie = np.arange(2_000)
    walked = remeasure_near_cuts(
        fast, tie, np.full(2_000, 100), CUTS, lambda rows: EXACT[rows], rule=rule
    )
    agreed = agreement(fast[:200], EXACT[:200], tie[:200])
    return cut_facts(walked, precision="int8", token_budget=2_048, agreed=agreed, rule=rule)


def test_facts_are_json_and_the_sentences_name_every_number() -> None:
    found = facts(Rule(audit=500))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    said = " ".join(audit_sentences(found))
    for part in (
        f"{found['walked']:,} of 2,000 rows", "re-measured in fp32 outward from the cut (budget)",
        "3 successive blocks", "Of 500 random rows elsewhere, 0 flipped",
        "95% confidence at most 0.60% do.", "1.00000 (Spearman)", "by chance 10%", "2,048 tokens",
    ):  # fmt: skip
        assert part in said
    assert "certified" not in said.lower()


def test_an_audit_that_found_flips_or_nothing_or_everything_says_so() -> None:
    fast = EXACT.copy()
    fast[1_500:1_530] = 3.0  # ranked first, wrongly, and far from the cut: in the walk's last reach
    assert "No other row was audited" in " ".join(audit_sentences(facts(Rule(audit=0))))
    assert "Every row was measured in fp32" in " ".join(audit_sentences(facts(Rule(audit=3_000))))
    said = audit_sentences({**facts(Rule(audit=500)), "audit_flips": 2, "bound": 0.0126})
    assert "2 flipped: with 95% confidence at most 1.26% do. They were corrected" in said[1]


def test_undefined_agreement_is_null_and_unsaid() -> None:
    flat = np.ones(300)
    walked = remeasure_near_cuts(
        flat, np.arange(300), np.ones(300, int), CUTS, lambda r: flat[r], rule=Rule()
    )
    agreed = agreement(flat, flat, np.arange(300))
    found = cut_facts(walked, precision="bf16", token_budget=512, agreed=agreed, rule=Rule())
    assert found["agreement"]["spearman"] is None
    assert "Spearman" not in " ".join(audit_sentences(found))


def test_a_cascade_is_told_with_its_recall_first() -> None:
    tie = np.arange(2_000)
    rows = cascade.draw(tie, 900, seed=0)
    plan = cascade.plan(EXACT, tie, CUTS, rows, EXACT[rows])
    held = cascade.draw(tie, 100, seed=1, among=~plan.passed)
    found = cascade.recall(plan, tie, CUTS, EXACT, held)
    written = cascade_facts(plan, found, cheap="small", intended="middling", seed=0)
    assert json.loads(json.dumps(written, allow_nan=False)) == written
    said = audit_sentences(written)
    assert said[0].startswith("Cascade: recall ") and said[0].endswith("not identical.")
    assert "small scored every row and middling" in said[1]
