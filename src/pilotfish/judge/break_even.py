"""What share of the strong model's training a selection must save to pay, and what it saves."""

from collections.abc import Mapping
from typing import Any

from pilotfish.judge.case import Case
from pilotfish.ledger import Cost


def break_even(
    case: Case, charged: Cost, trained: Mapping[str, Cost], pool_rows: int, *, times: int = 1
) -> dict[str, Any] | None:
    """The `break_even` of report.json; None where nothing was charged or trained.

    charged: what arriving at the selection took, `times` over where every seed selected anew.
    trained: `<arm> seed <n>` -> cost of a training.
    Both sides are of one seed, on as many epochs as the selected arm had: training on all rows is
    that of the selected ones times the rows there are for each. needed, saved: shares of it.
    """
    picked, rows = trained.get("selected seed 0"), case.fact("selected", "rows")
    if picked is None or not rows or not charged.seconds or not picked.seconds:
        return None
    grow, spent = pool_rows / rows, charged.seconds / times
    needed = spent / (picked.seconds * grow)
    saved = 1 - 1 / grow
    in_flops = None
    if charged.flops and picked.flops:
        in_flops = charged.flops / times / (picked.flops * grow)
    return {
        "needed": needed, "saved": saved, "needed_flops": in_flops,
        "sentence": _sentence(spent, picked.seconds * grow, needed, in_flops, saved),
    }  # fmt: skip


def _sentence(
    spent: float, whole: float, needed: float, in_flops: float | None, saved: float
) -> str:
    flops = "" if in_flops is None else f" (in FLOPs {in_flops:.1%})"
    verdict = (
        "so in time alone it pays even for one training"
        if saved > needed
        else "so one training does not pay for it"
    )
    return (
        f"Selecting took {spent:.0f} s. It pays off only if it saves more than {needed:.1%}{flops} "
        f"of a training on the whole pool, about {whole:.0f} s for as many epochs; training on the "
        f"selected rows saves {saved:.1%} of it, {verdict}. What quality that costs or gains is "
        "the verdict's business."
    )
