"""Golden files: what was computed when a format number was last raised, and how it is compared.

Floats are compared within their precision: CPUs sum in other orders. All else is compared exactly.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
COMMAND = "python -m tests.goldens"
RTOL, ATOL = 1e-5, 1e-5  # of fp32 numbers
HALF_RTOL, HALF_ATOL = 2e-3, 1e-4  # two steps of fp16, whose last bit may flip

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Golden:
    """One cache's golden file.

    Attributes:
        name: Of the file, without `.json`.
        constant: The format number's name and place, for messages.
        format: The format number now.
        compute: Case name -> its JSON-ready facts. Keys that end in `~` hold fp32 numbers, in `~~`
            fp16 numbers, and in `~P%` numbers that may differ by P percent.
    """

    name: str
    constant: str
    format: int
    compute: Callable[[], Facts]

    @property
    def path(self) -> Path:
        """The golden file."""
        return HERE / f"{self.name}.json"

    def read(self) -> dict[str, Any]:
        """Return {format, cases} as written, empty where there is no file yet."""
        return dict(json.loads(self.path.read_text())) if self.path.exists() else {}

    def write(self, cases: Facts) -> None:
        """Replace the golden file, one line per fact so that a diff reads well."""
        lines = ["{", f'"made_by": "{COMMAND}",', f'"format": {self.format},', '"cases": {']
        for number, (case, facts) in enumerate(cases.items()):
            items = [f"  {json.dumps(key)}: {json.dumps(facts[key])}" for key in facts]
            comma = "," if number < len(cases) - 1 else ""
            lines += [f"{json.dumps(case)}: {{", ",\n".join(items), f"}}{comma}"]
        self.path.write_text("\n".join([*lines, "}", "}", ""]))


def differences(known: Facts, found: Facts) -> list[str]:
    """Say in which cases and keys `found` departs from the golden cases `known`.

    Cases that only `found` has are no difference: a new signal changes no cached number. Cases
    that only `known` has are one, unless `found` marks them as skipped by the value None.
    """
    return [line for case in known for line in _case(case, known[case], found.get(case, {}))]


def _case(case: str, known: Facts, found: Facts | None) -> Iterator[str]:
    if found is None:
        return
    for key in {**known, **found}:
        old, new = known.get(key), found.get(key)
        if not _equal(key, old, new):
            yield f"{case}: {key} was {_short(old)}, is {_short(new)}"


def _equal(key: str, old: Any, new: Any) -> bool:
    if "~" not in key or old is None or new is None:
        return bool(old == new)
    if len(old) != len(new):
        return False
    rtol, atol = RTOL, ATOL
    if key.endswith("~~"):
        rtol, atol = HALF_RTOL, HALF_ATOL
    elif key.endswith("%"):
        rtol, atol = float(key.rsplit("~", 1)[1][:-1]) / 100, 0.0
    return all(
        a == b or (a is not None and b is not None and abs(a - b) <= atol + rtol * abs(a))
        for a, b in zip(old, new, strict=True)
    )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:200] + " ..."
