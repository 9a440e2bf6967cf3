"""What share of the strong model's training a selection must save to pay, and what it saves."""

from collections.abc import Mapping
from typing import Any

from pilotfish.comparison.case import ComparisonData
from pilotfish.comparison.verdict import is_settled
from pilotfish.flops import Cost

UNTOLD = "What quality that costs or gains is the verdict's business."


def break_even(
    case: ComparisonData,
    charged: Cost,
    trained: Mapping[str, Cost],
    pool_rows: int,
    *,
    times: int = 1,
    weak_parameters: float | None = None,
    worth: Mapping[str, Any] | None = None,
) -> dict[str, Any] | None:
    """The `break_even` of report.json; None where nothing was charged or trained.

    charged: what arriving at the selection took, `times` over where every seed selected anew.
    trained: `<arm> seed <n>` -> cost of a training. worth: the line of `curve.efficiency` on the
    selected arm, how many random rows do the same.
    Both sides are of one seed, on as many epochs as the selected arm had: training on n rows is
    that of the selected ones times the rows there are for each. needed, saved: shares of training
    on all rows, in seconds; needed_flops: in FLOPs; ratio: parameters of the strong model for each
    of the weak one; random_seconds: what random rows as good would take more in training, None
    where that is not known.
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
    strong = case.fact("selected", "parameters")
    ratio = strong / weak_parameters if strong and weak_parameters else None
    more = None
    if worth and worth["value"] is not None and not worth["censored"]:
        more = (worth["value"] - 1) * picked.seconds
    return {
        "needed": needed, "saved": saved, "needed_flops": in_flops, "ratio": ratio,
        "random_seconds": more,
        "sentence": " ".join([
            _sentence(spent, picked.seconds * grow, needed, in_flops, saved),
            _quality(case, worth, more, spent),
            *([f"The strong model has {ratio:.1f} times the weak one's parameters."] if ratio
              else []),
        ]),
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
        f"selected rows saves {saved:.1%} of it, {verdict}."
    )


def _quality(
    case: ComparisonData, worth: Mapping[str, Any] | None, more: float | None, spent: float
) -> str:
    """Whether what was saved was saved at equal quality: against all rows, and random ones."""
    random = _against_random(worth, more, spent) if case.is_claim("selected", "random") else ""
    told = [text for text in (_against_all(case), random) if text]
    return " ".join(told) or UNTOLD


def _against_all(case: ComparisonData) -> str:
    if not case.has("selected", "full") or not case.is_claim("selected", "full"):
        return ""
    return {
        "better": "The model is better than the one that learnt all rows.",
        "equivalent": "That is saved at equal quality: all rows are no better within the margin.",
        "worse": "It is not saved at equal quality: the model that learnt all rows is better.",
        "undecided": "Whether all rows would be better is undecided.",
        "not_tested": "",
    }[is_settled(case.contrast("selected", "full"), case.margin)]


def _against_random(worth: Mapping[str, Any] | None, more: float | None, spent: float) -> str:
    if worth is None or worth["value"] is None:
        return ""
    rows = f"{worth['value'] * worth['rows']:,.0f}"
    if worth["side"] == "above":
        return f"No number of random rows that was tried, up to {rows}, does as well."
    if worth["side"] == "below":
        return (
            f"The fewest random rows that were tried, {rows}, already do better: nothing is saved."
        )
    ends = [
        "?" if end is None else f"{end * worth['rows']:,.0f}"
        for end in (worth["low"], worth["high"])
    ]
    as_good = f"Random rows as good are about {rows} (interval {ends[0]} to {ends[1]})"
    if more is None or more <= 0:
        return f"{as_good}, no more than the selected ones: nothing is saved."
    pays = "more" if more > spent else "less"
    return f"{as_good}, {more:.0f} s of training more: {pays} than selecting took."
