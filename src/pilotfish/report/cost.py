"""The ledger as the report tells it: seconds first, and what the selected arm is charged."""

from collections.abc import Mapping, Sequence
from typing import Any

from pilotfish import ledger
from pilotfish.report import words


def account(events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Costs per stage, their total, each training, and what arriving at the selection took."""
    table = ledger.by_stage(events)
    charged = ledger.charged(events).as_dict()
    return {
        "stages": [{"stage": stage, **cost.as_dict()} for stage, cost in table.items()],
        "trained": [
            {"name": name, **cost.as_dict()}
            for name, cost in ledger.by_name(events, "train").items()
        ],
        "total": sum(table.values(), ledger.Cost()).as_dict(),
        "charged": charged,
        "sentence": _sentence(charged, sorted({*table} & {*ledger.SELECTION_STAGES})),
    }


def _sentence(charged: Mapping[str, float | None], stages: Sequence[str]) -> str:
    if charged["seconds"] is None:
        return ""
    flops = charged["flops"]
    beside = f" and {words.power(flops)} FLOPs" if flops else ""
    return (
        f"Arriving at the selection took {words.seconds(charged['seconds'])}{beside} "
        f"({', '.join(stages)}). That is charged to the selected arm, on top of its own training."
    )
