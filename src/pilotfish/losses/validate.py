"""Refuses knobs of losses that mean nothing, naming the loss, the knob and what was seen."""

import math
from collections.abc import Sequence
from typing import Any

from pilotfish.errors import UsageError, unknown_name


def check_number(
    loss: str,
    knob: str,
    value: Any,
    *,
    low: float = 0.0,
    high: float = math.inf,
    open_: bool = False,
) -> None:
    """UsageError unless `value` is a finite number in [low, high] (`open_`: low excluded)."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and math.isfinite(value) and low <= value <= high and not (open_ and value == low):
        return
    bound = f"above {low:g}" if open_ else f"at least {low:g}"
    upper = "" if math.isinf(high) else f" and at most {high:g}"
    raise UsageError(
        f"{knob} of {loss} must be a number {bound}{upper}, not {value!r}",
        hint=f"write {loss}({knob}=...)",
    )


def check_choice(loss: str, knob: str, value: Any, known: Sequence[str]) -> None:
    """UsageError unless `value` is one of the words known."""
    if value not in known:
        raise unknown_name(f"{knob} of {loss}", str(value), known)


def check_flag(loss: str, knob: str, value: Any) -> None:
    """UsageError unless `value` is true or false."""
    if not isinstance(value, bool):
        raise UsageError(f"{knob} of {loss} must be true or false, not {value!r}")
