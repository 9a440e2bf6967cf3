"""Who pays: what arriving at the selection took is charged to the arm that uses it."""

from typing import Any

from pilotfish.report.record import ledger


def event(stage: str, name: str, seconds: float | None, flops: float | None) -> dict[str, Any]:
    return {"kind": "cost", "stage": stage, "name": name, "seconds": seconds, "flops": flops}


def test_the_selection_is_charged_to_its_arm_and_to_no_other() -> None:
    trained = [event("train", f"{arm} seed {seed}", 10.0, 5.0)
               for arm in ("selected", "random") for seed in (0, 1)]  # fmt: skip
    told = ledger([event("score", "x", 7.0, 2.0), *trained], times=2)
    kept, drawn = told["as_charged"]
    assert kept == {"arm": "selected", "trainings": 2, "training": 20.0, "selecting": 7.0,
                    "seconds": 27.0, "flops": 12.0}  # fmt: skip
    assert drawn == {"arm": "random", "trainings": 2, "training": 20.0, "selecting": None,
                     "seconds": 20.0, "flops": 10.0}  # fmt: skip
    assert "(score; repeated for each of 2 seeds)" in told["sentence"]


def test_nothing_is_charged_where_one_of_the_arms_was_not_trained_here() -> None:
    found = [event("score", "x", 7.0, 2.0), event("train", "selected seed 0", 10.0, 5.0)]
    assert ledger(found)["as_charged"] == []
    assert ledger([])["as_charged"] == []
