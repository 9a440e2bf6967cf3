"""The ledger as the report tells it: seconds first, and what the selected arm is charged."""

from collections.abc import Mapping, Sequence
from typing import Any

from pilotfish import flops as ledger
from pilotfish.report import formatting


def account(
    events: Sequence[Mapping[str, Any]],
    pair: tuple[str, str] = ("selected", "random"),
    *,
    times: int = 1,
) -> dict[str, Any]:
    """Costs per stage, their total, each training, and what arriving at the selection took.

    as_charged: the arms of the verdict's pair, if both were trained here, with that on the first.
    times: how often the weak model selected anew.
    """
    table = ledger.by_stage(events)
    charged = ledger.charged(events).as_dict()
    trained = ledger.by_name(events, "train")
    return {
        "stages": [{"stage": stage, **cost.as_dict()} for stage, cost in table.items()],
        "trained": [{"name": name, **cost.as_dict()} for name, cost in trained.items()],
        "total": sum(table.values(), ledger.Cost()).as_dict(),
        "charged": charged,
        "as_charged": _as_charged(trained, ledger.charged(events), pair),
        "sentence": _sentence(charged, sorted({*table} & {*ledger.SELECTION_STAGES}), times),
    }


def _as_charged(
    trained: Mapping[str, ledger.Cost], charged: ledger.Cost, pair: tuple[str, str]
) -> list[dict[str, Any]]:
    own = [
        [cost for name, cost in trained.items() if name.rpartition(" seed ")[0] == arm]
        for arm in pair
    ]
    if not all(own) or charged.seconds is None:
        return []
    return [
        _line(arm, costs, beside)
        for arm, costs, beside in zip(pair, own, (charged, None), strict=True)
    ]


def _line(arm: str, costs: Sequence[ledger.Cost], beside: ledger.Cost | None) -> dict[str, Any]:
    training = sum(costs, ledger.Cost())
    both = training + beside if beside else training
    return {
        "arm": arm,
        "trainings": len(costs),
        "training": training.seconds,
        "selecting": beside.seconds if beside else None,
        "seconds": both.seconds,
        "flops": both.flops,
    }


def _sentence(charged: Mapping[str, float | None], stages: Sequence[str], times: int) -> str:
    if charged["seconds"] is None:
        return ""
    flops = charged["flops"]
    beside = f" and {formatting.power(flops)} FLOPs" if flops else ""
    again = f", {times} times over, anew for each seed" if times > 1 else ""
    return (
        f"Arriving at the selection took {formatting.seconds(charged['seconds'])}{beside} "
        f"({', '.join(stages)}{again}). That is charged to the selected arm, "
        "on top of its own training."
    )
