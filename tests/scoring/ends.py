"""How a run ended, without the times: what must be alike however often it was interrupted."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pilotfish.flops import RESUME

# The log, the lock, and the report, whose ledger holds times; its manifest holds its digests.
_TIMED = ("events.jsonl", "LOCK", "report.json", "report.html", "report.manifest.json")
# Of the ledger and of the break-even: seconds, and what is worked out from seconds.
_CLOCKED = {
    "ledger": ("seconds", "training", "selecting", "sentence"),
    "break_even": ("needed", "random_seconds", "sentence"),
}


def digests(root: Path) -> dict[str, str]:
    """Every file that holds no time -> its digest."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in _TIMED
    }


def untimed(root: Path) -> dict[str, Any]:
    """report.json less its seal and its times: rows, tokens and FLOPs of the ledger stay.

    The stages are told by name, less what an interrupted run spends on looking at what is there.
    """
    report = json.loads((root / "report.json").read_text())
    del report["seal"]
    for section, names in _CLOCKED.items():
        report[section] = _without(report[section], names)
    stages = {stage.pop("stage"): stage for stage in report["ledger"]["stages"]}
    stages.pop(RESUME, None)
    report["ledger"]["stages"] = stages
    return dict(report)


def _without(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        return {key: _without(each, names) for key, each in value.items() if key not in names}
    return [_without(each, names) for each in value] if isinstance(value, list) else value
